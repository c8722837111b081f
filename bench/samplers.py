"""What each sampler makes of so many network calls: how near it is to its own limit, and how good the fill is.

    python bench/samplers.py FOLDER_OF_PHOTOGRAPHS [--model FILE] [--pictures 50] [--plain 8,24,100]

The deterministic samplers solve one and the same differential equation: from the same noise they go to the same fill as
their calls grow. Distance: from what `unipc` makes of 100 calls, the root of the mean square in the hole, in steps of
8-bit values. DDPM draws new noise at every step and has no such limit. Photographs, holes and measures are those of
quality.py.

--plain: so many steps of the plain mode, too. There the network is not told of the hole, and what is known is put back
at every step; RePaint's calls are more than its steps, and stand beside its figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from machine import machine
from pixmend.checkpoint import load_model
from pixmend.evaluation.metrics import hole_psnr, inside_gradient
from pixmend.masks import KINDS
from pixmend.runtime import pick_device, tune_allocator
from pixmend.samplers import SAMPLERS, visited_times
from pixmend.schedules import step_subset
from quality import eight_bits, holes, middles, ours, ratio, whole_numbers

LIMIT = ("unipc", 100)
DETERMINISTIC = ("ddim", "dpmpp-2m", "unipc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a model file; the one that ships with pixmend without")
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--calls", type=whole_numbers, default=[2, 3, 4, 6, 8, 12, 16, 24], metavar="N,N,...")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), metavar="KIND", default=["centre", "thick", "thin"])
    parser.add_argument("--plain", type=whole_numbers, default=[], metavar="N,N,...")
    options = parser.parse_args()
    tune_allocator()
    device = pick_device()
    model = load_model(options.model)
    for part in filter(None, (model, model.mean)):
        part.network.to(device)
    truth = middles(options.folder, options.pictures, model.size)
    print(f"# Samplers on {len(truth)} photographs at {model.size}x{model.size}\n\n{machine()}.")
    for kind in options.kinds:
        hole = holes(kind, len(truth), model.size)
        masked = truth * (1 - hole)
        sharp = inside_gradient(truth, hole)
        limit = eight_bits(ours(model, *LIMIT, 0, device)(masked, hole))
        told = f"PSNR {hole_psnr(limit / 127.5 - 1, truth, hole).mean():.2f} dB"
        told += f", sharpness {ratio(inside_gradient(limit / 127.5 - 1, hole), sharp):.2f}"
        print(f"\n## {kind}: distance, hole PSNR in dB, sharpness (the limit itself: {told})\n")
        calls_of = " | ".join("1 call" if n == 1 else f"{n} calls" for n in options.calls)
        print(f"| sampler | {calls_of} |\n| --- |{' --- |' * len(options.calls)}")
        for sampler in (*DETERMINISTIC, "ddpm"):
            cells = []
            for calls in options.calls:
                fill = eight_bits(ours(model, sampler, calls, 0, device)(masked, hole))
                away = float((((fill - limit) ** 2 * hole).sum() / (3 * hole.sum())).sqrt())
                fill = fill / 127.5 - 1
                psnr, share = float(hole_psnr(fill, truth, hole).mean()), ratio(inside_gradient(fill, hole), sharp)
                cells.append(f"{f'{away:.1f}, ' if sampler in DETERMINISTIC else ''}{psnr:.2f}, {share:.2f}")
            print(f"| {sampler} | {' | '.join(cells)} |", flush=True)
        if options.plain:
            print(f"\n## {kind}, plain mode: hole PSNR in dB, sharpness\n")
            print(f"| sampler | {' | '.join(f'{n} steps' for n in options.plain)} |")
            print(f"| --- |{' --- |' * len(options.plain)}")
        for sampler in SAMPLERS if options.plain else ():
            cells = []
            for steps in options.plain:
                fill = ours(model, sampler, steps, 0, device, told=False)(masked, hole)
                fill = eight_bits(fill) / 127.5 - 1
                psnr, share = float(hole_psnr(fill, truth, hole).mean()), ratio(inside_gradient(fill, hole), sharp)
                calls = len(visited_times(sampler, step_subset(model.diffusion.T, steps)))
                cells.append(f"{psnr:.2f}, {share:.2f}{f' ({calls:,} calls)' if calls != steps else ''}")
            print(f"| {sampler} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
