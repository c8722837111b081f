"""Pictures and masks on disk, in a private folder, within a budget; what nobody asks for goes first.

Samples lie there as plain arrays that are mapped into memory where they are needed, so that a hundred pictures cost
no more memory than the part that is looked at. A result that is painted on is the same samples: nothing is encoded
in between. Beside them lies the file that they came from, which is looked into again when a result is saved: how it was
encoded, and its metadata, go along.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixmend.decoding import decode_file
from pixmend.encoding import FORMATS
from pixmend.errors import OutputError, PixmendError
from pixmend.files import errors_as_one_line
from pixmend.images import Picture, check_savable, save_picture
from pixmend.locks import RUN_LOCK, holder, locked
from pixmend.pictures import Original
from pixmend.views import View
from pixmend.web.errors import GoneError, UnknownError
from pixmend.web.limits import MOST_NAME, Limits

PREFIX = "pixmend-serve-"  # of the folder's name
FORGOTTEN = 10_000  # ids that are remembered as expired
ADVICE = "free some space on the server"


@dataclass(eq=False)
class Stored:
    """One picture, one mask, or one view of a picture on its way, of one session."""

    id: str
    owner: str
    name: str  # as people call it; never part of a path
    folder: Path
    shell: Picture | None  # the picture but for its samples and most of the file they came from; None for what is none
    size: tuple[int, int]  # (H, W)
    bytes: int = 0
    used: float = field(default_factory=time.monotonic)
    pins: int = 0  # jobs that need it
    media_type: str = "image/png"  # of a view
    lacking: bool = False  # whether the picture tells by its samples, not by alpha, what was not measured
    kept: bool = False  # shown to its owner by its id; else part of a job, gone with it
    lock: threading.Lock = field(default_factory=threading.Lock)

    def picture(self) -> Picture:
        """The picture, its samples mapped from the disk."""
        if self.shell is None:
            raise UnknownError(f"{self.id} is a mask; give the id of a picture")
        try:
            samples = np.load(self.folder / "samples.npy", mmap_mode="r").view(np.ndarray)
        except FileNotFoundError:
            raise _gone(self.id) from None
        return replace(self.shell, samples=samples)

    def hole(self) -> NDArray[np.bool_]:
        """The hole of a mask, (H, W)."""
        if self.shell is not None:
            raise UnknownError(f"{self.id} is a picture; give the id of a mask")
        try:
            packed = np.load(self.folder / "hole.npy")
        except FileNotFoundError:
            raise _gone(self.id) from None
        return np.unpackbits(packed, count=self.size[0] * self.size[1]).reshape(self.size).astype(np.bool_)

    def file(self) -> Path:
        """The picture as `save_picture` writes it, in the format that it came in; made when it is first asked for."""
        with self.lock:
            path = self.folder / f"file{PurePath(self.name).suffix.lower()}"
            if not path.exists():
                try:
                    save_picture(_as_saved(self.picture(), self.source), path)
                except PixmendError as error:  # where it lies here is nobody's business
                    raise type(error)(str(error).replace(str(path), self.name)) from None
                self.bytes += path.stat().st_size
        return path

    @property
    def source(self) -> Path:
        """The file that the picture came from, or the one that it was made of."""
        return self.folder / "source"

    def view(self) -> View:
        """A view that was stored."""
        try:
            return View((self.folder / "view").read_bytes(), self.media_type)
        except FileNotFoundError:
            raise _gone(self.id) from None


class Store:
    """All that is stored, by id. Its methods may be called from any thread."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        parent = Path(tempfile.gettempdir())
        with errors_as_one_line(parent, ADVICE):
            self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # for this user alone: 0700
            self.holding = ExitStack()
            own = self.holding.enter_context(locked(self.root / RUN_LOCK))
        if own.guarded:  # where there are no locks, nobody can tell a server that runs from one that was killed
            remove_leftovers(parent)
        self.lock = threading.Lock()
        self.stored: OrderedDict[str, Stored] = OrderedDict()
        self.forgotten: OrderedDict[str, None] = OrderedDict()
        self.left: set[Path] = set()  # folders to be removed still: Windows removes nothing that is open or mapped

    @property
    def size(self) -> int:
        """How many bytes lie on the disk."""
        with self.lock:
            return sum(stored.bytes for stored in self.stored.values())

    def __len__(self) -> int:
        return len(self.stored)

    @contextmanager
    def incoming(self, upload: BinaryIO) -> Iterator[Path]:
        """An upload as a file in a private folder, for a moment."""
        with errors_as_one_line(self.root, ADVICE):
            self.root.mkdir(mode=0o700, exist_ok=True)  # some systems clean up what lies about for days
            folder = Path(tempfile.mkdtemp(dir=self.root))
        try:
            path = folder / "upload"
            with errors_as_one_line(path, ADVICE), path.open("wb") as file:
                shutil.copyfileobj(upload, file, 1 << 20)
            yield path
        finally:
            with self.lock:
                self._clear(folder)

    def add_picture(self, picture: Picture, owner: str, name: str, source: Path, *, kept: bool) -> Stored:
        """Store a picture and the file that it came from.

        name: is given the suffix of the format that the picture can be saved in.
        """
        shell = replace(picture, samples=picture.samples[:1, :1].copy(), original=_lightened(picture.original))
        named = _as_saved(picture, source) if picture.format == "GIF" else picture  # its palette is in its file alone
        stored = self._new(owner, savable_name(named, name), shell, picture.size)
        stored.kept = kept
        stored.lacking = not picture.has_alpha and bool(picture.lacking().any())

        def write() -> None:
            np.save(stored.folder / "samples.npy", picture.samples)
            try:
                os.link(source, stored.source)
            except OSError:  # file systems without hard links
                shutil.copyfile(source, stored.source)

        return self._add(stored, picture.samples.nbytes + source.stat().st_size, write)

    def add_hole(self, hole: NDArray[np.bool_], owner: str) -> Stored:
        """Store the hole of a mask, (H, W)."""
        height, width = hole.shape
        stored = self._new(owner, "mask.png", None, (height, width))
        stored.kept = True
        packed = np.packbits(hole)
        return self._add(stored, packed.nbytes, lambda: np.save(stored.folder / "hole.npy", packed))

    def add_view(self, view: View, owner: str) -> Stored:
        """Store what a picture looks like on its way."""
        stored = self._new(owner, "view", None, (0, 0))
        stored.media_type = view.media_type
        return self._add(stored, len(view.data), lambda: (stored.folder / "view").write_bytes(view.data))

    def get(self, id: str, owner: str) -> Stored:
        """What has this id and this owner; raises GoneError where it was there once, and UnknownError else."""
        with self.lock:
            stored = self.stored.get(id)
            if stored is None and id in self.forgotten:
                raise _gone(id)
            if stored is None or stored.owner != owner or not stored.kept:
                raise UnknownError("no picture or mask of yours has this id; upload it (again)")
            self._touch(stored)
            return stored

    def touch(self, stored: Stored) -> None:
        """Note that somebody asked for it; raises GoneError where it is no longer there."""
        with self.lock:
            if stored.id not in self.stored:
                raise _gone(stored.id)
            self._touch(stored)

    def hold(self, *needed: Stored) -> None:
        """Let nothing of this go until it is released."""
        with self.lock:
            for stored in needed:
                stored.pins += 1

    def release(self, *needed: Stored) -> None:
        """Let it go when its time comes."""
        with self.lock:
            for stored in needed:
                stored.pins -= 1

    def remove(self, stored: Stored) -> None:
        """Forget it, and clean up."""
        with self.lock:
            self._remove(stored)

    def file(self, stored: Stored) -> Path:
        """`stored.file()`; what lies longest unused makes room for it."""
        self.hold(stored)
        try:
            path = stored.file()
            with self.lock, suppress(OutputError):  # the file is there: nobody is refused what was made
                self._make_room(0)
        finally:
            self.release(stored)
        return path

    def sweep(self) -> None:
        """Forget what nobody asked for in a long time."""
        oldest = time.monotonic() - self.limits.keep_seconds
        with self.lock:
            for stored in [s for s in self.stored.values() if s.used < oldest and not s.pins]:
                self._remove(stored)
            for folder in tuple(self.left):
                self._clear(folder)

    def close(self) -> None:
        """Remove everything."""
        with self.lock:
            self.stored.clear()
            self.holding.close()
            _remove_root(self.root)

    def _new(self, owner: str, name: str, shell: Picture | None, size: tuple[int, int]) -> Stored:
        id = secrets.token_urlsafe(16)
        return Stored(id, owner, name, self.root / id, shell, size)

    def _add(self, stored: Stored, bytes: int, write: Callable[[], object]) -> Stored:
        stored.bytes = bytes
        with self.lock:
            self._make_room(bytes)
            stored.pins += 1  # while it is written
            self.stored[stored.id] = stored  # its room is taken from now on
        try:
            with errors_as_one_line(Path(stored.name), ADVICE):
                stored.folder.mkdir(mode=0o700)
                write()
        except BaseException:
            self.remove(stored)
            raise
        finally:
            self.release(stored)
        return stored

    def _make_room(self, bytes: int) -> None:
        free = self.limits.disk_bytes - sum(stored.bytes for stored in self.stored.values()) - bytes
        for stored in [stored for stored in self.stored.values() if not stored.pins]:  # the longest unused first
            if free >= 0:
                return
            free += stored.bytes
            self._remove(stored)
        if free < 0:
            raise OutputError("the room for pictures is used up by jobs that wait; try again when some are done")

    def _touch(self, stored: Stored) -> None:
        stored.used = time.monotonic()
        self.stored.move_to_end(stored.id)

    def _remove(self, stored: Stored) -> None:
        if self.stored.pop(stored.id, None) is None:
            return
        self._clear(stored.folder)
        self.forgotten[stored.id] = None
        if len(self.forgotten) > FORGOTTEN:
            self.forgotten.popitem(last=False)

    def _clear(self, folder: Path) -> None:
        """Remove a folder, or what can be removed of it; `sweep` tries again."""
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            self.left.add(folder)
        else:
            self.left.discard(folder)


