"""What is seen of a pickle before torch reads it: torch runs nothing of it, but can be kept busy for ever.

A tuple of two tuples of two tuples, sixty times over, takes a few bytes, for each refers to the one before; as the key
of a dictionary it has to be hashed, and that visits 2^60 values. Weights have keys that are names.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO

MOST_VALUES = 1000  # in one value, lists and dictionaries left out; of a tensor there are about twenty
LARGEST_PICKLE = 64 << 20  # bytes
ZIP_BEGINS = b"PK\x03\x04"  # by which torch tells; others find a zip anywhere in a file
LEGACY_PICKLES = 5  # one after the other, before the storages, in files of torch before 1.6
GROWING = {"SETITEM", "SETITEMS", "APPEND", "APPENDS", "BUILD", "ADDITEMS"}  # leave what they change on the stack


def check_pickles(path: Path) -> None:
    """Raise ValueError for a file of torch.save that could take for ever, or all memory, to be read."""
    with open(path, "rb") as stream:
        if stream.read(len(ZIP_BEGINS)) != ZIP_BEGINS:
            stream.seek(0)
            for _ in range(LEGACY_PICKLES):
                check_pickle(stream)
            return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its entries are compressed, which torch.save never does")
            if entry.filename.endswith(".pkl"):
                if entry.file_size > LARGEST_PICKLE:
                    raise ValueError(f"its pickle has {entry.file_size} bytes")
                with archive.open(entry) as stream:
                    check_pickle(stream)


def check_pickle(stream: IO[bytes]) -> None:
    """Go through one pickle, with the number of values in each thing in place of the thing."""
    stack: list[int | None] = []  # None is a mark
    memo: dict[object, int] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        taken: list[int] = []
        if pickletools.markobject in opcode.stack_before:
            while (top := stack.pop()) is not None:
                taken.append(top)
        before = [kind for kind in opcode.stack_before if kind not in (pickletools.markobject, pickletools.stackslice)]
        for _ in before:
            top = stack.pop()
            if top is None:
                raise ValueError("its pickle is damaged")
            taken.append(top)
        if opcode.name in GROWING:
            stack.append(taken[-1])
        elif opcode.name == "MARK":
            stack.append(None)
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name == "DUP":
            stack += taken * 2
        elif opcode.stack_after:
            stack.append(1 + sum(taken))
            if 1 + sum(taken) > MOST_VALUES and opcode.name not in ("LIST", "DICT"):
                raise ValueError("its pickle holds tuples within tuples, which are no weights")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if opcode.name == "MEMOIZE" else argument] = stack[-1] or 0
