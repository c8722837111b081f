"""The script that trains the model that ships: what it packs, and what a leg starts from."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixmend.checkpoint import Model, load_model, save_model
from pixmend.conditioning import network_input
from pixmend.data import InpaintingDataset
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.networks import PICTURE_DEVIATION, ScaledUNet
from pixmend.diffusion import Diffusion
from pixmend.loop import TrainConfig
from pixmend.unet import UNetConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
script = importlib.import_module("train_default_model")
sys.path.pop(0)


def drawn(folder: Path, count: int) -> Path:
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / "below" / f"{i}.png")
    return folder


def test_what_is_held_out_and_what_is_broken_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = drawn(tmp_path / "photos", 150)  # of which about three are held out
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    script.pack(photos, tmp_path / "packed")
    samples = InpaintingDataset(photos, 16, holdout=TrainConfig().holdout, cache=tmp_path / "cache")
    held_out = samples.held_out()
    assert held_out is not None
    packed = [path for path in (tmp_path / "packed").rglob("*") if path.is_file()]
    assert len(packed) == len(samples) == 150 - len(held_out)
    told = capsys.readouterr().out
    assert f"{len(held_out)} are held out" in told
    assert [sum(name in line for line in told.splitlines()) for name in ("broken.jpg", "gone.png")] == [1, 1]


def test_a_leg_goes_on_as_its_model_was_told(tmp_path: Path) -> None:
    small = UNetConfig(channels=(16,), attention=(False,), time_channels=16)
    file = save_model(tmp_path / "m.safetensors", Model.new(small, conditioning="residual"))
    assert script._start(file, None, 0).conditioning == "residual"
    assert script._start(file, "known-aware", 0).conditioning == "known-aware"
    with pytest.raises(SystemExit, match="7 input channels, but plain needs 3"):
        script._start(file, "plain", 0)
    assert script._start(None, None, 0).conditioning == "known-aware"
    assert script._start(None, "plain", 0).network.config.in_channels == 3


def test_legs_keep_the_noise_levels_of_the_model(tmp_path: Path) -> None:
    small = UNetConfig(channels=(16,), attention=(False,), time_channels=16)
    file = save_model(tmp_path / "m.safetensors", Model.new(small, diffusion=Diffusion(T=100)))
    options = argparse.Namespace(
        photos=drawn(tmp_path / "photos", 3),
        runs=tmp_path / "runs",
        init=file,
        leg=[(8, 0.008), (16, 0.008)],
        batch=4,
        lr=1e-4,
        balance=1.0,
        seed=0,
        conditioning=None,
        mean=False,
        device="cpu",
        cache=tmp_path / "cache",
    )
    script.run(options)
    last = script.load_model(tmp_path / "runs" / "leg-2-16.safetensors")
    assert last.diffusion.T == 100
    assert [(leg["size"], leg["kimg"]) for leg in last.legs] == [(8, 0.008), (16, 0.008)]


def test_the_part_for_narrow_holes_begins_as_the_denoiser_on_the_guide() -> None:
    shape = UNetConfig(in_channels=3, channels=(16, 32), attention=(False, False), time_channels=16)
    denoiser = Denoiser.new("scaled", shape=shape)
    assert isinstance(denoiser.network, ScaledUNet)
    torch.nn.init.normal_(denoiser.network.unet.last.weight, 0, 0.1)
    model = script.from_denoiser(denoiser)
    guide, hole, sigma = torch.rand(2, 3, 16, 16) * 2 - 1, torch.ones(2, 1, 16, 16), script.LITTLE
    with torch.no_grad():
        eps = denoiser.network(guide, torch.full((2,), sigma * denoiser.law.T))
        answer = model.network(network_input(torch.randn_like(guide), guide, hole, guide), torch.zeros(2))
    by_itself = guide * sigma**2 / (PICTURE_DEVIATION**2 + sigma**2)
    assert torch.allclose(answer, by_itself - sigma * eps, atol=1e-6)


def test_a_leg_for_narrow_holes_goes_on_from_that_part_and_is_shipped_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = UNetConfig(channels=(16,), attention=(False,), time_channels=16)
    default = tmp_path / "default.safetensors"
    monkeypatch.setattr("pixmend.model_files.DEFAULT_MODEL", default)
    monkeypatch.setattr(script, "DEFAULT_MODEL", default)
    save_model(default, Model.new(small, seed=1))
    alone = save_model(tmp_path / "alone.safetensors", Model.new(small, seed=2))
    with pytest.raises(SystemExit, match="has no part that answers the mean"):
        script._start_mean(alone)
    whole = Model.new(small, seed=3)
    whole.mean = Model.new_mean(small, seed=4)
    for model in (whole, whole.mean):
        file = save_model(tmp_path / "m.safetensors", model, overwrite=True)
        assert script._start_mean(file).answers_the_mean
        script.ship(file, None, None, mean=True)
        shipped = load_model(default)
        assert shipped.mean is not None
        assert (shipped.terms, shipped.mean.terms, shipped.mean.steps) == ("not stated", script.TERMS, 1)
    script.ship(alone, 3, None, mean=False)
    shipped = load_model(default)
    assert (shipped.steps, shipped.mean is not None) == (3, True), "another model keeps the part of the one before"
