"""Backends: whatever computes the network, the result is torch's; what fails is told, or made up for."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
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
from torch import Tensor

from pixmend import backends, runtime
from pixmend.adm import AdmConfig
from pixmend.backends import Careful, OpenNetwork, check_backend, kept_open, open_network, store, suits_openvino
from pixmend.backends.store import cached_name, read_cached, write_cached
from pixmend.backends.with_torch import MOST_GRAPHS, Compute, Graphs, TorchNetwork
from pixmend.budget import Batches
from pixmend.checkpoint import Model
from pixmend.cli import main
from pixmend.errors import BackendError, OptionError, OutputError
from pixmend.unet import UNetConfig

SMALL = UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, time_channels=16)
ADM = AdmConfig(
    channels=(16, 32),
    down_attention=(False, True),
    up_attention=(False, True),
    shrink_by_block=(True,),
    grow_by_block=(False,),
    time_channels=16,
    embedding_channels=32,
    blocks=1,
    middle_groups=8,
    groups=8,
)
CPU = torch.device("cpu")
# On a processor that computes in bfloat16: of the mean difference to float32, relative to the standard deviation.
ROUNDED = 2e-2


def small_model(config: Any = SMALL, seed: int = 1) -> Model:
    """A tiny network none of whose answers is zero."""
    model = Model.new(config, size=16, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.network.eval()
    model.legs = [{"kimg": 0}]
    return model


MODEL = small_model()


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is compiled here is not kept in the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "pixmend" / "networks"


def example(count: int, height: int = 16, width: int = 16, model: Model = MODEL) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count + height)
    x = torch.randn(count, model.network.config.in_channels, height, width, generator=generator)
    return x, torch.linspace(0, 999, count).round()


@torch.no_grad()
def answer(x: Tensor, t: Tensor, model: Model = MODEL) -> Tensor:
    output: Tensor = model.network(x, t)
    return output


def off(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, model: Model = MODEL) -> float:
    """The mean difference to torch in float32, relative to the standard deviation."""
    expected, found = answer(x, t, model), network(x, t)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    return float((found - expected).abs().mean() / expected.std())


def check_same(network: OpenNetwork, found: Tensor, expected: Tensor) -> None:
    """Equal, in bfloat16; in float32 the order in which numbers are added up may follow the batch."""
    exact = network.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0 if exact else 1e-5)


# --- torch


@pytest.mark.parametrize("size", [(16, 16), (5, 23), (1, 1)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_torch_in_float32_is_the_network(size: tuple[int, int], layout: torch.memory_format) -> None:
    network, (x, t) = TorchNetwork(MODEL.network, CPU, torch.float32, layout), example(3, *size)
    torch.testing.assert_close(network(x, t), answer(x, t), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(x, t.long()), answer(x, t), rtol=1e-4, atol=1e-5)


def test_torch_by_default_is_off_by_rounding_and_a_result_does_not_follow_its_batch() -> None:
    network, (x, t) = open_network(MODEL, "torch", "cpu"), example(5)
    assert network.name == "torch"
    assert network.device == CPU
    assert off(network, x, t) < ROUNDED
    check_same(network, network(x, t)[2:3], network(x[2:3], t[2:3]))


def double(x: Tensor, t: Tensor) -> Tensor:
    return 2 * x


def test_graphs_are_recorded_at_the_second_call_of_a_shape() -> None:
    recorded: list[tuple[int, ...]] = []

    def record(compute: Compute, x: Tensor, t: Tensor) -> Compute:
        recorded.append(tuple(x.shape))
        return lambda x, t: compute(x, t) + 1  # so that it can be told who answered

    call, t = Graphs(double, record), torch.zeros(1)
    a, b = torch.ones(1, 2), torch.ones(1, 3)
    assert [float(call(v, t)[0, 0]) for v in (a, b, a, a, b)] == [2, 2, 3, 3, 3]
    assert recorded == [(1, 2), (1, 3)]


def test_what_cannot_be_recorded_is_computed_plainly() -> None:
    tries = []

    def record(compute: Compute, x: Tensor, t: Tensor) -> Compute:
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    call = Graphs(double, record)
    assert [float(call(torch.ones(1), torch.zeros(1))) for _ in range(4)] == [2] * 4
    assert len(tries) == 1


def test_threads_take_turns_with_a_record() -> None:
    """It has one place for what goes in."""

    def record(compute: Compute, x: Tensor, t: Tensor) -> Compute:
        place = x.clone()

        def replay(x: Tensor, t: Tensor) -> Tensor:
            place.copy_(x)
            time.sleep(0.002)
            return compute(place, t)

        return replay

    call, t = Graphs(double, record), torch.zeros(1)
    call(torch.ones(1), t)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: float(call(torch.full((1,), float(n)), t)), range(40)))
    assert found == [float(double(torch.full((1,), float(n)), t)) for n in range(40)]


def test_so_many_shapes_are_recorded_and_no_more() -> None:
    recorded: list[int] = []

    def record(compute: Compute, x: Tensor, t: Tensor) -> Compute:
        recorded.append(len(x))
        return compute

    call = Graphs(double, record)
    for _ in range(3):
        for n in range(1, MOST_GRAPHS + 3):
            assert len(call(torch.ones(n), torch.zeros(n))) == n
    assert recorded == list(range(1, MOST_GRAPHS + 1))


# --- which one


def test_unknown_names_are_told() -> None:
    with pytest.raises(
        OptionError, match="backend 'tensorflow' is not known; choose one of auto, torch, openvino, onnx"
    ):
        open_network(MODEL, "tensorflow")


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_what_computes_on_the_processor_takes_no_other_device(backend: str) -> None:
    with pytest.raises(OptionError, match="computes on the processor, not on 'cuda'"):
        check_backend(backend, "cuda")


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_a_backend_that_is_not_installed_is_one_line(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, err: Callable[[], str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code = main(["inpaint", "no.png", "-o", str(tmp_path / "out.png"), "--backend", backend])
    assert code == BackendError.exit_code == 12
    assert f"install pixmend[{backend}], or take --backend torch" in err()


def test_auto_takes_openvino_where_it_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed, in bfloat16, for networks that are neither tiny nor huge nor of somebody else."""
    installed, rounds = {"openvino"}, True
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(runtime, "fast_dtype", lambda device: torch.bfloat16 if rounds else torch.float32)
    parameters = MODEL.network.parameter_count
    monkeypatch.setattr(backends, "SMALLEST", parameters)
    monkeypatch.setattr(backends, "LARGEST", parameters)
    assert suits_openvino(MODEL)
    monkeypatch.setattr(backends, "SMALLEST", parameters + 1)
    assert not suits_openvino(MODEL)
    monkeypatch.setattr(backends, "SMALLEST", 0)
    monkeypatch.setattr(backends, "LARGEST", parameters - 1)
    assert not suits_openvino(MODEL)
    monkeypatch.setattr(backends, "LARGEST", parameters)
    foreign = dataclasses.replace(MODEL, network=torch.nn.Identity())  # type: ignore[arg-type]
    assert not suits_openvino(foreign)
    rounds = False
    assert not suits_openvino(MODEL)
    rounds = True
    installed.clear()
    assert not suits_openvino(MODEL)
    assert open_network(MODEL, "auto", "cpu").name == "torch"


