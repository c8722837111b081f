"""A window of a picture at its levels, finest first, each half of the one before; of each, what has to be worked on.

The finer a level, the less of the window is needed around the hole: only the coarsest level is the whole window. A
level that is smaller than a tile is padded to one with hole: the network always sees pictures of one size. One that is
larger than a block is filled block by block, each taking what was filled before for known: memory has a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.components import Hole
from pixmend.conditioning import enlarged
from pixmend.images import Picture
from pixmend.pictures import Floats
from pixmend.windows import Part, Window, halved_hole, window_around

BAND_ROWS = 256  # of a picture that are turned to floats at once; even
BLOCK = 24  # tiles along the side of a block, without what is seen around it


@dataclass(frozen=True)
class Level:
    """What is worked on at one level of a window."""

    scale: int  # pixels of the picture along a pixel of this level: 1, 2, 4 ...
    area: Window  # in pixels of this level, from the window's upper left corner on
    hole: Hole  # (h, w) of the area
    size: int  # of a tile

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the tensors: those of the area, but at least a tile."""
        height, width = self.area.shape
        return max(self.size, height), max(self.size, width)

    @property
    def is_one_block(self) -> bool:
        """Whether it is filled as a whole, as most are."""
        return max(self.area.shape) <= (BLOCK + 1) * self.size

    def blocks(self) -> list[Level]:
        """The parts that are filled one after the other: this level alone, or those parts of it that have any hole.

        A block's hole is that of its own; its area has one tile around it, where other blocks may have theirs.
        """
        if self.is_one_block:
            return [self]
        height, width = self.area.shape
        side, whole = BLOCK * self.size, Window(0, 0, height, width)
        blocks = []
        for top, left in product(range(0, height, side), range(0, width, side)):
            core = Window(top, left, top + side, left + side).cut(whole)
            if not core.of(self.hole).any():
                continue
            area = core.grown(self.size).cut(whole)
            hole = np.zeros(area.shape, bool)
            core.seen_from(area).of(hole)[:] = core.of(self.hole)
            blocks.append(Level(self.scale, area.within(self.area), hole, self.size))
        return blocks

    def of(self, x: Tensor, block: Level) -> Tensor:
        """A view of a block in a tensor of this level, (B, C, h, w)."""
        top, left = block.area.top - self.area.top, block.area.left - self.area.left
        return x[..., top : top + block.shape[0], left : left + block.shape[1]]

    @property
    def needed(self) -> Tensor:
        """The hole without the padding, (1, 1, H, W) of 0 and 1."""
        return padded(torch.from_numpy(self.hole)[None, None].float(), self.shape)

    def cut(self, fill: Tensor) -> Tensor:
        """A fill of this level without the padding, (B, 3, h, w)."""
        height, width = self.area.shape
        return fill[..., :height, :width]

    def guide(self, coarser: Tensor, level: Level) -> Tensor:
        """The fill of the next coarser level, without padding, as a guide for this one: (1, 3, H, W)."""
        own = self.area.seen_from(level.area.enlarged(2))
        some = own.halved().grown(1).cut(Window(0, 0, *coarser.shape[-2:]))  # enlarging looks one pixel around
        coarser = coarser[..., some.top : some.bottom, some.left : some.right]
        fine = enlarged(coarser, (2 * coarser.shape[-2], 2 * coarser.shape[-1]))
        return padded(part_of(fine, own.seen_from(some.enlarged(2))), self.shape, mode="replicate")

    def in_picture(self, window: Window) -> Window:
        """The area in pixels of the picture, cut where the window ends."""
        return self.area.enlarged(self.scale).within(window)


def plan_levels(touched: Hole, unknown: Hole, part: Part, size: int) -> list[Level]:
    """All levels of a part, finest first; touched, and what of it is not known: (H, W), of the whole picture.

    At the picture's own size all that is touched is worked on; a soft edge is known to the coarser levels. size: of a
    tile, in pixels.
    """
    holes, hole = [part.window.of(touched)], part.window.of(unknown)
    for _ in range(part.halvings):
        hole = halved_hole(hole)
        holes.append(hole)
    areas = [_area(part, k, size) for k in range(part.halvings + 1)]
    for k, (fine, coarse) in enumerate(pairwise(areas)):  # what a level is guided by must be there
        areas[k + 1] = fine.halved().hull(coarse)
    return [Level(2**k, area, area.of(hole), size) for k, (area, hole) in enumerate(zip(areas, holes, strict=True))]


