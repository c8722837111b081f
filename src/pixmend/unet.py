"""The network: a time-conditioned U-Net for pictures of any size.

An encoder halves the picture level by level, a decoder doubles it again, and every level of the decoder is handed the
features of the encoder's level of the same size (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597). The noise
level reaches every residual block as a scale and a shift of its features (Dhariwal and Nichol 2021,
https://arxiv.org/abs/2105.05233), and the coarse levels look at the whole picture at once by attention.

The network can fold the picture into patches before its first convolution. It does not by default: at the same
milliseconds, working on pixels gave the lower loss (docs/results/network-shape.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmend.channels_last import as_trained, normalisation
from pixmend.errors import OptionError

# There are 3 to 6 levels and 1 to 3 blocks, and pictures are padded to the stride: a damaged number asks for all time
# and memory.
MOST_LEVELS, MOST_BLOCKS, LARGEST_STRIDE = 16, 100, 256


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a `UNet`; all that is needed to build it again."""

    in_channels: int = 7  # known-aware: picture 3, hole 1, guide 3; plain: 3
    out_channels: int = 3
    patch: int = 1  # side of the patches that become channels; 1 works on pixels
    channels: tuple[int, ...] = (32, 64, 128, 192)  # at every level, finest first; the next level has half the size
    blocks: int = 1  # residual blocks at every level, on the way down and again on the way up
    attention: tuple[bool, ...] = (False, False, False, True)  # at every level: blocks see the whole picture
    head_channels: int = 32  # smaller heads are much slower
    time_channels: int = 128
    groups: int = 16  # of the group normalisation; 0: none, which suits networks that answer exact values

    def __post_init__(self) -> None:
        check_types(self)
        if not self.channels or len(self.attention) != len(self.channels):
            raise OptionError(f"attention {self.attention} must say yes or no for each of the levels {self.channels}")
        if len(self.channels) > MOST_LEVELS or self.blocks > MOST_BLOCKS:
            raise OptionError(f"there can be at most {MOST_LEVELS} levels, and {MOST_BLOCKS} blocks in each")
        counts = self.in_channels, self.out_channels, self.patch, self.blocks, self.head_channels
        if min(counts) < 1 or self.groups < 0:
            raise OptionError(
                "in_channels, out_channels, patch, blocks, head_channels must be at least 1, groups at least 0"
            )
        for channels, attends in zip(self.channels, self.attention, strict=True):
            if channels < 1 or channels % (self.groups or 1) or (attends and channels % self.head_channels):
                raise OptionError(
                    f"{channels} channels must be a multiple of groups = {self.groups}"
                    + (f" and, with attention, of head_channels = {self.head_channels}" if attends else "")
                )
        if self.time_channels < 4 or self.time_channels % 2:
            raise OptionError(f"time_channels = {self.time_channels} must be even and at least 4")
        check_stride(self.stride)

    @property
    def stride(self) -> int:
        """Sides are padded to a multiple of this inside the network, and cut again at its end."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


def check_types(config: Any) -> None:
    """Raise OptionError for a field of a network's shape that is not of the type that its annotation says.

    Files hold what they like, and 16.0 groups, or True of them, fail at the first call only.
    """
    for field in dataclasses.fields(config):
        value, wanted = getattr(config, field.name), str(field.type)
        if value is None and "None" in wanted:
            continue
        types = (bool,) if "bool" in wanted else (int, float) if "float" in wanted else (int,)
        is_tuple = isinstance(value, tuple)
        values = value if is_tuple else (value,)
        if is_tuple != wanted.startswith("tuple") or any(type(one) not in types for one in values):
            raise OptionError(f"{field.name} = {value!r} is not of the type {wanted}; give one that is")


def check_stride(stride: int) -> None:
    """Raise OptionError for a stride to which small pictures would be padded far beyond their size."""
    if stride > LARGEST_STRIDE:
        raise OptionError(f"the stride {stride} is too large; give fewer levels, for at most {LARGEST_STRIDE}")


def sinusoidal_embedding(t: Tensor, channels: int, max_period: float = 10_000.0, shift: float = 0.0) -> Tensor:
    """Waves of `channels / 2` frequencies, from 1 down towards 1 / max_period, of the time t.

    t: (B,), of any number type. Returns (B, channels), float32: cosines, then sines; channels: even, at least 4.
    shift: with 1, the lowest frequency is 1 / max_period itself, as in the code of Ho et al. 2020; with 0, just above.
    Raises OptionError.
    Source: Vaswani et al. 2017, section 3.5 (https://arxiv.org/abs/1706.03762).
    """
    if channels < 4 or channels % 2:
        raise OptionError(f"channels = {channels} must be even and at least 4")
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(max_period) / (half - shift)))
    angles = t.float()[:, None] * frequencies[None]  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, channels)


class ResidualBlock(nn.Module):
    """x + f(x, time): two convolutions, the second scaled and shifted by the time; f starts as zero."""

    def __init__(self, in_channels: int, out_channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = normalisation(config.groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(config.time_channels, 2 * out_channels)
        self.norm2 = normalisation(config.groups, out_channels)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time).chunk(2, dim=1)  # (B, out_channels) each
        h = self.conv2(F.silu(self.norm2(h, 1 + scale, shift)))
        return torch.add(h, self.shortcut(x))


class Attention(nn.Module):
    """x + what every place gathers from all places of its level; nothing at the start of training."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.norm = normalisation(config.groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).contiguous().view(b, 3, self.heads, c // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # (B, heads, HW, head_channels) each
        h = F.scaled_dot_product_attention(q, k, v)
        h = self.out(h.transpose(-1, -2).reshape(b, c, height, width))
        return torch.add(x, h)


class Stage(nn.Module):
    """One residual block, and attention behind it where the level has it."""

    def __init__(self, in_channels: int, out_channels: int, attends: bool, config: UNetConfig) -> None:
        super().__init__()
        self.block = ResidualBlock(in_channels, out_channels, config)
        self.attention = Attention(out_channels, config) if attends else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block(x, time))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """U-Net from a `UNetConfig`: pictures (B, in_channels, H, W) and times (B,) to (B, out_channels, H, W).

    H and W may be anything from 1 up. The last convolution starts at zero, so a new network returns zeros.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c, levels = config.channels, range(len(config.channels))
        area = config.patch**2
        self.time_mlp = nn.Sequential(
            nn.Linear(config.time_channels, config.time_channels),
            nn.SiLU(),
            nn.Linear(config.time_channels, config.time_channels),
            nn.SiLU(),
        )
        self.first = nn.Conv2d(config.in_channels * area, c[0], 3, padding=1)

        def stages(ins: Iterable[int], level: int) -> nn.ModuleList:
            return nn.ModuleList(Stage(i, c[level], config.attention[level], config) for i in ins)

        self.down = nn.ModuleList(stages([c[i]] * config.blocks, i) for i in levels)
        self.shrink = nn.ModuleList(nn.Conv2d(c[i], c[i + 1], 3, stride=2, padding=1) for i in levels[:-1])
        self.middle = stages([c[-1]], levels[-1])
        self.grow = nn.ModuleList(nn.Conv2d(c[i + 1], c[i], 1) for i in levels[:-1])
        self.up = nn.ModuleList(stages([2 * c[i]] * config.blocks, i) for i in levels)
        self.norm = normalisation(config.groups, c[0])
        self.last = zeroed(nn.Conv2d(c[0], config.out_channels * area, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.at_time(x, self.time_of(t))

    def time_of(self, t: Tensor) -> Tensor:
        """What the blocks are told of the times (B,): (B, time_channels)."""
        return self.time_mlp(sinusoidal_embedding(t, self.config.time_channels))  # type: ignore[no-any-return]

    def at_time(self, x: Tensor, time: Tensor) -> Tensor:
        """The network but for `time_of`, whose sinusoids need float32 where all else may be rounded."""
        height, width = x.shape[-2:]
        x = F.pixel_unshuffle(pad_to(x, self.config.stride), self.config.patch)  # (B, C p^2, H/p, W/p)
        h = self.first(as_trained(x, normalised=self.config.groups > 0))

        skips = []
        for level, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                h = stage(h, time)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)  # (B, c[level + 1], H/2, W/2)
        for stage in self.middle:
            h = stage(h, time)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                h = F.interpolate(self.grow[level](h), scale_factor=2.0, mode="nearest")  # (B, c[level], 2H, 2W)
            for stage in self.up[level]:  # type: ignore[attr-defined]
                h = stage(torch.cat([h, skips.pop()], dim=1), time)

        h = F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.config.patch)  # (B, out_channels, H', W')
        return h[..., :height, :width]

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A branch that ends in zeros leaves the network the identity at first, which trains steadily."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples; unlike a reflection, any size can be padded."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
