"""Reading files: every mode exact or refused, every orientation applied once, every kind of damage told in one line."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from picture_files import exif_block, noise, png, tiff
from pixmend import opening
from pixmend.decoding import NO_MASK, NOT_KEPT, TAKEN_FOR_ALPHA, bits_told, decode_file, decode_image
from pixmend.encoding import save_picture
from pixmend.errors import FileMissingError, MemoryLimitError, PictureError
from pixmend.heif import register_heif
from pixmend.metadata import calm
from pixmend.thumbnails import decode_thumbnail

STORED = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
UPRIGHT = {  # what a viewer shows of STORED, by orientation
    1: [[10, 20, 30], [40, 50, 60]],
    2: [[30, 20, 10], [60, 50, 40]],
    3: [[60, 50, 40], [30, 20, 10]],
    4: [[40, 50, 60], [10, 20, 30]],
    5: [[10, 40], [20, 50], [30, 60]],
    6: [[40, 10], [50, 20], [60, 30]],
    7: [[60, 30], [50, 20], [40, 10]],
    8: [[30, 60], [20, 50], [10, 40]],
}


def written(tmp_path: Path, data: bytes, name: str = "picture.png") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def saved(tmp_path: Path, image: Image.Image, file_format: str, **options: Any) -> Path:
    path = tmp_path / f"picture.{file_format.lower()}"
    image.save(path, file_format, **options)
    return path


# ------------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("shape", "file_format"),
    [
        ((7, 5), "PNG"),
        ((7, 5), "TIFF"),
        ((7, 5), "BMP"),
        ((7, 5), "PPM"),
        ((7, 5, 2), "PNG"),
        ((7, 5, 2), "TIFF"),
        ((7, 5, 3), "PNG"),
        ((7, 5, 3), "TIFF"),
        ((7, 5, 3), "BMP"),
        ((7, 5, 3), "PPM"),
        ((7, 5, 3), "TGA"),
        ((7, 5, 4), "PNG"),
        ((7, 5, 4), "TIFF"),
    ],
)
def test_eight_bits_are_read_exactly(tmp_path: Path, shape: tuple[int, ...], file_format: str) -> None:
    samples = noise(*shape)
    picture = decode_file(saved(tmp_path, Image.fromarray(samples), file_format))
    assert np.array_equal(picture.samples, samples.reshape(7, 5, -1))
    assert picture.format == file_format
    assert picture.notes == ()


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_read_exactly(tmp_path: Path, file_format: str) -> None:
    samples = noise(7, 5, dtype=np.uint16)
    picture = decode_file(saved(tmp_path, Image.fromarray(samples), file_format))
    assert picture.samples.dtype == np.uint16
    assert np.array_equal(picture.samples[..., 0], samples)
    assert picture.levels == 65535


def test_sixteen_bits_big_endian_and_pgm(tmp_path: Path) -> None:
    big = decode_image(Image.frombytes("I;16B", (2, 1), b"\x01\x02\xff\xfe"))
    assert big.samples.tolist() == [[[0x0102], [0xFFFE]]]
    pgm = decode_file(written(tmp_path, b"P5\n2 1\n65535\n\x01\x02\xff\xfe", "a.pgm"))
    assert pgm.samples.tolist() == [[[0x0102], [0xFFFE]]]


def test_black_and_white(tmp_path: Path) -> None:
    bits = noise(9, 11) > 127
    picture = decode_file(saved(tmp_path, Image.fromarray(bits), "PNG"))
    assert picture.mode == "1"
    assert np.array_equal(picture.samples[..., 0], bits * np.uint8(255))


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([1, 2, 3, 40, 50, 60, 7, 8, 9])
    image.putdata([0, 1, 2, 0])
    picture = decode_file(saved(tmp_path, image, "PNG"))
    assert picture.samples.tolist() == [[[1, 2, 3], [40, 50, 60]], [[7, 8, 9], [1, 2, 3]]]
    one = decode_file(saved(tmp_path, image, "PNG", transparency=1))
    assert one.samples[..., 3].tolist() == [[255, 0], [255, 255]]
    assert one.samples[..., :3].tolist() == picture.samples.tolist()
    many = decode_file(saved(tmp_path, image, "PNG", transparency=b"\x05\x06\x07"))
    assert many.samples[..., 3].tolist() == [[5, 6], [7, 5]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 1, [[0, 255], [255, 0], [0, 255]]),  # 0 1 0
        (2, b"\x6c", 2, [[85, 255], [170, 0], [255, 255]]),  # 1 2 3
        (4, b"\x1f\x70", 7, [[17, 255], [255, 255], [119, 0]]),  # 1 15 7
        (8, b"\x01\x02\x03", 3, [[1, 255], [2, 255], [3, 0]]),
    ],
)
def test_transparent_level_of_grey(tmp_path: Path, depth: int, row: bytes, key: int, expected: list[list[int]]) -> None:
    data = png(3, 1, depth, 0, row, before=[(b"tRNS", bytes([0, key])), (b"tEXt", b"Title\0kept")])
    picture = decode_file(written(tmp_path, data))
    assert picture.samples.tolist() == [expected]
    assert picture.format == "PNG"
    assert picture.metadata.png_chunks == ((b"tEXt", b"Title\0kept"),)


def test_transparent_colour(tmp_path: Path) -> None:
    data = png(2, 1, 8, 2, b"\x01\x02\x03\x04\x05\x06", before=[(b"tRNS", bytes([0, 4, 0, 5, 0, 6]))])
    assert decode_file(written(tmp_path, data)).samples.tolist() == [[[1, 2, 3, 255], [4, 5, 6, 0]]]


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_a_channel_are_read_exactly(tmp_path: Path, colour_type: int) -> None:
    samples = noise(5, 3, {0: 1, 2: 3, 4: 2, 6: 4}[colour_type], dtype=np.uint16)
    picture = decode_file(written(tmp_path, png(3, 5, 16, colour_type, samples.astype(">u2").tobytes())))
    assert picture.samples.dtype == np.uint16
    assert np.array_equal(picture.samples, samples)


@pytest.mark.parametrize(("colour_type", "row"), [(0, b"\1\2\1\3"), (2, b"\1\2\3\4\5\6\1\2\3\4\5\7")])
def test_sixteen_bits_with_one_that_is_transparent(tmp_path: Path, colour_type: int, row: bytes) -> None:
    data = png(2, 1, 16, colour_type, row, before=[(b"tRNS", row[: len(row) // 2])])
    picture = decode_file(written(tmp_path, data))
    assert picture.samples[0, :, -1].tolist() == [0, 65535]
    assert picture.samples[..., :-1].astype(">u2").tobytes() == row


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P6\n1 1\n65535\n\0\1\0\2\0\3", "16 bits a channel"),
        (b"P6\n1 1\n1023\n\0\1\0\2\0\3", "16 bits a channel"),
    ],
)
def test_other_samples_that_would_not_survive(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        decode_file(written(tmp_path, data))


def test_whole_numbers_of_32_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="save it"):
        decode_file(saved(tmp_path, Image.new("I", (3, 3)), "TIFF"))


def test_whole_numbers_are_taken_where_they_fit() -> None:
    image = Image.new("I", (2, 1))
    image.putdata([3, 65535])
    assert decode_image(image).samples.tolist() == [[[3], [65535]]]
    image.putdata([3, 65536])
    with pytest.raises(PictureError, match="32 bits"):
        decode_image(image)


def test_cmyk_is_converted_and_says_so(tmp_path: Path) -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    picture = decode_file(saved(tmp_path, image, "TIFF", icc_profile=b"for four channels"))
    assert picture.samples[0, 0].tolist() == [255, 0, 0]
    assert "CMYK" in picture.notes[0]
    assert picture.metadata.icc_profile is None


def test_pillow_image_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, png(3, 1, 2, 0, b"\x6c", before=[(b"tRNS", b"\0\2")]))
    with Image.open(path) as image:
        assert decode_image(image).samples[0, 1].tolist() == [170, 0]
        assert image.mode == "L"
        assert image.info["transparency"] == 2


# ------------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(tmp_path: Path, file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    path = saved(tmp_path, Image.fromarray(STORED), file_format, exif=exif, **options)
    picture = decode_file(path)
    assert picture.samples[..., 0].tolist() == UPRIGHT[orientation]
    if picture.metadata.exif:
        kept = Image.Exif()
        kept.load(b"Exif\0\0" + picture.metadata.exif)
        assert kept.get(0x0112, 1) == 1


@pytest.mark.parametrize("file_format", ["JPEG", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_lossy_formats(tmp_path: Path, file_format: str, orientation: int) -> None:
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif")
        register_heif()
    image = Image.fromarray(STORED.repeat(8, 0).repeat(8, 1))  # whole blocks of one grey are exact enough
    path = saved(tmp_path, image, file_format, quality=100, exif=b"Exif\0\0" + exif_block(orientation))
    shown = decode_file(path).samples[4::8, 4::8, 0].astype(int)
    assert np.abs(shown - np.array(UPRIGHT[orientation])).max() <= 2
    assert decode_thumbnail(path, 16).shape == (*decode_file(path).size, 3)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_exif_is_kept_byte_for_byte(tmp_path: Path, order: str, kind: int) -> None:
    block = exif_block(6, order, kind)
    picture = decode_file(saved(tmp_path, Image.fromarray(STORED), "PNG", exif=b"Exif\0\0" + block))
    assert picture.samples[..., 0].tolist() == UPRIGHT[6]
    assert picture.metadata.exif == exif_block(1, order, kind)


def test_exif_in_a_text_as_imagemagick_writes_it(tmp_path: Path) -> None:
    block = b"Exif\0\0" + exif_block(8)
    text = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    data = png(3, 2, 8, 0, STORED.tobytes(), before=[(b"tEXt", text), (b"tEXt", b"Title\0kept")])
    picture = decode_file(written(tmp_path, data))
    assert picture.samples[..., 0].tolist() == UPRIGHT[8]
    assert picture.metadata.exif == exif_block(1)
    assert picture.metadata.png_chunks == ((b"tEXt", b"Title\0kept"),)


def test_exif_and_xmp_in_texts_as_exiftool_writes_them(tmp_path: Path) -> None:
    """Both under one name, as they stand in a JPEG's APP1."""
    block = b"Exif\0\0" + exif_block(8)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    for number, data in enumerate((block, xmp)):
        text = b"Raw profile type APP1\0\ngeneric profile\n%8d\n%s\n" % (len(data), data.hex().encode())
        picture = decode_file(written(tmp_path, png(3, 2, 8, 0, STORED.tobytes(), before=[(b"tEXt", text)])))
        assert picture.samples[..., 0].tolist() == UPRIGHT[1 if number else 8]
        assert picture.metadata.exif == (None if number else exif_block(1))
        assert picture.metadata.xmp == (xmp.partition(b"\0")[2] if number else None)
        assert picture.metadata.png_chunks == ()


