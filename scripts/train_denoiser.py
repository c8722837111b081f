"""Train the denoiser that ships with pixmend, leg by leg, and put it into the package.

    python scripts/train_denoiser.py run PHOTOS RUNS --leg 32:400 --leg 64:2000      size in pixels : kimg
    python scripts/train_denoiser.py ship RUNS/leg-2-64/model.safetensors

`run` trains each leg from the end of the one before (the first from --init, if given; the model that ships will do), in
a folder of its own. Started again with the same arguments, it goes on where it was stopped, bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch

from pixmend.data import InpaintingDataset, Views
from pixmend.denoising.model_file import PHOTO_SHAPE, Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.samples import NoisyCrops
from pixmend.denoising.task import train_photo_denoiser
from pixmend.loop import Report, TrainConfig
from pixmend.model_files import DEFAULT_DENOISER

LEVELS = (0.01, 1.0)  # sigma, in units of [-1, 1]
VIEWS = Views(enlarged=0.0)  # enlarged crops have grain, which a denoiser must not learn to keep
TERMS = (
    "Trained on about 5,000 photographs of public research collections; most of them state no licence, some allow "
    "non-commercial use only. Use the weights for research and private, non-commercial work; docs/model-card.md has "
    "the list."
)


def run(options: argparse.Namespace) -> None:
    """Train the legs, one after the other."""
    before = options.init
    for number, (size, kimg) in enumerate(options.leg, 1):
        folder = options.runs / f"leg-{number}-{size}"
        last = number == len(options.leg)
        config = TrainConfig(
            total_kimg=kimg,
            batch_size=options.batch,
            lr=options.lr,
            lr_end=0.0 if last else 0.3,  # a leg that is not the last hands on a network that still moves
            warmup_kimg=min(5.0, kimg / 20),
            ema_halflife_kimg=min(20.0, kimg / 20) if last else 5.0,
            seed=options.seed + number - 1,
            save_minutes=2.0,
        )
        crops = InpaintingDataset(
            options.photos, size, seed=config.seed, views=VIEWS, holdout=config.holdout, cache=options.cache
        )
        denoiser = (
            Denoiser.new("scaled", shape=PHOTO_SHAPE, levels=LEVELS, size=size, seed=config.seed)
            if before is None
            else dataclasses.replace(load_denoiser(before), size=size)
        )
        trained = train_photo_denoiser(
            NoisyCrops(crops, denoiser.law, LEVELS),
            folder,
            config,
            denoiser=denoiser,
            resume=(folder / "state.safetensors").exists(),
            device=options.device,
            progress=_Printer(),
        )
        print(f"leg {number}: {trained.legs[-1]}", flush=True)
        if round(trained.legs[-1]["kimg"] * 1000 / config.batch_size) < config.steps:
            sys.exit("stopped; start again with the same arguments to go on")
        before = folder / "model.safetensors"


class _Printer:
    """A line for the log every half minute."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, report: Report) -> None:
        if report.held_out is None and time.monotonic() - self.last < 30 and report.step != report.steps:
            return
        self.last = time.monotonic()
        held_out = "" if report.held_out is None else f", held out {report.held_out:.4f}"
        print(
            f"{time.strftime('%H:%M:%S')} step {report.step}/{report.steps}: loss {report.loss:.4f}{held_out}, "
            f"lr {report.lr:.2e}, {report.samples_per_second:.0f} samples/s, {report.seconds_left / 60:.0f} min left",
            flush=True,
        )


def ship(file: Path) -> None:
    """Put a denoiser into the package, in half precision, with its terms of use."""
    denoiser = dataclasses.replace(load_denoiser(file), terms=TERMS)
    save_denoiser(DEFAULT_DENOISER, denoiser, overwrite=True, dtype=torch.float16)
    print(DEFAULT_DENOISER, f"{DEFAULT_DENOISER.stat().st_size / 2**20:.1f} MiB")


def _leg(text: str) -> tuple[int, float]:
    size, kimg = text.split(":")
    return int(size), float(kimg)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    running = commands.add_parser("run")
    running.add_argument("photos", type=Path)
    running.add_argument("runs", type=Path)
    running.add_argument("--leg", type=_leg, action="append", required=True, metavar="SIZE:KIMG")
    running.add_argument("--init", type=Path)
    running.add_argument("--batch", type=int, default=32)
    running.add_argument("--lr", type=float, default=5e-4)
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--device")
    running.add_argument("--cache", type=Path)
    shipping = commands.add_parser("ship")
    shipping.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    else:
        ship(options.file)


if __name__ == "__main__":
    main()
