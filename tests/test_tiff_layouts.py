"""How a TIFF lays its samples out: each layout is written by tifffile, an independent program, and read to the bit."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixmend.decoding import decode_file
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
