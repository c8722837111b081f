"""The marker segments of a JPEG file: what stands before its compressed samples, byte for byte.

A JPEG is a row of segments, `FF marker, length, payload`, up to SOS, behind which the compressed samples come
(ITU-T T.81, annex B). Application segments (APPn) and comments say things about the picture; the others say how it is
coded. So metadata is carried from one file to another by carrying segments, without understanding what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

SOI, SOS, COM = 0xD8, 0xDA, 0xFE
APP0, APP1, APP2, APP3, APP11, APP12, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xE3, 0xEB, 0xEC, 0xED, 0xEE
EXIF_HEAD, XMP_HEAD = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
JFIF_HEAD, ADOBE_HEAD, PHOTOSHOP_HEAD = b"JFIF\0", b"Adobe", b"Photoshop 3.0\0"
LONGEST = 65533  # bytes of payload
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers of frame headers
MOST_STREAMS = 64  # in one block, as few as those are; what follows more of them is blanked
START = re.compile(rb"\xd8\xff(?:\xdb|(?<=\xff\xd8\xff))")  # of a JPEG, from its second byte: some have a wrong first
_EOI, _MARKER = 0xD9, re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # none that stands among compressed samples
_NEXT = re.compile(rb"\xff[^\x00\xff]")  # a marker, behind fill bytes and what is none
MOST_SEGMENTS = 1000  # of a JPEG within another file
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a payload


class Segment(NamedTuple):
    """One marker segment: its marker's second byte, and its payload without the length."""

    marker: int
    payload: bytes

    @property
    def describes(self) -> bool:
        """Whether it speaks of the picture, and not of how its samples are coded."""
        return self.marker == COM or APP0 <= self.marker <= 0xEF

    @property
    def names_colours(self) -> bool:
        """JFIF and Adobe segments: decoders learn from them what colours the components are."""
        return (self.marker == APP0 and self.payload.startswith(JFIF_HEAD)) or (
            self.marker == APP14 and self.payload.startswith(ADOBE_HEAD)
        )


def split(data: bytes, most: int | None = None) -> tuple[list[Segment], bytes]:
    """All segments before the first SOS, `most` of them at most, and the rest of the file from that SOS on.

    Bytes between segments that belong to none are left out, as decoders do. Raises ValueError for what is no JPEG, or
    is cut off.
    """
    if data[:2] != bytes((0xFF, SOI)):
        raise ValueError("no JPEG")
    segments: list[Segment] = []
    at = 2
    while True:
        found = _NEXT.search(data, at)
        at = found.start() if found else len(data)
        if at + 4 > len(data):
            raise ValueError("cut off before its samples")
        if len(segments) == most:
            raise ValueError("more segments than any has")
        marker = data[at + 1]
        if marker == SOS:
            return segments, data[at:]
        if marker in _ALONE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(Segment(marker, data[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)


def behind(rest: bytes) -> bytes:
    """What a file has behind its EOI, such as a film; rest: the file from its first SOS on."""
    at = 0
    while found := _MARKER.search(rest, at):
        at = found.start()
        if rest[at + 1] == _EOI:
            return rest[at + 2 :]
        at += 2 + max(int.from_bytes(rest[at + 2 : at + 4], "big"), 2)
    return b""


def join(segments: list[Segment], rest: bytes) -> bytes:
    """The file of these segments. Raises ValueError for a payload that is too long for a segment."""
    parts = [bytes((0xFF, SOI))]
    for marker, payload in segments:
        if len(payload) > LONGEST:
            raise ValueError(f"a segment of {len(payload)} bytes is too long")
        parts += [bytes((0xFF, marker)), (len(payload) + 2).to_bytes(2, "big"), payload]
    return b"".join([*parts, rest])


def bare(data: bytes) -> bytes:
    """The same JPEG with nothing but what is needed to decode it: no metadata, but the colours' names."""
    segments, rest = split(data)
    return join([one for one in segments if not one.describes or one.names_colours], rest)


def adobe_transform(data: bytes) -> int | None:
    """What the Adobe segment says of the colours: 0, RGB or CMYK; 1, YCbCr; 2, YCCK (Adobe TN 5116, section 18).

    None without the segment.
    """
    own = [one.payload for one in split(data)[0] if one.marker == APP14 and one.payload.startswith(ADOBE_HEAD)]
    return own[-1][11] if own and len(own[-1]) > 11 else None


def is_rgb(data: bytes) -> bool:
    """Whether three components are red, green and blue themselves, by libjpeg's rule (default_decompress_parms)."""
    segments, _ = split(data)
    if any(marker == APP0 and payload.startswith(JFIF_HEAD) for marker, payload in segments):
        return False
    transform = adobe_transform(data)
    names = [payload[6::3] for marker, payload in segments if marker in FRAMES]
    return names[:1] == [b"RGB"] if transform is None else transform == 0


def dressed(coded: bytes, segments: list[Segment]) -> bytes:
    """The samples of one JPEG behind the descriptions among `segments`, in their order."""
    own, rest = split(coded)
    return join([one for one in segments if one.describes] + [one for one in own if not one.describes], rest)


def streams(block: bytes) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """The JPEG streams in a block: where each begins and ends, and its (width, height); one without an end goes on.

    Bytes that only begin as a JPEG does are a maker's numbers. But no camera has so many of either that all that is
    behind MOST_STREAMS of them, which is one stream without a size here, would have to be looked at.
    """
    found = START.search(block, 1)
    for _ in range(MOST_STREAMS):
        if not found:
            return
        at, next_ = found.start() - 1, found.end()
        stream = b"\xff" + block[at + 1 :]
        if size := size_of(stream):
            next_ = block.find(b"\xff\xd9", len(block) - len(split(stream)[1])) + 2
            next_ = len(block) if next_ < 2 else next_
            yield at, next_, size
        found = START.search(block, next_ + 1)
    if found:
        yield found.start() - 1, len(block), None


def size_of(stream: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG by its frame header (T.81, B.2.2); None for what is none."""
    try:
        segments = split(stream, MOST_SEGMENTS)[0]
        frames = [data for marker, data in segments if marker in FRAMES and len(data) >= 5]
    except ValueError:
        return None
    return (int.from_bytes(frames[0][3:5], "big"), int.from_bytes(frames[0][1:3], "big")) if frames else None
