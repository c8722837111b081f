"""Masks against what is known of them: shares, polarity, frequencies, and the identities of the soft mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pixmend import masks, soft_masks
from pixmend.errors import OptionError
from pixmend.masks import (
    KINDS,
    MIXTURE,
    NARROW_MIXTURE,
    automatic_radius,
    create_advanced_mask,
    dilate,
    draw_mask,
    feather,
    soft_mask,
)
from pixmend.strokes import draw_lines
from pixmend.windows import narrow_pixels

kinds = st.sampled_from(sorted(KINDS))
sides = st.integers(1, 70)
seeds = st.integers(0, 2**32)


def share(kind: str, size: int | tuple[int, int], seed: int = 0, **parameters: Any) -> float:
    return float(create_advanced_mask(kind, size, seed=seed, **parameters).mean())


def holes(kind: str, size: int, many: int, **parameters: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    rng = np.random.default_rng(7)
    return np.stack([draw_mask(kind, (size, size), rng, **parameters) for _ in range(many)])


# ------------------------------------------------------------------------------------------------------- every kind


@settings(max_examples=150, deadline=None)
@given(kinds, sides, sides, seeds)
def test_every_kind_at_every_size(kind: str, h: int, w: int, seed: int) -> None:
    mask = create_advanced_mask(kind, (h, w), seed=seed)
    assert mask.shape == (1, 1, h, w)
    assert mask.dtype == torch.float32
    assert ((mask == 0) | (mask == 1)).all()
    assert mask.any(), "never without a hole"
    assert torch.equal(mask, create_advanced_mask(kind, (h, w), seed=seed))
    drawn = draw_mask(kind, (h, w), np.random.default_rng(seed))
    assert drawn.dtype == bool
    assert np.array_equal(mask[0, 0].numpy() == 1, drawn)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_seeds_matter_and_zero_is_one(kind: str) -> None:
    seen = {create_advanced_mask(kind, 48, seed=seed).numpy().tobytes() for seed in range(40)}
    fixed = {"centre": 1, "expand": 1, "whole": 1, "alternate-rows": 2, "every-second-pixel": 4, "half": 4}
    if kind in fixed:
        assert len(seen) == fixed[kind]
    else:
        assert len(seen) > 25
    assert torch.equal(create_advanced_mask(kind, 48), create_advanced_mask(kind, 48, seed=0))


def test_a_generator_goes_on() -> None:
    rng = np.random.default_rng(3)
    first, second = (create_advanced_mask("irregular", 32, seed=rng) for _ in range(2))
    assert torch.equal(first, create_advanced_mask("irregular", 32, seed=3))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["every_second_pixel", "Every-Second Pixel", " every-second-pixel"])
def test_spellings(name: str) -> None:
    assert torch.equal(create_advanced_mask(name, 9), create_advanced_mask("every-second-pixel", 9))
    assert torch.equal(create_advanced_mask("center", 9), create_advanced_mask("centre", 9))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["mixed", "irregular", "rectangles", "thick", "patches"]), seeds)
def test_area_is_kept(kind: str, seed: int) -> None:
    assert 0.15 <= share(kind, 40, seed, area=(0.15, 0.35)) <= 0.35


def test_area_of_lama_kinds_is_at_most_half() -> None:
    for kind in ("thin", "medium", "thick"):
        assert holes(kind, 32, 300).mean((1, 2)).max() <= 0.5
    assert share("thick", 1) == 1, "a picture of one pixel can do no better"
    with pytest.raises(OptionError, match=r"covers 0 to 0\.5"):
        create_advanced_mask("thick", 1, area=(0, 0.5))


# ------------------------------------------------------------------------------------------------------- exact shares


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (4, 4), (8, 100)])
def test_exact_shares(size: tuple[int, int]) -> None:
    for seed in range(8):
        assert share("whole", size, seed) == 1
        assert share("centre", size, seed) == 1 / 4
        assert share("half", size, seed) == 1 / 2
        assert share("expand", size, seed) == 15 / 16
        assert share("alternate-rows", size, seed) == 1 / 2
        assert share("every-second-pixel", size, seed) == 3 / 4


def test_where_the_hole_is() -> None:
    centre = torch.zeros(8, 8)
    centre[2:6, 2:6] = 1
    assert torch.equal(create_advanced_mask("centre", 8)[0, 0], centre)
    known = torch.zeros(8, 8)
    known[3:5, 3:5] = 1
    assert torch.equal(create_advanced_mask("expand", 8)[0, 0], 1 - known)
    for side, turns in {"top": 0, "left": 1, "bottom": 2, "right": 3}.items():
        hole = create_advanced_mask("half", 8, side=side)[0, 0].rot90(-turns)
        assert hole[:4].all()
        assert not hole[4:].any()
    rows = create_advanced_mask("alternate-rows", 8)[0, 0]
    assert torch.equal(rows[:, :1].expand(8, 8), rows)
    assert torch.equal(rows[0], 1 - rows[1])
    pixels = create_advanced_mask("every-second-pixel", (6, 8))[0, 0]
    assert sorted(float(pixels[r::2, c::2].sum()) for r in (0, 1) for c in (0, 1)) == [0, 12, 12, 12]


@pytest.mark.parametrize(("direction", "shift"), [("horizontal", (0, 1)), ("vertical", (1, 0))])
def test_stripes_are_straight(direction: str, shift: tuple[int, int]) -> None:
    for hole in (create_advanced_mask("stripes", 33, seed=s, direction=direction)[0, 0] for s in range(9)):
        assert torch.equal(hole, hole.roll(shift, (0, 1)))
        assert 0 < hole.mean() < 1
    for hole in (create_advanced_mask("stripes", 33, seed=s, direction="diagonal")[0, 0] for s in range(9)):
        assert torch.equal(hole[1:, 1:], hole[:-1, :-1]) or torch.equal(hole[1:, :-1], hole[:-1, 1:])


def test_borders_leave_the_middle() -> None:
    for hole in holes("border", 100, 200):
        assert not hole[25:75, 25:75].any()
        strips = [hole[0].all(), hole[-1].all(), hole[:, 0].all(), hole[:, -1].all()]
        assert sum(strips) >= 1
        rows, columns = (~hole).any(1), (~hole).any(0)
        assert np.array_equal(~hole, rows[:, None] & columns[None]), "what is known is one rectangle"
    one = holes("border", 100, 50, sides=1, width=0.1)
    assert (one.mean((1, 2)) == 0.1).all()


# --------------------------------------------------------------------------------------------------------- statistics


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.92])
def test_scattered_is_independent(wanted: float) -> None:
    hole = create_advanced_mask("scattered", 400, share=wanted)[0, 0].double()
    sigma = (wanted * (1 - wanted)) ** 0.5
    assert abs(float(hole.mean()) - wanted) < 5 * sigma / 400
    for neighbour in (hole.roll(1, 0), hole.roll(1, 1)):
        correlation = ((hole - wanted) * (neighbour - wanted)).mean() / sigma**2
        assert abs(float(correlation)) < 5 / 400


def test_patches_are_square_cells_of_a_grid() -> None:
    hole = create_advanced_mask("patches", 64, side=0.125, share=0.5)[0, 0]
    down, right = hole.diff(dim=0).abs().sum(1), hole.diff(dim=1).abs().sum(0)
    assert len({int(i) % 8 for i in down.nonzero()}) == 1
    assert len({int(i) % 8 for i in right.nonzero()}) == 1
    assert (down > 0).sum() >= 7
    assert holes("patches", 64, 600, share=0.4).mean() == pytest.approx(0.4, abs=0.02)


def test_one_rectangle_covers_what_its_sides_say() -> None:
    shares = holes("rectangles", 100, 2000, count=1, side=(0.2, 0.6)).mean((1, 2))
    assert shares.mean() == pytest.approx(0.4**2, rel=0.04)  # sides are independent: E[ab] = E[a] E[b]
    assert 0.2**2 <= shares.min() < 0.3**2
    assert 0.5**2 < shares.max() <= 0.6**2


@pytest.mark.parametrize("size", [(128, 128), (128, 32), (24, 170)])
def test_shares_do_not_depend_on_the_size(size: tuple[int, int]) -> None:
    """All parameters are fractions: a kind covers at 128 x 32 what it covers at 64 x 64."""
    for kind in ("irregular", "thin", "medium", "thick", "stripes", "rectangles", "border", "patches"):
        rng = np.random.default_rng(5)
        square, other = (
            np.mean([draw_mask(kind, shape, rng).mean() for _ in range(300)]) for shape in ((64, 64), size)
        )
        assert other == pytest.approx(square, rel=0.2), kind


def test_typical_shares() -> None:
    """Between these bounds all other results were measured; a family that drifts out is another family."""
    bounds = {"irregular": (0.2, 0.32), "thin": (0.2, 0.32), "medium": (0.18, 0.3), "thick": (0.22, 0.34)}
    bounds |= {"rectangles": (0.16, 0.24), "stripes": (0.4, 0.5), "text": (0.03, 0.08), "scratches": (0.03, 0.09)}
    bounds |= {"border": (0.27, 0.38), "scattered": (0.67, 0.75), "patches": (0.46, 0.54), "mixed": (0.4, 0.52)}
    for kind, (low, high) in bounds.items():
        assert low < holes(kind, 64, 400).mean() < high, kind


def test_mixed_is_as_frequent_as_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    def recorded(kind: str) -> Callable[..., masks.Hole]:
        def draw(h: int, w: int, rng: np.random.Generator) -> masks.Hole:
            seen[kind] += 1
            return np.ones((h, w), bool)

        return draw

    assert sum(MIXTURE.values()) == 100
    assert set(MIXTURE) == set(KINDS) - {"whole", "mixed", "narrow"}
    fakes = {kind: recorded(kind) for kind in MIXTURE} | {"mixed": masks.mixed}
    monkeypatch.setattr(masks, "KINDS", MappingProxyType(fakes))
    count = 20_000
    holes("mixed", 2, count)
    assert sum(seen.values()) / count == pytest.approx(0.85, abs=0.01)
    for kind, percent in MIXTURE.items():
        expected = count * 0.85 * percent / 100
        assert abs(seen[kind] - expected) < 5 * expected**0.5, kind


def test_the_narrow_blend_is_of_narrow_holes() -> None:
    assert sum(percent for percent, _ in NARROW_MIXTURE.values()) == 100
    narrow, mixed = (
        np.mean([narrow_pixels(hole).sum() / hole.sum() for hole in holes(kind, 64, 300)])
        for kind in ("narrow", "mixed")
    )
    assert narrow > 0.7
    assert mixed < 0.5


@pytest.mark.parametrize("whole", [0.1, 0.4])
def test_mixed_whole_pictures(whole: float) -> None:
    full = holes("mixed", 16, 3000, whole=whole).all((1, 2)).mean()
    assert whole - 0.03 < full < whole + 0.05  # boxes and strokes rarely cover everything too


# -------------------------------------------------------------------------------------------------------------- lines


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), seeds, st.sampled_from([0.0, 1e-9, 1.0, 20.0]), st.booleans())
def test_lines_are_all_points_near_a_segment(h: int, w: int, seed: int, length: float, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(-5, 45, (3, 2))
    end = start + length * rng.normal(size=(3, 2))
    radius = rng.uniform(0.5, 6, 3)
    if whole:  # level, upright and diagonal lines
        start, end = start.round(), end.round()
    y, x = np.mgrid[:h, :w]
    beyond = np.full((h, w), np.inf)  # distance to the nearest line's edge
    for p, q, r in zip(start, end, radius, strict=True):
        way = q - p
        t = np.clip(((x - p[0]) * way[0] + (y - p[1]) * way[1]) / max(way @ way, 1e-30), 0, 1)
        beyond = np.minimum(beyond, np.hypot(x - p[0] - t * way[0], y - p[1] - t * way[1]) - r)
    differs = draw_lines(h, w, start, end, radius) != (beyond <= 0)
    assert (np.abs(beyond[differs]) < 1e-5).all()


def test_the_thinnest_line_is_not_broken() -> None:
    for angle in np.linspace(0, np.pi, 50):
        way = 30 * np.array([np.cos(angle), np.sin(angle)])
        hole = draw_lines(80, 80, np.array([40 - way]), np.array([40 + way]), np.array([0.0]))
        axis = 0 if abs(way[0]) > abs(way[1]) else 1
        touched = np.flatnonzero(hole.any(axis))
        assert len(touched) >= 2 * np.abs(way).max() - 1
        assert (np.diff(touched) == 1).all()


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "square"}, "'square' is not known; give one of rectangles, centre"),
        ({"kind": "centre", "sides": 3}, "no parameter 'sides'; it takes side"),
        ({"kind": "whole", "side": 3}, "it takes none"),
        ({"kind": "centre", "side": 1.5}, "side 1.5 does not fit; give a fraction from 0 to 1, or a pair"),
        ({"kind": "centre", "side": (0.5, 0.2)}, "does not fit"),
        ({"kind": "centre", "side": (0.1, 0.2, 0.3)}, "does not fit"),
        ({"kind": "centre", "side": float("nan")}, "does not fit"),
        ({"kind": "centre", "side": "wide"}, "does not fit"),
        ({"kind": "thick", "boxes": (0.1, 0.2)}, "give a fraction from 0 to 1$"),
        ({"kind": "thin", "strokes": 0}, "a whole number from 1 to 1000"),
        ({"kind": "thin", "strokes": 2.5}, "a whole number"),
        ({"kind": "thin", "strokes": float("inf")}, "a whole number"),
        ({"kind": "half", "side": "north"}, "'north' is not known; give one of top, bottom, left, right or any"),
        ({"kind": "stripes", "direction": ""}, "give one of horizontal"),
        ({"kind": "centre", "area": (0.5, 0.6)}, "covers 0.5 to 0.6 of the picture: 200 covered 0.25 to 0.25"),
        ({"kind": "centre", "area": (0.6, 0.5)}, "area .* does not fit"),
        ({"kind": "centre", "size": 0}, "0 x 0 pixels is too small"),
        ({"kind": "centre", "size": (4, -1)}, "4 x -1 pixels is too small"),
        ({"kind": "centre", "seed": -1}, "seed -1 is negative"),
    ],
)
def test_errors_say_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create_advanced_mask(**{"size": 8} | arguments)


# ------------------------------------------------------------------------------------------------------ the soft mask


def grown(hole: torch.Tensor, radius: int) -> torch.Tensor:
    """Dilation from its definition."""
    result = torch.zeros_like(hole)
    for y, x in hole.nonzero().tolist():
        result[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = 1
    return result


@st.composite
def some_hole(draw: st.DrawFn) -> torch.Tensor:
    h, w, seed = draw(sides), draw(sides), draw(seeds)
    if draw(st.booleans()):
        return create_advanced_mask(draw(kinds), (h, w), seed=seed)
    few = np.random.default_rng(seed).random((h, w)) < draw(st.sampled_from([0.0, 0.01, 0.1]))
    return torch.from_numpy(few)[None, None].float()


@settings(max_examples=60, deadline=None)
@given(some_hole(), st.integers(0, 7))
def test_dilate_is_the_square(hole: torch.Tensor, radius: int) -> None:
    expected = grown(hole[0, 0], radius)
    assert torch.equal(dilate(hole, radius)[0, 0], expected)
    assert torch.equal(dilate(hole > 0, radius)[0, 0], expected > 0)


@settings(max_examples=80, deadline=None)
@given(some_hole(), st.integers(0, 6))
def test_soft_mask_identities(hole: torch.Tensor, radius: int) -> None:
    soft = feather(hole, radius)
    assert soft.shape == hole.shape
    assert soft.dtype == torch.float32
    assert (soft[hole == 1] == 1).all()
    assert torch.equal(soft > 0, dilate(hole, 2 * radius) > 0)
    assert (soft <= 1).all()
    if radius == 0:
        assert torch.equal(soft, hole)


@pytest.mark.parametrize("band", [1, 5, 512])
@pytest.mark.parametrize("radius", [1, 2, 5])
def test_feather_is_the_gaussian_of_the_dilation(monkeypatch: pytest.MonkeyPatch, radius: int, band: int) -> None:
    monkeypatch.setattr(soft_masks, "_BAND", band)
    hole = torch.zeros(1, 1, 37, 23)
    hole[..., 10:14, 0:5] = 1
    hole[..., 36, 22] = 1
    offsets = np.arange(-radius, radius + 1)
    square = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (radius / 2) ** 2))
    square /= square.sum()
    padded = np.pad(grown(hole[0, 0], radius).double().numpy(), radius, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, square.shape)
    expected = (windows * square).sum((-1, -2))
    np.testing.assert_allclose(feather(hole, radius)[0, 0].numpy(), expected, atol=1e-6)


def test_feather_falls_off_and_does_not_depend_on_the_crop() -> None:
    hole = torch.zeros(1, 1, 61, 67)
    hole[..., 20:30, 20:30] = 1
    soft = feather(hole, 3)
    away = soft[0, 0, 25, 29:40]
    assert (away.diff()[:6] < 0).all()
    assert (away[7:] == 0).all()
    assert torch.equal(feather(hole[..., 5:50, 9:45], 3), soft[..., 5:50, 9:45])


@pytest.mark.parametrize(
    ("kind", "size", "radius"),
    [
        ("whole", 64, 2),
        ("half", 64, 2),  # 32 rows become 36
        ("centre", 64, 1),  # 32 -> 40 is 1.56 by area, 32 -> 36 is 1.27
        ("centre", 200, 2),  # 100 -> 108
        ("centre", 16, 0),  # 8 -> 12: 2.25
        ("alternate-rows", 64, 0),
        ("every-second-pixel", 64, 0),  # 3/4 can grow by a third at most, but that third is all that is known
        ("expand", 64, 1),  # of 16 x 16 known pixels 8 x 8 would be left, and 12 x 12 are
    ],
)
def test_automatic_radius(kind: str, size: int, radius: int) -> None:
    hole = create_advanced_mask(kind, size, seed=1)
    assert automatic_radius(hole) == radius
    assert torch.equal(soft_mask(hole), feather(hole, radius))
    assert torch.equal(soft_mask(hole, 1), feather(hole, 1))


@settings(max_examples=60, deadline=None)
@given(some_hole(), st.integers(0, 4))
def test_automatic_radius_is_the_largest_that_fits(hole: torch.Tensor, limit: int) -> None:
    grown = [dilate(hole, 2 * r) for r in range(limit + 1)]
    fits = [r for r in range(limit + 1) if grown[r].sum() <= 1.5 * hole.sum()]
    fits = [r for r in fits if (1 - grown[r]).sum() >= 0.5 * (1 - hole).sum()]
    assert automatic_radius(hole, limit) == max(fits)
    if not hole.all():
        assert (soft_mask(hole) == 0).any(), "never a hole of everything"


def test_soft_masks_do_not_depend_on_their_batch() -> None:
    both = torch.cat([create_advanced_mask(kind, 64, seed=1) for kind in ("alternate-rows", "half")])
    soft = soft_mask(both)
    assert torch.equal(soft, torch.cat([soft_mask(both[:1]), soft_mask(both[1:])]))
    assert torch.equal(soft[:1], both[:1])
    assert not torch.equal(soft[1:], both[1:])
    assert automatic_radius(both) == 0, "the radius that fits both"


@pytest.mark.parametrize("radius", [-1, 1025])
def test_radius_out_of_range(radius: int) -> None:
    for function in (dilate, feather, soft_mask):
        with pytest.raises(OptionError, match="give 0 to 1024"):
            function(torch.ones(1, 1, 4, 4), radius)


def test_a_mask_beyond_all_memory_is_refused() -> None:
    with pytest.raises(OptionError, match="too large"):
        create_advanced_mask("centre", 1_000_000)


@given(st.integers(0, 999), st.integers(0, 3), st.tuples(*[st.integers(0, 9)] * 4))
def test_the_soft_mask_is_made_near_the_hole_alone(seed: int, radius: int, known: tuple[int, ...]) -> None:
    """Known pixels further off than the edge reaches change nothing."""
    hole = torch.zeros(1, 1, 24, 20)
    hole[..., 6:18, 6:14] = create_advanced_mask("scattered", (12, 8), seed=seed)
    around = functional.pad(hole, known)
    assert torch.equal(feather(around, radius), functional.pad(feather(hole, radius), known))
    assert automatic_radius(around) >= automatic_radius(hole), "more is known, as much is hole"
