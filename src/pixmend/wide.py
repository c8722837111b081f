"""Colours of 16 bits a sample, in PNG and TIFF: Pillow has no place for them, so they go through it as two halves.

Reading: asked for such samples, Pillow keeps the first byte of each where they are stored big-endian, and the second
where they are little-endian. So the file is decoded twice, the second time with the byte order turned round.
Writing: the container is Pillow's own, the samples are put in here; in a TIFF these may be floats and signed numbers
as well.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from pixmend import png_bytes
from pixmend.loading import SAMPLE_FORMAT, SIGNED
from pixmend.pictures import Picture, Samples

_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's, by the number of channels
_PLANAR = 284  # the tag that tells whether samples lie pixel by pixel, 1, or in planes, 2
_UNSIGNED, _FLOAT = 1, 3  # TIFF's names of what samples are, beside SIGNED
_BAND = 1 << 22  # bytes of samples that are filtered at once


def read_wide(
    image: Image.Image, stream: IO[bytes], frame: int, again: ImageFile.ImageFile | None = None
) -> Samples | None:
    """The samples (H, W, C) uint16 of a PNG or TIFF of 16-bit colours, which is loaded on the way; of others None.

    frame: the one at which the image stands, counted from 0. again: the same file, opened once more; to open it for
    every page of a long stack would take the square of the time. A transparent colour becomes an alpha channel.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("PNG", "TIFF"):
        return None
    if image.format == "TIFF" and image.tag_v2.get(_PLANAR) == 2:  # type: ignore[attr-defined]
        return None  # of samples in planes Pillow gives the first byte in any case
    if image.format == "PNG" and frame:
        return None  # it is laid over the frames before it, of which Pillow has the first bytes
    raw = _raw_mode(image)
    if raw == "LA;16B":  # four bytes a pixel, as they are: each sample's high one before its low one
        _set_raw_mode(image, "RGBA")
        halves = np.asarray(image).astype(np.uint16)
        return halves[..., ::2] * np.uint16(256) + halves[..., 1::2]
    mode, _, depth = raw.partition(";")
    if mode not in ("RGB", "RGBA") or depth not in ("16B", "16L", "16N"):
        return None
    high = np.asarray(image).astype(np.uint16)
    with nullcontext(again) if again else Image.open(stream) as other:
        other.seek(frame)
        _set_raw_mode(other, f"{mode};16{_OTHER_ORDER[depth[-1]]}")
        samples: Samples = high * np.uint16(256) + np.asarray(other)
    key = image.info.get("transparency")
    if isinstance(key, tuple) and samples.shape[2] == 3:
        alpha = np.where((samples == np.array(key)).all(2, keepdims=True), 0, 65535)
        samples = np.concatenate([samples, alpha.astype(np.uint16)], axis=2)
    return samples


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How all parts of the file, such as a TIFF's strips, store their samples; "" where that is not told."""
    modes = {tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args for tile in image.tile}
    raw = modes.pop() if len(modes) == 1 else ""
    return raw if isinstance(raw, str) else ""


def _set_raw_mode(image: ImageFile.ImageFile, raw: str) -> None:
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
    ]


# -------------------------------------------------------------------------------------------------------------- writing


def write_wide(picture: Picture, stream: IO[bytes], file_format: str, options: dict[str, Any]) -> None:
    """A picture of uint16 as "PNG", of uint16 or floats as "TIFF"; options: what `Image.save` would be given."""
    if file_format == "PNG":
        _write_png(picture.samples, stream, options)
    else:
        _write_tiff(picture, stream, options)


def _write_png(samples: Samples, stream: IO[bytes], options: dict[str, Any]) -> None:
    height, width, channels = samples.shape
    pattern = io.BytesIO()  # a PNG of one pixel, for its chunks
    Image.new("RGB", (1, 1)).save(pattern, "PNG", **options)
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    stream.write(png_bytes.SIGNATURE)
    for kind, data in png_bytes.chunks(pattern.getvalue()):
        if kind == b"IDAT":
            packer = zlib.compressobj(6)
            parts = [packer.compress(rows) for rows in _filtered(samples)]
            data = b"".join([*parts, packer.flush()])
        data = head if kind == b"IHDR" else data
        stream.write(png_bytes.encoded(kind, data))


def _filtered(samples: Samples) -> Iterator[bytes]:
    """The rows of a PNG, each behind the filter that leaves it smallest (PNG specification, chapter 9 and 12.7)."""
    height, width, channels = samples.shape
    step, band = 2 * channels, max(1, _BAND // (2 * width * channels))
    above = np.zeros((1, step + width * step), np.int16)
    for top in range(0, height, band):
        rows = samples[top : top + band].astype(">u2").reshape(-1, width * channels).view(np.uint8).astype(np.int16)
        rows = np.pad(rows, [(0, 0), (step, 0)])  # a pixel of zeros on the left
        over = np.concatenate([above, rows[:-1]])
        a, b, c = rows[:, :-step], over[:, step:], over[:, :-step]
        here, above = rows[:, step:], rows[-1:]
        guess = a + b - c
        to_a, to_b, to_c = abs(guess - a), abs(guess - b), abs(guess - c)
        paeth = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
        kinds = np.stack([(here - other).astype(np.uint8) for other in (0 * here, a, b, (a + b) // 2, paeth)])
        best = np.abs(kinds.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64).argmin(0)  # (rows,)
        chosen: NDArray[np.uint8] = kinds[best, np.arange(len(best))]
        yield np.concatenate([best.astype(np.uint8)[:, None], chosen], axis=1).tobytes()


def _write_tiff(picture: Picture, stream: IO[bytes], options: dict[str, Any]) -> None:
    samples: NDArray[Any] = picture.samples
    kind = _FLOAT if picture.is_float else _UNSIGNED
    if picture.is_signed:
        samples, kind = np.rint(samples).astype(np.int16), SIGNED
    height, width, channels = samples.shape
    packed = zlib.compress(samples.astype(samples.dtype.newbyteorder("<")).tobytes(), 6)
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    described = options.get("exif", {})
    for tag in described:
        tags[tag] = described.get_ifd(tag) if tag in (34665, 34853) else described[tag]
    colour, bits = 1 if channels <= 2 else 2, 8 * samples.dtype.itemsize
    stored = {256: width, 257: height, 258: (bits,) * channels, 259: 8, 262: colour, 273: 0, 277: channels, 278: height}
    stored |= {279: len(packed), 284: 1, SAMPLE_FORMAT: (kind,) * channels}
    stored |= {338: 2} if picture.has_alpha else {}  # extra samples: alpha, unassociated
    for tag, value in stored.items():
        tags[tag] = value
    if "dpi" in options:
        tags[282], tags[283] = options["dpi"]
        tags[296] = 2  # to the inch
    for tag, name, kind in ((34675, "icc_profile", 7), (700, "xmp", 1)):
        if name in options:
            tags.tagtype[tag] = kind
            tags[tag] = options[name]
    tags.save(stream)
    stream.write(packed)
