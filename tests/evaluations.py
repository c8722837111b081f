"""Pictures, methods and a model for the tests of `pixmend evaluate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixmend.checkpoint import Model, save_model
from pixmend.components import Hole
from pixmend.evaluation.baselines import mean_colour
from pixmend.evaluation.method import Filled, Method
from pixmend.evaluation.protocol import Pixels
from pixmend.images import open_picture, save_picture
from pixmend.unet import UNetConfig

SIZE = 16
MEAN = Method("mean colour", mean_colour, key="mean")


def picture(seed: int, side: int = SIZE) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 4, side // 4, 3))
    grain = rng.integers(-20, 20, (side, side, 3))
    pixels: Pixels = np.clip(np.repeat(np.repeat(coarse, 4, 0), 4, 1) + grain, 0, 255).astype(np.uint8)
    return pixels


class Counting:
    """A method that counts its fills: noise, another for every seed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, picture: Pixels, hole: Hole, seed: int) -> Filled:
        self.count += 1
        filled = picture.copy()
        filled[hole] = np.random.default_rng(seed).integers(0, 256, (int(hole.sum()), 3))
        return Filled(filled, 7)


def six_pictures(folder: Path) -> Path:
    """Six pictures in a new folder; one name would be a tag in HTML."""
    folder.mkdir()
    for i, name in enumerate(["a", "b", "c&d", "<b>e", "f", "g"]):
        save_picture(open_picture(picture(i)), folder / f"{name}.png")
    return folder


def tiny_model_file(path: Path) -> Path:
    """A model that says that it was trained, and was not."""
    config = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)
    made = Model.new(config, size=SIZE)
    made.legs.append({"kimg": 0})
    return save_model(path, made)
