"""How the detail of fills at the picture's own size compares with the truth's: beside `pixmend.evaluation.metrics`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


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
            projected.append(np.sort((axes.T @ patches.T).numpy()))  # many times as fast as torch's
        total += float(np.abs(projected[0] - projected[1]).mean())
    return total / 3
