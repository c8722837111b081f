"""One picture in memory: its exact samples, what travels with it, and the arithmetic between samples and [-1, 1].

NumPy alone: files are read in `decoding`, written in `encoding`, and everybody else asks `images`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmend.errors import MaskError, PictureError

Floats = NDArray[np.float32]
Samples = NDArray[np.uint8] | NDArray[np.uint16] | Floats

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, the weights Pillow turns colour into grey with
BAND = 256  # rows that are looked at together
SLACK = 1 / 255  # how far beyond [-1, 1] a value may lie through rounding; half a level of 8 bits


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its samples, as it goes into the next file; None or empty where there is nothing."""

    icc_profile: bytes | None = None
    exif: bytes | None = None  # a TIFF structure as it stood in the file, but for an orientation of 1
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None  # across, down
    comment: bytes | None = None  # of a JPEG
    tiff_resolution: tuple[Any, Any, int] | None = None  # across and down in a unit of its own: 1 none, 2 inch, 3 cm
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()  # (type, data): texts, gamma and the like
    jpeg: Mapping[str, Any] = field(default_factory=dict)  # Pillow's options that encode as the source was encoded
    photoshop: bytes | None = None  # of a TIFF: image resources


NOT_WHOLE = "there are values that are not finite, or stand for what was not measured"
NOT_WHOLE_BESIDE = f"{NOT_WHOLE}, beside the hole; mark them in the mask, or give no mask to fill them"


