"""Training of the part that answers the mean, for narrow holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixmend.checkpoint import Model, save_model
from pixmend.data import InpaintingDataset, Views
from pixmend.errors import (
    OptionError,
    TrainingError,
)
from pixmend.loop import TrainConfig
from pixmend.training import train_model
from pixmend.unet import UNetConfig
from small_model import SHORT, SMALL, draw_photos, interrupt_after


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"))


def test_a_model_for_narrow_holes_becomes_part_of_another_which_stays_as_it_is(photos: Path, tmp_path: Path) -> None:
    whole = Model.new(SMALL, size=16, seed=1)
    whole.mean = Model.new_mean(SMALL, size=16, seed=2)
    before = save_model(tmp_path / "before.safetensors", whole, dtype=torch.float32)

    def trained(name: str, **options: object) -> Model:
        return train_model(photos, tmp_path / name, SHORT, device="cpu", **options)  # type: ignore[arg-type]

    both = trained("both.safetensors", init=before, mean=True)
    assert both.mean is not None
    assert [len(model.legs) for model in (both, both.mean)] == [0, 1]
    assert all(
        torch.equal(value, whole.network.state_dict()[name].half().float())
        for name, value in both.network.state_dict().items()
    )
    moved = both.mean.network.first.weight - whole.mean.network.first.weight
    assert moved.abs().max() > 1e-4
    own = trained("own.safetensors", init=before)
    assert own.mean is not None
    assert [len(model.legs) for model in (own, own.mean)] == [1, 0], "a leg of the model itself keeps its part"
    alone = train_model(photos, tmp_path / "alone.safetensors", SHORT, model=Model.new_mean(SMALL, size=16), mean=True)
    assert alone.answers_the_mean
    again = trained("again.safetensors", init=tmp_path / "alone.safetensors")
    assert again.answers_the_mean, "what a file is for is known from the file"


def test_narrow_holes_are_learnt_without_a_teacher_and_teach_nobody(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="learns from no teacher"):
        train_model(photos, tmp_path / "m.safetensors", mean=True, teacher=tmp_path / "t.safetensors", steps=2)
    teacher = save_model(tmp_path / "narrow.safetensors", Model.new_mean(SMALL, size=16))
    with pytest.raises(OptionError, match="in a single step"):
        train_model(photos, tmp_path / "m.safetensors", SHORT, teacher=teacher, steps=1, device="cpu")


def test_a_part_for_narrow_holes_is_resumed_with_what_it_is_part_of(photos: Path, tmp_path: Path) -> None:
    before = save_model(tmp_path / "before.safetensors", Model.new(SMALL, size=16, seed=1))
    output = tmp_path / "m.safetensors"

    def trained(**options: object) -> Model:
        return train_model(photos, output, SHORT, device="cpu", mean=True, **options)  # type: ignore[arg-type]

    trained(init=before, progress=interrupt_after(3))
    content = output.read_bytes()
    with pytest.raises(TrainingError, match="whole"):
        trained(resume=True)
    assert output.read_bytes() == content
    other = Model.new(SMALL, size=16, seed=3)
    kept = before.read_bytes()
    save_model(before, other, overwrite=True)
    with pytest.raises(TrainingError, match=r"whole\.weights was"):
        trained(init=before, resume=True)
    before.write_bytes(kept)
    both = trained(init=before, resume=True)
    assert (both.diffusion.T, both.mean is not None and both.mean.legs[-1]["kimg"]) == (1000, 0.08)


def test_a_model_for_narrow_holes_learns_what_its_guide_cannot_know(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    columns = np.arange(40) % 4 // 2 * 255
    for i in range(8):
        Image.fromarray(np.roll(np.tile(columns, (40, 1)), i % 4, 1).astype(np.uint8)).save(
            tmp_path / "photos" / f"{i}.png"
        )
    views = Views(enlarged=0, scales=(0, 0), grey=0, sepia=0, coarse_guide=0, whole=0)
    data = InpaintingDataset(tmp_path / "photos", 16, T=1, masks="narrow", views=views, cache=tmp_path / "cache")
    model = Model.new_mean(UNetConfig(channels=(16,), attention=(False,)), size=16)
    losses: list[float] = []
    config = TrainConfig(total_kimg=1.28, batch_size=8, lr=5e-3, holdout=0, workers=0)
    train_model(
        data,
        tmp_path / "m.safetensors",
        config,
        model=model,
        device="cpu",
        progress=lambda report: losses.append(report.loss),
    )
    assert losses[-1] < 0.5 * losses[0], "stripes are one or the other, and never grey"
