"""What is kept of networks that were compiled: files in the user's cache folder, which may be deleted at any time.

Every file begins with the SHA-256 of what follows. A damaged one is as good as none: it never reaches the library that
would read it, and which need not be prepared for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from pixmend.checkpoint import Model
from pixmend.errors import PixmendError
from pixmend.files import user_cache_folder, write_atomically
from pixmend.locks import locked

DIGEST = 32  # bytes of a SHA-256
LARGEST = 1 << 30  # bytes of all files together; those that were not used for longest go first
# What the networks compute is written here; with an architecture and weights that stay, it may change as well.
CODE = tuple(Path(__file__).parents[1] / name for name in ("unet.py", "adm.py", "channels_last.py"))


def cached_name(model: Model, **others: object) -> str:
    """A name that changes with the weights, the architecture, and whatever else the compiled network depends on."""
    digest = hashlib.sha256()
    parts: dict[str, Any] = {"architecture": model.header["architecture"], **others}
    digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
    for path in CODE:
        digest.update(path.read_bytes())
    for name, value in model.network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def folder() -> Path:
    """Where the files are."""
    return user_cache_folder() / "networks"


def read_cached(name: str) -> bytes | None:
    """What was kept under a name; None where there is nothing, or nothing whole."""
    try:
        path = folder() / name
        content = path.read_bytes()
    except (OSError, PixmendError):
        return None
    if hashlib.sha256(memoryview(content)[DIGEST:]).digest() != content[:DIGEST]:
        return None
    with suppress(OSError):
        os.utime(path)  # used now
    return content[DIGEST:]


def write_cached(files: Mapping[str, bytes]) -> bool:
    """Keep files that belong together, name -> content, and say whether they are kept.

    They are not where the folder cannot be written to: the network is compiled again next time.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _write(folder() / name, content)
        _make_room(files)
    except (OSError, PixmendError):
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).digest()
    write_atomically(path, lambda stream: (stream.write(digest), stream.write(content)), overwrite=True)


def _make_room(new: Collection[str]) -> None:
    """Remove what was not used for longest; what is new stays, whatever its size."""
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder().iterdir() if path.is_file()]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LARGEST:
            return
        if path.name not in new:
            path.unlink()
            total -= size


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Keep other processes and threads out that would make what this one makes; not where nothing can be written."""
    with ExitStack() as stack:
        with suppress(OSError, PixmendError):
            folder().mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder() / f"{name}.lock", waiting=lambda: None))
        yield
