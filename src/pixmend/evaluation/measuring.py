"""From fills to figures: a row of numbers for every case, and what can only be said of a whole set.

What was measured is kept in a file for each method and family, under a hash of the fills and the settings: measured
again is only what is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixmend.evaluation import classifier, learned, metrics
from pixmend.evaluation.baselines import telea
from pixmend.evaluation.distributions import PatchDistance
from pixmend.evaluation.memorisation import TrainingPatches, windows_of
from pixmend.evaluation.method import Method, Unavailable
from pixmend.evaluation.protocol import Case, Pixels
from pixmend.evaluation.runner import Fills
from pixmend.files import errors_as_one_line, write_atomically

VERSION = 2  # of the measures: raised when one of them changes
FEWEST = 20  # pictures for what is said of a set: the classifier, sliced Wasserstein, FID

Row = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """What is measured beside what always is."""

    classify: frozenset[str] = frozenset()  # families
    training: TrainingPatches | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """All that measures depend on beside the fills, as JSON."""
        found = [name for name in ("LPIPS", "FID") if learned.missing(name) is None]
        training = "" if self.training is None else self.training.fingerprint
        return {"version": VERSION, "classify": sorted(self.classify), "training": training, "learned": found}


@dataclass(frozen=True)
class Measured:
    """What was measured of a method on a family."""

    rows: list[Row]  # one for each case, in their order
    whole: dict[str, Row]  # measure of the set -> its numbers


class Yardstick:
    """Cases of one family with all that their truth has to be measured for, each once and only if it is asked for."""

    def __init__(self, cases: Sequence[Case], settings: Settings) -> None:
        self.cases, self.settings = cases, settings
        self.truth = as_tensor([case.truth for case in cases])
        self.hole = torch.from_numpy(np.stack([case.hole for case in cases])).float()[:, None]  # (B, 1, H, W)

    @cached_property
    def amounts(self) -> dict[str, Tensor]:
        """What the amounts of a fill are divided by."""
        return amounts(self.truth, self.hole)

    @cached_property
    def patches(self) -> PatchDistance:
        """The truth's patches."""
        return PatchDistance(self.truth, self.hole)

    @cached_property
    def features(self) -> Tensor:
        """What the classifier is shown of the truth."""
        return classifier.features(self.truth, self.hole)

    @cached_property
    def validity(self) -> Row:
        """How well the classifier tells Telea's fills, and lots between real; Telea's is NaN without OpenCV."""
        found = {"real": classifier.accuracy_of_lots(self.features), "telea": float("nan")}
        try:
            method = telea()
        except Unavailable:
            return found
        filled = [np.where(c.hole[..., None], method(c.given, c.hole, 0).pixels, c.truth) for c in self.cases]
        shown = classifier.features(as_tensor(filled), self.hole)
        return {**found, "telea": classifier.accuracy(self.features, shown).value}

    def nearest(self, x: Tensor) -> list[float]:
        """Distances to the nearest training patches; NaN where the hole is too narrow."""
        found = [float("nan")] * len(x)
        windows = windows_of(self.hole)
        if self.settings.training is not None and len(windows.cases):
            distances = self.settings.training.nearest(x, windows)
            for case, distance in zip(windows.cases.tolist(), distances.tolist(), strict=True):
                found[case] = distance
        return found

    @cached_property
    def nearest_to_truth(self) -> list[float]:
        """The distances of the truth."""
        return self.nearest(self.truth)


def measure(method: Method, fills: Sequence[Fills], yardstick: Yardstick, folder: Path) -> Measured:
    """All measures of a method's fills of a yardstick's cases, from the folder where they were measured before."""
    family = yardstick.cases[0].family
    file = folder / method.folder / f"{family}-{len(fills)}.json"
    key = _key(fills, yardstick)
    kept = _read(file, key)
    if kept is not None:
        return kept
    measured = _measure(fills, yardstick)
    text = json.dumps({"key": key, **asdict(measured)}).encode()
    with errors_as_one_line(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda stream: stream.write(text), overwrite=True)
    return measured


