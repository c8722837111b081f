"""Reading files: every mode exact or refused, every orientation applied once."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from picture_files import exif_block, noise, png, saved, written
from pixmend.decoding import decode_file, decode_image
from pixmend.encoding import save_picture
from pixmend.errors import PictureError
from pixmend.heif import register_heif
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
