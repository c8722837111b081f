"""Small pictures inside metadata: made anew from the result, or taken out, so that they do not show what was removed.

Cameras put a thumbnail into EXIF, and often a larger preview into the maker note; editors put more into XMP and
Photoshop's resources. All are found by what they are, JPEG streams, or by the places that the standards give them.
In EXIF they are replaced where they stand, in the same number of bytes: maker notes hold offsets that nobody may move.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

from PIL import Image, ImageOps

from pixmend.jpeg_segments import (
    APP0,
    APP1,
    APP2,
    APP11,
    APP13,
    EXIF_HEAD,
    JFIF_HEAD,
    LONGEST,
    PHOTOSHOP_HEAD,
    XMP_HEAD,
    Segment,
    split,
)
from pixmend.metadata import entries
from pixmend.pictures import Metadata, Picture, to_samples, turned_back
from pixmend.png_bytes import RAW_PROFILE, Chunk, raw_profile, with_raw_profile

Showing = Callable[[], Image.Image]  # gives the picture that previews are made of, when one is needed

MOST_PIXELS = 1 << 24  # of a preview: more than a camera ever embeds
MOST_STREAMS = 64  # in one block, as few as those are; what follows more of them is blanked
PIXELS_A_BYTE = 64  # at most, in the JPEGs made here: 8 x 8 pixels, all alike, take 6 bits of luma and 2 of chroma
_SIDE = 2048  # to about this many pixels the result is thinned out first
_QUALITIES = (85, 70, 50, 30, 10)
_START = b"\xff\xd8\xff"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of frame headers
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_XMP_PREVIEWS = (  # what they begin with, and end with
    (b"<xmp:Thumbnails>", b"</xmp:Thumbnails>"),
    (b"<xap:Thumbnails>", b"</xap:Thumbnails>"),
    (b"<xmpGImg:image>", b"</xmpGImg:image>"),
    (b'xmpGImg:image="', b'"'),
    (b"xmpGImg:image='", b"'"),
)
_GAIN_MAP = "Version GainMapMin GainMapMax Gamma OffsetSDR OffsetHDR HDRCapacityMin HDRCapacityMax BaseRenditionIsHDR"
_DIRECTORIES = ("Container:Directory", "GContainer:Directory", *(f"hdrgm:{name}" for name in _GAIN_MAP.split()))
_XMP_FURTHER = tuple((f"<{name}".encode(), f"</{name}>".encode()) for name in _DIRECTORIES)
_XMP_CLAIMS = re.compile(  # of films and gain maps; makers have prefixes of their own beside GCamera
    rb"""(?<=\s)(?:\w+:(?:MotionPhoto|MicroVideo)\w*|hdrgm:\w+)=(?:"[^"]*"|'[^']*')"""
    rb"""|<(\w+:(?:MotionPhoto|MicroVideo)\w*)>[^<]*</\1>"""
)
_LEFT_OUT = {  # by marker, what segments of further pictures begin with, or those that are signed for the old one
    APP0: (b"JFXX\0",),
    APP2: (b"MPF\0", b"FPXR\0", b"urn:iso:std:iso:ts:21496:-1\0"),  # the last: a gain map
    APP11: (b"JP",),  # boxes: of JUMBF, where C2PA keeps its manifest, and of JPEG XT
}
_PHOTOSHOP_PREVIEWS = (1033, 1036)  # the resources that hold thumbnails
_THUMBNAIL_AT, _THUMBNAIL_LENGTH, _STRIPS_AT, _STRIP_LENGTHS = 0x0201, 0x0202, 0x0111, 0x0117


