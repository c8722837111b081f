"""Finding scratches, dust and creases in scans of old photographs, as a mask to be corrected by hand.

A scratch is a thin line that is lighter, or darker, than what lies on both of its sides, and these are alike; an edge
is not, for one of its sides is like it. So in each of 16 directions the mean along a line is compared with the means
along the two lines beside it. Dust is a spot that an opening, or closing, by a small square takes away.

What tells damage from hair, grass and twigs is that it is rare: a response counts as so many times what is usual around
it. Lines wider than a few pixels are found in the picture reduced by 2 and by 4. NumPy alone; in bands of rows, so that
a large scan takes little more memory than itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np

from pixmend.components import Hole, connected, grown
from pixmend.errors import OptionError
from pixmend.images import Source, open_picture
from pixmend.pictures import LUMA, Floats, Picture

Polarity = Literal["light", "dark", "both"]

DIRECTIONS = 16
REACH = 8  # a line's half length in pixels
APART = 3  # pixels from a line to those beside it; so lines of up to 3 pixels are found, wider ones in reduced pictures
REDUCTIONS = (1, 2, 4)
SMALLEST = 300  # pixels a side that a reduced picture has to have: in a small one, broad lines are things
SPOT = 7  # side of the square that a spot fits in, in pixels
BLOCK = 32  # side of the blocks in which it is looked up what is usual
USUAL = 0.8  # of a block's responses so many are usual
OUTSTANDING = 0.95  # damage is somewhere lighter than so many of the pixels in its block and those beside it
FAINTEST = 0.015  # of the range from black to white: what is usual is nowhere taken for less
LINE, LINE_END = 7.0, 2.5  # times the usual: where a line is found, and as far as it is followed
SPECK, SPECK_END = 4.0, 3.0  # the same of spots
SHORTEST, SLENDER = 26.0, 4.0  # of a line: its length in pixels, and as a multiple of its width
LEAST = 3  # pixels of a spot; fewer are grain
ROWS = 256  # of a band


def find_scratches(
    source: Source, *, sensitivity: float = 0.5, polarity: Polarity = "both", frame: int | None = None
) -> Hole:
    """Where a picture seems damaged by scratches, dust or creases: (H, W), true = to be filled.

    source, frame: what `open_picture` takes; alpha is not looked at. sensitivity: from 0, only what stands out most, to
    1, also what is faint; every 0.25 halves or doubles the contrast that is asked for. polarity: damage lighter than
    what is around it, darker, or both. Raises OptionError, and what `open_picture` raises.
    """
    if not 0 <= sensitivity <= 1:
        raise OptionError(f"sensitivity {sensitivity} is out of range; give a number from 0 (least) to 1 (most)")
    if polarity not in get_args(Polarity):
        raise OptionError(f"polarity {polarity!r} is not known; choose {', '.join(get_args(Polarity))}")
    grey = _luminance(open_picture(source, frame).to_be_seen())
    strictness = 4 ** (1 - 2 * sensitivity)
    found = np.zeros(grey.shape, np.bool_)
    for reduction in REDUCTIONS:
        reduced = _reduced(grey, reduction)
        if reduction > 1 and min(reduced.shape) < SMALLEST:
            break
        lines = _by_bands(reduced, _line_contrasts, REACH + APART + 1)
        spots = _by_bands(reduced, _spot_contrasts, 2 * SPOT)
        for i in {"light": (0,), "dark": (1,), "both": (0, 1)}[polarity]:
            signed = -reduced if i else reduced
            hole = _lines(signed, lines[i], strictness) | _spots(signed, spots[i], strictness)
            found |= hole.repeat(reduction, axis=0).repeat(reduction, axis=1)[: grey.shape[0], : grey.shape[1]]
    return grown(found)  # the antialiased rim of a scratch is damaged too


def _lines(grey: Floats, contrast: Floats, strictness: float) -> Hole:
    """The lines of a picture (H, W) that are lighter than their surroundings by this contrast (H, W)."""
    score = _score(contrast, strictness)
    parts = connected(score > LINE_END)
    slender = (parts.length >= SHORTEST) & (parts.length >= SLENDER * parts.width)
    score[grey < _usual(grey, OUTSTANDING)] = 0
    return parts.drawn(slender & (parts.highest(score) > LINE), grey.shape)


def _spots(grey: Floats, contrast: Floats, strictness: float) -> Hole:
    """The same of spots."""
    score = _score(contrast, strictness)
    parts = connected(score > SPECK_END)
    small = (parts.length <= SPOT) & (parts.area >= LEAST)
    score[grey < _usual(grey, OUTSTANDING)] = 0
    return parts.drawn(small & (parts.highest(score) > SPECK), grey.shape)


def _score(contrast: Floats, strictness: float) -> Floats:
    """How many times what is usual around it, and allowed by the strictness, each contrast (H, W) is."""
    allowed: Floats = np.maximum(_usual(contrast, USUAL), np.float32(FAINTEST)) * np.float32(strictness)
    return contrast / allowed


def _line_contrasts(padded: Floats, margin: int) -> Floats:
    """By how much the best line through each pixel is lighter, and darker, than both lines beside it: (2, H, W), >= 0.

    That is less the difference between these two, for a scratch has the same thing on both of its sides. The worse half
    of the line counts, so that a spot makes no line, nor does the end of an edge.
    """
    height, width = (n - 2 * margin for n in padded.shape)
    best, rim = np.zeros((2, height, width), np.float32), APART

    def shifted(values: Floats, margin: int, dy: float, dx: float, rim: int = 0) -> Floats:
        y, x = margin - rim + round(dy), margin - rim + round(dx)
        return values[y : y + height + 2 * rim, x : x + width + 2 * rim]

    for k in range(DIRECTIONS):
        dy, dx = math.sin(math.pi * k / DIRECTIONS), math.cos(math.pi * k / DIRECTIONS)
        halves = np.zeros((2, height + 2 * rim, width + 2 * rim), np.float32)
        for step in range(REACH + 1):
            halves[0] += shifted(padded, margin, step * dy, step * dx, rim)
            halves[1] += shifted(padded, margin, -step * dy, -step * dx, rim)
        halves /= REACH + 1
        whole, (one, other) = halves.mean(axis=0), halves[:, rim:-rim, rim:-rim]
        left, right = (shifted(whole, rim, side * dx, -side * dy) for side in (APART, -APART))
        lightest, darkest = np.maximum(left, right), np.minimum(left, right)
        unlike = lightest - darkest
        np.maximum(best[0], np.minimum(one, other) - lightest - unlike, out=best[0])
        np.maximum(best[1], darkest - np.maximum(one, other) - unlike, out=best[1])
    return best


def _spot_contrasts(padded: Floats, margin: int) -> Floats:
    """What an opening by a square takes from each pixel, and what a closing adds: (2, H, W), >= 0.

    The top-hats of Serra 1982, "Image Analysis and Mathematical Morphology".
    """
    opened = _extreme(_extreme(padded, np.minimum), np.maximum)
    closed = _extreme(_extreme(padded, np.maximum), np.minimum)
    inner = slice(margin, -margin)
    return np.stack([padded - opened, closed - padded])[:, inner, inner]


def _extreme(values: Floats, of: Callable[..., Floats]) -> Floats:
    """The smallest or largest value in the square of side SPOT around each pixel."""
    for axis in (0, 1):
        edged = np.pad(values, [(SPOT // 2, SPOT // 2) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        count = values.shape[axis]
        values = edged.take(range(count), axis)
        for shift in range(1, SPOT):
            values = of(values, edged.take(range(shift, shift + count), axis))
    return values


def _usual(values: Floats, share: float) -> Floats:
    """That quantile of the pixels (H, W) of each pixel's block, or of the block beside it that has the highest."""
    height, width = values.shape
    down, across = -(-height // BLOCK), -(-width // BLOCK)
    edged = np.pad(values, ((0, down * BLOCK - height), (0, across * BLOCK - width)), mode="edge")
    blocks = edged.reshape(down, BLOCK, across, BLOCK).swapaxes(1, 2).reshape(down, across, BLOCK**2)
    place = int(share * BLOCK**2)
    level = np.pad(np.partition(blocks, place, axis=2)[..., place], 1, mode="edge")
    highest = np.max([level[y : y + down, x : x + across] for y in range(3) for x in range(3)], axis=0)
    usual: Floats = highest.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:height, :width]
    return usual


