"""The machine: which device, which number format, and a memory allocator that does not get in the way."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixmend.errors import OptionError, TrainingError


def pick_device(name: str | None = None) -> torch.device:
    """The device by name, or the best there is: CUDA, then Apple's MPS, then the processor."""
    if name is None or name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        told = "" if "device type at start" in why else f" ({why})"  # else a list of all that torch knows
        raise OptionError(f"device {name!r} cannot be used{told}; choose cpu, cuda or mps, or none") from error
    return device


def usable_cores() -> int:
    """The cores that this process may run on: in a container, often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_memory(error: BaseException) -> bool:
    """Whether an error of Python, torch, OpenVINO or ONNX Runtime is that memory is used up."""
    told = str(error).lower()
    known = (
        "not enough memory",
        "can't allocate memory",
        "out of memory",
        "could not create a memory object",
        "bad_alloc",
        "bad allocation",
        "failed to allocate memory",
        "alloc_failed",  # of CUDA's libraries
        "allocation_failed",
    )
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in told for text in known)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device calculates in it, else float32. Never float16, which overflows to black."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu":
        can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot be asked
        return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else torch.float32
    return torch.float32


LESS_AT_ONCE = (
    "train on fewer or smaller samples at once: --batch, --size, --accumulate or --pictures, of which the command has"
)


@contextmanager
def training_memory_as_one_line() -> Iterator[None]:
    """Turn what torch says when a device's memory is used up by training into a TrainingError of one line."""
    try:
        yield
    except RuntimeError as error:
        if not is_memory(error):
            raise
        raise TrainingError(
            f"the memory of the device does not hold what is trained on at once; {LESS_AT_ONCE}"
        ) from error


@functools.cache
def tune_allocator() -> None:
    """Keep freed memory in the process, on Linux with glibc.

    By default large blocks go back to the system and are page-faulted in again at the next step, which doubles the
    time of a training step with large activations. This is what the environment variables MALLOC_MMAP_THRESHOLD_,
    MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ do, without asking the user to set them.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, with another allocator
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # from malloc.h
    if not mallopt(mmap_threshold, 1 << 30):
        mallopt(mmap_threshold, 32 << 20)  # the most that older versions take
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 1 << 26)
