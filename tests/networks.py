"""Networks as after some training, ours and those of diffusers, and what they answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixmend.adm import AdmConfig
from pixmend.checkpoint import Model

X, T = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 977])
ADM = AdmConfig(
    channels=(16, 32, 32),
    down_attention=(False, True, True),
    up_attention=(False, True, False),
    shrink_by_block=(True, True),
    grow_by_block=(False, True),
    time_channels=16,
    embedding_channels=64,
    blocks=1,
    middle_groups=8,
    head_channels=8,
    groups=8,
)


def moved(network: Any) -> Any:
    """A network none of whose layers are zero or one, as after some training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


@torch.inference_mode()
def theirs(unet: Any, **more: Any) -> Tensor:
    answer: Tensor = unet(X, T, **more).sample
    return answer[:, :3]


@torch.inference_mode()
def ours(model: Model) -> Tensor:
    answer: Tensor = model.network(X, T)
    return answer
