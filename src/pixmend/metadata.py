"""What a file says beside its samples: read once, the orientation reset, and otherwise kept as it was.

Also `calm`: most of what Pillow warns about is odd metadata.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import IO, Any

from PIL import ExifTags, Image, JpegImagePlugin

from pixmend.pictures import Metadata
from pixmend.png_bytes import ASPECT, NOT_PILLOWS, PAGE, PROFILE, Chunk, hexadecimal

EXIF_PREFIX = b"Exif\x00\x00"
_APP1 = {"exif": EXIF_PREFIX, "xmp": b"http://ns.adobe.com/xap/1.0/\0"}  # what each begins with there
XMP_KEYWORD = b"XML:com.adobe.xmp"
ORIENTATION, X_RESOLUTION = ExifTags.Base.Orientation, ExifTags.Base.XResolution
RESOLUTION_UNIT, NO_UNIT = ExifTags.Base.ResolutionUnit, 1

RESOLUTION = (282, 283, 296)  # tags: across, down, and their unit

# Of a TIFF's tags those that describe the picture; all others describe how its samples are stored.
DESCRIBING_TAGS = frozenset(
    {
        269,  # DocumentName
        270,  # ImageDescription
        271,  # Make
        272,  # Model
        285,  # PageName
        297,  # PageNumber
        305,  # Software
        306,  # DateTime
        315,  # Artist
        316,  # HostComputer
        301,  # TransferFunction
        318,  # WhitePoint
        319,  # PrimaryChromaticities
        18246,  # Rating
        33432,  # Copyright
        33723,  # IPTC
        *(33550, 33922, 34264, *range(34735, 34738), 42112, 42113),  # where on Earth: GeoTIFF, GDAL
        34665,  # the EXIF directory
        34853,  # the GPS directory
        *range(40091, 40096),  # XPTitle to XPSubject
    }
)
_EXIF, _IPTC, PHOTOSHOP, ICC_PROFILE = 34665, 33723, 34377, 34675
_DIRECTORIES = (_EXIF, 34853)
_INTEROP = 0xA005  # in the EXIF directory: where a further one is, to which Pillow writes no way
# Which of (H, W) is told by ImageLength and ImageWidth, PixelYDimension and PixelXDimension.
_SIDES = {0x0101: 0, 0x0100: 1, 0xA003: 0, 0xA002: 1}
_XMP_SIDES = (rb"exif:PixelYDimension|tiff:ImageLength", rb"exif:PixelXDimension|tiff:ImageWidth")

# PNG chunks that stay true when samples change. Texts may come many times, the others once.
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
CICP = b"cICP"  # of colours: primaries, transfer, matrix, range
_PNG_COLOURS = (b"cHRM", b"gAMA", b"sRGB", CICP, *NOT_PILLOWS)
PNG_GROUND = b"bKGD"  # a background, in the file's own samples or as an index
_SPREAD = {2: 85, 4: 17}  # grey of so many bits is read as 8, times this


def read_metadata(image: Image.Image, stream: IO[bytes] | None) -> tuple[int, Metadata]:
    """The orientation (1 to 8) that remains to be applied, and what is to be kept.

    Call it after `image.load()`: PNG keeps chunks behind its samples, and Pillow turns a TIFF upright when it loads.
    stream: the file itself, for what Pillow does not keep; None for an image without one.
    """
    info = image.info
    exif, xmp, dpi = _raw_exif(image), _bytes_or_none(info.get("xmp")) or _raw_profile(image, "xmp"), _read_dpi(image)
    orientation, exif = take_orientation(exif) if exif else (1, None)
    if xmp:  # also where EXIF asks for no turn: who finds none there goes by this one
        xmp = re.sub(rb"(tiff:Orientation(?:=[\"']|>))\d", rb"\g<1>1", xmp)
    if orientation >= 5 and dpi:
        dpi = dpi[1], dpi[0]
    chunks = read_png_chunks(stream) if stream is not None and image.format == "PNG" else _cicp(image, stream)
    if orientation != 1:
        chunks = tuple(_turned(one, orientation) for one in chunks if one[0] not in PAGE)
    kept = Metadata(
        icc_profile=_icc_profile(image),
        exif=exif,
        xmp=xmp,
        photoshop=_tiff_tags(image).get(PHOTOSHOP),
        tiff_resolution=_tiff_resolution(image),
        dpi=dpi,
        comment=_bytes_or_none(info.get("comment", info.get("Comment"))),  # PNG's keyword has a capital
        png_chunks=chunks,
        jpeg=_jpeg_options(image),
    )
    return orientation, with_size(kept, image.size) if orientation >= 5 else kept  # as wide as it is high, upright


def _icc_profile(image: Image.Image) -> bytes | None:
    """The profile of the page that a TIFF stands at, where Pillow keeps that of the one before; else the file's."""
    found = _tiff_tags(image).get(ICC_PROFILE) if image.format == "TIFF" else image.info.get("icc_profile")
    return _bytes_or_none(found)


