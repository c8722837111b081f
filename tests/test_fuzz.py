"""Files that mean harm, or that chance has changed: read, or refused; never a crash, a hang, or code run."""

from __future__ import annotations

import ctypes
import gzip
import io
import json
import pickle
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors.torch import load_file, save_file

from conftest import bench_module
from pixmend.adapters.reading import read_tensors
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.denoising.cifar import read_pictures
from pixmend.denoising.model_file import Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.unpickling import RefusedPickle, load_plain
from pixmend.errors import DataError, ModelFileError, PictureError, PixmendError
from pixmend.images import open_picture, open_thumbnail
from pixmend.tars import MOST_AT_ONCE

CHANGED = 25  # files for each reader; bench/fuzz.py goes on for as long as it is told
READERS = sorted(bench_module("fuzz_files").LOADERS)


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz_files = bench_module("fuzz_files")
    monkeypatch.setattr("pixmend.opening.MAX_PIXELS", 1 << 20)
    loader = fuzz_files.LOADERS[name]()
    loader.prepare(tmp_path)
    read = 0
    for seed in loader.seeds:
        with suppress(PixmendError):
            loader.run(tmp_path, seed)
            read += 1
    assert read, "what is changed can be read"
    rng, refused = random.Random(0), 0
    for _ in range(CHANGED):
        content = fuzz_files.mutated(loader, rng)
        try:
            loader.run(tmp_path, content)
        except PixmendError:
            refused += 1
    assert refused < CHANGED or name == "descriptions"  # of which almost any change tells of another network
    assert refused or name in ("journals", "pickles", "states", "picture-caches", "shard-indices", "tar-shards")


@contextmanager
def growing_by_less_than(megabytes: int) -> Iterator[None]:
    """Within, the process never holds that much more than before; where Linux tells how much it held at most."""
    mark = Path("/proc/self/clear_refs")
    if not mark.exists():
        pytest.skip("this system forgets no high-water mark")
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is given back, and not taken again unseen
    mark.write_text("5")  # the mark is what is held now: man 5 proc_pid_clear_refs
    before = most_held()
    yield
    assert most_held() - before < megabytes


def most_held() -> int:
    """The most memory that the process held at once since the mark was set, in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) // 1024


def test_the_high_water_mark_is_that_of_the_block_alone() -> None:
    with growing_by_less_than(500):
        bytearray(b"x") * (400 << 20)
    for megabytes in (300, 100):  # less than the process held before
        with pytest.raises(AssertionError), growing_by_less_than(megabytes):
            bytearray(b"x") * ((megabytes + 50) << 20)


# -------------------------------------------------------------------------------------------------------- model files

TOO_MUCH: dict[str, dict[str, Any]] = {
    "channels": {"architecture": {"channels": [10**9, 10**9], "groups": 1, "head_channels": 1}},
    "channels that an allocation would grant": {"architecture": {"channels": [8192, 8192]}},
    "blocks": {"architecture": {"blocks": 10**9}},
    "levels": {"architecture": {"channels": [4] * 50_000, "attention": [False] * 50_000}},
    "in patches": {"architecture": {"patch": 10**6}},
    "times": {"architecture": {"time_channels": 10**9}},
}


@pytest.mark.parametrize("what", TOO_MUCH)
@pytest.mark.parametrize("kind", ["model", "denoiser"])
def test_no_header_makes_room_for_what_the_file_does_not_hold(what: str, kind: str, tmp_path: Path) -> None:
    file, fuzz_files = tmp_path / "m.safetensors", bench_module("fuzz_files")
    if kind == "model":
        save_model(file, Model.new(fuzz_files.TINY, conditioning="plain", size=8))
        header = read_header(file)
    else:
        save_denoiser(file, denoiser := Denoiser.new("scaled", shape=fuzz_files.TINY, size=8))
        header = denoiser.header
    header["architecture"] |= TOO_MUCH[what]["architecture"]
    save_file(load_file(file), file, {"pixmend": json.dumps(header)})
    with growing_by_less_than(200), pytest.raises(ModelFileError) as told:
        (load_model if kind == "model" else load_denoiser)(file)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change", [{"diffusion": {"T": 10**10}}, {"size": 10**9}, {"steps": 10**9}])
def test_no_header_makes_room_for_numbers_out_of_all_proportion(change: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_model(file, Model.new(bench_module("fuzz_files").TINY, conditioning="plain", size=8))
    header = read_header(file)
    for name, value in change.items():
        header[name] = header[name] | value if isinstance(value, dict) else value
    save_file(load_file(file), file, {"pixmend": json.dumps(header)})
    with pytest.raises(ModelFileError):
        load_model(file)


@pytest.mark.parametrize("inside", [False, True])
def test_headers_nested_without_end_are_refused(inside: bool, tmp_path: Path) -> None:
    deep = "[" * 200_000
    text = (json.dumps({"__metadata__": {"pixmend": deep}}) if inside else deep).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    for load in (load_model, load_denoiser):
        with pytest.raises(ModelFileError):
            load(tmp_path / "m.safetensors")


def endless_key(*, dup: bool) -> bytes:
    """A pickle of {((((1, 2), (1, 2)), ...)): 1}, sixty levels deep, in a few hundred bytes."""
    twice = b"2\x86" if dup else b"h\x00h\x00\x86q\x00"
    return b"\x80\x02}q\x01K\x01K\x02\x86q\x00" + twice * 60 + (b"" if dup else b"h\x01h\x00") + b"K\x01s."


def test_a_key_that_would_be_hashed_for_ever_is_refused(tmp_path: Path) -> None:
    for dup in (False, True):
        with pytest.raises(RefusedPickle, match="tuple as a dictionary's key"):
            load_plain(endless_key(dup=dup))
    for pickled in (pickle.dumps({1, 2}, 4), pickle.dumps(frozenset([1]), 4), pickle.dumps({(1, 2): 3}, 0)):
        with pytest.raises(RefusedPickle):
            load_plain(pickled)
    with pytest.raises(ModelFileError, match="tuples within tuples"):
        read_tensors(rewritten(tmp_path, {"data.pkl": endless_key(dup=False)}))
    (tmp_path / "legacy.pt").write_bytes(endless_key(dup=False))
    with pytest.raises(ModelFileError, match="tuples within tuples"):
        read_tensors(tmp_path / "legacy.pt")


def test_what_would_be_written_for_ever_is_refused() -> None:
    """Python's errors, and ours, show what was wrong; of a tuple in sixty levels that would never end."""
    deep = b"K\x01K\x02\x86" + b"2\x86" * 60
    number = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
    for pickled in (
        deep + b"K\x11R",  # deep(*17)
        deep + b")R",
        b"cnumpy\ndtype\n" + deep + b"\x85R",
        number + b"(K\x03" + deep + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",  # a byte order
        b"cnumpy.core.numeric\n_frombuffer\n(C\x02ab" + number + deep + b"U\x01CtR",  # a shape
    ):
        with pytest.raises(RefusedPickle, match="a tuple"):
            load_plain(b"\x80\x02" + pickled + b".")


