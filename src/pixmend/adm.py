"""The U-Net of DDPM and guided-diffusion, for weights that others trained.

Ho et al. 2020 (https://arxiv.org/abs/2006.11239) and, with more and wider levels, Dhariwal and Nichol 2021 ("ablated
diffusion model", ADM, https://arxiv.org/abs/2105.05233) use one family of networks: residual blocks on the way down,
every one of their results handed to a block of the same size on the way up, and attention at coarse levels. The members
differ in how the time enters, in how a level becomes the next, and in where they attend; `AdmConfig` says which one it
is. What differs in nothing but the order of the weights is put in order when they are read (`adapters`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmend.errors import OptionError
from pixmend.unet import MOST_BLOCKS, MOST_LEVELS, check_stride, check_types, pad_to, sinusoidal_embedding, zeroed


@dataclass(frozen=True)
class AdmConfig:
    """The shape of an `AdmUNet`; all that is needed to build it again. A level is one halving of the picture."""

    channels: tuple[int, ...]  # of each level, finest first
    down_attention: tuple[bool, ...]  # of each level, on the way down: its blocks see the whole picture
    up_attention: tuple[bool, ...]  # of each level, on the way up
    shrink_by_block: tuple[bool, ...]  # between levels: a residual block that averages, or a strided convolution
    grow_by_block: tuple[bool, ...]  # between levels: a residual block that repeats pixels, or a convolution after that
    time_channels: int  # of the sinusoids
    embedding_channels: int  # of the time as the blocks see it
    blocks: int = 2  # residual blocks of each level on the way down; on the way up there is one more
    middle_attention: bool = True
    middle_groups: int | None = 32  # of the normalisation of the middle's attention; None: it has none
    heads: int = 1  # of an attention, where head_channels is None
    head_channels: int | None = None
    scale_shift: bool = True  # the time scales and shifts the second norm's result, or is added before that norm
    sines_first: bool = False  # the sinusoids are sines, then cosines
    frequency_shift: float = 0.0  # see `sinusoidal_embedding`
    pad_after: bool = False  # before a strided convolution: a row and a column at the end, or one all around
    groups: int = 32  # of the group normalisation
    eps: float = 1e-5  # in its denominator
    in_channels: int = 3
    out_channels: int = 3

    def __post_init__(self) -> None:
        check_types(self)
        levels = len(self.channels)
        lengths = len(self.down_attention), len(self.up_attention)
        between = len(self.shrink_by_block), len(self.grow_by_block)
        if levels < 1 or lengths != (levels, levels) or between != (levels - 1, levels - 1):
            raise OptionError(f"{levels} levels need as much said of attention, and one less of what is between them")
        if levels > MOST_LEVELS:
            raise OptionError(f"{levels} levels are too many; there can be at most {MOST_LEVELS}")
        heads = self.heads if self.head_channels is None else self.head_channels
        counts = (
            *self.channels,
            self.in_channels,
            self.out_channels,
            self.embedding_channels,
            self.blocks,
            self.groups,
        )
        if min(*counts, heads) < 1 or self.blocks > MOST_BLOCKS or not 0 < self.eps < 1:
            raise OptionError(
                f"channels, blocks (at most {MOST_BLOCKS}), heads and groups must all be at least 1, and eps in (0, 1)"
            )
        if self.time_channels < 4 or self.time_channels % 2 or not 0 <= self.frequency_shift <= 1:
            raise OptionError(
                f"time_channels = {self.time_channels} must be even and at least 4, and frequency_shift = "
                f"{self.frequency_shift} from 0 to 1"
            )
        for level, channels in enumerate(self.channels):
            middle = level == levels - 1 and self.middle_attention
            attends = self.down_attention[level] or self.up_attention[level] or middle
            if channels % self.groups or (attends and channels % heads):
                raise OptionError(
                    f"{channels} channels must be a multiple of groups = {self.groups} and, with attention, of "
                    f"head_channels = {self.head_channels} or heads = {self.heads}"
                )
        check_stride(self.stride)
        if self.middle_groups is not None and (self.middle_groups < 1 or self.channels[-1] % self.middle_groups):
            raise OptionError(
                f"channels = {self.channels[-1]} must be a multiple of middle_groups = {self.middle_groups}"
            )

    @property
    def stride(self) -> int:
        """Sides are padded to a multiple of this inside the network, and cut again at its end."""
        return int(2 ** (len(self.channels) - 1))

    def heads_of(self, channels: int) -> int:
        """How many heads an attention of so many channels has."""
        return self.heads if self.head_channels is None else channels // self.head_channels


class ResidualBlock(nn.Module):
    """x + f(x, time): two convolutions, the time between them; `resample` may change the size of both summands."""

    def __init__(self, ins: int, outs: int, config: AdmConfig, resample: nn.Module | None = None) -> None:
        super().__init__()
        self.scale_shift = config.scale_shift
        self.norm1 = nn.GroupNorm(config.groups, ins, config.eps)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(ins, outs, 3, padding=1)
        self.time = nn.Linear(config.embedding_channels, (1 + config.scale_shift) * outs)
        self.norm2 = nn.GroupNorm(config.groups, outs, config.eps)
        self.conv2 = zeroed(nn.Conv2d(outs, outs, 3, padding=1))
        self.shortcut = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(self.resample(F.silu(self.norm1(x))))
        told = self.time(time)[:, :, None, None]  # (B, outs or 2 outs, 1, 1)
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + told)
        return torch.add(self.shortcut(self.resample(x)), self.conv2(F.silu(h)))


class Attention(nn.Module):
    """x + what every place gathers from all places of its level."""

    def __init__(self, channels: int, groups: int | None, config: AdmConfig) -> None:
        super().__init__()
        self.heads = config.heads_of(channels)
        self.norm = nn.Identity() if groups is None else nn.GroupNorm(groups, channels, config.eps)
        self.qkv = nn.Linear(channels, 3 * channels)  # all queries, head by head; then all keys; then all values
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        places = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        qkv = self.qkv(places).view(b, height * width, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, HW, C / heads) each
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, HW, C)
        return torch.add(x, self.out(h).transpose(1, 2).view(b, c, height, width))


class Stage(nn.Module):
    """One residual block, and attention behind it where there is any."""

    def __init__(self, block: ResidualBlock, attention: Attention | None) -> None:
        super().__init__()
        self.block = block
        self.attention = attention or nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block(x, time))  # type: ignore[no-any-return]


class Shrink(nn.Module):
    """Half the size, by a strided convolution; the time does not enter."""

    def __init__(self, channels: int, config: AdmConfig) -> None:
        super().__init__()
        self.pad_after = config.pad_after
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if config.pad_after else 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.pad_after else x)  # type: ignore[no-any-return]


class Grow(nn.Module):
    """Twice the size: every pixel four times, and a convolution; the time does not enter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class AdmUNet(nn.Module):
    """U-Net from an `AdmConfig`: pictures (B, in_channels, H, W) and times (B,) to (B, out_channels, H, W).

    H and W may be anything from 1 up. The last convolution starts at zero, so a new network returns zeros.
    """

    def __init__(self, config: AdmConfig) -> None:
        super().__init__()
        self.config = config
        c, levels, last = config.channels, range(len(config.channels)), len(config.channels) - 1

        def stages(ins: Iterable[int], outs: int, attends: bool) -> nn.ModuleList:
            blocks = (ResidualBlock(channels, outs, config) for channels in ins)
            return nn.ModuleList(Stage(b, Attention(outs, config.groups, config) if attends else None) for b in blocks)

        self.time_mlp = nn.Sequential(
            nn.Linear(config.time_channels, config.embedding_channels),
            nn.SiLU(),
            nn.Linear(config.embedding_channels, config.embedding_channels),
            nn.SiLU(),  # every block of the originals applies it anew
        )
        self.first = nn.Conv2d(config.in_channels, c[0], 3, padding=1)
        self.down = nn.ModuleList(
            stages([c[max(i - 1, 0)]] + [c[i]] * (config.blocks - 1), c[i], config.down_attention[i]) for i in levels
        )
        self.shrink = nn.ModuleList(  # from level i to level i + 1
            ResidualBlock(c[i], c[i], config, nn.AvgPool2d(2)) if by_block else Shrink(c[i], config)
            for i, by_block in enumerate(config.shrink_by_block)
        )
        attention = Attention(c[-1], config.middle_groups, config) if config.middle_attention else None
        self.middle = nn.ModuleList(Stage(ResidualBlock(c[-1], c[-1], config), a) for a in (attention, None))
        self.grow = nn.ModuleList(  # from level i + 1 to level i
            ResidualBlock(c[i], c[i], config, nn.Upsample(scale_factor=2.0)) if by_block else Grow(c[i])
            for i, by_block in enumerate(config.grow_by_block, 1)
        )
        self.up = nn.ModuleList()
        for i in levels:
            below = [c[min(i + 1, last)]] + [c[i]] * config.blocks
            skips = [c[i]] * config.blocks + [c[max(i - 1, 0)]]  # the last is what the level began with
            self.up.append(stages(map(add, below, skips), c[i], config.up_attention[i]))
        self.norm = nn.GroupNorm(config.groups, c[0], config.eps)
        self.last = zeroed(nn.Conv2d(c[0], config.out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.at_time(x, self.time_of(t))

    def time_of(self, t: Tensor) -> Tensor:
        """What the blocks are told of the times (B,): (B, embedding_channels)."""
        return self.time_mlp(self._sinusoids(t))  # type: ignore[no-any-return]

    def at_time(self, x: Tensor, time: Tensor) -> Tensor:
        """The network but for `time_of`, whose sinusoids need float32 where all else may be rounded."""
        height, width = x.shape[-2:]
        h = self.first(pad_to(x, self.config.stride))  # (B, c[0], H', W')
        skips = [h]
        for level, stages in enumerate(self.down):
            for stage in stages:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                h = stage(h, time)
                skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h, time)  # (B, c[level], H/2, W/2)
                skips.append(h)
        for stage in self.middle:
            h = stage(h, time)
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                h = self.grow[level](h, time)  # (B, c[level + 1], 2H, 2W)
            for stage in self.up[level]:  # type: ignore[attr-defined]
                h = stage(torch.cat([h, skips.pop()], dim=1), time)
        return self.last(F.silu(self.norm(h)))[..., :height, :width]  # type: ignore[no-any-return]

    def _sinusoids(self, t: Tensor) -> Tensor:
        channels = self.config.time_channels
        waves = sinusoidal_embedding(t, channels, shift=self.config.frequency_shift)
        return waves.roll(channels // 2, dims=1) if self.config.sines_first else waves  # (B, time_channels)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
