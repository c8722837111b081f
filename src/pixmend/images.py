"""Pictures and masks in and out: files, Pillow images, arrays and tensors <-> pictures and tensors.

The public face of `pictures` (samples and arithmetic), `decoding`, `thumbnails`, `encoding` and `metadata`; together
they are the only home of Pillow, of uint8 and uint16, and of [0, 255] <-> [-1, 1]. torch is loaded where a tensor is
made, so that a wrong file name is told at once.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from pixmend.decoding import decode_file, decode_image
from pixmend.encoding import check_savable, encode, fitted, save_animation, save_picture
from pixmend.errors import FileMissingError, MaskError, OptionError, PictureError
from pixmend.heif import register_heif
from pixmend.mask_reading import MaskReading, near_colour, read_mask_array, read_mask_picture
from pixmend.opening import NO_PICTURES, picture_size
from pixmend.pictures import SLACK, Floats, Metadata, Picture, composite, from_array, from_values
from pixmend.run_place import was_begun
from pixmend.thumbnails import decode_thumbnail, decode_thumbnail_of, decode_thumbnails

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

__all__ = [
    "Metadata",
    "Picture",
    "Source",
    "check_savable",
    "composite",
    "decode_thumbnail_of",
    "encode",
    "fitted",
    "is_picture_name",
    "load_image",
    "load_mask",
    "mask_from_alpha",
    "mask_from_color",
    "mask_samples",
    "mask_strength",
    "open_picture",
    "open_thumbnail",
    "open_thumbnails",
    "picture_files",
    "picture_size",
    "picture_suffixes",
    "read_mask",
    "save_animation",
    "save_picture",
    "save_tensor_as_image",
]

Source: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any] | torch.Tensor | Picture"
Size: TypeAlias = int | tuple[int, int]  # a square of that side, or (H, W)

_HEX = re.compile(r"([0-9A-Fa-f]{3}){1,2}")


def open_picture(source: Source, frame: int | None = None) -> Picture:
    """Anything that holds a picture, as a Picture: exact samples, upright.

    source: a path; a Pillow image; an array (H, W) or (H, W, C) of uint8, uint16 or bool; a tensor (C, H, W) or
    (1, C, H, W) of floats in [-1, 1] (rounded to 8 bits) or of uint8; a Picture, which is returned as it is.
    frame: of a file with several frames or pages, the one to take, counted from 1.
    Raises FileMissingError and PictureError; for paths without loading torch.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, (str, os.PathLike)):
        return decode_file(source, frame)
    if isinstance(source, Image.Image):
        return decode_image(source)
    if isinstance(source, np.ndarray):
        return from_array(source)
    if _is_tensor(source):
        array = _tensor_as_array(source)
        return from_array(array) if array.dtype != np.float32 else from_values(_in_range(array))
    raise PictureError(f"{type(source).__name__} is no picture; give a path, a Pillow image, an array or a tensor")


def load_image(source: Source, size: Size | None = None) -> torch.Tensor:
    """A picture as (1, 3, H, W) float32 in [-1, 1]; alpha is dropped, grey repeated. Takes what `open_picture` takes.

    size: resize to (H, W), or to a square of that side, whatever the shape was: bicubic, antialiased.
    A tensor of floats comes back with its own values, unrounded.
    """
    size = _checked_size(size)
    if _is_tensor(source) and source.is_floating_point():
        values = _in_range(_tensor_as_array(source))
        values = np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values
    else:
        values = open_picture(source).colour()
    import torch
    import torch.nn.functional as F

    image = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]  # (1, 3, H, W)
    if size is None or tuple(image.shape[2:]) == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)


