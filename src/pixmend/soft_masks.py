"""The soft mask of a hole: grown, feathered, and never more of it than the known pixels can bear.

docs/conventions.md says what it is used for. Pure functions on tensors (B, 1, H, W).
"""

from __future__ import annotations

from types import EllipsisType

import torch
import torch.nn.functional as F

from pixmend.errors import OptionError

RADIUS_LIMIT = 1024
_BAND = 512  # rows feathered at once: for small radii, 24 megapixels then take 50 MB besides input and output


def dilate(hole: torch.Tensor, radius: int) -> torch.Tensor:
    """Grow a mask (..., H, W) by the square of side 2 radius + 1: each pixel becomes the largest of its square."""
    _check_radius(radius)
    for axis in (-1, -2):
        padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        length, covered = hole.shape[axis], 1
        grown = F.pad(hole, padding)  # with 0: nothing grows in from outside
        while covered < 2 * radius + 1:  # windows double: log2 of the width steps
            shift = min(covered, 2 * radius + 1 - covered)
            many = grown.shape[axis] - shift
            grown = torch.maximum(grown.narrow(axis, 0, many), grown.narrow(axis, shift, many))
            covered += shift
        hole = grown.narrow(axis, 0, length)
    return hole


def feather(hole: torch.Tensor, radius: int) -> torch.Tensor:
    """The soft mask G * dilate(hole, B) of a hole (B, 1, H, W) of 0 and 1: float32 in [0, 1], of the same shape.

    B is the square of side 2 radius + 1; G a Gaussian of sigma radius / 2 cut to B and normalised; borders are
    replicated. It is exactly 1 on the hole, and more than 0 exactly on dilate(hole, 2 radius).
    """
    _check_radius(radius)
    if radius == 0:
        return (hole > 0).float()
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    gauss = torch.exp(-0.5 * (offsets / (radius / 2)) ** 2)
    taps = (gauss / gauss.sum()).tolist()
    soft = torch.zeros_like(hole, dtype=torch.float32)
    near = _near(hole, 2 * radius)
    _feather_in_bands(hole[near], soft[near], radius, taps)
    return soft


def _feather_in_bands(hole: torch.Tensor, soft: torch.Tensor, radius: int, taps: list[float]) -> None:
    """Write the soft mask of a hole into `soft`, (B, 1, h, w) both."""
    height = hole.shape[-2]
    for top in range(0, height, _BAND):
        first, last = max(0, top - 2 * radius), min(height, top + _BAND + 2 * radius)
        band = hole[..., first:last, :] > 0
        blurred = F.pad(dilate(band, radius).float(), (radius, radius, radius, radius), mode="replicate")
        for axis in (-1, -2):
            many = blurred.shape[axis] - 2 * radius
            # A sum of shifts, not a convolution: the same bits whatever the size, and zeros stay exact zeros.
            total = taps[0] * blurred.narrow(axis, 0, many)
            for i in range(1, len(taps)):
                total += taps[i] * blurred.narrow(axis, i, many)
            blurred = total
        blurred = blurred.clamp(max=1.0).masked_fill_(band, 1.0)  # the taps may add up to 0.99999994
        soft[..., top : top + _BAND, :] = blurred[..., top - first : top - first + _BAND, :]


def _near(hole: torch.Tensor, reach: int) -> tuple[EllipsisType | slice, ...]:
    """The rows and columns within `reach` of any hole: all that can change, mostly a small part of a large picture."""
    spans = []
    for axis in (-2, -1):
        places = (hole > 0).flatten(0, -3).any(0).any(-1 if axis == -2 else 0).nonzero()
        first, end = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        spans.append(slice(max(0, first - reach), min(hole.shape[axis], end + reach)))
    return (..., *spans)


def automatic_radius(hole: torch.Tensor, limit: int = 2) -> int:
    """The largest radius up to `limit` whose soft edge is at most half of the hole and half of what is known, else 0.

    A hole of alternate rows, or of all but every second pixel, must not become a hole of everything. Of several masks
    (B, 1, H, W), each must fit.
    """
    pixels = hole.shape[-1] * hole.shape[-2]
    hole = hole[_near(hole, 2 * limit)] > 0
    area = hole.sum((-1, -2))
    bearable = torch.minimum(area, pixels - area)  # the smaller of hole and known, in pixels
    for radius in range(limit, 0, -1):
        edge = dilate(hole, 2 * radius).sum((-1, -2)) - area
        if bool((2 * edge <= bearable).all()):
            return radius
    return 0


def soft_mask(hole: torch.Tensor, radius: int | None = None) -> torch.Tensor:
    """`feather` with the radius given, or with the automatic one of each mask by itself. (B, 1, H, W) float32."""
    if radius is not None:
        return feather(hole, radius)
    return torch.stack([feather(one, automatic_radius(one)) for one in hole])


def _check_radius(radius: int) -> None:
    if not 0 <= radius <= RADIUS_LIMIT:
        raise OptionError(f"a radius of {radius} pixels is out of range; give 0 to {RADIUS_LIMIT}")
