"""LPIPS and FID, through torchmetrics, where it and the weights that they are defined by are on the machine already.

Nothing is downloaded, and nothing else is ever called by these names. LPIPS is of AlexNet (Zhang et al. 2018,
https://arxiv.org/abs/1801.03924), of whole pictures; FID of 2048 features of the Inception network that was first
used for it (Heusel et al. 2017, https://arxiv.org/abs/1706.08500). FID of a few hundred pictures is biased upwards:
it compares methods in one report, not with papers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixmend.evaluation.metrics import LEVEL

SMALLEST = 32  # side of a picture for LPIPS: AlexNet's layers leave nothing of one below 31
ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"


def missing(name: str) -> str | None:
    """Why `name`, "LPIPS" or "FID", cannot be measured here, in one line; None where it can."""
    packages = ("torchmetrics", "torchvision") if name == "LPIPS" else ("torchmetrics", "torch_fidelity")
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        return f"{name} is left out: {' and '.join(absent)} not installed"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / (ALEXNET if name == "LPIPS" else INCEPTION)
    if not weights.is_file():
        return (
            f"{name} is left out: its weights are not on this machine ({weights.name} in torch's folder of checkpoints)"
        )
    return None


@lru_cache(maxsize=1)
def lpips() -> Callable[[Tensor, Tensor], Tensor]:
    """A function of pictures (B, 3, H, W) in [-1, 1] and their truths to distances (B,); its weights are read once."""
    image: Any = import_module("torchmetrics.image.lpip")
    measure = image.LearnedPerceptualImagePatchSimilarity(net_type="alex")

    @torch.inference_mode()
    def distances(x: Tensor, truth: Tensor) -> Tensor:
        return torch.stack([measure(a[None].clamp(-1, 1), b[None]) for a, b in zip(x, truth, strict=True)])

    return distances


@torch.inference_mode()
def fid(x: Tensor, truth: Tensor) -> float:
    """The distance between two sets of pictures (B, 3, H, W) in [-1, 1]."""
    image: Any = import_module("torchmetrics.image.fid")
    measure = image.FrechetInceptionDistance(feature=2048)
    for pictures, real in ((truth, True), (x, False)):
        measure.update(((pictures + 1) * LEVEL).round().byte(), real=real)
    return float(measure.compute())
