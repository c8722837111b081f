"""Rasters that tell by a value which pixels were not measured, as GDAL writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import noise, tiff
from pixmend.decoding import decode_file
from pixmend.denoising.picture import denoise
from pixmend.encoding import save_picture
from pixmend.errors import MaskError, PictureError
from pixmend.images import mask_from_alpha, read_mask
from pixmend.inpainting import inpainting
from pixmend.loading import NO_DATA, no_data
from pixmend.pictures import Picture, composite
from pixmend.thumbnails import decode_thumbnail
from small_model import MODEL

HOLE = np.zeros((20, 30), bool)
HOLE[4:12, 6:20] = True


def raster(tmp_path: Path, samples: NDArray[np.generic], told: str) -> Path:
    (tmp_path / "raster.tif").write_bytes(tiff((samples, {NO_DATA: told})))
    return tmp_path / "raster.tif"


@pytest.mark.parametrize(
    ("dtype", "channels", "value", "told"),
    [
        (np.uint8, 3, 0, "0"),
        (np.uint8, 1, 255, "255 \0"),
        (np.uint16, 3, 0, "0"),
        (np.uint16, 1, 65535, "65535.0"),
        (np.int16, 1, -32768, "-32768"),
        (np.int16, 1, -9999, "-9999"),
        (np.float32, 1, -9999, "-9999"),
        (np.float32, 1, np.finfo(np.float32).min, "-3.40282346638529e+38"),
        (np.float32, 3, -0.1, "-0.1"),
    ],
)
def test_what_was_not_measured_is_the_hole(
    tmp_path: Path, dtype: type[np.generic], channels: int, value: float, told: str
) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(1, 200, (20, 30, channels)).astype(dtype)
    samples[HOLE] = value
    samples[0, 0, 0] = value if channels == 3 else 50  # one colour alone tells nothing
    before = decode_file(raster(tmp_path, samples, told))
    assert np.array_equal(mask_from_alpha(before), HOLE)
    result = inpainting(before, model=MODEL, device="cpu", blur=0)
    after = decode_file(save_picture(result.pictures[0], tmp_path / "out.tif"))
    assert np.array_equal(after.samples[~HOLE], samples[~HOLE])
    assert not after.lacking().any()
    if dtype is not np.uint8:
        assert after.samples[HOLE].max() < 300, "the fill lies in the range of what is known"


@pytest.mark.parametrize(
    ("dtype", "value", "beside"),
    [
        (np.uint8, 0, 1),
        (np.uint8, 255, 254),
        (np.uint16, 65535, 65534),
        (np.float32, 0, 1e-45),
        (np.float32, 1, 1 - 2**-24),
    ],
)
def test_fills_do_not_say_that_they_are_none(dtype: Any, value: float, beside: float) -> None:
    picture = Picture(np.full((4, 4, 3), 0.5 if dtype is np.float32 else 90, dtype), no_data=float(value))
    fill = np.full((4, 4, 3), 2 * value / picture.levels - 1, np.float32)
    done = composite(picture, fill, np.ones((4, 4), np.float32), grey=False).samples
    assert np.array_equal(done[0, 0], np.array([beside, value, value], dtype))


def test_the_least_float(tmp_path: Path) -> None:
    """Text may round it beyond the least one; samples near it must not overflow."""
    least = np.finfo(np.float32).min
    samples = np.array([[[1e33], [least], [-1e38]]], np.float32)
    for told in ("-3.4028234663852886e+38", "-3.402824e+38"):
        assert decode_file(raster(tmp_path, samples, told)).lacking().tolist() == [[False, True, False]]


@pytest.mark.parametrize("told", [None, 0, "", "none", "nan", "inf", "1e300"])
def test_what_tells_nothing(told: object) -> None:
    assert no_data(told) is None


def test_samples_that_the_file_has_not(tmp_path: Path) -> None:
    """Of palettes, single bits and pictures whose 0 is white, the value would be another one."""
    image = Image.fromarray(noise(9, 12))
    for name, other in (("palette", image.quantize(16)), ("bits", image.convert("1"))):
        other.save(tmp_path / f"{name}.tif", tiffinfo={NO_DATA: "0"})
        assert decode_file(tmp_path / f"{name}.tif").told_hole() is None
    path = tmp_path / "white.tif"
    for dtype in (np.uint8, np.float32):
        path.write_bytes(tiff((noise(9, 12, 1).astype(dtype) * 0, {NO_DATA: "0", 262: 0})))
        assert decode_file(path).told_hole() is None
        assert decode_thumbnail(path, 9).shape == (9, 12, 3)


def test_floats_beside_the_hole_are_refused_and_whole_numbers_stay(tmp_path: Path) -> None:
    floats = np.random.default_rng(0).random((20, 30, 1)).astype(np.float32)
    floats[0, :3] = -9999
    path = raster(tmp_path, floats, "-9999")
    with pytest.raises(PictureError, match="what was not measured, beside the hole"):
        inpainting(path, HOLE, model=MODEL, device="cpu")
    with pytest.raises(PictureError, match="what was not measured; fill them first"):
        denoise(path, device="cpu")
    with pytest.raises(PictureError, match="what was not measured; give a picture that is whole"):
        decode_thumbnail(path, 10)
    bytes_ = noise(20, 30, 3)
    bytes_[0, :3] = 0
    path = raster(tmp_path, bytes_, "0")
    filled = inpainting(path, HOLE, model=MODEL, device="cpu", blur=0).pictures[0]
    assert np.array_equal(filled.samples[~HOLE], bytes_[~HOLE])
    clean = denoise(path, level=0.1, device="cpu").picture.samples
    assert np.array_equal(clean[0, :3], bytes_[0, :3])
    assert (clean[..., 0] != clean[..., 1]).any(), "colours stay"


def test_sixteen_bits_are_trained_on_as_what_was_measured_uses(tmp_path: Path) -> None:
    samples = np.full((20, 30, 1), 1023, np.uint16)
    samples[:, :3] = 65535
    assert np.array_equal(decode_thumbnail(raster(tmp_path, samples, "65535"), 20), np.full((20, 30, 3), 255))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_in_a_mask_zero_means_something(tmp_path: Path, dtype: type[np.generic]) -> None:
    mask = np.where(HOLE, 255, 0).astype(dtype)[..., None]
    assert np.array_equal(read_mask(raster(tmp_path, mask, "0")).strength > 0.5, HOLE)
    assert not read_mask(raster(tmp_path, 0 * mask, "0")).strength.any()


def test_nothing_measured(tmp_path: Path) -> None:
    for samples, told in ((np.full((4, 4, 1), -9999, np.float32), "-9999"), (np.zeros((4, 4, 3), np.uint8), "0")):
        with pytest.raises(MaskError, match="covers the whole picture"):
            inpainting(raster(tmp_path, samples, told), model=MODEL, device="cpu")


def test_sixteen_bits_beside_the_hole_may_all_be_none(tmp_path: Path) -> None:
    samples = np.where(HOLE, 7, 0).astype(np.uint16)[..., None]
    filled = inpainting(raster(tmp_path, samples, "0"), HOLE, model=MODEL, device="cpu", blur=0).pictures[0]
    assert not filled.samples[~HOLE].any()
    assert decode_thumbnail(raster(tmp_path, 0 * samples, "0"), 20).max() == 0
