"""Folders of diffusers in and out: the same outputs and the same noise as theirs; and what the commands say."""

from __future__ import annotations

import inspect
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from command_line import Run, fails
from pixmend.adapters import export_model, import_model
from pixmend.adapters.unet2d import DEFAULTS, IDLE
from pixmend.adapters.widening import widened
from pixmend.adm import AdmConfig, AdmUNet
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.diffusion import Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError, OutputExistsError, PixmendError
from pixmend.unet import UNet, UNetConfig

X, T = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 977])


def moved(network: Any) -> Any:
    """A network none of whose layers are zero or one, as after some training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


@torch.inference_mode()
def theirs(unet: Any, **more: Any) -> Tensor:
    answer: Tensor = unet(X, T, **more).sample
    return answer[:, :3]


@torch.inference_mode()
def ours(model: Model) -> Tensor:
    answer: Tensor = model.network(X, T)
    return answer


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
    ],
)
def test_what_has_no_equal_says_what_to_do(model: Model, told: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=told):
        export_model(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


ADM = AdmConfig(
    channels=(16, 32, 32),
    down_attention=(False, True, True),
    up_attention=(False, True, False),
    shrink_by_block=(True, True),
    grow_by_block=(False, True),
    time_channels=16,
    embedding_channels=64,
    blocks=1,
    middle_groups=8,
    head_channels=8,
    groups=8,
)


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


# -------------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of diffusers with a small network."""
    model = Model(moved(AdmUNet(ADM)), Diffusion("linear", 100, "eps"), "plain", 16, "ddpm")
    return export_model(model, tmp_path_factory.mktemp("exported") / "pipeline")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "pipeline"))


