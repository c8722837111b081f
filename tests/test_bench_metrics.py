"""The metrics of bench/, against values worked out by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
metrics = importlib.import_module("metrics")
sys.path.pop(0)

ROW = torch.tensor([[[[0.0, 0.5, -0.5, 1.0]]]])  # (1, 1, 1, 4)
HOLE = torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]])


def test_psnr_of_a_constant_error() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    hole = torch.zeros(2, 1, 4, 4)
    hole[..., :2, :] = 1
    x = truth.clone()
    x[0, :, :2] = 0.2  # mse 0.04: 4 / 0.04 = 100 = 20 dB
    x[1, :, :2] = 2.0  # as wrong as can be: 0 dB
    assert metrics.hole_psnr(x, truth, hole).tolist() == pytest.approx([20.0, 0.0], abs=1e-4)


def test_psnr_looks_at_the_hole_alone_and_at_every_channel() -> None:
    truth = torch.zeros(1, 3, 2, 2)
    hole = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    x = torch.ones(1, 3, 2, 2)
    x[0, :, 0, 0] = torch.tensor([0.3, 0.0, 0.0])  # mse 0.03: 10 log10(4 / 0.03) = 21.249
    assert float(metrics.hole_psnr(x, truth, hole)) == pytest.approx(21.2494, abs=1e-3)


def test_psnr_of_an_exact_fill_is_the_best_there_is() -> None:
    truth = torch.rand(1, 3, 4, 4)
    assert float(metrics.hole_psnr(truth, truth, torch.ones(1, 1, 4, 4))) == metrics.BEST_PSNR


def test_gradients_of_a_row() -> None:
    assert float(metrics.inside_gradient(ROW, HOLE)) == pytest.approx(1.0)  # 0.5 to -0.5
    assert float(metrics.boundary_gradient(ROW, HOLE)) == pytest.approx(1.0)  # 0 to 0.5, -0.5 to 1: (0.5 + 1.5) / 2


def test_gradients_look_down_as_well_as_along() -> None:
    x = torch.tensor([[[[0.0, 0.1], [0.4, 1.0]]]])
    hole = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(metrics.inside_gradient(x, hole)) == pytest.approx((0.1 + 0.4) / 2)
    assert float(metrics.boundary_gradient(x, hole)) == pytest.approx((0.6 + 0.9) / 2)


def test_gradients_average_over_channels_and_keep_pictures_apart() -> None:
    x = torch.cat([ROW, 3 * ROW, -ROW, ROW], dim=0).reshape(2, 2, 1, 4)  # channels (1, 3) and (-1, 1) times the row
    hole = HOLE.expand(2, 1, 1, 4)
    assert metrics.inside_gradient(x, hole).tolist() == pytest.approx([2.0, 1.0])


def test_gradients_without_a_pair_are_zero() -> None:
    assert float(metrics.inside_gradient(ROW, torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]]))) == 0
    assert float(metrics.boundary_gradient(ROW, torch.ones(1, 1, 1, 4))) == 0


def test_ratio_is_one_of_sums() -> None:
    assert metrics.ratio(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 6.0])) == pytest.approx(0.5)


def test_mean_and_its_standard_error() -> None:
    mean, error = metrics.mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert mean == pytest.approx(2.5)
    assert error == pytest.approx((5 / 3) ** 0.5 / 2)  # deviations squared sum to 5, over n - 1 = 3
