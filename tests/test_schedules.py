"""Schedules against the closed forms of the papers they come from, and the times that samplers visit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixmend.errors import OptionError
from pixmend.schedules import SCHEDULES, check_betas, cosine_betas, linear_betas, make_betas, step_subset

names = st.sampled_from(sorted(SCHEDULES))


# --------------------------------------------------------------------------------------------------------- known values


def test_the_linear_schedule_of_ho() -> None:
    betas = linear_betas(1000).numpy()
    np.testing.assert_allclose(betas, np.linspace(1e-4, 0.02, 1000), rtol=1e-13)
    # The value that is quoted for the last alpha_bar of this schedule.
    assert np.prod(1 - betas) == pytest.approx(4.036e-5, rel=1e-3)


@pytest.mark.parametrize("T", [250, 500, 2000, 4000])
def test_the_linear_schedule_ends_at_the_same_noise_for_some_hundreds_of_levels_and_more(T: int) -> None:
    # The logarithm of the last alpha_bar is about -sum(betas), the same for all T but for terms in beta squared.
    expected = -1000 * (1e-4 + 0.02) / 2
    assert math.log(torch.prod(1 - linear_betas(T)).item()) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(("T", "last", "log"), [(50, 0.4, -11.8), (20, 0.999, -23.6), (5, 0.999, -9.4)])
def test_the_linear_schedule_of_few_levels_ends_elsewhere(T: int, last: float, log: float) -> None:
    betas = linear_betas(T)
    assert betas[-1].item() == pytest.approx(last)
    assert math.log(torch.prod(1 - betas).item()) == pytest.approx(log, abs=0.05)


def test_the_cosine_schedule_where_it_is_not_cut() -> None:
    T, s = 1000, 0.008
    betas = cosine_betas(T)
    alpha_bars = np.cumprod(1 - betas.numpy())
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    closed = np.array(f[1:]) / f[0]
    cut = betas.numpy() >= 0.999
    assert cut.sum() == 1, "at T = 1000 the largest allowed beta cuts the last step alone"
    assert cut[-1]
    np.testing.assert_allclose(alpha_bars[:-1], closed[:-1], rtol=1e-9)
    assert betas[-1] == 0.999


def test_cosine_parameters() -> None:
    assert cosine_betas(50, largest=0.5).max() == 0.5
    # With s = 0 the first alpha_bar is cos(pi / 2T) squared.
    assert 1 - cosine_betas(100, s=0.0)[0].item() == pytest.approx(math.cos(math.pi / 200) ** 2, rel=1e-14)


@pytest.mark.parametrize("T", [2, 3, 10, 1000])
def test_zero_terminal_signal(T: int) -> None:
    betas = make_betas("zero-terminal", T)
    alpha_bars = torch.cumprod(1 - betas, 0)
    assert alpha_bars[-1] == 0, "exactly"
    assert betas[-1] == 1
    assert (betas[:-1] < 1).all()
    first = 1 - linear_betas(T)[0].item()
    assert alpha_bars[0].item() == pytest.approx(first, rel=1e-14), "the first level is unchanged"


def test_zero_terminal_is_the_linear_schedule_shifted_and_scaled() -> None:
    roots = torch.cumprod(1 - make_betas("linear", 1000), 0).sqrt().numpy()
    rescaled = torch.cumprod(1 - make_betas("zero-terminal", 1000), 0).sqrt().numpy()
    # A straight line through (last, 0) and (first, first).
    expected = np.interp(roots, [roots[-1], roots[0]], [0, roots[0]])
    np.testing.assert_allclose(rescaled, expected, atol=1e-12)


@given(names, st.integers(2, 1200))
def test_every_schedule_at_every_T(name: str, T: int) -> None:
    betas = make_betas(name, T)
    assert betas.shape == (T,)
    assert betas.dtype == torch.float64
    assert betas.device.type == "cpu"
    assert (betas > 0).all()
    assert (betas[:-1] < 1).all()
    assert betas[-1] <= 1
    alpha_bars = torch.cumprod(1 - betas, 0)
    assert (alpha_bars[1:] < alpha_bars[:-1]).all(), "noise only grows"


# ------------------------------------------------------------------------------------------------------ what is refused


def test_an_unknown_schedule_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'sigmoid' is not known; choose one of linear, cosine, zero-terminal"):
        make_betas("sigmoid", 10)


@pytest.mark.parametrize("T", [1, 0, -5])
def test_too_few_levels(T: int) -> None:
    with pytest.raises(OptionError, match=rf"T = {T} .*at least 2"):
        make_betas("linear", T)


@pytest.mark.parametrize(
    "betas",
    [
        [0.0, 0.5],
        [-0.1, 0.5],
        [0.1, 1.0, 0.5],
        [0.1, 1.1],
        [1e-17, 0.5],
        [0.1, math.nan],
        [math.nan, 0.1],
        [0.1, math.inf],
    ],
)
def test_betas_out_of_range(betas: list[float]) -> None:
    with pytest.raises(OptionError, match="each must lie in"):
        check_betas(torch.tensor(betas))


@pytest.mark.parametrize("betas", [torch.tensor(0.5), torch.full((2, 2), 0.5), torch.zeros(0)])
def test_betas_of_a_wrong_shape(betas: torch.Tensor) -> None:
    with pytest.raises(OptionError, match="give one or more in a row"):
        check_betas(betas)


def test_a_single_level_may_be_pure_noise() -> None:
    assert check_betas(torch.ones(1)).tolist() == [1.0]
    with pytest.raises(OptionError, match="each must lie in"):
        check_betas(torch.full((1,), 1.5))


def test_betas_become_float64_and_may_end_in_one() -> None:
    betas = check_betas(torch.tensor([0.25, 0.5, 1.0], dtype=torch.float32))
    assert betas.dtype == torch.float64
    assert betas.tolist() == [0.25, 0.5, 1.0]


# --------------------------------------------------------------------------------------------------------- step subsets


@given(st.integers(1, 3000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_step_subset(case: tuple[int, int]) -> None:
    T, steps = case
    times = step_subset(T, steps)
    assert len(times) == steps
    assert times[0] == T - 1, "the first step starts from pure noise"
    assert times[-1] >= 0
    assert all(a > b for a, b in pairwise(times)), "distinct and descending"
    lengths = [a - b for a, b in pairwise([*times, -1])]
    assert max(lengths) - min(lengths) <= 2, "even, the last step to the clean picture (t = -1) as long as the others"
    assert all(abs(length - T / steps) <= 1 for length in lengths)


@given(st.integers(1, 500))
def test_all_steps(T: int) -> None:
    assert step_subset(T, T) == list(range(T - 1, -1, -1))


def test_step_subset_of_table_2() -> None:
    # Lin et al. 2023, table 2, trailing: T = 1000 counted from 1, ten steps: 1000, 900, ..., 100.
    assert step_subset(1000, 10) == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert step_subset(1000, 1) == [999]


@pytest.mark.parametrize("steps", [0, -1, 11])
def test_impossible_numbers_of_steps(steps: int) -> None:
    with pytest.raises(OptionError, match=rf"^{steps} steps are not possible; choose 1 to 10"):
        step_subset(10, steps)
