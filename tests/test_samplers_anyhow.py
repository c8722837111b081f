"""What holds for every sampler, whatever the shape of the pictures, the schedule and the levels that are visited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gaussians import float64
from pixmend.diffusion import Diffusion, Known
from pixmend.samplers import SAMPLERS, ddim, dpmpp_2m, network_calls, unipc
from pixmend.schedules import SCHEDULES


def never(x: Tensor) -> Tensor:
    raise AssertionError("no noise is needed here")


@st.composite
def processes(draw: st.DrawFn) -> tuple[Diffusion, list[int]]:
    """A schedule, shipped or of random betas, and levels of it to visit."""
    T = draw(st.integers(2, 60))
    name = draw(st.sampled_from([*SCHEDULES, "random"]))
    betas = st.lists(st.floats(1e-4, 0.9), min_size=T, max_size=T)
    diffusion = Diffusion(torch.tensor(draw(betas), dtype=torch.float64)) if name == "random" else Diffusion(name, T)
    times = draw(st.sets(st.integers(0, T - 1), min_size=1).map(lambda found: sorted(found, reverse=True)))
    return diffusion, times


shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))


@pytest.mark.parametrize("name", SAMPLERS)
@given(process=processes(), shape=shapes, seed=st.integers(0, 2**31))
def test_any_way_around_known_pixels(
    name: str, process: tuple[Diffusion, list[int]], shape: tuple[int, ...], seed: int
) -> None:
    """Known pixels exact, type and shape kept, as many calls as announced, every level visited, nothing but numbers."""
    diffusion, times = process
    truth = float64(*shape, seed=seed)
    hole = (float64(shape[0], 1, *shape[2:], seed=seed + 1) > 0).double()
    calls = list[int]()

    def denoise(x: Tensor, t: int) -> Tensor:
        calls.append(t)
        assert bool(torch.isfinite(x).all())
        return 0.5 * x.clamp(-1, 1)

    for conditioning in ("plain", "known-aware"):
        calls.clear()
        known = Known(truth, hole, diffusion, conditioning, torch.randn_like)
        start = known.start(times[0])
        x = SAMPLERS[name](denoise, start, times, diffusion, noise=torch.randn_like, put_back=known.put_back)
        assert x.shape == shape
        assert x.dtype == torch.float64
        assert torch.equal(torch.where(hole > 0, 0, x), torch.where(hole > 0, 0, truth))
        assert bool(torch.isfinite(x).all())
        assert len(calls) == network_calls(name, len(times))
        assert sorted(set(calls), reverse=True) == times


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m, unipc])
@given(process=processes(), shape=shapes, seed=st.integers(0, 2**31))
def test_a_prediction_that_stays_is_followed_exactly(
    sampler: Callable[..., Tensor], process: tuple[Diffusion, list[int]], shape: tuple[int, ...], seed: int
) -> None:
    """The predicted picture at every level, with the noise that was there at the start: for any length of steps."""
    diffusion, times = process
    x0, eps = float64(*shape, seed=seed), float64(*shape, seed=seed + 1)
    passed = list[Tensor]()
    sampler(
        lambda x, t: x0,
        diffusion.add_noise(x0, times[0], eps),
        times,
        diffusion,
        noise=never,
        callback=lambda t, x, predicted: passed.append(x),
    )
    for s, x in zip([*times[1:], -1], passed, strict=True):
        torch.testing.assert_close(x, diffusion.add_noise(x0, s, eps), rtol=0, atol=1e-9)
