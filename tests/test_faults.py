"""Faults, survived: after each of them one line, a state that loads, and the end that an undisturbed training has.

Here they are planted in chosen places; `bench/faults.py` plants them at random, and in every place.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from pixmend.checkpoint import load_model
from pixmend.errors import OutputError, PixmendError, TrainingError
from pixmend.run_folder import RunFolder
from pixmend.signals import stop_on_signal
from pixmend.training import InpaintingTask
from pixmend.workers import _own_words, begin_worker, steadily

pytest.importorskip("fcntl", reason="processes are forked and killed as on Linux and macOS")
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
breaking, victim = importlib.import_module("breaking"), importlib.import_module("victim")
sys.path.pop(0)

Err = Callable[[], str]
STEPS = 6  # of a training here, each of them saved
EVERY = 11  # of all operations that change files, those that fail here: bench/faults.py has them all fail


def train_on(disk: Any, stage: Any, output: Path) -> int:
    with disk:
        return int(stage.train(output))


def places(tmp_path: Path, every: int) -> Iterator[tuple[int, Path]]:
    """The operations that fail, by number, each with a model file of its own; whoever takes them stops at the end."""
    for at in range(1, 1000, every):
        (tmp_path / str(at)).mkdir()
        yield at, tmp_path / str(at) / "m.safetensors"


# --------------------------------------------------------------------------------------------- killed, and full disks


def test_an_undisturbed_training_saves_every_step_and_repeats_itself(stage: Any, whole: Any, output: Path) -> None:
    assert sorted(whole.states) == [*range(STEPS + 1)]
    assert len(set(whole.states.values())) == STEPS + 1
    assert len(whole.log) == STEPS
    victim.goes_on(stage, output, whole)


def test_killed_at_any_operation_on_files(stage: Any, whole: Any, tmp_path: Path) -> None:
    last = -1
    for at, output in places(tmp_path, EVERY):
        ended = breaking.in_child(partial(train_on, breaking.Disk(at, breaking.die), stage, output))
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL
        step = victim.check_between(output, whole)
        assert step >= last, "a state that was there before is gone"
        last = step
        victim.goes_on(stage, output, whole)
    assert last >= STEPS - 1


@pytest.mark.parametrize(
    ("fault", "every", "says"),
    [("full", EVERY, "the disk is full; free some space"), ("read_only", 3 * EVERY, "Read-only file system")],
)
def test_a_disk_that_takes_no_more_while_training(
    stage: Any, whole: Any, tmp_path: Path, err: Err, fault: str, every: int, says: str
) -> None:
    last = -1
    for at, output in places(tmp_path, every):
        code = train_on(breaking.Disk(at, getattr(breaking, fault)), stage, output)
        if code == 0:
            break
        assert code == OutputError.exit_code
        told = err()
        assert says in told
        assert not victim.leftovers(tmp_path)
        step = victim.check_between(output, whole)
        assert step < 0 or "go on with --resume" in told
        assert step >= last
        last = step
        victim.goes_on(stage, output, whole)
    assert last >= STEPS - 1


def test_a_disk_that_takes_no_more_while_repairing(stage: Any, tmp_path: Path, err: Err) -> None:
    def repair(folder: Path) -> int:
        return int(stage.inpaint(folder / "out.png", "--save-steps", folder / "steps", "--candidates", 2))

    (tmp_path / "whole").mkdir()
    assert repair(tmp_path / "whole") == 0
    wanted = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in files_in(tmp_path / "whole")}
    for at, output in places(tmp_path, 1):
        with breaking.Disk(at):
            code = repair(output.parent)
        written = {path.relative_to(output.parent): path.read_bytes() for path in files_in(output.parent)}
        assert written.items() <= wanted.items()
        if code == 0:
            break
        assert code == OutputError.exit_code
        assert "the disk is full" in err()
    assert written == wanted
    assert at > 30


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("limit", [2_000, 150_000, 340_000])
def test_a_file_that_may_not_grow(stage: Any, whole: Any, output: Path, limit: int) -> None:
    """The kernel's own refusal: as a quota it comes in the middle of a write, and half of the data is on the disk."""
    resource = importlib.import_module("resource")

    def train() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return int(stage.train(output))

    ended = breaking.in_child(train)
    assert ended.code == OutputError.exit_code
    assert "File too large" in victim.only_error(ended.err)
    assert not victim.leftovers(output.parent)
    victim.check_between(output, whole)
    victim.goes_on(stage, output, whole)


# ------------------------------------------------------------------------------------------------------------- workers


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*worker processes:UserWarning")
def test_a_worker_that_is_killed_costs_time_and_nothing_else(stage: Any, tmp_path: Path) -> None:
    straight, output = tmp_path / "a" / "m.safetensors", tmp_path / "b" / "m.safetensors"
    for path in (straight, output):
        path.parent.mkdir()
    long = victim.undisturbed(stage, straight, kimg=0.06)

    def kill_one() -> None:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)  # type: ignore[arg-type]

    with victim.at_step(2, kill_one):
        assert stage.train(output, "--workers", 2, kimg=0.06) == 0
    victim.check_end(output, long)
    (note,) = (output.with_suffix(".run") / "notes.txt").read_text().splitlines()
    assert "a worker died" in note
    assert "by 1 workers from here on" in note


