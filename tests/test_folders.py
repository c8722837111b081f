"""Whole folders: pairing, the journal, what a kill leaves, and the commands."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import Run
from folder_work import ALWAYS, MOMENTS, Negatives
from folder_work import run as negatives
from pixmend.denoising.folder import DenoiseWork
from pixmend.denoising.model_file import Denoiser, save_denoiser
from pixmend.errors import AllFailedError, FileMissingError, MaskError, OptionError, OutputError, SomeFailedError
from pixmend.folders import runner
from pixmend.folders.inpainting import InpaintWork
from pixmend.folders.journal import FOLDER, Journal
from pixmend.folders.pairing import find
from pixmend.folders.work import Mark, Outcome
from pixmend.inputs import MaskOptions
from pixmend.unet import UNetConfig

SIZE = (24, 32)  # (H, W)
TINY = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where `Negatives` notes what it does."""
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


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


# -------------------------------------------------------------------------------------------------------- pairing


def pairs(folder: Path, masks: Path | None, output: Path | None = None) -> dict[str, str | None]:
    """The name of each picture -> of its mask."""
    found = find(folder, output or folder.parent / "out", masks)
    return {task.name: None if task.mask is None else task.mask.name for task in found.tasks}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_masks_are_paired_by_relative_name_with_any_extension(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    names = ["a.jpg", "sub/a.PNG", "sub/deep/b c.tiff", "line\nbreak.png", "ünï.webp", "v1.2 end.png"]
    touch(*(folder / name for name in [*names, "notes.txt", ".hidden.png", ".git/x.png"]))
    given = ["a.png", "sub/a.JPEG", "sub/deep/b c_mask.png", "line\nbreak.PNG", "v1.2 end.bmp"]
    touch(*(masks / name for name in given), masks / f"{unicodedata.normalize('NFD', 'ünï')}.png")
    found = pairs(folder, masks)
    assert list(found) == sorted(names)
    assert [unicodedata.normalize("NFC", str(mask)) for mask in found.values()] == [
        {"sub/a.PNG": "a.JPEG", "sub/deep/b c.tiff": "b c_mask.png", "ünï.webp": "ünï.png"}.get(name)
        or {"a.jpg": "a.png", "v1.2 end.png": "v1.2 end.bmp"}.get(name, "line\nbreak.PNG")
        for name in sorted(names)
    ]


def test_outputs_keep_relative_names(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "a.jpg", tmp_path / "in" / "sub" / "a.JPG")
    found = find(tmp_path / "in", tmp_path / "out")
    outputs = [task.output.relative_to(tmp_path / "out").as_posix() for task in found.tasks]
    assert outputs == ["a.jpg", "a.png", "sub/a.JPG"]


def test_pictures_of_one_stem_never_share_a_mask(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    touch(folder / "a.png", folder / "a.jpg", masks / "a.png")
    found = find(folder, tmp_path / "out", masks)
    assert [task.name for task in found.tasks] == ["a.png"], "its mask has exactly its name"
    assert "a.jpg_mask.png" in found.refused["a.jpg"]
    touch(masks / "a.jpg_mask.png")
    assert pairs(folder, masks) == {"a.jpg": "a.jpg_mask.png", "a.png": "a.png"}
    (masks / "a.png").rename(masks / "a.webp")
    assert "another extension" in find(folder, tmp_path / "out", masks).refused["a.png"]


def test_a_mask_that_is_missing_or_not_the_only_one_is_a_refusal(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    touch(*(folder / f"{name}.jpg" for name in "abc"), masks / "a.png", masks / "b.png", masks / "b.webp")
    touch(masks / "typo.png")
    found = find(folder, tmp_path / "out", masks)
    assert [task.name for task in found.tasks] == ["a.jpg"]
    assert "b.png, b.webp" in found.refused["b.jpg"]
    assert "no mask" in found.refused["c.jpg"]
    assert found.notes == [f"masks in {masks} that belong to no picture: 1, such as typo.png"]
    touch(masks / "b.jpg")
    assert pairs(folder, masks)["b.jpg"] == "b.jpg", "exactly its name goes before all"


def test_masks_beside_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.jpg", folder / "a_mask.png", folder / "b.png", folder / "b.jpg", folder / "b.jpg_mask.png")
    assert pairs(folder, folder) == {"a.jpg": "a_mask.png", "b.jpg": "b.jpg_mask.png"}
    assert "b.png" in find(folder, tmp_path / "out", folder).refused


def test_one_mask_for_all_and_none(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png", tmp_path / "in" / "stain.png")
    assert pairs(tmp_path / "in", tmp_path / "in" / "stain.png") == {"a.png": "stain.png", "b.png": "stain.png"}
    assert set(pairs(tmp_path / "in", None).values()) == {None}


def test_outputs_and_masks_within_the_folder_are_no_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "out" / "a.png", folder / "masks" / "a.png")
    assert pairs(folder, folder / "masks", folder / "out") == {"a.png": "a.png"}
    assert pairs(folder, None, folder / "out") == {"a.png": None, "masks/a.png": None}
    for clash in (folder, folder / "masks", tmp_path / "in" / "sub" / ".."):
        with pytest.raises(OutputError, match="choose another folder"):
            find(folder, clash, folder / "masks")


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    touch(folder / "a.png", elsewhere / "secret.png", elsewhere / "b.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "secret.png").symlink_to(elsewhere / "secret.png")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "others").symlink_to(elsewhere, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    found = find(folder, tmp_path / "out")
    assert [task.name for task in found.tasks] == ["a.png", "inside.png"]
    assert set(found.refused) == {"secret.png", "dangling.png", "pipe.png"}
    assert "leads out of" in found.refused["secret.png"]
    assert found.notes == [f"{folder / 'others'} is a link to a folder, which is not followed"]


def test_results_do_not_leave_the_output_folder_by_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    assert "leads" in find(tmp_path / "in", tmp_path / "out").refused["sub/a.png"]


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


def test_a_folder_that_cannot_be_listed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "closed" / "b.png")
    scan = os.scandir

    def scandir(path: Any) -> Any:  # permissions would not do: who runs the tests may be allowed everything
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find(tmp_path / "in", tmp_path / "out")
    assert [task.name for task in found.tasks] == ["a.png"]
    assert "Permission denied" in found.refused["closed"]
    with pytest.raises(FileMissingError, match=r"holds no picture.*Permission denied"):
        find(tmp_path / "in" / "closed", tmp_path / "out")


# ---------------------------------------------------------------------------------------------- a run, and the next one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one of them a level below."""
    for seed, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/d.bmp"]):
        draw(tmp_path / "in" / name, seed)
    return tmp_path / "in"


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


def test_stopping_between_steps(folder: Path, log: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True] * 99)  # at the start, then at a step and at the end of each picture
    summary = negatives(folder, tmp_path / "out", Negatives(log), stopped=lambda: next(asked))
    assert (summary.done, summary.left) == (1, 3)
    assert negatives(folder, tmp_path / "out", Negatives(log)).done == 3
    assert [name for event, name in events(tmp_path / "out") if event == "done"] == sorted(
        ["a.png", "b.png", "sub/c.png", "sub/d.bmp"]
    )


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


def test_what_travels_to_other_machines_arrives_as_it_was() -> None:
    mark = Mark(3, None, "ab")
    for outcome in (Outcome("line\nbreak", mark, mark, "/staged", "cd", {"share": 0.1}), Outcome("a", error="why")):
        assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    for work in (InpaintWork(hole=MaskOptions(color="red"), steps=3), DenoiseWork(level=0.1, device="cpu")):
        assert pickle.loads(pickle.dumps(work)) == work  # noqa: S301
    for error in (MaskError("m"), OptionError("o"), OutputError("x")):
        assert repr(Outcome.of_error("a", error).to_error()) == repr(error)


# ------------------------------------------------------------------------------------------------------- the commands


@pytest.fixture
def holes(folder: Path) -> Path:
    """The mask of each of the four pictures."""
    masks = folder.parent / "masks"
    for column, name in enumerate(["a.png", "b.png", "sub/c.webp", "sub/d.png"]):
        draw_mask(masks / name, column=column * 4 + 2)
    return masks


def test_inpaint_gives_each_picture_what_it_gets_alone(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    output = folder.parent / "out"
    options = ("--model", tiny_model, "--seed", 3, "--blur", 1, "--grow-mask", 1, "--sampler", "ddpm")
    draw(folder / "e.jpg")
    draw_mask(holes / "e.png")
    done = run("inpaint", folder, "--masks", holes, "-o", output, *options)
    assert done.code == 0
    assert "5 of 5 pictures done" in done.out
    for name, mask in (("e.jpg", "e.png"), ("a.png", "a.png"), ("sub/c.png", "sub/c.webp"), ("sub/d.bmp", "sub/d.png")):
        alone = folder.parent / f"alone{Path(name).suffix}"
        assert run("inpaint", folder / name, "--mask", holes / mask, "-o", alone, "--overwrite", *options).code == 0
        assert alone.read_bytes() == (output / name).read_bytes()


def test_inpaint_by_alpha_and_by_one_mask(run: Run, folder: Path, tiny_model: Path) -> None:
    output = folder.parent / "out"
    with Image.open(folder / "a.png") as image:
        clear = image.convert("RGBA")
    clear.paste((0, 0, 0, 0), (4, 4, 10, 10))
    clear.save(folder / "clear.png")
    done = run("inpaint", folder, "-o", output, "--model", tiny_model)
    assert done.code == SomeFailedError.exit_code == 20
    assert done.err.count("pixmend: failed: ") == 4
    assert done.err.splitlines()[-1].startswith("pixmend: error: 4 of 5 pictures")
    assert list(results(output)) == ["clear.png"]
    mask = draw_mask(folder.parent / "mask.png")
    draw(folder / "wide.png", size=(SIZE[0], SIZE[1] + 1))
    done = run("inpaint", folder, "--masks", mask, "-o", output, "--model", tiny_model, "--json")
    assert done.code == 20
    told = json.loads(done.out)
    assert (told["pictures"], told["done"], told["before"]) == (6, 5, 0)
    assert told["again"] == {"clear.png": "its mask was added"}
    assert list(told["failures"]) == ["wide.png"]
    assert "32 x 24" in told["failures"]["wide.png"], "a mask of another size is refused, not stretched"


def test_exit_codes(run: Run, folder: Path, tiny_model: Path) -> None:
    output, options = folder.parent / "out", ("--model", tiny_model)
    done = run("inpaint", folder, "-o", output, *options)
    assert done.code == AllFailedError.exit_code == 21
    assert "none of 4 pictures" in done.err
    (folder.parent / "empty").mkdir()
    for code, arguments in (
        (3, (folder.parent / "empty", "-o", output, *options)),
        (3, (folder, "--masks", folder.parent / "gone", "-o", output, *options)),
        (3, (folder, "-o", output, "--model", folder.parent / "gone")),
        (6, (folder, "-o", folder.parent / "new", "--model", folder / "a.png")),
        (2, (folder, "-o", output, *options, "--candidates", 2)),
        (2, (folder, "-o", output, *options, "--engine", "steam")),
        (2, (folder, "-o", output, *options, "--workers", 2)),
        (2, (folder / "a.png", "-o", folder.parent / "out.png", *options, "--dry-run")),
        (8, (folder, "-o", folder, *options)),
        (8, (folder, "-o", folder / "a.png", *options)),
        (8, (folder, "-o", folder.parent / "no" / "out", *options)),
    ):
        done = run("inpaint", *arguments)
        assert (done.code, done.out) == (code, ""), (arguments, done)
        assert [line[:15] for line in done.err.splitlines()] == ["pixmend: error:"]
    assert not (folder.parent / "new").exists(), "a run that came to nothing leaves nothing"


def test_what_is_wrong_for_all_stops_the_run(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    given = ("inpaint", folder, "--masks", holes, "-o", folder.parent / "out", "--model", tiny_model)
    for options in (("--sampler", "magic"), ("--device", "abacus"), ("--blur", 2, "--soft-mask")):
        done = run(*given, *options)
        assert done.code == 2, done
        assert len(done.err.splitlines()) == 1


def test_dry_run_says_all_and_writes_nothing(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    output, given = folder.parent / "out", ("inpaint", folder, "--masks", holes, "--model", tiny_model)
    (folder / "e.png").write_bytes(b"no picture")
    draw_mask(holes / "e.png")
    done = run(*given, "-o", output, "--dry-run")
    assert (done.code, output.exists()) == (20, False)
    share = f"{64 / (SIZE[0] * SIZE[1]):.1%}"
    assert f"do      sub/c.png: {share} is hole; mask {holes / 'sub' / 'c.webp'}\n" in done.out
    assert "refuse  e.png: " in done.out
    assert "4 to do, 0 done before, 1 refused; nothing was written" in done.out
    assert run(*given, "-o", output).code == 20
    draw_mask(holes / "a.png", column=20)
    told = json.loads(run(*given, "-o", output, "--dry-run", "--json").out)["pictures"]
    actions = {row["picture"]: row["action"] for row in told}
    assert actions == {"a.png": "do", "b.png": "keep", "e.png": "refuse", "sub/c.png": "keep", "sub/d.bmp": "keep"}
    assert told[0]["again"] == "its mask changed"


def test_what_is_to_note_of_many_is_said_once(run: Run, folder: Path, tiny_model: Path) -> None:
    mask = folder.parent / "mask.png"
    grey = np.full(SIZE, 0, np.uint8)
    grey[4:12, 4:12], grey[:4] = 255, 100
    Image.fromarray(grey).save(mask)
    given = ("inpaint", folder, "--masks", mask, "--model", tiny_model, "-o")
    done = run(*given, folder.parent / "out")
    assert done.code == 0
    assert done.err.startswith("pixmend: note: a.png and 3 more: 16.7% of the mask is grey")
    assert len(done.err.splitlines()) == 1
    told = json.loads(run(*given, folder.parent / "other", "--json").out)["notes"]
    assert list(told) == ["a.png", "b.png", "sub/c.png", "sub/d.bmp"]


def test_names_are_printed_on_one_line(run: Run, folder: Path, tiny_model: Path) -> None:
    draw(folder / "line\nbreak [bold].png")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"not UTF-8 in its name, and no picture")
    done = run("inpaint", folder, "-o", folder.parent / "out", "--model", tiny_model, "--json")
    assert "pixmend: failed: line\\nbreak [bold].png: " in done.err
    assert "caf\\udce9.png" in done.err
    assert len(done.err.splitlines()) == 7
    assert os.fsdecode(b"caf\xe9.png") in json.loads(done.out)["failures"]


def test_ctrl_c_stops_within_a_step_and_the_same_command_goes_on(
    run: Run, folder: Path, holes: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("inpaint", folder, "--masks", holes, "--model", tiny_model)
    assert run(*given, "-o", folder.parent / "whole").code == 0
    settle = runner._settle

    def interrupted(outcome: Any, *more: Any, **options: Any) -> Any:
        if outcome.name == "b.png":
            signal.raise_signal(signal.SIGINT)  # also here, where the result is put in its place
        return settle(outcome, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_settle", interrupted)
        done = run(*given, "-o", folder.parent / "out")
    assert done.code == 130
    assert "2 of 4 pictures done" in done.out
    assert "2 are left; the same command goes on" in done.out
    assert done.err == "pixmend: error: stopped\n"
    assert list(results(folder.parent / "out")) == ["a.png", "b.png"]
    assert run(*given, "-o", folder.parent / "out").code == 0
    assert results(folder.parent / "out") == results(folder.parent / "whole")


def test_the_command_killed_and_given_again(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    given = ["inpaint", str(folder), "--masks", str(holes), "--model", str(tiny_model), "-o"]
    assert run(*given, folder.parent / "whole").code == 0
    program = f"""
import os, signal
from pixmend import cli, images
save, calls = images.save_picture, iter(range(9))
def killed(*given, **options):
    if next(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return save(*given, **options)
images.save_picture = killed
cli.main({[*given, str(folder.parent / "out")]!r})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert list(results(folder.parent / "out")) == ["a.png", "b.png"]
    done = run(*given, folder.parent / "out")
    assert (done.code, done.err) == (0, "")
    assert "2 of 4 pictures done, 2 were before" in done.out
    assert results(folder.parent / "out") == results(folder.parent / "whole")


@pytest.mark.parametrize("page", ["folders.md", "folders.zh-CN.md"])
def test_the_journal_is_as_documented(run: Run, folder: Path, holes: Path, tiny_model: Path, page: str) -> None:
    (folder / "e.png").write_bytes(b"")
    draw_mask(holes / "e.png")
    assert run("inpaint", folder, "--masks", holes, "-o", folder.parent / "out", "--model", tiny_model).code == 20

    def keys(lines: str) -> dict[str, list[str]]:
        rows = [json.loads(line) for line in lines.splitlines()]
        nested = [[*row, *row.get("settings", [])] if row["event"] == "settings" else list(row) for row in rows]
        return {row["event"]: names for row, names in zip(rows, nested, strict=True)}

    text = (Path(__file__).parents[1] / "docs" / page).read_text("utf-8")
    documented = keys(text.partition("```json\n")[2].partition("```")[0])
    assert documented == keys((folder.parent / "out" / FOLDER / "journal.jsonl").read_text())


def test_denoise_a_folder(run: Run, folder: Path) -> None:
    shape = UNetConfig(in_channels=3, channels=(32, 32), attention=(False, False), time_channels=16)
    model = save_denoiser(folder.parent / "d.safetensors", Denoiser.new("scaled", shape=shape, levels=(0.01, 1.0)))
    output, options = folder.parent / "out", ("--model", model, "--device", "cpu")
    (folder / "bad.jpg").write_bytes(b"no picture")
    done = run("denoise", folder, "-o", output, *options)
    assert done.code == 20
    assert "4 of 5 pictures done, 1 failed" in done.out
    for name in ("a.png", "sub/d.bmp"):
        alone = folder.parent / f"alone{Path(name).suffix}"
        assert run("denoise", folder / name, "-o", alone, *options).code == 0
        assert alone.read_bytes() == (output / name).read_bytes()
    (folder / "bad.jpg").unlink()
    assert "0 of 4 pictures done, 4 were before" in run("denoise", folder, "-o", output, *options).out
    assert run("denoise", folder, "-o", output, *options, "--level", 0.1, "--dry-run").out.count("level was None") == 4
