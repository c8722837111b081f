"""Processes that prepare samples, and what becomes of a training when one of them dies."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from pixmend.errors import PixmendError

MakeLoader = Callable[[int, int], DataLoader[Any]]  # from which batch on, with how many workers
LOST = ("DataLoader worker (pid", "Pin memory thread exited")  # how torch begins to say it


def steadily(make: MakeLoader, workers: int, note: Callable[[str], None]) -> Iterator[Any]:
    """All batches of the loaders that `make` gives, in order, whatever happens to the workers.

    A worker that dies was most often killed for memory. Its batches are prepared again, for they are pure functions of
    their number, by half as many workers; at last by this process itself. Nothing of what is learnt depends on it.
    """
    done = 0
    while True:
        try:
            batches = iter(make(done, workers))
            with _deaths_unheard(workers):
                for batch in batches:
                    yield batch
                    done += 1
            return
        except RuntimeError as error:
            if not str(error).startswith(LOST):
                raise
            note(
                f"batch {done}: {' '.join(str(error).split())}; prepared again, by {workers // 2} workers from here on"
            )
            workers //= 2
        except PixmendError as error:
            raise type(error)(_own_words(error)) from error


def leave_signals_to_parent(worker: int) -> None:
    """For `worker_init_fn`: Ctrl-C and a closed terminal reach every process; the training decides what follows."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@contextmanager
def _deaths_unheard(workers: int) -> Iterator[None]:
    """Keep torch from raising a worker's death in the middle of anything else; it is asked for with every batch anyway.

    Its handler of SIGCHLD raises between any two lines: half-way through a step of the optimiser, or while saving.
    """
    if not workers or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _own_words(error: PixmendError) -> str:
    """The message alone: what is raised in a worker arrives with its traceback as text, whose last line it is."""
    text = str(error)
    return text.splitlines()[-1].split(": ", 1)[-1] if "\n" in text else text