def load_mask(
    source: Source,
    size: Size | None = None,
    *,
    blur: int | None = None,
    grow: int = 0,
    invert: bool = False,
    soft: bool = False,
    resize: bool = False,
) -> torch.Tensor:
    """The soft mask of a mask file, image, array or tensor: (1, 1, H, W) float32 in [0, 1], 1 = hole.

    The hole is where the mask is white, cut at one half (see `mask_strength`), grown by `grow` pixels. Outside of the
    hole the soft mask falls off within 2 R pixels, R = blur (sigma R/2); None takes the largest R up to 2 whose
    soft edge is at most half of the hole and half of what is known. With `soft`, grey is kept as strength, and nothing
    is cut or feathered.

    size: of the picture that the mask is for. A mask of another size is refused with MaskError, or with `resize`
    brought to it; then a pixel is hole where any part of it was.
    """
    size = _checked_size(size)
    for name, value in (("blur", blur), ("grow", grow)):
        if value is not None and value < 0:
            raise OptionError(f"{name} {value} is below zero; give 0 or more pixels")
    if soft and blur is not None:
        raise OptionError("a mask whose grey is strength has its own soft edge; leave out either `soft` or `blur`")
    strength = mask_strength(source, None if resize else size, invert=invert, soft=soft)
    if not soft:
        strength = (strength >= 0.5).astype(np.float32)
    if size is not None and size != strength.shape:
        # A box filter averages all that a pixel covers: a hole's thinnest line leaves a trace.
        resized = Image.fromarray(strength).resize((size[1], size[0]), Image.Resampling.BOX)
        strength = np.array(resized) if soft else (np.asarray(resized) > 1e-6).astype(np.float32)
    import torch

    from pixmend.masks import dilate, soft_mask

    hole = torch.from_numpy(strength)[None, None]  # (1, 1, H, W)
    hole = dilate(hole, grow) if grow else hole
    return hole if soft else soft_mask(hole, blur)


def read_mask(source: Source, size: Size | None = None, *, invert: bool = False, soft: bool = False) -> MaskReading:
    """What a mask says of each pixel, and how it was understood.

    Files and pictures: see `mask_reading.read_mask_picture`. Arrays and tensors of one channel may also be of bools, of
    floats in [0, 1], or of whole numbers 0 and 1. With `invert`, the strength is turned round. With `soft`, its grey
    is meant as strength, and none of it is left out as a speck.
    Raises MaskError for values out of range and, with `size`, for another size; and what `open_picture` raises.
    """
    if _is_tensor(source):
        source = _tensor_as_array(source)
    if isinstance(source, np.ndarray) and (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 1)):
        reading = read_mask_array(source.reshape(source.shape[:2]))
    elif isinstance(source, np.ndarray) and source.dtype not in (np.uint8, np.uint16):
        raise MaskError(f"the mask is of {source.dtype} and shape {source.shape}; give (H, W), one value a pixel")
    else:
        reading = read_mask_picture(open_picture(source), soft=soft)
    size = _checked_size(size)
    if size is not None and reading.strength.shape != size:
        (h, w), (height, width) = reading.strength.shape, size
        raise MaskError(
            f"the mask is {w} x {h} pixels and the picture {width} x {height}; give a mask of the picture's size"
        )
    return replace(reading, strength=np.float32(1) - reading.strength) if invert else reading


def mask_strength(source: Source, size: Size | None = None, *, invert: bool = False, soft: bool = False) -> Floats:
    """How strongly each pixel is marked: (H, W) float32, 0 = known (black), 1 = hole (white); see `read_mask`."""
    return read_mask(source, size, invert=invert, soft=soft).strength


def mask_samples(source: Source, size: Size | None = None, *, invert: bool = False) -> NDArray[np.bool_]:
    """The hole of a mask, (H, W) bools: `mask_strength` cut at one half."""
    return mask_strength(source, size, invert=invert) >= 0.5


def mask_from_alpha(source: Source) -> NDArray[np.bool_]:
    """The hole that a picture's own alpha tells, (H, W) bools: true where it is less than half opaque.

    Without alpha it is what was not measured (`Picture.lacking`). Raises MaskError if neither tells a hole.
    """
    hole = open_picture(source).told_hole()
    if hole is None:
        raise MaskError("the picture has no alpha channel that could tell the hole; give a mask, or erase the hole")
    return hole


def mask_from_color(source: Source, color: str, tolerance: int = 0) -> NDArray[np.bool_]:
    """The hole that is painted into the picture itself, (H, W) bools: where it has a colour, such as "#ff00ff".

    tolerance: by how many levels of 255 each channel may differ; a JPEG needs some. Wholly transparent pixels are left
    out. Raises OptionError for a colour that is none, and MaskError if there are no such pixels, naming the nearest.
    """
    try:
        red, green, blue = ImageColor.getrgb(color if not _HEX.fullmatch(color) else f"#{color}")[:3]
    except ValueError:
        raise OptionError(f'color {color!r} is not understood; give one such as "#ff00ff" or magenta') from None
    return near_colour(open_picture(source), (red, green, blue), tolerance)