def test_import_repair_train_on_and_export(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    file, pictures = folder.parent / "m.safetensors", folder.parent / "pictures"
    done = run("import", folder, "-o", file, "--terms", "theirs")
    assert (done.code, done.err) == (0, "")
    assert f"{load_model(file).network.parameter_count:,} parameters" in done.out
    header = json.loads(run("info", file, "--json").out)
    assert (header["architecture"]["kind"], header["terms"], header["size"]) == ("adm", "theirs", 16)
    assert header["legs"] == [{"imported": "diffusers UNet2DModel"}]

    pictures.mkdir()
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(image).save(pictures / "picture.png")
    hole = np.zeros((20, 24), np.uint8)
    hole[5:10, 5:10] = 255
    Image.fromarray(hole).save(folder.parent / "mask.png")
    mended = folder.parent / "mended.png"
    mask = folder.parent / "mask.png"
    done = run(
        "inpaint", pictures / "picture.png", "--mask", mask, "--model", file, "-o", mended, "--steps", 2, "--blur", 0
    )
    assert (done.code, done.err) == (0, "")
    after = np.asarray(Image.open(mended))
    np.testing.assert_array_equal(after[hole == 0], image[hole == 0])

    trained = folder.parent / "trained.safetensors"
    options = ("--batch", 2, "--kimg", 0.004, "--workers", 0, "--device", "cpu")
    assert run("train", pictures, "-o", trained, "--init", file, *options).code == 0
    legs = read_header(trained)["legs"]
    assert legs[0] == {"imported": "diffusers UNet2DModel"}
    assert legs[1]["conditioning"] == "plain"
    done = run("export", trained, "-o", folder.parent / "out")
    assert (done.code, done.err) == (0, "")
    again = import_model(folder.parent / "out")
    assert_same(ours(again), ours(load_model(trained)))


def test_help_names_every_option(run: Run) -> None:
    options = [
        "SOURCE",
        "-o",
        "--architecture",
        "--class",
        "--size",
        "--assume-ddpm",
        "--terms",
        "--half",
        "--overwrite",
    ]
    said = run("import", "--help").out
    assert [option for option in options if option not in said] == []
    assert "MODEL" in run("export", "--help").out


def test_half_precision_is_asked_for(run: Run, folder: Path) -> None:
    whole, half = folder.parent / "whole.safetensors", folder.parent / "half.safetensors"
    assert run("import", folder, "-o", whole).code == run("import", folder, "-o", half, "--half").code == 0
    kept = import_model(folder).network.state_dict()
    for name, value in load_file(whole).items():
        assert torch.equal(value, kept[name])
        assert torch.equal(load_file(half)[name], value.half())


def test_the_network_alone_finds_its_scheduler(folder: Path) -> None:
    assert import_model(folder / "unet").diffusion.T == 100
    shutil.move(folder / "scheduler" / "scheduler_config.json", folder / "unet" / "scheduler_config.json")
    assert import_model(folder / "unet").diffusion.T == 100


def test_without_a_scheduler_nothing_is_assumed_unasked(run: Run, folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    file = folder.parent / "m.safetensors"
    fails(run("import", folder, "-o", file), 3, "scheduler_config.json", "--assume-ddpm")
    assert run("import", folder, "-o", file, "--assume-ddpm").code == 0
    noise = read_header(file)["diffusion"]
    assert noise == {"schedule": "linear", "T": 1000, "prediction": "eps"}


def test_the_side_may_be_told(folder: Path) -> None:
    change(folder / "unet" / "config.json", sample_size=None)
    with pytest.raises(ModelFileError, match="--size"):
        import_model(folder)
    assert import_model(folder, size=20).size == 20
    change(folder / "unet" / "config.json", sample_size=[24, 24])
    assert import_model(folder).size == 24
    change(folder / "unet" / "config.json", sample_size=[24, 16])
    with pytest.raises(ModelFileError, match="--size"):
        import_model(folder)


def change(path: Path, **options: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"in_channels": 1, "out_channels": 1}, "in_channels = 1"),
        ({"out_channels": 4}, "out_channels = 4"),
        ({"out_channels": 6}, "6 channels"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"time_embedding_type": "fourier"}, "fourier"),
        ({"time_embedding_type": "learned"}, "learned"),
        ({"mid_block_type": None}, "mid_block_type"),
        ({"mid_block_scale_factor": 1.5}, "mid_block_scale_factor"),
        ({"downsample_padding": 2}, "downsample_padding"),
        ({"act_fn": "gelu"}, "gelu"),
        ({"class_embed_type": "timestep"}, "timestep"),
        ({"resnet_time_scale_shift": "spatial"}, "spatial"),
        ({"down_block_types": ["DownBlock2D", "SkipDownBlock2D", "AttnDownBlock2D"]}, "SkipDownBlock2D"),
        ({"up_block_types": ["UpBlock2D", "KUpBlock2D", "UpBlock2D"]}, "KUpBlock2D"),
        ({"norm_num_groups": 5}, "groups = 5"),
        ({"norm_num_groups": None}, "norm_num_groups"),
        ({"attention_head_dim": 5}, "head_channels = 5"),
        ({"attention_head_dim": 8.5}, "attention_head_dim"),
        ({"layers_per_block": 0}, "blocks"),
        ({"layers_per_block": "two"}, "layers_per_block"),
        ({"block_out_channels": [16, "32", 32]}, "config.json"),
        ({"block_out_channels": [16, 32]}, "levels"),
        ({"down_block_types": [1, 2, 3]}, "config.json"),
        ({"num_class_embeds": 3}, "class_embedding.weight"),
        ({"a_new_option": 1}, "a_new_option"),
    ],
)
def test_options_are_supported_or_refused_by_name(option: dict[str, object], says: str, run: Run, folder: Path) -> None:
    change(folder / "unet" / "config.json", **option)
    fails(run("import", folder, "-o", folder.parent / "m.safetensors"), 6, "pipeline", says)
    assert not (folder.parent / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"_class_name": "PNDMScheduler"}, "PNDMScheduler"),
        ({"_class_name": ["DDPMScheduler"]}, "DDPMScheduler"),
        ({"trained_betas": None, "beta_schedule": "laplace"}, "laplace"),
        ({"prediction_type": "flow"}, "flow"),
        ({"num_train_timesteps": 10**12}, "num_train_timesteps"),
        ({"num_train_timesteps": "many"}, "many"),
        ({"trained_betas": [0.1, 2.0, 0.1]}, "betas"),
        ({"trained_betas": [[0.1]]}, "betas"),
        ({"rescale_betas_zero_snr": True}, "eps cannot be predicted"),
        ({"timestep_values": [1.5, 2.5]}, "timestep_values"),
    ],
)
def test_noise_that_is_not_supported(option: dict[str, object], says: str, run: Run, folder: Path) -> None:
    change(folder / "scheduler" / "scheduler_config.json", **option)
    fails(run("import", folder, "-o", folder.parent / "m.safetensors"), 6, "scheduler_config.json", says)


