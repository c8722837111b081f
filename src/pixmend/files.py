"""Writing files so that nothing is ever lost: whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pixmend import platforms
from pixmend.errors import OutputError, OutputExistsError, PixmendError

ADVICE = "choose another output"
LONGEST_NAME = 100  # bytes that a temporary file takes over from the name of the file it will be
RENAMES_OPEN_FILES = os.name == "posix"  # Windows does not, whoever has opened them
_NO_NAME = re.compile(r'[<>:"|?*\x00-\x1f]')  # not in a name on Windows; what follows a colon would be hidden in a file


def check_output(path: Path, overwrite: bool, example: str = "mended.png") -> None:
    """Refuse early, before any work is done, what `write_atomically` would refuse at the end.

    example: the name that is proposed where the path is a folder.
    """
    # os.path answers no where pathlib raises: a name too long, a folder that may not be searched
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder; name a file in it, such as {path / example}")
    _refuse_no_file(path)
    if os.path.lexists(path) and not overwrite:  # a link that leads nowhere is something, too
        raise OutputExistsError(f"{path} exists and is left as it is; choose another name, or give --overwrite")
    if platforms.WINDOWS and os.path.exists(path) and not os.access(path, os.W_OK):  # elsewhere it is replaced
        raise OutputError(f"{path} is read-only and is left as it is; change its properties, or {ADVICE}")
    _check_parent(path)


def _refuse_no_file(path: Path) -> None:
    """Raise OutputError for a folder, device, pipe or socket: a file would take its place."""
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "a device, a pipe or a socket"
        raise OutputError(f"{path} is no file but {what}, and is left as it is; {ADVICE}")


def beside(path: Path, ending: str) -> Path:
    """A file's name with an ending to it, before the suffix. Raises OutputError for what has none: `.` or `/`."""
    if not path.name:
        raise OutputError(f"{path} is a folder; name a file in it, such as {path / 'mended.png'}")
    return path.with_name(f"{path.stem}{ending}{path.suffix}")


def check_output_folder(path: Path) -> None:
    """Refuse early what `write_folder_atomically` would refuse at the end."""
    if os.path.lexists(path):
        raise OutputExistsError(f"{path} exists and is left as it is; choose another name for the folder")
    _check_parent(path)


def check_made_folder(path: Path) -> None:
    """Refuse early a folder that is not there and could not be made, with those above it, or not be written to."""
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not os.path.isdir(there):
        raise OutputError(f"{there} is no folder; {ADVICE}")
    if not _can_be_written_to(there):
        raise OutputError(f"the folder {there} cannot be written to; {ADVICE}")


def _check_parent(path: Path) -> None:
    if platforms.WINDOWS and (found := _NO_NAME.search(path.name)):
        raise OutputError(f"{path} cannot be written: no name on Windows has a {found[0]!r}; choose another output")
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise OutputError(f"{path} could not be written: {error.strerror}; choose another output") from error
    if not os.path.isdir(path.parent):
        raise OutputError(f"the folder {path.parent} does not exist; make it first, or choose another output")
    if not _can_be_written_to(path.parent):
        raise OutputError(f"the folder {path.parent} cannot be written to; choose another output")


def _can_be_written_to(folder: Path) -> bool:
    if not platforms.WINDOWS:
        return os.access(folder, os.W_OK)
    probe = folder / f".{secrets.token_hex(4)}.part"  # there os.access knows nothing of who may what
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    except OSError:
        return False
    with suppress(OSError):
        platforms.patiently(os.unlink, probe)
    return True


