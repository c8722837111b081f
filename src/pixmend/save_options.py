"""What a file is given beside its samples: profile, EXIF, XMP, resolution, chunks of PNG, segments of JPEG."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from pixmend import png_bytes
from pixmend.jpeg_editing import left_out
from pixmend.jpeg_segments import APP1, APP2, COM, Segment, dressed, split
from pixmend.metadata import (
    CICP,
    EXIF_PREFIX,
    PHOTOSHOP,
    PNG_GROUND,
    RESOLUTION,
    XMP_KEYWORD,
    can_be_rewritten,
    fitting_profile,
    is_private,
    is_srgb,
    tiff_exif,
)
from pixmend.pictures import Picture
from pixmend.previews import refreshed_segments, showing

_COLOUR_ALWAYS = ("WEBP", "AVIF")  # grey is written as three channels
_PICTURES = (b"\xff\xd8\xff", png_bytes.SIGNATURE)  # what JPEG and PNG begin with
_ICC_HEAD = b"ICC_PROFILE\0"  # of segments
_JPEG_DEFAULTS = {"quality": 95, "subsampling": "4:4:4"}  # for pictures that were no JPEG before


def save_options(picture: Picture, file_format: str, stored: Image.Image | None) -> dict[str, Any]:
    """What `Image.save` is given besides the samples; stored: those that are written as the file had them."""
    kept = picture.metadata
    read, grey = picture.original, picture.channels == 1 and file_format not in _COLOUR_ALWAYS
    profile = (read.icc_profile if stored is not None and read is not None else None) or kept.icc_profile
    profile = fitting_profile(profile, grey=grey and not (file_format == "HEIF" and picture.has_alpha))
    options: dict[str, Any] = {"dpi": kept.dpi, "xmp": kept.xmp, "icc_profile": profile}
    if kept.exif:
        options["exif"] = EXIF_PREFIX + kept.exif
    if file_format == "PNG":
        options["pnginfo"] = _png_info(picture, indexed=stored is not None)
    elif file_format == "TIFF":
        options |= _tiff_options(picture)
    elif file_format == "WEBP":
        options |= {"lossless": True, "exact": True, "quality": 80}  # exact: colours under full transparency too
    elif file_format == "BMP":
        options["dpi"] = kept.dpi or (0, 0)  # 0: not known; Pillow would claim 96
    elif file_format == "JPEG":
        options |= kept.jpeg or _JPEG_DEFAULTS
    elif file_format == "AVIF":
        options |= {"quality": 100, "subsampling": "4:4:4"}
        if kept.exif and not can_be_rewritten(kept.exif):
            del options["exif"]
    elif file_format == "HEIF":
        options |= {"quality": -1, "chroma": 444, "matrix_coefficients": 0}  # lossless, and RGB as it is
        if cicp := cicp_of(picture):
            options |= {"color_primaries": cicp[0], "transfer_characteristics": cicp[1]}
    if file_format in ("JPEG", "GIF"):
        options["comment"] = kept.comment
    return {name: value for name, value in options.items() if value is not None}


def cicp_of(picture: Picture) -> bytes | None:
    """What tells of the picture's colours, in the order of PNG's chunk, where that is needed."""
    kept = picture.metadata
    told = [one[1] for one in kept.png_chunks if one[0] == CICP and len(one[1]) == 4 and not is_srgb(one)]
    return told[0] if told and not kept.icc_profile else None


def with_segments_of_its_source(encoded: bytes, picture: Picture) -> tuple[bytes, list[str]]:
    """A JPEG of Pillow, which writes what is in `save_options`, with all else that the old JPEG told, such as IPTC.

    And lines on what of that was left out.
    """
    read = picture.original
    if read is None or read.jpeg is None or picture.metadata is not read.metadata:
        return encoded, []
    try:
        old, rest = split(read.jpeg)
    except ValueError:  # damage that decoders overlook
        return encoded, []
    kept = refreshed_segments(old, showing(picture))
    more = [one for one in kept if one.describes and not _is_in_options(one)]
    own, _ = split(encoded)
    return dressed(encoded, [*own, *more]), left_out(old, kept, rest)


def _is_in_options(segment: Segment) -> bool:
    """EXIF and XMP, the ICC profile, comments, and what names the colours."""
    is_profile = segment.marker == APP2 and segment.payload.startswith(_ICC_HEAD)
    return segment.marker in (APP1, COM) or is_profile or segment.names_colours


def more_chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
    """What Pillow does not write."""
    return [one for one in _true_chunks(picture) if one[0] in png_bytes.NOT_PILLOWS]


def _true_chunks(picture: Picture) -> list[png_bytes.Chunk]:
    """The chunks that are true of the picture as it is now, and do not show what it was."""
    kept = [one for one in picture.metadata.png_chunks if picture.keeps_size or one[0] not in png_bytes.PAGE]
    if picture.is_as_read:
        return kept
    return [one for one in kept if not (is_private(one[0]) and any(start in one[1] for start in _PICTURES))]


def _png_info(picture: Picture, *, indexed: bool) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, data in _true_chunks(picture):
        if kind not in png_bytes.NOT_PILLOWS and (kind != PNG_GROUND or _is_ground(data, picture, indexed)):
            info.add(kind, data)
    comment, texts = picture.metadata.comment, (b"tEXt", b"zTXt", b"iTXt")
    if comment and not any(
        data.lower().startswith(b"comment\0") for kind, data in picture.metadata.png_chunks if kind in texts
    ):
        info.add_itxt("Comment", comment.decode(errors="replace"))
    if picture.metadata.xmp:
        info.add(b"iTXt", XMP_KEYWORD + bytes(5) + picture.metadata.xmp)  # neither compressed, nor of a language
    return info


def _is_ground(data: bytes, picture: Picture, indexed: bool) -> bool:
    """Whether a PNG's background is in such samples as are written."""
    if indexed:
        palette = picture.original.palette if picture.original else None
        return palette is not None and len(data) == 1 and data[0] < len(palette)
    return len(data) == 2 * picture.channels and (picture.samples.dtype == np.uint16 or not any(data[::2]))


def _tiff_options(picture: Picture) -> dict[str, Any]:
    tags = tiff_exif(picture.metadata.exif) if picture.metadata.exif else Image.Exif()
    own = picture.metadata.tiff_resolution
    told: dict[str, Any] = {}
    if own and _is_in_dpi(own, picture.metadata.dpi):
        told["dpi"] = None
        for tag, value in zip(RESOLUTION, own, strict=True):
            tags[tag] = value
    if picture.metadata.xmp:
        tags[700] = picture.metadata.xmp
    if picture.metadata.photoshop:
        tags[PHOTOSHOP] = picture.metadata.photoshop
    # libtiff, which compresses, gets no EXIF or GPS directory from Pillow, and texts in ASCII only.
    # And what it has compressed of YCbCr, it gives back as RGB.
    as_it_is = {*tags} - {*RESOLUTION} or picture.mode == "YCbCr"
    return told | {"exif": tags, "compression": "raw" if as_it_is else "tiff_adobe_deflate"}


def _is_in_dpi(resolution: tuple[Any, Any, int], dpi: tuple[float, float] | None) -> bool:
    """Whether a TIFF's resolution is this one in dots per inch; None: in no unit."""
    across, down, unit = resolution
    scale = {2: 1.0, 3: 2.54}.get(unit)  # of inches and centimetres
    if scale is None or dpi is None:
        return scale is None and dpi is None
    return all(math.isclose(float(a) * scale, b, rel_tol=0.01) for a, b in zip((across, down), dpi, strict=True))
