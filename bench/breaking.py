"""How to break a program on purpose: a disk that fails at the n-th write, processes to kill, a terminal to close.

Used by `faults.py`, which breaks at random and often, and by tests/test_faults.py, which breaks in chosen places.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import io
import os
import signal
import sys
import tempfile
import termios
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

OUTSIDE = 98  # the exit code of a child that Ctrl-C met before or after what it was to run
SWALLOWED = 97  # that of one which met a fault and says that all went well


class Disk:
    """While it is entered, every file operation of this process that changes something is counted, and the `at`-th one
    and all after it do `what`: raise an error, or end the process. A write is half done then.
    """

    def __init__(self, at: int | None = None, what: Callable[[], None] | None = None, *, lasting: bool = True) -> None:
        self.at, self.what, self.lasting, self.count = at, what or full, lasting, 0

    def event(self) -> None:
        self.count += 1
        if self.at is not None and (self.count == self.at or (self.lasting and self.count > self.at)):
            self.what()

    @property
    def has_failed(self) -> bool:
        """Whether the operation was come to that fails."""
        return self.at is not None and self.count >= self.at

    def __enter__(self) -> Disk:
        self.patches = ExitStack()
        for name in ("fsync", "replace", "link", "rename", "mkdir"):
            self.patches.enter_context(mock.patch.object(os, name, self._before(getattr(os, name))))
        self.patches.enter_context(mock.patch.object(os, "open", self._os_open(os.open)))
        opened = self._open(open)
        for module in (builtins, io):
            self.patches.enter_context(mock.patch.object(module, "open", opened))
        return self

    def __exit__(self, *_: object) -> None:
        self.patches.close()

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.event()
            return call(*arguments, **options)

        return counted

    def _os_open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.event()
            return call(path, flags, *arguments, **options)

        return opened

    def _open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+"):
                return call(file, mode, *arguments, **options)
            if not isinstance(file, int):
                self.event()
            raw = _CountedFile(file, mode.replace("b", "").replace("t", ""), self)
            stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return stream if "b" in mode else io.TextIOWrapper(stream, options.get("encoding"), newline="")

        return opened


class _CountedFile(io.FileIO):
    def __init__(self, file: Any, mode: str, disk: Disk) -> None:
        super().__init__(file, mode)
        self.disk = disk

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = super().write(view[: len(view) // 2])
        self.disk.event()
        return half + super().write(view[half:])


def full() -> None:
    """A full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_only() -> None:
    """A file system that was mounted anew, read-only, as Linux does after errors."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def die() -> None:
    """SIGKILL: nothing is tidied up, nothing is written any more."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int  # as subprocess has it: minus the signal that killed it
    err: str  # what it wrote to stderr


class Child:
    """A fork of this process that runs a function and leaves with what it returns: torch is loaded already.

    group: in a process group of its own, for `kill_group`.
    """

    def __init__(self, function: Callable[[], int], group: bool = False) -> None:
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  # `wait` closes it
        with warnings.catch_warnings():  # Python warns of forks beside threads
            warnings.simplefilter("ignore", DeprecationWarning)
            sys.stdout.flush()
            sys.stderr.flush()
            self.pid = os.fork()
        if group:
            with suppress(OSError):
                os.setpgid(self.pid, self.pid)  # here and in the child: whoever comes first
        if not self.pid:
            self._run(function)

    def _run(self, function: Callable[[], int]) -> None:
        code = 99  # something was raised: a defect
        try:
            sys.stdout, sys.stderr = _text(os.open(os.devnull, os.O_WRONLY)), _text(self.output.fileno())
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = function()
        except KeyboardInterrupt:
            code = OUTSIDE
        except BaseException:  # noqa: BLE001  # it must not go on as a copy of its parent
            traceback.print_exc()
        finally:
            with suppress(OSError):  # its terminal may be closed
                sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def kill_group(self, number: int) -> None:
        """Send a signal to it and its own children, as terminals and service managers do."""
        os.killpg(self.pid, number)

    def wait(self) -> Ended:
        _, status = os.waitpid(self.pid, 0)
        self.output.seek(0)
        with self.output:
            return Ended(os.waitstatus_to_exitcode(status), self.output.read().decode())


def in_child(function: Callable[[], int]) -> Ended:
    return Child(function).wait()


def _text(handle: int) -> TextIO:
    return open(handle, "w", buffering=1, closefd=False)  # to the end of the process


def on_a_terminal(function: Callable[[Callable[[], None]], int]) -> Callable[[], int]:
    """`function` with a terminal of its own, for a child; it is handed what closes that terminal under it."""

    def call() -> int:
        master, terminal = os.openpty()
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for stream in (1, 2):
            os.dup2(terminal, stream)
        os.close(terminal)
        sys.stdout, sys.stderr = _text(1), _text(2)
        return function(lambda: os.close(master))

    return call


def mount_small_disk(place: Path, kilobytes: int) -> None:
    """Mount a file system of so many kB for this process alone; without being root, where Linux lets users do so.

    Raises PermissionError where it does not.
    """
    new_namespace, new_user, private = 0x00020000, 0x10000000, (1 << 14) | (1 << 18)  # from sched.h and mount.h
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    _checked(libc.unshare(new_namespace | (new_user if user else 0)))
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", name).write_text(text)
    _checked(libc.mount(b"none", b"/", None, private, None))
    _checked(libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={kilobytes}k".encode()))


def _checked(result: int) -> None:
    if result:
        raise PermissionError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
