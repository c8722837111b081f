"""Threads that each take a share of a batch: on a CPU, two cores do two halves sooner than one whole together.

Where all cores work on the same operation, they wait for each other at the end of each, and what is too small to be
shared out keeps one of them busy and the others idle. On shares of their own they wait for each other once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor, nn


class Team:
    """So many threads, of one core each, that do `backward` together.

    While it is open, torch is told to use one core in these threads; afterwards everything is as it was. The shares'
    gradients are added in their order: the result is the same every time, and that of the whole batch but for rounding.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Team:
        self._before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._before)

    def backward(
        self, error: Callable[[Mapping[str, Tensor]], Tensor], batch: Mapping[str, Tensor], network: nn.Module
    ) -> Tensor:
        """Add the gradients of error(batch), a sum over the samples of the batch, to the network's; returns the sum."""
        shares = [
            dict(zip(batch, values, strict=True)) for values in zip(*map(self._split, batch.values()), strict=True)
        ]
        parameters = [p for p in network.parameters() if p.requires_grad]

        def work(share: Mapping[str, Tensor]) -> tuple[Tensor, Iterable[Tensor | None]]:
            found = error(share)
            return found.detach(), torch.autograd.grad(found, parameters, allow_unused=True)

        errors = []
        for found, gradients in self._pool.map(work, shares):
            errors.append(found)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return torch.stack(errors).sum()

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.tensor_split(min(self.count, len(values)))
