"""The network computed by torch: bfloat16 where that is faster, channels-last, and as CUDA graphs on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock

import torch
from torch import Tensor, nn

from pixmend.runtime import fast_dtype, tune_allocator

MOST_GRAPHS = 8  # shapes that are recorded; each keeps the memory of one call

Compute = Callable[[Tensor, Tensor], Tensor]


class TorchNetwork:
    """A network on a device of torch. It is moved there, and not copied.

    dtype: what its convolutions and products are computed in; by default what is fast on the device. Weights stay
    float32 and are rounded at every call: keeping them rounded gained nothing.
    """

    name = "torch"

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        dtype: torch.dtype | None = None,
        layout: torch.memory_format | None = None,
    ) -> None:
        tune_allocator()
        self.device, self.dtype = device, dtype or fast_dtype(device)
        fast = device.type == "cpu" or (device.type == "cuda" and self.dtype == torch.bfloat16)
        self.layout = layout or (torch.channels_last if fast else torch.contiguous_format)
        self._network = network.to(device).to(memory_format=self.layout).eval()  # type: ignore[call-overload]  # not in its stub
        self._call: Compute = Graphs(self._compute) if device.type == "cuda" else self._compute

    @property
    def description(self) -> str:
        """The version, number format and device."""
        where = f"{torch.get_num_threads()} threads" if self.device.type == "cpu" else str(self.device)
        return f"torch {torch.__version__}, {str(self.dtype).removeprefix('torch.')}, {where}"

    @torch.inference_mode()
    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, C, H, W) float32; t: (B,). Returns (B, 3, H, W), float32, on the device."""
        return self._call(x.to(self.device).contiguous(memory_format=self.layout), t.to(self.device, torch.float32))

    def _compute(self, x: Tensor, t: Tensor) -> Tensor:
        # Without its cache: no weight is used twice in a call, and what is recorded as a graph must not be cached.
        lower = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, cache_enabled=False) if lower else nullcontext():
            output: Tensor = self._network(x, t)
        return output.float().contiguous()


def record(compute: Compute, x: Tensor, t: Tensor) -> Compute:
    """A call recorded as a CUDA graph: every later one of its shape is one launch, instead of one for every kernel."""
    static_x, static_t = x.clone(), t.clone()
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]  # by default the first device's, not x's
    with torch.cuda.graph(graph, stream=stream):
        output = compute(static_x, static_t)

    def replay(x: Tensor, t: Tensor) -> Tensor:
        static_x.copy_(x)
        static_t.copy_(t)
        graph.replay()
        return output.clone()  # the next replay writes into the same memory

    return replay


class Graphs:
    """Calls a function as recorded graphs, one for each shape; where that does not go, plainly.

    The first call of a shape is made plainly, so that the libraries choose their algorithms and reserve memory outside
    of the record. A small network on a GPU waits for its launches and not for its arithmetic; a graph takes them away
    in milliseconds, where compiling would first take most of a minute.
    """

    def __init__(self, compute: Compute, record: Callable[[Compute, Tensor, Tensor], Compute] = record) -> None:
        self._compute, self._record = compute, record
        self._lock = Lock()  # a record has one place for what goes in and out
        self._calls: dict[tuple[int, ...], Compute | None] = {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The function's result."""
        with self._lock:
            return self._called(x, t)

    def _called(self, x: Tensor, t: Tensor) -> Tensor:
        shape = tuple(x.shape)
        if shape not in self._calls:
            if len(self._calls) < MOST_GRAPHS:
                self._calls[shape] = None
            return self._compute(x, t)
        call = self._calls[shape] or self._recorded(x, t)
        self._calls[shape] = call
        return call(x, t)

    def _recorded(self, x: Tensor, t: Tensor) -> Compute:
        try:
            return self._record(self._compute, x, t)
        except RuntimeError:  # something in the network cannot be recorded, or too little memory is left for it
            return self._compute
