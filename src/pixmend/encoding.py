"""Pictures -> files: lossless wherever the format can, with everything kept that it has a place for."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, PngImagePlugin

from pixmend.errors import OutputError
from pixmend.files import check_output, write_atomically
from pixmend.metadata import EXIF_PREFIX, XMP_KEYWORD, calm, tiff_exif
from pixmend.pictures import Picture, to_samples

FORMATS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
}
_WITH_ALPHA = ("PNG", "TIFF", "WEBP")
_WITH_16_BITS = ("PNG", "TIFF")
_WITH_1_BIT = ("PNG", "TIFF", "BMP")
_GIF_SIDE = 480  # pixels
_GIF_MILLISECONDS = (120, 1500)  # for which a picture stands, and the last one
_JPEG_DEFAULTS = {"quality": 95, "subsampling": "4:4:4"}  # for pictures that were no JPEG before


def save_picture(picture: Picture, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a picture, whole or not at all, in the format that its name tells.

    PNG, TIFF, BMP and WebP (always lossless) keep every sample; a JPEG is encoded with the tables and subsampling of
    the JPEG that the picture came from, else at quality 95 without subsampling. Colours that stood in a palette are
    saved as RGB(A). ICC profile, EXIF, XMP, resolution, JPEG comment and PNG texts go along where the format has a
    place for them. Raises OutputExistsError, and OutputError for what `check_savable` refuses and for a failing disk.
    """
    path = Path(path)
    file_format = check_savable(picture, path)
    check_output(path, overwrite)
    encoded = io.BytesIO()  # first into memory: a failing encoder is one thing, a failing disk another
    try:
        encode(picture, encoded, file_format)
    except Exception as error:  # Pillow's writers raise many kinds, for sizes and for odd metadata alike
        why = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(f"{path} cannot be written as {file_format}: {why}; choose a .png or another name") from error
    return write_atomically(path, lambda stream: stream.write(encoded.getbuffer()), overwrite=overwrite)


def check_savable(picture: Picture, path: str | os.PathLike[str]) -> str:
    """The format that a name asks for; raises OutputError where it is none of ours or cannot hold the picture.

    Ask it before a long work: a composite can be saved where its picture can.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"{path} ends in {suffix or 'no extension'}; allowed are {', '.join(FORMATS)}")
    file_format = FORMATS[suffix]
    if picture.levels > 255 and file_format not in _WITH_16_BITS:
        raise OutputError(f"{path}: {file_format} holds 8 bits a sample, and the picture has 16; use .png or .tiff")
    if not picture.is_opaque and file_format not in _WITH_ALPHA:
        raise OutputError(
            f"{path}: {file_format} cannot keep the picture's alpha (transparent parts); use .png, .webp or .tiff"
        )
    return file_format


def save_animation(pictures: Sequence[Picture], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write pictures of one size as an endless GIF that rests on the last one, whole or not at all.

    Reduced to at most 480 pixels wide and high, 256 colours a picture, without alpha. Raises OutputExistsError, and
    OutputError for no pictures at all and for a failing disk.
    """
    if not pictures:
        raise OutputError(f"{path} would be an animation of nothing; give at least one picture")
    frames = [Image.fromarray(to_samples(picture.colour())) for picture in pictures]
    for frame in frames:
        frame.thumbnail((_GIF_SIDE, _GIF_SIDE))
    usual, last = _GIF_MILLISECONDS
    encoded = io.BytesIO()
    durations = [*[usual] * (len(frames) - 1), last]
    frames[0].save(encoded, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return write_atomically(Path(path), lambda stream: stream.write(encoded.getbuffer()), overwrite=overwrite)


def encode(picture: Picture, stream: IO[bytes], file_format: str) -> None:
    """Write a picture as "PNG", "TIFF", "WEBP", "BMP" or "JPEG" to a stream.

    Where the format has no alpha it is left out; `check_savable` tells beforehand whether that loses anything.
    """
    image = _to_pillow(picture, file_format)
    with calm():
        image.save(stream, file_format, **_options(picture, file_format))


def _to_pillow(picture: Picture, file_format: str) -> Image.Image:
    samples = picture.samples
    if picture.has_alpha and file_format not in _WITH_ALPHA:
        samples = samples[..., :-1]
    if picture.mode == "1" and samples.shape[2] == 1 and file_format in _WITH_1_BIT:
        return Image.fromarray(samples[..., 0] > 127)
    return Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))


def _options(picture: Picture, file_format: str) -> dict[str, Any]:
    """What `Image.save` is given besides the samples."""
    kept = picture.metadata
    options: dict[str, Any] = {"dpi": kept.dpi, "xmp": kept.xmp, "icc_profile": kept.icc_profile}
    if file_format == "WEBP" and kept.icc_profile and kept.icc_profile[16:20] == b"GRAY":
        del options["icc_profile"]  # WebP has no grey: a profile for one channel would be wrong
    if kept.exif:
        options["exif"] = EXIF_PREFIX + kept.exif
    if file_format == "PNG":
        options["pnginfo"] = _png_info(picture)
    elif file_format == "TIFF":
        options |= _tiff_options(picture)
    elif file_format == "WEBP":
        options |= {"lossless": True, "exact": True, "quality": 80}  # exact: colours under full transparency too
    elif file_format == "BMP":
        options["dpi"] = kept.dpi or (0, 0)  # 0: not known; Pillow would claim 96
    elif file_format == "JPEG":
        options |= kept.jpeg or _JPEG_DEFAULTS
        options["comment"] = kept.comment
    return {name: value for name, value in options.items() if value is not None}


def _png_info(picture: Picture) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, data in picture.metadata.png_chunks:
        info.add(kind, data)
    if picture.metadata.xmp:
        info.add(b"iTXt", XMP_KEYWORD + bytes(5) + picture.metadata.xmp)  # neither compressed, nor of a language
    return info


def _tiff_options(picture: Picture) -> dict[str, Any]:
    tags = tiff_exif(picture.metadata.exif) if picture.metadata.exif else Image.Exif()
    if picture.metadata.xmp:
        tags[700] = picture.metadata.xmp
    # libtiff, which compresses, gets no EXIF or GPS directory from Pillow, and texts in ASCII only.
    return {"exif": tags, "compression": "raw" if tags else "tiff_adobe_deflate"}