def showing(picture: Picture, orientation: int = 1) -> Showing:
    """What previews of a picture are made of; as it lies in a file of that orientation."""

    def show() -> Image.Image:
        step = max(1, max(picture.size) // _SIDE)
        thinned = replace(picture, samples=picture.samples[::step, ::step])
        return Image.fromarray(turned_back(to_samples(thinned.to_be_seen().colour()), orientation))

    return cache(show)


def refreshed(metadata: Metadata, show: Showing, *, quarter_turn: bool = False) -> Metadata:
    """Metadata whose previews show the result. quarter_turn: the old ones lie across it."""
    exif = metadata.exif and refreshed_exif(metadata.exif, show, quarter_turn=quarter_turn)
    xmp, photoshop = metadata.xmp, metadata.photoshop
    xmp, photoshop = xmp and without_xmp_previews(xmp), photoshop and without_photoshop_previews(photoshop)
    chunks = tuple(kept for one in metadata.png_chunks if (kept := _without_raw_previews(one)))
    return replace(metadata, exif=exif, xmp=xmp, photoshop=photoshop, png_chunks=chunks)


def refreshed_segments(segments: list[Segment], show: Showing) -> list[Segment]:
    """The segments of a JPEG with previews that show the result, or without: those of other than EXIF are left out."""
    more = b"".join(data for marker, data in segments if marker == APP1 and data.startswith(_XMP_MORE))
    drop_more = b"GImage" in more or b"xmpGImg" in more
    with_streams, photoshop = _with_streams(segments), _photoshop_segments(segments)
    kept = []
    for marker, data in segments:
        if marker == APP1 and data.startswith(EXIF_HEAD):
            data = EXIF_HEAD + refreshed_exif(data[len(EXIF_HEAD) :], show)
        elif marker == APP1 and data.startswith(XMP_HEAD):
            data = XMP_HEAD + without_xmp_previews(data[len(XMP_HEAD) :])
        elif marker == APP1 and data.startswith(_XMP_MORE) and drop_more:
            continue
        elif marker == APP0 and data.startswith(JFIF_HEAD) and len(data) > 14:
            data = data[:12] + bytes(2)  # a thumbnail of 0 x 0
        elif marker == APP13 and data.startswith(PHOTOSHOP_HEAD):
            kept += photoshop
            photoshop = []  # all stand where the first stood
            continue
        elif data.startswith(_LEFT_OUT.get(marker, ())) or _series(marker, data) in with_streams:
            continue
        kept.append(Segment(marker, data))
    return kept


def _photoshop_segments(segments: list[Segment]) -> list[Segment]:
    """Those of Photoshop's resources, which go on from one to the next, less thumbnails; the same if there are none."""
    own = [one for one in segments if one.marker == APP13 and one.payload.startswith(PHOTOSHOP_HEAD)]
    whole = b"".join(one.payload[len(PHOTOSHOP_HEAD) :] for one in own)
    left = without_photoshop_previews(whole)
    if left == whole:
        return own
    room = LONGEST - len(PHOTOSHOP_HEAD)
    return [Segment(APP13, PHOTOSHOP_HEAD + left[at : at + room]) for at in range(0, len(left), room)]


def _with_streams(segments: list[Segment]) -> set[tuple[int, bytes]]:
    """The series of segments that hold JPEGs; but for EXIF, where these are made anew."""
    series: dict[tuple[int, bytes], list[bytes]] = {}
    for one in segments:
        if one.describes and not one.payload.startswith(EXIF_HEAD):
            series.setdefault(_series(*one), []).append(one.payload)
    return {name for name, parts in series.items() if any(_streams(b"".join(parts)))}


def _series(marker: int, data: bytes) -> tuple[int, bytes]:
    """What segments have in common over which a maker has spread one thing: marker and name."""
    return marker, data[:32].partition(b"\0")[0]


def refreshed_exif(exif: bytes, show: Showing, *, quarter_turn: bool = False) -> bytes:
    """An EXIF block of the same length in which every JPEG stream shows the result, or is blank where none fits."""
    block = bytearray(exif)
    for start, end, size in _streams(exif):
        made = bytes(end - start) if size is None else _made(size[::-1] if quarter_turn else size, end - start, show)
        block[start:end] = made
    _tidy_thumbnail(block)
    return bytes(block)


def without_xmp_previews(xmp: bytes) -> bytes:
    """XMP less its previews and what it tells of further pictures, in time that grows as its length does."""
    xmp = _XMP_CLAIMS.sub(b"", xmp)
    for start, end in (*_XMP_PREVIEWS, *_XMP_FURTHER):
        kept, at = [], 0
        while (begin := xmp.find(start, at)) >= 0 and (past := xmp.find(end, begin + len(start))) >= 0:
            kept.append(xmp[at:begin])
            at = past + len(end)
        xmp = b"".join([*kept, xmp[at:]])
    return xmp


def without_photoshop_previews(resources: bytes) -> bytes:
    """Photoshop's image resources less its thumbnails (Photoshop File Formats Specification, Image Resource Blocks)."""
    kept, at = [], 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name = (resources[at + 6] + 2) // 2 * 2  # its length and itself, to an even number of bytes
        if at + 10 + name > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, at + 6 + name)
        end = at + 10 + name + (length + 1) // 2 * 2
        if number not in _PHOTOSHOP_PREVIEWS:
            kept.append(resources[at:end])
        at = end
    rest = resources[at:]
    return b"".join(kept) + (rest if _START not in rest else b"")


