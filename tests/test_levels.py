"""Levels: what is averaged, what is cut, and that a fill of one level stands where the next one has it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixmend.images import open_picture
from pixmend.levels import BAND_ROWS, Level, halved, level_tensors, part_of, plan_levels
from pixmend.windows import Window, find_parts

SIZE = 16


def test_halving_averages_what_is_known() -> None:
    x = torch.tensor([[1.0, 3, 8, 0], [5, 7, 0, 0], [9, 9, 2, 2]])[None, None]
    known = torch.tensor([[0.0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]])[None, None]
    assert halved(x, known).tolist() == [[[[4, 0], [9, 0]]]]  # of 3 and 5; 0 alone; 9 and 9; nothing


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(0, 99))
def test_levels_of_a_ramp_are_the_ramp(h: int, w: int, seed: int) -> None:
    """A picture whose values tell the place: every level says where its pixels are, to half a pixel."""
    rng = np.random.default_rng(seed)
    samples = np.zeros((h, w, 3), np.uint16)
    samples[..., 0], samples[..., 1] = 256 * np.arange(h)[:, None], 256 * np.arange(w)
    top, left = rng.integers(0, h), rng.integers(0, w)
    hole = np.zeros((h, w), bool)
    hole[top : top + 60, left : left + 50] = True
    for part in find_parts(hole, SIZE):
        levels = plan_levels(hole, hole, part, SIZE)
        for level, (x, soft) in zip(
            levels, level_tensors(open_picture(samples), hole.astype("f4"), hole, part, levels), strict=True
        ):
            assert x.shape[-2:] == soft.shape[-2:] == level.shape
            height = level.area.shape[0]
            assert bool((soft[..., height:, :] == 1).all())
            place = (level.cut(x)[0, :2] + 1) / 2 * 65535 / 256  # rows and columns of the picture
            known = level.cut(soft)[0, 0] == 0
            area, scale = level.area, level.scale
            for axis, (first, end, window) in enumerate(
                [(area.top, area.bottom, part.window.top), (area.left, area.right, part.window.left)]
            ):
                expected = window + (torch.arange(first, end) + 0.5) * scale - 0.5
                error = (place[axis] - (expected[:, None] if axis == 0 else expected)).abs()[known]
                assert error.numel() == 0 or error.max() <= scale / 2 + 0.01


def test_a_window_that_is_turned_to_floats_in_bands_is_the_same() -> None:
    rng = np.random.default_rng(0)
    picture = open_picture(rng.integers(0, 256, (2 * BAND_ROWS + 61, 64, 3), np.uint8))
    hole = np.zeros(picture.size, bool)
    hole[BAND_ROWS - 20 : BAND_ROWS + 21, 20:50] = True
    (part,) = find_parts(hole, SIZE)
    levels = plan_levels(hole, hole, part, SIZE)
    x, _ = level_tensors(picture, hole.astype("f4"), hole, part, levels)[1]
    whole = torch.from_numpy(part.window.of(picture.colour())).permute(2, 0, 1)[None]
    known = torch.from_numpy(~part.window.of(hole))[None, None].float()
    area = levels[1].area
    assert torch.equal(levels[1].cut(x), halved(whole, known)[..., area.top : area.bottom, area.left : area.right])


def test_the_guide_is_the_coarser_fill_in_its_place() -> None:
    hole = np.zeros((100, 90), bool)
    hole[33:60, 41:70] = True
    (part,) = find_parts(hole, SIZE)
    levels = plan_levels(hole, hole, part, SIZE)
    for fine, coarse in pairwise(levels):
        rows = torch.arange(coarse.area.top, coarse.area.bottom)[:, None] + 0.5
        columns = torch.arange(coarse.area.left, coarse.area.right)[None] + 0.5
        fill = torch.stack([rows.expand(coarse.area.shape), columns.expand(coarse.area.shape), rows * columns])[None]
        guide = fine.cut(fine.guide(2 * fill, coarse))
        rows = torch.arange(fine.area.top, fine.area.bottom)[:, None] + 0.5
        assert guide.shape[-2:] == fine.area.shape
        inner = (slice(2, -2), slice(2, -2))  # at its edge the enlargement repeats
        torch.testing.assert_close(guide[0, 0][inner], rows.expand(fine.area.shape)[inner])


def test_beyond_what_a_level_has_its_border_goes_on() -> None:
    """A level whose surroundings are wider than those of the coarser one is guided by what that has."""
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert torch.equal(part_of(x, Window(1, 1, 3, 3)), x[..., 1:3, 1:3])
    assert part_of(x, Window(-2, 1, 1, 6))[0, 0].tolist() == [[1.0, 2, 3, 3, 3]] * 3
    coarse = Level(2, Window(4, 4, 10, 10), np.ones((6, 6), bool), SIZE)
    fill = torch.arange(6.0).repeat(6, 1).T[None, None]  # rows 4 to 9 tell their place
    fine = Level(1, Window(4, 8, 24, 20), np.ones((20, 12), bool), SIZE)
    rows = fine.cut(fine.guide(fill, coarse))[0, 0, :, 0]
    place = (torch.arange(4, 24) + 0.5) / 2 - 0.5 - 4
    assert torch.allclose(rows, place.clamp(0, 5))