def level_tensors(
    picture: Picture, soft: Floats | Hole, unknown: Hole, part: Part, levels: list[Level]
) -> list[tuple[Tensor, Tensor]]:
    """X (1, 3, H, W) in [-1, 1] and its soft mask (1, 1, H, W) of each level; what x holds in the hole is never used.

    soft: (H, W), of the whole picture, or bools; coarser levels have a hole without a soft edge, `unknown`. levels:
    all, or without the finest ones.
    """
    tensors, coarser = [], levels
    if levels[0].scale == 1:
        finest = levels[0].in_picture(part.window)
        own = torch.from_numpy(finest.of(soft))[None, None].float()
        tensors, coarser = [(window_colour(picture, finest), own)], levels[1:]
    all_coarser = islice(_coarser(picture, unknown, part), part.halvings - len(coarser), None)
    for level, x in zip(coarser, all_coarser, strict=True):
        area = level.area
        hole = torch.from_numpy(level.hole)[None, None].float()
        tensors.append((x[..., area.top : area.bottom, area.left : area.right], hole))
    return [
        (padded(x, level.shape).contiguous(), padded(hole, level.shape, value=1))  # a copy: the rest is given back
        for level, (x, hole) in zip(levels, tensors, strict=True)
    ]


def halved(x: Tensor, known: Tensor) -> Tensor:
    """The next coarser level of a picture: the mean of what is known of each four pixels, 0 where none is.

    x: (1, 3, H, W), known: (1, 1, H, W) of 0 and 1.
    """
    return _sum_of_four(x * known).div_(_sum_of_four(known).clamp_(min=1))


def _sum_of_four(x: Tensor) -> Tensor:
    x = padded(x, (x.shape[-2] + x.shape[-2] % 2, x.shape[-1] + x.shape[-1] % 2))
    x = x[..., ::2, :] + x[..., 1::2, :]  # ten times as fast as average pooling is on a processor
    return x[..., ::2] + x[..., 1::2]


def _coarser(picture: Picture, unknown: Hole, part: Part) -> Iterator[Tensor]:
    """The window at each coarser level, (1, 3, h, w); at the picture's own size only a band of it is in floats."""
    if not part.halvings:
        return
    window, bands, hole = part.window, [], part.window.of(unknown)
    for top in range(window.top, window.bottom, BAND_ROWS):
        band = Window(top, window.left, min(top + BAND_ROWS, window.bottom), window.right)
        bands.append(halved(window_colour(picture, band), _known(band.of(unknown))))
    x = torch.cat(bands, -2)
    yield x
    for _ in range(part.halvings - 1):
        hole = halved_hole(hole)
        x = halved(x, _known(hole))
        yield x


def _area(part: Part, halvings: int, size: int) -> Window:
    """What is worked on at a level: the hole with what is seen around it, in pixels of that level."""
    whole = Window(0, 0, *part.window.shape)
    box = part.box.seen_from(part.window)
    for _ in range(halvings):
        whole, box = whole.halved(), box.halved()
    return whole if halvings == part.halvings else window_around(box, (whole.bottom, whole.right), size)


def window_colour(picture: Picture, window: Window) -> Tensor:
    """A part of the picture as (1, 3, h, w) in [-1, 1]; in bands: what comes in between takes three times as much."""
    x = torch.empty(1, 3, *window.shape)
    for top in range(0, window.shape[0], BAND_ROWS):
        rows = window.of(picture.samples)[top : top + BAND_ROWS]
        x[0, :, top : top + BAND_ROWS] = torch.from_numpy(replace(picture, samples=rows).colour()).permute(2, 0, 1)
    return x


def _known(hole: Hole) -> Tensor:
    return torch.from_numpy(~hole)[None, None].float()


def part_of(x: Tensor, own: Window) -> Tensor:
    """A part of a tensor (..., H, W); where it lies outside, the border goes on."""
    inner = own.cut(Window(0, 0, *x.shape[-2:]))
    x = x[..., inner.top : inner.bottom, inner.left : inner.right]
    outside = inner.left - own.left, own.right - inner.right, inner.top - own.top, own.bottom - inner.bottom
    return F.pad(x, outside, mode="replicate") if any(outside) else x


def padded(x: Tensor, shape: tuple[int, ...], mode: str = "constant", value: float = 0) -> Tensor:
    """Add rows below and columns to the right, up to (H, W)."""
    bottom, right = shape[0] - x.shape[-2], shape[1] - x.shape[-1]
    if not bottom and not right:
        return x
    return F.pad(x, (0, right, 0, bottom), mode=mode, value=value if mode == "constant" else None)
