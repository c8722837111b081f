"""`pixmend import` and `pixmend export` of folders of diffusers: what works, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from command_line import Run, fails
from networks import ADM, assert_same, moved, ours
from pixmend.adapters import export_model, import_model
from pixmend.adm import AdmUNet
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.diffusion import Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError, OutputExistsError, PixmendError
from pixmend.unet import UNetConfig


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


def test_half_precision_that_does_not_hold_a_weight(run: Run, folder: Path) -> None:
    spoil("one is beyond half precision", folder)
    half = folder.parent / "half.safetensors"
    fails(run("import", folder, "-o", half, "--half"), 2, "half.safetensors was not written", "without --half")
    assert run("import", folder, "-o", half).code == 0


def test_the_network_alone_finds_its_scheduler(folder: Path) -> None:
    assert import_model(folder / "unet").diffusion.T == 100
    shutil.move(folder / "scheduler" / "scheduler_config.json", folder / "unet" / "scheduler_config.json")
    assert import_model(folder / "unet").diffusion.T == 100


def test_a_pipeline_takes_no_scheduler_of_another(folder: Path) -> None:
    shutil.move(folder / "scheduler", folder.parent / "scheduler")
    with pytest.raises(FileMissingError, match="--assume-ddpm"):
        import_model(folder)


@pytest.mark.parametrize("source", ["unet", "unet/."])
def test_a_network_of_a_pipeline_that_works_on_no_pixels(source: str, folder: Path) -> None:
    change(folder / "model_index.json", vqvae=["diffusers", "VQModel"])
    with pytest.raises(ModelFileError, match="vqvae"):
        import_model(folder / source)


def test_what_is_imported_does_not_change_with_its_source(folder: Path) -> None:
    weights, expected = folder / "unet" / "diffusion_pytorch_model.safetensors", ours(import_model(folder))
    model = import_model(folder)
    length = weights.stat().st_size
    with weights.open("r+b") as stream:
        stream.seek(length // 2)
        stream.write(bytes(length - length // 2))
    assert torch.equal(ours(model), expected)


def test_descriptions_that_begin_with_a_byte_order_mark(folder: Path) -> None:
    config = folder / "unet" / "config.json"
    config.write_text(config.read_text("utf-8"), "utf-8-sig")
    assert import_model(folder).size == 16


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
    with pytest.raises(OptionError, match="size 65537 is not possible"):
        import_model(folder, size=65537)
    change(folder / "unet" / "config.json", sample_size=[24, 24])
    assert import_model(folder).size == 24
    for size in ([24, 16], 65537):
        change(folder / "unet" / "config.json", sample_size=size)
        with pytest.raises(ModelFileError, match=r"--size|65537 pixels a side"):
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
        ({"trained_betas": [0.1, 0.2]}, "2 trained_betas, and num_train_timesteps = 100"),
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
    elif how == "one is there twice":
        query = next(n for n in tensors if n.endswith(".to_q.weight"))
        save_file({**tensors, query.replace("to_q", "query"): torch.zeros(3)}, weights)
    elif how == "one is beyond half precision":
        save_file({**tensors, "conv_in.bias": torch.full((16,), 1e5)}, weights)
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
        ("one is there twice", 6, "to_q.weight is there twice"),
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