def _without_raw_previews(chunk: Chunk) -> Chunk | None:
    """A chunk of a PNG; a text that holds a profile less its previews, and None if nothing else is in it."""
    if not chunk[1].lower().startswith(RAW_PROFILE.lower()):
        return chunk
    if (profile := raw_profile(chunk)) is None:
        return None
    head = PHOTOSHOP_HEAD if profile.startswith(PHOTOSHOP_HEAD) else b""
    left = profile[len(head) :]
    left = without_photoshop_previews(left) if left.startswith(b"8BIM") else without_xmp_previews(left)
    if not left or any(_streams(left)):
        return None
    return chunk if head + left == profile else with_raw_profile(chunk, head + left)


def _streams(block: bytes) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """The JPEG streams in a block: where each begins and ends, and its (width, height); one without an end goes on.

    Bytes that only begin as a JPEG does are a maker's numbers. But no camera has so many of either that all that is
    behind MOST_STREAMS of them, which is one stream without a size here, would have to be looked at.
    """
    at = block.find(_START)
    for _ in range(MOST_STREAMS):
        if at < 0:
            return
        next_ = at + len(_START)
        if size := _size(block[at:]):
            next_ = block.find(b"\xff\xd9", len(block) - len(split(block[at:])[1])) + 2
            next_ = len(block) if next_ < 2 else next_
            yield at, next_, size
        at = block.find(_START, next_)
    if at >= 0:
        yield at, len(block), None


def _size(stream: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG by its frame header (T.81, B.2.2); None for what is none."""
    try:
        frames = [data for marker, data in split(stream)[0] if marker in _FRAMES and len(data) >= 5]
    except ValueError:
        return None
    return (int.from_bytes(frames[0][3:5], "big"), int.from_bytes(frames[0][1:3], "big")) if frames else None


def _made(size: tuple[int, int], length: int, show: Showing) -> bytes:
    """A JPEG of the result of that (width, height) in so many bytes, zeros behind it; all zeros, if it does not fit."""
    if not 0 < size[0] * size[1] <= min(MOST_PIXELS, PIXELS_A_BYTE * length):
        return bytes(length)
    small = ImageOps.pad(show(), size)  # black bars where the shapes differ, as cameras do
    for quality in _QUALITIES:
        made = io.BytesIO()
        small.save(made, "JPEG", quality=quality)
        if made.tell() <= length:
            return made.getvalue().ljust(length, b"\0")
    return bytes(length)


def _tidy_thumbnail(block: bytearray) -> None:
    """Tell the thumbnail's new length; unlink what is not a JPEG any more, or never was one, and blank it."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None:
        return
    try:
        (first,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, first)
        link = first + 2 + 12 * count
        (second,) = struct.unpack_from(order + "I", block, link)
        if not second:
            return
        places = entries(block, order, second)
        at, length = (_number(block, order, places.get(tag)) for tag in (_THUMBNAIL_AT, _THUMBNAIL_LENGTH))
        if at is not None and length is not None and _size(bytes(block[at : at + length])):
            length = len(block[at : at + length].rstrip(b"\0"))
            struct.pack_into(order + "I", block, places[_THUMBNAIL_LENGTH] + 8, length)
            return
        left = len(block)  # strips that lie over each other would take for ever
        for start, many in ((at, length), *_strips(block, order, places)):
            if start is not None and many is not None:
                end = min(start + min(many, left), len(block))
                block[start:end] = bytes(max(0, end - start))
                left -= max(0, end - start)
        struct.pack_into(order + "I", block, link, 0)
    except struct.error:  # offsets that point outside
        return


def _number(block: bytearray, order: str, place: int | None) -> int | None:
    if place is None:
        return None
    kind, _ = struct.unpack_from(order + "HI", block, place + 2)
    number: int = struct.unpack_from(order + ("H" if kind == 3 else "I"), block, place + 8)[0]
    return number


def _strips(block: bytearray, order: str, places: dict[int, int]) -> Iterator[tuple[int | None, int | None]]:
    """Where an uncompressed thumbnail lies: from, and how many bytes."""
    if _STRIPS_AT not in places or _STRIP_LENGTHS not in places:
        return
    numbers = []
    for place in (places[_STRIPS_AT], places[_STRIP_LENGTHS]):
        kind, count = struct.unpack_from(order + "HI", block, place + 2)
        code = "H" if kind == 3 else "I"
        size = count * struct.calcsize(code)
        (far,) = struct.unpack_from(order + "I", block, place + 8)
        if size > len(block):
            return
        numbers.append(struct.unpack_from(f"{order}{count}{code}", block, place + 8 if size <= 4 else far))
    yield from zip(*numbers, strict=False)
