"""Known pixels in the plain mode, where the network is not told of them: what the samplers draw then, exactly.

Putting noised known pixels back at every step does not draw from the pictures that have these known pixels, and
resampling (RePaint) only comes nearer. For pictures from a Gaussian every step is affine, so mean and covariance of
what is drawn obey a recursion, which is written here from the papers, with matrices, and compared with the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussians import HOLE, IN_HOLE, SHAPE, D, Gaussian, Impulses, a_gaussian, drawn, even_angles, float64
from pixmend.diffusion import Diffusion, Known
from pixmend.samplers import ddnm, ddpm, repaint
from pixmend.schedules import resampling_walk, step_subset

Array = NDArray[np.float64]
TRUTH = float64(D, seed=5)


def jump_schedule(steps: int, jump_length: int, resamplings: int) -> Iterator[int]:
    """The times of RePaint, appendix B: t falls by one; at every jump_length-th it rises again, one by one."""
    jumps = {}
    for start in range(0, steps - jump_length, jump_length):
        jumps[start] = resamplings - 1
    t = steps
    while t >= 1:
        t -= 1
        yield t
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump_length):
                t += 1
                yield t
    yield -1


class Recursion:
    """Mean and covariance of the state, known pixels put back, at a level."""

    def __init__(self, true: Gaussian, diffusion: Diffusion, t: int) -> None:
        self.mu, self.sigma = true.mean.numpy(), true.covariance.numpy()
        self.alpha_bar = {-1: 1.0} | dict(enumerate(np.cumprod(1 - diffusion.betas.numpy())))
        self.mean, self.covariance, self.t = np.zeros(D), np.eye(D), t
        self.put_back()

    def put_back(self) -> None:
        """Known pixels: their value, shrunk, with new noise of the level; of no relation to the others."""
        known, a = ~IN_HOLE.numpy(), self.alpha_bar[self.t]
        self.mean[known] = np.sqrt(a) * TRUTH.numpy()[known]
        self.covariance[known, :] = self.covariance[:, known] = 0
        self.covariance[known, known] = 1 - a

    def predicted(self) -> tuple[Array, Array]:
        """E[x0 | x] = gain x + offset at this level."""
        a = self.alpha_bar[self.t]
        gain = np.sqrt(a) * self.sigma @ np.linalg.inv(a * self.sigma + (1 - a) * np.eye(D))
        return gain, self.mu - np.sqrt(a) * gain @ self.mu

    def map(self, slope: Array, offset: Array, variance: float) -> None:
        self.mean = slope @ self.mean + offset
        self.covariance = slope @ self.covariance @ slope.T + variance * np.eye(D)

    def down(self, s: int) -> None:
        """Ho et al. 2020, equations 6 and 7, from t to s; then the known pixels of level s."""
        a, b = self.alpha_bar[self.t], self.alpha_bar[s]
        of_x0, of_xt = np.sqrt(b) * (1 - a / b) / (1 - a), np.sqrt(a / b) * (1 - b) / (1 - a)
        gain, offset = self.predicted()
        self.map(of_x0 * gain + of_xt * np.eye(D), of_x0 * offset, (1 - a / b) * (1 - b) / (1 - a))
        self.t = s
        self.put_back()

    def up(self, s: int) -> None:
        """One step of the forward process, known pixels and all."""
        kept = self.alpha_bar[s] / self.alpha_bar[self.t]
        self.map(np.sqrt(kept) * np.eye(D), np.zeros(D), 1 - kept)
        self.t = s

    def go(self, times: Sequence[int]) -> tuple[Array, Array]:
        for s in times:
            (self.down if s < self.t else self.up)(s)
        return self.mean, self.covariance


def sampled(sampler: Callable[..., Tensor], diffusion: Diffusion, times: Sequence[int], draws: int) -> Any:
    true, noise = a_gaussian(), Impulses(draws)
    shown = torch.where(IN_HOLE, 1e6, TRUTH).reshape(1, *SHAPE).expand(noise.batch, *SHAPE)
    known = Known(shown, HOLE.expand(noise.batch, 1, 2, 3), diffusion, "plain", noise)
    x = sampler(true.denoiser(diffusion), known.start(times[0]), times, diffusion, noise=noise, put_back=known.put_back)
    assert torch.equal(x.flatten(1)[:, ~IN_HOLE], TRUTH[~IN_HOLE].expand(noise.batch, -1)), "known pixels are exact"
    return drawn(x)


@pytest.mark.parametrize("steps", [3, 10, 30])
def test_putting_back_follows_the_recursion(steps: int) -> None:
    diffusion = Diffusion("linear", T=100)
    times = step_subset(100, steps)
    mean, covariance = sampled(ddpm, diffusion, times, draws=2 + 3 * steps)
    wanted_mean, wanted_covariance = Recursion(a_gaussian(), diffusion, times[0]).go([*times[1:], -1])
    np.testing.assert_allclose(mean, wanted_mean, rtol=0, atol=1e-11)
    np.testing.assert_allclose(covariance, wanted_covariance, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("jump_length", "resamplings"), [(1, 3), (4, 2), (5, 4), (10, 10), (40, 4)])
def test_resampling_follows_the_recursion(jump_length: int, resamplings: int) -> None:
    """The code jumps up at once; the paper, and the recursion, go level by level with the known pixels on board."""
    diffusion = even_angles(20)
    walk = list(jump_schedule(20, jump_length, resamplings))
    sampler = partial(repaint, jump_length=jump_length, resamplings=resamplings)
    mean, covariance = sampled(sampler, diffusion, range(19, -1, -1), draws=3 * len(walk))
    wanted_mean, wanted_covariance = Recursion(a_gaussian(), diffusion, 19).go(walk[1:])
    np.testing.assert_allclose(mean, wanted_mean, rtol=0, atol=1e-11)
    np.testing.assert_allclose(covariance, wanted_covariance, rtol=0, atol=1e-11)


def resampled(levels: int) -> list[tuple[float, float]]:
    """How far mean and covariance are from the conditional ones after R = 1, 4 and 10 resamplings."""
    diffusion, conditional = even_angles(levels), a_gaussian().given(TRUTH[~IN_HOLE], IN_HOLE)
    hole, errors = IN_HOLE.numpy(), []
    for resamplings in (1, 4, 10):
        walk = list(jump_schedule(levels, 10, resamplings))
        mean, covariance = Recursion(a_gaussian(), diffusion, levels - 1).go(walk[1:])  # as the code, tested above
        mean_error = float(np.linalg.norm(mean[hole] - conditional.mean.numpy()))
        errors.append((mean_error, float(np.linalg.norm(covariance[hole][:, hole] - conditional.covariance.numpy()))))
    return errors


def test_resampling_comes_nearer_to_the_conditional() -> None:
    """R = 1, 4, 10: what is drawn comes nearer to the pictures that have the known pixels, and does not get there."""
    mean_errors, covariance_errors = zip(*resampled(500), strict=True)
    for plain, four, ten in (mean_errors, covariance_errors):
        assert plain > 1.5 * four > 2.25 * ten
    assert mean_errors[2] > 0.1 * mean_errors[0], "and is still far from it"


@pytest.mark.parametrize("levels", [50, 250])
def test_with_fewer_levels_resampling_brings_the_mean_alone_nearer(levels: int) -> None:
    """RePaint's own 250 are few: each resampling adds an error of the ancestral steps to the covariance."""
    (_, (four_mean, four_covariance), (ten_mean, ten_covariance)) = resampled(levels)
    assert ten_mean < 0.9 * four_mean
    assert ten_covariance > four_covariance


