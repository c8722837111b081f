"""What each backend costs and how far it is from torch in float32: the network's output, the picture, milliseconds.

    python bench/backends.py [--model FILE] [--repeats 30]

Backends that are not installed are left out. On one photograph that ships with pixmend, at the model's size; the calls
that are timed take turns in one run. Compiled networks are kept, and taken from, the user's cache folder.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from machine import alternate, machine, medians
from pixmend.backends import OpenNetwork, missing_packages
from pixmend.backends.with_torch import TorchNetwork
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import make_denoiser, network_input, smooth_fill
from pixmend.demo import ASSETS
from pixmend.diffusion import Known
from pixmend.images import load_image
from pixmend.masks import create_advanced_mask
from pixmend.runtime import fast_dtype
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset

CPU = torch.device("cpu")
REFERENCE = "torch fp32, NCHW"
KINDS = ("thick", "rectangles", "centre", "alternate-rows")
TIMES = 20  # of T, evenly spread, at which the outputs are compared


def networks(file: Path | None) -> dict[str, OpenNetwork]:
    """All that is installed, each with a model of its own: a layout is the network's, not the call's."""
    found: dict[str, OpenNetwork] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for layout_name, layout in (("NCHW", torch.contiguous_format), ("channels-last", torch.channels_last)):
            found[f"torch {name}, {layout_name}"] = TorchNetwork(load_model(file).network, CPU, dtype, layout)
    if not missing_packages("openvino"):
        from pixmend.backends.with_openvino import OpenVinoNetwork

        found["OpenVINO fp32"] = OpenVinoNetwork(load_model(file), "f32")
        if fast_dtype(CPU) == torch.bfloat16:
            found["OpenVINO bf16"] = OpenVinoNetwork(load_model(file), "bf16")
    if not missing_packages("onnx"):
        from pixmend.backends.with_onnx import OnnxNetwork

        found["ONNX Runtime fp32"] = OnnxNetwork(load_model(file))
    return found


def tiles(size: int) -> Tensor:
    """Four crops of a photograph, (4, 3, size, size)."""
    whole = load_image(ASSETS / "coffee.jpg")
    places = [(0, 0), (100, 150), (150, 260), (60, 380)]
    return torch.cat([whole[..., top : top + size, left : left + size] for top, left in places])


def holes(size: int) -> Tensor:
    """One of each kind, (4, 1, size, size)."""
    return torch.cat([create_advanced_mask(kind, size, seed=1) for kind in KINDS])


def inputs(model: Model, t: int) -> Tensor:
    """What the network sees of the tiles at a time."""
    x0, hole = tiles(model.size), holes(model.size)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
    xt = model.diffusion.add_noise(x0, t, noise)
    if model.conditioning == "plain":
        return xt
    guide = smooth_fill(x0, hole)
    if model.conditioning == "residual":
        xt = model.diffusion.add_noise(x0 - guide, t, noise)
    return network_input(xt, x0, hole, guide)


def fill(model: Model, network: OpenNetwork) -> Tensor:
    """The tiles, filled with the model's own sampler and steps."""
    generator = torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    known = Known(tiles(model.size), holes(model.size), model.diffusion, model.conditioning, noise)
    times = step_subset(model.diffusion.T, model.steps)
    return SAMPLERS[model.sampler](
        make_denoiser(network, known),
        known.start(times[0]),
        times,
        model.diffusion,
        noise=noise,
        put_back=known.put_back,
    )


@torch.inference_mode()
def differences_table(model: Model, found: dict[str, OpenNetwork]) -> None:
    reference = found[REFERENCE]
    times = step_subset(model.diffusion.T, TIMES)
    print(f"\n## Differences from {REFERENCE}, at {model.size}x{model.size}\n")
    print(f"Output: at {TIMES} times; its standard deviation is 0.2 to 1. Picture: {len(KINDS)} fills of {model.steps}")
    print(f"steps of {model.sampler}, PSNR in the hole and the largest difference in levels of 255.\n")
    print("| backend | output, largest | output, mean | picture, dB | picture, largest | picture, mean |")
    print("| --- | --- | --- | --- | --- | --- |")
    hole = holes(model.size).expand(-1, 3, -1, -1) > 0
    expected = [reference(inputs(model, t), torch.full((4,), t)) for t in times]
    filled = fill(model, reference)
    for name, network in found.items():
        if name == REFERENCE:
            continue
        outputs = [network(inputs(model, t), torch.full((4,), t)) for t in times]
        off = torch.stack([(a - b).abs() for a, b in zip(outputs, expected, strict=True)])
        levels = (fill(model, network) - filled)[hole].abs() * 127.5
        mse = float((levels**2).mean())
        psnr = 10 * math.log10(255**2 / mse) if mse else math.inf
        picture = f"{psnr:.1f} | {float(levels.max()):.2f} | {float(levels.mean()):.3f}"
        print(f"| {name} | {float(off.max()):.1e} | {float(off.mean()):.1e} | {picture} |")


def times_table(model: Model, found: dict[str, OpenNetwork], batches: list[int], repeats: int) -> None:
    def call(network: OpenNetwork, batch: int) -> Callable[[], object]:
        x, t = torch.randn(batch, model.network.config.in_channels, model.size, model.size), torch.full((batch,), 500)
        return lambda: network(x, t)

    print(f"\n## Milliseconds a call at {model.size}x{model.size} (in brackets: so much faster than {REFERENCE})\n")
    print(f"| backend | {' | '.join(f'batch {batch}' for batch in batches)} |\n| --- |{' --- |' * len(batches)}")
    columns = [medians(alternate({n: call(f, batch) for n, f in found.items()}, repeats)) for batch in batches]
    for name in found:
        cells = [f"{1e3 * column[name]:.1f} ({column[REFERENCE] / column[name]:.2f})" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file; by default pixmend's own")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    model, found = load_model(options.model), networks(options.model)
    print(f"# Backends\n\n{machine()}; medians of {options.repeats} turns.\n")
    for name, network in found.items():
        print(f"- {name}: {network.description}")
    differences_table(model, found)
    times_table(model, found, options.batches, options.repeats)


if __name__ == "__main__":
    main()
