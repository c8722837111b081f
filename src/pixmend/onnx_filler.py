"""A model as an ONNX file that fills holes: guide, sampler and composite are in it, a picture and a mask go in.

Programs that run such files need to know nothing of diffusion. Exports of other networks, LaMa's among them, have the
same inputs and output. docs/backends.md has a script that repairs pictures with it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixmend.backends.onnx_file import (
    INPUTS,
    OUTPUT,
    compare,
    exported,
    finished,
    network_proto,
    on_cpu,
    require_packages,
)
from pixmend.checkpoint import Model
from pixmend.conditioning import NetworkCall, make_denoiser, smooth_fill
from pixmend.diffusion import Known, around
from pixmend.efforts import effort_for
from pixmend.errors import BackendError, OptionError
from pixmend.files import write_atomically
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.texture import calmness, livening
from pixmend.unet import pad_to
from pixmend.windows import AROUND, DEEPEST, NARROW, WIDEST

FILLED, NOISE = "filled", "noise"
DOMAIN = "pixmend"  # of the functions in the file that are the networks
STEADY = ("ddim", "dpmpp-2m", "unipc")  # samplers that draw no noise on the way


def export_onnx_filler(model: Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a model with its guide and sampler as an ONNX file, for pictures of S x S pixels, S = `model.size`.

    Inputs image (1, 3, S, S) in [0, 1] and mask (1, 1, S, S), filled where above 0.5; and noise (1, 3, S, S), standard
    normal, which may be left out: other noise, another fill. Output filled (1, 3, S, S), image outside the hole. All
    float32. Raises OptionError for models that are not told what is known, and for samplers that draw noise at every
    step; BackendError where the packages are missing, or the result is not that of torch; OutputExistsError and
    OutputError.
    """
    filler = Filler(model)
    if not hasattr(torch.onnx, "ops"):
        raise BackendError(
            f"a filler needs a newer torch than {torch.__version__}; update it, or export the network alone"
        )
    require_packages(sum(own.network.parameter_count for own in filler.models.values()))
    content = finished(_proto(filler), model)
    compare(content, filler, _example(model.size, 1))
    return write_atomically(path, lambda stream: stream.write(content), overwrite=overwrite)


