"""The command `pixmend mask`: draw a mask of some kind, or find the scratches of a picture. What is heavy is imported
inside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pixmend.console import say
from pixmend.errors import OptionError
from pixmend.files import check_output
from pixmend.inputs import Frame
from pixmend.options import Output, Overwrite, Seed, check_inputs

MUCH = 0.2  # of a picture: a larger share is rarely damage, but the picture's own lines


def _list_kinds(wanted: bool) -> None:
    if not wanted:
        return
    from pixmend.masks import KINDS

    for name, draw in KINDS.items():
        print(f"{name:20}{(draw.__doc__ or '').splitlines()[0]}")
    raise typer.Exit


def mask(
    output: Output,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="A kind that --list names.")] = None,
    size: Annotated[str | None, typer.Argument(metavar="SIZE", help="256, or 640x480 (width x height).")] = None,
    seed: Seed = 0,
    scratches: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Instead of drawing: find the damage in this scan.")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(metavar="X", help="Of --scratches: 0 least, 1 most.", show_default="0.5")
    ] = None,
    polarity: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of --scratches: light, dark or both.", show_default="both")
    ] = None,
    frame: Frame = None,
    overwrite: Overwrite = False,
    kinds: Annotated[bool, typer.Option("--list", is_eager=True, callback=_list_kinds, help="List all kinds.")] = False,
) -> None:
    """Draw a mask, white where a picture would be filled; or find scratches, dust and creases in a scan."""
    if scratches is not None:
        if kind is not None:
            raise OptionError(f"--scratches finds a mask, and {kind!r} asks for a drawn one; give one of the two")
        if seed:
            raise OptionError("--seed is of masks that are drawn, and --scratches finds one; leave one of them out")
        how = {"sensitivity": 0.5 if sensitivity is None else sensitivity, "polarity": polarity or "both"}
        return _find(scratches, output, {**how, "frame": frame}, overwrite)
    for name, value in {"--sensitivity": sensitivity, "--polarity": polarity, "--frame": frame}.items():
        if value is not None:
            raise OptionError(f"{name} belongs to --scratches IMAGE; leave it out, or give that too")
    if kind is None or size is None:
        raise OptionError("give a KIND (--list names them) and a SIZE to draw a mask, or --scratches IMAGE to find one")
    return _draw(kind, size, output, seed, overwrite)


def _draw(kind: str, size: str, output: Path, seed: int, overwrite: bool) -> None:
    shape = parse_size(size)
    _check(output, overwrite)
    from pixmend.images import open_picture, save_picture
    from pixmend.masks import create_advanced_mask

    hole = create_advanced_mask(kind, shape, seed=seed)[0, 0].numpy() > 0  # (H, W)
    save_picture(open_picture(hole), output, overwrite=overwrite)
    print(f"{hole.mean():.1%} of {output} is white: the share of a picture that it would fill")


def _find(image: Path, output: Path, how: dict[str, Any], overwrite: bool) -> None:
    _check(output, overwrite)
    check_inputs(image)
    from pixmend.images import open_picture, save_picture
    from pixmend.scratches import find_scratches

    hole = find_scratches(image, **how)
    save_picture(open_picture(hole), output, overwrite=overwrite)
    if not hole.any():
        say("note", "no damage was found; try --sensitivity 0.75")
    elif hole.mean() > MUCH:
        say("warning", "so much is rarely damage: the picture's own lines may be marked; try --sensitivity 0.25")
    print(f"{hole.mean():.1%} of {output} is white; look at it, and erase what is no damage before you fill it")


def _check(output: Path, overwrite: bool) -> None:
    """Refuse, before any work, a name that no mask can have."""
    check_output(output, overwrite)
    import numpy as np

    from pixmend.images import check_savable, open_picture

    check_savable(open_picture(np.zeros((1, 1), bool)), output)


def parse_size(text: str) -> tuple[int, int]:
    """(H, W) from "256" or from "640x480", which is width x height."""
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not (height or width).isdecimal() or text.endswith(("x", "X")):
        raise OptionError(f"size {text!r} is not understood; give one number such as 256, or 640x480 (width x height)")
    return int(height or width), int(width)
