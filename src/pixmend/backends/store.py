"""What is kept of networks that were compiled: files in the user's cache folder, which may be deleted at any time.

Every file begins with the SHA-256 of what follows. A damaged one is as good as none: it never reaches the library that
would read it, and which need not be prepared for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixmend.checkpoint import Model
from pixmend.errors import PixmendError
from pixmend.files import user_cache_folder, write_atomically

DIGEST = 32  # bytes of a SHA-256
LARGEST = 1 << 30  # bytes of all files together; those that were not used for longest go first


def cached_name(model: Model, **others: object) -> str:
    """A name that changes with the weights, the architecture, and whatever else the compiled network depends on."""
    digest = hashlib.sha256()
    parts: dict[str, Any] = {"architecture": model.header["architecture"], **others}
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    for name, value in model.network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def folder() -> Path:
    """Where the files are."""
    return user_cache_folder() / "networks"


def read_cached(name: str) -> bytes | None:
    """What was kept under a name; None where there is nothing, or nothing whole."""
    path = folder() / name
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(memoryview(content)[DIGEST:]).digest() != content[:DIGEST]:
        return None
    with suppress(OSError):
        os.utime(path)  # used now
    return content[DIGEST:]


def write_cached(name: str, content: bytes) -> None:
    """Keep a file. Where the folder cannot be written to, nothing is kept: the network is compiled again next time."""
    with suppress(OSError, PixmendError):
        folder().mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(content).digest()
        write_atomically(folder() / name, lambda stream: (stream.write(digest), stream.write(content)), overwrite=True)
        _make_room()


def _make_room() -> None:
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder().iterdir() if path.is_file()]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files)[:-1]:  # the newest stays, whatever its size
        if total <= LARGEST:
            return
        path.unlink()
        total -= size
