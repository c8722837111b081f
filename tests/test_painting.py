"""Painted holes: every pixel whose centre is inside, and no other, by brute force over all centres."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixmend import painting
from pixmend.components import Hole
from pixmend.painting import outline_runs, paint_outline, paint_rectangle, paint_stroke, stroke_runs
from pixmend.strokes import Doubles, line_runs

SIZE = (23, 31)  # (H, W)
CLOSE = 1e-6  # pixels; nearer to an edge than this, either answer is right
ROWS, COLUMNS = (np.indices(SIZE) + 0.5)[0], (np.indices(SIZE) + 0.5)[1]

coordinates = st.floats(-20, 50, width=32)
point_lists = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6).map(lambda p: np.array(p, float))


def distances(points: Doubles) -> Doubles:
    """From each pixel's centre to the nearest point of a line through the points."""
    nearest = np.full(SIZE, np.inf)
    for (x, y), (x_end, y_end) in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        along = np.zeros(SIZE)
        if (length := (x_end - x) ** 2 + (y_end - y) ** 2) > 0:
            along = np.clip(((COLUMNS - x) * (x_end - x) + (ROWS - y) * (y_end - y)) / length, 0, 1)
        reach = np.hypot(COLUMNS - x - along * (x_end - x), ROWS - y - along * (y_end - y))
        nearest = np.minimum(nearest, reach)
    return nearest


def enclosed(points: Doubles) -> tuple[Hole, Hole]:
    """Which centres an outline encloses, counted on a ray to the left of each; and where that is beyond doubt."""
    inside, sure = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    for (x, y), (x_end, y_end) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (y <= ROWS) != (y_end <= ROWS)
        at = x + (ROWS - y) / np.where(crosses, y_end - y, 1) * (x_end - x)
        inside ^= crosses & (at <= COLUMNS)
        sure &= ~(crosses & (np.abs(at - COLUMNS) < CLOSE))
    return inside, sure


@given(point_lists, st.floats(1, 15))
def test_stroke_is_all_pixels_within_half_its_width(points: Doubles, width: float) -> None:
    hole = np.zeros(SIZE, bool)
    paint_stroke(hole, points, width)
    away = distances(points)
    sure = np.abs(away - width / 2) > 1e-4  # level pieces are drawn a millionth of a pixel off level
    np.testing.assert_array_equal(hole[sure], (away < width / 2)[sure])


@given(point_lists)
def test_outline_encloses_by_the_even_odd_rule(points: Doubles) -> None:
    hole = np.zeros(SIZE, bool)
    paint_outline(hole, points)
    expected, sure = enclosed(points)
    np.testing.assert_array_equal(hole[sure], expected[sure])


@given(coordinates, coordinates, coordinates, coordinates)
def test_rectangle_is_an_outline_of_four_corners(left: float, top: float, right: float, bottom: float) -> None:
    hole, outline = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    paint_rectangle(hole, left, top, right, bottom)
    paint_outline(outline, np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float))
    np.testing.assert_array_equal(hole, outline)


def test_star_has_an_unpainted_middle() -> None:
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = np.stack([50 + 45 * np.cos(angles), 50 - 45 * np.sin(angles)], axis=1)
    hole = np.zeros((100, 100), bool)
    paint_outline(hole, star)
    assert not hole[50, 50]
    assert hole[20, 50]


@given(point_lists)
def test_erasing_takes_away_what_painting_adds(points: Doubles) -> None:
    painted, erased = np.zeros((2, *SIZE), bool), np.ones((2, *SIZE), bool)
    for holes, value in ((painted, True), (erased, False)):
        paint_stroke(holes[0], points, 5.0, value=value)
        paint_outline(holes[1], points, value=value)
    np.testing.assert_array_equal(painted, ~erased)


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1, 3:40], np.s_[5:28, 7:38]])
def test_parts_of_a_larger_hole_are_painted_as_holes_of_their_own(view: tuple[slice, slice]) -> None:
    points = np.array([[-4, 3], [12, 20], [25, 2.5]])
    whole = np.zeros((40, 62), bool)
    part = whole[view]
    for outlined in (False, True):
        whole[:], own = False, np.zeros(part.shape, bool)
        for hole in (part, own):
            if outlined:
                paint_outline(hole, points)
            else:
                paint_stroke(hole, points, 3.0)
        assert own.any()
        np.testing.assert_array_equal(part, own)
        assert whole.sum() == own.sum()


@pytest.mark.parametrize("at_once", [1, 7])
def test_pieces_computed_apart_paint_the_same(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    points = np.random.default_rng(0).uniform(-5, 35, (40, 2))
    together, apart = np.zeros((2, *SIZE), bool), np.zeros((2, *SIZE), bool)
    paint_stroke(together[0], points, 3.0)
    paint_outline(together[1], points)
    monkeypatch.setattr(painting, "RUNS_AT_ONCE", at_once)
    paint_stroke(apart[0], points, 3.0)
    paint_outline(apart[1], points)
    np.testing.assert_array_equal(together, apart)


def test_far_away_points_paint_what_passes_through() -> None:
    hole = np.zeros(SIZE, bool)
    paint_stroke(hole, np.array([[-1e6, 10.5], [1e6, 10.5]]), 1.0)
    np.testing.assert_array_equal(np.flatnonzero(hole.any(axis=1)), [10])
    assert hole[10].all()


@given(point_lists, st.floats(1, 15))
def test_no_more_runs_than_foretold(points: Doubles, width: float) -> None:
    start, end = (points[:-1], points[1:]) if len(points) > 1 else (points, points)
    rows, _, _ = line_runs(*SIZE, start - 0.5, end - 0.5, np.full(len(start), width / 2))
    assert len(rows) <= stroke_runs(points, width, SIZE[0]).sum()
    assert outline_runs(points, SIZE[0]).max() <= SIZE[0]
