"""Running through a folder: what is to be done, doing it, and putting each result in its place exactly once.

Whoever computes, this process or the workers of a cluster, only makes staged files; this process alone notes them in
the journal and renames them. So a picture may be computed twice, when a worker died with it, but is never done twice.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixmend.errors import OutputError, PixmendError
from pixmend.files import errors_as_one_line, put_in_place
from pixmend.folders.journal import ADVICE, CURRENT, Entry, Journal, difference, identity_of
from pixmend.folders.pairing import Found, Task
from pixmend.folders.work import Outcome, Tick, Work, attempt

Progress = Callable[[float, int, int], None]  # pictures done, of how many, failed
Engine = Callable[[Work, Sequence[Task], Path, Tick], Generator[Outcome, None, None]]


@dataclass(frozen=True)
class Plan:
    """What is to be done with the pictures of a folder, each of which stands in exactly one of these."""

    to_do: list[Task]
    before: list[str]  # done already, with the same picture, mask, model and settings
    refused: dict[str, str]  # name -> why nothing can be done
    again: dict[str, str] = field(default_factory=dict)  # of those to do: done once, and why it is done anew

    @property
    def names(self) -> list[str]:
        """All of them."""
        return sorted([*(task.name for task in self.to_do), *self.before, *self.refused])


@dataclass
class Summary:
    """What a run came to."""

    pictures: int
    before: int
    again: dict[str, str]
    failures: dict[str, str]  # name -> why
    notes: dict[str, list[str]] = field(default_factory=dict)  # name -> what is worth a look
    done: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Pictures that nobody came to, because the run was stopped."""
        return self.pictures - self.before - self.done - len(self.failures)

    def count(self, outcome: Outcome) -> None:
        """Take in what came of a picture."""
        if outcome.error:
            self.failures[outcome.name] = outcome.error
            return
        self.done += 1
        if notes := outcome.figures.get("notes"):
            self.notes[outcome.name] = notes

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self) | {"left": self.left}


def make_plan(found: Found, journal: Journal, settings: dict[str, Any], *, overwrite: bool) -> Plan:
    """Compare what is there with the journal. Nothing that is not ours is replaced without `overwrite`.

    The picture that the run before was killed with comes last: should it be why, the others are done first.
    """
    plan = Plan([], [], dict(found.refused))
    identity = identity_of(settings)
    for task in found.tasks:
        entry, is_there = journal.entries.get(task.name), os.path.lexists(task.output)
        changed, known = "", {}
        if entry is not None:
            known = journal.settings.get(entry.settings, {})
            other = difference(known, settings) if entry.settings != identity else _changed(entry, task)
            changed = other if is_there else "its result is gone"
        if entry is not None and not changed:
            plan.before.append(task.name)
        elif is_there and not overwrite and (whose := _not_ours(task, journal, known.get("command"), settings)):
            plan.refused[task.name] = f"{task.output} {whose}, or give --overwrite"
        else:
            plan.to_do.append(task)
            if entry is not None:
                plan.again[task.name] = changed
    plan.to_do.sort(key=lambda task: task.name == journal.suspect)
    return plan


