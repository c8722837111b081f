"""Pictures in tar files, as WebDataset writes them, read by their places: any one at any time.

https://github.com/webdataset/webdataset reads such shards from beginning to end and shuffles what is in a buffer; which
sample comes k-th then depends on who reads. Here all shards are gone through once, for an index of their members, and
the k-th sample stays a pure function of k: processes and workers read what falls to them, and who resumes, goes on
exactly. Pictures are decoded when they are asked for, for shards may hold more than a disk has room for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from threading import Event
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pixmend import opening
from pixmend.console import say
from pixmend.errors import DataError, FileMissingError, OptionError, PictureError, TrainingError
from pixmend.files import errors_as_one_line, remove_leftovers, write_atomically
from pixmend.heif import register_heif
from pixmend.images import decode_thumbnail_of, is_picture_name, picture_size
from pixmend.locks import locked
from pixmend.picture_cache import ADVICE, SMALLEST_SIDE, Pixels, Progress, seal
from pixmend.runtime import usable_cores
from pixmend.tars import BrokenArchiveError, plain_members, printable

MOST_SHARDS = 1_000_000
LARGEST_MEMBER = 256 << 20  # bytes; larger pictures are left out
WAITING = "waiting for another process, which looks through the same shards"
TRIES = 100  # broken pictures in a row that are passed over
RECORD = np.dtype([("shard", "<i4"), ("size", "<i4"), ("offset", "<i8"), ("hash", "<u8")])

_GROUP = re.compile(r"\{([^{}]*)\}")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def names_shards(data: str | os.PathLike[str]) -> bool:
    """Whether this is a name of tar files, and not of a folder."""
    return os.fspath(data).lower().endswith(".tar") and not os.path.isdir(data)


def shard_files(pattern: str) -> list[Path]:
    """The files that a name with braces stands for, as in a shell: x-{000..123}.tar, {a,b}-{0..9}.tar.

    Raises OptionError for braces that stand for nothing, or for too much, and FileMissingError for files that are not.
    """
    if ":" in pattern and re.match(r"(pipe|[a-z][a-z0-9+.-]+):", pattern):
        raise OptionError(f"{pattern} is no file on this machine; shards are read from files: copy or mount them first")
    parts = _GROUP.split(pattern)  # text, group, text, group ... text
    choices = [_choices(part, pattern) if i % 2 else [part] for i, part in enumerate(parts)]
    count = int(np.prod([len(choice) for choice in choices], dtype=object))
    if count > MOST_SHARDS:
        raise OptionError(f"{pattern} stands for {count} files; give at most {MOST_SHARDS}")
    files = [Path("".join(chosen)) for chosen in product(*choices)]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        more = f" (and {len(missing) - 1} more of {len(files)})" if len(missing) > 1 else ""
        raise FileMissingError(f"{missing[0]}{more} does not exist; check the name, or give only the shards you have")
    return files


def _choices(group: str, pattern: str) -> Sequence[str]:
    """What a group in braces stands for: a range of numbers, with as many digits as its ends; or alternatives."""
    if found := _RANGE.fullmatch(group):
        first, last = found.groups()
        low, high = int(first[:20]), int(last[:20])
        if max(len(first), len(last)) > 20 or not low <= high < low + MOST_SHARDS:
            raise OptionError(
                f"{{{group}}} in {pattern} is no range of at most {MOST_SHARDS} numbers; give {{000..999}}"
            )
        width = max(len(first), len(last)) if any(len(n) > 1 and n[0] == "0" for n in (first, last)) else 0
        return [f"{number:0{width}}" for number in range(low, high + 1)]
    if "," not in group:
        raise OptionError(f"{{{group}}} in {pattern} is not understood; give a range {{000..999}}, or {{one,other}}")
    return group.split(",")


class Shards:
    """The pictures in some tar files. Its index is kept in `cache`, by the names, sizes and dates of the files.

    skipped: what was left out, with reasons: members that are broken, too small, links and the like, and shards that
    break off, whose members before that are used. Raises OptionError, FileMissingError, and DataError for what cannot
    be read.
    """

    def __init__(self, pattern: str, side: int, cache: Path, progress: Progress | None) -> None:
        self.files, self.side = shard_files(pattern), side
        stats = [(str(file.resolve()), *_size_and_date(file)) for file in self.files]
        identity = [opening.MAX_PIXELS, register_heif(), stats]  # what can be read, too
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
        self.index_file = cache / f"{name}.shards"
        self.skipped, self._records = self._stored() or self._made_alone(progress)

    @property
    def hashes(self) -> list[str]:
        """Sixteen hexadecimal digits of each picture's content, as of a folder's files."""
        return [f"{value:016x}" for value in self._records["hash"].tolist()]

    def split(self, holdout: float, held_out: bool) -> Sequence[Pixels]:
        """The pictures that are held out, or the others: a picture's content alone decides (`is_held_out`)."""
        chosen = (self._records["hash"] / 2.0**64 < holdout) == held_out
        return _PicturesInShards(self.files, self._records[chosen], self.side)

    def _stored(self) -> tuple[list[str], NDArray[Any]] | None:
        """What was found before; None where there is nothing, or nothing that is whole."""
        try:
            sum_, content = self.index_file.read_bytes().split(b"\n", 1)
            if sum_ != seal(content):
                return None
            told, records = content.split(b"\n", 1)
            skipped = [str(reason) for reason in json.loads(told)]
            found = np.frombuffer(records, RECORD)
        except (OSError, ValueError, TypeError):
            return None
        inside = (
            (found["shard"] >= 0) & (found["shard"] < len(self.files)) & (found["offset"] >= 0) & (found["size"] > 0)
        )
        return (skipped, found) if inside.all() else None

    def _made_alone(self, progress: Progress | None) -> tuple[list[str], NDArray[Any]]:
        """Make the index while no other process does: one that comes later waits, and finds the work done."""
        with ExitStack() as stack:
            with errors_as_one_line(self.index_file.parent, ADVICE):
                self.index_file.parent.mkdir(parents=True, exist_ok=True)
                lock = self.index_file.with_suffix(".lock")
                stack.enter_context(locked(lock, waiting=lambda: say("note", WAITING)))
                remove_leftovers(self.index_file)
            return self._stored() or self._made(progress)

    def _made(self, progress: Progress | None) -> tuple[list[str], NDArray[Any]]:
        skipped: list[str] = []
        records: list[tuple[int, int, int, int]] = []
        ended = Event()
        with ThreadPoolExecutor(usable_cores()) as pool:
            try:
                for shard, (found, left_out) in enumerate(pool.map(partial(_looked_through, ended), self.files)):
                    records += [(shard, *record) for record in found]
                    skipped += left_out
                    if progress:
                        progress(shard + 1, len(self.files))
            finally:  # after Ctrl-C the pool waits for the shards in progress, which may be of many gigabytes
                ended.set()
        table = np.array(records, RECORD)
        content = json.dumps(skipped).encode() + b"\n" + table.tobytes()

        def write(stream: IO[bytes]) -> None:
            stream.write(seal(content) + b"\n" + content)

        write_atomically(self.index_file, write, overwrite=True, advice=ADVICE)
        return skipped, table


