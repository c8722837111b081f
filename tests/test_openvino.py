"""OpenVINO: the result is torch's, what is compiled is kept, and what fails is told or made up for."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend_answers import CPU, MODEL, ROUNDED, answer, check_same, example, lively_model, off
from pixmend import backends
from pixmend.backends import Careful, open_network, store
from pixmend.backends.with_torch import TorchNetwork
from pixmend.budget import Batches
from pixmend.checkpoint import Model
from pixmend.errors import BackendError, OutputError
from small_model import SMALL_ADM

pytestmark = pytest.mark.usefixtures("network_cache")


@pytest.fixture(scope="module")
def compilations() -> Iterator[list[str]]:
    """The precisions of all that was compiled; to save time, the same thing a second time is not really."""
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)
    run, seen = with_openvino._run_compiler, []
    compiled: dict[tuple[bytes, str], dict[str, bytes]] = {}

    def counted(folder: Path, precision: str) -> None:
        seen.append(precision)
        key = (folder / "model.safetensors").read_bytes(), precision
        if key not in compiled:
            run(folder, precision)
            compiled[key] = {path.name: path.read_bytes() for path in folder.glob("*.blob")}
        for name, content in compiled[key].items():
            (folder / name).write_bytes(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(with_openvino, "_run_compiler", counted)
        yield seen


def openvino_network(model: Model = MODEL, precision: str | None = None) -> Any:
    from pixmend.backends.with_openvino import OpenVinoNetwork

    return OpenVinoNetwork(model, precision)


@given(st.integers(1, 100))
def test_batches_cover_all_pictures_and_one_at_most_in_vain(count: int) -> None:
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)
    cut = with_openvino.batches(count)
    assert count <= sum(cut) <= count + 1
    assert set(cut) <= {1, 4, 8}
    assert cut == sorted(cut, reverse=True)


@pytest.mark.parametrize("model", [MODEL, lively_model(SMALL_ADM)], ids=["unet", "adm"])
def test_openvino_in_float32_is_the_network(model: Model, compilations: list[str]) -> None:
    network = openvino_network(model, "f32")
    for count, height, width in ((1, 16, 16), (3, 16, 16), (11, 16, 16), (2, 5, 23), (1, 1, 1), (1, 40, 16)):
        x, t = example(count, height, width, model)
        torch.testing.assert_close(network(x, t), answer(x, t, model), rtol=1e-3, atol=1e-4)


def test_openvino_is_off_by_rounding_and_a_result_does_not_follow_its_batch(compilations: list[str]) -> None:
    network, (x, t) = open_network(MODEL, "openvino"), example(15)
    assert off(network, x, t) < ROUNDED
    whole = network(x, t)
    for part in (slice(0, 1), slice(3, 6), slice(7, 15), slice(1, 7)):
        check_same(network, network(x[part], t[part]), whole[part])


def test_openvino_knows_the_time_exactly(compilations: list[str]) -> None:
    """Angles rounded to the 8 bits of bfloat16 would be another time."""
    network, (x, _) = openvino_network(), example(1)
    t = torch.tensor([999.0])
    with torch.no_grad():
        wrong = MODEL.network(x, t - 1) - answer(x, t)
    assert (network(x, t) - answer(x, t)).abs().mean() < wrong.abs().mean()


def test_what_is_compiled_is_kept_and_made_again_where_it_is_damaged(
    network_cache: Path, compilations: list[str]
) -> None:
    x, t = example(1)
    expected = openvino_network()(x, t)
    before = len(compilations)
    assert torch.equal(openvino_network()(x, t), expected)
    assert len(compilations) == before
    for file in network_cache.glob("openvino-*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert torch.equal(openvino_network()(x, t), expected)
    assert len(compilations) == before + 1


def test_other_weights_are_never_kept_by_the_name_of_what_was_opened(
    network_cache: Path, compilations: list[str]
) -> None:
    model = copy.deepcopy(MODEL)
    network, (x, t) = openvino_network(model), example(1)
    network(x, t)
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.mul_(0.5)
    for file in network_cache.glob("openvino-*"):
        file.unlink()
    many = example(8)
    with pytest.raises(BackendError, match="weights have changed"):
        network(*many)
    assert not list(network_cache.glob("openvino-*.blob"))
    assert off(openvino_network(), *many) < ROUNDED


SHAPES = ((1, 16, 16), (4, 16, 16), (8, 16, 16), (1, 5, 5))  # each is compiled by itself


@pytest.mark.parametrize("how", ["no room", "no folder"])
def test_all_shapes_are_compiled_at_once_however_little_room_there_is(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if how == "no folder":
        (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(store, "LARGEST", 1)
    before = len(compilations)
    for networks in (1, 2):
        network = openvino_network()
        for shape in SHAPES:
            x, t = example(*shape)
            assert off(network, x, t) < ROUNDED
        assert len(compilations) == before + (networks if how == "no folder" else 1)


def test_one_compiles_and_the_others_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)
    compiler, before = with_openvino._run_compiler, len(compilations)

    def slow(folder: Path, precision: str) -> None:
        time.sleep(0.5)
        compiler(folder, precision)

    monkeypatch.setattr(with_openvino, "_run_compiler", slow)
    x, t = example(1)
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda network: network(x, t), [openvino_network() for _ in range(3)])
    assert len(compilations) == before + 1
    assert all(torch.equal(first, other) for other in others)
    assert not list(store.folder().glob("*.lock"))


def test_openvino_takes_as_many_threads_as_torch(compilations: list[str]) -> None:
    x, t = example(1)
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0)) if sys.platform == "linux" else 2
    for count in (1, min(2, cores)):
        torch.set_num_threads(count)
        try:
            network = openvino_network()
            network(x, t)
        finally:
            torch.set_num_threads(threads)
        (request,) = network._requests.values()
        assert request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == count


def test_converting_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """`openvino.convert_model` begins a session of openvino-telemetry, which sends what it is told."""
    telemetry = pytest.importorskip("openvino_telemetry")
    compiler = pytest.importorskip("pixmend.backends.openvino_compiler", exc_type=ImportError)

    def called(*_: object, **__: object) -> None:
        raise AssertionError("telemetry was begun")

    monkeypatch.setattr(telemetry.Telemetry, "init", called)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated in torch; what cannot be traced is found by comparing
        converted = compiler._converted(MODEL.network, example(2)[0])
        assert len(converted.inputs) == 2
        with pytest.raises(AssertionError, match="telemetry was begun"):  # it would have been seen
            compiler.openvino.convert_model(MODEL.network, example_input=example(2))


def test_ctrl_c_after_openvino_is_only_ctrl_c(compilations: list[str]) -> None:
    """OpenVINO gives the thread a stack for signals; when its user is gone, that stack must still be there."""
    networks = [openvino_network(), openvino_network()]
    for number in range(2):
        networks[number](*example(1))
    for _ in range(2):
        del networks[0]
        gc.collect()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def as_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Has a script of the shell run in the place of the compiler."""
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)

    def make(script: str) -> Path:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(with_openvino.sys, "executable", str(python))
        return python

    return make


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("kill -SEGV $$", "SIGSEGV"),
        ("echo first >&2; echo out of luck >&2; exit 3", "out of luck"),
        ("exit 4", "code 4"),
    ],
)
def test_a_compiler_that_fails_is_told_or_made_up_for(
    script: str, why: str, as_compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_compiler(script)
    monkeypatch.setattr(backends, "suits_openvino", lambda model: True)
    model, (x, t) = lively_model(seed=7), example(2)
    with pytest.raises(BackendError, match=f"OpenVINO .*{why}.*; take --backend torch"):
        open_network(model, "openvino")(x, t)
    network = open_network(model, "auto", "cpu")
    assert network.name == "openvino"
    with pytest.warns(UserWarning, match=f"{why}.*; torch computes the network instead"):
        assert off(network, x, t, model) < ROUNDED


@pytest.mark.parametrize("how", ["no room for its files", "a broken library", "an old library"])
def test_whatever_fails_in_openvino_is_told_or_made_up_for(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)

    def fail(error: Exception) -> Callable[..., None]:
        def failing(*_: object, **__: object) -> None:
            raise error

        return failing

    if how == "no room for its files":
        why = "the disk is full"
        monkeypatch.setattr(with_openvino, "save_model", fail(OutputError(f"the model could not be written: {why}")))
    elif how == "a broken library":
        why = "backend openvino cannot be loaded"
        monkeypatch.setitem(sys.modules, "pixmend.backends.with_openvino", None)
    else:
        why = "has no attribute 'Core'"
        monkeypatch.setattr(with_openvino, "core", fail(AttributeError(f"module 'openvino' {why}")))
    monkeypatch.setattr(backends, "suits_openvino", lambda model: True)
    model, (x, t) = lively_model(seed=8), example(2)
    with pytest.raises(BackendError, match=f"{why}.*; take --backend torch"):
        open_network(model, "openvino")(x, t)
    with pytest.warns(UserWarning, match=f"{why}.*; torch computes the network instead"):
        found = open_network(model, "auto", "cpu")(x, t)
    assert torch.equal(found, TorchNetwork(model.network, CPU)(x, t))


def test_memory_that_ends_in_openvino_is_left_to_who_asks_for_less(
    compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, (x, t) = openvino_network(), example(8)
    request = fast._request

    def short_of_memory(size: int) -> Any:
        if size > 1:
            raise RuntimeError("Exception from src/plugins/intel_cpu/src/memory.cpp: std::bad_alloc")
        return request(size)

    monkeypatch.setattr(fast, "_request", short_of_memory)
    network = Careful(fast, TorchNetwork(MODEL.network, CPU))
    calls: list[int] = []
    assert off(Batches(network, 8, calls.append), x, t) < ROUNDED
    assert (network.name, calls) == ("openvino", [2, 2, 2, 2]), "of two, one is computed after the other"


def test_what_lies_in_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_openvino = pytest.importorskip("pixmend.backends.with_openvino", exc_type=ImportError)
    for name in ("torch", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('whoever wrote this')\n")
    (tmp_path / "model.safetensors").write_text("no model")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match=r"model\.safetensors is not a model file"):
        with_openvino._run_compiler(tmp_path, "f32")


def test_ctrl_c_in_a_terminal_does_not_reach_the_compiler(as_compiler: Callable[[str], Path]) -> None:
    """It goes to all in the terminal's session; who started the compiler may want to go on."""
    as_compiler(f'exec {sys.executable} -c "import os, sys; sys.exit(str(os.getsid(0) == os.getpid()))"')
    with pytest.raises(BackendError, match=r"cannot compile the network \(True\)"):
        open_network(lively_model(seed=9), "openvino")(*example(1))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_compiler_is_told_when_who_started_it_is_killed(as_compiler: Callable[[str], Path], tmp_path: Path) -> None:
    python = as_compiler(f"echo > {tmp_path}/began; cat; echo > {tmp_path}/ended")
    program = (
        f"from pathlib import Path; from pixmend.backends import with_openvino as w; w.sys.executable = '{python}'"
    )
    program += f"; w._run_compiler(Path('{tmp_path}'), 'f32')"
    real = Path(sys.prefix) / "bin" / "python"
    with subprocess.Popen([real, "-c", program]) as starter:
        wait_for(tmp_path / "began")
        assert not (tmp_path / "ended").exists()
        starter.kill()
    wait_for(tmp_path / "ended")


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} has not come")
