"""The texture of a fill: livelier where its surroundings are rough, and calm where they are smooth.

A denoiser answers the mean of what may be there; a small one, called a few times, leaves that smoother than pictures
are. What noise there is beyond what it is told of, it takes for detail: so a little more keeps texture (S_noise above 1
in Karras et al. 2022, section 4, https://arxiv.org/abs/2206.00364). It would keep specks in a clear sky, too. So how
much more follows the surroundings, and grows away from what is known, as what is left out does; and it is brightness
alone, in which texture differs, that gets more.

Where everything around is smooth there is nothing to be drawn. The smooth fill is right there, as it is where it is
tried on known pixels, and the network, which is never quite sure, would leave a tinge. docs/results/wide.md and
few-steps.md have what both change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.conditioning import smooth_fill
from pixmend.soft_masks import dilate

ROUGH = 0.08  # of [-1, 1]: surroundings that differ so much from their own means get the most noise
ACROSS, UNKNOWN = 5, 9  # pixels: of what means are taken, and shares of what is not known
TRIED = 4  # pixels around a hole on which the smooth fill is tried
CALM, LIVELY = 0.03, 0.08  # of [-1, 1]: errors of the smooth fill up to which it is used alone, and from which not
NEAR = 12  # pixels: the largest error within this counts; farther from known pixels the coarser level has a say
LARGE = 1 << 20  # pixels: pictures of more are filled one channel after the other, for memory


def livening(x: Tensor, hole: Tensor, most: float) -> Callable[[Tensor], Tensor]:
    """What makes noise (B, 3, H, W) stronger in brightness, by at most so much of it.

    That is where known pixels around are rough, and all near are unknown: beside known pixels a fill is not too smooth.
    x: (1, 3, H, W) in [-1, 1]; hole: (1, 1, H, W), 1 where x is not known.
    """
    unknown = F.avg_pool2d(hole, UNKNOWN, stride=1, padding=UNKNOWN // 2, count_include_pad=False)
    more = most * unknown * (roughness(x, hole) / ROUGH).clamp(max=1)
    return lambda noise: noise + more * noise.mean(1, keepdim=True)


def calmness(x: Tensor, hole: Tensor, coarser: Tensor | None = None) -> Tensor:
    """How far a smooth fill is right, from 0 to 1: it is where it foretells what is known around. (1, 1, H, W).

    x, hole: as for `livening`. coarser: that of the next coarser level, enlarged. It has a say away from what is known:
    what is out of focus is smooth from near alone.
    """
    wider = dilate(hole, TRIED)
    tried = wider - hole
    off = (_smooth(x, wider) - x).abs().mean(1, keepdim=True) * tried
    off = _mean(off) / _mean(tried).clamp(min=1 / ACROSS**2)
    worst = 1 + smooth_fill(dilate(off.clamp(max=1), NEAR) - 1, 1 - tried)  # 1 where nothing is known
    calm = ((LIVELY - worst) / (LIVELY - CALM)).clamp(0, 1)
    if coarser is None:
        return calm
    return calm * torch.maximum(_mean(dilate(1 - hole, NEAR)), coarser)


def calmed(fill: Tensor, x: Tensor, hole: Tensor, calm: Tensor, smooth: Tensor | None = None) -> Tensor:
    """A fill (B, 3, H, W) that gives way to the smooth one, as far as `calm` has it. Known pixels stay exactly.

    x, hole: as for `livening`; calm: (1, 1, H, W), as `calmness` gives it; smooth: the smooth fill, where it is there.
    """
    calm = calm * hole
    if not calm.any():
        return fill
    return torch.lerp(fill, _smooth(x, hole) if smooth is None else smooth, calm)


def roughness(x: Tensor, hole: Tensor) -> Tensor:
    """How far known pixels are from the mean of those around, in brightness; filled into the hole: (1, 1, H, W)."""
    known, light = 1 - hole, x.mean(1, keepdim=True)
    mean = _mean(light * known) / _mean(known).clamp(min=1 / ACROSS**2)
    return smooth_fill((light - mean).abs(), hole).clamp(min=0)


def _mean(x: Tensor) -> Tensor:
    for size in ((1, ACROSS), (ACROSS, 1)):
        x = F.avg_pool2d(x, size, stride=1, padding=(size[0] // 2, size[1] // 2), count_include_pad=False)
    return x


def _smooth(x: Tensor, hole: Tensor) -> Tensor:
    """`smooth_fill`, in two ways that give the same."""
    if x[0, 0].numel() <= LARGE:
        return smooth_fill(x, hole)
    return torch.cat([smooth_fill(one, hole) for one in torch.split(x, 1, dim=1)], 1)
