"""How good the fills are: hole PSNR, sharpness and seam on photographs that were never trained on.

    python bench/quality.py FOLDER_OF_PHOTOGRAPHS [--model FILE] [--fills 5] [--montage FILE]

The tables of docs/results/quality.md; `pixmend evaluate` measures more, on the holes that papers report.

The middle of every photograph, reduced so that its shorter side is the model's; holes from fixed seeds (the picture's
number), cut hard (R = 0); fills rounded to eight bits as a file would have them. PSNR over the values in the hole, the
mean over pictures. Sharpness: differences of neighbours in the hole, over those of the truth. Seam: differences of
neighbours across the hole's edge, over those of the truth. Both are 1 for the truth; below 1 is too smooth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from machine import machine
from pixmend.checkpoint import Model, load_model
from pixmend.conditioning import make_denoiser, smooth_fill
from pixmend.diffusion import Conditioning, Known
from pixmend.evaluation.baselines import BASELINES
from pixmend.evaluation.metrics import boundary_gradient, hole_psnr, inside_gradient
from pixmend.evaluation.protocol import part_of
from pixmend.images import open_thumbnail, picture_files, save_tensor_as_image
from pixmend.masks import KINDS, create_advanced_mask
from pixmend.runtime import fast_dtype, pick_device, tune_allocator
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.windows import is_wide

BATCH = 25
MONTAGE_ROWS = 12
TELEA = "OpenCV Telea, radius 3"
BESIDE = {"mean colour": "mean", "scikit-image biharmonic": "biharmonic", "the guide alone": "guide"}
Fill = Callable[[Tensor, Tensor], Tensor]  # pictures (B, 3, H, W) and holes (B, 1, H, W) to pictures


def middles(folder: Path, count: int, size: int) -> Tensor:
    """The middles (B, 3, size, size) of up to `count` pictures, evenly from the sorted list, in [-1, 1].

    Of those that are for choices: what is chosen by them, `pixmend evaluate` reports on the others.
    """
    files = [file for file in picture_files(folder) if part_of(file.relative_to(folder).as_posix()) == "choice"]
    crops = []
    for i in range(min(count, len(files))):
        pixels = open_thumbnail(files[i * len(files) // min(count, len(files))], size)
        height, width = pixels.shape[:2]
        top, left = (height - size) // 2, (width - size) // 2
        if min(top, left) >= 0:  # smaller pictures are left out
            crops.append(torch.from_numpy(pixels[top : top + size, left : left + size].copy()))
    if len(crops) < 2:
        raise SystemExit(f"{folder} holds fewer than two pictures of {size} x {size} pixels for choices; give another")
    return torch.stack(crops).permute(0, 3, 1, 2).float() / 127.5 - 1


def holes(kind: str, count: int, size: int) -> Tensor:
    """Holes (count, 1, size, size), the n-th from the seed n."""
    return torch.cat([create_advanced_mask(kind, size, seed=n) for n in range(count)])


def eight_bits(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 255], whole numbers."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round()


def baseline(word: str) -> Fill:
    """A method of `pixmend.evaluation.baselines`, for batches."""
    method = BASELINES[word]()

    def fill(x0: Tensor, hole: Tensor) -> Tensor:
        pictures = eight_bits(x0 * (1 - hole)).byte().permute(0, 2, 3, 1).numpy()
        filled = [method(p, h, 0).pixels for p, h in zip(pictures, hole[:, 0].numpy() > 0, strict=True)]
        return torch.from_numpy(np.stack(filled)).permute(0, 3, 1, 2).float() / 127.5 - 1

    return fill


def ratio(output: Tensor, truth: Tensor) -> float:
    """The sum over pictures of what was measured on the fills, over that of the truth: 1 is best.

    A ratio of sums: one picture that is flat in truth does not decide over all.
    """
    return float(output.sum() / truth.sum())


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of (B,) values, and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def likeliest(model: Model, device: torch.device) -> Fill:
    """What a model that answers the mean says, in one call."""
    return ours(model, model.sampler, 1, 0, device)


def ours(model: Model, sampler: str, steps: int, number: int, device: torch.device, *, told: bool = True) -> Fill:
    """The model's fill in `steps` steps, upon the mean where it has a network for that, of narrow holes as well.

    Its n-th picture has a generator of its own, of the seed (number, n). told: whether the network is shown what is
    known; else it only makes pictures, as in the plain mode, and what is known is put back at every step.
    """
    times, dtype = step_subset(model.diffusion.T, steps), fast_dtype(device)

    def network(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output: Tensor = model.network(x, t).float()
        return output

    @torch.inference_mode()
    def fill(x0: Tensor, hole: Tensor) -> Tensor:
        done = []
        for first in range(0, len(x0), BATCH):
            part, part_hole = x0[first : first + BATCH].to(device), hole[first : first + BATCH].to(device)
            generators = [torch.Generator().manual_seed(1_000_000 * number + first + i) for i in range(len(part))]

            def noise(like: Tensor, generators: list[torch.Generator] = generators) -> Tensor:
                return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like)

            way: Conditioning = model.conditioning if told else "plain"
            known = Known(part * (1 - part_hole), part_hole, model.diffusion, way, noise)
            start, sample = known.start(times[0]), SAMPLERS[sampler]
            shown = known
            if not told:
                nothing = torch.zeros_like(part), torch.ones_like(part_hole)
                shown = Known(*nothing, model.diffusion, model.conditioning, noise)
            guide = None
            if model.mean and told:  # as `Filling` does: where the network sees across the hole
                wide = torch.tensor([is_wide(h[0].cpu().numpy() > 0, model.size) for h in part_hole], device=device)
                mean = likeliest(model.mean, device)(part, part_hole).to(device)
                guide = torch.where(wide[:, None, None, None], smooth_fill(part, part_hole), mean)
            denoise = make_denoiser(network, shown, guide)
            done.append(sample(denoise, start, times, model.diffusion, noise=noise, put_back=known.put_back).cpu())
        return torch.cat(done)

    return fill


@dataclass
class Table:
    """Rows are ways to fill, columns are kinds of holes."""

    title: str
    kinds: list[str]
    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, cell: str) -> None:
        self.rows.setdefault(name, []).append(cell)

    def print(self) -> None:
        if self.rows:
            print(f"\n## {self.title}\n\n| | {' | '.join(self.kinds)} |\n| --- |{' --- |' * len(self.kinds)}")
            for name, cells in self.rows.items():
                print(f"| {name} | {' | '.join(cells)} |")


class Evaluation:
    """The tables, filled kind by kind, and the fills that the montage shows."""

    def __init__(self, truth: Tensor, kinds: list[str], fills: int) -> None:
        self.truth, self.kinds, self.fills = truth, kinds, fills
        self.psnr = Table("Hole PSNR in dB (in brackets: above Telea, and the standard error of that)", kinds)
        self.mean_psnr = Table(f"Hole PSNR of the mean of {fills} fills, in dB", kinds)
        self.sharpness = Table("Sharpness (truth: 1)", kinds)
        self.seam = Table("Seam (truth: 1)", kinds)
        self.shown: dict[str, list[Tensor]] = {}  # kind -> pictures from left to right, each for all of `truth`

    def run(self, kind: str, ways: dict[str, list[Fill]]) -> None:
        """Measure every way on a kind of hole: its first fill, and where it has more, the mean of all."""
        hole = holes(kind, len(self.truth), self.truth.shape[-1])
        masked = self.truth * (1 - hole)
        results = {name: [eight_bits(fill(masked, hole)) / 127.5 - 1 for fill in fills] for name, fills in ways.items()}
        psnr = {name: hole_psnr(made[0], self.truth, hole) for name, made in results.items()}
        self.psnr.add("share of the picture that is hole", f"{100 * float(hole.mean()):.0f} %")
        for name, made in results.items():
            above, error = mean_and_error(psnr[name] - psnr[TELEA])
            told = "" if name == TELEA else f" ({above:+.2f} ± {error:.2f})"
            self.psnr.add(name, f"{float(psnr[name].mean()):.2f}{told}")
            for table, gradient in ((self.sharpness, inside_gradient), (self.seam, boundary_gradient)):
                table.add(name, f"{ratio(gradient(made[0], hole), gradient(self.truth, hole)):.2f}")
            if len(made) > 1:
                mean = torch.stack(made).mean(dim=0)
                self.mean_psnr.add(name, f"{float(hole_psnr(mean, self.truth, hole).mean()):.2f}")
        mended = [made[0] for name, made in results.items() if name not in BESIDE]
        self.shown[kind] = [masked, *mended, self.truth]

    def print(self) -> None:
        for table in (self.psnr, self.mean_psnr, self.sharpness, self.seam):
            table.print()

    def montage(self) -> Tensor:
        """Rows of pictures spread over the set, the kinds in turn, enlarged twofold: (1, 3, H, W)."""
        rows = []
        for row in range(min(MONTAGE_ROWS, len(self.truth))):
            n = row * len(self.truth) // min(MONTAGE_ROWS, len(self.truth))
            pictures = self.shown[self.kinds[row % len(self.kinds)]]
            rows.append(torch.cat([p[n] for p in pictures], dim=-1))
        grid = torch.cat(rows, dim=-2)[None]
        return grid.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)


def head(model: Model, pictures: int, size: int) -> str:
    legs = "; ".join(
        f"{leg.get('kimg')} kimg at {leg.get('size')} px, held-out loss {leg.get('held_out_loss')}"
        for leg in model.legs
    )
    return (
        f"# Quality on {pictures} photographs at {size}x{size}\n\n{machine()}.\n\n"
        f"Model: {model.network.parameter_count / 1e6:.2f} M parameters, {model.conditioning}, "
        f"{model.diffusion.prediction}, {model.sampler}; legs of training: {legs or 'none'}."
    )


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", type=Path, help="a model file; the one that ships with pixmend without")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--size", type=int, help="side of the pictures; the model's without")
    parser.add_argument("--sampler", choices=list(SAMPLERS), help="the model's without")
    parser.add_argument("--steps", type=whole_numbers, default=[1, 2, 4, 8, 16], metavar="N,N,...")
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), metavar="KIND", help="kinds of holes, of masks.KINDS"
    )
    parser.add_argument("--fills", type=int, default=1, help="beside the first fill, measure the mean of so many")
    parser.add_argument("--device", help="cpu, cuda or mps; the best there is without")
    parser.add_argument("--montage", type=Path, help="PNG to look at: masked, Telea, ours at each steps, the truth")
    parser.set_defaults(kinds=["rectangles", "centre", "irregular", "stripes"])
    options = parser.parse_args()
    tune_allocator()
    device = pick_device(options.device)
    model = load_model(options.model)
    model.sampler = options.sampler or model.sampler
    model.network.to(device)
    truth = middles(options.folder, options.pictures, options.size or model.size)
    evaluation = Evaluation(truth, options.kinds, options.fills)
    ways: dict[str, list[Fill]] = {name: [baseline(word)] for name, word in BESIDE.items()}
    ways[TELEA] = [baseline("telea")]
    if model.mean:
        model.mean.network.to(device)
        ways["the mean"] = [likeliest(model.mean, device)]
    for steps in options.steps:
        name = f"pixmend, {steps} step{'s' if steps > 1 else ''}"
        ways[name] = [ours(model, model.sampler, steps, number, device) for number in range(options.fills)]
    print(head(model, len(truth), truth.shape[-1]))
    for kind in options.kinds:
        evaluation.run(kind, ways)
    evaluation.print()
    if options.montage:
        save_tensor_as_image(evaluation.montage(), options.montage, overwrite=True)


if __name__ == "__main__":
    main()
