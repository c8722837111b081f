"""What one fill is measured by, beside its truth; no network is asked.

Pictures are (B, C, H, W) float32 in [-1, 1], holes (B, 1, H, W) of 0 and 1, 1 = hole; known pixels are equal in both.
Figures of whole pictures would be flattered by them: every figure here looks at the hole, or at what a window that
touches the hole sees.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.masks import dilate

BEST_PSNR = 60.0  # dB; eight bits end at 59, and one exact fill of a flat picture must not outweigh all others
BANDS = 3  # of the Laplacian pyramid
WINDOW = 5  # pixels on each side of SSIM's Gaussian window
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, finest first
LEVEL = 127.5  # 8-bit levels in a unit of [-1, 1]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


# ---------------------------------------------------------------------------------------------------- pixel by pixel


def hole_psnr(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in the hole alone, in dB, at most BEST_PSNR: (B,).

    The squared error is averaged over all values in the hole; the peak is the width of the range, 2.
    """
    error = _mean_in((x - truth) ** 2, hole)
    return (10 * torch.log10(4 / error.clamp(min=1e-12))).clamp(max=BEST_PSNR)


def hole_mae(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute error in the hole alone, in 8-bit levels: (B,)."""
    return LEVEL * _mean_in((x - truth).abs(), hole)


def diversity(fills: Tensor, hole: Tensor) -> Tensor:
    """How far fills (N, B, C, H, W) of the same holes lie apart: the mean over all pairs of their root mean square
    distance in the hole, in 8-bit levels: (B,). 0 for a single fill.
    """
    pairs = list(combinations(fills, 2))
    if not pairs:
        return hole.new_zeros(len(hole))
    return LEVEL * torch.stack([_mean_in((a - b) ** 2, hole).sqrt() for a, b in pairs]).mean(dim=0)


# ------------------------------------------------------------------------------------------------- by neighbourhood


def ssim_map(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity at every place, averaged over the channels: (B, H, W).

    Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861: a Gaussian window of sigma 1.5 cut to 11x11, k1 = 0.01,
    k2 = 0.03, black = 0 and white = L = 2; at the border the picture is continued by its mirror image.
    """
    luminance, contrast = _ssim_parts(x, truth)
    return (luminance * contrast).mean(dim=1)


def ssim(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """`ssim_map` averaged over the places whose window touches the hole: (B,)."""
    return _mean_in(ssim_map(x, truth)[:, None], dilate(hole, WINDOW))


def ms_ssim(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Structural similarity on several scales: (B,).

    Wang, Simoncelli and Bovik 2003, https://doi.org/10.1109/ACSSC.2003.1292216: each scale halves the one before, and
    the powers SCALE_WEIGHTS of their contrasts are multiplied, at the last scale with the luminance. Averaged on
    every scale over the places whose window touches the hole. Scales on which the picture is narrower than the window
    are left out, and the other weights divided by their sum: at 64x64 there are three.
    """
    count = 1
    while count < len(SCALE_WEIGHTS) and min(x.shape[-2:]) >> count >= 2 * WINDOW + 1:
        count += 1
    total = sum(SCALE_WEIGHTS[:count])
    result = x.new_ones(len(x))
    for i, weight in enumerate(SCALE_WEIGHTS[:count]):
        luminance, contrast = _ssim_parts(x, truth)
        values = (contrast if i < count - 1 else luminance * contrast).mean(dim=1, keepdim=True)
        result = result * _mean_in(values, dilate(hole, WINDOW)).clamp(min=0) ** (weight / total)
        x, truth = F.avg_pool2d(x, 2), F.avg_pool2d(truth, 2)
        hole = F.max_pool2d(hole, 2)
    return result


def gmsd(x: Tensor, truth: Tensor, hole: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation, 0 for the truth: (B,).

    Xue et al. 2014, https://doi.org/10.1109/TIP.2013.2293423: the luminance is halved, Prewitt's gradients are
    compared, and the standard deviation of their similarity is taken; here over the places whose filter touches the
    hole.
    """
    weights = x.new_tensor(LUMA)[None, :, None, None]
    slope = x.new_tensor([[1.0, 0.0, -1.0]] * 3) / 3
    filters = torch.stack([slope, slope.T])[:, None]  # (2, 1, 3, 3)

    def magnitude(y: Tensor) -> Tensor:
        grey = F.avg_pool2d((y * weights).sum(dim=1, keepdim=True), 2) * 0.5  # in units of the range's width
        return F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), filters).square().sum(dim=1, keepdim=True).sqrt()

    a, b = magnitude(x), magnitude(truth)
    c = 170 / 255**2
    similarity = (2 * a * b + c) / (a**2 + b**2 + c)
    region = dilate(F.max_pool2d(hole, 2), 1)
    mean = _mean_in(similarity, region)[:, None, None, None]
    return _mean_in((similarity - mean) ** 2, region).sqrt()


# ---------------------------------------------------------------------------------- amounts, over those of the truth


def inside_gradient(x: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, beside and below each other, that both lie in the hole: (B,)."""
    return _mean_difference(x, [a * b for a, b in _neighbours(hole)])


def boundary_gradient(x: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of neighbours of which one lies in the hole and one outside: (B,). For the seam."""
    return _mean_difference(x, [a + b - 2 * a * b for a, b in _neighbours(hole)])


def band_detail(x: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute value of each Laplacian band in the hole, finest first: (B, BANDS). For the sharpness."""
    details = []
    for band in laplacian_bands(x):
        details.append(_mean_in(band.abs(), hole))
        hole = F.max_pool2d(hole, 2, ceil_mode=True)
    return torch.stack(details, dim=1)


def laplacian_bands(x: Tensor, count: int = BANDS) -> list[Tensor]:
    """The bands of a Laplacian pyramid, finest first, each half as wide as the one before (rounded up).

    Burt and Adelson 1983, https://doi.org/10.1109/TCOM.1983.1095851, with their binomial filter; at the border what
    lies outside has no weight, so that a constant picture has bands of 0. A picture of one pixel has bands of one
    pixel.
    """
    bands = []
    for _ in range(count):
        low = (_binomial(x) / _binomial(torch.ones_like(x[:1, :1])))[..., ::2, ::2]
        spread, weight = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
        spread[..., ::2, ::2], weight[..., ::2, ::2] = low, 1
        bands.append(x - _binomial(spread) / _binomial(weight))
        x = low
    return bands


# ---------------------------------------------------------------------------------------------------------------- parts


def _mean_in(values: Tensor, region: Tensor) -> Tensor:
    """Mean over channels and places of values (B, C, H, W) where region (B, 1, H, W) is 1: (B,)."""
    return (values * region).sum(dim=(1, 2, 3)) / (region.sum(dim=(1, 2, 3)) * values.shape[1]).clamp(min=1)


def _ssim_parts(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of luminance, and of contrast and structure: (B, C, H, W) each."""
    offsets = torch.arange(-WINDOW, WINDOW + 1, dtype=x.dtype, device=x.device)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    mean, true_mean, square, true_square, product = (
        _filtered(_mirrored(y), window) for y in (x, truth, x * x, truth * truth, x * truth)
    )
    variance, true_variance = square - mean**2, true_square - true_mean**2
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    light, true_light = mean + 1, true_mean + 1  # from black = 0: unlike the rest, luminance is not free of the origin
    luminance = (2 * light * true_light + c1) / (light**2 + true_light**2 + c1)
    return luminance, (2 * (product - mean * true_mean) + c2) / (variance + true_variance + c2)


def _mirrored(x: Tensor) -> Tensor:
    """X with WINDOW more pixels on every side, the border's own pixels mirrored too (c b a | a b c)."""
    for axis in (-1, -2):
        length = x.shape[axis]
        places = torch.arange(-WINDOW, length + WINDOW, device=x.device) % (2 * length)
        x = x.index_select(axis, torch.where(places < length, places, 2 * length - 1 - places))
    return x


def _binomial(x: Tensor) -> Tensor:
    return _filtered(F.pad(x, (2, 2, 2, 2)), x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16)


def _filtered(x: Tensor, window: Tensor) -> Tensor:
    """Every channel filtered with the window across and down, where it lies wholly inside."""
    channels = x.shape[1]
    x = F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _neighbours(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(x[..., :, :-1], x[..., :, 1:]), (x[..., :-1, :], x[..., 1:, :])]


def _mean_difference(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Over the pairs of `_neighbours` whose weight is 1; 0 where there are none."""
    pairs = zip(_neighbours(x), weights, strict=True)
    total = sum(((a - b).abs() * weight).sum(dim=(1, 2, 3)) for (a, b), weight in pairs)
    count = sum(weight.sum(dim=(1, 2, 3)) for weight in weights) * x.shape[1]
    return torch.as_tensor(total / torch.as_tensor(count).clamp(min=1))
