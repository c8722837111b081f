"""Files for the tests of pictures, many of them made by hand: what Pillow cannot write, and damage."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.default_rng


def noise(*shape: int, seed: int = 0, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> NDArray[np.uint8]:
    """Samples of all values."""
    samples: NDArray[np.uint8] = RNG(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return samples


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    depth: int,
    colour_type: int,
    rows: bytes,
    before: Iterable[tuple[bytes, bytes]] = (),
    after: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of packed rows (without filter bytes), with chunks before and after its samples."""
    stride = max(1, len(rows) // max(1, height))
    filtered = b"".join(b"\0" + rows[i : i + stride] for i in range(0, len(rows), stride))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
        + b"".join(chunk(*c) for c in before)
        + chunk(b"IDAT", zlib.compress(filtered))
        + b"".join(chunk(*c) for c in after)
        + chunk(b"IEND", b"")
    )


def exif_block(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block as a camera writes it: a maker, the orientation, a maker note, and a thumbnail behind it.

    Note and thumbnail are found by offsets, and break where the block is written anew.
    """
    code = {3: "HH", 4: "I"}[kind]
    value = struct.pack(order + code, *((orientation, 0) if kind == 3 else (orientation,)))
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    # IFD0 at 8: 3 entries (2 + 36 + 4 bytes), so data from 50
    ifd0 = struct.pack(order + "H", 3)
    ifd0 += struct.pack(order + "HHII", 0x010F, 2, 6, 50)  # Make
    ifd0 += struct.pack(order + "HHI", 0x0112, kind, 1) + value  # Orientation
    ifd0 += struct.pack(order + "HHII", 0x8769, 4, 1, 56)  # the EXIF directory
    ifd0 += struct.pack(order + "I", 100)  # the second directory
    maker = b"Maker\0"
    exif = struct.pack(order + "H", 1) + struct.pack(order + "HHII", 0x927C, 7, 26, 74) + struct.pack(order + "I", 0)
    note = b"note at offset 74 of block"
    ifd1 = struct.pack(order + "H", 2)
    ifd1 += struct.pack(order + "HHII", 0x0201, 4, 1, 130) + struct.pack(order + "HHII", 0x0202, 4, 1, 9)
    ifd1 += struct.pack(order + "I", 0)
    return head + ifd0 + maker + exif + note + ifd1 + b"thumbnail"


def tiff(*pages: tuple[NDArray[Any], dict[int, Any]]) -> bytes:
    """A TIFF of pages, each of samples (H, W) or (H, W, C), and tags beside those that its size and type ask for.

    Texts become ASCII, bytes undefined ones, tuples of floats doubles, whole numbers shorts. Samples (H, W) of bools
    have one bit.
    """
    out, link = bytearray(b"II*\0\0\0\0\0"), 4
    for samples, more in pages:
        height, width, channels = (*samples.shape, 1)[:3]
        is_bits = samples.dtype == np.bool_
        bits = (1 if is_bits else 8 * samples.dtype.itemsize,) * channels
        data = (np.packbits(samples, axis=1) if is_bits else samples).tobytes()
        tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1 if channels == 1 else 2, 277: channels}
        tags |= {278: height, 339: ({"f": 3, "i": 2}.get(samples.dtype.kind, 1),) * channels} | more
        struct.pack_into("<I", out, link, len(out))
        entries = sorted({**tags, 273: 0, 279: 0}.items())
        at = len(out) + 2 + 12 * len(entries) + 4  # of what does not fit into an entry
        head, rest = struct.pack("<H", len(entries)), b""
        values = {}
        for tag, value in entries:
            if isinstance(value, str):
                kind, count, packed = 2, len(value.encode()) + 1, value.encode() + b"\0"
            elif isinstance(value, bytes):
                kind, count, packed = 7, len(value), value
            else:
                numbers = value if isinstance(value, tuple) else (value,)
                kind, code = (12, "d") if isinstance(numbers[0], float) else (3, "H")
                count, packed = len(numbers), struct.pack(f"<{len(numbers)}{code}", *numbers)
            values[tag] = kind, count, packed
        behind = at + sum(len(packed) + len(packed) % 2 for _, _, packed in values.values() if len(packed) > 4)
        values[273], values[279] = (4, 1, struct.pack("<I", behind)), (4, 1, struct.pack("<I", len(data)))
        for tag, (kind, count, packed) in values.items():
            place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", at + len(rest))
            head += struct.pack("<HHI", tag, kind, count) + place
            rest += packed + b"\0" * (len(packed) % 2) if len(packed) > 4 else b""
        link = len(out) + len(head)
        out += head + bytes(4) + rest + data + b"\0" * (len(data) % 2)
    return bytes(out)


def written(tmp_path: Path, data: bytes, name: str = "picture.png") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def saved(tmp_path: Path, image: Image.Image, file_format: str, **options: Any) -> Path:
    path = tmp_path / f"picture.{file_format.lower()}"
    image.save(path, file_format, **options)
    return path


def several_frames(file_format: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(noise(8, 8, 3, seed=i)) for i in range(3)]
    frames[0].save(stream, file_format, save_all=True, append_images=frames[1:])
    return stream.getvalue()
