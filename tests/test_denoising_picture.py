"""Noise taken out of pictures of any size and mode, and its level estimated."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pixmend.denoising.level import MOST_PATCHES, PATCH, _patches, estimate_level
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.picture import OVERLAP, TILE, denoise
from pixmend.errors import MemoryLimitError, OptionError
from pixmend.images import open_picture
from pixmend.tiles import tiled
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(32, 32), attention=(False, False), time_channels=16)
CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar-10"


def scene(height: int, width: int, channels: int = 3) -> NDArray[np.float32]:
    """Slopes, discs and waves in [-0.8, 0.8], edges as soft as a lens makes them: (H, W, C) float32."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    layers = []
    for c in range(channels):
        distance = np.hypot(rows - 0.4, columns - 0.5) - 0.2 * (c + 1)
        disc = 1 / (1 + np.exp(0.7 * max(height, width) * distance))
        layers.append(0.5 * np.sin(5 * rows + c) * columns + 0.6 * disc + 0.1 * np.sin(40 * columns) - 0.3)
    values: NDArray[np.float32] = np.clip(np.stack(layers, axis=-1), -0.8, 0.8).astype(np.float32)
    return values


def noisy(values: NDArray[np.float32], sigma: float, seed: int = 0) -> NDArray[np.float32]:
    return (values + sigma * np.random.default_rng(seed).standard_normal(values.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return Denoiser.new("scaled", shape=TINY, levels=(0.01, 1.0))


# ------------------------------------------------------------------------------------------------------ the level


@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.25, 0.5])
def test_level_of_drawn_pictures(sigma: float) -> None:
    assert estimate_level(noisy(scene(150, 180), sigma)) == pytest.approx(sigma, rel=0.05)
    assert estimate_level(noisy(scene(150, 180, 1), sigma)) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_level_of_noise_that_was_cut_off(sigma: float) -> None:
    """As in files: without what is known of the cut, the level would come out too low."""
    cut = np.clip(noisy(1.2 * scene(150, 180), sigma), -1, 1)
    assert estimate_level(cut) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", [0.1, 0.2])
