"""What is done with each picture of a folder, and what came of it: the same on this machine and on a cluster."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pixmend.errors import (
    BackendError,
    MemoryLimitError,
    ModelFileError,
    OptionError,
    OutputError,
    PictureError,
    PixmendError,
)
from pixmend.folders.pairing import Task, same_place
from pixmend.options import OUT_OF_MEMORY

DEFECT = 1  # in place of an exit code: what nobody foresaw
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
RACY_NS = 2_000_000_000  # a file changed so shortly before it was read may change again with the same time

Tick = Callable[[int, int], None]  # steps done, of how many, of one picture; may raise KeyboardInterrupt to stop
Do = Callable[[Task, Path, Tick], dict[str, Any]]  # writes the result to the path; returns figures for the journal


class Work(Protocol):
    """What is done with each picture. Instances are pickled and sent to other machines: they hold names, no models."""

    @property
    def device(self) -> str | None:
        """Where the network runs; None: the best there is."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that a result depends on beside picture and mask, as JSON has it: options, and a hash of the model."""
        ...

    def check(self, task: Task) -> dict[str, Any]:
        """Read picture and mask, refuse what `prepare`'s function would refuse; figures. Loads no torch."""
        ...

    def prepare(self) -> Do:
        """Load the model; returns what does one picture after the other with it."""
        ...


@dataclass(frozen=True)
class Mark:
    """By what a file is known again."""

    size: int  # bytes
    mtime_ns: int | None  # None: too fresh to be relied upon
    sha256: str
    place: str = ""  # its absolute path; "" where that was not noted

    @classmethod
    def of(cls, path: Path) -> Mark:
        """The mark of a file as it is now."""
        status = os.stat(path)
        settled = time.time_ns() - status.st_mtime_ns > RACY_NS
        return cls(status.st_size, status.st_mtime_ns if settled else None, sha256_of(path), os.path.abspath(path))

    def fits(self, path: Path) -> bool:
        """Whether a file is unchanged: same size and time of change, as make and git have it, or else same content.

        In another place the time is no evidence: of two cameras' files of one size both may have it.
        """
        try:
            status = os.stat(path)
            if status.st_size != self.size:
                return False
            same_time = status.st_mtime_ns == self.mtime_ns and self.is_of(path)
            return same_time or sha256_of(path) == self.sha256
        except OSError:  # gone, or not to be read: whoever works on it will say so
            return False

    def is_of(self, path: Path) -> bool:
        """Whether it was taken of the file in this place, as far as is known."""
        return self.place in ("", os.path.abspath(path)) or same_place(Path(self.place), path)


@dataclass(frozen=True)
class Outcome:
    """What came of one picture: a staged file, or a reason. All of it is plain, so that it travels as JSON."""

    name: str
    picture: Mark | None = None
    mask: Mark | None = None
    staged: str | None = None  # the file with the result, whole and synced, not yet in its place
    sha256: str = ""  # of that file
    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0  # of the error
    fatal: bool = False  # an error that every other picture would meet as well
    trace: str = ""  # of a defect

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; `from_json` turns it back."""
        return dataclasses.asdict(self)

    @classmethod
    def of_error(cls, name: str, error: PixmendError) -> Outcome:
        """What a user can mend: told of one picture, or fatal."""
        fatal = isinstance(error, (BackendError, OptionError, ModelFileError)) or _is_of_disk(error)
        return cls(name, error=str(error), exit_code=error.exit_code, fatal=fatal)

    @classmethod
    def of_any(cls, name: str, error: Exception) -> Outcome:
        """What was raised just now: a defect is told with its trace."""
        if isinstance(error, MemoryError):
            error = MemoryLimitError(OUT_OF_MEMORY)
        if isinstance(error, PixmendError):
            return cls.of_error(name, error)
        told = f"a defect of pixmend: {type(error).__name__}: {' '.join(str(error).split())}"
        return cls(name, error=told, exit_code=DEFECT, trace=traceback.format_exc())

    def to_error(self) -> PixmendError:
        """What was told, to be raised."""
        kinds = {kind.exit_code: kind for kind in PixmendError.__subclasses__()}
        return kinds.get(self.exit_code, PixmendError)(self.error)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """What `to_json` told."""
        marks = {name: values[name] and Mark(**values[name]) for name in ("picture", "mask")}
        return cls(**{**values, **marks})


def attempt(do: Do, task: Task, staging: Path, tick: Tick) -> Outcome:
    """Do one picture, its result into a new file in the folder `staging`; what goes wrong with it is told, not raised.

    A defect is told too, with its trace: the other pictures shall not suffer from it. `KeyboardInterrupt` passes.
    """
    staged = staging / f"{uuid.uuid4().hex}{task.output.suffix}"
    try:
        # Marked before they are read: what changes meanwhile is found changed at the next run, and done anew.
        picture, mask = _mark(task.picture), None if task.mask is None else _mark(task.mask)
        figures = do(task, staged, tick)
        return Outcome(task.name, picture, mask, str(staged), sha256_of(staged), figures)
    except Exception as error:  # noqa: BLE001  # kept in the journal, with its trace
        outcome = Outcome.of_any(task.name, error)
        tick(0, 1)  # where Ctrl-C came within compiled code, another exception may come out: this raises the right one
        return replace(outcome, error=outcome.error.replace(str(staged), str(task.output)))


def sha256_of(path: Path) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _mark(path: Path) -> Mark:
    try:
        return Mark.of(path)
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror or error}); see to its permissions") from error


def _is_of_disk(error: PixmendError) -> bool:
    """Whether writing failed because of the disk, and not because of this one picture's name or folder."""
    return (
        isinstance(error.__cause__, OSError) and error.__cause__.errno in OF_THE_DISK and isinstance(error, OutputError)
    )
