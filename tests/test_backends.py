"""Backends: whatever computes the network, the result is torch's; what fails is told, or made up for."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend_answers import CPU, MODEL, ROUNDED, answer, check_same, example, lively_model, off
from pixmend import backends, runtime
from pixmend.backends import Careful, check_backend, kept_open, open_network, store, suits_openvino
from pixmend.backends.store import cached_name, read_cached, write_cached
from pixmend.backends.with_torch import MOST_GRAPHS, Compute, Graphs, TorchNetwork
from pixmend.cli import main
from pixmend.errors import BackendError, OptionError
from pixmend.unet import UNetConfig
from small_model import SMALL

pytestmark = pytest.mark.usefixtures("network_cache")


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


def test_what_is_kept_comes_back_whole_or_not_at_all(network_cache: Path) -> None:
    assert write_cached({"a.blob": b"compiled"})
    assert read_cached("a.blob") == b"compiled"
    assert read_cached("b.blob") is None
    whole = (network_cache / "a.blob").read_bytes()
    for damaged in (b"", whole[:-1], whole[:20], whole[:-1] + b"D", b"\0" + whole[1:], whole + b"d"):
        (network_cache / "a.blob").write_bytes(damaged)
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
    again, other, grouped = lively_model(), lively_model(seed=2), lively_model(wider)
    assert cached_name(again, version=1) == cached_name(MODEL, version=1)
    names = [cached_name(m, version=1) for m in (MODEL, other, grouped)] + [cached_name(MODEL, version=2)]
    (tmp_path / "unet.py").write_text("what networks compute has changed")
    monkeypatch.setattr(store, "CODE", (tmp_path / "unet.py",))
    names.append(cached_name(MODEL, version=1))
    assert len(set(names)) == len(names)


def test_a_network_is_opened_once_for_weights_that_stay() -> None:
    model = lively_model()
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
    other = dataclasses.replace(model, network=lively_model(seed=2).network)
    assert kept_open(other, "torch") is not changed
    assert kept_open(model, "torch") is changed
