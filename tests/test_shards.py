"""Training from tar files: the same samples whoever reads them, and no archive that does harm."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from conftest import bench_module
from pixmend import shards
from pixmend.data import InpaintingDataset
from pixmend.errors import DataError, FileMissingError, OptionError, TrainingError
from pixmend.shards import TRIES, Shards, names_shards, shard_files
from pixmend.tars import BLOCK, BrokenArchiveError, plain_members

Add = Callable[[tarfile.TarFile], None]


def encoded(red: int, side: int = 40, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side + 3, side), (red, 0, 0)).save(stream, kind)
    return stream.getvalue()


def member(name: str, content: bytes = b"", **fields: Any) -> Add:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(content))

    return add


def written(file: Path, *members: Add, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=form) as archive:
        for add in members:
            add(archive)
    return file


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    """Three shards of four pictures, of formats and reds of their own, with labels between them."""
    for shard in range(3):
        members = []
        for i in range(4):
            kind = ("PNG", "JPEG", "WEBP", "BMP")[i]
            red = 80 * shard + 20 * i
            members += [member(f"{red:06}.{kind.lower()}", encoded(red, kind=kind)), member(f"{red:06}.cls", b"7")]
        written(tmp_path / f"x-{shard:02}.tar", *members)
    return str(tmp_path / "x-{00..02}.tar")


def dataset(pattern: str, size: int = 16, **options: Any) -> InpaintingDataset:
    return InpaintingDataset(pattern, size, cache=Path(pattern).parent / "cache", **options)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_samples_are_those_of_a_folder_of_the_same_files(pattern: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in shard_files(pattern):
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    from_shards, from_folder = dataset(pattern, holdout=0.4), dataset(str(folder), holdout=0.4)
    assert len(from_shards) == len(from_folder)
    ours, theirs = ({p.tobytes() for p in samples.pictures} for samples in (from_shards, from_folder))
    assert ours == theirs  # and so are those that are held out
    assert 0 < len(ours) < 12


def test_the_kth_sample_is_a_function_of_k_whoever_reads_it(pattern: str) -> None:
    samples = dataset(pattern, seed=3)
    backwards = {k: dataset(pattern, seed=3)[k] for k in reversed(range(30))}
    assert all(same(samples[k], backwards[k]) for k in range(30))
    rounds = [[samples.pictures[samples._picture(k)].tobytes() for k in range(i, i + 12)] for i in (0, 12)]
    assert sorted(rounds[0]) == sorted(rounds[1])
    assert rounds[0] != rounds[1]
    assert len(set(rounds[0])) == 12


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*worker processes:UserWarning")
def test_the_number_of_workers_changes_nothing(pattern: str) -> None:
    samples = dataset(pattern)
    alone, beside = (list(DataLoader(samples, batch_size=4, sampler=range(3, 27), num_workers=n)) for n in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, beside, strict=True))
    again = pickle.loads(pickle.dumps(samples.pictures))  # noqa: S301  # what was made on this line
    assert np.array_equal(again[5], samples.pictures[5])


def test_a_training_is_resumed_bit_for_bit(
    pattern: str, stage: Any, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = bench_module("victim")
    monkeypatch.setattr(stage, "photos", pattern)
    whole = victim.undisturbed(stage, tmp_path / "whole.safetensors")
    victim.stopped_at(stage, output, 2)
    victim.goes_on(stage, output, whole)


def test_shards_are_gone_through_once(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(pattern)[0]

    def never(*_: object) -> None:
        raise AssertionError("gone through again")

    with monkeypatch.context() as patch:
        patch.setattr("pixmend.shards.plain_members", never)
        assert same(dataset(pattern, 16)[0], first)
        assert len(dataset(pattern, 32)) == 12  # the index suits any size
        (index,) = (Path(pattern).parent / "cache").glob("*.shards")
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    assert same(dataset(pattern)[0], first)
    written(Path(pattern).parent / "x-00.tar", member("a.png", encoded(1)))
    assert len(dataset(pattern)) == 9


def test_ctrl_c_does_not_wait_for_whole_shards(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shard is short; the others, which are looked through meanwhile, would take a minute each."""
    seen = 0

    def slowly(stream: IO[bytes], left_out: Callable[[str], None]) -> Iterator[tuple[str, int, bytes]]:
        nonlocal seen
        for _ in range(1 if Path(stream.name).name.endswith("0.tar") else 6000):
            seen += 1
            time.sleep(0.01)
            yield "a.png", 0, encoded(1)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_pictures", slowly)
    with pytest.raises(KeyboardInterrupt):
        dataset(pattern, progress=interrupted)
    assert seen < 1000
    assert not list(Path(pattern).parent.glob("**/*.shards"))


