"""Ctrl-C, SIGTERM, SIGHUP and the Ctrl-Break of Windows: what ends a command, and what only asks a training to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[int, Any], None]
ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # whichever there are


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn all of them into a wish to stop; a second Ctrl-C does what it did before.

    Not so a second of the others: a terminal that closes sends SIGHUP twice, from the system and from the shell.
    """
    stopped, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        if stopped.is_set() and number == signal.SIGINT and callable(before):
            before(number, frame)
        stopped.set()

    with handling(stop, *ENDING):
        yield stopped.is_set


@contextmanager
def end_on_signal() -> Iterator[Callable[[], bool]]:
    """Let the others raise KeyboardInterrupt as Ctrl-C does; yields whether one of them has come.

    So nothing stays half-written, and no temporary file behind. To ask is needed: where it comes in the middle of
    compiled code, such as torch's, another exception may come out of there.
    """
    came = threading.Event()

    def end(number: int, frame: Any) -> None:
        came.set()
        raise KeyboardInterrupt

    with handling(end, *ENDING):
        yield came.is_set


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Undo, at the end of the block, what was done in it to how Ctrl-C and SIGTERM are handled."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


@contextmanager
def handling(handler: Handler, *names: str) -> Iterator[None]:
    """Have signals handled so, where there are such (Windows has no SIGHUP) and where this is the main thread.

    What the process was started to ignore (`nohup`) stays ignored.
    """
    here = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in names if here and hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)
