"""Holes that are wide for the network, coarse to fine, as a user gets them: which settings of the levels.

    python bench/wide.py FOLDER_OF_LARGE_PHOTOGRAPHS [--pictures 8]

Rows 200 to 455 and columns 300 to 555 of the first photographs of the sorted folder; a hole of 90x90 in the middle,
brush strokes 13 to 20 pixels wide, and stripes of 10 in 26; no soft edge, one fill each with seed 0, the shipped model.
Every setting that is tried is printed: hole PSNR in dB, and sharpness (1 for the truth).
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from machine import machine
from pixmend.checkpoint import load_model
from pixmend.evaluation.metrics import hole_psnr, inside_gradient
from pixmend.images import open_picture, picture_files
from pixmend.masks import draw_mask
from quality import ratio

Pixels = NDArray[np.uint8]
Hole = NDArray[np.bool_]

SETTINGS = (  # calls at the coarsest level, level from which finer ones start, their calls, widest hole in sizes
    (2, 0.25, 1, 0.5),
    (3, 0.25, 1, 0.5),
    (4, 0.25, 1, 0.5),
    (6, 0.25, 1, 0.5),
    (3, 0.25, 2, 0.5),
    (3, 0.5, 1, 0.5),
    (3, 0.5, 3, 0.5),
    (3, 0.25, 1, 0.25),
    (3, 0.25, 1, 0.125),
)
SIDE = 256
KINDS: dict[str, dict[str, Any]] = {
    "centre": {"side": 0.35},
    "irregular": {"width": (0.05, 0.08)},
    "stripes": {"period": 0.1, "share": 0.4},
}


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)


def cell(fills: list[Pixels], truths: list[Pixels], holes: list[Hole]) -> str:
    x, x0 = (torch.cat([tensor(p) for p in pictures]) for pictures in (fills, truths))
    mask = torch.from_numpy(np.stack(holes)).float()[:, None]
    sharpness = ratio(inside_gradient(x, mask), inside_gradient(x0, mask))
    return f"{float(hole_psnr(x, x0, mask).mean()):.2f}, {sharpness:.2f}"


def print_row(name: str, fill: Callable[[Pixels, Hole], Pixels], truths: list[Pixels]) -> None:
    cells = []
    for kind, parameters in KINDS.items():
        draws = range(len(truths))
        holes = [draw_mask(kind, (SIDE, SIDE), np.random.default_rng(n), **parameters) for n in draws]
        cells.append(cell([fill(p, hole) for p, hole in zip(truths, holes, strict=True)], truths, holes))
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=8)
    options = parser.parse_args()
    rooms = importlib.import_module("pixmend.inpainting")
    model = load_model()
    files = picture_files(options.folder)[: options.pictures]
    truths = [np.ascontiguousarray(open_picture(f).samples[200 : 200 + SIDE, 300 : 300 + SIDE, :3]) for f in files]
    print(f"# Wide holes, coarse to fine\n\n{machine()}; {len(truths)} photographs, one fill each, {model.sampler}.\n")
    print(
        f"| calls, finer levels from, their calls, widest hole | {' | '.join(KINDS)} |\n| --- |{' --- |' * len(KINDS)}"
    )
    print_row("OpenCV Telea, radius 3", lambda p, h: cv2.inpaint(p, h.astype(np.uint8), 3, cv2.INPAINT_TELEA), truths)
    for steps, rooms.REFINE_FROM, rooms.REFINE_STEPS, rooms.WIDEST in SETTINGS:

        def fill(picture: Pixels, hole: Hole, steps: int = steps) -> Pixels:
            samples: Pixels = rooms.inpainting(picture, hole, model=model, steps=steps, blur=0).pictures[0].samples
            return samples

        name = f"{steps}, {rooms.REFINE_FROM:g}, {rooms.REFINE_STEPS}, {rooms.WIDEST:g}"
        print_row(name, fill, truths)


if __name__ == "__main__":
    main()