# ------------------------------------------------------------------------------------------------------ no numbers


@pytest.mark.parametrize("where", ["loss", "gradient", "input"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_named(
    stage: Any, whole: Any, output: Path, where: str
) -> None:
    with victim.poisoned(where, 3), victim.at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert stage.train(output) == 130
    assert victim.state_of(output) == (4, whole.states[3])
    (note,) = (output.with_suffix(".run") / "notes.txt").read_text().splitlines()
    assert note.startswith("step 3: loss ")
    assert note.endswith("; dropped")


def test_ten_steps_that_are_not_finite_end_it_and_the_last_good_state_can_be_resumed(
    stage: Any, output: Path, tmp_path: Path, err: Err
) -> None:
    whole = victim.undisturbed(stage, tmp_path / "whole.safetensors", kimg=0.03)
    with victim.poisoned("gradient", 3, 10):
        assert stage.train(output, kimg=0.03) == TrainingError.exit_code
    assert "10 steps in a row up to step 12" in err()
    assert victim.state_of(output)[1] == whole.states[3]
    assert stage.train(output, kimg=0.03) == 0


def test_weights_that_are_not_finite_never_replace_a_good_state(stage: Any, whole: Any, output: Path, err: Err) -> None:
    """A step may be finite and its result not. All that follow are dropped; a state saved then would be the last."""
    step = torch.optim.Adam.step

    def overflow(adam: Any, *arguments: Any) -> None:
        step(adam, *arguments)
        with torch.no_grad():
            if adam.state and next(iter(adam.state.values()))["step"] == 4:
                adam.param_groups[0]["params"][0].view(-1)[0] = float("inf")

    with mock.patch.object(torch.optim.Adam, "step", overflow):
        assert stage.train(output) == TrainingError.exit_code
    assert "no longer finite at step 4" in err()
    assert victim.check_between(output, whole) == 3
    victim.goes_on(stage, output, whole)


# ------------------------------------------------------------------------------------------- two runs, one folder


def test_a_second_training_into_the_same_folder_is_refused_at_once(stage: Any, whole: Any, output: Path) -> None:
    refused: list[Any] = []

    def second() -> None:
        refused.append(breaking.in_child(lambda: stage.train(output)))
        with pytest.raises(TrainingError, match="is in use"), RunFolder(output.with_suffix(".run")).lock():
            pass

    with victim.at_step(3, second):
        victim.goes_on(stage, output, whole)
    assert refused[0].code == TrainingError.exit_code
    told = victim.only_error(refused[0].err)
    assert f"m.run is in use by a training that runs (process {os.getpid()} on " in told
    assert "choose another output" in told


def test_where_no_lock_can_be_had_a_note_says_so(stage: Any, whole: Any, output: Path) -> None:
    """As on network shares whose servers know no locks."""
    with mock.patch("fcntl.flock", side_effect=OSError(95, "Operation not supported")):
        victim.goes_on(stage, output, whole)
    assert "knows no locks" in (output.with_suffix(".run") / "notes.txt").read_text()


@pytest.mark.parametrize("made_again", [False, True])
def test_a_run_folder_that_is_deleted_while_training(
    stage: Any, whole: Any, output: Path, err: Err, made_again: bool
) -> None:
    run = output.with_suffix(".run")

    def delete() -> None:
        shutil.rmtree(run)
        if made_again:
            run.mkdir()

    with victim.at_step(3, delete):
        assert stage.train(output) == TrainingError.exit_code
    assert "was deleted or replaced while the training ran" in err()
    assert [path.name for path in run.glob("*")] == []
    assert load_model(output).legs[-1]["kimg"] == 0.004  # what was saved before, at step 2


# ----------------------------------------------------------------------------------------------------------- signals


def test_signals_at_any_operation_on_files(stage: Any, whole: Any, tmp_path: Path) -> None:
    """While drawing, while saving: the step that runs is ended, and everything is saved."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    for at, output in places(tmp_path, 2 * EVERY):
        disk = breaking.Disk(at, partial(signal.raise_signal, numbers[at % 3]), lasting=False)
        ended = breaking.in_child(partial(train_and_look, disk, stage, output))
        if ended.code == 0:  # no signal came, or one that came when nothing was left to do
            break
        assert ended.code == 130
        assert victim.only_error(ended.err) == "stopped"
        assert not victim.leftovers(tmp_path)
        victim.check_between(output, whole)
        victim.goes_on(stage, output, whole)
    assert at > 5 * EVERY


def train_and_look(disk: Any, stage: Any, output: Path) -> int:
    """Train on a disk that sends a signal; SWALLOWED where it came in time and was not heeded."""
    in_time: list[bool] = []
    with victim.at_step(STEPS - 1, lambda: in_time.append(disk.has_failed)):
        code = train_on(disk, stage, output)
    return breaking.SWALLOWED if code == 0 and in_time == [True] else code


@pytest.mark.parametrize("at", [3, 5, 8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_decoding_leave_nothing(tmp_path: Path, number: int, at: int) -> None:
    stage = victim.Stage(tmp_path / "stage")
    disk = breaking.Disk(at, partial(signal.raise_signal, number), lasting=False)
    ended = breaking.in_child(partial(train_on, disk, stage, tmp_path / "m.safetensors"))
    assert ended.code == 130
    assert victim.only_error(ended.err) == "stopped"
    assert not victim.leftovers(tmp_path)
    assert not (tmp_path / "m.run").exists()


def test_ctrl_c_twice_ends_at_once_and_keeps_what_was_saved(stage: Any, whole: Any, output: Path) -> None:
    def impatient() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    def measuring(task: Any, network: Any) -> float:
        impatient()
        raise AssertionError("it went on")

    def train() -> int:
        with mock.patch.object(InpaintingTask, "held_out_loss", measuring):  # at step 2
            return int(stage.train(output))

    ended = breaking.in_child(train)
    assert ended.code == 130
    assert victim.only_error(ended.err) == "stopped"
    assert victim.check_between(output, whole) == 1
    victim.goes_on(stage, output, whole)


def test_sigterm_while_measuring_and_twice_is_heeded_once(stage: Any, whole: Any, output: Path) -> None:
    measure = InpaintingTask.held_out_loss

    def measuring(task: Any, network: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return measure(task, network)

    def train() -> int:
        with mock.patch.object(InpaintingTask, "held_out_loss", measuring):
            return int(stage.train(output))

    assert breaking.in_child(train).code == 130
    assert victim.check_between(output, whole) == 2
    victim.goes_on(stage, output, whole)


def test_a_terminal_that_is_closed_ends_the_training_with_all_saved(stage: Any, whole: Any, output: Path) -> None:
    def train(hang_up: Callable[[], None]) -> int:
        with victim.at_step(3, hang_up):
            return int(stage.train(output))

    assert breaking.in_child(breaking.on_a_terminal(train)).code == 130
    assert victim.check_between(output, whole) == 3
    victim.goes_on(stage, output, whole)


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        with stop_on_signal() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped()
            signal.raise_signal(signal.SIGTERM)
            assert stopped()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_goes_away_stops_no_training(stage: Any, whole: Any, output: Path) -> None:
    def train() -> int:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.stdout, sys.stderr = breaking._text(1), breaking._text(2)
        return int(stage.train(output))

    breaking.in_child(train)
    victim.check_end(output, whole)


def test_batches_of_a_lost_worker_are_prepared_again() -> None:
    """Its death is told by torch, or, a moment before torch knows of it, by the pipe to it that breaks."""
    losses: dict[int, Exception] = {
        4: RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"),
        2: ConnectionResetError(104, "Connection reset by peer"),
        1: EOFError(),
    }
    made: list[tuple[int, int]] = []
    notes: list[str] = []

    def loader(done: int, workers: int) -> Any:
        made.append((done, workers))
        for k in range(done, 10):
            if k == done + 3 and workers in losses:
                raise losses[workers]
            yield k

    assert list(steadily(loader, 4, notes.append)) == [*range(10)]
    assert made == [(0, 4), (3, 2), (6, 1), (9, 0)]
    assert [note.split(":")[0] for note in notes] == ["batch 3", "batch 6", "batch 9"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_where_workers_run_the_script_again_the_note_says_how_to_keep_them_from_it(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def loader(done: int, workers: int) -> Any:
        if workers:
            raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
        yield 0

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    notes: list[str] = []
    assert list(steadily(loader, 1, notes.append)) == [0]
    assert ('`if __name__ == "__main__":`' in notes[0]) == (method == "spawn")


@pytest.mark.parametrize(
    ("workers", "error"),
    [(2, ValueError("a defect")), (2, OSError("Caught OSError in DataLoader ...")), (0, OSError())],
)
def test_what_is_no_loss_of_a_worker_is_not_taken_for_one(workers: int, error: Exception) -> None:
    def loader(done: int, workers: int) -> Any:
        yield 0
        raise error

    with pytest.raises(type(error)):
        list(steadily(loader, workers, lambda note: None))


def test_a_worker_says_nothing_of_a_training_that_went_away() -> None:
    ended = breaking.in_child(partial(says, ConnectionResetError(104, "Connection reset by peer")))
    assert ended == breaking.Ended(0, "")
    assert "ZeroDivisionError" in breaking.in_child(partial(says, ZeroDivisionError())).err


def says(error: Exception) -> int:
    begin_worker(0)
    sys.excepthook(type(error), error, None)
    signal.raise_signal(signal.SIGINT)  # which the training answers
    return 0


def test_errors_of_workers_are_their_own_words() -> None:
    told = (
        "Caught TrainingError in DataLoader worker process 0.\nOriginal Traceback:\npixmend.errors.TrainingError: a: b"
    )
    assert _own_words(PixmendError(told)) == "a: b"
    assert _own_words(PixmendError("a: b")) == "a: b"
