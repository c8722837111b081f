"""The network for weights that others trained: its sizes, its time, its shapes, its place in model files and in use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pixmend.adm import AdmConfig, AdmUNet
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.errors import ModelFileError, OptionError
from pixmend.images import open_picture
from pixmend.inpainting import inpainting
from pixmend.unet import UNetConfig, sinusoidal_embedding

CONV = AdmConfig(
    channels=(16, 32),
    down_attention=(False, True),
    up_attention=(True, False),
    shrink_by_block=(False,),
    grow_by_block=(False,),
    time_channels=16,
    embedding_channels=24,
    blocks=1,
    middle_groups=8,
    head_channels=8,
    scale_shift=False,
    sines_first=True,
    frequency_shift=1.0,
    pad_after=True,
    groups=8,
    eps=1e-6,
)
BLOCK = replace(
    CONV,
    shrink_by_block=(True,),
    grow_by_block=(True,),
    middle_groups=None,
    head_channels=None,
    heads=2,
    scale_shift=True,
)
SHAPES = [CONV, BLOCK]


def moved(config: AdmConfig) -> AdmUNet:
    """A network whose zeroed layers are not zero, as after some training."""
    torch.manual_seed(0)
    network = AdmUNet(config).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return network


@settings(max_examples=20)
@given(st.sampled_from(SHAPES), st.integers(1, 21), st.integers(1, 21))
def test_any_size_goes_in_and_comes_out(config: AdmConfig, height: int, width: int) -> None:
    with torch.inference_mode():
        assert AdmUNet(config)(torch.zeros(2, 3, height, width), torch.tensor([0, 5])).shape == (2, 3, height, width)


@pytest.mark.parametrize("config", SHAPES)
def test_a_new_network_answers_zero(config: AdmConfig) -> None:
    with torch.inference_mode():
        assert not AdmUNet(config)(torch.randn(1, 3, 16, 16), torch.tensor([3])).any()


@pytest.mark.parametrize("config", SHAPES)
def test_padding_is_undone_exactly(config: AdmConfig) -> None:
    """A picture that ends in repeated rows and columns gives the same as one that is padded inside."""
    network, x = moved(config), torch.randn(1, 3, 13, 11)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="replicate")
    with torch.inference_mode():
        assert torch.equal(network(x, torch.tensor([7])), network(padded, torch.tensor([7]))[..., :13, :11])


@pytest.mark.parametrize("config", SHAPES)
def test_time_reaches_the_output(config: AdmConfig) -> None:
    network, x = moved(config), torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    with torch.inference_mode():
        early, late = network(x, torch.tensor([1, 900]))
    assert (early - late).abs().max() > 1e-3


@pytest.mark.parametrize("config", SHAPES)
def test_every_parameter_learns(config: AdmConfig) -> None:
    network = moved(config)
    network(torch.randn(2, 3, 16, 16), torch.tensor([1, 900])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_shifted_embedding_ends_at_the_lowest_frequency() -> None:
    embedding = sinusoidal_embedding(torch.tensor([700]), 8, shift=1)[0]
    angles = 700 * 10_000.0 ** -(torch.arange(4) / 3)
    torch.testing.assert_close(embedding, torch.cat([angles.cos(), angles.sin()]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": ()},
        {"channels": (16, 32, 32)},
        {"channels": (16, 36)},
        {"shrink_by_block": (False, False)},
        {"down_attention": (True,)},
        {"head_channels": 12},
        {"head_channels": 0},
        {"head_channels": None, "heads": 3},
        {"groups": 0},
        {"groups": 5},
        {"middle_groups": 5},
        {"middle_groups": 0},
        {"time_channels": 15},
        {"frequency_shift": 2.0},
        {"eps": 0.0},
        {"blocks": 0},
        {"blocks": 10**9},
    ],
)
def test_a_shape_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        replace(CONV, **wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- the model file


@pytest.mark.parametrize("config", SHAPES)
def test_a_model_file_says_its_kind(config: AdmConfig, tmp_path: Path) -> None:
    model = Model(moved(config), Model.new(CONV).diffusion, "plain", 16)
    file = save_model(tmp_path / "m.safetensors", model, dtype=torch.float32)
    assert read_header(file)["architecture"]["kind"] == "adm"
    loaded = load_model(file)
    assert loaded.network.config == config
    for name, value in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name


def test_files_of_the_first_kind_stay_as_they_were() -> None:
    assert "kind" not in Model.new(UNetConfig()).header["architecture"]


@pytest.mark.parametrize(
    ("kind", "told"), [("transformer", "update pixmend"), (["adm"], "update pixmend"), ("unet", "not complete")]
)
def test_other_kinds_are_refused(kind: object, told: str, tmp_path: Path) -> None:
    file = save_model(tmp_path / "m.safetensors", Model.new(CONV, conditioning="plain"))
    header = read_header(file)
    header["architecture"]["kind"] = kind
    save_file({"x": torch.zeros(1)}, file, {"pixmend": json.dumps(header)})
    with pytest.raises(ModelFileError, match=told):
        load_model(file)


def test_it_can_be_told_what_is_known() -> None:
    assert Model.new(CONV).network(torch.zeros(1, 7, 8, 8), torch.tensor([0])).shape == (1, 3, 8, 8)


# ------------------------------------------------------------------------------------------------------------ in use


@pytest.mark.parametrize(
    ("picture", "hole"),
    [
        ((32, 40), (0, 0, 5, 5)),  # in a corner
        ((40, 33), (4, 4, 36, 30)),  # wider than the network sees, in a picture that can be halved once
        ((75, 90), (20, 10, 60, 80)),
        ((16, 50), (3, 45, 9, 50)),  # as high as the network sees
    ],
)
def test_all_calls_are_at_the_size_of_the_network(picture: tuple[int, int], hole: tuple[int, int, int, int]) -> None:
    model = Model(moved(CONV), Model.new(CONV).diffusion, "plain", 16, steps=2, legs=[{"imported": "test"}])
    sizes: set[tuple[int, ...]] = set()
    model.network.register_forward_pre_hook(lambda _, inputs: sizes.add(tuple(inputs[0].shape[-2:])))
    image = np.random.default_rng(0).integers(0, 256, (*picture, 3), np.uint8)
    mask = np.zeros(picture, bool)
    mask[hole[0] : hole[2], hole[1] : hole[3]] = True
    result = inpainting(open_picture(image), mask, model=model, blur=0, device="cpu")
    assert sizes == {(16, 16)}
    after = result.pictures[0].samples
    np.testing.assert_array_equal(after[~mask], image[~mask])
    assert (after[mask] != image[mask]).any()


def test_a_picture_below_the_size_is_seen_with_hole_around_it() -> None:
    model = Model(moved(CONV), Model.new(CONV).diffusion, "plain", 16, steps=2, legs=[{"imported": "test"}])
    sizes: set[tuple[int, ...]] = set()
    model.network.register_forward_pre_hook(lambda _, inputs: sizes.add(tuple(inputs[0].shape[-2:])))
    image = np.zeros((9, 12, 3), np.uint8)
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:11] = True
    inpainting(open_picture(image), mask, model=model, device="cpu")
    assert sizes == {(16, 16)}
