"""Colours of pixels, four whole numbers in one: a single access to memory gets all of a pixel.

What is asked for at random places, as pixels of patches are, waits for memory, not for arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

ONE = 1 << 14  # what 1 is where values are whole numbers of 16 bits


def fixed(x: Tensor) -> Tensor:
    """Values from -2 to 2 as whole numbers of 16 bits, fine enough for 16-bit pictures; such numbers as they are."""
    return x if x.dtype == torch.int16 else (x * ONE).round_().clamp_(-2 * ONE, 2 * ONE - 1).to(torch.int16)


def loose(x: Tensor) -> Tensor:
    """The values again, float32."""
    return x.float().mul_(1 / ONE)


def packed(x: Tensor) -> Tensor:
    """Colours (3, H, W) and a 1 as whole numbers (H * W,), four `fixed` ones each: one access to memory gets all."""
    rows = torch.full((x.shape[1] * x.shape[2], 4), ONE, dtype=torch.int16)
    rows[:, :3] = fixed(x).reshape(3, -1).T
    return rows.view(torch.int64)[:, 0]


def colours(pixels: Tensor) -> Tensor:
    """The same as (..., 4) float32, of which the last is 1."""
    return loose(pixels[..., None].view(torch.int16))


def gathered(x: Tensor, index: Tensor) -> Tensor:
    """As x[index], of x (N,); twice as fast."""
    return x.index_select(0, index.flatten()).view(index.shape)
