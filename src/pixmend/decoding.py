"""Files and Pillow images -> pictures: every sample exact, or a refusal that says why."""

from __future__ import annotations

import io
import itertools
import logging
import mmap
import os
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pixmend import tiff_bytes
from pixmend.errors import FileMissingError, OptionError, PictureError, PixmendError
from pixmend.heif import is_heif, register_heif
from pixmend.loading import (
    EXACT,
    NO_DATA,
    PHOTOMETRIC,
    SIXTEEN,
    WHITE_IS_ZERO,
    keep_multiplied,
    loaded,
    no_data,
    no_data_of,
    refuse_flattened,
    refuse_garbled,
    refuse_more_channels,
    samples_of,
    tag_of,
)
from pixmend.metadata import ORIENTATION, calm, read_metadata
from pixmend.modes import CONVERTED, MULTIPLIED, read_stored, to_rgb
from pixmend.pictures import NOT_WHOLE, Original, Picture, to_samples, turned
from pixmend.tiff_tags import DESCRIPTION, as_one_page
from pixmend.wide import read_wide

MAX_PIXELS = 200_000_000  # a picture whose header claims more is refused before any of it is decoded

NOT_KEPT = "the further pictures inside the file, such as previews, are not kept"
NO_MASK = "the mask inside the file is not used; save it as a file of its own, and give it with --mask"
_STILLS = ("MPO", "PSD")  # their further "frames" are previews and layers; the first is the picture itself
_WRAPPERS = ("EPS", "IPTC")  # of the second, Pillow opens as a picture whatever is in it, be it PostScript
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors, which become ours, are printed as well


def decode_file(path: str | os.PathLike[str], frame: int | None = None) -> Picture:
    """One picture file in any format that Pillow reads, upright.

    frame: of a file with several frames or pages, the one to take, counted from 1. AVIF, HEIC and JPEG 2000 are read at
    8 bits a sample. Raises FileMissingError; OptionError for a frame that is not there; and PictureError for what is no
    picture, is damaged, has frames and none was chosen, claims more than MAX_PIXELS, or has samples that would not
    survive.
    """
    if frame in (None, 1) and (picture := _odd_tiff(path)) is not None:
        return picture
    with _opened(path) as (image, stream):
        copies = _copies(image, path)
        alone = image.format in _STILLS or copies is not None
        frames = 1 if alone else int(getattr(image, "n_frames", 1))
        if frame is None and frames > 1:
            raise PictureError(
                f"{path} holds {frames} frames or pages; take one: of a picture to work on with --frame 1 to {frames}, "
                "of anything else, such as a mask, by saving it as a file of its own"
            )
        if frame is not None and not 1 <= frame <= frames:
            raise OptionError(f"{path} has no frame {frame}; give {f'1 to {frames}' if frames > 1 else '1, or none'}")
        first = tag_of(image, DESCRIPTION)
        if frames > 1:
            image.seek((frame or 1) - 1)
            _check_size(image, str(path))
        is_turned = tag_of(image, ORIENTATION) in range(2, 9)  # Pillow turns a TIFF when it loads it, and forgets it
        picture = _decode(image, str(path), stream, (frame or 1) - 1)
        picture = replace(picture, notes=(*picture.notes, *_of_copies(copies)))
        return as_one_page(picture, several=frames > 1, first=first, is_turned=is_turned)


def _copies(image: Image.Image, path: str | os.PathLike[str]) -> list[int] | None:
    """What the further pages of a TIFF are, if they only go with the first: `Directory.copies_behind`."""
    if image.format != "TIFF":
        return None
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
        try:
            return tiff_bytes.Directory(data).copies_behind()
        except ValueError:  # damaged, or of 64-bit offsets
            return None


def _of_copies(kinds: Sequence[int] | None) -> tuple[str, ...]:
    """What is to be noted of them."""
    if not kinds:
        return ()
    return (NOT_KEPT, NO_MASK) if any(kind & tiff_bytes.MASK for kind in kinds) else (NOT_KEPT,)