def _turned(chunk: Chunk, orientation: int) -> Chunk:
    """A chunk of a PNG that is turned; how wide pixels are for their height is the other way round across."""
    kind, data = chunk
    return (kind, data[4:8] + data[:4] + data[8:]) if kind == ASPECT and orientation >= 5 else chunk


def _cicp(image: Image.Image, stream: IO[bytes] | None) -> tuple[Chunk, ...]:
    """What colours a HEIC or AVIF has that are not sRGB and have no profile, by ITU-T H.273, as PNG has it: cICP."""
    if image.info.get("icc_profile") or image.format not in ("HEIF", "AVIF"):
        return ()
    told = image.info.get("nclx_profile") or {}
    primaries, transfer = told.get("color_primaries", 2), told.get("transfer_characteristics", 2)
    if image.format == "AVIF" and stream is not None:  # of which Pillow says nothing
        stream.seek(0)
        found = re.search(rb"colrnclx\0(.)\0(.)", stream.read(1 << 16), re.DOTALL)
        primaries, transfer = (found[1][0], found[2][0]) if found else (2, 2)
    chunk = CICP, bytes((primaries, transfer, 0, 1))
    return () if is_srgb(chunk) else (chunk,)


def is_srgb(cicp: Chunk) -> bool:
    """Whether colours are those of sRGB (1, 13), or are not told (2), which is taken for the same."""
    return cicp[1][:1] in (b"\1", b"\2") and cicp[1][1:2] in (b"\2", b"\x0d")


def fitting_profile(profile: bytes | None, *, grey: bool) -> bytes | None:
    """An ICC profile, unless it is one of grey and the file is not: it would be wrong there."""
    return None if profile and profile[16:20] == b"GRAY" and not grey else profile


def take_orientation(exif: bytes) -> tuple[int, bytes]:
    """The orientation that an EXIF block asks for, and the block with the tag set to 1 (upright).

    Two bytes are changed where they stand: maker notes and thumbnails hold offsets, and do not survive being rewritten.
    A block that cannot be understood asks for nothing.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1, exif
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, at)
            if tag == ORIENTATION and count == 1 and kind in (3, 4):  # short, as the standard says, or long
                code = order + ("H" if kind == 3 else "I")
                (value,) = struct.unpack_from(code, exif, at + 8)
                reset = bytearray(exif)
                struct.pack_into(code, reset, at + 8, 1)
                return (value if 1 <= value <= 8 else 1), bytes(reset)
    except struct.error:  # offsets that point outside
        pass
    return 1, exif


def with_size(metadata: Metadata, size: tuple[int, int]) -> Metadata:
    """The metadata with (H, W) wherever its EXIF and XMP tell the size; where they do not, nothing is added."""
    exif, xmp = metadata.exif and _exif_with_size(metadata.exif, size), metadata.xmp
    if xmp:
        for names, side in zip(_XMP_SIDES, size, strict=True):
            xmp = re.sub(rb"((?:%s)(?:=[\"']|>))\d+" % names, rb"\g<1>%d" % side, xmp)
    return metadata if (exif, xmp) == (metadata.exif, metadata.xmp) else replace(metadata, exif=exif, xmp=xmp)


def _exif_with_size(exif: bytes, size: tuple[int, int]) -> bytes:
    """The block with its sides changed where they stand, for the reason that `take_orientation` gives."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return exif
    block = bytearray(exif)
    try:
        places = entries(block, order, struct.unpack_from(order + "I", exif, 4)[0])
        if _EXIF in places:
            places |= entries(block, order, struct.unpack_from(order + "I", exif, places[_EXIF] + 8)[0])
        for tag in _SIDES.keys() & places.keys():
            place, side = places[tag], size[_SIDES[tag]]
            kind, count = struct.unpack_from(order + "HI", exif, place + 2)
            if (kind, count) == (3, 1) and side < 1 << 16:
                struct.pack_into(order + "H", block, place + 8, side)
            elif kind in (3, 4) and count == 1:
                struct.pack_into(order + "HII", block, place + 2, 4, 1, side)
    except struct.error:  # offsets that point outside
        return exif
    return bytes(block)


