"""The soft edge of a hole: its pixels joining at the noise levels of their strength, or weighted at the end alone.

    python bench/soft_edge.py FOLDER_OF_PHOTOGRAPHS [--pictures 100] [--model FILE] [--radii 2 4]

The middle of every photograph at the model's size, holes from fixed seeds with a soft edge of R pixels, the model's own
sampler and steps, one fill each. Three ways that differ in what the network is told of the edge, whose truth is known:

- released: a pixel joins the hole at the noise level of its strength (`Known`; Levin and Fried 2023), then compositing;
- composite: all of the edge is hole from the start, and compositing alone blends it with what was there;
- hard: no soft edge at all, R = 0.

PSNR in the hole, and in the hole with its edge; sharpness of the edge, and seam around the hole and around the edge: 1
is as the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from machine import machine
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import make_denoiser
from pixmend.diffusion import Known
from pixmend.evaluation.metrics import boundary_gradient, hole_psnr, inside_gradient
from pixmend.runtime import tune_allocator
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.soft_masks import feather
from quality import BATCH, eight_bits, holes, middles, ratio

KINDS = ("text", "scratches", "thin", "rectangles", "thick")


@torch.inference_mode()
def filled(model: Model, x0: Tensor, told: Tensor, soft: Tensor) -> Tensor:
    """The pictures, filled and composited with weights `soft`; told: the soft mask that sampling goes by."""
    times, outputs = step_subset(model.diffusion.T, model.steps), []
    for first in range(0, len(x0), BATCH):
        some = slice(first, first + BATCH)
        generator = torch.Generator().manual_seed(first)

        def noise(like: Tensor, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(like.shape, generator=generator)

        known = Known(x0[some], told[some], model.diffusion, model.conditioning, noise)
        sample = SAMPLERS[model.sampler]
        fill = sample(
            make_denoiser(model.network, known),
            known.start(times[0]),
            times,
            model.diffusion,
            noise=noise,
            put_back=known.put_back,
        )
        outputs.append(torch.lerp(x0[some], fill, soft[some]))
    return eight_bits(torch.cat(outputs)) / 127.5 - 1


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--radii", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args()
    tune_allocator()
    model = load_model(options.model)
    model.network.eval()
    truth = middles(options.photographs, options.pictures, model.size)
    print(f"# The soft edge, {model.size}x{model.size}\n\n{machine()}; {len(truth)} photographs.\n")
    print("| holes | R | way | PSNR, hole | with the edge | sharpness, edge | seam, hole | seam, edge |")
    print(f"|{' --- |' * 8}")
    for kind in KINDS:
        hole = holes(kind, len(truth), model.size)
        for radius in options.radii:
            soft = feather(hole, radius)
            touched = (soft > 0).float()
            for way, told, weight in (
                ("released", soft, soft),
                ("composite", touched, soft),
                ("hard", hole, hole),
            ):
                x, edge = filled(model, truth, told, weight), touched - hole
                figures = [
                    f"{float(hole_psnr(x, truth, hole).mean()):.2f}",
                    f"{float(hole_psnr(x, truth, touched).mean()):.2f}",
                    *(
                        f"{ratio(measure(x, region), measure(truth, region)):.2f}"
                        for measure, region in (
                            (inside_gradient, edge),
                            (boundary_gradient, hole),
                            (boundary_gradient, touched),
                        )
                    ),
                ]
                print(f"| {kind} | {radius} | {way} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
