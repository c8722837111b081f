"""Wide holes, coarse to fine, as a user gets them: which settings of the levels, by hole PSNR and sharpness.

    python bench/wide.py FOLDER_OF_LARGE_PHOTOGRAPHS [--pictures 8]

Rows 200 to 455 and columns 300 to 555 of the first photographs of the sorted folder, a hole of 90x90 in the middle,
no soft edge, one fill each with seed 0, the shipped model. Every setting that is tried is printed.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import cv2
import numpy as np
import torch

from machine import machine
from metrics import hole_psnr, inside_gradient, ratio
from pixmend.images import open_picture, picture_files

SETTINGS = (  # calls at the coarsest level, level from which finer ones start, their calls, widest hole in sizes
    (2, 0.5, 3, 0.5),
    (2, 0.25, 1, 0.5),
    (2, 0.25, 2, 0.5),
    (4, 0.25, 1, 0.5),
    (4, 0.25, 2, 0.75),
    (4, 0.25, 1, 1.0),
    (8, 0.25, 2, 0.75),
)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)


def row(name: str, fills: list[np.ndarray], truths: list[np.ndarray], hole: np.ndarray) -> str:
    x, x0 = (torch.cat([tensor(p) for p in pictures]) for pictures in (fills, truths))
    mask = torch.from_numpy(hole).float()[None, None].expand(len(x), -1, -1, -1)
    sharpness = ratio(inside_gradient(x, mask), inside_gradient(x0, mask))
    return f"| {name} | {float(hole_psnr(x, x0, mask).mean()):.2f} | {sharpness:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=8)
    options = parser.parse_args()
    rooms = importlib.import_module("pixmend.inpainting")
    files = picture_files(options.folder)[: options.pictures]
    truths = [np.ascontiguousarray(open_picture(f).samples[200:456, 300:556, :3]) for f in files]
    hole = np.zeros((256, 256), bool)
    hole[83:173, 83:173] = True
    print(f"# Wide holes, coarse to fine\n\n{machine()}; {len(truths)} photographs, one fill each.\n")
    print("| calls, finer levels from, their calls, widest hole | hole PSNR, dB | sharpness |\n| --- | --- | --- |")
    telea = [cv2.inpaint(p, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA) for p in truths]
    print(row("OpenCV Telea, radius 3", telea, truths, hole))
    for steps, rooms.REFINE_FROM, rooms.REFINE_STEPS, rooms.WIDEST in SETTINGS:
        fills = [rooms.inpainting(p, hole, steps=steps, blur=0).pictures[0].samples for p in truths]
        name = f"{steps}, {rooms.REFINE_FROM:g}, {rooms.REFINE_STEPS}, {rooms.WIDEST:g}"
        print(row(name, fills, truths, hole), flush=True)


if __name__ == "__main__":
    main()
