"""A network of one native size on pictures of any size: overlapping tiles, their predictions averaged.

Averaging what overlapping tiles predict, at every step of the sampler, makes them agree on one picture (MultiDiffusion,
Bar-Tal et al. 2023, https://arxiv.org/abs/2302.08113). Tiles without hole are left out, so the cost follows the hole.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixmend.conditioning import NetworkCall

BATCH_PIXELS = 32 * 64 * 64  # of one network call, where nothing else is said
MIRRORS = ((), (-1,), (-2,), (-2, -1))  # which axes are turned round
OUTER_MARGIN = 0.125  # of a tile's side: how far the outermost tiles reach beyond what is needed, inside the picture


def tiled(network: NetworkCall, hole: Tensor, size: int, overlap: float = 0.5, batch: int | None = None) -> NetworkCall:
    """The network, called on tiles of `size` that share `overlap` of their sides, where `hole` has any hole.

    hole: (1, 1, H, W), more than 0 where a prediction is needed. batch: pictures, tiles times B, in one call.
    The returned network takes (B, C, H, W) and (B,), all of one time, and gives (B, 3, H, W), zeros where no tile was
    needed. Tiles sit elsewhere at every time, so that no border stays in place.
    """
    height, width = hole.shape[-2:]
    if max(height, width) <= size:
        return network
    sides = min(size, height), min(size, width)
    weight = _window(sides, hole.device)
    needed = as_bools(hole)
    batch = batch or max(1, BATCH_PIXELS // (sides[0] * sides[1]))

    def call(x: Tensor, t: Tensor) -> Tensor:
        corners = tile_corners(needed, size, int(t[0]), overlap)
        total = x.new_zeros(len(x), 3, height, width)
        weights = x.new_zeros(1, 1, height, width)
        many = max(1, batch // len(x))
        for k in range(0, len(corners), many):
            part = corners[k : k + many]
            tiles = torch.cat([x[..., i : i + sides[0], j : j + sides[1]] for i, j in part])
            out = network(tiles, t[:1].expand(len(tiles)))
            for (i, j), tile in zip(part, torch.split(out, len(x)), strict=True):
                total[..., i : i + sides[0], j : j + sides[1]] += weight * tile
                weights[..., i : i + sides[0], j : j + sides[1]] += weight
        return total.div_(weights.clamp_(min=1e-6))

    return call


def mirrored(network: NetworkCall, times: int) -> NetworkCall:
    """The network, asked 1, 2 or 4 times: the mean of its answers to pictures and to their mirror images, turned back.

    For networks that answer exact values: each answer errs, and in part otherwise (Timofte et al. 2016, "enhanced
    prediction", https://arxiv.org/abs/1511.02228).
    """
    if times == 1:
        return network

    def call(x: Tensor, t: Tensor) -> Tensor:
        answers = [network(x.flip(axes), t).flip(axes) for axes in MIRRORS[:times]]
        return torch.stack(answers).mean(0)

    return call


def as_bools(hole: Tensor) -> NDArray[np.bool_]:
    """Where (1, 1, H, W) is more than 0, as (H, W)."""
    bools: NDArray[np.bool_] = (hole[0, 0] > 0).cpu().numpy()
    return bools


def tile_corners(needed: NDArray[np.bool_], size: int, t: int, overlap: float) -> list[tuple[int, int]]:
    """Upper left corners of the tiles that hold any of what is needed, (H, W); they move with the time t."""
    if not needed.any():
        return []
    starts = []
    for axis in (0, 1):
        places = np.flatnonzero(needed.any(1 - axis))
        starts.append(_starts(needed.shape[axis], size, t, overlap, int(places[0]), int(places[-1]) + 1))
    rows, columns = starts
    held = _any_of_spans(_any_of_spans(needed, rows, size, axis=0), columns, size, axis=1)  # (rows, columns)
    return [(rows[i], columns[j]) for i, j in zip(*(axis.tolist() for axis in held.nonzero()), strict=True)]


def _any_of_spans(needed: NDArray[np.bool_], starts: list[int], side: int, axis: int) -> NDArray[np.bool_]:
    """Whether any of needed[start : start + side] along an axis, for each start."""
    spans = [needed.take(range(start, min(start + side, needed.shape[axis])), axis).any(axis) for start in starts]
    return np.stack(spans, axis)


def _window(sides: tuple[int, int], device: torch.device) -> Tensor:
    """How much a tile's prediction counts: most in its middle, where it sees most, hardly at its edge."""
    rows, columns = (torch.hann_window(n + 2, periodic=False, device=device)[1:-1] + 1e-3 for n in sides)
    return rows[:, None] * columns[None]


def _starts(length: int, side: int, t: int, overlap: float, first: int, end: int) -> list[int]:
    """Where tiles begin along one side, so that they cover `first` to `end` with a margin, as few as can be."""
    if length <= side:
        return [0]
    shared, margin = int(side * overlap), int(side * OUTER_MARGIN)
    low, high = max(0, first - margin), min(length, end + margin)
    step = max(1, side - shared)
    count = max(1, -(-(high - low - shared) // step))
    earliest = -(margin // 2) if low else 0  # half of the margin may be given up to move
    latest = count * step + shared - (high - low) + (margin // 2 if high < length else 0)
    if latest == earliest:  # no room to move in
        count, latest = count + 1, latest + step
    shift = earliest + int(t * math.pi % 1 * (latest - earliest + 1))  # wherever it was: steps are often alike
    return sorted({min(max(0, low - shift + k * step), length - side) for k in range(count)})