@dataclass(frozen=True, eq=False)
class Original:
    """What a picture was read from, so that what does not change can be written back as it stood."""

    samples: Samples  # (H, W, C), upright: what the picture's samples were when it was read
    metadata: Metadata  # what its metadata was
    stored: Samples | None = None  # (H, W, N), upright, in the file's own mode: palette indices, or C, M, Y and K
    palette: NDArray[np.uint8] | None = None  # (colours, 4) RGBA, of indices
    colour_map: NDArray[np.uint16] | None = None  # (3, colours), the same of 16 bits, of a TIFF
    icc_profile: bytes | None = None  # of the stored channels, where the metadata's is of others or none
    jpeg: bytes | None = None  # the whole file, if it is one
    orientation: int = 1  # in which that file holds its samples, 1 to 8
    white_is_zero: bool = False  # whether a TIFF of grey has its samples the other way round: 0 for white
    signed: bool = False  # whether floats stand for a TIFF's signed numbers of 16 bits


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded picture, upright: the exact samples, and what must be kept. Treat it as read-only."""

    # (H, W, C) uint8, uint16 or float32; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; floats have no alpha; never empty
    samples: Samples
    mode: str = ""  # Pillow's name of what the file stored, such as "P" or "1"; "" for arrays and tensors
    format: str | None = None  # Pillow's name of the file's format, such as "PNG"; None for pictures from memory
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()  # what could not be kept as it was, for people to read
    original: Original | None = None  # None for pictures from memory
    colour_span: tuple[float, float] | None = None  # the samples of black and white; None: 0, and 1 or the largest
    no_data: float | None = None  # the sample of all colours where nothing was measured, as rasters tell

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.samples.shape[0], self.samples.shape[1]

    @property
    def is_float(self) -> bool:
        """Whether samples are floats, and not 8 or 16 bits."""
        return self.samples.dtype.kind == "f"

    @property
    def is_signed(self) -> bool:
        """Whether these floats stand for signed numbers of 16 bits, in which a TIFF is written again."""
        return self.is_float and self.original is not None and self.original.signed

    @property
    def span(self) -> tuple[float, float]:
        """The sample values of black and white: `colour_span`, or 0 and 255, 65535, or 1 among floats."""
        return self.colour_span or (0.0, self.levels)

    @property
    def levels(self) -> float:
        """The largest value of a sample: 255, 65535, or 1 among floats."""
        return 1.0 if self.is_float else float(largest(self.samples.dtype))

    def spanned(self, known: NDArray[np.bool_] | None = None) -> Picture:
        """The picture to be worked on: black and white are what its colours use, where they are known, (H, W).

        Cameras and microscopes put 10, 12 or 14 bits into files of 16, and these would be nearly black. Of floats
        beyond [0, 1] the least and the largest count. What is `lacking` does not; raises PictureError where all is.
        """
        if self.samples.dtype == np.uint8:
            return self
        if (lacking := self.lacking()).any():
            measured = ~lacking if known is None else known & ~lacking
            known = measured if self.is_float or measured.any() else known  # whole numbers are what they are
        colours = self.samples[..., : self.channels]
        return replace(self, colour_span=span_of(colours if known is None else colours[known]))

    def to_be_seen(self) -> Picture:
        """The picture with the black and white that it is worked on with; floats have theirs since they were read."""
        return self if self.is_float else self.spanned()

    @property
    def is_as_read(self) -> bool:
        """Whether samples and metadata are still those of the file that the picture was read from."""
        return self.keeps_metadata and not self.changed().any()

    @property
    def keeps_metadata(self) -> bool:
        """Whether the metadata is still what the file said, and the size is the file's."""
        read = self.original
        return read is not None and self.metadata is read.metadata and self.samples.shape == read.samples.shape

    @property
    def keeps_size(self) -> bool:
        """Whether the picture is as wide and high as that which was read; true without one."""
        return self.original is None or self.original.samples.shape[:2] == self.samples.shape[:2]

    def changed(self) -> NDArray[np.bool_]:
        """(H, W) bools: where samples are not those that were read; everywhere, if they cannot be compared."""
        read = self.original
        if read is None or read.samples.shape != self.samples.shape or read.samples.dtype != self.samples.dtype:
            return np.ones(self.size, np.bool_)
        differs: NDArray[np.bool_] = (self.samples != read.samples).any(axis=2)
        return differs

    @property
    def channels(self) -> int:
        """The number of colour channels, without alpha: 1 or 3."""
        return 1 if self.samples.shape[2] <= 2 else 3

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel, be it opaque everywhere."""
        return self.samples.shape[2] in (2, 4)

    @cached_property
    def is_opaque(self) -> bool:
        """Whether nothing is transparent."""
        return not self.has_alpha or bool((self.samples[..., -1] == self.levels).all())

    @cached_property
    def is_grey(self) -> bool:
        """One colour channel, or all three equal in every pixel that is not wholly transparent."""
        return self.is_grey_where(np.ones(self.size, np.bool_))

    def is_grey_where(self, region: NDArray[np.bool_]) -> bool:
        """`is_grey` of a part of the picture, region (H, W); no part at all is grey only in a grey picture."""
        if self.channels == 1:
            return True
        some = False
        for top in range(0, len(region), BAND):  # most pictures show a colour in the first rows
            part, samples = region[top : top + BAND], self.samples[top : top + BAND]
            if self.has_alpha:
                part = part & (samples[..., 3] > 0)
            red, green, blue = (samples[..., i] for i in range(3))
            if (part & ((red != green) | (green != blue))).any():
                return False
            some = some or bool(part.any())
        return some

    def colour(self) -> Floats:
        """The colours as (H, W, 3) float32 in [-1, 1]; alpha is dropped, grey is repeated."""
        values = to_values(self.samples[..., : self.channels], self.span if self.is_float else self.colour_span)
        return np.repeat(values, 3, axis=2) if self.channels == 1 else values

    def alpha(self) -> Floats | None:
        """The alpha channel as (H, W) float32 in [0, 1], 1 = opaque; None where there is none."""
        return self.samples[..., -1].astype(np.float32) / np.float32(self.levels) if self.has_alpha else None

    def lacking(self) -> NDArray[np.bool_]:
        """(H, W) bools: where samples are not finite, or `no_data`: so rasters mark what was not measured."""
        lacking = np.zeros(self.size, np.bool_)
        if self.is_float:
            lacking |= ~np.isfinite(self.samples).min(axis=2)
        if self.no_data is not None:
            lacking |= self.is_no_data(self.samples[..., : self.channels])
        return lacking

    def require_whole(self) -> None:
        """Raise PictureError for floats of which some are `lacking`."""
        if self.is_float and self.lacking().any():
            raise PictureError(f"{NOT_WHOLE}; fill them first, with `pixmend inpaint` and no mask")

    def is_no_data(self, colours: Samples) -> NDArray[np.bool_]:
        """Where colours (..., C) are `no_data`."""
        value = np.float32(math.nan if self.no_data is None else self.no_data)
        return np.asarray((colours == value).all(axis=-1))

    def told_hole(self) -> NDArray[np.bool_] | None:
        """(H, W) bools: what the picture itself says is missing, less than half opaque or `lacking`; None where it says
        nothing.
        """
        alpha = self.alpha()
        if alpha is None:
            lacking = self.lacking()
            return lacking if lacking.any() else None
        return np.less(alpha, np.float32(0.5))

    def with_metadata(self, metadata: Metadata) -> Picture:
        """The picture with other metadata, which is still taken for its file's own, if the old was."""
        read = self.original
        mine = read is not None and self.metadata is read.metadata
        return replace(self, metadata=metadata, original=replace(read, metadata=metadata) if read and mine else read)


