"""Extending a picture beyond its borders: a larger canvas, of which all that is new is filled as a hole is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixmend.errors import OptionError
from pixmend.images import Picture, Source, open_picture
from pixmend.tiff_tags import as_extended

if TYPE_CHECKING:
    from pixmend.inpainting import Inpainted

LARGEST = 200_000_000  # pixels, as many as a picture may have

Amount = int | str  # pixels, or text: "100" pixels, or "20%" of the picture's side


def extend(
    image: Source,
    *,
    left: Amount = 0,
    right: Amount = 0,
    top: Amount = 0,
    bottom: Amount = 0,
    **options: Any,
) -> Inpainted:
    """A picture that goes on beyond its borders; what was there is in it byte for byte, at (top, left).

    left, right, top, bottom: how far, in pixels, or as text such as "20%" of the width (left, right) or of the height.
    options: those of `inpainting`, but for the mask and what is done to it. The result's hole_share is of the new
    picture. Raises OptionError for amounts that cannot be, and what `inpainting` raises.
    """
    from pixmend.inpainting import inpainting  # loads torch; what is wrong with a picture is told without it

    wrong = sorted({"mask", "blur", "grow", "invert_mask", "soft_mask"} & options.keys())
    if wrong:
        raise OptionError(f"{wrong[0]} has no meaning here; what is beyond the picture is filled, and nothing else")
    canvas, hole = extended_canvas(open_picture(image), left=left, right=right, top=top, bottom=bottom)
    return inpainting(canvas, hole, blur=0, **options)  # no soft edge: it would lie on what is known


def extended_canvas(
    picture: Picture, *, left: Amount = 0, right: Amount = 0, top: Amount = 0, bottom: Amount = 0
) -> tuple[Picture, NDArray[np.bool_]]:
    """The larger picture, opaque and black where it is new, and where that is, (H, W). Raises OptionError."""
    picture.require_whole()
    height, width = picture.size
    rows = tuple(pixels(amount, height, name) for name, amount in (("top", top), ("bottom", bottom)))
    columns = tuple(pixels(amount, width, name) for name, amount in (("left", left), ("right", right)))
    if not any((*rows, *columns)):
        raise OptionError("nothing is to be added; give at least one of left, right, top and bottom")
    if (height + sum(rows)) * (width + sum(columns)) > LARGEST:
        raise OptionError(
            f"a picture of {width + sum(columns)} x {height + sum(rows)} pixels is too large; "
            f"extend it to at most {LARGEST:,} pixels"
        )
    hole = np.pad(np.zeros(picture.size, bool), (rows, columns), constant_values=True)
    samples = np.zeros((*hole.shape, picture.samples.shape[2]), picture.samples.dtype)
    samples[~hole] = picture.samples.reshape(-1, samples.shape[2])
    if picture.has_alpha:
        samples[hole, -1] = picture.levels
    return as_extended(replace(picture, samples=samples), columns[0], rows[0]), hole


def pixels(amount: Amount, side: int, name: str) -> int:
    """An amount in pixels. Raises OptionError for what is not understood."""
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*(%|px)?\s*", str(amount))
    is_share = found is not None and found[2] == "%"
    value = float(found[1]) if found else math.nan
    value = value / 100 * side if is_share else value
    if not math.isfinite(value) or not (is_share or value.is_integer()):
        raise OptionError(f"{name} {amount!r} is not understood; give pixels such as 100, or a share such as 20%")
    return round(value)
