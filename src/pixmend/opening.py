"""Picture files, opened without surprises: nothing huge is decoded, no program is run, every error is one line."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, UnidentifiedImageError

from pixmend.errors import FileMissingError, MemoryLimitError, PictureError, PixmendError
from pixmend.heif import is_heif, register_heif
from pixmend.metadata import calm

MAX_PIXELS = 200_000_000  # a picture whose header claims more is refused before any of it is decoded

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how one begins; the last two are of 64-bit offsets
_WRAPPERS = ("EPS", "IPTC")  # of the second, Pillow opens as a picture whatever is in it, be it PostScript
# What Pillow has names of, and tells by its header at most, or what is refused below: films, data, icons, textures.
NO_PICTURES = (*_WRAPPERS, "MPEG", "HDF5", "GRIB", "BUFR", "WMF", "ICO", "ICNS", "BLP")
HEAD = 1 << 15  # bytes at a file's beginning that tell what it is
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")
_AROUND_OTHERS = (b"\0\0\1\0", b"icns", b"BLP1")  # whose inner pictures Pillow decodes, whatever the headers say

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors, which become ours, are printed as well


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, IO[bytes]]]:
    """A file as a Pillow image, not yet decoded, and its bytes; errors within are one line.

    Raises FileMissingError; and PictureError for what is no picture, or claims more than MAX_PIXELS.
    """
    if os.path.isdir(path):
        raise FileMissingError(f"{path} is a folder; give one picture file")
    if not os.path.isfile(path):
        other = os.path.exists(path)
        why = "is a device or a pipe; save what it holds as a file" if other else "does not exist; check the name"
        raise FileMissingError(f"{path} {why}")
    with (
        errors_as_one_line(str(path)),
        open(path, "rb") as stream,
        identified(stream, str(path)) as image,
    ):
        yield image, stream


@contextmanager
def identified(stream: IO[bytes], name: str) -> Iterator[Image.Image]:
    """The same of a stream at its beginning, within `errors_as_one_line`; name: what errors call it."""
    with calm(MAX_PIXELS):
        if not (head := stream.read(HEAD)):
            raise PictureError(f"{name} is empty; give a picture file")
        if head[:4] in _POSTSCRIPT:  # a program, which Pillow would run
            raise PictureError(f"{name} is PostScript, which is not read; give pixels, such as a PNG or JPEG")
        if head[:4] in _AROUND_OTHERS:
            raise PictureError(f"{name} is an icon or texture with pictures in it; save the one that is meant as a PNG")
        if is_heif(head) and not register_heif():
            raise PictureError(f'{name} is HEIC, which needs the extra heif: pip install "pixmend[heif]"')
        try:
            image = Image.open(stream)
        except UnidentifiedImageError:
            if is_heif(head) or head[4:8] == b"ftyp" or _is_cut_off_tiff(head, stream):
                raise PictureError(f"{name} is damaged or cut off; give an intact copy") from None
            if head[:4] not in TIFF:
                raise
            raise PictureError(
                f"{name} is a TIFF of a kind that is not read (its samples, or a BigTIFF); save it as a plain TIFF of "
                "grey or RGB of 8 or 16 bits, one page alone"
            ) from None
        with image:
            if image.format in _WRAPPERS:
                raise PictureError(f"{name} is {image.format}, which may hold PostScript; give a PNG, JPEG or such")
            check_size(image, name)
            _refuse_misread(image, head, name)
            yield image


def _refuse_misread(image: Image.Image, head: bytes, name: str) -> None:
    """Refuse what Pillow would read wrongly without a word; head: how the file begins."""
    if image.format == "PSD" and (channels := int.from_bytes(head[12:14], "big")) > len(image.getbands()):
        raise PictureError(
            f"{name} has {channels} channels, of which {len(image.getbands())} are read; save it as PNG or TIFF"
        )
    if image.format == "FITS":
        told = {card[:8].strip(): card[10:].split(b"/")[0].strip() for card in re.findall(rb"(?s).{80}", head)}
        if told.get(b"BITPIX") == b"-64" or float(told.get(b"BZERO", 0)) != 0 or float(told.get(b"BSCALE", 1)) != 1:
            raise PictureError(
                f"{name} holds numbers of 64 bits, or with an offset (BZERO, BSCALE), which are not read; "
                "save it as a TIFF of floats of 32 bits"
            )


def _is_cut_off_tiff(head: bytes, stream: IO[bytes]) -> bool:
    """Whether a TIFF's directory lies behind the end of the file; head: its first 12 bytes."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    return order is not None and len(head) >= 8 and struct.unpack_from(order + "I", head, 4)[0] >= stream.seek(0, 2)


def is_by_system(error: BaseException) -> bool:
    """Whether a failure of the system is behind an error of reading, which may pass, and not damage.

    A damaged file can ask to seek to where no file goes, which has a number, too.
    """
    return getattr(error.__cause__, "errno", None) not in (None, errno.EINVAL)


@contextmanager
def errors_as_one_line(name: str) -> Iterator[None]:
    """Whatever goes wrong while a picture is read is a PictureError of one line that names it, or MemoryLimitError."""
    try:
        yield
    except PixmendError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{name} is no picture in a format known here; give a PNG, JPEG, TIFF or such") from None
    except Image.DecompressionBombError:
        raise too_large(name) from None
    except MemoryError:
        raise MemoryLimitError(
            f"{name} needs more memory than there is; end other programs, or give a smaller picture"
        ) from None
    except Exception as error:  # damage makes Pillow's readers raise anything at all
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"{name} is damaged, cut off or unreadable: {why}; give an intact copy") from error


def check_size(image: Image.Image, name: str) -> None:
    """Raise PictureError for more than MAX_PIXELS, and for none."""
    if image.width * image.height > MAX_PIXELS:
        raise too_large(name)
    if not image.width * image.height:
        raise PictureError(f"{name} has no pixels ({image.width} x {image.height}); give a picture that has")


def too_large(name: str) -> PictureError:
    """The error of a picture of more than MAX_PIXELS."""
    return PictureError(
        f"{name} claims more than {MAX_PIXELS:,} pixels and is not decoded; reduce it, or raise "
        "pixmend.opening.MAX_PIXELS if you trust it"
    )


def header_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The rows and columns that a picture file's header tells, as they are stored; nothing is decoded.

    Raises FileMissingError; and PictureError for what is no picture, or claims more than MAX_PIXELS.
    """
    with opened(path) as (image, _):
        return image.height, image.width


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a picture file's bytes as its header claims, without decoding it; raises PictureError."""
    with errors_as_one_line(name), identified(io.BytesIO(content), name) as image:
        return image.size
