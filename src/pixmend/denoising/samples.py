"""Noisy samples to train a denoiser on. The k-th is a pure function of (seed, k).

A batch is a dictionary: x0 (B, 3, H, W) uint8; noise, the same shape, float32; t (B,) float32; and, from photographs,
stored (B,) bool: whether the noisy picture is rounded and cut to what a file of 8 bits can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pixmend.data import InpaintingDataset, sample_generator, sample_order
from pixmend.denoising.cifar import Pixels
from pixmend.denoising.law import NoiseLaw

Batch = dict[str, Tensor]

LEVELS_STREAM = 2**62  # added to the seed: a stream of random numbers beside that of the pictures
GREY_SHARE = 0.1  # of photographs' samples: picture and noise are grey, as in a file of one channel
STORED_SHARE = 0.5


class NoisyPictures(Dataset[Batch]):
    """Pictures in memory under the noise law: t uniform among its whole times, noise normal, a new order each round.

    Among T - 1 samples that follow one another each t comes once, in random order: gradients and average losses vary
    less than with times drawn apart (a low-discrepancy sampler: Kingma et al. 2021, https://arxiv.org/abs/2107.00630,
    appendix I.1).

    pictures: (N, 3, H, W) uint8. It gives whole batches at once, each gathered in one go: a loader that asks for
    samples one by one and joins them would cost as much as a tenth of a training step.
    """

    def __init__(self, pictures: Pixels, law: NoiseLaw, seed: int = 0) -> None:
        self.pictures, self.law, self.seed = pictures, law, seed

    def __len__(self) -> int:
        """The number of pictures; samples go on beyond it, each round through all pictures in a new order."""
        return len(self.pictures)

    def __getitem__(self, k: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([k]).items()}

    def __getitems__(self, ks: Sequence[int]) -> Batch:
        """The batch of the samples k, in that order."""
        places = [divmod(k, len(self.pictures)) for k in ks]
        chosen = [sample_order(self.seed, round_, len(self.pictures))[place] for round_, place in places]
        x0 = self.pictures[chosen]  # (B, 3, H, W)
        noise, t = np.empty(x0.shape, np.float32), np.empty(len(ks), np.float32)
        for i, k in enumerate(ks):
            rng = sample_generator(self.seed, k)
            block, place = divmod(k, self.law.T - 1)
            t[i] = 1 + sample_order(self.seed + LEVELS_STREAM, block, self.law.T - 1)[place]
            rng.standard_normal(dtype=np.float32, out=noise[i])
        return {"x0": torch.from_numpy(x0), "noise": torch.from_numpy(noise), "t": torch.from_numpy(t)}

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Nothing is left to do to a batch."""
        return batch


class NoisyCrops(Dataset[Batch]):
    """Crops of photographs at continuous levels: the logarithm of sigma uniform between `levels`.

    Some are grey with grey noise, and half are rounded and cut as a file of 8 bits would hold them: what a denoiser
    meets in practice. crops: their holes are not used; take one without enlarged crops, which have grain of their own.
    """

    def __init__(self, crops: InpaintingDataset, law: NoiseLaw, levels: tuple[float, float]) -> None:
        self.crops, self.law, self.levels = crops, law, levels

    @property
    def identity(self) -> dict[str, Any]:
        """All that the samples depend on, as JSON."""
        return {"crops": self.crops.identity, "T": self.law.T, "levels": list(self.levels)}

    def __len__(self) -> int:
        """The number of photographs; samples go on beyond it."""
        return len(self.crops)

    def held_out(self) -> NoisyCrops | None:
        """The same of the photographs that are held out; None where there are none."""
        others = self.crops.held_out()
        return None if others is None else NoisyCrops(others, self.law, self.levels)

    def __getitem__(self, k: int) -> Batch:
        sample, rng = self.crops[k], sample_generator(self.crops.seed + LEVELS_STREAM, k)
        low, high = np.log(self.levels)
        x0, noise = sample["x0"], sample["noise"]
        sigma = float(np.exp(rng.uniform(low, high)))
        if rng.random() < GREY_SHARE:
            x0, noise = x0[1:2].expand_as(x0).contiguous(), noise[1:2].expand_as(noise).contiguous()
        stored = rng.random() < STORED_SHARE
        t = torch.tensor(sigma * self.law.T, dtype=torch.float32)
        return {"x0": x0, "noise": noise, "t": t, "stored": torch.tensor(stored)}
