"""The noise law x_t = x0 + eps t/T, and the ways back: in one step, and in many.

Noise is added and nothing is scaled, so the noise level of x_t is sigma = t/T: the "variance exploding" law of Song et
al. 2021 (https://arxiv.org/abs/2011.13456). t counts from 0, the clean picture, and may be any real number in between.

A *predictor* is any callable (x_t, t) -> eps: the noisy pictures (B, C, H, W) and their times (B,), to the noise that
it expects in them, (B, C, H, W). The best one in the mean square is E[eps | x_t].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pixmend.errors import OptionError
from pixmend.schedules import MOST_TIMES

Predictor = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[Tensor], Tensor]  # new standard normal noise of the shape, type and device of its argument


@dataclass(frozen=True)
class NoiseLaw:
    """x_t = x0 + eps t/T. Training draws the whole numbers 1 ... T-1; t = T would be noise of standard deviation 1."""

    T: int = 10

    def __post_init__(self) -> None:
        if self.T < 2:
            raise OptionError(f"T = {self.T} leaves no time between 1 and T - 1; give at least 2")
        if self.T > MOST_TIMES:
            raise OptionError(f"T = {self.T} times are too many; give at most {MOST_TIMES}")

    @property
    def times(self) -> range:
        """The times that training draws from."""
        return range(1, self.T)

    def sigma(self, t: float | Tensor, like: Tensor) -> Tensor:
        """The noise level t/T as (B or 1, 1, 1, 1), of the type and on the device of `like`."""
        return torch.as_tensor(t, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1) / self.T

    def add_noise(self, x0: Tensor, t: float | Tensor, noise: Tensor) -> Tensor:
        """x_t. x0, noise: (B, C, H, W); t: one time, or (B,)."""
        return x0 + self.sigma(t, x0) * noise

    def predict_x0(self, xt: Tensor, t: float | Tensor, eps: Tensor) -> Tensor:
        """The picture that is left when the noise eps is taken out of x_t."""
        return xt - self.sigma(t, xt) * eps


def single_step(predictor: Predictor, xt: Tensor, t: float, law: NoiseLaw) -> Tensor:
    """x0 in one step. With the best predictor this is E[x0 | x_t]: no result has a lower squared error."""
    return law.predict_x0(xt, t, predictor(xt, _times(t, xt)))


def multi_step(
    predictor: Predictor,
    xt: Tensor,
    times: Sequence[float],
    law: NoiseLaw,
    *,
    fresh: float = 0.0,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """x0 in steps along falling `times`, of which the first is that of `xt` and the last is 0.

    A step from t to s < t takes x0 predicted and puts noise of level sigma_s back on it:
        x_s = x0 + sqrt(sigma_s^2 - up^2) eps + up z,    up = fresh sigma_s sqrt(1 - sigma_s^2 / sigma_t^2),
    eps the predicted noise and z fresh. `fresh` = 0 is deterministic: Euler's method on the probability flow
    (DDIM, Song et al. 2021, https://arxiv.org/abs/2010.02502, equation 12, written for this law). `fresh` = 1 draws
    from p(x_s | x_t, x0), the analogue of DDPM (Ho et al. 2020, equation 7).
    """
    if not 0 <= fresh <= 1:
        raise OptionError(f"fresh = {fresh} is not possible; give 0, for no fresh noise, to 1")
    times = check_times(times)
    x = xt
    for t, s in pairwise(times):
        eps = predictor(x, _times(t, x))
        x0 = law.predict_x0(x, t, eps)
        if s == 0:
            return x0
        up = fresh * (s / law.T) * (1 - (s / t) ** 2) ** 0.5
        x = x0 + ((s / law.T) ** 2 - up**2) ** 0.5 * eps
        if up > 0:
            x = x + up * noise(x)
    return x


def whole_times(t: int) -> list[int]:
    """t, t - 1, ..., 1, 0: every level that the network was trained at, the default way down."""
    return list(range(t, -1, -1))


def check_times(times: Sequence[float]) -> Sequence[float]:
    """The times if they fall strictly from above 0 to 0, else OptionError."""
    falls = all(t > s for t, s in pairwise(times))
    if len(times) < 2 or times[-1] != 0 or not falls:
        raise OptionError(f"the times {list(times)} must fall, from that of the noisy picture down to 0")
    return times


def _times(t: float, like: Tensor) -> Tensor:
    return torch.full((len(like),), float(t), device=like.device)