class Failing:
    name, description, device, dtype = "fast", "fast 1.0", CPU, torch.bfloat16

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        raise BackendError("it broke")


def test_a_fast_network_that_fails_is_replaced_with_one_warning() -> None:
    network, (x, t) = Careful(Failing(), TorchNetwork(MODEL.network, CPU, torch.float32)), example(2)
    assert (network.name, network.dtype) == ("fast", torch.bfloat16)
    with pytest.warns(UserWarning, match="it broke; torch computes the network instead"):
        found = network(x, t)
    torch.testing.assert_close(found, answer(x, t), rtol=1e-4, atol=1e-5)
    network(x, t)  # a second warning would be an error here
    assert (network.name, network.dtype, network.device) == ("torch", torch.float32, CPU)
    assert network.description.startswith("torch ")


# --- what is kept


def test_what_is_kept_comes_back_whole_or_not_at_all(cache: Path) -> None:
    assert write_cached({"a.blob": b"compiled"})
    assert read_cached("a.blob") == b"compiled"
    assert read_cached("b.blob") is None
    whole = (cache / "a.blob").read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], whole[:-1] + b"D", b"\0" + whole[1:], whole + b"d"):
        (cache / "a.blob").write_bytes(damaged)
        assert read_cached("a.blob") is None


def test_what_was_not_used_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for i, name in enumerate("abc"):
        write_cached({name: bytes(100)})
        os.utime(store.folder() / name, (i, i))
    assert read_cached("a") is not None  # used now
    monkeypatch.setattr(store, "LARGEST", 3 * (100 + store.DIGEST))
    write_cached({"d": bytes(100)})
    assert {path.name for path in store.folder().iterdir()} == {"a", "c", "d"}
    together = {"e": bytes(200), "f": bytes(300)}
    assert write_cached(together)
    assert {path.name for path in store.folder().iterdir()} == {"e", "f"}, "what is new stays, whatever its size"


