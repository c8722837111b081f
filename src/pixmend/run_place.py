"""Where a training may write, checked before any work: a model file, and the folder of its run beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from pixmend.errors import OptionError, OutputExistsError, TrainingError
from pixmend.files import ADVICE, check_output

# in a run folder: a training was begun there, and can be resumed
STATE_FILE, EARLIER_FILE = "state.safetensors", "state-before.safetensors"
STATE_KEY = "pixmend-state"  # of a state's metadata
LOG_FILE, LOG_BEGINS = "log.csv", b"kimg,"  # in a run folder, and how it begins


def check_training(
    output: Path, *, overwrite: bool, resume: bool, sources: Iterable[str | os.PathLike[str] | None] = ()
) -> Path:
    """Refuse a model file that cannot be written, or a training that cannot be begun or resumed; returns its folder.

    sources: the model files that it begins with, or learns from; they must stay, or it could not be resumed.
    """
    check_output(output, overwrite or resume, "model.safetensors")
    if output.suffix != ".safetensors":
        raise OptionError(f"the model {output} must be named as what it is; give {output.stem}.safetensors")
    for source in sources:
        if source is not None and _is_same(source, output):
            raise OptionError(f"{output} is what the training begins with, and would be replaced; name another output")
    folder = output.with_suffix(".run")
    check_run_folder(folder, resume)
    return folder


def _is_same(a: str | os.PathLike[str], b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return False


def was_begun(folder: Path) -> bool:
    """Whether a run folder holds a state to resume."""
    return os.path.exists(folder / STATE_FILE) or os.path.exists(folder / EARLIER_FILE)


def check_run_folder(folder: Path, resume: bool) -> None:
    """Refuse to resume where nothing was begun, and to begin anew where something was."""
    begun = was_begun(folder)
    if resume and not begun:
        raise TrainingError(f"{folder} holds no state to resume; leave --resume out to start a new training")
    if begun and not resume:
        raise TrainingError(
            f"{folder} holds a training that was begun; go on with it with --resume, or choose another output"
        )
    if not begun:
        _refuse_log(folder / LOG_FILE)


def _refuse_log(file: Path) -> None:
    """Raise OutputExistsError for a log with rows: a training's, whose states somebody removed, or of another program.

    A training saves its first state before it logs a row, so none that was killed left such a one.
    """
    try:
        with open(file, "rb") as stream:
            head, rows = stream.readline(), stream.read(1)
    except OSError:
        head, rows = b"?" if os.path.lexists(file) else b"", b""
    if head and not head.startswith(LOG_BEGINS):
        raise OutputExistsError(f"{file} is no log of a training and is left as it is; {ADVICE}")
    if rows:
        raise OutputExistsError(
            f"{file} is the log of a training whose states are gone, and is left as it is; {ADVICE}"
        )
