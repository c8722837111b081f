"""The choices behind the default model, one by one: short trainings that differ in one thing each.

    python bench/ablations.py TRAINING_PHOTOGRAPHS PHOTOGRAPHS RESULTS [--only GROUP ...] [--size 32] [--kimg 80]
                               [--calls 1 2 4 8] [--equal-time]

Every variation sees the same samples (crops, holes, times and noise, as far as they are alike), the same number of
them, in the same order, from the same seed; `--kimg` is chosen so that one takes about ten minutes. With --equal-time
they train equally long instead: steps of all of them are timed in turns beforehand, and what is slower than the
default sees fewer samples. Then it is measured on PHOTOGRAPHS, that none was trained on: hole PSNR of the mean of five
fills and of single ones, sharpness, and the sliced Wasserstein distance. RESULTS keeps the trainings and what was
measured: the program can be stopped, goes on, and prints all that is there, with the machines and commits that it is
of. What was measured with other options is refused.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from machine import alternate, machine, medians
from pixmend import conditioning
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import smooth_fill
from pixmend.data import InpaintingDataset, Views
from pixmend.diffusion import Conditioning, Diffusion
from pixmend.evaluation.distributions import PatchDistance
from pixmend.evaluation.metrics import hole_psnr, inside_gradient
from pixmend.files import write_atomically
from pixmend.runtime import fast_dtype, tune_allocator
from pixmend.training import TrainConfig, train_model
from pixmend.unet import UNet, UNetConfig
from quality import eight_bits, holes, middles, ours, ratio
from train import step_of

Guide = Callable[[Tensor, Tensor], Tensor]
MEASURED = ("text", "alternate-rows", "thin", "stripes", "rectangles", "thick")  # small holes to large ones
CALLS = [1, 2, 4, 8]
FILLS = 5
TIMED = 15  # steps of each, where they are to train equally long


def pull_push(x: Tensor, hole: Tensor) -> Tensor:
    """The smooth fill without its smoothing."""
    with patch.object(conditioning, "RATES", []), patch.object(conditioning, "_laplacian", torch.zeros_like):
        return smooth_fill(x, hole)


def nothing(x: Tensor, hole: Tensor) -> Tensor:
    """No guide: zeros in the hole."""
    return x * (1 - hole)


NOISE = torch.Generator().manual_seed(0)  # of what Palette is shown in the hole


def noise(x: Tensor, hole: Tensor) -> Tensor:
    """Palette's: the network is shown the picture with its hole filled with noise."""
    drawn = torch.randn(x.shape, generator=NOISE).to(x)
    return torch.where(hole > 0, drawn, x)


@dataclass(frozen=True)
class Variation:
    """One training; what is not said is as in the first of all, `DEFAULT`."""

    group: str
    name: str
    told: Conditioning = "known-aware"
    guide: Guide = smooth_fill
    shape: UNetConfig = field(default_factory=UNetConfig)
    diffusion: dict[str, Any] = field(default_factory=dict)
    masks: str = "mixed"
    views: Views = field(default_factory=Views)
    balance: float = 0.0
    seed: int = 0

    @property
    def folder(self) -> str:
        """The name of its folder in RESULTS."""
        return re.sub(r"[^a-zA-Z0-9.]+", "-", f"{self.group} {self.name}")


DEFAULT = Variation("default", "as `pixmend train` has it")
UNGUIDED = Views(coarse_guide=0)  # without the coarser level's guide, as these ways have none
VARIATIONS = [
    DEFAULT,
    Variation("default", "another seed", seed=1),  # what a seed alone changes: smaller differences say nothing
    Variation("told", "plain", told="plain"),
    Variation("told", "residual", told="residual"),
    Variation("told", "Palette", guide=noise, views=UNGUIDED),
    Variation("guide", "none", guide=nothing, views=UNGUIDED),
    Variation("guide", "pull-push", guide=pull_push),
    Variation("guide", "smooth, never coarse", views=UNGUIDED),
    Variation("predicted", "x0", diffusion={"prediction": "x0"}),
    Variation("predicted", "eps", diffusion={"prediction": "eps"}),
    Variation("schedule", "linear", diffusion={"schedule": "linear"}),
    Variation("schedule", "zero-terminal", diffusion={"schedule": "zero-terminal"}),
    Variation("loss", "balance 0.5", balance=0.5),
    Variation("loss", "balance 1", balance=1.0),
    Variation("masks", "rectangles", masks="rectangles"),
    Variation("masks", "irregular", masks="irregular"),
    Variation("masks", "mixed, no whole picture", views=Views(whole=0)),
    Variation("masks", "mixed, 40 % whole", views=Views(whole=0.4)),
    Variation("crops", "none enlarged", views=Views(enlarged=0)),
    Variation("crops", "whole pictures", views=Views(enlarged=0, scales=(1, 1))),
    Variation("crops", "pixel by pixel", views=Views(enlarged=0, scales=(0, 0))),
    Variation("shape", "32-48-96-160, 2 blocks", shape=UNetConfig(channels=(32, 48, 96, 160), blocks=2)),
    Variation("shape", "48-64-96-160", shape=UNetConfig(channels=(48, 64, 96, 160))),
    Variation("shape", "48-80-128-160", shape=UNetConfig(channels=(48, 80, 128, 160))),
    Variation("shape", "64-80-96-128", shape=UNetConfig(channels=(64, 80, 96, 128))),
    Variation(
        "shape",
        "patch 2, 96-160-224",
        shape=UNetConfig(patch=2, channels=(96, 160, 224), attention=(False, False, True)),
    ),
    Variation("shape", "no attention", shape=UNetConfig(attention=(False,) * 4)),
    Variation("shape", "no normalisation", shape=UNetConfig(groups=0)),
]