def remove_leftovers(parent: Path) -> None:
    """Remove the folders of servers that were killed: nobody holds their locks any more."""
    with suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            lock = folder / RUN_LOCK
            if lock.exists() and os.access(folder, os.W_OK) and holder(lock) is None:
                _remove_root(folder)


def _remove_root(root: Path) -> None:
    """Remove a server's folder. Where something is left of it, so is its lock, by which the next server finds it."""
    shutil.rmtree(root, ignore_errors=True)
    with suppress(OSError):  # it is gone
        (root / RUN_LOCK).touch()


def savable_name(picture: Picture, name: str) -> str:
    """A name with a suffix that says what the picture will be saved as: the format it came in, or PNG, or TIFF."""
    path = PurePath(clean_name(name))
    other = ".tiff" if picture.is_float else ".png"
    usual = next((suffix for suffix, format in FORMATS.items() if format == picture.format), other)
    suffix = path.suffix if FORMATS.get(path.suffix.lower()) == picture.format else usual
    try:
        check_savable(picture, f"picture{suffix}")
    except PixmendError:
        suffix = other
    return f"{path.stem}{suffix}"


def _lightened(original: Original | None) -> Original | None:
    """What a job must know of what was read: not the samples, which stay on the disk; all count as changed."""
    if original is None:
        return None
    nothing = np.empty((*original.samples.shape[:2], 0), original.samples.dtype)
    return replace(original, samples=nothing, stored=None, palette=None, colour_map=None, icc_profile=None, jpeg=None)


def _as_saved(picture: Picture, source: Path) -> Picture:
    """The picture with all that its file tells; its metadata stays as a job left it."""
    light, read = picture.original, decode_file(source).original
    if light is None or read is None:
        return picture
    return replace(picture, original=replace(read, metadata=light.metadata))


def clean_name(name: str | None) -> str:
    """The last part of a path of any system, as one line of printable characters."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    last = "".join(c for c in last if c.isprintable() and c not in '"<>:|?*').strip(". ")
    stem, dot, suffix = last.rpartition(".")
    return f"{stem[:MOST_NAME]}.{suffix[:10]}" if dot and stem else last[:MOST_NAME] or "picture"


def _gone(id: str) -> GoneError:
    return GoneError(f"{id} has expired; upload the picture again, or repeat the job")
