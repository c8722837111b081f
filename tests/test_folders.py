"""Folders: the journal, what a kill leaves, and the run after it."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from folder_work import ALWAYS, MOMENTS, Negatives, draw, events, four_pictures, results, touch
from folder_work import run as negatives
from pixmend.denoising.folder import DenoiseWork
from pixmend.errors import BackendError, MaskError, MemoryLimitError, ModelFileError, OptionError, OutputError
from pixmend.folders import ray_engine, runner
from pixmend.folders.inpainting import InpaintWork
from pixmend.folders.journal import FOLDER, Journal
from pixmend.folders.pairing import Task
from pixmend.folders.work import Mark, Outcome, Work, attempt
from pixmend.inputs import MaskOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return four_pictures(tmp_path / "in")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where `Negatives` notes what it does."""
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def test_a_folder_is_done_once(folder: Path, log: Path, tmp_path: Path) -> None:
    work, output = Negatives(log), tmp_path / "out"
    first = negatives(folder, output, work)
    assert (first.pictures, first.done, first.before, first.left, first.failures) == (4, 4, 0, 0, {})
    for name in ("a.png", "b.png", "sub/c.png", "sub/d.bmp"):
        with Image.open(folder / name) as before, Image.open(output / name) as after:
            np.testing.assert_array_equal(np.asarray(after), 255 - np.asarray(before))
    whole, lines = results(output), events(output)
    second = negatives(folder, output, work)
    assert (second.done, second.before) == (0, 4)
    assert results(output) == whole
    assert events(output) == lines
    assert len([name for name in os.listdir(log) if name.startswith("loaded")]) == 1, (
        "not loaded where nothing is to do"
    )
    assert os.listdir(output / FOLDER) == ["journal.jsonl"]


