"""The samples of each step: in order, shared out among processes, and cut into the parts that are done one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixmend.processes import Processes
from pixmend.runtime import usable_cores
from pixmend.train_config import TrainConfig
from pixmend.workers import begin_worker, steadily

Batch = Mapping[str, Tensor]


def batches(
    samples: Dataset[Any],
    config: TrainConfig,
    device: torch.device,
    first_step: int,
    processes: Processes,
    note: Callable[[str], None],
) -> Iterator[list[Batch]]:
    """For each step from the first, the parts of its batch that fall to this process, on the CPU.

    device: what they are for. The k-th sample of the training is samples[k], whoever takes it. note(text) is told of
    workers that died.
    """
    workers = config.workers
    if workers is None:
        workers = min(16, usable_cores() // processes.local_count) if device.type == "cuda" else 0

    def loader(done: int, workers: int) -> DataLoader[Any]:
        return DataLoader(
            samples,
            batch_sampler=islice(_numbers(config, first_step, processes), done, None),
            num_workers=workers,
            collate_fn=getattr(samples, "collate", None),
            pin_memory=device.type == "cuda",
            prefetch_factor=8 if workers else None,
            worker_init_fn=begin_worker,
        )

    parts = steadily(loader, workers, note)
    for _ in range(first_step, config.steps):
        yield list(islice(parts, config.accumulate))


def _numbers(config: TrainConfig, first_step: int, processes: Processes) -> Iterator[list[int]]:
    """The numbers k of the samples in each part: a step's are cut in their order, first by process, then by part."""
    size = config.part_size(processes.count)
    for step in range(first_step, config.steps):
        for part in range(config.accumulate):
            start = step * config.batch_size + (processes.rank * config.accumulate + part) * size
            yield list(range(start, start + size))