class Filler(nn.Module):
    """What `inpainting` does with a picture of one tile, but for mosaics of known patches and for grain.

    Where a hole is narrow, the mean fills it, if the model has one. What is wide is drawn around that, at one level.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if model.conditioning == "plain":
            raise OptionError("a plain model is not told what is known; export the network alone")
        if model.sampler not in STEADY:
            raise OptionError(
                f"the sampler of the model, {model.sampler}, draws noise at every step; export the network alone"
            )
        self.model = model
        models = {"Network": model} | ({} if model.mean is None else {"Mean": model.mean})
        self.models = {name: replace(own, network=on_cpu(own.network)) for name, own in models.items()}
        self.effort = effort_for("balanced", model)
        self.times = step_subset(model.diffusion.T, self.effort.first_steps(model.diffusion.T, model.steps))

    def forward(self, image: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """As `export_onnx_filler` has it."""
        hole = (mask > 0.5).to(image.dtype)
        x0 = 2 * image - 1
        if "Mean" in self.models:
            narrow, smooth = narrow_pixels(hole), smooth_fill(x0, hole)
            mean = _calmed(self._mean(x0, hole, smooth, noise), x0, hole, smooth)
            x0, wide = around(mean, narrow, x0), hole - narrow
        else:
            wide = hole
        smooth = smooth_fill(x0, wide)
        guide = smooth
        if "Mean" in self.models:
            guide = around(smooth, _is_wide(wide, self.model.size), self._mean(x0, wide, smooth, noise))
        drawn = _calmed(self._drawn(x0, wide, guide, noise), x0, wide, smooth)
        return around((drawn + 1) / 2, hole, image)

    def _mean(self, x0: Tensor, hole: Tensor, smooth: Tensor, noise: Tensor) -> Tensor:
        model = self.models["Mean"]
        known = _HardKnown(x0, hole, model.diffusion, model.conditioning, lambda like: noise)
        return make_denoiser(self._network("Mean"), known, smooth)(known.start(0), 0)

    def _drawn(self, x0: Tensor, hole: Tensor, guide: Tensor, noise: Tensor) -> Tensor:
        model, options = self.model, dict[str, Any]()
        known = _HardKnown(x0, hole, model.diffusion, model.conditioning, lambda like: noise)
        if self.effort.noise and model.sampler == "ddim":
            options["liven"] = livening(x0, hole, self.effort.noise)
        return SAMPLERS[model.sampler](
            make_denoiser(self._network("Network"), known, guide),
            known.start(self.times[0]),
            self.times,
            model.diffusion,
            noise=known.noise,
            put_back=known.put_back,
            **options,
        )

    def _network(self, name: str) -> NetworkCall:
        """A network; in the export, one operation that stands for it: it is called many times, and is there once."""

        def call(x: Tensor, t: Tensor) -> Tensor:
            output: Tensor
            t = t.to(x.dtype)
            if torch.onnx.is_in_onnx_export():
                height, width = x.shape[-2:]
                x = pad_to(x, self.models[name].network.config.stride)  # what is exported takes no other sides
                shape = (len(x), 3, *x.shape[-2:])
                output = torch.onnx.ops.symbolic(f"{DOMAIN}::{name}", (x, t), dtype=x.dtype, shape=shape, version=1)
                output = output[..., :height, :width]
            else:
                output = self.models[name].network(x, t)
            return output

        return call


class _HardKnown(Known):
    """Of a mask of 0 and 1: nothing has to be looked at to tell, which an export could not."""

    is_soft = False


def _calmed(fill: Tensor, x0: Tensor, hole: Tensor, smooth: Tensor) -> Tensor:
    """`texture.calmed`, which looks first whether anything is calm; an export could not."""
    return torch.lerp(fill, smooth, calmness(x0, hole) * hole)


def narrow_pixels(hole: Tensor) -> Tensor:
    """`windows.narrow_pixels` of (1, 1, H, W), 0 or 1 both."""
    depth, further = torch.zeros_like(hole), hole
    for _ in range(DEEPEST + 1):
        depth = depth + further
        further = 1 - F.max_pool2d(1 - further, 3, stride=1, padding=1)  # beyond the edges is hole
    near = (10 * _sum_around(depth) <= int(10 * NARROW) * _sum_around(hole)).to(hole.dtype)
    return hole * near * (_sum_around((depth > DEEPEST).to(hole.dtype)) == 0).to(hole.dtype)


def _sum_around(x: Tensor) -> Tensor:
    """The sum over the square of side 2 AROUND + 1 about each pixel, zeros beyond the edges; exact for integers."""
    ones = x.new_ones(1, 1, 2 * AROUND + 1, 1)
    return F.conv2d(F.conv2d(x, ones, padding=(AROUND, 0)), ones.mT, padding=(0, AROUND))


def _is_wide(hole: Tensor, size: int) -> Tensor:
    """`windows.is_wide` of (1, 1, H, W), as 0 or 1, (1, 1, 1, 1)."""
    radius = int(WIDEST * size) // 2
    near = F.max_pool2d(1 - hole, 2 * radius + 1, stride=1, padding=radius)
    return 1 - near.amin((-2, -1), keepdim=True)


def _proto(filler: Filler) -> Any:
    """The filler's graph, the networks in it as functions of their inputs and their weights."""
    import onnx

    size = filler.model.size
    proto = exported(filler, _example(size, 0), FILLED)
    for name, own in filler.models.items():
        inner = network_proto(own)
        weights = [weight.name for weight in inner.graph.initializer]
        proto.functions.append(
            onnx.helper.make_function(DOMAIN, name, [*INPUTS, *weights], [OUTPUT], inner.graph.node, inner.opset_import)
        )
        for weight in inner.graph.initializer:
            weight.name = f"{name}.{weight.name}"
            proto.graph.initializer.append(weight)
        for node in proto.graph.node:
            if (node.domain, node.op_type) == (DOMAIN, name):
                node.input.extend(f"{name}.{weight}" for weight in weights)
    # What an input is where none is given:
    proto.graph.initializer.append(onnx.numpy_helper.from_array(_example(size, 0)[NOISE].numpy(), NOISE))
    return proto


def _example(size: int, seed: int) -> dict[str, Tensor]:
    """Inputs of a `Filler`; a hole with a narrow and a wide part."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, size, size, generator=generator)
    mask = torch.zeros(1, 1, size, size)
    mask[..., size // 4 : size // 2, size // 8 : size // 2] = 1
    mask[..., -2, :] = 1
    return {"image": image, "mask": mask, NOISE: torch.randn(image.shape, generator=generator)}
