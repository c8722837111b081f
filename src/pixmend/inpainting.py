"""Repairing a picture: windows around the holes, each filled coarse to fine, put back exactly.

A small network sees a small part of a picture at once. So a window is halved until the hole is narrow enough for the
network to see across it, filled there with all steps of the sampler, and then doubled again. Detail comes from the
known parts of the picture, patch by patch, with the network's fill for a sketch; or from the network: at every finer
level the enlarged fill is its guide, and a few steps from a middle noise level draw more. Known pixels are exact at
every level, and where the soft mask is 0 the picture stays as it is, byte for byte.

A model may have a second network, which answers in one call the mean of what may be there. What is missing from narrow
holes follows from what is around, so that mean is their fill. They are filled first, so that around wide holes more is
known; and of those it is the guide of what is drawn.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixmend.backends import Careful, OpenNetwork, kept_open
from pixmend.budget import MASKS, memory_as_one_line
from pixmend.checkpoint import Model, load_model
from pixmend.components import Hole
from pixmend.efforts import DETAILS, PartRecord
from pixmend.errors import OptionError
from pixmend.exemplars import mosaic_of, plan_mosaic
from pixmend.filling import Filling, Guiding, seed_of
from pixmend.grain import match_grain
from pixmend.images import Picture, Source
from pixmend.job import Job, Step, planned, read_job
from pixmend.levels import Level, level_tensors, plan_levels
from pixmend.windows import SOLID, Part, holds_square

EDGE = 4  # pixels: a grey part of the soft mask is more than an edge if a square of side 2 EDGE + 1 fits into it

Progress = Callable[[int, int], None]  # tiles done, of how many
Preview = Callable[[int, int, Callable[[], Picture]], None]  # candidate, step, what makes the picture as it is now


@dataclass(frozen=True)
class Inpainted:
    """What `inpainting` made: one picture for each candidate, and how it came about."""

    pictures: list[Picture]
    hole_share: float  # of the picture that was to be filled
    touched_share: float  # of the picture that may have changed: the hole and its soft edge
    network_calls: int  # of all candidates together; a call may be of many tiles
    seconds: float
    backend: str  # what computed the network: the library, its number format, and its threads or device
    job: Job
    steps: list[list[Step]]  # of each candidate, what was worked on after each step; empty if not asked for
    records: list[PartRecord]  # what was done in each window

    def step_picture(self, step: int, candidate: int = 0) -> Picture:
        """The whole picture as it was after a step; needs `inpainting(..., save_steps=True)`."""
        if not self.steps:
            raise OptionError("no steps were kept; call inpainting(..., save_steps=True)")
        return self.job.picture_at(self.steps[candidate][step], self.pictures[candidate].samples)


def inpainting(
    image: Source,
    mask: Source | None = None,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    quality: str = "balanced",
    detail: str = "picture",
    seed: int = 0,
    candidates: int = 1,
    blur: int | None = None,
    grow: int = 0,
    invert_mask: bool = False,
    soft_mask: bool = False,
    save_steps: bool = False,
    backend: str | OpenNetwork | None = None,
    device: str | None = None,
    max_memory: int | str | None = None,
    progress: Progress | None = None,
    preview: Preview | None = None,
) -> Inpainted:
    """Fill the hole of a picture.

    image, mask: a path, a Pillow image, a NumPy array or a tensor each. White in the mask is filled; without a mask,
    what is transparent in the picture is, or was not measured (`Picture.lacking`). model: a model file, or a `Model`;
    by default the one that ships with pixmend. A `Model` that was never trained is allowed, with a warning.
    quality: "fast", "balanced" or "best", network calls a level: docs/any-size.md. steps: those at the coarsest level,
    instead. sampler: a name in `SAMPLERS`. With either, narrow holes are sampled as well. detail: "picture", in holes
    from 11 pixels on that of its known parts, or "model".
    candidates: so many different fills, to rounding what seed, seed + 1 and so on give alone. The same seed gives
    the same result, to rounding whatever the memory.
    blur: radius R of a soft edge in pixels, see `load_mask`; by default there is none. grow: pixels that the hole is
    grown by first, for masks that are cut too close.
    save_steps: keep the pictures on the way. max_memory: bytes, or text such as "2GB" or "50%" of what is free, to be
    used for the work beside the picture itself; by default half of what is free. backend: what computes the network,
    see `open_network`; or what that has opened for this model, which spares it for many pictures.
    progress: called after every network call with the tiles done and their number in all; what it raises stops the
    work there. preview: called after every step with the candidate, the number of the step, and a function that makes
    the whole picture as it is then.
    Raises FileMissingError, PictureError, MaskError, ModelFileError, OptionError, MemoryLimitError,
    BackendError.
    """
    started = time.perf_counter()
    if candidates < 1:
        raise OptionError(f"{candidates} candidates are too few; ask for 1 or more")
    if detail not in DETAILS:
        raise OptionError(f"detail {detail!r} is not known; choose one of {', '.join(DETAILS)}")
    if not 0 <= seed < 2**63 - candidates:
        raise OptionError(f"seed {seed} is out of range; give 0 to 2**63 - 1, less the number of candidates")
    picture, hole, soft = read_job(image, mask, blur=blur, grow=grow, invert=invert_mask, soft=soft_mask)
    if not isinstance(model, Model):
        model = load_model(model)
    elif not model.legs:
        warnings.warn("the model was never trained: its fill is noise", stacklevel=2)
    uses_mean = model.mean is not None and steps is None and sampler is None
    job = planned(picture, hole, soft, model.size, blur, is_soft=soft_mask, opaque=mask is None, uses_mean=uses_mean)
    guiding = None
    if model.mean is not None and (job.narrow.any() or model.conditioning != "plain"):
        guiding = Guiding(model.mean, _opened(model.mean, model, backend, device))
    fillings: dict[bool, Filling] = {}
    for is_narrow in {part.narrow for part in job.parts}:
        of_mean = guiding if is_narrow else None
        fillings[is_narrow] = Filling(
            of_mean.network if of_mean else _opened(model, model, backend, device),
            of_mean.model if of_mean else model,
            None if of_mean or model.conditioning == "plain" else guiding,
            steps=steps,
            sampler=sampler,
            quality=quality,
            faintest=float(job.soft[job.soft > 0].min()) if soft_mask else 1.0,
            max_memory=max_memory,
        )
    work = _Work(job, fillings, detail, [seed + i for i in range(candidates)], save_steps, preview)
    work.run(progress)
    return Inpainted(
        [replace(picture, samples=samples) for samples in work.samples],
        float(hole.mean()),
        float((job.soft > 0).mean()),
        sum(filling.calls for filling in fillings.values()),
        time.perf_counter() - started,
        fillings[job.parts[0].narrow].network.description,
        job,
        work.steps if save_steps else [],
        work.records,
    )


def _opened(own: Model, model: Model, backend: str | OpenNetwork | None, device: str | None) -> OpenNetwork:
    """The network of a model, or of the part of it that answers the mean; backend: of the model."""
    if backend is None or isinstance(backend, str):
        return kept_open(own, backend, device)
    if own is model:
        return backend
    falls_back = isinstance(backend, Careful) and backend.falls_back
    return kept_open(own, None if falls_back else backend.name, str(backend.device))


class _Work:
    """The parts of a picture, one after the other, and what becomes of it."""

    def __init__(
        self,
        job: Job,
        fillings: dict[bool, Filling],
        detail: str,
        seeds: list[int],
        save_steps: bool,
        preview: Preview | None,
    ) -> None:
        self.job, self.fillings, self.detail, self.seeds = job, fillings, detail, seeds
        self.save_steps, self.preview = save_steps, preview
        self.samples = [job.picture.samples.copy() for _ in seeds]
        self.picture = job.picture  # what parts are filled from: with narrow holes filled, once they are
        self.steps: list[list[Step]] = [[] for _ in seeds]
        self.done = [0 for _ in seeds]  # steps of each candidate
        self.records: list[PartRecord] = []

    def run(self, progress: Progress | None) -> None:
        total, least, plans = 0, 0, [self._plan(part) for part in self.job.parts]
        for part, plan in zip(self.job.parts, plans, strict=True):
            filling = self.fillings[part.narrow]
            least = max(least, MASKS * self.job.hole.size + filling.least_memory(*plan))
            total += filling.tiles(*plan, len(self._drawn_for(part))) if progress else 0
        filling.check_memory(least)
        if progress:
            self._tell(progress, total)
        if self.job.parts[0].narrow and not self.job.parts[-1].narrow:
            self.picture = replace(self.picture, samples=self.picture.samples.copy())
        for number, part in enumerate(self.job.parts):
            with memory_as_one_line():
                self._fill(number, part, *plans[number])

    def _plan(self, part: Part) -> tuple[list[Level], list[Level]]:
        """The levels of the network, and those of the mosaic that goes on from its finest one; finest first."""
        unknown = self._unknown[part.narrow]
        levels = plan_levels(self._touched[part.narrow], unknown, part, self.job.size)
        if part.narrow or self.detail == "model" or self._keeps_some(part):
            return levels, []
        sketch, own = plan_mosaic(unknown, part, levels)
        return levels[sketch:], own

    @cached_property
    def _touched(self) -> dict[bool, Hole]:
        """(H, W) of the whole picture: what is filled with the wide holes, and with the narrow ones."""
        return {False: (self.job.soft > 0) & ~self.job.narrow, True: self.job.narrow}

    @cached_property
    def _unknown(self) -> dict[bool, Hole]:
        """(H, W) of the whole picture: what of these is not known to coarser levels and to mosaics.

        The soft edge of a hole is, for most of what is there stays; of a part that is all faint, nothing is.
        """
        if not self.job.has_edge:
            return self._touched
        wide = self._touched[False] & (self.job.soft >= SOLID)
        for part in self.job.parts:
            if part.faint:
                part.window.of(wide)[:] = part.window.of(self._touched[False])
        return {False: wide, True: self._touched[True]}

    @cached_property
    def _softs(self) -> dict[bool, NDArray[np.float32] | Hole]:
        """The soft masks that wide and narrow holes are filled by, (H, W) of the whole picture.

        An edge lets what was drawn run into what was there. Where a hole is narrow nothing is drawn, and the pixels
        beside it, which say most about it, count as known. Wide holes are not known yet while narrow ones are filled.
        """
        job = self.job
        if True not in self.fillings:
            return {False: job.soft}
        wide = np.where(job.narrow, np.float32(0), job.soft)
        return {False: wide, True: job.hole}

    def _drawn_for(self, part: Part) -> list[int]:
        """The seeds that a part is filled with: one where all would give the same."""
        return [0] if part.narrow else self.seeds

    def _keeps_some(self, part: Part) -> bool:
        """Whether some of what a part's hole shows is to be kept, which a mosaic of other places would not do."""
        kept = part.window.of(self.job.kept)
        return bool(kept.any()) and holds_square(kept, EDGE)

    def _tell(self, progress: Progress, total: int) -> None:
        done = 0

        def after(tiles: int) -> None:
            nonlocal done
            done += tiles
            progress(done, total)

        for filling in self.fillings.values():
            filling.after_tiles = after

    def _fill(self, number: int, part: Part, levels: list[Level], own: list[Level]) -> None:
        everybody = range(len(self.seeds))

        def on_step(which: int, level: Level, state: Tensor) -> None:
            step = Step(number, level.in_picture(part.window), state)
            for candidate in everybody if part.narrow else [which]:
                if self.save_steps:
                    self.steps[candidate].append(replace(step, state=state.cpu()))
                if self.preview:
                    now = partial(self.job.picture_at, step, self.samples[candidate])
                    self.preview(candidate, self.done[candidate], now)
                self.done[candidate] += 1

        soft = self._softs[part.narrow]
        tensors = level_tensors(self.picture, soft, self._unknown[part.narrow], part, levels)
        mosaic = mosaic_of(self.picture, part, own) if own else None
        filling = self.fillings[part.narrow]
        for which, level, fill in filling(part, levels, tensors, self._drawn_for(part), on_step, mosaic):
            last = Step(number, level.in_picture(part.window), fill)
            if part.narrow and self.picture is not self.job.picture:  # its grain the same for all seeds
                self.job.paste(self.picture.samples, replace(last, state=self._grained(fill, part, level, 0)))
            for candidate in everybody if part.narrow else [which]:
                last = replace(last, state=self._grained(fill, part, level, self.seeds[candidate]))
                self.job.paste(self.samples[candidate], last)
                if self.save_steps:
                    self.steps[candidate][-1] = last
        self.records.append(filling.records[-1])

    def _grained(self, fill: Tensor, part: Part, level: Level, seed: int) -> Tensor:
        """The fill of a part with the grain of what is around it; level: the finest one."""
        window = part.window
        hole, unknown = level.hole, level.in_picture(window).of(self._softs[part.narrow]) > 0
        generator = torch.Generator().manual_seed(seed_of(seed, window.top, window.left, 0, 0))
        return match_grain(fill, torch.from_numpy(hole), torch.from_numpy(unknown), generator)
