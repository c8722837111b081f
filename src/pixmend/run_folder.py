"""What a training keeps on disk, in a folder beside its model file: the state to go on from, the log, pictures."""

from __future__ import annotations

import copy
import csv
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from pixmend import files, platforms
from pixmend.errors import OutputError, TrainingError
from pixmend.files import errors_as_one_line, remove_leftovers, write_atomically
from pixmend.locks import RUN_LOCK, Lock, holder, in_use, locked
from pixmend.plots import plot_of_log
from pixmend.run_place import EARLIER_FILE, LOG_FILE, STATE_FILE, STATE_KEY, check_run_folder, was_begun
from pixmend.sealed import DamagedError, sealed, unsealed

MOST_LETTERS = 60  # of a value in a message
# what may change between a training and its resumption without changing the weights that come of it, but for rounding
FREE_TO_CHANGE = frozenset({"accumulate", "workers", "save_minutes", "save_kimg", "measure_kimg", "held_out_samples"})
LOG_SECONDS = 2.0  # rows of the log are written together, at least so often
ADVICE = "move model and run folder elsewhere, then go on with --resume"


class TrainingState:
    """All that a training needs to go on bit for bit: weights, their average, the optimiser's moments, the step."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, identity: Mapping[str, Any]) -> None:
        self.network, self.optimiser, self.identity = network, optimiser, identity
        self._ema = copy.deepcopy(network).eval().requires_grad_(False)
        # listed once: to walk through the modules at every step takes as long as the average itself
        self._averaged: list[Tensor] = list(self._ema.parameters())
        self._values: list[Tensor] = list(network.parameters())
        self._behind = False  # whether the average is the network itself, and not yet copied from it
        self.step = 0
        self.seconds = 0.0  # spent in training steps
        self.held_out: float | None = None  # the last held-out loss
        self.loss: float | None = None  # a running average

    @property
    @torch.no_grad()
    def ema(self) -> nn.Module:
        """The averaged network."""
        if self._behind:
            torch._foreach_copy_(self._averaged, self._values)
            self._behind = False
        return self._ema

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the averaged parameters towards the network's; buffers, such as batch statistics, are copied."""
        self._behind = decay == 0  # nothing of the average is left: whoever asks for it gets a copy then
        if not self._behind:
            torch._foreach_lerp_(self._averaged, self._values, 1 - decay)
        for copied, buffer in zip(self._ema.buffers(), self.network.buffers(), strict=True):
            copied.copy_(buffer)

    @torch.no_grad()
    def undo_buffers(self) -> None:
        """Give the network's buffers the values that they had after the last step that counted."""
        for value, before in zip(self.network.buffers(), self._ema.buffers(), strict=True):
            value.copy_(before)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name."""
        found: dict[str, Tensor] = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for name, p in self.network.named_parameters():
            found |= {f"adam.{key}.{name}": value for key, value in self.optimiser.state.get(p, {}).items()}
        return found

    def require_finite(self) -> None:
        """Raise TrainingError where a value is not finite: such a state must never replace a good one."""
        broken = [name for name, value in self.tensors().items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise TrainingError(
                f"{broken[0]} is no longer finite at step {self.step}; what was saved is kept: train another output "
                "from it with --init and a lower learning rate"
            )

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
        self.earlier_file = path / EARLIER_FILE  # the one saved before that, should a disk fail
        self.log_file = path / LOG_FILE
        self.notes_file = path / "notes.txt"
        self.lock_file = path / RUN_LOCK
        self._lock: Lock | None = None
        self._damage = ""  # why the state before was taken, where it was
        self._rows: list[Mapping[str, Any]] = []  # of the log, not written yet
        self._written = time.monotonic()
        self._told = False  # whether a note says that the rows wait for another program

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other training out of the folder, which is made, to the end of the block or of the process.

        Raises TrainingError where one is in already.
        """
        with ExitStack() as stack:
            with errors_as_one_line(self.path, ADVICE if was_begun(self.path) else files.ADVICE):
                if not self.path.exists():
                    self.path.mkdir(parents=True, exist_ok=True)
                    stack.callback(_remove_if_empty, self.path)
                try:
                    self._lock = stack.enter_context(locked(self.lock_file))
                except BlockingIOError as error:
                    raise in_use(self.lock_file, holder(self.lock_file) or "another process") from error
            yield

    def prepare(self, resume: bool) -> None:
        """Make the folder for a new training, or see that there is a state to resume."""
        check_run_folder(self.path, resume)
        with errors_as_one_line(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            if not resume:  # without rows: `check_run_folder` lets no other pass
                self.log_file.unlink(missing_ok=True)
        if self._lock is not None and not self._lock.guarded:
            self.note("this file system knows no locks: a second training into this folder would not be noticed")

    def save_state(self, state: TrainingState) -> None:
        """Write the state, whole or not at all, and keep the one before it; before it, the rows of the log up to it."""
        self.write_log(durably=True)
        meta = {
            "step": state.step,
            "seconds": state.seconds,
            "held_out": state.held_out,
            "loss": state.loss,
            "identity": state.identity,
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors().items()}
        pieces = sealed(tensors, {STATE_KEY: json.dumps(meta)})
        write_atomically(
            self.state_file,
            lambda stream: stream.writelines(pieces),
            overwrite=True,
            keep=self.earlier_file,
            advice=ADVICE,
        )

    def load_state(self, state: TrainingState) -> None:
        """Fill a fresh state from the folder; the same training must have written it.

        Where the last state is damaged the one before it is taken, some steps are done again, and a note says so
        (`settle`, which must follow).
        """
        try:
            self._fill(state, self.state_file)
        except DamagedError as error:
            try:
                self._fill(state, self.earlier_file)
            except DamagedError:
                raise TrainingError(
                    f"{self.state_file} cannot be resumed from ({error}); begin a new training with --init MODEL into "
                    "another output"
                ) from error
            self._damage = str(error)

    def _fill(self, state: TrainingState, file: Path) -> None:
        text, tensors = unsealed(file, STATE_KEY)
        try:
            meta = json.loads(text)
            differing = _differences(meta["identity"], json.loads(json.dumps(state.identity)))
            if differing:
                raise TrainingError(f"{self.path} cannot be resumed otherwise than it was begun: {differing}")
            state.restore(tensors)
            state.step, state.seconds = meta["step"], meta["seconds"]
            state.held_out, state.loss = meta["held_out"], meta["loss"]
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DamagedError("it does not hold all that a state does") from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to log.csv, within seconds. Who is killed before loses rows of steps that are done again."""
        self._rows.append(row)
        if time.monotonic() - self._written > LOG_SECONDS:
            self.write_log()

    def write_log(self, *, durably: bool = False) -> None:
        """Write the rows that wait; `durably`, so that a power failure does not take them."""
        rows, self._rows, self._written = self._rows, [], time.monotonic()
        if not rows and not (durably and self.log_file.exists()):
            return
        self.require_in_place()
        try:
            self._append_to_log(rows, durably)
        except OutputError as error:
            if not platforms.is_held(error.__cause__):
                raise
            self._rows = rows
            if not self._told:
                self.note(f"log.csv is open in another program ({error.__cause__}): its rows wait until it is closed")
            self._told = True

    def _append_to_log(self, rows: list[Mapping[str, Any]], durably: bool) -> None:
        with (
            errors_as_one_line(self.log_file, ADVICE),
            open(self.log_file, "a", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
            if rows and stream.tell() == 0:
                writer.writeheader()
            for row in rows:
                writer.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()})
            if durably:
                stream.flush()
                platforms.sync(stream.fileno())

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """A picture that cannot be replaced while another program shows it, on Windows, is a note and no end."""
        try:
            yield
        except OutputError as error:
            if not platforms.is_held(error.__cause__):
                raise
            self.note(f"a picture was not drawn: {error.__cause__}")

    def plot(self) -> None:
        """Draw the losses in log.csv as log.svg."""
        self.write_log()
        try:
            with open(self.log_file, newline="", encoding="utf-8") as stream:
                content = plot_of_log(list(csv.DictReader(stream))).encode()
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:  # somebody edited or removed it
            self.note(f"log.svg was not drawn from log.csv: {error!r}")
            return
        write_atomically(self.path / "log.svg", lambda stream: stream.write(content), overwrite=True, advice=ADVICE)

    def note(self, text: str) -> None:
        """Append one line to notes.txt: what happened that should not."""
        with errors_as_one_line(self.notes_file, ADVICE), _appended(self.notes_file) as stream:
            stream.write(text + "\n")

    def require_in_place(self) -> None:
        """See that the folder is still the one that is locked: it may be gone, and a new one be another training's."""
        if self._lock is not None and self._lock.guarded and not self._lock.in_place:
            raise TrainingError(
                f"{self.path} was deleted or replaced while the training ran, and with it the state to resume from; "
                "begin another training with --init and the model file"
            )

    def settle(self, step: int, batch_size: int) -> None:
        """Leave nothing of what came after the state that was loaded: by one process, when all have loaded it."""
        if self._damage:
            self.note(f"{self.state_file} could not be read ({self._damage}); went on from the one before, step {step}")
            with errors_as_one_line(self.state_file, ADVICE):
                platforms.patiently(os.replace, self.earlier_file, self.state_file)
        self._cut_log(step, step * batch_size / 1000)

    def _cut_log(self, step: int, kimg: float) -> None:
        """Drop the rows after a step, for they are written again, and half of a row.

        Rows before it may be missing, so that counting does not do: `kimg` is what the row of that step says.
        """
        last = float(f"{kimg:.6g}")  # as it is written
        with errors_as_one_line(self.log_file, ADVICE):
            if not self.log_file.exists():
                return
            lines = self.log_file.read_bytes().splitlines(keepends=True)
            early = (line for line in lines[: 1 + step] if not _begins_beyond(line, last))
            kept = b"".join(line for line in early if line.endswith(b"\n"))
            if not kept:  # not even its head was written whole: `log` begins it anew
                self.log_file.unlink()
                return
        write_atomically(self.log_file, lambda stream: stream.write(kept), overwrite=True, advice=ADVICE)


def _begins_beyond(line: bytes, number: float) -> bool:
    try:
        return float(line.split(b",", 1)[0]) > number
    except ValueError:  # the head, or what somebody wrote into it
        return False


def _appended(file: Path) -> IO[str]:
    """A text file at its end; letters that are none, as names of files may have, are written by their numbers."""
    return open(file, "a", encoding="utf-8", errors="backslashreplace")


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str:
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_differences(a, b, f"{path}{name}."))
        elif a != b and name == "pictures":  # hashes, which tell nobody anything
            found.append(
                "its pictures are not those that it was begun with; give the same, or --init with another output"
            )
        elif a != b and name == "legs":
            found.append(f"{path}legs, the trainings of the model that it began with, are others; give the same one")
        elif a != b and name not in FREE_TO_CHANGE and not (a is None and name == "weights"):  # old states have none
            found.append(f"{path}{name} was {_short(a)} and is now {_short(b)}")
    return "; ".join(f for f in found if f)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
