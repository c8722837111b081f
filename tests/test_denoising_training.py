"""Training a denoiser: killed and resumed equals undisturbed bit for bit; schedule, log, overfitting."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from pixmend.data import InpaintingDataset, Views
from pixmend.denoising.cifar import PictureSet
from pixmend.denoising.law import NoiseLaw
from pixmend.denoising.model_file import Denoiser, load_denoiser
from pixmend.denoising.overfit import overfit
from pixmend.denoising.samples import NoisyCrops, NoisyPictures
from pixmend.denoising.task import (
    EpochAverage,
    document_config,
    epoch_losses,
    noisy_batch,
    train_denoiser,
    train_photo_denoiser,
)
from pixmend.errors import DataError, OptionError, TrainingError
from pixmend.loop import Report, TrainConfig
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(16, 16), attention=(False, False), time_channels=16)
COUNT = 24


def drawn(count: int, side: int = 16) -> PictureSet:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count + 8, 3, 4, 4), np.uint8)
    pictures = coarse.repeat(side // 4, 2).repeat(side // 4, 3)
    return PictureSet(pictures[:count], pictures[count:])


PICTURES = drawn(COUNT)


def config_of(epochs: float, **changes: object) -> TrainConfig:
    config = document_config(COUNT, epochs=epochs, batch=8, lr=1e-3, seed=5)
    return dataclasses.replace(config, held_out_samples=8, **changes)  # type: ignore[arg-type]


def new(kind: str) -> Denoiser:
    return Denoiser.new(kind, shape=TINY, seed=1)  # type: ignore[arg-type]


def interrupt_after(steps: int) -> object:
    def progress(report: Report) -> None:
        if report.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    return progress


def rates(run: Path) -> list[tuple[str, str, str]]:
    rows = csv.DictReader((run / "log.csv").read_text().splitlines())
    return [(row["kimg"], row["lr"], row["batch_loss"]) for row in rows]


def same_state(a: Path, b: Path) -> None:
    one, other = load_file(a / "state.safetensors"), load_file(b / "state.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["timed", "blind", "scaled"])
def test_resumed_equals_undisturbed_bit_for_bit(tmp_path: Path, kind: str) -> None:
    """Batch statistics, moments, schedule and samples all go on; the learning rates are those of one schedule."""
    config = config_of(2)
    train_denoiser(PICTURES, tmp_path / "whole", config, denoiser=new(kind), device="cpu")
    for steps in (2, 5):
        stop = interrupt_after(steps)
        options = {"denoiser": new(kind), "device": "cpu", "resume": steps > 2, "progress": stop}
        train_denoiser(PICTURES, tmp_path / "stopped", config, **options)  # type: ignore[arg-type]
    train_denoiser(PICTURES, tmp_path / "stopped", config, denoiser=new(kind), device="cpu", resume=True)
    same_state(tmp_path / "whole", tmp_path / "stopped")
    assert rates(tmp_path / "whole") == rates(tmp_path / "stopped")
    assert len(rates(tmp_path / "whole")) == 6
    names = load_file(tmp_path / "whole" / "state.safetensors")
    assert any("running_mean" in name for name in names) == (kind == "blind")


PROGRAM = """
import os, signal, sys
import test_denoising_training as here
from pathlib import Path
run, kill_at = Path(sys.argv[1]), int(sys.argv[2])
def progress(report):
    if report.step == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
config = here.config_of(4, save_kimg=0.016)
resume = (run / "state.safetensors").exists()
here.train_denoiser(here.PICTURES, run, config, denoiser=here.new("blind"), device="cpu", resume=resume,
                    progress=progress)
