"""Reading tar archives that anybody may have written: their plain files, one after the other, and nothing else.

Nothing is ever extracted: no name in an archive becomes a path here. Python's tarfile follows what a header claims; so
what it may read at once is bounded, and it is seen that it moves on (a negative size sends it back for ever, as in
CVE-2025-8194, where it is not mended).
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from typing import Protocol

MOST_AT_ONCE = 1 << 20  # bytes: a header of an extension, such as a long name, is a few hundred
BLOCK = 512  # bytes, of which an archive is made
Reason = Callable[[str], None]


class Stream(Protocol):
    """What is needed of a file that is open to be read."""

    def read(self, count: int, /) -> bytes:
        """At most so many bytes."""

    def seek(self, place: int, /) -> int:
        """Go to a place."""

    def tell(self) -> int:
        """The place."""


class BrokenArchiveError(ValueError):
    """The archive is cut short, damaged, or none; the message says which."""


def plain_members(stream: Stream, left_out: Reason = lambda text: None) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive, in their order, with the places of their contents in the stream (`offset_data`).

    stream: the archive, not compressed, or a file object that decompresses it; it can be read elsewhere meanwhile.
    left_out(text) is told of each member that is something else (a link, a device, a sparse file) or whose name leads
    out of a folder. Raises BrokenArchiveError where the archive is damaged or cut short, after all members before that.
    """
    before, bounded = -1, _Bounded(stream)
    try:
        with tarfile.open(fileobj=bounded, mode="r:") as archive:  # type: ignore[call-overload]
            for member in archive:
                archive.members = []  # else it keeps them all
                if member.size < 0 or archive.offset <= before:
                    raise BrokenArchiveError("a header in it claims an impossible size")
                before = archive.offset
                if reason := _refused(member):
                    left_out(f"{printable(member.name)}: {reason}")
                elif member.isfile():
                    yield member
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
        if isinstance(error, BrokenArchiveError):
            raise
        raise BrokenArchiveError(f"it is damaged, cut short or no tar archive ({printable(str(error))})") from error
    if bounded.last != bytes(BLOCK):  # tarfile takes damage in the middle for the end
        raise BrokenArchiveError("it breaks off without an end mark, or is damaged")


def printable(text: str) -> str:
    """A name or message from an archive as one short line, whatever it holds."""
    return "".join(c if c.isprintable() else "?" for c in text)[:100]


def _refused(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link, which is not followed"
    if not (member.isfile() or member.isdir()):
        return "a device or pipe"
    if member.issparse():
        return "a sparse file"
    if member.name.startswith(("/", "\\")) or ".." in member.name.replace("\\", "/").split("/") or "\0" in member.name:
        return "its name leads out of the archive's folder"
    return None


class _Bounded:
    """A stream that does not read everything because a header says so."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell
        self.last = b""  # what was read last

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MOST_AT_ONCE:
            raise BrokenArchiveError("a header in it claims an impossible size")
        self.last = self._stream.read(count)
        return self.last
