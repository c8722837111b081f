"""The noise law and the ways back, against closed forms for Gaussian pictures; the measures, against others' programs.

For x0 ~ N(m, s^2) in every value, the best predictor is E[eps | x_t] = sigma (x_t - m) / (s^2 + sigma^2).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmend.denoising.law import NoiseLaw, multi_step, single_step, whole_times
from pixmend.denoising.measure import _Sums, evaluate, gradient, psnr, ssim
from pixmend.errors import DataError, OptionError

LAW = NoiseLaw()
MEAN, DEVIATION = 0.2, 0.4
T_START = 8


def exact(x: Tensor, t: Tensor) -> Tensor:
    """The best predictor for the Gaussian pictures here."""
    sigma = (t / LAW.T)[:, None, None, None].to(x)
    return sigma * (x - MEAN) / (DEVIATION**2 + sigma**2)


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    """Gaussian pictures x0, and x_t at T_START: (64, 3, 32, 32) float64, 196,608 values."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(64, 3, 32, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    x0 = MEAN + DEVIATION * x0
    return x0, LAW.add_noise(x0, T_START, noise)


def times_in(steps: int) -> list[float]:
    return [T_START * (1 - i / steps) for i in range(steps + 1)]


def test_moments_of_the_law(pictures: tuple[Tensor, Tensor]) -> None:
    x0, _ = pictures
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for t in LAW.times:
        added = LAW.add_noise(x0, t, noise) - x0
        assert float(added.mean()) == pytest.approx(0, abs=5 * t / LAW.T / x0.numel() ** 0.5)
        assert float(added.std()) == pytest.approx(t / LAW.T, rel=0.01)
    assert list(LAW.times) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_each_picture_has_its_own_time() -> None:
    x0, noise = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    xt = LAW.add_noise(x0, torch.tensor([1, 5, 9]), noise)
    torch.testing.assert_close(xt[:, 0, 0, 0], torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(LAW.predict_x0(xt, torch.tensor([1, 5, 9]), noise), x0)


def test_single_step_is_the_conditional_mean(pictures: tuple[Tensor, Tensor]) -> None:
    x0, xt = pictures
    sigma = T_START / LAW.T
    out = single_step(exact, xt, T_START, LAW)
    torch.testing.assert_close(out, MEAN + (xt - MEAN) * DEVIATION**2 / (DEVIATION**2 + sigma**2))
    least = DEVIATION**2 * sigma**2 / (DEVIATION**2 + sigma**2)
    assert float(((out - x0) ** 2).mean()) == pytest.approx(least, rel=0.02)
    torch.testing.assert_close(multi_step(exact, xt, [T_START, 0], LAW), out)


def test_deterministic_steps_converge_to_the_probability_flow(pictures: tuple[Tensor, Tensor]) -> None:
    """dx/dsigma = E[eps | x] ends at m + (x_t - m) s / sqrt(s^2 + sigma^2); Euler's error falls as 1 / steps."""
    _, xt = pictures
    sigma = T_START / LAW.T
    end = MEAN + (xt - MEAN) * DEVIATION / math.hypot(DEVIATION, sigma)
    errors = [float((multi_step(exact, xt, times_in(steps), LAW) - end).abs().max()) for steps in (50, 100, 200)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)
    assert errors[2] < 0.02


def test_deterministic_steps_keep_the_variance_that_one_step_loses(pictures: tuple[Tensor, Tensor]) -> None:
    x0, xt = pictures
    many = multi_step(exact, xt, times_in(200), LAW)
    assert float(many.std()) == pytest.approx(DEVIATION, rel=0.02)
    assert float(single_step(exact, xt, T_START, LAW).std()) < 0.5 * DEVIATION
    share = DEVIATION / math.hypot(DEVIATION, T_START / LAW.T)
    expected = 2 * DEVIATION**2 * (1 - share)  # of the squared error, from the two variances and their covariance
    assert float(((many - x0) ** 2).mean()) == pytest.approx(expected, rel=0.03)


def test_fresh_noise_draws_from_the_posterior(pictures: tuple[Tensor, Tensor]) -> None:
    """In the limit of many steps a draw of p(x0 | x_t): its own variance, and twice the least squared error."""
    x0, xt = pictures
    generator = torch.Generator().manual_seed(2)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    out = multi_step(exact, xt, times_in(200), LAW, fresh=1.0, noise=noise)
    mean = single_step(exact, xt, T_START, LAW)
    sigma = T_START / LAW.T
    least = DEVIATION**2 * sigma**2 / (DEVIATION**2 + sigma**2)
    assert float((out - mean).mean()) == pytest.approx(0, abs=0.01)
    assert float((out - mean).var()) == pytest.approx(least, rel=0.03)
    assert float(((out - x0) ** 2).mean()) == pytest.approx(2 * least, rel=0.03)
    assert float(out.std()) == pytest.approx(DEVIATION, rel=0.02)


@pytest.mark.parametrize("fresh", [0.5, 1.0])
def test_variance_of_few_stochastic_steps_follows_its_recursion(pictures: tuple[Tensor, Tensor], fresh: float) -> None:
    """Every step is linear: x_s - m = k (x_t - m) + up z. Counted here with scalars."""
    _, xt = pictures
    generator = torch.Generator().manual_seed(3)
    variance = DEVIATION**2 + (T_START / LAW.T) ** 2
    for t, s in zip(times_in(4), times_in(4)[1:], strict=False):
        a, b = t / LAW.T, s / LAW.T
        up = fresh * b * math.sqrt(1 - b * b / (a * a))
        total = DEVIATION**2 + a * a
        k = DEVIATION**2 / total + math.sqrt(b * b - up * up) * a / total
        variance = k * k * variance + up * up
    out = multi_step(
        exact, xt, times_in(4), LAW, fresh=fresh, noise=lambda x: torch.randn(x.shape, generator=generator).to(x)
    )
    assert float(out.var()) == pytest.approx(variance, rel=0.02)


def test_whole_times_go_through_all_levels() -> None:
    assert whole_times(3) == [3, 2, 1, 0]


@pytest.mark.parametrize("times", [[5], [5, 3], [3, 5, 0], [5, 5, 0], [0, 0], []])
def test_times_must_fall_to_zero(times: list[float]) -> None:
    with pytest.raises(OptionError, match="must fall"):
        multi_step(exact, torch.zeros(1, 1, 2, 2), times, LAW)


@pytest.mark.parametrize("fresh", [-0.1, 1.5, math.nan])
def test_fresh_noise_is_a_share(fresh: float) -> None:
    with pytest.raises(OptionError, match=f"fresh = {fresh}"):
        multi_step(exact, torch.zeros(1, 1, 2, 2), [5, 3, 0], LAW, fresh=fresh)


@pytest.mark.parametrize("T", [1, 10**6])
def test_a_law_has_some_times_and_not_too_many(T: int) -> None:
    with pytest.raises(OptionError, match=f"T = {T} "):
        NoiseLaw(T)


def test_psnr_and_gradient_by_hand() -> None:
    truth = torch.zeros(1, 1, 2, 2)
    x = torch.tensor([[[[0.2, 0.0], [0.0, 0.0]]]])
    assert float(psnr(x, truth)) == pytest.approx(10 * math.log10(4 / 0.01))
    assert float(gradient(x)) == pytest.approx((0.2 + 0.2) / 4)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image comes with the `bench` extra")
    rng = np.random.default_rng(0)
    truth = np.kron(rng.uniform(-1, 1, (2, 3, 5, 6)), np.ones((1, 1, 5, 5)))
    x = np.clip(truth + 0.2 * rng.standard_normal(truth.shape), -1, 1)
    truth[1], x[1] = 0.3 * truth[1] + 0.2, 0.3 * truth[1] - 0.2  # means on both sides of middle grey
    ours = ssim(torch.from_numpy(x), torch.from_numpy(truth))
    parameters = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for one, other, value in zip(127.5 * (x + 1), 127.5 * (truth + 1), ours, strict=True):  # 0 ... 255
        theirs = metrics.structural_similarity(one, other, channel_axis=0, data_range=255, **parameters)
        assert float(value) == pytest.approx(theirs, abs=1e-6)


def test_sums_ask_no_float64_of_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS has none. The meta device stands for it here, and its numbers for those that come from there."""

    def double(values: Tensor) -> Tensor:
        if values.is_meta:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return values.to(torch.float64)

    monkeypatch.setattr(Tensor, "double", double)
    monkeypatch.setattr(Tensor, "cpu", lambda values: torch.ones(values.shape) if values.is_meta else values)
    sums = _Sums()
    sums.add("ones", torch.empty(3, device="meta"))
    assert sums["ones"] == 3


def test_evaluate_of_the_exact_denoiser_gives_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(127.5 * (1 + MEAN + 0.2 * rng.standard_normal((20, 3, 32, 32))), 0, 255).astype(np.uint8)
    s2 = float((values / 127.5 - 1).var())

    def predictor(x: Tensor, t: Tensor) -> Tensor:
        sigma = (t / LAW.T)[:, None, None, None]
        return sigma * (x - MEAN) / (s2 + sigma**2)

    result = evaluate(predictor, values, LAW, many_steps=5)
    assert [row["t"] for row in result["levels"]] == list(range(1, 10))
    for row in result["levels"]:
        assert row["loss"] == pytest.approx(s2 / (s2 + row["sigma"] ** 2), rel=0.03)
    assert result["loss"] == pytest.approx(np.mean([row["loss"] for row in result["levels"]]))
    assert [row["t"] for row in result["many_steps"]] == list(range(1, 10))
    assert result["many_steps"][8]["single"]["psnr"] > result["many_steps"][8]["fresh_noise"]["psnr"]
    assert result["many_steps"][0]["single"] == result["many_steps"][0]["deterministic"]
    with pytest.raises(DataError):
        evaluate(predictor, values[:0], LAW)
