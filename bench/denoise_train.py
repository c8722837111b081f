"""How fast the printed denoiser (docs/denoising.md) trains: as printed, in eager fp32, beside `pixmend denoise train`.

    python bench/denoise_train.py --data DIR [--batches 8 128] [--losses 200]

Each candidate trains a network with the same weights on the same samples, taking turns in one run, a stretch of steps
at a time: "as printed" is the document's network in plain layers (printed.py) and its loop (a DataLoader over pictures
in memory that are normalised one by one, noise from torch.randn, AdamW, fp32, a loss read each step), "ours" is
`UNetDiffusionCIFAR` and `loop.fit` with all that belongs to it, log included; "its loop" is our network in the
document's loop; "`scaled`" is ours with this project's own network.
`--losses` also takes both through the same samples at the same learning rates, and prints how far their first losses
are apart; in fp32 ours are those of the document's step but for rounding.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from machine import alternate, gflop, machine
from pixmend.denoising.cifar import PictureSet, Pixels, read_pictures
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.samples import NoisyPictures
from pixmend.denoising.task import DenoisingTask, document_config
from pixmend.loop import Report, TrainConfig, fit
from pixmend.run_folder import RunFolder, TrainingState
from pixmend.runtime import fast_dtype
from printed import as_printed

AIMS = {8: 1.6, 128: 1.8}  # batch -> ours over as printed


class PrintedData(Dataset[torch.Tensor]):
    """Pictures normalised one by one, as a data set with transforms gives them."""

    def __init__(self, pictures: Pixels) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, k: int) -> torch.Tensor:
        return (torch.from_numpy(self.pictures[k]).float() / 255 - 0.5) / 0.5


class Untold(DenoisingTask):
    """The task without measuring, drawing and saving, which come once an epoch."""

    def held_out_loss(self, network: nn.Module) -> None:
        return None

    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        return None

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        return None


class NoState(RunFolder):
    """A run's folder that keeps the log alone: a state is saved once an epoch, not once a turn."""

    def save_state(self, state: TrainingState) -> None:
        return None


def printed_steps(network: nn.Module, pictures: Pixels, batch: int) -> Iterator[float]:
    """The document's training loop, one loss at a time, for ever."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-4)
    while True:
        for x0 in DataLoader(PrintedData(pictures), batch_size=batch, shuffle=True, drop_last=True):
            t = torch.randint(1, 10, (batch,))
            noise = torch.randn_like(x0)
            predicted = network(x0 + noise * (t / 10).view(-1, 1, 1, 1), t)
            loss = F.mse_loss(predicted, noise)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield loss.item()


def ours(denoiser: Denoiser, pictures: PictureSet, config: TrainConfig, folder: Path) -> list[float]:
    """The losses of a training by `fit`."""
    losses: list[float] = []

    def note(report: Report) -> None:
        losses.append(report.batch_loss)

    fresh = dataclasses.replace(denoiser, network=copy.deepcopy(denoiser.network))
    samples = NoisyPictures(pictures.train, denoiser.law, config.seed)
    task = Untold(fresh, samples, None, config, folder / "unused.safetensors", {})
    fit(task, config, NoState(folder), device=torch.device("cpu"), progress=note)
    for file in folder.iterdir():
        file.unlink()
    return losses


def speeds(denoiser: Denoiser, pictures: PictureSet, batch: int, steps: int, repeats: int) -> None:
    config = short(batch, steps, len(pictures.train))
    printed = printed_steps(as_printed(denoiser.network), pictures.train, batch)
    in_its_loop = printed_steps(copy.deepcopy(denoiser.network).train(), pictures.train, batch)
    scaled = Denoiser.new("scaled")
    with tempfile.TemporaryDirectory() as name:
        candidates: dict[str, Callable[[], object]] = {
            "as printed": lambda: [next(printed) for _ in range(steps)],
            "its loop": lambda: [next(in_its_loop) for _ in range(steps)],
            "ours": lambda: ours(denoiser, pictures, config, Path(name)),
            "`scaled`": lambda: ours(scaled, pictures, config, Path(name)),
        }
        seconds = alternate(candidates, repeats, warmup=1)
    speed = {name: steps * batch / statistics.median(times) for name, times in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["as printed"], seconds["ours"], strict=True)]
    told = [f"{speed[name]:.0f}" for name in ("as printed", "its loop")]
    for name, one in (("ours", denoiser), ("`scaled`", scaled)):
        work = 3 * gflop(one.network, torch.randn(1, 3, 32, 32), torch.ones(1))
        told.append(f"{speed[name]:.0f} ({work * speed[name]:.0f} GFLOP/s)")
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print("|", " | ".join([str(batch), *told[:3], ratio, str(AIMS.get(batch, "")), told[3]]), "|")


def short(batch: int, steps: int, pictures: int) -> TrainConfig:
    """The document's schedule of 20 epochs, left after a few steps."""
    config = document_config(pictures, batch=batch)
    return dataclasses.replace(config, total_kimg=steps * batch / 1000, warmup_kimg=0, measure_kimg=1e6)