def span_of(samples: Samples) -> tuple[float, float] | None:
    """Black and white among samples of any shape: None is all of 8 or 16 bits.

    Of 16 bits white is the largest value of 8, 10, 12 or 14 where none is larger; of floats 0 and 1 if all lie between
    them, else the least and the largest. Those that are not finite do not count; raises PictureError if all are so, or
    none is there.
    """
    if samples.dtype == np.uint8:
        return None
    if samples.dtype == np.float32 and not (finite := np.isfinite(samples)).all():
        samples = samples[finite]
    if not samples.size:
        raise PictureError("no value is finite and measured; give a picture of which something is known")
    low, high = float(samples.min()), float(samples.max())
    if samples.dtype == np.uint16:
        return next(((0.0, float(2**bits - 1)) for bits in (8, 10, 12, 14) if high < 2**bits), None)
    if 0 <= low and high <= 1:
        return 0.0, 1.0
    if low < high:
        return low, high
    return low, low + (1.0 if low + 1.0 > low else abs(low))  # of a huge number, 1 more is the same number


def largest(dtype: np.dtype[Any]) -> int:
    """The largest value of whole numbers of this type."""
    return int(np.iinfo(dtype).max)


def to_values(samples: Samples, span: tuple[float, float] | None = None) -> Floats:
    """Samples of any shape as float32 in [-1, 1]; 0 is exactly -1 and the largest sample exactly 1.

    span: the samples that are -1 and 1, where these are others, and of floats. What is not a number becomes 0.
    """
    values: Floats
    if span is None:
        values = samples.astype(np.float32) / np.float32(largest(samples.dtype) / 2) - np.float32(1)
    else:
        black, white = span
        values = ((samples.astype(np.float64) - black) * (2 / (white - black)) - 1).clip(-1, 1).astype(np.float32)
        np.nan_to_num(values, copy=False)
    return values


def to_samples(values: Floats, dtype: type[np.uint8] | type[np.uint16] | np.dtype[Any] = np.uint8) -> Samples:
    """The nearest samples of values in [-1, 1], clipped; undoes `to_values` exactly."""
    half = np.float32(largest(np.dtype(dtype)) / 2)
    samples: Samples = np.rint((np.clip(values, -1, 1) + np.float32(1)) * half).astype(dtype)
    return samples


