"""The last touches to a mosaic: fine detail that votes have lost is given back, and the fill runs into what is known.

Both change the colours of patches alone, and not their matches.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.conditioning import smooth_fill
from pixmend.packed import colours, gathered, packed
from pixmend.patches import CHUNK, Patches
from pixmend.soft_masks import dilate
from pixmend.windows import Window

LIVELY, LIVELY_REACH = 1.5, 4  # times: most that fine detail is raised by; pixels to each side: judged over
BLEND, ELSE = 0.2, 0.4  # of [-1, 1]: most that the fill is corrected by, to run into what is known; and what ends there


def enliven(patches: Patches, area: Window) -> None:
    """Raise the fine detail of the fill to what its matches have: a vote of patches that differ loses some of it.

    Of a pixel that is how far it is from the mean of the 3x3 around it. At a border of the picture, where no whole
    patch has its middle, there is nothing to go by. area: around the hole.
    """
    middles = patches.hole.flatten()[patches.open].nonzero()[:, 0]  # the patches whose middle is hole
    fine, energy = torch.empty(len(middles), 3), torch.empty(2, len(middles))
    for start in range(0, len(middles), CHUNK):
        some = np.s_[start : start + CHUNK]
        fine[some] = _fine(patches, patches.open[middles[some]])
        energy[0, some] = _fine(patches, patches.match[middles[some]]).square_().sum(1)
        energy[1, some] = fine[some].square().sum(1)
    pixels = patches.open[middles]
    at, side = _places(patches, pixels, area), 2 * LIVELY_REACH + 1
    theirs, ours = (F.avg_pool2d(_drawn(e, at, area), side, 1, LIVELY_REACH).flatten()[at] for e in energy)
    # 1e-7 is far below one level of 8 bits: what is flat is left alone
    gain = ((theirs + 1e-7) / (ours + 1e-7)).sqrt_().clamp_(1, LIVELY)
    fill = colours(patches.pixels[pixels])[:, :3].addcmul_(fine, gain[:, None] - 1)
    patches.pixels[pixels] = packed(fill.clamp_(-1, 1).T[..., None])


def blend(patches: Patches, area: Window) -> None:
    """Let the fill run into what is known: what is said of the known pixels at its border is a little wrong.

    By so much, at most BLEND, the hole is corrected, smoothly from the border inwards, as in a membrane (Perez, Gangnet
    and Blake 2003, Poisson Image Editing, https://doi.org/10.1145/882262.882269). Where it is more than ELSE, something
    else begins at the border, and nothing follows for the fill but that it should not begin with a step: of what is
    left two pixels take a part. area: around the hole, and its border.
    """
    border = (dilate(patches.hole, 1) & ~patches.hole).flatten().nonzero()[:, 0]
    said = patches.said(border, F.pad(patches.said(border), (0, 1), value=1.0))
    wrong = colours(patches.pixels[border])[:, :3] - said
    little = (wrong.abs() <= ELSE).all(1)
    at = _places(patches, border, area)
    some = np.s_[area.top : area.bottom, area.left : area.right]
    inside, pixels = patches.hole[some], patches.pixels.view(patches.hole.shape)[some]
    fill = colours(pixels[inside])[:, :3]
    unknown, weight = 1 - _drawn(1.0, at[little], area), _softened(_drawn(1.0, at, area)).clamp(min=1 / 3)
    for channel, off in enumerate(wrong.T):  # one after the other, for memory
        spread = smooth_fill(_drawn(off[little].clamp(-BLEND, BLEND), at[little], area), unknown)
        spread += _softened(_drawn(off - spread.flatten()[at], at, area)) / weight
        fill[:, channel] += spread[0, 0, inside]
    pixels[inside] = packed(fill.clamp(-1, 1).T[..., None])


def _fine(patches: Patches, middles: Tensor) -> Tensor:
    """How far pixels, (N,), are from the mean of the 3x3 around them, (N, 3)."""
    along = torch.arange(-1, 2)
    around = middles[:, None] + (along[:, None] * patches.width + along).flatten()
    near = colours(gathered(patches.pixels, around))
    return (near[:, 4] - near.mean(1))[:, :3]


def _places(patches: Patches, pixels: Tensor, area: Window) -> Tensor:
    """Where pixels are in an area, counted along its rows."""
    return (pixels // patches.width - area.top) * area.shape[1] + pixels % patches.width - area.left


def _drawn(values: Tensor | float, at: Tensor, area: Window) -> Tensor:
    """Values at these places of an area, and 0 elsewhere: (1, 1, h, w)."""
    drawn = torch.zeros(area.shape)
    drawn.view(-1)[at] = values
    return drawn[None, None]


def _softened(x: Tensor) -> Tensor:
    """Spread over two pixels, x (B, C, H, W); a straight line of ones keeps a third."""
    for _ in range(2):
        x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x
