"""Strokes: straight lines with round ends, and walks made of them, as holes. Plain NumPy, no loop over pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixmend.components import Hole

Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]
Rng = np.random.Generator
Span = tuple[float, float]  # fractions, low and high
Counts = tuple[int, int]  # both ends included


def draw_fraction(rng: Rng, span: Span) -> float:
    """A number, uniform in a span."""
    return span[0] + (span[1] - span[0]) * rng.random()  # five times as fast as rng.uniform


def draw_count(rng: Rng, counts: Counts) -> int:
    """A whole number, each from the first to the last as likely."""
    return counts[0] + int(rng.random() * (counts[1] - counts[0] + 1))


def draw_strokes(
    h: int,
    w: int,
    rng: Rng,
    strokes: Counts,
    pieces: Counts,  # of one stroke
    width: Span,
    length: Span,  # of one piece
    turn: float = 1.0,  # most turns at a vertex, half to each side: 1 is any direction
    bounce: bool = True,  # off the sides of the picture
) -> Hole:
    """Walks of straight pieces from points anywhere, each piece of its own width."""
    many, longest = draw_count(rng, strokes), pieces[1]
    scale, sides = math.sqrt(h * w), np.array([w, h])
    chance = rng.random((4, many, longest))
    turns = (chance[0] - 0.5) * turn
    turns[:, 0] = chance[0, :, 0]  # the first piece goes anywhere
    angle = 2 * np.pi * np.cumsum(turns, axis=1)
    step = scale * (length[0] + (length[1] - length[0]) * chance[1])
    walk = np.empty((many, longest + 1, 2))
    walk[:, 0] = rng.random((many, 2)) * sides
    walk[:, 1:, 0], walk[:, 1:, 1] = step * np.cos(angle), step * np.sin(angle)
    walk = np.cumsum(walk, axis=1)
    if bounce:
        walk = np.abs((walk + sides) % (2 * sides) - sides)
    drawn = np.arange(longest) < pieces[0] + (rng.random((many, 1)) * (longest - pieces[0] + 1)).astype(int)
    radius = scale / 2 * (width[0] + (width[1] - width[0]) * chance[2])
    return draw_lines(h, w, walk[:, :-1][drawn] - 0.5, walk[:, 1:][drawn] - 0.5, radius[drawn])


def draw_lines(h: int, w: int, start: Doubles, end: Doubles, radius: Doubles) -> Hole:
    """Straight lines with round ends: the runs of `line_runs`, counted at their ends and summed along the rows."""
    row, first, last = line_runs(h, w, start, end, radius)
    row *= w + 1
    edges = np.bincount(row + first, minlength=h * (w + 1))
    edges -= np.bincount(row + last, minlength=h * (w + 1))
    edges = edges.reshape(h, w + 1)
    hole: Hole = np.cumsum(edges, axis=1, out=edges)[:, :w] > 0
    return hole


def line_runs(h: int, w: int, start: Doubles, end: Doubles, radius: Doubles) -> tuple[Indices, Indices, Indices]:
    """Straight lines with round ends: all pixels whose centre is at most `radius` from the segment start-end.

    start, end: (n, 2) as x, y, pixel centres at whole numbers; radius: (n,), at least half a pixel, so that no
    line is broken. A line cuts each row of pixels in one run: that of the discs around its points. The disc that
    reaches farthest touches the line's edge with its own, so its centre is that row's point of the edge, moved by
    the radius square to the line, or the nearer end.
    Returns the runs: their rows, first columns, and the columns past their ends; runs overlap, and some are empty.
    """
    (x, y), (dx, dy) = start.T, (end - start).T
    dy = np.where(np.abs(dy) < 1e-6, 1e-6, dy)  # level lines: as good as level, and divisible
    r = np.maximum(radius, 0.5)
    lean = np.sign(dy) * dx * r / np.hypot(dx, dy)  # how far above its point of the edge the disc's centre is
    top = np.clip(np.ceil(np.minimum(y, y + dy) - r), 0, h).astype(np.intp)
    rows = np.clip(np.floor(np.maximum(y, y + dy) + r) + 1, top, h).astype(np.intp) - top
    row = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows - top, rows)  # the rows of one line after another
    x, y, dx, dy, r, lean = np.repeat(np.stack([x, y, dx, dy, r, lean]), rows, axis=1)  # (all rows,) each
    runs = []
    for side in (-1.0, 1.0):
        along = np.clip((row - y + side * lean) / dy, 0.0, 1.0)
        reach = np.sqrt(np.maximum(r * r - (row - y - along * dy) ** 2, 0.0))
        runs.append(x + along * dx + side * reach)
    first = np.clip(np.ceil(runs[0]), 0, w)
    last = np.clip(np.floor(runs[1]) + 1, first, w)  # past the end; a run between two pixel centres is empty
    return row, first.astype(np.intp), last.astype(np.intp)