def header_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The rows and columns that a picture file's header tells, as they are stored; nothing is decoded.

    Raises FileMissingError; and PictureError for what is no picture, or claims more than MAX_PIXELS.
    """
    with _opened(path) as (image, _):
        return image.height, image.width


def decode_image(image: Image.Image) -> Picture:
    """A Pillow image, upright; of several frames the one that it stands at. Text chunks of a PNG are not kept."""
    name = "the Pillow image"
    with _errors_as_one_line(name), calm(MAX_PIXELS):
        _check_size(image, name)
        several, is_turned = getattr(image, "is_animated", False), tag_of(image, ORIENTATION) in range(2, 9)
        return as_one_page(_decode(image, name, None), several=several, is_turned=is_turned)


def decode_thumbnail(path: str | os.PathLike[str], side: int) -> NDArray[np.uint8]:
    """Any picture as (h, w, 3) uint8 RGB, upright, reduced until its shorter side is `side` pixels; never enlarged.

    For training and previews: unlike `decode_file` it takes the first frame, flattens 16 bits (as they are used: see
    `Picture.spanned`), and lays transparent pictures on white. Large JPEGs are decoded at a fraction of their size,
    which is several times faster.
    """
    with closing(_thumbnails(path, side)) as pages:
        _, first = next(pages)
        assert not isinstance(first, str), "a first page that cannot be read raises"
        return first


def decode_thumbnails(
    path: str | os.PathLike[str], side: int, least: int = 1, go_on: Callable[[], bool] = lambda: True
) -> tuple[list[NDArray[np.uint8]], str | None]:
    """`decode_thumbnail` of each page of a TIFF, such as the slices of a stack, and a line on those that were left out.

    Frames of an animation show the same thing again and again, the pages of a TIFF are pictures of their own: of other
    files it is the first frame alone. Left out are pages that cannot be read, those with fewer than `least` pixels a
    side, and, without a word, reduced copies of others and masks. go_on: asked after every page. Raises PictureError
    where the first cannot be read, or none is left.
    """
    found: list[NDArray[np.uint8]] = []
    reasons: list[str] = []
    with closing(_thumbnails(path, side)) as pages:
        for name, page in pages:
            if isinstance(page, str):
                reasons.append(page)
            elif min(page.shape[:2]) < least:
                reasons.append(f"{name}: {page.shape[1]} x {page.shape[0]} pixels are fewer than {least} a side")
            else:
                found.append(page)
            if not go_on():
                break
    if not found:
        raise PictureError(reasons[0])
    if len(reasons) > 1:
        return found, f"{len(reasons)} pages of {path}, the first: {reasons[0]}"
    return found, reasons[0] if reasons else None


def _thumbnails(path: str | os.PathLike[str], side: int) -> Generator[tuple[str, NDArray[np.uint8] | str]]:
    """The name of every page, and what `decode_thumbnail` gives, or why there is nothing."""
    if (picture := _odd_tiff(path)) is not None:
        yield str(path), _reduced(_eight_bits(picture, str(path)), side)
        return
    with _opened(path) as (image, stream):
        yield str(path), _thumbnail(image, stream, str(path), side)
        if not isinstance(image, TiffImageFile):
            return
        with Image.open(stream) as again:
            for page in itertools.count(1):
                name = f"page {page + 1} of {path}"
                try:
                    image.seek(page)
                except EOFError:
                    return
                except SyntaxError as error:  # a kind that Pillow does not know; those behind it can be read
                    if not _is_copy(image):
                        yield name, f"{name} is of a kind that is not read: {error}"
                    continue
                except Exception as error:  # noqa: BLE001  # damage; where the next page would be is not known
                    yield name, f"{name} cannot be read ({error}), nor what is behind it"
                    return
                if _is_copy(image):
                    continue
                try:
                    with _errors_as_one_line(name):
                        _check_size(image, name)
                        pixels = _thumbnail(image, stream, name, side, page, again)
                except PictureError as error:
                    yield name, str(error)
                else:
                    yield name, pixels


def _is_copy(image: TiffImageFile) -> bool:
    """Whether the page that a TIFF stands at is a reduced copy of another one, or its mask."""
    kind = tag_of(image, tiff_bytes.SUBFILE)
    return isinstance(kind, int) and bool(kind & (tiff_bytes.REDUCED | tiff_bytes.MASK))


def decode_thumbnail_of(content: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """`decode_thumbnail` of the bytes of a file; name: what errors call it."""
    with _errors_as_one_line(name):
        if content[:4] in _TIFF[:2] and (picture := _odd_tiff_in(bytearray(content), name)) is not None:
            return _reduced(_eight_bits(picture, name), side)
        stream = io.BytesIO(content)
        with _identified(stream, name) as image:
            return _thumbnail(image, stream, name, side)


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a picture file's bytes as its header claims, without decoding it; raises PictureError."""
    with _errors_as_one_line(name), _identified(io.BytesIO(content), name) as image:
        return image.size


