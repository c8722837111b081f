"""A network of one native size on pictures of any size: overlapping tiles, their predictions averaged.

Averaging what overlapping tiles predict, at every step of the sampler, makes them agree on one picture (MultiDiffusion,
Bar-Tal et al. 2023, https://arxiv.org/abs/2302.08113). Tiles without hole are left out, so the cost follows the hole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixmend.conditioning import Network

BATCH_PIXELS = 32 * 64 * 64  # of one network call


def tiled(network: Network, hole: Tensor, size: int, overlap: float = 0.5) -> Network:
    """The network, called on tiles of `size` that share `overlap` of their sides, where `hole` has any hole.

    hole: (1, 1, H, W), 1 = hole. The returned network takes (B, C, H, W) and (B,), all of one time, and gives
    (B, 3, H, W), zeros where no tile was needed. Tiles sit elsewhere at every time, so that no border stays in place.
    """
    height, width = hole.shape[-2:]
    if max(height, width) <= size:
        return network
    sides = min(size, height), min(size, width)
    weight = _window(sides, hole.device)

    def call(x: Tensor, t: Tensor) -> Tensor:
        corners = _corners(hole, sides, int(t[0]), overlap)
        total = x.new_zeros(len(x), 3, height, width)
        weights = x.new_zeros(1, 1, height, width)
        tiles = [x[..., i : i + sides[0], j : j + sides[1]] for i, j in corners]
        many = max(1, BATCH_PIXELS // (sides[0] * sides[1] * len(x)))
        for k in range(0, len(tiles), many):
            part = tiles[k : k + many]
            out = network(torch.cat(part), t[:1].expand(len(part) * len(x)))
            for (i, j), tile in zip(corners[k : k + many], torch.split(out, len(x)), strict=True):
                total[..., i : i + sides[0], j : j + sides[1]] += weight * tile
                weights[..., i : i + sides[0], j : j + sides[1]] += weight
        return total / weights.clamp(min=1e-6)

    return call


def _window(sides: tuple[int, int], device: torch.device) -> Tensor:
    """How much a tile's prediction counts: most in its middle, where it sees most, hardly at its edge."""
    rows, columns = (torch.hann_window(n + 2, periodic=False, device=device)[1:-1] + 1e-3 for n in sides)
    return rows[:, None] * columns[None]


def _corners(hole: Tensor, sides: tuple[int, int], phase: int, overlap: float) -> list[tuple[int, int]]:
    """Upper left corners of the tiles that hold any hole; `phase` moves those that are not at a border."""
    height, width = hole.shape[-2:]
    filled = hole[0, 0] > 0
    return [
        (i, j)
        for i in _starts(height, sides[0], phase, overlap)
        for j in _starts(width, sides[1], phase, overlap)
        if bool(filled[i : i + sides[0], j : j + sides[1]].any())
    ]


def _starts(length: int, side: int, phase: int, overlap: float = 0.5) -> list[int]:
    """Where tiles begin along one side: a tile less its overlap apart, from a shifted place on, both ends covered."""
    if length <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    first = (phase * 7) % step  # 7 and the steps have no common factor: all places come in turn
    return sorted({0, *range(first, length - side, step), length - side})
