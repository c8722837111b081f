"""Where `faults.py` plants its faults: trainings of three and of sixty steps, and what they come by undisturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import breaking
import victim

SHORT, LONG = 0.006, 0.12  # thousands of samples: three steps, and sixty for what is broken at random moments
Row = tuple[int, str]  # how often, and what happened


@dataclass
class Soak:
    """What all faults here are planted in."""

    folder: Path
    stage: victim.Stage
    rng: np.random.Generator
    kills: int
    short: victim.Course  # of three steps
    long: victim.Course  # of sixty
    seconds: float  # that the long one takes
    made: int = 0

    @classmethod
    def begin(cls, folder: Path, seed: int, kills: int) -> Soak:
        stage = victim.Stage(folder / "stage", kimg=SHORT)
        short = victim.undisturbed(stage, folder / "short.safetensors")
        started = time.monotonic()
        long = victim.undisturbed(stage, folder / "long.safetensors", kimg=LONG)
        return cls(folder, stage, np.random.default_rng(seed), kills, short, long, time.monotonic() - started)

    def output(self) -> Path:
        """A model file in a folder of its own."""
        self.made += 1
        folder = self.folder / str(self.made)
        folder.mkdir()
        return folder / "m.safetensors"

    def long_training(self, output: Path, workers: int = 0) -> breaking.Child:
        """In a process of its own; it saves by the clock, as real ones do."""
        minutes = self.seconds / 60 / 20
        options = ("--workers", workers)
        return breaking.Child(lambda: self.stage.train(output, *options, kimg=LONG, save_minutes=minutes), group=True)

    def places(self) -> Iterator[tuple[int, Path]]:
        """The operations on files that fail, by number, each with a new model file; who takes them stops at the end."""
        for at in range(1, 10_000):
            yield at, self.output()
