"""The model file: everything comes back, and nothing else is taken for one."""

from __future__ import annotations

import copy
import json
import pickle
import struct
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.denoising.model_file import Denoiser, save_denoiser
from pixmend.diffusion import Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError, OutputExistsError
from pixmend.model_files import DEFAULT_MODEL, read_any_header
from pixmend.schedules import linear_betas
from pixmend.unet import UNetConfig

SMALL = UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, time_channels=16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = Model.new(SMALL, diffusion=Diffusion("zero-terminal", 50, "x0"), size=24, seed=3)
    model.steps, model.sampler, model.legs, model.terms = 7, "ddpm", [{"kimg": 1.5}], "free"
    return save_model(tmp_path / "model.safetensors", model)


def test_everything_comes_back(file: Path) -> None:
    model = load_model(file)
    first = Model.new(SMALL, seed=3)
    assert model.network.config == SMALL
    assert (model.size, model.steps, model.sampler, model.terms) == (24, 7, "ddpm", "free")
    assert model.legs == [{"kimg": 1.5}]
    assert torch.equal(model.diffusion.betas, Diffusion("zero-terminal", 50).betas)
    assert model.diffusion.prediction == "x0"
    for name, value in first.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value.half().float()), name


def test_a_part_for_narrow_holes_comes_back(file: Path, tmp_path: Path) -> None:
    model, narrow = load_model(file), Model.new_mean(SMALL, size=24, seed=4)
    assert read_header(file)["version"] == 1, "files without one are for older versions, too"
    model.mean = narrow
    both = save_model(tmp_path / "both.safetensors", model, dtype=torch.float32)
    assert read_header(both)["version"] == 2
    back = load_model(both)
    assert back.mean is not None
    assert back.header == model.header
    assert (back.mean.steps, back.mean.diffusion.T, back.mean.conditioning) == (1, 1, "residual")
    assert not back.mean.network.training
    for own, expected in ((back, model), (back.mean, narrow)):
        state = own.network.state_dict()
        assert state.keys() == expected.network.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in expected.network.state_dict().items())


def test_a_part_for_narrow_holes_has_none_itself(tmp_path: Path) -> None:
    model, part = Model.new(SMALL), Model.new_mean(SMALL)
    part.mean, model.mean = Model.new_mean(SMALL), part
    with pytest.raises(OptionError, match="has no such part itself"):
        save_model(tmp_path / "m.safetensors", model)
    assert not list(tmp_path.iterdir())


def test_a_part_for_narrow_holes_needs_its_weights(file: Path) -> None:
    rewritten(file, {"mean": Model.new_mean(SMALL).header})
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model(file)


@pytest.mark.parametrize("narrow", [3, "x", {"size": 3}, [1]])
def test_a_header_of_a_part_that_does_not_fit_is_refused(file: Path, narrow: object) -> None:
    rewritten(file, {"mean": narrow})
    with pytest.raises(ModelFileError, match="not complete"):
        load_model(file)


def test_the_header_needs_no_weights(file: Path) -> None:
    header = read_header(file)
    assert header["architecture"]["channels"] == [16, 32]
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    file.write_bytes(content[: 8 + length])
    assert read_header(file) == header


def test_betas_of_ones_own_come_back_exactly(tmp_path: Path) -> None:
    betas = linear_betas(30) ** 1.1
    save_model(tmp_path / "m.safetensors", Model.new(SMALL, diffusion=Diffusion(betas)))
    assert torch.equal(load_model(tmp_path / "m.safetensors").diffusion.betas, betas)


def test_a_new_model_is_a_function_of_its_seed_and_leaves_the_global_one_alone() -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    one, other = Model.new(SMALL, seed=1), Model.new(SMALL, seed=1)
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(one.network.first.weight, other.network.first.weight)
    assert not torch.equal(one.network.first.weight, Model.new(SMALL, seed=2).network.first.weight)


def test_plain_models_see_three_channels() -> None:
    assert Model.new(SMALL, conditioning="plain").network.config.in_channels == 3
    with pytest.raises(OptionError, match="known-aware"):
        Model.new(SMALL, conditioning="telepathy")  # type: ignore[arg-type]


def test_nothing_is_overwritten_unasked(file: Path) -> None:
    with pytest.raises(OutputExistsError):
        save_model(file, Model.new(SMALL))
    assert load_model(file).steps == 7


