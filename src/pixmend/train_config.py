"""How a training goes: its numbers, and the courses of the learning rate and of the average that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pixmend.errors import OptionError

WARMUP_SHARE = 0.1


@dataclass(frozen=True)
class TrainConfig:
    """How to train. kimg = thousands of samples seen; nothing depends on the time of day or the number of workers."""

    total_kimg: float = 400.0
    batch_size: int = 32  # samples of one step, over all processes
    accumulate: int = 1  # parts that a process cuts its samples of a step into, to save memory
    lr: float = 4e-4  # at its highest, after the warm-up
    lr_end: float = 0.0  # share of lr that the cosine ends on
    warmup_kimg: float = 5.0  # but at most WARMUP_SHARE of the training
    adam_betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0  # above 0: AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101)
    clip_norm: float = 1.0  # largest norm of all gradients together; infinite: they are left as they are
    ema_halflife_kimg: float = 20.0  # of the averaged parameters, which are what is saved; 0: the parameters themselves
    ema_ramp: float = 0.1  # the half-life is at most this share of the samples seen so far
    seed: int = 0
    bf16: bool | None = None  # None: where the device calculates in it
    workers: int | None = None  # processes that prepare samples; None: none on a CPU, which they would share
    holdout: float = 0.02  # share of the pictures kept to measure on
    held_out_samples: int = 256
    measure_kimg: float = 10.0  # held-out loss and repaired pictures each so many samples
    save_minutes: float = 5.0
    save_kimg: float = math.inf  # saved each so many samples as well
    bad_steps: int = 10  # so many steps in a row that are not finite end the training

    def __post_init__(self) -> None:
        for name in ("total_kimg", "batch_size", "lr", "measure_kimg"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} = {getattr(self, name)} must be above 0 and finite")
        for name in ("clip_norm", "save_kimg", "ema_ramp"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} = {getattr(self, name)} must be above 0")
        for name in ("ema_halflife_kimg", "weight_decay", "warmup_kimg", "workers"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise OptionError(f"{name} = {getattr(self, name)} must be at least 0 and finite")
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"seed = {self.seed} must be from 0 to 2**63 - 1")
        for name in ("held_out_samples", "bad_steps"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} = {getattr(self, name)} must be at least 1")
        if not all(0 <= part < 1 for part in (self.holdout, *self.adam_betas)):
            raise OptionError(f"holdout = {self.holdout} and adam_betas = {self.adam_betas} must be in [0, 1)")
        if not 0 <= self.lr_end <= 1:
            raise OptionError(f"lr_end = {self.lr_end} must be from 0 to 1")
        self.part_size()

    def part_size(self, processes: int = 1) -> int:
        """How many samples go through the network at once."""
        parts = processes * self.accumulate
        if parts < 1 or self.batch_size % parts:
            raise OptionError(
                f"a batch of {self.batch_size} cannot be shared out evenly: {processes} processes x accumulate = "
                f"{self.accumulate}; give a batch that is a multiple of {max(parts, 1)}"
            )
        return self.batch_size // parts

    @property
    def steps(self) -> int:
        return max(1, round(self.total_kimg * 1000 / self.batch_size))

    def lr_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to lr * lr_end (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
        kimg = (step + 1) * self.batch_size / 1000
        warmup = min(self.warmup_kimg, WARMUP_SHARE * self.total_kimg)
        rise = min(1.0, kimg / warmup) if warmup > 0 else 1.0
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.lr * rise * (self.lr_end + (1 - self.lr_end) * fall)

    def ema_decay_at(self, step: int) -> float:
        """Karras et al. 2022, EDM: the half-life grows with the samples seen, so that the start is soon forgotten."""
        if self.ema_halflife_kimg == 0:
            return 0.0
        seen = (step + 1) * self.batch_size / 1000
        return float(0.5 ** (self.batch_size / 1000 / min(self.ema_halflife_kimg, max(seen * self.ema_ramp, 1e-9))))
