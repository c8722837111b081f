"""Files and locks on Windows and macOS, as if here: what is open elsewhere, names, modes, locks."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from pixmend import files, locks, platforms
from pixmend.errors import OutputError
from pixmend.files import (
    check_output,
    check_output_folder,
    user_cache_folder,
    write_atomically,
    write_folder_atomically,
)
from pixmend.locks import holder, locked
from pixmend.signals import end_on_signal, stop_on_signal

pytest.importorskip("fcntl", reason="Windows is played as on Linux and macOS")


def held(winerror: int) -> PermissionError:
    """What Windows says of a file that another program has open."""
    error = PermissionError(errno.EACCES, "Access is denied")
    error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]
    return error


def failing(name: str, times: int, error: Callable[[], OSError]) -> Any:
    """A function of `os` that fails so often, and then does what it does."""
    call, left = getattr(os, name), [times]

    def tried(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return call(*arguments, **options)

    return mock.patch.object(os, name, side_effect=tried)


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "WINDOWS", True)
    monkeypatch.setattr(files, "RENAMES_OPEN_FILES", False)


@pytest.mark.parametrize("winerror", [5, 32, 33])
@pytest.mark.parametrize("name", ["replace", "unlink", "rename"])
def test_a_file_that_a_scanner_looks_at_is_waited_for(
    tmp_path: Path, on_windows: None, name: str, winerror: int
) -> None:
    path, kept = tmp_path / "a", tmp_path / "b"
    for text in (b"1", b"2"):
        with failing(name, 2, lambda: held(winerror)) as tried:
            write_atomically(path, lambda stream, text=text: stream.write(text), overwrite=True, keep=kept)  # type: ignore[misc]
    assert (path.read_bytes(), kept.read_bytes()) == (b"2", b"1")
    with mock.patch.object(os, "link", side_effect=OSError(1, "no hard links here")), failing(name, 2, lambda: held(5)):
        write_atomically(tmp_path / "c", lambda stream: stream.write(b"3"), overwrite=False)
    with failing(name, 2, lambda: held(winerror)) as tried:
        write_folder_atomically(tmp_path / "d", lambda part: (part / "e").touch())
    assert tried.call_count == {"rename": 3, "unlink": 3, "replace": 0}[name]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b", "c", "d"]


def test_a_file_that_stays_open_elsewhere_is_told(
    tmp_path: Path, on_windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platforms, "PATIENCE", 0.1)
    path = tmp_path / "a"
    path.write_bytes(b"1")
    with (
        failing("replace", 1000, lambda: held(32)) as tried,
        pytest.raises(OutputError, match="if a training or another program has it open, close that, or choose another"),
    ):
        write_atomically(path, lambda stream: stream.write(b"2"), overwrite=True)
    assert 3 < tried.call_count < 12
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("error", [PermissionError(1, "not permitted"), OSError(errno.ENOSPC, "full"), held(17)])
def test_other_errors_are_not_waited_for(tmp_path: Path, error: OSError) -> None:
    with (
        mock.patch.object(time, "sleep", side_effect=AssertionError("it waited")),
        failing("replace", 1, lambda: error),
        pytest.raises(OutputError),
    ):
        write_atomically(tmp_path / "a", lambda stream: stream.write(b"1"), overwrite=True)


@pytest.mark.parametrize("name", ["out:1.png", "what?.png", "a\tb.png", 'a"b', "a|b", "a*", "<a>"])
def test_names_that_windows_does_not_have_are_told_before_any_work(tmp_path: Path, on_windows: None, name: str) -> None:
    for check in (lambda path: check_output(path, overwrite=False), check_output_folder):
        with pytest.raises(OutputError, match=r"no name on Windows has a .*; choose another output") as told:
            check(tmp_path / name)
        assert "\n" not in str(told.value)
    check_output(tmp_path / "Grüße, 日本 (1).png", overwrite=False)
    assert not [*tmp_path.iterdir()]


def test_a_folder_on_windows_is_asked_by_writing(tmp_path: Path, on_windows: None) -> None:
    """Its os.access says yes of every folder."""
    refused = PermissionError(errno.EACCES, "Permission denied")
    with (
        mock.patch.object(os, "access", return_value=True),
        failing("open", 1, lambda: refused),
        pytest.raises(OutputError, match="cannot be written to; choose another output"),
    ):
        check_output(tmp_path / "a.png", overwrite=False)


def test_read_only_on_windows_stays_and_is_not_taken_over(tmp_path: Path, on_windows: None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    path.chmod(0o444)
    with (
        mock.patch.object(os, "access", return_value=False),  # root may write to it here
        pytest.raises(OutputError, match="is read-only and is left as it is; change its properties, or choose another"),
    ):
        check_output(path, overwrite=True)
    with mock.patch.object(os, "access", return_value=True):
        write_atomically(path, lambda stream: stream.write(b"2"), overwrite=True)
    assert path.stat().st_mode & 0o200


def test_parts_of_others_are_not_opened_where_they_could_not_be_renamed_then(tmp_path: Path, on_windows: None) -> None:
    others = tmp_path / ".a.abcdefgh.part"
    others.touch()
    opened: list[str] = []
    call = os.open

    def seen(path: Any, *arguments: Any) -> int:
        opened.append(str(path))
        return call(path, *arguments)

    with mock.patch.object(os, "open", seen):
        write_atomically(tmp_path / "a", lambda stream: stream.write(b"1"), overwrite=False)
    assert str(others) not in opened
    assert others.exists()


def test_who_has_no_home_on_windows_is_told(on_windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delattr(os, "getuid")
    with (
        mock.patch.object(Path, "home", side_effect=RuntimeError("Could not determine home directory.")),
        pytest.raises(OutputError, match="XDG_CACHE_HOME"),
    ):
        user_cache_folder()


@pytest.mark.parametrize("knows", [True, False])
def test_on_macos_the_drive_is_asked_to_keep_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    asked: list[int] = []

    def control(handle: int, command: int) -> int:
        asked.append(command)
        if not knows:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        return 0

    monkeypatch.setattr(platforms, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr("fcntl.fcntl", control)
    with mock.patch.object(os, "fsync") as plain:
        write_atomically(tmp_path / "a", lambda stream: stream.write(b"1"), overwrite=False)
    assert asked == [51, 51], "the file and its folder"
    assert plain.call_count == (0 if knows else 2)


class Locking:
    """The module `msvcrt`, as far as locks go."""

    LK_NBLCK = 2

    def __init__(self, error: OSError | None = None) -> None:
        self.error, self.calls = error, 0

    def locking(self, handle: int, mode: int, count: int) -> None:
        self.calls += 1
        if self.error:
            raise self.error


@pytest.fixture
def windows_locks(monkeypatch: pytest.MonkeyPatch) -> Locking:
    module = Locking()
    monkeypatch.setitem(sys.modules, "msvcrt", module)
    monkeypatch.setattr(locks, "sys", SimpleNamespace(platform="win32"))
    return module


def test_a_lock_on_windows_is_closed_and_then_deleted(tmp_path: Path, windows_locks: Locking) -> None:
    unlink = os.unlink

    def of_a_closed_file(path: Path) -> None:
        assert not locks._held
        unlink(path)

    with mock.patch.object(os, "unlink", of_a_closed_file), locked(tmp_path / "lock") as lock:
        assert lock.guarded
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
    assert windows_locks.calls == 1


def test_a_lock_on_windows_that_another_has_open_by_then_stays(tmp_path: Path, windows_locks: Locking) -> None:
    with failing("unlink", 1, lambda: held(32)), locked(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EDEADLK])
def test_a_lock_on_windows_that_another_holds(tmp_path: Path, windows_locks: Locking, number: int) -> None:
    windows_locks.error = OSError(number, "")
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock"):
        pass
    assert not locks._held
    (tmp_path / "lock").write_text("process 7 on Jürgens-PC", "utf-8")
    assert holder(tmp_path / "lock") == "process 7 on Jürgens-PC"


def test_file_systems_without_locks_on_windows(tmp_path: Path, windows_locks: Locking) -> None:
    windows_locks.error = OSError(errno.EINVAL, "Invalid argument")
    with locked(tmp_path / "lock") as lock:
        assert not lock.guarded
    assert holder(tmp_path / "lock") is None


def test_a_file_system_that_numbers_a_file_twice_knows_no_locks(tmp_path: Path) -> None:
    """As some network file systems do: a lock would be looked for in another file for ever."""
    with mock.patch.object(os.path, "samestat", return_value=False), locked(tmp_path / "lock") as lock:
        assert not lock.guarded
    assert not locks._held


def test_a_lock_that_others_delete_meanwhile_is_taken_again(tmp_path: Path) -> None:
    same, answers = os.path.samestat, iter([False, False])
    with (
        mock.patch.object(os.path, "samestat", lambda a, b: next(answers, None) is None and same(a, b)),
        locked(tmp_path / "lock") as lock,
    ):
        assert lock.guarded
    assert not (tmp_path / "lock").exists()


def test_ctrl_break_is_heeded_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)
    with stop_on_signal() as stopped:
        signal.raise_signal(signal.SIGUSR2)
        assert stopped()
    with pytest.raises(KeyboardInterrupt), end_on_signal():
        signal.raise_signal(signal.SIGUSR2)
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
