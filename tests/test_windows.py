"""Windows: disjoint, inside the picture, covering all that is touched; halved until a hole is narrow."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pixmend import windows
from pixmend.levels import plan_levels
from pixmend.masks import KINDS, draw_mask
from pixmend.windows import (
    AROUND,
    DEEPEST,
    NARROW,
    WIDEST,
    Part,
    Window,
    count_halvings,
    find_parts,
    halved_hole,
    is_wide,
    narrow_pixels,
)

SIZE = 16


def hole_of(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    hole = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def check(hole: NDArray[np.bool_], parts: list[Part]) -> None:
    covered = np.zeros(hole.shape, int)
    for part in parts:
        inside = Window(0, 0, *hole.shape)
        assert part.window.hull(inside) == inside
        assert part.window.hull(part.box) == part.window
        part.window.of(covered)[:] += 1
        assert part.window.of(hole).any()
    assert covered.max(initial=0) <= 1, "no two share a pixel"
    assert (covered[hole] == 1).all()
    for a, b in combinations((part.window for part in parts), 2):
        assert a.bottom < b.top or b.bottom < a.top or a.right < b.left or b.right < a.left, "no two touch"


@settings(max_examples=80)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from([kind for kind in KINDS if kind != "mixed"]),
    st.integers(0, 999),
)
def test_windows_are_disjoint_inside_and_cover_all(h: int, w: int, kind: str, seed: int) -> None:
    hole = draw_mask(kind, (h, w), np.random.default_rng(seed))
    check(hole, find_parts(hole, SIZE))


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from([1e-4, 1e-3, 1e-2]))
def test_scattered_pixels(seed: int, share: float) -> None:
    hole = np.random.default_rng(seed).random((300, 170)) < share
    hole[3, 4] = True
    check(hole, find_parts(hole, SIZE))


def test_holes_far_apart_have_windows_of_their_own() -> None:
    near = (10, 10, 12, 12), (20, 20, 22, 22)
    parts = find_parts(hole_of((300, 400), *near, (256, 344, 296, 384)), SIZE)
    assert len(parts) == 2
    assert parts[0] == Part(Window(10, 10, 22, 22), Window(8, 8, 24, 24), 0)
    assert parts[1].halvings == 3
    assert parts[1].window == Window(172, 272, 300, 400), "sixteen pixels eight times, moved inside"


def test_stripes_are_one_window() -> None:
    stripes = np.zeros((500, 300), bool)
    stripes[::10] = True
    (part,) = find_parts(stripes, SIZE)
    assert part.window == Window(0, 0, 500, 300)
    assert part.halvings == 0


def test_a_hole_that_is_joined_to_another_window_brings_it_together() -> None:
    """The large hole's window reaches the small one; what comes of both is as coarse as the large one needs."""
    (part,) = find_parts(hole_of((400, 400), (100, 100, 164, 164), (20, 20, 22, 22)), SIZE)
    assert part.box == Window(20, 20, 164, 164)
    assert part.halvings == 4


@pytest.mark.parametrize("side", [1, 4, 5, 8, 9, 30, 64, 65])
def test_a_hole_is_halved_until_it_is_narrow(side: int) -> None:
    halvings = count_halvings(hole_of((256, 256), (96, 96, 96 + side, 96 + side)), SIZE)
    widest = WIDEST * SIZE
    assert side / 2**halvings <= widest + 1
    assert halvings == 0 or (side + 1) / 2 ** (halvings - 1) > widest


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_what_is_not_halved_holds_no_wide_square(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = (
        (i, j, i + int(n), j + int(m))
        for i, j, n, m in zip(*rng.integers(1, 50, (2, 9)), *rng.integers(1, 7, (2, 9)), strict=True)
    )
    hole = hole_of((60, 60), *boxes)
    wider = int(WIDEST * SIZE) + 1
    assert (count_halvings(hole, SIZE) > 0) == sliding_window_view(hole, (wider, wider)).all((2, 3)).any()


@settings(max_examples=60)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(sorted(KINDS)), st.integers(0, 99))
def test_narrow_is_near_to_what_is_known(h: int, w: int, kind: str, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "BAND_ROWS", 13)
        check_narrow(h, w, kind, seed)


