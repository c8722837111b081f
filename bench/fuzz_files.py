"""What `fuzz.py` throws: for every reader of files some valid ones, how they are changed, and how they are read."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from fuzz_changes import (
    Change,
    any_bytes,
    gzipped,
    in_json,
    pickled,
    png,
    resealed,
    safetensors,
    stated,
    tar,
    zipped,
)
from pixmend.adapters import export_model, guided, import_model
from pixmend.adapters.mapping import name_layers, to_theirs
from pixmend.adm import AdmUNet
from pixmend.checkpoint import Model, load_model, read_header, save_model
from pixmend.denoising.cifar import BATCHES, read_pictures
from pixmend.denoising.model_file import Denoiser, load_denoiser, save_denoiser
from pixmend.denoising.unpickling import RefusedPickle, load_plain
from pixmend.efforts import effort_for
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
from pixmend.picture_cache import PictureCache
from pixmend.pictures import Picture
from pixmend.run_folder import RunFolder
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.sealed import DamagedError, sealed, unsealed
from pixmend.shards import Shards
from pixmend.unet import UNetConfig

TINY = UNetConfig(in_channels=3, channels=(4, 4), attention=(False, True), head_channels=4, time_channels=4, groups=2)


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
    model = load_model(folder / "m.safetensors")
    read_header(folder / "m.safetensors")
    x, t = torch.zeros(1, model.network.config.in_channels, 8, 8), torch.zeros(1)
    with torch.no_grad():
        model.network(x, t)  # what is read can be used
    effort_for("balanced", model)
    times = step_subset(model.diffusion.T, min(2, model.diffusion.T))
    SAMPLERS[model.sampler](lambda x, t: x, x[:, :3], times, model.diffusion, noise=torch.zeros_like)


def _read_denoiser(folder: Path, content: bytes) -> None:
    (folder / "m.safetensors").write_bytes(content)
    denoiser = load_denoiser(folder / "m.safetensors")
    with torch.no_grad():
        denoiser.network(torch.zeros(1, 3, 8, 8), torch.ones(1))


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