def _thumbnail(
    image: Image.Image,
    stream: IO[bytes],
    name: str,
    side: int,
    frame: int = 0,
    again: ImageFile | None = None,
) -> NDArray[np.uint8]:
    """frame, again: as for `read_wide`."""
    width, height = _reduced_size(image.size, side)
    wide = read_wide(image, stream, frame, again)
    if wide is not None:
        flat = _eight_bits(Picture(wide, no_data=no_data_of(image)), name)
    else:
        refuse_garbled(image, name)
        image.draft("RGB", (width, height))
        flat = _flat_rgb(loaded(image), name)
    orientation, _ = read_metadata(image, None)
    return turned(_reduced(flat, side), orientation)


def _reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, side: int) -> NDArray[np.uint8]:
    size = _reduced_size(image.size, side)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))


def _eight_bits(picture: Picture, name: str) -> Image.Image:
    """16 bits or floats as RGB of 8, on white; black and white are what is used of them."""
    try:
        picture = picture.spanned()
        if picture.is_float and picture.lacking().any():
            raise PictureError(f"{NOT_WHOLE}; give a picture that is whole")
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None
    values, alpha = picture.colour(), picture.alpha()
    if alpha is not None:
        values = 1 + (values - 1) * alpha[..., None]
    return Image.fromarray(to_samples(values))


def _decode(image: Image.Image, name: str, stream: IO[bytes] | None, frame: int = 0) -> Picture:
    refuse_more_channels(image, name)
    samples = None if stream is None else read_wide(image, stream, frame)
    pixels = image
    if samples is None:
        refuse_flattened(image, name)
        keep_multiplied(image)
        pixels = loaded(image)
    orientation, metadata = read_metadata(image, stream)
    stored, profile, notes = read_stored(pixels), metadata.icc_profile, _notes(image, stream)
    if image.mode in CONVERTED:
        metadata = replace(metadata, icc_profile=None)  # it describes the old channels
        pixels = to_rgb(pixels, profile)
    samples = turned(samples_of(pixels, name) if samples is None else samples, orientation)
    original = Original(
        samples,
        metadata,
        stored=None if stored is None else turned(stored[0], orientation),
        palette=None if stored is None else stored[1],
        colour_map=tiff_bytes.colour_map(image),
        icc_profile=profile,
        jpeg=_whole(stream) if stream is not None and image.format in ("JPEG", "MPO") else None,
        orientation=orientation,
        white_is_zero=tag_of(image, PHOTOMETRIC) == WHITE_IS_ZERO,
    )
    is_wide = samples.dtype == np.uint16 and samples.shape[2] > 1
    picture = Picture(
        samples,
        mode={2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]] if is_wide else image.mode,
        format="JPEG" if image.format == "MPO" else image.format,
        metadata=metadata,
        notes=notes,
        original=original,
        no_data=no_data_of(image),
    )
    return _spanned(picture, name)


def _odd_tiff(path: str | os.PathLike[str]) -> Picture | None:
    """The picture of a TIFF of samples that Pillow does not know; None for all else, damage included."""
    if not os.path.isfile(path):
        return None
    with _errors_as_one_line(str(path)), open(path, "rb") as stream:
        if stream.read(4) not in _TIFF[:2]:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            return _odd_tiff_in(data, str(path))


def _odd_tiff_in(data: mmap.mmap | bytearray, name: str) -> Picture | None:
    """The same of a file's bytes, which may be changed."""
    try:
        directory = tiff_bytes.Directory(data)
        if not tiff_bytes.is_unknown_to_pillow(directory):
            return None
        copies = directory.copies_behind()
    except ValueError:
        return None
    height, width = tiff_bytes.size_of(directory)
    if height * width > MAX_PIXELS:
        raise _too_large(name)
    with calm(12 * MAX_PIXELS):  # it is shown to Pillow as so many bytes
        samples = tiff_bytes.read_samples(directory)
        with directory.as_grey() as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            _, metadata = read_metadata(image, None)
            nothing = no_data(tag_of(image, NO_DATA))
    samples = turned(samples, orientation)
    original = Original(samples, metadata, icc_profile=metadata.icc_profile)
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    picture = Picture(samples, mode, "TIFF", metadata, _of_copies(copies), original, no_data=nothing)
    return as_one_page(_spanned(picture, name), is_turned=orientation in range(2, 9))


def _spanned(picture: Picture, name: str) -> Picture:
    """Floats with black and white of what was measured, or of all where nothing was; whole numbers keep theirs."""
    if not picture.is_float:
        return picture
    try:
        counted = replace(picture, no_data=None) if picture.lacking().all() else picture
        return replace(picture, colour_span=counted.spanned().colour_span)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from None


