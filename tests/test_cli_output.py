"""What goes wrong with outputs, options and on the way: one line, a code of its own, and nothing half written."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import Run, contents, fails, inpaint, picture_and_mask, samples
from pixmend import cli, options
from pixmend.efforts import DETAILS, QUALITIES
from pixmend.errors import FileMissingError, MemoryLimitError, ModelFileError, OutputError
from pixmend.images import load_image
from pixmend.samplers import SAMPLERS
from pixmend.soft_masks import RADIUS_LIMIT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture, a mask for it, and no more."""
    return picture_and_mask(tmp_path)


@pytest.mark.parametrize(
    ("output", "code", "says"),
    [
        ("nowhere/out.png", 8, "does not exist"),
        (".", 8, "is a folder"),
        ("out.xyz", 8, ".xyz"),
        ("picture.png", 7, "--overwrite"),
    ],
)
def test_bad_output(run: Run, folder: Path, tiny_model: Path, output: str, code: int, says: str) -> None:
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / output)), code, says)
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["inpaint", "picture.png", "--mask", "mask.png", "--candidates", "2", "-o", "."],
        ["extend", "picture.png", "--left", "3", "--candidates", "2", "-o", "/"],
        ["demo", "-o", "."],
    ],
)
def test_an_output_without_a_name(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    fails(run(*arguments), 8, f"{arguments[-1]} is a folder; name a file in it")
    assert contents(folder) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_what_is_no_file_is_not_replaced(run: Run, folder: Path, tiny_model: Path) -> None:
    os.mkfifo(folder / "out.png")
    (folder / "link.png").symlink_to("/dev/null")
    for name in ("out.png", "link.png"):
        more = ("-o", folder / name, "--overwrite")
        fails(run(*inpaint(folder, tiny_model, *more)), 8, name, "is left as it is")
    assert (folder / "out.png").is_fifo()
    assert (folder / "link.png").is_symlink()


@pytest.mark.parametrize("more", [("--candidates", 2), ("--save-steps", "steps"), ("--explain", "why.png")])
def test_a_preview_is_no_fill(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[object]) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    command = ("inpaint", "picture.png", "--mask", "mask.png", "--preview", "shown.png")
    fails(run(*command, *more), 2, str(more[0]), "give -o OUT as well")
    assert contents(folder) == before


def test_one_candidate_exists(run: Run, folder: Path, tiny_model: Path) -> None:
    (folder / "out-2.png").write_bytes(b"mine")
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--candidates", 2)), 7, "out-2.png")
    assert contents(folder) == before


def test_steps_exist(run: Run, folder: Path, tiny_model: Path) -> None:
    (folder / "steps").mkdir()
    (folder / "steps" / "step-000.png").write_bytes(b"mine")
    before = contents(folder)
    more = ("-o", folder / "out.png", "--save-steps", folder / "steps")
    fails(run(*inpaint(folder, tiny_model, *more)), 7, "step-000.png")
    assert contents(folder) == before


def test_steps_are_written_beside_what_is_not_theirs(run: Run, folder: Path, tiny_model: Path) -> None:
    others = ["stepladder.jpg", "steps.txt", "step-by-step.png", "step-000.png.bak"]
    (folder / "steps").mkdir()
    for name in others:
        (folder / "steps" / name).write_bytes(b"mine")
    more = ("-o", folder / "out.png", "--save-steps", folder / "steps")
    assert run(*inpaint(folder, tiny_model, *more)).code == 0
    assert all((folder / "steps" / name).read_bytes() == b"mine" for name in others)
    (folder / "out.png").unlink()
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, *more)), 7, "steps", "is left as it is")
    assert contents(folder) == before


