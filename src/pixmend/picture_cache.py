"""The pictures of a folder, decoded once into one file of bytes at a few times the training size.

Decoding large photographs gives ten a second, and training takes a hundred. The cache can be deleted, damaged, and
built by two processes at once: what comes of it is the same, or one line that says what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pixmend import opening
from pixmend.console import say
from pixmend.errors import FileMissingError, PictureError, PixmendError, TrainingError
from pixmend.files import errors_as_one_line, remove_leftovers, write_atomically
from pixmend.heif import register_heif
from pixmend.images import open_thumbnails, picture_files
from pixmend.locks import holder, locked
from pixmend.runtime import usable_cores

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # done, of how many
Decoded = tuple[list[Pixels], str, str | None]  # the pages, a hash of the file's bytes, and what was left out

VERSION = 2  # of what is decoded from a folder: another one is decoded anew
SMALLEST_SIDE = 16  # pixels; smaller pictures are skipped
ADVICE = "set XDG_CACHE_HOME to a folder on another disk"


class PictureCache:
    """The pictures of a folder, decoded once: one flat file of RGB bytes, and an index of names and shapes in JSON.

    Every page of a TIFF is a picture; all of a file have the file's hash, and are held out together or not at all.
    Its name is a hash of names, sizes and dates of all files: a folder that changed is decoded anew. So is one whose
    cache was damaged, or some of whose files could not be read and now can.
    """

    def __init__(self, folder: Path, side: int, cache: Path, progress: Progress | None) -> None:
        if not folder.is_dir():
            raise FileMissingError(f"{folder} is not a folder; give a folder of pictures to train on")
        self.folder, self.side = folder, side
        unlisted: list[str] = []
        found = picture_files(folder, unlisted.append)
        outside = {file: None for file in found if _leads_out(file, folder)}
        files = [file for file in found if file not in outside]
        stats = [(str(f.relative_to(folder)), *_size_and_date(f)) for f in files]
        identity = [VERSION, opening.MAX_PIXELS, register_heif(), str(folder.resolve()), side, stats]
        name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
        self.pixels_file, self.index_file = cache / f"{name}.rgb", cache / f"{name}.json"
        index = self._index() or self._decode_alone(files, cache / f"{name}.lock", progress)
        self.entries: list[dict[str, Any]] = index["entries"]
        self.skipped: list[str] = index["skipped"]
        if outside:
            links = "link that leads" if len(outside) == 1 else "links that lead"
            told = f"{len(outside)} {links} out of {folder}, such as {next(iter(outside))}: not followed"
            self.skipped = [*self.skipped, f"{told}; copy the files there"]
        self.skipped = [*self.skipped, *unlisted]

    @property
    def hashes(self) -> list[str]:
        """Sixteen hexadecimal digits of each file's content."""
        return [entry["hash"] for entry in self.entries]

    def split(self, holdout: float, held_out: bool) -> Sequence[Pixels]:
        """The pictures that are held out, or the others: a file's content alone decides, not the size of training."""
        chosen = [e for e in self.entries if is_held_out(e["hash"], holdout) == held_out]
        return _PicturesInFile(self.pixels_file, [(e["offset"], e["height"], e["width"]) for e in chosen])

    def _index(self) -> dict[str, Any] | None:
        """What was decoded before; None where there is nothing, or nothing that is whole, or a file to try again."""
        try:
            sum_of_text, text = self.index_file.read_bytes().split(b"\n", 1)
            if sum_of_text != seal(text):
                return None
            index: dict[str, Any] = json.loads(text)
            if self.pixels_file.stat().st_size != index["bytes"] or not _is_understood(index):
                return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        return None if any(_can_be_read(self.folder / name) for name in index["unreadable"]) else index

    def _decode_alone(self, files: list[Path], lock: Path, progress: Progress | None) -> dict[str, Any]:
        """Decode while no other process does: one that comes later waits, and finds the work done."""
        with ExitStack() as stack:
            with errors_as_one_line(lock.parent, ADVICE):
                lock.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(lock, waiting=lambda: _say_who_decodes(lock)))
                for file in (self.pixels_file, self.index_file):
                    remove_leftovers(file)
            return self._index() or self._decode(files, progress)

    def _decode(self, files: list[Path], progress: Progress | None) -> dict[str, Any]:
        entries: list[dict[str, Any]] = []
        index: dict[str, Any] = {"entries": entries, "skipped": [], "unreadable": [], "bytes": 0}

        def write(stream: IO[bytes]) -> None:
            with closing(_decoded(files, self.side)) as results:
                for done, (file, found) in enumerate(results, 1):
                    name = str(file.relative_to(self.folder))
                    if isinstance(found, _Skipped):
                        index["skipped"].append(found.reason)
                        index["unreadable"] += [name] if found.by_system else []
                    else:
                        pages, digest, left_out = found
                        index["skipped"] += [left_out] if left_out else []
                        for pixels in pages:
                            height, width = pixels.shape[:2]
                            shape = {"offset": index["bytes"], "height": height, "width": width}
                            entries.append({"name": name, "hash": digest, **shape})
                            stream.write(pixels.tobytes())
                            index["bytes"] += pixels.nbytes
                    if progress:
                        progress(done, len(files))

        write_atomically(self.pixels_file, write, overwrite=True, advice=ADVICE)
        text = json.dumps(index).encode()
        write_atomically(
            self.index_file, lambda stream: stream.write(seal(text) + b"\n" + text), overwrite=True, advice=ADVICE
        )
        return index


