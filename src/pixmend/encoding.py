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
from PIL import Image, PngImagePlugin

from pixmend import png_bytes, tiff_bytes
from pixmend.errors import MemoryLimitError, OutputError
from pixmend.files import check_output, write_atomically
from pixmend.heif import register_heif
from pixmend.jpeg_editing import came_as_jpeg, encode_jpeg_again
from pixmend.jpeg_segments import APP1, APP2, COM, EXIF_HEAD, LONGEST, XMP_HEAD, Segment, dressed, split
from pixmend.metadata import (
    CICP,
    EXIF_PREFIX,
    PHOTOSHOP,
    PNG_GROUND,
    RESOLUTION,
    XMP_KEYWORD,
    calm,
    can_be_rewritten,
    fitting_profile,
    is_private,
    is_srgb,
    tiff_exif,
)
from pixmend.modes import MULTIPLIED, stored_image
from pixmend.packets import without_xmp_previews
from pixmend.pictures import Metadata, Picture, to_samples
from pixmend.previews import refreshed, refreshed_segments, showing
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
_LONGEST_SIDE = {"WEBP": 16383, "AVIF": 32768, "JPEG": 65500, "GIF": 65535}  # of AVIF what decoders take
_ROOM_IN_JPEG = {"exif": LONGEST - len(EXIF_HEAD), "xmp": LONGEST - len(XMP_HEAD), "comment": LONGEST}  # bytes
_LOSSY = ("JPEG", "AVIF")
_GREYS = ("1", "L", "I;16", "F")  # modes
_COLOUR_ALWAYS = ("WEBP", "AVIF")  # grey is written as three channels
_WITH_CICP = ("PNG", "HEIF")
_NO_CICP = (
    "what tells of the colours by numbers (CICP: such as Display P3, HDR) has no place in the {} that is written, "
    "and they may be shown wrong; .png and .heic keep it"
)
_PICTURES = (b"\xff\xd8\xff", png_bytes.SIGNATURE)  # what JPEG and PNG begin with
_ICC_HEAD = b"ICC_PROFILE\0"  # of segments
_GIF_SIDE = 480  # pixels
_GIF_MILLISECONDS = (120, 1500)  # for which a picture stands, and the last one
_JPEG_DEFAULTS = {"quality": 95, "subsampling": "4:4:4"}  # for pictures that were no JPEG before


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
        raise OutputError(f"{path}: HEIC needs the extra heif: pip install 'pixmend[heif]'; or use .png")
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
        options = _options(picture, file_format, image)
        if file_format not in _WITH_CICP and _cicp(picture):
            told.append(_NO_CICP.format(file_format))
        if is_wide:
            written = io.BytesIO()
            write_wide(picture, written, file_format, options)
            encoded = written.getvalue()
        else:
            encoded = _saved(image or _to_pillow(picture, file_format), picture, file_format, options)
        if file_format == "JPEG":
            encoded = _with_segments_of_its_source(encoded, picture)
        if file_format == "PNG" and (more := _more_chunks(picture)):
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
        options = options | _gif_options(image)
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


def _gif_options(image: Image.Image) -> dict[str, Any]:
    clear = image.info.pop("transparency", b"").find(b"\0")
    return {"optimize": False, "interlace": False} | ({"transparency": clear} if clear >= 0 else {})


def _options(picture: Picture, file_format: str, stored: Image.Image | None) -> dict[str, Any]:
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
        if cicp := _cicp(picture):
            options |= {"color_primaries": cicp[0], "transfer_characteristics": cicp[1]}
    if file_format in ("JPEG", "GIF"):
        options["comment"] = kept.comment
    return {name: value for name, value in options.items() if value is not None}


def _cicp(picture: Picture) -> bytes | None:
    """What tells of the picture's colours, in the order of PNG's chunk, where that is needed."""
    kept = picture.metadata
    told = [one[1] for one in kept.png_chunks if one[0] == CICP and len(one[1]) == 4 and not is_srgb(one)]
    return told[0] if told and not kept.icc_profile else None


def _with_segments_of_its_source(encoded: bytes, picture: Picture) -> bytes:
    """A JPEG of Pillow, which writes what is in `_options`, with all else that the old JPEG told, such as IPTC."""
    read = picture.original
    if read is None or read.jpeg is None or picture.metadata is not read.metadata:
        return encoded
    try:
        old, _ = split(read.jpeg)
    except ValueError:  # damage that decoders overlook
        return encoded
    more = [one for one in refreshed_segments(old, showing(picture)) if one.describes and not _is_in_options(one)]
    own, _ = split(encoded)
    return dressed(encoded, [*own, *more])


def _is_in_options(segment: Segment) -> bool:
    """EXIF and XMP, the ICC profile, comments, and what names the colours."""
    is_profile = segment.marker == APP2 and segment.payload.startswith(_ICC_HEAD)
    return segment.marker in (APP1, COM) or is_profile or segment.names_colours


def _more_chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
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
