"""Grey TIFFs of signed numbers of 16 bits, such as heights above the sea: floats in memory, signed again in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import RNG, tiff
from pixmend.decoding import decode_file
from pixmend.denoising.picture import denoise
from pixmend.encoding import save_picture
from pixmend.errors import OutputError
from pixmend.extending import extend
from pixmend.loading import NO_DATA
from pixmend.pictures import composite
from pixmend.thumbnails import decode_thumbnail
from small_model import MODEL


def stored(tmp_path: Path, heights: NDArray[np.int16], tags: dict[int, Any] | None = None) -> Path:
    (tmp_path / "heights.tif").write_bytes(tiff((heights, tags or {})))
    return tmp_path / "heights.tif"


@pytest.mark.parametrize("least", [-32768, -412, 0, 40])
def test_signed_numbers_are_floats_and_signed_again_in_a_tiff(tmp_path: Path, least: int) -> None:
    heights = RNG(0).integers(least, 32767, (7, 5), endpoint=True).astype(np.int16)
    heights[0, :2] = least, 32767
    picture = decode_file(stored(tmp_path, heights))
    assert picture.samples.dtype == np.float32
    assert np.array_equal(picture.samples[..., 0], heights)
    assert picture.span == (least, 32767)
    out = save_picture(picture, tmp_path / "out.tif")
    with Image.open(out) as image:
        assert image.tag_v2[258] == (16,)  # type: ignore[attr-defined]
        assert image.tag_v2[339] == (2,)  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image), heights)
    assert np.array_equal(decode_file(out).samples, picture.samples)
    with pytest.raises(OutputError, match="floats"):
        save_picture(picture, tmp_path / "out.png")


@pytest.mark.parametrize("value", [0, 254])
def test_whole_numbers_beside_none(tmp_path: Path, value: int) -> None:
    """Of heights the nearest ones that are measured are a whole number away."""
    heights = np.arange(1, 254, dtype=np.int16).reshape(23, 11)
    heights[4:8] = value
    picture = decode_file(stored(tmp_path, heights, {NO_DATA: str(value)}))
    fill = np.full((23, 11, 3), 2 * value / 254 - 1, np.float32)
    spanned = replace(picture, colour_span=(0, 254))
    done = composite(spanned, fill, picture.lacking().astype(np.float32))
    beside = {0: 1, 254: 253}[value]
    assert (done.samples[4:8] == beside).all()
    with Image.open(save_picture(done, tmp_path / "out.tif")) as image:
        assert (np.asarray(image)[4:8] == beside).all()
        assert image.tag_v2[NO_DATA].strip("\0") == str(value)  # type: ignore[attr-defined]


def test_what_is_made_of_heights_is_whole_numbers(tmp_path: Path) -> None:
    heights = RNG(0).integers(-400, 900, (20, 30)).astype(np.int16)
    path = stored(tmp_path, heights)
    wide = extend(path, left=8, model=MODEL, device="cpu").pictures[0]
    with Image.open(save_picture(wide, tmp_path / "wide.tif")) as image:
        assert image.tag_v2[339] == (2,)  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image)[:, 8:], heights)
    quiet = denoise(path, level=0.2, device="cpu").picture
    with Image.open(save_picture(quiet, tmp_path / "quiet.tif")) as image:
        assert image.tag_v2[339] == (2,)  # type: ignore[attr-defined]
        assert np.array_equal(np.asarray(image), quiet.samples[..., 0])
        assert np.asarray(image).std() < heights.std()


def test_black_and_white_of_a_preview_are_the_lowest_and_the_highest(tmp_path: Path) -> None:
    heights = np.linspace(-400, 900, 64, dtype=np.int16).reshape(8, 8)
    shown = decode_thumbnail(stored(tmp_path, heights), 8)[..., 0]
    assert np.array_equal(shown, np.rint((heights + 400) / 1300 * 255))


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}])
def test_signed_numbers_of_either_order_of_bytes(tmp_path: Path, byteorder: str, how: dict[str, Any]) -> None:
    """Pillow swaps the bytes of what libtiff has put in order."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra dev")
    heights = RNG(0).integers(-500, 500, (33, 21)).astype(np.int16)
    file = tmp_path / "heights.tif"
    tifffile.imwrite(file, heights, byteorder=byteorder, photometric="minisblack", metadata=None, **how)
    assert np.array_equal(decode_file(file).samples[..., 0], heights)
    thumbnail = decode_thumbnail(file, 64)
    assert np.corrcoef(thumbnail[..., 0].ravel(), heights.ravel())[0, 1] > 0.99
