"""Denoising photographs: the model that ships beside non-local means, wavelets, total variation and BM3D.

    python bench/denoise_photos.py PHOTOGRAPHS [--count 50] [--stored] [--model FILE]

White Gaussian noise of a known deviation in [-1, 1] is added to each photograph; with `--stored` the result is rounded
and cut to 8 bits, as a file would hold it. The others are told the true level and are tuned: for each, the setting of a
grid with the highest mean PSNR over the first `--tuning` photographs at that level is used for all; where that is the
least or the greatest that was tried, a note says so. pixmend estimates the level, as it does for users,
whose files are cut as with `--stored`, and runs once more with the level given. BM3D is the package `bm3d`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from machine import machine
from pixmend.data import sample_generator
from pixmend.denoising.level import estimate_level
from pixmend.denoising.measure import psnr, ssim
from pixmend.denoising.model_file import Denoiser, load_denoiser
from pixmend.denoising.picture import without_noise
from pixmend.images import open_picture, picture_files

Floats = NDArray[np.float32]
Method = Callable[..., Floats]

LEVELS = (0.1, 0.25, 0.5)


def peers() -> dict[str, tuple[Method, Mapping[str, list[Any]]]]:
    """Name -> a function of (picture, sigma, settings), and the settings to try."""
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

    def non_local_means(x: Floats, sigma: float, h: float, patch: int) -> Floats:
        out = denoise_nl_means(
            x, patch_size=patch, patch_distance=9, h=h * sigma, sigma=sigma, fast_mode=True, channel_axis=2
        )
        return np.asarray(out, np.float32)

    def wavelet(x: Floats, sigma: float, ycbcr: bool, shrinking: str) -> Floats:
        method, _, factor = shrinking.partition(" ")  # its threshold is for so many times the noise
        unit = (x + 1) / 2  # the conversion to YCbCr is for [0, 1]
        out = denoise_wavelet(
            unit,
            sigma=float(factor or 1) * sigma / 2,
            method=method,
            mode="soft",
            wavelet="db2",
            convert2ycbcr=ycbcr,
            channel_axis=2,
            rescale_sigma=True,
        )
        return np.asarray(2 * out - 1, np.float32)

    def total_variation(x: Floats, sigma: float, weight: float) -> Floats:
        return np.asarray(denoise_tv_chambolle(x, weight=weight * sigma, channel_axis=2), np.float32)

    found: dict[str, tuple[Method, Mapping[str, list[Any]]]] = {
        "non-local means": (
            non_local_means,
            {"h": [0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0], "patch": [1, 3, 5, 7, 9]},
        ),
        "total variation": (total_variation, {"weight": [0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2]}),
    }
    try:
        import pywt  # noqa: F401  # scikit-image needs it for wavelets
    except ImportError:
        print("PyWavelets is not installed: without wavelets")
    else:
        shrinkings = ["BayesShrink", *(f"VisuShrink {factor}" for factor in (0.1, 0.25, 0.5, 1.0))]
        found["wavelets"] = (wavelet, {"ycbcr": [True, False], "shrinking": shrinkings})
    try:
        from bm3d import bm3d_rgb
    except ImportError:
        print("bm3d is not installed: without BM3D")
    else:
        found["BM3D"] = (lambda x, sigma: np.asarray(bm3d_rgb((x + 1) / 2, sigma / 2) * 2 - 1, np.float32), {})
    return found


def quality(out: Floats, truth: Floats) -> tuple[float, float]:
    a, b = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None] for x in (out, truth))
    return float(psnr(a, b)), float(ssim(a, b))


def tuned(method: Method, grid: Mapping[str, list[Any]], pairs: list[tuple[Floats, Floats]], sigma: float) -> Any:
    """The setting with the highest mean PSNR over pairs (noisy, truth)."""
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(settings) == 1:
        return settings[0]
    means = [statistics.mean(quality(method(x, sigma, **s), truth)[0] for x, truth in pairs) for s in settings]
    return settings[int(np.argmax(means))]


def at_the_edge(setting: Mapping[str, Any], grid: Mapping[str, list[Any]]) -> list[str]:
    """The numbers of a setting beyond which nothing was tried."""
    numbers = {key: values for key, values in grid.items() if not isinstance(values[0], bool | str)}
    return [f"{key} {setting[key]}" for key, values in numbers.items() if setting[key] in (min(values), max(values))]


def noisy(truth: Floats, sigma: float, k: int, stored: bool) -> Floats:
    x = truth + sigma * sample_generator(0, k).standard_normal(truth.shape, np.float32)
    return ((np.clip(x, -1, 1) + 1) * 127.5).round().astype(np.float32) / np.float32(127.5) - 1 if stored else x


def table(truths: list[Floats], denoiser: Denoiser, sigma: float, tuning: int, stored: bool) -> None:
    pairs = [(noisy(truth, sigma, k, stored), truth) for k, truth in enumerate(truths)]
    cpu = torch.device("cpu")
    estimates = [estimate_level(x) for x, _ in pairs]
    rows: dict[str, list[tuple[float, float]]] = {
        "noisy": [quality(x, truth) for x, truth in pairs],
        f"pixmend, level estimated ({statistics.mean(estimates):.3f})": [
            quality(without_noise(x, min(1.0, level), denoiser, cpu), truth)
            for (x, truth), level in zip(pairs, estimates, strict=True)
        ],
        "pixmend, level given": [quality(without_noise(x, sigma, denoiser, cpu), truth) for x, truth in pairs],
    }
    notes = []
    for name, (method, grid) in peers().items():
        setting = tuned(method, grid, pairs[:tuning], sigma)
        label = ", ".join(f"{key} {value}" for key, value in setting.items())
        rows[f"{name} ({label})" if label else name] = [quality(method(x, sigma, **setting), t) for x, t in pairs]
        notes += [f"{name}: {edge} is at the edge of what was tried." for edge in at_the_edge(setting, grid)]
    print(f"\n## Noise of {sigma} in [-1, 1]\n\n| | PSNR, dB | SSIM |\n| --- | --- | --- |")
    for name, values in rows.items():
        decibels, similar = (statistics.mean(v[i] for v in values) for i in (0, 1))
        print(f"| {name} | {decibels:.2f} | {similar:.4f} |")
    for note in notes:
        print(f"\n{note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--count", type=int, default=50, help="evenly spread over the folder")
    parser.add_argument("--tuning", type=int, default=8)
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS))
    parser.add_argument("--stored", action="store_true")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    files = picture_files(options.photographs)
    files = [files[i * len(files) // options.count] for i in range(min(options.count, len(files)))]
    truths = [open_picture(file).colour() for file in files]
    denoiser = load_denoiser(options.model)
    stored = ", rounded and cut to 8 bits" if options.stored else ""
    print(f"# Denoising photographs{stored}\n\n{len(files)} photographs; {machine()}.")
    for sigma in options.levels:
        table(truths, denoiser, sigma, options.tuning, options.stored)


if __name__ == "__main__":
    main()
