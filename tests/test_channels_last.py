"""Features in channels-last: the same normalisation, modulation and gradients as torch's own in NCHW."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pixmend.channels_last import GroupNorm, is_channels_last
from pixmend.unet import UNet, UNetConfig


def features(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Random features in channels-last, of another mean and deviation in each channel."""
    rng = torch.Generator().manual_seed(sum(shape))
    x = torch.randn(shape, generator=rng, dtype=torch.float64)
    x = x * (1 + torch.rand(shape[1], 1, 1, generator=rng)) + torch.randn(shape[1], 1, 1, generator=rng)
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def norms(groups: int, channels: int, dtype: torch.dtype = torch.float64) -> tuple[GroupNorm, nn.GroupNorm]:
    """Ours and torch's, with the same random weights."""
    ours, theirs = GroupNorm(groups, channels, dtype=dtype), nn.GroupNorm(groups, channels, dtype=dtype)
    rng = torch.Generator().manual_seed(channels)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        a.data = torch.randn(channels, generator=rng).to(dtype)
        b.data = a.data.clone()
    return ours, theirs


def gradients(norm: nn.Module, x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    """What comes out, and the gradients of what goes in, of the weight and of the bias."""
    x = x.detach().requires_grad_()
    y = norm(x)
    return y.detach(), *torch.autograd.grad(y, (x, *norm.parameters()), g)


@given(
    st.integers(1, 3),
    st.sampled_from([(1, 2), (2, 4), (4, 4), (16, 48)]),
    st.sampled_from([1, 2, 3, 7, 31, 32]),
    st.sampled_from([1, 2, 3, 7, 32, 33]),
)
def test_group_norm_is_torchs(batch: int, groups_of: tuple[int, int], height: int, width: int) -> None:
    groups, channels = groups_of
    if channels // groups * height * width == 1:
        return  # one value has no deviation
    x = features((batch, channels, height, width))
    g = features((batch, channels, height, width)).flip(0, 1, 2)
    ours, theirs = norms(groups, channels)
    for a, b in zip(gradients(ours, x, g), gradients(theirs, x.contiguous(), g.contiguous()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-9)


def test_gradient_is_the_derivative() -> None:
    ours, _ = norms(4, 8)
    x = features((2, 8, 3, 5)).requires_grad_()
    assert torch.autograd.gradcheck(ours, (x,))


@pytest.mark.parametrize("middle", [0.0, 0.5])
@pytest.mark.parametrize("side", [8, 32])
def test_bfloat16_is_as_near_to_the_truth_as_torchs(side: int, middle: float) -> None:
    shape = (4, 48, side, side)
    x, g = features(shape, torch.bfloat16), (features(shape).flip(0, 1) + middle).to(torch.bfloat16)
    ours, theirs = norms(16, 48, torch.float32)
    truth = gradients(norms(16, 48)[1], x.double().contiguous(), g.double())

    def errors(norm: nn.Module, x: Tensor) -> list[float]:
        found = gradients(norm, x, g.contiguous() if x.is_contiguous() else g)
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True)]

    mine, torchs = errors(ours, x), errors(theirs, x.contiguous())
    assert mine[0] <= 1.1 * torchs[0]
    assert mine[1] <= 2 * torchs[1], "it is rounded three times, and torch's once"
    assert max(mine) < 2**-8, "what rounding a number once may change"


def test_modulation() -> None:
    ours, theirs = norms(2, 6)
    x, scale, shift = features((2, 6, 4, 3)), torch.randn(2, 6).double(), torch.randn(2, 6).double()
    expected = theirs(x) * scale[:, :, None, None] + shift[:, :, None, None]
    for layout in (torch.channels_last, torch.contiguous_format):
        for learns in (True, False):
            with torch.set_grad_enabled(learns):
                out = ours(x.contiguous(memory_format=layout), scale, shift)
            torch.testing.assert_close(out, expected)
            assert out.is_contiguous(memory_format=layout)
    inputs = [v.clone().requires_grad_() for v in (x, scale, shift, ours.weight, ours.bias)]

    def modulated(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        told = {"weight": weight, "bias": bias}
        return torch.func.functional_call(ours, told, (x, scale, shift))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(modulated, inputs)


@pytest.mark.parametrize(("attention", "groups"), [((False, False), 16), ((False, True), 16), ((False, True), 0)])
def test_network_trains_alike_in_both_layouts(attention: tuple[bool, bool], groups: int) -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(in_channels=3, channels=(32, 64), attention=attention, groups=groups)).double()
    for parameter in network.parameters():  # no branch is left at zero
        nn.init.normal_(parameter, std=0.05)
    x, time = features((2, 3, 10, 12)), torch.randn(2, 128).double()

    learned = [p for name, p in network.named_parameters() if not name.startswith("time_mlp")]

    def run(x: Tensor) -> tuple[Tensor, ...]:
        y = network.at_time(x, time)
        return y.detach(), *torch.autograd.grad((y**3).sum(), learned)

    for a, b in zip(run(x), run(x.contiguous()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max()))


@pytest.mark.parametrize(("groups", "small"), [(16, False), (0, True)])
def test_training_in_bfloat16_goes_in_channels_last(groups: int, small: bool) -> None:
    """Small pictures too where there is no normalisation."""
    network = UNet(UNetConfig(in_channels=3, channels=(16, 32), attention=(False, False), groups=groups))
    seen: list[bool] = []
    network.norm.register_forward_hook(lambda _, inputs, __: seen.append(is_channels_last(inputs[0])))
    x, t = torch.randn(2, 3, 48, 48), torch.zeros(2)
    network(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        network(x, t)
        with torch.no_grad():
            network(x, t)
        network(x[..., :32, :32], t)
    assert seen == [False, True, False, small]
