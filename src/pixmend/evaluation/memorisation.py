"""Whether fills are copies of training pictures: for every fill the nearest training patch, beside that of the truth.

A patch of a quarter of the picture's side, where the hole covers most of it, is looked for at every place of all
training pictures and of their mirror images, all reduced to half of the measured size (the middle frequencies carry a
copy, and the search is 16 times as fast). Distances are root mean squares in 8-bit levels. A fill that lies much
nearer to a training patch than the truth does is suspect of being one; smooth fills lie near to everything, so that
the classical methods in the same table are the measure to compare with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.errors import DataError, PixmendError
from pixmend.evaluation.metrics import LEVEL
from pixmend.images import open_thumbnails, picture_files

COVERED = 0.75  # of the patch must be hole, or there is nothing to tell
Progress = Callable[[int, int], None]


class Windows(NamedTuple):
    """Where the patches of a set of holes lie, in the reduced pictures; of the cases that have one."""

    cases: Tensor  # (n,)
    corners: Tensor  # (n, 2): top, left
    side: int  # pixels


class TrainingPatches:
    """All patches of a folder of training pictures."""

    def __init__(self, folder: Path, size: int, progress: Progress | None = None) -> None:
        """size: the side of the measured pictures. Raises FileMissingError, DataError."""
        self.pictures: list[Tensor] = []  # (1, 3, h, w) uint8 each, the shorter side half of `size`
        files = picture_files(folder)
        for done, file in enumerate(files, 1):
            try:
                pages, _ = open_thumbnails(file, size, least=2)
            except PixmendError:
                continue
            for page in pages:
                pixels = torch.from_numpy(page.copy()).permute(2, 0, 1)[None].float()
                self.pictures.append(F.avg_pool2d(pixels, 2).round().byte())
            if progress:
                progress(done, len(files))
        if not self.pictures:
            raise DataError(f"{folder} holds no picture that can be read; give the folder that was trained on")
        digest = hashlib.sha256()
        for one in self.pictures:
            digest.update(one.numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def nearest(self, x: Tensor, windows: Windows) -> Tensor:
        """Root mean square distances (n,), in 8-bit levels, of the patches of x (B, 3, H, W) to the nearest ones."""
        half = F.avg_pool2d((x + 1) * LEVEL, 2)
        patches = torch.stack(
            [
                half[case, :, top : top + windows.side, left : left + windows.side]
                for case, (top, left) in zip(windows.cases, windows.corners.tolist(), strict=True)
            ]
        )
        both = torch.cat([patches, patches.flip(-1)]) - LEVEL  # small numbers lose less
        best = torch.full((len(both),), torch.inf)
        own = both.square().flatten(1).sum(dim=1)
        ones = torch.ones(1, 3, windows.side, windows.side)
        for picture in self.pictures:
            y = picture.float() - LEVEL
            if min(y.shape[-2:]) >= windows.side:
                apart = F.conv2d(y.square(), ones) - 2 * F.conv2d(y, both)  # (1, 2 n, h, w), less what is own
                best = torch.minimum(best, apart.flatten(2).amin(dim=2)[0])
        squares = (best + own).clamp(min=0) / (3 * windows.side**2)
        return squares.sqrt().view(2, -1).amin(dim=0)


def windows_of(hole: Tensor) -> Windows:
    """Where each hole (B, 1, H, W) covers most of a patch; holes that cover less than COVERED of any have none."""
    half = F.avg_pool2d(hole, 2)
    side = max(2, min(half.shape[-2:]) // 4)
    covered = F.avg_pool2d(half, side, stride=1)  # (B, 1, h, w)
    share, place = covered.flatten(1).max(dim=1)
    cases = torch.nonzero(share >= COVERED)[:, 0]
    width = covered.shape[-1]
    corners = torch.stack([place[cases] // width, place[cases] % width], dim=1)
    return Windows(cases, corners, side)
