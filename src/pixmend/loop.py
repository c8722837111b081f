"""The training loop, one for every network here: batches, a loss, an optimiser, an average, a log, a state on disk.

What is learnt is a `Task`; `training.py` has the one for inpainting. The batch of a step may be cut into parts, done
one after the other (`TrainConfig.accumulate`) and by several processes at once (`processes.py`): what is learnt stays
the same but for rounding.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pixmend.batches import Batch, batches
from pixmend.console import say
from pixmend.errors import TrainingError
from pixmend.processes import ALONE, Processes
from pixmend.run_folder import RunFolder, TrainingState
from pixmend.runtime import fast_dtype, training_memory_as_one_line, tune_allocator
from pixmend.train_config import TrainConfig

PAUSE = 60.0  # seconds: a step that takes more, and far more than others, was suspended

__all__ = ["Batch", "Progress", "Report", "Task", "TrainConfig", "fit"]


@dataclass(frozen=True)
class Report:
    """What a training tells while it goes on."""

    step: int
    steps: int
    loss: float  # averaged over the last steps
    batch_loss: float  # of this step's batch alone
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

    def weight(self, batch: Batch) -> Tensor:
        """How many values of a batch the loss counts, known from the samples alone, on the CPU: a number."""

    def error(self, network: nn.Module, batch: Batch) -> Tensor:
        """The error of a batch on the network's device, summed over those values: a number.

        The loss of a step is the sum of `error` over all its parts, divided by the sum of `weight`.
        """

    def held_out_loss(self, network: nn.Module) -> float | None:
        """The loss on samples that are never trained on, always the same ones; None where there are none."""

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        """Write the model file from the averaged network."""

    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        """Draw what the averaged network does, for somebody to look at."""


@training_memory_as_one_line()
def fit(
    task: Task,
    config: TrainConfig,
    folder: RunFolder,
    *,
    device: torch.device,
    processes: Processes = ALONE,
    resume: bool = False,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainingState:
    """Train a task's network to the end of its schedule, or until `stop()`; returns the last state, which is saved.

    Resumed, it goes on as if it had never stopped: on a CPU bit for bit. A step whose loss or gradient is not finite is
    dropped and named in the log; `bad_steps` of them in a row raise TrainingError and leave the last saved state as it
    is. Of several processes, rank 0 alone writes, measures and calls `progress`; `stop()` in one of them stops all.
    """
    tune_allocator()
    run = _Run(task, config, folder, device, processes)
    run.begin(resume)
    try:
        for parts in batches(task.samples, config, device, run.state.step, processes, run.note):
            loss = run.step(parts)
            if processes.first:
                run.tell(loss, progress)
            stopping = processes.any(stop())
            if processes.first and (stopping or run.is_to_be_saved):
                run.save()
            run.clock.resume()
            if stopping:
                break
    finally:
        folder.write_log()
    processes.wait()  # for rank 0, which saves
    return run.state


def in_bf16(config: TrainConfig, device: torch.device) -> bool:
    """Whether convolutions and products are calculated in bfloat16."""
    return config.bf16 if config.bf16 is not None else fast_dtype(device) == torch.bfloat16


class _Run:
    """One training while it goes on, in one of its processes."""

    def __init__(
        self, task: Task, config: TrainConfig, folder: RunFolder, device: torch.device, processes: Processes
    ) -> None:
        self.task, self.config, self.folder, self.device, self.processes = task, config, folder, device, processes
        self.bf16 = in_bf16(config, device)
        network = task.network.to(device).train()
        self.parameters = list(network.parameters())
        self.optimiser = _optimiser(self.parameters, config)
        identity = {"config": dataclasses.asdict(config), **task.identity}
        self.state = TrainingState(network, self.optimiser, identity)
        self.replica = processes.replicate(network)
        self.clock = _Clock(self.state)
        self.bad, self.last_save = 0, time.monotonic()

    def begin(self, resume: bool) -> None:
        """Go on from the state in the folder, or leave a first one there."""
        if resume:
            self.folder.load_state(self.state)
            self.processes.wait()  # until nobody reads it any more
            self.clock = _Clock(self.state)
        if not self.processes.first:
            return
        if resume:
            self.folder.settle(self.state.step, self.config.batch_size)
        else:  # so that a disk with no room for it is told now, and a kill loses no beginning
            self.folder.save_state(self.state)
        if self.state.step == self.config.steps:  # all is done; only the model file may be missing or damaged
            self._save_model()

    def step(self, parts: Sequence[Batch]) -> float:
        """One step of the optimiser and of the average, or none where it would spoil them; returns the loss."""
        state, config = self.state, self.config
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._backward(parts)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, config.clip_norm))
        if math.isfinite(norm) and math.isfinite(loss):  # the same numbers in every process
            self.bad = 0
            for group in self.optimiser.param_groups:
                group["lr"] = config.lr_at(state.step)
            self.optimiser.step()
            state.average(config.ema_decay_at(state.step))
        else:
            state.undo_buffers()
            self._drop(f"loss {loss:g}, gradient {norm:g}")
        state.step += 1
        state.seconds = self.clock.tick()
        return loss

    def _backward(self, parts: Sequence[Batch]) -> float:
        """The gradients of the loss of a step, all parts in all processes together; returns that loss."""
        (weight,) = self.processes.total(sum(float(self.task.weight(part)) for part in parts))
        weight = (weight or math.nan) / self.processes.count  # for gradients are averaged over the processes
        losses = []
        pinned = self.device.type == "cuda"  # else a copy under way, as to MPS, may be of what is written there next
        for part in parts:
            batch = {name: value.to(self.device, non_blocking=pinned) for name, value in part.items()}
            with self.processes.averaging(self.replica, now=part is parts[-1]):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    loss = self.task.error(self.replica, batch) / weight
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        (sum_of_all,) = self.processes.total(float(torch.stack(losses).sum()))  # a GPU is waited for here
        return sum_of_all / self.processes.count

    def _drop(self, why: str) -> None:
        self.bad += 1
        step, config = self.state.step, self.config
        if self.processes.first:  # the others saw the same
            self.folder.note(f"step {step}: {why}; dropped")
        if self.bad >= config.bad_steps:
            raise TrainingError(
                f"{self.bad} steps in a row up to step {step} had a loss or gradient that is not finite; what was "
                f"saved is kept: train another output from it with --init and a learning rate below {config.lr:g}"
            )

    def note(self, text: str) -> None:
        """Write down what happened in this process that should not; rank 0 alone writes, and the others say it."""
        if self.processes.first:
            self.folder.note(text)
        else:
            say("note", f"process {self.processes.rank}: {text}")

    def tell(self, loss: float, progress: Progress | None) -> None:
        """Log and report a step; where it is time to, measure and draw what the averaged network does."""
        state, config = self.state, self.config
        measures = state.step == config.steps or _crosses(state.step, config, config.measure_kimg)
        if measures:
            state.require_finite()
        held_out = self.task.held_out_loss(state.ema) if measures else None
        state.held_out = state.held_out if held_out is None else held_out
        report = self.clock.report(state, config, loss, held_out)
        self.folder.log(_row(report, config))
        if progress:
            progress(report)
        if measures:
            with self.folder.drawing():
                self.task.show(state.ema, state.step, self.folder)
            with self.folder.drawing():
                self.folder.plot()

    @property
    def is_to_be_saved(self) -> bool:
        state, config = self.state, self.config
        late = time.monotonic() - self.last_save > 60 * config.save_minutes
        return late or state.step == config.steps or _crosses(state.step, config, config.save_kimg)

    def save(self) -> None:
        """Write the model, then the state: who is killed between the two repeats some steps, and loses nothing."""
        self.state.require_finite()
        self.folder.require_in_place()  # before the model, too, is written over another training's
        self._save_model()
        self.folder.save_state(self.state)
        self.last_save = time.monotonic()

    def _save_model(self) -> None:
        name = _name_of(self.device, self.processes)
        self.task.save(self.state.ema, _leg(self.state, self.config, name, self.bf16), self.folder)


def _optimiser(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(parameters, lr=config.lr, betas=config.adam_betas, weight_decay=config.weight_decay, fused=True)


def _crosses(step: int, config: TrainConfig, kimg: float) -> bool:
    """Whether this step is the first to have seen some whole multiple of `kimg` thousand samples."""
    images, each = step * config.batch_size, max(1, round(1000 * kimg)) if kimg < math.inf else kimg
    return images // each > (images - config.batch_size) // each


def _row(report: Report, config: TrainConfig) -> dict[str, float | None]:
    return {
        "kimg": report.step * config.batch_size / 1000,
        "loss": report.loss,
        "batch_loss": report.batch_loss,
        "held_out_loss": report.held_out,
        "lr": report.lr,
        "samples_per_second": report.samples_per_second,
    }


def _name_of(device: torch.device, processes: Processes) -> str:
    name = f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return name if processes.count == 1 else f"{processes.count} x {name}"


def _leg(state: TrainingState, config: TrainConfig, device: str, bf16: bool) -> dict[str, Any]:
    kimg = state.step * config.batch_size / 1000
    return {
        "kimg": round(kimg, 3),
        "of_kimg": config.total_kimg,
        "batch_size": config.batch_size,
        "lr": config.lr,
        "seed": config.seed,
        "device": device,
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
        if PAUSE < spent > 20 * self.step_seconds:  # the process or the laptop slept; not so of the first step (NaN)
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
        return Report(state.step, config.steps, average, loss, config.lr_at(state.step - 1), speed, left, held_out)
