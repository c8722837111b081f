"""A budget of memory: how much there is, how many tiles at once fit into it, and fewer where they did not."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from pixmend.checkpoint import NetworkConfig
from pixmend.conditioning import NetworkCall
from pixmend.errors import MemoryLimitError
from pixmend.options import OUT_OF_MEMORY, memory_amount
from pixmend.platforms import kernel32
from pixmend.runtime import LESS_AT_ONCE, is_memory

SHARE = 0.5  # of the memory that is free: what may be used where nothing is said
CGROUP = Path("/sys/fs/cgroup")  # where Linux tells of control groups: of the container, or of the job of a cluster
OWN_GROUPS = Path("/proc/self/cgroup")  # and of those that this process is in
ASSUMED = 2 << 30  # bytes that are taken to be free where the system does not tell
MOST_PIXELS = {"cpu": 32 * 64 * 64, "cuda": 256 * 64 * 64}  # in one call: more gain nothing, measured on a processor
TRAINED = 4  # times what a call takes, a step of training does, measured as 3.7 to 4.3
FEATURES = 16  # maps of the first level that a network holds at once, measured as 12, with some room
STATE = 40  # numbers for each pixel of a level: picture, masks, guide, state, noise, input, prediction
GRAIN = 8  # the same while its grain is measured and added
MASKS = 16  # bytes for each pixel of a picture: the hole, soft, narrow, to be kept


def memory_limit(wanted: int | str | None, device: torch.device) -> int:
    """Bytes that may be used: as wanted, such as "2GB", "1.5 GiB" or "50%" of what is free; else half of that.

    Raises OptionError for what is not understood.
    """
    if wanted is None:
        return int(SHARE * free_memory(device))
    value, is_share = memory_amount(wanted)
    return int(value * free_memory(device) if is_share else value)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or may be freed; within the limits of its control groups."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = ASSUMED
    with suppress(OSError, ValueError, AttributeError):  # macOS: all that there is
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, IndexError, ValueError):  # Linux
        free = 1024 * int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])
    if sys.platform == "win32":
        free = _free_on_windows()
    if device.type == "mps" and hasattr(torch.mps, "recommended_max_memory"):
        free = min(free, torch.mps.recommended_max_memory())
    return min([free, *_free_in_groups()])


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows: its own length, the load in percent, and bytes."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("available", ctypes.c_uint64),  # of physical memory, without having to write anything to disk first
        ("others", ctypes.c_uint64 * 5),
    )


def _free_on_windows() -> int:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    return int(status.available) if kernel32().GlobalMemoryStatusEx(ctypes.byref(status)) else ASSUMED


def _free_in_groups() -> Iterator[int]:
    """Bytes that are free in each control group that this process is in, of those with a limit; of both versions.

    A group's own folder may be hidden from a container, which sees its own as the root: so all above it are asked.
    """
    own = ""
    with suppress(OSError):
        own = OWN_GROUPS.read_text()
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, limit, used, total = CGROUP, "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            folder, limit, used, total = CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for place in (folder / group, *(folder / above for above in group.parents)):
            with suppress(OSError, ValueError):
                least, taken, stat = ((place / name).read_text() for name in (limit, used, "memory.stat"))
                files = sum(map(int, re.findall(rf"^{total}(?:in)?active_file (\d+)$", stat, re.MULTILINE)))
                yield max(int(least) - int(taken) + files, 0)  # what was read from files is kept while there is room


def tile_bytes(config: NetworkConfig, size: int, dtype: torch.dtype) -> int:
    """About what a network needs for one more tile of its size."""
    return FEATURES * max(config.channels[0], config.in_channels) * size * size * dtype.itemsize


def check_step_memory(config: NetworkConfig, size: int, samples: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a training whose step, of so many samples at once, takes more than is free: MemoryLimitError."""
    need, free = TRAINED * samples * tile_bytes(config, size, dtype), free_memory(device)
    if need > free:
        raise MemoryLimitError(
            f"a step with {samples} samples of {size}x{size} at once takes about {need / 1e9:,.1f} GB, and only "
            f"{free / 1e9:,.1f} GB are free; {LESS_AT_ONCE}"
        )


def at_once(most: int, trained: int) -> int:
    """How many samples a network may be asked for while it is trained on so many: a step takes as much as that."""
    return min(most, TRAINED * trained)


class Batches:
    """A network that is called on so many pictures at once as memory allows, and on fewer where they prove too many."""

    def __init__(self, network: NetworkCall, most: int, after: Callable[[int], None]) -> None:
        self.network, self.most, self.after = network, most, after

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, C, H, W) and (B,) to (B, 3, H, W), whatever B; `after` is told how many pictures each call was of."""
        outputs, done = [], 0
        while done < len(x):
            part = slice(done, min(done + self.most, len(x)))
            output = self._tried(x[part], t[part])
            if output is not None:
                outputs.append(output)
                done = part.stop
                self.after(len(output))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _tried(self, x: Tensor, t: Tensor) -> Tensor | None:
        """The network's answer; or None, and fewer at once from now on."""
        try:
            return self.network(x, t)
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not is_memory(error):
                raise
            if len(x) == 1:
                raise MemoryLimitError(
                    f"the memory that is free does not hold one tile of {x.shape[-2]} x {x.shape[-1]} pixels in this "
                    "network; close other programs, or take a smaller model or --device cpu"
                ) from None
        self.most = -(-len(x) // 2)
        if x.is_cuda:
            torch.cuda.empty_cache()
        if x.is_mps:
            torch.mps.empty_cache()
        return None


@contextmanager
def memory_as_one_line() -> Iterator[None]:
    """Turn what torch says when memory is used up beside the network into a MemoryLimitError of one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        raise MemoryLimitError(OUT_OF_MEMORY) from None
