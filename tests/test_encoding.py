"""Writing files: what is known comes back byte for byte, in every format, to streams, and in animations."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from picture_files import RNG, noise
from pixmend.decoding import decode_file
from pixmend.encoding import FORMATS, encode, save_animation, save_picture
from pixmend.errors import OutputError, OutputExistsError
from pixmend.pictures import Metadata, Picture, composite, from_array

LOSSLESS = {  # suffix -> the channels that it can hold, with 8 and with 16 bits
    ".png": ((1, 2, 3, 4), (1,)),
    ".tiff": ((1, 2, 3, 4), (1,)),
    ".webp": ((3, 4), ()),
    ".bmp": ((1, 3), ()),
}


@st.composite
def pictures(draw: st.DrawFn, suffix: str) -> Picture:
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 99))
    kinds = {(8, channels) for channels in LOSSLESS[suffix][0]} | {(16, channels) for channels in LOSSLESS[suffix][1]}
    bits, channels = draw(st.sampled_from(sorted(kinds | ({(1, 1)} if suffix != ".webp" else set()))))
    if bits == 1:
        return from_array(RNG(seed).random(size) < 0.5)
    return Picture(noise(*size, channels, seed=seed, dtype=np.uint8 if bits == 8 else np.uint16))


@pytest.mark.parametrize("suffix", LOSSLESS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_known_samples_come_back_byte_for_byte(suffix: str, data: st.DataObject) -> None:
    picture = data.draw(pictures(suffix))
    rng = RNG(data.draw(st.integers(0, 99)))
    soft = np.clip(rng.uniform(-1, 2, picture.size), 0, 1).astype(np.float32)
    fill = rng.uniform(-1.2, 1.2, (*picture.size, 3)).astype(np.float32)
    mended = composite(picture, fill, soft)
    with tempfile.TemporaryDirectory() as folder:
        read = decode_file(save_picture(mended, Path(folder, f"mended{suffix}")))
    assert read.samples.dtype == picture.samples.dtype
    assert read.mode == picture.mode or picture.mode != "1"
    back = read.samples
    if back.shape[2] == 3 and mended.samples.shape[2] == 4:  # WebP drops an alpha that is opaque everywhere
        assert mended.is_opaque
        back = np.concatenate([back, np.full((*picture.size, 1), 255, np.uint8)], axis=2)
    assert np.array_equal(back[soft == 0], picture.samples[soft == 0])
    assert np.array_equal(back, mended.samples)


def test_ten_edits_drift_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    first = Picture(noise(8, 8, 3))
    save_picture(first, path)
    for i in range(10):
        soft = np.zeros((8, 8), np.float32)
        soft[i % 3, :] = 1
        save_picture(composite(decode_file(path), np.zeros((8, 8, 3), np.float32), soft), path, overwrite=True)
    assert np.array_equal(decode_file(path).samples[3:], first.samples[3:])


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".heic", ".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_profile_of_grey_is_in_no_file_of_colours(tmp_path: Path, suffix: str, channels: int) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    profile = bytes(16) + b"GRAY" + bytes(200)
    picture = Picture(noise(5, 5, channels), metadata=Metadata(icc_profile=profile))
    read = decode_file(save_picture(picture, tmp_path / f"grey{suffix}"))
    assert read.is_grey or suffix == ".avif"
    assert read.metadata.icc_profile == (profile if read.channels == 1 else None)
    if suffix == ".webp":
        assert np.array_equal(read.samples[..., : 2 + channels : 3][..., :channels], picture.samples)


def test_palette_is_rgb_where_there_are_none(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png")
    path = save_picture(decode_file(tmp_path / "palette.png"), tmp_path / "out.webp")
    with Image.open(path) as out:
        assert out.mode == "RGB"
        assert np.asarray(out).tolist() == [[[1, 2, 3], [40, 50, 60]]]


@pytest.mark.parametrize("file_format", sorted(set(FORMATS.values())))
def test_encoding_to_a_stream(file_format: str) -> None:
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    encode(Picture(noise(3, 4, 4)), stream, file_format)
    with Image.open(stream) as image:
        options: Any = image.format, image.size
        assert options == (file_format, (4, 3))


def test_animation_rests_on_its_last_picture(tmp_path: Path) -> None:
    shades = [from_array(np.full((30, 600, 3), level, np.uint8)) for level in (0, 100, 200)]
    path = save_animation(shades, tmp_path / "steps.gif")
    with Image.open(path) as film:
        assert (getattr(film, "n_frames", 1), film.size, film.info["loop"]) == (3, (480, 24), 0)
        seen = []
        for i in range(3):
            film.seek(i)
            seen.append((film.convert("RGB").getpixel((5, 5)), film.info["duration"]))
    assert seen == [((0, 0, 0), 120), ((100, 100, 100), 120), ((200, 200, 200), 1500)]
    with pytest.raises(OutputExistsError):
        save_animation(shades, path)
    with pytest.raises(OutputError, match="at least one picture"):
        save_animation([], tmp_path / "none.gif")
