"""How much noise a picture has, from the picture alone.

Small patches of a clean picture lie near a subspace of few dimensions; white noise of deviation sigma adds sigma^2 to
the variance in every direction, so the smallest eigenvalues of the patches' covariance scatter around sigma^2. How many
of them belong to the noise is found by leaving out the largest, one by one, until the mean of the rest equals their
median: Chen, Zhu and Heng 2015, "An Efficient Statistical Method for Image Noise Level Estimation", ICCV,
https://doi.org/10.1109/ICCV.2015.62. It needs no flat parts, as older methods do.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pixmend.pictures import LUMA, Floats

PATCH = {3: 7, 1: 11}  # channels -> side in pixels: grey pictures need more of them for as many directions
ENOUGH = 4  # patches for each of a patch's values; with fewer the eigenvalues scatter too widely
MOST_PATCHES = 60_000  # more tell nothing new, and cost time
HIGHEST = 2.0  # no level above is looked for
EVEN = 0.6  # of white noise, the least eigenvalue over the level's: texture has less in some directions
EVERYWHERE = 0.2  # and the variance of nearly the flattest patches over the level's: edges are in some places alone


def estimate_level(values: Floats, known: NDArray[np.bool_] | None = None) -> float:
    """The standard deviation of white Gaussian noise in a picture, in units of [-1, 1].

    values: (H, W, C) float32; C = 3 or 1. known: (H, W), the pixels that tell something, by default all; patches of one
    colour throughout tell nothing either, where there are enough others. Where no value lies outside of [-1, 1], noise
    was cut off at the ends of the range, as files of 8 and 16 bits do; what that took is accounted for.

    Where colours share their noise, or a JPEG smoothed it in chroma, colours together have directions without any. Then
    the level is that of luma, if what it has is as evenly spread as white noise: else fine texture would pass for it.
    A picture too small to have enough patches is measured more coarsely, and one of fewer than 3 pixels a side is taken
    to have none: 0.
    """
    cut = bool(values.min() >= -1 and values.max() <= 1)
    level, _ = _level(values, known, cut)
    if values.shape[2] == 1:
        return level
    of_luma, even = _level((values @ LUMA)[..., None], known, cut)
    return max(level, of_luma) if even else level


def _level(values: Floats, known: NDArray[np.bool_] | None, cut: bool) -> tuple[float, bool]:
    """The level by patches of all channels together, and whether they have it as evenly as white noise.

    cut: whether the noise was cut off at the ends of the range.
    """
    height, width, channels = values.shape
    side = min(PATCH[channels], height, width)
    if side < 3:
        return 0.0, False
    patches, even = _patches(values, side, known), False
    enough = ENOUGH * patches.shape[1]
    within = patches.reshape(-1, channels, side**2)
    flat = (within == within[..., :1]).all(axis=(1, 2))
    if len(patches) - flat.sum() >= enough:
        patches = patches[~flat]
    if len(patches) < enough:
        few = _patches(values, 3, known)
        variance = _variance_of_few(few)
        patches = patches if len(patches) else few
    else:
        eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(patches, rowvar=False)))
        variance = _noise_variance(eigenvalues)
        flattest = np.quantile(patches.var(axis=1), 0.01)
        even = bool(eigenvalues[0] > EVEN * variance and flattest > EVERYWHERE * variance)
    return _before_clipping(variance, patches.mean(axis=1)) if cut else math.sqrt(variance), even


def _patches(values: Floats, side: int, known: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Patches at places spread evenly over the picture, wholly known: (N, C side^2)."""
    windows = np.lib.stride_tricks.sliding_window_view(values, (side, side), axis=(0, 1))  # (h, w, C, side, side)
    height, width = windows.shape[:2]
    step = 1
    while math.ceil(height / step) * math.ceil(width / step) > MOST_PATCHES:
        step += 1
    chosen = windows[::step, ::step].reshape(-1, values.shape[2] * side**2)
    if known is not None:
        whole = np.lib.stride_tricks.sliding_window_view(known, (side, side))[::step, ::step].all(axis=(2, 3))
        chosen = chosen[whole.ravel()]
    return chosen.astype(np.float64)


def _noise_variance(eigenvalues: NDArray[np.float64]) -> float:
    """The mean of the smallest eigenvalues, as many as there are when it first is no larger than their median."""
    for count in range(len(eigenvalues), 1, -1):
        mean = float(eigenvalues[:count].mean())
        if mean <= np.median(eigenvalues[:count]):
            return max(0.0, mean)
    return max(0.0, float(eigenvalues[0]))


def _variance_of_few(patches: NDArray[np.float64]) -> float:
    """From second differences across and down, which slopes do not have: Immerkaer 1996, "Fast Noise Variance
    Estimation", https://doi.org/10.1006/cviu.1996.0060, with squares in place of absolute values. patches: of 3x3.
    """
    weights = np.outer((1, -2, 1), (1, -2, 1))
    second = patches.reshape(-1, 9) @ weights.ravel()
    return float(second @ second) / float((weights**2).sum()) / max(1, len(second))


def _before_clipping(variance: float, means: NDArray[np.float64]) -> float:
    """The sigma whose noise, cut to [-1, 1] around places that then have these means, keeps this variance on average.

    By bisection: the variance that is kept grows with sigma.
    """
    counts, edges = np.histogram(means, bins=64, range=(-1, 1))
    centres, shares = (edges[:-1] + edges[1:]) / 2, counts / max(1, counts.sum())
    low, high = 0.0, HIGHEST
    for _ in range(30):
        sigma = (low + high) / 2
        if float(shares @ _clipped_variance(centres, sigma)) < variance:
            low = sigma
        else:
            high = sigma
    return (low + high) / 2


def _clipped_variance(means: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """The variance of clip(m + sigma z, -1, 1), z standard normal, where m is such that its mean is as given."""
    m = np.linspace(-1 - 4 * sigma, 1 + 4 * sigma, 201)
    a, b = (-1 - m) / sigma, (1 - m) / sigma
    below, above, between = _normal_cdf(a), _normal_cdf(-b), _normal_cdf(b) - _normal_cdf(a)
    pa, pb = _normal_pdf(a), _normal_pdf(b)
    first = above - below + m * between + sigma * (pa - pb)
    second = above + below + (m**2 + sigma**2) * between + 2 * m * sigma * (pa - pb) + sigma**2 * (a * pa - b * pb)
    return np.interp(means, first, second - first**2)


def _normal_pdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return density


def _normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
