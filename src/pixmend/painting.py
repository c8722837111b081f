"""Painting holes: strokes, rectangles and outlines given in a picture's own pixels, as people paint them.

A point (x, y) is in pixels from the upper left corner: pixel (0, 0) covers 0 to 1 both ways, its centre is (0.5, 0.5).
A pixel is painted where its centre is inside. Everything is drawn as runs of pixels along rows, so the work follows
what is painted and not the size of the picture; `stroke_runs` and `outline_runs` tell beforehand how many there are.
A hole may be a part of a larger array, or any other view; runs are then painted more slowly than in one of its own.
"""

from __future__ import annotations

import numpy as np

from pixmend.components import Hole
from pixmend.strokes import Doubles, Indices, line_runs

RUNS_AT_ONCE = 1 << 20  # runs of pixels computed together: 100 MB


def paint_stroke(hole: Hole, points: Doubles, width: float, *, value: bool = True) -> None:
    """Paint a stroke with round ends and joins into a hole (H, W): the pixels within width / 2 of the line.

    points: (n, 2) as x, y, n at least 1; one alone is a dot. width: at least 1 is painted. value: False erases.
    """
    start, end = _pieces(points)
    radius = max(width / 2, 0.5)
    height, columns = hole.shape
    group = (np.cumsum(stroke_runs(points, width, height)) / RUNS_AT_ONCE).astype(int)
    for first, past in _groups(group):
        piece = slice(first, past)
        runs = line_runs(height, columns, start[piece] - 0.5, end[piece] - 0.5, np.full(past - first, radius))
        _paint_runs(hole, *runs, value)


def paint_rectangle(hole: Hole, left: float, top: float, right: float, bottom: float, *, value: bool = True) -> None:
    """Paint a rectangle into a hole (H, W); its sides may be given in either order. value: False erases."""
    (first, past), (upper, lower) = sorted((left, right)), sorted((top, bottom))
    rows = [round(float(row)) for row in np.clip(np.ceil(np.array([upper, lower]) - 0.5), 0, hole.shape[0])]
    columns = [round(float(column)) for column in np.clip(np.ceil(np.array([first, past]) - 0.5), 0, hole.shape[1])]
    hole[rows[0] : rows[1], columns[0] : columns[1]] = value


def paint_outline(hole: Hole, points: Doubles, *, value: bool = True) -> None:
    """Paint what a closed outline encloses into a hole (H, W), by the even-odd rule.

    points: (n, 2) as x, y; the last is joined to the first. value: False erases.
    """
    height, columns = hole.shape
    x, y = points[:, 0], points[:, 1] - 0.5  # rows of pixel centres at whole numbers
    x_end, y_end = np.roll(x, -1), np.roll(y, -1)
    upper, lower = _rows_crossed(points, height)
    band = max(1, RUNS_AT_ONCE // len(points))
    for top in range(int(upper.min()), int(lower.max()), band):
        first, past = np.maximum(upper, top), np.minimum(lower, top + band)
        crossing = np.flatnonzero(past > first)
        many = (past - first)[crossing]
        row = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many - first[crossing], many)
        edge = np.repeat(crossing, many)
        at = x[edge] + (row - y[edge]) / (y_end - y)[edge] * (x_end - x)[edge]
        column = np.clip(np.ceil(at - 0.5), 0, columns).astype(np.intp)
        order = np.lexsort((column, row))
        row, column = row[order], column[order]
        _paint_runs(hole, row[::2], column[::2], column[1::2], value)


def stroke_runs(points: Doubles, width: float, height: int) -> Doubles:
    """How many runs, at most, each piece of a stroke takes in a picture of this height."""
    start, end = _pieces(points)
    radius = max(width / 2, 0.5)
    reach = np.clip(np.stack([start[:, 1], end[:, 1]]), -radius, height + radius)
    runs: Doubles = np.minimum(np.ptp(reach, axis=0) + 2 * radius + 2, height)
    return runs


def outline_runs(points: Doubles, height: int) -> Indices:
    """How many rows each edge of an outline crosses in a picture of this height."""
    upper, lower = _rows_crossed(points, height)
    return lower - upper


def _pieces(points: Doubles) -> tuple[Doubles, Doubles]:
    """Where the pieces of a stroke begin and end; one point is a piece without length."""
    return (points[:-1], points[1:]) if len(points) > 1 else (points, points)


def _rows_crossed(points: Doubles, height: int) -> tuple[Indices, Indices]:
    """The rows that each edge crosses: from its upper end on to before its lower end, so that corners count once."""
    y, y_end = points[:, 1] - 0.5, np.roll(points[:, 1], -1) - 0.5
    upper = np.clip(np.ceil(np.minimum(y, y_end)), 0, height).astype(np.intp)
    lower = np.clip(np.ceil(np.maximum(y, y_end)), 0, height).astype(np.intp)
    return upper, lower


def _paint_runs(hole: Hole, row: Indices, first: Indices, past: Indices, value: bool) -> None:
    """Paint runs of pixels, overlapping or empty ones among them; each pixel is written once."""
    filled = past > first
    start, end = row[filled] * hole.shape[1] + first[filled], row[filled] * hole.shape[1] + past[filled]
    if not len(start):
        return
    order = np.argsort(start, kind="stable")
    start, farthest = start[order], np.maximum.accumulate(end[order])
    begins = np.flatnonzero(np.concatenate([[True], start[1:] > farthest[:-1]]))
    ends = farthest[np.concatenate([begins[1:] - 1, [len(start) - 1]])]
    pixels = hole.reshape(-1) if hole.flags.c_contiguous else hole.flat  # no copy of either
    for begin, stop in zip(start[begins].tolist(), ends.tolist(), strict=True):
        pixels[begin:stop] = value


def _groups(group: Indices) -> list[tuple[int, int]]:
    """Where each group of equal, rising numbers begins and ends."""
    begins = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])).tolist()
    return list(zip(begins, [*begins[1:], len(group)], strict=True))
