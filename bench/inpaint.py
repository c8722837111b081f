"""How long repairing takes, what it takes in memory, and what of it is spent outside the network and on patches.

    python bench/inpaint.py [--model FILE] [--backend NAME] [--detail NAME] [--repeats 5] [--small]

Pictures are drawn from a seed: smooth colours with grain. Medians of calls that take turns in one process, the first of
each left out; files are read and written apart from that. Peak memory is that of a process of its own, above what it
had with torch loaded. --small divides all sides by eight, to try the program.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from machine import alternate, machine
from pixmend.checkpoint import Model, load_model
from pixmend.efforts import QUALITIES
from pixmend.images import open_picture, save_picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.masks import create_advanced_mask

FIRST_CALL = """
import sys, time
from pixmend import cli
from pixmend.budget import Batches
tried = Batches._tried
def first(self, x, t):
    print("first call", time.time(), flush=True)
    Batches._tried = tried
    return tried(self, x, t)
Batches._tried = first
cli.main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Case:
    """A picture of noise and colours with a hole."""

    height: int
    width: int
    hole: str  # "strokes", or the side of a square in pixels
    quality: str = "balanced"

    @property
    def name(self) -> str:
        hole = "strokes over 25 %" if self.hole == "strokes" else f"square of {self.hole}"
        return f"{self.width}x{self.height}, {hole}, {self.quality}"

    def picture(self) -> NDArray[np.uint8]:
        rng = np.random.default_rng(0)
        colours = rng.integers(0, 256, (max(2, self.height // 64), max(2, self.width // 64), 3), np.uint8)
        smooth = cv2.resize(colours, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        grain = rng.integers(-4, 5, (self.height, self.width, 1), np.int8)
        return np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)

    def mask(self) -> NDArray[np.bool_]:
        shape = self.height, self.width
        if self.hole == "strokes":
            return create_advanced_mask("irregular", shape, seed=0, area=(0.23, 0.27))[0, 0].numpy() > 0
        side = int(self.hole)
        mask = np.zeros(shape, bool)
        top, left = (self.height - side) // 2, (self.width - side) // 2
        mask[top : top + side, left : left + side] = True
        return mask


def cases(divisor: int) -> dict[str, Case]:
    """By the name under which they are compared with each other below."""
    qualities = {
        f"512 square {quality}": Case(512 // divisor, 512 // divisor, str(256 // divisor), quality)
        for quality in QUALITIES
    }
    large = 4000 // divisor, 6000 // divisor
    return {
        **qualities,
        "512 strokes": Case(512 // divisor, 512 // divisor, "strokes"),
        "256": Case(256 // divisor, 256 // divisor, str(128 // divisor)),
        "1 MP": Case(1024 // divisor, 1024 // divisor, str(512 // divisor)),
        "24 MP": Case(*large, str(512 // divisor)),
        "24 MP, 6 %": Case(*large, str(1200 // divisor)),
        "24 MP, 25 %": Case(*large, str(2449 // divisor)),
    }


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What goes to `inpainting` beside picture, mask and model."""
    return {"backend": arguments.backend, "detail": arguments.detail}


def speed_table(model: Model, chosen: dict[str, Case], repeats: int, options: dict[str, Any]) -> None:
    results: dict[str, list[Inpainted]] = {name: [] for name in chosen}

    def work(name: str) -> Callable[[], object]:
        case = chosen[name]
        picture, mask = open_picture(case.picture()), case.mask()

        def call() -> None:
            made = inpainting(picture, mask, model=model, quality=case.quality, **options)
            results[name].append(made)
            made.pictures.clear()  # a hundred megabytes each

        return call

    seconds = alternate({name: work(name) for name in chosen}, repeats, warmup=1)
    print("\n| picture | seconds | network calls | tiles | in the network | matching patches | outside of both |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, times in seconds.items():
        records = [[level for part in made.records for level in part.levels] for made in results[name][1:]]
        network = [sum(level.network_seconds for level in levels) for levels in records]
        patches = [sum(level.seconds for level in levels if not level.times) for levels in records]
        parts = [statistics.median(p / s for p, s in zip(spent, times, strict=True)) for spent in (network, patches)]
        shares = " | ".join(f"{100 * share:.1f} %" for share in (*parts, 1 - sum(parts)))
        calls, tiles = (sum(getattr(level, what) for level in records[0]) for what in ("calls", "tiles"))
        print(f"| {chosen[name].name} | {statistics.median(times):.3f} | {calls} | {tiles} | {shares} |")
    print()
    for ours, other in (("24 MP", "1 MP"), ("24 MP, 25 %", "24 MP, 6 %")):
        if {ours, other} <= seconds.keys():
            times = statistics.median(seconds[ours]) / statistics.median(seconds[other])
            print(f"{chosen[ours].name} takes {times:.2f} times as long as {chosen[other].name}.")


def memory_table(chosen: dict[str, Case], arguments: argparse.Namespace) -> None:
    print("\n| picture | peak memory above torch, MiB |\n| --- | --- |")
    for name, case in chosen.items():
        told = [sys.executable, __file__, "--peak", name, *(["--small"] if arguments.small else [])]
        for option in ("model", "backend", "detail"):
            value = getattr(arguments, option)
            told += [f"--{option}", str(value)] if value is not None else []
        done = subprocess.run(told, capture_output=True, text=True, check=True)
        print(f"| {case.name} | {float(done.stdout) / 2**20:.0f} |")


def peak(model: Path | None, case: Case, options: dict[str, Any]) -> int:
    """Bytes, in this process, that must be a fresh one. Linux alone tells: getrusage counts the parent's as well."""
    before = resident("VmRSS")
    inpainting(case.picture(), case.mask(), model=model, quality=case.quality, **options)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at most so far."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])


def files_table(case: Case, arguments: argparse.Namespace) -> None:
    """Reading and writing; and the command from its start to the first call of the network."""
    with tempfile.TemporaryDirectory() as folder:
        picture, mask, out = (Path(folder, name) for name in ("picture.jpg", "mask.png", "out.jpg"))
        save_picture(open_picture(case.picture()), picture)
        save_picture(open_picture(case.mask()), mask)
        read = alternate({"both": lambda: (open_picture(picture), open_picture(mask))}, 3, warmup=1)["both"]
        loaded = open_picture(picture)
        write = alternate({"it": lambda: save_picture(loaded, out, overwrite=True)}, 3, warmup=1)["it"]
        print(
            f"\nReading {case.width}x{case.height} (JPEG) and its mask (PNG): {statistics.median(read):.2f} s; ", end=""
        )
        print(f"writing (JPEG): {statistics.median(write):.2f} s.")
        waits = []
        small = Case(256, 256, "64")
        save_picture(open_picture(small.picture()), picture, overwrite=True)
        save_picture(open_picture(small.mask()), mask, overwrite=True)
        told = ["inpaint", str(picture), "--mask", str(mask), "-o", str(out), "--overwrite"]
        told += ["--model", str(arguments.model)] if arguments.model else []
        for _ in range(3):
            start = time.time()
            done = subprocess.run([sys.executable, "-c", FIRST_CALL, *told], capture_output=True, text=True, check=True)
            waits.append(float(done.stdout.split("first call")[1].split()[0]) - start)
        print(f"From the start of `pixmend inpaint` to the first network call: {statistics.median(waits):.2f} s.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file; the one that ships with pixmend without")
    parser.add_argument("--backend", help="as `inpainting` takes it")
    parser.add_argument("--detail", default="picture", help="as `inpainting` takes it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="all sides an eighth, to try the program")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the cases, by their names in `cases`")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen, options = cases(8 if arguments.small else 1), options_of(arguments)
    if strange := set(arguments.only or ()) - set(chosen):
        parser.error(f"no case has the name {strange.pop()!r}; choose of {', '.join(chosen)}")
    if arguments.peak:
        print(peak(arguments.model, chosen[arguments.peak], options))
        return
    chosen = {name: case for name, case in chosen.items() if not arguments.only or name in arguments.only}
    model = load_model(arguments.model)
    legs = json.dumps([leg.get("kimg") for leg in model.legs])
    print(f"# Repairing\n\n{machine()}; backend {arguments.backend or 'by default'}; model of {legs} kimg.")
    speed_table(model, chosen, arguments.repeats, options)
    memory_table(chosen, arguments)
    files_table(list(chosen.values())[-1], arguments)


if __name__ == "__main__":
    main()
