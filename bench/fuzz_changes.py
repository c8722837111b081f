"""How `fuzz.py` changes files: anywhere in their bytes, or by what their format means."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from pixmend.picture_cache import seal

NUMBERS = (0, 1, -1, 2, 255, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, 10**9, 10**30, 0.5, 1e308, float("nan"))
VALUES = (*NUMBERS, None, True, "", "x", "../../x", "/etc/passwd", [], {}, [[]], [10**9] * 3, {"a": 1}, "a" * 5000)

Change = Callable[[bytes, random.Random], bytes]


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