def test_what_changed_is_done_anew_and_said(folder: Path, log: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    negatives(folder, output, Negatives(log))
    draw(folder / "a.png", 9)
    (output / "b.png").unlink()
    os.utime(folder / "sub" / "c.png")  # touched, and the same
    again = negatives(folder, output, Negatives(log))
    assert again.again == {"a.png": "the picture changed", "b.png": "its result is gone"}
    assert (again.done, again.before) == (2, 2)
    tinted = negatives(folder, output, Negatives(log, tint=3))
    assert set(tinted.again.values()) == {"tint was 0, is 3"}
    assert tinted.done == 4


def test_unchanged_times_and_sizes_are_believed(
    folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that going on with many pictures does not read all of them again."""
    for path in folder.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    negatives(folder, tmp_path / "out", Negatives(log))

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("pixmend.folders.work.sha256_of", unread)
    assert negatives(folder, tmp_path / "out", Negatives(log)).before == 4


def test_files_of_others_are_left_alone(folder: Path, log: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    draw(output / "a.png", 7)
    mine = (output / "a.png").read_bytes()
    summary = negatives(folder, output, Negatives(log))
    assert (summary.done, list(summary.failures)) == (3, ["a.png"])
    assert "--overwrite" in summary.failures["a.png"]
    assert (output / "a.png").read_bytes() == mine
    assert negatives(folder, output, Negatives(log), overwrite=True).done == 1
    draw(output / "b.png", 8)  # retouched by hand: it stays, also where it would have to be done anew
    assert negatives(folder, output, Negatives(log)).before == 4
    assert list(negatives(folder, output, Negatives(log, tint=1)).failures) == ["b.png"]


def test_names_that_are_one_to_the_file_system_do_not_replace_each_other(
    folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(folder / "A.png", 9)
    assert negatives(folder, tmp_path / "both", Negatives(log), overwrite=True).done == 5, "here they are two"
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path, **how: lstat(re.sub(r"a\.png$", "A.png", os.fspath(path)), **how))
    for _ in range(2):  # beside what this run did, and what the one before did
        summary = negatives(folder, tmp_path / "out", Negatives(log), overwrite=True)
        assert list(summary.failures) == ["a.png"]
        assert "A.png are one file here; rename one" in summary.failures["a.png"]
    assert (summary.done, summary.before) == (0, 4)


def test_failures_stop_nobody_else(folder: Path, log: Path, tmp_path: Path) -> None:
    draw(folder / "aa bad.png")
    draw(folder / "ab defect.png")
    (folder / "ac.png").write_bytes(b"no picture")
    summary = negatives(folder, tmp_path / "out", Negatives(log))
    assert summary.done == 4
    assert set(summary.failures) == {"aa bad.png", "ab defect.png", "ac.png"}
    assert summary.failures["ab defect.png"] == "a defect of pixmend: ZeroDivisionError: by zero"
    rows = [json.loads(line) for line in (tmp_path / "out" / FOLDER / "journal.jsonl").read_text().splitlines()]
    (defect,) = (row for row in rows if row.get("picture") == "ab defect.png")
    assert "folder_work.py" in defect["trace"]
    draw(folder / "ac.png")
    assert negatives(folder, tmp_path / "out", Negatives(log)).done == 1, "failures are tried again"


def test_a_full_disk_stops_the_run(folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        patch.setattr(os, "replace", full)
        patch.setattr(os, "rename", full)
        with pytest.raises(OutputError, match="disk is full"):
            negatives(folder, tmp_path / "out", Negatives(log))
    assert results(tmp_path / "out") == {}
    assert negatives(folder, tmp_path / "out", Negatives(log)).done == 4


def test_a_second_run_is_refused(folder: Path, log: Path, tmp_path: Path) -> None:
    refused = pytest.raises(OutputError, match=f"in use by a run .process {os.getpid()}")
    with Journal.opened(tmp_path / "out"), refused:
        negatives(folder, tmp_path / "out", Negatives(log))
    assert negatives(folder, tmp_path / "out", Negatives(log)).done == 4


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for output in (tmp_path / "new", tmp_path / "there"):
        with Journal.opened(output):
            assert (output / FOLDER).is_dir()
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(tmp_path / "there") == []
    with pytest.raises(OutputError, match="does not exist"), Journal.opened(tmp_path / "no" / "out"):
        pass


@pytest.mark.parametrize("linked", [".", "staging", "journal.jsonl", "lock"])
def test_nothing_is_written_or_removed_by_a_link_in_the_place_of_what_is_ours(
    folder: Path, log: Path, tmp_path: Path, linked: str
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    touch(elsewhere / "staging" / "precious.txt", elsewhere / "journal.jsonl", elsewhere / "lock")
    if linked == ".":
        output.mkdir()
        (output / FOLDER).symlink_to(elsewhere)
    else:
        (output / FOLDER).mkdir(parents=True)
        (output / FOLDER / linked).symlink_to(elsewhere / linked)
    with pytest.raises(OutputError, match="is a link"):
        negatives(folder, output, Negatives(log))
    assert (elsewhere / "staging" / "precious.txt").exists()
    assert not list(output.glob("*.*g"))
    assert not any(path.stat().st_size for path in (elsewhere / "lock", elsewhere / "journal.jsonl"))


def test_stopping_between_steps(folder: Path, log: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True] * 99)  # at the start, then at a step and at the end of each picture
    summary = negatives(folder, tmp_path / "out", Negatives(log), stopped=lambda: next(asked))
    assert (summary.done, summary.left) == (1, 3)
    assert negatives(folder, tmp_path / "out", Negatives(log)).done == 3
    assert [name for event, name in events(tmp_path / "out") if event == "done"] == sorted(
        ["a.png", "b.png", "sub/c.png", "sub/d.bmp"]
    )


@pytest.mark.parametrize("error", [ZeroDivisionError(), BackendError("OpenVINO crashed"), OptionError("too much")])
def test_whatever_comes_out_of_what_is_stopped_it_is_stopped(folder: Path, tmp_path: Path, error: Exception) -> None:
    def do(*_: object) -> dict[str, Any]:
        raise error

    def stopped(step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(do, Task("a.png", folder / "a.png", None, tmp_path / "out.png"), tmp_path, stopped)


def test_memory_that_ends_with_a_picture_is_no_defect(folder: Path, tmp_path: Path) -> None:
    def do(*_: object) -> dict[str, Any]:
        return {"array": np.empty(1 << 60, np.uint8)}

    task = Task("a.png", folder / "a.png", None, tmp_path / "out.png")
    outcome = attempt(do, task, tmp_path, lambda step, steps: None)
    assert (outcome.exit_code, outcome.fatal, outcome.trace) == (MemoryLimitError.exit_code, False, "")
    assert outcome.error.startswith("the memory that is free does not hold what is worked on")


# -------------------------------------------------------------------------------------- workers, without any cluster


def told_by_worker(work: Work, folder: Path, staging: Path) -> Outcome:
    """What a worker of a cluster hands back of a picture."""
    row = ray_engine._as_row(Task("a.png", folder / "a.png", None, staging / "a.png"))
    return Outcome.from_json(json.loads(ray_engine.Worker(work, str(staging))(row)["outcome"]))


def test_what_fails_in_a_worker_is_told(
    folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> None:
        raise error

    work = Negatives(log)
    assert told_by_worker(work, folder, tmp_path).error == ""
    with monkeypatch.context() as patch:
        patch.setattr(Negatives, "prepare", lambda work: fails(ModelFileError("the model is damaged")))
        told = told_by_worker(work, folder, tmp_path)
        assert (told.name, told.error, told.fatal) == ("a.png", "the model is damaged", True)
        patch.setattr(Negatives, "prepare", lambda work: fails(ZeroDivisionError("by zero")))
        told = told_by_worker(work, folder, tmp_path)
        assert told.error == "a defect of pixmend: ZeroDivisionError: by zero"
        assert "test_folders.py" in told.trace
    monkeypatch.setattr(ray_engine.Worker, "_tries", lambda worker, name: fails(OSError(28, "No space left on device")))
    told = told_by_worker(work, folder, tmp_path)
    assert (told.exit_code, told.fatal) == (OutputError.exit_code, True)
    assert "the disk is full" in told.error


@pytest.mark.parametrize(
    ("nodes", "work", "workers", "pool"),
    [
        ([{"CPU": 16, "GPU": 1}], {}, None, (1, {"num_gpus": 1, "num_cpus": 16})),
        ([{"CPU": 16, "GPU": 1}], {}, 8, (8, {"num_gpus": 0.125, "num_cpus": 2})),
        ([{"CPU": 16, "GPU": 1}], {}, 6, (6, {"num_gpus": 0.1666, "num_cpus": 2})),
        ([{"CPU": 4, "GPU": 2}], {}, 3, (3, {"num_gpus": 0.5, "num_cpus": 1})),
        ([{"CPU": 2, "GPU": 1}], {}, 4, (4, {"num_gpus": 0.25, "num_cpus": 0.5})),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 64}, {"CPU": 64}], {}, None, (4, {"num_gpus": 1, "num_cpus": 2})),
        ([{"CPU": 16, "GPU": 1}], {"device": "cpu"}, None, (16, {"num_cpus": 1})),
        ([{"CPU": 16, "GPU": 1}], {"backend": "openvino"}, 4, (4, {"num_cpus": 4})),
        ([{"CPU": 16, "GPU": 1}], {"backend": "onnx"}, None, (16, {"num_cpus": 1})),
        ([{"CPU": 2}], {}, 4, (4, {"num_cpus": 0.5})),
    ],
)
def test_workers_reserve_what_they_use(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    work: dict[str, Any],
    workers: int | None,
    pool: tuple[int, dict[str, float]],
) -> None:
    alive = [{"Resources": node, "Alive": True} for node in nodes]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: alive))
    assert ray_engine._pool(InpaintWork(**work), 100, workers) == pool


# ------------------------------------------------------------------------------------------------------------ kills


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_and_gone_on(folder: Path, log: Path, tmp_path: Path, moment: str) -> None:
    """SIGKILL with the second picture: what is there is whole, and the next run does the rest, each picture once."""
    negatives(folder, tmp_path / "whole", Negatives(log))
    whole = results(tmp_path / "whole")
    for file in log.iterdir():
        file.unlink()
    program = [sys.executable, Path(__file__).with_name("folder_work.py"), folder, tmp_path / "out", log, moment]
    assert subprocess.run([str(part) for part in program], check=False).returncode == -signal.SIGKILL
    there = results(tmp_path / "out")
    assert there == {name: whole[name] for name in (["a.png", "b.png"] if moment == "after the rename" else ["a.png"])}
    summary = negatives(folder, tmp_path / "out", Negatives(log))
    assert (summary.done, summary.before, summary.again) == (4 - len(there), len(there), {})
    assert results(tmp_path / "out") == whole
    assert sorted(name for event, name in events(tmp_path / "out") if event == "done") == sorted(whole)
    begun = [len(Negatives(log).begun(name)) for name in sorted(whole)]
    assert begun == [1, 1 if moment == "after the rename" else 2, 1, 1]
    assert os.listdir(tmp_path / "out" / FOLDER) == ["journal.jsonl"], "nothing is left of what was half done"


def test_a_picture_that_kills_whoever_tries_it_does_not_keep_the_others_waiting(
    folder: Path, log: Path, tmp_path: Path
) -> None:
    program = [sys.executable, Path(__file__).with_name("folder_work.py"), folder, tmp_path / "out", log, ALWAYS]
    for there in (["a.png"], ["a.png", "sub/c.png", "sub/d.bmp"]):
        assert subprocess.run([str(part) for part in program], check=False).returncode == -signal.SIGKILL
        assert sorted(results(tmp_path / "out")) == there


def test_a_kill_while_a_result_is_replaced(folder: Path, log: Path, tmp_path: Path) -> None:
    """The journal announces the new result, the place holds the old one: the hash tells them apart."""
    output = tmp_path / "out"
    negatives(folder, output, Negatives(log))
    entries = Journal(output).entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "put_in_place", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            negatives(folder, output, Negatives(log, tint=1))
    assert Journal(output).entries == entries
    assert negatives(folder, output, Negatives(log, tint=1)).done == 4


def test_damaged_lines_of_the_journal_cost_only_their_pictures(folder: Path, log: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    negatives(folder, output, Negatives(log))
    file = output / FOLDER / "journal.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for spoilt in (
        b"\xff\x00 not JSON\n",
        b"[]\n",
        b'{"event": "writing", "picture": "b.png"}\n',
        re.sub(rb'"picture": "[^"]*"', b'"picture": 3', lines[3]),
        b"[" * 100_000 + b"\n",
    ):
        file.write_bytes(b"".join([*lines[:3], spoilt, *lines[4:]]))
        found = Journal(output)
        assert found.damaged == 1
        assert set(found.entries) == {"a.png", "sub/c.png", "sub/d.bmp"}
    summary = negatives(folder, output, Negatives(log))
    assert list(summary.failures) == ["b.png"], "nobody knows whose its result is: it is left alone"


def test_a_place_is_the_same_by_another_name(folder: Path, tmp_path: Path) -> None:
    mark = Mark.of(folder / "a.png")
    (tmp_path / "link").symlink_to(folder)
    assert mark.is_of(tmp_path / "link" / "a.png")
    assert not mark.is_of(folder / "b.png")
    assert not mark.is_of(tmp_path / "nowhere" / "a.png")


def test_what_travels_to_other_machines_arrives_as_it_was() -> None:
    mark = Mark(3, None, "ab")
    for outcome in (Outcome("line\nbreak", mark, mark, "/staged", "cd", {"share": 0.1}), Outcome("a", error="why")):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    for work in (InpaintWork(hole=MaskOptions(color="red"), steps=3), DenoiseWork(level=0.1, device="cpu")):
        assert pickle.loads(pickle.dumps(work)) == work  # noqa: S301
    for error in (MaskError("m"), OptionError("o"), OutputError("x")):
        assert repr(Outcome.of_error("a", error).to_error()) == repr(error)
