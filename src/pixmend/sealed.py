"""A safetensors file that knows whether it is still what was written: a checksum of all its bytes in its header."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

OPEN, SEAL = b'"crc32":"00000000"', b'"crc32":"%08x"'  # the sum as it stands in the header; it counts as zero itself


class DamagedError(Exception):
    """The file is not what was written; the message says what is wrong with it."""


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The pieces of a file, to be written one after the other. CRC-32 is for accidents; it keeps out no forger.

    The sum is of the whole file and not of the tensors alone: a step number that is off by one bit is as bad.
    """
    content = save(dict(tensors), {**metadata, "crc32": "00000000"})
    at = content.index(OPEN)
    view = memoryview(content)  # the pieces are no copies
    return [view[:at], SEAL % zlib.crc32(content), view[at + len(OPEN) :]]


def unsealed(file: Path, key: str) -> tuple[str, dict[str, Tensor]]:
    """The metadata's `key` and the tensors of a sealed file, or of one written before there were seals.

    The file is read and not mapped: where a disk fails under a map, the process ends with SIGBUS and says nothing.
    Raises DamagedError for everything that is wrong with it.
    """
    try:
        content = file.read_bytes()
        if not content:
            raise DamagedError("it is empty")
        (length,) = struct.unpack("<Q", content[:8])
        header = content[8 : 8 + length]
        metadata = json.loads(header)["__metadata__"]
        if metadata.keys() != {key} and not _seal_fits(content, 8 + header.index(OPEN[:9])):
            raise DamagedError("its checksum does not fit: it was changed, or the disk has failed")
        return metadata[key], load(content)
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from error
    except (SafetensorError, struct.error, LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise DamagedError("it is cut short, damaged or of another program") from error


def _seal_fits(content: bytes, at: int) -> bool:
    view = memoryview(content)
    before, seal, behind = view[:at], view[at : at + len(OPEN)], view[at + len(OPEN) :]
    return bytes(seal) == SEAL % zlib.crc32(behind, zlib.crc32(OPEN, zlib.crc32(before)))
