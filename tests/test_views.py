"""Views: exact at scale 1, of the size asked for at others, and never too large."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pixmend import views
from pixmend.errors import OptionError
from pixmend.images import Picture, open_picture
from pixmend.pictures import Metadata
from pixmend.views import view_of

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by channels; WebP has colour always


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_part_at_scale_1_has_the_very_samples(channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
    view = view_of(Picture(samples), left=4, top=3, width=10, height=8, scale=1)
    assert view.media_type == "image/webp"
    np.testing.assert_array_equal(
        np.asarray(opened(view.data).convert(MODES[channels])).reshape(8, 10, channels), samples[3:11, 4:14]
    )


def test_what_is_too_long_for_webp_has_the_very_samples_too() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (2, 16_384, 3), np.uint8)
    view = view_of(Picture(samples), scale=1)
    assert view.media_type == "image/png"
    np.testing.assert_array_equal(np.asarray(opened(view.data)), samples)


def test_16_bits_are_shown_with_8() -> None:
    samples = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16, 1)
    assert np.asarray(opened(view_of(Picture(samples)).data).convert("L")).ravel().tolist() == list(range(256))


def test_even_picture_stays_even_when_reduced() -> None:
    view = view_of(open_picture(np.full((90, 60, 3), (10, 200, 77), np.uint8)), scale=0.5)
    image = opened(view.data)
    assert image.size == (30, 45)
    assert set(np.asarray(image).reshape(-1, 3).tobytes()) == {10, 200, 77}


def test_whole_picture_is_reduced_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_PIXELS", 1000)
    width, height = opened(view_of(open_picture(np.zeros((90, 60, 3), np.uint8))).data).size
    assert width * height <= 1000 < (width + 1) * (height + 1)
    assert opened(view_of(open_picture(np.zeros((1, 5000), np.uint8))).data).size == (1000, 1)


def test_large_opaque_views_are_jpeg_and_keep_the_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (1001, 1000))
    image.info["icc_profile"] = profile
    view = view_of(open_picture(image))
    assert view.media_type == "image/jpeg"
    assert opened(view.data).info["icc_profile"] == profile


def test_a_strip_wider_than_jpeg_holds_is_seen() -> None:
    view = view_of(open_picture(np.zeros((16, 70_000, 3), np.uint8)))
    assert (view.media_type, opened(view.data).size) == ("image/png", (70_000, 16))


def test_a_profile_of_grey_is_in_grey_files_alone() -> None:
    """WebP has colour always."""
    picture = Picture(
        np.zeros((1001, 1000, 1), np.uint8), metadata=Metadata(icc_profile=bytes(16) + b"GRAY" + bytes(108))
    )
    for part, kept in (({}, True), ({"height": 10}, False)):
        assert ("icc_profile" in opened(view_of(picture, **part).data).info) == kept


@pytest.mark.parametrize(
    "part", [{"left": 31}, {"left": 30}, {"width": 31}, {"top": -1}, {"top": 1, "height": 20}, {"width": 0}]
)
def test_part_outside_is_refused(part: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="not inside"):
        view_of(open_picture(np.zeros((20, 30), np.uint8)), **part)


def test_view_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST_PIXELS", 100)
    with pytest.raises(OptionError, match="too large"):
        view_of(open_picture(np.zeros((20, 30), np.uint8)), scale=1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_cameras_twelve_bits_are_seen_as_they_are_worked_on(mode: str) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 4096, (6, 8, len(mode))).astype(np.uint16)
    samples[0, 0, 0] = 4095
    if mode[-1] == "A":
        samples[..., -1] = rng.integers(0, 65536, (6, 8))
    whole = np.asarray(opened(view_of(Picture(samples)).data).convert(mode)).reshape(6, 8, -1)
    part = np.asarray(opened(view_of(Picture(samples), left=3, top=2).data).convert(mode)).reshape(4, 5, -1)
    assert np.array_equal(part, whole[2:, 3:]), "all parts of a picture have the same black and white"
    colours = samples[..., : len(mode.rstrip("A"))] * (255 / 4095)
    seen = whole[..., : colours.shape[2]] if mode != "RGBA" else whole[..., :3]
    shown = whole[..., -1] if mode[-1] == "A" else np.full((6, 8), 255)
    assert np.abs(seen - colours)[shown > 0].max() <= 1
    if mode[-1] == "A":
        assert np.abs(whole[..., -1] - samples[..., -1] / 257).max() <= 1


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.uint16, 4), (np.float32, 3), (np.float32, 1)])
def test_pictures_of_more_bits_are_seen_band_by_band_as_they_are_at_once(
    monkeypatch: pytest.MonkeyPatch, dtype: type[np.generic], channels: int
) -> None:
    values = np.random.default_rng(0).random((50, 20, channels))
    picture = Picture((values * (4095 if dtype == np.uint16 else 1)).astype(dtype))
    at_once = view_of(picture).data
    monkeypatch.setattr("pixmend.views.BAND", 7)
    assert view_of(picture).data == at_once
