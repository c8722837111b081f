"""The network computed by ONNX Runtime on the processor, in float32, from an exported file."""

from __future__ import annotations

import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as raised
from torch import Tensor

from pixmend.backends.onnx_file import INPUTS, VERSION, onnx_bytes
from pixmend.backends.store import cached_name, read_cached, write_cached
from pixmend.checkpoint import Model
from pixmend.errors import BackendError
from pixmend.runtime import is_memory, tune_allocator
from pixmend.unet import pad_to

# ONNX Runtime's errors have no base of their own
FAILURES = (
    RuntimeError,
    ValueError,
    raised.Fail,
    raised.InvalidArgument,
    raised.InvalidGraph,
    raised.InvalidProtobuf,
    raised.NotImplemented,
    raised.RuntimeException,
)


class OnnxNetwork:
    """A model's network, exported once and computed by ONNX Runtime with as many threads as torch has.

    Raises BackendError where anything fails.
    """

    name = "onnx"
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, model: Model) -> None:
        tune_allocator()
        self._stride, self.threads = model.network.config.stride, torch.get_num_threads()
        file = f"{cached_name(model, version=VERSION, torch=torch.__version__)}.onnx"
        content = read_cached(file)
        if content is None:
            content = onnx_bytes(model)
            write_cached({file: content})
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised, and need not be printed as well
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except FAILURES as error:
            why = str(error).splitlines()[0][:200]
            raise BackendError(f"ONNX Runtime cannot load the network ({why})") from error

    @property
    def description(self) -> str:
        """The version, number format and threads."""
        return f"ONNX Runtime {onnxruntime.__version__}, f32, {self.threads} threads"

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, C, H, W) float32; t: (B,). Returns (B, 3, H, W), float32."""
        height, width = x.shape[-2:]
        padded = pad_to(x.detach().float().cpu(), self._stride).contiguous()  # as the network itself does first
        values = (padded.numpy(), t.detach().float().cpu().contiguous().numpy())
        try:
            (output,) = self._session.run(None, dict(zip(INPUTS, values, strict=True)))
        except FAILURES as error:
            why = str(error).splitlines()[0][:200]
            if is_memory(error):  # whoever asked may ask for less at once
                raise MemoryError(why) from error
            raise BackendError(f"ONNX Runtime cannot compute the network ({why})") from error
        return torch.from_numpy(output)[..., :height, :width]