@pytest.mark.parametrize("quality", [90, 95])
def test_level_of_noise_whose_colours_a_jpeg_smoothed(sigma: float, quality: int) -> None:
    """With chroma at half the size: of independent noise, luma 0.299 R + 0.587 G + 0.114 B is left."""
    file = io.BytesIO()
    samples = np.rint((noisy(0.5 * scene(300, 330), sigma).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(samples).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    left = sigma * float(np.linalg.norm([0.299, 0.587, 0.114]))
    assert estimate_level(open_picture(Image.open(file)).colour()) == pytest.approx(left, rel=0.1)


@pytest.mark.parametrize("sigma", [0.1, 0.2])
def test_level_of_noise_that_colours_share(sigma: float) -> None:
    """Of a grey picture in sepia: red, green and blue have 1, 0.85 and 0.65 of its noise."""
    toned = (noisy(0.5 * scene(300, 330, 1), sigma) + 1) * np.array([1, 0.85, 0.65], np.float32) - 1
    assert estimate_level(toned) == pytest.approx((0.299 + 0.587 * 0.85 + 0.114 * 0.65) * sigma, rel=0.1)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_clean_photographs_have_little_noise(name: str) -> None:
    """The fine texture of their luma, by itself, would pass for 0.02 to 0.04."""
    data = pytest.importorskip("skimage.data", reason="scikit-image comes with the `bench` extra")
    assert estimate_level(open_picture(getattr(data, name)()).colour()) < 0.018


@pytest.mark.parametrize("size", [(150, 180), (40, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_flat_or_not_known_does_not_count(size: tuple[int, int], channels: int) -> None:
    values, middle = noisy(0.5 * scene(*size, channels), 0.2), size[0] // 2
    level = estimate_level(values[middle:])
    values[:middle] = 0.1
    if size[0] > 100:
        assert estimate_level(values) == pytest.approx(level, rel=0.1)
    values[:middle] = noisy(values[:middle], 0.5)
    known = np.zeros(size, np.bool_)
    known[middle:] = True
    assert estimate_level(values, known) == pytest.approx(level, rel=0.01)
    assert level == pytest.approx(0.2, rel=0.2)
    assert estimate_level(values, np.zeros(size, np.bool_)) < 1e-6


def test_a_clean_picture_has_almost_no_noise() -> None:
    assert estimate_level(scene(150, 180)) < 0.01
    assert estimate_level(np.full((40, 40, 3), 0.3, np.float32)) < 1e-3
    assert estimate_level(np.ones((40, 40, 3), np.float32)) < 1e-3
    drawn = np.ones((32, 32, 1), np.float32)
    drawn[10:14, 5:30] = -1
    assert estimate_level(drawn) < 1e-3  # among so few patches, flat ones tell that there is no noise


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (4, 5), (8, 8), (3, 200)])
def test_level_of_tiny_pictures_is_a_number(size: tuple[int, int]) -> None:
    for channels in (1, 3):
        level = estimate_level(noisy(np.zeros((*size, channels), np.float32), 0.2))
        assert 0 <= level < 0.6


@pytest.mark.parametrize("size", [(7, 9), (250, 251), (480, 480), (500, 505), (1000, 1500), (3, 200_000)])
def test_no_more_patches_are_looked_at_than_tell_something(size: tuple[int, int]) -> None:
    side = min(PATCH[1], *size)
    places = (size[0] - side + 1) * (size[1] - side + 1)
    count = len(_patches(np.zeros((*size, 1), np.float32), side))
    assert min(places, MOST_PATCHES // 4.2) <= count <= MOST_PATCHES


# -------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (13, 7), (64, 65), (300, 270)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_size_and_depth(denoiser: Denoiser, size: tuple[int, int], dtype: type) -> None:
    levels = np.iinfo(dtype).max
    samples: NDArray[Any] = np.random.default_rng(0).integers(0, levels + 1, (*size, 3)).astype(dtype)
    result = denoise(samples, level=0.3, model=denoiser, device="cpu")
    assert result.picture.samples.shape == samples.shape
    assert result.picture.samples.dtype == dtype
    assert not np.array_equal(result.picture.samples, samples) or size == (1, 1)


def test_a_new_network_gives_the_linear_guess(denoiser: Denoiser) -> None:
    """x0 = x (1 - sigma^2 / (s^2 + sigma^2)), s = 1/2: to a level of 16 bits, also across tiles."""
    samples = np.random.default_rng(0).integers(0, 65536, (300, 290, 3)).astype(np.uint16)
    out = denoise(samples, level=0.5, model=denoiser, device="cpu").picture.samples
    expected = (samples / 32767.5 - 1) * 0.5 + 1
    assert np.abs(out / 32767.5 - expected).max() < 1.1 / 32767.5


def test_level_zero_changes_nothing(denoiser: Denoiser) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    assert np.array_equal(denoise(samples, level=0, model=denoiser).picture.samples, samples)


def test_grey_stays_grey_and_alpha_stays(denoiser: Denoiser) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (20, 30, 1), np.uint8)
    assert denoise(grey, level=0.2, model=denoiser).picture.samples.shape == grey.shape
    repeated = denoise(grey.repeat(3, axis=2), level=0.2, model=denoiser).picture
    assert repeated.is_grey
    assert repeated.samples.shape == (20, 30, 3)
    alpha = rng.integers(0, 256, (20, 30, 4), np.uint8)
    assert np.array_equal(denoise(alpha, level=0.2, model=denoiser).picture.samples[..., 3], alpha[..., 3])
    lines = denoise(grey[..., 0] > 127, level=0.2, model=denoiser).picture
    assert set(np.unique(lines.samples)) <= {0, 255}


def test_the_level_is_estimated_where_none_is_given(denoiser: Denoiser) -> None:
    values = torch.from_numpy(noisy(scene(100, 110), 0.15).clip(-1, 1).transpose(2, 0, 1).copy())
    result = denoise(values, model=denoiser)
    assert result.estimated
    assert result.level == pytest.approx(0.15, rel=0.1)
    assert denoise(values, level="auto", model=denoiser).level == result.level
    with pytest.raises(OptionError, match=r"1\.5 is out of range"):
        denoise(values, level=1.5, model=denoiser)


def test_what_is_transparent_does_not_count(denoiser: Denoiser) -> None:
    opaque = np.rint((noisy(0.5 * scene(100, 110), 0.15).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    hidden = np.concatenate([opaque, np.full((100, 110, 1), 255, np.uint8)], axis=2)
    hidden[:60] = np.random.default_rng(0).integers(0, 256, (60, 110, 4), np.uint8)
    hidden[:60, :, 3] = 0
    assert denoise(hidden, model=denoiser).level == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize(("level", "told"), [(0.02, 0.1), (0.5, 0.5), (0.95, 0.9), (0, 0), (0.0005, 0)])
def test_the_level_that_the_network_was_told_is_known(level: float, told: float) -> None:
    """A model of CIFAR-10 knows 0.1 to 0.9."""
    given: list[float] = []

    class Nothing(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            given.append(float(t[0]) / 10)
            return torch.zeros_like(x)

    result = denoise(np.zeros((8, 8, 3), np.uint8), level=level, model=Denoiser(Nothing(), "scaled"), device="cpu")
    assert (result.level, result.told) == (level, told)
    assert given == ([pytest.approx(told)] if told else [])


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_memory_that_ends_is_told_in_one_line(error: Exception) -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            raise error

    with pytest.raises(MemoryLimitError, match="memory that is free"):
        denoise(np.zeros((8, 8, 3), np.uint8), level=0.5, model=Denoiser(Large(), "scaled"), device="cpu")


@pytest.mark.parametrize("kind", ["timed", "blind"])
def test_printed_networks_take_any_size_too(kind: str) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (13, 18, 3), np.uint8)
    model = Denoiser.new(kind)  # type: ignore[arg-type]
    assert denoise(samples, level=0.3, model=model, device="cpu").picture.samples.shape == samples.shape


@pytest.mark.parametrize("size", [(20, 30), (TILE, 2 * TILE + 9)])
def test_progress_ends_with_all_tiles_and_may_stop_the_work(denoiser: Denoiser, size: tuple[int, int]) -> None:
    told: list[tuple[int, int]] = []
    picture = np.zeros((*size, 3), np.uint8)
    denoise(picture, level=0.3, model=denoiser, progress=lambda done, of: told.append((done, of)))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert {of for _, of in told} == {told[-1][0]}

    def stop(done: int, of: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        denoise(picture, level=0.3, model=denoiser, progress=stop)


def test_tiles_with_little_overlap_cover_everything() -> None:
    """A network that answers with its input gives the input back, whatever the tiles."""

    class Same(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x

    for size in ((TILE + 1, 40), (700, 300), (513, 512)):
        x = torch.randn(1, 3, *size)
        out = tiled(Same(), torch.ones(1, 1, *size), TILE, OVERLAP)(x, torch.tensor([3.7]))
        torch.testing.assert_close(out, x)


# ------------------------------------------------------------------------------------------------ real pictures


@pytest.mark.skipif(not (CIFAR / "test_batch.webp").exists(), reason="CIFAR-10 is not beside this checkout")
def test_level_of_cifar_10() -> None:
    """A sheet of real pictures side by side: as wide a choice of content as there is, without a file of it here."""
    sheet = open_picture(CIFAR / "test_batch.webp").colour()[:320, :320]
    for sigma in (0.1, 0.3):
        assert estimate_level(noisy(sheet, sigma)) == pytest.approx(sigma, rel=0.1)