def test_icons_are_refused_before_what_is_in_them_is_decoded(tmp_path: Path) -> None:
    """Their own headers say nothing of its size."""
    for kind in ("ICO", "ICNS"):
        Image.new("RGB", (64, 64)).save(tmp_path / "a.png", kind)
        with pytest.raises(PictureError, match="is an icon or texture with pictures in it; save the one"):
            decode_file(tmp_path / "a.png")


def test_threads_do_not_take_each_other_s_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with calm(1000):
        with calm(100):
            assert Image.MAX_IMAGE_PIXELS == 1000
        with calm(2000):
            assert Image.MAX_IMAGE_PIXELS == 2000
    assert Image.MAX_IMAGE_PIXELS == 5


@pytest.mark.parametrize(
    ("exif", "orientation"),
    [
        (b"II", 1),
        (b"nonsense", 1),
        (b"II*\0\xff\xff\xff\xff", 1),
        (b"MM\0*\0\0\0\x08\xff\xff", 1),
        (exif_block(6)[:30], 1),  # cut off before the orientation
        (exif_block(6)[:40], 6),  # and behind it
        (exif_block(9), 1),
    ],
)
def test_damaged_exif_stops_nothing(tmp_path: Path, exif: bytes, orientation: int) -> None:
    data = png(3, 2, 8, 0, STORED.tobytes(), before=[(b"eXIf", exif)])
    assert decode_file(written(tmp_path, data)).samples[..., 0].tolist() == UPRIGHT[orientation]


