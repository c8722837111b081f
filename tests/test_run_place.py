"""Where a training is put: beside files of others, among its own pictures, over the model that it begins with."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from command_line import Run, contents, fails
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.denoising.task import EpochAverage
from pixmend.errors import OptionError, OutputExistsError, TrainingError
from pixmend.images import picture_files
from pixmend.locks import holder, locked
from pixmend.loop import Report, TrainConfig
from pixmend.training import train_model
from pixmend.unet import UNetConfig
from small_model import draw_photos, interrupt_after

SMALL = UNetConfig(channels=(16,), attention=(False,), time_channels=16)
CONFIG = TrainConfig(
    total_kimg=0.016, batch_size=4, warmup_kimg=0.004, measure_kimg=0.004, held_out_samples=4, holdout=0.3, workers=0
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return draw_photos(tmp_path / "photos")


def train(photos: Path, output: Path, **options: object) -> Model:
    options = {"model": Model.new(SMALL, size=16, seed=1), "size": 16, "device": "cpu", **options}
    return train_model(photos, output, CONFIG, **options)  # type: ignore[arg-type]


def test_a_training_among_its_own_pictures_can_be_resumed(data: Path) -> None:
    """What it draws into its folder is nothing to train on."""
    before = picture_files(data)
    train(data, data / "m.safetensors", progress=interrupt_after(2))
    assert [*(data / "m.run").glob("*.png")]
    assert picture_files(data) == before
    inside = train(data, data / "m.safetensors", resume=True)
    assert inside.legs[-1]["kimg"] == CONFIG.total_kimg


@pytest.mark.parametrize("name", ["init", "teacher"])
def test_a_model_is_not_replaced_by_what_begins_with_it(data: Path, tmp_path: Path, name: str) -> None:
    model = tmp_path / "m.safetensors"
    save_model(model, Model.new(SMALL, size=16))
    (tmp_path / "link.safetensors").symlink_to(model)
    before = contents(tmp_path)
    options: dict[str, object] = {"model": None, "overwrite": True, name: tmp_path / "link.safetensors"}
    options |= {"steps": 2} if name == "teacher" else {}
    with pytest.raises(OptionError, match="is what the training begins with, and would be replaced; name another"):
        train(data, model, **options)
    assert contents(tmp_path) == before
    assert load_model(model).legs == []


@pytest.mark.parametrize("command", ["train", "overfit"])
@pytest.mark.parametrize("name", ["log.csv", "lock"])
def test_files_of_others_stay(run: Run, data: Path, tmp_path: Path, name: str, command: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for one in (name, "my-notes.txt", "levels.png"):
        (folder / one).write_text("of somebody else\n")
    before = contents(folder)
    fails(
        run("denoise", command, "--data", data, "-o", folder), OutputExistsError.exit_code, f"{name} is no", "another"
    )
    assert contents(folder) == before


def test_a_run_that_is_over_keeps_its_log(run: Run, data: Path, tmp_path: Path) -> None:
    """Who deletes the large states of a run and starts it again by mistake loses nothing."""
    folder = tmp_path / "run"
    started = ["denoise", "train", "--data", data, "-o", folder, "--epochs", 0.2, "--device", "cpu"]
    assert run(*started).code == 0
    for state in folder.glob("state*"):
        state.unlink()
    for told in ("whose states are gone", "levels-"):
        before = contents(folder)
        fails(run(*started), OutputExistsError.exit_code, told, "choose another")
        assert contents(folder) == before
        (folder / "model.safetensors").unlink(missing_ok=True)  # it was moved elsewhere
        (folder / "log.csv").unlink(missing_ok=True)


def test_a_folder_that_was_there_stays_though_nothing_is_begun(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        done = run("denoise", "train", "--data", data, "-o", tmp_path / name, "--device", "nonsense")
        assert done.code == OptionError.exit_code
    assert (tmp_path / "empty").is_dir()
    assert not (tmp_path / "new").exists()


class Gone(io.StringIO):
    """A terminal that was closed."""

    asked = 0

    def write(self, text: str) -> int:
        self.asked += 1
        raise BrokenPipeError


def test_a_terminal_that_goes_away_stops_no_denoiser(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Gone()
    monkeypatch.setattr(sys, "stderr", gone)
    done = run("denoise", "train", "--data", data, "-o", tmp_path / "run", "--epochs", 2, "--device", "cpu")
    assert done.code == 0
    assert gone.asked >= 2, "a line for each epoch"
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("log", [None, "", "kimg,loss\n1,2\n", "kimg,batch_loss\n1,none\n", "kimg,batch_loss\n1"])
def test_the_average_of_an_epoch_does_without_its_log(tmp_path: Path, log: str | None) -> None:
    if log is not None:
        (tmp_path / "log.csv").write_text(log)
    average = EpochAverage(tmp_path / "log.csv", 80, 8)
    line = average.line(Report(5, 20, 0.3, 0.25, 1e-4, 9.0, 60.0), 2)
    assert "avg loss 0.2500" in line


def test_overfitting_that_was_stopped_tells_no_result(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stop(*report: object) -> None:
        calls.append(report)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pixmend.denoising.cli.progress_bar", lambda: nullcontext(stop))
    few = ["denoise", "overfit", "--data", data, "-o", tmp_path / "few", "--pictures", 2, "--device", "cpu"]
    fails(run(*few, "--steps", 5), 130, "stopped")
    assert len(calls) == 2
    fails(run(*few), TrainingError.exit_code, "choose another output")


def test_seeds_that_are_too_large_are_one_line(run: Run, data: Path, tmp_path: Path) -> None:
    fails(run("denoise", "overfit", "--data", data, "-o", tmp_path / "r", "--seed", 2**65), 2, "--seed")


def test_who_asks_for_a_holder_keeps_nobody_else_from_asking(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("process 1 on another machine")
    handle = os.open(lock, os.O_RDONLY)
    fcntl = pytest.importorskip("fcntl")
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # as one who asks at the same time
        assert holder(lock) is None
    finally:
        os.close(handle)
    with locked(lock):
        assert (holder(lock) or "").startswith(f"process {os.getpid()} on ")