def user_cache_folder() -> Path:
    """Where pixmend keeps what it can make again: pixmend in $XDG_CACHE_HOME, or in ~/.cache.

    Who has no home, as in some containers, has a folder among the temporary files. Raises OutputError where that is
    somebody else's, who could write what is read there.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # its specification has others ignored
        return given / "pixmend"
    try:
        return Path.home() / ".cache" / "pixmend"
    except RuntimeError as error:
        if platforms.WINDOWS:  # whose temporary files lie in the user's folder, too
            raise OutputError("the user has no folder; name one for what is kept in XDG_CACHE_HOME") from error
        folder = Path(tempfile.gettempdir(), f"pixmend-{os.getuid()}")
    with errors_as_one_line(folder, "name a folder for it in XDG_CACHE_HOME"):
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not a folder of this user alone")
    return folder


@contextmanager
def errors_as_one_line(path: Path, advice: str = ADVICE) -> Iterator[None]:
    """Turn what the system says while `path` is written into an OutputError of one line, which ends in the advice."""
    try:
        yield
    except PixmendError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = f"the disk is full; free some space, or {advice}"
        elif platforms.is_held(error):
            why = f"{error.strerror or error}; if a training or another program has it open, close that, or {advice}"
        else:
            why = f"{error.strerror or error}; {advice}"
        raise OutputError(f"{path} could not be written: {why}") from error


def write_atomically(
    path: str | os.PathLike[str],
    write: Callable[[IO[bytes]], object],
    *,
    overwrite: bool,
    keep: Path | None = None,
    advice: str = ADVICE,
) -> Path:
    """Write a file through `write(stream)`: to a temporary file beside it, fsync, rename.

    Readers see the old file or the whole new one, never half of one, and a failure leaves the old one as it was.
    Without `overwrite` an existing file is never replaced, not even one that appears while we write. What a process
    that was killed left of writing the same file is removed.
    keep: the name, in the same folder, under which the file that is replaced is kept.
    """
    path = Path(path)
    check_output(path, overwrite)
    with errors_as_one_line(path, advice), _part_of(path) as (handle, name):
        try:
            with os.fdopen(handle, "wb") as stream:
                write(stream)
                stream.flush()
                platforms.sync(stream.fileno())
            _take_over_mode(name, path)
            if keep is not None and path.exists():
                _keep(path, keep)
            _rename(name, path, overwrite)
        except BaseException:
            if os.path.exists(name):
                platforms.patiently(os.unlink, name)
            raise
        _sync_folder(path.parent)
    return path


def put_in_place(part: Path, path: Path, *, overwrite: bool, advice: str = ADVICE) -> None:
    """Give a file that is whole and synced its final name, on the same file system, and make that durable.

    As `write_atomically` does at its end. Raises OutputExistsError, and OutputError for what the system refuses; the
    part is then left where it was.
    """
    _refuse_no_file(path)
    with errors_as_one_line(path, advice):
        _take_over_mode(os.fspath(part), path)
        _rename(os.fspath(part), path, overwrite)
        _sync_folder(path.parent)


def write_folder_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Write a new folder through `write(folder)`: into a temporary one beside it, which is then renamed."""
    path = Path(path)
    check_output_folder(path)
    with errors_as_one_line(path):
        part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
        part.mkdir()
        try:
            write(part)
            platforms.patiently(os.rename, part, path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        _sync_folder(path.parent)
    return path


@contextmanager
def _part_of(path: Path) -> Iterator[tuple[int, str]]:
    """A new temporary file for `path`: its handle, to be closed by who writes, and its name; locked to the end.

    The lock tells it from what killed processes left: theirs the system has given up, and those files are removed.
    Where there are no locks (Windows, some network file systems) they stay.
    """
    if not RENAMES_OPEN_FILES:
        yield _new_part(path)
        return
    _remove_abandoned(path)
    while True:
        handle, name = _new_part(path)
        guard = os.dup(handle)  # it holds the lock until the file has its name
        _try_lock(guard, wait=True)  # for whoever is about to remove it
        if os.fstat(guard).st_nlink:
            break
        for one in (handle, guard):  # another process took it for abandoned before it was locked
            os.close(one)
    try:
        yield handle, name
    finally:
        os.close(guard)


def _new_part(path: Path) -> tuple[int, str]:
    """The handle and the name of a new file, which others may read and write as little as the one that it replaces.

    Else as any new file: the system sees to that, for to ask a process what it keeps from others (its umask) is to
    change it for a moment, in all threads.
    """
    mode = path.stat().st_mode & 0o777 if path.exists() and not platforms.WINDOWS else 0o666
    while True:
        name = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}.part")
        with suppress(FileExistsError):
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode), str(name)


def _try_lock(handle: int, *, wait: bool = False) -> bool:
    """Lock a file for as long as it is open; false where somebody else has, or where there are no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _remove_abandoned(path: Path) -> None:
    with suppress(OSError):  # a folder that cannot be listed, a file that is gone meanwhile: they harm nobody
        for file in _leftovers(path.parent, re.escape(_prefix(path))):
            handle = os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if _try_lock(handle):
                    file.unlink()
            finally:
                os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left of writing `path`; of a folder, of writing anything in it.

    Only for who knows that nobody writes there now.
    """
    folder, prefix = (path, r"\..+\.") if path.is_dir() else (path.parent, re.escape(_prefix(path)))
    with suppress(OSError):  # a folder that cannot be listed: they harm nobody
        for file in _leftovers(folder, prefix):
            file.unlink()


def _leftovers(folder: Path, prefix: str) -> list[Path]:
    """The temporary files in a folder whose names begin with a pattern."""
    pattern = re.compile(prefix + r"\w{8}\.part")
    return [file for file in folder.iterdir() if pattern.fullmatch(file.name)]


def _prefix(path: Path) -> str:
    """How the temporary files of `path` begin, and those of no other file; never too long for a name."""
    encoded = os.fsencode(path.name)
    if len(encoded) <= LONGEST_NAME:
        return f".{path.name}."
    return f".{path.name[:20]}-{zlib.crc32(encoded):08x}."


def _keep(path: Path, kept: Path) -> None:
    """Give the file a second name; it stands under its first one at every moment, where there are hard links."""
    with suppress(FileNotFoundError):
        platforms.patiently(os.unlink, kept)
    try:
        os.link(path, kept)
    except OSError:
        platforms.patiently(os.replace, path, kept)


def _take_over_mode(name: str, path: Path) -> None:
    """Let a file be readable and writable as the one that it replaces."""
    if platforms.WINDOWS:  # whose only mode is read-only: such a file gets no other name, and cannot be removed
        return
    with suppress(PermissionError, FileNotFoundError):  # file systems without modes (FAT) refuse some; it is a new one
        os.chmod(name, path.stat().st_mode & 0o777)


def _rename(name: str, path: Path, overwrite: bool) -> None:
    if overwrite:
        platforms.patiently(os.replace, name, path)
    else:
        _rename_to_new(name, path)


def _rename_to_new(name: str, path: Path) -> None:
    try:
        os.link(name, path)  # unlike a rename, a link fails where the target exists
    except FileExistsError:
        raise OutputExistsError(f"{path} appeared while it was being written and is left as it is") from None
    except OSError:  # file systems without hard links (FAT, some network shares)
        if path.exists():
            raise OutputExistsError(f"{path} appeared while it was being written and is left as it is") from None
        platforms.patiently(os.rename, name, path)
        return
    platforms.patiently(os.unlink, name)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can: not all file systems sync folders, and Windows opens none.

    Not a failure: the file is whole and in its place, and after a power failure there is the old one or the new one.
    """
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            platforms.sync(handle)
        finally:
            os.close(handle)
