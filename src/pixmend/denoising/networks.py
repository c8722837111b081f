"""The networks: two as they are printed in the document of docs/denoising.md, and one of this project's own parts.

All take noisy pictures (B, 3, H, W) in [-1, 1] and beyond, and times (B,), and answer with the noise they expect,
(B, 3, H, W). Weights trained with the printed code load into the first two: the names in their state dicts are the
printed ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmend.unet import UNet, UNetConfig

PICTURE_DEVIATION = 0.5  # standard deviation of the pictures' values in [-1, 1]; about right is good enough
LOWEST_SIGMA = 0.01  # the embedding tells no lower levels apart


class TimedResidualBlock(nn.Module):
    """shortcut(x) + relu(conv2(relu(conv1(x)) + t_proj(t_emb))), as printed: called `ResidualBlock` there."""

    def __init__(self, in_channels: int, out_channels: int, t_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.t_proj = nn.Linear(t_dim, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, t_emb: Tensor) -> Tensor:
        h = F.relu(self.conv1(x))  # (B, out_channels, H, W)
        h = h + self.t_proj(t_emb)[:, :, None, None]
        h = F.relu(self.conv2(h))
        return torch.add(h, self.shortcut(x))


class Doubling(nn.ConvTranspose2d):
    """The transposed convolution of 2x2 with stride 2, in channels-last.

    Its outputs do not overlap, so it is one matrix product at each place; backwards, torch takes twice as long for it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        (b, c, h, w), out = x.shape, self.out_channels
        weight = self.weight.permute(2, 3, 1, 0).reshape(4 * out, c)  # as (2, 2, out, c)
        y = F.linear(x.permute(0, 2, 3, 1), weight, self.bias.repeat(4))  # type: ignore[union-attr]  # (B, H, W, 4 out)
        y = y.view(b, h, w, 2, 2, out).transpose(2, 3).reshape(b, 2 * h, 2 * w, out)
        return y.permute(0, 3, 1, 2)  # (B, out, 2H, 2W)


class UNetDiffusionCIFAR(nn.Module):
    """The printed time-conditioned U-Net: 2,176,515 parameters with t_dim = 256. H, W: multiples of 4.

    The time enters as the bare number t: a linear layer, ReLU, a linear layer; each block adds a projection of it.
    """

    def __init__(self, t_dim: int = 256) -> None:
        super().__init__()
        self.t_dim = t_dim
        self.time_mlp = nn.Sequential(nn.Linear(1, t_dim), nn.ReLU(), nn.Linear(t_dim, t_dim))
        self.enc1 = TimedResidualBlock(3, 64, t_dim)
        self.pool1 = nn.MaxPool2d(2)
        self.enc2 = TimedResidualBlock(64, 128, t_dim)
        self.pool2 = nn.MaxPool2d(2)
        self.bottleneck = TimedResidualBlock(128, 256, t_dim)
        self.up1 = Doubling(256, 128)
        self.dec1 = TimedResidualBlock(128 + 128, 128, t_dim)
        self.up2 = Doubling(128, 64)
        self.dec2 = TimedResidualBlock(64 + 64, 64, t_dim)
        self.final = nn.Conv2d(64, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t_emb = self.time_mlp(t.view(-1, 1).float())  # (B, t_dim)
        x = x.contiguous(memory_format=torch.channels_last)  # as all that follows: pooling in it is ten times faster
        e1 = self.enc1(x, t_emb)  # (B, 64, H, W)
        e2 = self.enc2(self.pool1(e1), t_emb)  # (B, 128, H/2, W/2)
        b = self.bottleneck(self.pool2(e2), t_emb)  # (B, 256, H/4, W/4)
        d1 = self.dec1(torch.cat([self.up1(b), e2], dim=1), t_emb)  # (B, 128, H/2, W/2)
        d2 = self.dec2(torch.cat([self.up2(d1), e1], dim=1), t_emb)  # (B, 64, H, W)
        return self.final(d2)  # type: ignore[no-any-return]  # (B, 3, H, W)


class UNetCIFAR(nn.Module):
    """The appendix's U-Net without time: batch normalisation, bilinear enlargement. H, W: multiples of 4.

    The baseline that is not told the level: `t` is taken, so that all networks are called alike, and left unused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = self._block(3, 64)
        self.pool1 = nn.MaxPool2d(2)
        self.enc2 = self._block(64, 128)
        self.pool2 = nn.MaxPool2d(2)
        self.bottleneck = self._block(128, 256)
        self.up1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.dec1 = self._block(256 + 128, 128)
        self.up2 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.dec2 = self._block(128 + 64, 64)
        self.final = nn.Conv2d(64, 3, 1)

    @staticmethod
    def _block(in_channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        e1 = self.enc1(x)  # (B, 64, H, W)
        e2 = self.enc2(self.pool1(e1))  # (B, 128, H/2, W/2)
        b = self.bottleneck(self.pool2(e2))  # (B, 256, H/4, W/4)
        d1 = self.dec1(torch.cat([self.up1(b), e2], dim=1))  # (B, 128, H/2, W/2)
        d2 = self.dec2(torch.cat([self.up2(d1), e1], dim=1))  # (B, 64, H, W)
        return self.final(d2)  # type: ignore[no-any-return]  # (B, 3, H, W)


class ScaledUNet(nn.Module):
    """This project's `UNet` for the same law, in the units that suit every level; H and W may be anything.

    With sigma = t/T and s^2 the variance of a picture's values, the network proper sees x scaled to variance 1 and the
    logarithm of sigma, and answers with F, of variance about 1 at every level:
        eps = sigma / (s^2 + sigma^2) x - s / sqrt(s^2 + sigma^2) F.
    The first term is the best linear guess of each value by itself, which is what a new network answers. This is the
    preconditioning of Karras et al. 2022 (EDM, https://arxiv.org/abs/2206.00364, table 1), solved for eps.
    """

    def __init__(self, config: UNetConfig, T: int = 10) -> None:
        super().__init__()
        self.T = T
        self.unet = UNet(config)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        sigma = t.float() / self.T  # (B,)
        variance = PICTURE_DEVIATION**2 + sigma**2
        c_in, c_x, c_f = (
            c.to(x.dtype)[:, None, None, None]  # (B, 1, 1, 1)
            for c in (variance.rsqrt(), sigma / variance, PICTURE_DEVIATION * variance.rsqrt())
        )
        answer: Tensor = self.unet(c_in * x, embedded_level(sigma))  # (B, 3, H, W)
        return c_x * x - c_f * answer.to(x.dtype)


def embedded_level(sigma: Tensor) -> Tensor:
    """Levels as times for the sinusoidal embedding: 0 at `LOWEST_SIGMA` and below, 1000 at 1, even in the logarithm."""
    return torch.log(sigma.clamp(min=LOWEST_SIGMA) / LOWEST_SIGMA) * (1000 / -math.log(LOWEST_SIGMA))
