"""The commands `pixmend denoise ...`: pictures, trainings that stop and go on, measures, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from command_line import Run
from pixmend.denoising.model_file import Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.task import EpochAverage
from pixmend.errors import MemoryLimitError
from pixmend.loop import Report
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(32, 32), attention=(False, False), time_channels=16)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return Denoiser.new("scaled", shape=TINY, levels=(0.01, 1.0))


@pytest.fixture
def model_file(denoiser: Denoiser, tmp_path: Path) -> Path:
    return save_denoiser(tmp_path / "tiny.safetensors", denoiser)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for part, count in (("train", 16), ("test", 4)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            values = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(values).save(folder / part / f"{i}.png")
    return folder


def test_command_with_and_without_its_name(run: Run, model_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)).save(picture, dpi=(72, 72))
    common = ["--model", model_file, "--level", "0.2"]
    for name, arguments in (
        ("a.png", ["denoise", picture, "-o", tmp_path / "a.png", *common]),
        ("b.png", ["denoise", "picture", picture, "-o", tmp_path / "b.png", *common]),
        ("c.png", ["denoise", "-o", tmp_path / "c.png", *common, picture]),
    ):
        done = run(*arguments)
        assert (done.code, done.err) == (0, "")
        assert "0.200 in [-1, 1], as given;" in done.out
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (31, 20)
        assert image.info["dpi"] == pytest.approx((72, 72), abs=0.1)
    done = run("denoise", picture, "-o", tmp_path / "d.png", "--model", model_file, "--json")
    told = json.loads(done.out)
    assert told["output"] == str(tmp_path / "d.png")
    assert told["estimated"] is True
    done = run("denoise", picture, "-o", tmp_path / "e.png", "--model", model_file, "--level", "0.003")
    assert "0.003 in [-1, 1], as given, held to 0.010, the nearest that the model knows" in done.out
    done = run("denoise", picture, "-o", tmp_path / "f.png", "--model", model_file, "--level", "0.0005")
    assert "0.001 in [-1, 1], as given: nothing was taken out" in done.out


def test_command_takes_one_page(run: Run, model_file: Path, tmp_path: Path) -> None:
    pages, alone = tmp_path / "pages.tif", tmp_path / "alone.tif"
    first, second = (Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 9, 3), np.uint8)) for i in range(2))
    first.save(pages, save_all=True, append_images=[second])
    second.save(alone)
    common = ["--model", model_file, "--level", "0.2"]
    done = run("denoise", pages, "-o", tmp_path / "out.png", *common)
    assert (done.code, "take one: of a picture to work on with --frame 1 to 2" in done.err) == (4, True)
    assert run("denoise", pages, "--frame", 2, "-o", tmp_path / "out.png", *common).code == 0
    assert run("denoise", alone, "-o", tmp_path / "same.png", *common).code == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert "--frame is for one picture" in run("denoise", tmp_path, "--frame", 2, "-o", tmp_path / "f", *common).err


def test_bad_input_is_one_line(run: Run, model_file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(picture)
    out, empty, mine = tmp_path / "out.png", tmp_path / "empty", tmp_path / "mine"
    empty.mkdir()
    mine.mkdir()
    for name in ("levels-0000010.png", "comparison.png"):
        (mine / name).write_bytes(b"mine")
    (mine / "log.svg").mkdir()
    for arguments, code, told in (
        (["denoise", picture, "-o", out, "--level", "2"], 2, "0 to 1"),
        (["denoise", picture, "-o", out, "--level", "much"], 2, "auto"),
        (["denoise", tmp_path / "no.png", "-o", out], 3, "does not exist"),
        (["denoise", picture, "-o", picture, "--model", model_file], 7, "--overwrite"),
        (["denoise", picture, "-o", out, "--model", picture], 6, "not a model file"),
        (["denoise", "train", "--data", tmp_path / "no", "-o", tmp_path / "run"], 3, "cifar"),
        (["denoise", "train", "--data", tmp_path, "-o", tmp_path / "run", "--network", "x"], 2, "timed"),
        (["denoise", "train", "--data", empty, "-o", tmp_path / "run", "--epochs", "0"], 2, "epochs"),
        (["denoise", "train", "--data", empty, "-o", tmp_path / "run", "--resume"], 10, "no state to resume"),
        (["denoise", "train", "--data", empty, "-o", mine], 7, "levels-0000010.png exists"),
        (["denoise", "train", "--data", empty, "-o", tmp_path / "run"], 9, "holds no picture"),
        (["denoise", "overfit", "--data", empty, "-o", mine], 7, "levels-0000010.png exists"),
        (["denoise", "evaluate", "--data", tmp_path, "--model", tmp_path / "no"], 3, "does not exist"),
        (["denoise", "evaluate", "--data", empty, "--model", picture], 6, "not a model file"),
        (["denoise", "evaluate", "--data", tmp_path, "--figures", __file__], 8, "is no folder"),
        (["denoise", "evaluate", "--data", tmp_path, "--overwrite"], 2, "give --figures DIR"),
        (["denoise", "evaluate", "--data", empty, "--figures", tmp_path / "drawn"], 9, "holds no picture"),
        (["denoise", "train", "--data", empty, "-o", picture], 8, "is no folder"),
        (["denoise", "train", "--data", empty, "-o", tmp_path / "run", "--device", "abacus"], 2, "abacus"),
        (["denoise", "overfit", "--data", empty, "-o", tmp_path / "run", "--device", "abacus"], 2, "abacus"),
        (["denoise", "train", "--data", empty, "-o", tmp_path / "run", "--init", picture], 6, "not a model file"),
        (
            ["denoise", "train", "--data", empty, "-o", tmp_path / "run", "--init", model_file, "--network", "timed"],
            2,
            "leave --network out",
        ),
    ):
        done = run(*arguments)
        assert done.code == code
        assert told in done.err
        assert done.err.count("\n") == 1
    assert not out.exists()
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "drawn").exists()
    (mine / "levels-0000010.png").unlink()
    (mine / "log.svg").rmdir()
    done = run("denoise", "overfit", "--data", empty, "-o", mine)
    assert (done.code, "comparison.png exists" in done.err) == (7, True)


def test_train_evaluate_and_overfit(run: Run, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run("denoise", "train", "--data", data, "-o", folder, "--epochs", 0.5, "--device", "cpu")
    assert done.code == 0
    assert "avg loss" in done.err
    model = folder / "model.safetensors"
    figures = tmp_path / "new" / "figures"
    evaluate = ["denoise", "evaluate", "--data", data, "--model", model, "--device", "cpu"]
    result = json.loads(run(*evaluate, "--json", "--pictures", 2, "--many-steps", 1, "--figures", figures).out)
    assert result.keys() == {"loss", "levels", "pictures", "many_steps"}
    assert result["loss"] == pytest.approx(np.mean([row["loss"] for row in result["levels"]]))
    keys = {"t", "sigma", "loss", "psnr_noisy", "psnr", "ssim", "sharpness"}
    assert [row.keys() for row in result["levels"]] == [keys] * 9
    assert sorted(p.name for p in figures.iterdir()) == ["levels.png", "many-steps.png"]
    assert "sharpness" in run(*evaluate, "--pictures", 1).out
    done = run("denoise", "overfit", "--data", data, "-o", tmp_path / "few", "--pictures", 2, "--steps", 2, "--json")
    assert json.loads(done.out)["pictures"] == 2
    assert (tmp_path / "few" / "comparison.png").exists()


def test_ctrl_c_saves_and_resume_goes_on(run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, broken, line = tmp_path / "straight", tmp_path / "broken", EpochAverage.line
    train = ["denoise", "train", "--data", data, "--epochs", 1.5, "--device", "cpu", "-o"]
    assert run(*train, straight).code == 0

    def interrupt(average: EpochAverage, report: Report, epochs: float) -> str:
        if report.step == 1:
            signal.raise_signal(signal.SIGINT)
        return line(average, report, epochs)

    monkeypatch.setattr(EpochAverage, "line", interrupt)
    done = run(*train, broken)
    assert done.code == 130
    assert "saved after step 1 of 3; the same command with --resume goes on" in done.out
    assert done.err.splitlines()[-1] == "pixmend: error: stopped"
    monkeypatch.setattr(EpochAverage, "line", line)
    assert run(*train, broken, "--resume").code == 0
    whole, resumed = (load_file(folder / "state.safetensors") for folder in (straight, broken))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_denoiser_is_trained_further(run: Run, data: Path, model_file: Path, tmp_path: Path) -> None:
    train = ["denoise", "train", "--data", data, "--epochs", 1, "--device", "cpu", "--init", model_file]
    assert run(*train, "-o", tmp_path / "on").code == 0
    before, after = load_denoiser(model_file), load_denoiser(tmp_path / "on" / "model.safetensors")
    assert (after.kind, len(after.legs)) == (before.kind, len(before.legs) + 1)
    moved = [(a - b).abs().max() for a, b in zip(after.network.parameters(), before.network.parameters(), strict=True)]
    assert 0 < max(moved) < 0.01, "two steps from where it was"
    assert (before.levels, after.levels, after.size) == ((0.01, 1.0), (0.1, 0.9), 32)


def test_a_batch_that_memory_does_not_hold_is_refused_before_anything_is_written(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmend.budget.free_memory", lambda device: 1 << 20)
    done = run("denoise", "train", "--data", data, "-o", tmp_path / "run", "--device", "cpu")
    assert (done.code, "a step with 8 samples of 32x32" in done.err) == (MemoryLimitError.exit_code, True)
    assert not (tmp_path / "run").exists()


def test_denoise_alone_is_its_help(run: Run) -> None:
    done = run("denoise")
    assert (done.code, done.err) == (0, "")
    assert done.out == run("denoise", "--help").out


def test_help_of_denoise_loads_no_torch() -> None:
    program = "from pixmend.cli import main\nassert main(['denoise', '--help']) == 0\nimport sys\n"
    program += "assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
