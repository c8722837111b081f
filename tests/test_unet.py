"""The network: its input sizes, its time, its shape."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from networks import moved
from pixmend.errors import OptionError
from pixmend.unet import ResidualBlock, UNet, UNetConfig, sinusoidal_embedding
from small_model import SMALL


def test_sinusoidal_embedding_is_what_the_paper_says() -> None:
    embedding = sinusoidal_embedding(torch.tensor([0, 3, 999]), 8)
    for row, t in zip(embedding.tolist(), (0, 3, 999), strict=True):
        for i in range(4):
            angle = t * 10_000 ** (-i / 4)
            assert row[i] == pytest.approx(math.cos(angle), abs=1e-4)
            assert row[4 + i] == pytest.approx(math.sin(angle), abs=1e-4)


@settings(max_examples=25)
@given(st.integers(1, 37), st.integers(1, 37), st.integers(1, 2))
def test_any_size_goes_in_and_comes_out(height: int, width: int, patch: int) -> None:
    network = UNet(UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, patch=patch))
    with torch.inference_mode():
        assert network(torch.zeros(2, 7, height, width), torch.tensor([0, 5])).shape == (2, 3, height, width)


def test_a_new_network_answers_zero() -> None:
    with torch.inference_mode():
        assert not UNet(SMALL)(torch.randn(1, 7, 16, 16), torch.tensor([3])).any()


def test_padding_is_undone_exactly() -> None:
    """A picture that ends in repeated rows and columns gives the same as one that is padded inside."""
    network, x = moved(UNet(SMALL)), torch.randn(1, 7, 13, 11)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(network(x, torch.tensor([7])), network(padded, torch.tensor([7]))[..., :13, :11])


def test_time_reaches_the_output() -> None:
    network, x = moved(UNet(SMALL)), torch.randn(1, 7, 16, 16).expand(2, -1, -1, -1)
    with torch.inference_mode():
        early, late = network(x, torch.tensor([1, 900]))
    assert (early - late).abs().max() > 1e-3


def test_every_parameter_learns() -> None:
    network = moved(UNet(SMALL))
    network(torch.randn(2, 7, 16, 16), torch.tensor([1, 900])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_attention_sees_the_whole_picture() -> None:
    """With attention, a change in one corner reaches the opposite one; convolutions alone do not carry it so far."""
    x = torch.zeros(1, 7, 96, 96)
    changed = x.clone()
    changed[..., 0, 0] = 5.0
    for attends in (False, True):
        config = UNetConfig(channels=(16, 32), attention=(False, attends), head_channels=16, time_channels=16)
        network = moved(UNet(config))
        for module in network.modules():  # the group norm gathers from everywhere too: take that way out
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda h, *_: h  # type: ignore[method-assign]
        with torch.inference_mode():
            t = torch.tensor([5])
            reached = (network(x, t) - network(changed, t))[..., -1, -1].abs().max() > 0
        assert bool(reached) == attends


def test_the_default_fits_the_limits() -> None:
    network = UNet(UNetConfig())
    assert network.parameter_count == sum(p.numel() for p in network.state_dict().values())
    assert network.parameter_count <= 8_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (), "attention": ()},
        {"attention": (True,)},
        {"channels": (20, 40, 60, 80)},
        {"channels": (32, 64, 128, 144)},
        {"time_channels": 7},
        {"patch": 0},
    ],
)
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        UNetConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_an_embedding_that_cannot_be_is_refused(channels: int) -> None:
    with pytest.raises(OptionError, match="must be even and at least 4"):
        sinusoidal_embedding(torch.zeros(1), channels)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_without_normalisation_what_is_far_away_does_not_count(layout: torch.memory_format) -> None:
    """Two levels see some twenty pixels around; a group normalisation sees the whole picture."""
    x, t = torch.randn(1, 3, 64, 64).to(memory_format=layout), torch.tensor([5.0])
    other = x.clone(memory_format=torch.preserve_format)
    other[..., 0, 0] += 1
    for groups in (0, 4):
        shape = UNetConfig(in_channels=3, channels=(8, 16), attention=(False, False), time_channels=8, groups=groups)
        network = moved(UNet(shape))
        with torch.no_grad():
            difference = network(x, t) - network(other, t)
        assert difference[..., 0, 0].any()
        assert difference[..., -1, -1].any() == bool(groups)


def test_without_normalisation_a_block_is_its_formula() -> None:
    config = UNetConfig(channels=(4,), attention=(False,), time_channels=8, groups=0)
    block = moved(ResidualBlock(4, 4, config)).double()
    x, time = torch.randn(2, 4, 5, 7, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64)
    scale, shift = block.time(time)[:, :, None, None].chunk(2, dim=1)
    expected = x + block.conv2(F.silu((1 + scale) * block.conv1(F.silu(x)) + shift))
    torch.testing.assert_close(block(x, time), expected)
