"""The command line: what bad input gets: one line, an exit code, nothing lost."""

from __future__ import annotations

import errno
import importlib
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import SIZE, Run, contents, fails, inpaint, picture_and_mask
from pixmend import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture, a mask for it, and no more."""
    return picture_and_mask(tmp_path)


def bomb() -> bytes:
    """A PNG of a few bytes that claims to be 100,000 x 100,000 pixels."""
    chunks = b""
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)),
        (b"IDAT", b""),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def spoil_picture(how: str, folder: Path) -> None:
    path = folder / "picture.png"
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated PNG":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "truncated JPEG":
        with Image.open(path) as image:
            image.save(folder / "whole.jpg")
        path.write_bytes((folder / "whole.jpg").read_bytes()[:900])
    elif how == "text":
        path.write_text("not a picture\n")
    elif how == "bomb":
        path.write_bytes(bomb())


def spoil_mask(how: str, folder: Path) -> None:
    path = folder / "mask.png"
    if how == "missing":
        path.unlink()
    elif how == "text":
        path.write_text("not a mask\n")
    else:
        shape = {"of another size": (SIZE[0], SIZE[1] + 1)}.get(how, SIZE)
        Image.fromarray(np.full(shape, 255 if how == "full" else 0, np.uint8)).save(path)


def test_an_empty_argument_is_not_the_current_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "", "-o", "model.safetensors")
    assert done.code == 2
    assert "an argument is empty" in done.err
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("missing", 3),
        ("folder", 9),
        ("empty", 4),
        ("truncated PNG", 4),
        ("truncated JPEG", 4),
        ("text", 4),
        ("bomb", 4),
    ],
)
def test_bad_picture(run: Run, folder: Path, tiny_model: Path, how: str, code: int) -> None:
    spoil_picture(how, folder)
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png")), code, "picture.png")
    assert contents(folder) == before


LONG = "x" * 300  # longer than file systems take: pathlib asks, and raises


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inpaint", LONG, "-o", "out.png"], 3),
        (["inpaint", "picture.png", "--mask", LONG, "-o", "out.png"], 3),
        (["inpaint", "picture.png", "--model", LONG, "-o", "out.png"], 3),
        (["inpaint", "picture.png", "--mask", "mask.png", "-o", f"{LONG}/out.png"], 8),
        (["inpaint", "picture.png", "--save-steps", LONG + "/steps", "-o", "out.png"], 8),
        (["inpaint", ".", "--masks", LONG, "-o", "out"], 3),
        (["inpaint", ".", "--model", LONG, "-o", "out"], 3),
        (["inpaint", ".", "--mask", "mask.png", "-o", LONG], 8),
        (["inpaint", ".", "--mask", "mask.png", "-o", f"{LONG}/out"], 8),
        (["extend", LONG, "--left", "3", "-o", "out.png"], 3),
        (["extend", "picture.png", "--left", "3", "--model", LONG, "-o", "out.png"], 3),
        (["mask", "--scratches", LONG, "-o", "out.png"], 3),
        (["mask", "thin", "16", "-o", f"{LONG}.png"], 8),
        (["denoise", LONG, "-o", "out.png"], 3),
        (["denoise", "picture.png", "--model", LONG, "-o", "out.png"], 3),
        (["denoise", ".", "-o", LONG], 8),
        (["denoise", "train", "--data", LONG, "-o", "run"], 3),
        (["train", LONG, "-o", "new.safetensors"], 3),
        (["train", f"{LONG}.tar", "-o", "new.safetensors"], 3),
        (["train", ".", "--init", LONG, "-o", "new.safetensors"], 3),
        (["info", LONG], 3),
        (["import", LONG, "-o", "new.safetensors"], 3),
        (["export", LONG, "-o", "new"], 3),
        (["evaluate", LONG, "-o", "report"], 3),
        (["evaluate", ".", "--model", LONG, "-o", "report"], 3),
    ],
)
def test_a_name_too_long(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(folder)
    before = contents(folder)
    fails(run(*arguments), code, LONG)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inpaint", "closed/picture.png", "-o", "out.png"], 3),
        (["inpaint", "picture.png", "--mask", "closed/mask.png", "-o", "out.png"], 3),
        (["inpaint", "picture.png", "--model", "closed/model.safetensors", "-o", "out.png"], 3),
        (["inpaint", "picture.png", "-o", "closed/within/out.png"], 8),
        (["inpaint", ".", "--mask", "mask.png", "-o", "closed/within/out"], 8),
        (["inpaint", ".", "--masks", "closed/masks", "-o", "out"], 3),
        (["denoise", "closed/picture.png", "-o", "out.png"], 3),
        (["train", "closed/pictures", "-o", "new.safetensors"], 3),
        (["import", "closed/weights", "-o", "new.safetensors"], 3),
        (["evaluate", "closed/pictures", "-o", "report"], 3),
    ],
)
def test_a_folder_that_may_not_be_searched(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    stat = os.stat

    def refused(path: object, *given: Any, **options: Any) -> Any:  # who runs the tests may be allowed everything
        if isinstance(path, (str, os.PathLike)) and "closed/" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return stat(path, *given, **options)  # type: ignore[arg-type]  # as it was given

    monkeypatch.chdir(folder)
    before = contents(folder)
    monkeypatch.setattr(os, "stat", refused)
    done = run(*arguments)
    monkeypatch.undo()
    fails(done, code, "closed/")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EACCES, 3), (errno.ENAMETOOLONG, 3), (errno.ENOSPC, 8), (errno.EROFS, 8)]
)
def test_a_path_that_the_system_refuses_anywhere_is_one_line(
    run: Run, folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(importlib.import_module("pixmend.inpainting"), "inpainting", refused)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png")), code, "some/file", os.strerror(number))


def test_commands_do_not_ask_pathlib_what_a_path_is() -> None:
    """It raises where the system refuses to say, and os.path answers no."""
    package = Path(cli.__file__).parent
    files = [*package.glob("*cli.py"), *package.glob("denoising/cli.py"), *package.glob("evaluation/cli.py")]
    files += [package / "options.py", package / "shards.py"]
    files += [*package.glob("folders/*.py"), *package.glob("adapters/*.py")]
    asking = re.compile(r"(?<!\bos\.path)\.(is_dir|is_file|exists)\(")
    found = [(f.name, line) for f in files for line in f.read_text("utf-8").splitlines() if asking.search(line)]
    assert len(files) > 20
    assert not found, "os.path.isdir, isfile and exists raise nothing"


@pytest.mark.parametrize("image", ["picture.png", "gone.png", "."])
def test_a_soft_mask_has_no_blur(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, image: str) -> None:
    monkeypatch.chdir(folder)
    given = ("inpaint", image, "--mask", "mask.png", "--soft-mask", "--blur", 3)
    for where in (("-o", "out"), ("--preview", "out.png")):
        fails(run(*given, *where), 2, "--soft-mask", "--blur")
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("missing", 3, "mask.png"),
        ("text", 4, "mask.png"),
        ("empty", 5, "0 %"),
        ("full", 5, "whole"),
        ("of another size", 5, "57 x 40"),
    ],
)
def test_bad_mask(run: Run, folder: Path, tiny_model: Path, how: str, code: int, says: str) -> None:
    spoil_mask(how, folder)
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png")), code, says)
    assert contents(folder) == before


def test_no_mask_and_no_alpha(run: Run, folder: Path, tiny_model: Path) -> None:
    before = contents(folder)
    fails(run("inpaint", folder / "picture.png", "--model", tiny_model, "-o", folder / "out.png"), 5, "mask")
    assert contents(folder) == before


def test_picture_of_one_pixel_is_all_hole(run: Run, folder: Path, tiny_model: Path) -> None:
    Image.new("RGB", (1, 1)).save(folder / "picture.png")
    Image.new("L", (1, 1), 255).save(folder / "mask.png")
    before = contents(folder)
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "out.png")), 5, "whole")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("how", "code"), [("missing", 3), ("empty", 6), ("text", 6), ("truncated", 6), ("damaged", 6), ("foreign", 6)]
)
def test_bad_model(run: Run, folder: Path, tiny_model: Path, how: str, code: int) -> None:
    good, path = tiny_model.read_bytes(), folder / "model.safetensors"
    header_end = 8 + int.from_bytes(good[:8], "little")
    foreign = b'{"__metadata__":{"format":"pt"}}'
    content = {
        "empty": b"",
        "text": b"not a model at all, but long enough for a header\n",
        "truncated": good[:-100],
        "damaged": good[:20] + b"\xff" * 40 + good[60:header_end] + good[header_end:],
        "foreign": len(foreign).to_bytes(8, "little") + foreign,
    }
    if how != "missing":
        path.write_bytes(content[how])
    before = contents(folder)
    fails(run(*inpaint(folder, path, "-o", folder / "out.png")), code, "model.safetensors")
    assert contents(folder) == before
    if how != "truncated":  # its header is whole, and that is all `info` reads
        fails(run("info", path), code, "model.safetensors")


def test_bad_input_is_told_before_torch_is_loaded(folder: Path, tiny_model: Path) -> None:
    spoil_mask("of another size", folder)
    (folder / "text.png").write_text("not a picture\n")
    picture, output = str(folder / "picture.png"), str(folder / "out.png")
    cases = [
        ["inpaint", str(folder / "gone.png"), "-o", output],
        ["inpaint", str(folder / "text.png"), "-o", output],
        ["inpaint", picture, "-o", picture],
        ["inpaint", picture, "--mask", str(folder / "mask.png"), "-o", output],
        ["inpaint", picture, "--model", str(folder / "gone.safetensors"), "-o", output],
        ["inpaint", picture, "--quality", "worst", "-o", output],
        ["extend", picture, "--left", "3", "--max-memory", "much", "-o", output],
        ["train", str(folder / "gone"), "-o", str(folder / "new.safetensors")],
        ["train", str(folder), "-o", str(tiny_model)],
        ["train", str(folder), "-o", str(folder / "new.safetensors"), "--resume"],
        ["train", str(folder), "-o", str(folder / "new.safetensors"), "--lr", "0"],
    ]
    program = f"import sys\nfrom pixmend.cli import main\ncodes = [main(case) for case in {cases!r}]\n"
    program += "print(codes, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[3, 4, 7, 5, 3, 2, 2, 3, 7, 10, 2] False\n"
