"""One process at a time: a file that is locked for as long as its holder lives."""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pixmend.errors import OutputExistsError, TrainingError

RUN_LOCK = "lock"  # its name in a run folder
BEGINS = b"process "  # what stands in a lock, if anything does
POLL_SECONDS = 0.2
TRIES = 100  # in a row that find another file in the lock's place: then its file system numbers one file twice
LOCKED_BYTE = 1 << 30  # on Windows, which keeps others from reading what is locked: far behind the holder's name

_held: set[int] = set()  # the handles of all locks of this process


@dataclass(frozen=True)
class Lock:
    """A lock that is held."""

    path: Path
    handle: int
    guarded: bool  # False where the file system knows no locks: then nobody is kept out

    @property
    def in_place(self) -> bool:
        """Whether the file is still where it was: who deletes its folder and makes another does not meet this lock."""
        try:
            return os.path.samestat(os.fstat(self.handle), os.stat(self.path))
        except OSError:
            return False


@contextmanager
def locked(path: Path, *, waiting: Callable[[], object] | None = None) -> Iterator[Lock]:
    """Hold the lock file `path`, alone among all processes and threads, to the end of the block.

    The system gives it up when the process ends, be it by SIGKILL or by a power failure: no lock is ever stale, and a
    file that is left behind locks nobody out. Where another holds it, `waiting()` is told once and its end waited for;
    without it, that raises BlockingIOError. Raises OSError where the file cannot be made, and OutputExistsError for a
    file that is no lock.
    """
    lock = _take(path, waiting)
    try:
        if os.read(lock.handle, len(BEGINS)) not in (b"", BEGINS):
            _close(lock.handle)
            raise OutputExistsError(f"{path} is no lock of pixmend and is left as it is; choose another output")
        os.lseek(lock.handle, 0, os.SEEK_SET)
        with suppress(OSError):  # it helps people, and is not needed
            os.ftruncate(lock.handle, 0)
            os.write(lock.handle, BEGINS + f"{os.getpid()} on {platform.node()}".encode())
        yield lock
    finally:
        if lock.handle in _held:  # and not in a forked child, which has closed it
            in_place = lock.in_place
            if sys.platform == "win32":  # no file that is open can be deleted, and so none that is another's by then
                _close(lock.handle)
            if in_place:
                with suppress(OSError):
                    os.unlink(path)
            if sys.platform != "win32":
                _close(lock.handle)


def holder(path: Path) -> str | None:
    """Who holds a lock, in words; None where nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # not there, or not ours to open
        return None
    try:
        _try_lock(handle, shared=True)
    except BlockingIOError:
        with suppress(OSError):
            return path.read_text("utf-8", errors="replace").strip() or "another process"
        return "another process"
    finally:
        os.close(handle)
    return None


def refuse_if_held(path: Path) -> None:
    """Raise TrainingError where a training holds the lock of its run folder."""
    if who := holder(path):
        raise in_use(path, who)


def in_use(path: Path, who: str) -> TrainingError:
    """What to say of a run folder whose lock is held."""
    return TrainingError(
        f"{path.parent} is in use by a training that runs ({who}); let it end or stop it, or choose another output"
    )


def _take(path: Path, waiting: Callable[[], object] | None) -> Lock:
    told, tries = False, 0
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(handle)
        try:
            guarded = _try_lock(handle)
        except BlockingIOError:
            _close(handle)
            if waiting is None:
                raise
            if not told:
                waiting()
            told = True
            time.sleep(POLL_SECONDS)
            continue
        except BaseException:
            _close(handle)
            raise
        lock = Lock(path, handle, guarded)
        if lock.in_place:
            return lock
        tries += 1
        if tries == TRIES:
            return Lock(path, handle, guarded=False)
        _close(handle)  # its last holder has deleted it in between


def _try_lock(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file or raise BlockingIOError; False where the file system (some network shares) knows no locks.

    shared: not against others that ask so too, where the system has such locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                return False
            raise BlockingIOError from error
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _close(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


def _leave_to_parent() -> None:
    """A forked child shares its parent's open files and so its locks: it must not keep them when the parent is gone."""
    for handle in list(_held):
        _close(handle)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
