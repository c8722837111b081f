"""Picture files, reduced: 8 bits of RGB, upright, for training and previews."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pixmend.decoding import kind_of_copy, odd_tiff, odd_tiff_in
from pixmend.errors import PictureError
from pixmend.loading import EXACT, SIXTEEN, loaded, no_data_of, refuse_garbled, samples_of
from pixmend.metadata import read_metadata
from pixmend.modes import CONVERTED, to_rgb
from pixmend.opening import TIFF, check_size, errors_as_one_line, identified, is_by_system, opened
from pixmend.pictures import BAND, NOT_WHOLE, Picture, to_samples, turned
from pixmend.wide import read_wide


def decode_thumbnail(path: str | os.PathLike[str], side: int) -> NDArray[np.uint8]:
    """Any picture as (h, w, 3) uint8 RGB, upright, reduced until its shorter side is `side` pixels; never enlarged.

    For training and previews: unlike `decode_file` it takes the first frame, flattens 16 bits (as they are used: see
    `Picture.spanned`), and lays transparent pictures on white. Large JPEGs are decoded at a fraction of their size,
    which is several times faster.
    """
    with closing(_thumbnails(path, side)) as pages:
        _, first = next(pages)
        if isinstance(first, str):
            raise PictureError(first)
        return first


def decode_thumbnails(
    path: str | os.PathLike[str], side: int, least: int = 1, go_on: Callable[[], bool] = lambda: True
) -> tuple[list[NDArray[np.uint8]], str | None]:
    """`decode_thumbnail` of each page of a TIFF, such as the slices of a stack, and a line on those that were left out.

    Frames of an animation show the same thing again and again, the pages of a TIFF are pictures of their own: of other
    files it is the first frame alone. Left out are pages that cannot be read, those with fewer than `least` pixels a
    side, and, without a word, reduced copies of others and masks. go_on: asked after every page. Raises PictureError
    where none is left.
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
    if (picture := odd_tiff(path)) is not None:
        yield str(path), _reduced(_eight_bits(picture, str(path)), side)
        return
    with opened(path) as (image, stream):
        if not isinstance(image, TiffImageFile):
            yield str(path), _thumbnail(image, stream, str(path), side)
            return
        yield str(path), _page(image, stream, str(path), side)
        with Image.open(stream) as again:
            for page in itertools.count(1):
                name = f"page {page + 1} of {path}"
                try:
                    image.seek(page)
                except EOFError:
                    return
                except SyntaxError as error:  # a kind that Pillow does not know; those behind it can be read
                    if not kind_of_copy(image):
                        yield name, f"{name} is of a kind that is not read: {error}"
                    continue
                except Exception as error:  # noqa: BLE001  # damage; where the next page would be is not known
                    yield name, f"{name} cannot be read ({error}), nor what is behind it"
                    return
                if kind_of_copy(image):
                    continue
                yield name, _page(image, stream, name, side, page, again)


def _page(
    image: Image.Image, stream: IO[bytes], name: str, side: int, page: int = 0, again: ImageFile | None = None
) -> NDArray[np.uint8] | str:
    """The page of a TIFF that it stands at, or why it cannot be used."""
    try:
        with errors_as_one_line(name):
            check_size(image, name)
            return _thumbnail(image, stream, name, side, page, again)
    except PictureError as error:
        if is_by_system(error):
            raise
        return str(error)


def decode_thumbnail_of(content: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """`decode_thumbnail` of the bytes of a file; name: what errors call it."""
    with errors_as_one_line(name):
        if content[:4] in TIFF[:2] and (picture := odd_tiff_in(bytearray(content), name)) is not None:
            return _reduced(_eight_bits(picture, name), side)
        stream = io.BytesIO(content)
        with identified(stream, name) as image:
            return _thumbnail(image, stream, name, side)


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
    flat = np.empty((*picture.size, 3), np.uint8)
    for top in range(0, len(flat), BAND):  # of a large picture, floats of all of it take gigabytes
        band = replace(picture, samples=picture.samples[top : top + BAND])
        values, alpha = band.colour(), band.alpha()
        if alpha is not None:
            values = 1 + (values - 1) * alpha[..., None]
        flat[top : top + BAND] = to_samples(values)
    return Image.fromarray(flat)


def _flat_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in CONVERTED:
        image = to_rgb(image, image.info.get("icc_profile"))  # as `decode_file` has it
    if image.mode in ("F", "I", *SIXTEEN):
        return _eight_bits(Picture(samples_of(image, name), no_data=no_data_of(image)), name)
    if image.mode not in EXACT:
        raise PictureError(f"{name} is of mode {image.mode}; save it as grey, RGB, or either with alpha")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")
