"""The texture of a fill: beside what is rough, a finer level starts from more noise than the network is told.

A denoiser answers the mean of what may be there; a small one, called a few times, leaves that smoother than pictures
are. What noise there is beyond what it is told of, it takes for detail: so a little more keeps texture (S_noise above 1
in Karras et al. 2022, section 4, https://arxiv.org/abs/2206.00364). It would keep specks in a clear sky, too. So how
much more follows the surroundings; and it is brightness alone, in which texture differs, that gets more.
docs/results/wide.md has what it changes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.conditioning import smooth_fill

MORE = 0.08  # of the noise in brightness, at most
ROUGH = 0.08  # of [-1, 1]: surroundings that differ so much from their own means get the most
ACROSS = 5  # pixels: of what means are taken


def livened(noise: Tensor, x: Tensor, hole: Tensor) -> Tensor:
    """The noise that a level starts from, stronger in brightness as far as the known pixels around are rough.

    noise: (B, 3, H, W), standard normal; x: (1, 3, H, W) in [-1, 1]; hole: (1, 1, H, W), 1 where x is not known.
    """
    more = MORE * (roughness(x, hole) / ROUGH).clamp(max=1)
    return noise + more * noise.mean(1, keepdim=True)


def roughness(x: Tensor, hole: Tensor) -> Tensor:
    """How far known pixels are from the mean of those around, in brightness; filled into the hole: (1, 1, H, W)."""
    known, light = 1 - hole, x.mean(1, keepdim=True)
    around = F.avg_pool2d(torch.cat([light * known, known], dim=1), ACROSS, stride=1, padding=ACROSS // 2)
    mean = around[:, :1] / around[:, 1:].clamp(min=1 / ACROSS**2)
    return smooth_fill((light - mean).abs(), hole).clamp(min=0)
