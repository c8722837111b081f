"""The denoiser of docs/denoising.md as it is printed: plain layers, in the layout that torch gives them.

`pixmend.UNetDiffusionCIFAR` has the same names, weights and answers, and is laid out to train faster; what is compared
with "as printed" is this one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions and the time between them; the shortcut is added after the last ReLU."""

    def __init__(self, in_channels: int, out_channels: int, t_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.t_proj = nn.Linear(t_dim, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, t_emb: Tensor) -> Tensor:
        h = F.relu(self.conv1(x)) + self.t_proj(t_emb)[:, :, None, None]
        return F.relu(self.conv2(h)) + self.shortcut(x)  # type: ignore[no-any-return]


class PrintedUNet(nn.Module):
    """Two levels down to 256 channels at a quarter of the size, and up again."""

    def __init__(self, t_dim: int = 256) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(1, t_dim), nn.ReLU(), nn.Linear(t_dim, t_dim))
        self.enc1, self.pool1 = Block(3, 64, t_dim), nn.MaxPool2d(2)
        self.enc2, self.pool2 = Block(64, 128, t_dim), nn.MaxPool2d(2)
        self.bottleneck = Block(128, 256, t_dim)
        self.up1, self.dec1 = nn.ConvTranspose2d(256, 128, 2, stride=2), Block(256, 128, t_dim)
        self.up2, self.dec2 = nn.ConvTranspose2d(128, 64, 2, stride=2), Block(128, 64, t_dim)
        self.final = nn.Conv2d(64, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t_emb = self.time_mlp(t.view(-1, 1).float())
        e1 = self.enc1(x, t_emb)
        e2 = self.enc2(self.pool1(e1), t_emb)
        b = self.bottleneck(self.pool2(e2), t_emb)
        d1 = self.dec1(torch.cat([self.up1(b), e2], dim=1), t_emb)
        d2 = self.dec2(torch.cat([self.up2(d1), e1], dim=1), t_emb)
        return self.final(d2)  # type: ignore[no-any-return]


def as_printed(network: nn.Module) -> PrintedUNet:
    """The printed network with the weights of another that has its names."""
    printed = PrintedUNet()
    printed.load_state_dict(network.state_dict())
    return printed.train()
