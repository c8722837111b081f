"""What is to be filled in a picture: its hole, read and checked, where that is narrow, and the windows around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixmend.components import Hole
from pixmend.conditioning import enlarged
from pixmend.errors import MaskError, PictureError
from pixmend.images import Picture, Source, composite, load_mask, open_picture, read_mask
from pixmend.pictures import NOT_WHOLE_BESIDE
from pixmend.soft_masks import soft_mask as soft_mask_of
from pixmend.windows import SOLID, Part, Window, find_parts, narrow_pixels


@dataclass(frozen=True)
class Step:
    """A part of the picture after one step."""

    part: int  # which one
    area: Window  # in pixels of the picture
    state: Tensor  # (1, 3, h, w) of any scale


@dataclass(frozen=True)
class Job:
    """A picture and what is to be filled in it."""

    picture: Picture
    hole: Hole  # (H, W), what is to be filled
    soft: NDArray[np.float32]  # (H, W), its soft mask; narrow holes have no soft edge
    narrow: Hole  # (H, W), the holes that are filled by the mean
    kept: Hole  # (H, W), the hole where something of what is there is to be kept
    parts: list[Part]  # those of narrow holes first; their windows may overlap the others'
    opaque: bool  # whether the mask was the picture's own transparency, which ends with the fill
    grey: bool  # whether all of the picture that is known is grey, and so the fill is to be
    size: int  # of a tile, in pixels
    has_edge: bool  # whether the soft mask may be neither 0 nor 1 somewhere

    def weights(self, part: Part, area: Window) -> NDArray[np.float32]:
        """The soft mask in an area, of holes of the part's own kind alone."""
        return np.where(area.of(self.narrow) == part.narrow, area.of(self.soft), np.float32(0))

    def paste(self, samples: NDArray[Any], step: Step) -> None:
        """Lay the state of an area over samples, (H, W, C) of the whole picture; nothing but the area is touched."""
        soft = self.weights(self.parts[step.part], step.area)
        values = enlarged(step.state.float().cpu(), soft.shape)[0].permute(1, 2, 0).numpy()
        below = replace(self.picture, samples=step.area.of(samples))
        step.area.of(samples)[:] = composite(below, values, soft, self.opaque, self.grey).samples

    def picture_at(self, step: Step, filled: NDArray[Any]) -> Picture:
        """The whole picture after a step; filled: samples in which the parts before are filled."""
        samples = self.picture.samples.copy()
        for part in self.parts[: step.part]:
            own = self.weights(part, part.window) > 0
            part.window.of(samples)[own] = part.window.of(filled)[own]
        self.paste(samples, step)
        return replace(self.picture, samples=samples)


def read_job(
    image: Source, mask: Source | None, *, blur: int | None, grow: int, invert: bool, soft: bool
) -> tuple[Picture, Hole, NDArray[np.float32]]:
    """The picture, its hole and its soft mask, (H, W) both; at least one pixel is hole, and at least one is known."""
    picture = open_picture(image)
    if mask is None:
        mask = picture.told_hole()
        if mask is None:
            raise MaskError("there is no mask, and nothing is transparent; give a mask, white where to fill")
    hole = load_mask(mask, picture.size, blur=blur if soft else 0, grow=grow, invert=invert, soft=soft)
    hard = hole[0, 0].numpy()
    softened = hard if soft or not blur else _softened(hard > 0, blur)
    if not soft and (not softened.any() or softened.min() > 0):
        read_mask(mask, invert=invert).require_light(inverted=invert)
    if not softened.any():
        raise MaskError(
            "the mask marks nothing, 0 % of the picture would be filled; paint white what is to be filled, "
            "or use --invert-mask"
        )
    if softened.min() > 0:
        painted = load_mask(mask, picture.size, blur=None if soft else 0, invert=invert, soft=soft)[0, 0]
        what, advice = ("the mask", "leave some of it black, or use --invert-mask")
        if painted.min() == 0:
            what = "the mask with its soft edge" if blur else "the mask, as it was grown,"
            advice = "give a smaller --blur or --grow-mask"
        raise MaskError(f"{what} covers the whole picture, so that nothing is known to go on; {advice}")
    if picture.is_float and (picture.lacking() & (softened < 1)).any():
        raise PictureError(NOT_WHOLE_BESIDE)
    return picture, hard > 0, softened


def planned(
    picture: Picture,
    hole: Hole,
    soft: NDArray[np.float32],
    size: int,
    blur: int | None,
    *,
    is_soft: bool,
    opaque: bool,
    uses_mean: bool,
) -> Job:
    """What is to be filled where: by the mean, if it is used, where the hole is narrow; size: of a tile, in pixels."""
    kept = hole & (soft < 1)
    has_edge = is_soft or bool(blur)
    parts = find_parts(soft > 0, size, soft >= SOLID if has_edge else None)
    narrow = np.zeros_like(hole)
    if uses_mean:
        for part in parts:
            part.window.of(narrow)[:] = narrow_pixels(part.window.of(hole), part.window.of(kept))
    if narrow.any():
        soft = np.where(narrow, np.float32(1), soft if is_soft else _softened(hole & ~narrow, blur or 0))
        solid = (soft >= SOLID) & ~narrow if has_edge else None
        parts = _narrow_parts(narrow, size) + find_parts((soft > 0) & ~narrow, size, solid)
    known = soft == 0
    grey = picture.is_grey_where(known)
    return Job(picture.spanned(known), hole, soft, narrow, kept, parts, opaque, grey, size, has_edge)


def _softened(hole: Hole, blur: int | None) -> NDArray[np.float32]:
    """The soft mask of a hole, (H, W) both."""
    soft: NDArray[np.float32] = soft_mask_of(torch.from_numpy(hole)[None, None], blur)[0, 0].numpy()
    return soft


def _narrow_parts(narrow: Hole, size: int) -> list[Part]:
    """The windows for narrow holes, which are filled at one level."""
    return [replace(part, halvings=0, narrow=True) for part in find_parts(narrow, size)]
