"""Grain: what lacks is added, measured by another estimator; nothing where there is none, or where it is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmend.grain import match_grain

SHAPE = (96, 96)


def hole() -> Tensor:
    soft = torch.zeros(1, 1, *SHAPE)
    soft[..., 30:66, 30:66] = 1
    return soft


def matched(fill: Tensor) -> Tensor:
    return match_grain(fill, hole()[0, 0] > 0, hole()[0, 0] > 0, torch.Generator().manual_seed(1))


def noise(deviation: float, seed: int = 0) -> Tensor:
    return deviation * torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)).expand(1, 3, *SHAPE)


@pytest.mark.parametrize(("around", "within"), [(0.1, 0.0), (0.1, 0.05), (0.03, 0.01)])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_smooth_fill_gets_the_grain_of_its_surroundings(around: float, within: float, slope: float) -> None:
    ramp = slope * torch.linspace(-0.5, 0.5, SHAPE[1]).expand(1, 3, *SHAPE)
    fill = matched(ramp + torch.where(hole() > 0, noise(within, 2), noise(around)))
    deviation = (fill - ramp)[hole().expand_as(fill) > 0].std()
    assert float(deviation) == pytest.approx(around, rel=0.15)


def test_known_pixels_stay() -> None:
    fill = noise(0.1)
    fill = torch.where(hole() > 0, 0, fill)
    assert torch.equal(matched(fill)[hole().expand_as(fill) == 0], fill[hole().expand_as(fill) == 0])


@pytest.mark.parametrize("within", [0.09, 0.1, 0.3])
def test_a_fill_with_grain_is_left_alone(within: float) -> None:
    fill = torch.where(hole() > 0, noise(within, 2), noise(0.1))
    assert matched(fill) is fill


def test_a_drawing_stays_flat() -> None:
    """Lines, areas and steps without noise, as many as there are: the fill is flat and stays so."""
    rng = np.random.default_rng(0)
    drawing = np.kron(rng.integers(-1, 2, (6, 6)), np.ones((16, 16)))  # sharp edges every 16 pixels
    drawing[::19] = 1
    fill = torch.from_numpy(drawing).float().expand(1, 3, *SHAPE)
    fill = torch.where(hole() > 0, 0.2, fill)
    assert matched(fill) is fill


def test_a_hole_of_almost_everything_tells_nothing() -> None:
    fill = noise(0.1)
    almost = torch.ones(SHAPE, dtype=torch.bool)
    almost[0, 0] = False
    assert match_grain(fill, almost, almost, torch.Generator()) is fill
