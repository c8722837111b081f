"""Folders of diffusers in and out: the same outputs and the same noise as theirs."""

from __future__ import annotations

import inspect
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from networks import ADM, T, X, assert_same, moved, ours, theirs
from pixmend.adapters import export_model, import_model
from pixmend.adapters.pipeline import write_pipeline
from pixmend.adapters.reading import read_tensors
from pixmend.adapters.scheduler import diffusion_of
from pixmend.adapters.unet2d import DEFAULTS, IDLE
from pixmend.adapters.widening import widened
from pixmend.adm import AdmConfig, AdmUNet
from pixmend.checkpoint import Model
from pixmend.diffusion import Diffusion
from pixmend.errors import ModelFileError, OptionError
from pixmend.model_files import read_safetensors_metadata
from pixmend.unet import UNet, UNetConfig

# ------------------------------------------------------------------------------------------------------ with diffusers


@pytest.fixture(scope="module")
def diffusers() -> Any:
    return pytest.importorskip("diffusers")


def random_options(seed: int) -> dict[str, Any]:
    """A shape of UNet2DModel, drawn from all that is supported."""
    draw = random.Random(seed)
    levels = draw.choice([1, 2, 3])
    return {
        "sample_size": 16,
        "block_out_channels": tuple(draw.choice([16, 32, 48]) for _ in range(levels)),
        "layers_per_block": draw.choice([1, 2]),
        "down_block_types": tuple(
            draw.choice(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]) for _ in range(levels)
        ),
        "up_block_types": tuple(
            draw.choice(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]) for _ in range(levels)
        ),
        "downsample_type": draw.choice(["conv", "resnet"]),
        "upsample_type": draw.choice(["conv", "resnet"]),
        "downsample_padding": draw.choice([0, 1]),
        "resnet_time_scale_shift": draw.choice(["default", "scale_shift"]),
        "attention_head_dim": draw.choice([8, 16, None]),
        "norm_num_groups": draw.choice([8, 16]),
        "attn_norm_num_groups": draw.choice([None, 4]),
        "add_attention": draw.random() < 0.8,
        "norm_eps": draw.choice([1e-5, 1e-6, 1e-2]),
        "flip_sin_to_cos": draw.random() < 0.5,
        "freq_shift": draw.choice([0, 1]),
        "time_embedding_dim": draw.choice([None, 40]),
        "act_fn": draw.choice(["silu", "swish"]),
        "dropout": draw.choice([0.0, 0.5]),
    }


def pipeline(diffusers: Any, folder: Path, options: dict[str, Any], **noise: Any) -> Any:
    """The network of a made-up pipeline, which is in the folder afterwards."""
    unet = moved(diffusers.UNet2DModel(**options))
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**noise)).save_pretrained(folder)
    return unet


@pytest.mark.parametrize("seed", range(12))
def test_a_folder_comes_in_and_goes_out_as_it_is(seed: int, diffusers: Any, tmp_path: Path) -> None:
    unet = pipeline(diffusers, tmp_path / "in", random_options(seed))
    expected = theirs(unet)
    model = import_model(tmp_path / "in", terms="for tests")
    assert_same(ours(model), expected)
    assert (model.size, model.sampler, model.steps, model.conditioning) == (16, "ddpm", 50, "plain")
    export_model(model, tmp_path / "out")
    loaded = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out").unet
    assert torch.equal(theirs(loaded), expected)
    again = import_model(tmp_path / "out")
    assert again.network.config == model.network.config
    assert again.terms == "for tests"
    for name, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name


NOISES: list[dict[str, Any]] = [
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 200, "prediction_type": "sample"},
    {"beta_schedule": "sigmoid", "num_train_timesteps": 300},
    {"trained_betas": [0.1, 0.2, 0.4], "num_train_timesteps": 3},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "beta_end": 0.03},
    {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
]
NAMED = {0: "linear", 2: "cosine", 6: "zero-terminal"}
PREDICTION = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


