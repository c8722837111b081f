"""The families of holes that `masks.KINDS` names, each a small function `kind(h, w, rng, *, ...)`.

Parameters are fractions of the picture, so that a family looks alike at every size: heights of h, widths of w, and
lengths and widths of strokes of sqrt(h w), so that a stroke covers the same share whatever the shape. A pair (low,
high) is drawn from uniformly. All of it is plain NumPy: a training sample must not wait for its mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from pixmend.components import Hole
from pixmend.errors import OptionError
from pixmend.strokes import Counts, Rng, Span, draw_count, draw_fraction, draw_lines, draw_strokes

SIDES = ("top", "bottom", "left", "right")


# ------------------------------------------------------------------------------------------------- boxes and regions


def rectangles(h: int, w: int, rng: Rng, *, count: Counts = (1, 4), side: Span = (0.1, 0.5)) -> Hole:
    """Boxes anywhere inside, height and width drawn apart (random rectangles)."""
    hole = np.zeros((h, w), bool)
    for _ in range(draw_count(rng, count)):
        height, width = _pixels(h, rng, side), _pixels(w, rng, side)
        top, left = int(rng.random() * (h - height + 1)), int(rng.random() * (w - width + 1))
        hole[top : top + height, left : left + width] = True
    return hole


def centre(h: int, w: int, rng: Rng, *, side: Span = (0.5, 0.5)) -> Hole:
    """One box in the middle, half of each side: a quarter of the picture (centre block)."""
    hole = np.zeros((h, w), bool)
    hole[_middle(h, _pixels(h, rng, side)), _middle(w, _pixels(w, rng, side))] = True
    return hole


def expand(h: int, w: int, rng: Rng, *, known: Span = (0.25, 0.25)) -> Hole:
    """All but a box in the middle, a quarter of each side (RePaint's expand): 15/16 are missing."""
    hole = np.ones((h, w), bool)
    hole[_middle(h, round(h * draw_fraction(rng, known))), _middle(w, round(w * draw_fraction(rng, known)))] = False
    return hole


def half(h: int, w: int, rng: Rng, *, side: str = "any") -> Hole:
    """One half, rounded up: left, right, top, bottom or any of them (RePaint's half)."""
    return _edges(h, w, {_choose(rng, "side", side, SIDES): 0.5}, math.ceil)


def border(h: int, w: int, rng: Rng, *, sides: Counts = (1, 4), width: Span = (0.04, 0.25)) -> Hole:
    """Strips along one to four sides, each of its own width: outpainting."""
    chosen = rng.permutation(len(SIDES))[: min(draw_count(rng, sides), len(SIDES))]
    return _edges(h, w, {SIDES[i]: draw_fraction(rng, width) for i in chosen}, lambda pixels: max(1, round(pixels)))


def whole(h: int, w: int, rng: Rng) -> Hole:
    """Everything: a network that has seen it can make pictures from nothing."""
    return np.ones((h, w), bool)


# ------------------------------------------------------------------------------------------------------ regular grids


def stripes(
    h: int, w: int, rng: Rng, *, direction: str = "any", period: Span = (0.08, 0.3), share: Span = (0.3, 0.6)
) -> Hole:
    """Parallel stripes, horizontal, vertical, diagonal or any of them; `share` of each period is hole."""
    chosen = _choose(rng, "direction", direction, ("horizontal", "vertical", "diagonal"))
    rows, columns = np.arange(float(h))[:, None], np.arange(float(w))[None, :]
    if chosen == "diagonal":
        across = (rows + columns if rng.random() < 0.5 else rows - columns) / math.sqrt(2)
    else:
        across = rows if chosen == "horizontal" else columns
    step = max(2.0, draw_fraction(rng, period) * math.sqrt(h * w))
    hole = (across + rng.random() * step) % step < draw_fraction(rng, share) * step
    return np.broadcast_to(hole, (h, w)).copy()


def alternate_rows(h: int, w: int, rng: Rng) -> Hole:
    """Every second row is hole, from the first or the second on (RePaint's alternating lines)."""
    hole = np.zeros((h, w), bool)
    hole[draw_count(rng, (0, 1)) :: 2] = True
    return hole


def every_second_pixel(h: int, w: int, rng: Rng) -> Hole:
    """Only every second pixel of every second row is known: 3/4 are missing (RePaint's super-resolution mask)."""
    hole = np.ones((h, w), bool)
    hole[draw_count(rng, (0, 1)) :: 2, draw_count(rng, (0, 1)) :: 2] = False
    return hole


def scattered(h: int, w: int, rng: Rng, *, share: Span = (0.5, 0.92)) -> Hole:
    """Each pixel by itself is hole with the probability `share` (50, 80 and 92 % are usual in papers)."""
    return rng.random((h, w), np.float32) < draw_fraction(rng, share)


def patches(h: int, w: int, rng: Rng, *, side: Span = (0.02, 0.25), share: Span = (0.2, 0.8)) -> Hole:
    """Square cells of a grid, each hole with the probability `share` (as in the training of TD-Paint and RAD).

    Small and large cells are equally frequent: their side is uniform in its logarithm.
    """
    shortest, longest = (max(1.0, fraction * math.sqrt(h * w)) for fraction in side)
    cell = round(shortest * (longest / shortest) ** rng.random())
    top, left = int(rng.random() * cell), int(rng.random() * cell)  # where the grid begins
    cells = rng.random(((h + top) // cell + 1, (w + left) // cell + 1)) < draw_fraction(rng, share)
    return cells[np.ix_((np.arange(h) + top) // cell, (np.arange(w) + left) // cell)]


# ------------------------------------------------------------------------------------------------------------ strokes


def irregular(
    h: int,
    w: int,
    rng: Rng,
    *,
    strokes: Counts = (1, 4),
    vertices: Counts = (4, 12),
    width: Span = (12 / 256, 40 / 256),
    length: Span = (0.05, 0.25),  # from vertex to vertex
) -> Hole:
    """Free-form strokes as of a hand with a broad brush (after DeepFill v2, Yu et al. 2019, algorithm 1)."""
    return draw_strokes(h, w, rng, strokes, vertices, width, length, turn=0.3)


def thin(
    h: int,
    w: int,
    rng: Rng,
    *,
    strokes: Counts = (4, 50),
    width: Span = (5 / 256, 14 / 256),
    length: Span = (10 / 256, 49 / 256),
) -> Hole:
    """Many short, narrow strokes of one to five pieces (LaMa's thin masks, Suvorov et al. 2022).

    LaMa's settings are pixels at 256 x 256. Its generator adds 5 to each width and 10 to each length below the
    maximum it is told (make_random_irregular_mask), so that a "width of 10" is drawn as 5 to 14. The numbers of
    strokes, here and in `medium` and `thick`, are those of its settings: its generator draws one more at most. Its
    boxes keep some pixels from the border, and these do not.
    """
    return draw_strokes(h, w, rng, strokes, (1, 5), width, length)


def medium(
    h: int,
    w: int,
    rng: Rng,
    *,
    strokes: Counts = (4, 5),
    width: Span = (5 / 256, 54 / 256),
    length: Span = (10 / 256, 109 / 256),
    boxes: float = 0.3 / 1.3,  # probability of boxes in the place of strokes: LaMa's weights are 1 and 0.3
    count: Counts = (1, 5),  # of boxes
    side: Span = (10 / 256, 50 / 256),  # of a box
) -> Hole:
    """A few strokes, or small boxes (LaMa's medium masks)."""
    if rng.random() < boxes:
        return rectangles(h, w, rng, count=count, side=side)
    return draw_strokes(h, w, rng, strokes, (1, 5), width, length)


def thick(
    h: int,
    w: int,
    rng: Rng,
    *,
    strokes: Counts = (1, 5),
    width: Span = (5 / 256, 104 / 256),
    length: Span = (10 / 256, 209 / 256),
    boxes: float = 0.3 / 1.3,
    count: Counts = (1, 3),
    side: Span = (30 / 256, 150 / 256),
) -> Hole:
    """Long, broad strokes, or large boxes (LaMa's thick masks)."""
    if rng.random() < boxes:
        return rectangles(h, w, rng, count=count, side=side)
    return draw_strokes(h, w, rng, strokes, (1, 5), width, length)


def scratches(
    h: int,
    w: int,
    rng: Rng,
    *,
    count: Counts = (3, 12),
    width: Span = (1 / 256, 4 / 256),
    length: Span = (0.05, 0.25),  # of each of four pieces, which bend a little
) -> Hole:
    """Long hairlines, as on an old photograph."""
    return draw_strokes(h, w, rng, count, (4, 4), width, length, turn=0.03, bounce=False)


def text(
    h: int, w: int, rng: Rng, *, lines: Counts = (1, 4), letter: Span = (0.06, 0.14), weight: Span = (0.1, 0.2)
) -> Hole:
    """Lines of letter-like signs: each letter is three strokes between points of a grid of 3 x 3.

    letter: its height; weight: the width of its strokes, as a share of that height.
    """
    tall = max(3.0, draw_fraction(rng, letter) * math.sqrt(h * w))  # under three pixels all letters are blots
    starts, ends = [], []
    for _ in range(draw_count(rng, lines)):
        letters = 1 + int((0.3 + 0.7 * rng.random()) * w / (0.8 * tall))
        left, top = rng.random() * max(0.0, w - letters * 0.8 * tall), rng.random() * max(0.0, h - tall)
        points = rng.integers(0, 3, (letters, 4, 2)) * np.array([0.25 * tall, 0.5 * tall])  # four to a letter
        points[..., 0] += left + np.arange(letters)[:, None] * 0.8 * tall
        points[..., 1] += top
        points = points[rng.random(letters) > 0.15]  # the blanks between words
        starts.append(points[:, :-1].reshape(-1, 2))
        ends.append(points[:, 1:].reshape(-1, 2))
    start = np.concatenate(starts)
    return draw_lines(h, w, start, np.concatenate(ends), np.full(len(start), tall * draw_fraction(rng, weight) / 2))


# --------------------------------------------------------------------------------------------------- parts of the above


def _pixels(length: int, rng: Rng, span: Span) -> int:
    return max(1, round(length * draw_fraction(rng, span)))


def _choose(rng: Rng, name: str, value: str, options: tuple[str, ...]) -> str:
    if value == "any":
        return options[draw_count(rng, (0, len(options) - 1))]
    if value not in options:
        raise OptionError(f"{name} {value!r} is not known; give one of {', '.join(options)} or any")
    return value


def _middle(length: int, part: int) -> slice:
    return slice((length - part) // 2, (length - part) // 2 + part)


def _edges(h: int, w: int, widths: Mapping[str, float], to_pixels: Callable[[float], int]) -> Hole:
    hole = np.zeros((h, w), bool)
    for side, fraction in widths.items():
        pixels = to_pixels(fraction * (h if side in ("top", "bottom") else w))
        if side == "top":
            hole[:pixels] = True
        elif side == "bottom":
            hole[h - pixels :] = True
        elif side == "left":
            hole[:, :pixels] = True
        else:
            hole[:, w - pixels :] = True
    return hole
