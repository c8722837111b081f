"""Files that are not written as asked: what a format does not hold, what has no room, what fails on the way."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from picture_files import RNG, noise
from pixmend.decoding import decode_file
from pixmend.encoding import check_savable, save_picture
from pixmend.errors import MemoryLimitError, OutputError, OutputExistsError
from pixmend.pictures import Picture


@pytest.mark.parametrize("name", ["out", "out.xyz", ".png", "out.png.gz"])
def test_unknown_name_lists_what_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"allowed are \.png, \.tif"):
        save_picture(Picture(noise(2, 2, 3)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_names_in_capitals(tmp_path: Path) -> None:
    assert check_savable(Picture(noise(2, 2, 3)), tmp_path / "A.JPG") == "JPEG"


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_refused_only_where_it_says_something(tmp_path: Path, suffix: str) -> None:
    samples = noise(4, 4, 4)
    samples[..., 3] = 255
    path = save_picture(Picture(samples), tmp_path / f"opaque{suffix}")
    assert decode_file(path).samples.shape == (4, 4, 3)
    samples[1, 1, 3] = 254
    with pytest.raises(OutputError, match=r"alpha .* use \.png, \.webp"):
        save_picture(Picture(samples), tmp_path / f"clear{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
def test_sixteen_bits_are_refused_where_they_would_be_cut(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"8 bits .* \.png or \.tiff"):
        save_picture(Picture(noise(2, 2, 1, dtype=np.uint16)), tmp_path / f"deep{suffix}")


def test_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="exists"):
        save_picture(Picture(noise(2, 2, 3)), path)
    assert path.read_bytes() == b"precious"
    save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert decode_file(path).size == (2, 2)


@pytest.mark.parametrize(("suffix", "longest"), [(".webp", 16383), (".avif", 32768), (".jpg", 65500), (".gif", 65535)])
def test_sides_that_a_format_does_not_hold_are_refused_before_anything_is_computed(
    tmp_path: Path, suffix: str, longest: int
) -> None:
    long = Picture(np.zeros((1, longest, 1), np.uint8))
    assert decode_file(save_picture(long, tmp_path / f"long{suffix}")).size == (1, longest)
    for shape in ((1, longest + 1, 1), (longest + 1, 1, 1)):
        with pytest.raises(OutputError, match=rf"holds {longest} pixels a side.*use \.png"):
            check_savable(Picture(np.zeros(shape, np.uint8)), tmp_path / f"longer{suffix}")


@pytest.mark.parametrize(("suffix", "lossy"), [(".jpg", True), (".avif", True), (".png", False), (".webp", False)])
def test_rounding_of_what_is_known_is_told(tmp_path: Path, suffix: str, lossy: bool) -> None:
    """Whatever the source's name: that of a PNG may end in .jpg."""
    told: list[str] = []
    save_picture(Picture(noise(8, 8, 3)), tmp_path / f"out{suffix}", note=told.append)
    assert ["rounds colours" in line for line in told] == [True] * lossy


def test_failing_encoder_leaves_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("pixmend.encoding.encode", failing)
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"cannot be written as PNG: two lines") as caught:
        save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_that_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pixmend.encoding.encode", full)
    with pytest.raises(MemoryLimitError, match=r"out\.png needs more memory"):
        save_picture(Picture(noise(2, 2, 3)), tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


def test_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_half_transparent_is_no_gif(tmp_path: Path) -> None:
    paletted = Image.fromarray(RNG(0).integers(0, 3, (6, 8), np.uint8), "P")
    paletted.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    paletted.save(tmp_path / "half.png", transparency=bytes((0, 128, 255)))
    with pytest.raises(OutputError, match="what is not opaque is wholly transparent"):
        save_picture(decode_file(tmp_path / "half.png"), tmp_path / "half.gif")


def test_all_that_is_transparent_stays_so_in_a_gif(tmp_path: Path) -> None:
    """Whose palette has one entry for it."""
    paletted = Image.fromarray(RNG(0).integers(0, 4, (12, 16), np.uint8), "P")
    paletted.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    paletted.save(tmp_path / "clear.png", transparency=bytes((0, 255, 0, 255)))
    before = decode_file(tmp_path / "clear.png").samples
    after = decode_file(save_picture(decode_file(tmp_path / "clear.png"), tmp_path / "clear.gif")).samples
    assert np.array_equal(after[..., 3], before[..., 3])
    assert np.array_equal(after[before[..., 3] > 0], before[before[..., 3] > 0])
