"""Compiling a network with OpenVINO, in a process of its own: `python -m pixmend.backends.openvino_compiler`.

The network is traced by torch and read by OpenVINO's frontend directly. `openvino.convert_model` would do the same, but
reports its use over the network unless the user has opted out; nothing of pixmend does.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from pixmend.backends.with_openvino import ANY, BATCHES, settings
from pixmend.checkpoint import Model, Network, load_model

# Of the mean difference to torch in float32, relative to the output's standard deviation: far above what rounding
# does, far below what a wrong result would be.
TOLERANCE = {"f32": 1e-3, "bf16": 5e-2}


@torch.no_grad()
def compile_network(folder: Path, precision: str) -> None:
    """Read model.safetensors of a folder, and write there what OpenVINO compiles of it, <batch>.blob and 0.blob.

    What was compiled is called and compared with torch before it is written.
    """
    model = load_model(folder / "model.safetensors")
    stride, channels = model.network.config.stride, model.network.config.in_channels
    side = -(-model.size // stride) * stride
    converted = _converted(model.network, torch.randn(2, channels, side, side))
    core = openvino.Core()
    for size in (*BATCHES, ANY):
        shape = [size, channels, side, side] if size else [-1, channels, -1, -1]
        reshaped = converted.clone()
        reshaped.reshape({0: shape, 1: [shape[0], -1]})  # as wide as the weights say
        compiled = core.compile_model(reshaped, "CPU", settings(precision, torch.get_num_threads()))
        example = (size, channels, side, side) if size else (2, channels, side, side + stride)
        _check(compiled, model, torch.randn(example, generator=torch.Generator().manual_seed(0)), precision)
        blob = compiled.export_model()
        (folder / f"{size}.blob").write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())


class AtTime(torch.nn.Module):
    """The network but for the time, which is computed by torch in float32.

    OpenVINO would compute the angles of the sinusoids in bfloat16 too, which has 8 bits: at t = 999 the whole network's
    error was 2.6 times as large.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.network.at_time(x, time)


def _converted(network: Network, x: torch.Tensor) -> Any:
    decoder = TorchScriptPythonDecoder(AtTime(network), example_input=(x, network.time_of(torch.zeros(len(x)))))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _check(compiled: Any, model: Model, x: torch.Tensor, precision: str) -> None:
    t = torch.linspace(0, model.diffusion.T - 1, len(x)).round()
    expected = model.network(x, t)
    found = torch.from_numpy(compiled([x.numpy(), model.network.time_of(t).numpy()])[0])
    difference, scale = float((found - expected).abs().mean()), max(float(expected.std()), 1e-6)
    if not difference <= TOLERANCE[precision] * scale:  # which is also true of a difference that is no number
        raise SystemExit(f"its result is off by {difference:.2g}, that of torch being {scale:.2g} in size")


def _end_with_parent() -> None:
    """The parent holds the other end of stdin, writes nothing, and may be killed."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    compile_network(Path(sys.argv[1]), sys.argv[2])
