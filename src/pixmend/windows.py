"""Where to work: holes that lie together share a window, and no two windows touch.

All is measured in multiples of the network's size S. A hole is halved until the network can see across it; then its
window is one tile where the hole leaves a margin in it, and otherwise the hole with context around, both times the
halvings. Windows are moved inside the picture at its borders, and merged where they touch: no fill is overwritten by
another, and a mask of stripes is one window.

The words for rectangles, here and where they are filled: a box bounds a hole; a window is what is looked at while the
hole is filled; a part is a box with its window; a level is the window at one resolution, and its area what is worked on
there; a block is a piece of a very large level; a tile is one input of the network; a cell of a coarse grid serves to
group holes, here alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmend.components import Hole, connected

WIDEST = 0.25  # of S: how wide a hole may be at the level where it is filled first
NARROW, DEEPEST = 1.4, 5  # pixels from what is known, on average and at most: so far a hole is narrow
AROUND = 16  # pixels up, down, left and right: where that average is taken
BAND_ROWS = 512  # that are looked at together
SOLID = 0.5  # of a soft mask: from here on a pixel is not known to what is planned around it
MARGIN = 0.125  # of S: how much known picture a hole must leave on each side to be filled in one tile
CONTEXT = 0.5  # of S: how much known picture stands around a hole that is larger


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels, of a picture or of another rectangle."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.bottom - self.top, self.right - self.left

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of this part of an array (H, W, ...)."""
        return array[self.top : self.bottom, self.left : self.right]

    def hull(self, other: Window) -> Window:
        """The smallest window around both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return Window(top, left, max(self.bottom, other.bottom), max(self.right, other.right))

    def grown(self, pixels: int) -> Window:
        """This window and so many pixels all around."""
        return Window(self.top - pixels, self.left - pixels, self.bottom + pixels, self.right + pixels)

    def cut(self, outer: Window) -> Window:
        """What of this window lies in another, both in the same pixels."""
        top, left = max(self.top, outer.top), max(self.left, outer.left)
        return Window(top, left, min(self.bottom, outer.bottom), min(self.right, outer.right))

    def halved(self) -> Window:
        """The pixels of the next coarser level that cover these."""
        return Window(self.top // 2, self.left // 2, -(-self.bottom // 2), -(-self.right // 2))

    def enlarged(self, factor: int) -> Window:
        """These pixels at a level that is finer by a factor."""
        return Window(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)

    def seen_from(self, outer: Window) -> Window:
        """This window in pixels of another one's own, both given in the same."""
        return Window(self.top - outer.top, self.left - outer.left, self.bottom - outer.top, self.right - outer.left)

    def within(self, outer: Window) -> Window:
        """This window of `outer`, in the pixels that `outer` is given in; cut where outer ends."""
        top, left = outer.top + self.top, outer.left + self.left
        return Window(top, left, outer.top + self.bottom, outer.left + self.right).cut(outer)


@dataclass(frozen=True)
class Part:
    """Holes that are filled together."""

    box: Window  # the holes' bounding box, in pixels of the picture
    window: Window  # what is seen of the picture while they are filled
    halvings: int  # until the network can see across them
    narrow: bool = False  # whether they are filled by what a model has for narrow holes
    faint: bool = False  # whether all of them is less hole than not, by a soft mask


def find_parts(touched: Hole, size: int, solid: Hole | None = None) -> list[Part]:
    """The windows to work in, from top to bottom: disjoint, inside the picture, and covering all that is touched.

    size: S, the side of the network's pictures, in pixels. solid: what of it has to be seen across, where a soft edge
    is touched as well; by default all. Parts without any of it are faint.
    """
    solid = touched if solid is None else solid
    cell = max(1, round(CONTEXT * size))  # holes in neighbouring cells have windows that touch
    cells = _any_of_blocks(touched, cell)
    most = _halvings_to_one_tile(touched.shape, size)
    found = [
        (box, count_halvings(_with_edge(solid if box.of(solid).any() else touched, box), size, most))
        for box in _boxes(touched, cells, cell)
    ]
    while True:
        parts = [Part(box, window_around(box, touched.shape, size, halvings), halvings) for box, halvings in found]
        joined = _joined(parts)
        if len(joined) == len(parts):
            parts = [replace(part, faint=not part.box.of(solid).any()) for part in parts]
            return sorted(parts, key=lambda part: (part.window.top, part.window.left))
        found = joined


