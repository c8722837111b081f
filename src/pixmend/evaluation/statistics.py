"""How sure a figure is: bootstrap intervals over pictures, alone and of paired differences.

Every figure is a ratio of sums over pictures; a mean is one whose denominators count. Ratios of sums and not means of
ratios: a picture that is flat in truth must not decide over all. What is drawn anew are pictures, with all of their
holes and fills: two holes in one picture are no two witnesses (Efron and Tibshirani 1993, chapters 8 and 13).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
COVERED = 0.95  # of what is drawn lies in the interval
SEED = 0
FEWEST = 5  # pictures: all draws of a single one are alike, and would look like certainty

Numbers = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure and where it would lie with other pictures of the same kind; NaN where they are too few to tell."""

    value: float
    low: float
    high: float


def ratio_interval(numerator: Numbers, denominator: Numbers) -> Interval:
    """sum(numerator) / sum(denominator), (n,) each, one entry for a picture; NaN where the denominators are 0."""
    return _interval(_ratios(numerator, denominator), len(numerator))


def difference_interval(a: tuple[Numbers, Numbers], b: tuple[Numbers, Numbers]) -> Interval:
    """The ratio of `a` less that of `b`, (numerators, denominators) of the same n pictures in the same order.

    Both are measured on the same draws of pictures: what makes a picture hard for both cancels.
    """
    return _interval(_ratios(*a) - _ratios(*b), len(a[0]))


def by_picture(pictures: list[str], values: list[float]) -> dict[str, float]:
    """The sums of values over the entries of each picture, in the order in which the pictures come."""
    sums: dict[str, float] = {}
    for picture, value in zip(pictures, values, strict=True):
        sums[picture] = sums.get(picture, 0.0) + value
    return sums


def _ratios(numerator: Numbers, denominator: Numbers) -> Numbers:
    """The ratio itself, and that of every draw: (1 + RESAMPLES,)."""
    weights = _draws(len(numerator))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios: Numbers = (weights @ numerator) / (weights @ denominator)
    return ratios


@lru_cache(maxsize=16)
def _draws(n: int) -> Numbers:
    """How often each of n pictures comes: once in the first row, in the others as the draws have it."""
    draws = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.concatenate([np.ones((1, n)), draws])


def _interval(values: Numbers, pictures: int) -> Interval:
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not drawn.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    if pictures < FEWEST:
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Interval(float(values[0]), float(low), float(high))
