"""CIFAR-10 in the layouts that people have, and any folder of pictures, as arrays in memory.

60,000 pictures of 32x32 in ten classes (Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"), in
five batches of 10,000 for training and one for testing. The classes are not used here.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from pixmend.denoising.unpickling import RefusedPickle, load_plain
from pixmend.errors import DataError, FileMissingError, PixmendError
from pixmend.images import open_thumbnails, picture_files
from pixmend.tars import BrokenArchiveError, plain_members

Pixels = NDArray[np.uint8]

SIDE = 32
RECORDS = 10_000  # in each of the six files
CLASSES = 10
TEST_SHARE = 1 / 6  # of a plain folder, chosen by content: as many as in CIFAR-10
LARGEST_PICKLE = 64 << 20  # bytes; the official ones have 31 million
WAIT_SECONDS = 0.5  # at a time: Windows heeds no Ctrl-C in a wait without an end
HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
LAYOUTS = {"cifar-10-batches-bin": ".bin", "cifar-10-batches-py": ""}  # folder -> suffix of its batches
ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
EXPECTED = (
    f"expected is {' or '.join(LAYOUTS)} with {', '.join(BATCHES)}, or one of the archives {' and '.join(ARCHIVES)} "
    f"from {HOME}, or a folder of pictures"
)


@dataclass(frozen=True)
class PictureSet:
    """Pictures to train on and pictures to test on: (N, 3, 32, 32) uint8 each."""

    train: Pixels
    test: Pixels
    skipped: tuple[str, ...] = ()  # files that were left out, with reasons

    @property
    def fingerprint(self) -> str:
        """A short hash of the training pictures in their order."""
        return hashlib.sha256(np.ascontiguousarray(self.train).data).hexdigest()[:16]


def read_pictures(path: str | os.PathLike[str], records: int = RECORDS) -> PictureSet:
    """CIFAR-10 from a folder of either layout, or one that holds one or its archive, or an archive; else any pictures.

    A folder with neither is read as pictures of any format: the middle square of each, reduced to 32x32. If it holds
    the folders `train` and `test` they are what they say; else a sixth, chosen by content, is for testing.
    records: how many pictures each file of CIFAR-10 has to hold. Raises FileMissingError and DataError, which name the
    file, what was expected and where CIFAR-10 comes from.
    """
    path = Path(path)
    check_data(path)
    if path.is_file():
        return _from_batches(_batches_of_archive(path, records), path)
    for folder in (path, *(path / name for name in LAYOUTS)):
        for suffix in LAYOUTS.values():
            if any((folder / f"{name}{suffix}").is_file() for name in BATCHES):
                return _from_batches(_batches_of_folder(folder, suffix, records), folder)
    for name in ARCHIVES:
        if (path / name).is_file():
            return _from_batches(_batches_of_archive(path / name, records), path / name)
    return _from_folder(path)


def check_data(path: Path) -> None:
    """Raise FileMissingError where nothing is."""
    if not os.path.exists(path):
        raise FileMissingError(f"{path} does not exist; {EXPECTED}")


def _from_batches(batches: Mapping[str, Pixels], source: Path) -> PictureSet:
    missing = [name for name in BATCHES if name not in batches]
    if missing:
        raise DataError(f"{source} lacks {', '.join(missing)}; {EXPECTED}")
    return PictureSet(np.concatenate([batches[name] for name in BATCHES[:-1]]), batches[BATCHES[-1]])


def _batches_of_folder(folder: Path, suffix: str, records: int) -> dict[str, Pixels]:
    found = {}
    for name in BATCHES:
        file = folder / f"{name}{suffix}"
        if file.is_file():
            try:
                _check_size(file.stat().st_size, str(file))
                found[name] = _batch(file.read_bytes(), str(file), suffix, records)
            except OSError as error:
                raise DataError(f"{file} cannot be read: {error.strerror}; {EXPECTED}") from error
    return found


def _batches_of_archive(path: Path, records: int) -> dict[str, Pixels]:
    found = {}
    try:
        for name, content in _members(path):
            stem, suffix = os.path.splitext(name)
            if stem in BATCHES and suffix in LAYOUTS.values():
                found[stem] = _batch(content, f"{name} in {path}", suffix, records)
    except (BrokenArchiveError, EOFError, OSError, zlib.error) as error:
        why = " ".join(str(error).split())[:100]
        raise DataError(f"{path} is damaged or truncated, or no .tar.gz archive ({why}); {EXPECTED}") from error
    return found


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names without folders, and contents, of the plain files of an archive; nothing is written to the disk."""
    with gzip.open(path) as stream:
        for member in plain_members(stream):
            name = member.name.rsplit("/", 1)[-1]
            if os.path.splitext(name)[0] not in BATCHES:
                continue
            _check_size(member.size, f"{name} in {path}")
            stream.seek(member.offset_data)
            yield name, stream.read(member.size)
        while stream.read(1 << 20):  # to its end, where the checksum stands
            pass