"""


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    """SIGKILL leaves no time to save: the steps since then are done again. bench/denoise_kill.py kills more often."""
    train_denoiser(PICTURES, tmp_path / "whole", config_of(4, save_kimg=0.016), denoiser=new("blind"), device="cpu")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for kill_at in (3, 8, 0):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "killed"), str(kill_at)],
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        assert done.returncode == (-signal.SIGKILL if kill_at else 0)
    same_state(tmp_path / "whole", tmp_path / "killed")
    assert rates(tmp_path / "whole") == rates(tmp_path / "killed")


def test_document_config_is_the_document_s() -> None:
    config = document_config(50_000)
    assert (config.steps, config.batch_size, config.lr) == (125_000, 8, 2e-4)
    assert config.steps // 20 == 6250
    assert (config.weight_decay, config.adam_betas) == (0.01, (0.9, 0.999))
    assert config.ema_decay_at(0) == config.ema_decay_at(10**6) == 0
    assert config.lr_at(6250 * 10) == pytest.approx(1e-4)
    for k in (13, 14, 15):  # the author's last three epochs read 5.46e-05, 4.12e-05 and 2.93e-05
        assert config.lr_at(6250 * k) == pytest.approx(1e-4 * (1 + math.cos(math.pi * k / 20)))


@pytest.mark.parametrize("wrong", [{"epochs": 0.0}, {"epochs": float("inf")}, {"save_model_epochs": -1.0}])
def test_a_config_names_the_epochs_that_cannot_be(wrong: dict[str, float]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(OptionError, match=f"^{name} = {value} must be above 0 and finite"):
        document_config(COUNT, **wrong)  # type: ignore[arg-type]


def test_the_optimiser_is_torch_s_adamw_without_clipping(tmp_path: Path) -> None:
    """The first steps, written out with torch's own AdamW at its defaults."""
    config = config_of(1, bf16=False)
    trained = train_denoiser(PICTURES, tmp_path / "run", config, denoiser=new("scaled"), device="cpu")
    denoiser = new("scaled")
    network = denoiser.network.train()
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    samples = NoisyPictures(PICTURES.train, denoiser.law, seed=5)
    for step in range(config.steps):
        batch = samples.__getitems__(range(8 * step, 8 * step + 8))
        x0 = batch["x0"].float() / 127.5 - 1
        xt = x0 + (batch["t"] / 10)[:, None, None, None] * batch["noise"]
        loss = nn.functional.mse_loss(network(xt, batch["t"]), batch["noise"])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.param_groups[0]["lr"] = config.lr_at(step)
        optimiser.step()
    for value, expected in zip(trained.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-7)


def test_a_run_tells_what_it_did(tmp_path: Path) -> None:
    run = tmp_path / "run"
    average = EpochAverage(run / "log.csv", COUNT, 8)
    lines: list[str] = []

    def progress(report: Report) -> None:
        line = average.line(report, 2)
        lines.extend([line] if average.ended else [])

    train_denoiser(PICTURES, run, config_of(2), denoiser=new("scaled"), device="cpu", progress=progress)
    losses = epoch_losses(run / "log.csv", COUNT)
    logged = [float(row[2]) for row in rates(run)]
    assert losses == pytest.approx([np.mean(logged[:3]), np.mean(logged[3:])])
    expected = [f"epoch {i}/2: avg loss {value:.4f}" for i, value in enumerate(losses, 1)]
    assert [line.split(",")[0] for line in lines] == expected
    assert all("test loss" in line for line in lines)
    trained = load_denoiser(run / "model.safetensors")
    assert trained.legs[0]["epochs"] == 2
    assert trained.legs[0]["pictures"] == COUNT
    with Image.open(run / "levels-0000006.png") as figure:
        assert figure.size == (9 * (3 * 16 + 2), 5 * (3 * 16 + 2))
    with pytest.raises(TrainingError, match="--resume"):
        train_denoiser(PICTURES, run, config_of(2), denoiser=new("scaled"), device="cpu")
    other = dataclasses.replace(PICTURES, train=255 - PICTURES.train)
    with pytest.raises(TrainingError, match="pictures are not those that it was begun with"):
        train_denoiser(other, run, config_of(2), denoiser=new("scaled"), device="cpu", resume=True)
    with pytest.raises(OptionError, match="log of a training"):
        epoch_losses(run / "nowhere.csv", COUNT)


def test_the_average_of_an_epoch_is_begun_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("kimg,batch_loss\n0.008,9\n0.016,1\n0.024,2\n0.032,3\n")
    average = EpochAverage(log, pictures=24, batch_size=8)
    line = average.line(Report(5, 9, 0.0, 6.0, 1e-3, 1.0, 1.0), 3)  # the second epoch: steps 4, 5 and 6
    assert line.startswith("epoch 2/3: avg loss 4.5000")
    assert not average.ended
    average.line(Report(6, 9, 0.0, 6.0, 1e-3, 1.0, 1.0), 3)
    assert average.ended


def test_a_dropped_step_leaves_the_batch_statistics_as_they_were(tmp_path: Path) -> None:
    denoiser = new("blind")
    with torch.no_grad():
        denoiser.network.final.bias.fill_(float("inf"))  # type: ignore[union-attr, operator]
    before = {name: value.clone() for name, value in denoiser.network.state_dict().items()}
    with pytest.raises(TrainingError, match="no longer finite"):
        train_denoiser(PICTURES, tmp_path / "run", config_of(9), denoiser=denoiser, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in denoiser.network.state_dict().items())


