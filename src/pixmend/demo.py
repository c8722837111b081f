"""The demonstration: a photograph that ships with pixmend, damaged by a drawn mask and repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pixmend.images import Picture, open_picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.masks import create_advanced_mask

ASSETS = Path(__file__).parent / "assets"
GAP = 8  # white pixels between the pictures that stand side by side


class Example(NamedTuple):
    """A photograph among the assets, and the mask that damages it."""

    photograph: str
    kind: str  # of mask, see `masks.KINDS`
    seed: int  # of the mask


EXAMPLE = Example("chelsea.jpg", "text", seed=1)


def run_demo(*, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> tuple[Inpainted, Picture]:
    """Repair the example with the model that ships with pixmend.

    Returns the result, and beside each other the photograph, the damaged one (white in the hole) and the repaired one.
    Raises ModelFileError where the package was installed without its model.
    """
    photograph = open_picture(ASSETS / EXAMPLE.photograph)
    hole = create_advanced_mask(EXAMPLE.kind, photograph.size, seed=EXAMPLE.seed)  # (1, 1, H, W)
    result = inpainting(photograph, hole, seed=seed, progress=progress)
    before, after = photograph.samples, result.pictures[0].samples  # (H, W, C)
    damaged = np.where(hole[0, 0, :, :, None].numpy() > 0, np.uint8(255), before)
    gap = np.full((before.shape[0], GAP, before.shape[2]), 255, np.uint8)
    return result, open_picture(np.hstack([before, gap, damaged, gap, after]))
