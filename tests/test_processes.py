"""Several processes: what they learn together is what one learns alone, and they speak with one voice."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import two_processes
from pixmend.batches import batches
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.errors import OptionError
from pixmend.processes import ALONE, Processes, joined, rank, speaks
from pixmend.train_config import TrainConfig
from small_model import draw_photos
from two_processes import CONFIG, LAST, POISONED, SHAPE, shards, training

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
BY_TWO = ("whole", "begun-by-two", "begun-by-one", "poisoned", "shards", "shards-begun-by-two", "shards-begun-by-one")


def torchrun(*arguments: object, **environment: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    return subprocess.run([*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, check=False, env=env)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What pixmend said; torchrun says much of its own."""
    return [line for line in done.stderr.splitlines() if line.startswith("pixmend: error:")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = draw_photos(tmp_path_factory.mktemp("photos"))
    for k in range(3):
        with tarfile.open(shards(folder).replace("{0..2}", str(k)), "w") as archive:
            for i in range(4 * k, 4 * k + 4):
                archive.add(folder / f"{i}.png", f"{i}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# ------------------------------------------------------------------------------------------------ two beside one alone


class Trained:
    """The same trainings by one process, in `one`, and by two, in `two`."""

    def __init__(self, photos: Path, folder: Path) -> None:
        """Those by two find no decoded pictures, and decode."""
        self.one, self.two = folder / "one", folder / "two"
        self.one.mkdir()
        self.two.mkdir()
        for kind in ("", "shards-"):
            training(photos, self.two, f"{kind}begun-by-one")
        self.steps_of_one = steps(self.two / "begun-by-one.safetensors")
        done = torchrun(two_processes.__file__, photos, self.two, *BY_TWO, XDG_CACHE_HOME=folder / "cache")
        assert done.returncode == 0, done.stderr
        self.steps_of_two = steps(self.two / "begun-by-two.safetensors")
        for kind in ("", "shards-"):
            training(photos, self.two, f"{kind}begun-by-two")
        for name in ("whole", "shards", "poisoned"):
            training(photos, self.one, name)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(photos, tmp_path_factory.mktemp("trained"))


def steps(output: Path) -> int:
    return round(float(load_model(output).legs[-1]["kimg"]) * 1000 / CONFIG.batch_size)


def rows(output: Path) -> list[dict[str, str]]:
    with open(output.with_suffix(".run") / "log.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same(a: Path, b: Path) -> None:
    """The same within rounding: every loss on the way, and all weights and averages at the end."""
    assert [row["kimg"] for row in rows(a)] == [f"{0.004 * n:.6g}" for n in range(1, CONFIG.steps + 1)]
    for name in ("kimg", "loss", "lr"):
        one, other = ([float(row[name]) for row in rows(output)] for output in (a, b))
        np.testing.assert_allclose(one, other, rtol=1e-4)
    states = [load_file(output.with_suffix(".run") / "state.safetensors") for output in (a, b)]
    for name in states[0]:
        if not name.startswith("adam."):
            torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole", "begun-by-two", "begun-by-one"])
def test_two_learn_what_one_learns(trained: Trained, name: str) -> None:
    assert_same(trained.one / "whole.safetensors", trained.two / f"{name}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shards", "shards-begun-by-two", "shards-begun-by-one"])
def test_two_learn_from_shards_what_one_learns(trained: Trained, name: str) -> None:
    assert_same(trained.one / "shards.safetensors", trained.two / f"{name}.safetensors")


@pytest.mark.slow
def test_a_ctrl_c_in_one_process_stops_both_after_the_same_step(trained: Trained) -> None:
    assert trained.steps_of_two == trained.steps_of_one == LAST // CONFIG.batch_size + 1


@pytest.mark.slow
def test_a_bad_half_of_a_step_drops_it_in_both(trained: Trained) -> None:
    assert_same(trained.one / "poisoned.safetensors", trained.two / "poisoned.safetensors")
    notes = [(folder / "poisoned.run" / "notes.txt").read_text() for folder in (trained.one, trained.two)]
    assert notes[0].startswith(f"step {POISONED // CONFIG.batch_size}: loss nan")
    assert notes[0].count("\n") == 1
    assert notes[0] == notes[1]


@pytest.mark.slow
def test_one_process_decodes_and_writes(trained: Trained) -> None:
    assert [p.name for p in trained.two.glob("decoded-by-*")] == ["decoded-by-0"]
    names = [sorted(p.name for p in (folder / "whole.run").iterdir()) for folder in (trained.one, trained.two)]
    assert names[0] == names[1]
    assert load_model(trained.two / "whole.safetensors").legs[-1]["device"].startswith("2 x CPU")


# ------------------------------------------------------------------------------------------------------------ one voice


@pytest.mark.slow
def test_an_error_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = torchrun("-m", "pixmend", "train", tmp_path / "empty", "-o", tmp_path / "m.safetensors", "--device", "cpu")
    assert done.returncode != 0
    assert len(errors(done)) == 1, done.stderr
    assert "holds no picture to train on" in errors(done)[0]
    assert "pixmend/training.py" not in done.stderr  # no traceback of ours
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.slow
def test_the_command_by_two_in_parts_learns_what_it_does_alone(photos: Path, tmp_path: Path) -> None:
    init = save_model(tmp_path / "init.safetensors", Model.new(SHAPE, size=16, seed=1))
    outputs = tmp_path / "alone.safetensors", tmp_path / "two.safetensors"
    own = [
        (
            "train",
            photos,
            "-o",
            output,
            "--init",
            init,
            "--kimg",
            0.032,
            "--batch",
            8,
            "--device",
            "cpu",
            "--workers",
            0,
        )
        for output in outputs
    ]
    alone = [sys.executable, "-m", "pixmend", *map(str, own[0])]
    assert subprocess.run(alone, capture_output=True, check=False).returncode == 0
    done = torchrun("-m", "pixmend", *own[1], "--accumulate", 2)
    assert done.returncode == 0, done.stderr
    losses = [[float(row["batch_loss"]) for row in rows(output)] for output in outputs]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)  # in bfloat16, where the processor has it
    assert len(losses[0]) == 4
    assert done.stdout.count("the model is in") == 1
    assert load_model(outputs[1]).legs[-1]["device"].startswith("2 x CPU")


@pytest.mark.slow
def test_ctrl_c_at_torchrun_saves(photos: Path, tmp_path: Path) -> None:
    torchrun(two_processes.__file__, photos, tmp_path, "interrupted")
    done = steps(tmp_path / "interrupted.safetensors")
    assert 3 <= done < CONFIG.steps
    assert len(rows(tmp_path / "interrupted.safetensors")) == done


def test_the_first_that_asks_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True)  # type: ignore[attr-defined]  # as torchrun's
    told = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": 2, "RANK": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**told, "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(name, str(value))
    assert rank() == 1
    assert [speaks(), speaks()] == [True, False]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert speaks()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert [rank(), speaks(), speaks()] == [0, True, True]


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    second = Processes(rank=1, count=2, local_rank=1, local_count=2)
    assert second.device("cpu") == torch.device("cpu")
    with monkeypatch.context() as on_a_mac:
        on_a_mac.setattr("pixmend.runtime.pick_device", torch.device)
        with pytest.raises(OptionError, match="not on mps"):
            second.device("mps")
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert (second.device(None), second.device("cuda")) == (torch.device("cuda", 1), torch.device("cuda", 1))
    assert chosen == [1, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(OptionError, match="2 processes have 1 GPUs"):
        second.device("cuda")


# -------------------------------------------------------------------------------------------------- without a launcher


def test_without_torchrun_there_is_one_process() -> None:
    with joined() as processes:
        assert processes is ALONE
    assert not torch.distributed.is_initialized()
    assert (rank(), speaks()) == (0, True)
    assert (ALONE.total(2, 0.5), ALONE.any(True), ALONE.any(False)) == ([2, 0.5], True, False)
    network = nn.Linear(1, 1)
    assert ALONE.replicate(network) is network


class Numbers(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Samples that know their number."""

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        return {"k": torch.tensor(k)}


@pytest.mark.parametrize(("count", "accumulate"), [(1, 1), (1, 4), (2, 1), (4, 3), (12, 1)])
def test_each_sample_is_taken_once_in_its_step(count: int, accumulate: int) -> None:
    config = TrainConfig(total_kimg=0.06, batch_size=12, accumulate=accumulate, workers=0)
    taken: dict[int, list[int]] = {}
    for number in range(count):
        parts = batches(Numbers(), config, torch.device("cpu"), 2, Processes(number, count), print)
        for step, of_step in enumerate(parts, 2):
            assert [len(part["k"]) for part in of_step] == [12 // count // accumulate] * accumulate
            taken.setdefault(step, []).extend(int(k) for part in of_step for k in part["k"])
    assert taken == {step: list(range(12 * step, 12 * step + 12)) for step in (2, 3, 4)}


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(OptionError, match="a multiple of 3"):
        TrainConfig(batch_size=32, accumulate=3)
    with pytest.raises(OptionError, match=r"3 processes x accumulate = 2.*a multiple of 6"):
        TrainConfig(batch_size=32, accumulate=2).part_size(3)
    with pytest.raises(OptionError, match="accumulate = 0"):
        TrainConfig(accumulate=0)
    assert TrainConfig(batch_size=36, accumulate=2).part_size(3) == 6
