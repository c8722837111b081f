"""Files and Pillow images -> pictures: every sample exact, or a refusal that says why."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO

import numpy as np
from PIL import Image

from pixmend import opening, tiff_bytes
from pixmend.errors import OptionError, PictureError
from pixmend.loading import (
    CHANNELS,
    EXTRA,
    NO_DATA,
    PHOTOMETRIC,
    RGB,
    SIXTEEN,
    WHITE_IS_ZERO,
    is_signed,
    keep_multiplied,
    loaded,
    no_data,
    no_data_of,
    refuse_flattened,
    refuse_more_channels,
    samples_of,
    tag_of,
)
from pixmend.metadata import ORIENTATION, calm, read_metadata
from pixmend.modes import CONVERTED, MULTIPLIED, read_stored, to_rgb
from pixmend.opening import TIFF, check_size, errors_as_one_line, opened, too_large
from pixmend.pictures import Original, Picture, turned
from pixmend.tiff_tags import DESCRIPTION, as_one_page
from pixmend.wide import read_wide

MORE_OF_TILES = 32_000_000  # bytes that the last tiles of a TIFF may hold beside the picture
NOT_KEPT = "the further pictures inside the file, such as previews, are not kept"
NO_MASK = "the mask inside the file is not used; save it as a file of its own, and give it with --mask"
TAKEN_FOR_ALPHA = "the file does not say what its fourth channel is; it is taken for alpha (how opaque pixels are)"
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706  # tags
_STILLS = ("MPO", "PSD")  # their further "frames" are previews and layers; the first is the picture itself


def decode_file(path: str | os.PathLike[str], frame: int | None = None) -> Picture:
    """One picture file in any format that Pillow reads, upright.

    frame: of a file with several frames or pages, the one to take, counted from 1. AVIF, HEIC and JPEG 2000 are read at
    8 bits a sample. Raises FileMissingError; OptionError for a frame that is not there; and PictureError for what is no
    picture, is damaged, has frames and none was chosen, claims more than MAX_PIXELS, or has samples that would not
    survive.
    """
    if frame in (None, 1) and (picture := odd_tiff(path)) is not None:
        return picture
    with opened(path) as (image, stream):
        _refuse_raw(image, str(path))
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
            check_size(image, str(path))
        orientation = _orientation(image)
        picture = _decode(image, str(path), stream, (frame or 1) - 1)
        picture = replace(picture, notes=(*picture.notes, *_of_copies(copies)))
        return as_one_page(picture, several=frames > 1, first=first, orientation=orientation)


def _refuse_raw(image: Image.Image, name: str) -> None:
    """Cameras' raw files are TIFFs whose first page is a preview: what was photographed is in directories below it."""
    has_more = tag_of(image, _SUB_DIRECTORIES) is not None
    if has_more and (kind_of_copy(image) or tag_of(image, _DNG_VERSION) is not None):
        raise PictureError(
            f"{name} is a camera raw of which only a small preview can be read; develop it first (to TIFF, PNG or JPEG)"
        )


def _orientation(image: Image.Image) -> int:
    """In which a TIFF lies in its file, 1 to 8: Pillow turns it when it loads it, and forgets; 1 for all others."""
    told = image.getexif().get(ORIENTATION) if image.format == "TIFF" else 1  # if only XMP tells it, that
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def _copies(image: Image.Image, path: str | os.PathLike[str]) -> list[int] | None:
    """What the further pages of a TIFF are, if they only go with the first: `Directory.copies_behind`."""
    if image.format != "TIFF":
        return None
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
        if data[:4] in TIFF[2:]:
            return _copies_of_big(image)
        try:
            return tiff_bytes.Directory(data).copies_behind()
        except ValueError:  # damaged
            return None


def _copies_of_big(image: Image.Image) -> list[int] | None:
    """The same of a BigTIFF, page by page."""
    kinds: list[int] = []
    try:
        while 0 not in kinds and len(kinds) <= tiff_bytes.MOST_COPIES:
            with suppress(SyntaxError):  # samples that Pillow does not know, as those of masks; it has read the tags
                image.seek(len(kinds) + 1)
            kinds.append(kind_of_copy(image))
    except EOFError:
        return kinds
    finally:
        image.seek(0)
    return None


def kind_of_copy(image: Image.Image) -> int:
    """The `SUBFILE` of the page that a TIFF stands at, if it is a reduced copy of another one, or its mask; else 0."""
    kind = tag_of(image, tiff_bytes.SUBFILE)
    return kind if isinstance(kind, int) and kind & (tiff_bytes.REDUCED | tiff_bytes.MASK) else 0


def _of_copies(kinds: Sequence[int] | None) -> tuple[str, ...]:
    """What is to be noted of them."""
    if not kinds:
        return ()
    return (NOT_KEPT, NO_MASK) if any(kind & tiff_bytes.MASK for kind in kinds) else (NOT_KEPT,)


def decode_image(image: Image.Image) -> Picture:
    """A Pillow image, upright; of several frames the one that it stands at. Text chunks of a PNG are not kept."""
    name = "the Pillow image"
    with errors_as_one_line(name), calm(opening.MAX_PIXELS):
        check_size(image, name)
        _refuse_raw(image, name)
        several, orientation = getattr(image, "is_animated", False), _orientation(image)
        return as_one_page(_decode(image, name, None), several=several, orientation=orientation)


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
        if image.mode in ("CMYK", "LAB"):  # whose profile describes the old channels
            metadata = replace(metadata, icc_profile=None)
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
        signed=is_signed(image),
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


def odd_tiff(path: str | os.PathLike[str]) -> Picture | None:
    """The picture of a TIFF of samples that Pillow does not know; None for all else, damage included."""
    if not os.path.isfile(path):
        return None
    with errors_as_one_line(str(path)), open(path, "rb") as stream:
        if stream.read(4) not in TIFF[:2]:
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as data:
            return odd_tiff_in(data, str(path))


def odd_tiff_in(data: mmap.mmap | bytearray, name: str) -> Picture | None:
    """The same of a file's bytes, which may be changed."""
    try:
        directory = tiff_bytes.Directory(data)
        if not tiff_bytes.is_unknown_to_pillow(directory):
            return None
        copies = directory.copies_behind()
    except ValueError:
        return None
    height, width = tiff_bytes.size_of(directory)
    if height * width > opening.MAX_PIXELS:
        raise too_large(name)
    # Bytes, as which it is shown to Pillow: twice the picture's own, for its last tiles may be higher than it, and more
    # for the tiles of small ones; but not whatever a damaged file, or one made to do harm, says.
    most = min(12 * opening.MAX_PIXELS, 24 * height * width + MORE_OF_TILES)
    with calm(most):
        samples = tiff_bytes.read_samples(directory, most)
        with directory.as_grey() as image:
            orientation = _orientation(image)
            _, metadata = read_metadata(image, None)
            nothing = no_data(tag_of(image, NO_DATA))
    samples = turned(samples, orientation)
    original = Original(samples, metadata, icc_profile=metadata.icc_profile)
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    picture = Picture(samples, mode, "TIFF", metadata, _of_copies(copies), original, no_data=nothing)
    return as_one_page(_spanned(picture, name), orientation=orientation)


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
    if (tag_of(image, PHOTOMETRIC), tag_of(image, CHANNELS), tag_of(image, EXTRA)) == (RGB, 4, None):
        notes += (TAKEN_FOR_ALPHA,)
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
