"""CIFAR-10 in every layout, from files made here; pickles that want to run something; folders of pictures."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import tarfile
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixmend.denoising import cifar
from pixmend.denoising.cifar import ARCHIVES, BATCHES, HOME, Pixels, read_pictures
from pixmend.denoising.unpickling import RefusedPickle, _NdArray, load_plain
from pixmend.errors import DataError, FileMissingError

RECORDS = 5


@pytest.fixture(scope="module")
def batches() -> dict[str, Pixels]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (RECORDS, 3, 32, 32), np.uint8) for name in BATCHES}


def binary(pixels: Pixels) -> bytes:
    """The binary layout, record by record as its page describes it."""
    return b"".join(bytes([k % 10]) + picture.tobytes() for k, picture in enumerate(pixels))


def pickled(pixels: Pixels, protocol: int = 2) -> bytes:
    content = {b"batch_label": b"x", b"labels": [0, 9], b"data": pixels.reshape(len(pixels), -1), b"filenames": [b"a"]}
    return pickle.dumps(content, protocol=protocol)


def write_binary(folder: Path, batches: dict[str, Pixels]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, pixels in batches.items():
        (folder / f"{name}.bin").write_bytes(binary(pixels))
    return folder


def write_pickled(folder: Path, batches: dict[str, Pixels]) -> Path:
    folder.mkdir()
    for name, pixels in batches.items():
        (folder / name).write_bytes(pickled(pixels))
    return folder


def packed(folder: Path, archive: Path, compresslevel: int = 9) -> Path:
    with tarfile.open(archive, "w:gz", compresslevel=compresslevel) as tar:
        tar.add(folder, folder.name)
    return archive


WRITERS: tuple[tuple[str, Callable[[Path, dict[str, Pixels]], Path], str], ...] = (
    ("cifar-10-batches-bin", write_binary, ARCHIVES[0]),
    ("cifar-10-batches-py", write_pickled, ARCHIVES[1]),
)


@pytest.mark.parametrize(("name", "write", "archive"), WRITERS)
def test_every_layout_gives_the_same_pictures(
    tmp_path: Path,
    batches: dict[str, Pixels],
    name: str,
    write: Callable[[Path, dict[str, Pixels]], Path],
    archive: str,
) -> None:
    folder = write(tmp_path / name, batches)
    (tmp_path / "other").mkdir()
    packed(folder, tmp_path / "other" / archive)
    for path in (folder, tmp_path, tmp_path / "other" / archive, tmp_path / "other"):
        found = read_pictures(path, RECORDS)
        assert found.test.flags.writeable, "torch warns of others"
        assert np.array_equal(found.train, np.concatenate([batches[n] for n in BATCHES[:5]]))
        assert np.array_equal(found.test, batches["test_batch"])
    others = {n: 255 - pixels for n, pixels in batches.items()}
    assert read_pictures(write(tmp_path / "elsewhere", others), RECORDS).fingerprint != found.fingerprint


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_read(batches: dict[str, Pixels], protocol: int) -> None:
    pixels = batches["test_batch"]
    read = load_plain(pickled(pixels, protocol))
    assert np.array_equal(read[b"data"], pixels.reshape(RECORDS, -1))
    assert read[b"labels"] == [0, 9]
    value: dict[str, Any] = {
        "a": [1, -2.5, None, True, "text", (b"bytes",)],
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    again = load_plain(pickle.dumps(value, protocol=protocol))
    assert again["a"] == value["a"]
    assert np.array_equal(again["f"], value["f"])


def test_a_pickle_of_python_2_is_read() -> None:
    """As cPickle of Python 2.7 wrote it: names without underscore, texts as bytes."""
    text = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x06abcdeftbs."
    )
    assert np.array_equal(load_plain(text)[b"data"], np.frombuffer(b"abcdef", np.uint8).reshape(2, 3))


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("wrapped", [False, True])
def test_nothing_in_a_pickle_is_run(tmp_path: Path, protocol: int, wrapped: bool) -> None:
    target = tmp_path / "written"
    for function, arguments, name in (
        (os.system, (f"touch {target}",), "system"),
        (builtins.eval, (f"open({str(target)!r}, 'w')",), "eval"),
        (builtins.getattr, ("", "format"), "getattr"),
        (np.save, (str(target), 1), "save"),
        (Path, (str(target),), "Path"),
    ):
        call: Any = Calls(function, *arguments)
        content = pickle.dumps(np.array([call], object) if wrapped else {b"data": call}, protocol=protocol)
        with pytest.raises(RefusedPickle, match="O8|asks for .*" + name):
            load_plain(content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "named"),
    [({1, 2}, "set"), (bytearray(b"x"), "bytearray"), (1j, "complex"), (np.float64(1), "scalar"), (print, "print")],
)
def test_what_is_no_plain_value_is_refused_by_name(value: object, named: str) -> None:
    with pytest.raises(RefusedPickle, match=named):
        load_plain(pickle.dumps({"a": [value]}))


def test_a_pickle_changes_nothing_of_this_process() -> None:
    """A state that is set upon what stands for numpy.ndarray itself."""
    with pytest.raises(RefusedPickle, match="changes a type"):
        load_plain(b"\x80\x02cnumpy\nndarray\nN}U\x01aK\x05s\x86b.")
    assert not hasattr(_NdArray, "a")


def test_texts_of_python_2_are_bytes_of_any_kind() -> None:
    """As its cPickle writes arrays by default, in protocol 0."""
    assert load_plain(b"S'\\xff\\x00a'\n.") == b"\xff\x00a"
    assert load_plain(b"S'\xff'\n.") == b"\xff"


def test_a_pickle_makes_no_room_for_what_it_only_claims() -> None:
    """Eleven bytes that say that 16 GB follow (BYTEARRAY8 of protocol 5)."""
    tracemalloc.start()
    try:
        with pytest.raises(RefusedPickle, match="no whole pickle"):
            load_plain(b"\x80\x05\x96" + (1 << 34).to_bytes(8, "little") + b".")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("part", [pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.MARK, pickle.NONE], ids=str)
def test_a_pickle_of_endless_parts_is_refused(part: bytes) -> None:
    """Each byte would be an object of up to 72 bytes, and a gzipped file of 65 kB holds 64 million of them."""
    tracemalloc.start()
    try:
        with pytest.raises(RefusedPickle, match="more than 1000000 parts"):
            load_plain(part * 1_000_001)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_arrays_that_do_not_fit_their_bytes_are_refused() -> None:
    good = pickle.dumps(np.arange(6, dtype=np.uint8), protocol=2)
    assert good.count(b"K\x06\x85") == 1
    with pytest.raises(RefusedPickle, match="6 bytes"):
        load_plain(good.replace(b"K\x06\x85", b"K\x07\x85"))  # the shape says 7 values, 6 are there
    for wrong in (b"", b"no pickle", good[:-9], b"\x80\x02c__main__\nx\n.", b"(I1\nI2\nb."):
        with pytest.raises(RefusedPickle):
            load_plain(wrong)


def test_missing_truncated_and_wrong_files_are_named(tmp_path: Path, batches: dict[str, Pixels]) -> None:
    folder = write_binary(tmp_path / "cifar-10-batches-bin", batches)
    file = folder / "data_batch_3.bin"
    whole = file.read_bytes()

    def message(path: Path = tmp_path) -> str:
        with pytest.raises(DataError) as caught:
            read_pictures(path, RECORDS)
        text = str(caught.value)
        assert "\n" not in text
        assert HOME in text
        return text

    with (folder / "data_batch_1.bin").open("r+b") as stream:
        stream.truncate((64 << 20) + 1)
    assert "data_batch_1.bin has 67108865 bytes" in message()
    write_binary(folder, batches)

    file.write_bytes(whole[:-1])
    assert "data_batch_3.bin is truncated: it has 15364 bytes, expected are 5 records" in message()
    file.write_bytes(whole + b"x")
    assert "data_batch_3.bin is not a batch" in message()
    file.write_bytes(b"\x0a" + whole[1:])
    assert "label 10" in message()
    file.unlink()
    assert "lacks data_batch_3" in message()
    archive = packed(folder, tmp_path / "a.tar.gz")
    assert "lacks data_batch_3" in message(archive)
    content = archive.read_bytes()
    archive.write_bytes(content[:-2000])
    assert "a.tar.gz is damaged or truncated" in message(archive)
    archive.write_bytes(b"no archive")
    assert "a.tar.gz is damaged or truncated, or no .tar.gz" in message(archive)


def test_a_bit_that_flipped_in_an_archive_is_noticed(tmp_path: Path, batches: dict[str, Pixels]) -> None:
    folder = write_binary(tmp_path / "cifar-10-batches-bin", batches)
    archive = packed(folder, tmp_path / "a.tar.gz", compresslevel=0)
    content = bytearray(archive.read_bytes())
    place = content.find(batches["data_batch_3"][2].tobytes()[100:200])
    assert place > 0, "what is not compressed is stored as it is"
    content[place] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tar\.gz is damaged .*CRC"):
        read_pictures(archive, RECORDS)


def test_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match=HOME):
        read_pictures(tmp_path / "nowhere")


def test_wrong_pickled_batches_are_named(tmp_path: Path, batches: dict[str, Pixels]) -> None:
    folder = write_pickled(tmp_path / "cifar-10-batches-py", batches)
    for content, told in (
        (pickle.dumps([1]), "nothing of the kind"),
        (pickled(batches["test_batch"][:2]), r"\(2, 3072\)"),
        (pickle.dumps({b"data": Calls(os.system, "true")}), "system"),
        (pickled(batches["test_batch"])[:-100], "truncated"),
    ):
        (folder / "data_batch_2").write_bytes(content)
        with pytest.raises(DataError, match=f"data_batch_2 .*{told}") as caught:
            read_pictures(tmp_path, RECORDS)
        assert "expected is an array uint8" in str(caught.value)
        assert HOME in str(caught.value)


def test_large_members_are_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("x/data_batch_1.bin")
        member.size = 65 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match=r"data_batch_1\.bin in .* bytes"):
        read_pictures(tmp_path / "a.tar.gz")


def test_any_folder_of_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"{i}.png")
    Image.new("L", (80, 64), 77).save(tmp_path / "large.jpg")
    Image.new("RGB", (20, 40)).save(tmp_path / "small.png")
    found = read_pictures(tmp_path)
    assert len(found.train) + len(found.test) == 61
    assert 2 <= len(found.test) <= 20
    assert len(found.skipped) == 1
    assert "small.png: 20 x 40" in found.skipped[0]
    assert any((picture == 77).all() for picture in np.concatenate([found.train, found.test]))
    everything = {p.tobytes() for p in np.concatenate([found.train, found.test])}
    (tmp_path / "0.png").unlink()
    fewer = read_pictures(tmp_path)
    assert {p.tobytes() for p in fewer.test} <= {p.tobytes() for p in found.test}
    assert {p.tobytes() for p in np.concatenate([fewer.train, fewer.test])} < everything


def test_ctrl_c_leaves_the_rest_of_a_folder_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, read = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait)

    def slow(file: Path, *sides: int) -> tuple[list[Pixels], None]:
        assert cancelled.wait(60)
        read.append(file)
        return [], None

    def interrupted(jobs: object, timeout: float) -> None:
        raise KeyboardInterrupt

    for i in range(20):
        Image.new("L", (32, 32)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(cifar, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(cifar, "open_thumbnails", slow)
    monkeypatch.setattr(cifar, "wait", interrupted)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        read_pictures(tmp_path)
    assert len(read) <= 2, "those that were begun"


def test_folders_named_train_and_test_are_what_they_say(tmp_path: Path) -> None:
    for part, grey in (("train", 10), ("test", 200)):
        (tmp_path / part).mkdir()
        Image.new("L", (32, 32), grey).save(tmp_path / part / "a.png")
    found = read_pictures(tmp_path)
    assert np.unique(found.train) == [10]
    assert np.unique(found.test) == [200]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        read_pictures(tmp_path)
