"""Masks: every family of holes that is trained on, tested on or drawn for a user; and the soft mask of a hole.

A hole is an array of bools (H, W), or a tensor (B, 1, H, W) of 0 and 1; true or 1 = to be filled. Each family is a
small function `kind(h, w, rng, *, ...)` in `KINDS`, with its parameters in fractions of the picture, so that a
family looks alike at every size: heights of h, widths of w, and lengths and widths of strokes of sqrt(h w), so that
a stroke covers the same share whatever the shape. A pair (low, high) is drawn from uniformly. All of it is plain
NumPy: a training sample must not wait for its mask.
"""

from __future__ import annotations

import inspect
import math
from bisect import bisect
from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pixmend.errors import OptionError

Hole = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rng = np.random.Generator
Span = tuple[float, float]  # fractions, low and high
Counts = tuple[int, int]  # both ends included

TRIES = 200  # masks drawn before bounds on the area are called out of reach
COUNT_LIMIT = 1000  # strokes or boxes in one mask


# ---------------------------------------------------------------------------------------------------- the entrances


def create_advanced_mask(
    kind: str,
    size: int | tuple[int, int],
    *,
    seed: int | Rng = 0,
    area: Span | None = None,
    **parameters: Any,
) -> torch.Tensor:
    """One mask (1, 1, H, W), float32 of 0 and 1, 1 = hole: a pure function of the arguments. Never without a hole.

    kind: a name in `KINDS`; underscores, blanks and the spelling "center" are understood.
    size: H = W, or (H, W), in pixels. seed: an integer >= 0, or a generator to go on with.
    area: bounds on the share of the hole, such as (0.1, 0.4); masks are drawn until one is inside.
    parameters: those of the kind's function; one number stands for a pair of equal numbers.
    Raises OptionError for an unknown kind or parameter, a value out of range, or bounds that are never met.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    if not isinstance(seed, Rng) and seed < 0:
        raise OptionError(f"seed {seed} is negative; give 0 or more")
    hole = draw_mask(kind, shape, np.random.default_rng(seed), area=area, **parameters)
    return torch.from_numpy(hole.astype(np.float32))[None, None]  # (1, 1, H, W)


def draw_mask(kind: str, shape: tuple[int, int], rng: Rng, *, area: Span | None = None, **parameters: Any) -> Hole:
    """`create_advanced_mask` for NumPy: a hole (H, W) of bools, at least one of them true.

    LaMa's kinds have bounds of their own (`OWN_AREA`); unlike `area`, these give way on a picture of a few pixels.
    """
    kind = _known_kind(kind)
    if min(shape) < 1:
        raise OptionError(f"a mask of {shape[0]} x {shape[1]} pixels is too small; give 1 x 1 or more")
    if area is not None:
        area = _checked_value("area", area, (0.0, 1.0))
    if parameters:
        parameters = _checked_parameters(kind, parameters)
    low, high = area or OWN_AREA.get(kind, (0.0, 1.0))
    least, most = 1.0, 0.0
    for _ in range(TRIES):
        hole = KINDS[kind](*shape, rng, **parameters)
        if not (pixels := np.count_nonzero(hole)):
            hole[int(rng.random() * shape[0]), int(rng.random() * shape[1])] = True
        share = (pixels or 1) / hole.size
        if low <= share <= high:
            return hole
        least, most = min(least, share), max(most, share)
    if area is None:
        return hole
    raise OptionError(
        f"no {kind} mask of {shape[0]} x {shape[1]} pixels covers {low:g} to {high:g} of the picture: {TRIES} covered "
        f"{least:.3g} to {most:.3g}; widen `area` or change the kind's parameters"
    )


# ------------------------------------------------------------------------------------------------- boxes and regions


def rectangles(h: int, w: int, rng: Rng, *, count: Counts = (1, 4), side: Span = (0.1, 0.5)) -> Hole:
    """Boxes anywhere inside, height and width drawn apart (the founding document's random rectangles)."""
    hole = np.zeros((h, w), bool)
    for _ in range(_count(rng, count)):
        height, width = _pixels(h, rng, side), _pixels(w, rng, side)
        top, left = int(rng.random() * (h - height + 1)), int(rng.random() * (w - width + 1))
        hole[top : top + height, left : left + width] = True
    return hole


def centre(h: int, w: int, rng: Rng, *, side: Span = (0.5, 0.5)) -> Hole:
    """One box in the middle, half of each side: a quarter of the picture (the founding document's centre block)."""
    hole = np.zeros((h, w), bool)
    hole[_middle(h, _pixels(h, rng, side)), _middle(w, _pixels(w, rng, side))] = True
    return hole


def expand(h: int, w: int, rng: Rng, *, known: Span = (0.25, 0.25)) -> Hole:
    """All but a box in the middle, a quarter of each side (RePaint's expand): 15/16 are missing."""
    hole = np.ones((h, w), bool)
    hole[_middle(h, round(h * _between(rng, known))), _middle(w, round(w * _between(rng, known)))] = False
    return hole


def half(h: int, w: int, rng: Rng, *, side: str = "any") -> Hole:
    """One half, rounded up: left, right, top, bottom or any of them (RePaint's half)."""
    return _edges(h, w, {_choose(rng, "side", side, SIDES): 0.5}, math.ceil)


def border(h: int, w: int, rng: Rng, *, sides: Counts = (1, 4), width: Span = (0.04, 0.25)) -> Hole:
    """Strips along one to four sides, each of its own width: outpainting."""
    chosen = rng.permutation(len(SIDES))[: min(_count(rng, sides), len(SIDES))]
    return _edges(h, w, {SIDES[i]: _between(rng, width) for i in chosen}, lambda pixels: max(1, round(pixels)))


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
    step = max(2.0, _between(rng, period) * math.sqrt(h * w))
    hole = (across + rng.random() * step) % step < _between(rng, share) * step
    return np.broadcast_to(hole, (h, w)).copy()


def alternate_rows(h: int, w: int, rng: Rng) -> Hole:
    """Every second row is hole, from the first or the second on (RePaint's alternating lines)."""
    hole = np.zeros((h, w), bool)
    hole[_count(rng, (0, 1)) :: 2] = True
    return hole


def every_second_pixel(h: int, w: int, rng: Rng) -> Hole:
    """Only every second pixel of every second row is known: 3/4 are missing (RePaint's super-resolution mask)."""
    hole = np.ones((h, w), bool)
    hole[_count(rng, (0, 1)) :: 2, _count(rng, (0, 1)) :: 2] = False
    return hole


def scattered(h: int, w: int, rng: Rng, *, share: Span = (0.5, 0.92)) -> Hole:
    """Each pixel by itself is hole with the probability `share` (50, 80 and 92 % are usual in papers)."""
    return rng.random((h, w), np.float32) < _between(rng, share)


def patches(h: int, w: int, rng: Rng, *, side: Span = (0.02, 0.25), share: Span = (0.2, 0.8)) -> Hole:
    """Square cells of a grid, each hole with the probability `share` (as in the training of TD-Paint and RAD).

    Small and large cells are equally frequent: their side is uniform in its logarithm.
    """
    shortest, longest = (max(1.0, fraction * math.sqrt(h * w)) for fraction in side)
    cell = round(shortest * (longest / shortest) ** rng.random())
    top, left = int(rng.random() * cell), int(rng.random() * cell)  # where the grid begins
    cells = rng.random(((h + top) // cell + 1, (w + left) // cell + 1)) < _between(rng, share)
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
    return _strokes(h, w, rng, strokes, vertices, width, length, turn=0.3)


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
    maximum it is told (make_random_irregular_mask), so that a "width of 10" is drawn as 5 to 14.
    """
    return _strokes(h, w, rng, strokes, (1, 5), width, length)


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
    return _strokes(h, w, rng, strokes, (1, 5), width, length)


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
    return _strokes(h, w, rng, strokes, (1, 5), width, length)


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
    return _strokes(h, w, rng, count, (4, 4), width, length, turn=0.03, bounce=False)


def text(
    h: int, w: int, rng: Rng, *, lines: Counts = (1, 4), letter: Span = (0.06, 0.14), weight: Span = (0.1, 0.2)
) -> Hole:
    """Lines of letter-like signs: each letter is three strokes between points of a grid of 3 x 3.

    letter: its height; weight: the width of its strokes, as a share of that height.
    """
    tall = max(3.0, _between(rng, letter) * math.sqrt(h * w))  # under three pixels all letters are blots
    starts, ends = [], []
    for _ in range(_count(rng, lines)):
        letters = 1 + int((0.3 + 0.7 * rng.random()) * w / (0.8 * tall))
        left, top = rng.random() * max(0.0, w - letters * 0.8 * tall), rng.random() * max(0.0, h - tall)
        points = rng.integers(0, 3, (letters, 4, 2)) * np.array([0.25 * tall, 0.5 * tall])  # four to a letter
        points[..., 0] += left + np.arange(letters)[:, None] * 0.8 * tall
        points[..., 1] += top
        points = points[rng.random(letters) > 0.15]  # the blanks between words
        starts.append(points[:, :-1].reshape(-1, 2))
        ends.append(points[:, 1:].reshape(-1, 2))
    start = np.concatenate(starts)
    return _lines(h, w, start, np.concatenate(ends), np.full(len(start), tall * _between(rng, weight) / 2))


# --------------------------------------------------------------------------------------------------- the blend to train


MIXTURE: Mapping[str, float] = MappingProxyType(
    {  # percent of the masks of `mixed` that leave something known
        "irregular": 16,
        "thick": 14,
        "medium": 8,
        "thin": 6,
        "rectangles": 14,
        "centre": 5,
        "stripes": 6,
        "half": 5,
        "border": 7,
        "expand": 4,
        "scattered": 4,
        "patches": 4,
        "alternate-rows": 1,
        "every-second-pixel": 2,
        "text": 2,
        "scratches": 2,
    }
)


def mixed(h: int, w: int, rng: Rng, *, whole: float = 0.15) -> Hole:
    """The blend for training: the whole picture with the probability `whole`, else a kind as `MIXTURE` weighs them.

    Wide masks help even narrow holes (LaMa); 10 to 40 % of whole pictures keep the network usable without any
    known pixels.
    """
    if rng.random() < whole:
        return np.ones((h, w), bool)
    return KINDS[_MIXED_KINDS[bisect(_MIXED_BOUNDS, rng.random() * _MIXED_BOUNDS[-1])]](h, w, rng)


_MIXED_KINDS = tuple(MIXTURE)
_MIXED_BOUNDS = tuple(accumulate(MIXTURE.values()))

KINDS: Mapping[str, Callable[..., Hole]] = MappingProxyType(
    {
        function.__name__.replace("_", "-"): function
        for function in (
            *(rectangles, centre, irregular, stripes),
            *(thin, medium, thick),
            *(half, border, expand, alternate_rows, every_second_pixel),
            *(scattered, patches, text, scratches, whole, mixed),
        )
    }
)

OWN_AREA: Mapping[str, Span] = MappingProxyType({"thin": (0.0, 0.5), "medium": (0.0, 0.5), "thick": (0.0, 0.5)})


# --------------------------------------------------------------------------------------------------- parts of the above

SIDES = ("top", "bottom", "left", "right")


def _between(rng: Rng, span: Span) -> float:
    return span[0] + (span[1] - span[0]) * rng.random()  # five times as fast as rng.uniform


def _count(rng: Rng, counts: Counts) -> int:
    return counts[0] + int(rng.random() * (counts[1] - counts[0] + 1))


def _pixels(length: int, rng: Rng, span: Span) -> int:
    return max(1, round(length * _between(rng, span)))


def _choose(rng: Rng, name: str, value: str, options: tuple[str, ...]) -> str:
    if value == "any":
        return options[_count(rng, (0, len(options) - 1))]
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


def _strokes(
    h: int,
    w: int,
    rng: Rng,
    strokes: Counts,
    pieces: Counts,  # of one stroke
    width: Span,
    length: Span,  # of one piece
    turn: float = 1.0,  # most turns at a vertex, half to each side: 1 is any direction
    bounce: bool = True,  # off the sides of the picture
) -> Hole:
    """Walks of straight pieces from points anywhere, each piece of its own width."""
    many, longest = _count(rng, strokes), pieces[1]
    scale, sides = math.sqrt(h * w), np.array([w, h])
    chance = rng.random((4, many, longest))
    turns = (chance[0] - 0.5) * turn
    turns[:, 0] = chance[0, :, 0]  # the first piece goes anywhere
    angle = 2 * np.pi * np.cumsum(turns, axis=1)
    step = scale * (length[0] + (length[1] - length[0]) * chance[1])
    walk = np.empty((many, longest + 1, 2))
    walk[:, 0] = rng.random((many, 2)) * sides
    walk[:, 1:, 0], walk[:, 1:, 1] = step * np.cos(angle), step * np.sin(angle)
    walk = np.cumsum(walk, axis=1)
    if bounce:
        walk = np.abs((walk + sides) % (2 * sides) - sides)
    drawn = np.arange(longest) < pieces[0] + (rng.random((many, 1)) * (longest - pieces[0] + 1)).astype(int)
    radius = scale / 2 * (width[0] + (width[1] - width[0]) * chance[2])
    return _lines(h, w, walk[:, :-1][drawn] - 0.5, walk[:, 1:][drawn] - 0.5, radius[drawn])


def _lines(h: int, w: int, start: Floats, end: Floats, radius: Floats) -> Hole:
    """Straight lines with round ends: all pixels whose centre is at most `radius` from the segment start-end.

    start, end: (n, 2) as x, y, pixel centres at whole numbers; radius: (n,), at least half a pixel, so that no
    line is broken. A line cuts each row of pixels in one run: that of the discs around its points. The disc that
    reaches farthest touches the line's edge with its own, so its centre is that row's point of the edge, moved by
    the radius square to the line, or the nearer end. Runs are counted at their ends and summed along the rows.
    """
    (x, y), (dx, dy) = start.T, (end - start).T
    dy = np.where(np.abs(dy) < 1e-6, 1e-6, dy)  # level lines: as good as level, and divisible
    r = np.maximum(radius, 0.5)
    lean = np.sign(dy) * dx * r / np.hypot(dx, dy)  # how far above its point of the edge the disc's centre is
    top = np.clip(np.ceil(np.minimum(y, y + dy) - r), 0, h).astype(np.intp)
    rows = np.clip(np.floor(np.maximum(y, y + dy) + r) + 1, top, h).astype(np.intp) - top
    row = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows - top, rows)  # the rows of one line after another
    x, y, dx, dy, r, lean = np.repeat(np.stack([x, y, dx, dy, r, lean]), rows, axis=1)  # (all rows,) each
    runs = []
    for side in (-1.0, 1.0):
        along = np.clip((row - y + side * lean) / dy, 0.0, 1.0)
        reach = np.sqrt(np.maximum(r * r - (row - y - along * dy) ** 2, 0.0))
        runs.append(x + along * dx + side * reach)
    first = np.clip(np.ceil(runs[0]), 0, w)
    last = np.clip(np.floor(runs[1]) + 1, first, w)  # past the end; a run between two pixel centres is empty
    row *= w + 1
    edges = np.bincount(row + first.astype(np.intp), minlength=h * (w + 1))
    edges -= np.bincount(row + last.astype(np.intp), minlength=h * (w + 1))
    edges = edges.reshape(h, w + 1)
    hole: Hole = np.cumsum(edges, axis=1, out=edges)[:, :w] > 0
    return hole


def _known_kind(kind: str) -> str:
    name = kind.strip().lower().replace("_", "-").replace(" ", "-").replace("center", "centre")
    if name not in KINDS:
        raise OptionError(f"mask kind {kind!r} is not known; give one of {', '.join(KINDS)}")
    return name


@cache
def _defaults(kind: str) -> dict[str, Any]:
    signature = inspect.signature(KINDS[kind])
    return {name: p.default for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}


def _checked_parameters(kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    defaults = _defaults(kind)
    for name in parameters:
        if name not in defaults:
            raise OptionError(f"{kind} has no parameter {name!r}; it takes {', '.join(defaults) or 'none'}")
    return {name: _checked_value(name, value, defaults[name]) for name, value in parameters.items()}


def _checked_value(name: str, value: Any, default: Any) -> Any:
    """What a default is like tells what is allowed: a word, a fraction, a pair of fractions or a pair of counts."""
    if isinstance(default, str):
        return value
    pair = isinstance(default, tuple)
    counts = pair and isinstance(default[0], int)
    low, high = (1, COUNT_LIMIT) if counts else (0, 1)
    both = tuple(value) if pair and isinstance(value, tuple | list) else (value, value)
    fits = len(both) == 2 and all(isinstance(n, Real) and (not counts or float(n).is_integer()) for n in both)
    if not (fits and low <= both[0] <= both[1] <= high):
        what = f"{'a whole number' if counts else 'a fraction'} from {low} to {high}"
        raise OptionError(f"{name} {value!r} does not fit; give {what}{', or a pair: least, most' if pair else ''}")
    both = tuple(int(float(n)) if counts else float(n) for n in both)
    return both if pair else both[0]


# ------------------------------------------------------------------------------------------------------- the soft mask

RADIUS_LIMIT = 1024
_BAND = 512  # rows feathered at once: for small radii, 24 megapixels then take 50 MB besides input and output


def dilate(hole: torch.Tensor, radius: int) -> torch.Tensor:
    """Grow a mask (..., H, W) by the square of side 2 radius + 1: each pixel becomes the largest of its square."""
    _check_radius(radius)
    for axis in (-1, -2):
        padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        length, covered = hole.shape[axis], 1
        grown = F.pad(hole, padding)  # with 0: nothing grows in from outside
        while covered < 2 * radius + 1:  # windows double: log2 of the width steps
            shift = min(covered, 2 * radius + 1 - covered)
            many = grown.shape[axis] - shift
            grown = torch.maximum(grown.narrow(axis, 0, many), grown.narrow(axis, shift, many))
            covered += shift
        hole = grown.narrow(axis, 0, length)
    return hole


def feather(hole: torch.Tensor, radius: int) -> torch.Tensor:
    """The soft mask G * dilate(hole, B) of a hole (B, 1, H, W) of 0 and 1: float32 in [0, 1], of the same shape.

    B is the square of side 2 radius + 1; G a Gaussian of sigma radius / 2 cut to B and normalised; borders are
    replicated. It is exactly 1 on the hole, and more than 0 exactly on dilate(hole, 2 radius).
    """
    _check_radius(radius)
    if radius == 0:
        return (hole > 0).float()
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    gauss = torch.exp(-0.5 * (offsets / (radius / 2)) ** 2)
    taps = (gauss / gauss.sum()).tolist()
    soft = torch.empty_like(hole, dtype=torch.float32)
    height = hole.shape[-2]
    for top in range(0, height, _BAND):
        first, last = max(0, top - 2 * radius), min(height, top + _BAND + 2 * radius)
        band = hole[..., first:last, :] > 0
        blurred = F.pad(dilate(band, radius).float(), (radius, radius, radius, radius), mode="replicate")
        for axis in (-1, -2):
            many = blurred.shape[axis] - 2 * radius
            # A sum of shifts, not a convolution: the same bits whatever the size, and zeros stay exact zeros.
            total = taps[0] * blurred.narrow(axis, 0, many)
            for i in range(1, len(taps)):
                total += taps[i] * blurred.narrow(axis, i, many)
            blurred = total
        blurred = blurred.clamp(max=1.0).masked_fill_(band, 1.0)  # the taps may add up to 0.99999994
        soft[..., top : top + _BAND, :] = blurred[..., top - first : top - first + _BAND, :]
    return soft


def automatic_radius(hole: torch.Tensor, limit: int = 2) -> int:
    """The largest radius up to `limit` whose soft mask fills at most half as much again as the hole, else 0.

    A hole of alternate rows must not become a hole of everything. Of several masks (B, 1, H, W), each must fit.
    """
    hole = hole > 0
    area = hole.sum((-1, -2))
    for radius in range(limit, 0, -1):
        if bool((2 * dilate(hole, 2 * radius).sum((-1, -2)) <= 3 * area).all()):
            return radius
    return 0


def soft_mask(hole: torch.Tensor, radius: int | None = None) -> torch.Tensor:
    """`feather` with the radius given, or with the automatic one of each mask by itself. (B, 1, H, W) float32."""
    if radius is not None:
        return feather(hole, radius)
    return torch.stack([feather(one, automatic_radius(one)) for one in hole])


def _check_radius(radius: int) -> None:
    if not 0 <= radius <= RADIUS_LIMIT:
        raise OptionError(f"a radius of {radius} pixels is out of range; give 0 to {RADIUS_LIMIT}")
