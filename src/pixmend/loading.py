"""Pillow's image of a file -> its samples: every one exact, or a refusal that says why.

Pillow cuts 16 bits a channel down to 8, divides colours that were multiplied with their alpha, and leaves out channels
that it does not know, all without a word. What it is about to do shows before it loads an image, and is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from pixmend.errors import PictureError
from pixmend.pictures import Samples

# What Pillow holds in memory -> the mode it is read as, exactly.
EXACT = {"1": "1", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
PHOTOMETRIC, WHITE_IS_ZERO, RGB = 262, 0, 2  # a tag of TIFF, and values
BITS, CHANNELS, PLANAR, EXTRA = 258, 277, 284, 338  # tags
SAMPLE_FORMAT, SIGNED = 339, 2  # the same
NO_DATA = 42113  # GDAL's: https://gdal.org/drivers/raster/gtiff.html#nodata-value


def tag_of(image: Image.Image, tag: int) -> object:
    """What a TIFF's tag says; None where it is not there, and of others."""
    return getattr(image, "tag_v2", {}).get(tag)


def no_data_of(image: Image.Image) -> float | None:
    """`no_data` of a TIFF whose samples are read as they are stored; None of others."""
    bits, photometric = tag_of(image, BITS), tag_of(image, PHOTOMETRIC)
    whole_bytes = isinstance(bits, tuple) and min(bits) >= 8
    plain = image.mode in ("L", "LA", "RGB", "RGBA", "F", "I", *SIXTEEN) and photometric != WHITE_IS_ZERO
    return no_data(tag_of(image, NO_DATA)) if whole_bytes and plain else None


def no_data(told: object) -> float | None:
    """The sample that stands for nothing in all colours, by the text of GDAL's tag; None where it is none."""
    try:
        value = float(told.strip(" \0")) if isinstance(told, str) else math.nan
    except ValueError:
        return None
    largest = float(np.finfo(np.float32).max)  # what is not finite needs no telling
    return min(max(value, -largest), largest) if abs(value) < 1.001 * largest else None  # text may round it


def is_signed(image: Image.Image) -> bool:
    """Whether it is a TIFF of grey whose samples are signed numbers of 16 bits, as of heights above the sea."""
    return image.mode == "I" and tag_of(image, BITS) == (16,) and tag_of(image, SAMPLE_FORMAT) == (SIGNED,)


def samples_of(image: Image.Image, name: str) -> Samples:
    """The image's samples as (H, W, C); signed numbers of 16 bits become floats, which hold them exactly."""
    if image.mode == "F" or is_signed(image):
        return np.array(image, np.float32)[..., None]
    if image.mode in SIXTEEN or image.mode == "I":
        levels = _levels(image)
        if levels.min() < 0:
            raise PictureError(
                f"{name} holds numbers below zero; add as much to all that none is, or save it as floats"
            )
        if (image.format == "TIFF" and tag_of(image, BITS) in (32, (32,))) or levels.max() > 65535:
            raise PictureError(f"{name} holds whole numbers of 32 bits; save it with 8 or 16 bits")
        grey = levels.astype(np.uint16)[..., None]
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            return grey
        return np.concatenate([grey, np.where(grey == clear, 0, 65535).astype(np.uint16)], axis=2)
    mode = EXACT.get(image.mode)
    if mode is None:
        raise PictureError(
            f"{name} is of mode {image.mode}, which cannot be kept; save it as grey, RGB, or either with alpha"
        )
    if image.has_transparency_data:  # one transparent level or colour, or a palette with alpha
        mode = {"1": "LA", "L": "LA", "RGB": "RGBA"}.get(mode, mode)
    pixels = np.array(image if mode == image.mode else image.convert(mode))
    pixels = pixels * np.uint8(255) if pixels.dtype == np.bool_ else pixels
    return pixels.reshape(*pixels.shape[:2], -1)


def _levels(image: Image.Image) -> NDArray[Any]:
    """The whole numbers of an image of one channel, black at 0: in a TIFF Pillow turns only those of 8 bits round."""
    levels = np.asarray(image)
    return 65535 - levels if image.mode in SIXTEEN and tag_of(image, PHOTOMETRIC) == WHITE_IS_ZERO else levels