class Bomb:
    """What a pickle can do to its reader."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("exploded", "w")


def write_damaged(kind: str, file: Path) -> None:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    damaged = {
        "empty": b"",
        "text": b"this is not a model\n" * 50,
        "short": content[:5],
        "truncated header": content[: 8 + length // 2],
        "truncated weights": content[:-1000],
        "huge header": struct.pack("<Q", 2**62) + content[8:],
        "pickle": pickle.dumps(Bomb()),
    }
    file.write_bytes(damaged[kind])


@pytest.mark.parametrize(
    "kind", ["empty", "text", "short", "truncated header", "truncated weights", "huge header", "pickle"]
)
def test_a_damaged_file_is_refused(kind: str, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_damaged(kind, file)
    with pytest.raises(ModelFileError) as caught:
        load_model(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


def rewritten(file: Path, change: dict[str, object]) -> None:
    header = {**read_header(file), **change}
    weights = {name: value.contiguous() for name, value in load_model(file).network.state_dict().items()}
    save_file(weights, file, {"pixmend": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 99}, "update pixmend"),
        ({"format": "another"}, "does not hold a model"),
        ({"architecture": {}}, "do not fit"),
        ({"architecture": {"colour": 3}}, "not complete"),
        ({"architecture": {"channels": [16, 17], "attention": [False, False]}}, "can be built"),
        ({"conditioning": "plain"}, "can be built"),
        ({"diffusion": {"schedule": "cosine", "T": 1, "prediction": "v"}}, "can be built"),
        ({"diffusion": {}}, "not complete"),
        ({"steps": "many"}, "no whole number"),
        ({"steps": 0}, "can be built"),
        ({"steps": 51}, "can be built"),
        ({"size": 0}, "can be built"),
        ({"size": 1e400}, "no whole number"),
        ({"sampler": "magic"}, "can be built"),
        ({"architecture": {"groups": -1}}, "at least 0"),
        ({"architecture": {"groups": 16.0}}, "groups = 16.0 is not of the type int"),
        ({"architecture": {"blocks": True}}, "blocks = True is not of the type int"),
        ({"architecture": {"attention": [0, 1]}}, "is not of the type tuple"),
        ({"architecture": {"channels": [16] * 10, "attention": [False] * 10}}, "the stride 512 is too large"),
        ({"size": 5000}, "can be built"),
        ({"legs": "abc"}, "no list of trainings"),
        ({"legs": [1]}, "no list of trainings"),
        ({"legs": [{"distilled_to": "4"}, {}]}, "distilled it to '4' steps"),
        ({"legs": [{"distilled_to": float("nan")}]}, "distilled it to nan steps"),
        ({"offset_noise": 0.1}, "what its field 'offset_noise' means is not known"),
        ({"architecture": {"channels": 32}}, "channels = 32 is not of the type tuple"),
        ({"size": 16.0}, r"size = 16\.0 is no whole number"),
        ({"steps": True}, "steps = True is no whole number"),
        ({"diffusion": {"schedule": "cosine", "T": 50.0, "prediction": "v"}}, r"T = 50\.0 is no whole number"),
        ({"diffusion": {"schedule": "cosine", "T": 50, "prediction": "v", "snr": 1}}, "its field 'snr' means"),
        ({"diffusion": {"schedule": [0.999] * 200, "T": 200, "prediction": "v"}}, "does not grow from each level"),
        ({"diffusion": {"schedule": [0.5, 0.99999, 3e-16, 0.5], "T": 4, "prediction": "v"}}, "does not grow"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(file: Path, change: dict[str, object], told: str) -> None:
    rewritten(file, change)
    with pytest.raises(ModelFileError, match=told):
        load_model(file)


def test_foreign_files_and_wrong_paths(file: Path, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="another program"):
        load_model(tmp_path / "foreign.safetensors")
    with pytest.raises(FileMissingError, match="does not exist"):
        load_model(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileMissingError, match="is a folder"):
        load_model(tmp_path)


def test_weights_that_are_not_finite_are_refused(file: Path) -> None:
    model = load_model(file)
    with torch.no_grad():
        model.network.first.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(OptionError, match=r"first\.weight is not finite"):
        save_model(file, model, overwrite=True)
    save_file(model.weights, file, {"pixmend": json.dumps(model.header)})
    with pytest.raises(ModelFileError, match="not finite"):
        load_model(file)


def test_weights_that_are_no_real_numbers_are_refused(file: Path) -> None:
    model = load_model(file)
    weights = {**model.weights, "first.weight": model.weights["first.weight"].to(torch.complex64)}
    save_file(weights, file, {"pixmend": json.dumps(model.header)})
    with pytest.raises(ModelFileError, match=r"no real numbers \(first\.weight\)"):
        load_model(file)


def test_a_fingerprint_is_of_the_weights_alone() -> None:
    one, same, other = (Model.new(SMALL, seed=seed) for seed in (1, 1, 2))
    same.legs, same.terms = [{"kimg": 1}], "others"
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_model_that_was_repaired_with_can_be_copied_and_pickled() -> None:
    model = Model.new(SMALL, seed=1)
    model.opened["somewhere"] = threading.Lock()  # as what is open has one
    again = pickle.loads(pickle.dumps(model))  # noqa: S301  # our own
    for copied in (copy.deepcopy(model), again, copy.copy(model)):
        assert copied.fingerprint == model.fingerprint
        assert copied.header == model.header
        assert copied.opened == {}
    assert model.opened


def test_any_header_is_read_by_what_the_file_says_it_is(tmp_path: Path) -> None:
    denoiser = Denoiser.new("timed")
    save_denoiser(tmp_path / "denoiser.safetensors", denoiser)
    assert read_any_header(tmp_path / "denoiser.safetensors")["network"] == "timed"
    assert read_any_header(DEFAULT_MODEL) == read_header()
    with pytest.raises(ModelFileError, match="is a denoiser, not a model that fills holes"):
        read_header(tmp_path / "denoiser.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", {"pixmend": '{"format": "another"}'})
    with pytest.raises(ModelFileError, match="does not hold a model that fills holes"):
        read_any_header(tmp_path / "b.safetensors")
