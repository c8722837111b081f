"""Faults, survived: breaks a tiny training in every way that is known here, at random and in every place.

    python bench/faults.py --kills 50 --seed 0

Prints a table of what was done, how often and what happened; the exit code is 1 where anything was not survived.
"Equal" is bit for bit: weights, their average, the optimiser's moments, the model file's weights, and log.csv but for
its speeds. Processes are forked from one that has torch loaded, so that they are killed in training and not in loading.
For Linux. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

import breaking
import damage
import victim
from machine import machine
from pixmend.data import InpaintingDataset
from pixmend.errors import OutputError
from soak import SHORT, Row, Soak

HEAD = "| what was done | times | what happened |\n| --- | --- | --- |"


# ------------------------------------------------------------------------------------------------------- killed


def killed_at_random(soak: Soak) -> Row:
    """SIGKILL at random moments of trainings of 60 steps, half of the time with a worker, resumed each time"""
    kills = trainings = redone = 0
    while kills < soak.kills:
        output, step, code = soak.output(), -1, -1
        while code != 0:
            child = soak.long_training(output, workers=kills % 2)
            time.sleep(soak.rng.uniform(0, soak.seconds / 6))
            child.kill(signal.SIGKILL)
            code = child.wait().code
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
            found = victim.check_between(output, soak.long)
            assert found >= step, "a state is gone"
            step = found
            redone += code != 0 and len(log_rows(output)) - max(step, 0)
        victim.check_end(output, soak.long)
        trainings += 1
    told = f"the state loaded each time and the model file was whole; {redone} steps were done again; all {trainings} "
    return kills, told + "trainings ended equal to the undisturbed one"


def log_rows(output: Path) -> list[str]:
    log = output.with_suffix(".run") / "log.csv"
    return log.read_text().splitlines()[1:] if log.exists() else []


def killed_everywhere(soak: Soak) -> Row:
    """SIGKILL at every single operation on files (open, half of a write, fsync, rename ...) of a training of 3 steps"""
    for at, output in soak.places():
        ended = breaking.in_child(partial(on_disk, breaking.Disk(at, breaking.die), soak, output))
        if ended.code == 0:
            return at - 1, "as above; what the killed process left half-written was removed by the next one"
        assert ended.code == -signal.SIGKILL
        victim.check_between(output, soak.short)
        victim.goes_on(soak.stage, output, soak.short)
    raise AssertionError("it never came through")


def on_disk(disk: breaking.Disk, soak: Soak, output: Path) -> int:
    with disk:
        return soak.stage.train(output)


# --------------------------------------------------------------------------------------------------- disks that fail


def full_everywhere(soak: Soak) -> Row:
    """A full disk (ENOSPC) from every single operation on files of a training of 3 steps on"""
    return failing_everywhere(soak, breaking.full, "the disk is full; free some space", 1)


def read_only_in_places(soak: Soak) -> Row:
    """The same with a file system that turns read-only, at every fifth operation"""
    return failing_everywhere(soak, breaking.read_only, "Read-only file system", 5)


def failing_everywhere(soak: Soak, what: Callable[[], None], says: str, every: int) -> Row:
    for at, output in soak.places():
        if (at - 1) % every:
            continue
        ended = breaking.in_child(partial(on_disk, breaking.Disk(at, what), soak, output))
        if ended.code == 0:
            told = (
                f"one line, exit code 8, nothing half-written or left over (`... {says} ...`); resumed, it ended equal"
            )
            return (at - 1) // every, told
        assert ended.code == OutputError.exit_code
        assert says in victim.only_error(ended.err)
        assert not victim.leftovers(output.parent)
        victim.check_between(output, soak.short)
        victim.goes_on(soak.stage, output, soak.short)
    raise AssertionError("it never came through")


def small_disks(soak: Soak) -> Row:
    """A disk that really fills up: a tmpfs of 100 to 1600 kB in a namespace of its own"""
    sizes = range(100, 1700, 100)
    for kilobytes in sizes:
        output = soak.output()
        disk, kept = output.parent / "disk", output.parent / "kept"
        disk.mkdir()

        def fill(disk: Path = disk, kept: Path = kept, kilobytes: int = kilobytes) -> int:
            breaking.mount_small_disk(disk, kilobytes)
            code = soak.stage.train(disk / "m.safetensors")
            shutil.copytree(disk, kept)  # the disk goes with this process
            return code

        ended = breaking.in_child(fill)
        if "PermissionError" in ended.err:
            return 0, "not tried: this system gives no namespaces to those who are not root"
        if ended.code == 0:
            return sizes.index(kilobytes), f"as above; {kilobytes} kB were enough"
        assert ended.code == OutputError.exit_code, ended
        assert "the disk is full" in victim.only_error(ended.err)
        assert not victim.leftovers(kept)
        victim.check_between(kept / "m.safetensors", soak.short)
        victim.goes_on(soak.stage, kept / "m.safetensors", soak.short)
    raise AssertionError("no disk was large enough")


def full_while_decoding(soak: Soak) -> Row:
    """A full disk from every single operation on, while pictures are decoded"""
    with contextlib.redirect_stdout(io.StringIO()):
        first = InpaintingDataset(soak.stage.photos, 16, cache=soak.output().parent)[0]["x0"]
    for at, output in soak.places():
        if not (told := decoded_on(breaking.Disk(at), soak.stage, output.parent / "cache")):
            return at - 1, "one line, nothing left over; the next attempt gave the same samples"
        assert "set XDG_CACHE_HOME" in told
        assert not victim.leftovers(output.parent)
        again = InpaintingDataset(soak.stage.photos, 16, cache=output.parent / "cache")[0]["x0"]
        assert np.array_equal(first, again)
    raise AssertionError("it never came through")


def decoded_on(disk: breaking.Disk, stage: victim.Stage, cache: Path) -> str:
    """What went wrong."""
    try:
        with disk:
            InpaintingDataset(stage.photos, 16, cache=cache)
    except OutputError as error:
        return str(error)
    return ""


def full_while_repairing(soak: Soak) -> Row:
    """A full disk from every single operation of `pixmend inpaint --save-steps --candidates 2` on"""
    wanted: dict[Path, bytes] = {}
    for at in range(10_000):  # the first goes through, and says what is wanted
        folder = soak.output().parent
        more = ("--save-steps", folder / "steps", "--candidates", 2)
        ended = breaking.in_child(partial(repair_on, breaking.Disk(at or None), soak, folder, more))
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        wanted = wanted or files
        if ended.code == 0 and at:
            assert files == wanted
            return at - 1, "one line, exit code 8; every file that was there was whole, and none was left over"
        assert files.items() <= wanted.items()
        assert ended.code == (OutputError.exit_code if at else 0)
        assert not at or "the disk is full" in victim.only_error(ended.err)
    raise AssertionError("it never came through")


def killed_while_decoding(soak: Soak) -> Row:
    """SIGKILL at every single operation on files while pictures are decoded, before a training of 3 steps"""
    for at, output in soak.places():
        stage = victim.Stage(soak.output().parent / "stage", kimg=SHORT)
        cache = stage.folder / "cache" / "pixmend"  # where the command line has it
        ended = breaking.in_child(partial(decoded_or_killed, breaking.Disk(at, breaking.die), stage, cache))
        if ended.code == 0:
            return at - 1, "decoded anew, and what was left half-written was removed; it ended equal"
        assert ended.code == -signal.SIGKILL
        victim.goes_on(stage, output, soak.short)
        assert not list(cache.glob(".*"))
    raise AssertionError("it never came through")


def decoded_or_killed(disk: breaking.Disk, stage: victim.Stage, cache: Path) -> int:
    return len(decoded_on(disk, stage, cache))


def repair_on(disk: breaking.Disk, soak: Soak, folder: Path, more: tuple[object, ...]) -> int:
    with disk:
        return soak.stage.inpaint(folder / "out.png", *more)


# ---------------------------------------------------------------------------------------------------------- signals


def signals_at_random(soak: Soak) -> Row:
    """Ctrl-C, SIGTERM, SIGHUP and twice Ctrl-C in turn, at random moments, half of the time to a worker as well"""
    times = 40
    sent = trainings = 0
    while sent < times:
        output, code = soak.output(), -1
        while code != 0:
            child = soak.long_training(output, workers=sent // 4 % 2)
            time.sleep(soak.rng.uniform(0, soak.seconds / 6))
            step, _ = victim.state_of(output) or (-1, "")
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[sent % 4]
            for _ in range(1 + (sent % 4 == 3)):
                child.kill_group(number)
            ended = child.wait()
            code = ended.code
            if code in (breaking.OUTSIDE, -signal.SIGTERM, -signal.SIGHUP):  # before the command line had begun
                continue
            if code:
                sent += 1
                assert code == 130, ended
                assert victim.only_error(ended.err) == "stopped"
            else:
                assert step > 0.7 * soak.long.steps, "the signal was swallowed: so much was left to do when it came"
            assert not victim.leftovers(output.parent)
            victim.check_between(output, soak.long)
        victim.check_end(output, soak.long)
        trainings += 1
    return sent, f"one line, exit code 130, nothing left over; all {trainings} trainings ended equal"


def closed_terminals(soak: Soak) -> Row:
    """The terminal closed under a training, at each of its 3 steps"""
    for step in range(1, 4):
        output = soak.output()

        def train(hang_up: Callable[[], None], step: int = step, output: Path = output) -> int:
            with victim.at_step(step, hang_up):
                return soak.stage.train(output)

        assert breaking.in_child(breaking.on_a_terminal(train)).code == 130
        assert victim.check_between(output, soak.short) == step
        victim.goes_on(soak.stage, output, soak.short)
    return 3, "the step that ran was saved; resumed, it ended equal"


FAULTS = (
    killed_at_random,
    killed_everywhere,
    full_everywhere,
    read_only_in_places,
    small_disks,
    full_while_decoding,
    killed_while_decoding,
    full_while_repairing,
    signals_at_random,
    closed_terminals,
    *damage.FAULTS,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many SIGKILLs at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of " + ", ".join(f.__name__ for f in FAULTS))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored,
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    torch.set_num_threads(1)  # a fork has none of the threads of its parent, and would wait for them
    print(f"# Faults, survived\n\n{machine()}.\n\n{HEAD}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        with quiet():
            soak = Soak.begin(Path(name), options.seed, options.kills)
        for fault in FAULTS:
            if options.only and fault.__name__ not in options.only:
                continue
            try:
                with quiet():
                    times, told = fault(soak)
            except Exception as error:  # noqa: BLE001  # what one fault leads to must not hide the others
                times, told = 0, f"NOT SURVIVED: {' '.join(traceback.format_exception(error)[-2].split())}: {error!r}"
                failed += 1
            print(f"| {fault.__doc__} | {times} | {told} |", flush=True)
    print(f"\nPrinted by `python bench/faults.py --kills {options.kills} --seed {options.seed}`.")
    sys.exit(bool(failed))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the trainings of this very process say."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


if __name__ == "__main__":
    main()
