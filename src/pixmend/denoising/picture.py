"""Taking the noise out of one picture, of any size and mode."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pixmend.budget import memory_as_one_line
from pixmend.denoising.law import Predictor, single_step
from pixmend.denoising.level import estimate_level
from pixmend.denoising.model_file import Denoiser, load_denoiser
from pixmend.errors import OptionError
from pixmend.images import Picture, Source, composite, open_picture
from pixmend.pictures import Floats
from pixmend.runtime import pick_device, tune_allocator
from pixmend.tiles import tile_corners, tiled

TILE = 256  # pixels a side; larger pictures are worked on in tiles, for the network's features take 100 times a picture
OVERLAP = 0.25  # of a tile
SIDE_MULTIPLE = 4  # of what the printed networks take
LEAST = 1e-3  # a lower level than an eighth of a step of 8 bits is none

Progress = Callable[[int, int], None]  # tiles done, of how many


@dataclass(frozen=True)
class Denoised:
    """A picture without its noise, and how that came about."""

    picture: Picture
    level: float  # standard deviation of the noise, in units of [-1, 1]: as given, or estimated
    told: float  # the level that the network was told: the nearest that it was trained on; 0: nothing was taken out
    estimated: bool  # whether the level was estimated from the picture
    seconds: float


def denoise(
    image: Source,
    *,
    level: float | Literal["auto"] | None = None,
    model: Denoiser | str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Denoised:
    """Take white noise out of a picture of any size; a Picture of the same size, bit depth, alpha and metadata.

    image: whatever `open_picture` takes. level: the noise's standard deviation in units of [-1, 1], from 0 to 1;
    None or "auto" estimates it (`estimate_level`). At 0 the picture stays as it is, and levels beyond what the model
    was trained on are held to the nearest one that it was. Grey pictures stay grey, alpha is kept.
    model: a denoiser or its file, by default the one that ships with pixmend. progress: called after every network call
    with the tiles done and their number in all; what it raises stops the work there. Raises OptionError for a level out
    of range, PictureError for what is not finite, MemoryLimitError, and what `open_picture` and `load_denoiser` raise.
    """
    start = time.monotonic()
    level = None if level == "auto" else level
    if level is not None and not 0 <= level <= 1:
        raise OptionError(f"level {level} is out of range; give 0 to 1, in units of [-1, 1], or none to estimate it")
    picture = open_picture(image)
    denoiser = model if isinstance(model, Denoiser) else load_denoiser(model)
    picture.require_whole()
    with memory_as_one_line():
        spanned = picture.spanned()
        values = spanned.colour()  # (H, W, 3)
        found = _estimated(picture, values) if level is None else level
        told = held_level(found, denoiser) if found >= LEAST else 0.0
        if told:
            out = without_noise(values, found, denoiser, pick_device(device), progress)
            out = np.repeat(out.mean(axis=2, keepdims=True), 3, axis=2) if picture.is_grey else out
            known = (~picture.lacking()).astype(np.float32)
            picture = replace(picture, samples=composite(spanned, out, known, grey=picture.is_grey).samples)
    return Denoised(picture, found, told, level is None, time.monotonic() - start)


def _estimated(picture: Picture, values: Floats) -> float:
    """The level of a picture's colours, (H, W, 3), of what is seen of it and was measured."""
    known = ~picture.lacking()
    if (alpha := picture.alpha()) is not None:
        known &= alpha > 0
    return min(1.0, estimate_level(values[..., :1] if picture.is_grey else values, known))


def held_level(level: float, denoiser: Denoiser) -> float:
    """The nearest level that a denoiser was trained on."""
    low, high = denoiser.levels
    return min(max(level, low), high)


@torch.no_grad()
def without_noise(
    values: Floats, level: float, denoiser: Denoiser, device: torch.device, progress: Progress | None = None
) -> Floats:
    """values: (H, W, 3) in [-1, 1] and beyond, with noise of this level; the same shape without, in [-1, 1]."""
    tune_allocator()
    law = denoiser.law
    network = denoiser.network.to(device).eval()
    told = held_level(level, denoiser)
    x = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None].to(device)  # (1, 3, H, W)
    hole = x.new_ones(1, 1, *x.shape[2:])
    predictor: Predictor = network if denoiser.any_size else _padded(network)
    if progress:
        everything, t = np.ones(values.shape[:2], np.bool_), int(np.float32(told * law.T))
        tiles = 1 if max(everything.shape) <= TILE else len(tile_corners(everything, TILE, t, OVERLAP))
        predictor = _telling(predictor, tiles, progress)
    out = single_step(tiled(predictor, hole, TILE, OVERLAP), x, told * law.T, law)
    result: Floats = out[0].float().clamp(-1, 1).permute(1, 2, 0).cpu().numpy()
    return result


def _telling(network: Predictor, tiles: int, progress: Progress) -> Predictor:
    """A network that tells how many tiles it was called on, of how many."""
    done = 0

    def call(x: Tensor, t: Tensor) -> Tensor:
        nonlocal done
        out = network(x, t)
        done += len(x)
        progress(done, tiles)
        return out

    return call


def _padded(network: Predictor) -> Predictor:
    """A network that takes sides of multiples of 4, for any: the last row and column are repeated, and cut again."""

    def call(x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[2:]
        edges = (0, -width % SIDE_MULTIPLE, 0, -height % SIDE_MULTIPLE)
        return network(torch.nn.functional.pad(x, edges, mode="replicate"), t)[..., :height, :width]

    return call
