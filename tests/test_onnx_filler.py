"""A model with guide and sampler as one ONNX file: what `inpainting` does with a picture of one tile."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixmend import filling, inpainting, runtime, windows
from pixmend.backends.onnx_file import compare
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.cli import main
from pixmend.diffusion import Conditioning
from pixmend.errors import BackendError, OptionError
from pixmend.images import load_image
from pixmend.onnx_filler import Filler, _is_wide, narrow_pixels
from small_model import SMALL, small_model

SIZE = 17  # no multiple of the network's stride
EXAMPLE = Path(__file__).parents[1] / "examples" / "repair_with_onnx.py"


def with_mean(conditioning: Conditioning = "residual") -> Model:
    """A tiny model with a tiny mean, of random weights."""
    model = small_model(conditioning=conditioning, size=SIZE)
    model.mean = Model.new_mean(SMALL, size=SIZE, seed=2)
    with torch.no_grad():
        model.mean.network.last.weight.normal_(0, 0.1)
    return model


def inputs(size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random pixels with two holes, one across, one wide."""
    generator = torch.Generator().manual_seed(seed)
    image, noise = (draw(1, 3, size, size, generator=generator) for draw in (torch.rand, torch.randn))
    mask = torch.zeros(1, 1, size, size)
    mask[..., 1, :] = mask[..., 3 : size * 3 // 4, 2 : size * 3 // 4] = 1
    return {"image": image, "mask": mask, "noise": noise}


@pytest.mark.parametrize("holes", ["lines", "square", "both", "wide"])
def test_it_fills_as_inpainting_does(holes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one level, where no grain is added, with the same noise; but for rounding to levels of 255."""
    model = replace(load_model())
    assert model.mean is not None
    model.mean = replace(model.mean)
    noise = torch.randn(1, 3, model.size, model.size, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(filling, "_noise", lambda seeds: lambda like: noise.expand_as(like))
    monkeypatch.setattr(sys.modules["pixmend.inpainting"], "match_grain", lambda fill, *_: fill)
    monkeypatch.setattr(sys.modules["pixmend.inpainting"], "plan_levels", only_the_finest)
    monkeypatch.setattr(runtime, "fast_dtype", lambda device: torch.float32)
    hole = np.zeros((model.size, model.size), np.uint8)
    if holes in ("lines", "both"):
        hole[3, :] = hole[:30, 2] = 255
    if holes in ("square", "both"):
        hole[35:48, 30:44] = 255
    if holes == "wide":
        hole[20:44, 22:50] = 255
    picture = coloured(model.size)
    result = inpainting(picture, hole, model=model, detail="model", backend="torch", device="cpu")
    assert {part.narrow for part in result.job.parts} == {"lines": {True}, "both": {True, False}}.get(holes, {False})
    x0 = load_image(picture)
    with torch.inference_mode():
        filled = Filler(model)((x0 + 1) / 2, torch.from_numpy(hole)[None, None] / 255, noise)
    found = (255 * filled[0].permute(1, 2, 0)).round().numpy()
    assert np.abs(found - result.pictures[0].samples).max() <= 1


def coloured(size: int) -> Any:
    """Waves and noise that grows from left to right: neither calm nor rough all over."""
    rows, columns = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(9 * rows + 3 * columns), np.cos(20 * columns * rows), np.sin(4 * columns)], -1)
    noise = np.random.default_rng(0).normal(0, 0.15, waves.shape) * columns[..., None]
    return np.rint(127.5 + 100 * np.clip(waves + noise, -1, 1)).astype(np.uint8)


def only_the_finest(*arguments: Any) -> Any:
    return sys.modules["pixmend.levels"].plan_levels(*arguments)[:1]


def test_narrow_and_wide_are_what_they_are_for_windows() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        hole = np.zeros((70, 90), bool)
        for _ in range(rng.integers(1, 6)):
            top, left = rng.integers(0, 60, 2)
            height, width = rng.integers(1, rng.choice([3, 12, 40]), 2)
            hole[top : top + height, left : left + width] = True
        expected = windows.narrow_pixels(hole)
        as_tensor = torch.from_numpy(hole)[None, None].float()
        assert np.array_equal(narrow_pixels(as_tensor)[0, 0].numpy() > 0, expected)
        is_wide = windows.is_wide(hole, 64)
        assert _is_wide(as_tensor, 64).item() == is_wide
        seen.add((bool(expected.any()), bool((hole & ~expected).any()), is_wide))
    assert len(seen) >= 4  # neither is always so


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file m.safetensors with a mean, and fill.onnx, which `pixmend export` made of it."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("filler")
    save_model(folder / "m.safetensors", with_mean(), dtype=torch.float32)
    assert main(["export", str(folder / "m.safetensors"), "-o", str(folder / "fill.onnx"), "--filler"]) == 0
    return folder


def session_of(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of the noise, which is there already
    return onnxruntime.InferenceSession(folder / "fill.onnx", options, providers=["CPUExecutionProvider"])


def test_the_file_takes_a_picture_and_a_mask_and_gives_what_torch_does(folder: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(folder / "fill.onnx"), full_check=True)
    session = session_of(folder)
    assert [one.name for one in session.get_inputs()] == ["image", "mask"]  # the noise is there already
    filler = Filler(load_model(folder / "m.safetensors"))
    for seed in range(3):
        given = inputs(SIZE, seed)
        compare((folder / "fill.onnx").read_bytes(), filler, given)
        arrays = {name: value.numpy() for name, value in given.items()}
        (filled,) = session.run(["filled"], arrays)
        known = arrays["mask"][0, 0] == 0
        assert np.array_equal(filled[..., known], arrays["image"][..., known])
        with torch.no_grad():
            np.testing.assert_allclose(filled, filler(*given.values()).numpy(), atol=1e-4)


def test_other_noise_is_another_fill_and_none_the_same_again(folder: Path) -> None:
    session, given = session_of(folder), {name: value.numpy() for name, value in inputs(SIZE, seed=9).items()}
    drawn = session.run(None, given)[0]
    del given["noise"]
    first, second = (session.run(None, given)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first - drawn).max() > 0.01


def test_evaluation_takes_it_as_it_takes_those_of_others(folder: Path) -> None:
    from pixmend.evaluation.foreign import onnx

    truth, hole = coloured(SIZE), np.zeros((SIZE, SIZE), bool)
    hole[4:7, 3:9] = True
    filled = onnx(folder / "fill.onnx")(truth, hole, 0).pixels
    assert np.array_equal(filled[~hole], truth[~hole])
    assert not np.array_equal(filled, truth)


@pytest.mark.parametrize(("height", "width"), [(SIZE, SIZE), (23, 40)])
def test_the_example_repairs_without_torch(folder: Path, tmp_path: Path, height: int, width: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    hole = np.zeros((height, width), np.uint8)
    hole[7:11, 4:8] = hole[-2:, -12:] = 255
    out = run_example(folder, tmp_path, picture, hole)
    assert np.array_equal(out[hole == 0], picture[hole == 0])
    if height == 23:  # the first hole lies in a window of its own
        image = torch.from_numpy(picture[:SIZE, :SIZE]).permute(2, 0, 1)[None] / 255
        mask = torch.from_numpy(hole[:SIZE, :SIZE])[None, None] / 255
        with torch.no_grad():
            filled = Filler(load_model(folder / "m.safetensors"))(image, mask, default_noise(folder))
        expected = 255 * filled[0].permute(1, 2, 0).numpy()
        assert np.abs(out[7:11, 4:8] - expected[7:11, 4:8]).max() <= 1


def default_noise(folder: Path) -> torch.Tensor:
    import onnx

    [noise] = [i for i in onnx.load(folder / "fill.onnx").graph.initializer if i.name == "noise"]
    return torch.from_numpy(onnx.numpy_helper.to_array(noise).copy())


def run_example(folder: Path, tmp_path: Path, picture: Any, hole: Any) -> Any:
    Image.fromarray(picture).save(tmp_path / "picture.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    program = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_path({str(EXAMPLE)!r})"
    subprocess.run([sys.executable, "-c", program, *example_files(folder, tmp_path)], check=True)
    return np.array(Image.open(tmp_path / "out.png"))


def example_files(folder: Path, tmp_path: Path) -> list[str]:
    return [str(folder / "fill.onnx"), *(str(tmp_path / name) for name in ("picture.png", "mask.png", "out.png"))]


def test_a_hole_of_many_windows_is_filled_whole(folder: Path, tmp_path: Path) -> None:
    """A line across, a wide hole and one in a corner: nothing is left as it was, and nothing beside them changes."""
    picture = np.full((40, 50, 3), 128, np.uint8)
    hole = np.zeros((40, 50), np.uint8)
    hole[20] = hole[2:38, 25:45] = hole[36:, :9] = 255
    picture[hole > 0] = (255, 0, 255)
    out = run_example(folder, tmp_path, picture, hole)
    assert np.array_equal(out[hole == 0], picture[hole == 0])
    assert not (out[hole > 0] == (255, 0, 255)).all(-1).any()


def test_the_example_says_what_it_cannot_do(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, mask_size in (((SIZE - 1, 40), (SIZE - 1, 40)), ((40, 40), (41, 40))):
        Image.new("RGB", size).save(tmp_path / "picture.png")
        Image.new("L", mask_size).save(tmp_path / "mask.png")
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *example_files(folder, tmp_path)])
        with pytest.raises(SystemExit, match="of one size, and at least 17 pixels wide and high"):
            runpy.run_path(str(EXAMPLE))
    assert not (tmp_path / "out.png").exists()


def test_what_cannot_be_a_filler_is_told(tmp_path: Path, err: Callable[[], str]) -> None:
    with pytest.raises(OptionError, match="a plain model is not told what is known"):
        Filler(small_model(conditioning="plain"))
    model = small_model()
    model.sampler = "ddpm"
    with pytest.raises(OptionError, match="ddpm, draws noise at every step; export the network"):
        Filler(model)
    save_model(tmp_path / "m.safetensors", small_model())
    files = [str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "folder")]
    assert main(["export", *files, "--filler"]) == 2
    assert "--filler is for ONNX" in err()


def test_packages_that_lack_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixmend.backends import onnx_file
    from pixmend.onnx_filler import export_onnx_filler

    monkeypatch.setattr(onnx_file, "missing_packages", lambda backend: ["onnx"])
    with pytest.raises(BackendError, match=r"needs onnx; install pixmend\[onnx\]"):
        export_onnx_filler(small_model(), tmp_path / "fill.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("page", ["backends.md", "backends.zh-CN.md"])
def test_the_documents_show_the_example_as_it_is(page: str) -> None:
    text = (EXAMPLE.parents[1] / "docs" / page).read_text("utf-8")
    assert f"```python\n{EXAMPLE.read_text('utf-8')}```\n" in text
