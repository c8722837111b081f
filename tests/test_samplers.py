"""Samplers on pictures from a known Gaussian, with the closed-form denoiser: the true law of them, at their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from gaussians import HOLE, IN_HOLE, SHAPE, D, Gaussian, Impulses, a_gaussian, drawn, even_angles, even_lambdas, float64
from pixmend.diffusion import Conditioning, DenoiseFn, Diffusion, Known, around
from pixmend.errors import OptionError
from pixmend.samplers import SAMPLERS, ddim, ddnm, ddpm, dpmpp_2m, repaint, unipc
from pixmend.schedules import SCHEDULES, step_subset

Sampler = Callable[..., Tensor]

DDNM = partial(ddnm, eta=0.0)  # with new noise it draws too little variety, however many its steps
FIRST_ORDER = [
    pytest.param(ddpm, id="ddpm"),
    pytest.param(partial(ddpm, variance="large"), id="ddpm-large"),
    pytest.param(ddim, id="ddim"),
    pytest.param(DDNM, id="ddnm"),
]
HIGHER_ORDER = [pytest.param(dpmpp_2m, id="dpmpp-2m"), pytest.param(unipc, id="unipc")]
RESAMPLING = pytest.param(partial(repaint, jump_length=4, resamplings=2), id="repaint")
HALF_NEW = [pytest.param(partial(ddim, eta=0.5), id="ddim-half"), pytest.param(partial(ddnm, eta=0.5), id="ddnm-half")]
EVERY = [*FIRST_ORDER, *HIGHER_ORDER, RESAMPLING, *HALF_NEW]
ORDERS = [
    pytest.param(ddpm, 1, id="ddpm"),
    pytest.param(partial(ddpm, variance="large"), 1, id="ddpm-large"),
    pytest.param(ddim, 1, id="ddim"),
    pytest.param(DDNM, 1, id="ddnm"),
    pytest.param(partial(repaint, jump_length=4, resamplings=2), 1, id="repaint"),
    pytest.param(dpmpp_2m, 2, id="dpmpp-2m"),
    pytest.param(unipc, 3, id="unipc"),
]


def never(x: Tensor) -> Tensor:
    raise AssertionError("no noise is needed here")


def sampled(sampler: Sampler, diffusion: Diffusion, times: Sequence[int], denoise: DenoiseFn) -> tuple[Tensor, Tensor]:
    """Whole-image sampling from pure noise."""
    noise = Impulses(draws=1 if sampler in (ddim, dpmpp_2m, unipc) else 1 + 3 * len(times))
    return drawn(sampler(denoise, noise(noise.like()), times, diffusion, noise=noise))


# --------------------------------------------------------------------------------------------------------- the true law


@pytest.mark.parametrize(("sampler", "order"), ORDERS)
def test_whole_pictures_converge_at_the_samplers_order(sampler: Sampler, order: int) -> None:
    """Half the step in lambda, and the error of the covariance falls by 2 to the order."""
    diffusion, true, errors = even_lambdas(256), a_gaussian(), []
    for steps in (32, 64, 128, 256):
        mean, covariance = sampled(sampler, diffusion, range(256, -1, -256 // steps), true.denoiser(diffusion))
        # Of the mean, only what is left of it in the last level can be missing: sampling starts without.
        assert (mean - true.mean).norm() < 2 * diffusion.alpha_bar(256) ** 0.5 * true.mean.norm()
        errors.append(torch.linalg.norm(covariance - true.covariance).item())
    ratios = [a / b for a, b in pairwise(errors)]
    assert ratios[-1] == pytest.approx(2**order, rel=0.06)
    assert abs(ratios[2] / 2**order - 1) < abs(ratios[1] / 2**order - 1) < abs(ratios[0] / 2**order - 1)
    assert errors[-1] < 0.8 / 4**order * torch.linalg.norm(true.covariance).item()


@pytest.mark.parametrize("sampler", FIRST_ORDER)
def test_whole_pictures_from_pure_noise(sampler: Sampler) -> None:
    """With no signal at the start the mean is exact for any number of steps, and the covariance converges."""
    diffusion, true = even_angles(256), a_gaussian()
    biases = []
    for steps in (32, 64, 128):
        mean, covariance = sampled(sampler, diffusion, step_subset(256, steps), true.denoiser(diffusion))
        torch.testing.assert_close(mean, true.mean, rtol=0, atol=1e-12)
        biases.append(covariance - true.covariance)
    errors = [torch.linalg.norm(bias).item() for bias in biases]
    assert [a / b for a, b in pairwise(errors)] == pytest.approx([2, 2], abs=0.3), "twice the steps, half the error"
    # Extrapolated to no step length at all (Richardson), only the second order is left of the error.
    assert torch.linalg.norm(2 * biases[-1] - biases[-2]).item() < 0.15 * errors[-1]


@pytest.mark.parametrize("sampler", HIGHER_ORDER)
@pytest.mark.parametrize("schedule", [*sorted(SCHEDULES), "even angles"])
def test_few_steps_of_a_higher_order_do_what_many_of_ddim_do(sampler: Sampler, schedule: str) -> None:
    """On schedules that are no even steps in lambda, too, and from pure noise, where lambda is infinite."""
    diffusion = even_angles(1024) if schedule == "even angles" else Diffusion(schedule, T=1024)
    true = a_gaussian()

    def error(sampler: Sampler, steps: int) -> float:
        mean, covariance = sampled(sampler, diffusion, step_subset(1024, steps), true.denoiser(diffusion))
        assert (mean - true.mean).abs().max() <= 2 * diffusion.alpha_bar(1023) ** 0.5 * true.mean.norm() + 1e-12
        return float(torch.linalg.norm(covariance - true.covariance))

    assert error(sampler, 32) < error(ddim, 128)
    assert error(sampler, 128) < error(ddim, 128) / 10


@pytest.mark.parametrize("sampler", [ddpm, ddim])
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_the_schedules_that_are_shipped_converge(sampler: Sampler, schedule: str) -> None:
    diffusion, true = Diffusion(schedule, T=1024), a_gaussian()
    errors = []
    for steps in (32, 64, 128):
        mean, covariance = sampled(sampler, diffusion, step_subset(1024, steps), true.denoiser(diffusion))
        # Only what the last alpha_bar leaves of the mean, and sampling begins without, can be missing.
        assert (mean - true.mean).abs().max() <= 2 * diffusion.alpha_bar(1023) ** 0.5 * true.mean.norm() + 1e-12
        errors.append(torch.linalg.norm(covariance - true.covariance).item())
    assert 1.6 < errors[0] / errors[1] < 2.4
    assert 1.6 < errors[1] / errors[2] < 2.4


def test_one_value_by_hand() -> None:
    """DDIM turns the pair of x and v by the angle between two levels: it draws a product of cosines and sines."""
    diffusion, variance, steps = even_angles(64), 0.09, 16
    true = Gaussian(torch.zeros(D, dtype=torch.float64), variance * torch.eye(D, dtype=torch.float64))
    _, covariance = sampled(ddim, diffusion, step_subset(64, steps), true.denoiser(diffusion))
    scale, turn = 1.0, math.pi / 2 / steps
    for i in range(steps, 0, -1):
        cos, sin = math.cos(i * turn), math.sin(i * turn)
        x0 = cos * variance / (cos**2 * variance + sin**2)  # of a state of 1
        v = (cos - x0) / sin  # v = cos eps - sin x0 with eps = (1 - cos x0) / sin
        scale *= math.cos(turn) - math.sin(turn) * v
    torch.testing.assert_close(covariance, scale**2 * torch.eye(D, dtype=torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("sampler", "order"), ORDERS)
def test_around_known_pixels_with_the_exact_conditional_denoiser(sampler: Sampler, order: int) -> None:
    """Known-aware: E[x0 | x_t in the hole, the rest clean], the known values read from what put_back leaves."""
    diffusion, true, truth = even_lambdas(128), a_gaussian(), float64(D, seed=5)
    conditional = true.given(truth[~IN_HOLE], IN_HOLE)

    def denoise(x: Tensor, t: int) -> Tensor:
        state = x.flatten(1)
        x0 = state.clone()
        seen = truth if sampler is DDNM else state[0]  # its state keeps no known pixels; all others' are the same
        here = true.given(seen[~IN_HOLE], IN_HOLE)
        x0[:, IN_HOLE] = here.expected(state[:, IN_HOLE], diffusion.alpha_bar(t))
        return x0.reshape(x.shape)

    errors = []
    for steps in (32, 64, 128):
        noise = Impulses(draws=2 + 3 * steps)
        shown = torch.where(IN_HOLE, 1e6, truth).reshape(1, *SHAPE).expand(noise.batch, *SHAPE)  # no truth inside
        hole = HOLE.expand(noise.batch, 1, 2, 3)
        known = Known(shown, hole, diffusion, "known-aware", noise)
        times = range(128, -1, -128 // steps)
        x = sampler(denoise, known.start(128), times, diffusion, noise=noise, put_back=known.put_back)
        values = x.flatten(1)
        assert torch.equal(values[:, ~IN_HOLE], truth[~IN_HOLE].expand(noise.batch, -1)), "known pixels are exact"
        mean, covariance = drawn(x)
        torch.testing.assert_close(mean[IN_HOLE], conditional.mean, rtol=0, atol=1e-3)
        errors.append(torch.linalg.norm(covariance[IN_HOLE][:, IN_HOLE] - conditional.covariance).item())
    assert errors[1] / errors[2] == pytest.approx(2**order, rel=0.15)
    assert errors[-1] < 0.5 / 2**order * torch.linalg.norm(conditional.covariance).item()


@pytest.mark.parametrize("sampler", EVERY)
def test_a_denoiser_that_knows_the_picture_leads_to_it(sampler: Sampler) -> None:
    x0 = float64(2, *SHAPE, seed=1)
    for steps in (1, 3, 50):
        x = sampler(
            lambda x, t: x0, float64(2, *SHAPE, seed=2), step_subset(50, steps), Diffusion(T=50), noise=torch.randn_like
        )
        torch.testing.assert_close(x, x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("conditioning", get_args(Conditioning))
@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m, unipc])
@pytest.mark.parametrize("changing", [0.0, 1.0])
def test_a_pixel_that_joins_the_hole_is_sampled_as_if_that_began_there(
    sampler: Sampler, conditioning: Conditioning, changing: float
) -> None:
    """At a soft edge: what was known of a pixel before is no prediction that a solver could go on from."""
    diffusion, times, x0 = Diffusion(), [999, 749, 499, 249, 99], torch.full((1, 3, 1, 2), -0.5, dtype=torch.float64)
    eps, soft = float64(1, 3, 1, 2, seed=1), torch.tensor([[[[1.0, 0.5]]]], dtype=torch.float64)  # joins at t = 499
    known = Known(x0, soft, diffusion, conditioning, lambda x: eps)

    def answer(x: Tensor, t: int) -> Tensor:
        return 0.5 + changing * (x + t / 1000).sin()

    def denoise(x: Tensor, t: int) -> Tensor:
        return answer(x, t) if conditioning == "plain" else around(answer(x, t), known.hole(t), x0)

    def states(denoise: DenoiseFn, start: Tensor, times: Sequence[int], **options: Any) -> list[Tensor]:
        found: list[Tensor] = []
        sampler(denoise, start, times, diffusion, noise=never, callback=lambda t, x, _: found.append(x), **options)
        return found

    joined = states(denoise, known.start(999), times, put_back=known.put_back)[2:]
    alone = states(answer, diffusion.add_noise(x0, 499, eps), times[2:])
    same = 1 if sampler is unipc and changing else 3  # its later steps take it to have been predicted alike before
    for a, b in zip(joined[:same], alone[:same], strict=True):
        torch.testing.assert_close(a[..., 1], b[..., 1], rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------- one step, as the papers have it


def first_step(sampler: Sampler, t: int, eps: Tensor, x: Tensor, z: Tensor, diffusion: Diffusion) -> Any:
    """The state after the step from t to t - 1, for a network that predicts the noise eps."""
    states = []

    def denoise(x: Tensor, t: int) -> Tensor:
        a = diffusion.alpha_bars[t].item()
        return (x - math.sqrt(1 - a) * eps) / math.sqrt(a)

    def keep(t: int, x: Tensor, x0: Tensor) -> None:
        states.append(x)

    sampler(denoise, x, [t, t - 1], diffusion, noise=lambda x: z, callback=keep)
    return states[0].numpy()


@pytest.mark.parametrize("t", [1, 2, 50, 99])
def test_a_step_of_ddpm(t: int) -> None:
    """Ho et al. 2020, algorithm 2, line 4, with sigma^2 = (1 - ab_{t-1}) / (1 - ab_t) beta_t."""
    diffusion = Diffusion("linear", T=100)
    x, eps, z = (float64(1, *SHAPE, seed=seed) for seed in (1, 2, 3))
    beta, ab = diffusion.betas.numpy(), np.cumprod(1 - diffusion.betas.numpy())
    sigma = np.sqrt((1 - ab[t - 1]) / (1 - ab[t]) * beta[t])
    mean = (x.numpy() - beta[t] / np.sqrt(1 - ab[t]) * eps.numpy()) / np.sqrt(1 - beta[t])
    np.testing.assert_allclose(first_step(ddpm, t, eps, x, z, diffusion), mean + sigma * z.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("t", [1, 2, 50, 99])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_step_of_ddim(t: int, eta: float) -> None:
    """Song et al. 2021, equation 12, with sigma of equation 16; their alpha is our alpha_bar."""
    diffusion = Diffusion("linear", T=100)
    x, eps, z = (float64(1, *SHAPE, seed=seed) for seed in (1, 2, 3))
    alpha = np.cumprod(1 - diffusion.betas.numpy())
    sigma = eta * np.sqrt((1 - alpha[t - 1]) / (1 - alpha[t])) * np.sqrt(1 - alpha[t] / alpha[t - 1])
    predicted = (x.numpy() - np.sqrt(1 - alpha[t]) * eps.numpy()) / np.sqrt(alpha[t])
    direction = np.sqrt(1 - alpha[t - 1] - sigma**2) * eps.numpy()
    expected = np.sqrt(alpha[t - 1]) * predicted + direction + sigma * z.numpy()
    got = first_step(partial(ddim, eta=eta), t, eps, x, z, diffusion)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("steps", [1, 7, 10, 100, 999, 1000])
def test_ddim_with_eta_one_is_ddpm(schedule: str, steps: int) -> None:
    """The same noise, the same pictures; the first step from pure noise included (zero-terminal)."""
    diffusion, true = Diffusion(schedule), a_gaussian()

    def run(sampler: Sampler) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return sampler(
            true.denoiser(diffusion),
            float64(4, *SHAPE, seed=9),
            step_subset(1000, steps),
            diffusion,
            noise=lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype),
        )

    torch.testing.assert_close(run(partial(ddim, eta=1.0)), run(ddpm), rtol=0, atol=1e-12)


def test_ddim_from_pure_noise_stays_real() -> None:
    """From alpha_bar = 0, eta = 1 keeps no predicted noise: the root of a 0 that rounding may make negative."""
    diffusion, x = Diffusion("zero-terminal"), float64(1, *SHAPE, seed=1)
    for s in range(999):
        result = ddim(lambda x, t: 0 * x, x, [999, s], diffusion, noise=torch.zeros_like, eta=1.0)
        assert result.dtype == torch.float64, f"at the step to {s}"


# --------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpmpp_2m])
def test_one_call_a_step_and_what_the_callback_is_told(sampler: Sampler) -> None:
    diffusion, log = Diffusion(T=100), list[tuple[Any, ...]]()

    def denoise(x: Tensor, t: int) -> Tensor:
        log.append(("denoise", t, x))
        return 0.5 * x

    def put_back(x: Tensor, t: int, s: int) -> Tensor:
        if t != times[-1] and s < 0:  # of a prediction: a solver asks where it has an earlier one
            return x
        log.append(("put back", t, s))
        return torch.full_like(x, float(s))  # unmistakable

    def told(t: int, x: Tensor, x0: Tensor) -> None:
        log.append(("callback", t, x, x0))

    start, times = float64(2, *SHAPE, seed=1), [99, 60, 3]
    kept = start.clone()
    result = sampler(denoise, start, times, diffusion, noise=torch.randn_like, put_back=put_back, callback=told)
    assert [entry[:2] for entry in log] == [(what, t) for t in times for what in ("denoise", "put back", "callback")]
    assert [entry[2] for entry in log if entry[0] == "put back"] == [60, 3, -1], "the level stepped to; -1 is clean"
    states = [entry[2] for entry in log if entry[0] == "callback"]
    seen = [entry[2] for entry in log if entry[0] == "denoise"]
    assert torch.equal(seen[0], start)
    assert torch.equal(start, kept), "the caller's tensor is left as it was"
    for s, state, after in zip([60, 3, -1], states, [*seen[1:], result], strict=True):
        assert (state == s).all(), "told what put_back left"
        assert after is state, "and so is the next step"
    for before, entry in zip(seen, log[2::3], strict=True):
        assert torch.equal(entry[3], 0.5 * before), "told the picture predicted on the way"


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_how_often_noise_is_drawn(steps: int) -> None:
    diffusion, times, drawings = Diffusion(T=10), step_subset(10, steps), list[int]()

    def noise(x: Tensor) -> Tensor:
        drawings.append(1)
        return torch.zeros_like(x)

    x = float64(1, *SHAPE, seed=1)
    ddpm(lambda x, t: 0 * x, x, times, diffusion, noise=noise)
    assert len(drawings) == steps - 1, "none at the step to the clean picture"
    ddim(lambda x, t: 0 * x, x, times, diffusion, noise=never)  # eta = 0 draws none


@pytest.mark.parametrize("sampler", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_picture_does_not_depend_on_its_batch(sampler: Sampler, dtype: torch.dtype) -> None:
    diffusion = Diffusion(T=50)

    def run(seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        def noise(x: Tensor) -> Tensor:
            return torch.stack([torch.randn(x.shape[1:], generator=g, dtype=dtype) for g in generators])

        start = noise(torch.empty(len(seeds), *SHAPE))
        return sampler(lambda x, t: (x * (1 + t)).tanh(), start, step_subset(50, 8), diffusion, noise=noise)

    together = run([3, 0, 8])
    assert together.dtype == dtype
    for i, seed in enumerate([3, 0, 8]):
        assert torch.equal(together[i : i + 1], run([seed]))
    assert not torch.equal(together[0], together[1])


def test_samplers_by_name() -> None:
    names = {"ddpm": ddpm, "ddim": ddim, "dpmpp-2m": dpmpp_2m, "unipc": unipc, "repaint": repaint, "ddnm": ddnm}
    assert names == SAMPLERS


def test_ddim_puts_livened_noise_upon_the_picture_and_none_upon_the_last() -> None:
    diffusion, x0, eps = Diffusion(T=10), 0.5 * float64(1, *SHAPE, seed=1), float64(1, *SHAPE, seed=2)
    states: list[Tensor] = []
    ddim(
        lambda x, t: x0,
        diffusion.add_noise(x0, 9, eps),
        [9, 6, 3],
        diffusion,
        noise=torch.zeros_like,
        liven=lambda noise: 1.25 * noise,
        callback=lambda t, x, _: states.append(x),
    )
    expected = [diffusion.add_noise(x0, 6, 1.25 * eps), diffusion.add_noise(x0, 3, 1.25**2 * eps), x0]
    for found, wanted in zip(states, expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_eta_out_of_range_is_refused(eta: float) -> None:
    with pytest.raises(OptionError, match="eta"):
        ddim(lambda x, t: x, float64(1, *SHAPE, seed=1), [9], Diffusion(T=10), noise=torch.randn_like, eta=eta)


@pytest.mark.parametrize("variance", ["", "learned"])
def test_a_variance_that_is_none_is_refused(variance: Any) -> None:
    with pytest.raises(OptionError, match="small or large"):
        ddpm(
            lambda x, t: x, float64(1, *SHAPE, seed=1), [9], Diffusion(T=10), noise=torch.randn_like, variance=variance
        )


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("times", [[], [0, 5, 9], [9, 4, 4], [10, 5], [5, -1]], ids=str)
def test_times_that_do_not_fall_are_refused(sampler: Sampler, times: list[int]) -> None:
    with pytest.raises(OptionError, match=r"they fall, from 9 at most to 0 at least"):
        sampler(lambda x, t: x, float64(1, *SHAPE, seed=1), times, Diffusion(T=10), noise=torch.randn_like)