def _looked_through(ended: Event, file: Path) -> tuple[list[tuple[int, int, int]], list[str]]:
    """Size, place and hash of each picture in a shard; and what was left out, with reasons."""
    found: list[tuple[int, int, int]] = []
    skipped: list[str] = []
    try:
        with open(file, "rb") as stream:
            if stream.read(6).startswith(_COMPRESSED):
                raise DataError(f"{file} is compressed; unpack it, or leave it out: members are read where they stand")
            stream.seek(0)
            for name, offset, content in _pictures(stream, lambda text: skipped.append(f"{file}: {text}")):
                if ended.is_set():
                    break
                try:
                    width, height = picture_size(content, f"{file}: {name}")
                except PictureError as error:
                    skipped.append(str(error))
                    continue
                if min(width, height) < SMALLEST_SIDE:
                    skipped.append(f"{file}: {name}: {width} x {height} pixels are fewer than {SMALLEST_SIDE} a side")
                else:
                    digest = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
                    found.append((len(content), offset, digest))
    except BrokenArchiveError as error:
        skipped.append(f"{file}: {error}; the {len(found)} pictures before that are used")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}; leave it out, or mend that") from error
    return found, skipped


def _pictures(stream: IO[bytes], left_out: Callable[[str], None]) -> Iterator[tuple[str, int, bytes]]:
    """Name, place and content of each member that is named as a picture."""
    for member in plain_members(stream, left_out):
        name = printable(member.name)
        if not is_picture_name(member.name):
            continue
        if member.size > LARGEST_MEMBER:
            left_out(f"{name}: {member.size} bytes are more than {LARGEST_MEMBER}")
            continue
        stream.seek(member.offset_data)
        content = stream.read(member.size)
        if len(content) < member.size:
            raise BrokenArchiveError(f"it breaks off in {name}")
        yield name, member.offset_data, content


class _PicturesInShards(Sequence[Pixels]):
    """Pictures that are read and decoded when they are asked for.

    One that turns out to be broken only then is named, and the next one that is not stands for it: what is at a place
    stays a function of the place and the files.
    """

    def __init__(self, files: list[Path], records: NDArray[Any], side: int) -> None:
        self.files, self.records, self.side = files, records, side
        self._named: set[int] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < len(self):
            raise IndexError(i)
        for place in range(i, i + TRIES):
            record = self.records[place % len(self)]
            file, name = self.files[record["shard"]], f"{self.files[record['shard']]}: member at {record['offset']}"
            try:
                return decode_thumbnail_of(
                    self._read(file, int(record["offset"]), int(record["size"])), name, self.side
                )
            except PictureError as error:
                if place % len(self) not in self._named:
                    say("note", f"passed over: {error}")
                    self._named.add(place % len(self))
        raise DataError(f"{TRIES} pictures in a row cannot be decoded, the last: {name}; make these shards again")

    @staticmethod
    def _read(file: Path, offset: int, size: int) -> bytes:
        try:
            with open(file, "rb") as stream:
                stream.seek(offset)
                content = stream.read(size)
        except OSError as error:
            raise _gone(file, error.strerror or error) from error
        if len(content) < size:
            raise _gone(file, "it was cut short")
        return content


def _gone(file: Path, why: object) -> TrainingError:
    return TrainingError(f"the shard {file} cannot be read ({why}); put it back and go on with --resume")


def _size_and_date(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