def test_a_folder_that_cannot_be_written_to_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not write_cached({"a": b"compiled"})
    assert read_cached("a") is None


def test_the_name_follows_weights_architecture_code_and_all_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wider = UNetConfig(**{**SMALL.__dict__, "groups": 8})  # the same weights, another network
    again, other, grouped = small_model(), small_model(seed=2), small_model(wider)
    assert cached_name(again, version=1) == cached_name(MODEL, version=1)
    names = [cached_name(m, version=1) for m in (MODEL, other, grouped)] + [cached_name(MODEL, version=2)]
    (tmp_path / "unet.py").write_text("what networks compute has changed")
    monkeypatch.setattr(store, "CODE", (tmp_path / "unet.py",))
    names.append(cached_name(MODEL, version=1))
    assert len(set(names)) == len(names)


# --- OpenVINO


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


@pytest.mark.parametrize("model", [MODEL, small_model(ADM)], ids=["unet", "adm"])
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


def test_what_is_compiled_is_kept_and_made_again_where_it_is_damaged(cache: Path, compilations: list[str]) -> None:
    x, t = example(1)
    expected = openvino_network()(x, t)
    before = len(compilations)
    assert torch.equal(openvino_network()(x, t), expected)
    assert len(compilations) == before
    for file in cache.glob("openvino-*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert torch.equal(openvino_network()(x, t), expected)
    assert len(compilations) == before + 1


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
    model, (x, t) = small_model(seed=7), example(2)
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
    model, (x, t) = small_model(seed=8), example(2)
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
        open_network(small_model(seed=9), "openvino")(*example(1))


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


def test_a_network_is_opened_once_for_weights_that_stay() -> None:
    model = small_model()
    first = kept_open(model, "torch")
    assert kept_open(model, "torch") is first
    with torch.no_grad():
        next(iter(model.network.parameters())).mul_(2)
    changed = kept_open(model, "torch")
    assert changed is not first, "what a backend compiled of the weights is out of date"
    moved = next(iter(model.network.parameters()))
    moved.data = moved.data.clone()  # as `Module.to` of another device does
    assert kept_open(model, "torch") is not changed, "what is recorded on a GPU reads where weights lay"
    changed = kept_open(model, "torch")
    other = dataclasses.replace(model, network=small_model(seed=2).network)
    assert kept_open(other, "torch") is not changed
    assert kept_open(model, "torch") is changed
