"""Holes that are wide for the network, as a user gets them: quality at size, and which settings of the levels.

    python bench/wide.py FOLDER_OF_LARGE_PHOTOGRAPHS [--sides 256 512] [--pictures 8] [--seeds 0] [--settings]
                         [--matching 12,1 24,2] [--keep FOLDER]

Crops of some photographs of the sorted folder; holes that grow with the crop: a
square of 0.35 of its side in the middle, brush strokes of 0.05 to 0.08 in width, stripes of 0.04 in 0.1; no soft edge,
one fill each with every seed. Beside ours: the picture shrunk until the hole is narrow enough, filled and enlarged;
the network in tiles at the picture's own size alone; OpenCV's Telea. With --settings, ours with other settings of the
levels instead; with --matching, ours with so many rounds of matching at a mosaic's first level and so many passes at
the others. Every figure is printed: hole PSNR in dB; the energy of three Laplacian bands, finest first, as a
standard deviation, over the truth's (1 is best); sliced Wasserstein distance (0 is best); seam (1 is best). Of several
seeds their mean, and behind the distance its lowest and highest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

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
from pixmend.evaluation.protocol import part_of
from pixmend.images import open_picture, picture_files
from pixmend.inpainting import inpainting
from pixmend.masks import draw_mask
from pixmend.windows import find_parts
from quality import ratio

Pixels = NDArray[np.uint8]
Fill = Callable[[Pixels, Hole, int], Pixels]  # of a seed

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
    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        samples: Pixels = inpainting(picture, hole, model=model, blur=0, seed=seed, **options).pictures[0].samples
        return samples

    return fill


def shrunk(model: Model) -> Fill:
    """Halve the picture until its hole is narrow enough, fill it there, enlarge: known pixels as they are."""

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        factor = 2 ** max(part.halvings for part in find_parts(hole, model.size))
        size = (picture.shape[1] // factor, picture.shape[0] // factor)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        filled = ours(model, detail="model")(small, small_hole, seed)
        large = cv2.resize(filled, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return np.where(hole[..., None], large, picture)

    return fill


def one_scale(model: Model) -> Fill:
    """The network in tiles at the picture's own size, however wide the hole; all else is as in ours."""

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        with patch.object(windows, "count_halvings", lambda *hole: 0):
            return ours(model, detail="model")(picture, hole, seed)

    return fill


def telea(picture: Pixels, hole: Hole, seed: int) -> Pixels:
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


def with_matching(model: Model, matching: list[tuple[int, int]]) -> Iterator[tuple[str, Fill]]:
    """While a way is in use, its settings hold."""
    for rounds, passes in matching:
        QUALITIES["balanced"] = replace(QUALITIES["balanced"], rounds=rounds, passes=passes)
        yield f"{rounds} rounds, {passes} at finer levels", ours(model)


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1  # (1, 3, H, W)


def measured(fills: list[Pixels], truths: list[Pixels], holes: list[Hole]) -> list[float]:
    """PSNR, three bands, 1000 times the distance, seam."""
    x, x0 = (torch.cat([tensor(p) for p in pictures]) for pictures in (fills, truths))
    mask = torch.from_numpy(np.stack(holes)).float()[:, None]
    energies = zip(band_energy(x, mask), band_energy(x0, mask), strict=True)
    far = 1e3 * sliced_wasserstein(x, x0, mask)
    seam = ratio(boundary_gradient(x, mask), boundary_gradient(x0, mask))
    return [float(hole_psnr(x, x0, mask).mean()), *(ratio(a, b) ** 0.5 for a, b in energies), float(far), seam]


def cell(figures: list[list[float]]) -> str:
    """The mean of what several seeds gave."""
    psnr, fine, middle, coarse, far, seam = np.mean(figures, axis=0)
    distances = [one[4] for one in figures]
    distance = f"{far:.1f}" if len(figures) == 1 else f"{far:.2f} ({min(distances):.1f} to {max(distances):.1f})"
    return f"{psnr:.2f}; {fine:.2f} {middle:.2f} {coarse:.2f}; {distance}; {seam:.2f}"


def print_row(
    name: str, fill: Fill, kinds: list[str], truths: list[Pixels], seeds: list[int], keep: Path | None
) -> None:
    cells, side = [], len(truths[0])
    for kind in kinds:
        parameters = KINDS[kind]
        holes = [draw_mask(kind, (side, side), np.random.default_rng(n), **parameters) for n in range(len(truths))]
        figures = []
        for seed in seeds:
            fills = [fill(p, hole, seed) for p, hole in zip(truths, holes, strict=True)]
            figures.append(measured(fills, truths, holes))
            for n, picture in enumerate(fills if keep else []):
                cv2.imwrite(f"{keep}/{side}-{kind}-{n}-{name.replace(' ', '-')}-{seed}.png", picture[..., ::-1])
        cells.append(cell(figures))
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def pair(text: str) -> tuple[int, int]:
    rounds, passes = map(int, text.split(","))
    return rounds, passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a model file; the one that ships with pixmend without")
    parser.add_argument("--first", type=int, default=0, help="how many photographs to leave out before the first")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--corner", type=int, nargs=2, default=[200, 300], help="row and column of the crops")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the rows, by their names")
    parser.add_argument("--settings", action="store_true", help="ours alone, with other settings of the levels")
    parser.add_argument("--matching", type=pair, nargs="+", metavar="ROUNDS,PASSES", help="ours alone, so much of it")
    parser.add_argument("--keep", type=Path, help="an existing folder for the fills, to look at")
    options = parser.parse_args()
    model = load_model(options.model)
    # Settings are chosen on other photographs than those that ours is compared with others on.
    part = "choice" if options.settings or options.matching else "report"
    found = [f for f in picture_files(options.folder) if part_of(f.relative_to(options.folder).as_posix()) == part]
    files = found[options.first :][: options.pictures]
    top, left = options.corner
    print(f"# Wide holes, coarse to fine\n\n{machine()}; {len(files)} photographs, seeds {options.seeds}.")
    for side in options.sides:
        truths = [
            np.ascontiguousarray(open_picture(f).samples[top : top + side, left : left + side, :3]) for f in files
        ]
        truths = [picture for picture in truths if picture.shape == (side, side, 3)]
        print(f"\n## {len(truths)} crops of {side}x{side}: PSNR; three bands; 1000 x sliced Wasserstein; seam\n")
        print(f"| | {' | '.join(options.kinds)} |\n| --- |{' --- |' * len(options.kinds)}")
        matched = with_matching(model, options.matching or [])
        for name, fill in matched if options.matching else with_settings(model) if options.settings else ways(model):
            if not options.only or name in options.only:
                print_row(name, fill, options.kinds, truths, options.seeds, options.keep)


if __name__ == "__main__":
    main()
