"""The training loop, one for every network here: batches, a loss, an optimiser, an average, a log, a state on disk.

What is learnt is a `Task`; `training.py` has the one for inpainting.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pixmend.errors import OptionError, TrainingError
from pixmend.run_folder import RunFolder, TrainingState
from pixmend.runtime import fast_dtype, tune_allocator
from pixmend.workers import begin_worker, steadily

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """How to train. kimg = thousands of samples seen; nothing depends on the time of day or the number of workers."""

    total_kimg: float = 400.0
    batch_size: int = 32
    lr: float = 4e-4  # at its highest, after the warm-up
    lr_end: float = 0.0  # share of lr that the cosine ends on
    warmup_kimg: float = 5.0
    adam_betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0  # largest norm of all gradients together
    ema_halflife_kimg: float = 20.0  # of the averaged parameters, which are what is saved
    ema_ramp: float = 0.1  # the half-life is at most this share of the samples seen so far
    seed: int = 0
    bf16: bool | None = None  # None: where the device calculates in it
    workers: int | None = None  # processes that prepare samples; None: none on a CPU, which they would share
    holdout: float = 0.02  # share of the pictures kept to measure on
    held_out_samples: int = 256
    measure_kimg: float = 10.0  # held-out loss and repaired pictures each so many samples
    save_minutes: float = 5.0
    bad_steps: int = 10  # so many steps in a row that are not finite end the training

    def __post_init__(self) -> None:
        for name in ("total_kimg", "batch_size", "lr", "clip_norm", "ema_halflife_kimg", "measure_kimg"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} = {getattr(self, name)} must be above 0 and finite")
        if not 0 <= self.seed < 2**63 or self.held_out_samples < 1 or (self.workers or 0) < 0:
            raise OptionError(
                f"seed = {self.seed}, held_out_samples = {self.held_out_samples}, workers = {self.workers}: "
                "give a seed from 0 to 2**63 - 1, at least 1 sample, and workers from 0"
            )
        if not 0 <= self.holdout < 1:
            raise OptionError(f"holdout = {self.holdout} must be at least 0 and below 1")

    @property
    def steps(self) -> int:
        return max(1, round(self.total_kimg * 1000 / self.batch_size))

    def lr_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to lr * lr_end (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
        kimg = (step + 1) * self.batch_size / 1000
        rise = min(1.0, kimg / self.warmup_kimg) if self.warmup_kimg > 0 else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.lr * rise * (self.lr_end + (1 - self.lr_end) * fall)

    def ema_decay_at(self, step: int) -> float:
        """Karras et al. 2022, EDM: the half-life grows with the samples seen, so that the start is soon forgotten."""
        seen = (step + 1) * self.batch_size / 1000
        return float(0.5 ** (self.batch_size / 1000 / min(self.ema_halflife_kimg, max(seen * self.ema_ramp, 1e-9))))


@dataclass(frozen=True)
class Report:
    """What a training tells while it goes on."""

    step: int
    steps: int
    loss: float  # averaged over the last steps
    lr: float
    samples_per_second: float
    seconds_left: float
    held_out: float | None = None  # where it was measured at this step


Progress = Callable[[Report], None]


class Task(Protocol):
    """What `fit` needs to know of what it trains."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    @property
    def samples(self) -> Dataset[Any]:
        """The k-th is a pure function of k, for any k."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What must be the same for a training to be resumed, as JSON."""

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch that lies on the network's device: a number."""

    def held_out_loss(self, network: nn.Module) -> float | None:
        """The loss on samples that are never trained on, always the same ones; None where there are none."""

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        """Write the model file from the averaged network."""

    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        """Draw what the averaged network does, for somebody to look at."""


