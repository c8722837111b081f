"""What `fuzz.py` throws: for every reader of files some valid ones, how they are changed, and how they are read."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pickle
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from pixmend.adapters import export_model, guided, import_model
from pixmend.adapters.mapping import name_layers, to_theirs
from pixmend.adm import AdmUNet
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.denoising.cifar import BATCHES, read_pictures
from pixmend.denoising.model_file import Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.unpickling import RefusedPickle, load_plain
from pixmend.errors import OutputError
from pixmend.folders.journal import FOLDER, JOURNAL, Journal
from pixmend.folders.pairing import Found, Task
from pixmend.folders.runner import make_plan
from pixmend.heif import register_heif
from pixmend.images import (
    composite,
    decode_thumbnail_of,
    encode,
    fitted,
    mask_strength,
    open_picture,
    open_thumbnail,
    save_picture,
)
from pixmend.picture_cache import PictureCache, seal
from pixmend.pictures import Picture
from pixmend.run_folder import RunFolder
from pixmend.sealed import DamagedError, sealed, unsealed
from pixmend.shards import Shards
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(4, 4), attention=(False, True), head_channels=4, time_channels=4, groups=2)
NUMBERS = (0, 1, -1, 2, 255, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, 10**9, 10**30, 0.5, 1e308, float("nan"))
VALUES = (*NUMBERS, None, True, "", "x", "../../x", "/etc/passwd", [], {}, [[]], [10**9] * 3, {"a": 1}, "a" * 5000)

Change = Callable[[bytes, random.Random], bytes]


@dataclass
class Loader:
    """One reader of files."""

    seeds: list[bytes]
    run: Callable[[Path, bytes], None]  # the second is a file's content; the first a folder to write it into
    changes: list[Change]
    prepare: Callable[[Path], None] = field(default=lambda folder: None)


Make = Callable[[], Loader]


def mutated(loader: Loader, rng: random.Random, content: bytes | None = None) -> bytes:
    """A valid file, or what became of one, changed once to four times."""
    content = rng.choice(loader.seeds) if content is None or rng.random() < 0.05 else content
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change = rng.choice([*loader.changes * 3, any_bytes])
        with contextlib.suppress(Exception):  # what was changed before may no longer be understood
            content = change(content, rng)
    return content


# ---------------------------------------------------------------------------------------------------------- changes


def any_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits, numbers of 1 to 8 bytes, pieces taken out, doubled or moved, an end cut off."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(6)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        size = rng.choice("BHIQ")
        number = int(rng.choice(NUMBERS[:-3])) % 2 ** (8 * struct.calcsize(size))
        data[at : at + struct.calcsize(size)] = struct.pack(rng.choice("<>") + size, number)
    elif kind == 2:
        del data[at : at + rng.choice((1, 4, 64, len(data)))]
    elif kind == 3:
        other = rng.randrange(len(data) + 1)
        data[at:at] = data[other : other + rng.choice((1, 8, 100))]
    elif kind == 4:
        data[at : at + 4] = rng.randbytes(4)
    else:
        data[at:at] = bytes([rng.randrange(256)]) * rng.choice((1, 10, 3000))
    return bytes(data)


def png(content: bytes, rng: random.Random) -> bytes:
    """A change inside of the chunks of a PNG, whose checksums are put right."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunks.append((kind, content[at + 8 : at + 8 + length]))
        at += 12 + length
    i = rng.randrange(len(chunks))
    what = rng.randrange(4)
    kind, data = chunks[i]
    if what == 0:
        chunks[i] = kind, any_bytes(data, rng)
    elif what == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[i])
    elif what == 2:
        text = b"k\0\0" + zlib.compress(bytes(rng.choice((10, 10**6, 10**7))))
        chunks.insert(1, (rng.choice((b"zTXt", b"iCCP", b"tEXt", b"eXIf", b"iTXt")), text))
    elif kind == b"IDAT":
        chunks[i] = kind, zlib.compress(any_bytes(zlib.decompress(data), rng))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + b"".join(packed)


