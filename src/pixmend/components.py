"""Connected parts of a binary picture, and what shape each of them has. Plain NumPy, no loop over pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hole = NDArray[np.bool_]  # (H, W), true = to be filled, or part of what is looked for
Doubles = NDArray[np.float64]
Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Components:
    """The parts of a binary picture whose pixels touch each other, be it by a corner."""

    rows: Numbers  # of all pixels that are set, in reading order
    columns: Numbers
    part: Numbers  # the number of each pixel's part, 0 to len - 1
    area: Doubles  # pixels
    length: Doubles  # of the straight bar that has the same second moments along its axis, in pixels

    def __len__(self) -> int:
        return len(self.area)

    @property
    def width(self) -> Doubles:
        """The mean width across the length, in pixels; of a part that winds, how much room it takes."""
        return self.area / self.length

    def highest(self, values: NDArray[np.float32]) -> Doubles:
        """The largest of a picture's values (H, W) in each part."""
        found = np.full(len(self), -np.inf)
        np.maximum.at(found, self.part, values[self.rows, self.columns])
        return found

    def drawn(self, chosen: NDArray[np.bool_], shape: tuple[int, int]) -> Hole:
        """The chosen parts alone as a binary picture (H, W)."""
        picture = np.zeros(shape, np.bool_)
        kept = chosen[self.part]
        picture[self.rows[kept], self.columns[kept]] = True
        return picture


def grown(hole: Hole) -> Hole:
    """A hole (H, W) and the pixels beside it."""
    edged = np.pad(hole, 1)
    height, width = hole.shape
    found = np.zeros_like(hole)
    for y in range(3):
        for x in range(3):
            found |= edged[y : y + height, x : x + width]
    return found


def reached(hole: Hole, reach: int) -> Hole:
    """A hole (H, W) and all pixels at most `reach` away from it, a diagonal step counting as one; any reach."""
    for axis in (0, 1):
        edges = [(reach + 1, reach) if axis == i else (0, 0) for i in (0, 1)]
        sums = np.moveaxis(np.pad(hole, edges).cumsum(axis, dtype=np.int32), axis, 0)
        hole = np.moveaxis(sums[2 * reach + 1 :] > sums[: -2 * reach - 1], 0, axis)
    return hole


def connected(picture: Hole) -> Components:
    """The connected parts of a binary picture (H, W), by runs of pixels in a row that touch runs of the row above."""
    rows, columns = np.nonzero(picture)
    width = picture.shape[1] + 1  # so that the end of a row and the beginning of the next do not touch
    places = rows * width + columns
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)  # of each run, in `places`
    if not len(begins):
        nothing = np.empty(0)
        return Components(rows, columns, rows, nothing, nothing)
    first, last = places[begins], places[np.append(begins[1:], len(places)) - 1]
    label = _joined(*_touching(first, last, width), len(first))
    run = np.repeat(np.arange(len(first)), np.diff(np.append(begins, len(places))))
    part = np.unique(label, return_inverse=True)[1][run]
    area = np.bincount(part).astype(np.float64)
    return Components(rows, columns, part, area, _lengths(rows, columns, part, area))


def _touching(first: Numbers, last: Numbers, width: int) -> tuple[Numbers, Numbers]:
    """The pairs of runs that touch: each run with those in the row above, from a column before it to a column after.

    The runs are sorted, so those are an interval: from the first that ends late enough to the last that begins early.
    """
    low = np.searchsorted(last, first - width - 1, "left")
    high = np.searchsorted(first, last - width + 1, "right")
    count = np.maximum(high - low, 0)
    below = np.repeat(np.arange(len(first)), count)
    above = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    return below, above


def _joined(a: Numbers, b: Numbers, count: int) -> Numbers:
    """For each of `count` nodes the smallest node that it is joined with through the edges a - b.

    Shiloach and Vishkin 1982, "An O(log n) parallel connectivity algorithm": roots are hooked to smaller ones and
    paths halved, all at once, until nothing changes.
    """
    parent = np.arange(count)
    while True:
        low, high = np.minimum(parent[a], parent[b]), np.maximum(parent[a], parent[b])
        apart = low != high
        if not apart.any():
            return parent
        np.minimum.at(parent, high[apart], low[apart])
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]


def _lengths(rows: Numbers, columns: Numbers, part: Numbers, area: Doubles) -> Doubles:
    """The lengths of all parts from the larger eigenvalues of their second moments; one pixel is 1 long."""

    def mean(values: Doubles) -> Doubles:
        return np.bincount(part, values) / area

    y, x = rows - mean(rows.astype(np.float64))[part], columns - mean(columns.astype(np.float64))[part]
    yy, xx, xy = mean(y * y), mean(x * x), mean(x * y)
    largest = (yy + xx) / 2 + np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    length: Doubles = np.sqrt(12 * largest + 1)  # a bar of n pixels has the variance (n^2 - 1) / 12
    return length
