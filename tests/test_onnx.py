"""ONNX files: valid, complete in themselves, and in other programs what the model is here."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from backend_answers import lively_model
from pixmend.backends import open_network
from pixmend.backends.onnx_file import export_onnx
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.cli import main
from pixmend.errors import BackendError
from small_model import SMALL, SMALL_ADM, small_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file m.safetensors with random weights, and m.onnx, which `pixmend export` made of it."""
    folder = tmp_path_factory.mktemp("onnx")
    save_model(folder / "m.safetensors", small_model())
    assert main(["export", str(folder / "m.safetensors"), "-o", str(folder / "m.onnx")]) == 0
    return folder


def test_the_file_is_valid_and_knows_all_that_the_model_file_does(folder: Path) -> None:
    model, proto = load_model(folder / "m.safetensors"), onnx.load(folder / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    told = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert told["pixmend"] == read_header(folder / "m.safetensors")
    assert told["alpha_bars"] == model.diffusion.alpha_bars.tolist()


@pytest.mark.parametrize("shape", [(1, 16, 16), (5, 16, 16), (2, 6, 34), (1, 2, 2)])
def test_any_batch_and_size_gives_what_torch_gives(folder: Path, shape: tuple[int, int, int]) -> None:
    session = onnxruntime.InferenceSession(folder / "m.onnx", providers=["CPUExecutionProvider"])
    count, height, width = shape
    x, t = torch.randn(count, 7, height, width), torch.linspace(0, 999, count)
    (found,) = session.run(["output"], {"x": x.numpy(), "t": t.numpy()})
    with torch.no_grad():
        expected = load_model(folder / "m.safetensors").network(x, t)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_the_backend_takes_odd_sizes_and_exports_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixmend.backends import with_onnx

    exports: list[Model] = []

    def exported(model: Model) -> bytes:
        exports.append(model)
        return (folder / "m.onnx").read_bytes()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(with_onnx, "onnx_bytes", exported)
    model = load_model(folder / "m.safetensors")
    for _ in range(2):
        network = open_network(model, "onnx")
        assert network.name == "onnx"
        for shape in ((3, 7, 16, 16), (1, 7, 5, 9)):
            x, t = torch.randn(shape), torch.full(shape[:1], 300)
            with torch.no_grad():
                torch.testing.assert_close(network(x, t), model.network(x, t), rtol=1e-4, atol=1e-5)
    assert len(exports) == 1


def test_a_network_that_cannot_be_loaded_or_computed_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixmend.backends import with_onnx

    model = load_model(folder / "m.safetensors")
    for number, content in enumerate((b"", b"no graph", (folder / "m.onnx").read_bytes()[:-100])):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))
        monkeypatch.setattr(with_onnx, "onnx_bytes", lambda model, content=content: content)
        with pytest.raises(BackendError, match=r"ONNX Runtime cannot load the network \(.+\); take --backend torch"):
            open_network(model, "onnx")
    monkeypatch.setattr(with_onnx, "onnx_bytes", lambda model: (folder / "m.onnx").read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = open_network(model, "onnx")
    with pytest.raises(BackendError, match=r"ONNX Runtime cannot compute the network \(.+\); take --backend torch"):
        network(torch.zeros(1, 6, 16, 16), torch.zeros(1))

    def short_of_memory(*_: object) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException(
            "Failed to allocate memory for requested buffer of size 99"
        )

    own = with_onnx.OnnxNetwork(model)
    monkeypatch.setattr(own, "_session", SimpleNamespace(run=short_of_memory))
    with pytest.raises(MemoryError):
        own(torch.zeros(1, 7, 16, 16), torch.zeros(1))


def test_networks_of_other_programs_are_exported(tmp_path: Path) -> None:
    model = lively_model(SMALL_ADM)
    session = onnxruntime.InferenceSession(
        export_onnx(model, tmp_path / "adm.onnx"), providers=["CPUExecutionProvider"]
    )
    for shape in ((1, 16, 16), (3, 6, 34)):
        x, t = torch.randn(shape[0], 7, *shape[1:]), torch.linspace(0, 999, shape[0])
        (found,) = session.run(["output"], {"x": x.numpy(), "t": t.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model.network(x, t), rtol=1e-3, atol=1e-4)


def test_a_network_that_no_file_of_onnx_holds_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds less than 2 GiB, and a parameter is 4 bytes."""
    model = Model.new(SMALL, size=16)
    monkeypatch.setattr(type(model.network), "parameter_count", 2**29)
    monkeypatch.setattr(torch.onnx, "export", None)
    with pytest.raises(BackendError, match=r"the network has 536,870,912 parameters.*; choose a smaller model"):
        export_onnx(model, tmp_path / "large.onnx")
    assert not list(tmp_path.iterdir())


def test_export_says_what_it_needs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, err: Callable[[], str]
) -> None:
    model, out = str(folder / "m.safetensors"), str(tmp_path / "m.onnx")
    assert main(["export", model, "-o", out, "--format", "tflite"]) == 2
    assert "choose onnx or diffusers" in err()
    assert main(["export", model, "-o", str(tmp_path / "new"), "--overwrite"]) == 2
    assert "a folder is never replaced" in err()
    assert main(["export", model, "-o", str(folder / "m.onnx")]) == 7
    assert "m.onnx exists and is left as it is" in err()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else name)
    assert main(["export", model, "-o", out]) == BackendError.exit_code
    assert "exporting to ONNX needs onnx; install pixmend[onnx]" in err()
    assert not Path(out).exists()
