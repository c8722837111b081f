"""Patches of a picture that stand for each other: matching, voting, and from one level to the next finer one.

The machinery behind `exemplars`: each patch in and around a hole has a match among those that are known as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.components import Hole
from pixmend.packed import colours, gathered, packed
from pixmend.soft_masks import dilate
from pixmend.windows import Window

REACH = (4, 1)  # pixels: how far beside its match a better one is looked for, by chance
FAR = (64, 16, *REACH)  # the same where all are too many pairs
COMPARED = 1 << 25  # pairs of patches that are all compared, at most
MOST = 8192  # known patches that are compared with all others
LEAST = 1024  # the same where no first match is known, and more would be too many pairs
SPREAD = 0.5  # a match worse than a perfect one by this share of the usual distance has its weight divided by e
TRUST = 0.02  # weight of a patch of which nothing is known; one that is known as a whole has 1 more
LOST = 0.6  # of its detail a fill is taken to have lost: it is a mean of many patches, or a smooth sketch
OVERUSE = 0.1  # added to a distance for each use of a patch beyond its fair number: this times the usual distance
LEAST_FAIR = 0.3  # times; a hole is often smaller than what is known
ROWS = 8  # added to a distance: this times the usual one, times (rows between patch and match / height) squared
WORSE = 0.5  # what goes on as a neighbour's match does may be worse than the best by this share of its distance
CHUNK = 1 << 14  # patches that are looked at at once, for memory
PAIRS = 1 << 20  # pairs of them that are compared at once
BLOCK = 64  # known patches of which the best is found at once
AXES = 32  # along which patches are compared: 16 give fills that are a little softer
LAST = 2  # times that matches are made to hang together at the end
AGREES = 0.2  # of [-1, 1]: a vote this far from the mean has its weight divided by e, in the last round
DIRECTIONS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x)

Tick = Callable[[], None]  # what it raises ends the work


class Patches:
    """The patches of one level, named by their middles: pixels counted along the rows of its area."""

    def __init__(self, x: Tensor, hole: Hole, radius: int, tick: Tick = lambda: None) -> None:
        """x: (3, H, W) in [-1, 1], or `fixed`, with a first fill; hole: (H, W). tick: called as work goes on."""
        self.tick = tick
        self.height, self.width, self.radius = int(hole.shape[0]), int(hole.shape[1]), radius
        self.pixels = packed(x)
        self.hole = torch.from_numpy(hole).contiguous()  # often a part of a picture's
        self.in_hole = self.hole.flatten().nonzero()[:, 0]  # (M,)
        open_, known = whole_patches(self.hole, radius)
        self.open = open_.flatten().nonzero()[:, 0]  # (N,), the patches with a pixel of the hole
        self.known = known.flatten()  # (H * W,), whether a patch is known as a whole
        self.filled = torch.empty(len(self.open))  # (N,), how much of each is hole
        for some in self._chunks():
            self.filled[some] = gathered(self.hole.flatten(), self.open[some, None] + self._offsets(1)).float().mean(1)
        self.match = torch.full_like(self.open, -1)  # (N,), the known patch that stands for each
        self.uses = torch.zeros(0)  # (H * W,), how often patches were taken of late, while matches settle
        self.distance = torch.zeros(len(self.open))  # (N,), how far the match is: as the last search counted it

    def image(self, area: Window) -> Tensor:
        """What is in an area, (1, 3, h, w)."""
        some = self.pixels.view(self.height, self.width)[area.top : area.bottom, area.left : area.right]
        return colours(some)[..., :3].permute(2, 0, 1)[None].clamp(-1, 1)

    def settle(self, rounds: int, noise: float, generator: torch.Generator) -> None:
        """Match and vote in turns, from the fill that is there with noise; matches are looked for everywhere.

        At first among as many known patches as can be compared with all that are open (LEAST can, or no mosaic is
        planned). Later among MOST, or all if there are fewer; where that is too many pairs, better matches are looked
        for by chance.
        """
        is_first = int(self.match[0]) < 0
        some = COMPARED // len(self.open)
        known = self._some_known(max(LEAST, min(some, MOST)) if is_first else MOST, generator)
        if is_first or len(known) <= some:
            among, self.uses = Candidates(known, self._patches(known)), torch.zeros(len(self.known))
            for k in range(rounds):
                self._add_noise(noise * (1 - (k + 1) / rounds), generator)
                self._compare(among)
                self._cohere()
                self.vote()
            self.uses = torch.zeros(0)
            return
        for _ in range(max(1, rounds // 4)):  # each looks at eight candidates, one after the other
            self.improve(FAR, generator)
            self._cohere(sparse=True)
            self.vote()

    def doubled(self, x: Tensor, hole: Hole, radius: int, generator: torch.Generator) -> Patches:
        """The next finer level, x (3, H, W) and hole (H, W), filled by the matches of this one."""
        finer = Patches(x, hole, radius, self.tick)
        match = torch.full((self.height * self.width,), -1)
        match[self.open] = self.match
        edge = self.radius  # middles of whole patches lie so far from the borders
        for some in finer._chunks():
            row, column = finer.open[some] // finer.width, finer.open[some] % finer.width
            upper = (row // 2).clamp(edge, self.height - 1 - edge), (column // 2).clamp(edge, self.width - 1 - edge)
            found = match[upper[0] * self.width + upper[1]]
            down, right = found // self.width - upper[0], found % self.width - upper[1]
            finer.match[some] = torch.where(found < 0, -1, finer._at(row + 2 * down, column + 2 * right))
        row, column = finer.in_hole // finer.width, finer.in_hole % finer.width
        upper = (row // 2).clamp(max=self.height - 1), (column // 2).clamp(max=self.width - 1)
        finer.pixels[finer.in_hole] = self.pixels[upper[0] * self.width + upper[1]]  # to choose by, until the vote
        finer._match_what_is_new((~finer._is_known(finer.match)).nonzero()[:, 0], generator)
        finer.vote()
        return finer

    def _match_what_is_new(self, new: Tensor, generator: torch.Generator) -> None:
        """Match patches that the coarser level had no match for, by their numbers among the open ones, (N,).

        Those at the rim of a hole, and all over a part of it so narrow that the coarser level did not have it: there
        what is near is alike, and what stands for the rest of the hole need not be.
        """
        known = self._some_known(MOST, generator)
        self.match[new] = known[torch.randint(len(known), new.shape, generator=generator)]
        near = 2 * self.radius + 2  # beyond the hole, where that is so narrow
        steps = [(y * far, x * far) for far in (near, 2 * near) for y, x in DIRECTIONS]
        for start in range(0, len(new), CHUNK):
            some = new[start : start + CHUNK]
            row, column = self.open[some] // self.width, self.open[some] % self.width
            self._choose(some, [self._at(row + y, column + x) for y, x in steps], sparse=True)
            self.tick()

    def improve(self, reach: Sequence[int], generator: torch.Generator) -> None:
        """Take better matches than those that are there: a neighbour's, moved along, or one beside it, by chance."""
        match = torch.full((self.height * self.width,), -1, dtype=torch.int32)
        match[self.open] = self.match.int()
        shape = 2, len(self.open)
        steps = [torch.randint(-far, far + 1, shape, generator=generator, dtype=torch.int8) for far in reach]
        for some in self._chunks():
            row, column = self.match[some] // self.width, self.match[some] % self.width
            others = self._moved_along(match, self.open[some])
            others += [self._at(row + step[0, some], column + step[1, some]) for step in steps]
            self._choose(some, others, sparse=True)

    def vote(self) -> None:
        """Make every pixel of the hole the mean of what the matches of the patches over it say, weighted by fit."""
        self._take(self.said(self.in_hole))

    def sharpen(self) -> None:
        """The last votes: matches that hang together, and of what they say not the mean, but what most say."""
        for _ in range(LAST):
            self._cohere(sparse=True)
            self.vote()
        self._take(self.said(self.in_hole, colours(self.pixels[self.in_hole])))

    def _take(self, fill: Tensor) -> None:
        """Put colours (M, 3) into the hole."""
        self.pixels[self.in_hole] = packed(fill.T[..., None])

    def said(self, pixels: Tensor, near: Tensor | None = None) -> Tensor:
        """What the matches of the patches over some pixels, (K,), say of them: their votes, (K, 3).

        near: (K, 4), the mean of that, and a 1; what is far from it counts less, and what comes of it is nearer to what
        most say. That is one step of mean shift (Wexler, Shechtman and Irani 2007, as in `exemplars`).
        """
        sample = self.distance[:: max(1, len(self.distance) // MOST)].sort().values
        usual = sample[3 * len(sample) // 4].clamp(min=1e-4)
        # Rows run on: a middle beyond a border is one of another row, or of one more above or below, where no patch is.
        beyond = (self.radius + 1) * self.width
        match = torch.full((self.height * self.width + 2 * beyond,), int(self.match[0]), dtype=torch.int32)
        match[self.open + beyond] = self.match.int()
        fit = torch.exp(-self.distance / (SPREAD * usual)).clamp(min=1e-6) * (1 + TRUST - self.filled)
        weight = torch.zeros(len(match))
        weight[self.open + beyond] = fit
        said, offsets = torch.empty(len(pixels), 3), self._offsets(1)[:, None]
        for start in range(0, len(pixels), CHUNK // 8):  # of each all patches over it, which are many more
            some = np.s_[start : start + CHUNK // 8]
            middles = pixels[some] + (beyond - offsets)
            value, counts = (
                colours(gathered(self.pixels, gathered(match, middles) + offsets)),
                gathered(weight, middles),
            )
            if near is not None:
                far = (value - near[some]).square_().sum(2)
                counts = counts * torch.exp(-far / AGREES**2).clamp_(min=1e-4)
            total = _sum(value.mul_(counts[..., None]))
            said[some] = total[:, :3] / total[:, 3:]
            self.tick()
        return said

    def _add_noise(self, deviation: float, generator: torch.Generator) -> None:
        """To the hole, in brightness."""
        values = colours(self.pixels[self.in_hole])[:, :3]
        values += deviation * torch.randn((len(values), 1), generator=generator)
        self.pixels[self.in_hole] = packed(values.T[..., None])

    def _compare(self, among: Candidates) -> None:
        """Find the best match of each patch among these, by comparing all along their main axes.

        Of distances |a - b|^2 = |a|^2 + |b|^2 - 2ab, counted from the
        mean patch, only ab is taken along the axes: a patch with detail beyond them is not nearer for it.

        Rows count as one more value of a patch: in photographs sky is above and ground below, and what is at the same
        height is alike. Detail that a fill has lost is no difference: else flat patches would fit a smooth fill best,
        which would be the smoother for it.
        """
        weight = float(ROWS * self.distance.median()) ** 0.5 / self.height  # 0 in the first round
        row = weight * (among.middles // self.width)
        half = (among.far + row.square() + self._overuse(among.middles)) / 2
        values = torch.cat([among.along, row[:, None], LOST * among.detail[:, None] / 2], 1).T
        padding = 0, -len(row) % BLOCK
        half, values = F.pad(half, padding, value=torch.inf), F.pad(values, padding)
        rows = max(1, PAIRS // len(row))
        for start in range(0, len(self.open), rows):
            some = np.s_[start : start + rows]
            here = self.open[some]
            ours = self._patches(here)
            wanted = torch.cat([among.places(ours), weight * (here // self.width)[:, None], self.filled[some, None]], 1)
            which = _argmin(torch.addmm(half, wanted, values, alpha=-1))
            self.match[some], self.distance[some] = among.middles[which], _distance(among.pixels[which], ours)
            self.tick()

    def _cohere(self, *, sparse: bool = False) -> None:
        """Take the match of a neighbour, moved along, where it is not much worse: whole pieces are copied.

        What is copied patch by patch repeats itself in a lattice (Hertzmann et al. 2001, Image Analogies, section 3.2,
        https://doi.org/10.1145/383259.383295).
        """
        match = torch.full((self.height * self.width,), -1, dtype=torch.int32)
        match[self.open] = self.match.int()
        for some in self._chunks():
            others = self._moved_along(match, self.open[some])
            self._choose(some, others, sparse=sparse, worse=WORSE)

    def _choose(self, some: slice | Tensor, others: Sequence[Tensor], *, sparse: bool, worse: float = 0.0) -> None:
        """Take of other matches of some patches, one after the other, each that fits better than what is there.

        Or, where `worse` is given, as well or not much worse: by such a part of the distance of the first ones.
        """
        wanted, detail_lost = self._patches(self.open[some], sparse=sparse), LOST * self.filled[some]

        def fit(match: Tensor, which: Tensor | slice) -> tuple[Tensor, Tensor]:
            theirs = self._patches(match, sparse=sparse)
            distance = _distance(theirs, wanted[which])
            return distance, distance - detail_lost[which] * _detail(theirs)

        best = self.match[some].clone()
        distance, cost = fit(best, np.s_[:])
        limit = cost + worse * distance
        for other in others:
            is_same = other == best
            limit = torch.where(is_same, cost, limit)
            worth = (self._is_known(other) & ~is_same).nonzero()[:, 0]
            found, its_cost = fit(other[worth], worth)
            better = its_cost <= limit[worth] if worse else its_cost < limit[worth]  # chance must not win a tie
            worth, its_cost = worth[better], its_cost[better]
            best[worth], distance[worth], cost[worth], limit[worth] = other[worth], found[better], its_cost, its_cost
        self.match[some], self.distance[some] = best, distance

    def _moved_along(self, match: Tensor, here: Tensor) -> list[Tensor]:
        """What is beside the matches of four neighbours as these patches are beside them; match: (H * W,), or -1."""
        return [gathered(match, here + step).long() - step for step in (1, -1, self.width, -self.width)]

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
        return colours(gathered(self.pixels, middles[:, None] + offsets)).flatten(1)

    def _offsets(self, step: int) -> Tensor:
        along = torch.arange(-self.radius, self.radius + 1, step)
        return (along[:, None] * self.width + along).flatten()

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.open), CHUNK):
            yield np.s_[start : start + CHUNK]
            self.tick()

    def _some_known(self, most: int, generator: torch.Generator) -> Tensor:
        known = self.known.nonzero()[:, 0]
        if len(known) <= most:
            return known
        return known[torch.randperm(len(known), generator=generator)[:most].sort().values]

    def _is_known(self, middles: Tensor) -> Tensor:
        inside = (middles >= 0) & (middles < len(self.known))
        return gathered(self.known, middles.clamp(0, len(self.known) - 1)).logical_and(inside)

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        """Pixels by row and column; -1 beyond the borders."""
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        return torch.where(inside, row * self.width + column, -1)


def whole_patches(hole: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Of the patches that lie in the area as a whole, those with a pixel of the hole and those without: (H, W)."""
    inside = torch.zeros_like(hole)
    inside[radius : hole.shape[0] - radius, radius : hole.shape[1] - radius] = True
    touched = dilate(hole, radius)
    return touched & inside, ~touched & inside


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square_().sum(1)


def _sum(x: Tensor) -> Tensor:
    """As x.sum(0), but however much is summed at once, each sum is the same bit for bit; x is lost."""
    while len(x) > 1:
        half = len(x) // 2
        x[:half] += x[-half:]
        x = x[: len(x) - half]
    return x[0]


def _detail(patches: Tensor) -> Tensor:
    """How far patches (N, K) are from flat ones of their mean colours: the distance, (N,)."""
    colours = patches.view(len(patches), patches.shape[1] // 4, 4)
    return patches.square().sum(1) - colours.sum(1).square_().sum(1) / colours.shape[1]


class Candidates:
    """Known patches that all others are compared with, round after round."""

    def __init__(self, middles: Tensor, pixels: Tensor, axes: Tensor | None = None) -> None:
        """middles: (K,); pixels: (K, 196) of them; axes: (196, D), along which they are compared, or the main ones."""
        self.middles, self.pixels = middles, pixels
        self.mean, self.axes = pixels.mean(0), _main_axes(pixels) if axes is None else axes
        self.along = self.places(pixels)  # (K, D)
        self.far = (pixels - self.mean).square().sum(1)  # (K,), from the mean patch
        self.detail = _detail(pixels)  # (K,)

    def places(self, pixels: Tensor) -> Tensor:
        """Where patches (N, 196) lie along the main axes, (N, D)."""
        return (pixels - self.mean) @ self.axes


def _main_axes(patches: Tensor) -> Tensor:
    """Those along which patches (N, 196) differ most, (196, D): a photograph's differ along few, the rest is grain."""
    away = patches - patches.mean(0)
    axes: Tensor = torch.linalg.eigh(away.T @ away).eigenvectors  # by growing eigenvalue
    return axes[:, -AXES:]


def _argmin(x: Tensor) -> Tensor:
    """As x.argmin(1), of rows in whole blocks; four times as fast, as least values are found without their places."""
    blocks = x.view(len(x), -1, BLOCK)
    block = blocks.amin(2).argmin(1)
    return block * BLOCK + blocks[torch.arange(len(x)), block].argmin(1)
