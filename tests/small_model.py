"""What the tests of repairing and training share: tiny networks, pictures, boxes to fill, a short training."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixmend.adm import AdmConfig
from pixmend.checkpoint import Model
from pixmend.inpainting import Inpainted, inpainting
from pixmend.loop import Report, TrainConfig
from pixmend.unet import UNetConfig

SMALL = UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, time_channels=16)
SMALL_ADM = AdmConfig(
    channels=(16, 32),
    down_attention=(False, True),
    up_attention=(False, True),
    shrink_by_block=(True,),
    grow_by_block=(False,),
    time_channels=16,
    embedding_channels=32,
    blocks=1,
    middle_groups=8,
    groups=8,
)
SHORT = TrainConfig(  # of a training: 20 steps
    total_kimg=0.08, batch_size=4, lr=1e-3, warmup_kimg=0.02, holdout=0.3, held_out_samples=8, workers=0
)


def small_model(**options: Any) -> Model:
    """A tiny network that answers something; its leg says that it was trained, so that nobody is warned."""
    model = Model.new(SMALL, **{"size": 16, "seed": 1, **options})
    torch.manual_seed(0)
    with torch.no_grad():
        model.network.last.weight.normal_(0, 0.1)
    model.steps, model.legs = 2, [{"kimg": 0}]
    return model


MODEL = small_model()


def mend(image: Any, mask: Any = None, **options: Any) -> Inpainted:
    return inpainting(image, mask, **{"model": MODEL, "device": "cpu", **options})


def noise_picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8), "RGBA").convert(mode)


def interrupt_after(steps: int) -> Callable[[Report], None]:
    """A training's progress function that presses Ctrl-C after so many steps."""

    def progress(report: Report) -> None:
        if report.step == steps:
            signal.raise_signal(signal.SIGINT)

    return progress


def draw_photos(folder: Path) -> Path:
    """Twelve pictures to train on, of colours that run into each other."""
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    hole = np.zeros((height, width), bool)
    hole[top:bottom, left:right] = True
    return hole