def count_halvings(hole: Hole, size: int, most: int = 64) -> int:
    """How often a hole is halved until no square wider than WIDEST of `size` fits into it; beyond the edges is hole.

    What counts is what has no known pixel, which is a little less than the hole of a level. Where known pixels stand
    alone it is far less, for they are gone at the next level: if a whole tile then knows nothing, the hole of that
    level counts. But never may three quarters of all that is known be lost: too little would be left to begin with.
    """
    empty, known = hole, np.mean(~hole)
    for halvings in range(most):
        if not is_wide(empty, size):
            if empty is hole or not holds_square(hole, size // 2):
                return halvings
            empty = hole
        coarser = halved_hole(hole)
        if 4 * np.mean(~coarser) < known:
            return halvings
        hole, empty = coarser, _halved(empty)[0]
    return most


def halved_hole(hole: Hole) -> Hole:
    """The next coarser level of a hole: where less than half of the four pixels is known. Half sizes are rounded up."""
    return _halved(hole)[1]


def _halved(hole: Hole) -> tuple[Hole, Hole]:
    """Where all of four pixels are hole, and where three at least are; beyond the edges the picture is repeated."""
    hole = np.pad(hole, [(0, side % 2) for side in hole.shape], mode="edge")
    two, one = hole[::2] & hole[1::2], hole[::2] | hole[1::2]  # at least, of the upper and the lower
    four = two[:, ::2] & two[:, 1::2]
    return four, (two[:, ::2] & one[:, 1::2]) | (one[:, ::2] & two[:, 1::2])


def is_wide(hole: Hole, size: int) -> bool:
    """Whether a square wider than WIDEST of `size` fits into a hole; beyond the edges is hole."""
    return holds_square(hole, int(WIDEST * size) // 2)


def window_around(box: Window, shape: tuple[int, ...], size: int, halvings: int = 0) -> Window:
    """The window of a hole's bounding box in a picture of this shape: one tile, or the hole with its context."""
    top, bottom = _span(box.top, box.bottom, shape[0], size, halvings)
    left, right = _span(box.left, box.right, shape[1], size, halvings)
    return Window(top, left, bottom, right)


def bounding_box(hole: Hole) -> Window | None:
    """The smallest window that holds all of a hole; None where there is none."""
    rows = np.flatnonzero(hole.any(1))
    if not len(rows):
        return None
    columns = np.flatnonzero(hole[rows[0] : rows[-1] + 1].any(0))
    return Window(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _span(first: int, end: int, length: int, size: int, halvings: int) -> tuple[int, int]:
    """Along one side: one tile or the hole with its context, the hole in the middle, then moved inside the picture."""
    side = end - first
    if side + 2 * round(MARGIN * size) * 2**halvings <= size * 2**halvings:
        wanted = size * 2**halvings
    else:
        wanted = side + 2 * round(CONTEXT * size) * 2**halvings
    wanted = min(wanted, length)
    first = min(max(0, first - (wanted - side) // 2), length - wanted)
    return first, first + wanted


def _halvings_to_one_tile(shape: tuple[int, ...], size: int) -> int:
    """How often a picture is halved until the network sees all of it at once: no hole needs more."""
    return max(0, math.ceil(math.log2(max(shape) / size)))


def _with_edge(touched: Hole, box: Window) -> Hole:
    """The hole in its bounding box, and one pixel around it where the picture goes on."""
    return touched[max(0, box.top - 1) : box.bottom + 1, max(0, box.left - 1) : box.right + 1]


def narrow_pixels(hole: Hole, never: Hole | None = None) -> Hole:
    """Where a hole is narrow: within NARROW pixels of what is known on average around there, nowhere beyond DEEPEST.

    Around there is the square of side 2 AROUND + 1. never: (H, W), the hole that counts as wide, whatever its width.
    Beyond the edges is hole.
    """
    narrow, reach = np.zeros_like(hole), AROUND + DEEPEST + 1
    box = bounding_box(hole)
    if box is None:
        return narrow
    near = box.grown(reach).cut(Window(0, 0, *hole.shape))
    for top in range(box.top, box.bottom, BAND_ROWS):  # in bands: sums take many times as much memory as holes do
        band = Window(top, box.left, min(top + BAND_ROWS, box.bottom), box.right)
        seen = band.grown(reach).cut(near)
        found = _narrow_pixels(seen.of(hole), None if never is None else seen.of(never))
        band.of(narrow)[:] = band.seen_from(seen).of(found)
    return narrow


def _narrow_pixels(hole: Hole, never: Hole | None) -> Hole:
    depth, further = np.zeros(hole.shape, np.uint8), hole
    for _ in range(DEEPEST + 1):
        depth += further
        further = np.pad(further, 1, constant_values=True)
        further = further[:-2] & further[1:-1] & further[2:]
        further = further[:, :-2] & further[:, 1:-1] & further[:, 2:]
    wide = depth > DEEPEST
    if never is not None:
        wide |= never
    near = 10 * _sum_around(depth) <= int(10 * NARROW) * _sum_around(hole)
    narrow: Hole = hole & near & (_sum_around(wide) == 0)
    return narrow


def _sum_around(values: NDArray[Any]) -> NDArray[np.int32]:
    """The sum over the square of side 2 AROUND + 1 about each pixel, zeros beyond the edges."""
    for axis in (0, 1):
        margins = [(0, 0), (0, 0)]
        margins[axis] = (AROUND + 1, AROUND)
        total = np.pad(values, margins).cumsum(axis, dtype=np.int32)
        many = values.shape[axis]
        values = total.take(range(2 * AROUND + 1, 2 * AROUND + 1 + many), axis) - total.take(range(many), axis)
    return values


def holds_square(hole: Hole, radius: int) -> bool:
    """Whether a square of side 2 radius + 1 fits into the hole, which goes on beyond the edges."""
    radius = min(radius, max(hole.shape))  # wider ones hold all of it as well
    hole = np.pad(hole, radius, constant_values=True)
    for axis in (0, 1):
        covered = 1
        while covered < 2 * radius + 1:  # runs of hole double: log2 of the width steps
            shift = min(covered, 2 * radius + 1 - covered)
            many = hole.shape[axis] - shift
            hole = hole.take(range(many), axis) & hole.take(range(shift, shift + many), axis)
            covered += shift
    return bool(hole.any())


def _any_of_blocks(touched: Hole, cell: int) -> Hole:
    """Whether any pixel of each block of cell x cell is touched: (ceil(H / cell), ceil(W / cell))."""
    rows = np.logical_or.reduceat(touched, range(0, touched.shape[0], cell), axis=0)
    return np.logical_or.reduceat(rows, range(0, touched.shape[1], cell), axis=1)


def _boxes(touched: Hole, cells: Hole, cell: int) -> Iterator[Window]:
    """The bounding box of what is touched in each group of cells that neighbour each other."""
    for group in _groups(cells):
        (top, left), (bottom, right) = group.min(0) * cell, (group.max(0) + 1) * cell
        area = Window(int(top), int(left), int(bottom), int(right))
        inner = bounding_box(area.of(touched))
        if inner is not None:  # always: a cell is in a group for what is touched in it
            yield inner.within(area)


def _groups(cells: Hole) -> list[NDArray[np.intp]]:
    """The connected components of cells, corners count as well: (N, 2) of rows and columns each."""
    found = connected(cells)
    if not len(found):
        return []
    order = np.argsort(found.part, kind="stable")
    places = np.stack([found.rows, found.columns], axis=1)[order]
    return np.split(places, np.flatnonzero(np.diff(found.part[order])) + 1)


def _joined(parts: list[Part]) -> list[tuple[Window, int]]:
    """Boxes and halvings, those of windows that touch each other made one."""
    bounds = np.array([astuple(part.window) for part in parts]).reshape(-1, 4)
    top, left, bottom, right = bounds.T
    single = np.ones(len(parts), bool)
    joined = []
    for first in range(len(parts)):
        if not single[first]:
            continue
        single[first], group = False, [first]
        for k in group:  # grows while it is gone through
            near = (top <= bottom[k]) & (top[k] <= bottom) & (left <= right[k]) & (left[k] <= right) & single
            single &= ~near
            group.extend(np.flatnonzero(near).tolist())
        box = reduce(Window.hull, (parts[k].box for k in group))
        joined.append((box, max(parts[k].halvings for k in group)))
    return joined
