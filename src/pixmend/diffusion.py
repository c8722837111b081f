"""The diffusion process: adding noise, and one step of taking it away around known pixels.

x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, t = 0 ... T-1 from least to most noise; the step after t = 0 is
the clean picture, written t = -1, with alpha_bar = 1 (Ho et al. 2020, equation 4, https://arxiv.org/abs/2006.11239).

A *denoiser*, here and in the samplers, is any callable (x_t, t) -> x0: the noisy pictures (B, C, H, W) and one integer
time for all of them, to the clean pictures that it predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from pixmend.errors import OptionError
from pixmend.schedules import check_betas, make_betas

DenoiseFn = Callable[[Tensor, int], Tensor]
Noise = Callable[[Tensor], Tensor]  # new standard normal noise of the shape, type and device of its argument

Factor = float | Tensor  # what a picture is multiplied by

Prediction = Literal["v", "x0", "eps"]
Conditioning = Literal["residual", "known-aware", "plain"]


def around(inside: Tensor, hole: Tensor, outside: Tensor) -> Tensor:
    """`inside` where hole is 1 and `outside` where it is 0, exactly, if both are finite: four times as fast as
    `torch.where`. inside, outside: (B, C, H, W); hole: (B, 1, H, W) of 0 and 1.
    """
    return torch.lerp(outside, inside, hole)


class Diffusion:
    """The noise schedule and everything that follows from it alone.

    schedule: "linear", "cosine" or "zero-terminal", of T noise levels (by default 1000), or the betas themselves, (T,).
    prediction: what the network's output means: the velocity v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0
        (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512), the picture x0, or the noise eps.
    betas, alphas, alpha_bars: float64 (T,) on the CPU. They are no parameters of the network: an average over training
        steps must not touch them.
    Raises OptionError: for a schedule or prediction that is not known, T below 2 for a schedule by name, betas outside
    of (0, 1), but the last may be 1, or with which two levels are alike in float64, and eps with a schedule that ends
    without signal.
    """

    def __init__(self, schedule: str | Tensor = "cosine", T: int | None = None, prediction: Prediction = "v") -> None:
        if prediction not in get_args(Prediction):
            raise OptionError(f"prediction {prediction!r} is not known; choose {', '.join(get_args(Prediction))}")
        self.schedule = schedule if isinstance(schedule, str) else "custom"
        if isinstance(schedule, str):
            self.betas = make_betas(schedule, 1000 if T is None else T)
        else:
            self.betas = check_betas(schedule)
            if T not in (None, len(self.betas)):
                raise OptionError(f"T = {T} does not fit {len(self.betas)} betas; leave it out")
        self.alphas = 1 - self.betas
        self.alpha_bars = torch.cumprod(self.alphas, 0)
        ratio = torch.log(self.alpha_bars / (1 - self.alpha_bars))  # of signal to noise: twice the samplers' lambda
        if not bool(torch.isfinite(ratio[:-1]).all()) or bool((ratio.diff() >= 0).any()):
            raise OptionError(
                "the noise of this schedule does not grow from each level to the next in numbers of 64 bits; give "
                "betas that are not as small, or not as large"
            )
        self._numbers: list[float] = [*self.alpha_bars.tolist(), 1.0]  # index -1 is the clean picture
        self._of_times = torch.tensor(self._numbers, dtype=torch.float64)
        self.prediction: Prediction = prediction
        if prediction == "eps" and self.alpha_bars[-1] == 0:
            raise OptionError(
                "eps cannot be predicted with zero terminal signal, x0 would be 0/0 at the last t; choose v or x0"
            )

    @property
    def T(self) -> int:
        """The number of noise levels."""
        return len(self.betas)

    def alpha_sigma(self, t: int | Tensor, like: Tensor) -> tuple[Factor, Factor]:
        """alpha_t = sqrt(alpha_bar_t) and sigma_t = sqrt(1 - alpha_bar_t), to multiply `like` with.

        Two numbers, or (B, 1, 1, 1) both.

        t: one time, or one for each picture, each in -1 ... T-1.
        """
        if isinstance(t, int) and -1 <= t < self.T:  # the samplers' way, without work on tensors
            a_t = self.alpha_bar(t)
            return a_t**0.5, (1 - a_t) ** 0.5
        times = torch.as_tensor(t).reshape(-1).cpu()
        if times.numel() and not (-1 <= int(times.min()) and int(times.max()) < self.T):
            raise OptionError(f"times {times.min()} to {times.max()} are outside of -1 (clean) to {self.T - 1}")
        a = self._of_times[times, None, None, None]
        return a.sqrt().to(like), (1 - a).sqrt().to(like)

    def add_noise(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """x_t from x0 in one step (Ho et al. 2020, equation 4). x0, noise: (B, C, H, W); t: int or (B,)."""
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """What the network is to answer to add_noise(x0, t, noise). x0, noise: (B, C, H, W); t: int or (B,)."""
        if self.prediction == "x0":
            return x0
        if self.prediction == "eps":
            return noise
        alpha, sigma = self.alpha_sigma(t, x0)
        return alpha * noise - sigma * x0

    def predict_x0(self, xt: Tensor, t: int | Tensor, output: Tensor, limit: float = 1.0) -> Tensor:
        """What the network's output says x0 is, clamped to [-limit, limit]: for pictures, [-1, 1].

        xt, output: (B, C, H, W); t: int or (B,).
        """
        alpha, sigma = self.alpha_sigma(t, xt)
        if self.prediction == "x0":
            x0 = output
        elif self.prediction == "eps":
            x0 = (xt - sigma * output) / alpha
        else:
            x0 = alpha * xt - sigma * output
        return x0.clamp(-limit, limit)

    def output_for(self, xt: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
        """The output at xt for which `predict_x0` is x0, where nothing is clamped. x0, xt: (B, C, H, W)."""
        alpha, sigma = self.alpha_sigma(t, xt)
        if self.prediction == "x0":
            return x0
        if self.prediction == "eps":
            return (xt - alpha * x0) / sigma
        return (alpha * xt - x0) / sigma

    def alpha_bar(self, t: int) -> float:
        """alpha_bar_t as a number; t from 0 to T - 1, or -1, the clean picture, where it is 1. Raises OptionError."""
        if not -1 <= t < self.T:
            raise OptionError(f"t = {t} is outside of -1 (clean) to {self.T - 1}")
        return self._numbers[t]

    def posterior(self, xt: Tensor, x0: Tensor, t: int, s: int) -> tuple[Tensor, float]:
        """Mean and standard deviation of p(x_s | x_t, x0) for any earlier time s < t; x0 itself and 0 for s = -1.

        Ho et al. 2020, equations 6 and 7, for steps of any length: there, s = t - 1.
        """
        if not -1 <= s < t < self.T:
            raise OptionError(f"a step from t = {t} to {s} is not possible; t falls, from {self.T - 1} at most to -1")
        ab_t, ab_s = self.alpha_bar(t), self.alpha_bar(s)
        kept = ab_t / ab_s  # the product of the alphas between s and t
        mean = (ab_s**0.5 * (1 - kept) / (1 - ab_t)) * x0 + (kept**0.5 * (1 - ab_s) / (1 - ab_t)) * xt
        return mean, ((1 - kept) * (1 - ab_s) / (1 - ab_t)) ** 0.5

    def denoise_step(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        xt: Tensor,
        t: int,
        *,
        known: Tensor,
        mask: Tensor,
        noise: Noise = torch.randn_like,
    ) -> Tensor:
        """One step of the reverse process, x_t to x_{t-1}, around known pixels: the plain mode.

        The network sees x_t and t alone, (B, 3, H, W) and (B,). Where mask is 0, x_{t-1} is `known` with noise of the
        level t - 1; where it is 1, a draw of p(x_{t-1} | x_t, x0 predicted). At t = 0 the result is x0 itself, the
        known pixels exact. known: (B, 3, H, W) in [-1, 1]; mask: (B, 1, H, W) of 0 and 1.
        """
        x0 = self.predict_x0(xt, t, network(xt, torch.full((len(xt),), t, device=xt.device)))
        mean, std = self.posterior(xt, x0, t, t - 1)
        x = mean + std * noise(xt) if std > 0 else mean
        return Known(known, mask, self, "plain", noise).put_back(x, t, t - 1)


@dataclass(frozen=True)
class Known:
    """What is known of the pictures, and how it is put back at every step.

    x0: (B, 3, H, W) in [-1, 1]; what it holds in the hole is never used, but has to be finite.
    soft: (B, 1, H, W) in [0, 1]: 1 in the hole, falling off around it. A pixel is generated at level t when soft > 0
        and soft >= (t + 1) / T: the hole from the start, its edge later, entering with the noise of that level upon
        its own value, so that at every step each pixel is either known or generated (Levin and Fried 2023,
        Differential Diffusion, https://arxiv.org/abs/2306.00950).
    """

    x0: Tensor
    soft: Tensor
    diffusion: Diffusion
    conditioning: Conditioning
    noise: Noise

    def hole(self, t: int) -> Tensor:
        """The pixels that are generated at level t: (B, 1, H, W), 0 or 1."""
        if not self.is_soft:
            return self.soft
        return ((self.soft > 0) & (self.soft >= (t + 1) / self.diffusion.T)).to(self.soft.dtype)

    @cached_property
    def is_soft(self) -> bool:
        """Whether the hole grows while noise falls."""
        return bool(self.soft.frac().any())

    def start(self, t: int) -> Tensor:
        """The state at level t that sampling starts from: pure noise in the hole."""
        return self._around(self.noise(self.x0), self.hole(t), t)

    def put_back(self, x: Tensor, t: int, s: int) -> Tensor:
        """x, stepped from level t to s, with all that was known at level t put back at level s; exact at s = -1."""
        return self._around(x, self.hole(t), s)

    def _around(self, x: Tensor, hole: Tensor, s: int) -> Tensor:
        if s < 0 or (self.conditioning != "plain" and not self.is_soft):  # nothing noisy stands around the hole
            return around(x, hole, self.x0)
        noised = self.diffusion.add_noise(self.x0, s, self.noise(x))
        if self.conditioning != "plain":  # known pixels stay clean, but those that join the hole at s
            noised = around(noised, self.hole(s), self.x0)
        return around(x, hole, noised)
