"""JPEG files changed in place: blocks without a changed pixel keep their DCT coefficients exactly.

A decoded and encoded JPEG is another picture everywhere, a little worse each time. So the coefficients are read, those
of the blocks that a change touches are made anew with the file's own quantisation tables, and all are written back.
Coefficients are read and written by jpeglib (the extra `jpeg`), which wraps the IJG's libjpeg and its kin.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmend import platforms
from pixmend.jpeg_segments import adobe_transform, bare, is_rgb
from pixmend.pictures import Samples

Blocks = NDArray[np.float32]  # (..., 8, 8)

# JPEG's colours: JFIF 1.02, section 7; from RGB in 0 to 255 to Y, Cb, Cr
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], "f4")
_GREY = np.array([0, 128, 128], "f4")[:, None, None]
_YCCK = 2  # what an Adobe segment calls colours of four components that are stored as Y, Cb, Cr and black
# Of the libraries in jpeglib, the one that writes coefficients in progressive scans, and one that does not.
_PROGRESSIVE, _SEQUENTIAL = "mozjpeg403", "turbo210"
_COLOURS, _INKS = ("Y", "Cb", "Cr"), ("Y", "Cb", "Cr", "K")  # jpeglib's names of components, whatever they are
_COMPONENTS = {"JCS_GRAYSCALE": ("Y",), "JCS_YCbCr": _COLOURS, "JCS_RGB": _COLOURS}
_COMPONENTS |= {"JCS_CMYK": _INKS, "JCS_YCCK": _INKS}
_AC_LIMIT = 1023  # the largest AC coefficient of 8-bit samples that Huffman codes have a place for
_STDERR = 2
_WARNINGS = (
    b"Corrupt JPEG",
    b"Premature end of JPEG",
    b"Inconsistent progression",
    b"Invalid SOS",
    b"Warning: unknown",
)
_one_at_a_time = threading.Lock()  # which library jpeglib uses is global to the process


def can_keep_blocks() -> bool:
    """Whether jpeglib is installed."""
    return find_spec("jpeglib") is not None


def with_changes(data: bytes, old: Samples, new: Samples) -> tuple[bytes, float, str] | None:
    """A JPEG file whose decoded samples are `old`, changed to `new`; without metadata, as `jpeg_segments.bare` has it.

    old, new: (H, W, 1, 3 or 4) uint8, as they lie in the file; four are CMYK as Pillow has it, 255 for the full ink.
    Returns the new file, the share of its blocks that kept their coefficients, and what libjpeg says of damage in the
    old file. Or None where this cannot be done: without jpeglib, for files that it cannot read, or whose
    subsampling is not by whole numbers, and where black ink changes. Arithmetic coding becomes Huffman's.
    """
    if not can_keep_blocks():
        return None
    import jpeglib

    result: tuple[bytes, float] | None = None
    with (
        tempfile.TemporaryDirectory(dir=_readable_to_c(tempfile.gettempdir()) if platforms.WINDOWS else None) as folder,
        _one_at_a_time,
        suppress(OSError),  # what jpeglib can do nothing with
        _warnings_of_libjpeg() as warnings,
    ):
        path = Path(folder, "picture.jpg")
        path.write_bytes(bare(data))
        with jpeglib.version(_SEQUENTIAL):
            coded = jpeglib.read_dct(os.fspath(path))
            coded.load()
        components = _COMPONENTS.get(coded.jpeg_color_space.name, ())
        factors = np.asarray(coded.samp_factor)  # (components, 2): vertical, horizontal
        if len(components) != new.shape[2] or (factors.max(0) % factors).any():
            return None
        if components == _INKS and not np.array_equal(old[..., 3], new[..., 3]):
            return None  # jpeglib reads the coefficients of black, but writes them as they were
        # jpeglib goes by the components' names alone, which it does not keep
        ycc = adobe_transform(data) == _YCCK if components == _INKS else len(components) == 3 and not is_rgb(data)
        share = _renew(coded, components, factors.max(0) // factors, old, new, ycc=ycc)
        with jpeglib.version(_PROGRESSIVE if coded.progressive_mode else _SEQUENTIAL):
            coded.write_dct(os.fspath(path), flags=["+OPTIMIZE_CODING"])
        result = bare(path.read_bytes()), share
    return (*result, "; ".join(warnings())) if result else None


def _readable_to_c(folder: str) -> str:
    """A folder for temporary files on Windows, where they lie in the user's own, whose name may have any letters.

    jpeglib gives C names in UTF-8, and C there takes them for another encoding: only ASCII is the same in both.
    """
    places = (folder, _short(folder), os.environ.get("PROGRAMDATA", folder))
    return next((place for place in places if place.isascii()), folder)


def _short(path: str) -> str:
    """The path in the short names that Windows keeps beside others, most of them ASCII; where it has none, as it is."""
    import ctypes

    short = ctypes.create_unicode_buffer(1 << 15)
    return short.value if platforms.kernel32().GetShortPathNameW(path, short, len(short)) else path


@contextmanager
def _warnings_of_libjpeg() -> Iterator[Callable[[], list[str]]]:
    """Keep what libjpeg says from stderr, where it writes by itself; afterwards, what is yielded gives it, each once.

    Lines that others write meanwhile come out at the end.
    """
    try:
        usual = os.dup(_STDERR)
    except OSError:  # there is none, as for some servers
        yield list
        return
    found: dict[str, None] = {}
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), _STDERR)
        try:
            yield lambda: list(found)
        finally:
            os.dup2(usual, _STDERR)
            os.close(usual)
            said.seek(0)
            for line in said:
                if line.startswith(_WARNINGS):
                    found[line.decode("ascii", "replace").strip()] = None
                else:
                    os.write(_STDERR, line)


def _renew(
    coded: Any, components: tuple[str, ...], steps: NDArray[np.int64], old: Samples, new: Samples, *, ycc: bool
) -> float:
    """Set the coefficients of all blocks with a changed pixel, in place; returns the share of the others.

    steps: (components, 2): how many pixels a sample of each component stands for, down and across.
    """
    changed = (old != new).any(axis=2)  # (H, W)
    total = sum(getattr(coded, name)[..., 0, 0].size for name in components)
    if not changed.any():
        return 1.0
    mcu = 8 * steps.max(0)  # the pixels of a minimum coded unit: whole blocks in every component
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    top, left = rows[0] // mcu[0] * mcu[0], columns[0] // mcu[1] * mcu[1]  # what is unchanged around costs nothing
    box = np.s_[top : (rows[-1] // mcu[0] + 1) * mcu[0], left : (columns[-1] // mcu[1] + 1) * mcu[1]]
    planes = _planes(new[box], ycc=ycc)
    touched = 0
    for plane, name, step, number in zip(planes, components, steps, coded.quant_tbl_no, strict=True):
        blocks = getattr(coded, name)[top // (8 * step[0]) :, left // (8 * step[1]) :]  # (rows, columns, 8, 8) int16
        touched += _renew_blocks(blocks, coded.qt[number].astype(np.float32), plane, changed[box], step)
    return 1 - float(touched / total)


def _planes(samples: Samples, *, ycc: bool) -> Any:
    """The components of samples (H, W, C), less the 128 that JPEG takes off: C planes (H, W) float32.

    Inks are stored the other way round, 0 for the full one; but YCCK's first three say how Y, Cb and Cr of the rest to
    white are (Adobe TN 5116, section 18), and so how they are of the inks as Pillow has them.
    """
    planes = samples.astype(np.float32).transpose(2, 0, 1)
    if len(planes) == 4:
        planes = np.concatenate([planes[:3] if ycc else 255 - planes[:3], 255 - planes[3:]])
    if ycc:
        planes = np.concatenate([np.tensordot(_YCC, planes[:3], 1) + _GREY, planes[3:]])
    return planes - np.float32(128)


def _renew_blocks(
    blocks: NDArray[np.int16],
    table: NDArray[np.float32],
    plane: NDArray[np.float32],
    changed: NDArray[np.bool_],
    step: NDArray[np.int64],
) -> int:
    """The blocks of one component: those with a changed pixel are set in place, and counted.

    In a block that changed in part, the samples that did not change are what its coefficients say, before rounding and
    clipping: they move by no more than the new rounding, and where the same hole is filled again, less each time.
    """
    rows, columns = (min(n, -(-size // (8 * s))) for n, size, s in zip(blocks.shape, plane.shape, step, strict=False))
    shape = (rows * 8 * int(step[0]), columns * 8 * int(step[1]))
    split = (rows, 8, step[0], columns, 8, step[1])
    is_new = np.asarray(_fitted(changed, shape).reshape(split).any((2, 5))).swapaxes(1, 2)  # (rows, columns, 8, 8)
    touched = np.asarray(is_new.any((2, 3)))
    samples = _fitted(plane, shape).reshape(split).transpose(0, 3, 1, 4, 2, 5)  # (rows, columns, 8, 8, down, across)
    wanted = samples[touched].mean((3, 4), dtype=np.float32)  # (N, 8, 8)
    blocks = blocks[:rows, :columns]
    present = _DCT.T @ (blocks[touched] * table) @ _DCT
    coefficients = np.rint(_DCT @ np.where(is_new[touched], wanted, present) @ _DCT.T / table)
    blocks[touched] = coefficients.clip(-_AC_LIMIT, _AC_LIMIT)
    return int(touched.sum())


def _fitted(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """A plane (H, W) brought to whole blocks: what is beyond the last row and column repeats them, as encoders do."""
    plane = plane[: shape[0], : shape[1]]
    return np.pad(plane, [(0, shape[0] - plane.shape[0]), (0, shape[1] - plane.shape[1])], mode="edge")


def _dct_matrix() -> NDArray[np.float32]:
    """The orthonormal DCT-II of eight samples: row u is frequency u (T.81, A.3.3)."""
    u, x = np.mgrid[:8, :8]
    matrix = np.cos((2 * x + 1) * u * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    single: NDArray[np.float32] = matrix.astype(np.float32)
    return single


_DCT = _dct_matrix()