def safetensors(content: bytes, rng: random.Random) -> bytes:
    """A change of the JSON in a safetensors header, whose length is put right; of the JSON within it as often."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    inner = header.get("__metadata__", {})
    if inner and rng.random() < 0.8:
        key = rng.choice(list(inner))
        with contextlib.suppress(ValueError):
            inner[key] = json.dumps(altered(json.loads(inner[key]), rng))
    else:
        header = altered(header, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def in_json(content: bytes, rng: random.Random) -> bytes:
    """A change of a value in JSON; or nested deeply."""
    if rng.random() < 0.02:
        return b"[" * 100_000
    return json.dumps(altered(json.loads(content), rng)).encode()


def altered(value: Any, rng: random.Random) -> Any:
    """A value of JSON with one of its values changed, taken out or added, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: altered(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        i = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value * rng.choice((0, 2, 1000 if len(value) < 1000 else 1))
        return [*value[:i], altered(value[i], rng), *value[i + 1 :]]
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2, 1000, 10**6))
    return rng.choice(VALUES)


def tar(content: bytes, rng: random.Random) -> bytes:
    """A change in a header of a tar archive, whose checksum is put right."""
    data = bytearray(content)
    at = rng.choice([i for i in range(0, len(data), 512) if data[i + 257 : i + 262] == b"ustar"])
    header = bytearray(any_bytes(bytes(data[at : at + 512]), rng)[:512].ljust(512, b"\0"))
    field_, size = rng.choice(((0, 100), (124, 12), (156, 1), (157, 100), (345, 155)))
    texts = (
        b"../../x.png",
        b"/tmp/x.png",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"77777777777",
        b"-1",
        b"x",
        b"L",
        b"2",
    )
    header[field_ : field_ + size] = rng.choice(texts)[:size].ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[at : at + 512] = header
    return bytes(data)


def gzipped(change: Change) -> Change:
    """A change of what is compressed."""
    return lambda content, rng: gzip.compress(change(gzip.decompress(content), rng), 1)


