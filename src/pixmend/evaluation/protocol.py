"""The protocol: which pictures, which holes, and which pictures are kept for choices alone.

The families are those that papers report: the field's tables can be laid beside ours. Every hole is drawn from a seed
that is fixed by the family and the picture's place, and named by a hash of its pixels, so that two machines can tell
whether they measured the same.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixmend.components import Hole
from pixmend.console import say
from pixmend.errors import DataError, OptionError, PixmendError
from pixmend.images import open_thumbnail, picture_files
from pixmend.masks import OWN_AREA, draw_mask
from pixmend.strokes import Rng, draw_count

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB

VERSION = 1  # of the protocol: raised when a hole changes
CHOICE_SHARE = 0.3  # of the pictures: for choosing settings, never for a report
PARTS = ("choice", "report", "all")
MOST = 0.96  # of a picture may be hole: something must be known to go on
LENGTH = (0.0, 0.35)  # of a piece of DeepFill's and MAT's strokes: at most a quarter of the diagonal
BLANK = 128  # what stands in the hole of the picture that a method is given


@dataclass(frozen=True)
class Family:
    """One kind of holes."""

    name: str
    group: str  # whose it is; `choose_families` takes this name too
    draw: Callable[[int, int, Rng], Hole]
    says: str


def _of(kind: str, **parameters: Any) -> Callable[[int, int, Rng], Hole]:
    """A kind of `masks.KINDS`, drawn until something is left known."""
    area = OWN_AREA.get(kind, (0.0, MOST))
    return lambda h, w, rng: draw_mask(kind, (h, w), rng, area=area, **parameters)


def _mat(h: int, w: int, rng: Rng) -> Hole:
    """Boxes up to half of the sides and up to the whole, and free strokes, together.

    MAT, Li et al. 2022 (https://arxiv.org/abs/2203.15270), after CoModGAN. Their code (`RandomMask`) draws up to 4
    boxes of the first kind, 2 of the second and 8 strokes. Its boxes may stick out of the picture; ours lie inside.
    """
    while True:
        hole = np.zeros((h, w), bool)
        for most, side in ((4, 0.5), (2, 1.0)):
            if count := draw_count(rng, (0, most)):
                hole |= draw_mask("rectangles", (h, w), rng, count=count, side=(0.0, side))
        if strokes := draw_count(rng, (0, 8)):
            brush = {"vertices": (4, 18), "width": (12 / 256, 48 / 256), "length": LENGTH}
            hole |= draw_mask("irregular", (h, w), rng, strokes=strokes, **brush)
        if 0 < hole.mean() <= MOST:
            return hole


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("rectangles", "own", _of("rectangles"), "1 to 4 boxes of 0.1 to 0.5 of the sides"),
        Family("centre", "own", _of("centre"), "the middle quarter"),
        Family("irregular", "own", _of("irregular"), "1 to 4 broad strokes"),
        Family("stripes", "own", _of("stripes"), "parallel stripes, 0.3 to 0.6 of each period"),
        Family("thin", "lama", _of("thin"), "LaMa's thin masks, RePaint's narrow"),
        Family("medium", "lama", _of("medium"), "LaMa's medium masks"),
        Family("thick", "lama", _of("thick"), "LaMa's thick masks, RePaint's wide"),
        Family("half", "repaint", _of("half"), "one half"),
        Family("expand", "repaint", _of("expand"), "all but the middle quarter of the sides"),
        Family("every-second-pixel", "repaint", _of("every-second-pixel"), "3/4 missing on a grid"),
        Family("alternate-rows", "repaint", _of("alternate-rows"), "every second row"),
        Family(
            "free-form",
            "free-form",
            _of("irregular", strokes=(1, 3), length=LENGTH),
            "DeepFill v2: 1 to 3 strokes of 4 to 12 vertices, 12 to 40 wide at 256",
        ),
        Family("mat", "mat", _mat, "MAT and CoModGAN: boxes up to half and up to the whole, strokes"),
        Family("text", "others", _of("text"), "lines of letters"),
        Family("scratches", "others", _of("scratches"), "hairlines"),
        Family("scattered-50", "others", _of("scattered", share=0.5), "half of all pixels"),
        Family("scattered-80", "others", _of("scattered", share=0.8), "80 % of all pixels"),
        Family("scattered-92", "others", _of("scattered", share=0.92), "92 % of all pixels"),
        Family("border", "others", _of("border"), "1 to 4 sides, 4 to 25 % each"),
        Family("patches", "others", _of("patches"), "cells of a grid"),
    )
}
ALSO_KNOWN_AS = {"wide": "thick", "narrow": "thin", "center": "centre", "borders": "border"}


@dataclass(frozen=True)
class Case:
    """A picture with a hole of a family."""

    picture: str  # its name in the folder
    family: str
    truth: Pixels  # (H, W, 3)
    hole: Hole  # (H, W), true = to be filled

    @cached_property
    def mask(self) -> str:
        """The hole's name."""
        return mask_name(self.hole)

    @cached_property
    def name(self) -> str:
        """A hash of all that a fill of this case depends on but the method."""
        return _digest(self.truth.tobytes(), self.mask.encode())

    @property
    def area(self) -> float:
        """The hole's share of the picture."""
        return float(self.hole.mean())

    @property
    def given(self) -> Pixels:
        """The picture as a method is given it: nothing of the truth is left in the hole."""
        return np.where(self.hole[..., None], np.uint8(BLANK), self.truth)

    def seed(self, fill: int) -> int:
        """The seed of the n-th fill, the same for every method: below 2**31, which all of them take."""
        return int(_digest(self.name.encode(), str(fill).encode()), 16) % 2**31


def mask_name(hole: Hole) -> str:
    """A hash of a hole's size and pixels, 16 hexadecimal digits."""
    return _digest(f"{hole.shape[0]}x{hole.shape[1]}".encode(), np.packbits(hole).tobytes())


def draw_hole(family: str, number: int, shape: tuple[int, int]) -> Hole:
    """The hole (H, W) of a family for the picture of that number."""
    seed = int(_digest(f"{VERSION}/{family}/{number}".encode()), 16)
    return FAMILIES[family].draw(*shape, np.random.default_rng(seed))


def cases_of(family: str, pictures: Sequence[tuple[str, Pixels]]) -> list[Case]:
    """One case for each of the named pictures."""
    return [
        Case(name, family, truth, draw_hole(family, number, truth.shape[:2]))
        for number, (name, truth) in enumerate(pictures)
    ]


def protocol_name(cases: Sequence[Case]) -> str:
    """One hash for all pictures and holes that were measured on."""
    return _digest(*(case.name.encode() for case in cases))


def read_pictures(folder: Path, count: int, size: int, part: str = "report") -> list[tuple[str, Pixels]]:
    """Names and middles (size, size, 3) of up to `count` pictures of a folder, reduced so that their shorter side is
    `size`.

    They come in the order of a hash of their names: the first n are a fair draw, the same whatever `count`. Files that
    cannot be read and pictures smaller than `size` are left out. Raises FileMissingError, DataError, OptionError.
    """
    if part not in PARTS:
        raise OptionError(f"part {part!r} is not known; choose {', '.join(PARTS)}")
    found: list[tuple[str, Pixels]] = []
    left_out: list[str] = []
    names = {path.relative_to(folder).as_posix(): path for path in picture_files(folder, left_out.append)}
    for name in sorted(names, key=_order):
        if part in ("all", part_of(name)) and len(found) < count:
            middle = _middle(names[name], size)
            if isinstance(middle, str):
                left_out.append(middle)
            else:
                found.append((name, middle))
    if len(found) < 2:
        first = f" ({len(left_out)} were left out, the first: {left_out[0]})" if left_out else ""
        raise DataError(
            f"{folder} holds fewer than two pictures of {size} x {size} pixels in the part {part!r}{first}; "
            "give another folder, or --part all"
        )
    if left_out:
        say("note", f"{len(left_out)} left out: {left_out[0]}" + ("; and others" if len(left_out) > 1 else ""))
    return found


def part_of(name: str) -> str:
    """Which part a picture belongs to, "choice" or "report": its name alone decides, whatever other pictures there
    are.
    """
    return "choice" if _order(name) / 16**16 < CHOICE_SHARE else "report"


def choose_families(names: Sequence[str]) -> list[str]:
    """Families by their names, by those of their groups, or "all"; in the protocol's order."""
    groups = {family.group for family in FAMILIES.values()}
    wanted = set()
    for name in names:
        name = ALSO_KNOWN_AS.get(name, name)
        if name not in FAMILIES and name not in groups and name != "all":
            raise OptionError(
                f"family {name!r} is not known; choose of {', '.join(FAMILIES)}, "
                f"or a group: {', '.join(sorted(groups - set(FAMILIES)))}, all"
            )
        wanted |= {f.name for f in FAMILIES.values() if name in (f.name, f.group, "all")}
    return [name for name in FAMILIES if name in wanted]


def _middle(path: Path, size: int) -> Pixels | str:
    """The middle of a picture, or why there is none."""
    try:
        pixels = open_thumbnail(path, size)
    except PixmendError as error:
        return str(error)
    top, left = ((length - size) // 2 for length in pixels.shape[:2])
    if min(top, left) < 0:
        return f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels are fewer than {size} a side"
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])


def _order(name: str) -> int:
    return int(_digest(_bytes_of(name)), 16)


def _bytes_of(name: str) -> bytes:
    """A name as the file system has it, be it UTF-8 or not; its letters composed, which macOS may take apart."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")


def _digest(*parts: bytes) -> str:
    """16 hexadecimal digits of SHA-256, of parts whose lengths are told too."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little") + part)
    return hashed.hexdigest()[:16]
