"""How fast training is: a step of the optimiser beside other networks, the data, and the loop around it.

    python bench/train.py [FOLDER_OF_PHOTOGRAPHS]

On the processor. Steps are those of every network on the same random batch (forward, squared error, backward, clipping,
fused Adam), taking turns in one run; the limit is the fastest forward 3x3 convolution measured in the same turns. A
step counts as three forward passes. Without a folder, the data pipeline reads drawn pictures. `--where` prints where a
step of ours goes, and nothing else.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from machine import alternate, convolution_limit, convolutions, gflop, machine, medians
from peers import OURS, beside_the_faster_layout, networks, parameters_in_millions
from pixmend.checkpoint import Model
from pixmend.data import InpaintingDataset, Sample
from pixmend.loop import Report, fit
from pixmend.run_folder import RunFolder
from pixmend.runtime import fast_dtype, tune_allocator
from pixmend.training import InpaintingTask, TrainConfig
from pixmend.unet import UNet, UNetConfig

DTYPES = ("fp32", "bf16")
OPERATIONS = 8  # that are named where a step's time is looked at; the others are added up
HEAD = (
    "| network | parameters, M | GFLOP forward | fp32, samples/s | bf16, samples/s | ours is faster: fp32, bf16 "
    "| share of the limit: fp32, bf16 |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def step_of(network: nn.Module, size: int, batch: int, bf16: bool) -> Callable[[], None]:
    """One step of the optimiser on a random batch, as a call."""
    network = copy.deepcopy(network).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    x, target = torch.randn(batch, 7, size, size), torch.randn(batch, 3, size, size)
    t = torch.randint(0, 1000, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(network(x, t).float(), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step


def steps_table(size: int, batch: int, repeats: int) -> float:
    """Print the networks side by side; returns our samples a second in the number format that training uses here."""
    found = networks()
    candidates = {
        f"{name} {dtype}": step_of(network, size, batch, dtype == "bf16")
        for name, network in found.items()
        if network is not None
        for dtype in DTYPES
    }
    seconds = medians(alternate({**candidates, **convolutions()}, repeats))
    limits = {dtype: convolution_limit(seconds, dtype) for dtype in DTYPES}
    print(f"\n## A step of the optimiser at {size}x{size}, batch {batch}\n")
    print(f"Limit of the machine: {limits['fp32']:.0f} GFLOP/s in fp32, {limits['bf16']:.0f} in bf16.\n\n{HEAD}")
    work: dict[str, float] = {}
    for name, network in found.items():
        if network is None:
            print(f"| {name} | not installed | | | | | |")
            continue
        work[name] = gflop(network, torch.randn(1, 7, size, size), torch.zeros(1))
        speed = {dtype: batch / seconds[f"{name} {dtype}"] for dtype in DTYPES}
        faster = ", ".join(f"{seconds[f'{name} {d}'] / seconds[f'{OURS} {d}']:.2f}" for d in DTYPES)
        share = ", ".join(f"{100 * 3 * work[name] * speed[d] / limits[d]:.0f} %" for d in DTYPES)
        print(
            f"| {name} | {parameters_in_millions(network):.2f} | {work[name]:.2f} | {speed['fp32']:.1f} "
            f"| {speed['bf16']:.1f} | {faster} | {share} |"
        )
    for dtype in DTYPES:
        own = {name: seconds[f"{name} {dtype}"] for name, network in found.items() if network is not None}
        if told := beside_the_faster_layout(own, work):
            print(f"\nOurs beside the faster layout of each, {dtype}: {'; '.join(told)}.")
    trained_in = "bf16" if fast_dtype(torch.device("cpu")) == torch.bfloat16 else "fp32"
    return batch / seconds[f"{OURS} {trained_in}"]


def where_table(size: int, batch: int, repeats: int) -> None:
    """Print where a step of ours spends its time, by operations of torch."""
    bf16 = fast_dtype(torch.device("cpu")) == torch.bfloat16
    step = step_of(UNet(UNetConfig()), size, batch, bf16)
    alone = 1000 * medians(alternate({"step": step}, repeats))["step"]
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(repeats):
            step()
    found = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    print(f"\n## Where a step at {size}x{size} goes, batch {batch}\n\n{alone:.0f} ms without the profiler.\n")
    print("| operation | ms a step | share |\n| --- | --- | --- |")
    total = sum(event.self_cpu_time_total for event in found)
    for event in found[:OPERATIONS]:
        own = event.self_cpu_time_total
        print(f"| {event.key} | {own / repeats / 1000:.1f} | {100 * own / total:.0f} % |")
    rest = sum(event.self_cpu_time_total for event in found[OPERATIONS:])
    print(f"| all others | {rest / repeats / 1000:.1f} | {100 * rest / total:.0f} % |")


def draw_pictures(folder: Path, count: int = 16, side: int = 256) -> Path:
    """Pictures to read where no folder is given: slopes of colour with discs upon them."""
    folder.mkdir()
    rows, columns = np.mgrid[:side, :side] / side
    for k in range(count):
        rng = np.random.default_rng(k)
        picture = np.stack([rows * a + columns * b for a, b in rng.uniform(0, 0.5, (3, 2))], axis=-1)
        for y, x, radius in rng.uniform((0, 0, 0.02), (1, 1, 0.3), (12, 3)):
            picture[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.random(3)
        Image.fromarray((255 * picture).astype(np.uint8)).save(folder / f"{k}.png")
    return folder


def pipeline_speed(data: InpaintingDataset, batch: int, batches: int) -> float:
    """Samples a second of one process, as batches; the median over batches."""
    loader = iter(DataLoader(data, batch_size=batch, sampler=range(batch * (batches + 2))))
    seconds = alternate({"data": lambda: next(loader)}, batches)["data"]
    return batch / statistics.median(seconds)


class Drawn(Dataset[Sample]):
    """Samples that lie in memory: what training takes where data cost nothing."""

    def __init__(self, data: InpaintingDataset, count: int) -> None:
        self.samples = [data[k] for k in range(count)]

    def __getitem__(self, k: int) -> Sample:
        return self.samples[k % len(self.samples)]


class LoopTask(InpaintingTask):
    """The task of training without its measuring, drawing and saving, which come once in thousands of steps."""

    def held_out_loss(self, network: nn.Module) -> None:
        return None

    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        return None

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        return None


def loop_seconds(data: InpaintingDataset, in_memory: bool, batch: int, steps: int) -> dict[str, float]:
    """Median seconds of a whole turn of `fit`'s loop, of the same network's bare step behind it, and of "outside",
    the one without the other: pairs of neighbours in time, so that a drift of the machine cancels.
    """
    bf16 = fast_dtype(torch.device("cpu")) == torch.bfloat16
    config = TrainConfig(
        total_kimg=(steps + 3) * batch / 1000, batch_size=batch, measure_kimg=1e6, save_minutes=1e6, workers=0
    )
    model = Model.new(size=data.size)
    bare = step_of(model.network, data.size, batch, bf16)
    times: dict[str, list[float]] = {"loop": [], "bare": []}
    started = time.perf_counter()

    def progress(report: Report) -> None:
        nonlocal started
        times["loop"].append(time.perf_counter() - started)
        started = time.perf_counter()
        bare()
        times["bare"].append(time.perf_counter() - started)
        started = time.perf_counter()

    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name) / "run")
        folder.prepare(resume=False)
        task: Any = LoopTask(model, data, config, Path(name) / "model.safetensors")
        if in_memory:
            task.samples = Drawn(data, 4 * batch)
        fit(task, config, folder, device=torch.device("cpu"), progress=progress)
    times["outside"] = [loop - alone for loop, alone in zip(times["loop"], times["bare"], strict=True)]
    return medians({name: values[3:] for name, values in times.items()})


def data_and_loop_table(folder: Path, size: int, batch: int, repeats: int, ours: float, cache: Path) -> None:
    data = InpaintingDataset(folder, size, cache=cache)
    speed = pipeline_speed(data, batch, repeats)
    print(f"\n## Data and loop at {size}x{size}, batch {batch}\n")
    print("| what | measured | aim |\n| --- | --- | --- |")
    print(f"| data pipeline, one process, {len(data)} pictures | {speed:.0f} samples/s | |")
    print(f"| the same, over what the network takes ({ours:.0f} samples/s) | {speed / ours:.1f} | 10 |")
    for what, in_memory in (("data in memory", True), ("data prepared in between", False)):
        seconds = loop_seconds(data, in_memory, batch, repeats)
        outside = 100 * seconds["outside"] / seconds["loop"]
        told = f"{outside:.1f} % ({1e3 * seconds['loop']:.1f} ms a turn, {1e3 * seconds['bare']:.1f} ms the step alone)"
        print(f"| loop time outside forward, backward and step, {what} | {told} | {'2 %' if in_memory else ''} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs for the data pipeline; drawn ones without")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cache", type=Path, help="folder that keeps the decoded photographs; a passing one without")
    parser.add_argument("--where", action="store_true", help="only where the time of a step goes, by a profiler")
    options = parser.parse_args()
    tune_allocator()
    print(f"# Training\n\n{machine()}; medians of {options.repeats} turns.")
    if options.where:
        for size in options.sizes:
            where_table(size, options.batch, options.repeats)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or draw_pictures(Path(name) / "drawn")
        for size in options.sizes:
            ours = steps_table(size, options.batch, options.repeats)
            cache = options.cache or Path(name) / "cache"
            data_and_loop_table(folder, size, options.batch, options.repeats, ours, cache)


if __name__ == "__main__":
    main()
