"""What fills are measured by, against values worked out by hand, mathematics and other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.evaluation import classifier, distributions, learned, metrics
from pixmend.evaluation.baselines import mean_colour
from pixmend.evaluation.distributions import PatchDistance
from pixmend.evaluation.measuring import Measured
from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import Case
from pixmend.evaluation.statistics import by_picture, difference_interval, ratio_interval
from pixmend.evaluation.summary import summarize, validity
from pixmend.masks import dilate

ROW = torch.tensor([[[[0.0, 0.5, -0.5, 1.0]]]])  # (1, 1, 1, 4)
ROW_HOLE = torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]])


def pictures(count: int, side: int = 48, seed: int = 0) -> Tensor:
    """Smooth noise with edges and grain in it: (count, 3, side, side) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, side // 8, side // 8, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bilinear")
    return (0.5 * smooth.sign() * smooth.abs().sqrt() + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(
        -1, 1
    )


def middle_hole(count: int, side: int = 48) -> Tensor:
    hole = torch.zeros(count, 1, side, side)
    hole[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
    return hole


def blurred(x: Tensor, hole: Tensor) -> Tensor:
    """x, its hole averaged over 3x3."""
    return torch.where(hole > 0, F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)


# ------------------------------------------------------------------------------------------------- pixel by pixel


def test_psnr_and_mae_of_a_constant_error() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    hole = torch.zeros(2, 1, 4, 4)
    hole[..., :2, :] = 1
    x = truth.clone()
    x[0, :, :2] = 0.2  # mse 0.04: 4 / 0.04 = 100 = 20 dB
    x[1, :, :2] = 2.0  # as wrong as can be: 0 dB
    assert metrics.hole_psnr(x, truth, hole).tolist() == pytest.approx([20.0, 0.0], abs=1e-4)
    assert metrics.hole_mae(x, truth, hole).tolist() == pytest.approx([25.5, 255.0])


def test_psnr_looks_at_the_hole_alone_and_at_every_channel() -> None:
    truth = torch.zeros(1, 3, 2, 2)
    hole = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    x = torch.ones(1, 3, 2, 2)
    x[0, :, 0, 0] = torch.tensor([0.3, 0.0, 0.0])  # mse 0.03: 10 log10(4 / 0.03) = 21.249
    assert float(metrics.hole_psnr(x, truth, hole)) == pytest.approx(21.2494, abs=1e-3)


def test_psnr_of_an_exact_fill_is_the_best_there_is() -> None:
    truth = torch.rand(1, 3, 4, 4)
    assert float(metrics.hole_psnr(truth, truth, torch.ones(1, 1, 4, 4))) == metrics.BEST_PSNR


def test_diversity_is_the_mean_over_pairs() -> None:
    fills = torch.stack([torch.full((1, 3, 4, 4), value) for value in (0.0, 0.2, 0.6)])
    apart = (0.2 + 0.6 + 0.4) / 3 * 127.5
    assert float(metrics.diversity(fills, torch.ones(1, 1, 4, 4))) == pytest.approx(apart)
    assert float(metrics.diversity(fills[:1], torch.ones(1, 1, 4, 4))) == 0


# ------------------------------------------------------------------------------------------------- by neighbourhood


def test_ssim_map_is_that_of_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image comes with the `bench` extra")
    truth, x = pictures(2, 40, seed=1).double().unbind()
    parameters = {"sigma": 1.5, "gaussian_weights": True, "use_sample_covariance": False}
    for a, b in ((x, truth), (0.3 * x - 0.2, 0.3 * x + 0.2)):  # the second: means on both sides of middle grey
        levels = [(127.5 * (y + 1)).numpy() for y in (a, b)]  # 0 ... 255
        _, expected = skimage.structural_similarity(*levels, data_range=255, channel_axis=0, full=True, **parameters)
        assert metrics.ssim_map(a[None], b[None])[0].numpy() == pytest.approx(expected.mean(axis=0), abs=1e-9)


def test_ssim_is_averaged_over_what_sees_the_hole() -> None:
    truth, hole = pictures(1), torch.zeros(1, 1, 48, 48)
    hole[..., 20, 20] = 1
    x = torch.where(hole > 0, 1.0, truth)
    touched = metrics.ssim_map(x, truth)[0, 15:26, 15:26]
    assert float(metrics.ssim(x, truth, hole)) == pytest.approx(float(touched.mean()), abs=1e-6)
    assert (metrics.ssim_map(x, truth) == 1)[0, :14].all()


@pytest.mark.parametrize("measure", [metrics.ssim, metrics.ms_ssim])
def test_similarity_is_1_for_the_truth_and_falls_with_blur(measure: Callable[..., Tensor]) -> None:
    truth, hole = pictures(3), middle_hole(3)
    once = blurred(truth, hole)
    assert measure(truth, truth, hole).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    assert (measure(once, truth, hole) < 0.99).all()
    thrice = blurred(blurred(once, hole), hole)  # twice weighs the middle pixel as much as once: 1/9
    assert (measure(thrice, truth, hole) < measure(once, truth, hole)).all()


def test_ms_ssim_of_one_scale_is_ssim() -> None:
    truth, hole = pictures(2, 16), middle_hole(2, 16)  # half of 16 is narrower than the window
    x = blurred(truth, hole)
    assert torch.allclose(metrics.ms_ssim(x, truth, hole), metrics.ssim(x, truth, hole))


def test_ms_ssim_of_a_constant_shift_is_the_luminance_of_the_last_scale() -> None:
    truth = torch.zeros(1, 3, 32, 32)  # two scales, of weights .0448 and .2856
    # (2 m n + c1) / (m^2 + n^2 + c1) for m = 1.5 and n = 1 above black, white = 2, c1 = 0.02^2
    luminance = (2 * 1.5 * 1 + 0.0004) / (1.5**2 + 1 + 0.0004)
    expected = luminance ** (0.2856 / (0.0448 + 0.2856))
    found = metrics.ms_ssim(truth + 0.5, truth, torch.ones(1, 1, 32, 32))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_gmsd_as_its_paper_has_it() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy comes with scikit-image")
    truth, x = pictures(2, 32, seed=3).double().unbind()

    def magnitude(y: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        grey = 255 * (np.tensordot(metrics.LUMA, y.numpy(), 1) + 1) / 2
        halved = grey.reshape(16, 2, 16, 2).mean(axis=(1, 3))
        slopes = [ndimage.prewitt(halved, axis, mode="nearest") / 3 for axis in (0, 1)]
        return np.asarray(np.hypot(*slopes))

    a, b = magnitude(x), magnitude(truth)
    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
    found = metrics.gmsd(x[None], truth[None], torch.ones(1, 1, 32, 32, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(metrics.gmsd(truth[None], truth[None], torch.ones(1, 1, 32, 32))) == 0


# ------------------------------------------------------------------------------------------------- seam and sharpness


def test_gradients_of_a_row() -> None:
    assert float(metrics.inside_gradient(ROW, ROW_HOLE)) == pytest.approx(1.0)  # 0.5 to -0.5
    assert float(metrics.boundary_gradient(ROW, ROW_HOLE)) == pytest.approx(1.0)  # (0.5 + 1.5) / 2


def test_gradients_look_down_as_well_as_along() -> None:
    x = torch.tensor([[[[0.0, 0.1], [0.4, 1.0]]]])
    hole = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert float(metrics.inside_gradient(x, hole)) == pytest.approx((0.1 + 0.4) / 2)
    assert float(metrics.boundary_gradient(x, hole)) == pytest.approx((0.6 + 0.9) / 2)


def test_gradients_average_over_channels_and_keep_pictures_apart() -> None:
    x = torch.cat([ROW, 3 * ROW, -ROW, ROW], dim=0).reshape(2, 2, 1, 4)  # channels (1, 3) and (-1, 1) times the row
    assert metrics.inside_gradient(x, ROW_HOLE.expand(2, 1, 1, 4)).tolist() == pytest.approx([2.0, 1.0])


def test_gradients_without_a_pair_are_zero() -> None:
    assert float(metrics.inside_gradient(ROW, torch.tensor([[[[1.0, 0.0, 1.0, 0.0]]]]))) == 0
    assert float(metrics.boundary_gradient(ROW, torch.ones(1, 1, 1, 4))) == 0


@pytest.mark.parametrize("size", [(16, 16), (7, 13), (1, 1), (1, 9)])
def test_bands_of_a_constant_are_zero_and_their_sizes_halve(size: tuple[int, int]) -> None:
    bands = metrics.laplacian_bands(torch.full((1, 3, *size), 0.7))
    assert [tuple(band.shape[-2:]) for band in bands] == [
        (-(-size[0] // 2**k), -(-size[1] // 2**k)) for k in range(metrics.BANDS)
    ]
    assert max(float(band.abs().max()) for band in bands) < 1e-6


def test_a_wave_lies_in_the_band_of_its_length() -> None:
    places = torch.arange(64.0)
    hole = torch.ones(1, 1, 64, 64)
    for band, length in enumerate((2.5, 10, 20)):
        wave = torch.sin(2 * torch.pi * places / length)[None, None, None, :].expand(1, 3, 64, 64)
        assert int(metrics.band_detail(wave, hole).argmax()) == band


def test_detail_of_an_impulse_is_that_of_the_filter() -> None:
    x = torch.zeros(1, 1, 17, 17)
    x[..., 8, 8] = 1
    w = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    even = 2 * float(w[0] * w[0] * 2 + w[2] * w[2])  # what reduce and expand leave of an even place, along one axis
    band = metrics.laplacian_bands(x, 1)[0]
    assert float(band[0, 0, 8, 8]) == pytest.approx(1 - even**2, abs=1e-6)


def test_detail_grows_with_contrast_and_noise_does_not_pass_for_coarse_detail() -> None:
    truth, hole = pictures(4), middle_hole(4)
    true = metrics.band_detail(truth, hole)
    assert torch.allclose(metrics.band_detail(0.5 * truth, hole), 0.5 * true, atol=1e-6)
    soft = blurred(truth, hole)
    noisy = soft + 0.2 * torch.randn(soft.shape, generator=torch.Generator().manual_seed(0)) * hole
    finest, coarsest = (metrics.band_detail(noisy, hole) / true)[:, [0, 2]].mean(dim=0)
    assert finest > 1.2 > coarsest


# ------------------------------------------------------------------------------------------------- sets of fills


def test_sliced_wasserstein_is_zero_for_the_truth_and_grows_with_blur() -> None:
    truth, hole = pictures(24), middle_hole(24)
    distance = PatchDistance(truth, hole)
    assert distance(truth).value == 0
    once = blurred(truth, hole)
    assert 0.02 < distance(once).value < distance(blurred(once, hole)).value


def test_sliced_wasserstein_of_other_real_pictures_is_about_the_floor() -> None:
    truth, others, hole = pictures(40), pictures(40, seed=9), middle_hole(40)
    found = PatchDistance(truth, hole)(others)
    assert abs(found.value) < 0.25 * found.floor


def test_sets_have_an_interval_only_where_it_is_one_of_pictures() -> None:
    """None for sliced Wasserstein; for the classifier that of a mean of 100 shares of two fair answers each."""
    truth, hole = pictures(8), middle_hole(8)
    noise = torch.randn(2, 100, 4, generator=torch.Generator().manual_seed(0))
    whole = {
        "sliced_wasserstein": asdict(PatchDistance(truth, hole)(blurred(truth, hole))),
        "classifier": {**classifier.accuracy(*noise)._asdict(), "telea": 1.0, "real": 0.5},
    }
    case = Case("0", "centre", np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=bool))
    figures = summarize({Method("m", mean_colour): {"centre": ([case] * 100, Measured([{}] * 100, whole))}})
    wasserstein, told = figures
    assert (wasserstein.low, wasserstein.high) == (None, None)
    assert told.low is not None
    assert told.value is not None
    assert told.high is not None
    assert told.low < told.value < told.high
    assert told.high - told.low == pytest.approx(2 * 1.96 * (0.125 / 100) ** 0.5, rel=0.2)


def test_distance_is_that_of_scipy_along_every_direction() -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy comes with scikit-image")
    a, b = torch.randn(2, 5, 30, 4, generator=torch.Generator().manual_seed(0))  # pictures, places, directions
    expected = np.mean([stats.wasserstein_distance(a[..., i].flatten(), b[..., i].flatten()) for i in range(4)])
    assert distributions._distance(a, b) == pytest.approx(expected, rel=1e-5)
    assert distributions._distance(a, a + 0.5) == pytest.approx(0.5, rel=1e-5)


def test_classifier_tells_blur_and_not_real_from_real() -> None:
    truth, hole = pictures(40), middle_hole(40)
    real = classifier.features(truth, hole)
    assert classifier.accuracy(real, classifier.features(blurred(truth, hole), hole)).value > 0.95
    assert classifier.accuracy_of_lots(real) < classifier.most_by_lot(40)


def test_the_classifier_is_not_asked_what_it_learnt() -> None:
    """Of noise it can learn by heart what is real, having more features than pictures, and nothing that holds."""
    real, filled = torch.randn(2, 100, 150, generator=torch.Generator().manual_seed(0))
    assert classifier.accuracy(real, filled).value == pytest.approx(0.5, abs=0.1)


def test_lots_are_told_in_half_of_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over 20 sets of noise is 0.5; its standard deviation is 0.015. Labels in two halves come to 0.41."""
    generator = torch.Generator().manual_seed(0)
    told = []
    for seed in range(20):
        monkeypatch.setattr(classifier, "SEED", 10 * seed)
        told.append(classifier.accuracy_of_lots(torch.randn(20, 2, generator=generator)))
    assert np.mean(told) == pytest.approx(0.5, abs=0.06)
    assert max(told) < classifier.most_by_lot(20)


@pytest.mark.parametrize("count", [20, 100])
def test_lots_find_a_classifier_that_is_asked_what_it_learnt(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(count, 150, generator=torch.Generator().manual_seed(0))
    everything = torch.arange(count)
    monkeypatch.setattr(classifier, "_folds", lambda count: [(everything, everything)])
    told = classifier.accuracy_of_lots(features)
    assert told > classifier.most_by_lot(count)
    assert "are told in 100.0%" in validity({"telea": 1.0, "real": told}, count)
    assert validity({"telea": 1.0, "real": 0.6}, count) == ""  # chance reaches it


def test_classifier_is_the_same_twice_and_takes_holes_of_everything() -> None:
    truth, hole = pictures(10, 16), torch.ones(10, 1, 16, 16)
    assert torch.isfinite(classifier.features(truth, hole)).all()
    real, filled = classifier.features(truth, hole), classifier.features(pictures(10, 16, seed=4), hole)
    assert classifier.accuracy(real, filled) == classifier.accuracy(real, filled)


def test_lpips_and_fid_are_given_the_numbers_that_they_are_defined_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchmetrics documents: LPIPS floats in [-1, 1], FID whole numbers from 0 to 255."""

    class Lpips:
        def __init__(self, net_type: str) -> None:
            assert net_type == "alex"

        def __call__(self, a: Tensor, b: Tensor) -> Tensor:
            assert min(a.min(), b.min()) < 0 < 0.9 < max(a.max(), b.max()) <= 1
            return (a - b).abs().mean()

    class Fid:
        def __init__(self, feature: int) -> None:
            self.seen: dict[bool, Tensor] = {}

        def update(self, pictures: Tensor, real: bool) -> None:
            assert pictures.dtype == torch.uint8
            self.seen[real] = pictures.float()

        def compute(self) -> Tensor:
            return (self.seen[True] - self.seen[False]).mean()

    perceptual = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=Lpips)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", perceptual)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", SimpleNamespace(FrechetInceptionDistance=Fid))
    white, black = torch.ones(2, 3, 32, 32), -torch.ones(2, 3, 32, 32)
    learned.lpips.cache_clear()
    assert learned.lpips()(white, black).tolist() == [2, 2]
    learned.lpips.cache_clear()
    assert learned.fid(black, white) == 255


def test_intervals_are_told_from_five_pictures_on() -> None:
    for count, told in ((4, False), (5, True)):
        values = np.arange(count, dtype=float)
        found = ratio_interval(values, np.ones(count))
        assert found.value == pytest.approx(values.mean())
        assert np.isfinite([found.low, found.high]).all() == told


def test_lpips_and_fid_are_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("LPIPS", "FID"):
        assert (learned.missing(name) or "").startswith(f"{name} is left out")
    monkeypatch.setattr(learned, "find_spec", lambda package: object())
    assert "weights are not on this machine" in (learned.missing("FID") or "")


# ------------------------------------------------------------------------------------------------- how sure it is


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = ratio_interval(values, np.ones(400))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.value, found.value - found.low) == pytest.approx((half, half), rel=0.1)


def test_ratio_is_one_of_sums() -> None:
    assert ratio_interval(np.array([1.0, 2.0]), np.array([0.0, 6.0])).value == pytest.approx(0.5)
    assert np.isnan(ratio_interval(np.array([1.0]), np.array([0.0])).value)


def test_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(20, 5, 100)  # what makes a picture hard for all
    ones = np.ones(100)
    a, b = hard + rng.normal(0.5, 0.5, 100), hard
    apart = difference_interval((a, ones), (b, ones))
    alone = ratio_interval(a, ones)
    assert apart.low > 0
    assert apart.high - apart.low < 0.2 * (alone.high - alone.low)


def test_two_holes_in_one_picture_are_no_two_witnesses() -> None:
    """Copies of a picture's entries leave the interval as it is."""
    values = np.random.default_rng(2).normal(0, 1, 50).tolist()
    names = [f"{i:02}" for i in range(50)]
    sums, counts = by_picture(names * 3, values * 3), by_picture(names * 3, [1.0] * 150)
    assert list(counts.values()) == [3.0] * 50
    once = ratio_interval(np.array(values), np.ones(50))
    assert ratio_interval(np.array(list(sums.values())), np.array(list(counts.values()))) == pytest.approx(once)


def test_region_of_ssim_grows_by_the_window() -> None:
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 16, 16] = 1
    assert int(dilate(hole, metrics.WINDOW).sum()) == (2 * metrics.WINDOW + 1) ** 2
