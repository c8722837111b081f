"""What `pixmend inpaint FOLDER` and `pixmend denoise FOLDER` share: options, the run, and what is said of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pixmend.console import progress_bar, say, shown, warnings_as_lines
from pixmend.errors import AllFailedError, OptionError, PixmendError, SomeFailedError
from pixmend.folders.journal import Journal, check_place
from pixmend.folders.pairing import find
from pixmend.folders.runner import Engine, Plan, Summary, make_plan, one_by_one, perform
from pixmend.folders.work import Outcome, Work
from pixmend.options import STOPPED
from pixmend.signals import stop_on_signal

ENGINES = ("local", "ray")
FINE = 1000  # parts of a picture that the progress bar tells apart

DryRun = Annotated[bool, typer.Option("--dry-run", help="For a folder: only say what would be done.")]
EngineName = Annotated[str, typer.Option("--engine", metavar="NAME", help="For a folder: local, or ray.")]
RayAddress = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="With ray: a cluster that runs; else one on this machine.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="With ray: how many hold the model; else one a GPU or core.")
]


def refuse_for_folder(given: Mapping[str, object]) -> None:
    """Raise OptionError where an option of one picture is given: name -> value."""
    for name, value in given.items():
        if value not in (None, False):
            raise OptionError(f"{name} is for one picture; leave it out for a folder")


@dataclass(frozen=True)
class FolderOptions:
    """The options that only folders have, and those that runs of folders take as they are."""

    dry_run: bool = False
    engine: str = "local"
    ray_address: str | None = None
    workers: int | None = None
    overwrite: bool = False
    as_json: bool = False

    def refuse_for_one_picture(self) -> None:
        """Raise OptionError where one of them is given and nothing is to be done with it."""
        given = {"--dry-run": self.dry_run, "--ray-address": self.ray_address, "--workers": self.workers}
        given["--engine"] = self.engine != ENGINES[0]
        for name, value in given.items():
            if value:
                raise OptionError(f"{name} is for folders; leave it out, or give a folder of pictures")

    def pick_engine(self) -> Engine:
        """The engine by its name; raises OptionError where it is not known, or ray not installed."""
        if self.engine not in ENGINES:
            raise OptionError(f"engine {self.engine!r} is not known; choose {' or '.join(ENGINES)}")
        if self.engine == "ray":
            from pixmend.folders.ray_engine import on_ray

            return on_ray(self.ray_address, self.workers)
        if self.ray_address or self.workers:
            raise OptionError("--ray-address and --workers are for --engine ray; give that as well, or leave them out")
        return one_by_one


def run_folder(folder: Path, output: Path, work: Work, options: FolderOptions, masks: Path | None = None) -> None:
    """Do all pictures of a folder, or say what would be done, and how it went; raises what the exit code is to be."""
    engine = options.pick_engine()
    check_place(output)
    found = find(folder, output, masks)
    _refuse_file_name(folder, output)
    for note in found.notes:
        say("note", note)
    if options.dry_run:
        plan = make_plan(found, Journal(output), work.settings(), overwrite=options.overwrite)
        _tell_plan(plan, work, as_json=options.as_json)
        return
    with Journal.opened(output) as journal:
        if not journal.guarded:
            say("note", "this file system knows no locks: a second run into this folder would not be noticed")
        if journal.damaged:
            say("note", f"{journal.damaged} lines of {journal.file} could not be read; what they told is done anew")
        plan = make_plan(found, journal, work.settings(), overwrite=options.overwrite)
        for why, count in Counter(plan.again.values()).items():
            say("note", f"{count} {'picture is' if count == 1 else 'pictures are'} done anew: {why}")
        with progress_bar() as update, stop_on_signal() as stopped, warnings_as_lines():

            def progress(done: float, total: int, failed: int) -> None:
                text = f"{int(done)} of {total}" + (f", {failed} failed" if failed else "")
                update(round(done * FINE), total * FINE, text)

            asked = options.overwrite
            summary = perform(plan, work, journal, engine, overwrite=asked, progress=progress, stopped=stopped)
    _tell_summary(summary, output, as_json=options.as_json)


def _refuse_file_name(folder: Path, output: Path) -> None:
    """Raise OptionError for a new folder that is named as a picture: a file is what was meant."""
    from pixmend.encoding import FORMATS

    if output.suffix.lower() in FORMATS and not os.path.lexists(output):
        raise OptionError(
            f"{folder} is a folder and gives a folder, and {output} is named as a file; give the name of a folder, "
            f"such as {output.with_suffix('')}"
        )


def _tell_plan(plan: Plan, work: Work, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [{"picture": name, "action": "keep"} for name in plan.before]
    refused = dict(plan.refused)
    with progress_bar() as update:
        for i, task in enumerate(plan.to_do):
            update(i, len(plan.to_do), f"{i} of {len(plan.to_do)}")
            row: dict[str, Any] = {"picture": task.name, "action": "do", "output": str(task.output)}
            row |= {} if task.mask is None else {"mask": str(task.mask)}
            row |= {"again": plan.again[task.name]} if task.name in plan.again else {}
            try:
                rows.append(row | work.check(task))
            except PixmendError as error:
                if Outcome.of_error(task.name, error).fatal:  # as the run would end
                    raise
                refused[task.name] = str(error)
    rows += [{"picture": name, "action": "refuse", "why": why} for name, why in refused.items()]
    rows.sort(key=lambda row: row["picture"])
    if as_json:
        print(json.dumps({"pictures": rows}))
    else:
        for row in rows:
            print(_line(row))
        counts = Counter(row["action"] for row in rows)
        print(f"{counts['do']} to do, {counts['keep']} done before, {counts['refuse']} refused; nothing was written")
    _raise_for(len(refused), len(rows))


def _line(row: dict[str, Any]) -> str:
    told = [f"{row['hole_share']:.1%} is hole"] if "hole_share" in row else []
    told += [f"mask {shown(row['mask'])}"] if "mask" in row else []
    told += [f"done anew: {row['again']}"] if "again" in row else []
    told += [shown(why) for why in (row.get("why"), *row.get("notes", ())) if why]
    return f"{row['action']:7} {shown(row['picture'])}" + (f": {'; '.join(told)}" if told else "")


def _tell_summary(summary: Summary, output: Path, *, as_json: bool) -> None:
    named: dict[str, list[str]] = {}
    for name, notes in summary.notes.items():
        for note in notes:
            named.setdefault(note, []).append(name)
    for note, names in named.items():  # what is said of many is said once; --json and the journal have it of each
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say("note", f"{shown(names[0])}{others}: {shown(note)}")
    for name, why in sorted(summary.failures.items()):
        say("failed", f"{shown(name)}: {shown(why)}")
    if as_json:
        print(json.dumps({"output": str(output), **summary.to_json()}))
    else:
        before = f", {summary.before} were before" if summary.before else ""
        failed = f", {len(summary.failures)} failed" if summary.failures else ""
        print(f"{summary.done} of {summary.pictures} pictures done{before}{failed}; {summary.seconds:.1f} s")
        if summary.left:
            print(f"{summary.left} are left; the same command goes on")
        if summary.done or summary.before:
            print("the results are in", shown(str(output)))
    if summary.left:
        raise typer.Exit(STOPPED)
    _raise_for(len(summary.failures), summary.pictures)


def _raise_for(failed: int, pictures: int) -> None:
    if failed == pictures:
        raise AllFailedError(f"none of {pictures} pictures could be done; the reasons are listed")
    if failed:
        raise SomeFailedError(
            f"{failed} of {pictures} pictures could not be done, for the reasons listed; mend them, then the same "
            "command does what is left"
        )
