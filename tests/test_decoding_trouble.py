"""Files that are not read: what would be lost, what is damaged, what is too large, each told in one line."""

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
from numpy.typing import NDArray
from PIL import Image

from picture_files import noise, png, saved, several_frames, tiff, written
from pixmend import opening
from pixmend.decoding import NO_MASK, NOT_KEPT, TAKEN_FOR_ALPHA, bits_told, decode_file, decode_image
from pixmend.errors import FileMissingError, MemoryLimitError, PictureError
from pixmend.heif import is_heif
from pixmend.metadata import calm
from pixmend.thumbnails import decode_thumbnail


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
    path = saved(tmp_path, Image.fromarray(noise(2, 3, 3)), "PNG")

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


def test_an_avif_of_a_brand_that_is_heic_s_too_needs_no_extra_for_heic() -> None:
    for major, others, is_one in (
        (b"heic", (b"mif1",), True),
        (b"mif1", (b"heic",), True),
        (b"mif1", (b"miaf", b"avif"), False),
        (b"avif", (b"mif1",), False),
    ):
        box = b"ftyp" + major + bytes(4) + b"".join(others)
        assert is_heif(struct.pack(">I", 4 + len(box)) + box + b"avif") == is_one, major


def psd(mode: int, samples: NDArray[np.uint8]) -> bytes:
    """Photoshop's: samples (channels, H, W) of 8 bits, as they stand."""
    channels, height, width = samples.shape
    head = struct.pack(">4sH6sHIIHH", b"8BPS", 1, b"", channels, height, width, 8, mode)
    return head + bytes(12) + b"\0\0" + samples.tobytes()


@pytest.mark.parametrize(("mode", "channels", "is_read"), [(1, 1, True), (1, 2, False), (3, 3, True), (4, 5, False)])
def test_channels_of_photoshop_that_pillow_does_not_know_are_refused(
    tmp_path: Path, mode: int, channels: int, is_read: bool
) -> None:
    file = written(tmp_path, psd(mode, noise(channels, 6, 9)), "a.psd")
    if is_read:
        assert decode_file(file).samples.shape == (6, 9, channels)
        return
    for read in (decode_file, lambda path: decode_thumbnail(path, 4)):
        with pytest.raises(PictureError, match=f"has {channels} channels, of which {channels - 1} are read"):
            read(file)


@pytest.mark.parametrize(
    ("more", "bits", "is_read"),
    [
        ((), 16, True),
        (("BZERO   =                32768",), 16, False),
        (("BSCALE  =                  2.0",), 16, False),
    ],
)
def test_numbers_with_an_offset_in_fits_are_refused(
    tmp_path: Path, more: tuple[str, ...], bits: int, is_read: bool
) -> None:
    shape = ("NAXIS   =                    2", "NAXIS1  =                    4", "NAXIS2  =                    3")
    cards = ("SIMPLE  =                    T", f"BITPIX  = {bits:20}", *shape, *more, "END")
    head = "".join(f"{card:80}" for card in cards).encode()
    file = written(tmp_path, head.ljust(2880) + bytes(2880), "a.fits")
    if is_read:
        decode_file(file)
        return
    with pytest.raises(PictureError, match="with an offset"):
        decode_file(file)


def test_grey_with_alpha_in_planes_is_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra dev")
    for compression in (None, "zlib"):
        how = {"photometric": "minisblack", "planarconfig": "separate", "extrasamples": ["unassalpha"]}
        tifffile.imwrite(tmp_path / "a.tif", noise(2, 7, 9), compression=compression, metadata=None, **how)
        for read in (decode_file, lambda path: decode_thumbnail(path, 4)):
            with pytest.raises(PictureError, match="LA in planes, which is not read"):
                read(tmp_path / "a.tif")
