"""Training data: a folder of pictures, or shards of them, as an endless, repeatable stream of samples.

The k-th sample (picture, crop, flip, hole, time, noise) is a pure function of (seed, k): a training that was stopped
goes on exactly, with any number of workers. Pictures are decoded once (`picture_cache`).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pixmend.errors import DataError, OptionError
from pixmend.files import user_cache_folder
from pixmend.masks import MIXTURE, NARROW_MIXTURE, draw_mask
from pixmend.picture_cache import PictureCache, Pixels, Progress
from pixmend.shards import Shards, names_shards

Sample = dict[str, Tensor]

CACHE_SIDES = 3  # the cache keeps the shorter side at this many training sizes
HELD_OUT_SEED = 2**63 - 1
_BLENDS = {"narrow": [(kind, percent, dict(parameters)) for kind, (percent, parameters) in NARROW_MIXTURE.items()]}


@dataclass(frozen=True)
class Views:
    """How a sample is cut from a picture; shares of all samples."""

    enlarged: float = 0.25  # crops enlarged two- to fourfold, with grain: what the network sees of large pictures
    scales: tuple[float, float] = (0, 1)  # what crops show: 0 a part pixel by pixel, 1 all of the shorter side, reduced
    grey: float = 0.05
    sepia: float = 0.05
    flip: bool = True  # left and right
    turn: bool = False  # up and down, and quarter turns: for pictures without an up, such as satellite tiles
    coarse_guide: float = 0.3  # the guide is the reduced truth, roughened, instead of the smooth fill
    whole: float = 0.15  # the hole is the whole picture


class InpaintingDataset(Dataset[Sample]):
    """Samples for training from all pictures in a folder and the folders below it.

    Endless: there is a sample for every k from 0 on, so take them by number or through a `DataLoader`; a plain `for`
    never ends. `len` is the number of pictures.

    folder: any formats and modes that Pillow reads; files that are broken or too small are in `skipped`, with reasons.
    Or the name of tar files, with braces for many (`shards.shard_files`).
    size: side of the samples in pixels. T: number of noise levels. masks: a kind of `masks.KINDS`.
    seed: decides every crop, hole and noise. views: how samples are cut from pictures.
    holdout: share of the files, in [0, 1), chosen by their content, that these samples leave out: `held_out()` has
    those. cache: folder for the decoded pictures, by default the user's cache folder. progress(done, of how many): told
    while pictures are decoded.

    A sample is a dictionary: x0 (3, size, size) uint8; hole (1, size, size) uint8, 1 = hole; t () int64;
    noise (3, size, size) float32; and for the guide (see `training.guide_for`) guide_noise (3, size/2, size/2) float32,
    guide_blur () and guide_grain () float32, both -1 where the guide is the smooth fill.
    Raises FileMissingError, DataError, OptionError.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int = 64,
        *,
        seed: int = 0,
        T: int = 1000,
        masks: str = "mixed",
        views: Views | None = None,
        holdout: float = 0.0,
        cache: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if size < 1 or T < 1 or not 0 <= holdout < 1:
            raise OptionError(
                f"size = {size}, T = {T}, holdout = {holdout}: give size and T of at least 1, and a holdout in [0, 1)"
            )
        draw_mask(masks, (size, size), np.random.default_rng(0))  # told before anything is decoded: what is not known
        self.folder = Path(folder)
        self.size, self.seed, self.T, self.masks = size, seed, T, masks
        self.views = views or Views()
        self._cache = _pictures_of(folder, CACHE_SIDES * size, _cache_folder(cache), progress)
        self._holdout = holdout
        self.skipped = self._cache.skipped
        self.pictures = self._cache.split(holdout, held_out=False)
        if not self.pictures:  # of one picture, or two, all may be among those held out: better to train on them
            self._holdout = 0.0
            self.pictures = self._cache.split(0.0, held_out=False)
        if not self.pictures:
            raise DataError(
                f"{folder} holds no picture to train on"
                + (f" ({len(self.skipped)} were skipped, the first: {self.skipped[0]})" if self.skipped else "")
                + "; give a folder with at least one picture of 16 x 16 pixels or more, in any format that Pillow reads"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """All that the samples depend on, as JSON."""
        return {
            "size": self.size,
            "seed": self.seed,
            "T": self.T,
            "masks": self.masks,
            "blend": _short_hash(_BLENDS.get(self.masks, dict(MIXTURE))),
            "guide": "smooth",
            "views": asdict(self.views),
            "holdout": self._holdout,
            "pictures": _short_hash(self._cache.hashes),
        }

    def __len__(self) -> int:
        """The number of pictures; samples go on beyond it, each round through all pictures in a new order."""
        return len(self.pictures)

    def held_out(self) -> InpaintingDataset | None:
        """Samples of the pictures that are held out, the same for every seed; None where there are none."""
        others = copy.copy(self)
        others.pictures, others.seed = self._cache.split(self._holdout, held_out=True), HELD_OUT_SEED
        return others if len(others.pictures) else None

    def __getitem__(self, k: int) -> Sample:
        if k < 0:
            raise IndexError(f"there is no sample {k}; they are counted from 0")
        rng = sample_generator(self.seed, k)
        size, views = self.size, self.views
        x0 = _view(self.pictures[self._picture(k)], size, rng, views)
        parameters: dict[str, Any] = {"whole": views.whole} if self.masks == "mixed" else {}
        hole = draw_mask(self.masks, (size, size), rng, **parameters)
        coarse = rng.random() < views.coarse_guide
        half = (size + 1) // 2
        return {
            "x0": torch.from_numpy(np.ascontiguousarray(x0.transpose(2, 0, 1))),
            "hole": torch.from_numpy(hole.astype(np.uint8))[None],
            "t": torch.tensor(int(rng.integers(self.T))),
            "noise": torch.from_numpy(rng.standard_normal((3, size, size), np.float32)),
            "guide_noise": torch.from_numpy(rng.standard_normal((3, half, half), np.float32)),
            "guide_blur": torch.tensor(rng.random() if coarse else -1.0, dtype=torch.float32),
            "guide_grain": torch.tensor(0.25 * rng.random() ** 2 if coarse else -1.0, dtype=torch.float32),
        }

    def _picture(self, k: int) -> int:
        round_, place = divmod(k, len(self.pictures))
        return int(sample_order(self.seed, round_, len(self.pictures))[place])


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def sample_order(seed: int, round_: int, count: int) -> NDArray[np.intp]:
    """The order in which a round goes through `count` pictures."""
    return sample_generator(seed, 2**63 + round_).permutation(count)  # no k comes up there


def sample_generator(seed: int, k: int) -> np.random.Generator:
    """All randomness of the k-th sample."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, k], np.uint64)))


def _view(picture: Pixels, size: int, rng: np.random.Generator, views: Views) -> Pixels:
    """A crop of the picture at a random scale, as (size, size, 3); flipped, perhaps without colour."""
    shorter = min(picture.shape[:2])
    enlarges = rng.random() < views.enlarged
    if enlarges:
        side = max(1, round(size / rng.uniform(2, 4)))
    else:
        low, high = views.scales
        side = round(size * max(1.0, shorter / size) ** (low + (high - low) * rng.random()))  # even in log(scale)
    side = min(side, shorter)
    top, left = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    if side != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BICUBIC))
    crop = _turned(crop, rng, views)
    colour = rng.random()
    if colour < views.grey + views.sepia:
        crop = _without_colour(crop, sepia=colour >= views.grey)
    if side < size:
        grain = rng.random() * 8 * rng.standard_normal(crop.shape, np.float32)
        crop = np.clip(crop + grain, 0, 255).round().astype(np.uint8)
    return crop


def _turned(crop: Pixels, rng: np.random.Generator, views: Views) -> Pixels:
    flip, quarters = rng.random() < 0.5, int(rng.integers(4))  # always drawn, so that the stream stays the same
    if views.flip and flip:
        crop = crop[:, ::-1]
    return np.rot90(crop, quarters) if views.turn else crop


def _without_colour(crop: Pixels, sepia: bool) -> Pixels:
    luma = crop @ np.array([0.299, 0.587, 0.114], np.float32)
    tint = np.array([1.07, 0.99, 0.82] if sepia else [1.0, 1.0, 1.0], np.float32)
    tinted: Pixels = np.clip(luma[..., None] * tint, 0, 255).round().astype(np.uint8)
    return tinted


def _pictures_of(
    data: str | os.PathLike[str], side: int, cache: Path, progress: Progress | None
) -> PictureCache | Shards:
    if names_shards(data):
        return Shards(os.fspath(data), side, cache, progress)
    return PictureCache(Path(data), side, cache, progress)


def _cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    if cache is not None:
        return Path(cache)
    return user_cache_folder()