def spoil(how: str, folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    if how == "no config":
        (folder / "unet" / "config.json").unlink()
    elif how == "config is text":
        (folder / "unet" / "config.json").write_text("block_out_channels: 16")
    elif how == "config is no UTF-8":
        (folder / "unet" / "config.json").write_bytes(b"{\xff}")
    elif how == "no weights":
        weights.unlink()
    elif how == "weights in pieces":
        weights.rename(folder / "unet" / "diffusion_pytorch_model.safetensors.index.json")
    elif how == "weights are text":
        weights.write_text("not weights\n" * 100)
    elif how == "one is missing":
        save_file({n: v for n, v in tensors.items() if n != "conv_in.bias"}, weights)
    elif how == "one is left over":
        save_file({**tensors, "conv_extra.bias": torch.zeros(3)}, weights)
    elif how == "one is of another shape":
        save_file({**tensors, "conv_in.bias": torch.zeros(3)}, weights)
    elif how == "an autoencoder":
        change(folder / "model_index.json", vqvae=["diffusers", "VQModel"])
    elif how == "nothing":
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("no config", 3, "config.json"),
        ("config is text", 6, "config.json"),
        ("config is no UTF-8", 6, "config.json"),
        ("no weights", 3, "diffusion_pytorch_model.safetensors"),
        ("weights in pieces", 3, "in one piece"),
        ("weights are text", 6, "diffusion_pytorch_model.safetensors"),
        ("one is missing", 6, "conv_in.bias is missing"),
        ("one is left over", 6, "conv_extra.bias is more"),
        ("one is of another shape", 6, "conv_in.bias is of shape (3,), where (16,) is described"),
        ("an autoencoder", 6, "vqvae"),
        ("nothing", 3, "config.json"),
    ],
)
def test_damaged_folders(how: str, code: int, says: str, run: Run, folder: Path) -> None:
    spoil(how, folder)
    fails(run("import", folder, "-o", folder.parent / "m.safetensors"), code, says)
    assert not (folder.parent / "m.safetensors").exists()


def test_bad_imports(run: Run, folder: Path) -> None:
    place = folder.parent
    (place / "there.safetensors").write_bytes(b"mine")
    (place / "text.pt").write_text("not weights\n")
    (place / "a.json").write_text('{"image_size": 64}')
    fails(run("import", folder, "-o", place / "there.safetensors"), 7, "--overwrite")
    fails(run("import", folder, "-o", place / "m.bin"), 2, "m.safetensors")
    fails(run("import", folder, "-o", place / "nowhere" / "m.safetensors"), 8, "nowhere")
    fails(run("import", place / "gone", "-o", place / "m.safetensors"), 3, "gone")
    fails(run("import", place / "text.pt", "-o", place / "m.safetensors"), 2, "--architecture")
    fails(run("import", folder, "--architecture", place / "a.json", "-o", place / "m.safetensors"), 2, "--architecture")
    fails(run("import", place / "text.pt", "--architecture", place / "a", "-o", place / "m.safetensors"), 3, "a does")
    fails(
        run("import", place / "text.pt", "--architecture", place / "a.json", "-o", place / "m.safetensors"),
        6,
        "text.pt",
    )
    fails(run("import", folder, "--class", 1, "-o", place / "m.safetensors"), 2, "--class 1")
    assert sorted(path.name for path in place.iterdir()) == ["a.json", "pipeline", "text.pt", "there.safetensors"]


def test_bad_exports(run: Run, folder: Path) -> None:
    place = folder.parent
    known_aware = save_model(place / "m.safetensors", Model.new(UNetConfig(channels=(16,), attention=(False,))))
    fails(run("export", known_aware, "-o", place / "out"), 2, 'conditioning="plain"')
    fails(run("export", place / "gone.safetensors", "-o", place / "out"), 3, "gone.safetensors")
    fails(run("export", known_aware, "-o", folder), 7, "pipeline exists")
    fails(run("export", known_aware, "-o", known_aware), 7, "exists")
    fails(run("export", known_aware, "-o", place / "nowhere" / "out"), 8, "nowhere")
    assert sorted(path.name for path in place.iterdir()) == ["m.safetensors", "pipeline"]


def test_an_export_is_whole_or_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the cable is out")

    model = import_model(folder)
    monkeypatch.setattr("pixmend.adapters.pipeline.save", fail)
    with pytest.raises(PixmendError, match="the cable is out"):
        export_model(model, folder.parent / "out")
    assert [path.name for path in folder.parent.iterdir()] == ["pipeline"]


def test_python_is_told_the_same(folder: Path) -> None:
    with pytest.raises(FileMissingError, match="gone"):
        import_model(folder / "gone")
    with pytest.raises(OutputExistsError):
        export_model(import_model(folder), folder)
    with pytest.raises(OptionError, match="size 0"):
        import_model(folder, size=0)
