"""Files and locks: whole or not at all, nothing left over, and no lock that outlives its holder."""

from __future__ import annotations

import errno
import importlib
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

from pixmend import cli, files, locks, platforms
from pixmend.backends.store import read_cached, write_cached
from pixmend.errors import OutputError
from pixmend.files import (
    check_output,
    check_output_folder,
    put_in_place,
    remove_leftovers,
    user_cache_folder,
    write_atomically,
    write_folder_atomically,
)
from pixmend.locks import holder, locked
from pixmend.signals import end_on_signal, stop_on_signal

pytest.importorskip("fcntl", reason="processes are forked and killed as on Linux and macOS")
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
breaking = importlib.import_module("breaking")
sys.path.pop(0)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    others = [".m.safetensors.bak", ".m.safetensors.abcdefgh.part.txt", ".n.safetensors.abcdefgh.part", "m.part"]
    for name in (*others, ".m.safetensors.abcdefgh.part", ".m.safetensors.x_4_y_6_.part"):
        (tmp_path / name).touch()
    remove_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("name", ["m", "ü" * 120, "x" * 250])
def test_temporary_files_of_long_names_are_found_again(tmp_path: Path, name: str) -> None:
    seen: list[str] = []

    def write(stream: Any) -> None:
        seen.extend(p.name for p in tmp_path.iterdir())
        remove_leftovers(tmp_path / (name[:-1] + "!"))  # of another file
        assert [p.name for p in tmp_path.iterdir()] == seen
        remove_leftovers(tmp_path / name)
        assert not [*tmp_path.iterdir()]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / name, write, overwrite=True)
    assert len(seen) == 1


def test_a_file_that_is_replaced_can_be_kept(tmp_path: Path) -> None:
    path, kept = tmp_path / "a", tmp_path / "b"
    for text in ("1", "2", "3"):
        write_atomically(path, lambda stream, text=text: stream.write(text.encode()), overwrite=True, keep=kept)  # type: ignore[misc]
    assert (path.read_text(), kept.read_text()) == ("3", "2")
    with mock.patch.object(os, "link", side_effect=OSError(1, "no hard links here")):
        write_atomically(path, lambda stream: stream.write(b"4"), overwrite=True, keep=kept)
    assert (path.read_text(), kept.read_text()) == ("4", "3")


def test_a_name_too_long_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long; choose another output"):
        check_output(tmp_path / ("x" * 300 + ".png"), overwrite=False)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "part").touch()
    for write in (
        lambda: write_atomically(tmp_path / "pipe", lambda stream: stream.write(b"1"), overwrite=True),
        lambda: put_in_place(tmp_path / "part", tmp_path / "pipe", overwrite=True),
    ):
        with pytest.raises(OutputError, match="is left as it is"):
            write()
    assert (tmp_path / "pipe").is_fifo()


def test_modes_are_those_of_any_new_file_and_of_the_file_that_is_replaced(tmp_path: Path) -> None:
    def mode_of(path: Path) -> int:
        return path.stat().st_mode & 0o777

    def write(stream: Any) -> None:
        (part,) = tmp_path.glob("*.part")
        seen.append(mode_of(part))

    before, seen = os.umask(0o027), list[int]()
    try:
        with mock.patch.object(os, "umask", side_effect=AssertionError("to ask for it is to change it")):
            path = write_atomically(tmp_path / "a", write, overwrite=False)
            assert mode_of(path) == 0o640
            for mode in (0o600, 0o666, 0o444):
                path.chmod(mode)
                write_atomically(path, write, overwrite=True)
                assert mode_of(path) == mode
            folder = write_folder_atomically(tmp_path / "b", lambda part: (part / "c").touch())
            assert mode_of(folder) == 0o750
    finally:
        os.umask(before)
    assert seen == [0o640, 0o600, 0o640, 0o440], "while it is written nobody may more than before"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not tell what is open")
def test_no_handle_is_open_when_a_file_gets_its_name_where_that_would_be_refused(tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.lexists(link)]

    def replace(name: str, path: Path) -> None:
        assert not [link for link in opened() if link.endswith(".part")]
        os.rename(name, path)

    with mock.patch.object(files, "RENAMES_OPEN_FILES", new=False), mock.patch.object(os, "replace", replace):
        path = write_atomically(tmp_path / "a", lambda stream: stream.write(b"1"), overwrite=True)
    assert path.read_bytes() == b"1"
    assert [*tmp_path.iterdir()] == [path]