def printed_losses(denoiser: Denoiser, pictures: PictureSet, config: TrainConfig) -> list[float]:
    """The losses of the document's step, eager and in fp32, on the samples and at the learning rates of `fit`."""
    network, samples = as_printed(denoiser.network), NoisyPictures(pictures.train, denoiser.law, config.seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.lr)
    losses = []
    for step in range(config.steps):
        batch = samples.__getitems__(range(step * config.batch_size, (step + 1) * config.batch_size))
        x0, noise, t = (batch["x0"].float() / 255 - 0.5) / 0.5, batch["noise"], batch["t"]
        loss = F.mse_loss(network(x0 + noise * (t / 10).view(-1, 1, 1, 1), t), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = config.lr_at(step)
        optimiser.step()
        losses.append(loss.item())
    return losses


def loss_difference(denoiser: Denoiser, pictures: PictureSet, steps: int) -> None:
    """How far the losses of `fit` are from those of the document's step, in fp32 and as we train."""
    config = short(8, steps, len(pictures.train))
    printed = printed_losses(denoiser, pictures, config)
    print(f"\nFirst {steps} losses, batch 8, on the same samples, beside those of the printed step in fp32:\n")
    with tempfile.TemporaryDirectory() as name:
        for told, bf16 in (("fp32", False), (str(fast_dtype(torch.device("cpu"))).removeprefix("torch."), None)):
            own = ours(denoiser, pictures, dataclasses.replace(config, bf16=bf16), Path(name))
            apart = [abs(a / b - 1) for a, b in zip(own, printed, strict=True)]
            within = sum(difference <= 0.01 for difference in apart)
            print(
                f"- ours in {told}: their mean differs by {abs(sum(own) / sum(printed) - 1):.2%}, single ones by "
                f"{statistics.mean(apart):.2%} on average and {max(apart):.2%} at most; {within} of {steps} within 1 %"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 128])
    parser.add_argument("--samples", type=int, default=1024, help="of one candidate's turn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--losses", type=int, default=200)
    options = parser.parse_args()
    pictures = read_pictures(options.data)
    denoiser = Denoiser.new("timed")
    print(f"# Training the CIFAR-10 denoiser\n\n{machine()}; medians of {options.repeats} turns.\n")
    print(
        "| batch | as printed, samples/s | our network in its loop | ours, samples/s | ours is faster than as printed "
        "| aim | `scaled`, samples/s |"
    )
    print("| --- " * 7 + "|")
    for batch in options.batches:
        speeds(denoiser, pictures, batch, max(2, options.samples // batch), options.repeats)
    if options.losses:
        loss_difference(denoiser, pictures, options.losses)


if __name__ == "__main__":
    main()
