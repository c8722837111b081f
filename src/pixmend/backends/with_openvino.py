"""The network computed by OpenVINO, the fastest there is on a processor (docs/backends.md has the figures).

It is compiled for one tile, the model's own size, in batches of 1, 4 and 8, and once more for any other shape. That is
done in a process of its own, once for each model, and kept in the user's cache folder: the compiler of OpenVINO 2026.4
ends the process with a segmentation fault on some networks (docs/backends.md), which no `except` could catch.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from torch import Tensor

from pixmend.backends.store import cached_name, one_at_a_time, read_cached, write_cached
from pixmend.checkpoint import Model, save_model
from pixmend.errors import BackendError, PixmendError
from pixmend.runtime import fast_dtype, is_memory, tune_allocator
from pixmend.unet import pad_to

ANY = 0  # stands for the network that takes any shape
BATCHES = (8, 4, 1)
VERSION = 1  # of what is kept; another one where what is compiled changes with pixmend and not with OpenVINO
# What is raised where OpenVINO is broken or too old, or where its compiler has no room for its files.
FAILURES = (PixmendError, RuntimeError, OSError, ValueError, TypeError, AttributeError, ImportError)
PATIENCE = 900  # seconds that compiling may take; the network that ships with pixmend takes a few

Pixels = np.ndarray[Any, np.dtype[np.float32]]


@functools.cache
def core() -> Any:
    """One core for the whole process, for good.

    Every core gives its thread a stack for signals, and takes it back when it goes: where two go in another order than
    they came, the thread is left with a stack that is freed, and the next Ctrl-C ends in a segmentation fault (seen
    with OpenVINO 2026.4 on Linux).
    """
    return openvino.Core()


def fast_precision() -> str:
    """The number format that is fast on this processor, as OpenVINO names it."""
    return "bf16" if fast_dtype(torch.device("cpu")) == torch.bfloat16 else "f32"


def settings(precision: str, threads: int) -> dict[str, Any]:
    """What OpenVINO is told, when it compiles a network and when it loads a compiled one."""
    told = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # two processes of one thread each would share the first core
    }
    if precision == "f32":  # in which joining a normalisation with what follows it is what makes 2026.4 crash
        told["SNIPPETS_MODE"] = "DISABLE"
    return told


def batches(count: int) -> list[int]:
    """The batches that so many pictures are computed in: 8, 4 and 1, of which one may be short of one picture.

    A batch of 8 takes nearly 8 times as long as one of 1, so padding any further costs more than it gains.
    """
    cut = []
    while count > 0:
        cut.append(next(size for size in BATCHES if size <= count + (size > 1)))
        count -= cut[-1]
    return cut


class OpenVinoNetwork:
    """A model's network, computed by OpenVINO on the processor with as many threads as torch has.

    precision: "bf16" or "f32"; by default what is fast here. Raises BackendError where anything fails, and MemoryError
    where memory is used up.
    """

    name = "openvino"
    device = torch.device("cpu")

    def __init__(self, model: Model, precision: str | None = None) -> None:
        tune_allocator()
        self._model = replace(model, mean=None)  # which is opened by itself
        self.precision, self.threads = precision or fast_precision(), torch.get_num_threads()
        self.dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self._stride = model.network.config.stride
        side = -(-model.size // self._stride) * self._stride
        self._tile = (side, side)
        self._requests: dict[int, Any] = {}  # batch, or ANY -> what computes it
        self._blobs: dict[int, bytes] = {}  # what was compiled, and could not be kept in the cache folder
        self._key = ""
        self._lock = threading.Lock()  # a request computes one thing at a time

    @property
    def description(self) -> str:
        """The version, number format and threads."""
        return f"OpenVINO {openvino.__version__.split('-')[0]}, {self.precision}, {self.threads} threads"

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, C, H, W) float32; t: (B,). Returns (B, 3, H, W), float32. A picture's result is that of it alone."""
        height, width = x.shape[-2:]
        x = pad_to(x.detach().float().cpu(), self._stride)  # as the network itself does first
        time = self._time_of(t)
        sizes = batches(len(x)) if tuple(x.shape[-2:]) == self._tile else [ANY]
        outputs, done = [], 0
        try:
            with self._lock:
                for size in sizes:
                    many = min(size or len(x), len(x) - done)
                    outputs.append(self._computed(size, x[done : done + many], time[done : done + many]))
                    done += many
        except BackendError:
            raise
        except FAILURES as error:
            if is_memory(error):  # whoever asked may ask for less at once
                raise MemoryError(first_line(error)) from error
            raise BackendError(f"OpenVINO cannot compute the network ({first_line(error)})") from error
        return torch.cat(outputs)[..., :height, :width] if len(outputs) != 1 else outputs[0][..., :height, :width]

    @torch.inference_mode()
    def _time_of(self, t: Tensor) -> Tensor:
        place = next(self._model.network.parameters()).device
        return self._model.network.time_of(t.to(place)).float().cpu()

    def _computed(self, size: int, x: Tensor, time: Tensor) -> Tensor:
        many = len(x)
        if size > many:
            x, time = (torch.cat([v, v[-1:].expand(size - many, *v.shape[1:])]) for v in (x, time))
        inputs: list[Pixels] = [x.contiguous().numpy(), time.contiguous().numpy()]
        output: Pixels = self._request(size).infer(inputs)[0]
        return torch.from_numpy(output[:many])

    def _request(self, size: int) -> Any:
        if size not in self._requests:
            told = settings(self.precision, self.threads)
            self._requests[size] = core().import_model(self._blob(size), "CPU", told).create_infer_request()
        return self._requests[size]

    def _blob(self, size: int) -> bytes:
        """What was compiled for a shape; all of them are, where this one is not kept."""
        if size in self._blobs:
            return self._blobs.pop(size)
        self._key = self._key or self._name_of_cache()
        blob = read_cached(self._file(size))
        if blob is None:
            if self._name_of_cache() != self._key:  # what would be compiled now is not what is kept by that name
                raise BackendError("the model's weights have changed since OpenVINO compiled it; open it again")
            with one_at_a_time(f"openvino-{self._key}"):
                blob = read_cached(self._file(size)) or self._compiled()[size]
            self._blobs.pop(size, None)
        return blob

    def _name_of_cache(self) -> str:
        processor = [core().get_property("CPU", p) for p in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        others = {"version": VERSION, "openvino": openvino.__version__, "processor": processor}
        return cached_name(self._model, precision=self.precision, tile=self._tile, **others)

    def _file(self, size: int) -> str:
        return f"openvino-{self._key}-{size or 'any'}.blob"

    def _compiled(self) -> dict[int, bytes]:
        """All shapes, compiled in a process of their own, and kept: in the cache folder, or else in memory."""
        with tempfile.TemporaryDirectory(prefix="pixmend-") as name:
            folder = Path(name)
            save_model(folder / "model.safetensors", self._model, dtype=torch.float32)
            _run_compiler(folder, self.precision)
            blobs = {size: (folder / f"{size}.blob").read_bytes() for size in (*BATCHES, ANY)}
        if not write_cached({self._file(size): blob for size, blob in blobs.items()}):
            self._blobs = dict(blobs)
        return blobs


def _run_compiler(folder: Path, precision: str) -> None:
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # -P: what lies in the current folder is not imported, whatever its name
    command = [sys.executable, "-P", "-W", "ignore", "-m", "pixmend.backends.openvino_compiler", str(folder), precision]
    # Nothing is written: the pipe closes when this process ends, however it does, and then the compiler ends, too.
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=reading,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            # Ctrl-C in a terminal is for this process, which may want to go on
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"OpenVINO has not compiled the network within {PATIENCE} seconds") from error
    finally:
        os.close(reading)
        os.close(writing)
    if done.returncode < 0:
        raise BackendError(f"OpenVINO crashed compiling the network ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise BackendError(f"OpenVINO cannot compile the network ({said[-1][:200]})")


def first_line(error: BaseException) -> str:
    """What an error says, on one line and not too long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