def perform(
    plan: Plan,
    work: Work,
    journal: Journal,
    engine: Engine,
    *,
    overwrite: bool,
    progress: Progress,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Do what is planned, with the journal open; a failure is noted and stops nobody else.

    stopped: asked after every step of every picture; a run that is stopped leaves nothing half done. Raises what
    stops all pictures alike: OptionError, ModelFileError, and OutputError for a disk that is full.
    """
    began, tasks = time.monotonic(), {task.name: task for task in plan.to_do}
    summary = Summary(len(plan.names), len(plan.before), plan.again, dict(plan.refused))
    if not tasks:
        return summary
    settings = work.settings()
    placed: dict[str, list[Path]] = defaultdict(list)  # results by what their names are where capitals do not matter
    for name in plan.before:
        placed[_folded(name)].append(journal.output / name)

    def tick(step: int, steps: int) -> None:
        if stopped():
            raise KeyboardInterrupt
        over = summary.done + len(summary.failures) - len(plan.refused)
        progress(over + step / steps, len(tasks), len(summary.failures))

    try:
        tick(0, 1)
        with closing(engine(work, plan.to_do, journal.staging, tick)) as outcomes:
            for outcome in outcomes:
                task, alike = tasks[outcome.name], placed[_folded(outcome.name)]
                settled = _settle(outcome, task, alike, journal, settings, overwrite=overwrite)
                if settled.fatal:
                    raise settled.to_error()
                if not settled.error:
                    alike.append(task.output)
                summary.count(settled)
                tick(0, 1)
    except KeyboardInterrupt:
        pass  # what is left shows in the summary
    summary.seconds = time.monotonic() - began
    return summary


def one_by_one(work: Work, tasks: Sequence[Task], staging: Path, tick: Tick) -> Generator[Outcome, None, None]:
    """The engine of one process: the model is loaded once, and the pictures are done one after the other."""
    do = work.prepare()
    for task in tasks:
        with errors_as_one_line(staging, ADVICE):
            (staging / CURRENT).write_text(json.dumps(task.name), "ascii")
        yield attempt(do, task, staging, tick)


def _not_ours(task: Task, journal: Journal, command: str | None, settings: dict[str, Any]) -> str:
    """Why what is in a picture's place is not this run's to replace, and what to do; nothing where it is.

    command: what made it.
    """
    if not journal.owns(task):
        return "exists and is not what an earlier run left there; move it"
    picture = journal.entries[task.name].picture
    if not picture.is_of(task.picture):
        return f"is the result of {picture.place}; choose another output folder"
    if command not in (None, settings["command"]):
        return f"was made by pixmend {command}; choose another output folder"
    return ""


def _changed(entry: Entry, task: Task) -> str:
    """In words, what is no longer as it was when a result was made; nothing where all is."""
    if not entry.picture.fits(task.picture):
        return "the picture changed"
    if entry.mask is None:
        return "its mask was added" if task.mask else ""
    if task.mask is None:
        return "its mask was taken away"
    return "" if entry.mask.fits(task.mask) else "its mask changed"


def _settle(
    outcome: Outcome,
    task: Task,
    alike: Iterable[Path],
    journal: Journal,
    settings: dict[str, Any],
    *,
    overwrite: bool,
) -> Outcome:
    """Put a staged result in its place, noting it before and after; the same outcome, or why that could not be.

    alike: results that are in their places, and may have this one's name to the file system.
    """
    if outcome.staged is not None:
        entry = journal.writing(outcome, settings)
        try:
            _check_free(task.output, alike)
            with errors_as_one_line(task.output, ADVICE):
                task.output.parent.mkdir(parents=True, exist_ok=True)
            put_in_place(Path(outcome.staged), task.output, overwrite=overwrite or journal.owns(task), advice=ADVICE)
        except PixmendError as error:
            outcome = Outcome.of_error(task.name, error)
        else:
            journal.done(task.name, entry, outcome.figures)
    if outcome.error and not outcome.fatal:
        journal.failed(outcome)
    return outcome


def _check_free(output: Path, alike: Iterable[Path]) -> None:
    """Raise OutputError where a result would replace another's: their names are one where capitals do not matter."""
    for other in alike:
        if _is_one_entry(output, other):
            raise OutputError(f"{output} and {other} are one file here; rename one of the two pictures")


def _is_one_entry(a: Path, b: Path) -> bool:
    """Whether two names are of one file that is there, and no links of one kind or the other."""
    try:
        first, second = os.lstat(a), os.lstat(b)
    except OSError:
        return False
    return os.path.samestat(first, second) and first.st_nlink == 1


def _folded(name: str) -> str:
    """A name without capitals, its letters composed in one way."""
    return unicodedata.normalize("NFC", name).casefold()