def entries(block: bytearray, order: str, at: int) -> dict[int, int]:
    """Of a directory in an EXIF block: tag -> where its entry begins."""
    (count,) = struct.unpack_from(order + "H", block, at)
    places = range(at + 2, at + 2 + 12 * count, 12)
    return {struct.unpack_from(order + "H", block, place)[0]: place for place in places}


def read_png_chunks(stream: IO[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks of a PNG that stay true when its samples change.

    XMP, EXIF and the ICC profile are kept apart; of the last the name is among the chunks.
    """
    chunks: list[tuple[bytes, bytes]] = []
    end = stream.seek(0, 2)
    stream.seek(24)
    depth, colour_type = stream.read(2)  # of the first chunk, IHDR, which Pillow has understood
    is_grey = colour_type == 0
    at = stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        at += 12 + length  # the chunk's head, data and checksum
        if at > end:
            break
        # A small fourth letter: it may be copied by who does not know it.
        private = is_private(kind) and kind[3:4].islower()
        if kind in _PNG_TEXTS or kind in _PNG_COLOURS or kind == PNG_GROUND or private:
            data = stream.read(length)
            if kind == PROFILE:
                data = data.partition(b"\0")[0]
            if kind == PNG_GROUND and is_grey and depth in _SPREAD:
                data = bytes([0, data[-1] * _SPREAD[depth] & 255]) if data else data
            has_unit = kind == ASPECT and data[8:] != b"\0"
            if not has_unit and not data.startswith(
                (XMP_KEYWORD + b"\0", *(b"Raw profile type %s\0" % name for name in (b"exif", b"APP1", b"xmp")))
            ):
                chunks.append((kind, data))
        stream.seek(at)
    return tuple(chunks)


def is_private(kind: bytes) -> bool:
    """Whether a chunk of a PNG is one that a program has made up."""
    return kind[1:2].islower()


def png_grounds(kept: Metadata) -> list[bytes]:
    """The backgrounds, in samples or as an index, one at most."""
    return [data for kind, data in kept.png_chunks if kind == PNG_GROUND][:1]


def tiff_exif(exif: bytes) -> Image.Exif:
    """An EXIF block as Pillow wants it for a TIFF: without the tags that would overrule how samples are stored."""
    tags = Image.Exif()
    try:
        tags.load(EXIF_PREFIX + exif)
        tags.get_ifd(_EXIF).pop(_INTEROP, None)
        for tag in set(tags):
            if tag in DESCRIBING_TAGS:
                tags[tag] = exact_text(tags[tag])
            else:
                del tags[tag]
    except Exception:  # noqa: BLE001  damage raises anything, and a damaged block must not cost the picture
        return Image.Exif()
    return tags


def can_be_rewritten(exif: bytes) -> bool:
    """Whether Pillow understands an EXIF block; for AVIF it reads and writes it anew, and fails where it does not."""
    tags = Image.Exif()
    try:
        tags.load(EXIF_PREFIX + exif)
        tags.tobytes()
    except Exception:  # noqa: BLE001  damage raises anything
        return False
    return True


class _Calm:
    def __init__(self) -> None:
        self.lock, self.users, self.undo = threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self, max_pixels: int | None = None) -> Iterator[None]:
        """While anybody is inside, Pillow's warnings are off, and its limit on pixels is `max_pixels`, where given.

        What matters of a file's oddities ends as one of our errors. Both settings are global to the process, so the
        first one in notes them and the last one out puts them back: several threads (training decodes so) neither
        wait for each other nor leave the wrong setting behind.
        """
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.undo.enter_context(warnings.catch_warnings())
                self.undo.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                warnings.simplefilter("ignore")
            # Of several limits the widest: a thread that has little room must not take another's.
            if max_pixels is not None and (self.users == 1 or max_pixels > (Image.MAX_IMAGE_PIXELS or math.inf)):
                Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    self.undo.close()


calm = _Calm()


def _raw_exif(image: Image.Image) -> bytes | None:
    if image.format == "TIFF":  # its own tags take EXIF's place
        return _exif_of_tiff(image.getexif(), _tiff_tags(image))
    exif = _bytes_or_none(image.info.get("exif")) or _raw_profile(image, "exif")
    return exif.removeprefix(EXIF_PREFIX) if exif else None


def _raw_profile(image: Image.Image, name: str) -> bytes | None:
    """What ImageMagick puts into a text of a PNG; ExifTool puts both kinds into APP1, as they stand in a JPEG."""
    text, app1 = (image.info.get(f"Raw profile type {kind}") for kind in (name, "APP1"))
    if isinstance(text, str):
        return hexadecimal(text)
    data = hexadecimal(app1) if isinstance(app1, str) else None
    return data.removeprefix(_APP1[name]) if data and data.startswith(_APP1[name]) else None


def _tiff_tags(image: Image.Image) -> Mapping[int, bytes]:
    """The tags of a TIFF as they stand in the file; none of others."""
    return getattr(getattr(image, "tag_v2", None), "_tagdata", {})


def _tiff_resolution(image: Image.Image) -> tuple[Any, Any, int] | None:
    """What a TIFF says of it: across, down, and the unit; None where it does not, and of others."""
    tags = getattr(image, "tag_v2", {})
    told = tuple(tags.get(tag) for tag in RESOLUTION)
    return told if all(value is not None for value in told) else None  # type: ignore[return-value]


def _exif_of_tiff(tags: Image.Exif, raw: Mapping[int, bytes]) -> bytes | None:
    """The describing tags of a TIFF as an EXIF block of their own. raw: the tags as they stand in the file."""
    kept = Image.Exif()
    for tag in DESCRIBING_TAGS & set(tags):
        if tag in _DIRECTORIES:
            told = {key: exact_text(value) for key, value in tags.get_ifd(tag).items() if key != _INTEROP}
            kept.get_ifd(tag).update(told)
        elif tag == _IPTC:  # bytes, though some programs declare them as numbers
            if raw.get(tag, b"").startswith(b"\x1c"):
                kept[tag] = raw[tag]
        else:
            kept[tag] = exact_text(tags[tag])
    data = kept.tobytes().removeprefix(EXIF_PREFIX)
    return data if kept or any(kept.get_ifd(tag) for tag in _DIRECTORIES) else None


def exact_text(value: object) -> object:
    """Pillow reads texts as Latin-1, but writes ASCII: other texts, UTF-8 among them, survive as bytes alone."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _read_dpi(image: Image.Image) -> tuple[float, float] | None:
    in_header = image.info.get("jfif_unit") in (1, 2) or image.format not in ("JPEG", "MPO", "TIFF")
    try:
        tags = {} if in_header else image.getexif()
        if not in_header and (X_RESOLUTION not in tags or tags.get(RESOLUTION_UNIT) == NO_UNIT):
            return None  # Pillow would make one up
        across, down = (float(number) for number in image.info["dpi"])
    except Exception:  # noqa: BLE001  no entry, damaged EXIF, or fractions of 0: a resolution is never worth a failure
        return None
    return (across, down) if 0 < across < math.inf and 0 < down < math.inf else None


def _jpeg_options(image: Image.Image) -> dict[str, Any]:
    """Options with which Pillow encodes as the source was: its tables (its quality), subsampling and progression."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return {}
    tables = getattr(image, "quantization", {})
    return {
        "qtables": [list(tables[key]) for key in sorted(tables)],
        "subsampling": max(0, JpegImagePlugin.get_sampling(image)),  # one that Pillow does not write becomes none
        "progressive": bool(image.info.get("progressive")),
        "keep_rgb": image.mode == "RGB" and image.info.get("adobe_transform") == 0,
    }


def _bytes_or_none(value: object) -> bytes | None:
    return value.encode() if isinstance(value, str) and value else value if isinstance(value, bytes) and value else None
