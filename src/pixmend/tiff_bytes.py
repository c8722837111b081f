"""What Pillow does not know of TIFF: samples that it does not read, colours and alpha that it does not write.

Samples: floats of three channels, 16 bits of grey with alpha, 16 bits in planes, 16 bits of colour in plain tiles.

Pillow knows how the bytes of a TIFF are compressed, whatever they mean. So a copy of the file is shown to it whose
directory says that they are grey of 8 bits, in rows that are so much longer; what comes back are the samples' bytes
(TIFF 6.0, sections 2, 8 and 14; the predictor of floats: Adobe Photoshop TIFF Technical Note 3).
"""

from __future__ import annotations

import io
import mmap
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixmend.metadata import ORIENTATION
from pixmend.pictures import Samples

SUBFILE = 254  # what a page is; of bits: 1 a reduced copy of another, 4 a mask of another (TIFF 6.0, section 8)
REDUCED, MASK = 1, 4
MOST_TAGS, MOST_COPIES = 4096, 64  # of a page; of a picture: there are about 60, and 10 each of it and its mask
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _CHANNELS, _ROWS = 256, 257, 258, 259, 262, 277, 278
_PLANAR, _PREDICTOR, _COLOUR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT = 284, 317, 320, 322, 323, 338, 339
_EXTREMES = (280, 281, 340, 341)  # the least and the largest sample, one a channel
_CODES = {1: "B", 3: "H", 4: "I"}  # of whole numbers, by the type of a tag
_UNSIGNED, _FLOAT = 1, 3
_PLANES = 2
_SHORT, _LONG = 3, 4  # types of tags
_MULTIPLIED = 1  # alpha that the colours were multiplied with
_DTYPES = {(16, _UNSIGNED): "u2", (32, _FLOAT): "f4"}


class Directory:
    """A directory of a TIFF, in a copy of the file that may be changed. Raises ValueError for what is none."""

    def __init__(self, data: bytearray | mmap.mmap, at: int | None = None) -> None:
        """at: where it is; by default the first."""
        self.data = data
        self.order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]), "")
        if not self.order:
            raise ValueError("no TIFF of 32-bit offsets")
        at = self._unpack("I", 4)[0] if at is None else at
        (count,) = self._unpack("H", at)
        if count > MOST_TAGS:
            raise ValueError(f"{count} tags are too many")
        self.places = {self._unpack("H", place)[0]: place for place in range(at + 2, at + 2 + 12 * count, 12)}
        (self.next,) = self._unpack("I", at + 2 + 12 * count)  # where the next page's directory is, or 0

    def _unpack(self, code: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self.order + code, self.data, at)
        except struct.error:
            raise ValueError("an offset points out of the file") from None

    def copies_behind(self) -> list[int] | None:
        """The `SUBFILE` of all further pages, if these are reduced copies or masks of this one, as overviews are.

        None where one is a page of its own, or they are damaged or too many.
        """
        page, kinds = self, []
        while page.next:
            try:
                page = Directory(self.data, page.next)
                kinds.append(page.number(SUBFILE, 0))
            except ValueError:
                return None
            if not kinds[-1] & (REDUCED | MASK) or len(kinds) > MOST_COPIES:
                return None
        return kinds

    def numbers(self, tag: int, default: int) -> tuple[int, ...]:
        """The whole numbers of a tag."""
        place = self.places.get(tag)
        if place is None:
            return (default,)
        kind, count = self._unpack("HI", place + 2)
        if kind not in _CODES or not 0 < count <= 16:
            raise ValueError(f"tag {tag} is not of a few whole numbers")
        code = f"{count}{_CODES[kind]}"
        return self._unpack(code, place + 8 if struct.calcsize("=" + code) <= 4 else self._unpack("I", place + 8)[0])

    def number(self, tag: int, default: int) -> int:
        """The first of them."""
        return self.numbers(tag, default)[0]

    def set(self, tag: int, value: int, kind: int = _LONG) -> None:
        """Make a tag one whole number of 16 or 32 bits, where it is there."""
        if tag in self.places:
            code = {_SHORT: "HIHxx", _LONG: "HII"}[kind]
            struct.pack_into(self.order + code, self.data, self.places[tag] + 2, kind, 1, value)

    def longer(self, tag: int) -> tuple[int, ...]:
        """The numbers of 16 bits of a tag that has more of them than fit into its place."""
        count, at = self._unpack("II", self.places[tag] + 4)
        return self._unpack(f"{count}H", at)

    def set_longer(self, tag: int, values: list[int]) -> None:
        """Put as many others there."""
        _, at = self._unpack("II", self.places[tag] + 4)
        struct.pack_into(f"{self.order}{len(values)}H", self.data, at, *values)

    def as_grey(self) -> Image.Image:
        """The image that the file would be, were its samples grey of 8 bits."""
        for tag, value in ((_BITS, 8), (_FORMAT, _UNSIGNED), (_CHANNELS, 1), (_PHOTOMETRIC, 1), (_PREDICTOR, 1)):
            self.set(tag, value)
        for tag in _EXTREMES:
            self.set(tag, 0)
        if _EXTRA in self.places:
            struct.pack_into(self.order + "I", self.data, self.places[_EXTRA] + 4, 0)  # no numbers
        return Image.open(io.BytesIO(bytes(self.data)))