def _notes(image: Image.Image, stream: IO[bytes] | None) -> tuple[str, ...]:
    """What of an image could not be kept as it was."""
    notes: tuple[str, ...] = ()
    if image.mode in CONVERTED and image.mode not in MULTIPLIED:
        notes += (f"{image.mode} is worked on as {CONVERTED[image.mode]}; a file in the same format gets it back",)
    bits = image.info.get("bit_depth") or (8 if stream is None else bits_told(image.format, _head(stream)))
    if bits > 8 and image.mode not in ("I", *SIXTEEN):
        notes += (f"the {bits} bits a sample were read as 8",)
    if image.format == "MPO":
        notes += (NOT_KEPT,)
    return notes


def bits_told(file_format: str | None, head: bytes) -> int:
    """The bits a sample that an AVIF or JPEG 2000 tells at its beginning, for Pillow does not; 8 of others.

    AV1 Codec ISO Media File Format Binding, 2.3.3: two flags behind profile and level; T.800, A.5.1: Ssiz of SIZ.
    """
    if file_format == "AVIF" and (at := head.find(b"av1C")) >= 0 and at + 6 < len(head):
        return (12 if head[at + 6] & 0x20 else 10) if head[at + 6] & 0x40 else 8
    if file_format == "JPEG2000" and (at := head.find(b"\xff\x4f\xff\x51")) >= 0 and at + 42 < len(head):
        return (head[at + 42] & 0x7F) + 1
    return 8


def _head(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read(1 << 16)


def _whole(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


def _flat_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "LAB":
        return to_rgb(image, None)
    if image.mode in ("F", "I", *SIXTEEN):
        return _eight_bits(Picture(samples_of(image, name), no_data=no_data_of(image)), name)
    if image.mode not in EXACT | CONVERTED:
        raise PictureError(f"{name} is of mode {image.mode}; save it as grey, RGB, or either with alpha")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


# ------------------------------------------------------------------------------------------- opening without surprises


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    if os.path.isdir(path):
        raise FileMissingError(f"{path} is a folder; give one picture file")
    if not os.path.isfile(path):
        raise FileMissingError(f"{path} does not exist; check the name")
    with (
        _errors_as_one_line(str(path)),
        open(path, "rb") as stream,
        _identified(stream, str(path)) as image,
    ):
        yield image, stream


@contextmanager
def _identified(stream: IO[bytes], name: str) -> Iterator[Image.Image]:
    with calm(MAX_PIXELS):
        if not (head := stream.read(12)):
            raise PictureError(f"{name} is empty; give a picture file")
        if head[:4] in _POSTSCRIPT:  # a program, which Pillow would run
            raise PictureError(f"{name} is PostScript, which is not read; give pixels, such as a PNG or JPEG")
        if is_heif(head) and not register_heif():
            raise PictureError(f"{name} is HEIC, which needs the extra heif: pip install 'pixmend[heif]'")
        try:
            image = Image.open(stream)
        except UnidentifiedImageError:
            if is_heif(head) or head[4:8] == b"ftyp" or _is_cut_off_tiff(head, stream):
                raise PictureError(f"{name} is damaged or cut off; give an intact copy") from None
            if head[:4] not in _TIFF:
                raise
            raise PictureError(
                f"{name} is a TIFF of a kind that is not read (its samples, or a BigTIFF); save it as a plain TIFF of "
                "grey or RGB of 8 or 16 bits, one page alone"
            ) from None
        with image:
            if image.format in _WRAPPERS:
                raise PictureError(f"{name} is {image.format}, which may hold PostScript; give a PNG, JPEG or such")
            _check_size(image, name)
            yield image


def _is_cut_off_tiff(head: bytes, stream: IO[bytes]) -> bool:
    """Whether a TIFF's directory lies behind the end of the file; head: its first 12 bytes."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    return order is not None and len(head) >= 8 and struct.unpack_from(order + "I", head, 4)[0] >= stream.seek(0, 2)


@contextmanager
def _errors_as_one_line(name: str) -> Iterator[None]:
    try:
        yield
    except PixmendError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{name} is no picture in a format known here; give a PNG, JPEG, TIFF or such") from None
    except Image.DecompressionBombError:
        raise _too_large(name) from None
    except Exception as error:  # damage makes Pillow's readers raise anything at all
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{name} is damaged, cut off or unreadable: {why}; give an intact copy") from error


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name)
    if not image.width * image.height:
        raise PictureError(f"{name} has no pixels ({image.width} x {image.height}); give a picture that has")


def _too_large(name: str) -> PictureError:
    return PictureError(
        f"{name} claims more than {MAX_PIXELS:,} pixels and is not decoded; reduce it, or raise "
        "pixmend.decoding.MAX_PIXELS if you trust it"
    )
