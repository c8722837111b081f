"""How fast repairing is: milliseconds a call beside other networks, and the samplers' time outside the network.

    python bench/sample.py [--model FILE]

On the processor, networks with random weights, taking turns in one run. The time outside the network is that of a whole
fill without that of the calls in it: the guide, made once, and the loop (every step, known pixels put back, noise).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from machine import alternate, gflop, machine, medians
from peers import OURS, beside_the_faster_layout, networks
from pixmend.backends.with_torch import TorchNetwork
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import make_denoiser, smooth_fill
from pixmend.diffusion import Known
from pixmend.masks import create_advanced_mask
from pixmend.runtime import tune_allocator
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def call_of(network: nn.Module, size: int, batch: int, dtype: torch.dtype) -> Callable[[], object]:
    """One call of the network, in inference mode."""
    x, t = torch.randn(batch, 7, size, size), torch.full((batch,), 500)
    network.eval()

    @torch.inference_mode()
    def call() -> object:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return network(x, t)

    return call


def calls_table(size: int, batches: list[int], repeats: int) -> None:
    found = networks()
    columns = [(batch, dtype) for batch in batches for dtype in DTYPES]
    candidates = {
        f"{name} {batch} {dtype}": call_of(network, size, batch, DTYPES[dtype])
        for batch, dtype in columns
        for name, network in found.items()
        if network is not None
    }
    seconds = medians(alternate(candidates, repeats))
    heads = [f"batch {batch}, {dtype}" for batch, dtype in columns]
    print(f"\n## Milliseconds a call at {size}x{size} (in brackets: ours is so much faster)\n")
    print(f"| network | GFLOP a picture | {' | '.join(heads)} |\n| --- | --- |{' --- |' * len(heads)}")
    work: dict[str, float] = {}
    for name, network in found.items():
        if network is None:
            print(f"| {name} | not installed |{' |' * len(heads)}")
            continue
        cells = []
        for batch, dtype in columns:
            own, ours = (seconds[f"{n} {batch} {dtype}"] for n in (name, OURS))
            cells.append(f"{1e3 * own:.1f}" + ("" if name == OURS else f" ({own / ours:.2f})"))
        work[name] = gflop(network, torch.randn(1, 7, size, size), torch.zeros(1))
        print(f"| {name} | {work[name]:.2f} | {' | '.join(cells)} |")
    for (batch, dtype), head in zip(columns, heads, strict=True):
        own = {name: seconds[f"{name} {batch} {dtype}"] for name, network in found.items() if network is not None}
        if told := beside_the_faster_layout(own, work):
            print(f"\nOurs beside the faster layout of each, {head}: {'; '.join(told)}.")


class Timed:
    """The network as repairing uses it here, with a clock."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.seconds = TorchNetwork(network, torch.device("cpu")), 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        start = time.perf_counter()
        output = self.network(x, t)
        self.seconds += time.perf_counter() - start
        return output


def fill_of(model: Model, network: Timed, sampler: str, size: int, batch: int, steps: int) -> Callable[[], float]:
    """One fill of a batch of pictures, with the hole of half their sides in the middle; the seconds of its guide."""
    x0 = torch.rand(batch, 3, size, size) * 2 - 1
    hole = create_advanced_mask("centre", size).expand(batch, 1, size, size)
    generator = torch.Generator().manual_seed(0)
    times = step_subset(model.diffusion.T, steps)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    @torch.inference_mode()
    def fill() -> float:
        begun = time.perf_counter()
        guide = smooth_fill(x0, hole)
        seconds = time.perf_counter() - begun
        known = Known(x0, hole, model.diffusion, model.conditioning, noise)
        start, sample = known.start(times[0]), SAMPLERS[sampler]
        sample(
            make_denoiser(network, known, guide), start, times, model.diffusion, noise=noise, put_back=known.put_back
        )
        return seconds

    return fill


def loop_table(model: Model, size: int, batches: list[int], repeats: int) -> None:
    network = Timed(model.network)
    print(
        f"\n## Time outside the network at {size}x{size}, {model.conditioning}, {model.steps} steps (aim: under 2 %)\n"
    )
    print("| sampler | batch | ms a fill | the guide, ms, once | the loop, ms a step | share of the loop | of both |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    parts: dict[str, list[tuple[float, float]]] = {}  # seconds of every fill: in its guide, and in the network

    def noting(name: str, fill: Callable[[], float]) -> Callable[[], None]:
        parts[name] = []

        def call() -> None:
            network.seconds = 0.0
            parts[name].append((fill(), network.seconds))

        return call

    names = {f"{sampler} | {batch}": (sampler, batch) for sampler in SAMPLERS for batch in batches}
    fills = {
        name: noting(name, fill_of(model, network, sampler, size, batch, model.steps))
        for name, (sampler, batch) in names.items()
    }
    for name, totals in alternate(fills, repeats).items():
        turns = [
            (total, guide, total - inside - guide)
            for total, (guide, inside) in zip(totals, parts[name][-repeats:], strict=True)
        ]
        whole, guide, loop = (1e3 * statistics.median(column) for column in zip(*turns, strict=True))
        shares = f"{100 * loop / (whole - guide):.1f} % | {100 * (loop + guide) / whole:.1f} %"
        print(f"| {name} | {whole:.1f} | {guide:.2f} | {loop / model.steps:.3f} | {shares} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file for the samplers; random weights without")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    tune_allocator()
    print(f"# Sampling\n\n{machine()}; medians of {options.repeats} turns.")
    calls_table(options.size, options.batches, options.repeats)
    model = load_model(options.model) if options.model else Model.new(size=options.size)
    loop_table(model, options.size, options.batches, options.repeats)


if __name__ == "__main__":
    main()