def test_what_is_no_picture_is_named_and_left_out(tmp_path: Path) -> None:
    file = written(
        tmp_path / "odd.tar",
        member("good.png", encoded(1)),
        member("folder", type=tarfile.DIRTYPE),
        member("folder/.hidden.png", b"left alone"),
        member("label.json", b"{}"),
        member("../out.png", encoded(2)),
        member("/root.png", encoded(3)),
        member("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.png", type=tarfile.LNKTYPE, linkname="good.png"),
        member("device.png", type=tarfile.CHRTYPE),
        member("pipe.png", type=tarfile.FIFOTYPE),
        member("text.png", b"no picture"),
        member("bell\a.png", b""),
        member("tiny.png", encoded(4, side=9)),
        member("n" * 200 + ".png", encoded(5)),
    )
    samples = dataset(str(file))
    assert len(samples) == 2
    named = ("../out.png", "/root.png", "link.png", "hard.png", "device.png", "pipe.png", "text.png", "bell?", "tiny")
    assert len(samples.skipped) == len(named)
    for name in named:
        assert sum(name in reason for reason in samples.skipped) == 1, name
    assert all(reason.isprintable() and str(file) in reason for reason in samples.skipped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "odd.tar"]  # nothing is ever extracted


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_shard_that_breaks_off_is_used_up_to_there_and_named(tmp_path: Path, form: int) -> None:
    file = written(tmp_path / "cut.tar", *(member(f"{i}.png", encoded(i)) for i in range(4)), form=form)
    content = file.read_bytes()
    with tarfile.open(file) as archive:
        ends = [info.offset_data + -(-info.size // BLOCK) * BLOCK for info in archive]
    for length in range(ends[0], len(content) - BLOCK, 100):
        file.write_bytes(content[:length])
        shards = Shards(str(file), 48, tmp_path / "cache", None)
        whole = sum(end - BLOCK < length for end in ends)  # the last block of a content may be half empty
        assert whole - 1 <= len(shards.hashes) <= whole
        assert len(shards.skipped) == (length < ends[-1] + BLOCK)
    file.write_bytes(content[:100])
    with pytest.raises(DataError, match=r"no picture.*cut\.tar.*cut short or no tar archive"):
        dataset(str(file))


def test_pictures_that_turn_out_broken_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = encoded(9)[:-30]  # its header is whole
    file = written(
        tmp_path / "b.tar", member("a.png", encoded(1)), member("b.png", broken), member("c.png", encoded(2))
    )
    pictures = dataset(str(file)).pictures
    assert len(pictures) == 3
    assert np.array_equal(pictures[1], pictures[2])
    assert np.array_equal(pictures[1], pictures[2])
    assert capsys.readouterr().err.count("passed over") == 1
    written(file, member("b.png", broken))
    with pytest.raises(DataError, match=f"{TRIES} pictures in a row"):
        dataset(str(file)).pictures[0]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_shards_are_refused(tmp_path: Path, pack: Any) -> None:
    whole = written(tmp_path / "whole.tar", member("a.png", encoded(1)))
    (tmp_path / "packed.tar").write_bytes(pack(whole.read_bytes()))
    with pytest.raises(DataError, match=r"packed\.tar is compressed; unpack it"):
        dataset(str(tmp_path / "{whole,packed}.tar"))


def test_a_shard_that_vanishes_is_one_line(pattern: str) -> None:
    pictures = dataset(pattern).pictures
    Path(pattern.replace("{00..02}", "00")).write_bytes(b"short")
    with pytest.raises(TrainingError, match="cut short"):
        pictures[0]
    Path(pattern.replace("{00..02}", "00")).unlink()
    with pytest.raises(TrainingError, match="put it back"):
        pictures[0]


def test_braces_stand_for_what_a_shell_makes_of_them(tmp_path: Path) -> None:
    for name in ("a-08", "a-09", "a-10", "b-08", "b-09", "b-10", "8", "9", "10"):
        (tmp_path / f"{name}.tar").touch()
    expected = {
        "a-10.tar": ["a-10"],
        "a-{08..10}.tar": ["a-08", "a-09", "a-10"],
        "{a,b}-{08..09}.tar": ["a-08", "a-09", "b-08", "b-09"],
        "{8..10}.tar": ["8", "9", "10"],
        "{8,a-08}.tar": ["8", "a-08"],
    }
    for pattern, names in expected.items():
        assert [file.stem for file in shard_files(str(tmp_path / pattern))] == names
    assert names_shards("a-{0..9}.tar")
    assert not names_shards("photographs")
    (tmp_path / "folder.tar").mkdir()
    assert not names_shards(tmp_path / "folder.tar")


@given(st.integers(0, 1200), st.integers(0, 60), st.booleans())
def test_ranges_are_those_of_braceexpand(first: int, count: int, padded: bool) -> None:
    braceexpand = pytest.importorskip("braceexpand")
    low, high = (f"{n:04}" if padded else str(n) for n in (first, first + count))
    pattern = f"x-{{{low}..{high}}}.tar"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_file", lambda _: True)
        assert [str(file) for file in shard_files(pattern)] == list(braceexpand.braceexpand(pattern))


@pytest.mark.parametrize(
    ("pattern", "error", "told"),
    [
        ("x-{0..3}.tar", FileMissingError, "3 more of 4"),
        ("x-{3..0}.tar", OptionError, "no range"),
        ("x-{0..999999999999}.tar", OptionError, "at most"),
        ("x-{" + "9" * 5000 + "..1}.tar", OptionError, "no range"),
        ("{0..99999}{0..99999}.tar", OptionError, "stands for 10000000000 files"),
        ("x-{abc}.tar", OptionError, "not understood"),
        ("x-{}.tar", OptionError, "not understood"),
        ("https://example.org/x.tar", OptionError, "no file on this machine"),
        ("pipe:cat x.tar", OptionError, "no file on this machine"),
    ],
)
def test_wrong_names_are_one_line(pattern: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        shard_files(pattern)


def test_shards_that_webdataset_wrote(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (30, 40, 3), np.uint8) for _ in range(7)]
    with webdataset.ShardWriter(str(tmp_path / "w-%03d.tar"), maxcount=3, verbose=0) as sink:
        for i, picture in enumerate(pixels):
            sink.write({"__key__": f"{i:04}", "png": Image.fromarray(picture), "json": {"i": i}})
    samples = dataset(str(tmp_path / "w-{000..002}.tar"))
    assert not samples.skipped
    assert {p.tobytes() for p in samples.pictures} == {p.tobytes() for p in pixels}


FIELDS = b"\xff" * 12, b"\x80" + b"\xff" * 11, b"7" * 11, b"0", b"-0000001000", b"L"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.data())
def test_no_archive_hangs_or_does_anything_but_break(data: st.DataObject) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=data.draw(st.sampled_from([1, 2]))) as archive:
        member("a" * data.draw(st.sampled_from([1, 150])) + ".png", b"content")(archive)
        member("b.png", b"more")(archive)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 12))
        value = data.draw(
            st.sampled_from([b"\xff" * 12, b"\x80" + b"\xff" * 11, b"7" * 11, b"0", b"-0000001000", b"L"])
        )
        content[at : at + len(value)] = value
        header = at // BLOCK * BLOCK
        if data.draw(st.booleans()):  # mend its checksum, so that the change gets through
            block = content[header : header + BLOCK]
            block[148:156] = b" " * 8
            content[header + 148 : header + 156] = b"%06o\0 " % sum(block)
    with suppress(BrokenArchiveError):
        assert len(list(plain_members(io.BytesIO(bytes(content))))) < 20


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-BLOCK, -2 * BLOCK, 1 << 60])
def test_impossible_sizes_neither_hang_nor_ask_for_memory(kind: bytes, size: int) -> None:
    """CVE-2025-8194: a negative size leads back to the same header for ever."""
    info = tarfile.TarInfo("a.png")
    info.type, info.size = kind, size
    first = tarfile.TarInfo("b.png").tobuf() + info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(BrokenArchiveError):
        list(plain_members(io.BytesIO(first + bytes(20 * BLOCK))))
