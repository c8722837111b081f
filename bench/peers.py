"""The networks that are measured: ours, and two well-known ones shaped to do about as many operations.

Ours chooses the layout of its tensors itself; the others are measured in NCHW and in channels-last.

diffusers comes with the extra `bench`; denoising-diffusion-pytorch with
`pip install --no-deps denoising-diffusion-pytorch einops` (docs/dependencies.md says why).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from pixmend.unet import UNet, UNetConfig

OURS, DIFFUSERS, LUCIDRAINS = "pixmend UNet", "diffusers UNet2DModel", "denoising-diffusion-pytorch Unet"
LAST = ", channels-last"  # what the name of a network in that layout ends in
UNUSED = ("torchvision", "accelerate", "ema_pytorch", "scipy", "scipy.optimize")  # of its trainer, not of its network


class Sample(nn.Module):
    """diffusers wraps its answer in an object; the others answer with the tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        sample: Tensor = self.network(x, t, return_dict=False)[0]
        return sample


class ChannelsLast(nn.Module):
    """A network with weights and input in channels-last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.network(x.contiguous(memory_format=torch.channels_last), t)
        return answer


def diffusers_network() -> nn.Module:
    """Four levels, attention at the coarsest, heads of 32, one block a level down and two up, which it fixes."""
    from diffusers import UNet2DModel

    return Sample(
        UNet2DModel(
            in_channels=7,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(32, 48, 64, 128),
            norm_num_groups=16,
            attention_head_dim=32,
            down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
    )


def lucidrains_network() -> nn.Module:
    """Four levels with two blocks each, linear attention at all but the coarsest, as it is by default."""
    missing = [name for name in UNUSED if name not in sys.modules and not _can_import(name)]
    sys.modules.update({name: MagicMock() for name in missing})
    try:
        from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet
    finally:
        for name in missing:
            del sys.modules[name]
    network: nn.Module = Unet(dim=16, dim_mults=(1, 3, 6, 8), channels=7, out_dim=3)
    return network


def _can_import(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


MAKERS: dict[str, Callable[[], nn.Module]] = {
    OURS: lambda: UNet(UNetConfig()),
    DIFFUSERS: diffusers_network,
    LUCIDRAINS: lucidrains_network,
}


def networks() -> dict[str, nn.Module | None]:
    """Every network by name, with random weights; None for what is not installed."""
    made: dict[str, nn.Module | None] = {}
    for name, make in MAKERS.items():
        try:
            torch.manual_seed(0)
            made[name] = make()
            if name != OURS:
                made[name + LAST] = ChannelsLast(make())
        except ImportError:
            made[name] = None
    return made


def beside_the_faster_layout(seconds: Mapping[str, float], work: Mapping[str, float]) -> list[str]:
    """For each of the others, how many times as fast ours is as the faster of its layouts. Both by name.

    work: operations of a forward pass, in any unit; at equal operations is: in operations a second.
    """
    told = []
    for peer in (DIFFUSERS, LUCIDRAINS):
        if peer in seconds:
            times = min(seconds[name] for name in (peer, peer + LAST)) / seconds[OURS]
            told.append(f"{peer}: {times:.2f}, at equal operations {times * work[OURS] / work[peer]:.2f}")
    return told


def parameters_in_millions(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6
