"""Pictures of what a denoiser does, each a grid of columns by level; drawn with nothing but tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmend.denoising.cifar import Pixels
from pixmend.denoising.law import NoiseLaw, multi_step, single_step, whole_times
from pixmend.images import save_tensor_as_image

ENLARGE = 3  # CIFAR's 32 pixels are small on a screen
NOISE_SHOWN = 3.0  # standard deviations from black to grey, and from grey to white
GAP = 2  # white pixels between the pictures
SEED = 0
BOTH = "levels.png", "many-steps.png"


@torch.no_grad()
def draw_levels(network: nn.Module, x0: Tensor, law: NoiseLaw, path: Path) -> None:
    """One picture x0 (1, 3, H, W) at t = 1 ... T-1, from left to right. From above: clean, noisy, noise predicted,
    denoised, and the difference of denoised and clean (grey = none).
    """
    columns = []
    for t, xt in _noisy(x0, law):
        eps = network(xt, torch.full((1,), float(t), device=xt.device)).float()
        out = law.predict_x0(xt, t, eps)
        columns.append([x0, xt, eps / NOISE_SHOWN, out, out - x0])
    save_grid(columns, path)


@torch.no_grad()
def draw_ways(network: nn.Module, x0: Tensor, law: NoiseLaw, path: Path) -> None:
    """One picture x0 (1, 3, H, W) at t = 1 ... T-1, from left to right. From above: clean, noisy, denoised in one step,
    in t steps without fresh noise, in t steps with fresh noise.
    """
    generator = torch.Generator().manual_seed(SEED)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator).to(x)

    columns = []
    for t, xt in _noisy(x0, law):
        ways = [multi_step(network, xt, whole_times(t), law, fresh=fresh, noise=noise) for fresh in (0.0, 1.0)]
        columns.append([x0, xt, single_step(network, xt, t, law), *ways])
    save_grid(columns, path)


def draw_both(network: nn.Module, picture: Pixels, law: NoiseLaw, folder: Path, device: torch.device) -> None:
    """`draw_levels` and `draw_ways` of one picture (3, H, W) uint8, as the files BOTH in a folder."""
    x0 = torch.from_numpy(picture)[None].to(device).float() / 127.5 - 1
    for draw, name in zip((draw_levels, draw_ways), BOTH, strict=True):
        draw(network, x0, law, folder / name)


@torch.no_grad()
def draw_handful(network: nn.Module, x0: Tensor, t: int, law: NoiseLaw, path: Path) -> None:
    """Pictures x0 (B, 3, H, W), from left to right, at one level. From above: clean, noisy, denoised in one step."""
    generator = torch.Generator().manual_seed(SEED)
    xt = law.add_noise(x0, t, torch.randn(x0.shape, generator=generator).to(x0))
    out = single_step(network, xt, t, law)
    save_grid([[row[i : i + 1] for row in (x0, xt, out)] for i in range(len(x0))], path)


def save_grid(columns: Sequence[Sequence[Tensor]], path: Path) -> None:
    """Write columns of pictures (1, 3, H, W) in [-1, 1], cut to that range, enlarged, side by side."""

    def framed(x: Tensor) -> Tensor:
        large = F.interpolate(x.float().clamp(-1, 1).cpu(), scale_factor=ENLARGE, mode="nearest")
        return F.pad(large, (0, GAP, 0, GAP), value=1.0)

    grid = torch.cat([torch.cat([framed(x) for x in column], dim=-2) for column in columns], dim=-1)
    save_tensor_as_image(grid, path, overwrite=True)


def _noisy(x0: Tensor, law: NoiseLaw) -> list[tuple[int, Tensor]]:
    """x_t at every whole t, with the same noise."""
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(SEED)).to(x0)
    return [(t, law.add_noise(x0, t, noise)) for t in law.times]
