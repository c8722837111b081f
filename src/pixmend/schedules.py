"""How much noise at which time: the betas, and which times a sampler visits.

A schedule is the float64 array of variances beta_t, t = 0 ... T-1, that one step of the forward process adds:
x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise, where x_{-1} is the clean picture (Ho et al. 2020, equation 2,
https://arxiv.org/abs/2006.11239).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pixmend.errors import OptionError

MOST_TIMES = 100_000  # a hundred times as many as is usual; a damaged number asks for all memory


def linear_betas(T: int) -> Tensor:
    """Ho et al. 2020, section 4: from 1e-4 to 0.02 at T = 1000, at other T times 1000 / T, the last at most 0.999.

    So all T of some hundreds and more end on about as much noise; fewer levels do not.
    """
    scale = 1000 / T
    return torch.linspace(1e-4 * scale, min(0.02 * scale, 0.999), T, dtype=torch.float64)


def cosine_betas(T: int, s: float = 0.008, largest: float = 0.999) -> Tensor:
    """Nichol and Dhariwal 2021, equation 17 (https://arxiv.org/abs/2102.09672); no beta above `largest`."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bars = torch.cos((u + s) / (1 + s) * (math.pi / 2)) ** 2
    return (1 - alpha_bars[1:] / alpha_bars[:-1]).clamp(max=largest)


def zero_terminal_betas(T: int) -> Tensor:
    """The linear schedule, stretched so that nothing of the picture is left at t = T-1."""
    return stretched_to_zero(linear_betas(T))


def stretched_to_zero(betas: Tensor) -> Tensor:
    """A schedule of which nothing of the picture is left at t = T-1: its alpha_bar is exactly 0.

    Lin et al. 2023, algorithm 1 (https://arxiv.org/abs/2305.08891): the square roots of alpha_bar are shifted and
    scaled so that the last is 0 and the first stays.
    """
    roots = torch.cumprod(1 - betas, 0).sqrt()
    roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
    alpha_bars = roots**2
    return 1 - torch.cat([alpha_bars[:1], alpha_bars[1:] / alpha_bars[:-1]])


SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "zero-terminal": zero_terminal_betas,
}


def make_betas(schedule: str, T: int) -> Tensor:
    """The betas of a schedule by name: (T,), float64, each in (0, 1], increasing noise. Needs T >= 2."""
    if schedule not in SCHEDULES:
        raise OptionError(f"schedule {schedule!r} is not known; choose one of {', '.join(SCHEDULES)}")
    if T < 2:
        raise OptionError(f"T = {T} noise levels are too few; give at least 2")
    if T > MOST_TIMES:
        raise OptionError(f"T = {T} noise levels are too many; give at most {MOST_TIMES}")
    return check_betas(SCHEDULES[schedule](T))


def check_betas(betas: Tensor) -> Tensor:
    """The betas as float64, if they are a schedule: every one in (0, 1), but the last may be 1."""
    betas = betas.to(torch.float64)
    if betas.ndim != 1 or len(betas) < 1:
        raise OptionError(f"betas of shape {tuple(betas.shape)} are no schedule; give one or more in a row")
    is_finite, least = bool(torch.isfinite(betas).all()), torch.finfo(torch.float64).eps
    if not is_finite or betas.min() < least or (betas[:-1] >= 1).any() or betas[-1] > 1:  # 1 - beta is to be below 1
        raise OptionError(
            f"betas from {betas.min():g} to {betas.max():g} are no schedule; "
            f"each must lie in (0, 1), of at least {least:.1g}; only the last may be 1"
        )
    return betas


def step_subset(T: int, steps: int) -> list[int]:
    """The times that a sampler of `steps` steps visits: from T-1 down, evenly spaced, each once.

    The last is chosen so that the step from it to the clean picture is as long as the others ("trailing" in Lin et
    al. 2023, table 2): with few steps, the first has to start from pure noise, or it is told a level that is not there.
    """
    if not 1 <= steps <= T:
        raise OptionError(f"{steps} steps are not possible; choose 1 to {T}, the number of noise levels of this model")
    return [round(T - i * T / steps) - 1 for i in range(steps)]


def resampling_walk(steps: int, jump_length: int = 10, resamplings: int = 10) -> list[int]:
    """The way of RePaint through `steps` levels, counted from 0, the one next to the clean picture, which is -1.

    One level down at a time, from steps - 1 to -1; but from a level that is a multiple of jump_length a jump of so many
    levels up again, until the way down to it was gone `resamplings` times.
    Lugmayr et al. 2022, section 4.2 and appendix B (https://arxiv.org/abs/2201.09865).
    """
    if steps < 1 or jump_length < 1 or resamplings < 1:
        raise OptionError(
            f"{steps} steps, jumps of {jump_length} levels and {resamplings} resamplings are no walk; "
            "each must be at least 1"
        )
    again = dict.fromkeys(range(0, steps - jump_length, jump_length), resamplings - 1)
    walk = [steps - 1]
    while walk[-1] >= 0:
        if again.get(walk[-1], 0) > 0:
            again[walk[-1]] -= 1
            walk.append(walk[-1] + jump_length)
        else:
            walk.append(walk[-1] - 1)
    return walk
