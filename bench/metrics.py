"""What a fill is measured by. Pictures are (B, C, H, W) in [-1, 1], holes (B, 1, H, W) of 0 and 1, 1 = hole."""

from __future__ import annotations

import torch
from torch import Tensor

BEST_PSNR = 60.0  # dB; eight bits end at 59, and one exact fill of a flat picture must not outweigh all others


def hole_psnr(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in the hole alone, in dB, at most BEST_PSNR: (B,).

    The squared error is averaged over all values in the hole; the peak is the width of the range, 2.
    """
    values = hole.sum(dim=(1, 2, 3)) * x.shape[1]
    error = ((x - truth) ** 2 * hole).sum(dim=(1, 2, 3)) / values
    return (10 * torch.log10(4 / error.clamp(min=1e-12))).clamp(max=BEST_PSNR)


def inside_gradient(x: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, beside and below each other, that both lie in the hole: (B,)."""
    return _mean_difference(x, [a * b for a, b in _neighbours(hole)])


def boundary_gradient(x: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of neighbours of which one lies in the hole and one outside: (B,)."""
    return _mean_difference(x, [a + b - 2 * a * b for a, b in _neighbours(hole)])


def ratio(output: Tensor, truth: Tensor) -> float:
    """The sum over pictures of what was measured on the fills, over that of the truth: 1 is best.

    A ratio of sums: one picture that is flat in truth does not decide over all.
    """
    return float(output.sum() / truth.sum())


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of (B,) values, and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def _neighbours(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x[..., :, :-1], x[..., :, 1:]), (x[..., :-1, :], x[..., 1:, :])]


def _mean_difference(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Over the pairs of `_neighbours` whose weight is 1; 0 where there are none."""
    pairs = zip(_neighbours(x), weights, strict=True)
    total = sum(((a - b).abs() * weight).sum(dim=(1, 2, 3)) for (a, b), weight in pairs)
    count = sum(weight.sum(dim=(1, 2, 3)) for weight in weights) * x.shape[1]
    return torch.as_tensor(total / torch.as_tensor(count).clamp(min=1))
