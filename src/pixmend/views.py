"""What of a picture is shown: a part of it, reduced, as a small file that every browser shows."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from pixmend.errors import OptionError
from pixmend.metadata import fitting_profile
from pixmend.pictures import BAND, Picture, Samples, to_samples

MOST_PIXELS = 4_000_000  # in one view
LOSSLESS_PIXELS = 1_000_000  # larger opaque views are JPEG, many times smaller and faster: nobody sees a difference
LONGEST_WEBP, LONGEST_JPEG = 16_383, 65_500  # pixels of a side


@dataclass(frozen=True)
class View:
    """A view as a file."""

    data: bytes
    media_type: str


def view_of(
    picture: Picture,
    *,
    left: int = 0,
    top: int = 0,
    width: int | None = None,
    height: int | None = None,
    scale: float | None = None,
) -> View:
    """A part of a picture, 8 bits a sample, reduced by `scale`; with the picture's colour profile in it.

    left, top, width, height: in the picture's pixels, by default all of it to the right and below; at least one pixel.
    scale: above 0 and at most 1; by default the largest at which the view has MOST_PIXELS at most.
    Raises OptionError for a part outside of the picture, and for a scale at which the view is too large.
    """
    rows, columns = picture.size
    width = columns - left if width is None else width
    height = rows - top if height is None else height
    if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
        raise OptionError(
            f"a part {width} x {height} at ({left}, {top}) is not inside of the picture; "
            f"it has {columns} x {rows} pixels"
        )
    if scale is None:
        scale = min(1.0, (MOST_PIXELS / (width * height)) ** 0.5)
        size = max(1, int(width * scale)), max(1, int(height * scale))
        size = min(size[0], MOST_PIXELS), min(size[1], MOST_PIXELS)
    else:
        size = max(1, round(width * scale)), max(1, round(height * scale))
    if size[0] * size[1] > MOST_PIXELS:
        raise OptionError(
            f"a view of {size[0]} x {size[1]} pixels is too large; ask for {MOST_PIXELS:,} pixels or fewer, "
            "by a smaller part or scale"
        )
    return _encoded(picture, (left, top, left + width, top + height), size)


def _encoded(picture: Picture, box: tuple[int, int, int, int], size: tuple[int, int]) -> View:
    left, top, right, bottom = box
    part = replace(picture.to_be_seen(), samples=picture.samples[top:bottom, left:right])
    samples = _as_8_bits(part)
    image = Image.fromarray(np.ascontiguousarray(samples[..., 0] if samples.shape[2] == 1 else samples))
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    stream, profile = io.BytesIO(), picture.metadata.icc_profile
    if picture.has_alpha or size[0] * size[1] <= LOSSLESS_PIXELS or max(size) > LONGEST_JPEG:
        if max(size) > LONGEST_WEBP:
            image.save(stream, "PNG", compress_level=1, icc_profile=profile)
            return View(stream.getvalue(), "image/png")
        # Smaller than PNG and made in less than half the time.
        profile = fitting_profile(profile, grey=False)  # WebP has none
        image.save(stream, "WEBP", lossless=True, quality=0, method=0, exact=True, icc_profile=profile)
        return View(stream.getvalue(), "image/webp")
    image.save(stream, "JPEG", quality=92, subsampling="4:4:4", icc_profile=profile)
    return View(stream.getvalue(), "image/jpeg")


def _as_8_bits(picture: Picture) -> Samples:
    """The samples as (H, W, C) uint8."""
    if picture.samples.dtype == np.uint8:
        return picture.samples
    seen = np.empty(picture.samples.shape, np.uint8)
    for top in range(0, len(seen), BAND):  # of a large picture, floats of all of it take gigabytes
        band = replace(picture, samples=picture.samples[top : top + BAND])
        seen[top : top + BAND, :, : picture.channels] = to_samples(band.colour()[..., : picture.channels])
        if (alpha := band.alpha()) is not None:
            seen[top : top + BAND, :, -1] = np.rint(alpha * 255)
    return seen