def zipped(content: bytes, rng: random.Random) -> bytes:
    """A change of one entry of a zip archive, most often of its pickle."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name in entries if name.endswith(".pkl")]
    name = rng.choice(pickles if pickles and rng.random() < 0.8 else list(entries))
    entries[name] = pickled(entries[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((0, 0, 0, 8))) as archive:
        for entry, inner in entries.items():
            archive.writestr(entry, inner)
    return stream.getvalue()


def pickled(content: bytes, rng: random.Random) -> bytes:
    """A change of a pickle: bytes, or operations put into it."""
    if rng.random() < 0.6:
        return any_bytes(content, rng)
    pieces = (
        b"cos\nsystem\n(S'true'\ntR",
        b"cbuiltins\neval\n(S'1'\ntR",
        b"K\x01K\x02\x86" + b"2\x86" * 40 + b"K\x01s",
        b"\x8e" + struct.pack("<Q", 2**40),
        b"(" * 100,
        b"]q\x00h\x00a",
        b"\x8f",
        b"J" + struct.pack("<i", 2**31 - 1),
        b"\x8a\x08" + b"\x7f" * 8,
    )
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(pieces) + content[at:]


def resealed(change: Change) -> Change:
    """A change behind a checksum that stands in the first line, and is put right."""

    def changed(content: bytes, rng: random.Random) -> bytes:
        text = change(content.split(b"\n", 1)[1], rng)
        return seal(text) + b"\n" + text

    return changed


def stated(content: bytes, rng: random.Random) -> bytes:
    """A change of a state, which is sealed again."""
    changed = safetensors(content, rng) if rng.random() < 0.7 else any_bytes(content, rng)
    at = changed.index(b'"crc32":') if b'"crc32":' in changed else changed.index(b'"crc32": ')
    open_ = b'"crc32":"00000000"'
    head, tail = changed[:at], changed[at:].split(b'"', 4)[4]
    whole = head + open_ + tail
    return head + b'"crc32":"%08x"' % zlib.crc32(whole) + tail


# ------------------------------------------------------------------------------------------------- files and readers


@cache
def _pictures() -> list[bytes]:
    """Small pictures of every format that Pillow writes here, in its modes."""
    rng, found = np.random.default_rng(0), []
    picture = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
    suffixes = (
        "PNG",
        "JPEG",
        "WEBP",
        "TIFF",
        "GIF",
        "BMP",
        "PPM",
        "TGA",
        "ICO",
        "PCX",
        "SGI",
        "JPEG2000",
        "AVIF",
        "DDS",
    )
    for kind in (*suffixes, "IM", "MSP", "SPIDER", "XBM", "PALM", "BLP", "QOI", "MPO"):
        for mode in ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16"):
            stream = io.BytesIO()
            grey = picture.convert("L") if mode == "I;16" else picture  # Pillow makes 16 bits of grey alone
            with contextlib.suppress(Exception):  # not every format has every mode
                grey.convert(mode).save(stream, kind)
                found.append(stream.getvalue())
    for options in ({"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_adobe_deflate"}):
        stream = io.BytesIO()
        with contextlib.suppress(Exception):
            picture.save(stream, "TIFF", **options)
            found.append(stream.getvalue())
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        picture.save(
            stream, kind, exif=exif, icc_profile=b"profile" * 40, xmp=b"<x tiff:Orientation='6'/>", dpi=(72, 72)
        )
        found.append(stream.getvalue())
    for shape, dtype, kind in (
        ((9, 7, 3), np.uint16, "PNG"),
        ((9, 7, 2), np.uint16, "PNG"),
        ((9, 7, 4), np.uint16, "TIFF"),
        ((9, 7, 2), np.uint16, "TIFF"),
        ((9, 7, 3), np.float32, "TIFF"),
        ((9, 7, 1), np.float32, "TIFF"),
        *([((16, 24, 3), np.uint8, "HEIF")] if register_heif() else []),
    ):
        stream = io.BytesIO()
        encode(Picture(rng.integers(0, 200, shape).astype(dtype)), stream, kind)
        found.append(stream.getvalue())
    return found


def _read_picture(folder: Path, content: bytes) -> None:
    (folder / "f").write_bytes(content)
    open_picture(folder / "f")


def _read_mask(folder: Path, content: bytes) -> None:
    (folder / "f").write_bytes(content)
    mask_strength(folder / "f")


def _save_picture(folder: Path, content: bytes) -> None:
    """As a repair does: what the file says goes into another, in its own format and in JPEG."""
    (folder / "f").write_bytes(content)
    picture = open_picture(folder / "f")
    soft = np.zeros(picture.size, np.float32)
    soft[: max(1, picture.size[0] // 4), : max(1, picture.size[1] // 4)] = 1
    mended = composite(picture, np.zeros((*picture.size, 3), np.float32), soft)
    for name in ("out", "out.png", "out.jpg"):
        with contextlib.suppress(OutputError):  # an alpha, or another reason
            save_picture(fitted(mended, folder / name), folder / name, overwrite=True)


def _read_second(folder: Path, content: bytes) -> None:
    (folder / "f").write_bytes(content)
    open_picture(folder / "f", 2)


def _films() -> list[bytes]:
    """Files of two frames or pages."""
    rng, found = np.random.default_rng(0), []
    frames = [Image.fromarray(rng.integers(0, 4, (20, 24, 3), np.uint8) * 60) for _ in range(2)]
    for kind, mode in (("GIF", "RGB"), ("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "L"), ("WEBP", "RGBA"), ("PNG", "RGB")):
        stream = io.BytesIO()
        first, second = (frame.convert(mode) for frame in frames)
        first.save(stream, kind, save_all=True, append_images=[second])
        found.append(stream.getvalue())
    return found


def _journals() -> list[bytes]:
    mark = {"size": 3, "mtime_ns": None, "sha256": "a"}
    rows: list[dict[str, Any]] = [{"event": "settings", "id": "b", "settings": {"command": "inpaint", "seed": 0}}]
    for name in ("a.png", "sub/b.png"):
        rows.append({"event": "writing", "picture": name, "settings": "b", "input": mark, "mask": mark, "output": "c"})
        rows.append({"event": "done", "picture": name, "hole_share": 0.1})
    return ["".join(json.dumps(row) + "\n" for row in rows[:count]).encode() for count in (5, 4)]


def _read_journal(folder: Path, content: bytes) -> None:
    (folder / FOLDER).mkdir(exist_ok=True)
    (folder / FOLDER / JOURNAL).write_bytes(content)
    with Journal.opened(folder) as journal:
        tasks = [Task(name, folder / "a.png", None, folder / name) for name in ("a.png", "sub/b.png")]
        make_plan(Found(tasks), journal, {"command": "inpaint", "seed": 1}, overwrite=False)


def in_lines(content: bytes, rng: random.Random) -> bytes:
    """A change of the JSON in one line."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    return b"".join(line + b"\n" for line in [*lines[:at], in_json(lines[at], rng), *lines[at + 1 :]])


def _read_thumbnail(folder: Path, content: bytes) -> None:
    (folder / "f").write_bytes(content)
    open_thumbnail(folder / "f", 48)
    decode_thumbnail_of(content, "f", 48)


