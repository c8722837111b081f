"""The budget: what is understood, fewer tiles where memory ends, one line where not even one fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pixmend import budget
from pixmend.budget import Batches, free_memory, memory_as_one_line, memory_limit
from pixmend.errors import MemoryLimitError, OptionError

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


def test_in_a_container_what_was_read_from_files_counts_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CGROUP", tmp_path)
    limit = free_memory(CPU) // 2
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{limit - 1000}\n")
    (tmp_path / "memory.stat").write_text("anon 5\nfile 900\ninactive_file 600\nactive_file 40\nactive_anon 7\n")
    assert free_memory(CPU) == 1000 + 600 + 40
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(CPU) > 1640


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
