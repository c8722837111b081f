"""Extending: what was there stays byte for byte, wherever the canvas grows; amounts are understood or refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixmend.decoding import decode_file
from pixmend.encoding import save_picture
from pixmend.errors import OptionError
from pixmend.extending import extend, extended_canvas, pixels
from pixmend.images import open_picture
from small_model import MODEL, noise_picture


def test_amounts() -> None:
    assert [pixels(amount, 250, "left") for amount in (7, "7", "7px", "10%", "0.5 %", "0")] == [7, 7, 7, 25, 1, 0]
    for amount in ("a lot", "-1", -1, "1.5", "", "10%%"):
        with pytest.raises(OptionError, match="left"):
            pixels(amount, 250, "left")


@settings(max_examples=30)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(*[st.integers(0, 20)] * 4).filter(any),
    st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "I;16"]),
)
def test_what_was_there_is_exact(h: int, w: int, amounts: tuple[int, int, int, int], mode: str) -> None:
    image = noise_picture(h, w, "L").convert(mode) if mode == "I;16" else noise_picture(h, w, mode)
    before = open_picture(image)
    top, bottom, left, right = amounts
    result = extend(image, top=top, bottom=bottom, left=left, right=right, model=MODEL, device="cpu")
    after = result.pictures[0]
    assert after.size == (h + top + bottom, w + left + right)
    assert after.samples.dtype == before.samples.dtype
    assert np.array_equal(after.samples[top : top + h, left : left + w], before.samples)
    assert result.hole_share == pytest.approx(1 - h * w / (after.size[0] * after.size[1]))
    if after.has_alpha:
        new = np.ones(after.size, bool)
        new[top : top + h, left : left + w] = False
        assert (after.samples[new, -1] == after.levels).all()


XMP = (
    b'<x:xmpmeta exif:PixelXDimension="%d" tiff:ImageLength=\'%d\' xmpGImg:width="5">'
    b"<tiff:ImageWidth>%d</tiff:ImageWidth><exif:PixelYDimension>%d</exif:PixelYDimension></x:xmpmeta>"
)


def exif_of_size(width: int, height: int, order: str, kind: int, orientation: int) -> bytes:
    """An EXIF block that tells a size in the first directory and in its own, kind 3, short, or 4, long; and a note."""

    def entry(tag: int, kind: int, value: int) -> bytes:
        return struct.pack(order + "HHI", tag, kind, 1) + struct.pack(order + ("H2x" if kind == 3 else "I"), value)

    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    first = entry(0x0100, kind, width) + entry(0x0101, kind, height) + entry(0x0112, 3, orientation)
    own = entry(0xA002, kind, width) + entry(0xA003, kind, height)
    first = struct.pack(order + "H", 4) + first + entry(0x8769, 4, 62) + bytes(4)
    return head + first + struct.pack(order + "H", 2) + own + bytes(4) + b"a note at 92"


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(("order", "kind"), [("<", 3), (">", 3), ("<", 4), (">", 4)])
def test_what_tells_the_size_tells_the_new_one(tmp_path: Path, order: str, kind: int, orientation: int) -> None:
    source = tmp_path / "source.jpg"
    exif = exif_of_size(40, 30, order, kind, orientation)
    noise_picture(30, 40, "RGB").save(source, exif=b"Exif\0\0" + exif, xmp=XMP % (40, 30, 40, 30))
    picture = decode_file(source)
    height, width = picture.size
    assert (height, width) == ((30, 40) if orientation < 5 else (40, 30))
    for grown, name, (h, w) in (
        (picture, "upright.png", (height, width)),
        (extended_canvas(picture, left=7, bottom=4)[0], "grown.png", (height + 4, width + 7)),
        (extended_canvas(picture, left=7, bottom=4)[0], "grown.jpg", (height + 4, width + 7)),
    ):
        with Image.open(save_picture(grown, tmp_path / name)) as image:
            assert image.size == (w, h)
            assert image.info["exif"].removeprefix(b"Exif\0\0") == exif_of_size(w, h, order, kind, 1)
            assert image.info["xmp"] == XMP % (w, h, w, h)


def test_a_size_beyond_16_bits_becomes_a_long_number(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    noise_picture(2, 3, "L").save(source, exif=b"Exif\0\0" + exif_of_size(3, 2, "<", 3, 1))
    grown = extended_canvas(decode_file(source), right=70_000)[0]
    with Image.open(save_picture(grown, tmp_path / "grown.png")) as image:
        told = image.getexif()
        assert (told[0x0100], told[0x0101], told.get_ifd(0x8769)) == (70_003, 2, {0xA002: 70_003, 0xA003: 2})


def test_no_size_is_told_that_was_not_and_damage_stays(tmp_path: Path) -> None:
    for i, exif in enumerate((exif_of_size(3, 2, "<", 3, 1)[:70], b"II*\0\x08\0\0\0\0\0\0\0\0\0")):
        source = tmp_path / f"{i}.webp"
        noise_picture(2, 3, "RGB").save(source, exif=b"Exif\0\0" + exif, xmp=b"<x>title</x>")
        kept = extended_canvas(decode_file(source), right=5)[0].metadata
        assert (kept.exif, kept.xmp) == (exif, b"<x>title</x>")


@pytest.mark.parametrize(
    "wrong", [{}, {"left": 0}, {"left": "20%%"}, {"top": 5, "blur": 2}, {"top": 10**8}, {"top": "9" * 400 + "%"}]
)
def test_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        extend(noise_picture(10, 10), model=MODEL, **wrong)
