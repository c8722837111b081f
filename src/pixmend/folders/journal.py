"""The journal of an output folder: what was done there, with what, so that a run that was stopped or killed goes on.

One JSON object a line, appended and synced one by one. A picture takes two: "writing", with the hash of its result,
before the result is put in its place, and "done" after. Whatever moment a process is killed at, what is in the place is
the result before, or the new one, and the hash tells which. docs/folders.md describes the lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixmend.errors import OutputError
from pixmend.files import errors_as_one_line, write_atomically
from pixmend.folders.pairing import OURS, Task
from pixmend.folders.work import Mark, Outcome, sha256_of
from pixmend.locks import RUN_LOCK, holder, locked
from pixmend.platforms import sync

FOLDER, JOURNAL = OURS
STAGING = "staging"  # in our folder, as the journal
CURRENT = "current"  # in the staging folder: the name of the picture that is worked on
ADVICE = "mend that; then the same command goes on"


@dataclass(frozen=True)
class Entry:
    """What the journal knows of one result."""

    settings: str  # the identity of the settings it was made with
    picture: Mark
    mask: Mark | None
    sha256: str  # of the result

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Entry:
        """From a line "writing"."""
        mask = None if row["mask"] is None else Mark(**row["mask"])
        return cls(str(row["settings"]), Mark(**row["input"]), mask, str(row["output"]))


class Journal:
    """The journal of one output folder: read at once, appended to while its lock is held (`Journal.opened`)."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / FOLDER
        self.file, self.staging = self.folder / JOURNAL, self.folder / STAGING
        self.suspect = ""  # the picture that was worked on when the run before was killed
        self.guarded = True  # whether the lock keeps others out
        self.entries: dict[str, Entry] = {}  # name -> its last result
        self.settings: dict[str, dict[str, Any]] = {}  # identity -> settings
        self.damaged = 0  # lines that are none of ours
        self._whole = 0  # bytes of the file that are whole lines
        self._found: list[str] = []  # results in their places that lack the line "done"
        self._read()

    @classmethod
    @contextmanager
    def opened(cls, output: Path) -> Iterator[Journal]:
        """The journal for writing, alone among all processes; makes the output folder, but not the folder it is in.

        Raises OutputError where another run holds it, or the folder cannot be written to.
        """
        folder, was_there = output / FOLDER, os.path.exists(output)
        with ExitStack() as stack:
            check_place(output)
            with errors_as_one_line(output):
                folder.mkdir(parents=True, exist_ok=True)
                stack.callback(_remove_if_empty, folder, *([] if was_there else [output]))
                try:
                    lock = stack.enter_context(locked(folder / RUN_LOCK))
                except BlockingIOError:
                    raise in_use(output) from None
            journal = cls(output)
            journal.guarded = lock.guarded
            stack.callback(journal._tidy)
            journal._begin()
            yield journal

    def _begin(self) -> None:
        with suppress(OSError, ValueError, RecursionError):
            self.suspect = str(json.loads((self.staging / CURRENT).read_text("ascii")))
        with errors_as_one_line(self.folder, ADVICE):
            shutil.rmtree(self.staging, ignore_errors=True)  # what was computed by a run that was killed
            self.staging.mkdir(exist_ok=True)
        if not os.path.exists(self.file):
            write_atomically(self.file, lambda stream: stream.write(b""), overwrite=False, advice=ADVICE)
        for name in self._found:
            self.done(name, self.entries[name], {})

    def _tidy(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        with suppress(OSError):
            if not self.file.stat().st_size:
                self.file.unlink()

    def _name(self, settings: dict[str, Any]) -> str:
        """The identity of settings; they are written once, before the first line that names it."""
        identity = identity_of(settings)
        if identity not in self.settings:
            self._append({"event": "settings", "id": identity, "settings": settings})
            self.settings[identity] = settings
        return identity

    def writing(self, outcome: Outcome, settings: dict[str, Any]) -> Entry:
        """Note that a result, made with these settings, is about to be put in its place."""
        row = outcome.to_json()
        told = {"event": "writing", "picture": outcome.name, "settings": self._name(settings), "input": row["picture"]}
        told |= {"mask": row["mask"], "output": outcome.sha256}
        self._append(told)
        return Entry.of(told)

    def done(self, name: str, entry: Entry, figures: Mapping[str, Any]) -> None:
        """Note that it is there."""
        self._append({"event": "done", "picture": name, **figures})
        self.entries[name] = entry

    def failed(self, outcome: Outcome) -> None:
        """Note why there is no result."""
        row = {"event": "failed", "picture": outcome.name, "error": outcome.error, "exit_code": outcome.exit_code}
        self._append(row | ({"trace": outcome.trace} if outcome.trace else {}))

    def owns(self, task: Task) -> bool:
        """Whether what is in a picture's place is our last result for it, unchanged."""
        entry = self.entries.get(task.name)
        return entry is not None and _holds(task.output, entry.sha256)

    def _append(self, row: Mapping[str, Any]) -> None:
        line = (json.dumps(row) + "\n").encode()
        with errors_as_one_line(self.file, ADVICE), open(self.file, "r+b") as stream:
            stream.seek(self._whole)  # over the half of a line that a kill or a full disk may have left
            stream.write(line)
            stream.truncate()
            stream.flush()
            sync(stream.fileno())
        self._whole += len(line)

    def _read(self) -> None:
        begun: dict[str, Entry] = {}
        for line in self._lines():
            try:
                row = json.loads(line)
                event = row["event"]
                if event == "settings":
                    self.settings[row["id"]] = dict(row["settings"])
                elif event == "writing":
                    begun[_name_in(row)] = Entry.of(row)
                elif event == "done" and row["picture"] in begun:
                    self.entries[row["picture"]] = begun.pop(row["picture"])
            except (ValueError, LookupError, TypeError, RecursionError):  # the last: of brackets without end
                self.damaged += 1
        for name, entry in begun.items():  # killed in between: the hash tells whether the result is in its place
            if _holds(self.output / name, entry.sha256):
                self.entries[name] = entry
                self._found.append(name)

    def _lines(self) -> Iterator[bytes]:
        if not os.path.exists(self.file):
            return
        with errors_as_one_line(self.file, ADVICE), open(self.file, "rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):  # else half a line: what it was to say did not happen
                    self._whole += len(line)
                    yield line


def check_place(output: Path) -> None:
    """Raise OutputError where an output folder neither is nor can be made, or where what is ours in it is a link.

    By a link, what we write, and remove, would lie elsewhere.
    """
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"the output {output} is a file; give a folder for the results")
    if not os.path.isdir(output.parent):
        raise OutputError(f"the folder {output.parent} does not exist; make it first, or choose another output")
    if not os.access(output if os.path.exists(output) else output.parent, os.W_OK):
        raise OutputError(f"{output} cannot be written to; choose another output, or see to its permissions")
    folder = output / FOLDER
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder} is a file, and its place is for the journal; move it, or choose another output")
    for path in (folder, folder / JOURNAL, folder / STAGING, folder / RUN_LOCK):
        if os.path.islink(path):
            raise OutputError(f"{path} is a link, and may lead out of {output}; remove it, or choose another output")


def in_use(output: Path) -> OutputError:
    """What to say of an output folder that another run writes to."""
    who = holder(output / FOLDER / RUN_LOCK) or "another process"
    return OutputError(f"{output} is in use by a run ({who}); let it end or stop it, or choose another output")


def identity_of(settings: Mapping[str, Any]) -> str:
    """A short name for settings: equal where they are."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In words, how settings differ."""
    if not old:
        return "the journal does not say with what it was done"
    names = [name for name in new.keys() | old.keys() if old.get(name) != new.get(name)]
    told = ["the model changed" if n == "model" else f"{n} was {old.get(n)}, is {new.get(n)}" for n in sorted(names)]
    return "; ".join(told)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _name_in(row: Mapping[str, Any]) -> str:
    name = row["picture"]
    if not isinstance(name, str):
        raise TypeError("a picture's name is a text")
    return name


def _holds(path: Path, sha256: str) -> bool:
    try:
        return os.path.isfile(path) and sha256_of(path) == sha256
    except OSError:
        return False