def _check_size(size: int, name: str) -> None:
    if size > LARGEST_PICKLE:
        raise DataError(f"{name} has {size} bytes, no batch has more than {LARGEST_PICKLE}; get it from {HOME}")


def _batch(content: bytes, name: str, suffix: str, records: int) -> Pixels:
    """The pictures of one batch: (records, 3, 32, 32) uint8."""
    return _binary(content, name, records) if suffix else _pickled(content, name, records)


def _binary(content: bytes, name: str, records: int) -> Pixels:
    """A record is one byte of label and 3,072 of pixels: red, green, blue, each row by row."""
    size = 1 + 3 * SIDE**2
    if len(content) != records * size:
        what = "truncated" if len(content) < records * size else "not a batch of CIFAR-10"
        raise DataError(
            f"{name} is {what}: it has {len(content)} bytes, expected are {records} records of {size} bytes, that is "
            f"{records * size}; get it again from {HOME}"
        )
    table = np.frombuffer(content, np.uint8).reshape(records, size)
    if table[:, 0].max() >= CLASSES:
        raise DataError(
            f"{name} is not a batch of CIFAR-10: it has the label {table[:, 0].max()}, expected are labels below "
            f"{CLASSES} at every {size} bytes; get it from {HOME}"
        )
    return np.ascontiguousarray(table[:, 1:]).reshape(records, 3, SIDE, SIDE)


def _pickled(content: bytes, name: str, records: int) -> Pixels:
    """A pickled dictionary whose entry "data" is an array (records, 3072) of uint8."""
    shape = (records, 3 * SIDE**2)
    expected = f"expected is an array uint8 {shape} named 'data'"
    try:
        batch = load_plain(content)
    except RefusedPickle as error:
        raise DataError(
            f"{name} is truncated or not a batch of CIFAR-10: {error}; {expected}; get it from {HOME}"
        ) from error
    data = batch.get(b"data", batch.get("data")) if isinstance(batch, dict) else None
    if not isinstance(data, np.ndarray) or data.shape != shape or data.dtype != np.uint8:
        found = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else "nothing of the kind"
        raise DataError(f"{name} is not a batch of CIFAR-10: {expected}, it holds {found}; get it from {HOME}")
    return data.reshape(records, 3, SIDE, SIDE).copy()  # one that may be written to, as torch wants it


def _from_folder(folder: Path) -> PictureSet:
    parts = [folder / name for name in ("train", "test")]
    if all(part.is_dir() for part in parts):
        (train, bad), (test, bad_too) = (_read_all(part) for part in parts)
        skipped = (*bad, *bad_too)
    else:
        files, skipped = _read_all(folder)
        train = [pages for pages in files if not _is_for_testing(pages)]
        test = [pages for pages in files if _is_for_testing(pages)]
    if not train:
        raise DataError(
            f"{folder} holds no picture"
            + (f" ({len(skipped)} were left out, the first: {skipped[0]})" if skipped else "")
            + f"; {EXPECTED}"
        )
    arrays = [np.array([p for pages in files for p in pages], np.uint8) for files in (train, test)]
    arrays = [pixels.reshape(-1, 3, SIDE, SIDE) for pixels in arrays]
    return PictureSet(arrays[0], arrays[1], skipped)


def _is_for_testing(pages: Sequence[Pixels]) -> bool:
    """A picture's content alone decides, so that it stays on its side when others come or go; the first page's of a
    stack, whose pages are much alike.
    """
    return int(hashlib.sha256(pages[0].tobytes()).hexdigest()[:8], 16) < TEST_SHARE * 2**32


def _read_all(folder: Path) -> tuple[list[list[Pixels]], tuple[str, ...]]:
    """The middle squares of all pictures of a folder, (3, 32, 32) each, by file, and why others were left out."""
    ends = Event()

    def read(file: Path) -> tuple[list[Pixels], str | None]:
        try:
            pages, left_out = open_thumbnails(file, SIDE, SIDE, lambda: not ends.is_set())
        except PixmendError as error:
            return [], str(error)
        return [middle(pixels) for pixels in pages], left_out

    def middle(pixels: Pixels) -> Pixels:
        top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
        return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(read, file) for file in picture_files(folder)]
        try:
            found = []
            for job in jobs:
                while wait([job], WAIT_SECONDS).not_done:
                    pass
                found.append(job.result())
        finally:  # who is interrupted does not wait for all pages of a stack
            ends.set()
            pool.shutdown(cancel_futures=True)
    return [pages for pages, _ in found if pages], tuple(reason for _, reason in found if reason)
