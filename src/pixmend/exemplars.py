"""Detail from the picture itself: a fill becomes a mosaic of patches that are known elsewhere in the picture.

A small network knows what may be in a hole, but not how bark, brick or fur look from near; the picture does. So where
holes are wide the network's fill is the sketch: each patch in and around the hole is matched with the known patch that
is most like it, every pixel becomes the mean of what the patches over it say, and again, until they agree (Wexler,
Shechtman and Irani 2007, https://doi.org/10.1109/TPAMI.2007.60). At finer levels the matches are doubled, and better
ones looked for beside them alone (PatchMatch: Barnes et al. 2009, https://doi.org/10.1145/1531326.1531330).

This is denoising, too. Of a picture that is made of known patches the best denoiser is known exactly: the mean of
those patches, weighted by how well each fits (Kamb and Ganguli 2024, https://arxiv.org/abs/2412.20292). Where the noise
is faint, the best one alone is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.conditioning import smooth_fill
from pixmend.grain import RING
from pixmend.levels import BAND, Level, halved, halved_hole, window_colour
from pixmend.pictures import Picture
from pixmend.soft_masks import dilate
from pixmend.windows import Hole, Part, Window, bounding_box

RADIUS, FIRST_RADIUS = 2, 3  # of a patch: 5x5 pixels; at the first level, where a pixel is most of the picture, 7x7
REACH = (4, 1)  # pixels: how far beside its match a better one is looked for, by chance
FAR = (64, 16, *REACH)  # the same where no first match is known
COMPARED = 1 << 25  # pairs of patches that are all compared, at most
MOST = 8192  # known patches that are compared with all others
WIDE = 7  # pixels: a mosaic begins where a square of side 2 WIDE + 1 fits into the hole
FEWEST = 200  # known patches of which a fill can be made
NEAR = 512  # pixels around a hole that are looked at; of one more than twice as long, half its length
NOISE = 0.5  # in brightness, in the first round; else what is smooth matches what is smooth, and the same for ever
LESS_NOISE = 0.2  # the same at a level that has matches from a coarser one
SPREAD = 0.5  # of the usual distance: a match that is so much worse counts 1/e of one that fits
TRUST = 0.02  # what a patch counts of which nothing is known, beside 1 for one that is known as a whole
OVERUSE = 0.1  # of the usual distance: added for each time that a patch is taken more often than is fair
LEAST_FAIR = 0.3  # times; a hole is often smaller than what is known
ROWS = 8  # times the usual distance: added to a match that is as far above or below as the area is high; by square
HANGS_TOGETHER = 1.5  # times as far as the nearest may be what goes on as a neighbour's match does
CHUNK = 1 << 16  # patches compared at once
AREA_BYTES, HOLE_BYTES = 40, 150  # a pixel of the finest level, and of its hole: about what they take, as measured
BLEND, ELSE = 0.1, 0.3  # of [-1, 1]: most that the fill is corrected by, to run into what is known; and what ends there
FAR_OFF = 1e3  # the distance of a match that is none

Tick = Callable[[], None]  # told now and then; what it raises ends the work


@dataclass(frozen=True)
class Mosaic:
    """Where a part's detail comes from: its levels, finest first, and what is known there."""

    levels: list[Level]  # the last is as coarse as the sketch, or coarser; areas may be larger than the network's
    known: list[Tensor]  # (1, 3, h, w) of each area, in halves; what it holds in the hole is never used

    def made(
        self, sketch: Tensor, level: Level, rounds: int, passes: int, generator: torch.Generator, tick: Tick
    ) -> Iterator[tuple[Level, Tensor]]:
        """The fill at each level, from coarse to fine: its part `around_hole`, and (1, 3, h, w) of that.

        sketch: (1, 3, h, w), the network's fill of `level`, at the scale of one of the levels here. rounds: how often
        patches are matched at the coarsest level; passes: at each that is finer than the sketch.
        """
        coarsest = self.levels[-1]
        patches = _Patches(self._begun(sketch, level)[0], coarsest.hole, FIRST_RADIUS)
        patches.settle(rounds, NOISE, generator, tick)
        yield patches.shown(coarsest)
        for finer, x in zip(self.levels[-2::-1], self.known[-2::-1], strict=True):
            if finer.scale >= level.scale:
                patches = patches.doubled(x[0], finer.hole, FIRST_RADIUS, generator)
                patches.settle(rounds // 2, LESS_NOISE, generator, tick)
            else:
                patches = patches.doubled(x[0], finer.hole, RADIUS, generator)
                for _ in range(passes):
                    patches.improve(REACH, generator, tick)
                    patches.vote()
            if finer is self.levels[0]:
                patches.blend(around_hole(finer).area.seen_from(finer.area))
            yield patches.shown(finer)

    def _begun(self, sketch: Tensor, level: Level) -> Tensor:
        """The coarsest level with the sketch in its hole, reduced where that is finer."""
        for own, known in zip(self.levels, self.known, strict=True):
            if own.scale == level.scale:
                x = known.float()
                _of(x, own.area, level.area)[:] = _of(sketch, level.area, own.area)
            elif own.scale > level.scale:
                x = torch.where(torch.from_numpy(own.hole), halved(x, torch.ones_like(x[:, :1])), known.float())
        return x


def plan_mosaic(touched: Hole, part: Part, levels: Sequence[Level]) -> tuple[int, list[Level]]:
    """Which of the network's levels is the sketch of a part's mosaic, and the levels of that, finest first.

    0 and none where the hole is narrow, or little is known. touched: (H, W), of the whole picture; levels: the
    network's, finest first. The sketch is the coarsest of them where the hole is wider than a patch and enough patches
    are known: the larger patches are beside the hole, the better what is copied hangs together. So the mosaic begins
    another level below, if it can. Narrow holes the network does better.
    """
    for first in range(len(levels) - 1, 1, -1):
        own = _levels(touched, part, levels[0].size, first)
        hole = torch.from_numpy(own[first].hole)
        is_wide = not dilate(F.pad(~hole, (1, 1, 1, 1), value=True), WIDE).all()
        if is_wide and _is_enough(own[first]):
            return first, own if _is_enough(own[-1]) else own[:-1]
    return 0, []


def _is_enough(level: Level) -> bool:
    return int(_whole_patches(torch.from_numpy(level.hole), FIRST_RADIUS)[1].sum()) >= FEWEST


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
    bands = [Window(top, 0, min(top + BAND, height), width).within(finest) for top in range(0, height, BAND)]
    known = [torch.cat([window_colour(picture, band).half() for band in bands], -2)]
    for level in levels[:-1]:
        x, hole = known[-1], torch.from_numpy(level.hole)[None, None]
        some = [np.s_[..., top : top + BAND, :] for top in range(0, x.shape[-2], BAND)]
        known.append(torch.cat([halved(x[rows].float(), (~hole[rows]).float()).half() for rows in some], -2))
    return Mosaic(levels, known)


def mosaic_bytes(levels: Sequence[Level]) -> int:
    """About what a mosaic of these levels takes at most; 0 of none."""
    if not levels:
        return 0
    height, width = levels[0].area.shape
    return AREA_BYTES * height * width + HOLE_BYTES * int(levels[0].hole.sum())


def around_hole(level: Level) -> Level:
    """The part of a level that has the hole, and what its grain is compared with."""
    box = bounding_box(level.hole)
    if box is None:
        return level
    area = box.grown(2 * RING).cut(Window(0, 0, *level.area.shape))
    return Level(level.scale, area.within(level.area), area.of(level.hole), level.size)


class _Patches:
    """The patches of one level, named by their middles: pixels counted along the rows of its area."""

    def __init__(self, x: Tensor, hole: Hole, radius: int) -> None:
        """x: (3, H, W) in [-1, 1], with a first fill; hole: (H, W)."""
        self.height, self.width, self.radius = int(hole.shape[0]), int(hole.shape[1]), radius
        self.pixels = _packed(x)
        self.in_hole = torch.from_numpy(hole).flatten().nonzero()[:, 0]  # (M,)
        self.place = torch.full((hole.size,), len(self.in_hole), dtype=torch.int32)  # of a pixel in `in_hole`, or M
        self.place[self.in_hole] = torch.arange(len(self.in_hole), dtype=torch.int32)
        open_, known = _whole_patches(torch.from_numpy(hole), radius)
        self.open = open_.flatten().nonzero()[:, 0]  # (N,), the patches with a pixel of the hole
        self.known = known.flatten()  # (H * W,), whether a patch is known as a whole
        self.trust = torch.empty(len(self.open))  # (N,), how much of each is known
        for some in self._chunks():
            known_pixels = self.place[self.open[some, None] + self._offsets(1)] == len(self.in_hole)
            self.trust[some] = TRUST + known_pixels.float().mean(1)
        self.match = torch.full_like(self.open, -1)  # (N,), the known patch that stands for each
        self.uses = torch.zeros(0)  # (H * W,), how often patches were taken of late, while matches settle
        self.distance = torch.zeros(len(self.open))  # (N,), sum of squares, of some of their pixels

    def shown(self, level: Level) -> tuple[Level, Tensor]:
        """What is around the hole of this level, which it is: that part of the level, and (1, 3, h, w) of it."""
        part = around_hole(level)
        area = part.area.seen_from(level.area)
        some = self.pixels.view(self.height, self.width)[area.top : area.bottom, area.left : area.right]
        return part, _colours(some)[..., :3].permute(2, 0, 1)[None].clamp(-1, 1)

    def settle(self, rounds: int, noise: float, generator: torch.Generator, tick: Tick) -> None:
        """Match and vote in turns, from the fill that is there with noise; matches are looked for everywhere."""
        known = self._some_known(MOST, generator)
        self.uses = torch.zeros(len(self.known))
        if len(known) * len(self.open) <= COMPARED:
            theirs = self._patches(known)
            for k in range(rounds):
                self._add_noise(noise * (1 - (k + 1) / rounds), generator)
                self._compare(known, theirs)
                self._cohere()
                self.vote()
                tick()
            return
        if int(self.match[0]) < 0:
            self.match = known[torch.randint(len(known), self.open.shape, generator=generator)]
        for _ in range(max(1, rounds // 4)):  # each looks at eight candidates, one after the other
            self.improve(FAR, generator, tick)
            self.vote()

    def doubled(self, x: Tensor, hole: Hole, radius: int, generator: torch.Generator) -> _Patches:
        """The next finer level, x (3, H, W) and hole (H, W), filled by the matches of this one."""
        finer = _Patches(x, hole, radius)
        match = torch.full((self.height * self.width,), -1)
        match[self.open] = self.match
        edge = self.radius  # middles of whole patches lie so far from the borders
        for some in finer._chunks():
            row, column = finer.open[some] // finer.width, finer.open[some] % finer.width
            upper = (row // 2).clamp(edge, self.height - 1 - edge), (column // 2).clamp(edge, self.width - 1 - edge)
            found = match[upper[0] * self.width + upper[1]]
            down, right = found // self.width - upper[0], found % self.width - upper[1]
            finer.match[some] = torch.where(found < 0, -1, finer._at(row + 2 * down, column + 2 * right))
        is_lost = ~finer._is_known(finer.match)  # where patches of this and of the other size differ
        lost, others = is_lost.nonzero()[:, 0], finer.match[~is_lost]
        if not len(others):
            others = finer._some_known(MOST, generator)
        finer.match[lost] = others[torch.randint(len(others), lost.shape, generator=generator)]
        finer.distance[lost] = FAR_OFF
        finer.vote()
        return finer

    def improve(self, reach: Sequence[int], generator: torch.Generator, tick: Tick) -> None:
        """Take better matches than those that are there: a neighbour's, moved along, or one beside it, by chance."""
        match = torch.full((self.height * self.width,), -1, dtype=torch.int32)
        match[self.open] = self.match.int()
        shape = 2, len(self.open)
        steps = [torch.randint(-far, far + 1, shape, generator=generator, dtype=torch.int8) for far in reach]
        for some in self._chunks():
            here, best = self.open[some], self.match[some].clone()
            wanted = self._patches(here, sparse=True)
            distance = _distance(self._patches(best, sparse=True), wanted)
            row, column = best // self.width, best % self.width
            others = self._moved_along(match, here)
            others += [self._at(row + step[0, some], column + step[1, some]) for step in steps]
            for other in others:
                worth = (self._is_known(other) & (other != best)).nonzero()[:, 0]
                found = _distance(self._patches(other[worth], sparse=True), wanted[worth])
                better = found < distance[worth]
                worth = worth[better]
                best[worth], distance[worth] = other[worth], found[better]
            self.match[some], self.distance[some] = best, distance
            tick()

    def vote(self) -> None:
        """Make every pixel of the hole the mean of what the matches of the patches over it say, weighted by fit."""
        self.pixels[self.in_hole] = _packed(self._said(self.place, len(self.in_hole)).T[..., None])

    def blend(self, area: Window) -> None:
        """Let the fill run into what is known: what is said of the known pixels at its border is a little wrong.

        By so much, at most BLEND, the hole is corrected, smoothly from the border inwards, as in a membrane (Perez,
        Gangnet and Blake 2003, Poisson Image Editing, https://doi.org/10.1145/882262.882269). Where it is more than
        ELSE, something else begins at the border, and nothing follows for the fill. area: around the hole.
        """
        shape = self.height, self.width
        hole = (self.place != len(self.in_hole)).view(shape)
        border = (dilate(hole, 1) & ~hole).flatten().nonzero()[:, 0]
        place = torch.full_like(self.place, len(border))
        place[border] = torch.arange(len(border), dtype=torch.int32)
        wrong = _colours(self.pixels[border])[:, :3] - self._said(place, len(border))  # nan where nothing is said
        little = (wrong.abs() <= ELSE).all(1)
        values = torch.zeros(*shape, 3, dtype=torch.float16)
        values.view(-1, 3)[border[little]] = wrong[little].clamp(-BLEND, BLEND).half()
        unknown = torch.ones(shape)
        unknown.view(-1)[border[little]] = 0
        some = np.s_[area.top : area.bottom, area.left : area.right]
        inside, pixels = hole[some], self.pixels.view(shape)[some]
        fill = _colours(pixels[inside])[:, :3]
        for channel in range(3):  # one after the other, for memory
            spread = smooth_fill(values[some][None, None, ..., channel].float(), unknown[some][None, None])
            fill[:, channel] += spread[0, 0, inside]
        pixels[inside] = _packed(fill.clamp(-1, 1).T[..., None])

    def _said(self, place: Tensor, count: int) -> Tensor:
        """What the matches say of some pixels, (count, 3); place: (H * W,), where each stands, or `count`."""
        sample = self.distance[:: max(1, len(self.distance) // MOST)].sort().values
        usual = sample[3 * len(sample) // 4].clamp(min=1e-4)
        weight = (torch.exp(-self.distance / (SPREAD * usual)).clamp(min=1e-6) * self.trust)[:, None]
        total = torch.zeros(count + 1, 4)
        for offset in self._offsets(1).tolist():
            for some in self._chunks():
                value = _colours(self.pixels[self.match[some] + offset])
                value[:, 3] = 1
                where = place[self.open[some] + offset].long()  # each once, but for `count`, where nobody looks
                total[where] += value * weight[some]
        return total[:-1, :3] / total[:-1, 3:]

    def _add_noise(self, deviation: float, generator: torch.Generator) -> None:
        """To the hole, in brightness."""
        values = _colours(self.pixels[self.in_hole])[:, :3]
        values += deviation * torch.randn((len(values), 1), generator=generator)
        self.pixels[self.in_hole] = _packed(values.T[..., None])

    def _compare(self, known: Tensor, theirs: Tensor) -> None:
        """Find the best match of each patch among these, (K,), by comparing all; theirs: (K, 49 * 4), their pixels.

        Rows count as one more value of a patch: in photographs sky is above and ground below, and what is at the same
        height is alike.
        """
        weight = float(ROWS * self.distance.median()) ** 0.5 / self.height  # 0 in the first round

        def with_row(patches: Tensor, middles: Tensor) -> Tensor:
            return torch.cat([patches, weight * (middles // self.width)[:, None]], 1)

        theirs = with_row(theirs, known)
        half = (theirs.square().sum(1) + self._overuse(known)) / 2
        for start in range(0, len(self.open), MOST):
            some = np.s_[start : start + MOST]
            ours = with_row(self._patches(self.open[some]), self.open[some])
            least, which = torch.addmm(half, ours, theirs.T, alpha=-1).min(1)
            self.match[some] = known[which]
            self.distance[some] = (2 * least + ours.square().sum(1)).clamp(min=0)

    def _cohere(self) -> None:
        """Take the match of a neighbour, moved along, where it is not much worse: whole pieces are copied.

        What is copied patch by patch repeats itself in a lattice (Hertzmann et al. 2001, Image Analogies, section 3.2,
        https://doi.org/10.1145/383259.383295).
        """
        match = torch.full((self.height * self.width,), -1, dtype=torch.int32)
        match[self.open] = self.match.int()
        for some in self._chunks():
            here, best = self.open[some], self.match[some].clone()
            wanted, least = self._patches(here), HANGS_TOGETHER * self.distance[some]
            for other in self._moved_along(match, here):
                worth = self._is_known(other).nonzero()[:, 0]
                found = _distance(self._patches(other[worth]), wanted[worth])
                better = found <= least[worth]
                worth = worth[better]
                best[worth], least[worth] = other[worth], found[better]
            self.distance[some] = torch.where(best == self.match[some], self.distance[some], least)
            self.match[some] = best

    def _moved_along(self, match: Tensor, here: Tensor) -> list[Tensor]:
        """What is beside the matches of four neighbours as these patches are beside them; match: (H * W,), or -1."""
        return [match[here + step].long() - step for step in (1, -1, self.width, -self.width)]

    def _overuse(self, known: Tensor) -> Tensor:
        """What is added to the distance of these patches, for being taken more often than others: (K,).

        Without it a flat patch is taken for all of a grey place, and its grain becomes a lattice (Kaspar et al. 2015,
        Self Tuning Texture Optimization, section 3.2, https://doi.org/10.1111/cgf.12565).
        """
        if int(self.match[0]) < 0:  # none is taken yet
            return torch.zeros(len(known))
        uses = torch.bincount(self.match, minlength=len(self.known)).float().view(1, 1, self.height, self.width)
        self.uses = (self.uses + F.avg_pool2d(uses, 3, 1, 1).flatten()) / 2  # neighbours show almost the same
        fair = max(len(self.open) / len(known), LEAST_FAIR)
        return OVERUSE * self.distance.median() * (self.uses[known] / fair - 1).clamp(min=0)

    def _patches(self, middles: Tensor, *, sparse: bool = False) -> Tensor:
        """The pixels of patches, (N, K); of sparse ones nine: corners, middles of sides, and the middle itself."""
        offsets = self._offsets(self.radius if sparse else 1)
        return _colours(self.pixels[middles[:, None] + offsets]).flatten(1)

    def _offsets(self, step: int) -> Tensor:
        along = torch.arange(-self.radius, self.radius + 1, step)
        return (along[:, None] * self.width + along).flatten()

    def _chunks(self) -> Iterator[slice]:
        return (np.s_[start : start + CHUNK] for start in range(0, len(self.open), CHUNK))

    def _some_known(self, most: int, generator: torch.Generator) -> Tensor:
        known = self.known.nonzero()[:, 0]
        if len(known) <= most:
            return known
        return known[torch.randint(len(known), (most,), generator=generator).sort().values]

    def _is_known(self, middles: Tensor) -> Tensor:
        inside = (middles >= 0) & (middles < len(self.known))
        return self.known[middles.clamp(0, len(self.known) - 1)].logical_and(inside)

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        """Pixels by row and column; -1 beyond the borders."""
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        return torch.where(inside, row * self.width + column, -1)


def _whole_patches(hole: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Of the patches that lie in the area as a whole, those with a pixel of the hole and those without: (H, W)."""
    inside = torch.zeros_like(hole)
    inside[radius : hole.shape[0] - radius, radius : hole.shape[1] - radius] = True
    touched = dilate(hole, radius)
    return touched & inside, ~touched & inside


def _packed(x: Tensor) -> Tensor:
    """Colours (3, H, W) as whole numbers (H * W,), four halves each: one access to memory gets all."""
    rows = torch.zeros(x.shape[1] * x.shape[2], 4, dtype=torch.float16)
    rows[:, :3] = x.reshape(3, -1).T
    return rows.view(torch.int64)[:, 0]


def _colours(pixels: Tensor) -> Tensor:
    """The same as (..., 4) float32, of which the last is 0."""
    return pixels[..., None].view(torch.float16).float()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square_().sum(1)


def _of(x: Tensor, area: Window, other: Window) -> Tensor:
    """The part of a tensor (1, 3, h, w) of one area that lies in another area as well; a view."""
    common = area.cut(other).seen_from(area)
    return x[..., common.top : common.bottom, common.left : common.right]
