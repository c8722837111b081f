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
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import denoiser, enlarged
from pixmend.diffusion import Known
from pixmend.errors import MaskError, OptionError
from pixmend.images import Picture, Source, composite, load_mask, mask_from_alpha, open_picture
from pixmend.masks import dilate
from pixmend.runtime import fast_dtype, pick_device, tune_allocator
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.tiles import tiled

WIDEST = 0.5  # of the network's size: how wide a hole may be at the level where it is filled first
CONTEXT = 0.5  # of the network's size: how much known picture stands around the hole at that level
REFINE_FROM = 0.5  # of all noise: where the finer levels start
REFINE_STEPS = 3

Progress = Callable[[int, int], None]  # network calls done, of how many


@dataclass(frozen=True)
class Window:
    """The part of a picture that is worked on, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, array: np.ndarray) -> np.ndarray:
        """A view of this part of an array (H, W, ...)."""
        return array[self.top : self.bottom, self.left : self.right]


@dataclass
class Inpainted:
    """What `inpainting` did: one picture for each candidate, and how it came about."""

    pictures: list[Picture]
    hole_share: float  # of the picture that was to be filled
    touched_share: float  # of the picture that may have changed: the hole and its soft edge
    network_calls: int
    seconds: float
    steps: list[Tensor] = field(default_factory=list)  # the window's fill after each step, (candidates, 3, h, w)
    _paste: Callable[[Tensor], Picture] | None = None

    def step_picture(self, step: int, candidate: int = 0) -> Picture:
        """The whole picture as it was after a step; needs `save_steps=True`."""
        if self._paste is None:
            raise OptionError("no steps were kept; call inpainting(..., save_steps=True)")
        return self._paste(self.steps[step][candidate])


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
    device: str | None = None,
    progress: Progress | None = None,
) -> Inpainted:
    """Fill the hole of a picture.

    image, mask: a path, a Pillow image, a NumPy array or a tensor each. White in the mask is filled; without a mask,
    what is transparent in the picture is. model: a model file, or a `Model`; by default the one that ships with pixmend.
    A `Model` that was never trained is allowed, with a warning.
    steps: network calls at the coarsest level, by default what suits the model. sampler: a name in `SAMPLERS`.
    candidates: so many different fills; number i is what seed + i gives alone. The same seed gives the same result.
    blur: radius R of the soft edge in pixels, see `load_mask`; grow: pixels that the hole is grown by first.
    Raises FileMissingError, PictureError, MaskError, ModelFileError, OptionError.
    """
    started = time.perf_counter()
    picture, soft, opaque = _read(image, mask, blur=blur, grow=grow, invert=invert_mask, soft=soft_mask)
    if candidates < 1:
        raise OptionError(f"{candidates} candidates are too few; ask for 1 or more")
    if not isinstance(model, Model):
        model = load_model(model)
    elif not model.legs:
        warnings.warn("the model was never trained: its fill is noise", stacklevel=2)
    filling = Filling(model, steps or model.steps, sampler or model.sampler, pick_device(device), progress)
    window = _window_around(soft, filling.context(soft))
    pixels = torch.from_numpy(window.of(picture.colour()).copy()).permute(2, 0, 1)[None]  # (1, 3, h, w)
    part = torch.from_numpy(window.of(soft).copy())[None, None]  # (1, 1, h, w)
    kept: list[Tensor] = []
    fill = filling(pixels, part, seed, candidates, kept.append if save_steps else None)

    def paste(x: Tensor) -> Picture:
        small = enlarged(x[None], (part.shape[-2], part.shape[-1]))[0].permute(1, 2, 0).numpy()
        canvas = np.zeros((*soft.shape, 3), np.float32)
        window.of(canvas)[:] = small
        return composite(picture, canvas, soft, opaque=opaque)

    return Inpainted(
        [paste(x) for x in fill],
        float((soft >= 1).mean()),
        float((soft > 0).mean()),
        filling.calls,
        time.perf_counter() - started,
        kept,
        paste if save_steps else None,
    )


def _read(
    image: Source, mask: Source | None, *, blur: int | None, grow: int, invert: bool, soft: bool
) -> tuple[Picture, np.ndarray, bool]:
    """The picture, its soft mask (H, W), and whether the mask was the picture's own transparency."""
    picture = open_picture(image)
    if mask is None:
        if not picture.has_alpha:
            raise MaskError("there is no mask, and the picture is nowhere transparent; give a mask, white where to fill")
        hole: Source = mask_from_alpha(picture)
    else:
        hole = mask
    softened = load_mask(hole, picture.size, blur=blur, grow=grow, invert=invert, soft=soft)[0, 0].numpy()
    if not softened.any():
        raise MaskError(
            "the mask marks nothing: 0 % of the picture would be filled; paint white what is to be filled, or use --invert-mask"
        )
    if softened.min() > 0:
        raise MaskError(
            "the mask covers the whole picture, so that nothing is known to go on; leave some of it black, or use --invert-mask"
        )
    return picture, softened, mask is None


