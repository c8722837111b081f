"""Folders: what `pixmend inpaint FOLDER` and `pixmend denoise FOLDER` do and say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_line import Run
from folder_work import SIZE, draw, draw_mask, four_pictures, results
from pixmend.denoising.folder import DenoiseWork
from pixmend.denoising.model_file import Denoiser, save_denoiser
from pixmend.errors import AllFailedError, SomeFailedError
from pixmend.folders import runner
from pixmend.folders.inpainting import InpaintWork
from pixmend.folders.journal import FOLDER
from pixmend.folders.pairing import Task
from pixmend.unet import UNetConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return four_pictures(tmp_path / "in")


TINY = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)


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
        (9, (folder.parent / "empty", "-o", output, *options)),
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
    for options in (("--sampler", "magic"), ("--device", "abacus")):
        done = run(*given, *options)
        assert done.code == 2, done
        assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("work", [InpaintWork, DenoiseWork])
def test_workers_in_another_folder_find_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: type[InpaintWork] | type[DenoiseWork]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert work(model=Path("model.safetensors")).model == tmp_path / "model.safetensors"
    assert work().model is None


def test_a_folder_is_not_named_as_a_picture(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    output = folder.parent / "out.TIF"
    given = ("inpaint", folder, "--masks", holes, "-o", output, "--model", tiny_model)
    for command in (given, (*given, "--dry-run"), ("denoise", folder, "-o", output)):
        done = run(*command)
        assert (done.code, output.exists()) == (2, False), done
        assert f"{output} is named as a file; give the name of a folder, such as {folder.parent / 'out'}" in done.err
    output.mkdir()  # whose folder it is may name it
    assert run(*given).code in (0, 20)
    assert results(output)


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


def test_dry_run_refuses_what_the_run_would(run: Run, folder: Path, holes: Path, tiny_model: Path) -> None:
    output = folder.parent / "out"
    given = ("inpaint", folder, "--masks", holes, "-o", output)
    for code, more in (
        (2, ("--quality", "worst")),
        (2, ("--sampler", "magic")),
        (2, ("--detail", "none")),
        (2, ("--max-memory", "much")),
        (2, ("--steps", 100_000)),
        (2, ("--blur", 5000)),
        (2, ("--grow-mask", 5000)),
        (2, ("--seed", 2**63 - 1)),
        (6, ("--model", folder / "a.png")),
    ):
        done = run(*given, *(() if code == 6 else ("--model", tiny_model)), *more, "--dry-run")
        assert (done.code, done.out, len(done.err.splitlines())) == (code, "", 1), done
    assert not output.exists()
    for more in (("--grow-mask", 40), ("--blur", 20)):
        for dry in ((), ("--dry-run",)):
            done = run(*given, "--model", tiny_model, *more, *dry)
            assert (done.code, (done.out + done.err).count("covers the whole picture")) == (21, 4), done
    wrong = ("inpaint", folder, "-o", output, "--model", tiny_model, "--mask-color", "no colour")
    assert [run(*wrong, *dry).code for dry in ((), ("--dry-run",))] == [2, 2]


def test_dry_run_cuts_grey_before_it_looks_for_what_was_not_measured(
    run: Run, tmp_path: Path, tiny_model: Path
) -> None:
    floats, mask = np.random.default_rng(0).random(SIZE, np.float32), np.zeros(SIZE, np.uint8)
    floats[1, 2], mask[1, 2], mask[5:9] = np.nan, 80, 255
    (tmp_path / "in").mkdir()
    Image.fromarray(floats).save(tmp_path / "in" / "a.tif")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ("inpaint", tmp_path / "in", "--masks", tmp_path / "mask.png", "--model", tiny_model, "-o")
    for more, code in (((), 21), (("--grow-mask", 4), 0)):  # what is grown over it is filled
        for dry in ((), ("--dry-run",)):
            done = run(*given, tmp_path / f"out{len(more)}", *more, *dry)
            assert (done.code, "what was not measured" in done.err + done.out) == (code, code == 21), done


def test_dry_run_refuses_what_was_not_measured(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    floats = np.random.default_rng(0).random(SIZE, np.float32)
    floats[1, 2] = np.nan
    (tmp_path / "in").mkdir()
    Image.fromarray(floats).save(tmp_path / "in" / "a.tif")
    draw_mask(tmp_path / "mask.png", column=9)
    inpaint = ("inpaint", tmp_path / "in", "--masks", tmp_path / "mask.png", "--model", tiny_model)
    for given in (inpaint, ("denoise", tmp_path / "in")):
        for more in ((), ("--dry-run",)):
            done = run(*given, "-o", tmp_path / given[0], *more)
            assert "not finite, or stand for what was not measured" in done.err + done.out, done
            assert done.code != 0 or more, done


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
    assert "the results are in" not in done.out + done.err
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


def test_denoise_stops_within_a_picture(tmp_path: Path) -> None:
    shape = UNetConfig(in_channels=3, channels=(32, 32), attention=(False, False), time_channels=16)
    model = save_denoiser(tmp_path / "d.safetensors", Denoiser.new("scaled", shape=shape, levels=(0.01, 1.0)))
    noise = np.random.default_rng(0).integers(0, 256, (700, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")

    def tick(step: int, steps: int) -> None:
        told.append((step, steps))
        if len(told) == 2:
            raise KeyboardInterrupt

    told: list[tuple[int, int]] = []
    task = Task("large.png", tmp_path / "large.png", None, tmp_path / "out.png")
    with pytest.raises(KeyboardInterrupt):
        DenoiseWork(model=model, level=0.2, device="cpu").prepare()(task, tmp_path / "staged.png", tick)
    assert told[-1][0] < told[-1][1]


def test_results_of_another_folder_are_never_replaced_or_taken_for_done(
    run: Run, folder: Path, tiny_model: Path
) -> None:
    """Two cameras have an IMG_0001 each, of one size in bytes, and perhaps of one time."""
    output, other = folder.parent / "out", folder.parent / "other"
    for place, value in ((folder, 40), (other, 90)):
        place.mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1], (value, 0, 0)).save(place / "same.bmp")
        os.utime(place / "same.bmp", (1_600_000_000, 1_600_000_000))
    mask = draw_mask(folder.parent / "hole.png", column=2)
    options = ("--masks", mask, "-o", output, "--model", tiny_model)
    assert run("inpaint", folder, *options).code == 0
    before = results(output)
    done = run("inpaint", other, *options)
    assert "same.bmp" in done.err
    assert f"is the result of {folder / 'same.bmp'}" in done.err
    assert done.code in (20, 21)
    assert results(output) == before
    assert run("inpaint", other, *options, "--overwrite").code == 0
    assert results(output)["same.bmp"] != before["same.bmp"]


def test_results_of_another_command_are_never_replaced(run: Run, folder: Path, tiny_model: Path) -> None:
    output, mask = folder.parent / "out", draw_mask(folder.parent / "hole.png", column=2)
    assert run("inpaint", folder, "--masks", mask, "-o", output, "--model", tiny_model).code == 0
    before = results(output)
    done = run("denoise", folder, "-o", output, "--level", "0.1")
    assert done.code == 21
    assert "was made by pixmend inpaint; choose another output folder, or give --overwrite" in done.err
    assert results(output) == before


def test_a_journal_s_place_that_is_taken_is_told_by_the_dry_run_as_well(
    run: Run, folder: Path, holes: Path, tiny_model: Path
) -> None:
    output = folder.parent / "out"
    output.mkdir()
    (output / FOLDER).write_text("mine")
    for more in ((), ("--dry-run",)):
        done = run("inpaint", folder, "--masks", holes, "-o", output, "--model", tiny_model, *more)
        assert (done.code, f"{output / FOLDER} is a file" in done.err) == (8, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_that_is_full_for_what_is_printed_is_one_line(folder: Path, holes: Path, tiny_model: Path) -> None:
    command: list[Any] = [
        sys.executable,
        "-m",
        "pixmend",
        "inpaint",
        folder,
        "--masks",
        holes,
        "-o",
        folder.parent / "out",
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*command, "--dry-run", "--json"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, "Traceback" in done.stderr) == (8, False)
    assert done.stderr.count("\n") == 1
