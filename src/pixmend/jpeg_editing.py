"""A picture that was read from a JPEG, written as that JPEG: its blocks where they can be kept, its metadata always."""

from __future__ import annotations

import io
from typing import IO

import numpy as np
from PIL import Image

from pixmend.jpeg import can_keep_blocks, with_changes
from pixmend.jpeg_segments import (
    ADOBE_HEAD,
    APP2,
    APP11,
    APP14,
    JFIF_HEAD,
    Segment,
    adobe_transform,
    behind,
    dressed,
    is_rgb,
    split,
)
from pixmend.modes import stored_image
from pixmend.pictures import Original, Picture, turned_back
from pixmend.previews import is_makers_own, refreshed_segments, showing

UNSIGNED = "its content credentials (C2PA) are left out: they were signed for the picture as it was"
NOT_THE_MAKERS = "its camera's own segments, such as of thermal data, are left out: they may show what was there"
NOTHING_BEHIND = "what stands behind the end of the JPEG, such as a film, is not kept"
_RGB = Segment(APP14, ADOBE_HEAD + b"\0\x64\0\0\0\0\0")  # the last byte: the components are the colours themselves


def came_as_jpeg(picture: Picture) -> bool:
    """Whether a picture is that of a JPEG file, its size and metadata being still the file's."""
    if picture.original is None or picture.original.jpeg is None or not picture.keeps_metadata:
        return False
    try:
        split(picture.original.jpeg)
    except ValueError:  # damage that decoders overlook
        return False
    return True


def encode_jpeg_again(picture: Picture, stream: IO[bytes]) -> str | None:
    """Write a picture that came as JPEG; returns a line on how it was done, or None if nothing was to be done.

    The samples lie as they lay in the file, and the EXIF orientation stays what it was. All marker segments that
    describe the picture are the file's own, byte for byte, but for previews, which show the result.
    """
    read = picture.original
    if read is None or read.jpeg is None:
        raise ValueError("the picture came from no JPEG")
    if picture.is_as_read:
        stream.write(read.jpeg)
        return None
    segments, rest = split(read.jpeg)
    kept = refreshed_segments(segments, showing(picture, read.orientation))
    told = _write(picture, read, read.jpeg, kept, stream)
    return "; ".join([told, *left_out(segments, kept, rest)])


def left_out(segments: list[Segment], kept: list[Segment], rest: bytes) -> list[str]:
    """What is to be told of a file of these segments, of which some are kept, and that rest behind them.

    Of an MPO's pictures it was told on reading.
    """
    told = [UNSIGNED] if any(one.marker == APP11 and b"c2pa" in one.payload for one in segments) else []
    told += [NOT_THE_MAKERS] if any(is_makers_own(one) and one not in kept for one in segments) else []
    is_mpo = any(one.marker == APP2 and one.payload.startswith(b"MPF\0") for one in segments)
    return [*told, NOTHING_BEHIND] if not is_mpo and behind(rest).strip(b"\0") else told


def _write(picture: Picture, read: Original, jpeg: bytes, segments: list[Segment], stream: IO[bytes]) -> str:
    """Write a changed picture behind these segments; returns a line on how it was done."""
    inks = stored_image(picture, "JPEG")  # of CMYK
    old, new = (read.samples, picture.samples) if inks is None else (read.stored, np.asarray(inks))
    new = np.ascontiguousarray(turned_back(new, read.orientation))
    result = None if old is None else with_changes(jpeg, turned_back(old, read.orientation), new)
    if result is not None:
        coded, kept, damage = result
        if is_rgb(jpeg) and adobe_transform(jpeg) is None:  # it told by its components' names, which jpeglib changes
            segments = [_RGB, *segments]
        stream.write(dressed(coded, segments))
        told = f"{kept:.1%} of the JPEG's blocks keep their coefficients exactly"
        return f"{told}; the source is damaged (libjpeg says: {damage}), so look at the result" if damage else told
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[new.shape[2]]
    image = Image.frombytes(mode, (new.shape[1], new.shape[0]), new.tobytes())
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", **picture.metadata.jpeg)
    stream.write(dressed(encoded.getvalue(), _colours_named_by(encoded.getvalue(), segments)))
    help_ = "" if can_keep_blocks() else '; with pip install "pixmend[jpeg]" all that is not touched stays exact'
    return f"the JPEG was encoded anew with its own tables, which changes all of it a little{help_}"


def _colours_named_by(coded: bytes, segments: list[Segment]) -> list[Segment]:
    """The segments, their colours named as they are coded: JFIF (with the source's density) or Adobe, or neither."""
    own = [one for one in split(coded)[0] if one.names_colours]
    theirs = [one for one in segments if one.names_colours and one.payload.startswith(JFIF_HEAD)]
    adobe = [one for one in own if one.payload.startswith(ADOBE_HEAD)]
    jfif = (theirs or [one for one in own if one not in adobe])[:1]
    if not adobe and own == []:  # RGB by the components' names alone: JFIF would call it YCbCr
        jfif = []
    return jfif + adobe + [one for one in segments if not one.names_colours]
