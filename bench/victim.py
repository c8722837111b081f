"""A tiny training to break, and what must hold of it: whatever was done to it, it ends as if nothing had happened."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from pixmend import cli
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.loop import TrainConfig
from pixmend.run_folder import RunFolder
from pixmend.training import InpaintingTask
from pixmend.unet import UNetConfig

SIZE = 16
TINY = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)
CONFIG = {  # measures at every second step, saves at every step
    "warmup_kimg": 0.0,
    "holdout": 0.4,
    "held_out_samples": 4,
    "measure_kimg": 0.004,
    "save_minutes": 0.0,
}
NOT_OF_TIME = ("kimg", "loss", "held_out_loss", "lr")  # the columns of log.csv that are the same in every run


class Stage:
    """Drawn pictures, an untrained tiny model, and the command line to train it with: six steps, each of them saved."""

    def __init__(self, folder: Path, pictures: int = 6, kimg: float = 0.012) -> None:
        self.folder, self.photos, self.kimg = folder, folder / "photos", kimg
        self.photos.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for i in range(pictures):
            coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(coarse).resize((24 + i, 24), Image.Resampling.BICUBIC).save(self.photos / f"{i}.png")
        model = Model.new(TINY, size=SIZE, seed=1)
        model.steps = 2
        self.init = save_model(folder / "init.safetensors", model)
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8)).save(folder / "picture.png")
        hole = np.zeros((40, 56), np.uint8)
        hole[10:20, 16:32] = 255
        Image.fromarray(hole).save(folder / "mask.png")

    def train(self, output: Path, *more: object, kimg: float | None = None, draws: bool = False, **config: Any) -> int:
        """`pixmend train`, with `--resume` where there is something to resume; returns its exit code.

        draws: log.svg too, which takes longer than all else.
        """
        begun = any(output.with_suffix(".run").glob("state*.safetensors"))
        options = ("--init", self.init, "--batch", 2, "--kimg", kimg or self.kimg, "--device", "cpu", *more)
        quick = functools.partial(TrainConfig, **{**CONFIG, **config})
        plot = RunFolder.plot if draws else (lambda folder: None)
        with mock.patch.object(cli, "TrainConfig", quick), mock.patch.object(RunFolder, "plot", plot):
            return self.run("train", self.photos, "-o", output, *options, *(["--resume"] if begun else []))

    def inpaint(self, output: Path, *more: object) -> int:
        """`pixmend inpaint` of a small picture; returns its exit code."""
        given = ("--mask", self.folder / "mask.png", "--model", self.init)
        return self.run("inpaint", self.folder / "picture.png", *given, "-o", output, *more)

    def run(self, *arguments: object) -> int:
        given = [str(a) for a in arguments]
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.folder / "cache")}):
            try:
                return cli.main(given)
            except KeyboardInterrupt as error:
                raise AssertionError("Ctrl-C came through the command line") from error


def state_of(output: Path) -> tuple[int, str] | None:
    """The step of the last state, and a hash of its tensors; None before the first."""
    file = output.with_suffix(".run") / "state.safetensors"
    if not file.exists():
        return None
    digest = hashlib.sha256()
    with safe_open(file, framework="np") as state:
        for name in sorted(state.keys()):
            digest.update(name.encode() + state.get_tensor(name).tobytes())
        return int(json.loads(state.metadata()["pixmend-state"])["step"]), digest.hexdigest()


def log_of(output: Path) -> list[tuple[str, ...]]:
    """What log.csv says, but for the speed."""
    with open(output.with_suffix(".run") / "log.csv", newline="") as stream:
        return [tuple(row[name] for name in NOT_OF_TIME) for row in csv.DictReader(stream)]


def weights_of(output: Path) -> str | None:
    """A hash of the model file's weights; None where there is no such file. Raises where it is not whole."""
    if not output.exists():
        return None
    digest = hashlib.sha256()
    for name, value in load_model(output).network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Course:
    """What an undisturbed training came by, and where it ended: what every disturbed one must equal."""

    states: dict[int, str]  # a hash of the state at every step
    log: list[tuple[str, ...]]
    weights: str | None

    @property
    def steps(self) -> int:
        return max(self.states)


def undisturbed(stage: Stage, output: Path, *more: object, **config: Any) -> Course:
    """Train without a fault, and note the state at every step."""
    states: dict[int, str] = {}
    save = RunFolder.save_state

    def saved(folder: RunFolder, state: Any) -> None:
        save(folder, state)
        step, digest = state_of(output) or (-1, "")
        states[step] = digest

    with mock.patch.object(RunFolder, "save_state", saved):
        code = stage.train(output, *more, **{**config, "save_minutes": 0.0})
    assert code == 0
    return Course(states, log_of(output), weights_of(output))


def check_between(output: Path, whole: Course) -> int:
    """After a fault: the state is one that the undisturbed training came by, and the model file is whole or not there.

    Returns the step that the state is of, -1 where nothing was saved yet.
    """
    weights_of(output)
    step, digest = state_of(output) or (-1, None)
    assert digest == whole.states.get(step), f"the state of step {step} is not that of the undisturbed training"
    return step


def check_end(output: Path, whole: Course) -> None:
    """At the end: state, log and model are those of the undisturbed training, bit for bit, and nothing is left over."""
    assert check_between(output, whole) == whole.steps
    assert log_of(output) == whole.log
    assert weights_of(output) == whole.weights
    assert not leftovers(output.parent)


def goes_on(stage: Stage, output: Path, whole: Course) -> None:
    """Nothing but the same command, with --resume where there is a state, and all is as if nothing had been."""
    assert stage.train(output) == 0
    check_end(output, whole)


def stopped_at(stage: Stage, output: Path, step: int) -> None:
    """Train, and stop it with SIGTERM at a step, which is saved."""
    with at_step(step, lambda: signal.raise_signal(signal.SIGTERM)):
        assert stage.train(output) == 130


def leftovers(folder: Path) -> list[str]:
    """Temporary files and locks that somebody did not remove."""
    return [str(path) for path in folder.rglob("*") if path.suffix in (".part", ".lock") or path.name == "lock"]


def only_error(err: str) -> str:
    """The one line that an error is, without its "pixmend: error: "; what else stands on stderr is no traceback."""
    start = "pixmend: error: "
    lines = err.splitlines()
    told = [line.removeprefix(start) for line in lines if line.startswith(start)]
    others = [line for line in lines if not line.startswith((start, "step ", "pixmend: note: "))]
    assert len(told) == 1, err
    assert not others, err
    return told[0]


def at_step(step: int, what: Callable[[], None]) -> Any:
    """Do something, once, when the command line tells of a step: its row is in the log, and it is not saved yet."""
    line, left = cli._training_line, [step]

    def told(report: Any) -> str:
        if report.step in left:
            left.clear()
            what()
        return line(report)

    return mock.patch.object(cli, "_training_line", told)


def poisoned(where: str, step: int, count: int = 1) -> Any:
    """A loss, a gradient or an input that is not finite, at `count` steps from `step` of the training that is begun."""
    error, calls = InpaintingTask.error, iter(range(10**6))

    def broken(task: InpaintingTask, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if not torch.is_grad_enabled() or not 0 <= next(calls) - step < count:  # without gradients it measures
            return error(task, network, batch)
        if where == "input":
            batch = {**batch, "noise": torch.full_like(batch["noise"], float("nan"))}
        value = error(task, network, batch)
        if where == "gradient":
            value.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
        return value * float("nan") if where == "loss" else value

    return mock.patch.object(InpaintingTask, "error", broken)
