"""Masks as people make them: grey, paletted, with alpha, in coloured strokes, spoilt by JPEG. What is meant by them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmend.errors import MaskError, OptionError
from pixmend.pictures import LUMA, SLACK, Floats, Picture, largest, span_of

CLEAR = 0.05  # a mask's pixel is grey, in reports, when it is this far from black and from white
COLOURED = 0.25  # a pixel has a colour when its largest and its smallest channel differ by this, of 1
FEW_COLOURED = 0.0005  # a smaller share of coloured pixels than this is dirt, and not strokes
GROUND = 0.05  # coloured strokes lie on something that is not coloured, at least this share of the mask
LOSSY = ("JPEG", "JPEG2000", "WEBP", "AVIF", "HEIF")  # formats that may leave specks
SPECK = 9  # pixels: smaller parts, of hole or known, in masks of these formats are specks, if they are ...
MOST_RUNS = 200_000  # a mask of more runs of pixels along its rows is no mask with specks, but noise all over
FIRM = 0.75  # ... nowhere as light as this, or as dark as 1 less this


@dataclass(frozen=True)
class MaskReading:
    """What a mask says, and how it was understood."""

    strength: Floats  # (H, W): 0 known, 1 hole
    strokes: str = ""  # by what the hole is told, where it is not by light: a line for people
    specks: int = 0  # parts that were taken for JPEG's noise
    white: int = 255  # as the mask's numbers have it: 255, 65535, or 1

    @property
    def grey(self) -> float:
        """The share of pixels, 0 to 1, that are neither black nor white; 5 % beside each are left to JPEG's noise."""
        return float(((self.strength > CLEAR) & (self.strength < 1 - CLEAR)).mean())

    def line(self, much_grey: float) -> str | None:
        """What was made of the mask, in one line; None for a plain one. much_grey: the share that is worth telling."""
        parts = [self.strokes] if self.strokes else []
        if self.grey > much_grey:
            parts.append(
                f"{self.grey:.1%} of the mask is grey and was cut at one half; --soft-mask takes grey as strength"
            )
        if self.specks:
            parts.append(f"{self.specks} grey specks of the mask, of less than {SPECK} pixels, were left out")
        return "; ".join(parts) or None

    def require_light(self, *, inverted: bool) -> None:
        """Raise MaskError where what is painted is too dark to count, as labels 0 and 1 are; inverted: it was turned.

        A mask that is black all over is none of them.
        """
        lightest = float((1 - self.strength).max() if inverted else self.strength.max())
        if 0 < lightest < 0.5:
            value = max(1, round(lightest * self.white)) if self.white > 1 else lightest
            raise MaskError(
                f"the mask {'covers the whole picture' if inverted else 'marks nothing'}: its lightest value is "
                f"{value:.3g} of {self.white}, and it is cut at one half; save it as black and white, or multiply "
                f"its values by {self.white / value:.0f}"
            )


def read_mask_picture(picture: Picture, *, soft: bool = False) -> MaskReading:
    """What a mask that is a picture says; soft: its grey is meant as strength.

    By light, white = hole. Where colours stand on a ground that has none, the strokes are what is coloured, and on a
    dark ground also what is light. Where the mask has alpha, white counts as far as it is opaque; but if alpha varies
    and what is seen is of one colour, or coloured, or nowhere light, then the alpha alone tells, opaque = hole.
    In files of lossy formats, grey specks of less than 9 pixels are left out, of the hole and of what is known; but
    not of a soft mask, where they are no less meant than other grey.
    """
    if picture.no_data is not None:  # in a mask 0 means something, and rasters call it nothing
        picture = replace(picture, no_data=None, colour_span=span_of(picture.samples) if picture.is_float else None)
    if picture.lacking().any():
        raise MaskError("the mask holds values that are not finite; give 0 to 1")
    colours: Floats = (picture.colour() + 1) / np.float32(2)  # (H, W, 3)
    light: Floats = np.clip(colours @ LUMA, 0, 1)
    alpha = picture.alpha()
    if alpha is not None and alpha.min() < alpha.max():
        reading = _with_alpha(colours, light, alpha)
    else:
        reading = _opaque(colours, light)
        if alpha is not None:
            reading = replace(reading, strength=reading.strength * alpha)
    reading = replace(reading, white=1 if picture.is_float else largest(picture.samples.dtype))
    if soft or picture.format not in LOSSY:
        return reading
    strength, specks = without_specks(reading.strength)
    return replace(reading, strength=strength, specks=specks)


def _with_alpha(colours: Floats, light: Floats, alpha: Floats) -> MaskReading:
    seen = alpha >= 0.5
    bright = light[seen]
    if bright.size and (np.ptp(bright) < CLEAR or bright.max() < 0.5):
        return MaskReading(alpha)
    if bright.size and (_chroma(colours)[seen] >= COLOURED).mean() >= 0.5:
        return MaskReading(alpha, "what is painted in the mask is filled, whatever its colour")
    return MaskReading(light * alpha)


