"""Samplers: from noise to a picture, each one plain function without state.

All take a denoiser (x_t, t) -> x0 and never ask what is behind it. `times` are the levels to visit, from most to least
noise (`schedules.step_subset`); the step after the last one is the clean picture, written t = -1. `put_back(x, t, s)`
returns the state x, stepped from level t to s, with the known pixels put back at level s (`diffusion.Known`).
`callback(t, x, x0)` is told after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from pixmend.diffusion import Denoiser, Diffusion, Noise
from pixmend.errors import OptionError

PutBack = Callable[[Tensor, int, int], Tensor]
Callback = Callable[[int, Tensor, Tensor], None]


def _keep(x: Tensor, t: int, s: int) -> Tensor:
    return x


def ddpm(
    denoise: Denoiser,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    put_back: PutBack = _keep,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling: every step draws from p(x_s | x_t, x0 predicted).

    Ho et al. 2020, algorithm 2 (https://arxiv.org/abs/2006.11239), with the smaller of its two variances.
    x: (B, C, H, W), the state at times[0]. Returns the clean pictures, (B, C, H, W).
    """
    for t, s in pairwise([*times, -1]):
        x0 = denoise(x, t)
        mean, std = diffusion.posterior(x, x0, t, s)
        x = put_back(mean + std * noise(x) if std > 0 else mean, t, s)
        if callback:
            callback(t, x, x0)
    return x


def ddim(
    denoise: Denoiser,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    eta: float = 0.0,
    put_back: PutBack = _keep,
    callback: Callback | None = None,
) -> Tensor:
    """Every step goes to the predicted picture with the predicted noise upon it, and eta of it new.

    Song et al. 2021, equation 12 (https://arxiv.org/abs/2010.02502): eta = 0 is deterministic, eta = 1 is `ddpm`.
    x: (B, C, H, W), the state at times[0]. Returns the clean pictures, (B, C, H, W).
    """
    if not 0 <= eta <= 1:
        raise OptionError(f"eta = {eta} is not possible; choose 0 (deterministic) to 1 (as in DDPM)")
    for t, s in pairwise([*times, -1]):
        x0 = denoise(x, t)
        ab_t, ab_s = diffusion.alpha_bar(t), diffusion.alpha_bar(s)
        eps = (x - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5
        std = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)) ** 0.5
        kept = max(0.0, 1 - ab_s - std**2) ** 0.5  # rounding may take the 0 of eta = 1 below it
        x = ab_s**0.5 * x0 + kept * eps
        x = put_back(x + std * noise(x) if std > 0 else x, t, s)
        if callback:
            callback(t, x, x0)
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddpm": ddpm, "ddim": ddim}
