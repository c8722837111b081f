"""The overfitting test: a network that cannot denoise a handful of pictures by heart cannot denoise at all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pixmend.denoising.cifar import PictureSet
from pixmend.denoising.figures import draw_handful
from pixmend.denoising.measure import evaluate
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.task import check_place, document_config, train_denoiser
from pixmend.errors import DataError, TrainingError
from pixmend.loop import Progress, Report
from pixmend.run_place import was_begun

FIGURE = "comparison.png"
MOST_DRAWN = 32


def check_new(run: Path) -> None:
    """Refuse a folder in which a training was begun, or that holds files that this one would replace."""
    if was_begun(run):
        raise TrainingError(f"{run} holds a training that was begun; choose another output")
    check_place(run, False, FIGURE)


def overfit(
    pictures: PictureSet,
    run: str | os.PathLike[str],
    *,
    count: int = 8,
    steps: int = 1500,
    lr: float = 1e-3,
    denoiser: Denoiser | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Mapping[str, Any]:
    """Train on the first `count` pictures alone, `steps` steps of all of them, and measure on the same.

    Returns what `evaluate` returns of those pictures, with the noise that it draws. The folder `run` gets what a
    training leaves, and comparison.png, of at most `MOST_DRAWN` pictures: clean, noisy at the middle level, denoised in
    one step. Ctrl-C ends it with KeyboardInterrupt: what is not learnt to the end tells nothing.
    """
    check_new(Path(run))
    if not 1 <= count <= len(pictures.train):
        there = len(pictures.train)
        raise DataError(
            f"{count} pictures to learn by heart are asked for, and {there} are there; give --pictures 1 to {there}"
        )
    handful = PictureSet(pictures.train[:count], pictures.train[:count])
    config = document_config(count, epochs=steps, batch=count, lr=lr, seed=seed)
    kimg = config.total_kimg
    config = dataclasses.replace(config, measure_kimg=kimg, save_kimg=kimg, held_out_samples=count)
    last: Report | None = None

    def tell(report: Report) -> None:
        nonlocal last
        last = report
        if progress is not None:
            progress(report)

    trained = train_denoiser(handful, run, config, denoiser=denoiser, device=device, progress=tell)
    if last is not None and last.step < last.steps:
        raise KeyboardInterrupt
    x0 = torch.from_numpy(handful.train[:MOST_DRAWN]).float() / 127.5 - 1
    draw_handful(trained.network, x0, trained.law.T // 2, trained.law, Path(run) / FIGURE)
    return evaluate(trained.network, handful.train, trained.law)