def rewritten(folder: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch.save with other entries in it."""
    stream, file = io.BytesIO(), folder / "w.pt"
    torch.save({"a": torch.ones(3)}, stream)
    with zipfile.ZipFile(stream) as before, zipfile.ZipFile(file, "w", compression) as after:
        for name in before.namelist():
            after.writestr(name, entries.get(name.rpartition("/")[2], before.read(name)))
    return file


def test_checkpoints_do_not_unpack_to_more_than_they_are(tmp_path: Path) -> None:
    assert read_tensors(rewritten(tmp_path, {}))["a"].tolist() == [1, 1, 1]
    with pytest.raises(ModelFileError, match="compressed"):
        read_tensors(rewritten(tmp_path, {"0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED))
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "wide.pt")
    one = torch.ones(10_000)
    torch.save({f"a{i}": one for i in range(5000)}, tmp_path / "many.pt")
    for name in ("wide.pt", "many.pt"):
        with growing_by_less_than(100), pytest.raises(ModelFileError, match="more values than"):
            read_tensors(tmp_path / name)


@pytest.mark.parametrize("form", [True, False])
def test_checkpoints_of_torch_are_read_in_either_form(form: bool, tmp_path: Path) -> None:
    weights = {f"layer.{i}.weight": torch.nn.Parameter(torch.full((3, 4), float(i))) for i in range(400)}
    torch.save(weights, tmp_path / "m.pt", _use_new_zipfile_serialization=form)
    read = read_tensors(tmp_path / "m.pt")
    assert all(torch.equal(read[name], value) for name, value in weights.items())


# ------------------------------------------------------------------------------------------------- pictures, archives


def test_postscript_in_a_wrapper_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPTC file is opened by Pillow as whatever is in it; of PostScript that starts Ghostscript."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("PostScript was run")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"

    def field(record: int, tag: int, value: bytes) -> bytes:
        return bytes([0x1C, record, tag]) + struct.pack(">H", len(value)) + value

    head = [(60, b"\1\0"), (20, b"\0\x09"), (30, b"\0\x09"), (120, b"\0\5")]
    wrapped = b"".join(field(3, tag, value) for tag, value in head) + field(8, 10, eps)
    (tmp_path / "a.iim").write_bytes(wrapped)
    with Image.open(tmp_path / "a.iim") as image, pytest.raises(AssertionError):
        image.load()  # so it would be
    for read in (open_picture, lambda file: open_thumbnail(file, 8)):
        with pytest.raises(PictureError, match="may hold PostScript"):
            read(tmp_path / "a.iim")


def test_an_archive_of_zeros_is_not_unpacked_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 900 << 20
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(90):
            stream.write(bytes(10 << 20))
    assert (tmp_path / "a.tar.gz").stat().st_size < 5 << 20
    with growing_by_less_than(max(100, 4 * MOST_AT_ONCE >> 20)), pytest.raises(DataError, match="impossible size"):
        read_pictures(tmp_path / "a.tar.gz")


def test_names_in_archives_and_headers_write_nothing(tmp_path: Path) -> None:
    """Whatever a file says, reading it leaves the folder as it was."""
    fuzz_files = bench_module("fuzz_files")
    (tmp_path / "inner").mkdir()
    rng = random.Random(1)
    for content in fuzz_files._tars() * 5:
        fuzz_files._read_shard(tmp_path / "inner", bench_module("fuzz_changes").tar(content, rng))
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    shutil.rmtree(tmp_path / "inner" / "cache")
    assert [path.name for path in (tmp_path / "inner").iterdir()] == ["s.tar"]
