"""Tags of a TIFF that would no longer be true: of what was one page of several, was turned, or has grown.

Where on Earth a picture lies: GeoTIFF 1.1, chapter 7 (OGC 19-008r4). Descriptions: ImageJ's lines, OME-XML, and the
JSON of tifffile.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pixmend.metadata import EXIF_PREFIX, calm, exact_text, tiff_exif, with_size
from pixmend.pictures import Metadata, Picture

if TYPE_CHECKING:
    from PIL import Image

DESCRIPTION = 270
_TIE_POINTS, _TRANSFORMATION = 33922, 34264  # (I, J, K, X, Y, Z) each; 4 x 4, row by row: both from pixel to world
_PLACE = (33550, _TIE_POINTS, _TRANSFORMATION, 34735, 34736, 34737)  # how large pixels are; the coordinates' system
_IMAGEJ = "ImageJ="
_IMAGEJ_LAYOUT = re.compile(r"^(images|channels|slices|frames|hyperstack|mode|loop)=.*\n?", re.MULTILINE)
_IMAGEJ_STACK = re.compile(r"^images=(?!1\s*$)", re.MULTILINE)
_OME = re.compile(r"<(\w+:)?OME[\s>]")
_TIFFFILE_LAYOUT = ("shape", "axes", "truncated")

NO_PLACE = (
    "where on Earth the picture lies is left out: what the file tells of it is not understood, or is of the picture "
    "before it was turned upright"
)
NO_SLICES = "its description tells of a stack (ImageJ), of which one picture alone is read; no other is kept"
NO_OME = "the OME-XML is left out: it told of other pages or another size"


def as_one_page(picture: Picture, *, several: bool = False, first: object = None, orientation: int = 1) -> Picture:
    """A picture just read, with the tags that are true of it as the only page of a file.

    several: whether it was a page of several; first: the description of the first of them, by which ImageJ and OME
    tell of all; orientation: in which it lay in the file, 1 to 8.
    """
    if picture.format != "TIFF":
        return picture
    tags, before = _tags_of(picture)
    if DESCRIPTION not in tags and isinstance(first, str) and (first.startswith(_IMAGEJ) or _OME.search(first)):
        tags[DESCRIPTION] = exact_text(first)
    is_turned, told = orientation != 1, _description(tags)
    notes = [NO_SLICES] if not several and told.startswith(_IMAGEJ) and _IMAGEJ_STACK.search(told) else []
    notes += _describe(tags, picture, several=several, changed=several or is_turned)
    if is_turned:
        notes += _leave_place_out(tags)
    picture = _with_tags(picture, tags, before, notes)
    if not is_turned:
        return picture
    kept = _quarter_turned(picture.metadata) if orientation >= 5 else picture.metadata
    return picture.with_metadata(with_size(kept, picture.size))


def as_extended(picture: Picture, left: int, top: int) -> Picture:
    """A picture that has grown, left and top so many pixels, with the tags that are true of it."""
    tags, before = _tags_of(picture)
    notes = _describe(tags, picture, several=False, changed=True)
    is_turned = picture.original is not None and picture.original.orientation != 1
    if is_turned or not _move(tags, left, top):
        notes += _leave_place_out(tags)
    picture = _with_tags(picture, tags, before, notes)
    return picture.with_metadata(with_size(picture.metadata, picture.size))


def _quarter_turned(kept: Metadata) -> Metadata:
    """The metadata with the resolution that was across as that down."""
    dpi, own = kept.dpi, kept.tiff_resolution
    return replace(kept, dpi=dpi and (dpi[1], dpi[0]), tiff_resolution=own and (own[1], own[0], own[2]))


def _tags_of(picture: Picture) -> tuple[Image.Exif, dict[int, Any]]:
    """The tags that describe a picture, to be changed, and what they are."""
    with calm():
        tags = tiff_exif(picture.metadata.exif or b"")
    return tags, dict(tags)


def _with_tags(picture: Picture, tags: Image.Exif, before: dict[int, Any], notes: list[str]) -> Picture:
    """The picture with these tags, if they are others than before: else its EXIF stays byte for byte."""
    if dict(tags) != before:
        exif = tags.tobytes().removeprefix(EXIF_PREFIX) if tags else None
        picture = picture.with_metadata(replace(picture.metadata, exif=exif))
    return replace(picture, notes=(*picture.notes, *notes)) if notes else picture


def _description(tags: Image.Exif) -> str:
    told = tags.get(DESCRIPTION)
    text = told.decode("latin-1") if isinstance(told, bytes) else told
    return text if isinstance(text, str) else ""


def _describe(tags: Image.Exif, picture: Picture, *, several: bool, changed: bool) -> list[str]:
    """Take out of the description what tells of another layout; changed: of other pages, or of another size."""
    notes: list[str] = []
    if not (text := _description(tags)):
        return notes
    left = text
    if text.startswith(_IMAGEJ):
        if several or _IMAGEJ_STACK.search(text):  # of large stacks only the first has a directory
            left = _IMAGEJ_LAYOUT.sub("", text)
    elif _OME.search(text):
        if changed:
            left, notes = "", [NO_OME]
    elif text.startswith("{"):
        left = _with_its_shape(text, picture)
    if not left:
        del tags[DESCRIPTION]
    elif left != text:
        tags[DESCRIPTION] = exact_text(left)
    return notes


def _with_its_shape(text: str, picture: Picture) -> str:
    """The JSON of tifffile, less the layout where that is another; "" if nothing else is in it."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(sides := told.get("shape"), list):
        return text  # of another program
    shape = [side for side in sides if side != 1]
    stored = picture.original.stored if picture.original and picture.keeps_size else None
    shapes = [samples.shape for samples in (picture.samples, stored) if samples is not None]
    if shape in ([side for side in one if side != 1] for one in shapes):
        return text
    rest = {name: value for name, value in told.items() if name not in _TIFFFILE_LAYOUT}
    return json.dumps(rest) if rest else ""


def _move(tags: Image.Exif, left: int, top: int) -> bool:
    """Have the old picture's pixel (0, 0) be (left, top); False for tags that are not understood."""
    ties, matrix = tags.get(_TIE_POINTS, ()), tags.get(_TRANSFORMATION, (0.0,) * 16)
    if not (isinstance(ties, tuple) and len(ties) % 6 == 0 and isinstance(matrix, tuple) and len(matrix) == 16):
        return False
    if _TIE_POINTS in tags:
        step = (left, top, 0, 0, 0, 0)
        tags[_TIE_POINTS] = tuple(value + step[i % 6] for i, value in enumerate(ties))
    if _TRANSFORMATION in tags:
        rows = [matrix[at : at + 4] for at in range(0, 16, 4)]
        tags[_TRANSFORMATION] = tuple(n for a, b, c, d in rows for n in (a, b, c, d - a * left - b * top))
    return True


def _leave_place_out(tags: Image.Exif) -> list[str]:
    found = [tag for tag in _PLACE if tag in tags]
    for tag in found:
        del tags[tag]
    return [NO_PLACE] if found else []