def composite(picture: Picture, fill: Floats, soft: Floats, opaque: bool = False, grey: bool | None = None) -> Picture:
    """The picture with `fill` laid over it by weights `soft`: exactly the picture's samples where soft is 0.

    fill: (H, W, 3) in [-1, 1], clipped. soft: (H, W) in [0, 1]; where it is 1, only the fill is left.
    A picture that is grey where it is known gets a fill without colour, and so does a part of one, as `grey` says; one
    of mode "1", a fill of black and white. Alpha is kept, or with `opaque` raised to full in proportion to soft: then
    alpha told where the hole is.
    Raises PictureError for a fill of another size or with NaN, MaskError for such a soft mask.
    """
    _check_layers(picture, fill, soft)
    touched = soft > 0
    weight = soft[touched][:, None].astype(np.float32)  # (N, 1)
    if picture.is_grey_where(~touched) if grey is None else grey:
        values = (fill[touched] @ LUMA)[:, None]  # (N, 1)
    else:
        values = fill[touched]  # (N, 3)
    if not np.isfinite(values).all():
        raise PictureError("the fill holds values that are not finite; try another seed or another model")
    samples = picture.samples.copy()
    old = samples[touched].astype(np.float32)  # (N, C)
    colours, (black, white) = old[:, : picture.channels], picture.span
    colours[~np.isfinite(colours)] = 0  # 0 times what is not finite would not be 0
    colours *= 1 - weight  # not old + weight * (new - old), which is not quite the new one where the weight is 1
    colours += weight * ((np.clip(values, -1, 1) + 1) * ((white - black) / 2) + black)
    if picture.mode == "1":
        colours[:] = np.where(colours >= white / 2, white, 0)
    if opaque and picture.has_alpha:
        old[:, -1:] += weight * (picture.levels - old[:, -1:])  # whole numbers below 2^16 are exact here
    fine = picture.is_float and not picture.is_signed
    old = old if fine else np.rint(old)
    if picture.no_data is not None:  # a fill must not say that it is none
        value, up = np.float32(picture.no_data), picture.no_data <= (white + black) / 2
        beside = np.nextafter(value, np.float32(np.inf if up else -np.inf)) if fine else value + 2 * up - 1
        old[picture.is_no_data(old[:, : picture.channels]), 0] = beside
    samples[touched] = old
    return replace(picture, samples=samples)


def _check_layers(picture: Picture, fill: Floats, soft: Floats) -> None:
    height, width = picture.size
    if fill.shape != (height, width, 3):
        raise PictureError(f"the fill is of shape {fill.shape}; the picture needs ({height}, {width}, 3)")
    if soft.shape != (height, width):
        raise MaskError(f"the soft mask is of shape {soft.shape}; the picture needs ({height}, {width})")
    if not (soft.min() >= 0 and soft.max() <= 1):  # so put that NaN fails
        raise MaskError(f"the soft mask holds values from {soft.min()} to {soft.max()}; allowed are 0 to 1")


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, ...) turned as an EXIF orientation of 1 to 8 asks for."""
    if orientation in (3, 4, 6, 7):  # the first row stored belongs at the bottom, or at the right
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):  # the first column stored belongs at the right, or at the bottom
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


def turned_back(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """What `turned` made, as it was: a quarter turn is undone by the other one, all else by itself."""
    return turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))


def from_array(array: NDArray[Any]) -> Picture:
    """A picture from (H, W) or (H, W, C) of uint8, uint16 or bool (black and white), C = 1 to 4; the array is copied.

    Raises PictureError for other types and shapes. Floats are refused, for they come in [0, 1], [-1, 1] and [0, 255].
    """
    if array.dtype not in (np.uint8, np.uint16, np.bool_):
        raise PictureError(
            f"the array is of {array.dtype}; give uint8, uint16 or bool, or a tensor of floats in [-1, 1]"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4) or array.size == 0:
        raise PictureError(f"the array is of shape {array.shape}; give (H, W) or (H, W, C) with 1 to 4 channels")
    samples = array.reshape(*array.shape[:2], -1)
    if array.dtype != np.bool_:
        return Picture(np.array(samples, order="C"))
    if samples.shape[2] != 1:
        raise PictureError(f"the array of bools is of shape {array.shape}; give (H, W): black and white")
    return Picture(samples * np.uint8(255), mode="1")


def from_values(values: Floats) -> Picture:
    """A picture of 8 bits from (H, W, 1 or 3) floats in [-1, 1], rounded to the nearest level and clipped."""
    return Picture(to_samples(values))
