"""Which shape of `ScaledUNet` denoises CIFAR-10 best at how many operations: short trainings, one after the other.

    python bench/denoise_shapes.py --data DIR [--kimg 24] [--lr 8e-4] [--batch 16] [--shapes 48,96,128x1 48,64,96x2/0]

Every shape is trained from nothing on the same samples, with a warm-up and a cosine to 0, and measured at every level
on the last of the training pictures, which it has not seen. A shape is told by its channels, finest level first, the
residual blocks of each level, and the groups of the normalisation, 0 for none; none has attention.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch

from machine import gflop, machine
from pixmend.denoising.cifar import read_pictures
from pixmend.denoising.measure import evaluate
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.task import document_config, train_denoiser
from pixmend.unet import UNetConfig

SHAPES = ["48,96,128x1", "64,96,128x1", "32,64,128x2", "48,48,64x2", "48,64,64x2", "32,64,96x3"]


def shape_of(text: str) -> UNetConfig:
    """A shape by its name."""
    channels, _, rest = text.partition("x")
    blocks, _, groups = rest.partition("/")
    widths = tuple(int(width) for width in channels.split(","))
    attention = (False,) * len(widths)
    return UNetConfig(in_channels=3, channels=widths, attention=attention, blocks=int(blocks), groups=int(groups or 16))


def main() -> None:
    """Train and measure all shapes, and print a row of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--kimg", type=float, default=24)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=2000, help="of the training pictures, to measure on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = read_pictures(options.data)
    train, unseen = found.train[: -options.pictures], found.train[-options.pictures :]
    pictures = dataclasses.replace(found, train=train, test=unseen)  # the test pictures are for reports alone
    epochs = 1000 * options.kimg / len(pictures.train)
    config = document_config(len(pictures.train), epochs=epochs, batch=options.batch, lr=options.lr, seed=options.seed)
    config = dataclasses.replace(config, held_out_samples=64, save_minutes=1e6)
    print(f"{machine()}; {options.kimg:g} kimg, batches of {options.batch}, lr {options.lr:g}, seed {options.seed}\n")
    print("| channels x blocks | parameters, M | MFLOP a picture | samples/s | loss on unseen pictures |")
    print("| --- | --- | --- | --- | --- |")
    for name in options.shapes:
        denoiser = Denoiser.new("scaled", shape=shape_of(name), seed=options.seed)
        work = 1000 * gflop(denoiser.network, torch.randn(1, 3, 32, 32), torch.ones(1))
        count = sum(p.numel() for p in denoiser.network.parameters()) / 1e6
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            trained = train_denoiser(pictures, folder + "/run", config, denoiser=denoiser, device="cpu")
        speed = 1000 * options.kimg / (time.perf_counter() - start)
        loss = evaluate(trained.network, unseen, trained.law)["loss"]
        print(f"| {name} | {count:.2f} | {work:.0f} | {speed:.0f} | {loss:.5f} |", flush=True)


if __name__ == "__main__":
    main()
