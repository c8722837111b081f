"""Holes that are wide for the network, as a user gets them: quality at size, and which settings of the levels.

    python bench/wide.py FOLDER_OF_LARGE_PHOTOGRAPHS [--sides 256 512] [--pictures 8] [--settings] [--keep FOLDER]

Crops of some photographs of the sorted folder; holes that grow with the crop: a
square of 0.35 of its side in the middle, brush strokes of 0.05 to 0.08 in width, stripes of 0.04 in 0.1; no soft edge,
one fill each with seed 0. Beside ours: the picture shrunk until the hole is narrow enough, filled there and enlarged;
the network in tiles at the picture's own size alone; OpenCV's Telea. With --settings, ours with other settings of the
levels instead. Every figure is printed: hole PSNR in dB; the energy of three Laplacian bands, finest first, as a
standard deviation, over the truth's (1 is best); sliced Wasserstein distance (0 is best); seam (1 is best).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from machine import machine
from patches import band_energy, sliced_wasserstein
from pixmend import windows
from pixmend.checkpoint import Model, load_model
from pixmend.components import Hole
from pixmend.efforts import DETAILS, QUALITIES
from pixmend.evaluation.metrics import boundary_gradient, hole_psnr
from pixmend.images import open_picture, picture_files
from pixmend.inpainting import inpainting
from pixmend.masks import draw_mask
from pixmend.windows import find_parts
from quality import ratio

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels, Hole], Pixels]

SETTINGS = (  # calls at the coarsest level, level from which finer ones start, their calls, widest hole in sizes
    (3, 0.5, (2,), 0.5),
    (3, 0.5, (2,), 0.25),
    (3, 0.5, (2,), 0.125),
    (3, 0.6, (2,), 0.25),
    (3, 0.75, (2,), 0.25),
    (3, 0.75, (3,), 0.25),
    (3, 0.75, (4,), 0.25),
    (6, 0.5, (4, 3), 0.25),
    (6, 0.75, (4,), 0.25),
    (6, 0.9, (6,), 0.25),
)
KINDS: dict[str, dict[str, Any]] = {
    "centre": {"side": 0.35},
    "irregular": {"width": (0.05, 0.08)},
    "stripes": {"period": 0.1, "share": 0.4},
}


def ours(model: Model, **options: Any) -> Fill:
    def fill(picture: Pixels, hole: Hole) -> Pixels:
        samples: Pixels = inpainting(picture, hole, model=model, blur=0, **options).pictures[0].samples
        return samples

    return fill


def shrunk(model: Model) -> Fill:
    """Halve the picture until its hole is narrow enough, fill it there, enlarge: known pixels as they are."""

    def fill(picture: Pixels, hole: Hole) -> Pixels:
        factor = 2 ** max(part.halvings for part in find_parts(hole, model.size))
        size = (picture.shape[1] // factor, picture.shape[0] // factor)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        filled = ours(model, detail="model")(small, small_hole)
        large = cv2.resize(filled, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return np.where(hole[..., None], large, picture)

    return fill


def one_scale(model: Model) -> Fill:
    """The network in tiles at the picture's own size, however wide the hole."""

    def fill(picture: Pixels, hole: Hole) -> Pixels:
        widest, windows.WIDEST = windows.WIDEST, 1000.0
        try:
            return ours(model, detail="model")(picture, hole)
        finally:
            windows.WIDEST = widest

    return fill


def telea(picture: Pixels, hole: Hole) -> Pixels:
    filled: Pixels = cv2.inpaint(picture, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    return filled


def ways(model: Model) -> Iterator[tuple[str, Fill]]:
    yield "OpenCV Telea, radius 3", telea
    yield "shrunk, filled, enlarged", shrunk(model)
    yield "tiles at one scale", one_scale(model)
    for detail in DETAILS:
        for quality in QUALITIES:
            yield f"{quality}, detail of the {detail}", ours(model, quality=quality, detail=detail)


def with_settings(model: Model) -> Iterator[tuple[str, Fill]]:
    """While a way is in use, its settings hold."""
    for steps, start, finer, windows.WIDEST in SETTINGS:
        QUALITIES["balanced"] = replace(QUALITIES["balanced"], first=1, finer_from=start, finer=finer)
        yield f"{steps}, {start:g}, {finer}, {windows.WIDEST:g}", ours(model, steps=steps, detail="model")


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)


def cell(fills: list[Pixels], truths: list[Pixels], holes: list[Hole]) -> str:
    x, x0 = (torch.cat([tensor(p) for p in pictures]) for pictures in (fills, truths))
    mask = torch.from_numpy(np.stack(holes)).float()[:, None]
    energies = zip(band_energy(x, mask), band_energy(x0, mask), strict=True)
    sharpness = " ".join(f"{ratio(a, b) ** 0.5:.2f}" for a, b in energies)
    far = 1e3 * sliced_wasserstein(x, x0, mask)
    seam = ratio(boundary_gradient(x, mask), boundary_gradient(x0, mask))
    return f"{float(hole_psnr(x, x0, mask).mean()):.2f}; {sharpness}; {far:.1f}; {seam:.2f}"


def print_row(name: str, fill: Fill, kinds: list[str], truths: list[Pixels], keep: Path | None) -> None:
    cells, side = [], len(truths[0])
    for kind in kinds:
        parameters = KINDS[kind]
        holes = [draw_mask(kind, (side, side), np.random.default_rng(n), **parameters) for n in range(len(truths))]
        fills = [fill(p, hole) for p, hole in zip(truths, holes, strict=True)]
        cells.append(cell(fills, truths, holes))
        for n, picture in enumerate(fills if keep else []):
            cv2.imwrite(f"{keep}/{side}-{kind}-{n}-{name.replace(' ', '-')}.png", picture[..., ::-1])
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a model file; the one that ships with pixmend without")
    parser.add_argument("--first", type=int, default=0, help="how many photographs to leave out before the first")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--corner", type=int, nargs=2, default=[200, 300], help="row and column of the crops")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the rows, by their names")
    parser.add_argument("--settings", action="store_true", help="ours alone, with other settings of the levels")
    parser.add_argument("--keep", type=Path, help="an existing folder for the fills, to look at")
    options = parser.parse_args()
    model = load_model(options.model)
    files = picture_files(options.folder)[options.first :][: options.pictures]
    top, left = options.corner
    print(f"# Wide holes, coarse to fine\n\n{machine()}; {len(files)} photographs, one fill each, {model.sampler}.")
    for side in options.sides:
        truths = [
            np.ascontiguousarray(open_picture(f).samples[top : top + side, left : left + side, :3]) for f in files
        ]
        truths = [picture for picture in truths if picture.shape == (side, side, 3)]
        print(f"\n## {len(truths)} crops of {side}x{side}: PSNR; three bands; 1000 x sliced Wasserstein; seam\n")
        print(f"| | {' | '.join(options.kinds)} |\n| --- |{' --- |' * len(options.kinds)}")
        for name, fill in with_settings(model) if options.settings else ways(model):
            if not options.only or name in options.only:
                print_row(name, fill, options.kinds, truths, options.keep)


if __name__ == "__main__":
    main()
