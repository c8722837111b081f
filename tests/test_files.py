"""Files and locks: whole or not at all, nothing left over, and no lock that outlives its holder."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pixmend import cli, files
from pixmend.backends.store import read_cached, write_cached
from pixmend.errors import OutputError
from pixmend.files import (
    check_output,
    put_in_place,
    remove_leftovers,
    user_cache_folder,
    write_atomically,
    write_folder_atomically,
)
from pixmend.locks import holder, locked

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


def test_a_closed_pipe_on_windows_is_an_invalid_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.EINVAL, "Invalid argument")
    with pytest.raises(OSError, match="Invalid argument"):  # here it is a defect
        cli._told(error)
    monkeypatch.setattr(cli, "CLOSED", (*cli.CLOSED, errno.EINVAL))
    code = breaking.in_child(lambda: cli._told(error)).code  # its stdout goes
    assert code == 130
