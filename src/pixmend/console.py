"""What the commands show besides their results: notes, errors, progress. rich is loaded where somebody looks."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def say(kind: str, message: str) -> None:
    """One line on stderr; kind: "error", "failed" (one of many), "warning" or "note"."""
    show(shown(f"pixmend: {kind}: {' '.join(message.split())}"))


def shown(text: str) -> str:
    """A name or message on one line, as any terminal prints it: line breaks and bytes that are no text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show(line: str) -> None:
    """A line on stderr, if somebody is there to read it: a terminal or a pipe that was closed stops no work."""
    with suppress(OSError):
        print(line, file=sys.stderr)


def open_closed_streams() -> None:
    """Whatever was started with stdout or stderr closed prints into nothing, and no file that it opens is one of them.

    Python has None in their places, which prints nothing, or to the other one, and fails where more is asked of it.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def header_lines(value: object, name: str = "") -> Iterator[str]:
    """A header as lines "name: value", the names of what is nested joined with dots."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from header_lines(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for i, inner in enumerate(value, 1):
            yield from header_lines(inner, f"{name}[{i}]")
    else:
        yield f"{name}: {value if isinstance(value, str) else json.dumps(value)}"


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """While anybody is inside, what pixmend warns of is one line, without the place in its code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *others: say("warning", str(message))
        yield


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Callable[..., None]]:
    """`update(done, total, text)` of a progress bar on stderr with the time left; of nothing where nobody looks.

    A terminal that is closed meanwhile stops no work.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def update(done: int, total: int, text: str = "") -> None:
            with suppress(OSError):
                if total != progress.tasks[0].total:  # other work, with a speed of its own
                    progress.reset(task, total=total)
                progress.update(task, completed=done, description=text)

        yield update
