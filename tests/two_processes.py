"""What `test_processes.py` has torchrun run: trainings of one tiny model by several processes.

python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py PHOTOS FOLDER NAME...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import Tensor

from pixmend.checkpoint import Model
from pixmend.data import InpaintingDataset
from pixmend.loop import Report
from pixmend.processes import rank
from pixmend.train_config import TrainConfig
from pixmend.training import train_model
from pixmend.unet import UNetConfig

# groups of several channels: a bias before the norm of a single channel learns nothing but its rounding
SHAPE = UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, time_channels=16, groups=4)
CONFIG = TrainConfig(
    total_kimg=0.04, batch_size=4, lr=1e-3, warmup_kimg=0.02, holdout=0.3, held_out_samples=8, bf16=False, workers=0
)
POISONED, LAST = 22, 15  # numbers of samples, both in the second half of their step's four: those of rank 1


class Samples(InpaintingDataset):
    """Samples of which one may be no number, or press Ctrl-C."""

    poisoned: int | None = None
    last: int | None = None

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        sample = super().__getitem__(k)
        if k == self.poisoned:
            sample["noise"] = torch.full_like(sample["noise"], float("nan"))
        if k == self.last:
            os.kill(os.getpid(), signal.SIGINT)
        return sample


def shards(photos: Path) -> str:
    """The tar files that hold the pictures of a folder, as a pattern."""
    return f"{photos}-{{0..2}}.tar"


def training(photos: Path, folder: Path, name: str) -> None:
    """Train FOLDER/NAME.safetensors, or go on with it; the name tells what happens on the way."""
    output = folder / f"{name}.safetensors"
    model = Model.new(SHAPE, size=16, seed=1)
    source = shards(photos) if name.startswith("shards") else str(photos)
    data: str | Samples = source
    if name == "poisoned" or "begun" in name:
        data = Samples(source, 16, seed=CONFIG.seed, holdout=CONFIG.holdout)
        data.poisoned = POISONED if name == "poisoned" else None
        data.last = LAST if "begun" in name else None

    def progress(report: Report) -> None:
        if name == "interrupted" and report.step == 3:
            os.kill(os.getppid(), signal.SIGINT)

    def decoding(done: int, total: int) -> None:
        (folder / f"decoded-by-{rank()}").touch()

    resume = (output.with_suffix(".run") / "state.safetensors").exists()
    train_model(
        data, output, CONFIG, model=model, resume=resume, device="cpu", size=16, progress=progress, decoding=decoding
    )


if __name__ == "__main__":
    for name in sys.argv[3:]:
        training(Path(sys.argv[1]), Path(sys.argv[2]), name)
