"""Several processes that train one network together, as torchrun starts them; without it, nothing here does a thing.

    torchrun --nproc-per-node 2 -m pixmend train FOLDER -o MODEL

Gradients are averaged by DistributedDataParallel. The single numbers on which all must agree (how many values count,
what the loss was, whether to stop) travel in a group of their own, which waits however long rank 0 measures or saves.
torch is imported where it is needed: the command line asks for `rank()` before it is loaded.
"""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pixmend.errors import OptionError, TrainingError

if TYPE_CHECKING:
    from torch import device, nn

PATIENCE = timedelta(days=365)


def launched() -> bool:
    """Whether torchrun started this process, and others beside it."""
    return "TORCHELASTIC_RUN_ID" in os.environ and _told("WORLD_SIZE") > 1


def rank() -> int:
    """The number of this process, from 0; rank 0 is the one that writes and tells."""
    return _told("RANK") if launched() else 0


def speaks() -> bool:
    """Whether this process is to say why it ends: of several, only the first that asks.

    The others met the same error, or end because it ended. Who was first is known to torchrun's store, which outlives
    them all.
    """
    if not launched():
        return True
    from torch import distributed

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            host, port, is_master=False, timeout=timedelta(seconds=20)
        )
        return store.add(f"pixmend/{attempt}/errors", 1) == 1
    except RuntimeError:  # a torchrun that was told to keep no store
        return rank() == 0


@dataclass(frozen=True)
class Processes:
    """All processes of one training, seen from one of them; by default there is just one."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # on this machine
    local_count: int = 1
    words: Any = None  # the group in which single numbers travel

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, in float64; returns when all have come here."""
        if self.count == 1:
            return list(numbers)
        import torch
        from torch import distributed

        sums = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(sums, group=self.words)
        return sums.tolist()

    def any(self, wish: bool) -> bool:
        """Whether one of them wishes it."""
        return self.total(wish)[0] > 0

    def wait(self) -> None:
        """Until all have come here."""
        self.total(0)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """What stands inside is done by rank 0, and by the others only when that is done: they find what it wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def replicate(self, network: nn.Module) -> nn.Module:
        """The network, started everywhere from the parameters of rank 0, its gradients averaged over all processes."""
        if self.count == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(network)

    def averaging(self, network: nn.Module, now: bool) -> AbstractContextManager[None]:
        """Gradients of what is calculated inside are averaged if `now`, else kept until they are."""
        return nullcontext() if now or self.count == 1 else network.no_sync()  # type: ignore[operator]

    def device(self, name: str | None) -> device:
        """Where this process calculates: on several GPUs, each has its own. See `runtime.pick_device`."""
        import torch

        from pixmend.runtime import pick_device

        if self.count == 1:
            return pick_device(name)
        if name in (None, "auto", "cuda") and torch.cuda.is_available():
            if self.local_count > torch.cuda.device_count():
                raise OptionError(
                    f"{self.local_count} processes have {torch.cuda.device_count()} GPUs here; start one for each GPU "
                    "with --nproc-per-node, or give --device cpu"
                )
            torch.cuda.set_device(self.local_rank)
            return torch.device("cuda", self.local_rank)
        chosen = pick_device(name)
        if chosen.type != "cpu":
            raise OptionError(f"several processes train on cpu or on cuda, each on a GPU of its own, not on {chosen}")
        return chosen


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started together, this one among them; without torchrun, this one alone.

    Where another one ends, and with it the training, that is a TrainingError here.
    """
    if not launched():
        yield ALONE
        return
    try:
        yield Processes(_told("RANK"), _told("WORLD_SIZE"), _told("LOCAL_RANK"), _told("LOCAL_WORLD_SIZE"), _words())
    except RuntimeError as error:
        from torch.distributed import DistError

        if "gloo" not in str(error) and not isinstance(error, DistError):  # gloo's errors have no class of their own
            raise
        raise TrainingError(
            f"process {rank()} lost another process of this training; see what that one said, or whether the system "
            "ended it for want of memory, and go on with --resume"
        ) from error
    _leave_in_order()


def _told(name: str) -> int:
    return int(os.environ[name])  # torchrun sets them all


@functools.cache
def _words() -> Any:
    """Meet the others, once: what the store keeps of a first meeting would mislead a second one."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return distributed.new_group(backend="gloo", timeout=PATIENCE)


@functools.cache
def _leave_in_order() -> None:
    """At the end of the program; not where an error ends it, when the others no longer answer."""
    from torch import distributed

    atexit.register(distributed.destroy_process_group)
