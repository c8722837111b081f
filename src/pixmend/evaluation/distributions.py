"""Whether fills look like pictures: the sliced Wasserstein distance of patches of a Laplacian pyramid.

Karras et al. 2018, section 5 (https://arxiv.org/abs/1710.10196), here for what lies in the hole. Two sets of real
patches are not equal either, so the distance between real ones, the floor, is taken off: fills of one half of the
pictures are compared with the truth of the other half, less truth with truth of the same halves; the mean over
several halvings. A perfect sampler comes to 0 within chance, the truth itself to 0 exactly.

No interval goes with it. Halvings of the same pictures do not say how others would come out, and pictures drawn with
repetition, as in a bootstrap, would stand in both halves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.evaluation.metrics import BANDS, laplacian_bands

SIDE = 7  # pixels of a patch
PLACES = 48  # patches of a picture and band
DIRECTIONS = 128
HALVINGS = 8
SEED = 0


@dataclass(frozen=True)
class Distance:
    """In units of the real patches' standard deviation, averaged over the bands."""

    value: float  # fills to truth, less the floor
    floor: float  # truth to truth


class PatchDistance:
    """The distance of fills to the truth, for one set of holes: what the truth needs is computed once."""

    def __init__(self, truth: Tensor, hole: Tensor) -> None:
        """truth: (B, C, H, W), B >= 2; hole: (B, 1, H, W), at least one pixel of each is 1."""
        self._generator = torch.Generator().manual_seed(SEED)
        self._places = self._draw_places(hole.cpu())
        self._truth = self._patches(truth.cpu())
        self._scales = [patches.std().clamp(min=1e-6) for patches in self._truth]
        directions = torch.randn(SIDE * SIDE * truth.shape[1], DIRECTIONS, generator=self._generator)
        self._directions = directions / directions.norm(dim=0)
        self._halves = [torch.randperm(len(truth), generator=self._generator) for _ in range(HALVINGS)]
        self._projected = self._project(self._truth)

    def __call__(self, x: Tensor) -> Distance:
        """x: (B, C, H, W), fills of the same holes."""
        fills = self._project(self._patches(x.cpu()))
        middle = len(x) // 2
        values, floors = [], []
        for order in self._halves:
            one, other = order[:middle], order[middle : 2 * middle]
            pairs = zip(fills, self._projected, strict=True)
            apart = [(_distance(f[one], t[other]), _distance(t[one], t[other])) for f, t in pairs]
            total, floor = (sum(side) / len(apart) for side in zip(*apart, strict=True))
            values.append(total - floor)
            floors.append(floor)
        return Distance(sum(values) / len(values), sum(floors) / len(floors))

    def _draw_places(self, hole: Tensor) -> list[Tensor]:
        """For every band: the middles of the patches, in the hole, drawn with repetition, as (B, PLACES) flat
        indices.
        """
        places = []
        for _ in range(BANDS):
            places.append(torch.multinomial(hole.flatten(1), PLACES, replacement=True, generator=self._generator))
            hole = F.max_pool2d(hole, 2, ceil_mode=True)
        return places

    def _patches(self, x: Tensor) -> list[Tensor]:
        """(B, PLACES, C * SIDE * SIDE) of every band."""
        found = []
        for band, places in zip(laplacian_bands(x), self._places, strict=True):
            width, margin = band.shape[-1], SIDE // 2
            padded = F.pad(band, (margin,) * 4, mode="replicate")
            windows = padded.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # (B, C, h, w, SIDE, SIDE), a view
            pictures = torch.arange(len(x))[:, None]
            found.append(windows[pictures, :, places // width, places % width].flatten(2))
        return found

    def _project(self, patches: list[Tensor]) -> list[Tensor]:
        """(B, PLACES, DIRECTIONS) of every band, in the units of the truth."""
        return [(p / scale) @ self._directions for p, scale in zip(patches, self._scales, strict=True)]


def _distance(a: Tensor, b: Tensor) -> float:
    """Wasserstein's distance of order 1 of two sets of as many points, averaged over the directions (the last axis)."""
    a, b = (points.flatten(0, 1).sort(dim=0).values for points in (a, b))
    return float((a - b).abs().mean())
