"""Training a denoiser: what `loop.fit` is told, and the training itself."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from pixmend.budget import at_once, check_step_memory
from pixmend.data import HELD_OUT_SEED
from pixmend.denoising.cifar import PictureSet
from pixmend.denoising.figures import draw_levels
from pixmend.denoising.law import NoiseLaw
from pixmend.denoising.model_file import Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.samples import NoisyCrops, NoisyPictures
from pixmend.errors import OptionError, OutputExistsError
from pixmend.files import check_made_folder
from pixmend.locks import RUN_LOCK, refuse_if_held
from pixmend.loop import Batch, Progress, Report, TrainConfig, fit, in_bf16
from pixmend.run_folder import RunFolder
from pixmend.run_place import check_run_folder
from pixmend.runtime import pick_device
from pixmend.signals import stop_on_signal
from pixmend.unet import UNetConfig

HELD_OUT_BATCH = 64
WARMUP_KIMG = 4.0  # 500 steps of 8
# Takes as much memory for a step as the printed networks: they keep 17 maps of 64 channels, ours 64 of its first level.
AS_PRINTED = UNetConfig(in_channels=3, channels=(17,), attention=(False,), groups=1)
MODEL_NAME = "model.safetensors"


def document_config(
    pictures: int,
    *,
    epochs: float = 20,
    batch: int = 8,
    lr: float = 2e-4,
    seed: int = 0,
    save_model_epochs: float = 1,
) -> TrainConfig:
    """The printed training of so many pictures: AdamW as torch has it, cosine with warm-up, no average.

    The loss on test pictures is measured at the end of each epoch; nothing is chosen by it.
    """
    for name, value in (("epochs", epochs), ("save_model_epochs", save_model_epochs)):
        if not 0 < value < math.inf:
            raise OptionError(f"{name} = {value} must be above 0 and finite")
    kimg = epochs * pictures / 1000
    return TrainConfig(
        total_kimg=kimg,
        batch_size=batch,
        lr=lr,
        warmup_kimg=WARMUP_KIMG,
        adam_betas=(0.9, 0.999),
        weight_decay=0.01,
        clip_norm=math.inf,
        ema_halflife_kimg=0,
        seed=seed,
        held_out_samples=2048,
        measure_kimg=pictures / 1000,
        save_kimg=save_model_epochs * pictures / 1000,
        save_minutes=10.0,
    )


def train_denoiser(
    pictures: PictureSet,
    run: str | os.PathLike[str],
    config: TrainConfig | None = None,
    *,
    denoiser: Denoiser | None = None,
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Denoiser:
    """Train a denoiser on pictures in memory; the folder `run` gets model.safetensors, the state, the log and figures.

    denoiser: an untrained one, by default the printed network with time; or a trained one, to go on with a fresh
    optimiser. Resumed, the training goes on bit for bit as if it had never stopped. Ctrl-C ends it after the step that
    runs, with everything saved. A training that was begun in `run` is never overwritten: TrainingError.
    """
    config = config or document_config(len(pictures.train))
    denoiser = denoiser or Denoiser.new(seed=config.seed)
    T = denoiser.law.T  # what it was trained at before, it may forget
    denoiser = dataclasses.replace(denoiser, size=pictures.train.shape[-1], levels=(1 / T, (T - 1) / T))
    samples = NoisyPictures(pictures.train, denoiser.law, config.seed)
    tests = NoisyPictures(pictures.test, denoiser.law, HELD_OUT_SEED) if len(pictures.test) else None
    identity = {"pictures": pictures.fingerprint, "size": list(pictures.train.shape[2:]), "times": "each in turn"}
    task = DenoisingTask(denoiser, samples, tests, config, Path(run) / MODEL_NAME, identity)
    return _run(task, Path(run), config, resume, device, progress)


def train_photo_denoiser(
    crops: NoisyCrops,
    run: str | os.PathLike[str],
    config: TrainConfig,
    *,
    denoiser: Denoiser,
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Denoiser:
    """The same with crops of photographs at continuous levels: how the denoiser that ships was trained."""
    task = DenoisingTask(denoiser, crops, crops.held_out(), config, Path(run) / MODEL_NAME, crops.identity)
    return _run(task, Path(run), config, resume, device, progress)


def check_place(run: Path, resume: bool, *more: str) -> None:
    """Refuse a folder that holds no training to resume, or one that was begun, or files that a new one would replace.

    Also refused are a folder that cannot be made or written to, and one in which a training is at work. more: names of
    files beside those that every training writes. Raises TrainingError, OutputExistsError, OutputError.
    """
    check_made_folder(run)
    refuse_if_held(run / RUN_LOCK)
    check_run_folder(run, resume)
    if resume:
        return
    for name in (MODEL_NAME, "levels-[0-9]*.png", "log.svg", "notes.txt", *more):
        if found := sorted(glob(name, root_dir=run)):
            raise OutputExistsError(f"{run / found[0]} exists and is left as it is; choose another folder")


def _run(
    task: DenoisingTask, run: Path, config: TrainConfig, resume: bool, device: str | None, progress: Progress | None
) -> Denoiser:
    folder = RunFolder(run)
    check_place(run, resume)
    where = pick_device(device)
    dtype, side = torch.bfloat16 if in_bf16(config, where) else torch.float32, task.samples[0]["x0"].shape[-1]
    check_step_memory(task.denoiser.config or AS_PRINTED, side, config.part_size(1), dtype, where)
    with folder.lock():
        folder.prepare(resume)
        with stop_on_signal() as stopped:
            fit(task, config, folder, device=where, resume=resume, progress=progress, stop=stopped)
        return load_denoiser(task.output)


class DenoisingTask:
    """What a denoiser is taught: to name the noise that was added."""

    def __init__(
        self,
        denoiser: Denoiser,
        samples: Any,
        held_out: Any,
        config: TrainConfig,
        output: Path,
        identity: Mapping[str, Any],
    ) -> None:
        self.denoiser, self.samples, self.output = denoiser, samples, output
        self.network = denoiser.network
        self.measured_at_once = at_once(HELD_OUT_BATCH, config.part_size(1))
        self.held_out = None if held_out is None else Subset(held_out, range(config.held_out_samples))
        described = {k: v for k, v in denoiser.header.items() if k in ("network", "architecture", "T", "legs")}
        self.identity: Mapping[str, Any] = {**described, "samples": dict(identity)}

    def weight(self, batch: Batch) -> Tensor:
        """How many values the noise of a batch has."""
        return torch.tensor(batch["x0"].numel())

    def error(self, network: nn.Module, batch: Batch) -> Tensor:
        """Squared error of the predicted noise."""
        xt, noise = noisy_batch(self.denoiser.law, batch)
        return F.mse_loss(network(xt, batch["t"]).float(), noise, reduction="sum")

    @torch.no_grad()
    def held_out_loss(self, network: nn.Module) -> float | None:
        """The loss of samples of pictures that are not trained on, in float32; None without any."""
        if self.held_out is None:
            return None
        device = next(network.parameters()).device
        collate = getattr(self.held_out.dataset, "collate", None)
        errors, weights = [], []
        for batch in DataLoader(self.held_out, batch_size=self.measured_at_once, collate_fn=collate):
            placed = {name: value.to(device) for name, value in batch.items()}
            errors.append(float(self.error(network, placed)))
            weights.append(float(self.weight(placed)))
        return math.fsum(errors) / math.fsum(weights)

    @torch.no_grad()
    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        """Draw one picture at every level: clean, noisy, noise predicted, denoised, difference."""
        shown = self.held_out.dataset if self.held_out is not None else self.samples
        device = next(network.parameters()).device
        x0 = shown[0]["x0"][None].to(device).float() / 127.5 - 1
        draw_levels(network, x0, self.denoiser.law, folder.path / f"levels-{step:07d}.png")

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        """Write the model file, with this leg behind those that it was trained on before."""
        leg = {"pictures": len(self.samples), "epochs": round(leg["kimg"] * 1000 / len(self.samples), 3), **leg}
        save_denoiser(
            self.output,
            dataclasses.replace(self.denoiser, network=network, legs=[*self.denoiser.legs, leg]),
            overwrite=True,
        )


def noisy_batch(law: NoiseLaw, batch: Batch) -> tuple[Tensor, Tensor]:
    """The noisy pictures of a batch, and the noise that is in them: what a network is to answer.

    Where a picture is stored in 8 bits, that is the difference that storing left, over sigma.
    """
    x0, t, noise = batch["x0"].float() / 127.5 - 1, batch["t"], batch["noise"]
    xt = law.add_noise(x0, t, noise)
    if "stored" not in batch:
        return xt, noise
    stored = batch["stored"][:, None, None, None]
    xt = torch.where(stored, ((xt.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1, xt)
    return xt, torch.where(stored, (xt - x0) / law.sigma(t, x0), noise)


def epoch_losses(log: Path, pictures: int) -> list[float]:
    """The average training loss of every epoch, from a run's log.csv; a step belongs to the epoch that it ends in.

    Raises OptionError where the log cannot be read.
    """
    sums: dict[int, list[float]] = {}
    try:
        with open(log, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                if math.isfinite(value := float(row["batch_loss"])):
                    sums.setdefault(_epoch(round(float(row["kimg"]) * 1000), pictures), []).append(value)
    except (OSError, KeyError, ValueError) as error:
        raise OptionError(f"{log} is not the log of a training ({error!r}); give the folder of a run") from error
    return [math.fsum(sums[epoch]) / len(sums[epoch]) for epoch in sorted(sums)]


def _epoch(images: int, pictures: int) -> int:
    """The epoch, from 1, in which the training stands that has seen so many samples."""
    return math.ceil(images / pictures)


class EpochAverage:
    """The average loss of the epoch that runs, and what to tell of it; begun in the log where a training is resumed."""

    def __init__(self, log: Path, pictures: int, batch_size: int) -> None:
        self.log, self.pictures, self.batch_size = log, pictures, batch_size
        self.epoch, self.total, self.count = 0, 0.0, 0
        self.ended = False  # whether the last report ended an epoch

    def line(self, report: Report, epochs: float) -> str:
        """Take one more step in, and tell where the training stands."""
        images = report.step * self.batch_size
        if (epoch := _epoch(images, self.pictures)) != self.epoch:
            resumed = self.epoch == 0 and report.step > 1
            self.epoch, self.total, self.count = epoch, 0.0, 0
            if resumed:
                self._begin_in_log(images)
        if math.isfinite(report.batch_loss):
            self.total, self.count = self.total + report.batch_loss, self.count + 1
        self.ended = report.step == report.steps or _epoch(images + self.batch_size, self.pictures) != epoch
        average = self.total / max(1, self.count)
        shown = min(epoch, math.ceil(epochs))  # a batch may be larger than all that there is
        tested = "" if report.held_out is None else f", test loss {report.held_out:.4f}"
        return (
            f"epoch {shown}/{epochs:g}: avg loss {average:.4f}{tested}, lr {report.lr:.2e}, "
            f"{report.samples_per_second:.0f} samples/s, {report.seconds_left / 60:.0f} min left"
        )

    def _begin_in_log(self, images: int) -> None:
        """Take the steps of this epoch in that were done before the training was stopped, where the log tells."""
        unread = suppress(OSError, LookupError, ValueError, TypeError, csv.Error)  # somebody edited or removed it
        with unread, open(self.log, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                seen, value = round(float(row["kimg"]) * 1000), float(row["batch_loss"])
                if seen < images and _epoch(seen, self.pictures) == self.epoch and math.isfinite(value):
                    self.total, self.count = self.total + value, self.count + 1