def check_narrow(h: int, w: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hole = draw_mask(kind, (h, w), rng)
    never = rng.random((h, w)) < 1e-4
    unknown, known = np.argwhere(hole), np.argwhere(~hole)
    depth = np.zeros((h, w))
    depth[hole] = np.abs(unknown[:, None] - known[None]).max(2).min(1, initial=DEEPEST + 1)
    found = narrow_pixels(hole, never)
    assert not (found & ~hole).any()
    for i, j in unknown[:: max(1, len(unknown) // 50)]:
        around = np.s_[max(0, i - AROUND) : i + AROUND + 1, max(0, j - AROUND) : j + AROUND + 1]
        depths = depth[around][hole[around]]
        assert found[i, j] == (depths.max() <= DEEPEST and depths.mean() <= NARROW and not never[around].any())


@pytest.mark.parametrize(("width", "narrow"), [(1, True), (3, True), (5, False)])
def test_a_line_is_narrow_as_long_as_it_is(width: int, narrow: bool) -> None:
    line = hole_of((40, 40), (0, 20, 40, 20 + width))
    assert np.array_equal(narrow_pixels(line), line & narrow)


def test_one_wide_spot_among_hairlines_makes_a_wide_place_around_it() -> None:
    hairlines = hole_of((200, 200), *((0, left, 200, left + 1) for left in range(0, 200, 3)))
    assert np.array_equal(narrow_pixels(hairlines), hairlines)
    narrow = narrow_pixels(hairlines | hole_of((200, 200), (50, 50, 61, 61)))
    assert np.array_equal(narrow, hairlines & ~hole_of((200, 200), (39, 39, 72, 72))), "its middle is at 55, 55"


def test_a_network_far_larger_than_the_picture_halves_nothing() -> None:
    assert count_halvings(hole_of((50, 60), (1, 1, 49, 59)), 10**6) == 0
    assert count_halvings(np.ones((50, 60), bool), 10**6, most=3) == 3, "nothing is known at any level"


def test_no_hole_is_halved_beyond_the_whole_picture_in_one_tile() -> None:
    hole = np.ones((200, 100), bool)
    hole[:, 5] = False
    (part,) = find_parts(hole, SIZE)
    assert part.halvings == 4, "200 / 16 is 12.5, and 200 / 8 is more than a tile"


@settings(max_examples=60)
@given(
    st.integers(1, 150), st.integers(1, 150), st.sampled_from(["rectangles", "thick", "scattered"]), st.integers(0, 99)
)
def test_levels_hold_the_hole_and_what_guides_them(h: int, w: int, kind: str, seed: int) -> None:
    hole = draw_mask(kind, (h, w), np.random.default_rng(seed))
    for part in find_parts(hole, SIZE):
        levels = plan_levels(hole, hole, part, SIZE)
        assert len(levels) == part.halvings + 1
        finest = levels[0].in_picture(part.window)
        assert finest.of(hole).sum() == part.window.of(hole).sum()
        assert levels[-1].in_picture(part.window) == part.window
        for fine, coarse in pairwise(levels):
            assert coarse.scale == 2 * fine.scale
            assert coarse.area.hull(fine.area.halved()) == coarse.area
        assert levels[-1].hole.any()


def empty_halvings(hole: NDArray[np.bool_], size: int, most: int = 64) -> int:
    """The rule for all that is drawn: halve what has no known pixel at all until it is not wide."""
    for halvings in range(most):
        if not is_wide(hole, size):
            return halvings
        hole = np.pad(hole, [(0, side % 2) for side in hole.shape], constant_values=True)
        hole = hole[::2, ::2] & hole[1::2, ::2] & hole[::2, 1::2] & hole[1::2, 1::2]
    return most


SINGLE = ("scattered", "narrow", "mixed")  # of pixels that are known alone: too few, for so small a network as of 16


@pytest.mark.parametrize(
    ("size", "kind"), [(size, kind) for size in (16, 32, 64) for kind in KINDS if size > 16 or kind not in SINGLE]
)
def test_whatever_is_drawn_is_halved_until_no_empty_square_is_wide(
    size: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holes = [
        draw_mask(kind, shape, np.random.default_rng(seed)) for seed in range(4) for shape in [(256, 256), (190, 333)]
    ]
    found = [find_parts(hole, size) for hole in holes]
    monkeypatch.setattr(windows, "count_halvings", empty_halvings)
    assert found == [find_parts(hole, size) for hole in holes]


@pytest.mark.parametrize("apart", [18, 20, 24, 30])
def test_single_known_pixels_are_not_halved_away(apart: int) -> None:
    """No two of them are among four: at the next level nothing at all would be known."""
    hole = np.ones((256, 256), bool)
    hole[::apart, ::apart] = False
    (part,) = find_parts(hole, 64)
    assert empty_halvings(hole, 64) == 1
    assert halved_hole(hole).all()
    assert part.halvings == 0


@pytest.mark.parametrize("share", [0.002, 0.01, 0.02])
def test_what_is_known_by_chance_is_not_halved_away(share: float) -> None:
    """Some of it is beside other known pixels, and would be left; most would not."""
    hole = np.random.default_rng(0).random((300, 400)) > share
    (part,) = find_parts(hole, 64)
    assert empty_halvings(hole, 64) >= 1
    assert np.mean(~halved_hole(hole)) < share / 4
    assert part.halvings == 0


@pytest.mark.parametrize("apart", [18, 20, 24, 30])
def test_single_known_pixels_in_a_wide_hole_do_not_help_to_see_across_it(apart: int) -> None:
    """As if they were not there: they are gone where the hole is filled first, from what stands around it."""
    wide = hole_of((1400, 1400), (200, 200, 1200, 1200))
    hole = wide.copy()
    hole[200:1200:apart, 200:1200:apart] = False
    (part,) = find_parts(hole, 64)
    assert part.halvings == find_parts(wide, 64)[0].halvings == 5
    assert empty_halvings(hole, 64) == 1
    coarsest = plan_levels(hole, hole, part, 64)[-1].hole
    assert 0.5 < np.mean(~coarsest) * 1400**2 / (1400**2 - 1000**2) < 1.1, "and there is known what is around"


@settings(max_examples=200)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_a_halved_hole_by_counting(h: int, w: int, seed: int) -> None:
    hole = np.random.default_rng(seed).random((h, w)) < 0.6
    coarser = halved_hole(hole)
    assert coarser.shape == (-(-h // 2), -(-w // 2))
    for (i, j), is_hole in np.ndenumerate(coarser):
        four = hole[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert is_hole == (2 * np.count_nonzero(~four) < four.size)


def test_halving_a_hole_asks_for_half_of_what_is_there() -> None:
    hole = np.array([[1, 0, 1, 1, 1], [0, 1, 0, 1, 1], [0, 1, 1, 1, 0]], bool)
    assert halved_hole(hole).tolist() == [[False, True, True], [False, True, False]]


def test_soft_edges_are_seen_across_by_what_is_solid_in_them() -> None:
    """A small hole with a wide soft edge is halved as the hole asks; what is faint as a whole, as all of it does."""
    solid = hole_of((2000, 2000), (100, 100, 110, 110))
    touched = hole_of((2000, 2000), (40, 40, 170, 170), (1800, 1800, 1900, 1900))
    first, second = find_parts(touched, SIZE, solid)
    assert (first.halvings, first.faint) == (find_parts(solid, SIZE)[0].halvings, False)
    assert first.box == Window(40, 40, 170, 170)
    assert (second.halvings, second.faint) == (find_parts(touched, SIZE)[1].halvings, True)
    assert first.halvings < find_parts(touched, SIZE)[0].halvings