def test_file_systems_without_modes_and_without_synced_folders_will_do(tmp_path: Path) -> None:
    sync = os.fsync

    def files_only(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        sync(handle)

    with (
        mock.patch.object(os, "chmod", side_effect=PermissionError(1, "Operation not permitted")),
        mock.patch.object(os, "fsync", files_only),
    ):
        write_atomically(tmp_path / "a", lambda stream: stream.write(b"1"), overwrite=False)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_cache_folder_that_is_named_by_half_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://specifications.freedesktop.org/basedir/latest: "If an implementation encounters a relative path [...] it
    should consider the path invalid and ignore it."
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, folder in (
        ("/somewhere/else", Path("/somewhere/else/pixmend")),
        ("here", tmp_path / ".cache" / "pixmend"),
        ("", tmp_path / ".cache" / "pixmend"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert user_cache_folder() == folder


def test_who_has_no_home_has_a_cache_folder_of_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = user_cache_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert user_cache_folder() == folder
    folder.chmod(0o777)
    with pytest.raises(OutputError, match="not a folder of this user alone; name a folder for it in XDG_CACHE_HOME"):
        user_cache_folder()
    assert read_cached("a.blob") is None
    assert not write_cached({"a.blob": b"compiled"})
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(OutputError, match="not a folder of this user alone"):
        user_cache_folder()


def test_a_killed_holder_leaves_no_lock_even_where_its_children_live(tmp_path: Path) -> None:
    path, (told, tell) = tmp_path / "lock", os.pipe()

    def hold() -> int:
        with locked(path):
            if not os.fork():
                os.write(tell, os.getpid().to_bytes(4, "little"))  # here it has given up what it shares
                signal.pause()
            breaking.die()
        return 0

    assert breaking.in_child(hold).code == -signal.SIGKILL
    worker = int.from_bytes(os.read(told, 4), "little")
    try:
        os.kill(worker, 0)  # it lives
        assert path.exists()
        assert holder(path) is None
        with locked(path):
            assert holder(path) == f"process {os.getpid()} on {os.uname().nodename}"
        assert not path.exists()
    finally:
        os.kill(worker, signal.SIGKILL)
        for handle in (told, tell):
            os.close(handle)


def test_a_later_write_removes_what_a_killed_one_left_and_not_what_a_living_one_writes(tmp_path: Path) -> None:
    path, (told, tell), (go, end) = tmp_path / "picture.png", os.pipe(), os.pipe()

    def write_and_die() -> int:
        write_atomically(path, lambda stream: breaking.die(), overwrite=True)
        return 0

    def write_slowly() -> None:
        def write(stream: Any) -> None:
            os.write(tell, b"!")
            os.read(go, 1)
            stream.write(b"slow")

        write_atomically(path, write, overwrite=True)
        os._exit(0)

    assert breaking.in_child(write_and_die).code == -signal.SIGKILL
    (abandoned,) = tmp_path.iterdir()
    child = os.fork()
    if not child:
        write_slowly()
    os.read(told, 1)  # it has removed what was abandoned, and is in the middle of writing
    (living,) = tmp_path.iterdir()
    assert living != abandoned
    write_atomically(path, lambda stream: stream.write(b"quick"), overwrite=True)
    assert sorted(tmp_path.iterdir()) == sorted([path, living])
    os.write(end, b"!")
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_bytes() == b"slow"
    assert [*tmp_path.iterdir()] == [path]
    for handle in (told, tell, go, end):
        os.close(handle)


# ------------------------------------------------------------------- what Windows and macOS do otherwise, as if here


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


def test_a_closed_pipe_on_windows_is_an_invalid_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(OSError, match="Invalid argument"):  # here it is a defect
        cli._told(error)
    monkeypatch.setattr(cli, "CLOSED", (*cli.CLOSED, errno.EINVAL))
    code = breaking.in_child(lambda: cli._told(error)).code  # its stdout goes
    assert code == 130