def colour_map(image: Image.Image) -> NDArray[np.uint16] | None:
    """The colours of a paletted TIFF, with all of their 16 bits: (3, n); None of other images."""
    colours = getattr(image, "tag_v2", {}).get(_COLOUR_MAP)
    return np.array(colours, np.uint16).reshape(3, -1) if image.mode == "P" and colours else None


def with_whole_colours(data: bytes, known: NDArray[np.uint16] | None) -> bytes:
    """A paletted TIFF of Pillow, which writes 256 times the 8 bits of a colour: 257 times, so that white is 65535.

    known: (3, n), the palette that it was read with; colours whose high bytes are still the same are these.
    """
    copy = bytearray(data)
    directory = Directory(copy)
    high = np.array(directory.longer(_COLOUR_MAP), np.uint16).reshape(3, -1) >> 8
    colours = high * np.uint16(257)
    if known is not None:
        first = np.s_[:, : known.shape[1]]
        colours[first] = np.where((known >> 8 == high[first]).all(0), known, colours[first])
    directory.set_longer(_COLOUR_MAP, colours.ravel().tolist())
    return bytes(copy)


def with_multiplied_alpha(data: bytes) -> bytes:
    """A TIFF with alpha, which says from now on that its colours were multiplied with it."""
    copy = bytearray(data)
    Directory(copy).set(_EXTRA, _MULTIPLIED, _SHORT)
    return bytes(copy)


def with_white_as_zero(data: bytes) -> bytes:
    """A TIFF of grey, which says from now on that 0 is white."""
    copy = bytearray(data)
    Directory(copy).set(_PHOTOMETRIC, 0, _SHORT)
    return bytes(copy)


def is_unknown_to_pillow(directory: Directory) -> bool:
    """Whether a file of one page, but for copies and masks of it, has samples that are read here, and not by Pillow."""
    bits, formats = directory.numbers(_BITS, 1), directory.numbers(_FORMAT, _UNSIGNED)
    channels, planar = directory.number(_CHANNELS, 1), directory.number(_PLANAR, 1)
    dtype = _DTYPES.get((bits[0], formats[0]))
    tiled, plain = _TILE_WIDTH in directory.places, directory.number(_COMPRESSION, 1) == 1
    known_elsewhere = dtype == "u2" and channels != 2 and planar != _PLANES and not (tiled and plain)
    if dtype is None or known_elsewhere or len({*bits}) != 1 or len({*formats}) != 1:
        return False
    if directory.copies_behind() is None:
        return False
    if (directory.number(_PHOTOMETRIC, 0), channels) not in ((1, 2), (2, 3), (2, 4)):
        return False
    if channels in (2, 4) and (dtype == "f4" or directory.numbers(_EXTRA, 0) != (2,)):
        return False  # alpha of floats, or one that the colours were multiplied with
    if tiled:
        return directory.number(_PREDICTOR, 1) == 1  # else differences begin anew in every tile
    height = directory.number(_HEIGHT, 1)
    rows = min(directory.number(_ROWS, height), height)
    return planar != _PLANES or (rows > 0 and height % rows == 0)  # no plane ends in a short strip