def _saved(write: Callable[[Path], object], name: str = "m.safetensors") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _model() -> Model:
    return Model.new(TINY, conditioning="plain", size=8)


def _read_model(folder: Path, content: bytes) -> None:
    (folder / "m.safetensors").write_bytes(content)
    load_model(folder / "m.safetensors")
    read_header(folder / "m.safetensors")


def _read_denoiser(folder: Path, content: bytes) -> None:
    (folder / "m.safetensors").write_bytes(content)
    load_denoiser(folder / "m.safetensors")


GUIDED = {"image_size": 8, "num_channels": 32, "num_res_blocks": 1, "channel_mult": "1", "num_head_channels": 32}
GUIDED |= {"use_new_attention_order": True}  # else weights are put into another order, which costs time alone


@cache
def _checkpoints() -> list[bytes]:
    """What torch.save writes, now and before 1.6, of weights that fit the description."""
    network = AdmUNet(guided.config_of(guided.DEFAULTS | GUIDED))
    layers = name_layers(network, guided.places(network.config), guided.PARTS)
    weights = {name: value.half() for name, value in to_theirs(network, layers).items()}
    found = []
    for zipped_ in (True, False):
        stream = io.BytesIO()
        torch.save(weights, stream, _use_new_zipfile_serialization=zipped_)
        found.append(stream.getvalue())
    return found


def _read_checkpoint(folder: Path, content: bytes) -> None:
    (folder / "m.pt").write_bytes(content)
    import_model(folder / "m.pt", architecture=folder / "a.json")


def _prepare_checkpoint(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps(GUIDED))


def _read_description(folder: Path, content: bytes) -> None:
    (folder / "a.json").write_bytes(content)
    import_model(folder / "m.pt", architecture=folder / "a.json")


def _prepare_description(folder: Path) -> None:
    (folder / "m.pt").write_bytes(_checkpoints()[0])


def _prepare_pipeline(folder: Path) -> None:
    export_model(_model(), folder / "pipeline")


def _pipeline_file(name: str) -> tuple[list[bytes], Callable[[Path, bytes], None]]:
    def run(folder: Path, content: bytes) -> None:
        before = (folder / "pipeline" / name).read_bytes()
        (folder / "pipeline" / name).write_bytes(content)
        try:
            import_model(folder / "pipeline")
        finally:
            (folder / "pipeline" / name).write_bytes(before)

    with tempfile.TemporaryDirectory() as folder:
        _prepare_pipeline(Path(folder))
        return [(Path(folder) / "pipeline" / name).read_bytes()], run


