"""The evaluation of `pixmend evaluate` at the size of real pictures: our fill, and the simple ways to large pictures.

    python bench/at_size.py PHOTOGRAPHS REPORT [--size 256] [--pictures 40] [--families rectangles centre ...]

The middle SIZE x SIZE pixels of every photograph, as they are: large photographs, of a megapixel or so. The holes are
those of the protocol, scaled up with the picture. The ways: what `pixmend inpaint` does; the same with the detail of
the network alone; the picture shrunk until the network sees across the hole, filled there and enlarged; and the network
in tiles at the picture's own size. REPORT keeps crops and fills: the program goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from machine import commit, machine
from pixmend.checkpoint import Model, load_model
from pixmend.components import Hole
from pixmend.console import show
from pixmend.evaluation.evaluate import evaluate
from pixmend.evaluation.method import Method
from pixmend.evaluation.methods import choose_methods
from pixmend.evaluation.protocol import Pixels, part_of
from pixmend.evaluation.tables import print_table
from pixmend.images import open_picture, picture_files, save_picture
from pixmend.model_files import DEFAULT_MODEL
from pixmend.picture_cache import content_hash
from pixmend.pictures import to_samples
from wide import one_scale, ours, shrunk

FAMILIES = ("rectangles", "centre", "irregular", "stripes", "medium", "thick")
Fill = Callable[[Pixels, Hole, int], Pixels]


def cropped(photographs: Path, folder: Path, size: int) -> Path:
    """A folder of the middles of the photographs that are large enough, of the part that is kept for reports."""
    for path in picture_files(photographs):
        name = path.relative_to(photographs)
        if part_of(name.as_posix()) != "report":
            continue
        picture, crop = open_picture(path), folder / name.with_name(f"{name.name}.png")
        crop.parent.mkdir(parents=True, exist_ok=True)
        top, left = ((length - size) // 2 for length in picture.size)
        if min(top, left) >= 0 and not crop.exists():
            samples = to_samples(picture.colour()[top : top + size, left : left + size])
            save_picture(open_picture(samples.astype("uint8")), crop)
    return folder


def ways(model: Model) -> list[Method]:
    """Ours first."""
    fills: dict[str, Fill] = {
        "pixmend": ours(model),
        "pixmend, detail of the model": ours(model, detail="model"),
        "shrunk, filled, enlarged": shrunk(model),
        "tiles at one scale": one_scale(model),
    }
    identity = f"{content_hash(DEFAULT_MODEL)} {commit()}"  # fills of other weights or other code are made anew
    return [Method(name, fill, random=True, identity=identity) for name, fill in fills.items()]


def main() -> None:
    """Read the command line, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    options = parser.parse_args()
    crops = cropped(options.photographs, options.report / f"crops-for-report-{options.size}", options.size)
    methods = ways(load_model())
    result = evaluate(
        crops,
        options.report / f"report-{options.size}",
        methods=[*choose_methods(["telea", "biharmonic"])[0], *methods],
        families=options.families,
        pictures=options.pictures,
        fills=1,
        size=options.size,
        part="all",  # of what was chosen above
        classify=(),
        reference=methods[0].name,
        progress=partial(_tell, [0]),
    )
    print(f"# At {options.size}x{options.size}\n\n{machine()}.\n")
    print_table(result.figures)


def _tell(told: list[int], done: int, total: int, text: str) -> None:
    if done >= told[0]:
        show(f"{done} of {total}: {text}")
        told[0] = done + total // 20


if __name__ == "__main__":
    main()
