"""Which shape of network: held-out loss after the same number of samples, and milliseconds, for a few shapes.

    python bench/shapes.py FOLDER_OF_PHOTOGRAPHS [--size 32] [--kimg 25]

Milliseconds are medians of runs that alternate between the shapes; losses depend on the seed and the data alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from pixmend.checkpoint import Model
from pixmend.data import InpaintingDataset
from pixmend.training import TrainConfig, train_model
from pixmend.unet import UNet, UNetConfig

SHAPES = {
    "patch 2, 64-128-192, 2 blocks": UNetConfig(),
    "patch 2, 96-160-224, 1 block": UNetConfig(channels=(96, 160, 224), blocks=1),
    "patch 1, 32-64-128-192, 1 block": UNetConfig(
        patch=1, channels=(32, 64, 128, 192), attention=(False, False, False, True), blocks=1
    ),
}


def forward_ms(networks: dict[str, UNet], size: int, repeats: int = 15) -> dict[str, float]:
    """Median milliseconds of one call on one picture, the networks taking turns."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    x, t = torch.randn(1, 7, size, size), torch.zeros(1)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(repeats + 2):
            for name, network in networks.items():
                start = time.perf_counter()
                network(x, t)
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--kimg", type=float, default=25.0)
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args()
    data = InpaintingDataset(options.folder, options.size, holdout=0.02, cache=options.cache)
    config = TrainConfig(total_kimg=options.kimg, measure_kimg=options.kimg, ema_halflife_kimg=options.kimg / 10)
    ms = forward_ms({name: UNet(shape).eval() for name, shape in SHAPES.items()}, 64)
    print("| shape | parameters, M | GFLOP at 64x64 | ms a call | training samples/s | held-out loss |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, shape in SHAPES.items():
        network = UNet(shape)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.randn(1, 7, 64, 64), torch.zeros(1))
        with tempfile.TemporaryDirectory() as folder:
            model = train_model(data, Path(folder) / "m.safetensors", config, model=Model.new(shape), size=options.size)
        leg = model.legs[-1]
        speed = 1000 * leg["kimg"] / (60 * leg["minutes"])
        print(
            f"| {name} | {network.parameter_count / 1e6:.2f} | {counter.get_total_flops() / 1e9:.2f} | {ms[name]:.1f} "
            f"| {speed:.0f} | {leg['held_out_loss']:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