@pytest.mark.parametrize("number", range(len(NOISES)))
def test_the_noise_is_the_same_in_and_out(number: int, diffusers: Any, tmp_path: Path) -> None:
    noise = NOISES[number]
    pipeline(diffusers, tmp_path / "in", random_options(1), **noise)
    model = import_model(tmp_path / "in")
    expected = diffusers.DDPMScheduler(**noise)
    torch.testing.assert_close(model.diffusion.betas.float(), expected.betas, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(model.diffusion.alpha_bars.float(), expected.alphas_cumprod, atol=1e-6, rtol=1e-3)
    assert model.diffusion.schedule == NAMED.get(number, "custom")
    assert model.diffusion.prediction == PREDICTION[noise.get("prediction_type", "epsilon")]
    model.sampler = "ddim"
    export_model(model, tmp_path / "out")
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert type(loaded).__name__ == "DDIMPipeline"
    assert loaded.scheduler.config.prediction_type == noise.get("prediction_type", "epsilon")
    torch.testing.assert_close(loaded.scheduler.betas, expected.betas, atol=1e-6, rtol=1e-4)
    again = import_model(tmp_path / "out")
    assert again.sampler == "ddim"
    torch.testing.assert_close(again.diffusion.betas, model.diffusion.betas, atol=1e-15, rtol=1e-12)


NATIVE = [
    {"channels": (16,), "attention": (True,), "head_channels": 8, "time_channels": 32, "groups": 8},
    {"channels": (16, 16), "attention": (False, True), "head_channels": 16, "time_channels": 16},
    {"channels": (16, 32), "attention": (True, False), "head_channels": 16, "time_channels": 32, "blocks": 2},
    {"channels": (15, 30, 20), "attention": (False, True, True), "head_channels": 5, "time_channels": 60, "groups": 5},
    {"channels": (16, 32, 48, 32), "attention": (False,) * 4, "time_channels": 64, "groups": 8},
]


def native(shape: dict[str, Any], **more: Any) -> Model:
    """A plain model of ours, as after some training."""
    model = Model.new(UNetConfig(**shape), conditioning="plain", size=16, **more)
    moved(model.network)
    model.legs = [{"kimg": 1}]
    return model


@pytest.mark.parametrize("shape", NATIVE)
def test_a_network_of_ours_goes_out_exactly(shape: dict[str, Any], diffusers: Any, tmp_path: Path) -> None:
    model = native(shape)
    export_model(model, tmp_path / "out")
    loaded = diffusers.DDIMPipeline.from_pretrained(tmp_path / "out")
    assert_same(theirs(loaded.unet), ours(model))
    assert_same(ours(import_model(tmp_path / "out")), ours(model))


def test_one_class_of_many_is_chosen(diffusers: Any, tmp_path: Path) -> None:
    unet = pipeline(diffusers, tmp_path / "in", {**random_options(2), "num_class_embeds": 4})
    expected = theirs(unet, class_labels=torch.tensor([2, 2]))
    assert_same(ours(import_model(tmp_path / "in", label=2)), expected)
    with pytest.raises(OptionError, match="--class 0 to 3"):
        import_model(tmp_path / "in")


def test_a_learnt_variance_is_cut_off(diffusers: Any, tmp_path: Path) -> None:
    options = {**random_options(3), "out_channels": 6}
    unet = pipeline(diffusers, tmp_path / "in", options, variance_type="learned_range")
    assert_same(ours(import_model(tmp_path / "in")), theirs(unet))
    pipeline(diffusers, tmp_path / "other", options)
    with pytest.raises(ModelFileError, match="6 channels"):
        import_model(tmp_path / "other")


def test_folders_of_the_first_versions(diffusers: Any, tmp_path: Path) -> None:
    """All in one folder, a .bin, other names of the attention's layers and of the blocks, and options left out."""
    options = {**random_options(2), "add_attention": True}
    unet = pipeline(diffusers, tmp_path / "in", options, beta_schedule="linear")
    folder = tmp_path / "in"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        weights[name] = value
    assert any(".proj_attn." in name for name in weights)
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    config = json.loads((folder / "unet" / "config.json").read_text())
    config = {k: v for k, v in config.items() if v != their_defaults(diffusers).get(k, ...)}
    config["down_block_types"] = [f"UNetRes{name}" for name in config["down_block_types"]]
    (folder / "config.json").write_text(json.dumps(config))
    scheduler = {"_class_name": "DDPMScheduler", "timestep_values": None, "predict_epsilon": False}
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    shutil.rmtree(folder / "unet")
    shutil.rmtree(folder / "scheduler")
    model = import_model(folder)
    assert_same(ours(model), theirs(unet))
    assert (model.diffusion.schedule, model.diffusion.prediction) == ("linear", "x0")


def their_defaults(diffusers: Any) -> dict[str, Any]:
    """The defaults of UNet2DModel, as JSON has them."""
    parameters = inspect.signature(diffusers.UNet2DModel.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    return dict(json.loads(json.dumps(defaults)))


def test_our_defaults_are_theirs(diffusers: Any) -> None:
    known = their_defaults(diffusers)
    assert {name: known[name] for name in DEFAULTS} == DEFAULTS
    assert all(name in known for name in IDLE)


# --------------------------------------------------------------------------------------------------- without diffusers


@pytest.mark.parametrize("shape", NATIVE)
def test_a_wider_network_gives_the_same(shape: dict[str, Any]) -> None:
    network = moved(UNet(UNetConfig(in_channels=3, **shape)))
    with torch.inference_mode():
        assert_same(widened(network)(X[..., :13, :22], T), network(X[..., :13, :22], T))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            Model.new(UNetConfig(channels=(16,), attention=(False,))),
            r"only plain ones .*\.onnx file.*--init.*Model\.new",
        ),
        (native({**NATIVE[2], "time_channels": 48}), r"time_channels=32\), conditioning=\"plain\""),
        (native({**NATIVE[2], "patch": 2}), "patch=1"),
        (native({**NATIVE[2], "groups": 0}), r"without normalisation \(groups = 0\)"),
    ],
)
def test_what_has_no_equal_says_what_to_do(model: Model, told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=told):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"time_channels": 32}, "sinusoids"),
        ({"scale_shift": False, "middle_groups": None}, "normalises"),
        ({"down_attention": (True, True, True), "shrink_by_block": (True, False)}, "always by a block or never"),
        ({"down_attention": (True, True, True), "head_channels": None, "heads": 2}, "2 heads"),
    ],
)
def test_what_unet2dmodel_cannot_be(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    config = AdmConfig(**{**ADM.__dict__, **change})
    with pytest.raises(OptionError, match=told):
        export_model(Model(AdmUNet(config), Diffusion(), "plain"), tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"rescale_betas_zero_snr": "false"}, "bool"),
        ({"predict_epsilon": 0}, "bool"),
        ({"num_train_timesteps": 9.5}, "int"),
    ],
)
def test_a_schedule_of_the_wrong_types_is_refused(said: dict[str, Any], kind: str) -> None:
    with pytest.raises(ValueError, match=f"is not of the type it must be, {kind}"):
        diffusion_of(said)


def test_terms_that_are_no_text_go_out_as_text(tmp_path: Path) -> None:
    """What a shell hands over may be bytes in no encoding: Python makes half of a pair of them."""
    model = Model.new(ADM, conditioning="plain", size=16)
    model.terms = "caf\udce9"
    weights = write_pipeline(model, tmp_path / "out") / "unet" / "diffusion_pytorch_model.safetensors"
    assert read_safetensors_metadata(weights)["terms"] == "caf?"


def test_weights_of_8_bits_are_read(tmp_path: Path) -> None:
    values = torch.tensor([1.0, -0.5, 448.0])
    save_file({"x": values.to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    assert torch.equal(read_tensors(tmp_path / "w.safetensors")["x"], values)
