"""Train the denoiser that ships with pixmend, leg by leg, and put it into the package.

    python scripts/train_denoiser.py run PHOTOS RUNS --leg 32:400 --leg 64:2000      size in pixels : kimg
    python scripts/train_denoiser.py ship RUNS/leg-2-64/model.safetensors

`run` trains each leg from the end of the one before (the first from --init, if given; the model that ships will do), in
a folder of its own. Started again with the same arguments, it goes on where it was stopped, bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from legs import TERMS, Printer, add_leg_options, end_leg, leg_config

from pixmend.data import InpaintingDataset, Views
from pixmend.denoising.model_file import PHOTO_SHAPE, Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.samples import NoisyCrops
from pixmend.denoising.task import train_photo_denoiser
from pixmend.model_files import DEFAULT_DENOISER

LEVELS = (0.01, 1.0)  # sigma, in units of [-1, 1]
VIEWS = Views(enlarged=0.0)  # enlarged crops have grain, which a denoiser must not learn to keep


def run(options: argparse.Namespace) -> None:
    """Train the legs, one after the other."""
    before = options.init
    for number, (size, kimg) in enumerate(options.leg, 1):
        folder = options.runs / f"leg-{number}-{size}"
        config = leg_config(options, number, warmup_kimg=min(5.0, kimg / 20))
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
            progress=Printer(),
        )
        end_leg(number, trained.legs[-1], config)
        before = folder / "model.safetensors"


def ship(file: Path) -> None:
    """Put a denoiser into the package, in half precision, with its terms of use."""
    denoiser = dataclasses.replace(load_denoiser(file), terms=TERMS)
    save_denoiser(DEFAULT_DENOISER, denoiser, overwrite=True, dtype=torch.float16)
    print(DEFAULT_DENOISER, f"{DEFAULT_DENOISER.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    running = commands.add_parser("run")
    add_leg_options(running)
    shipping = commands.add_parser("ship")
    shipping.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    else:
        ship(options.file)


if __name__ == "__main__":
    main()