def _archives() -> list[bytes]:
    """CIFAR-10 of two pictures a batch, in both layouts, packed."""
    found = []
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), np.uint8)
    for suffix in (".bin", ""):
        binary = b"".join(bytes([1]) + row.tobytes() for row in pixels)
        content = binary if suffix else pickle.dumps({b"data": pixels, b"labels": [1, 2]}, 2)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name in BATCHES:
                info = tarfile.TarInfo(f"cifar/{name}{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        found.append(stream.getvalue())
    return found


def _read_archive(folder: Path, content: bytes) -> None:
    (folder / "a.tar.gz").write_bytes(content)
    read_pictures(folder / "a.tar.gz", records=2)


def _read_pickle(_: Path, content: bytes) -> None:
    with contextlib.suppress(RefusedPickle):
        load_plain(content)


def _tars() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
            for i, content in enumerate(_pictures()[:3]):
                name = f"{i}.png" if form == tarfile.USTAR_FORMAT else "n" * 120 + f"ä{i}.png"
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        found.append(stream.getvalue())
    return found


def _read_shard(folder: Path, content: bytes) -> None:
    (folder / "s.tar").write_bytes(content)
    for file in (folder / "cache").glob("*"):
        file.unlink()
    pictures = Shards(str(folder / "s.tar"), 24, folder / "cache", None).split(0, False)
    if len(pictures):
        with contextlib.redirect_stderr(io.StringIO()):
            pictures[0]


def _prepare_cache(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.png").write_bytes(_pictures()[0])


def _cache(folder: Path) -> PictureCache:
    return PictureCache(folder / "photos", 24, folder / "cache", None)


def _cache_index() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        _prepare_cache(Path(name))
        return [_cache(Path(name)).index_file.read_bytes()]


def _read_cache(folder: Path, content: bytes) -> None:
    _cache(folder).index_file.write_bytes(content)
    pictures = _cache(folder).split(0, False)
    if len(pictures):
        pictures[0]


def _shard_index() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "s.tar").write_bytes(_tars()[0])
        return [Shards(str(Path(name) / "s.tar"), 24, Path(name), None).index_file.read_bytes()]


def _read_shard_index(folder: Path, content: bytes) -> None:
    (folder / "s.tar").exists() or (folder / "s.tar").write_bytes(_tars()[0])
    Shards(str(folder / "s.tar"), 24, folder / "cache", None).index_file.write_bytes(content)
    pictures = Shards(str(folder / "s.tar"), 24, folder / "cache", None).split(0, False)
    if len(pictures):
        with contextlib.redirect_stderr(io.StringIO()):
            pictures[0]


def _states() -> list[bytes]:
    meta = {"step": 3, "seconds": 1.0, "held_out": None, "loss": 0.5, "identity": {"a": 1}}
    return [b"".join(sealed({"network.a": torch.ones(4)}, {"pixmend-state": json.dumps(meta)}))]


class _State:
    def __init__(self) -> None:
        self.identity = {"a": 1}

    def restore(self, tensors: Any) -> None:
        torch.ones(4).copy_(tensors["network.a"])


def _read_state(folder: Path, content: bytes) -> None:
    run = RunFolder(folder)
    run.state_file.write_bytes(content)
    with contextlib.suppress(DamagedError):
        unsealed(run.state_file, "pixmend-state")
    with contextlib.suppress(DamagedError):
        run._fill(_State(), run.state_file)  # type: ignore[arg-type]


def _plain(run: Callable[[Path, bytes], None], seeds: Callable[[], list[bytes]], *changes: Change) -> Make:
    return lambda: Loader(seeds(), run, list(changes))


def _pipeline(name: str, change: Change) -> Make:
    def make() -> Loader:
        seeds, run = _pipeline_file(name)
        return Loader(seeds, run, [change], _prepare_pipeline)

    return make


def _model_files() -> list[bytes]:
    return [_saved(lambda path: save_model(path, _model())), save({"a": torch.ones(2)}, {"pixmend": "{}"})]


def _denoiser_files() -> list[bytes]:
    denoiser = Denoiser.new("scaled", shape=TINY, size=8)
    return [_saved(lambda path: save_denoiser(path, denoiser))]


def _pickles() -> list[bytes]:
    batch = pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2], b"x": ("a", 1.5, None)}, 2)
    return [batch, pickle.dumps([1, "a", {"b": b"c"}], 4)]


def _descriptions() -> list[bytes]:
    return [json.dumps(GUIDED).encode()]


LOADERS: dict[str, Make] = {
    "pictures": _plain(_read_picture, _pictures, any_bytes, png),
    "saved": _plain(_save_picture, _pictures, any_bytes, png),
    "second-frames": _plain(_read_second, _films, any_bytes, png),
    "masks": _plain(_read_mask, _pictures, any_bytes, png),
    "thumbnails": _plain(_read_thumbnail, _pictures, any_bytes, png),
    "models": _plain(_read_model, _model_files, safetensors),
    "denoisers": _plain(_read_denoiser, _denoiser_files, safetensors),
    "checkpoints": lambda: Loader(_checkpoints(), _read_checkpoint, [zipped, pickled], _prepare_checkpoint),
    "descriptions": lambda: Loader(_descriptions(), _read_description, [in_json], _prepare_description),
    "pipeline-configs": _pipeline("unet/config.json", in_json),
    "pipeline-schedulers": _pipeline("scheduler/scheduler_config.json", in_json),
    "pipeline-indices": _pipeline("model_index.json", in_json),
    "pipeline-weights": _pipeline("unet/diffusion_pytorch_model.safetensors", safetensors),
    "cifar-archives": _plain(_read_archive, _archives, gzipped(tar), gzipped(any_bytes), gzipped(pickled)),
    "pickles": _plain(_read_pickle, _pickles, pickled),
    "tar-shards": _plain(_read_shard, _tars, tar, any_bytes),
    "shard-indices": _plain(_read_shard_index, _shard_index, resealed(any_bytes)),
    "picture-caches": lambda: Loader(_cache_index(), _read_cache, [resealed(in_json)], _prepare_cache),
    "journals": _plain(_read_journal, _journals, in_lines),
    "states": _plain(_read_state, _states, stated),
}
