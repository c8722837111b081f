"""Detail from the picture itself: a fill becomes a mosaic of patches that are known elsewhere in the picture.

A small network knows what may be in a hole, but not how bark, brick or fur look from near; the picture does. So where
holes are wide the network's fill is the sketch: each patch in and around the hole is matched with the known patch that
is most like it, every pixel becomes the mean of what the patches over it say, and again, until they agree, or at the
end what most of them say (Wexler, Shechtman and Irani 2007, https://doi.org/10.1109/TPAMI.2007.60). At finer levels the
matches are doubled, and better ones looked for beside them alone (PatchMatch: Barnes et al. 2009,
https://doi.org/10.1145/1531326.1531330).

This is denoising, too. Of a picture that is made of known patches the best denoiser is known exactly: the mean of
those patches, weighted by how well each fits (Kamb and Ganguli 2024, https://arxiv.org/abs/2412.20292). Where the noise
is faint, the best one alone is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.components import Hole
from pixmend.finishing import blend, enliven
from pixmend.grain import RING
from pixmend.levels import BAND_ROWS, Level, halved, window_colour
from pixmend.packed import fixed, loose
from pixmend.patches import COMPARED, LEAST, REACH, Patches, Tick, whole_patches
from pixmend.pictures import Picture
from pixmend.soft_masks import dilate
from pixmend.windows import Part, Window, bounding_box, halved_hole

RADIUS, FIRST_RADIUS = 2, 3  # of a patch: 5x5 pixels; at the first level, where a pixel is most of the picture, 7x7
WIDE = 5  # pixels: a mosaic begins where a square of side 2 WIDE + 1 fits into the hole
FEWEST = 200  # known patches of which a fill can be made
NEAR = 512  # pixels around a hole that are looked at, or half the hole's length if that is more
NOISE = 0.1  # in brightness, in the first round: of more the colours of the sketch are forgotten
# About what a mosaic takes, as measured: by pixel of its finest level, of what is around the hole, and of the hole.
AREA_BYTES, BOX_BYTES, HOLE_BYTES, OTHER_BYTES = 24, 130, 80, 30_000_000


@dataclass(frozen=True)
class Mosaic:
    """Where a part's detail comes from: its levels, finest first, and what is known there."""

    levels: list[Level]  # the last is as coarse as the sketch, or coarser; areas may be larger than the network's
    known: list[Tensor]  # (1, 3, h, w) of each area, `fixed`; what it holds in the hole is never used

    def made(
        self, sketch: Tensor, level: Level, rounds: int, passes: int, generator: torch.Generator, tick: Tick
    ) -> Iterator[tuple[Level, Tensor]]:
        """The fill at each level, from coarse to fine: its part `around_hole`, and (1, 3, h, w) of that.

        sketch: (1, 3, h, w), the network's fill of `level`, at the scale of one of the levels here. rounds: how often
        patches are matched at the coarsest level, and a quarter as often at the next; passes: at each that is finer.
        """
        now = self.levels[-1]
        patches = Patches(self._begun(sketch, level)[0], now.hole, FIRST_RADIUS, tick)
        patches.settle(rounds, NOISE, generator)
        for finer, x in zip(self.levels[-2::-1], self.known[-2::-1], strict=True):
            yield _shown(now, patches)
            if now is self.levels[-1]:
                patches = patches.doubled(x[0], finer.hole, FIRST_RADIUS, generator)
                patches.settle(rounds // 4, NOISE, generator)
            else:
                patches = patches.doubled(x[0], finer.hole, RADIUS, generator)
                for _ in range(passes):
                    patches.improve(REACH, generator)
                    patches.vote()
            now = finer
        patches.sharpen()
        area = around_hole(now).area.seen_from(now.area)
        enliven(patches, area)
        blend(patches, area)
        yield _shown(now, patches)

    def _begun(self, sketch: Tensor, level: Level) -> Tensor:
        """The coarsest level with the sketch in its hole, reduced where that is finer."""
        for own, known in zip(self.levels, self.known, strict=True):
            if own.scale == level.scale:
                x = loose(known)
                _of(x, own.area, level.area)[:] = _of(sketch, level.area, own.area)
            elif own.scale > level.scale:
                x = torch.where(torch.from_numpy(own.hole), halved(x, torch.ones_like(x[:, :1])), loose(known))
        return x


def plan_mosaic(touched: Hole, part: Part, levels: Sequence[Level]) -> tuple[int, list[Level]]:
    """Which of the network's levels is the sketch of a part's mosaic, and the levels of that, finest first.

    touched: (H, W), of the whole picture; levels: the network's, finest first. The sketch comes from the coarsest of
    them at which a square of side 2 WIDE + 1 fits into the hole and at least FEWEST patches are known: the larger
    patches are beside the hole, the better what is copied hangs together. The mosaic begins one level coarser still,
    where enough patches are known there. 0 and none, so that the network fills alone: where the hole is narrow; where
    little is known; where the network sees at once, at the picture's own size, all that is known; and where there are
    too many patches to compare.
    """
    size = levels[0].size
    for first in reversed(range(len(levels))):
        own = _levels(touched, part, size, first)
        known = F.pad(~torch.from_numpy(own[first].hole), (1, 1, 1, 1), value=True)
        enough = FEWEST if first else max(FEWEST, size**2)
        if dilate(known, WIDE).all() or _count_patches(own[first])[1] < enough:
            continue
        begins_coarser = _count_patches(own[-1])[1] >= FEWEST
        own = own if begins_coarser else own[:-1]
        if len(own) > 1 and _count_patches(own[-1])[0] <= COMPARED // LEAST:
            return min(first + begins_coarser, len(levels) - 1), own
    return 0, []


def _count_patches(level: Level) -> tuple[int, int]:
    """Those with a pixel of the hole, and those that are known as a whole."""
    opened, known = whole_patches(torch.from_numpy(level.hole), FIRST_RADIUS)
    return int(opened.sum()), int(known.sum())


def _levels(touched: Hole, part: Part, size: int, first: int) -> list[Level]:
    """Those around a part's hole, `first` and one more, each exactly twice the coarser one: of a pixel come four."""
    wholes, box = [Window(0, 0, *part.window.shape)], part.box.seen_from(part.window)
    near = min(size // 2 * 2**first, max(NEAR, max(box.shape) // 2))
    for _ in range(first + 1):
        wholes.append(wholes[-1].halved())
        box = box.halved()
    areas = [box.grown(-(-near // 2 ** (first + 1))).cut(wholes[-1])]
    for whole in wholes[-2::-1]:
        areas.insert(0, areas[0].enlarged(2).cut(whole))
    holes = [areas[0].within(part.window).of(touched)]
    for _ in range(first + 1):
        holes.append(halved_hole(holes[-1]))
    return [Level(2**k, area, hole, size) for k, (area, hole) in enumerate(zip(areas, holes, strict=True))]


def mosaic_of(picture: Picture, part: Part, levels: list[Level]) -> Mosaic:
    """The mosaic of these levels, as `plan_mosaic` gives them."""
    finest = levels[0].in_picture(part.window)
    height, width = finest.shape
    bands = [Window(top, 0, min(top + BAND_ROWS, height), width).within(finest) for top in range(0, height, BAND_ROWS)]
    known = [torch.cat([fixed(window_colour(picture, band)) for band in bands], -2)]
    for level in levels[:-1]:
        x, hole = known[-1], torch.from_numpy(level.hole)[None, None]
        some = [np.s_[..., top : top + BAND_ROWS, :] for top in range(0, x.shape[-2], BAND_ROWS)]
        known.append(torch.cat([fixed(halved(loose(x[rows]), (~hole[rows]).float())) for rows in some], -2))
    return Mosaic(levels, known)


def mosaic_bytes(levels: Sequence[Level]) -> int:
    """About what a mosaic of these levels takes at most; 0 of none."""
    if not levels:
        return 0
    area, box = levels[0].hole.size, around_hole(levels[0]).hole.size
    return AREA_BYTES * area + BOX_BYTES * box + HOLE_BYTES * int(levels[0].hole.sum()) + OTHER_BYTES


def around_hole(level: Level) -> Level:
    """The part of a level that has the hole, and what its grain is compared with."""
    box = bounding_box(level.hole)
    if box is None:
        return level
    area = box.grown(2 * RING).cut(Window(0, 0, *level.area.shape))
    return Level(level.scale, area.within(level.area), area.of(level.hole), level.size)


def _shown(level: Level, patches: Patches) -> tuple[Level, Tensor]:
    """The part of a level around its hole, and (1, 3, h, w) of that, as its patches have it."""
    part = around_hole(level)
    return part, patches.image(part.area.seen_from(level.area))


def _of(x: Tensor, area: Window, other: Window) -> Tensor:
    """The part of a tensor (1, 3, h, w) of one area that lies in another area as well; a view."""
    common = area.cut(other).seen_from(area)
    return x[..., common.top : common.bottom, common.left : common.right]
