"""Fewer steps for the same picture: a student learns to do in one step what its teacher does in two.

Progressive distillation (Salimans and Ho 2022, section 3 and algorithm 2, https://arxiv.org/abs/2202.00512), around
known pixels. The paper's student learns the N levels of its own way alone. This one learns all of them, each with a
step of T/N levels or what is left, so that it can begin at any: the finer levels of a large picture begin midway.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pixmend.checkpoint import Model
from pixmend.conditioning import LIMITS
from pixmend.diffusion import Diffusion
from pixmend.errors import OptionError


class Teacher:
    """A model, and the number of steps in which a student is to do what it does in twice as many."""

    def __init__(self, model: Model, steps: int, device: torch.device) -> None:
        T = model.diffusion.T
        if model.answers_the_mean:
            raise OptionError("the teacher answers the mean, in a single step; give one that needs many")
        if not 1 <= steps <= T // 2:
            raise OptionError(f"a student of {steps} steps is not possible; choose 1 to {T // 2} for this teacher")
        self.model, self.steps = model, steps
        self.network = model.network.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def target(self, xt: Tensor, t: Tensor, told: Callable[[Tensor], Tensor]) -> Tensor:
        """What the student is to answer at x_t: that from which one step of `ddim` leads where two of the teacher do.

        Those two are what sampling does but for its last touches: in the residual mode only the difference to the guide
        is cut, to [-2, 2], and not its sum with the guide as well, to [-1, 1]; and no noise is livened.
        xt: (B, 3, H, W), what is noised in the hole; t: (B,); told: makes of a state what the networks see of it.
        """
        diffusion = self.model.diffusion
        end = (t - round(diffusion.T / self.steps)).clamp(min=-1)
        middle = (t + end + 1) // 2  # t itself for t = 0
        x = step(diffusion, xt, self._x0(xt, t, told), t, middle)
        x = step(diffusion, x, self._x0(x, middle, told), middle, end)
        return diffusion.output_for(xt, t, source(diffusion, xt, x, t, end))

    def _x0(self, xt: Tensor, t: Tensor, told: Callable[[Tensor], Tensor]) -> Tensor:
        limit = LIMITS[self.model.conditioning]
        return self.model.diffusion.predict_x0(xt, t, self.network(told(xt), t).float(), limit)


def step(diffusion: Diffusion, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """A step of `ddim` without fresh noise, each picture from its own level t to its own s, both (B,)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = diffusion.alpha_sigma(t, xt), diffusion.alpha_sigma(s, xt)
    return alpha_s * x0 + sigma_s / sigma_t * (xt - alpha_t * x0)


def source(diffusion: Diffusion, xt: Tensor, xs: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The x0 for which `step` leads from xt to xs."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = diffusion.alpha_sigma(t, xt), diffusion.alpha_sigma(s, xt)
    kept = sigma_s / sigma_t
    return (xs - kept * xt) / (alpha_s - kept * alpha_t)
