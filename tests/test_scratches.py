"""Scratches, dust and creases are found where they were drawn, and a clean picture is mostly left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import pixmend
from conftest import bench_module
from pixmend.cli import main
from pixmend.components import connected, grown, reached
from pixmend.errors import FileMissingError, OptionError, OutputExistsError, PictureError
from pixmend.scratches import ROWS, find_scratches

ASSETS = Path(pixmend.__file__).parent / "assets"


@pytest.fixture(scope="module")
def bench() -> Any:
    return bench_module("scratches")


def photograph(name: str) -> Any:
    """One of the photographs that ship with pixmend: (H, W, 3) in [0, 1]."""
    return np.asarray(Image.open(ASSETS / name).convert("RGB"), np.float32) / 255


def test_most_drawn_damage_is_found_and_little_else(bench: Any) -> None:
    """The bounds are far from what docs/results/scratches.md shows, and far from what marking at random would give."""
    figures = []
    for seed, (name, tone) in enumerate([("chelsea.jpg", "grey"), ("coffee.jpg", "sepia"), ("chelsea.jpg", "colour")]):
        scan, labels = bench.damaged(photograph(name), np.random.default_rng(seed), tone)
        found = find_scratches(scan)
        every = np.any(list(labels.values()), axis=0)
        assert every.mean() < 0.06
        figures.append([bench.precision(found, labels), bench.recall(found, every)])
    precision, recall = np.mean(figures, axis=0)
    assert precision > 0.6
    assert recall > 0.6


def test_scratches_on_plain_ground_are_found_whole(bench: Any) -> None:
    rng = np.random.default_rng(1)
    ground = np.full((300, 400, 3), 0.45, np.float32)
    scan, labels = bench.damaged(ground, rng)
    found = find_scratches(scan)
    assert bench.precision(found, labels) > 0.97
    for kind, least in {"scratches": 0.8, "fibres": 0.7, "dust": 0.7, "creases": 0.8}.items():
        assert bench.recall(found, labels[kind]) > least, kind


def test_grain_edges_and_slopes_are_no_damage() -> None:
    rng, (y, x) = np.random.default_rng(2), np.mgrid[:200, :300]
    picture = np.where(x + y > 250, 0.75, 0.25) + 0.2 * np.sin(x / 40) + 0.015 * rng.standard_normal(x.shape)
    picture[60:140, 40:90] = 0.9  # a thing with corners
    assert find_scratches(np.rint(255 * picture.clip(0, 1)).astype(np.uint8)).mean() < 0.002


def scratched(value: int, ground: int = 120) -> Any:
    picture = np.full((80, 120), ground, np.uint8)
    picture[40, 20:100] = value
    return picture


def test_polarity_chooses_light_or_dark() -> None:
    both = scratched(230)
    both[60, 20:100] = 10
    for polarity, light, dark in (("light", True, False), ("dark", False, True), ("both", True, True)):
        found = find_scratches(both, polarity=polarity)  # type: ignore[arg-type]
        assert [bool(found[y, 30:90].all()) for y in (40, 60)] == [light, dark]
        assert [bool(found[y].any()) for y in (40, 60)] == [light, dark]


def test_more_sensitivity_marks_more() -> None:
    faint = scratched(130)
    shares = [find_scratches(faint, sensitivity=s).mean() for s in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0


def test_grey_colour_alpha_and_16_bits_are_alike() -> None:
    grey = scratched(230)
    found = find_scratches(grey)
    assert found.any()
    alike = [np.dstack([grey] * 3), np.dstack([grey, grey * 0]), grey.astype(np.uint16) * 257]
    for picture in alike:
        assert np.array_equal(find_scratches(picture), found)


def test_floats_count_within_their_range(tmp_path: Path) -> None:
    values = scratched(230).astype(np.float32)
    values[0, 0], values[0, 1] = 0, 255
    hole = find_scratches(values.astype(np.uint8))
    Image.fromarray(values + 40_000).save(tmp_path / "offset.tif")
    assert np.array_equal(find_scratches(tmp_path / "offset.tif"), hole)
    assert hole.any()


def test_a_mirrored_or_turned_picture_has_a_mirrored_or_turned_mask(bench: Any) -> None:
    """Bands, blocks and rounding are laid out from the top left: only a few pixels may depend on them."""
    scan, _ = bench.damaged(np.full((256, 320, 3), 0.5, np.float32), np.random.default_rng(5))
    found = find_scratches(scan)
    assert found.any()
    assert (find_scratches(scan[:, ::-1])[:, ::-1] != found).mean() < 0.005
    assert (np.rot90(find_scratches(np.rot90(scan)), -1) != found).mean() < 0.005


def test_bands_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (ROWS + 60, 90), np.uint8)
    picture[:, 30] = 255
    whole = find_scratches(picture)
    monkeypatch.setattr("pixmend.scratches.ROWS", 7)
    assert np.array_equal(find_scratches(picture), whole)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 2), (33, 31)])
def test_any_size_is_taken(shape: tuple[int, int]) -> None:
    assert find_scratches(np.full(shape, 7, np.uint8)).shape == shape
    assert not find_scratches(np.full(shape, 7, np.uint8)).any()


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_parts_are_those_that_a_flood_fill_finds(picture: Any) -> None:
    parts = connected(picture)
    pixels = list(zip(parts.rows.tolist(), parts.columns.tolist(), strict=True))
    assert pixels == [tuple(p) for p in np.argwhere(picture).tolist()]
    number = dict(zip(pixels, parts.part.tolist(), strict=True))
    left, count = set(pixels), 0
    while left:
        flood = [left.pop()]
        for y, x in flood:  # it grows meanwhile
            beside = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= beside
            flood += beside
        count += 1
        assert len({number[p] for p in flood}) == 1
        assert parts.area[number[flood[0]]] == len(flood)
    assert len(parts) == count


@given(st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_a_bar_is_as_long_as_it_is(length: int, width: int, upright: bool) -> None:
    bar = np.zeros((50, 50), np.bool_)
    bar[3 : 3 + max(length, width), 3 : 3 + width] = True
    parts = connected(bar if upright else bar.T)
    assert parts.length.tolist() == pytest.approx([max(length, width)])
    assert parts.width.tolist() == pytest.approx([width])
    assert np.array_equal(parts.drawn(np.array([True]), bar.shape), bar if upright else bar.T)
    assert not parts.drawn(np.array([False]), bar.shape).any()


def test_the_command_writes_the_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, mask = tmp_path / "scan.png", tmp_path / "mask.png"
    Image.fromarray(scratched(230)).save(scan)
    assert main(["mask", "--scratches", str(scan), "-o", str(mask)]) == 0
    assert "white" in capsys.readouterr().out
    assert np.array_equal(np.asarray(Image.open(mask)) > 0, find_scratches(scan))
    assert main(["mask", "--scratches", str(scan), "-o", str(mask)]) == OutputExistsError.exit_code
    light = ["--polarity", "dark", "--sensitivity", "0.5", "--overwrite"]
    assert main(["mask", "--scratches", str(scan), "-o", str(mask), *light]) == 0
    assert "no damage was found" in capsys.readouterr().err
    assert not np.asarray(Image.open(mask)).any()


def test_the_command_takes_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, mask = tmp_path / "scan.tif", tmp_path / "mask.png"
    second = scratched(230)
    Image.fromarray(second[::-1].copy()).save(scan, save_all=True, append_images=[Image.fromarray(second)])
    assert main(["mask", "--scratches", str(scan), "-o", str(mask)]) == PictureError.exit_code
    assert "take one: of a picture to work on with --frame 1 to 2" in capsys.readouterr().err
    assert main(["mask", "--scratches", str(scan), "--frame", "2", "-o", str(mask)]) == 0
    assert np.array_equal(np.asarray(Image.open(mask)) > 0, find_scratches(second))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--scratches", "gone.png"], FileMissingError.exit_code),
        (["--scratches", "text.png"], PictureError.exit_code),
        (["--scratches", "text.png", "--sensitivity", "1.5"], OptionError.exit_code),
        (["--scratches", "text.png", "--sensitivity", "nan"], OptionError.exit_code),
        (["--scratches", "text.png", "--polarity", "grey"], OptionError.exit_code),
        (["thick", "16", "--scratches", "text.png"], OptionError.exit_code),
        (["--scratches", "text.png", "--seed", "3"], OptionError.exit_code),
        (["thick", "16", "--sensitivity", "0.5"], OptionError.exit_code),
        (["thick", "16", "--frame", "2"], OptionError.exit_code),
        (["thick"], OptionError.exit_code),
        ([], OptionError.exit_code),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    assert main(["mask", *arguments, "-o", "mask.png"]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("mask.png").exists()


def test_scans_of_twelve_bits_have_the_same_scratches() -> None:
    rng = np.random.default_rng(0)
    scan = rng.normal(100, 3, (200, 200))
    scan[20:180, 90:92] = 220
    eight = find_scratches(scan.astype(np.uint8))
    assert 0.003 < eight.mean() < 0.02
    assert np.array_equal(eight, find_scratches(scan.astype(np.uint8) * np.uint16(16)))


@pytest.mark.parametrize("reach", [0, 1, 2, 5, 40])
def test_what_is_reached_is_what_grows_step_by_step(reach: int) -> None:
    hole = np.random.default_rng(reach).random((13, 29)) > 0.97
    expected = hole
    for _ in range(reach):
        expected = grown(expected)
    np.testing.assert_array_equal(reached(hole, reach), expected)