def size_of(directory: Directory) -> tuple[int, int]:
    """(H, W)."""
    return directory.number(_HEIGHT, 0), directory.number(_WIDTH, 0)


def read_samples(directory: Directory, most: int) -> Samples:
    """The samples (H, W, C) as stored, uint16 or float32; the directory is changed on the way.

    most: bytes that they may take, with what fills the last tiles of planes, which may be far higher than the picture.
    Raises ValueError for what is damaged, and what Pillow raises.
    """
    height, width = size_of(directory)
    bits, channels = directory.number(_BITS, 1), directory.number(_CHANNELS, 1)
    planar, predictor = directory.number(_PLANAR, 1) == _PLANES, directory.number(_PREDICTOR, 1)
    dtype = np.dtype(directory.order + _DTYPES[bits, directory.number(_FORMAT, _UNSIGNED)])
    tall = height
    if planar and _TILE_WIDTH in directory.places:
        lines = max(1, directory.number(_TILE_HEIGHT, 1))
        tall = -(-height // lines) * lines  # the last tiles of a plane are as high as all others
    in_row, rows = (1, tall * channels) if planar else (channels, height)
    directory.set(_WIDTH, width * in_row * dtype.itemsize)
    directory.set(_TILE_WIDTH, directory.number(_TILE_WIDTH, 1) * in_row * dtype.itemsize)
    directory.set(_HEIGHT, rows)
    directory.set(_PLANAR, 1)
    directory.set(_ROWS, min(directory.number(_ROWS, rows), height if planar else rows))
    if width * in_row * dtype.itemsize * rows > most:
        raise ValueError("its tiles are too large")
    turn = directory.number(ORIENTATION, 1)
    directory.set(ORIENTATION, 1)  # else Pillow would turn the bytes when it loads them, and where XMP says so
    with directory.as_grey() as image:
        image.getexif()[ORIENTATION] = 1
        packed = np.array(image)  # (rows, bytes in a row)
    directory.set(ORIENTATION, turn)
    if packed.shape != (rows, width * in_row * dtype.itemsize):
        raise ValueError("its samples do not fit its size")
    samples = _predicted(packed, predictor, dtype, in_row)
    if planar:
        samples = samples.reshape(channels, tall, width)[:, :height].transpose(1, 2, 0)
    return np.ascontiguousarray(samples.reshape(height, width, channels)).astype(dtype.newbyteorder("="))


def _predicted(packed: NDArray[np.uint8], predictor: int, dtype: np.dtype[Any], channels: int) -> NDArray[Any]:
    """Rows of bytes as rows of samples; where each was stored as what it differs by from the one before, summed up."""
    if predictor == 2:
        whole = np.dtype(f"{dtype.str[0]}u{dtype.itemsize}")  # floats too are taken for whole numbers here
        numbers = packed.view(whole).reshape(len(packed), -1, channels)
        return numbers.cumsum(axis=1, dtype=f"u{dtype.itemsize}").view(dtype.newbyteorder("="))
    if predictor == 3:  # byte by byte; first all high bytes of a row, then all next ones
        summed = packed.reshape(len(packed), -1, channels).cumsum(axis=1, dtype=np.uint8).reshape(len(packed), -1)
        planes = summed.reshape(len(packed), dtype.itemsize, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(dtype.newbyteorder(">"))
    return packed.view(dtype)
