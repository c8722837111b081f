"""A model as an ONNX file, for programs without torch: the network, and in the file's metadata all else it needs.

The metadata has "pixmend", the header as it stands in the model file (docs/model-file.md), and "alpha_bars", the
noise schedule in numbers. docs/backends.md shows how to repair with it.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pixmend.backends import missing_packages
from pixmend.checkpoint import Model
from pixmend.errors import BackendError
from pixmend.files import write_atomically

INPUTS, OUTPUT = ("x", "t"), "output"
VERSION = 1  # of what is exported
LARGEST = 2**31 - 2**20  # bytes of weights: a file of ONNX holds less than 2 GiB, and the graph takes some
TOLERANCE = 1e-3  # of the mean difference to torch, relative to the output's standard deviation


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
    missing = missing_packages("onnx")
    if missing:
        raise BackendError(f"exporting to ONNX needs {' and '.join(missing)}; install pixmend[onnx]")
    if 4 * model.network.parameter_count > LARGEST:
        raise BackendError(
            f"the network has {model.network.parameter_count:,} parameters, and a file of ONNX holds at most "
            f"{LARGEST // 4:,}; choose a smaller model"
        )
    import onnx

    try:
        proto = _exported(model)
        metadata = {
            "pixmend": json.dumps(replace(model, mean=None).header),
            "alpha_bars": json.dumps(model.diffusion.alpha_bars.tolist()),
        }
        onnx.helper.set_model_props(proto, metadata)
        onnx.checker.check_model(proto, full_check=True)
        content: bytes = proto.SerializeToString()
    except (RuntimeError, ValueError, onnx.checker.ValidationError, torch.onnx.errors.OnnxExporterError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BackendError(f"the network cannot be exported to ONNX ({why})") from error
    _check(content, model)
    return content


def _exported(model: Model) -> Any:
    """Torch's own export, by torch.export; batch, height and width stay open."""
    network = copy.deepcopy(model.network).cpu().eval()  # the model's own stays where it is
    stride, dim = network.config.stride, torch.export.Dim
    x = torch.randn(2, network.config.in_channels, 2 * stride, 3 * stride)
    batch, height, width = dim("batch"), stride * dim("rows"), stride * dim("columns")
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            network,
            (x, torch.full((2,), 500.0)),
            dynamo=True,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch, 2: height, 3: width}, {0: batch}),
            verbose=False,
        )
    assert program is not None  # it is only where torch writes the file itself
    return program.model_proto


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
def _check(content: bytes, model: Model) -> None:
    """Compare what ONNX Runtime computes with what torch does, at other sizes than it was exported with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    stride, generator = model.network.config.stride, torch.Generator().manual_seed(0)
    x = torch.randn(3, model.network.config.in_channels, 4 * stride, stride, generator=generator)
    t = torch.linspace(0, model.diffusion.T - 1, 3).round()
    device = next(model.network.parameters()).device
    expected = model.network(x.to(device), t.to(device)).cpu()
    (found,) = session.run(None, dict(zip(INPUTS, (x.numpy(), t.numpy()), strict=True)))
    difference, scale = float((torch.from_numpy(found) - expected).abs().mean()), float(expected.std())
    if not difference <= TOLERANCE * max(scale, 1e-6):
        raise BackendError(
            f"the ONNX file's result is off by {difference:.2g}, that of torch being {scale:.2g} in size"
        )
