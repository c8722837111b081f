"""What the network is told: the guide, its limits and independence, and that nothing of the hole's truth leaks."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pixmend.conditioning import (
    INPUT_CHANNELS,
    RATES,
    _laplacian,
    enlarged,
    make_denoiser,
    network_input,
    roughened,
    smooth_fill,
)
from pixmend.diffusion import Conditioning, Diffusion, Known, Prediction
from pixmend.masks import create_advanced_mask

sides = st.integers(1, 33)
seeds = st.integers(0, 2**32)
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99])


def pictures(size: tuple[int, int], seed: int = 0, batch: int = 2) -> Tensor:
    return torch.rand((batch, 3, *size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def holes(size: tuple[int, int], share: float, seed: int = 1, batch: int = 2) -> Tensor:
    return (torch.rand((batch, 1, *size), generator=torch.Generator().manual_seed(seed)) < share).float()


def never(x: Tensor) -> Tensor:
    raise AssertionError("no noise is needed here")


# ----------------------------------------------------------------------------------------------------- smooth fill


@settings(max_examples=150)
@given(sides, sides, shares, seeds)
def test_smooth_fill_at_every_size(h: int, w: int, share: float, seed: int) -> None:
    x, hole = pictures((h, w), seed), holes((h, w), share, seed + 1)
    filled = smooth_fill(x, hole)
    assert filled.shape == x.shape
    assert torch.equal(torch.where(hole > 0, 0.0, filled), torch.where(hole > 0, 0.0, x)), "known pixels are exact"
    for one, its_hole, fill in zip(x, hole, filled, strict=True):
        known = one[:, its_hole[0] == 0]  # (3, N)
        if known.numel() == 0:
            assert torch.equal(fill, torch.zeros_like(fill)), "nothing is known: the middle of the range"
            continue
        assert (fill.abs() <= 1).all(), "a thin plate swings beyond what holds it, but not beyond what a pixel can be"


@given(sides, sides, shares, seeds)
def test_a_constant_picture_stays_constant(h: int, w: int, share: float, seed: int) -> None:
    hole = holes((h, w), share, seed, batch=1)
    hole[..., h // 2, w // 2] = 0  # something is known
    x = torch.tensor([0.75, -1.0, 0.1])[:, None, None].expand(1, 3, h, w)
    torch.testing.assert_close(smooth_fill(x * (1 - hole), hole), x, rtol=0, atol=1e-5)


@given(sides, sides, shares, seeds)
def test_what_stands_in_the_hole_is_not_used(h: int, w: int, share: float, seed: int) -> None:
    x, hole = pictures((h, w), seed), holes((h, w), share, seed + 1)
    other = torch.where(hole > 0, 1e4 * pictures((h, w), seed + 2), x)
    assert torch.equal(smooth_fill(other, hole), smooth_fill(x, hole))


@given(sides, sides, seeds)
def test_a_picture_is_filled_alone(h: int, w: int, seed: int) -> None:
    x, hole = pictures((h, w), seed), holes((h, w), 0.6, seed + 1)
    torch.testing.assert_close(smooth_fill(x, hole)[1:], smooth_fill(x[1:], hole[1:]), rtol=0, atol=1e-6)


def test_one_known_pixel_gives_its_colour_everywhere() -> None:
    x, hole = torch.zeros(1, 3, 19, 30), torch.ones(1, 1, 19, 30)
    x[..., 11, 4] = torch.tensor([0.5, -0.25, 1.0])
    hole[..., 11, 4] = 0
    expected = torch.tensor([0.5, -0.25, 1.0])[:, None, None].expand(1, 3, 19, 30)
    torch.testing.assert_close(smooth_fill(x, hole), expected)


def test_smooth_fill_of_two_pixels_by_hand() -> None:
    # 1x2, left known: the level below is the average weighted with what is known, which is the left one.
    x, hole = torch.tensor([[[[0.5, 9.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    torch.testing.assert_close(smooth_fill(x, hole), torch.full_like(x, 0.5))


def test_a_plane_goes_on_through_a_hole() -> None:
    """A thin plate that is held in a plane lies in it, as a membrane does."""
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, 48), torch.linspace(-0.4, 0.4, 48), indexing="ij")
    plane, hole = (x + y).expand(1, 3, 48, 48), torch.zeros(1, 1, 48, 48)
    hole[..., 14:34, 10:33] = 1
    torch.testing.assert_close(smooth_fill(plane, hole), plane, rtol=0, atol=0.04)


def test_a_parabola_goes_on_through_holes_as_in_a_plate_and_not_as_in_a_membrane() -> None:
    """x² is biharmonic and not harmonic. Over all places in the pyramid, the error is a third of a membrane's."""
    truth = (torch.linspace(-1, 1, 48) ** 2 - 0.5).expand(16, 1, 48, 48)
    hole = torch.zeros_like(truth)
    for k in range(16):
        hole[k, :, 20 + k // 4 :, 20 + k % 4 :][..., :4, :4] = 1
    membrane = truth * (1 - hole)
    for _ in range(100):  # every pixel of it the mean of its neighbours
        mean = sum(membrane.roll(by, axis) for axis in (2, 3) for by in (1, -1)) / 4
        membrane = torch.where(hole > 0, mean, truth)
    assert (smooth_fill(truth, hole) - truth).square().sum() < (membrane - truth).square().sum() / 3


@pytest.mark.parametrize("kind", ["thin", "alternate-rows", "every-second-pixel", "scattered", "text", "rectangles"])
def test_the_smooth_fill_is_nearly_the_biharmonic_of_scikit_image(kind: str) -> None:
    """Its squared difference from a solution to the end is a fifth at most of that solution's own from the truth."""
    restoration = pytest.importorskip("skimage.restoration", reason="needs scikit-image")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    picture = Image.fromarray(data.camera()).resize((64, 64), Image.Resampling.LANCZOS)
    x, hole = np.asarray(picture, np.float64) / 127.5 - 1, create_advanced_mask(kind, 64, seed=3)
    inside = hole[0, 0].numpy() > 0
    solved = restoration.inpaint_biharmonic(np.where(inside, 0, x), inside).clip(-1, 1)
    filled = smooth_fill(torch.from_numpy(x)[None, None].float(), hole)[0, 0].numpy()
    assert np.mean((filled - solved)[inside] ** 2) < 0.2 * np.mean((x - solved)[inside] ** 2)


def test_a_symmetric_hole_is_filled_symmetrically() -> None:
    x, hole = pictures((16, 16), batch=1), holes((16, 16), 0.7, batch=1)
    torch.testing.assert_close(smooth_fill(x.flip(3), hole.flip(3)).flip(3), smooth_fill(x, hole), rtol=0, atol=1e-6)
    torch.testing.assert_close(smooth_fill(x.mT, hole.mT).mT, smooth_fill(x, hole), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- roughened


def coarse(x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    low = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    return F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False)[..., :h, :w]


@pytest.mark.parametrize("size", [(16, 16), (17, 9), (1, 1)])
def test_without_blur_and_grain_only_the_resolution_is_lost(size: tuple[int, int]) -> None:
    x, zero = pictures(size), torch.zeros(2)
    noise = torch.full((2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2), 3.0)
    torch.testing.assert_close(roughened(x, torch.ones(2, 1, *size), zero, zero, noise), coarse(x))


def test_roughness_stays_in_the_hole() -> None:
    size = (32, 24)
    x, hole = pictures(size), torch.zeros(2, 1, *size)
    hole[..., 8:16, 8:16] = 1
    noise = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    rough = roughened(x, hole, torch.ones(2), torch.full((2,), 0.5), noise)
    # The hole covers 4x4 pixels of the coarse level; enlarging spreads them by one pixel of the fine level.
    changed = (rough - coarse(x)).abs().amax(1) > 1e-6
    assert not changed[:, :7].any()
    assert not changed[:, 17:].any()
    assert not changed[:, :, :7].any()
    assert not changed[:, :, 17:].any()
    assert changed[:, 8:16, 8:16].all()


def test_a_half_covered_coarse_pixel_is_rough() -> None:
    x, hole = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    hole[..., 0, 1] = 1
    rough = roughened(x, hole, torch.zeros(1), torch.ones(1), torch.ones(1, 3, 2, 2))
    assert torch.equal(rough[..., 0, 0], torch.ones(1, 3)), "the whole coarse pixel that touches the hole"
    assert torch.equal(rough[..., 3, 3], torch.zeros(1, 3))


def test_blur_and_grain_are_those_of_each_picture() -> None:
    x, hole = torch.zeros(3, 3, 32, 32), torch.ones(3, 1, 32, 32)
    noise = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rough = roughened(x, hole, torch.zeros(3), torch.tensor([0.0, 0.1, 0.4]), noise)
    for grain, one, its_noise in zip([0.0, 0.1, 0.4], rough, noise, strict=True):
        torch.testing.assert_close(one[None], enlarged(grain * its_noise[None], (32, 32)))
    x = pictures((32, 32), batch=3)
    blurred = roughened(x, hole, torch.tensor([0.0, 0.5, 1.0]), torch.zeros(3), noise)
    torch.testing.assert_close(blurred[:1], coarse(x[:1]))
    low = F.avg_pool2d(x, 2)
    box = F.avg_pool2d(low, 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(blurred[2:], enlarged(box[2:], (32, 32)))
    torch.testing.assert_close(blurred[1:2], enlarged((low[1:2] + box[1:2]) / 2, (32, 32)))


# --------------------------------------------------------------------------------------------------- network input


def test_the_seven_channels() -> None:
    size = (6, 5)
    xt, x0, guide = pictures(size, 0), pictures(size, 1), pictures(size, 2)
    hole = holes(size, 0.5)
    told = network_input(xt, x0, hole, guide)
    assert told.shape == (2, INPUT_CHANNELS["known-aware"], *size)
    inside = hole.expand(-1, 3, -1, -1) == 1
    seen, where, rough = told[:, :3], told[:, 3:4], told[:, 4:]
    assert torch.equal(seen[inside], xt[inside])
    assert torch.equal(seen[~inside], x0[~inside])
    assert torch.equal(where, hole)
    assert torch.equal(rough[inside], guide[inside])
    assert torch.equal(rough[~inside], x0[~inside]), "where the guide is, what is known is as it is"


# ------------------------------------------------------------------------------------------------------ the denoiser


class Recorder:
    """A network that answers with zeros and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor]] = []

    def __call__(self, told: Tensor, t: Tensor) -> Tensor:
        self.asked.append((told.clone(), t.clone()))
        return torch.zeros_like(told[:, :3])


def soft_edge(size: int = 8) -> Tensor:
    soft = torch.zeros(2, 1, size, size)
    soft[..., 1:7, 1:7] = 0.5
    soft[..., 2:6, 2:6] = 1
    return soft


def test_the_plain_network_sees_the_state_alone() -> None:
    network, x = Recorder(), pictures((8, 8))
    known = Known(torch.full((2, 3, 8, 8), 0.3), soft_edge(), Diffusion(T=10, prediction="x0"), "plain", never)
    make_denoiser(network, known)(x, 7)
    [(told, t)] = network.asked
    assert torch.equal(told, x)
    assert t.tolist() == [7, 7]
    assert not t.is_floating_point()


@pytest.mark.parametrize("conditioning", ["known-aware", "residual"])
@pytest.mark.parametrize("given_guide", [False, True])
def test_the_network_is_told_what_is_known(given_guide: bool, conditioning: Conditioning) -> None:
    """In the residual mode the state in the hole is r_t = x_t - sqrt(alpha_bar_t) g."""
    network, x, x0, soft = Recorder(), pictures((8, 8), 0), pictures((8, 8), 1), soft_edge()
    diffusion = Diffusion(T=10, prediction="x0")
    known = Known(x0, soft, diffusion, conditioning, never)
    guide = pictures((8, 8), 2)
    denoise = make_denoiser(network, known, guide if given_guide else None)
    expected_guide = guide if given_guide else smooth_fill(x0, (soft > 0).float())
    # (t + 1) / T: at t = 9 only soft = 1 is in the hole, at t = 4 the edge of one half has joined it.
    for t, hole in [(9, soft == 1), (5, soft == 1), (4, soft > 0), (0, soft > 0)]:
        denoise(x, t)
        told, times = network.asked[-1]
        assert times.tolist() == [t, t]
        base = diffusion.alpha_bars[t].sqrt().item() * expected_guide if conditioning == "residual" else 0
        torch.testing.assert_close(told[:, :3], torch.where(hole, x - base, x0), rtol=0, atol=1e-6)
        assert torch.equal(torch.where(hole, 0, told[:, :3]), torch.where(hole, 0, x0)), "clean where known"
        assert torch.equal(told[:, 3:4], hole.float())
        assert torch.equal(told[:, 4:], torch.where(hole, expected_guide, x0))


@pytest.mark.parametrize("conditioning", INPUT_CHANNELS)
def test_the_truth_of_the_hole_never_reaches_the_network(conditioning: Conditioning) -> None:
    x, x0, hole = pictures((9, 7), 0), pictures((9, 7), 1), holes((9, 7), 0.5)
    other = torch.where(hole > 0, 100.0, x0)
    asked = []
    for truth in (x0, other):
        network = Recorder()
        known = Known(truth, hole, Diffusion(T=10), conditioning, never)
        denoise = make_denoiser(network, known)
        answers = [denoise(x, t) for t in (9, 5, 0)]
        asked.append([told for told, _ in network.asked] + answers)
    for a, b in zip(*asked, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("conditioning", INPUT_CHANNELS)
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_the_output_is_read_as_the_prediction_says(conditioning: Conditioning, prediction: Prediction) -> None:
    """In the residual mode, what is predicted is the picture less the guide."""
    x0, guide, t = pictures((8, 8), 1) * 0.9, pictures((8, 8), 2), 6
    diffusion = Diffusion(T=10, prediction=prediction)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    x = diffusion.add_noise(x0, t, noise)
    known = Known(x0, soft_edge(), diffusion, conditioning, never)
    predicted = x0 - guide if conditioning == "residual" else x0
    answer = make_denoiser(lambda told, times: diffusion.target(predicted, times, noise), known, guide)(x, t)
    torch.testing.assert_close(answer, x0, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("guide", "output", "expected"), [(-1.0, 1.75, 0.75), (-1.0, 9.0, 1.0), (0.5, 0.75, 1.0), (1.0, -9.0, -1.0)]
)
def test_in_the_residual_mode_the_sum_is_cut_to_what_pictures_can_be(
    guide: float, output: float, expected: float
) -> None:
    x, hole = torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)
    known = Known(x, hole, Diffusion(T=10, prediction="x0"), "residual", never)
    answer = make_denoiser(lambda told, t: torch.full_like(x, output), known, x + guide)(x, 5)
    assert torch.equal(answer, torch.full_like(x, expected))


def test_the_step_before_the_sweeps_damps_what_they_leave() -> None:
    """Of waves of eigenvalue -1, which the sweeps leave at a fifth, it leaves nothing; of chequers, all."""

    def left(wave: Tensor, *, step: bool) -> float:
        x = wave + _laplacian(wave) if step else wave
        for rate in () if step else RATES:
            x = x - rate * _laplacian(_laplacian(x))
        inner = (..., slice(20, -20), slice(20, -20))  # beyond what the edges reach
        return float(x[inner].norm() / wave[inner].norm())

    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    chequers, stripes = ((-1) ** (rows + columns))[None, None], ((-1) ** rows)[None, None]
    assert left(stripes, step=False) == pytest.approx(0.215, abs=1e-3)
    assert left(stripes, step=True) == 0
    assert left(chequers, step=False) == pytest.approx(0.255, abs=1e-3)
    assert left(chequers, step=True) == 1


def test_smooth_fill_keeps_what_is_not_a_number_inside_the_hole() -> None:
    x, hole = torch.full((1, 3, 4, 4), 0.5), torch.zeros(1, 1, 4, 4)
    x[..., 1, 1], hole[..., 1, 1] = float("nan"), 1
    torch.testing.assert_close(smooth_fill(x, hole), torch.full_like(x, 0.5))


@pytest.mark.parametrize("side", [1, 2, 5, 31, 64, 65, 97])
def test_enlarging_shifts_nothing_at_any_size(side: int) -> None:
    """A ramp, halved as the levels are and enlarged again, is the ramp, but for the ends."""
    ramp = torch.arange(float(side)).expand(1, 3, 4, side)
    low = F.avg_pool2d(ramp, 2, ceil_mode=True, count_include_pad=False)
    back = enlarged(low, (4, side))
    assert back.shape == ramp.shape
    torch.testing.assert_close(back[..., 1 : max(1, side - 2)], ramp[..., 1 : max(1, side - 2)])
    twice = enlarged(F.avg_pool2d(low, 2, ceil_mode=True, count_include_pad=False), (4, side))
    torch.testing.assert_close(twice[..., 3 : max(3, side - 7)], ramp[..., 3 : max(3, side - 7)])