@contextmanager
def guided_by(guide: Guide) -> Any:
    """Training and sampling are told this guide instead of the smooth fill."""
    with ExitStack() as stack:
        for module in ("pixmend.training", "pixmend.conditioning"):
            stack.enter_context(patch(f"{module}.smooth_fill", guide))
        yield


def step_milliseconds(variations: list[Variation], options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a step of each of these and of the default, by their shapes, taken in turns; kept in RESULTS."""
    file = options.results / "step-milliseconds.json"
    shapes = {str(variation.shape): variation.shape for variation in [DEFAULT, *variations]}
    if not file.exists():
        bf16 = fast_dtype(torch.device("cpu")) == torch.bfloat16
        batch = TrainConfig().batch_size
        steps = {name: step_of(UNet(shape), options.size, batch, bf16) for name, shape in shapes.items()}
        found = {name: 1000 * seconds for name, seconds in medians(alternate(steps, TIMED)).items()}
        text = json.dumps(found).encode()
        write_atomically(file, lambda stream: stream.write(text), overwrite=False)
    found = json.loads(file.read_text())
    if missing := shapes.keys() - found.keys():
        raise SystemExit(f"{file} lacks {min(missing)}: all are timed in one run; give another folder for the results")
    return found


def trained(variation: Variation, kimg: float, options: argparse.Namespace) -> tuple[Model, float]:
    """The model of a variation, trained, or loaded where it was; and the minutes that its training took."""
    output = options.results / variation.folder / "model.safetensors"
    output.parent.mkdir(parents=True, exist_ok=True)
    config = TrainConfig(
        total_kimg=kimg,
        measure_kimg=kimg,
        ema_halflife_kimg=kimg / 20,
        save_minutes=2,
        seed=variation.seed,
    )

    def finished() -> bool:
        leg = load_model(output).legs[-1] if output.exists() else {}
        if leg and (leg["of_kimg"], leg["size"], leg["seed"]) != (kimg, options.size, variation.seed):
            raise SystemExit(f"{output} was trained with other options; give another folder for the results")
        return bool(leg) and round(leg["kimg"] * 1000 / config.batch_size) >= config.steps

    if not finished():
        data = InpaintingDataset(
            options.training,
            options.size,
            masks=variation.masks,
            views=variation.views,
            holdout=config.holdout,
            cache=options.cache,
        )
        model = Model.new(
            variation.shape,
            conditioning=variation.told,
            diffusion=Diffusion(**variation.diffusion),
            size=options.size,
            seed=variation.seed,
        )
        resume = (output.with_suffix(".run") / "state.safetensors").exists()
        train_model(data, output, config, model=model, balance=variation.balance, resume=resume, device=options.device)
    if not finished():
        raise SystemExit("stopped; start again with the same arguments to go on")
    model = load_model(output)
    return model, model.legs[-1]["minutes"]


def measured(model: Model, truth: Tensor, sampler: str, numbers: list[int]) -> dict[str, Any]:
    """Of every kind of hole and number of calls: PSNR of single fills and of the mean of five, sharpness, distance."""
    figures: dict[str, Any] = {}
    for kind in MEASURED:
        hole = holes(kind, len(truth), truth.shape[-1])
        distance = PatchDistance(truth, hole)
        for calls in numbers:
            start = time.perf_counter()
            fills = [
                eight_bits(ours(model, sampler, calls, number, torch.device("cpu"))(truth * (1 - hole), hole))
                for number in range(FILLS)
            ]
            one, mean, true = fills[0], torch.stack(fills).mean(dim=0), eight_bits(truth)
            figures[f"{kind} {calls}"] = {
                "psnr": float(hole_psnr(one / 127.5 - 1, truth, hole).mean()),
                "psnr_of_mean": float(hole_psnr(mean / 127.5 - 1, truth, hole).mean()),
                "sharpness": ratio(inside_gradient(one, hole), inside_gradient(true, hole)),
                "distance": distance(one / 127.5 - 1).value,
                "seconds": time.perf_counter() - start,
            }
    return figures


def kept(file: Path, told: dict[str, Any]) -> dict[str, Any]:
    """What was measured before, with these options and no others."""
    found: dict[str, Any] = json.loads(file.read_text())
    if found.get("options") != told:
        raise SystemExit(f"{file} was measured with {found.get('options')}, and not with {told}; name another RESULTS")
    return found


def report(results: dict[str, dict[str, Any]], numbers: list[int]) -> None:
    """One table for each number of calls."""
    for calls in numbers:
        print(f"\n## {calls} call{'s' if calls > 1 else ''}: PSNR of the mean of five, of one, sharpness, distance\n")
        print(f"| | {' | '.join(MEASURED)} |\n| --- |{' --- |' * len(MEASURED)}")
        for variation in VARIATIONS:
            if variation.folder in results:
                figures = results[variation.folder]["figures"]
                cells = [figures[f"{kind} {calls}"] for kind in MEASURED]
                row = [
                    f"{c['psnr_of_mean']:.2f} {c['psnr']:.2f} {c['sharpness']:.2f} {c['distance']:.3f}" for c in cells
                ]
                print(f"| {variation.group}: {variation.name} | {' | '.join(row)} |")
    print("\n## Cost\n\n| | parameters, M | ms a step | samples, thousands | minutes of training | held-out loss |")
    print(f"|{' --- |' * 6}")
    for variation in VARIATIONS:
        if told := results.get(variation.folder):
            speed = f"{told['milliseconds']:.0f}" if told["milliseconds"] else ""  # None where they were not timed
            figures = f"{told['parameters'] / 1e6:.2f} | {speed} | {told['kimg']:.1f}"
            held_out = told["held_out_loss"]  # None where the part for it has no picture
            figures += f" | {told['minutes']:.1f} | {'' if held_out is None else f'{held_out:.4f}'}"
            print(f"| {variation.group}: {variation.name} | {figures} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("results", type=Path)
    words = {v.group for v in VARIATIONS} | {v.folder for v in VARIATIONS}
    parser.add_argument("--only", nargs="+", metavar="GROUP", choices=sorted(words), help="or a variation's folder")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--kimg", type=float, default=80.0)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--sampler", default="unipc")
    parser.add_argument("--calls", type=int, nargs="+", default=CALLS, help="the network's calls to measure with")
    parser.add_argument("--equal-time", action="store_true", help="the same time for all, and not the same samples")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--device")
    options = parser.parse_args()
    tune_allocator()
    truth = middles(options.photographs, options.pictures, options.size)
    told = {name: getattr(options, name) for name in ("size", "kimg", "pictures", "calls", "equal_time")}
    told |= {name: str(getattr(options, name).resolve()) for name in ("training", "photographs")}
    chosen = [v for v in VARIATIONS if options.only is None or {v.group, v.folder} & set(options.only)]
    options.results.mkdir(parents=True, exist_ok=True)
    milliseconds = step_milliseconds(chosen, options) if options.equal_time else {}
    results = {}
    for variation in VARIATIONS:
        file = options.results / variation.folder / f"measured-{options.sampler}.json"
        own = milliseconds.get(str(variation.shape))
        kimg = round(options.kimg * milliseconds[str(DEFAULT.shape)] / own, 1) if own else options.kimg
        if not file.exists() and variation in chosen:
            with guided_by(variation.guide):
                model, minutes = trained(variation, kimg, options)
                figures = measured(model, truth, options.sampler, options.calls)
            result = {
                "options": told,
                "machine": machine(),
                "milliseconds": own,
                "kimg": kimg,
                "minutes": minutes,
                "parameters": model.network.parameter_count,
                "held_out_loss": model.legs[-1]["held_out_loss"],
                "figures": figures,
            }
            text = json.dumps(result).encode()
            write_atomically(file, lambda stream, text=text: stream.write(text), overwrite=True)  # type: ignore[misc]
        if file.exists():
            results[variation.folder] = kept(file, told)
    print(f"# Ablations: {options.kimg:g} kimg at {options.size}x{options.size}, {len(truth)} photographs")
    for line in dict.fromkeys(result["machine"] for result in results.values()):
        print(f"\n{line}.")
    report(results, options.calls)


if __name__ == "__main__":
    main()