def amounts(x: Tensor, hole: Tensor) -> dict[str, Tensor]:
    """What is compared as a ratio of sums: (B,) each."""
    bands = metrics.band_detail(x, hole)
    found = {"seam": metrics.boundary_gradient(x, hole), "sharpness": metrics.inside_gradient(x, hole)}
    return found | {f"sharpness_{i + 1}": band for i, band in enumerate(bands.T)}


def as_tensor(pictures: Sequence[Pixels]) -> Tensor:
    """(B, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / metrics.LEVEL - 1


def _measure(fills: Sequence[Fills], yardstick: Yardstick) -> Measured:
    truth, hole = yardstick.truth, yardstick.hole
    drawn = zip(*(f.pictures(case) for f, case in zip(fills, yardstick.cases, strict=True)), strict=True)
    x = torch.stack([as_tensor(pictures) for pictures in drawn])  # (N, B, 3, H, W)
    singles = [_single(fill, truth, hole) for fill in x]
    columns = {name: torch.stack([single[name] for single in singles]).mean(dim=0) for name in singles[0]}
    mean = x.mean(dim=0)
    columns["psnr_best"] = torch.stack([single["psnr"] for single in singles]).amax(dim=0)
    columns["psnr_mean"], columns["ssim_mean"] = metrics.hole_psnr(mean, truth, hole), metrics.ssim(mean, truth, hole)
    columns["diversity"] = metrics.diversity(x, hole)
    columns |= {f"{name}_truth": values for name, values in yardstick.amounts.items()}
    for name in ("known_difference", "seconds", "network_calls", "memory"):
        together = np.max if name in ("known_difference", "memory") else np.mean
        columns[name] = torch.tensor([float(together(getattr(f, name))) for f in fills])
    if yardstick.settings.training is not None:
        columns["nearest"] = torch.tensor([yardstick.nearest(fill) for fill in x]).mean(dim=0)
        columns["nearest_truth"] = torch.tensor(yardstick.nearest_to_truth)
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in torch.stack(list(columns.values())).T.tolist()]
    return Measured(rows, _of_the_set(x[0], yardstick) if len(fills) >= FEWEST else {})


def _single(x: Tensor, truth: Tensor, hole: Tensor) -> dict[str, Tensor]:
    """Everything of single fills: (B,) each."""
    found = {
        "psnr": metrics.hole_psnr(x, truth, hole),
        "mae": metrics.hole_mae(x, truth, hole),
        "ssim": metrics.ssim(x, truth, hole),
        "ms_ssim": metrics.ms_ssim(x, truth, hole),
        "gmsd": metrics.gmsd(x, truth, hole),
        **amounts(x, hole),
    }
    if learned.missing("LPIPS") is None and min(x.shape[-2:]) >= learned.SMALLEST:
        found["lpips"] = learned.lpips()(x, truth)
    return found


def _of_the_set(x: Tensor, yardstick: Yardstick) -> dict[str, Row]:
    """What is said of all first fills together."""
    found: dict[str, Row] = {"sliced_wasserstein": asdict(yardstick.patches(x))}
    if yardstick.cases[0].family in yardstick.settings.classify:
        told = classifier.accuracy(yardstick.features, classifier.features(x, yardstick.hole))
        found["classifier"] = {**told._asdict(), **yardstick.validity}
    if learned.missing("FID") is None:
        found["fid"] = {"value": learned.fid(x, yardstick.truth)}
    return found


def _key(fills: Sequence[Fills], yardstick: Yardstick) -> str:
    hashed = hashlib.sha256(json.dumps(yardstick.settings.identity).encode())
    for case, made in zip(yardstick.cases, fills, strict=True):
        hashed.update(f"{case.name}/{made.values.shape}".encode())
        for name in Fills.__dataclass_fields__:
            hashed.update(getattr(made, name).tobytes())
    return hashed.hexdigest()


def _read(file: Path, key: str) -> Measured | None:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    return Measured(content["rows"], content["whole"])
