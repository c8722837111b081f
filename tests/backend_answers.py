"""What the tests of backends share: tiny networks, and how far an answer is off torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pixmend.backends import OpenNetwork
from pixmend.checkpoint import Model
from small_model import SMALL

CPU = torch.device("cpu")


# On a processor that computes in bfloat16: of the mean difference to float32, relative to the standard deviation.
ROUNDED = 2e-2


def lively_model(config: Any = SMALL, seed: int = 1) -> Model:
    """A tiny network none of whose answers is zero."""
    model = Model.new(config, size=16, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.network.eval()
    model.legs = [{"kimg": 0}]
    return model


MODEL = lively_model()


def example(count: int, height: int = 16, width: int = 16, model: Model = MODEL) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count + height)
    x = torch.randn(count, model.network.config.in_channels, height, width, generator=generator)
    return x, torch.linspace(0, 999, count).round()


@torch.no_grad()
def answer(x: Tensor, t: Tensor, model: Model = MODEL) -> Tensor:
    output: Tensor = model.network(x, t)
    return output


def off(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, model: Model = MODEL) -> float:
    """The mean difference to torch in float32, relative to the standard deviation."""
    expected, found = answer(x, t, model), network(x, t)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    return float((found - expected).abs().mean() / expected.std())


def check_same(network: OpenNetwork, found: Tensor, expected: Tensor) -> None:
    """Equal, in bfloat16; in float32 the order in which numbers are added up may follow the batch."""
    exact = network.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if exact else 1e-5)
