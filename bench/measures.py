"""What each measure of speed gives to a training step: one change at a time, taking turns in one run.

    python bench/measures.py [--repeats 9] [--compiled]

Our network at 64x64 and at 32x32, on random batches; every row changes one thing of the first. The memory
allocator is set for a whole process, so it is compared in processes of their own, started in turn. `--compiled` adds
torch.compile, which takes minutes to begin.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from machine import alternate, machine
from pixmend.channels_last import GroupNorm, as_trained
from pixmend.runtime import tune_allocator
from pixmend.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Way:
    """One way to do a step of the optimiser."""

    bf16: bool = True
    fused: bool = True  # one pass over all weights, instead of one for each operation of Adam
    channels_last: bool | None = None  # None: as trained, which depends on the size
    own_norm: bool = True  # our backward pass of the group normalisation instead of torch's
    attention: bool = True
    batch: int = 32
    compiled: bool = False


def ways(batch: int) -> dict[str, Way]:
    """Name -> how; each differs from the first in one thing."""
    ours = Way(batch=batch)
    return {
        "as trained: bf16, fused Adam": ours,
        "float32 instead of bf16": replace(ours, bf16=False),
        "Adam by single operations instead of fused": replace(ours, fused=False),
        "in NCHW": replace(ours, channels_last=False),
        "in channels-last": replace(ours, channels_last=True),
        "in channels-last with torch's group normalisation": replace(ours, channels_last=True, own_norm=False),
        "without attention at the coarsest level": replace(ours, attention=False),
        f"batch {batch // 4} instead of {batch}": replace(ours, batch=batch // 4),
        f"batch {batch * 4} instead of {batch}": replace(ours, batch=batch * 4),
    }


def as_torch_does(norm: GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """What `GroupNorm` does in NCHW, whatever the layout."""
    y = nn.GroupNorm.forward(norm, x)
    return y if scale is None or shift is None else torch.addcmul(shift[..., None, None], y, scale[..., None, None])


def step_of(way: Way, size: int) -> Callable[[], None]:
    """A step of the optimiser on a random batch, as a call."""
    torch.manual_seed(0)
    config = UNetConfig() if way.attention else replace(UNetConfig(), attention=(False,) * 4)
    network: nn.Module = UNet(config).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=way.fused, foreach=False)
    run = torch.compile(network) if way.compiled else network
    x, target = torch.randn(way.batch, 7, size, size), torch.randn(way.batch, 3, size, size)
    t = torch.randint(0, 1000, (way.batch,))
    layout = torch.channels_last if way.channels_last else torch.contiguous_format
    arranged = (
        as_trained if way.channels_last is None else lambda x, normalised=True: x.contiguous(memory_format=layout)
    )
    normalised = GroupNorm.forward if way.own_norm else as_torch_does

    @mock.patch("pixmend.unet.as_trained", arranged)
    @mock.patch.object(GroupNorm, "forward", normalised)
    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=way.bf16):
            loss = F.mse_loss(run(x, t).float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step


def table(size: int, batch: int, repeats: int, compiled: bool) -> None:
    found = ways(batch)
    if compiled:
        found["compiled by torch.compile"] = Way(batch=batch, compiled=True)
    seconds = alternate({name: step_of(way, size) for name, way in found.items()}, repeats)
    ours = next(iter(found))
    print(f"\n## {size}x{size}\n\n| step | samples/s | speed against the first row, median of turns |")
    print("| --- | --- | --- |")
    for name, way in found.items():
        pairs = zip(seconds[ours], seconds[name], strict=True)
        ratio = statistics.median(a / b * way.batch / batch for a, b in pairs)
        print(f"| {name} | {way.batch / statistics.median(seconds[name]):.1f} | {ratio:.2f} |")


CHILD = "import measures; measures.child({tuned}, {size}, {batch}, {repeats})"


def child(tuned: bool, size: int, batch: int, repeats: int) -> None:
    """What a process of its own does: print the median seconds of a step."""
    if tuned:
        tune_allocator()
    times = alternate({"step": step_of(Way(batch=batch), size)}, repeats)["step"]
    print(statistics.median(times))


def allocator(size: int, batch: int, repeats: int, processes: int = 3) -> None:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(processes):
        for tuned, found in seconds.items():
            code = CHILD.format(tuned=tuned, size=size, batch=batch, repeats=repeats)
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=sys.path[0]
            )
            found.append(float(done.stdout))
    kept, given_back = (batch / statistics.median(seconds[tuned]) for tuned in (True, False))
    print(
        f"\nMemory kept in the process, as trained: {kept:.1f} samples/s; given back to the system and taken anew, as"
    )
    print(f"glibc has it: {given_back:.1f}, that is {given_back / kept:.2f} ({processes} processes of each, in turn).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    tune_allocator()
    print(f"# What each measure gives to a training step\n\n{machine()}; medians of {options.repeats} turns.")
    for size in options.sizes:
        table(size, options.batch, options.repeats, options.compiled)
        allocator(size, options.batch, options.repeats)


if __name__ == "__main__":
    main()
