"""How the network is told what is known: its input, and the guide, a rough fill of the hole.

Plain: the network sees x_t and t, as in unconditional diffusion; the known pixels are put back around it.
Known-aware: it sees [m x_t + (1 - m) x0, m, guide], seven channels: the known pixels clean, where the hole is, and a
rough fill of it that gives the colours and leaves the structure to be drawn. Clean known pixels and two noise levels
are the idea of TD-Paint (Mayet et al. 2024, https://arxiv.org/abs/2410.09306).
Residual: the same, but what is noised and predicted in the hole is x0 - guide. Where the guide is right, as in a clear
sky, the network has to answer nothing but zero.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.diffusion import Conditioning, DenoiseFn, Known, around

NetworkCall = Callable[[Tensor, Tensor], Tensor]

INPUT_CHANNELS: dict[Conditioning, int] = {"residual": 7, "known-aware": 7, "plain": 3}
LIMITS: dict[Conditioning, float] = {"residual": 2, "known-aware": 1, "plain": 1}  # of what is predicted, up and down

# How far the sweeps of `smooth_fill` go: the inverse Chebyshev nodes of [1/4, 4], the eigenvalues that a level has to
# damp; what is smoother the coarser level has done.
RATES = [1 / (17 / 8 + 15 / 8 * math.cos((2 * k + 1) * math.pi / 8)) for k in range(4)]


def smooth_fill(x: Tensor, hole: Tensor) -> Tensor:
    """Pictures with their holes filled smoothly from the known pixels around; known pixels as they are.

    Nearly the biharmonic fill, the shape of a thin plate that is held where pixels are known, at a small part of its
    cost: a pyramid down and up again (pull-push: Gortler et al. 1996, The Lumigraph, section 3.4,
    https://doi.org/10.1145/237170.237200), smoothed at every level on the way up (cascadic multigrid: Bornemann and
    Deuflhard 1996, https://doi.org/10.1007/s002110050234).
    x: (B, C, H, W) in [-1, 1]; hole: (B, 1, H, W), 1 where x is not known. A picture without known pixels becomes 0.
    """
    return _fill(torch.where(hole > 0, 0, x), 1 - hole).clamp(-1, 1)


def _fill(sums: Tensor, weight: Tensor) -> Tensor:
    """sums: values times weights; weight: (B, 1, H, W), how much each pixel knows, in [0, 1].

    Pull: the known pixels are averaged down the pyramid with their weights. Push: where a level knows nothing, it takes
    the level below, enlarged.
    """
    values = sums / weight.clamp(min=1e-6)
    if max(sums.shape[-2:]) == 1:
        return values  # (B, C, 1, 1), 0 where nothing is known
    x = torch.lerp(enlarged(_fill(*_halve(sums, weight)), sums.shape[-2:]), values, weight)
    x = torch.lerp(x + _laplacian(x), values, weight)  # errors of eigenvalue -1; all where holes are single pixels
    for rate in RATES:
        x = torch.lerp(torch.add(x, _laplacian(_laplacian(x)), alpha=-rate), values, weight)
    return x


def _is_exported() -> bool:
    """Whether ONNX is being written: few operations are wanted then, not fast ones. Loading torch.onnx takes time, and
    where nobody has, nothing is.
    """
    onnx = sys.modules.get("torch.onnx")
    return onnx is not None and onnx.is_in_onnx_export()


def _laplacian(x: Tensor) -> Tensor:
    """The mean of the four neighbours less the pixel itself, Laplace's operator over four; (B, C, H, W).

    Its eigenvalues lie in [-2, 0]; applied twice, in [0, 4].
    """
    x_ = F.pad(x, (1, 1, 1, 1), mode="replicate")
    if _is_exported():
        kernel = x.new_tensor([[0, 0.25, 0], [0.25, -1, 0.25], [0, 0.25, 0]])
        return F.conv2d(x_, kernel.expand(x.shape[1], 1, 3, 3), groups=x.shape[1])
    neighbours = x_[..., 1:-1, :-2] + x_[..., 1:-1, 2:]
    neighbours += x_[..., :-2, 1:-1]
    neighbours += x_[..., 2:, 1:-1]
    return torch.add(neighbours.mul_(0.25), x, alpha=-1)


def _halve(sums: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The level below: sums over 2x2 pixels; four half-known pixels know as much as two, more than one is certainty."""
    sums, weight = _sum_of_blocks(sums), _sum_of_blocks(weight)
    certain = weight.clamp(max=1) / weight.clamp(min=1e-6)
    return sums * certain, weight.clamp(max=1)


def _sum_of_blocks(x: Tensor) -> Tensor:
    """Sums over 2x2 pixels; at an odd border a pixel counts twice. Several times as fast as torch's average pooling."""
    if x.shape[-2] % 2 or x.shape[-1] % 2:
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
    if _is_exported():
        return 4 * F.avg_pool2d(x, 2)
    x = x[..., ::2, :] + x[..., 1::2, :]
    return x[..., ::2] + x[..., 1::2]


def network_input(xt: Tensor, x0: Tensor, hole: Tensor, guide: Tensor) -> Tensor:
    """The seven channels of the known-aware network. xt, x0, guide: (B, 3, H, W); hole: (B, 1, H, W) of 0 and 1."""
    return torch.cat([around(xt, hole, x0), hole, around(guide, hole, x0)], dim=1)


def roughened(x0: Tensor, hole: Tensor, blur: Tensor, grain: Tensor, noise: Tensor) -> Tensor:
    """The true picture as a coarser fill might have it, for training: halved, roughened in the hole, enlarged again.

    x0: (B, 3, H, W); hole: (B, 1, H, W); blur, in [0, 1], and grain, a standard deviation: (B,);
    noise: (B, 3, ceil(H/2), ceil(W/2)), standard normal. Returns (B, 3, H, W).
    """
    low = _sum_of_blocks(x0) / 4
    low_hole = F.max_pool2d(hole, 2, ceil_mode=True)
    blurred = F.avg_pool2d(low, 3, stride=1, padding=1, count_include_pad=False)
    rough = torch.lerp(low, blurred, blur[:, None, None, None]) + grain[:, None, None, None] * noise
    return enlarged(torch.where(low_hole > 0, rough, low), x0.shape[-2:])


def enlarged(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """A coarser fill at the size of a finer level, as the guide is made of it in training and in use.

    Levels halve by exactly 2 and round up, so this doubles by exactly 2 and cuts: at an odd size, too, every pixel
    stays where it is.
    """
    while x.shape[-2] < size[0] or x.shape[-1] < size[1]:
        x = _doubled(x)
    return x[..., : size[0], : size[1]]


def _doubled(x: Tensor) -> Tensor:
    """Twice as large, bilinear between the centres of pixels: torch's interpolation, several times as fast."""
    if _is_exported():
        return F.interpolate(x, scale_factor=2, mode="bilinear")
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    left, middle, right = x[..., :-2], x[..., 1:-1], x[..., 2:]
    x = torch.stack([torch.lerp(middle, left, 0.25), torch.lerp(middle, right, 0.25)], dim=-1).flatten(-2)
    above, middle, below = x[..., :-2, :], x[..., 1:-1, :], x[..., 2:, :]
    return torch.stack([torch.lerp(middle, above, 0.25), torch.lerp(middle, below, 0.25)], dim=-2).flatten(-3, -2)


def make_denoiser(network: NetworkCall, known: Known, guide: Tensor | None = None) -> DenoiseFn:
    """The network as a denoiser (x_t, t) -> x0 for the samplers, told what is known as it was in training.

    In the plain mode x0 is predicted of all pixels; otherwise the known ones are as they are known.
    guide: (B, 3, H, W), a rough fill of the hole; by default the smooth fill. The plain network is not told of it.
    """
    diffusion, x0 = known.diffusion, known.x0

    def plain(x: Tensor, t: int) -> Tensor:
        return diffusion.predict_x0(x, t, network(x, _times(x, t)))

    if known.conditioning == "plain":
        return plain
    if guide is None:
        guide = smooth_fill(x0, (known.soft > 0).to(x0.dtype))

    is_residual = known.conditioning == "residual"

    def told(x: Tensor, t: int) -> Tensor:
        hole, xt = known.hole(t), x
        if is_residual:  # what add_noise(x0 - guide) is, for x = add_noise(x0)
            xt = x - diffusion.alpha_sigma(t, x)[0] * guide
        output = network(network_input(xt, x0, hole, guide), _times(x, t))
        predicted = diffusion.predict_x0(xt, t, output, LIMITS[known.conditioning])
        return around((guide + predicted).clamp(-1, 1) if is_residual else predicted, hole, x0)

    return told


def _times(x: Tensor, t: int) -> Tensor:
    return torch.full((x.shape[0],), t, device=x.device)
