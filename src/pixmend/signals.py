"""Ctrl-C, SIGTERM and SIGHUP: what ends a command, and what only asks a training to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[int, Any], None]


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a wish to stop; a second Ctrl-C interrupts as ever.

    Not so a second of the others: a terminal that closes sends SIGHUP twice, from the system and from the shell.
    """
    stopped = threading.Event()

    def stop(number: int, frame: Any) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    with _handling(stop, "SIGINT", "SIGTERM", "SIGHUP"):
        yield stopped.is_set


@contextmanager
def end_as_with_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt: nothing half-written, no temporary file left behind."""

    def end(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with _handling(end, "SIGTERM", "SIGHUP"):
        yield


@contextmanager
def _handling(handler: Handler, *names: str) -> Iterator[None]:
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