@pytest.mark.parametrize(("orientation", "dpi"), [(1, (300, 150)), (3, (300, 150)), (6, (150, 300))])
def test_xmp_and_resolution_are_turned_along(tmp_path: Path, orientation: int, dpi: tuple[int, int]) -> None:
    """In XMP an orientation of 6 may be left from before a program turned the picture, and set EXIF's to 1."""
    xmp = b'<x tiff:Orientation="6"/><tiff:Orientation>6</tiff:Orientation>'
    options = {"exif": b"Exif\0\0" + exif_block(orientation), "xmp": xmp, "dpi": (300, 150)}
    metadata = decode_file(saved(tmp_path, Image.fromarray(STORED), "JPEG", **options)).metadata
    assert metadata.xmp == xmp.replace(b"6", b"1")
    assert metadata.dpi == dpi


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp", ".heic"])
def test_an_orientation_left_in_xmp_turns_no_output(tmp_path: Path, suffix: str) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    image = Image.fromarray(STORED.repeat(64, 0).repeat(64, 1))
    options = {"exif": b"Exif\0\0" + exif_block(1), "xmp": b'<x tiff:Orientation="6"/>'}
    picture = decode_file(saved(tmp_path, image, "JPEG", **options))
    assert picture.size == (128, 192)
    assert decode_file(save_picture(picture, tmp_path / f"out{suffix}")).size == (128, 192)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_place_and_aspect_of_a_turned_png(tmp_path: Path, orientation: int) -> None:
    page = [(b"oFFs", bytes(9)), (b"vpAg", bytes(9))]
    before = [(b"eXIf", exif_block(orientation)), *page, (b"pHYs", struct.pack(">IIB", 3, 2, 0))]
    kept = decode_file(written(tmp_path, png(3, 2, 8, 0, STORED.tobytes(), before=before))).metadata.png_chunks
    aspect = struct.pack(">IIB", *((2, 3) if orientation == 6 else (3, 2)), 0)
    assert kept == (*(page if orientation == 1 else ()), (b"pHYs", aspect))


