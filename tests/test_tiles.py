"""Tiles: what is averaged, what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pixmend.tiles import mirrored, tile_corners, tiled


class Pointwise:
    """A network whose answer at a pixel depends on that pixel alone, and which notes what it was asked."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        assert len(t) == len(x)
        return 2 * x[:, :3] + t[:, None, None, None] / 1000


@settings(max_examples=40)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 3), st.integers(0, 999))
def test_tiles_of_a_pointwise_network_are_the_network(height: int, width: int, batch: int, t: int) -> None:
    network, x = Pointwise(), torch.randn(batch, 7, height, width)
    times = torch.full((batch,), t)
    out = tiled(network, torch.ones(1, 1, height, width), 16)(x, times)
    torch.testing.assert_close(out, network(x, times))
    assert all(max(shape[-2:]) <= 16 for shape in network.shapes[:-1])


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 999))
def test_every_hole_is_covered_and_tiles_without_hole_are_left_out(seed: int, t: int) -> None:
    network = Pointwise()
    hole = (torch.rand(1, 1, 70, 90, generator=torch.Generator().manual_seed(seed)) < 0.001).float()
    x = torch.ones(1, 7, 70, 90)
    out = tiled(network, hole, 16)(x, torch.tensor([t]))
    expected = 2 + t / 1000
    torch.testing.assert_close(out[:, :1][hole > 0], torch.full_like(hole[hole > 0], expected))
    asked = sum(shape[0] for shape in network.shapes)
    assert asked <= 9 * int(hole.sum())  # a pixel lies in at most 3 x 3 tiles that begin half a tile apart


def test_a_small_picture_is_one_call() -> None:
    network = Pointwise()
    assert tiled(network, torch.ones(1, 1, 16, 16), 16) is network


def test_tiles_move_from_step_to_step() -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x[:, 0, 0, 0].tolist())  # which pixel stands in the corner of each tile
        return x[:, :3]

    x = torch.arange(64.0 * 64).reshape(1, 1, 64, 64).expand(1, 7, 64, 64)
    call = tiled(network, torch.ones(1, 1, 64, 64), 16)
    for t in (999, 899):
        call(x, torch.tensor([t]))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("times", [(999, 749, 499, 249), (749, 499, 249), (749, 374), (999, 499)])
def test_tiles_move_whatever_the_size_of_the_hole(times: tuple[int, ...]) -> None:
    for width in range(60, 1200):
        needed = np.zeros((64, width + 256), bool)
        needed[:, 128:-128] = True
        assert len({tuple(tile_corners(needed, 64, t, 0.25)) for t in times}) > 1, width


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_network_is_asked_of_mirror_images_and_its_answers_turned_back(times: int) -> None:
    x, t = torch.randn(2, 7, 5, 6), torch.zeros(2)
    error = torch.arange(30.0).view(5, 6)  # stays where it is, however the picture lies
    out = mirrored(lambda x, t: x[:, :3] + error, times)(x, t)
    ways = torch.stack([error, error.fliplr(), error.flipud(), error.flipud().fliplr()])
    torch.testing.assert_close(out, x[:, :3] + ways[:times].mean(0))


def test_of_mirror_images_a_pointwise_network_tells_the_same() -> None:
    network, x = Pointwise(), torch.randn(3, 7, 8, 9)
    times = torch.tensor([1.0, 20.0, 300.0])
    torch.testing.assert_close(mirrored(network, 4)(x, times), network(x, times))
    assert mirrored(network, 1) is network
