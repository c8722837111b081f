"""What the scripts that train the shipped models share: legs of training, each from the end of the one before."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixmend.loop import Report, TrainConfig

TERMS = (
    "Trained on about 5,000 photographs of public research collections; most of them state no licence, some allow "
    "non-commercial use only. Use the weights for research and private, non-commercial work; docs/model-card.md has "
    "the list."
)


def add_leg_options(parser: argparse.ArgumentParser) -> None:
    """The photographs, where runs go, and how each leg is trained."""
    parser.add_argument("photos", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--leg", type=_leg, action="append", required=True, metavar="SIZE:KIMG")
    parser.add_argument("--init", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device")
    parser.add_argument("--cache", type=Path)


def _leg(text: str) -> tuple[int, float]:
    size, kimg = text.split(":")
    return int(size), float(kimg)


def leg_config(options: argparse.Namespace, number: int, warmup_kimg: float | None = None) -> TrainConfig:
    """The configuration of a leg, counted from 1; warmup_kimg: the usual one if left out."""
    _, kimg = options.leg[number - 1]
    last = number == len(options.leg)
    warmup = {} if warmup_kimg is None else {"warmup_kimg": warmup_kimg}
    return TrainConfig(
        total_kimg=kimg,
        batch_size=options.batch,
        lr=options.lr,
        lr_end=0.0 if last else 0.3,  # a leg that is not the last hands on a network that still moves
        ema_halflife_kimg=min(20.0, kimg / 20) if last else 5.0,
        seed=options.seed + number - 1,
        save_minutes=2.0,
        **warmup,
    )


def end_leg(number: int, leg: Mapping[str, Any], config: TrainConfig) -> None:
    """Print what the model file says of a leg; leave, if it was stopped before its end."""
    print(f"leg {number}: {leg}", flush=True)
    if round(leg["kimg"] * 1000 / config.batch_size) < config.steps:
        sys.exit("stopped; start again with the same arguments to go on")


class Printer:
    """A line for the log every half minute."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self, report: Report) -> None:
        """Called after every step."""
        if report.held_out is None and time.monotonic() - self.last < 30 and report.step != report.steps:
            return
        self.last = time.monotonic()
        held_out = "" if report.held_out is None else f", held out {report.held_out:.4f}"
        print(
            f"{time.strftime('%H:%M:%S')} step {report.step}/{report.steps}: loss {report.loss:.4f}{held_out}, "
            f"lr {report.lr:.2e}, {report.samples_per_second:.0f} samples/s, {report.seconds_left / 60:.0f} min left",
            flush=True,
        )
