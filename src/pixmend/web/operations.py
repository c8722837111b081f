"""A mask as the page sends it: a list of operations in the picture's pixels, drawn one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from pixmend.components import Hole
from pixmend.errors import MaskError, OptionError
from pixmend.images import Picture, mask_from_alpha
from pixmend.masks import create_advanced_mask, dilate
from pixmend.painting import outline_runs, paint_outline, paint_rectangle, paint_stroke, stroke_runs
from pixmend.soft_masks import RADIUS_LIMIT
from pixmend.web.limits import MOST_OPERATIONS, MOST_POINTS, MOST_RUNS, MOST_WHOLE

MOST_SENT = 2 * MOST_POINTS  # with those that were cleared
FARTHEST = 1e6  # pixels; coordinates may lie outside of the picture, but not beyond reason

Coordinate = Annotated[float, Ge(-FARTHEST), Le(FARTHEST), Field(allow_inf_nan=False)]
Point = tuple[Coordinate, Coordinate]


def _in_parts(given: list[Any], check: ValidatorFunctionWrapHandler, part: int) -> list[Any]:
    """A list, checked up to the first part that does not do: of all of it there would be an error for each item."""
    checked: list[Any] = []
    for at in range(0, len(given), part):
        try:
            checked += check(given[at : at + part])
        except ValidationError:
            checked += check(given[: at + part])  # the same, with its place in the list
    return checked


def _checked_points(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(given, list) or not 0 < len(given) <= MOST_POINTS:
        return check(given)
    return _in_parts(given, check, 100)


def _checked_operations(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    if not isinstance(given, list) or not 0 < len(given) <= MOST_OPERATIONS:
        return check(given)
    lists = [operation.get("points") for operation in given if isinstance(operation, dict)]
    points = sum(len(each) for each in lists if isinstance(each, list))
    if points > MOST_SENT:
        raise ValueError(f"{points:,} points are too many, with those that were cleared; send at most {MOST_SENT:,}")
    return _in_parts(given, check, 1)


Points = Annotated[list[Point], MinLen(1), MaxLen(MOST_POINTS), WrapValidator(_checked_points)]


class _Operation(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stroke(_Operation):
    """A stroke with round caps and joins; of one point, a dot."""

    op: Literal["stroke"]
    points: Points
    width: Annotated[float, Ge(0), Le(10_000), Field(allow_inf_nan=False)]
    erase: bool = False


class Rectangle(_Operation):
    """The pixels whose centres are inside."""

    op: Literal["rectangle"]
    left: Coordinate
    top: Coordinate
    right: Coordinate
    bottom: Coordinate
    erase: bool = False


class Lasso(_Operation):
    """What a closed outline encloses, by the even-odd rule."""

    op: Literal["lasso"]
    points: Points
    erase: bool = False


class Uploaded(_Operation):
    """Union with a mask that was uploaded."""

    op: Literal["uploaded"]
    mask: Annotated[str, MaxLen(100)]


class Kind(_Operation):
    """Union with a mask of a kind, as `pixmend mask` draws it."""

    op: Literal["kind"]
    kind: Annotated[str, MaxLen(100)]
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0


class Alpha(_Operation):
    """Union with what is transparent in the picture."""

    op: Literal["alpha"]


class Invert(_Operation):
    """What was hole is known, and the other way round."""

    op: Literal["invert"]


class Grow(_Operation):
    """Grow the hole by so many pixels, diagonals included; below zero, shrink it."""

    op: Literal["grow"]
    pixels: Annotated[int, Ge(-RADIUS_LIMIT), Le(RADIUS_LIMIT)]


class Clear(_Operation):
    """Nothing is hole any more."""

    op: Literal["clear"]


Operation = Annotated[
    Stroke | Rectangle | Lasso | Uploaded | Kind | Alpha | Invert | Grow | Clear, Field(discriminator="op")
]
Operations = Annotated[list[Operation], MaxLen(MOST_OPERATIONS), WrapValidator(_checked_operations)]


def since_clear(operations: Sequence[Operation]) -> list[Operation]:
    """The operations that matter: those after the last that clears. Raises OptionError where they are too many."""
    cleared = max((i for i, operation in enumerate(operations) if isinstance(operation, Clear)), default=-1)
    left = list(operations[cleared + 1 :])
    points = sum(len(operation.points) for operation in left if isinstance(operation, Stroke | Lasso))
    if points > MOST_POINTS:
        raise OptionError(f"the mask has {points:,} points; give at most {MOST_POINTS:,}")
    whole = sum(not isinstance(operation, Stroke | Lasso | Rectangle) for operation in left)
    if whole > MOST_WHOLE:
        raise OptionError(f"{whole} operations go over the whole picture; give at most {MOST_WHOLE}")
    return left


def draw(operations: Sequence[Operation], picture: Picture, uploaded: Callable[[str], Hole]) -> Hole:
    """The hole, (H, W), that operations mark in a picture; `uploaded` finds a mask by its id.

    Raises MaskError for a mask of another size and for alpha where there is none, and OptionError.
    """
    hole = np.zeros(picture.size, np.bool_)
    left = since_clear(operations)
    if (runs := sum(_runs(operation, picture.size[0]) for operation in left)) > MOST_RUNS:
        raise OptionError(f"the strokes cut {runs:,.0f} rows of pixels; give fewer points, or narrower strokes")
    for operation in left:
        hole = _drawn(operation, hole, picture, uploaded)
    return hole


def _runs(operation: Operation, height: int) -> float:
    """How many runs of pixels an operation draws in a picture of this height, at most: what it costs."""
    match operation:
        case Stroke():
            return float(stroke_runs(np.array(operation.points), operation.width, height).sum())
        case Lasso():
            return float(outline_runs(np.array(operation.points), height).sum())
        case Rectangle(top=top, bottom=bottom):
            return min(abs(bottom - top), height)
    return 0.0


def _drawn(operation: Operation, hole: Hole, picture: Picture, uploaded: Callable[[str], Hole]) -> Hole:
    match operation:
        case Stroke():
            paint_stroke(hole, np.array(operation.points), operation.width, value=not operation.erase)
        case Rectangle(left=left, top=top, right=right, bottom=bottom):
            paint_rectangle(hole, left, top, right, bottom, value=not operation.erase)
        case Lasso():
            paint_outline(hole, np.array(operation.points), value=not operation.erase)
        case Uploaded():
            hole |= _fitting(uploaded(operation.mask), hole)
        case Kind():
            hole |= create_advanced_mask(operation.kind, picture.size, seed=operation.seed)[0, 0].numpy() > 0
        case Alpha():
            hole |= mask_from_alpha(picture)
        case Invert():
            np.logical_not(hole, out=hole)
        case Grow():
            return _grown(hole, operation.pixels)
        case Clear():
            hole[:] = False
    return hole


def _fitting(mask: Hole, hole: Hole) -> Hole:
    if mask.shape != hole.shape:
        (h, w), (height, width) = mask.shape, hole.shape
        raise MaskError(
            f"the mask is {w} x {h} pixels and the picture {width} x {height}; give a mask of the picture's size"
        )
    return mask


def _grown(hole: Hole, pixels: int) -> Hole:
    """Beyond the picture's edge there is neither hole nor known: nothing grows or shrinks from there."""
    given = torch.from_numpy(hole if pixels >= 0 else ~hole)[None, None]
    grown: Hole = dilate(given, abs(pixels))[0, 0].numpy()
    return grown if pixels >= 0 else ~grown
