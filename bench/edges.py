"""Masks that fit, and masks that are cut too close: what a soft edge or a margin gives, and what it costs.

    python bench/edges.py FOLDER_OF_PHOTOGRAPHS [--pictures 12] [--model FILE]

The middle SIZE x SIZE pixels of every photograph, as they are, with something laid over that has smooth borders, as
editors paint it: lines, letters, strokes, discs, white or black. "fits": the mask is all that is covered at all.
"close": it is what is covered by half and more, so that a rim of the colour is left beside it. PSNR, dB, in all that
is covered and MARGIN pixels around: what an edge or a margin takes from the picture counts as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from machine import machine
from mean import SIZE, Pixels, middle, tensor
from pixmend.checkpoint import load_model
from pixmend.components import Hole
from pixmend.evaluation.metrics import hole_psnr
from pixmend.evaluation.protocol import part_of
from pixmend.images import picture_files
from pixmend.inpainting import inpainting
from pixmend.masks import dilate, draw_mask
from pixmend.pictures import Floats

FINER = 4  # times as fine is what is laid over drawn first
MARGIN = 8  # pixels
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lines": ("scratches", {"width": (0.012, 0.02)}),
    "letters": ("text", {"letter": 0.09}),
    "strokes": ("irregular", {"width": (0.04, 0.08)}),
    "boxes": ("rectangles", {"side": (0.1, 0.25)}),
}
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {"blur": 0},
    "blur 1": {"blur": 1},
    "blur 2": {"blur": 2},
    "grow 1": {"blur": 0, "grow": 1},
    "grow 2": {"blur": 0, "grow": 2},
}


def cover(kind: str, seed: int) -> Floats:
    """How much of each pixel is covered, (SIZE, SIZE) in [0, 1]."""
    name, parameters = KINDS[kind]
    fine = draw_mask(name, (FINER * SIZE, FINER * SIZE), np.random.default_rng(seed), **parameters)
    return np.asarray(Image.fromarray(fine.astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BOX))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    files = picture_files(options.photographs)
    chosen = [file for file in files if part_of(file.relative_to(options.photographs).as_posix()) == "choice"]
    middles = (middle(path) for path in chosen)
    truths = list(islice((found for found in middles if found is not None), options.pictures))
    masks: dict[str, Callable[[Floats], Hole]] = {"fits": lambda cover: cover > 0, "close": lambda cover: cover >= 0.5}
    print(f"# Masks that fit, and masks cut close, {SIZE}x{SIZE}\n\n{machine()}; {len(truths)} photographs.\n")
    print(f"| holes | mask | {' | '.join(WAYS)} |\n|{' --- |' * (2 + len(WAYS))}")
    for kind in KINDS:
        covers = [cover(kind, seed) for seed in range(len(truths))]
        for name, mask in masks.items():
            found = [
                np.mean([quality(truth, own, i, mask(own), model=model, **how) for i, (truth, own) in enumerate(pairs)])
                for how in WAYS.values()
                for pairs in [list(zip(truths, covers, strict=True))]
            ]
            print(f"| {kind} | {name} | {' | '.join(f'{value:.2f}' for value in found)} |", flush=True)


def quality(truth: Pixels, covered: Floats, number: int, hole: Hole, **how: Any) -> float:
    """PSNR of a fill; what is laid over is white in every second picture, and black in the others."""
    colour = 255 * (number % 2)
    given = (truth * (1 - covered[..., None]) + colour * covered[..., None]).round().astype(np.uint8)
    filled = inpainting(given, hole, **how).pictures[0].samples.astype(np.uint8)
    near = dilate(torch.from_numpy(covered > 0)[None, None].float(), MARGIN)
    return float(hole_psnr(tensor(filled), tensor(truth), F.threshold(near, 0.5, 0)))


if __name__ == "__main__":
    main()
