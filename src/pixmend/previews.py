"""Small pictures inside metadata: made anew from the result, or taken out, so that they do not show what was removed.

Cameras put a thumbnail into EXIF, and often a larger preview into the maker note; editors put more into XMP and
Photoshop's resources. All are found by what they are, JPEG streams, or by the places that the standards give them.
In EXIF they are replaced where they stand, in the same number of bytes: maker notes hold offsets that nobody may move.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

from PIL import Image, ImageOps

from pixmend.jpeg_segments import (
    APP0,
    APP1,
    APP2,
    APP3,
    APP11,
    APP12,
    APP13,
    EXIF_HEAD,
    JFIF_HEAD,
    LONGEST,
    PHOTOSHOP_HEAD,
    XMP_HEAD,
    Segment,
    size_of,
    streams,
)
from pixmend.metadata import entries
from pixmend.packets import XMP_HAS_MORE, without_iptc_preview, without_photoshop_previews, without_xmp_previews
from pixmend.pictures import Metadata, Picture, to_samples, turned_back
from pixmend.png_bytes import RAW_PROFILE, Chunk, raw_profile, with_raw_profile

Showing = Callable[[], Image.Image]  # gives the picture that previews are made of, when one is needed

MOST_PIXELS = 1 << 24  # of a preview: more than a camera ever embeds
PIXELS_A_BYTE = 64  # at most, in the JPEGs made here: 8 x 8 pixels, all alike, take 6 bits of luma and 2 of chroma
_SIDE = 2048  # to about this many pixels the result is thinned out first
_QUALITIES = (85, 70, 50, 30, 10)
_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_FLIR = b"FLIR\0"  # thermal data, in whatever form


_LEFT_OUT = {  # by marker, what segments of further pictures begin with, or those that are signed for the old one
    APP0: (b"JFXX\0",),
    APP1: (_FLIR,),
    APP2: (b"MPF\0", b"FPXR\0", b"urn:iso:std:iso:ts:21496:-1\0"),  # the last: a gain map
    APP11: (b"JP", b"HDR_RI"),  # boxes: of JUMBF, where C2PA keeps its manifest, and of JPEG XT; the last: JPEG-HDR
}
_MAKERS = {*range(APP3, APP12 + 1)} - {APP11}  # where makers keep what they like, mostly without a name
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")  # how those begin that are no JPEG: PNG and TIFF
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
    xmp = xmp and XMP_HAS_MORE.sub(b"", without_xmp_previews(xmp))  # segments of a JPEG do not go along
    photoshop = photoshop and without_photoshop_previews(photoshop)
    chunks = tuple(kept for one in metadata.png_chunks if (kept := _without_raw_previews(one)))
    return replace(metadata, exif=exif, xmp=xmp, photoshop=photoshop, png_chunks=chunks)


def refreshed_segments(segments: list[Segment], show: Showing) -> list[Segment]:
    """The segments of a JPEG with previews that show the result, or without: those of other than EXIF are left out."""
    more = b"".join(data for marker, data in segments if marker == APP1 and data.startswith(_XMP_MORE))
    drop_more = any(name in more for name in (b"xmpGImg", b"GImage", b"GDepth"))
    with_pictures, photoshop = _with_pictures(segments), _photoshop_segments(segments)
    own = [data[len(EXIF_HEAD) :] for marker, data in segments if marker == APP1 and data.startswith(EXIF_HEAD)]
    exif = io.BytesIO(refreshed_exif(b"".join(own), show))  # readers join what goes on from one segment to the next
    kept = []
    for marker, data in segments:
        if marker == APP1 and data.startswith(EXIF_HEAD):
            data = EXIF_HEAD + exif.read(len(data) - len(EXIF_HEAD))
        elif marker == APP1 and data.startswith(XMP_HEAD):
            packet = without_xmp_previews(data[len(XMP_HEAD) :])
            data = XMP_HEAD + (XMP_HAS_MORE.sub(b"", packet) if drop_more else packet)
        elif marker == APP1 and data.startswith(_XMP_MORE) and drop_more:
            continue
        elif marker == APP0 and data.startswith(JFIF_HEAD) and len(data) > 14:
            data = data[:12] + bytes(2)  # a thumbnail of 0 x 0
        elif marker == APP13 and data.startswith(PHOTOSHOP_HEAD):
            kept += photoshop
            photoshop = []  # all stand where the first stood
            continue
        elif data.startswith(_LEFT_OUT.get(marker, ())) or _series(marker, data) in with_pictures:
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


def is_makers_own(segment: Segment) -> bool:
    """Whether it is of those in which a maker keeps what it likes, such as thermal data."""
    return segment.marker in _MAKERS or (segment.marker == APP1 and segment.payload.startswith(_FLIR))


def _with_pictures(segments: list[Segment]) -> set[tuple[int, bytes]]:
    """The series of segments that hold pictures, or may well; but for EXIF, where these are made anew."""
    series: dict[tuple[int, bytes], list[bytes]] = {}
    for one in segments:
        if one.describes and not (one.marker == APP1 and one.payload.startswith(EXIF_HEAD)):
            series.setdefault(_series(*one), []).append(one.payload)
    return {name for name, parts in series.items() if _may_be_picture(name[0], b"".join(parts))}


def _may_be_picture(marker: int, data: bytes) -> bool:
    """Whether a series holds a JPEG; or, if it is a maker's, another picture, or more than fits into one segment, as
    plain numbers of one do.
    """
    is_other = marker in _MAKERS and (len(data) > LONGEST or any(head in data for head in _PICTURES))
    return is_other or any(streams(data))


def _series(marker: int, data: bytes) -> tuple[int, bytes]:
    """What segments have in common over which a maker has spread one thing: marker, and name where there is one."""
    return marker, b"" if marker in _MAKERS else data[:32].partition(b"\0")[0]


def refreshed_exif(exif: bytes, show: Showing, *, quarter_turn: bool = False) -> bytes:
    """An EXIF block of the same length in which every JPEG stream shows the result, or is blank where none fits."""
    block = bytearray(exif)
    for start, end, size in streams(exif):
        made = bytes(end - start) if size is None else _made(size[::-1] if quarter_turn else size, end - start, show)
        block[start:end] = made
    _tidy_thumbnail(block)
    return bytes(block)


def _without_raw_previews(chunk: Chunk) -> Chunk | None:
    """A chunk of a PNG; a text that holds a profile less its previews, and None if nothing else is in it."""
    if not chunk[1].lower().startswith(RAW_PROFILE.lower()):
        return chunk
    if (profile := raw_profile(chunk)) is None:
        return None
    head = PHOTOSHOP_HEAD if profile.startswith(PHOTOSHOP_HEAD) else b""
    left = profile[len(head) :]
    if left.startswith(b"8BIM"):
        left = without_photoshop_previews(left)
    else:
        left = without_iptc_preview(left) if left.startswith(b"\x1c") else without_xmp_previews(left)
    if not left or any(streams(left)):
        return None
    return chunk if head + left == profile else with_raw_profile(chunk, head + left)


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
        if at is not None and length is not None and size_of(bytes(block[at : at + length])):
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
