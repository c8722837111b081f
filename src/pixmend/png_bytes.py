"""PNG files as the chunks that they are made of (PNG specification, chapter 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PROFILE = b"iCCP"  # among the chunks that are kept: the name alone; the profile itself is kept apart
OFFSET = b"oFFs"  # where the picture lies on a page
PAGE = (OFFSET, b"vpAg", b"caNv")  # the same, and ImageMagick's of how large that page is
ASPECT = b"pHYs"  # kept where it has no unit: how wide pixels are for their height; else it is the resolution
# All of which chunks may stand before a palette; mDCV and cLLI: of HDR, the display and the light it was made for.
NOT_PILLOWS = (PROFILE, OFFSET, ASPECT, b"mDCV", b"cLLI", b"sCAL", b"pCAL", b"sTER")

RAW_PROFILE = b"Raw profile type "  # of whatever ImageMagick and exiftool put into texts
_LONGEST_TEXT = 1 << 26  # bytes, unpacked

Chunk = tuple[bytes, bytes]  # type and data


def chunks(data: bytes) -> Iterator[Chunk]:
    """Those of a whole file."""
    at = len(SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def raw_profile(chunk: Chunk) -> bytes | None:
    """What a text of RAW_PROFILE holds; None if damaged."""
    kind, data = chunk
    text = data.partition(b"\0")[2]
    try:
        packed = kind == b"zTXt" or (kind == b"iTXt" and text[0] == 1)
        text = {b"zTXt": text[1:], b"iTXt": text[2:].split(b"\0", 2)[-1]}.get(kind, text)
        text = zlib.decompressobj().decompress(text, _LONGEST_TEXT) if packed else text
    except (IndexError, zlib.error):
        return None
    return hexadecimal(text.decode("latin-1"))


def hexadecimal(text: str) -> bytes | None:
    """What is so written behind a name and a length, in lines of their own; None if damaged."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def with_raw_profile(chunk: Chunk, profile: bytes) -> Chunk:
    """The text with another profile in it."""
    keyword, digits = chunk[1].partition(b"\0")[0], profile.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{keyword[len(RAW_PROFILE) :].decode('latin-1')}\n{len(profile):8}\n{lines}\n"
    return b"zTXt", keyword + b"\0\0" + zlib.compress(text.encode("latin-1"))


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
