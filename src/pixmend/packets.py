"""Text and resources inside metadata, less what shows or tells of what was removed: XMP, Photoshop's, IPTC."""

from __future__ import annotations

import re
import struct

from pixmend.jpeg_segments import START, streams


def _properties(names: bytes) -> re.Pattern[bytes]:
    """Simple properties of XMP, be they attributes or elements."""
    return re.compile(rb"""(?<=\s)(?:%s)=(?:"[^"]*"|'[^']*')|<(%s)>[^<]*</\1>""" % (names, names))


_XMP_SIMPLE = _properties(  # previews, depth, and claims of films and gain maps; makers have prefixes beside GCamera
    rb"xmpGImg:image|(?:GImage|GDepth|hdrgm):\w+|\w+:(?:MotionPhoto|MicroVideo)\w*"
)
XMP_HAS_MORE = _properties(b"xmpNote:HasExtendedXMP")
_GAIN_MAP = "Version GainMapMin GainMapMax Gamma OffsetSDR OffsetHDR HDRCapacityMin HDRCapacityMax BaseRenditionIsHDR"
_XMP_WHOLE = (  # the elements that go with all that is in them
    *("xmp:Thumbnails", "xap:Thumbnails", "Container:Directory", "GContainer:Directory"),
    *(f"hdrgm:{name}" for name in _GAIN_MAP.split()),
)
_PHOTOSHOP_PREVIEWS = (1033, 1036)  # the resources that hold thumbnails
_PHOTOSHOP_IPTC, _PHOTOSHOP_XMP = 1028, 1060
_IPTC_PREVIEW = {(2, 200), (2, 201), (2, 202)}  # its format, the format's version, and itself


def without_xmp_previews(xmp: bytes) -> bytes:
    """XMP less its previews and what it tells of further pictures, in time that grows as its length does."""
    xmp = _XMP_SIMPLE.sub(b"", xmp)
    for name in _XMP_WHOLE:
        start, end = f"<{name}".encode(), f"</{name}>".encode()
        kept, at = [], 0
        while (begin := xmp.find(start, at)) >= 0 and (past := xmp.find(end, begin + len(start))) >= 0:
            kept.append(xmp[at:begin])
            at = past + len(end)
        xmp = b"".join([*kept, xmp[at:]])
    return xmp


def without_photoshop_previews(resources: bytes) -> bytes:
    """Photoshop's image resources less thumbnails (Photoshop File Formats Specification, Image Resource Blocks)."""
    kept, at = [], 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name = (resources[at + 6] + 2) // 2 * 2  # its length and itself, to an even number of bytes
        start = at + 10 + name
        if start > len(resources):
            break
        (length,) = struct.unpack_from(">I", resources, start - 4)
        end = start + (length + 1) // 2 * 2
        data = resources[start : start + length]
        left = _without_resource_previews(number, data)
        if left == data:
            kept.append(resources[at:end])
        elif left is not None:
            kept.append(resources[at : start - 4] + struct.pack(">I", len(left)) + left + bytes(len(left) % 2))
        at = end
    rest = resources[at:]
    return b"".join(kept) + (b"" if START.search(rest) else rest)


def _without_resource_previews(number: int, data: bytes) -> bytes | None:
    """What is left of one resource, None if nothing is."""
    if number in _PHOTOSHOP_PREVIEWS:
        return None
    if number == _PHOTOSHOP_IPTC:
        data = without_iptc_preview(data)
    elif number == _PHOTOSHOP_XMP:
        data = without_xmp_previews(data)
    return None if any(streams(data)) else data


def without_iptc_preview(iptc: bytes) -> bytes:
    """IPTC's datasets less that which holds a preview (Information Interchange Model 4.2, chapter 3)."""
    kept, at = [], 0
    while iptc[at : at + 1] == b"\x1c" and at + 5 <= len(iptc):
        record, dataset, length = struct.unpack_from(">BBH", iptc, at + 1)
        start = at + 5
        if length & 0x8000:  # a long one: of so many bytes is its length
            start += length & 0x7FFF
            length = int.from_bytes(iptc[at + 5 : start], "big")
        if (record, dataset) not in _IPTC_PREVIEW:
            kept.append(iptc[at : start + length])
        at = start + length
    return b"".join([*kept, iptc[at:]])
