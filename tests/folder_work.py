"""Work on folders without a network: pictures are turned into their negatives, and may kill whoever works on them."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from pixmend.errors import PictureError
from pixmend.files import put_in_place
from pixmend.folders import runner
from pixmend.folders.journal import FOLDER, Journal
from pixmend.folders.pairing import Task, find
from pixmend.folders.runner import Summary, make_plan, one_by_one, perform
from pixmend.folders.work import Do, Tick
from pixmend.images import open_picture, save_picture
from pixmend.pictures import Picture

SIZE = (24, 32)  # (H, W) of the pictures here


@dataclass(frozen=True)
class Negatives:
    """Work that notes each beginning and each loading of the "model" as a file in a folder."""

    log: Path
    deaths: Mapping[str, int] = field(default_factory=dict)  # name -> how often who does it dies half-way through
    tint: int = 0
    device: str | None = None

    def settings(self) -> dict[str, Any]:
        return {"command": "negatives", "model": "none", "tint": self.tint}

    def check(self, task: Task) -> dict[str, Any]:
        open_picture(task.picture)
        return {}

    def prepare(self) -> Do:
        self._note("loaded")

        def do(task: Task, staged: Path, tick: Tick) -> dict[str, Any]:
            picture = open_picture(task.picture)
            tick(1, 2)
            self._note(f"began {task.name.replace('/', '|')}")
            if len(self.begun(task.name)) <= self.deaths.get(task.name, 0):
                staged.write_bytes(b"half of a pic")
                os.kill(os.getpid(), signal.SIGKILL)
            if "defect" in task.name:
                raise ZeroDivisionError("by zero")
            if "bad" in task.name:
                raise PictureError(f"{task.picture} is bad; give a good one")
            save_picture(Picture(np.uint8(255 - self.tint) - picture.samples), staged)
            return {"size": list(picture.size)}

        return do

    def begun(self, name: str) -> list[str]:
        """One entry for each time that a picture was begun."""
        return [file for file in os.listdir(self.log) if file.startswith(f"began {name.replace('/', '|')} ")]

    def _note(self, what: str) -> None:
        (self.log / f"{what} {uuid.uuid4().hex}").touch()


def run(folder: Path, output: Path, work: Negatives, **options: Any) -> Summary:
    """Run through a folder as the commands do."""
    overwrite, engine = bool(options.pop("overwrite", False)), options.pop("engine", one_by_one)
    with Journal.opened(output) as journal:
        plan = make_plan(find(folder, output), journal, work.settings(), overwrite=overwrite)
        return perform(plan, work, journal, engine, overwrite=overwrite, progress=lambda *_: None, **options)


MOMENTS = ("computing", "before the first line", "within the first line", "before the rename", "after the rename")

ALWAYS = "computing, whenever it is tried"


def die_at(moment: str, second: int = 2) -> None:
    """Have this process kill itself at a moment of the second picture that it does."""
    calls = iter(range(1, 99))

    def die_second() -> None:
        if next(calls) == second:
            os.kill(os.getpid(), signal.SIGKILL)

    writing, append = Journal.writing, Journal._append

    def dying_writing(journal: Journal, *given: Any) -> Any:
        die_second()
        return writing(journal, *given)

    def dying_append(journal: Journal, row: Mapping[str, Any]) -> None:
        if row["event"] == "writing" and next(calls) == second:
            with open(journal.file, "ab") as stream:
                stream.write(json.dumps(row)[:50].encode())
            os.kill(os.getpid(), signal.SIGKILL)
        append(journal, row)

    def dying_put(*given: Any, **options: Any) -> None:
        if moment == "before the rename":
            die_second()
        put_in_place(*given, **options)
        if moment == "after the rename":
            die_second()

    if moment == "before the first line":
        mock.patch.object(Journal, "writing", dying_writing).start()
    elif moment == "within the first line":
        mock.patch.object(Journal, "_append", dying_append).start()
    elif "the rename" in moment:
        mock.patch.object(runner, "put_in_place", dying_put).start()


if __name__ == "__main__":  # python folder_work.py FOLDER OUTPUT LOG MOMENT
    given_folder, given_output, given_log, given_moment = sys.argv[1:]
    die_at(given_moment)
    deaths = {MOMENTS[0]: 1, ALWAYS: 99}.get(given_moment, 0)
    run(Path(given_folder), Path(given_output), Negatives(Path(given_log), {"b.png": deaths}))


def draw(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def draw_mask(path: Path, size: tuple[int, int] = SIZE, column: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    hole = np.zeros(size, np.uint8)
    hole[6:14, column : column + 8] = 255
    Image.fromarray(hole).save(path)
    return path


def results(output: Path) -> dict[str, bytes]:
    """All files in a folder but ours."""
    found = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(FOLDER)}


def events(output: Path) -> list[tuple[str, str]]:
    """The journal's lines about pictures: what, and which."""
    rows = [json.loads(line) for line in (output / FOLDER / "journal.jsonl").read_text().splitlines()]
    return [(row["event"], row["picture"]) for row in rows if "picture" in row]


def four_pictures(folder: Path) -> Path:
    """A folder with four pictures, one of them a level below."""
    for seed, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.bmp"]):
        draw(folder / name, seed)
    return folder


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
