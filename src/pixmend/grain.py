"""The grain of a fill: where it is smoother than its surroundings, noise is added, as much as they have and it lacks.

Grain is what is there everywhere, in the flat places too. So it is measured by the quartile of the absolute answers of
Immerkaer's operator, which is blind to planes and edges of constant slope (Immerkaer 1996, Fast Noise Variance
Estimation, https://doi.org/10.1006/cviu.1996.0060), and not by their mean, which texture and edges decide. A drawing
with flat areas has a quartile of zero: nothing is added to it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.masks import dilate
from pixmend.pictures import LUMA

RING = 16  # pixels around the hole that are measured
SMOOTHER = 0.8  # of the surroundings' grain: a fill that has more is left alone, for both are estimates
LEAST = 0.5 / 127.5  # a standard deviation of half a level of 8 bits: less is not seen
QUARTILE = 0.3186  # of the absolute value of a standard normal number
FEWEST = 64  # pixels that tell anything


def match_grain(fill: Tensor, hole: Tensor, unknown: Tensor, generator: torch.Generator) -> Tensor:
    """The fill with the grain that its surroundings have and it lacks, the same in all colours.

    fill: (1, 3, H, W) in [-1, 1], known pixels and filled ones; hole: (H, W) bools; unknown: the same, of the
    hole and of what else is not known, such as holes that are filled later.
    """
    answers = _answers(fill)[0, 0].abs()
    ring = dilate(hole, RING) & ~dilate(unknown, 1)  # known pixels whose neighbours are all known
    wanted, own = _deviation(answers[ring]), _deviation(answers[hole])
    if wanted < LEAST or own > SMOOTHER * wanted:
        return fill
    noise = torch.randn(hole.shape, generator=generator)[hole] * (wanted**2 - own**2) ** 0.5
    grained = fill.clone()
    grained[..., hole] = (fill[..., hole] + noise).clamp(-1, 1)  # the pixels alone: a level may be a whole photograph
    return grained


def _answers(x: Tensor) -> Tensor:
    """Of Immerkaer's operator to the luminance: (1, 1, H, W), of standard deviation 6 to white noise of 1.

    That is the second difference along rows of that along columns. (torch's convolution takes ten times the memory.)
    """
    light = (x * torch.from_numpy(LUMA)[None, :, None, None]).sum(1, keepdim=True)
    y = F.pad(light, (1, 1, 1, 1), mode="replicate")
    y = (y[..., :-2, :] + y[..., 2:, :]).sub_(y[..., 1:-1, :], alpha=2)
    return (y[..., :-2] + y[..., 2:]).sub_(y[..., 1:-1], alpha=2)


def _deviation(answers: Tensor) -> float:
    """The standard deviation of white noise that has this quartile; 0 where there are too few to tell."""
    if len(answers) < FEWEST:
        return 0.0
    return float(answers.kthvalue(-(-len(answers) // 4)).values) / QUARTILE / 6
