"""How long a fill takes while other programs want the processor: what waiting threads cost.

    python bench/busy.py PHOTOGRAPH [--repeats 5]

A square of a quarter of 512x512 pixels of the photograph's middle is filled by torch, each time in a process of its
own, with nothing beside it and beside as many programs that only count as there are cores. GOMP_SPINCOUNT is how often
a thread looks whether the others are done before it sleeps: libgomp's own 300,000, and others; pixmend sets its own
when it is imported. Medians, in seconds, loading not counted; what takes more than `--limit` seconds is stopped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import machine

OWN = 300_000  # libgomp's, where threads are no more than cores
SPINS = (OWN, 10_000, 2000, 0)
FILL = """
import sys, time
import numpy as np
from pixmend.checkpoint import load_model
from pixmend.images import open_picture
from pixmend.inpainting import inpainting
samples = open_picture(sys.argv[1]).samples
top, left = (samples.shape[0] - 512) // 2, (samples.shape[1] - 512) // 2
picture = np.ascontiguousarray(samples[top:top + 512, left:left + 512])
hole = np.zeros((512, 512), bool)
hole[128:384, 128:384] = True
model = load_model(None)
inpainting(picture[96:160, 96:160], hole[96:160, 96:160], model=model, backend="torch")
start = time.perf_counter()
inpainting(picture, hole, model=model, backend="torch")
print(time.perf_counter() - start)
"""


@contextmanager
def others(count: int) -> Iterator[None]:
    """So many programs that take all the time that they get."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def seconds(photograph: Path, spins: int, limit: float) -> float:
    """Of one fill in a new process; infinite where it was stopped."""
    environment = {**os.environ, "GOMP_SPINCOUNT": str(spins)}
    try:
        told = subprocess.run(
            [sys.executable, "-c", FILL, str(photograph)],
            env=environment, capture_output=True, text=True, check=True, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return float("inf")
    return float(told.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph", type=Path, help="of at least 512x512 pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=120.0)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"# Fills beside other programs\n\n{machine()}; medians of {options.repeats}, in seconds.\n")
    print(f"| GOMP_SPINCOUNT | nothing beside | {cores} programs beside |\n| --- | --- | --- |")
    found: dict[tuple[int, int], list[float]] = {(spins, count): [] for spins in SPINS for count in (0, cores)}
    for _ in range(options.repeats):
        for (spins, count), times in found.items():
            with others(count):
                times.append(seconds(options.photograph, spins, options.limit))
    for spins in SPINS:
        cells = (statistics.median(found[spins, count]) for count in (0, cores))
        told = (f"{cell:.2f}" if cell < options.limit else f"more than {options.limit:g}" for cell in cells)
        print(f"| {spins} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