def _opaque(colours: Floats, light: Floats) -> MaskReading:
    chroma = _chroma(colours)
    coloured = chroma >= COLOURED
    if coloured.mean() < FEW_COLOURED or coloured.mean() > 1 - GROUND:
        return MaskReading(light)
    strokes: Floats = np.minimum(1, chroma / np.median(chroma[coloured]))  # grows with how much of a pixel is painted
    if np.median(light[~coloured]) < 0.5:
        return MaskReading(
            np.maximum(strokes, light), "what is coloured or light in the mask is filled: its ground being dark"
        )
    return MaskReading(strokes, "what is coloured in the mask is filled: its ground is light")


def _chroma(colours: Floats) -> Floats:
    chroma: Floats = colours.max(-1) - colours.min(-1)
    return chroma


def read_mask_array(array: NDArray[Any]) -> MaskReading:
    """(H, W) of bools, uint8, uint16, whole numbers 0 and 1, or floats in [0, 1]. Raises MaskError for others."""
    if array.size == 0:
        raise MaskError(f"the mask is of shape {array.shape}; give at least one pixel")
    if array.dtype.kind not in "buif":
        raise MaskError(f"the mask is of {array.dtype}; give bools, uint8, or floats in [0, 1]")
    low, high = array.min(), array.max()
    if array.dtype in (np.uint8, np.uint16) and high > 1:
        white = largest(array.dtype)
        return MaskReading(array.astype(np.float32) / np.float32(white), white=white)
    if not (low >= -SLACK and high <= 1 + SLACK):  # so put that NaN fails
        raise MaskError(f"the mask holds values from {low} to {high}; give 0 to 1, or uint8 from 0 to 255")
    return MaskReading(array.astype(np.float32).clip(0, 1), white=1)


def without_specks(strength: Floats) -> tuple[Floats, int]:
    """The strength with grey specks of the hole set to 0, then those of what is known to 1; and their number."""
    strength = strength.copy()
    hole = strength >= 0.5
    specks, count = small_parts(hole, SPECK, strength >= FIRM)
    strength[specks] = 0
    pinholes, more = small_parts(strength < 0.5, SPECK, strength <= 1 - FIRM)
    strength[pinholes] = 1
    return strength, count + more


def small_parts(mask: NDArray[np.bool_], pixels: int, firm: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """Where the connected parts of less than so many pixels are, and their number; diagonal neighbours are connected.

    A part with a firm pixel is never small. Runs along rows are joined to those that they touch in the row above
    (union-find); where there are more than MOST_RUNS, none is looked at.
    """
    padded = np.pad(mask, [(0, 0), (1, 1)]).astype(np.int8)
    rows, starts = np.nonzero(np.diff(padded, axis=1) == 1)
    if len(rows) > MOST_RUNS:
        return np.zeros_like(mask), 0
    ends = np.nonzero(np.diff(padded, axis=1) == -1)[1]  # of each run, one past its last pixel
    parent = np.arange(len(rows))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    first_of = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for y in range(1, mask.shape[0]):
        above, here = first_of[y - 1], first_of[y]
        while above < first_of[y] and here < first_of[y + 1]:
            if starts[above] <= ends[here] and starts[here] <= ends[above]:
                parent[root(here)] = root(above)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(run) for run in range(len(rows))], np.int64)
    until = np.pad(firm.cumsum(axis=1), [(0, 0), (1, 0)])  # firm pixels left of each column
    weights = ends - starts + pixels * (until[rows, ends] - until[rows, starts])
    small = np.bincount(roots, weights, minlength=len(rows))[roots] < pixels
    found = np.zeros_like(mask)
    for y, start, end in zip(rows[small], starts[small], ends[small], strict=True):
        found[y, start:end] = True
    return found, len(np.unique(roots[small]))


def near_colour(picture: Picture, colour: tuple[int, int, int], tolerance: int) -> NDArray[np.bool_]:
    """(H, W) bools: where all channels are within `tolerance` of 255 of a colour, and the picture is not transparent.

    Raises OptionError for a tolerance out of range, and MaskError, which names the nearest, if there are none.
    """
    if not 0 <= tolerance <= 255:
        raise OptionError(f"a tolerance of {tolerance} is out of range; give 0 to 255")
    values = (picture.colour() + 1) * 127.5
    distance = np.abs(values - np.array(colour, np.float32)).max(axis=2)
    alpha = picture.alpha()
    if alpha is not None:
        distance[alpha == 0] = np.inf
    found: NDArray[np.bool_] = distance < tolerance + 0.5
    if not np.isfinite(distance).any():
        raise MaskError("all of the picture is transparent, and has no colour to look for; give a mask")
    if not found.any():
        name = "#{:02x}{:02x}{:02x}".format(*colour)
        nearest = int(np.floor(distance.min() + 0.5))
        raise MaskError(
            f"no pixel is within {tolerance} of {name}; the nearest is {nearest} away: give --tolerance {nearest}, "
            "or another colour"
        )
    return found
