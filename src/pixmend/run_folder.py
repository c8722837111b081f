"""What a training keeps on disk, in a folder beside its model file: the state to go on from, the log, pictures."""

from __future__ import annotations

import copy
import csv
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pixmend.errors import TrainingError
from pixmend.files import STATE_FILE, check_run_folder, errors_as_one_line, write_atomically

# what may change between a training and its resumption without changing the weights that come of it, but for rounding
FREE_TO_CHANGE = frozenset({"accumulate", "workers", "save_minutes", "save_kimg", "measure_kimg", "held_out_samples"})
LOG_SECONDS = 2.0  # rows of the log are written together, at least so often


class TrainingState:
    """All that a training needs to go on bit for bit: weights, their average, the optimiser's moments, the step."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, identity: Mapping[str, Any]) -> None:
        self.network, self.optimiser, self.identity = network, optimiser, identity
        self.ema = copy.deepcopy(network).eval().requires_grad_(False)
        # listed once: to walk through the modules at every step takes as long as the average itself
        self._averaged: list[Tensor] = list(self.ema.parameters())
        self._values: list[Tensor] = list(network.parameters())
        self.step = 0
        self.seconds = 0.0  # spent in training steps
        self.held_out: float | None = None  # the last held-out loss
        self.loss: float | None = None  # a running average

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the averaged parameters towards the network's; buffers, such as batch statistics, are copied."""
        torch._foreach_lerp_(self._averaged, self._values, 1 - decay)
        for copied, buffer in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            copied.copy_(buffer)

    @torch.no_grad()
    def undo_buffers(self) -> None:
        """Give the network's buffers the values that they had after the last step that counted."""
        for value, before in zip(self.network.buffers(), self.ema.buffers(), strict=True):
            value.copy_(before)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name."""
        found: dict[str, Tensor] = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for name, p in self.network.named_parameters():
            found |= {f"adam.{key}.{name}": value for key, value in self.optimiser.state.get(p, {}).items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors()` gave."""
        for kind, module in (("network", self.network), ("ema", self.ema)):
            with torch.no_grad():
                for name, value in module.state_dict().items():
                    value.copy_(tensors[f"{kind}.{name}"])
        for name, p in self.network.named_parameters():
            moments = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            self.optimiser.state[p] = {
                key: value.to(p.device) for key, value in moments.items() if value is not None
            }  # the fused Adam keeps its step count on the device


class RunFolder:
    """The folder of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_file = path / STATE_FILE
        self.log_file = path / "log.csv"
        self.notes_file = path / "notes.txt"
        self._rows: list[Mapping[str, Any]] = []  # of the log, not written yet
        self._written = time.monotonic()

    def prepare(self, resume: bool) -> None:
        """Make the folder for a new training, or see that there is a state to resume."""
        check_run_folder(self.path, resume)
        with errors_as_one_line(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume:  # what a run left that was killed before it saved anything
                self.log_file.unlink(missing_ok=True)
                self.notes_file.unlink(missing_ok=True)

    def save_state(self, state: TrainingState) -> None:
        """Write the state, and before it the rows of the log that it is not to be without."""
        self.write_log(durably=True)
        meta = {
            "step": state.step,
            "seconds": state.seconds,
            "held_out": state.held_out,
            "loss": state.loss,
            "identity": state.identity,
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors().items()}
        content = save(tensors, {"pixmend-state": json.dumps(meta)})
        write_atomically(self.state_file, lambda stream: stream.write(content), overwrite=True)

    def load_state(self, state: TrainingState) -> None:
        """Fill a fresh state from the folder; the same training must have written it."""
        try:
            with safe_open(self.state_file, framework="pt") as file:
                meta = json.loads(file.metadata()["pixmend-state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
            differing = _differences(meta["identity"], json.loads(json.dumps(state.identity)))
            if differing:
                raise TrainingError(f"{self.path} cannot be resumed otherwise than it was begun: {differing}")
            state.restore(tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:160]
            raise TrainingError(
                f"{self.state_file} cannot be resumed from ({why}); begin a new training with --init and the model file"
            ) from error
        state.step, state.seconds = meta["step"], meta["seconds"]
        state.held_out, state.loss = meta["held_out"], meta["loss"]

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to log.csv, within seconds. Who is killed before loses rows of steps that are done again."""
        self._rows.append(row)
        if time.monotonic() - self._written > LOG_SECONDS:
            self.write_log()

    def write_log(self, *, durably: bool = False) -> None:
        """Write the rows that wait; `durably`, so that a power failure does not take them."""
        rows, self._rows, self._written = self._rows, [], time.monotonic()
        if not rows and not durably:
            return
        with errors_as_one_line(self.log_file), open(self.log_file, "a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
            if rows and stream.tell() == 0:
                writer.writeheader()
            for row in rows:
                writer.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()})
            if durably:
                stream.flush()
                os.fsync(stream.fileno())

    def plot(self) -> None:
        """Draw log.csv as log.png, where matplotlib is installed (the `plot` extra)."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        self.write_log()
        with open(self.log_file, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for axes, name, style in ((above, "loss", "-"), (above, "held_out_loss", "o-"), (below, "lr", "-")):
            points = [(float(row["kimg"]), float(row[name])) for row in rows if row[name]]
            axes.plot(*zip(*points, strict=True), style, label=name.replace("_", " ")) if points else None
            axes.legend()
        above.set(yscale="log", ylabel="mean squared error")
        below.set(xlabel="thousands of samples", ylabel="learning rate")
        with errors_as_one_line(self.path / "log.png"):
            figure.savefig(self.path / "log.png", dpi=100)

    def note(self, text: str) -> None:
        """Append one line to notes.txt: what happened that should not."""
        with errors_as_one_line(self.notes_file), open(self.notes_file, "a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def cut_log(self, step: int) -> None:
        """Drop the rows after the state that is resumed: those steps are done again."""
        if not self.log_file.exists():
            return
        lines = self.log_file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = "".join(lines[: 1 + step]).encode()
        write_atomically(self.log_file, lambda stream: stream.write(kept), overwrite=True)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str:
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b, f"{path}{name}."))
        elif a != b and name not in FREE_TO_CHANGE:
            found.append(f"{path}{name} was {a!r} and is now {b!r}")
    return "; ".join(f for f in found if f)