@pytest.mark.parametrize("there", [True, False])
def test_steps_that_could_not_be_written_are_told_early(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    closed = folder / "closed"
    (closed / "steps" if there else closed).mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(  # who runs the tests may be allowed everything
        os,
        "access",
        lambda path, mode: not (mode == os.W_OK and Path(path).is_relative_to(closed)) and access(path, mode),
    )
    more = ("-o", folder / "out.png", "--save-steps", closed / "steps")
    fails(run(*inpaint(folder, tiny_model, *more)), 8, "closed", "cannot be written to")
    assert not (folder / "out.png").exists()


def test_full_disk(run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (folder / "out.png").write_bytes(b"old")
    before = contents(folder)
    monkeypatch.setattr("pixmend.files.os.fsync", full)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--overwrite")), 8, "the disk is full")
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["inpaint"],
        ["inpaint", "picture.png"],
        ["inpaint", "picture.png", "-o", "out.png", "--mystery"],
        ["inpaint", "picture.png", "-o", "out.png", "--steps", "many"],
        ["inpaint", "picture.png", "-o", "out.png", "--steps", "0"],
        ["inpaint", "picture.png", "-o", "out.png", "--candidates", "0"],
        ["inpaint", "picture.png", "-o", "out.png", "--blur", "-1"],
        ["inpaint", "picture.png", "-o", "out.png", "--seed", "-1"],
        ["mask", "no-such-kind", "16", "-o", "m.png"],
        ["mask", "thick", "16x", "-o", "m.png"],
        ["mask", "thick", "0", "-o", "m.png"],
    ],
)
def test_bad_options(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    fails(run(*arguments), 2)
    assert contents(folder) == before


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_bad_device(run: Run, folder: Path, tiny_model: Path, device: str) -> None:
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--device", device)), 2, device)


def test_what_is_refused_before_torch_is_loaded_is_what_is_not_known_afterwards() -> None:
    known = (tuple(SAMPLERS), tuple(QUALITIES), DETAILS)
    assert known == (options.SAMPLERS, options.QUALITIES, options.DETAILS)
    assert options.RADIUS_LIMIT == RADIUS_LIMIT


@pytest.mark.parametrize("moment", ["in the network", "while it is saved"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_repairing(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, number: int, moment: str
) -> None:
    from pixmend import platforms
    from pixmend.backends.with_torch import TorchNetwork

    place, name = (TorchNetwork, "__call__") if moment == "in the network" else (platforms, "sync")
    known = getattr(place, name)

    def interrupted(*given: object) -> object:
        signal.raise_signal(number)
        return known(*given)

    monkeypatch.setattr(place, name, interrupted)
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--backend", "torch")), 130, "stopped")
    assert contents(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("error", [ValueError("could not determine the shape"), ModelFileError("damaged")])
def test_a_signal_that_compiled_code_turns_into_another_error(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: Exception
) -> None:
    """Torch does so where it calls Python: what comes out then is no defect, and no damaged file."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr(importlib.import_module("pixmend.inpainting"), "inpainting", interrupted)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png")), 130, "stopped")


def test_memory_that_ends_anywhere_is_one_line(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(*_: object, **__: object) -> None:
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr("pixmend.images.open_picture", short_of_memory)
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png"))
    fails(done, MemoryLimitError.exit_code, "the memory that is free does not hold what is worked on")


def test_who_closes_the_pipe_is_told_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pixmend", "mask", "thin", "16", "-o", str(tmp_path / "mask.png")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (130, b"")
    assert (tmp_path / "mask.png").exists()


def test_defects_are_not_hidden(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(importlib.import_module("pixmend.inpainting"), "inpainting", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main([str(a) for a in inpaint(folder, tiny_model, "-o", folder / "out.png")])


def test_what_was_written_is_told_though_its_explanation_fails(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("why.png could not be written: the disk is full")

    monkeypatch.setattr("pixmend.explain.save_picture", full)
    for command in (
        inpaint(folder, tiny_model),
        ("extend", folder / "picture.png", "--left", 3, "--model", tiny_model),
    ):
        out = folder / f"{command[0]}.png"
        done = run(*command, "-o", out, "--explain", folder / "why.png")
        assert (done.code, done.err.count("\n")) == (OutputError.exit_code, 1)
        assert f"the result is in {out}" in done.out
        assert out.exists()
        assert not (folder / "why.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names there are no mere bytes")
@pytest.mark.parametrize(("encoding", "name"), [("utf-8:strict", b"odd \xff.png"), ("cp1252", "修补.png".encode())])
def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path, encoding: str, name: bytes) -> None:
    command = [sys.executable, "-m", "pixmend", "mask", "thin", "16", "-o", str(tmp_path / os.fsdecode(name))]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"is white" in done.stdout
    assert b"\\u" in done.stdout
    assert not done.stderr
    assert os.listdir(os.fsencode(tmp_path)) == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="the shell closes the streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_no_work_and_are_no_files(tmp_path: Path, closed: str) -> None:
    command = f'"{sys.executable}" -m pixmend mask thin 16 -o mask.png {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("is white" in done.stdout) == (closed == "2>&-")
    assert samples(tmp_path / "mask.png").shape == (16, 16)
    fails = f'"{sys.executable}" -m pixmend info nowhere.safetensors {closed}'
    done = subprocess.run(["sh", "-c", fails], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert ("does not exist" in done.stderr) == (closed == ">&-")


def test_control_characters_in_names_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    done = run("info", tmp_path / "evil\x1b[31mred.safetensors")
    assert "evil\\x1b[31mred" in done.err
    assert "\x1b" not in done.err


def test_names_that_no_mask_can_have_are_refused_before_the_work(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_work(*given: object, **how: object) -> None:
        raise AssertionError("the work was begun")

    monkeypatch.setattr("pixmend.scratches.find_scratches", no_work)
    monkeypatch.setattr("pixmend.masks.create_advanced_mask", no_work)
    monkeypatch.setattr("pixmend.demo.run_demo", no_work)
    for given in (("mask", "--scratches", folder / "picture.png"), ("mask", "thin", 16), ("demo",)):
        fails(run(*given, "-o", folder / "m.xyz"), 8, "m.xyz ends in .xyz")
    fails(run("demo", "-o", folder / "d.gif"), 8, "d.gif")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_pipes_are_told_for_what_they_are(run: Run, folder: Path, tiny_model: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    given = ("inpaint", folder / "picture.png", "--mask", folder / "pipe.png", "-o", folder / "out.png")
    fails(run(*given, "--model", tiny_model), 3, "pipe.png is a device or a pipe; save what it holds as a file")
    with pytest.raises(FileMissingError, match="is a device or a pipe"):
        load_image(folder / "pipe.png")
