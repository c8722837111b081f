"""What all measuring programs share: what was measured on, turns taken while measuring, operations counted."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


def machine() -> str:
    """One line: processor, cores, torch and the commit, for the head of every result."""
    version = torch.__version__
    return f"{_processor()}, {os.cpu_count()} cores ({torch.get_num_threads()} threads), torch {version}, {commit()}"


def commit() -> str:
    """The short hash of the checked-out commit, and whether files differ from it, with a hash of the differences."""
    try:
        told, where = f"commit {_git('rev-parse', '--short', 'HEAD')}", ("--", "src", "bench")
        if not _git("status", "--porcelain", *where):
            return told
        return f"{told} with changes {sha256(_git('diff', 'HEAD', *where).encode()).hexdigest()[:7]}"
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent.parent
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def alternate(candidates: dict[str, Callable[[], object]], repeats: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of every call of every candidate, the candidates taking turns.

    A machine's speed drifts by a tenth within minutes: what is to be compared must be measured side by side.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The median of each candidate's times."""
    return {name: statistics.median(times) for name, times in seconds.items()}


@torch.no_grad()
def gflop(network: nn.Module, *inputs: Tensor) -> float:
    """Billions of operations of one forward pass, a multiplication and an addition being two."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return float(counter.get_total_flops() / 1e9)


CONVOLUTION_GFLOP = 32 * 32 * 32 * 128 * 128 * 9 * 2 / 1e9  # of one call of `convolutions`


def convolutions() -> dict[str, Callable[[], object]]:
    """What the machine does at best: a 3x3 convolution, 128 channels, 32x32, batch 32, forward, in both layouts."""

    def candidate(dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], object]:
        x = torch.randn(32, 128, 32, 32, dtype=dtype).contiguous(memory_format=layout)
        weight = torch.randn(128, 128, 3, 3, dtype=dtype).contiguous(memory_format=layout)

        @torch.no_grad()
        def call() -> object:
            return F.conv2d(x, weight, padding=1)

        return call

    return {
        f"convolution {name} {layout_name}": candidate(dtype, layout)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
        for layout_name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last))
    }


def convolution_limit(seconds: dict[str, float], dtype: str) -> float:
    """GFLOP/s of the faster layout, from the median seconds of `convolutions`."""
    return CONVOLUTION_GFLOP / min(s for name, s in seconds.items() if name.startswith(f"convolution {dtype}"))
