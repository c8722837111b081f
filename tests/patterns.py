"""What mosaics are tried with: pictures and holes of which it is known what must come of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pixmend.components import Hole

SIDE = 96


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int = SIDE, width: int = SIDE) -> Tensor:
    """(3, H, W) of values that `fixed` holds exactly."""
    return torch.randint(-64, 65, (3, height, width), generator=generator(7)) / 64


def pattern(height: int, width: int, period: int) -> Tensor:
    """(3, H, W) that repeats itself."""
    return noise(period, period).repeat(1, -(-height // period), -(-width // period))[:, :height, :width]


def square(side: int = SIDE, top: int = 32, width: int = 24) -> Hole:
    hole = np.zeros((side, side), bool)
    hole[top : top + width, top : top + width] = True
    return hole


def no_tick() -> None:
    pass