def loaded(image: Image.Image) -> Image.Image:
    """Load the image; it is returned, or a copy whose transparent level is on the scale of the samples."""
    depth = next((raw[2:] for raw in _raw_modes(image) if raw in ("L;2", "L;4")), None)
    _in_the_order_of_libtiff(image)
    image.load()
    level = image.info.get("transparency")
    if depth and isinstance(level, int):  # Pillow spreads 2 or 4 bits to 8, but leaves the level as the file has it
        image = image.copy()
        image.info["transparency"] = level * {"2": 85, "4": 17}[depth]
    return image


def _in_the_order_of_libtiff(image: Image.Image) -> None:
    """Have signed numbers of 16 bits that libtiff unpacks read as it gives them; Pillow swaps their bytes again."""
    if any(raw == "I;16BS" for raw in _raw_modes(image)) and isinstance(image, ImageFile):
        image.tile = [
            tile._replace(args=tuple("I;16S" if one == "I;16BS" else one for one in tile.args))
            if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
            else tile
            for tile in image.tile
        ]


def keep_multiplied(image: Image.Image) -> None:
    """Have colours that were multiplied with their alpha loaded as they are; Pillow would divide them, which rounds."""
    if image.mode == "RGBA" and "RGBa" in _raw_modes(image):
        image._mode = "RGBa"  # as its own reader of TIFF does; there is no public way


def _raw_modes(image: Image.Image) -> Iterator[str]:
    """How the file stores its samples, as far as Pillow tells; once they are loaded it has forgotten."""
    for tile in getattr(image, "tile", ()):
        codec, arguments = tile[0], tile[3]
        yield codec
        for value in arguments if isinstance(arguments, tuple) else (arguments,):
            if codec.startswith("ppm") and isinstance(value, int) and value > 255:
                yield "RGB;16"
            elif isinstance(value, str):
                yield value


def refuse_more_channels(image: Image.Image, name: str) -> None:
    """Of a TIFF's channels Pillow gives those that it knows, and leaves out the others without a word."""
    channels = getattr(image, "tag_v2", {}).get(CHANNELS, 1)
    if isinstance(channels, int) and channels > len(image.getbands()):
        raise PictureError(
            f"{name} has {channels} channels, of which {len(image.getbands())} are read and the others would be lost; "
            "save it with its colours, and with one alpha at most"
        )


def refuse_flattened(image: Image.Image, name: str) -> None:
    """Pillow has no colours of 16 bits, and cuts them down to 8 without a word; so we say one."""
    raws = list(_raw_modes(image))
    if "I;12" in raws:
        raise PictureError(f"{name} has 12 bits a sample, which cannot be kept; save it with 8 or 16 bits")
    if any(raw.startswith("RGBa;16") for raw in raws):
        raise PictureError(
            f"{name} has 16 bits a channel, multiplied with its alpha, which cannot be kept; save it with 8 bits, or "
            "with an alpha of its own (unassociated)"
        )
    refuse_garbled(image, name)
    wide = any((";16" in raw and raw != "BGR;16") or raw == "SGI16" for raw in raws)  # BGR;16 is 5, 6 and 5 bits
    if wide and image.mode not in ("I", *SIXTEEN):
        raise PictureError(
            f"{name} has 16 bits a channel in {image.mode}, which would be cut down to 8; 16 bits are kept in "
            "PNG (but for the later frames of an animation) and TIFF files of grey and RGB: save it so"
        )


def refuse_garbled(image: Image.Image, name: str) -> None:
    """What Pillow takes for something else in a TIFF without a word.

    Of planes of 16 bits every byte for a sample; of grey and its alpha in planes the alpha for nothing, and of Lab's
    the signed numbers, as all that are signed and of 8 bits, for others.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode == "L" and tags.get(SAMPLE_FORMAT) == (SIGNED,):
        raise PictureError(
            f"{name} holds signed numbers of 8 bits, which are not read; save it with 16 bits, or as floats"
        )
    if tags.get(PLANAR) == 2 and image.mode in ("LA", "La", "LAB"):
        raise PictureError(
            f"{name} has {image.mode} in planes, which is not read; save it pixel by pixel (contiguous), or as RGB"
        )
    if tags.get(PLANAR) == 2 and max(tags.get(BITS, (8,))) > 8 and "R" in _raw_modes(image):
        raise PictureError(
            f"{name} has 16 bits a channel in planes, in a file of a kind that is not read; save it pixel by pixel "
            "(contiguous), as one page"
        )
