"""Samplers: from noise to a picture, each one plain function without state.

All take a denoiser (x_t, t) -> x0 and never ask what is behind it. `times` are the levels to visit, from most to least
noise (`schedules.step_subset`); the step after the last one is the clean picture, written t = -1. `put_back(x, t, s)`
returns the state x, stepped from level t to s, with the known pixels put back at level s (`diffusion.Known`); with
s = -1 it is also given predicted pictures, and draws no noise. `callback(t, x, x0)` is told after every step towards
the picture. All take the same arguments; a sampler without fresh noise does not use `noise`.

alpha and sigma here are the signal's and the noise's share of x_t = alpha x0 + sigma eps: alpha^2 is the alpha_bar of
DDPM, and lambda = log(alpha / sigma), half of the log signal-to-noise ratio, is the time in which the solvers of higher
order take their steps. It is infinite for the clean picture, and for a start without any signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pixmend.diffusion import DenoiseFn, Diffusion, Noise
from pixmend.errors import OptionError
from pixmend.schedules import resampling_walk

PutBack = Callable[[Tensor, int, int], Tensor]
Callback = Callable[[int, Tensor, Tensor], None]
Liven = Callable[[Tensor], Tensor]


def _keep(x: Tensor, t: int, s: int) -> Tensor:
    return x


def _silent(t: int, x: Tensor, x0: Tensor) -> None:
    return None


def _steps(times: Sequence[int], diffusion: Diffusion) -> list[tuple[int, int]]:
    """From where to where each step goes, the last one to the clean picture; OptionError where times do not fall."""
    steps = list(pairwise([*times, -1]))
    if not steps or steps[0][0] >= diffusion.T or any(t <= s for t, s in steps):
        raise OptionError(
            f"the times {list(times)} are not possible; they fall, from {diffusion.T - 1} at most to 0 at least"
        )
    return steps


def ddpm(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    variance: Literal["small", "large"] = "small",
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """Ancestral sampling: every step draws from p(x_s | x_t, x0 predicted).

    Ho et al. 2020, algorithm 2 (https://arxiv.org/abs/2006.11239). Neither of the two variances of its section 3.2 is
    learnt: "small" is right if all pictures were the same one, "large" if they were white noise themselves.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    if variance not in ("small", "large"):
        raise OptionError(f"variance {variance!r} is not known; choose small or large")
    for t, s in _steps(times, diffusion):
        x0 = denoise(x, t)
        mean, std = diffusion.posterior(x, x0, t, s)
        if variance == "large" and s >= 0:
            std = (1 - diffusion.alpha_bar(t) / diffusion.alpha_bar(s)) ** 0.5
        x = put_back(mean + std * noise(x) if std > 0 else mean, t, s)
        callback(t, x, x0)
    return x


def ddim(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    eta: float = 0.0,
    liven: Liven | None = None,
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """Every step goes to the predicted picture with the predicted noise upon it, and eta of it new.

    Song et al. 2021, equation 12 (https://arxiv.org/abs/2010.02502): eta = 0 is deterministic, eta = 1 is `ddpm`.
    liven: a linear map applied to the predicted noise before it is added to the picture again: see `texture`.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    _check_eta(eta)
    for t, s in _steps(times, diffusion):
        x0 = denoise(x, t)
        if liven and s >= 0:
            picture = diffusion.alpha_bar(t) ** 0.5 * x0
            x = picture + liven(x - picture)
        x = put_back(_ddim_step(x, x0, t, s, diffusion, noise, eta), t, s)
        callback(t, x, x0)
    return x


def ddnm(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    eta: float = 0.85,
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """The known pixels are put into every predicted picture, clean, and not into the state.

    Wang et al. 2023, DDNM, equation 13 (https://arxiv.org/abs/2212.00490): for a hole, its projection is the known
    pixels beside the predicted ones. The step is not that of its algorithm 1, a draw of `ddpm`, but the one that its
    authors sample with (functions/svd_ddnm.py in https://github.com/wyhuai/DDNM), eta = 0.85 included: of the noise
    upon the picture the share eta is new, and the rest as it was predicted before the known pixels came in. That comes
    far nearer to the pictures that have the known pixels. For the plain mode: in the others the prediction holds the
    known pixels anyway, eta = 0 is `ddim`, and that does better at a soft edge, where pixels that join the hole on the
    way get the noise of their level.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    _check_eta(eta)
    for t, s in _steps(times, diffusion):
        x0, ab_t, ab_s = denoise(x, t), diffusion.alpha_bar(t), diffusion.alpha_bar(s)
        eps = (1 - eta**2) ** 0.5 / (1 - ab_t) ** 0.5 * (x - ab_t**0.5 * x0)
        if eta > 0 and s >= 0:
            eps = eps + eta * noise(x)
        x0 = put_back(x0, t, -1)
        x = ab_s**0.5 * x0 + (1 - ab_s) ** 0.5 * eps
        callback(t, x, x0)
    return x


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise OptionError(f"eta = {eta} is not possible; choose 0 (no new noise) to 1")


def _ddim_step(x: Tensor, x0: Tensor, t: int, s: int, diffusion: Diffusion, noise: Noise, eta: float) -> Tensor:
    ab_t, ab_s = diffusion.alpha_bar(t), diffusion.alpha_bar(s)
    std = eta * ((1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)) ** 0.5
    kept = max(0.0, 1 - ab_s - std**2) ** 0.5  # rounding may take the 0 of eta = 1 below it
    kept /= (1 - ab_t) ** 0.5  # of the predicted noise, (x - sqrt(ab_t) x0) / sqrt(1 - ab_t)
    x = (ab_s**0.5 - kept * ab_t**0.5) * x0 + kept * x
    return x + std * noise(x) if std > 0 else x


def dpmpp_2m(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """A deterministic solver of second order: what is predicted is taken to go on as it went since the last step.

    Lu et al. 2022, DPM-Solver++, algorithm 2 (https://arxiv.org/abs/2211.01095). First order at the first step, at
    the last, and at the one after a start without signal: where no prediction went before, or lambda is infinite. At a
    pixel that joins the hole on the way, at a soft edge, the first step is the one after it joined.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    last: Predicted | None = None
    for t, s in _steps(times, diffusion):
        now = Predicted(denoise(x, t), t, _lambda(diffusion, t))
        if last:
            last = _where_generated(last.t, last, now, put_back)
        x = put_back(_exponential_step(x, s, diffusion, now, last), t, s)
        last = now
        callback(t, x, now.x0)
    return x


def unipc(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """`dpmpp_2m`, each step of which is corrected by what is predicted at its end: third order for the same calls.

    Zhao et al. 2023, UniPC, algorithms 1 and 2 of order 2 for predicted pictures (https://arxiv.org/abs/2302.04867).
    A pixel that joins the hole on the way is taken to have been predicted before as it is when it joined.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    last: Predicted | None = None
    before: Predicted | None = None
    for t, s in _steps(times, diffusion):
        now = Predicted(denoise(x, t), t, _lambda(diffusion, t))
        if last:
            before = before and _where_generated(last.t, before, now, put_back)
            last = _where_generated(last.t, last, now, put_back)
            x = _corrected(x, diffusion.alpha_bar(t) ** 0.5, now, last, before)
        x = put_back(_exponential_step(x, s, diffusion, now, last), t, s)
        before, last = last, now
        callback(t, x, now.x0)
    return x


class Predicted(NamedTuple):
    """What a denoiser answered."""

    x0: Tensor
    t: int
    lambda_t: float


def _where_generated(t: int, then: Predicted, now: Predicted, put_back: PutBack) -> Predicted:
    """An earlier prediction; where pixels were still known at level t, and took no step from it, that of now instead.

    `put_back` alone knows which these are: it leaves the others as they are, and of these makes the same of anything.
    """
    joined = now.x0 - put_back(now.x0, t, -1)  # 0 at all others, exactly
    return then._replace(x0=put_back(then.x0, t, -1) + joined)


def _lambda(diffusion: Diffusion, t: int) -> float:
    """log(alpha / sigma) of a level, in [-inf, inf]."""
    ab = diffusion.alpha_bar(t)
    return math.inf if ab == 1 else -math.inf if ab == 0 else 0.5 * math.log(ab / (1 - ab))


def _exponential_step(x: Tensor, s: int, diffusion: Diffusion, now: Predicted, last: Predicted | None) -> Tensor:
    """From the level of now to s, exact for a prediction that is linear in lambda but for terms of third order."""
    x0, ab_t, ab_s = now.x0, diffusion.alpha_bar(now.t), diffusion.alpha_bar(s)
    h = _lambda(diffusion, s) - now.lambda_t
    if last and math.isfinite(h):
        x0 = torch.lerp(last.x0, x0, 1 + h / (2 * (now.lambda_t - last.lambda_t)))  # x0 for a `last` of lambda = -inf
    return torch.add(math.sqrt((1 - ab_s) / (1 - ab_t)) * x, x0, alpha=-math.sqrt(ab_s) * math.expm1(-h))


def _corrected(x: Tensor, alpha: float, now: Predicted, last: Predicted, before: Predicted | None) -> Tensor:
    """With what the step that led from `last` to `now` missed: the integral over the parabola through all three
    predictions, less what the step took for it.

    With B(h) = exp(h) - 1 in the paper's notation; rho_1 and rho_2 solve its linear equations for the two differences.
    """
    h = now.lambda_t - last.lambda_t
    if math.isinf(h):
        return x
    phi = -math.expm1(-h)
    if before is None:
        return torch.add(x, now.x0 - last.x0, alpha=alpha * phi / 2)
    r = (last.lambda_t - before.lambda_t) / h
    b1, b2 = 1 / phi - 1 / h, 1 / phi - 2 / (h * phi) + 2 / h**2
    rho_1 = (b1 - b2) / (1 + r)
    x = torch.add(x, now.x0 - last.x0, alpha=alpha * phi * (b1 - rho_1))
    return torch.add(x, last.x0 - before.x0, alpha=alpha * phi * (rho_1 - 0.5) / r)


def repaint(
    denoise: DenoiseFn,
    x: Tensor,
    times: Sequence[int],
    diffusion: Diffusion,
    *,
    noise: Noise,
    jump_length: int = 10,
    resamplings: int = 10,
    put_back: PutBack = _keep,
    callback: Callback = _silent,
) -> Tensor:
    """`ddpm`, but again and again the state is noised up by some levels and sampled anew, to agree with what is known.

    Lugmayr et al. 2022, RePaint, algorithm 1, with jumps (https://arxiv.org/abs/2201.09865): every `jump_length` levels
    the way down is gone `resamplings` times. Its defaults with 250 levels make 2,410 network calls. For the plain mode,
    where nothing else tells the hole what stands around it.
    x: (B, C, H, W), the state at times[0]. times: falling, from T - 1 at most to 0 at least.
    Returns the clean pictures, (B, C, H, W). Raises OptionError.
    """
    _steps(times, diffusion)
    levels = [*reversed(times), -1]  # the i-th from the picture on; levels[-1] is the picture itself
    for i, j in pairwise(resampling_walk(len(times), jump_length, resamplings)):
        t, s = levels[i], levels[j]
        if j < i:
            x0 = denoise(x, t)
            mean, std = diffusion.posterior(x, x0, t, s)
            x = put_back(mean + std * noise(x) if std > 0 else mean, t, s)
            callback(t, x, x0)
        else:
            kept = diffusion.alpha_bar(s) / diffusion.alpha_bar(t)
            x = put_back(kept**0.5 * x + (1 - kept) ** 0.5 * noise(x), s, s)
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "dpmpp-2m": dpmpp_2m,
    "unipc": unipc,
    "repaint": repaint,
    "ddnm": ddnm,
}


def visited_times(sampler: str, times: Sequence[int]) -> list[int]:
    """The levels at which a sampler of `SAMPLERS` calls the denoiser, in order, on its way through `times`."""
    if sampler != "repaint":
        return list(times)
    return [times[-1 - i] for i, j in pairwise(resampling_walk(len(times))) if j < i]


def network_calls(sampler: str, steps: int) -> int:
    """How often a sampler of `SAMPLERS` calls the denoiser on its way through `steps` levels."""
    return len(visited_times(sampler, range(steps)))
