"""Faults that `faults.py` plants: damage to files, and what else the world does to a training."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import breaking
import victim
from pixmend import picture_cache
from pixmend.errors import OutputError, TrainingError
from pixmend.images import open_thumbnails
from pixmend.sealed import DamagedError, unsealed
from soak import LONG, SHORT, Row, Soak


def damaged_states(soak: Soak) -> Row:
    """`state.safetensors` cut short, emptied, deleted or with one bit flipped, in turn, at a random place"""
    times = 20
    for k in range(times):
        output = soak.output()
        victim.stopped_at(soak.stage, output, 2)
        state = output.with_suffix(".run") / "state.safetensors"
        damage(state, k % 4, soak.rng)
        victim.goes_on(soak.stage, output, soak.short)
        assert "went on from the one before, step 1" in (state.parent / "notes.txt").read_text()
    return times, "`notes.txt` says that it went on from the state before it, and it ended equal"


def damage(file: Path, how: int, rng: np.random.Generator) -> None:
    content = bytearray(file.read_bytes())
    place = int(rng.integers(1, len(content)))
    content[place] ^= (how == 3) << int(rng.integers(8))
    file.write_bytes(content[: (place, 0, 0, None)[how]])
    if how == 2:
        file.unlink()


def flipped_bits(soak: Soak) -> Row:
    """One bit flipped in a state, at a random place: is it seen?"""
    times = 2000
    content = (soak.folder / "short.run" / "state.safetensors").read_bytes()
    file, seen = soak.output(), 0
    for _ in range(times):
        file.write_bytes(content)
        damage(file, 3, soak.rng)
        try:
            unsealed(file, "pixmend-state")
        except DamagedError:
            seen += 1
    assert seen == times
    return times, "always"


def damaged_models(soak: Soak) -> Row:
    """The model file cut short, emptied or deleted, in the middle of a training or at its end"""
    times = 6
    for k in range(times):
        output = soak.output()
        if k % 2:
            victim.stopped_at(soak.stage, output, 2)
        else:
            victim.goes_on(soak.stage, output, soak.short)
        damage(output, k % 3, soak.rng)
        victim.goes_on(soak.stage, output, soak.short)
    return times, "`--resume` wrote it again, equal"


def damaged_caches(soak: Soak) -> Row:
    """A file of the decoded pictures cut short, emptied or deleted between two runs, or while one runs"""
    times = 12
    for k in range(times):
        output, stage = soak.output(), victim.Stage(soak.output().parent / "stage", kimg=SHORT)
        if k % 2:
            with victim.at_step(1, partial(damage_cache, soak, stage, k // 2)):
                code = stage.train(output)
            assert code in (0, TrainingError.exit_code)
        else:
            victim.stopped_at(stage, output, 2)
            damage_cache(soak, stage, k // 2)
        victim.goes_on(stage, output, soak.short)
    return times, "decoded anew; or one line, exit code 10, and decoded anew by `--resume`; it ended equal"


def damage_cache(soak: Soak, stage: victim.Stage, k: int) -> None:
    (file,) = (stage.folder / "cache").rglob(("*.rgb", "*.json")[k % 2])
    damage(file, k % 3, soak.rng)


# ------------------------------------------------------------------------------------------------ the rest of the world


def killed_workers(soak: Soak) -> Row:
    """One of two processes that prepare samples killed at a random step"""
    times = 3
    for _ in range(times):
        output = soak.output()
        child = breaking.Child(partial(kill_a_worker, soak, output, int(soak.rng.integers(1, 40))))
        assert child.wait().code == 0
        victim.check_end(output, soak.long)
        assert "a worker died" in (output.with_suffix(".run") / "notes.txt").read_text()
    return times, "its samples were prepared again; `notes.txt` names it; the training went on and ended equal"


def kill_a_worker(soak: Soak, output: Path, step: int) -> int:
    def kill() -> None:
        pids = [process.pid for process in multiprocessing.active_children() if process.pid]
        os.kill(pids[0], signal.SIGKILL)

    with victim.at_step(step, kill):
        return soak.stage.train(output, "--workers", 2, kimg=LONG)


def not_finite(soak: Soak) -> Row:
    """A loss, a gradient or an input that is not finite, at random steps, 1 to 9 times in a row"""
    times = 9
    for count in range(1, times + 1):
        output, step = soak.output(), int(soak.rng.integers(1, 40))
        where = ("loss", "gradient", "input")[count % 3]
        with victim.poisoned(where, step, count), victim.at_step(step + count, stop):
            assert soak.stage.train(output, kimg=LONG) == 130
        assert victim.state_of(output) == (step + count, soak.long.states[step])
        notes = (output.with_suffix(".run") / "notes.txt").read_text().splitlines()
        assert [note.split(":")[0] for note in notes] == [f"step {step + k}" for k in range(count)]
    return times, "dropped and named in `notes.txt`: the whole state afterwards was the one before, bit for bit"


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


def never_finite(soak: Soak) -> Row:
    """The same ten times in a row"""
    times = 3
    for where in ("loss", "gradient", "input"):
        output, step = soak.output(), int(soak.rng.integers(1, 40))
        with victim.poisoned(where, step, 10), contextlib.redirect_stderr(io.StringIO()) as err:
            assert soak.stage.train(output, kimg=LONG) == TrainingError.exit_code
        assert f"10 steps in a row up to step {step + 9}" in victim.only_error(err.getvalue())
        assert (victim.state_of(output) or ())[1:] == (soak.long.states[step],)
        assert soak.stage.train(output, kimg=LONG) == 0
    return times, "one line, exit code 10; the state kept was the one before them, and could be resumed"


def trainings_at_once(soak: Soak) -> Row:
    """A second, third and fourth training started into the folder of one that runs"""
    times = 3
    output = soak.output()
    refused: list[breaking.Ended] = []

    def others() -> None:
        both = [breaking.Child(lambda: soak.stage.train(output)) for _ in range(times)]
        refused.extend(child.wait() for child in both)

    with victim.at_step(2, others):
        victim.goes_on(soak.stage, output, soak.short)
    for ended in refused:
        assert ended.code == TrainingError.exit_code
        assert f"is in use by a training that runs (process {os.getpid()}" in victim.only_error(ended.err)
    return times, "one line, exit code 10; the first ended equal"


def decoders_at_once(soak: Soak) -> Row:
    """Four trainings that begin to decode the same pictures at the same moment"""
    times = 5
    for _ in range(times):
        stage = victim.Stage(soak.output().parent / "stage", pictures=40, kimg=SHORT)
        outputs = [soak.output() for _ in range(4)]
        decoded = stage.folder / "decoded"
        children = [breaking.Child(partial(counted, stage, output, decoded)) for output in outputs]
        assert [child.wait().code for child in children] == [0] * 4
        assert decoded.stat().st_size == 40
        assert len({victim.weights_of(output) for output in outputs}) == 1
        assert not victim.leftovers(stage.folder)
    return 4 * times, "one of them decoded, the others waited and used it; all ended equal"


def counted(stage: victim.Stage, output: Path, decoded: Path) -> int:
    """Train, and write a byte for every picture that is decoded."""

    def decode(*asked: Any) -> object:
        with open(decoded, "ab") as stream:
            stream.write(b".")
        return open_thumbnails(*asked)

    with mock.patch.object(picture_cache, "open_thumbnails", decode):
        return stage.train(output)


def deleted_folders(soak: Soak) -> Row:
    """The run folder deleted while a training runs, at each of its 3 steps"""
    times = 3
    for step in range(1, times + 1):
        output = soak.output()
        delete = partial(shutil.rmtree, output.with_suffix(".run"))
        with victim.at_step(step, delete), contextlib.redirect_stderr(io.StringIO()) as err:
            assert soak.stage.train(output) in (OutputError.exit_code, TrainingError.exit_code)
        told = victim.only_error(err.getvalue())
        assert "was deleted or replaced while the training ran" in told or "m.run does not exist" in told
        assert (victim.weights_of(output) is None) == (step == 1)
    return times, "one line, exit code 8 or 10; the model file of the step before was whole"


FAULTS = (
    damaged_states,
    flipped_bits,
    damaged_models,
    damaged_caches,
    killed_workers,
    not_finite,
    never_finite,
    trainings_at_once,
    decoders_at_once,
    deleted_folders,
)