def _is_understood(index: dict[str, Any]) -> bool:
    """Whether all in an index is of its kind, and lies within the file of pixels; raises where something is missing."""
    shapes = [(e["offset"], e["height"], e["width"]) for e in index["entries"]]
    return (
        all(type(n) is int and n >= 0 for shape in shapes for n in shape)
        and all(offset + height * width * 3 <= index["bytes"] and height and width for offset, height, width in shapes)
        and all(len(e["hash"]) == 16 and int(e["hash"], 16) >= 0 for e in index["entries"])
        and all(isinstance(text, str) for name in ("skipped", "unreadable") for text in index[name])
    )


@dataclass(frozen=True)
class _Skipped:
    """A file that is left out."""

    reason: str
    by_system: bool  # it could not be read, and that may pass: gone, not permitted, a network that is down


def _say_who_decodes(lock: Path) -> None:
    say("note", f"waiting for {holder(lock) or 'another process'}, which decodes the same pictures")


def _decoded(files: list[Path], side: int) -> Generator[tuple[Path, Decoded | _Skipped]]:
    threads, ends = usable_cores(), Event()
    pool = ThreadPoolExecutor(threads)  # Pillow decodes outside of Python's lock
    most = 2 * threads  # behind a picture that takes long, so many wait and no more
    work = partial(_decoded_one, side=side, go_on=lambda: not ends.is_set())
    ahead: deque[tuple[Path, Future[Decoded | _Skipped]]] = deque()
    try:
        for file in files:
            ahead.append((file, pool.submit(work, file)))
            if len(ahead) == most:
                first, result = ahead.popleft()
                yield first, result.result()
        for first, result in ahead:
            yield first, result.result()
    finally:  # who is interrupted does not wait for all pictures that are left, nor for all pages of one
        ends.set()
        pool.shutdown(cancel_futures=True)


def _decoded_one(file: Path, side: int, go_on: Callable[[], bool]) -> Decoded | _Skipped:
    """The picture as RGB, or all pages of a TIFF; what is smaller than `SMALLEST_SIDE` is left out."""
    try:
        (pages, left_out), digest = open_thumbnails(file, side, SMALLEST_SIDE, go_on), content_hash(file)
    except PictureError as error:  # damage has no number, failures of the system have one
        return _Skipped(str(error), by_system=opening.is_by_system(error))
    except PixmendError as error:  # memory that is used up, for one
        return _Skipped(str(error), by_system=True)
    except OSError as error:
        return _Skipped(f"{file} cannot be read: {error.strerror}", by_system=True)
    return pages, digest, left_out


class _PicturesInFile(Sequence[Pixels]):
    """Pictures in one file, read when they are asked for; the system's file cache shares them among all workers.

    The file is not mapped into memory: were it cut short, a map would end the process with SIGBUS, without a word. It
    is opened once: who deletes it meanwhile takes nothing away.
    """

    def __init__(self, file: Path, shapes: list[tuple[int, int, int]]) -> None:
        self.file, self.shapes = file, shapes
        try:
            self.handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise self._gone(error.strerror or error) from error
        weakref.finalize(self, os.close, self.handle)

    def __reduce__(self) -> tuple[type[_PicturesInFile], tuple[Path, list[tuple[int, int, int]]]]:
        return type(self), (self.file, self.shapes)  # a process that is not forked opens the file itself

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: Any) -> Any:
        offset, height, width = self.shapes[i]
        try:
            content = _read_at(self.handle, height * width * 3, offset)
        except OSError as error:
            raise self._gone(error.strerror or error) from error
        if len(content) < height * width * 3:
            raise self._gone("it was cut short")
        return np.frombuffer(content, np.uint8).reshape(height, width, 3)

    def _gone(self, why: object) -> TrainingError:
        return TrainingError(
            f"the decoded pictures in {self.file} cannot be read ({why}); delete that file and go on with --resume: "
            "they are decoded anew"
        )


def _read_at(handle: int, count: int, offset: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(handle, count, offset)
    os.lseek(handle, offset, os.SEEK_SET)  # no process there shares its place in a file with another
    return os.read(handle, count)


def seal(text: bytes) -> bytes:
    """A checksum that tells an accident, as eight hexadecimal digits."""
    return b"%08x" % zlib.crc32(text)


def _leads_out(file: Path, folder: Path) -> bool:
    return file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _can_be_read(file: Path) -> bool:
    with suppress(OSError):
        return bool(file.read_bytes())
    return False


def _size_and_date(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:  # a link to nowhere: decoding will say so
        return 0, 0
    return status.st_size, status.st_mtime_ns


def content_hash(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's content."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def is_held_out(content_hash: str, holdout: float) -> bool:
    """Whether a file is among the share `holdout` of all that is kept to measure on: its content alone decides."""
    return int(content_hash, 16) / 16.0 ** len(content_hash) < holdout
