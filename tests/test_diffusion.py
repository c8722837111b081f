"""The diffusion process against closed forms, and the noise level of every pixel at every step around known ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmend.diffusion import Conditioning, DenoiseFn, Diffusion, Known, Noise, Prediction
from pixmend.errors import OptionError
from pixmend.samplers import ddim, ddpm
from pixmend.schedules import SCHEDULES

MODES: list[Conditioning] = ["plain", "known-aware", "residual"]
PREDICTIONS: list[tuple[str, Prediction]] = [
    (schedule, prediction)
    for schedule in SCHEDULES
    for prediction in ("v", "x0", "eps")
    if (schedule, prediction) != ("zero-terminal", "eps")
]


def seeded(seed: int = 0) -> Noise:
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)


def pictures(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def no_noise(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def check_level(x: Tensor, x0: Tensor, alpha_bar: float) -> None:
    """The values are sqrt(alpha_bar) x0 with noise of variance 1 - alpha_bar, to five standard errors."""
    noise, sigma2, n = x - math.sqrt(alpha_bar) * x0, 1 - alpha_bar, x.numel()
    assert n > 2000, "too few to measure"
    assert abs(noise.mean().item()) < 5 * math.sqrt(sigma2 / n)
    assert noise.square().mean().item() == pytest.approx(sigma2, rel=5 * math.sqrt(2 / n))


# -------------------------------------------------------------------------------------------------- the forward process


def test_the_arrays() -> None:
    diffusion = Diffusion("linear", T=50)
    assert diffusion.T == 50
    np.testing.assert_allclose(diffusion.alphas.numpy(), 1 - diffusion.betas.numpy())
    np.testing.assert_allclose(diffusion.alpha_bars.numpy(), np.cumprod(1 - diffusion.betas.numpy()))
    for array in (diffusion.betas, diffusion.alphas, diffusion.alpha_bars):
        assert array.dtype == torch.float64
        assert array.shape == (50,)
    assert diffusion.alpha_bar(-1) == 1
    assert diffusion.alpha_bar(0) == 1 - diffusion.betas[0].item()


def test_betas_of_ones_own() -> None:
    with pytest.raises(OptionError, match="T = 1000 does not fit 3 betas"):
        Diffusion(torch.tensor([0.5, 0.5, 1.0]), T=1000)
    diffusion = Diffusion(torch.tensor([0.5, 0.5, 1.0]), prediction="x0")
    assert diffusion.schedule == "custom"
    assert diffusion.alpha_bars.tolist() == [0.5, 0.25, 0.0]


@pytest.mark.parametrize("t", [-1, 0, 10, 19])
def test_add_noise_mean_and_variance(t: int) -> None:
    diffusion, x0 = Diffusion(T=20), pictures(2, 3, 64, 64)
    xt = diffusion.add_noise(x0, t, seeded()(x0))
    assert xt.dtype == torch.float32
    if t < 0:
        assert torch.equal(xt, x0), "t = -1 is the clean picture"
    else:
        check_level(xt, x0, diffusion.alpha_bars[t].item())


def test_add_noise_is_what_single_steps_lead_to() -> None:
    # Ho et al. 2020, equation 2, one beta after the other: mean and variance by recursion.
    diffusion, signal, variance = Diffusion("linear", T=30), 1.0, 0.0
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for t, beta in enumerate(diffusion.betas.tolist()):
        signal, variance = math.sqrt(1 - beta) * signal, (1 - beta) * variance + beta
        assert diffusion.add_noise(one, t, 0 * one).item() == pytest.approx(signal, rel=1e-12)
        assert diffusion.add_noise(0 * one, t, one).item() ** 2 == pytest.approx(variance, rel=1e-12)


def test_one_time_for_each_picture() -> None:
    diffusion, x0, times = Diffusion(T=20), pictures(3, 3, 5, 4), [19, -1, 7]
    noise = seeded()(x0)
    together = diffusion.add_noise(x0, torch.tensor(times), noise)
    for i, t in enumerate(times):
        assert torch.equal(together[i : i + 1], diffusion.add_noise(x0[i : i + 1], t, noise[i : i + 1]))


@pytest.mark.parametrize(("schedule", "prediction"), PREDICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_predict_x0_undoes_target(schedule: str, prediction: Prediction, dtype: torch.dtype) -> None:
    diffusion = Diffusion(schedule, T=200, prediction=prediction)
    x0 = pictures(200, 3, 4, 4, dtype=dtype)
    x0[:, 0, 0, :2] = torch.tensor([-1.0, 1.0])  # the ends of the range
    times, noise = torch.arange(200), seeded()(x0)
    xt = diffusion.add_noise(x0, times, noise)
    again = diffusion.predict_x0(xt, times, diffusion.target(x0, times, noise))
    assert again.dtype == dtype
    # From eps, x0 is a difference of nearly equal values over sqrt(alpha_bar): the error grows as that falls.
    scale = diffusion.alpha_bars.rsqrt() if prediction == "eps" else torch.ones(200)
    limit = 8 * torch.finfo(dtype).eps * scale
    error = (again - x0).abs().amax((1, 2, 3))
    assert (error <= limit).all(), f"worst at t = {int((error / limit).argmax())}"


def test_targets_by_their_definitions() -> None:
    x0, noise = pictures(2, 3, 4, 4), seeded()(torch.zeros(2, 3, 4, 4))
    assert torch.equal(Diffusion(T=9, prediction="x0").target(x0, 5, noise), x0)
    assert torch.equal(Diffusion(T=9, prediction="eps").target(x0, 5, noise), noise)
    diffusion = Diffusion(T=9, prediction="v")
    a = diffusion.alpha_bars[5].item()
    torch.testing.assert_close(diffusion.target(x0, 5, noise), math.sqrt(a) * noise - math.sqrt(1 - a) * x0)


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
def test_predictions_are_cut_to_the_range_of_pictures(prediction: Prediction) -> None:
    xt = torch.zeros(1, 3, 2, 2)
    answer = Diffusion(T=9, prediction=prediction).predict_x0(xt, 8, torch.tensor([-1e6, 1e6]).expand(1, 3, 2, 2))
    assert answer.abs().eq(1).all()


# ------------------------------------------------------------------------------------------------------ what is refused


def test_eps_with_zero_terminal_signal_is_refused() -> None:
    with pytest.raises(OptionError, match="eps cannot be predicted with zero terminal signal"):
        Diffusion("zero-terminal", prediction="eps")
    with pytest.raises(OptionError, match="choose v or x0"):
        Diffusion(torch.tensor([0.5, 1.0]), prediction="eps")


def test_unknown_predictions_and_schedules() -> None:
    with pytest.raises(OptionError, match="'score' is not known; choose v, x0, eps"):
        Diffusion(prediction="score")  # type: ignore[arg-type]  # what a user may get wrong
    with pytest.raises(OptionError, match="'sqrt' is not known"):
        Diffusion("sqrt")
    with pytest.raises(OptionError, match="each must lie in"):
        Diffusion(torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize("t", [-2, 10, torch.tensor([3, 10]), torch.tensor([-2, 3])])
def test_times_out_of_range(t: int | Tensor) -> None:
    x, diffusion = torch.zeros(2, 3, 2, 2), Diffusion(T=10)
    with pytest.raises(OptionError, match=r"outside of -1 \(clean\) to 9"):
        diffusion.add_noise(x, t, x)
    with pytest.raises(OptionError, match="outside of"):
        diffusion.target(x, t, x)
    with pytest.raises(OptionError, match="outside of"):
        diffusion.predict_x0(x, t, x)


# -------------------------------------------------------------------------------------------------------- the posterior


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_posterior_is_the_product_of_two_gaussians(schedule: str) -> None:
    """Bayes: p(x_s | x_t, x0) ~ N(x_t; sqrt(a_t / a_s) x_s, 1 - a_t / a_s) N(x_s; sqrt(a_s) x0, 1 - a_s)."""
    T = 40
    diffusion = Diffusion(schedule, T=T)
    a = np.cumprod(1 - diffusion.betas.numpy())
    x0, xt = 0.37, -1.3
    shape = (1, 1, 1, 1)
    for t in range(1, T):
        for s in range(t):
            kept = a[t] / a[s]
            precision = 1 / (1 - a[s]) + kept / (1 - kept)
            mean = (math.sqrt(a[s]) * x0 / (1 - a[s]) + math.sqrt(kept) * xt / (1 - kept)) / precision
            got, std = diffusion.posterior(
                torch.full(shape, xt, dtype=torch.float64), torch.full(shape, x0, dtype=torch.float64), t, s
            )
            assert got.item() == pytest.approx(mean, rel=1e-9, abs=1e-12)
            assert std**2 == pytest.approx(1 / precision, rel=1e-9)


@pytest.mark.parametrize("t", [-2, 10])
def test_alpha_bar_of_a_level_that_is_none_is_refused(t: int) -> None:
    with pytest.raises(OptionError, match=r"outside of -1 \(clean\) to 9"):
        Diffusion(T=10).alpha_bar(t)


def test_posterior_of_the_last_step_is_the_picture() -> None:
    x0, xt = pictures(1, 3, 4, 4), seeded()(torch.zeros(1, 3, 4, 4))
    for t in (0, 5, 9):
        mean, std = Diffusion(T=10).posterior(xt, x0, t, -1)
        assert torch.equal(mean, x0)
        assert std == 0


def test_one_long_step_is_many_short_ones() -> None:
    """Stepping 9 -> 6 -> 2 with the same x0 has the mean and variance of 9 -> 2."""
    diffusion = Diffusion("linear", T=10)
    x0, xt = pictures(1, 1, 3, 3, dtype=torch.float64), seeded()(torch.zeros(1, 1, 3, 3, dtype=torch.float64))
    middle, std1 = diffusion.posterior(xt, x0, 9, 6)
    twice, std2 = diffusion.posterior(middle, x0, 6, 2)
    slope = (diffusion.posterior(middle + 1, x0, 6, 2)[0] - twice).mean().item()
    once, std = diffusion.posterior(xt, x0, 9, 2)
    torch.testing.assert_close(twice, once, rtol=1e-12, atol=1e-12)
    assert std2**2 + (slope * std1) ** 2 == pytest.approx(std**2, rel=1e-12)


# --------------------------------------------------------------------------------------------------------- denoise_step


@pytest.mark.parametrize("t", [1, 2, 5, 9])
def test_denoise_step_has_one_noise_level(t: int) -> None:
    """A network that knows the picture: known pixels and hole both come out at the level t - 1."""
    diffusion, x0, noise = Diffusion(T=10, prediction="x0"), pictures(2, 3, 64, 64), seeded()
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., :32] = 1
    xt = diffusion.add_noise(x0, t, noise(x0))
    x = diffusion.denoise_step(lambda x, times: x0, xt, t, known=x0, mask=mask, noise=noise)
    check_level(x[..., 32:], x0[..., 32:], diffusion.alpha_bars[t - 1].item())
    check_level(x[..., :32], x0[..., :32], diffusion.alpha_bars[t - 1].item())


def test_the_noise_of_known_pixels_is_their_own() -> None:
    """New noise, not that which the state had: the known pixels after a step do not depend on those before it."""
    diffusion, x0, mask = Diffusion(T=10, prediction="x0"), pictures(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    before = seeded(1)(x0)
    x = diffusion.denoise_step(lambda x, t: x0, before, 9, known=x0, mask=mask, noise=seeded(2))
    a = diffusion.alpha_bars[8].item()
    after = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
    assert abs((before * after).mean().item()) < 5 / math.sqrt(before.numel())


def test_the_last_denoise_step() -> None:
    diffusion, known, answer = Diffusion(T=10, prediction="x0"), pictures(2, 3, 9, 7), pictures(2, 3, 9, 7, seed=1)
    mask = (pictures(2, 1, 9, 7, seed=2) > 0).float()
    x = diffusion.denoise_step(lambda x, t: answer, torch.randn(2, 3, 9, 7), 0, known=known, mask=mask)
    assert torch.equal(x, torch.where(mask > 0, answer, known)), "x0 in the hole, the known pixels exact"


def test_denoise_step_asks_the_network_once_for_x_and_t() -> None:
    asked: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x, t))
        return torch.zeros_like(x)

    xt = pictures(3, 3, 4, 4)
    Diffusion(T=10).denoise_step(network, xt, 4, known=torch.ones_like(xt), mask=torch.ones(3, 1, 4, 4))
    [(x, t)] = asked
    assert torch.equal(x, xt)
    assert t.tolist() == [4, 4, 4]


def test_the_walk_with_denoise_step_keeps_the_known_pixels() -> None:
    diffusion, known, noise = Diffusion(T=10), pictures(1, 3, 8, 8), seeded()
    mask = (pictures(1, 1, 8, 8, seed=2) > 0).float()
    x = noise(known)
    for t in range(9, -1, -1):
        x = diffusion.denoise_step(lambda x, t: 0 * x, x, t, known=known, mask=mask, noise=noise)
    assert torch.equal(torch.where(mask > 0, 0.0, x), torch.where(mask > 0, 0.0, known))


# ------------------------------------------------------------------------------------------- known pixels at every step


def bands(size: int = 64, batch: int = 2) -> Tensor:
    """A soft mask in four bands: hole, an edge of two strengths, known."""
    soft = torch.zeros(batch, 1, size, size)
    quarter = size // 4
    soft[..., :quarter] = 1
    soft[..., quarter : 2 * quarter] = 0.6
    soft[..., 2 * quarter : 3 * quarter] = 0.25
    return soft


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "ddim with eta 1"])
@pytest.mark.parametrize("times", [list(range(9, -1, -1)), [9, 6, 5, 1]])
def test_plain_mode_has_one_noise_level_everywhere(sampler: str, times: list[int]) -> None:
    """With a denoiser that knows the picture, every band of the soft mask has the same level after every step."""
    diffusion, x0, soft, noise = Diffusion(T=10), pictures(2, 3, 64, 64), bands(), seeded()
    known = Known(x0, soft, diffusion, "plain", noise)
    levels = dict(zip(times, [*times[1:], -1], strict=True))
    checked = []

    def check(t: int, x: Tensor, predicted: Tensor) -> None:
        s = levels[t]
        checked.append(s)
        if s < 0:
            torch.testing.assert_close(x, x0)
            assert torch.equal(x[..., 48:], x0[..., 48:]), "exact at the end"
            return
        for left in range(0, 64, 16):
            band = (..., slice(left, left + 16))
            check_level(x[band], x0[band], diffusion.alpha_bars[s].item())

    x = known.start(times[0])
    check_level(x[..., 16:], x0[..., 16:], diffusion.alpha_bars[times[0]].item())
    check_level(x[..., :16], 0 * x0[..., :16], 0.0)  # the hole begins as pure noise
    # What DDIM leaves of the beginning it keeps: begin at the level itself, so that the level can be measured exactly.
    x = diffusion.add_noise(x0, times[0], noise(x0))
    if sampler == "ddpm":
        ddpm(lambda x, t: x0, x, times, diffusion, noise=noise, put_back=known.put_back, callback=check)
    else:
        eta = float(sampler.endswith("1"))
        ddim(lambda x, t: x0, x, times, diffusion, noise=noise, eta=eta, put_back=known.put_back, callback=check)
    assert checked == [*times[1:], -1]


@pytest.mark.parametrize("conditioning", MODES[1:])
def test_modes_that_are_told_of_the_hole_keep_known_pixels_clean(conditioning: Conditioning) -> None:
    """Clean outside of the hole at every step; inside, and where a pixel has just joined, the level of the state."""
    diffusion, x0, noise = Diffusion(T=10), pictures(2, 3, 64, 64), seeded()
    known = Known(x0, bands(), diffusion, conditioning, noise)
    x = known.start(9)
    assert torch.equal(x[..., 16:], x0[..., 16:])
    check_level(x[..., :16], 0 * x0[..., :16], 0.0)

    def check(t: int, x: Tensor, predicted: Tensor) -> None:
        s = t - 1
        if s < 0:
            assert torch.equal(x[..., 48:], x0[..., 48:])
            torch.testing.assert_close(x, x0)
            return
        for left, strength in [(0, 1.0), (16, 0.6), (32, 0.25), (48, 0.0)]:
            band = (..., slice(left, left + 16))
            if strength > 0 and strength >= (s + 1) / 10:
                check_level(x[band], x0[band], diffusion.alpha_bars[s].item())
            else:
                assert torch.equal(x[band], x0[band])

    x = torch.where(known.hole(9) > 0, diffusion.add_noise(x0, 9, noise(x0)), x0)
    ddpm(lambda x, t: x0, x, range(9, -1, -1), diffusion, noise=noise, put_back=known.put_back, callback=check)


@pytest.mark.parametrize("conditioning", MODES)
def test_what_is_known_of_the_hole_is_never_used(conditioning: Conditioning) -> None:
    diffusion, x0, soft = Diffusion(T=10), pictures(2, 3, 16, 16), bands(16)
    other = torch.where(soft == 1, 1e6, x0)
    states = []
    for truth in (x0, other):
        known = Known(truth, soft, diffusion, conditioning, seeded(4))
        x = known.start(9)
        states.append([x, *(known.put_back(x, t, t - 1) for t in (9, 4, 0))])
    for a, b in zip(*states, strict=True):
        assert torch.equal(a, b)


# -------------------------------------------------------------------------------------------------------- the soft mask


def test_the_hole_grows_as_t_falls() -> None:
    k = torch.arange(1001).reshape(1, 1, 1, -1)
    soft, diffusion = k / torch.tensor(1000.0, dtype=torch.float64), Diffusion(T=50)
    known = Known(torch.zeros(1, 3, 1, 1001), soft, diffusion, "plain", no_noise)
    assert torch.equal(known.hole(49) > 0, k == 1000), "from the start, the hole where soft is 1"
    assert torch.equal(known.hole(-1) > 0, k > 0)
    for t in range(49, -1, -1):
        assert (known.hole(t - 1) >= known.hole(t)).all()
        # Told in whole numbers: soft = k / 1000 is generated at t when k / 1000 >= (t + 1) / 50.
        assert torch.equal(known.hole(t) > 0, k >= 20 * (t + 1))


@pytest.mark.parametrize("T", [7, 10, 1000])
def test_a_binary_mask_is_the_hole_at_every_level(T: int) -> None:
    soft = (pictures(1, 1, 8, 8) > 0).float()
    known = Known(torch.zeros(1, 3, 8, 8), soft, Diffusion(T=T), "plain", no_noise)
    for t in range(-1, T):
        assert torch.equal(known.hole(t), soft)


@pytest.mark.parametrize("conditioning", MODES)
@pytest.mark.parametrize("steps", [list(range(9, -1, -1)), [9, 7, 3, 2]])
def test_pixels_join_with_the_noise_of_the_level_upon_their_own_value(
    conditioning: Conditioning, steps: list[int]
) -> None:
    diffusion, x0 = Diffusion(T=10), pictures(1, 3, 4, 101)
    soft = torch.linspace(0, 1, 101).expand(1, 1, 4, 101)
    marker = torch.full_like(x0, 77.0)  # stands for what was generated
    given = seeded(3)(x0)
    known = Known(x0, soft, diffusion, conditioning, lambda x: given)
    for t, s in zip(steps, [*steps[1:], -1], strict=True):
        x = known.put_back(marker, t, s)
        generated, joined = known.hole(t) > 0, (known.hole(s) > 0) & (known.hole(t) == 0)
        outside = known.hole(s) == 0
        noised = diffusion.add_noise(x0, s, given)  # s = -1: x0 itself
        expected = torch.where(generated, marker, torch.where(joined, noised, x0))
        if conditioning == "plain":
            expected = torch.where(generated, marker, noised)
        assert torch.equal(x, expected)
        assert (generated.int() + joined + outside == 1).all(), "each pixel is either known or generated"


@pytest.mark.parametrize("conditioning", MODES)
@pytest.mark.parametrize("T", [10, 200])
def test_pixels_that_never_joined_are_exact(conditioning: Conditioning, T: int) -> None:
    x0, noise, diffusion = pictures(1, 3, 4, 101), seeded(), Diffusion(T=T)
    soft = torch.linspace(0, 1, 101).expand(1, 1, 4, 101)
    known = Known(x0, soft, diffusion, conditioning, noise)
    times = list(range(T - 1, -1, -T // 5))
    zero: DenoiseFn = lambda x, t: 0 * x  # noqa: E731  # a denoiser that only ever answers grey
    x = ddim(zero, known.start(T - 1), times, diffusion, noise=noise, put_back=known.put_back)
    joined = known.hole(times[-1]) > 0
    assert torch.equal(x, torch.where(joined, 0.0, x0))
    assert not joined[..., 0].any()