def fit(
    task: Task,
    config: TrainConfig,
    folder: RunFolder,
    *,
    device: torch.device,
    resume: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingState:
    """Train a task's network to the end of its schedule, or until `stop()`; returns the last state, which is saved.

    Resumed, it goes on bit for bit as if it had never stopped. A step whose loss or gradient is not finite is dropped
    and named in the log; `bad_steps` of them in a row raise TrainingError and leave the last saved state as it is.
    """
    tune_allocator()
    bf16 = config.bf16 if config.bf16 is not None else fast_dtype(device) == torch.bfloat16
    network = task.network.to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr, betas=config.adam_betas, fused=True)
    state = TrainingState(network, optimiser, {"config": dataclasses.asdict(config), **task.identity})
    if resume:
        folder.load_state(state)
    else:
        folder.save_state(state)  # so that a disk with no room for it is told now, and a kill loses no beginning
    if state.step == config.steps:  # all is done; only the model file may be missing or damaged
        task.save(state.ema, _leg(state, config, device, bf16), folder)
    clock = _Clock(state)
    bad, last_save = 0, time.monotonic()

    for batch in _batches(task.samples, config, device, state.step, folder.note):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = task.loss(network, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        value = float(loss.detach())
        if torch.isfinite(norm) and torch.isfinite(loss):
            bad = 0
            for group in optimiser.param_groups:
                group["lr"] = config.lr_at(state.step)
            optimiser.step()
            state.average(network, config.ema_decay_at(state.step))
        else:
            bad += 1
            folder.note(f"step {state.step}: loss {value:g}, gradient {float(norm):g}; dropped")
            if bad >= config.bad_steps:
                raise TrainingError(
                    f"{bad} steps in a row up to step {state.step} had a loss or gradient that is not finite; what was "
                    f"saved is kept: train another output from it with --init and a learning rate below {config.lr:g}"
                )
        state.step += 1
        state.seconds = clock.tick()
        measures = state.step == config.steps or _crosses(state.step, config)
        if measures:
            state.require_finite()
        held_out = task.held_out_loss(state.ema) if measures else None
        state.held_out = state.held_out if held_out is None else held_out
        report = clock.report(state, config, value, held_out)
        folder.log(_row(report, config))
        if progress:
            progress(report)
        if measures:
            task.show(state.ema, state.step, folder)
            folder.plot()
        stopping = stop()
        if stopping or state.step == config.steps or time.monotonic() - last_save > 60 * config.save_minutes:
            state.require_finite()
            folder.require_in_place()  # before the model, too, is written over another training's
            task.save(state.ema, _leg(state, config, device, bf16), folder)
            folder.save_state(state)  # last: who is killed between the two does some steps again, and loses nothing
            last_save = time.monotonic()
        clock.resume()
        if stopping:
            break
    return state


def _crosses(step: int, config: TrainConfig) -> bool:
    images, each = step * config.batch_size, round(config.measure_kimg * 1000)
    return images // each > (images - config.batch_size) // each


def _batches(
    samples: Dataset[Any], config: TrainConfig, device: torch.device, first_step: int, note: Callable[[str], None]
) -> Any:
    """Batches of the samples k = first_step * batch_size, ..., in order, on the device."""
    workers = config.workers
    if workers is None:
        workers = min(16, os.cpu_count() or 1) if device.type == "cuda" else 0

    def loader(done: int, workers: int) -> DataLoader[Any]:
        return DataLoader(
            samples,
            batch_size=config.batch_size,
            sampler=range((first_step + done) * config.batch_size, config.steps * config.batch_size),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            prefetch_factor=8 if workers else None,
            worker_init_fn=begin_worker,
        )

    for batch in steadily(loader, workers, note):
        yield {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _row(report: Report, config: TrainConfig) -> dict[str, float | None]:
    return {
        "kimg": report.step * config.batch_size / 1000,
        "loss": report.loss,
        "held_out_loss": report.held_out,
        "lr": report.lr,
        "samples_per_second": report.samples_per_second,
    }


def _leg(state: TrainingState, config: TrainConfig, device: torch.device, bf16: bool) -> dict[str, Any]:
    kimg = state.step * config.batch_size / 1000
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {
        "kimg": round(kimg, 3),
        "of_kimg": config.total_kimg,
        "batch_size": config.batch_size,
        "lr": config.lr,
        "seed": config.seed,
        "device": name,
        "bf16": bf16,
        "minutes": round(state.seconds / 60, 1),
        "loss": None if state.loss is None else round(state.loss, 5),
        "held_out_loss": None if state.held_out is None else round(state.held_out, 5),
    }


class _Clock:
    """Seconds spent in training steps, over all resumptions, and what they say of the time left."""

    def __init__(self, state: TrainingState) -> None:
        self.seconds, self.last = state.seconds, time.monotonic()
        self.step_seconds = float("nan")  # a running average

    def resume(self) -> None:
        self.last = time.monotonic()  # measuring and saving do not count

    def tick(self) -> float:
        spent = time.monotonic() - self.last
        if spent > 20 * self.step_seconds:  # the process was suspended, or the laptop slept: no time of training
            spent = self.step_seconds
        self.step_seconds = spent if self.step_seconds != self.step_seconds else 0.95 * self.step_seconds + 0.05 * spent
        self.seconds += spent
        return self.seconds

    def report(self, state: TrainingState, config: TrainConfig, loss: float, held_out: float | None) -> Report:
        if math.isfinite(loss):
            state.loss = loss if state.loss is None else 0.99 * state.loss + 0.01 * loss
        left = (config.steps - state.step) * self.step_seconds
        speed = config.batch_size / max(self.step_seconds, 1e-9)
        average = math.nan if state.loss is None else state.loss
        return Report(state.step, config.steps, average, config.lr_at(state.step - 1), speed, left, held_out)
