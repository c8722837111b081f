"""Pictures -> files: lossless wherever the format can, with everything kept that it has a place for."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from pixmend import png_bytes, tiff_bytes
from pixmend.errors import MemoryLimitError, OutputError
from pixmend.files import check_output, write_atomically
from pixmend.heif import register_heif
from pixmend.jpeg_editing import came_as_jpeg, encode_jpeg_again
from pixmend.jpeg_segments import EXIF_HEAD, LONGEST, XMP_HEAD
from pixmend.metadata import calm
from pixmend.modes import MULTIPLIED, stored_image
from pixmend.packets import without_xmp_previews
from pixmend.pictures import Metadata, Picture, to_samples
from pixmend.previews import refreshed, showing
from pixmend.save_options import cicp_of, more_chunks, save_options, with_segments_of_its_source
from pixmend.wide import write_wide

FORMATS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
_WITH_ALPHA = ("PNG", "TIFF", "WEBP", "GIF", "AVIF", "HEIF")
_WITH_16_BITS = ("PNG", "TIFF")
_WITH_1_BIT = ("PNG", "TIFF", "BMP")
# In pixels; of AVIF and HEIC what decoders take.
_LONGEST_SIDE = {"WEBP": 16383, "AVIF": 32768, "JPEG": 65500, "GIF": 65535, "HEIF": 65528}
_ROOM_IN_JPEG = {"exif": LONGEST - len(EXIF_HEAD), "xmp": LONGEST - len(XMP_HEAD), "comment": LONGEST}  # bytes
_LOSSY = ("JPEG", "AVIF")
_GREYS = ("1", "L", "I;16", "F")  # modes
_WITH_CICP = ("PNG", "HEIF")
_NO_CICP = (
    "what tells of the colours by numbers (CICP: such as Display P3, HDR) has no place in the {} that is written, "
    "and they may be shown wrong; .png and .heic keep it"
)
_GIF_SIDE = 480  # pixels
_GIF_MILLISECONDS = (120, 1500)  # for which a picture stands, and the last one


def save_picture(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    note: Callable[[str], object] | None = None,
) -> Path:
    """Write a picture, whole or not at all, in the format that its name tells, or without a suffix in its own.

    docs/formats.md says what each format keeps. In short: PNG, TIFF, BMP, WebP and HEIC (both always lossless) and GIF
    keep every sample; so does JPEG, block by block, where the picture came from a JPEG and jpeglib is there. Palettes,
    CMYK and the like are written back where the format is the source's. ICC profile, EXIF, XMP, resolution, comments
    and PNG texts go along where the format has a place for them; previews in them are made anew.
    note: is told in a line what could not be kept exactly, and how a JPEG was written. Raises OutputExistsError,
    OutputError for what `check_savable` refuses and for a failing disk, and MemoryLimitError.
    """
    path = Path(path)
    file_format = check_savable(picture, path)
    check_output(path, overwrite)
    encoded = io.BytesIO()  # first into memory: a failing encoder is one thing, a failing disk another
    try:
        told = encode(picture, encoded, file_format)
    except MemoryError as error:
        raise MemoryLimitError(
            f"{path} needs more memory than there is; end other programs, or work on a smaller picture"
        ) from error
    except Exception as error:  # Pillow's writers raise many kinds, for sizes and for odd metadata alike
        why = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(f"{path} cannot be written as {file_format}: {why}; choose a .png or another name") from error
    write_atomically(path, lambda stream: stream.write(encoded.getbuffer()), overwrite=overwrite)
    if note is not None and told:
        note(f"{path}: {told}")
    return path


def check_savable(picture: Picture, path: str | os.PathLike[str]) -> str:
    """The format that a name asks for, or the picture's own where it has no suffix.

    Raises OutputError where it is none of ours or cannot hold the picture. Ask it before a long work: a composite can
    be saved where its picture can.
    """
    suffix = Path(path).suffix.lower()
    if not suffix and picture.format in FORMATS.values():
        suffix = next(name for name, file_format in FORMATS.items() if file_format == picture.format)
    if suffix not in FORMATS:
        raise OutputError(f"{path} ends in {suffix or 'no extension'}; allowed are {', '.join(FORMATS)}")
    file_format = FORMATS[suffix]
    if file_format == "HEIF" and not register_heif():
        raise OutputError(f'{path}: HEIC needs the extra heif: pip install "pixmend[heif]"; or use .png')
    if picture.is_float and file_format != "TIFF":
        raise OutputError(f"{path}: {file_format} holds no floats, and the picture's samples are; use .tiff")
    if picture.samples.dtype == np.uint16 and file_format not in _WITH_16_BITS:
        raise OutputError(f"{path}: {file_format} holds 8 bits a sample, and the picture has 16; use .png or .tiff")
    if not picture.is_opaque and file_format not in _WITH_ALPHA:
        raise OutputError(
            f"{path}: {file_format} cannot keep the picture's alpha (transparent parts); use .png, .webp or .tiff"
        )
    if max(picture.size) > (longest := _LONGEST_SIDE.get(file_format, math.inf)):
        raise OutputError(f"{path}: {file_format} holds {longest} pixels a side, and the picture has more; use .png")
    if file_format == "GIF" and (alpha := picture.alpha()) is not None and ((alpha > 0) & (alpha < 1)).any():
        raise OutputError(
            f"{path}: in a GIF what is not opaque is wholly transparent, and in this picture not; use .png"
        )
    if file_format == "GIF" and not _fits_gif(picture):
        raise OutputError(
            f"{path}: GIF holds 256 colours: grey and paletted pictures are kept in it, this one is not; use .png"
        )
    return file_format


def fitted(picture: Picture, path: str | os.PathLike[str]) -> Picture:
    """`check_savable`, and the picture less the metadata that the format has no room for, with a note of it."""
    file_format = check_savable(picture, path)
    if file_format == "JPEG" and came_as_jpeg(picture):
        return picture
    kept = picture.metadata
    lost = _too_long(replace(kept, xmp=kept.xmp and without_xmp_previews(kept.xmp)), file_format)
    if not lost:
        return picture
    less = picture.with_metadata(_without(kept, lost))
    return replace(less, notes=(*picture.notes, _left_out(lost, file_format)))


def _too_long(kept: Metadata, file_format: str) -> list[str]:
    """The names of the metadata for which a format has no room."""
    room = _ROOM_IN_JPEG if file_format == "JPEG" else {}
    return [name for name, most in room.items() if len(getattr(kept, name) or b"") > most]


def _without(kept: Metadata, names: list[str]) -> Metadata:
    nothing: dict[str, Any] = dict.fromkeys(names)
    return replace(kept, **nothing)


def _left_out(names: list[str], file_format: str) -> str:
    shown = " and ".join(name if name == "comment" else name.upper() for name in names)
    return f"of the metadata, {shown} is left out: {file_format} has room for 64 KiB of each; .png keeps it"


def _fits_gif(picture: Picture) -> bool:
    """Whether what is known of a picture has a palette, or is grey."""
    read = picture.original
    has_palette = read is not None and read.palette is not None and read.samples.shape == picture.samples.shape
    return has_palette or picture.samples.shape[2] == 1


def save_animation(pictures: Iterable[Picture], path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write pictures of one size as an endless GIF that rests on the last one, whole or not at all.

    Reduced, each as it comes, to at most 480 pixels wide and high; 256 colours a picture, without alpha. Raises
    OutputExistsError, and OutputError for no pictures at all and for a failing disk.
    """
    frames = [_frame(picture) for picture in pictures]
    if not frames:
        raise OutputError(f"{path} would be an animation of nothing; give at least one picture")
    usual, last = _GIF_MILLISECONDS
    encoded = io.BytesIO()
    durations = [*[usual] * (len(frames) - 1), last]
    frames[0].save(encoded, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return write_atomically(Path(path), lambda stream: stream.write(encoded.getbuffer()), overwrite=overwrite)


def _frame(picture: Picture) -> Image.Image:
    frame = Image.fromarray(to_samples(picture.colour()))
    frame.thumbnail((_GIF_SIDE, _GIF_SIDE))
    return frame


def encode(picture: Picture, stream: IO[bytes], file_format: str) -> str | None:
    """Write a picture to a stream; file_format: one of the values of FORMATS. Returns a line on what it is not, if any.

    Where the format has no alpha it is left out; `check_savable` tells beforehand whether that loses anything.
    """
    read = picture.original
    if file_format == "HEIF":
        register_heif()
    with calm():
        if file_format == "JPEG" and came_as_jpeg(picture):
            return encode_jpeg_again(picture, stream)
        turn = read.orientation if read is not None and picture.metadata is read.metadata else 1
        kept = picture.metadata
        if (kept.exif or kept.xmp or kept.photoshop or kept.png_chunks) and (turn != 1 or not picture.is_as_read):
            picture = picture.with_metadata(refreshed(kept, showing(picture), quarter_turn=turn >= 5))
        told = [f"{file_format} rounds colours: known samples may differ by a few levels"] * (file_format in _LOSSY)
        if lost := _too_long(picture.metadata, file_format):
            picture = picture.with_metadata(_without(picture.metadata, lost))
            told.append(_left_out(lost, file_format))
        is_wide = picture.is_signed or (picture.samples.dtype != np.uint8 and picture.samples.shape[2] > 1)
        image = None if is_wide else stored_image(picture, file_format)
        options = save_options(picture, file_format, image)
        if file_format not in _WITH_CICP and cicp_of(picture):
            told.append(_NO_CICP.format(file_format))
        if is_wide:
            written = io.BytesIO()
            write_wide(picture, written, file_format, options)
            encoded = written.getvalue()
        else:
            encoded = _saved(image or _to_pillow(picture, file_format), picture, file_format, options)
        if file_format == "JPEG":
            encoded, of_source = with_segments_of_its_source(encoded, picture)
            told += of_source
        if file_format == "PNG" and (more := more_chunks(picture)):
            encoded = png_bytes.with_more(encoded, more)
        stream.write(encoded)
    return "; ".join(told) or None


def _saved(image: Image.Image, picture: Picture, file_format: str, options: dict[str, Any]) -> bytes:
    """The file that Pillow makes of an image; of TIFFs in some modes what it writes is mended."""
    read = picture.original
    white_is_zero = file_format == "TIFF" and read is not None and read.white_is_zero and image.mode in _GREYS
    if white_is_zero:
        image = _other_way_round(image)
    multiplied = file_format == "TIFF" and image.mode in MULTIPLIED
    if multiplied:
        image = Image.frombytes(image.mode.upper(), image.size, image.tobytes())
    if file_format == "GIF":
        image, told = _for_gif(image)
        options = options | told
    written = io.BytesIO()
    image.save(written, file_format, **options)
    if multiplied:
        return tiff_bytes.with_multiplied_alpha(written.getvalue())
    if white_is_zero:
        return tiff_bytes.with_white_as_zero(written.getvalue())
    if file_format == "TIFF" and image.mode == "P":
        known = read.colour_map if read else None
        return tiff_bytes.with_whole_colours(written.getvalue(), known)
    return written.getvalue()


def _other_way_round(image: Image.Image) -> Image.Image:
    """Grey with 0 for white; floats as they are, for Pillow reads them so."""
    return image if image.mode == "F" else Image.fromarray(~np.asarray(image))


def _to_pillow(picture: Picture, file_format: str) -> Image.Image:
    samples = picture.samples
    if picture.has_alpha and file_format not in _WITH_ALPHA:
        samples = samples[..., :-1]
    if picture.mode == "1" and samples.shape[2] == 1 and file_format in _WITH_1_BIT:
        return Image.fromarray(samples[..., 0] > 127)
    if picture.has_alpha and samples.shape[2] == 2 and file_format == "HEIF":
        samples = samples[..., [0, 0, 0, 1]]
    return Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))


def _for_gif(image: Image.Image) -> tuple[Image.Image, dict[str, Any]]:
    """An image, and the options that it is written with: one entry of its palette at most is transparent."""
    clear = [i for i, alpha in enumerate(image.info.pop("transparency", b"")) if alpha == 0]
    if len(clear) > 1:
        image = image.point([clear[0] if i in clear else i for i in range(256)])
    return image, {"optimize": False, "interlace": False} | ({"transparency": clear[0]} if clear else {})
