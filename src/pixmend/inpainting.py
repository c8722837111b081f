"""Repairing a picture: a window around the hole, filled coarse to fine, put back exactly.

A small network sees a small part of a picture at once. So the window is halved until the hole is narrow enough for the
network to see across it, filled there with all steps of the sampler, and then doubled again: at every finer level the
enlarged fill is the network's guide, and a few steps from a middle noise level draw the detail. Known pixels are exact
at every level, and where the soft mask is 0 the picture stays as it is, byte for byte.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pixmend.backends import open_network
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import denoiser, enlarged
from pixmend.diffusion import Known
from pixmend.errors import MaskError, OptionError
from pixmend.images import Picture, Source, composite, load_mask, mask_from_alpha, open_picture
from pixmend.masks import dilate
from pixmend.samplers import SAMPLERS, network_calls
from pixmend.schedules import step_subset
from pixmend.tiles import tiled

WIDEST = 0.5  # of the network's size: how wide a hole may be at the level where it is filled first
CONTEXT = 0.5  # of the network's size: how much known picture stands around the hole at that level
REFINE_FROM = 0.25  # of all noise levels: where the finer levels start
REFINE_STEPS = 1  # both chosen among near equals: docs/results/wide.md

Progress = Callable[[int, int], None]  # steps done, of how many
OnStep = Callable[[Tensor], None]  # the state of the window after a step, (1, 3, h, w)


@dataclass(frozen=True)
class Window:
    """The part of a picture that is worked on, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of this part of an array (H, W, ...)."""
        return array[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Job:
    """A picture and what is to be filled in it."""

    picture: Picture
    soft: NDArray[np.float32]  # (H, W), the soft mask
    window: Window
    opaque: bool  # whether the mask was the picture's own transparency, which ends with the fill

    def paste(self, fill: Tensor) -> Picture:
        """The whole picture with a fill of the window, (1, 3, h, w) of any size; nothing but the window is touched."""
        soft = self.window.of(self.soft)
        values = enlarged(fill.float(), soft.shape)[0].permute(1, 2, 0).numpy()
        part = replace(self.picture, samples=self.window.of(self.picture.samples))
        samples = self.picture.samples.copy()
        self.window.of(samples)[:] = composite(part, values, soft, opaque=self.opaque).samples
        return replace(self.picture, samples=samples)


@dataclass(frozen=True)
class Inpainted:
    """What `inpainting` made: one picture for each candidate, and how it came about."""

    pictures: list[Picture]
    hole_share: float  # of the picture that was to be filled
    touched_share: float  # of the picture that may have changed: the hole and its soft edge
    network_calls: int  # of all candidates together; a call may be of many tiles
    seconds: float
    job: Job
    steps: list[list[Tensor]]  # of each candidate: the window after each step, (1, 3, h, w); empty if not asked for

    def step_picture(self, step: int, candidate: int = 0) -> Picture:
        """The whole picture as it was after a step; needs `inpainting(..., save_steps=True)`."""
        if not self.steps:
            raise OptionError("no steps were kept; call inpainting(..., save_steps=True)")
        return self.job.paste(self.steps[candidate][step])


def inpainting(
    image: Source,
    mask: Source | None = None,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    candidates: int = 1,
    blur: int | None = None,
    grow: int = 0,
    invert_mask: bool = False,
    soft_mask: bool = False,
    save_steps: bool = False,
    backend: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Inpainted:
    """Fill the hole of a picture.

    image, mask: a path, a Pillow image, a NumPy array or a tensor each. White in the mask is filled; without a mask,
    what is transparent in the picture is. model: a model file, or a `Model`; by default the one that ships with
    pixmend. A `Model` that was never trained is allowed, with a warning.
    steps: network calls at the coarsest level, by default what suits the model. sampler: a name in `SAMPLERS`.
    candidates: so many different fills; number i is what seed + i gives alone. The same seed gives the same result.
    blur: radius R of the soft edge in pixels, see `load_mask`; grow: pixels that the hole is grown by first.
    save_steps: keep the pictures on the way. progress: called after every step.
    backend: what computes the network, see `open_network`.
    Raises FileMissingError, PictureError, MaskError, ModelFileError, OptionError, BackendError.
    """
    started = time.perf_counter()
    if candidates < 1:
        raise OptionError(f"{candidates} candidates are too few; ask for 1 or more")
    if not 0 <= seed < 2**63 - candidates:
        raise OptionError(f"seed {seed} is out of range; give 0 to 2**63 - 1, less the number of candidates")
    picture, soft = _read(image, mask, blur=blur, grow=grow, invert=invert_mask, soft=soft_mask)
    if not isinstance(model, Model):
        model = load_model(model)
    elif not model.legs:
        warnings.warn("the model was never trained: its fill is noise", stacklevel=2)
    filling = Filling(model, steps, sampler, device, backend)
    halvings = filling.halvings(soft)
    window = _window_around(soft, round(CONTEXT * model.size) * 2**halvings, filling.least_side * 2**halvings)
    job = Job(picture, soft, window, opaque=mask is None)
    part = replace(picture, samples=window.of(picture.samples)).colour()
    x = torch.from_numpy(part).permute(2, 0, 1)[None]  # (1, 3, h, w)
    hole = torch.from_numpy(window.of(soft))[None, None]  # (1, 1, h, w)

    pictures, kept, done = [], [], 0
    for i in range(candidates):  # one after the other: a result must not depend on what is made beside it
        states: list[Tensor] = []

        def on_step(state: Tensor, states: list[Tensor] = states) -> None:
            nonlocal done
            done += 1
            if save_steps:
                states.append(state.cpu())
            if progress:
                progress(done, filling.steps(halvings) * candidates)

        pictures.append(job.paste(filling(x, hole, halvings, seed + i, on_step)))
        kept.append(states)
    hole_share, touched_share = float((soft >= 1).mean()), float((soft > 0).mean())
    seconds = time.perf_counter() - started
    return Inpainted(pictures, hole_share, touched_share, filling.calls, seconds, job, kept if save_steps else [])


class Filling:
    """Fills windows with a model: the levels, coarse to fine, and the sampler at each."""

    def __init__(
        self,
        model: Model,
        steps: int | None,
        sampler: str | None,
        device: str | None = None,
        backend: str | None = None,
    ) -> None:
        sampler = sampler or model.sampler
        if sampler not in SAMPLERS:
            raise OptionError(f"sampler {sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")
        self.network = open_network(model, backend, device)
        self.model, self.sampler, self.device = model, sampler, self.network.device
        T = model.diffusion.T
        self.first_times = step_subset(T, model.steps if steps is None else steps)
        self.finer_times = step_subset(max(round(REFINE_FROM * T), REFINE_STEPS), REFINE_STEPS)
        self.calls = 0
        # Plain networks, and those of others all are, know whole pictures of one size; ours know crops of any scale.
        self.least_side = model.size if model.conditioning == "plain" else 0

    def steps(self, halvings: int) -> int:
        """The number of steps of one fill."""
        first, finer = (network_calls(self.sampler, len(times)) for times in (self.first_times, self.finer_times))
        return first + halvings * finer

    def halvings(self, soft: NDArray[np.float32]) -> int:
        """How often a picture is halved until its hole is narrow enough to be seen across, or the picture too small."""
        width, side, halvings = 2 * _reach(soft > 0), min(soft.shape), 0
        while width / 2**halvings > WIDEST * self.model.size and side >= self.least_side * 2 ** (halvings + 1):
            halvings += 1
        return halvings

    @torch.inference_mode()
    def __call__(self, x: Tensor, soft: Tensor, halvings: int, seed: int, on_step: OnStep) -> Tensor:
        """Fill a window. x: (1, 3, H, W), soft: (1, 1, H, W). Returns (1, 3, H, W), on the CPU."""
        levels = [(x, soft)]
        for _ in range(halvings):
            levels.append(_halved(*levels[-1]))
        generator = torch.Generator().manual_seed(seed)
        fill: Tensor | None = None
        for known, hole in reversed(levels):
            fill = self._fill_level(known.to(self.device), hole.to(self.device), fill, generator, on_step)
        return x if fill is None else fill.cpu()

    def _fill_level(
        self, x: Tensor, soft: Tensor, coarser: Tensor | None, generator: torch.Generator, on_step: OnStep
    ) -> Tensor:
        diffusion = self.model.diffusion

        def noise(like: Tensor) -> Tensor:  # drawn on the CPU: the same on every device
            return torch.randn(like.shape, generator=generator).to(like)

        known = Known(x, soft, diffusion, self.model.conditioning, noise)
        if coarser is None:
            times, guide = self.first_times, None
            start = known.start(times[0])
        else:
            times, guide = self.finer_times, enlarged(coarser, x.shape[-2:])
            start = known.put_back(diffusion.add_noise(guide, times[0], noise(guide)), times[0], times[0])
        denoise = denoiser(tiled(self._call, soft, self.model.size), known, guide)
        return SAMPLERS[self.sampler](
            denoise,
            start,
            times,
            diffusion,
            noise=noise,
            put_back=known.put_back,
            callback=lambda t, state, x0: on_step(state),
        )

    def _call(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x, t)


def _read(
    image: Source, mask: Source | None, *, blur: int | None, grow: int, invert: bool, soft: bool
) -> tuple[Picture, NDArray[np.float32]]:
    """The picture, and its soft mask (H, W); at least one pixel is hole, and at least one is known."""
    picture = open_picture(image)
    if mask is None:
        if not picture.has_alpha:
            raise MaskError("there is no mask, and nothing is transparent; give a mask, white where to fill")
        mask = mask_from_alpha(picture)
    softened = load_mask(mask, picture.size, blur=blur, grow=grow, invert=invert, soft=soft)[0, 0].numpy()
    if not softened.any():
        raise MaskError(
            "the mask marks nothing, 0 % of the picture would be filled; paint white what is to be filled, "
            "or use --invert-mask"
        )
    if softened.min() > 0:
        raise MaskError(
            "the mask covers the whole picture, so that nothing is known to go on; leave some of it black, "
            "or use --invert-mask"
        )
    return picture, softened


def _halved(x: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """The next coarser level: a pixel is the mean of what is known of its four, and hole where half of it is not."""
    known = (soft == 0).to(x.dtype)
    weight = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(x * known, 2, ceil_mode=True, count_include_pad=False) / weight.clamp(min=1e-6)
    return mean, (weight < 0.5).to(soft.dtype)


def _reach(hole: NDArray[np.bool_]) -> int:
    """The largest distance, in pixels along rows, columns and diagonals, from the hole to what is known."""
    left = torch.from_numpy(hole)[None, None].float()
    scale = 1
    while max(left.shape[-2:]) > 512:  # large pictures are measured coarsely, by blocks that are all hole
        left, scale = -F.max_pool2d(-left, 2, ceil_mode=True), 2 * scale
    reach = 0
    while bool(left.any()):
        left, reach = 1 - dilate(1 - left, 1), reach + 1
    return reach * scale


def _window_around(soft: NDArray[np.float32], context: int, least: int) -> Window:
    """The hole's bounding box with `context` pixels of picture around it, at least `least` wide, within the picture."""
    (rows,), (columns,) = (np.nonzero((soft > 0).any(axis)) for axis in (1, 0))
    top, bottom = _span(int(rows[0]) - context, int(rows[-1]) + 1 + context, least, soft.shape[0])
    left, right = _span(int(columns[0]) - context, int(columns[-1]) + 1 + context, least, soft.shape[1])
    return Window(top, left, bottom, right)


def _span(first: int, end: int, least: int, length: int) -> tuple[int, int]:
    """A span within 0 to `length`: cut there, then grown to `least` on both sides as far as there is room."""
    first, end = max(0, first), min(length, end)
    side = max(end - first, min(least, length))
    first = min(max(0, first - (side - (end - first)) // 2), length - side)
    return first, first + side
