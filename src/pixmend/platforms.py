"""Where systems differ: Windows refuses files that others have open, macOS keeps in the drive what is synced."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WINDOWS = sys.platform == "win32"
PATIENCE = 3.0  # seconds that another program, such as a virus scanner, gets to close a file that it looks at
HELD = (5, 32, 33)  # how Windows says that it has not: access denied, a sharing violation, a lock violation


def kernel32() -> Any:
    """Windows' own functions."""
    return ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]


def is_held(error: BaseException | None) -> bool:
    """Whether an error may be that another program has the file open: on Windows, nobody may replace it then."""
    return WINDOWS and isinstance(error, PermissionError)


def patiently(change: Callable[..., object], *paths: str | os.PathLike[str]) -> None:
    """Replace, rename or remove a file, and on Windows try again for some seconds while another program has it open."""
    until, wait = time.monotonic() + PATIENCE, 0.01
    while True:
        try:
            change(*paths)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in HELD or time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        wait *= 1.5


def sync(handle: int) -> None:
    """Make durable what was written. On macOS fsync leaves it to the drive, which may still hold it in memory."""
    if sys.platform == "darwin":
        import fcntl

        with suppress(OSError):  # some file systems do not know it
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
    os.fsync(handle)