def save_tensor_as_image(
    tensor: torch.Tensor, path: str | os.PathLike[str], *, like: Picture | None = None, overwrite: bool = False
) -> Path:
    """Save a tensor (C, H, W) or (1, C, H, W), C = 1 or 3, of floats in [-1, 1] as a picture.

    Values beyond are clipped.
    like: a picture whose ICC profile, EXIF and so on go along; if it is of the same size, also its alpha, its bit
    depth and its single channel of grey. Written whole or not at all. Raises PictureError for NaN and for wrong
    shapes, and what `save_picture` raises.
    """
    if not (_is_tensor(tensor) and tensor.is_floating_point()):
        raise PictureError(f"{_kind(tensor)} cannot be saved as [-1, 1]; give a tensor of floats, or use save_picture")
    values = _tensor_as_array(tensor)
    picture = from_values(values)
    if like is not None and like.size == picture.size:
        picture = composite(like, picture.colour() if values.shape[2] == 1 else values, np.ones(like.size, np.float32))
    elif like is not None:
        picture = replace(picture, metadata=like.metadata)
    return save_picture(picture, path, overwrite=overwrite)


def open_thumbnail(path: str | os.PathLike[str], side: int) -> NDArray[np.uint8]:
    """A file as (h, w, 3) uint8 RGB with a shorter side of at most `side`: see `thumbnails.decode_thumbnail`."""
    return decode_thumbnail(path, side)


def open_thumbnails(
    path: str | os.PathLike[str], side: int, least: int = 1, go_on: Callable[[], bool] = lambda: True
) -> tuple[list[NDArray[np.uint8]], str | None]:
    """The same of every page of a TIFF, and what was left out: see `thumbnails.decode_thumbnails`."""
    return decode_thumbnails(path, side, least, go_on)


@cache
def picture_suffixes() -> frozenset[str]:
    """What the names of pictures end in that are read here, in small letters: ".png", ".jpg" and so on."""
    register_heif()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in Image.OPEN and name not in NO_PICTURES)


def picture_files(folder: str | os.PathLike[str], unlisted: Callable[[str], object] = lambda line: None) -> list[Path]:
    """All files in a folder, and in the folders in it, that are named as pictures which Pillow reads; sorted.

    Hidden files are left out, and what a training has drawn into its folder. Links to folders are not followed.
    unlisted: is told in a line of every folder that cannot be read, and of links. Raises FileMissingError if there is
    no such folder.
    """
    if not os.path.isdir(folder):
        raise FileMissingError(f"{folder} is not a folder; give a folder of pictures")
    found = []
    for root, folders, names in os.walk(
        folder, onerror=lambda error: unlisted(f"{error.filename} cannot be read: {error.strerror}")
    ):
        folders[:] = [name for name in folders if not name.startswith(".") and not was_begun(Path(root, name))]
        for name in sorted(name for name in folders if os.path.islink(os.path.join(root, name))):
            unlisted(f"{os.path.join(root, name)} is a link to a folder, which is not followed; copy the folder there")
        found += [Path(root, name) for name in names if is_picture_name(name)]
    return sorted(found, key=lambda file: file.parts)  # paths themselves compare without case on Windows


def is_picture_name(name: str) -> bool:
    """Whether a file of this name, not hidden, is a picture that Pillow reads."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in picture_suffixes()


# ------------------------------------------------------------------------------------------------------ small helpers


def _is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    torch = sys.modules.get("torch")  # where torch was never loaded, nothing is a tensor
    return torch is not None and isinstance(value, torch.Tensor)


def _kind(value: object) -> str:
    return f"a tensor of {value.dtype}" if _is_tensor(value) else type(value).__name__


def _tensor_as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """(H, W), (C, H, W) or (1, C, H, W) as an array (H, W, C); floats of any width as finite float32."""
    shape = tuple(tensor.shape)
    if tensor.ndim == 4 and shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 2:
        tensor = tensor[None]
    channels = (1, 3) if tensor.is_floating_point() else (1, 2, 3, 4)
    if tensor.ndim != 3 or tensor.shape[0] not in channels or tensor.numel() == 0:
        raise PictureError(f"the tensor is of shape {shape}; give one picture, (C, H, W) or (1, C, H, W), C = 1 or 3")
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()
    if not np.isfinite(array).all():
        raise PictureError("the tensor holds values that are not finite; give numbers in [-1, 1]")
    return array.transpose(1, 2, 0)


def _in_range(values: Floats) -> Floats:
    if values.min() < -1 - SLACK or values.max() > 1 + SLACK:
        raise PictureError(
            f"the tensor holds values from {values.min():.4g} to {values.max():.4g}; give [-1, 1], or uint8 of 0 to 255"
        )
    return values.clip(-1, 1)


def _checked_size(size: Size | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise OptionError(f"a size of {height} x {width} pixels is too small; give 1 x 1 or more")
    return height, width
