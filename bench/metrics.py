"""What a fill is measured by. Pictures are (B, C, H, W) in [-1, 1], holes (B, 1, H, W) of 0 and 1, 1 = hole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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


def bands(x: Tensor, count: int = 3) -> list[Tensor]:
    """Differences of ever wider blurs, finest first, at the picture's own size: the a trous Laplacian pyramid."""
    taps = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    found = []
    for k in range(count):
        reach = 2 ** (k + 1)
        blurred = x.flatten(0, 1)[:, None]  # (B C, 1, H, W)
        for shape, padding in (((1, 1, 5, 1), (0, 0, reach, reach)), ((1, 1, 1, 5), (reach, reach, 0, 0))):
            padded = F.pad(blurred, padding, mode="replicate")
            blurred = F.conv2d(padded, taps.view(shape), dilation=2**k)
        blurred = blurred.view(x.shape)
        found.append(x - blurred)
        x = blurred
    return found


def band_energy(x: Tensor, hole: Tensor, count: int = 3) -> list[Tensor]:
    """The sum of squares in the hole of each of `bands`: (B,) each."""
    return [(band**2 * hole).sum(dim=(1, 2, 3)) for band in bands(x, count)]


def sliced_wasserstein(x: Tensor, truth: Tensor, hole: Tensor, directions: int = 64, side: int = 5) -> float:
    """How differently the patches of the hole are distributed: 0 for the same, averaged over three bands.

    Rabin et al. 2011 (https://doi.org/10.1007/978-3-642-24785-9_37), on patches of Laplacian bands as Karras et al.
    2018 (https://arxiv.org/abs/1710.10196, section 5): the mean distance of sorted projections on random directions.
    """
    generator = torch.Generator().manual_seed(0)
    inside = F.unfold(hole, side, padding=side // 2)[:, side * side // 2] > 0  # (B, H W)
    total = 0.0
    for ours, theirs in zip(bands(x), bands(truth), strict=True):
        axes = torch.randn(x.shape[1] * side * side, directions, generator=generator)
        axes /= axes.norm(dim=0)
        projected = []
        for band in (ours, theirs):
            patches = F.unfold(band, side, padding=side // 2).transpose(1, 2)[inside]  # (N, C side side)
            projected.append((patches @ axes).sort(dim=0).values)
        total += float((projected[0] - projected[1]).abs().mean())
    return total / 3


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