class Filling:
    """The levels of one fill, coarse to fine, and the network that draws them."""

    def __init__(
        self, model: Model, steps: int, sampler: str, device: torch.device, progress: Progress | None = None
    ) -> None:
        if sampler not in SAMPLERS:
            raise OptionError(f"sampler {sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")
        tune_allocator()
        self.model, self.sample, self.device, self.progress = model, SAMPLERS[sampler], device, progress
        T = model.diffusion.T
        self.first_times = step_subset(T, steps)
        self.finer_times = [t for t in step_subset(T, round(REFINE_STEPS / REFINE_FROM)) if t < REFINE_FROM * T]
        self.network = model.network.to(device).eval()
        self.dtype = fast_dtype(device)
        self.calls = 0

    def halvings(self, soft: np.ndarray) -> int:
        """How often the window is halved, until the hole is narrow enough to be seen across."""
        width, halvings = 2 * _reach(soft > 0), 0
        while width / 2**halvings > WIDEST * self.model.size:
            halvings += 1
        return halvings

    def context(self, soft: np.ndarray) -> int:
        """Pixels of known picture around the hole."""
        return round(CONTEXT * self.model.size) * 2 ** self.halvings(soft)

    def __call__(
        self, x: Tensor, soft: Tensor, seed: int, candidates: int, on_step: Callable[[Tensor], None] | None = None
    ) -> Tensor:
        """Fill a window. x: (1, 3, H, W), soft: (1, 1, H, W). Returns (candidates, 3, H, W), on the CPU."""
        levels = [(x, soft)]
        for _ in range(self.halvings(soft[0, 0].numpy())):
            levels.append(_halved(*levels[-1]))
        generators = [torch.Generator().manual_seed(seed + i) for i in range(candidates)]
        total = len(self.first_times) + (len(levels) - 1) * len(self.finer_times)
        fills: list[Tensor] = []
        for done in range(candidates):  # one after the other: a result must not depend on what was made beside it
            fill: Tensor | None = None
            for level, (known, hole) in enumerate(reversed(levels)):

                def step(t: int, state: Tensor, x0: Tensor) -> None:
                    self.calls += 1
                    if on_step:
                        on_step(state.cpu())
                    if self.progress:
                        self.progress(self.calls, total * candidates)

                fill = self._fill_level(known, hole, fill, generators[done], step)
            assert fill is not None
            fills.append(fill.cpu())
        return torch.cat(fills)

    @torch.inference_mode()
    def _fill_level(
        self,
        x: Tensor,
        soft: Tensor,
        coarser: Tensor | None,
        generator: torch.Generator,
        step: Callable[[int, Tensor, Tensor], None],
    ) -> Tensor:
        diffusion = self.model.diffusion

        def noise(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        known = Known(x.to(self.device), soft.to(self.device), diffusion, self.model.conditioning, noise)
        network = tiled(self._call, known.soft, self.model.size)
        if coarser is None:
            times, guide = self.first_times, None
            start = known.start(times[0])
        else:
            times, guide = self.finer_times, enlarged(coarser, x.shape[-2:])
            guide = torch.where(known.soft > 0, guide, known.x0)
            start = known.put_back(diffusion.add_noise(guide, times[0], noise(guide)), times[0], times[0])
        return self.sample(
            denoiser(network, known, guide), start, times, diffusion, noise=noise, put_back=known.put_back, callback=step
        )

    def _call(self, x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(x, t).float()


def _halved(x: Tensor, soft: Tensor) -> tuple[Tensor, Tensor]:
    """The next coarser level: a pixel is the mean of what is known of its four, and hole where nothing is."""
    known = (soft == 0).to(x.dtype)
    weight = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(x * known, 2, ceil_mode=True, count_include_pad=False) / weight.clamp(min=1e-6)
    return mean, (weight < 0.5).to(soft.dtype)


def _reach(hole: np.ndarray) -> int:
    """The largest distance, in pixels along rows, columns and diagonals, from the hole to what is known."""
    left = torch.from_numpy(hole)[None, None].float()
    scale = 1
    while max(left.shape[-2:]) > 512:  # large pictures are measured coarsely, by blocks that are all hole
        left, scale = -F.max_pool2d(-left, 2, ceil_mode=True), 2 * scale
    reach = 0
    while bool(left.any()):
        left, reach = 1 - dilate(1 - left, 1), reach + 1
    return reach * scale


def _window_around(soft: np.ndarray, context: int) -> Window:
    """The hole's bounding box with `context` pixels of picture around it, cut at the picture's borders."""
    (rows,), (columns,) = (np.nonzero((soft > 0).any(axis)) for axis in (1, 0))
    return Window(
        max(0, int(rows[0]) - context),
        max(0, int(columns[0]) - context),
        min(soft.shape[0], int(rows[-1]) + 1 + context),
        min(soft.shape[1], int(columns[-1]) + 1 + context),
    )
