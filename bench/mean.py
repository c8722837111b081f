"""What the network that answers the mean is good for: lines of several widths in large photographs.

    python bench/mean.py FOLDER_OF_PHOTOGRAPHS [--pictures 50] [--model FILE] [--widths 2 3 4 6 10]
    python bench/mean.py FOLDER_OF_PHOTOGRAPHS [--pictures 50] [--model FILE] --stained

The middle SIZE x SIZE pixels of every photograph, as they are; six straight lines across it, ends from fixed seeds, all
of one width. PSNR in the hole, dB; sharpness in three bands from fine to coarse, and seam: 1 is as the truth. The mean
of pictures for PSNR; of the others, the ratio of means. "share": how much of the hole counts as narrow.

The ways: the smooth fill; drawn from it; drawn from the mean; the mean itself, in one call.

--stained: lines 2 pixels wide and a few wide spots in one mask. All drawn together, or what is narrow first: PSNR of
the lines outside of the spots, and of the spots; seconds a picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from machine import alternate, machine, medians
from pixmend.checkpoint import Model, load_model
from pixmend.components import Hole
from pixmend.conditioning import smooth_fill
from pixmend.evaluation.metrics import band_detail, boundary_gradient, hole_psnr
from pixmend.images import open_picture, picture_files
from pixmend.inpainting import inpainting
from pixmend.pictures import to_samples, to_values
from pixmend.strokes import draw_lines
from pixmend.windows import narrow_pixels

SIZE = 256
LINES = 6
SPOTS = 3
Pixels = NDArray[np.uint8]


def middle(path: Path) -> Pixels | None:
    """The middle of a photograph, (SIZE, SIZE, 3); None of one that is smaller."""
    picture = open_picture(path)
    top, left = ((length - SIZE) // 2 for length in picture.size)
    if min(top, left) < 0:
        return None
    return to_samples(picture.colour()[top : top + SIZE, left : left + SIZE]).astype(np.uint8)


def lines(width: float, seed: int) -> Hole:
    """Straight lines from side to side, (SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    ends = rng.random((2, LINES, 2)) * SIZE
    for line in range(LINES):  # from left to right, or from top to bottom
        ends[:, line, line % 2] = 0, SIZE
    return draw_lines(SIZE, SIZE, ends[0], ends[1], np.full(LINES, width / 2))


def spots(seed: int) -> Hole:
    """A few discs, (SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    centres, radii = rng.uniform(0.15, 0.85, (SPOTS, 2)) * SIZE, rng.uniform(12, 24, SPOTS)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    discs = [np.hypot(rows - y, columns - x) < r for (y, x), r in zip(centres, radii, strict=True)]
    found: Hole = np.logical_or.reduce(discs)
    return found


def tensor(pixels: Pixels) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(to_values(pixels)).permute(2, 0, 1)[None]


def stained(model: Model, truths: list[Pixels]) -> None:
    """The table of lines and spots in one mask."""
    print(f"# Lines and spots, {SIZE}x{SIZE}\n\n{machine()}; {len(truths)} photographs.\n")
    print("| way | PSNR of lines | of spots | seconds |\n| --- | --- | --- | --- |")
    cases = [(truth, lines(2, seed), spots(seed)) for seed, truth in enumerate(truths)]
    fills: dict[str, list[Pixels]] = {}

    def filling(name: str, own: Model) -> Callable[[], None]:
        """What fills the next of the cases at every call."""
        fills[name] = []

        def call() -> None:
            truth, scratched, stains = cases[len(fills[name])]
            result = inpainting(truth, scratched | stains, model=own)
            fills[name].append(result.pictures[0].samples.astype(np.uint8))

        return call

    ways = {"all drawn": replace(model, mean=None), "narrow holes first": model}
    calls = {name: filling(name, own) for name, own in ways.items()}
    for name, seconds in medians(alternate(calls, len(cases), warmup=0)).items():
        psnr = []
        for fill, (truth, scratched, stains) in zip(fills[name], cases, strict=True):
            holes = (torch.from_numpy(hole)[None, None].float() for hole in (scratched & ~stains, stains))
            psnr.append([float(hole_psnr(tensor(fill), tensor(truth), hole)) for hole in holes])
        of_lines, of_spots = np.mean(psnr, axis=0)
        print(f"| {name} | {of_lines:.2f} | {of_spots:.2f} | {seconds:.2f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--widths", type=float, nargs="+", default=[2, 3, 4, 6, 10])
    parser.add_argument("--stained", action="store_true")
    options = parser.parse_args()
    model = load_model(options.model)
    if model.mean is None:
        parser.error("the model has no part that answers the mean")
    middles = (middle(path) for path in picture_files(options.photographs))
    truths = list(islice((found for found in middles if found is not None), options.pictures))
    if options.stained:
        stained(model, truths)
    else:
        of_widths(model, truths, options.widths)


def drawn(model: Model, truth: Pixels, hole: Hole) -> Tensor:
    """A fill by the sampler, whatever the hole's width, (1, 3, H, W)."""
    result = inpainting(truth, hole, model=model, steps=model.steps, detail="model")
    return tensor(result.pictures[0].samples.astype(np.uint8))


def of_widths(model: Model, truths: list[Pixels], widths: list[float]) -> None:
    """The table of lines of these widths."""
    likeliest = model.mean
    assert likeliest is not None
    ways: dict[str, Callable[[Pixels, Hole], Tensor]] = {
        "smooth fill": lambda truth, hole: smooth_fill(tensor(truth), torch.from_numpy(hole)[None, None].float()),
        "drawn from that": lambda truth, hole: drawn(replace(model, mean=None), truth, hole),
        "drawn from the mean": lambda truth, hole: drawn(model, truth, hole),
        "the mean": lambda truth, hole: drawn(likeliest, truth, hole),
    }
    print(f"# Lines of several widths, {SIZE}x{SIZE}\n\n{machine()}; {len(truths)} photographs.\n")
    print("| width | share | way | PSNR | sharpness, fine | middle | coarse | seam |")
    print(f"|{' --- |' * 8}")
    for width in widths:
        holes = [lines(width, seed) for seed in range(len(truths))]
        share = np.mean([narrow_pixels(hole).sum() / hole.sum() for hole in holes])
        for name, fill in ways.items():
            psnr, amounts = [], []
            for truth, hole in zip(truths, holes, strict=True):
                x, mask = tensor(truth), torch.from_numpy(hole)[None, None].float()
                y = torch.where(mask > 0, fill(truth, hole), x)
                psnr.append(float(hole_psnr(y, x, mask)))
                amounts.append([[*band_detail(v, mask)[0].tolist(), float(boundary_gradient(v, mask))] for v in (y, x)])
            ours, true = np.mean(amounts, axis=0)
            told = " | ".join(f"{ratio:.2f}" for ratio in ours / true)
            print(f"| {width:g} | {share:.0%} | {name} | {np.mean(psnr):.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
