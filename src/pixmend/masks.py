"""Masks: holes of every family that is trained on, tested on or drawn for a user; and the soft mask of a hole.

A hole is an array of bools (H, W), or a tensor (B, 1, H, W) of 0 and 1; true or 1 = to be filled. The public face of
`mask_kinds` (the families), `strokes` (what some are drawn with) and `soft_masks` (what becomes of a hole's edge).
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

from pixmend.components import Hole
from pixmend.errors import OptionError
from pixmend.mask_kinds import (
    alternate_rows,
    border,
    centre,
    every_second_pixel,
    expand,
    half,
    irregular,
    medium,
    patches,
    rectangles,
    scattered,
    scratches,
    stripes,
    text,
    thick,
    thin,
    whole,
)
from pixmend.soft_masks import automatic_radius, dilate, feather, soft_mask
from pixmend.strokes import Rng, Span

__all__ = [
    "KINDS",
    "MIXTURE",
    "NARROW_MIXTURE",
    "OWN_AREA",
    "Hole",
    "automatic_radius",
    "create_advanced_mask",
    "dilate",
    "draw_mask",
    "feather",
    "mixed",
    "soft_mask",
]

LARGEST = 200_000_000  # pixels in one mask, as many as a picture may have
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
    if math.prod(shape) > LARGEST:
        raise OptionError(f"a mask of {shape[0]} x {shape[1]} pixels is too large; give at most {LARGEST:,} pixels")
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


# --------------------------------------------------------------------------------------------------- the blend to train


MIXTURE: Mapping[str, float] = MappingProxyType(
    {  # percent of the masks of `mixed` that leave something known
        "irregular": 12,
        "thick": 10,
        "medium": 8,
        "thin": 12,
        "rectangles": 11,
        "centre": 4,
        "stripes": 8,
        "half": 3,
        "border": 5,
        "expand": 3,
        "scattered": 6,
        "patches": 3,
        "alternate-rows": 3,
        "every-second-pixel": 3,
        "text": 5,
        "scratches": 4,
    }
)


def mixed(h: int, w: int, rng: Rng, *, whole: float = 0.15) -> Hole:
    """The blend for training: the whole picture with the probability `whole`, else a kind as `MIXTURE` weighs them.

    Wide masks help even narrow holes (LaMa), and some that are the whole picture keep the network usable without any
    known pixels. For the same reason no kind is kept to its own area (`OWN_AREA`) here.
    """
    if rng.random() < whole:
        return np.ones((h, w), bool)
    return KINDS[_drawn_kind(MIXTURE, rng)](h, w, rng)


def narrow(h: int, w: int, rng: Rng) -> Hole:
    """The blend for training on narrow holes, as `NARROW_MIXTURE` weighs the kinds: something known is always near."""
    kind = _drawn_kind({kind: percent for kind, (percent, _) in NARROW_MIXTURE.items()}, rng)
    return KINDS[kind](h, w, rng, **NARROW_MIXTURE[kind][1])


def _drawn_kind(percents: Mapping[str, float], rng: Rng) -> str:
    """A kind of mask, drawn as often as the percents of all say."""
    bounds = tuple(accumulate(percents.values()))
    return tuple(percents)[bisect(bounds, rng.random() * bounds[-1])]


NARROW_MIXTURE: Mapping[str, tuple[float, Mapping[str, Any]]] = MappingProxyType(
    {  # percent of the masks of `narrow`, and the parameters that make a kind narrow
        "thin": (18, {}),
        "text": (14, {}),
        "scratches": (10, {}),
        "irregular": (8, {"width": (2 / 256, 20 / 256)}),
        "stripes": (8, {"period": (0.03, 0.12)}),
        "patches": (6, {"side": (0.015, 0.06), "share": (0.1, 0.7)}),
        "scattered": (20, {"share": (0.1, 0.93)}),
        "alternate-rows": (8, {}),
        "every-second-pixel": (8, {}),
    }
)

KINDS: Mapping[str, Callable[..., Hole]] = MappingProxyType(
    {
        function.__name__.replace("_", "-"): function
        for function in (
            *(rectangles, centre, irregular, stripes),
            *(thin, medium, thick),
            *(half, border, expand, alternate_rows, every_second_pixel),
            *(scattered, patches, text, scratches, whole, mixed, narrow),
        )
    }
)

OWN_AREA: Mapping[str, Span] = MappingProxyType({"thin": (0.0, 0.5), "medium": (0.0, 0.5), "thick": (0.0, 0.5)})


# -------------------------------------------------------------------------------------------------- checked parameters


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
