"""A model as an ONNX file, for programs without torch: the network, and in the file's metadata all else it needs.

The metadata has "pixmend", the header as it stands in the model file (docs/model-file.md), and "alpha_bars", the
noise schedule in numbers. With guide and sampler in the file, too: `onnx_filler`.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixmend.backends import missing_packages
from pixmend.checkpoint import Model, Network
from pixmend.errors import BackendError
from pixmend.files import write_atomically

INPUTS, OUTPUT = ("x", "t"), "output"
VERSION = 1  # of what is exported
LARGEST = 2**31 - 2**20  # bytes of weights: a file of ONNX holds less than 2 GiB, and the graph takes some
TOLERANCE = 1e-3  # of the mean difference to torch, relative to the output's standard deviation

Shapes = tuple[dict[int, Any], ...]  # which axes of each input stay open


def export_onnx(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the model as an ONNX file: float32, any batch, sides that are multiples of the network's stride.

    Inputs x (batch, channels, height, width) and t (batch,), float32; output (batch, 3, height, width).
    Raises BackendError where the packages are missing, or the result is not that of torch; OutputExistsError and
    OutputError.
    """
    content = onnx_bytes(model)
    return write_atomically(path, lambda stream: stream.write(content), overwrite=overwrite)


def onnx_bytes(model: Model) -> bytes:
    """The content of the file, checked by onnx and against torch."""
    require_packages(model.network.parameter_count)
    content = finished(network_proto(model), model)
    # At other sizes than it was exported with:
    stride, generator = model.network.config.stride, torch.Generator().manual_seed(0)
    x = torch.randn(3, model.network.config.in_channels, 4 * stride, stride, generator=generator)
    compare(content, on_cpu(model.network), {"x": x, "t": torch.linspace(0, model.diffusion.T - 1, 3).round()})
    return content


def require_packages(parameters: int) -> None:
    """Raise BackendError where the packages are missing, or no file holds so many parameters."""
    missing = missing_packages("onnx")
    if missing:
        raise BackendError(f"exporting to ONNX needs {' and '.join(missing)}; install pixmend[onnx]")
    if 4 * parameters > LARGEST:
        raise BackendError(
            f"the network has {parameters:,} parameters, and a file of ONNX holds at most {LARGEST // 4:,}; choose a "
            "smaller model"
        )


def network_proto(model: Model) -> Any:
    """The network; batch, height and width stay open."""
    network, dim = on_cpu(model.network), torch.export.Dim
    stride = network.config.stride
    x = torch.randn(2, network.config.in_channels, 2 * stride, 3 * stride)
    batch, height, width = dim("batch"), stride * dim("rows"), stride * dim("columns")
    shapes: Shapes = {0: batch, 2: height, 3: width}, {0: batch}
    return exported(network, {INPUTS[0]: x, INPUTS[1]: torch.full((2,), 500.0)}, OUTPUT, shapes)


def exported(module: nn.Module, inputs: dict[str, Tensor], output: str, shapes: Shapes | None = None) -> Any:
    """Torch's own export, by torch.export. Raises BackendError."""
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        raise _cannot(error) from error
    assert program is not None  # it is only where torch writes the file itself
    return program.model_proto


def finished(proto: Any, model: Model) -> bytes:
    """The content of the file, with what it tells of the model; checked by onnx."""
    import onnx

    metadata = {
        "pixmend": json.dumps(replace(model, mean=None).header),
        "alpha_bars": json.dumps(model.diffusion.alpha_bars.tolist()),
    }
    try:
        onnx.helper.set_model_props(proto, metadata)
        onnx.checker.check_model(proto, full_check=True)
        content: bytes = proto.SerializeToString()
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _cannot(error) from error
    return content


def _cannot(error: Exception) -> BackendError:
    why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return BackendError(f"the network cannot be exported to ONNX ({why})")


def on_cpu(network: Network) -> Network:
    """A copy to export: the model's own stays where it is."""
    return copy.deepcopy(network).cpu().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch, onnxscript and onnx_ir say to each other while they export is nothing that a user can mend."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def compare(content: bytes, module: Callable[..., Tensor], inputs: dict[str, Tensor]) -> None:
    """Compare what ONNX Runtime computes with what torch does. Raises BackendError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: it warns of inputs that are there already
    expected = module(*inputs.values())
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise _cannot(error) from error
    difference, scale = float((torch.from_numpy(found) - expected).abs().mean()), float(expected.std())
    if not difference <= TOLERANCE * max(scale, 1e-6):
        raise BackendError(
            f"the ONNX file's result is off by {difference:.2g}, that of torch being {scale:.2g} in size"
        )