def test_one_resampling_is_plain_putting_back() -> None:
    diffusion = even_angles(12)
    for a, b in zip(
        *(sampled(s, diffusion, range(11, -1, -1), 40) for s in (ddpm, partial(repaint, resamplings=1))), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("steps", "jump_length", "resamplings"), [(250, 10, 10), (250, 10, 1), (20, 4, 3), (7, 3, 2)])
def test_the_walk_is_that_of_the_paper(steps: int, jump_length: int, resamplings: int) -> None:
    """Without the levels between, on the way up."""
    paper = list(jump_schedule(steps, jump_length, resamplings))
    later = [*paper[1:], -2]
    turns = [t for i, t in enumerate(paper) if i == 0 or t < paper[i - 1] or later[i] < t]
    assert resampling_walk(steps, jump_length, resamplings) == turns


def test_the_defaults_of_repaint_make_2410_network_calls() -> None:
    """Lugmayr et al. 2022: T = 250, jumps of 10, 10 resamplings."""
    diffusion, calls = Diffusion("linear"), list[int]()

    def denoise(x: Tensor, t: int) -> Tensor:
        calls.append(t)
        return 0 * x

    repaint(denoise, torch.zeros(1, 1, 1, 1), step_subset(1000, 250), diffusion, noise=torch.zeros_like)
    assert len(calls) == 2410
    often = {t: calls.count(t) for t in calls}
    assert [often[t] for t in step_subset(1000, 250)] == 9 * [1] + 240 * [10] + [1], "jumps start from the last level"


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_ddnm_puts_known_pixels_into_what_is_predicted(eta: float) -> None:
    """Wang et al. 2023, equation 13, with matrices: A the known pixels' rows of the identity, A^+ = A^T.

    The noise is theirs in svd_ddnm.py: eta of it new, the rest that of the prediction before the projection.
    """
    diffusion, true, steps = even_angles(40), a_gaussian(), 8
    times, sampler = step_subset(40, steps), ddnm if eta == 0.85 else partial(ddnm, eta=eta)
    mean, covariance = sampled(sampler, diffusion, times, draws=2 + 2 * steps)
    a_matrix = np.eye(D)[~IN_HOLE.numpy()]
    projection = np.eye(D) - a_matrix.T @ a_matrix
    state = Recursion(true, diffusion, times[0])
    for t, s in pairwise([*times, -1]):
        a, b = state.alpha_bar[t], state.alpha_bar[s]
        gain, offset = state.predicted()
        kept = np.sqrt((1 - b) * (1 - eta**2))
        eps_slope, eps_offset = (np.eye(D) - np.sqrt(a) * gain) / np.sqrt(1 - a), -np.sqrt(a / (1 - a)) * offset
        gain, offset = projection @ gain, projection @ offset + a_matrix.T @ (a_matrix @ TRUTH.numpy())
        state.map(np.sqrt(b) * gain + kept * eps_slope, np.sqrt(b) * offset + kept * eps_offset, (1 - b) * eta**2)
        state.t = s
    np.testing.assert_allclose(mean, state.mean, rtol=0, atol=1e-11)
    np.testing.assert_allclose(covariance, state.covariance, rtol=0, atol=1e-11)


def test_ddnm_comes_nearer_to_the_conditional_than_putting_back() -> None:
    """Its mean does, in as many calls; and the more of its noise is new, the less varied is what it draws."""
    diffusion, conditional = even_angles(100), a_gaussian().given(TRUTH[~IN_HOLE], IN_HOLE)
    mean_errors, spreads = [], []
    for sampler in (ddpm, partial(ddnm, eta=0.0), partial(ddnm, eta=0.5), ddnm):
        mean, covariance = sampled(sampler, diffusion, range(99, -1, -1), draws=302)
        mean_errors.append((mean[IN_HOLE] - conditional.mean).norm().item())
        spreads.append(covariance.diagonal()[IN_HOLE].sum().item())
    assert 2 * max(mean_errors[1:]) < mean_errors[0]
    spread = conditional.covariance.trace().item()
    assert spreads[1] == pytest.approx(spread, rel=0.01)
    assert 0.98 * spread > spreads[2] > spreads[3] > 0.7 * spread
