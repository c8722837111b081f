"""Files and Pillow images -> pictures: every sample exact, or a refusal that says why."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pixmend.errors import FileMissingError, PictureError, PixmendError
from pixmend.metadata import calm, read_metadata
from pixmend.pictures import Picture, Samples

MAX_PIXELS = 200_000_000  # a picture whose header claims more is refused before any of it is decoded

# What Pillow holds in memory -> the mode it is read as, exactly; and the same with a note, where samples change.
_EXACT = {"1": "1", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
_CONVERTED = {"La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
_STILLS = ("MPO", "PSD")  # their further "frames" are previews and layers; the first is the picture itself
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors, which become ours, are printed as well


def decode_file(path: str | os.PathLike[str]) -> Picture:
    """One picture file in any format that Pillow reads, upright.

    AVIF and JPEG 2000 are read at 8 bits a sample. Raises FileMissingError; and PictureError for what is no picture,
    is damaged, has frames, claims more than MAX_PIXELS, or has samples that would not survive.
    """
    with _opened(path) as (image, stream):
        frames = int(getattr(image, "n_frames", 1))
        if frames > 1 and image.format not in _STILLS:
            raise PictureError(f"{path} holds {frames} frames or pages; give one picture: save one of them by itself")
        return _decode(image, str(path), stream)


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
        return _decode(image, name, None)


def decode_thumbnail(path: str | os.PathLike[str], side: int) -> NDArray[np.uint8]:
    """Any picture as (h, w, 3) uint8 RGB, upright, reduced until its shorter side is `side` pixels; never enlarged.

    For training and previews: unlike `decode_file` it takes the first frame, flattens 16 bits, and lays transparent
    pictures on white. Large JPEGs are decoded at a fraction of their size, which is several times faster.
    """
    with _opened(path) as (image, _):
        scale = min(1.0, side / min(image.size))
        width, height = (max(1, round(length * scale)) for length in image.size)
        image.draft("RGB", (width, height))
        pixels = _loaded(image)
        orientation, _ = read_metadata(image, None)
        small = _flat_rgb(pixels, str(path)).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return _upright(np.asarray(small), orientation)


def _decode(image: Image.Image, name: str, stream: IO[bytes] | None) -> Picture:
    _refuse_flattened(image, name)
    pixels = _loaded(image)
    orientation, metadata = read_metadata(image, stream)
    notes: tuple[str, ...] = ()
    if image.mode in _CONVERTED:
        notes += (f"{image.mode} was converted to {_CONVERTED[image.mode]}, without a colour profile",)
        metadata = replace(metadata, icc_profile=None)  # it describes the old channels
    if image.format == "MPO":
        notes += ("the further pictures inside the file, such as previews, are not kept",)
    return Picture(
        _upright(_samples(pixels, name), orientation),
        mode=image.mode,
        format="JPEG" if image.format == "MPO" else image.format,
        metadata=metadata,
        notes=notes,
    )


def _samples(image: Image.Image, name: str) -> Samples:
    """The image's samples as (H, W, C)."""
    if image.mode in _SIXTEEN or image.mode == "I":
        levels = np.asarray(image)
        if "transparency" in image.info:
            raise PictureError(
                f"{name} has a transparent level among its 16 bits, which would be lost; save it without"
            )
        if (image.format == "TIFF" and image.mode == "I") or levels.min() < 0 or levels.max() > 65535:
            raise PictureError(f"{name} holds whole numbers of 32 bits or below zero; save it with 8 or 16 bits")
        return levels.astype(np.uint16)[..., None]
    mode = (_EXACT | _CONVERTED).get(image.mode)
    if mode is None:
        raise PictureError(
            f"{name} is of mode {image.mode}, which cannot be kept; save it as grey, RGB, or either with alpha"
        )
    if image.has_transparency_data:  # one transparent level or colour, or a palette with alpha
        mode = {"1": "LA", "L": "LA", "RGB": "RGBA"}.get(mode, mode)
    pixels = np.array(image if mode == image.mode else image.convert(mode))
    pixels = pixels * np.uint8(255) if pixels.dtype == np.bool_ else pixels
    return pixels.reshape(*pixels.shape[:2], -1)


def _flat_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _SIXTEEN or image.mode == "I":
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in _EXACT | _CONVERTED:
        raise PictureError(f"{name} is of mode {image.mode}; save it as grey, RGB, or either with alpha")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _loaded(image: Image.Image) -> Image.Image:
    """Load the image; it is returned, or a copy whose transparent level is on the scale of the samples."""
    depth = next((raw[2:] for raw in _raw_modes(image) if raw in ("L;2", "L;4")), None)
    image.load()
    level = image.info.get("transparency")
    if depth and isinstance(level, int):  # Pillow spreads 2 or 4 bits to 8, but leaves the level as the file has it
        image = image.copy()
        image.info["transparency"] = level * {"2": 85, "4": 17}[depth]
    return image


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, ...) turned as an EXIF orientation of 1 to 8 asks for."""
    if orientation in (3, 4, 6, 7):  # the first row stored belongs at the bottom, or at the right
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):  # the first column stored belongs at the right, or at the bottom
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


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


def _refuse_flattened(image: Image.Image, name: str) -> None:
    """Pillow has no colours of 16 bits, and cuts them down to 8 without a word; so we say one."""
    raws = list(_raw_modes(image))
    if "I;12" in raws:
        raise PictureError(f"{name} has 12 bits a sample, which cannot be kept; save it with 8 or 16 bits")
    wide = any((";16" in raw and raw != "BGR;16") or raw == "SGI16" for raw in raws)  # BGR;16 is 5, 6 and 5 bits
    if wide and image.mode not in ("I", *_SIXTEEN):
        raise PictureError(
            f"{name} has 16 bits a channel in {image.mode}, which would be cut down to 8; 16 bits are kept for grey "
            "pictures only: save it with 8 bits a channel"
        )


# ------------------------------------------------------------------------------------------- opening without surprises


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    if os.path.isdir(path):
        raise FileMissingError(f"{path} is a folder; give one picture file")
    if not os.path.isfile(path):
        raise FileMissingError(f"{path} does not exist; check the name")
    with _errors_as_one_line(str(path)), calm(MAX_PIXELS), open(path, "rb") as stream:
        if not (head := stream.read(4)):
            raise PictureError(f"{path} is empty; give a picture file")
        if head in _POSTSCRIPT:  # a program, which Pillow would run
            raise PictureError(f"{path} is PostScript, which is not read; give pixels, such as a PNG or JPEG")
        with Image.open(stream) as image:
            _check_size(image, str(path))
            yield image, stream


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
