"""Pictures from a known Gaussian, and noise that turns a sampler into the affine map that it is for them.

For a denoiser that is affine in x_t every step of a sampler is affine in the state and in its noise. `Impulses` feeds
the sampler the unit vectors instead of noise: what comes out is the map itself, so that mean and covariance of what the
sampler draws are exact numbers, with no statistics.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pixmend.diffusion import DenoiseFn, Diffusion

SHAPE = (3, 2, 3)  # of one picture
D = math.prod(SHAPE)
HOLE = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
IN_HOLE = HOLE.expand(SHAPE).flatten() > 0  # of the D values of a picture


def float64(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def even_angles(T: int) -> Diffusion:
    """alpha_bar = cos(angle)^2 with the angle in even steps up to a right one: smooth, and pure noise at the end."""
    alpha_bars = torch.cos(torch.arange(T + 1, dtype=torch.float64) / T * math.pi / 2) ** 2
    alpha_bars[-1] = 0
    return Diffusion(1 - alpha_bars[1:] / alpha_bars[:-1])


def even_lambdas(T: int) -> Diffusion:
    """lambda, half the log signal-to-noise ratio, in T even steps from 9, all but clean, to -9, all but pure noise."""
    alpha_bars = torch.sigmoid(2 * torch.linspace(9, -9, T + 1, dtype=torch.float64))
    return Diffusion(1 - torch.cat([alpha_bars[:1], alpha_bars[1:] / alpha_bars[:-1]]))


class Gaussian:
    """Pictures of D values with a known mean and covariance, and the denoiser E[x0 | x_t] that is best for them."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance

    def gain(self, alpha_bar: float) -> Tensor:
        """How E[x0 | x] grows with x, at a noise level: (n, n)."""
        noisy = alpha_bar * self.covariance + (1 - alpha_bar) * torch.eye(len(self.mean), dtype=torch.float64)
        gain: Tensor = math.sqrt(alpha_bar) * torch.linalg.solve(noisy, self.covariance).T
        return gain

    def expected(self, x: Tensor, alpha_bar: float) -> Tensor:
        """x: (B, n) at the noise level; E[x0 | x], (B, n)."""
        return self.mean + (x - math.sqrt(alpha_bar) * self.mean) @ self.gain(alpha_bar).T

    def denoiser(self, diffusion: Diffusion) -> DenoiseFn:
        return lambda x, t: self.expected(x.flatten(1), diffusion.alpha_bar(t)).reshape(x.shape)

    def given(self, known: Tensor, hole: Tensor) -> Gaussian:
        """The values in the hole, given those outside of it. known: (D - n,); hole: (D,) of bool."""
        c = self.covariance
        slope = torch.linalg.solve(c[~hole][:, ~hole], c[~hole][:, hole]).T  # (n, D - n)
        mean = self.mean[hole] + slope @ (known - self.mean[~hole])
        return Gaussian(mean, c[hole][:, hole] - slope @ c[~hole][:, hole])


def a_gaussian() -> Gaussian:
    """Standard deviations from 0.1 to 0.8 along axes of no special direction, about a mean that is not 0."""
    axes, _ = torch.linalg.qr(float64(D, D, seed=0))
    spread = torch.linspace(0.1, 0.8, D, dtype=torch.float64)
    return Gaussian(0.3 * float64(D, seed=1), axes @ (spread**2).diag() @ axes.T)


class Impulses:
    """Noise whose k-th draw is 1 in one value of each of its own D pictures, and 0 elsewhere; one picture is all 0.

    Draws that are not used change nothing.
    """

    def __init__(self, draws: int) -> None:
        self.batch, self.left = draws * D + 1, draws

    def __call__(self, x: Tensor) -> Tensor:
        self.left -= 1
        assert self.left >= 0
        noise = torch.zeros(self.batch, D, dtype=torch.float64)
        noise[self.left * D : (self.left + 1) * D] = torch.eye(D, dtype=torch.float64)
        return noise.reshape(x.shape)

    def like(self) -> Tensor:
        return torch.zeros(self.batch, *SHAPE, dtype=torch.float64)


def drawn(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what a sampler draws, from what it made of `Impulses`."""
    assert pictures.dtype == torch.float64
    values = pictures.flatten(1)
    mean, responses = values[-1], values[:-1] - values[-1]
    return mean, responses.T @ responses
