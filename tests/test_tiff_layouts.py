"""How a TIFF lays its samples out: each layout is written by tifffile, an independent program, and read to the bit."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixmend import opening, tiff_bytes
from pixmend.decoding import NO_MASK, NOT_KEPT, decode_file
from pixmend.encoding import save_picture
from pixmend.errors import PictureError
from pixmend.thumbnails import decode_thumbnail, decode_thumbnail_of

tifffile = pytest.importorskip("tifffile")

KINDS = {"RGB": (3, "rgb", ()), "RGBA": (4, "rgb", ("unassalpha",)), "LA": (2, "minisblack", ("unassalpha",))}


def written(path: Path, samples: Any, mode: str, planar: str, **options: Any) -> Path:
    """A TIFF of samples (H, W, C)."""
    _, photometric, extra = KINDS[mode]
    stored = samples if planar == "contig" else samples.transpose(2, 0, 1)
    layout = {"photometric": photometric, "planarconfig": planar, "extrasamples": extra, "metadata": None}
    tifffile.imwrite(path, stored, **layout, **options)
    return path


@pytest.mark.parametrize("size", [(70, 50), (64, 32)], ids=str)
@pytest.mark.parametrize("tile", [None, (64, 64), (16, 32)], ids=str)
@pytest.mark.parametrize(("mode", "dtype"), [("RGB", "u2"), ("RGBA", "u2"), ("LA", "u2"), ("RGB", "f4")])
def test_strips_and_tiles_in_planes_and_by_pixel(
    tmp_path: Path, size: tuple[int, int], tile: tuple[int, int] | None, mode: str, dtype: str
) -> None:
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 65536, (*size, KINDS[mode][0])).astype(dtype)
    samples = samples / np.float32(65535) if dtype == "f4" else samples
    for planar, compression, order in product(("contig", "separate"), (None, "zlib"), "<>"):
        path = written(tmp_path / "a.tif", samples, mode, planar, tile=tile, compression=compression, byteorder=order)
        assert np.array_equal(decode_file(path).samples, samples), (planar, compression, order)
        small = decode_thumbnail(path, 1000)
        assert np.array_equal(small, decode_thumbnail_of(path.read_bytes(), "a.tif", 1000))
        if mode == "RGB":
            levels = samples * np.float32(255 if dtype == "f4" else 1 / 257)
            assert np.abs(small - levels).max() <= 0.51, (planar, compression, order)


@pytest.mark.parametrize("mode", KINDS)
@pytest.mark.parametrize("order", "<>")
def test_strips_and_pages_without_compression(tmp_path: Path, mode: str, order: str) -> None:
    """As OpenCV and libtiff write them by themselves; the last strip is shorter."""
    samples = np.random.default_rng(2).integers(0, 4096, (70, 50, KINDS[mode][0]), np.uint16)
    path = written(tmp_path / "a.tif", samples, mode, "contig", rowsperstrip=16, byteorder=order)
    assert np.array_equal(decode_file(path).samples, samples)
    if mode == "RGB":
        assert np.abs(decode_thumbnail(path, 1000) - samples / 4095 * 255).max() <= 0.51, "12 bits are not nearly black"
        pages = np.stack([samples, samples[::-1]])
        tifffile.imwrite(path, pages, photometric="rgb", rowsperstrip=16, byteorder=order, metadata=None)
        assert np.array_equal(decode_file(path, 2).samples, samples[::-1])


def test_planes_that_pillow_garbles_are_refused(tmp_path: Path) -> None:
    """In a file of two pages they are left to Pillow, which takes every byte for a sample."""
    path, samples = tmp_path / "two.tif", np.zeros((2, 3, 20, 30), np.uint16)
    tifffile.imwrite(path, samples, photometric="rgb", planarconfig="separate", metadata=None)
    for read in (lambda: decode_file(path, 1), lambda: decode_thumbnail(path, 10)):
        with pytest.raises(PictureError, match=r"in planes.* save it pixel by pixel"):
            read()


TURNS: dict[int, Any] = {  # what a viewer does with rows that are stored so
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("told_by", ["tag", "XMP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_what_pillow_does_not_read_is_turned_once(tmp_path: Path, orientation: int, told_by: str) -> None:
    rng = np.random.default_rng(3)
    xmp = b'<x tiff:Orientation="%d"/>' % orientation
    tag = (274, "H", 1, orientation, True) if told_by == "tag" else (700, "B", len(xmp), xmp, True)
    layouts: list[tuple[str, str, str, dict[str, Any]]] = [
        ("RGB", "f4", "contig", {"compression": "zlib"}),
        ("RGB", "u2", "separate", {}),
        ("RGB", "u2", "contig", {"tile": (16, 16)}),
        ("LA", "u2", "contig", {"compression": "zlib"}),
    ]
    for mode, dtype, planar, options in layouts:
        samples = rng.integers(0, 65536, (20, 30, KINDS[mode][0])).astype(dtype)
        samples = samples / np.float32(65535) if dtype == "f4" else samples
        path = written(tmp_path / "a.tif", samples, mode, planar, extratags=[tag], **options)
        picture = decode_file(path)
        assert np.array_equal(picture.samples, TURNS[orientation](samples)), (mode, dtype, planar)
        assert decode_thumbnail(path, 100).shape == (*picture.size, 3)
        again = decode_file(save_picture(picture, tmp_path / "b.tif", overwrite=True))
        assert np.array_equal(again.samples, picture.samples)


def test_tiles_far_higher_than_the_picture_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.zeros((10, 100, 3), np.float32)
    path = written(tmp_path / "a.tif", samples, "RGB", "separate", tile=(16, 112), compression="zlib")
    data = bytearray(path.read_bytes())
    tiff_bytes.Directory(data).set(323, 160, 3)  # so that the planes are taken for 192,000 bytes
    path.write_bytes(data)
    monkeypatch.setattr(opening, "MAX_PIXELS", 15_000)
    with pytest.raises(PictureError, match="its tiles are too large"):
        decode_file(path)
    monkeypatch.undo()
    tiff_bytes.Directory(data).set(323, 40_000, 3)  # for 48 megabytes, of a picture of twelve kilobytes
    path.write_bytes(data)
    with pytest.raises(PictureError, match="its tiles are too large"):
        decode_file(path)


def test_overviews_and_masks_in_a_bigtiff_are_no_pages(tmp_path: Path) -> None:
    """And pages are; a mask of one bit is of a kind that Pillow does not read."""
    path, samples = tmp_path / "big.tif", np.random.default_rng(4).integers(0, 256, (64, 48, 3), np.uint8)
    inside: list[tuple[Any, dict[str, Any]]] = [
        (np.ones((64, 48), np.bool_), {"subfiletype": 4, "photometric": 4}),
        (samples[::2, ::2], {"subfiletype": 1, "photometric": "rgb"}),
    ]
    for more, notes in ((inside, (NOT_KEPT, NO_MASK)), (inside[1:], (NOT_KEPT,)), ([], ())):
        with tifffile.TiffWriter(path, bigtiff=True) as file:
            file.write(samples, photometric="rgb", metadata=None)
            for page, options in more:
                file.write(page, metadata=None, **options)
        picture = decode_file(path)
        assert np.array_equal(picture.samples, samples)
        assert picture.notes == notes
    tifffile.imwrite(path, np.stack([samples] * 2), photometric="rgb", bigtiff=True, metadata=None)
    with pytest.raises(PictureError, match="holds 2 frames or pages"):
        decode_file(path)
