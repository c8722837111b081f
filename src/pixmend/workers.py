"""Processes that prepare samples, and what becomes of a training when one of them dies."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from torch.utils.data import DataLoader

from pixmend.errors import PixmendError
from pixmend.signals import ENDING

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
            with _running(make(done, workers), workers) as batches:
                for batch in batches:
                    yield batch
                    done += 1
            return
        except PixmendError as error:
            raise type(error)(_own_words(error)) from error
        except (RuntimeError, OSError, EOFError) as error:
            if not workers or not _is_loss(error):
                raise
            note(
                f"batch {done}: a worker died ({' '.join(str(error).split())}); prepared again, by {workers // 2} "
                f"workers from here on{_usual_cause()}"
            )
            workers //= 2


def _usual_cause() -> str:
    """Where a worker is not a copy of this process, it begins by running the user's script, too."""
    if multiprocessing.get_start_method() == "fork":
        return ""
    return '; if it was at once, in a script of your own: put what that does under `if __name__ == "__main__":`'


def begin_worker(worker: int) -> None:
    """For `worker_init_fn`. Signals of a terminal and of torchrun reach every process: the training decides on them.

    It may go in the middle of a batch, and of that no worker has anything to say.
    """
    for name in ENDING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _running(loader: DataLoader[Any], workers: int) -> Iterator[Iterator[Any]]:
    """The loader's batches; while its workers live, torch does not raise their death in the middle of anything else.

    Its handler of SIGCHLD would: between any two lines, half-way through a step of the optimiser or while saving. Who
    asks for the next batch is told of the death anyway.
    """
    batches = iter(loader)
    deaf = workers and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if deaf else None
    try:
        yield batches
    finally:
        getattr(batches, "_shutdown_workers", lambda: None)()  # first: of these the handler must not hear either
        if deaf:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _is_loss(error: Exception) -> bool:
    """Whether a worker has died. Torch says so, unless the pipe to it breaks a moment before it is gone."""
    if isinstance(error, RuntimeError):
        return str(error).startswith(LOST)
    return not str(error).startswith("Caught ")  # what was raised in a worker that lives


def _own_words(error: PixmendError) -> str:
    """The message alone: what is raised in a worker arrives with its traceback as text, whose last line it is."""
    text = str(error)
    return text.splitlines()[-1].split(": ", 1)[-1] if "\n" in text else text
