"""What a denoiser is measured by: loss, PSNR, SSIM and sharpness at every level of the law."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.data import sample_generator
from pixmend.denoising.cifar import Pixels
from pixmend.denoising.law import NoiseLaw, Predictor, multi_step, single_step, whole_times
from pixmend.errors import DataError
from pixmend.runtime import tune_allocator

BATCH = 100
SEED = 0
WAYS = {"deterministic": 0.0, "fresh_noise": 1.0}  # denoising in t steps, and how much fresh noise it uses

Progress = Callable[[int, int], None]  # done, of how many


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB: (B,). (B, C, H, W) in [-1, 1], so that the peak is 2."""
    error = ((x.clamp(-1, 1) - truth) ** 2).flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp(min=1e-12))


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, averaged over its channels and all places: (B,).

    Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861: a Gaussian window of sigma 1.5 cut to 11x11, k1 = 0.01,
    k2 = 0.03, black = 0 and white = L = 2, where the window lies wholly inside. (B, C, H, W) in [-1, 1], sides of at
    least 11.
    """
    offsets = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    channels = x.shape[1]

    def blurred(y: Tensor) -> Tensor:
        y = F.conv2d(y, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
        return F.conv2d(y, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)

    x = x.clamp(-1, 1)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mx, my = blurred(x), blurred(truth)
    vx, vy, cov = blurred(x * x) - mx**2, blurred(truth * truth) - my**2, blurred(x * truth) - mx * my
    lx, ly = mx + 1, my + 1  # from black = 0: unlike the rest, luminance is not free of the origin
    values = (2 * lx * ly + c1) * (2 * cov + c2) / ((lx**2 + ly**2 + c1) * (vx + vy + c2))
    return values.flatten(1).mean(dim=1)


def gradient(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, across and down, of each picture: (B,)."""
    x = x.clamp(-1, 1)
    across, down = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    return (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / (across[0].numel() + down[0].numel())


class _Sums:
    """Sums of named measures over pictures."""

    def __init__(self) -> None:
        self.of: dict[str, list[float]] = {}

    def add(self, name: str, values: Tensor) -> None:
        # summed on the CPU: MPS has no float64
        self.of.setdefault(name, []).append(float(values.cpu().double().sum()))

    def __getitem__(self, name: str) -> float:
        return math.fsum(self.of[name])


@torch.no_grad()
def evaluate(
    predictor: Predictor,
    pictures: Pixels,
    law: NoiseLaw,
    *,
    many_steps: int = 0,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Loss, PSNR and SSIM on pictures (N, 3, H, W) uint8, the noise of every level drawn from a fixed seed.

    Returns `loss`, the mean over t as in training; `pictures`; and `levels`, for every t: t, sigma, loss, psnr_noisy,
    psnr, ssim, sharpness (gradient of the denoised pictures over that of the clean ones; 1 = as sharp). With
    `many_steps`, of that many of the pictures also `many_steps`: for every t and each way psnr, ssim and sharpness.
    """
    if len(pictures) == 0:
        raise DataError("there are no pictures to test on; give CIFAR-10, or a folder of more pictures")
    tune_allocator()
    device = device or torch.device("cpu")
    levels, ways = [], []
    total = law.T - 1
    for t in law.times:
        levels.append(_level(predictor, pictures, t, law, device))
        if many_steps:
            ways.append(_ways(predictor, pictures[:many_steps], t, law, device))
        if progress:
            progress(t, total)
    result = {"loss": math.fsum(row["loss"] for row in levels) / total, "pictures": len(pictures), "levels": levels}
    return {**result, "many_steps": ways} if many_steps else result


def _level(predictor: Predictor, pictures: Pixels, t: int, law: NoiseLaw, device: torch.device) -> dict[str, float]:
    sums, count = _Sums(), len(pictures)
    for x0, noise in _batches(pictures, t, device):
        xt = law.add_noise(x0, t, noise)
        eps = predictor(xt, torch.full((len(xt),), float(t), device=device)).float()
        out = law.predict_x0(xt, t, eps)
        sums.add("loss", ((eps - noise) ** 2).flatten(1).mean(1))
        sums.add("psnr_noisy", psnr(xt, x0))
        _add_quality(sums, out, x0)
    means = {name: sums[name] / count for name in ("loss", "psnr_noisy")}
    return {"t": t, "sigma": t / law.T, **means, **_quality(sums, count)}


def _ways(predictor: Predictor, pictures: Pixels, t: int, law: NoiseLaw, device: torch.device) -> dict[str, Any]:
    sums = {name: _Sums() for name in ("single", *WAYS)}
    generator = torch.Generator().manual_seed(SEED)
    for x0, noise in _batches(pictures, t, device):
        xt = law.add_noise(x0, t, noise)
        _add_quality(sums["single"], single_step(predictor, xt, t, law), x0)
        for name, fresh in WAYS.items():
            out = multi_step(
                predictor,
                xt,
                whole_times(t),
                law,
                fresh=fresh,
                noise=lambda x: torch.randn(x.shape, generator=generator).to(x),
            )
            _add_quality(sums[name], out, x0)
    return {"t": t, "pictures": len(pictures), **{name: _quality(s, len(pictures)) for name, s in sums.items()}}


def _add_quality(sums: _Sums, out: Tensor, truth: Tensor) -> None:
    sums.add("psnr", psnr(out, truth))
    sums.add("ssim", ssim(out, truth))
    sums.add("gradient", gradient(out))
    sums.add("true_gradient", gradient(truth))


def _quality(sums: _Sums, count: int) -> dict[str, float]:
    sharpness = sums["gradient"] / max(sums["true_gradient"], 1e-12)
    return {"psnr": sums["psnr"] / count, "ssim": sums["ssim"] / count, "sharpness": sharpness}


def _batches(pictures: Pixels, t: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures in [-1, 1] and noise, (B, 3, H, W) each; the noise of the k-th picture at level t is always the same."""
    for start in range(0, len(pictures), BATCH):
        x0 = torch.from_numpy(pictures[start : start + BATCH]).to(device).float() / 127.5 - 1
        rng = sample_generator(SEED + t, start // BATCH)
        noise = torch.from_numpy(rng.standard_normal(tuple(x0.shape), "float32")).to(device)
        yield x0, noise
