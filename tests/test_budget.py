"""The budget: what is understood, fewer tiles where memory ends, one line where not even one fits."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pixmend import budget
from pixmend.budget import Batches, free_memory, memory_as_one_line, memory_limit
from pixmend.errors import MemoryLimitError, OptionError
from pixmend.runtime import usable_cores

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2GB", 2e9),
        ("1.5 GiB", 1.5 * 2**30),
        ("800mb", 8e8),
        ("64k", 64e3),
        ("12345", 12345),
        (777, 777),
        ("3 MiB", 3 * 2**20),
    ],
)
def test_amounts_of_memory(text: str | int, count: float) -> None:
    assert memory_limit(text, CPU) == count


def test_shares_of_memory_are_of_what_is_free() -> None:
    free = free_memory(CPU)
    assert 0.3 * free < memory_limit("50%", CPU) < 0.7 * free  # others take and give meanwhile
    assert 0.3 * free < memory_limit(None, CPU) < 0.7 * free


def own_groups(folder: Path, monkeypatch: pytest.MonkeyPatch, groups: str) -> Path:
    """Has Linux tell that this process is in these control groups; returns the folder that they are in."""
    folder.mkdir()
    folder.with_name("groups").write_text(groups)
    monkeypatch.setattr(budget, "CGROUP", folder)
    monkeypatch.setattr(budget, "OWN_GROUPS", folder.with_name("groups"))
    return folder


def limited(group: Path, *, limit: int | str, used: int, files: int = 0, version: int = 2) -> None:
    """A control group, as the kernel tells of it."""
    names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    group.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (group / f"memory.{name}").write_text(f"{value}\n")
    kept = f"active_file {files}\n" if version == 2 else f"active_file 9\ninactive_file 9\ntotal_active_file {files}\n"
    (group / "memory.stat").write_text(f"anon 5\n{kept}")


def test_the_least_of_all_groups_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a cluster, where the job has a limit, and not the step, the container or the whole machine."""
    root = own_groups(tmp_path / "cgroup", monkeypatch, "0::/jobs/job_7/step_0\n")
    all_free = free_memory(CPU)
    limited(root / "jobs/job_7/step_0", limit="max", used=10)
    assert free_memory(CPU) > all_free // 2
    limited(root / "jobs/job_7", limit=10**6, used=900_000, files=5_000)
    limited(root / "jobs", limit=10**7, used=900_000)
    assert free_memory(CPU) == 105_000
    limited(root / "jobs/job_7/step_0", limit=500_000, used=499_999)
    assert free_memory(CPU) == 1


def test_groups_of_the_first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = "12:cpu,cpuacct:/docker/ab12\n5:memory:/docker/ab12\n1:name=systemd:/docker/ab12\n0::/system.slice\n"
    root = own_groups(tmp_path / "cgroup", monkeypatch, groups)
    limited(root / "memory", limit=2**63 - 4096, used=123, version=1)
    all_free = free_memory(CPU)
    assert all_free > 10**6
    limited(root / "memory", limit=10**6, used=900_000, files=7_000, version=1)  # all that a container sees
    assert free_memory(CPU) == 107_000
    limited(root / "memory/docker/ab12", limit=10**6, used=950_000, version=1)
    assert free_memory(CPU) == 50_000


def test_in_a_container_what_was_read_from_files_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = own_groups(tmp_path / "cgroup", monkeypatch, "0::/\n")
    limit = free_memory(CPU) // 2
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{limit - 1000}\n")
    (tmp_path / "memory.stat").write_text("anon 5\nfile 900\ninactive_file 600\nactive_file 40\nactive_anon 7\n")
    assert free_memory(CPU) == 1000 + 600 + 40
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 1640


def test_windows_is_asked_for_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(status: Any) -> int:
        assert status._obj.length == ctypes.sizeof(status._obj) == 64
        content = ctypes.cast(ctypes.addressof(status._obj), ctypes.POINTER(ctypes.c_uint64))
        content[1], content[2], content[3] = 32 << 30, 12 << 30, 40 << 30  # as the system lays them out
        return known

    known = 1
    kernel = SimpleNamespace(GlobalMemoryStatusEx=tell)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(budget, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(budget, "OWN_GROUPS", Path("/nowhere"))
    assert free_memory(CPU) == 12 << 30
    known = 0
    assert free_memory(CPU) == budget.ASSUMED


def test_mps_has_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12345, raising=False)
    assert free_memory(torch.device("mps")) == 12345
    monkeypatch.delattr(torch.mps, "recommended_max_memory")
    assert free_memory(torch.device("mps")) > 12345


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell")
def test_in_a_container_there_are_fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 17})
    assert usable_cores() == 2


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "0%", "101%", "2 TB", "1,5GB", "GB"])
def test_amounts_that_cannot_be(text: str) -> None:
    with pytest.raises(OptionError, match="max memory"):
        memory_limit(text, CPU)


class Small:
    """A network for at most `holds` pictures at once."""

    def __init__(self, holds: int, error: BaseException) -> None:
        self.holds, self.error, self.sizes = holds, error, list[int]()

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.holds:
            raise self.error
        return x + t[:, None, None, None]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223: std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_batches_are_halved_where_memory_ends(error: BaseException) -> None:
    network, told = Small(3, error), list[int]()
    batches = Batches(network, 16, told.append)
    x, t = torch.randn(20, 3, 4, 4), torch.arange(20.0)
    assert torch.equal(batches(x, t), x + t[:, None, None, None])
    assert network.sizes == [16, 8, 4, *[2] * 10]
    assert told == [2] * 10, "what failed is not counted"
    batches(x[:3], t[:3])
    assert network.sizes[-2:] == [2, 1], "and remembered"


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_what_a_device_keeps_is_given_back_where_memory_ends(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    class There:
        is_cuda, is_mps = kind == "cuda", kind == "mps"

        def __len__(self) -> int:
            return 4

    emptied: list[str] = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(f"torch.{name}.empty_cache", lambda name=name: emptied.append(name))
    x: Any = There()
    network = Small(0, RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"))
    assert Batches(network, 4, lambda n: None)._tried(x, x) is None
    assert emptied == [kind]


def test_one_tile_that_does_not_fit_is_told() -> None:
    with pytest.raises(MemoryLimitError, match="one tile of 4 x 4"):
        Batches(Small(0, MemoryError()), 8, lambda n: None)(torch.zeros(3, 3, 4, 4), torch.zeros(3))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        Batches(Small(0, RuntimeError("a defect")), 8, lambda n: None)(torch.zeros(3, 3, 4, 4), torch.zeros(3))
    with pytest.raises(RuntimeError, match="a defect"), memory_as_one_line():
        raise RuntimeError("a defect")


def test_memory_that_ends_elsewhere_is_told() -> None:
    with pytest.raises(MemoryLimitError, match="fill less"), memory_as_one_line():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_really_ends() -> None:
    with pytest.raises(MemoryLimitError), memory_as_one_line():
        torch.empty(2**60)