def test_whole_numbers_that_are_refused(tmp_path: Path) -> None:
    levels = noise(7, 5)
    for dtype, reason in ((np.uint32, "32 bits"), (np.int32, "32 bits")):
        with pytest.raises(PictureError, match=reason):
            decode_file(written(tmp_path, tiff((levels.astype(dtype), {})), "long.tif"))
    with pytest.raises(PictureError, match="below zero"):
        decode_file(written(tmp_path, tiff((levels.astype(np.int32) - 1000, {})), "below.tif"))
    with pytest.raises(PictureError, match="of a kind that is not read"):
        decode_file(written(tmp_path, tiff((levels.astype(np.int16), {262: 0})), "white.tif"))
    path = written(tmp_path, tiff((levels.astype(np.int8), {})), "bytes.tif")
    for read in (decode_file, lambda path: decode_thumbnail(path, 8)):
        with pytest.raises(PictureError, match="signed numbers of 8 bits"):
            read(path)


# --------------------------------------------------------------------------------------------------- what is no picture


def several_frames(file_format: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(noise(8, 8, 3, seed=i)) for i in range(3)]
    frames[0].save(stream, file_format, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def test_channels_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    """Four bytes a pixel; of the fourth it is not said what it is (TIFF's ExtraSamples 0)."""
    path = saved(tmp_path, Image.fromarray(noise(8, 8, 4)), "TIFF")
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<HHI", 338, 3, 1))
    data[at + 8] = 0
    with pytest.raises(PictureError, match="4 channels, of which 3 are read and the others would be lost"):
        decode_file(written(tmp_path, bytes(data), "five.tif"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_channel_without_a_name_is_taken_for_alpha(tmp_path: Path, dtype: Any) -> None:
    """As OpenCV writes alpha; but it may be infrared as well."""
    samples = noise(8, 8, 4, dtype=dtype)
    for extra, notes in (({}, (TAKEN_FOR_ALPHA,)), ({338: 2}, ())):
        picture = decode_file(written(tmp_path, tiff((samples, extra)), "four.tif"))
        assert np.array_equal(picture.samples, samples)
        assert picture.notes == notes


@pytest.mark.parametrize(
    ("tags", "is_raw"),
    [
        ({254: 1, 330: 8}, True),  # NEF, ARW
        ({254: 1, 330: 8, 50706: (1, 4, 0, 0)}, True),  # DNG
        ({330: 8, 50706: (1, 4, 0, 0)}, True),
        ({254: 1}, False),  # GDAL's overviews in a file of their own
        ({330: 8}, False),  # a pyramid whose smaller levels are below the first
        ({50706: (1, 4, 0, 0)}, False),
    ],
)
def test_camera_raws_are_not_taken_for_their_previews(tmp_path: Path, tags: dict[int, Any], is_raw: bool) -> None:
    samples = noise(8, 12, 3)
    path = written(tmp_path, tiff((samples, tags)), "photo.nef")
    if not is_raw:
        assert np.array_equal(decode_file(path).samples, samples)
        return
    with pytest.raises(PictureError, match=r"is a camera raw .*; develop it first"):
        decode_file(path)
    with Image.open(path) as image, pytest.raises(PictureError, match="is a camera raw"):
        decode_image(image)


def test_later_frames_of_16_bits_are_refused(tmp_path: Path) -> None:
    """They are laid over those before them, of which Pillow has 8 bits."""
    first, second = noise(2, 3, 3, dtype=np.uint16).astype(">u2"), noise(2, 2, 3, dtype=np.uint16).astype(">u2")
    control = [struct.pack(">IIIIIHHBB", n, w, 2, 0, 0, 1, 10, 0, 0) for n, w in ((0, 3), (1, 2))]
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in second))
    before = [(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", control[0])]
    after = [(b"fcTL", control[1]), (b"fdAT", struct.pack(">I", 2) + rows)]
    path = written(tmp_path, png(3, 2, 16, 2, first.tobytes(), before, after))
    assert np.array_equal(decode_file(path, 1).samples, first)
    with pytest.raises(PictureError, match="would be cut down to 8"):
        decode_file(path, 2)


def test_memory_that_ends_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.fromarray(STORED), "PNG")

    def full(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", full)
    with pytest.raises(MemoryLimitError, match=r"needs more memory than there is; .*smaller") as caught:
        decode_file(path)
    assert str(caught.value).startswith(str(path))


def test_floats_of_one_value_have_a_span(tmp_path: Path) -> None:
    for value in (0.0, -5.0, 3e38, -3e38, 1e-45):
        picture = decode_file(saved(tmp_path, Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"))
        assert np.isfinite(picture.colour()).all()


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused_with_their_number(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(PictureError, match=r"holds 3 frames or pages; take one: .* with --frame 1 to 3"):
        decode_file(written(tmp_path, several_frames(file_format)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3])
def test_overviews_and_masks_are_no_pages(tmp_path: Path, dtype: Any, channels: int) -> None:
    """As in cloud optimised GeoTIFF; grey of 16 bits with alpha is read without Pillow."""
    samples, kind = noise(8, 12, channels, dtype=dtype), 254
    alpha: dict[int, Any] = {338: 2, 262: 1} if channels == 2 else {}
    overviews = [(samples[::2, ::2], {kind: 1, **alpha}), (samples[::4, ::4], {kind: 1, **alpha})]
    picture = decode_file(written(tmp_path, tiff((samples, alpha), *overviews), "copies.tif"))
    assert np.array_equal(picture.samples, samples)
    assert picture.notes == (NOT_KEPT,)
    mask = np.ones((8, 12), np.bool_)
    path = written(tmp_path, tiff((samples, alpha), (mask, {kind: 4, 262: 4}), *overviews), "mask.tif")
    picture = decode_file(path, 1)
    assert np.array_equal(picture.samples, samples)
    assert picture.notes == (NOT_KEPT, NO_MASK)
    for pages in ([*overviews, (samples, alpha)], [(samples, {kind: 2, **alpha})]):
        path = written(tmp_path, tiff((samples, alpha), *pages), "pages.tif")
        with pytest.raises(PictureError, match=f"holds {1 + len(pages)} frames or pages|one page alone"):
            decode_file(path)


def test_picture_with_previews_inside_is_one_picture(tmp_path: Path) -> None:
    path = written(tmp_path, several_frames("MPO"), "phone.jpg")
    picture = decode_file(path)
    assert picture.format == "JPEG"
    assert picture.metadata.jpeg["qtables"]
    assert "previews" in picture.notes[0]


def encoded(file_format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(stream, file_format)
    return stream.getvalue()


BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"this is a text, whatever its name says\n" * 9, "no picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "png signature alone": (b"\x89PNG\r\n\x1a\n", "give"),
    "png of 0 x 0": (png(0, 0, 8, 2, b""), "give"),
    "png cut off": (encoded("PNG")[:2000], "cut off"),
    "png with other bytes": (encoded("PNG")[:1000] + b"x" * 3000, "give"),
    "jpeg cut off": (encoded("JPEG")[:900], "cut off"),
    "jpeg head": (encoded("JPEG")[:20], "give"),
    "webp cut off": (encoded("WEBP")[:200], "give"),
    "tiff cut off": (encoded("TIFF")[:200], "give"),
    "gif cut off": (encoded("GIF")[:100], "give"),
    "png of bad zlib": (encoded("PNG").replace(b"IDAT", b"IDAT\xff", 1), "give"),
}


@pytest.mark.parametrize(("data", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_told_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    path = written(tmp_path, data)
    for read in (decode_file, lambda path: decode_thumbnail(path, 8)):
        with pytest.raises(PictureError, match=says) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message


@pytest.mark.parametrize(("bits", "flags"), [(8, 0x00), (10, 0x40), (12, 0x60)])
def test_bits_that_would_be_cut_are_found_where_the_specifications_put_them(bits: int, flags: int) -> None:
    av1 = b"\0\0\0\x1cftypavif" + bytes(40) + b"\0\0\0\x0cav1C\x81\0" + bytes([flags]) + b"\0"
    assert bits_told("AVIF", av1) == bits
    siz = b"\xff\x4f\xff\x51\0\x2f\0\0" + bytes(32) + b"\0\3" + bytes([bits - 1, 1, 1]) * 3
    assert bits_told("JPEG2000", b"jp2c" + siz) == bits


def test_bits_in_files_of_pillow(tmp_path: Path) -> None:
    """Grey of 16 bits is read whole, and there is nothing to tell of it."""
    for file_format in ("AVIF", "JPEG2000"):
        path = saved(tmp_path, Image.fromarray(noise(32, 32, 3)), file_format)
        assert bits_told(file_format, path.read_bytes()) == 8
        assert decode_file(path).notes == ()
    deep = saved(tmp_path, Image.fromarray(noise(32, 32, dtype=np.uint16)), "JPEG2000")
    assert bits_told("JPEG2000", deep.read_bytes()) == 16
    assert decode_file(deep).notes == ()


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=r"none\.png does not exist"):
        decode_file(tmp_path / "none.png")
    with pytest.raises(FileMissingError, match="is a folder"):
        decode_file(tmp_path)
    with pytest.raises(FileMissingError, match="does not exist"):
        decode_file("x" * 5000)
    with pytest.raises(FileMissingError, match="does not exist"):
        decode_file("nul\0byte")


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileMissingError):
        decode_file(tmp_path / "pipe")


@pytest.mark.parametrize(("width", "height"), [(14143, 14143), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_bomb_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    data = png(width, height, 8, 0, b"")
    with pytest.raises(PictureError, match="more than 200,000,000 pixels"):
        decode_file(written(tmp_path, data))


def test_bomb_in_a_text_chunk(tmp_path: Path) -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    with pytest.raises(PictureError, match="give"):
        decode_file(written(tmp_path, png(1, 1, 8, 0, b"\0", before=[(b"zTXt", bomb)])))


def test_limit_can_be_set_and_pillow_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.new("L", (100, 100)), "PNG")
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    monkeypatch.setattr(opening, "MAX_PIXELS", 9_999)
    with pytest.raises(PictureError, match="9,999"):
        decode_file(path)
    with pytest.raises(PictureError, match="9,999"):
        decode_image(Image.new("L", (100, 100)))
    monkeypatch.setattr(opening, "MAX_PIXELS", 10_000)
    assert decode_file(path).size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # somebody else's limit counts no more than ours
    assert decode_file(path).size == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.undo()
    assert before == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


def test_readers_in_threads_leave_nothing_behind(tmp_path: Path) -> None:
    good, bad = saved(tmp_path, Image.new("RGB", (300, 300)), "JPEG"), written(tmp_path, b"P9 nonsense", "bad.png")
    before, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    seen: list[object] = []

    def read() -> None:
        for i in range(30):
            try:
                seen.append(decode_file(bad if i % 3 else good).size)
            except PictureError:
                seen.append(None)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count((300, 300)) == 40
    assert before == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters
