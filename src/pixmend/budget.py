"""A budget of memory: how much there is, how many tiles at once fit into it, and fewer where they did not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

from pixmend.checkpoint import NetworkConfig
from pixmend.conditioning import NetworkCall
from pixmend.errors import MemoryLimitError, OptionError

SHARE = 0.5  # of the memory that is free: what may be used where nothing is said
CGROUP = Path("/sys/fs/cgroup")  # where Linux tells of the container
ASSUMED = 2 << 30  # bytes that are taken to be free where the system does not tell
MOST_PIXELS = {"cpu": 32 * 64 * 64, "cuda": 256 * 64 * 64}  # in one call: more gain nothing, measured on a processor
TRAINED = 4  # times what a call takes, a step of training does, measured as 3.7 to 4.3
FEATURES = 16  # maps of the first level that a network holds at once, measured as 12, with some room
STATE = 40  # numbers for each pixel of a level: picture, masks, guide, state, noise, input, prediction

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def memory_limit(wanted: int | str | None, device: torch.device) -> int:
    """Bytes that may be used: as wanted, such as "2GB", "1.5 GiB" or "50%" of what is free; else half of that.

    Raises OptionError for what is not understood.
    """
    if wanted is None:
        return int(SHARE * free_memory(device))
    text = str(wanted).strip().lower()
    found = re.fullmatch(r"(\d+\.?\d*)\s*(%|[kmg]?i?)b?", text)
    value = float(found[1]) if found else 0
    if not found or (found[2] not in UNITS and found[2] != "%") or not (0 < value <= (100 if "%" in text else 2**60)):
        raise OptionError(f"max memory {wanted!r} is not understood; give such as 2GB, 800MB or 50% of what is free")
    return int(value / 100 * free_memory(device) if found[2] == "%" else value * UNITS[found[2]])


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, or may be freed; within the limit of the container, where there is one."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    free = ASSUMED
    with suppress(OSError, ValueError, AttributeError):  # macOS: all that there is
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, IndexError, ValueError):  # Linux
        free = 1024 * int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0])
    with suppress(OSError, ValueError):  # a container's
        limit, used, stat = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        files = sum(int(number) for number in re.findall(r"^(?:in)?active_file (\d+)$", stat, re.MULTILINE))
        free = min(free, max(int(limit) - int(used) + files, 0))  # what was read from files is kept while there is room
    return free


def tile_bytes(config: NetworkConfig, size: int, dtype: torch.dtype) -> int:
    """About what a network needs for one more tile of its size."""
    return FEATURES * max(config.channels[0], config.in_channels) * size * size * dtype.itemsize


def check_step_memory(config: NetworkConfig, size: int, samples: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a training whose step, of so many samples at once, takes more than is free: MemoryLimitError."""
    need, free = TRAINED * samples * tile_bytes(config, size, dtype), free_memory(device)
    if need > free:
        raise MemoryLimitError(
            f"a step with {samples} samples of {size}x{size} at once takes about {need / 1e9:,.1f} GB, and only "
            f"{free / 1e9:,.1f} GB are free; give a smaller --size or --batch, or cut batches with --accumulate"
        )


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
            if not _is_memory(error):
                raise
            if len(x) == 1:
                raise MemoryLimitError(
                    f"the memory that is free does not hold one tile of {x.shape[-2]} x {x.shape[-1]} pixels in this "
                    "network; close other programs, or take a smaller model or --device cpu"
                ) from None
        self.most = -(-len(x) // 2)
        if x.is_cuda:
            torch.cuda.empty_cache()
        return None


@contextmanager
def memory_as_one_line() -> Iterator[None]:
    """Turn what torch says when memory is used up beside the network into a MemoryLimitError of one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise MemoryLimitError(
            "the memory that is free does not hold what is worked on; close other programs, or fill less at once"
        ) from None


def _is_memory(error: BaseException) -> bool:
    told = str(error)
    known = ("not enough memory", "can't allocate memory", "out of memory", "could not create a memory object")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in told for text in known)