def _by_bands(grey: Floats, measure: Callable[[Floats, int], Floats], margin: int) -> Floats:
    """`measure(padded, margin)` of the picture (H, W), a band of rows at a time: (2, H, W)."""
    return np.concatenate([measure(band, margin) for band in _bands(grey, margin)], axis=1)


def _bands(grey: Floats, margin: int) -> Iterator[Floats]:
    for top in range(0, len(grey), ROWS):
        low, high = max(0, top - margin), min(len(grey), top + ROWS + margin)
        above, below = margin - (top - low), margin - (high - min(len(grey), top + ROWS))
        yield np.pad(grey[low:high], ((above, below), (margin, margin)), mode="edge")


def _luminance(picture: Picture) -> Floats:
    """(H, W) float32 in [0, 1], rows by rows."""
    black, white = picture.span
    weights = (LUMA if picture.channels == 3 else np.ones(1, np.float32)) / np.float32(white - black)
    grey = np.empty(picture.size, np.float32)
    for top in range(0, len(grey), ROWS):
        samples = picture.samples[top : top + ROWS, :, : picture.channels]
        grey[top : top + ROWS] = (samples - np.float32(black)) @ weights
    return grey


def _reduced(grey: Floats, times: int) -> Floats:
    """The means of squares of `times` pixels a side; the last of a row or column are repeated to fill a square."""
    height, width = grey.shape
    edged = np.pad(grey, ((0, -height % times), (0, -width % times)), mode="edge")
    means: Floats = edged.reshape(len(edged) // times, times, -1, times).mean(axis=(1, 3))
    return means
