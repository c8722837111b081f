"""PNG files as the chunks that they are made of (PNG specification, chapter 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PROFILE = b"iCCP"  # among the chunks that are kept: the name alone; the profile itself is kept apart
OFFSET = b"oFFs"  # where the picture lies on a page
ASPECT = b"pHYs"  # kept where it has no unit: how wide pixels are for their height; else it is the resolution
# All of which chunks may stand before a palette; mDCV and cLLI: of HDR, the display and the light it was made for.
NOT_PILLOWS = (PROFILE, OFFSET, ASPECT, b"mDCV", b"cLLI", b"sCAL", b"pCAL", b"sTER")

Chunk = tuple[bytes, bytes]  # type and data


def chunks(data: bytes) -> Iterator[Chunk]:
    """Those of a whole file."""
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def encoded(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_more(data: bytes, more: Iterable[Chunk]) -> bytes:
    """A file that Pillow wrote, with chunks that it does not write: NOT_PILLOWS."""
    names = [name for kind, name in more if kind == PROFILE]
    parts = [SIGNATURE]
    for kind, content in chunks(data):
        if kind == PROFILE and names:
            content = names[0] + content[content.index(b"\0") :]
        parts.append(encoded(kind, content))
        if kind == b"IHDR":
            parts += [encoded(*one) for one in more if one[0] != PROFILE]
    return b"".join(parts)