def test_samples_are_a_function_of_their_number() -> None:
    samples = NoisyPictures(PICTURES.train, NoiseLaw(), seed=7)
    batch = samples.__getitems__(range(20, 52))
    for i, k in enumerate(range(20, 52)):
        assert all(torch.equal(batch[name][i], value) for name, value in samples[k].items())
    round_ = samples.__getitems__(range(COUNT, 2 * COUNT))["x0"].flatten(1)
    assert len({tuple(row) for row in round_[:, ::50].tolist()}) == COUNT  # every picture once a round


def test_each_time_comes_once_in_turn_and_in_any_place() -> None:
    turns = NoisyPictures(PICTURES.train, NoiseLaw()).__getitems__(range(900))["t"].reshape(100, 9)
    assert (turns.sort(dim=1).values == torch.arange(1, 10)).all()
    for place in turns.T:
        assert len(place.unique()) == 9  # none is bound to its place
    orders = {tuple(turn) for turn in turns.tolist()}
    assert len(orders) > 95


def test_the_loss_is_the_mean_squared_error_of_the_noise(tmp_path: Path) -> None:
    from pixmend.denoising.task import DenoisingTask

    samples = NoisyPictures(PICTURES.train, NoiseLaw())
    task = DenoisingTask(new("timed"), samples, None, config_of(1), tmp_path / "m.safetensors", {})

    class Half(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.full_like(x, 0.5)

    batch = samples.__getitems__(range(8))
    mean = float(task.error(Half(), batch)) / float(task.weight(batch))
    assert mean == pytest.approx(float(((batch["noise"] - 0.5) ** 2).mean()))
    assert task.held_out_loss(Half()) is None


def test_stored_samples_are_what_a_file_would_hold() -> None:
    law = NoiseLaw()
    batch = {
        "x0": torch.full((2, 3, 8, 8), 250, dtype=torch.uint8),
        "noise": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        "t": torch.full((2,), 5.0),
        "stored": torch.tensor([True, False]),
    }
    xt, eps = noisy_batch(law, batch)
    levels = (xt[0] + 1) * 127.5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert float(xt[0].max()) <= 1 < float(xt[1].max())
    torch.testing.assert_close(law.predict_x0(xt, 5, eps), batch["x0"].float() / 127.5 - 1)
    assert torch.equal(eps[1], batch["noise"][1])


def test_overfitting_a_handful(tmp_path: Path) -> None:
    handful = drawn(8)
    shape = UNetConfig(in_channels=3, channels=(32, 32), attention=(False, False), time_channels=32)
    fresh = Denoiser.new("scaled", shape=shape)
    result = overfit(handful, tmp_path / "run", steps=150, lr=3e-3, denoiser=fresh, device="cpu")
    linear = np.mean([0.25 / (0.25 + row["sigma"] ** 2) for row in result["levels"]])  # what it starts with
    assert result["loss"] < 0.35 * linear
    assert all(row["psnr"] > row["psnr_noisy"] + 3 for row in result["levels"])
    with Image.open(tmp_path / "run" / "comparison.png") as figure:
        assert figure.size == (8 * (3 * 16 + 2), 3 * (3 * 16 + 2))
    with pytest.raises(DataError, match="9 pictures"):
        overfit(PictureSet(handful.train, handful.test), tmp_path / "more", count=9)


def test_photographs_train_at_continuous_levels(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((40, 40), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    crops = InpaintingDataset(folder, 16, views=Views(enlarged=0.0), holdout=0.3, cache=tmp_path / "cache")
    samples = NoisyCrops(crops, NoiseLaw(), (0.01, 1.0))
    drawn_samples = [samples[k] for k in range(200)]
    sigmas = torch.stack([s["t"] for s in drawn_samples]) / 10
    assert 0.01 <= float(sigmas.min()) < 0.02
    assert 0.5 < float(sigmas.max()) <= 1
    assert 0.06 < float(sigmas.median()) < 0.17  # the middle of the logarithms is 0.1
    grey = [torch.equal(s["noise"][0], s["noise"][1]) for s in drawn_samples]
    assert 5 < sum(grey) < 40
    assert 70 < sum(bool(s["stored"]) for s in drawn_samples) < 130
    config = TrainConfig(total_kimg=0.032, batch_size=4, held_out_samples=8, workers=0)
    fresh = Denoiser.new("scaled", shape=TINY, levels=(0.01, 1.0), size=16)
    trained = train_photo_denoiser(samples, tmp_path / "run", config, denoiser=fresh, device="cpu")
    assert trained.levels == (0.01, 1.0)
    assert trained.legs[0]["held_out_loss"] is not None
