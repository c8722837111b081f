"""What `pixmend inpaint` reads: the options that tell the picture's frame and its mask, and both as they are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixmend.console import say
from pixmend.errors import OptionError
from pixmend.options import ALMOST_ALL, MUCH_GREY

if TYPE_CHECKING:
    from pixmend.components import Hole
    from pixmend.images import Source
    from pixmend.pictures import Floats, Picture

_RED = (1.0, -1.0, -1.0)
_COVER = 0.5  # how much of the picture the red of a preview covers
_WIDER = 20  # of 255: by how much JPEG spoils a colour that was painted flat, but for its edges
_MUCH_MORE, _WORTH_TELLING = 0.25, 0.001  # shares, of the hole and of the picture, that a wider tolerance has to add

OptionalOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="OUT", help="Where to write; the suffix is the format.", show_default=False),
]
MaskFromAlpha = Annotated[
    bool, typer.Option("--mask-from-alpha", help="Fill what is transparent in IMAGE, or not measured.")
]
MaskColor = Annotated[
    str | None, typer.Option("--mask-color", metavar="COLOR", help='Fill what has this color in IMAGE, as "#ff00ff".')
]
Tolerance = Annotated[
    int | None, typer.Option(min=0, max=255, metavar="N", help="By how much --mask-color may differ.", show_default="0")
]
Frame = Annotated[int | None, typer.Option(min=1, metavar="N", help="Which frame or page of IMAGE to take.")]
Preview = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write IMAGE with its mask in red here; without -o, only that.")
]


@dataclass(frozen=True)
class MaskOptions:
    """How the hole is told."""

    mask: Path | None = None
    from_alpha: bool = False
    color: str | None = None
    tolerance: int | None = None
    invert: bool = False
    soft: bool = False
    rim: int = 0  # pixels that what has the color grows by, or less where that took half of what is known

    def __post_init__(self) -> None:
        """Raise OptionError for options that contradict each other."""
        ways = {"--mask": self.mask is not None, "--mask-from-alpha": self.from_alpha, "--mask-color": bool(self.color)}
        chosen = [name for name, given in ways.items() if given]
        if len(chosen) > 1:
            raise OptionError(f"{' and '.join(chosen)} each tell the hole; give one of them")
        if self.tolerance is not None and not self.color:
            raise OptionError("--tolerance is of --mask-color; give both, or leave it out")


def read_inputs(
    image: Path, options: MaskOptions, outputs: Sequence[Path], *, frame: int | None = None
) -> tuple[Picture, Floats | None, list[str]]:
    """The picture, its mask's strength, (H, W), or None where its alpha is the mask, and what is worth a note.

    Whatever is wrong with either, or cannot be saved, is told before torch is loaded.
    """
    from pixmend.images import fitted, mask_from_color, open_picture, read_mask

    picture = open_picture(image, frame)
    by_alpha = options.mask is None and not options.color
    written = _opaque_in_its_hole(picture) if by_alpha and not options.invert else picture
    for path in outputs:
        written = fitted(written, path)
    picture = replace(written, samples=picture.samples)
    notes = list(picture.notes)
    if options.color:
        tolerance = options.tolerance or 0
        hole = mask_from_color(picture, options.color, tolerance)
        wider = min(255, tolerance + _WIDER)
        more = float(mask_from_color(picture, options.color, wider).mean()) - float(hole.mean())
        if more > max(_MUCH_MORE * float(hole.mean()), _WORTH_TELLING):
            notes.append(
                f"{more:.1%} more of the picture is within {wider} of {options.color}; --tolerance {wider} takes it too"
            )
        if not options.invert:
            hole = _with_rim(hole, options.rim)
        return picture, (hole != options.invert).astype("float32"), notes
    if options.mask is None:
        if not written.is_opaque and not options.invert:
            notes.append("what is less than half transparent stays as it is; a mask fills what of it is to be filled")
        return picture, None, notes
    reading = read_mask(options.mask, picture.size, invert=options.invert, soft=options.soft)
    if line := reading.line(1.0 if options.soft else MUCH_GREY):
        notes.append(line)
    if not options.soft:
        reading.require_light(inverted=options.invert)
    alpha, marked = picture.alpha(), reading.strength > 0.5
    if alpha is not None and marked.any() and not alpha[marked].any():
        notes.append("all that the mask marks is transparent, and stays so; without a mask, that is filled and opaque")
    return picture, reading.strength, notes


def _opaque_in_its_hole(picture: Picture) -> Picture:
    """The picture as transparent as it is when its hole is filled."""
    hole = picture.told_hole()
    if hole is None or not picture.has_alpha:
        return picture
    samples = picture.samples.copy()
    samples[hole, -1] = picture.levels
    return replace(picture, samples=samples)


def _with_rim(hole: Hole, rim: int) -> Hole:
    """What is painted, and up to so many pixels around; paint in single pixels must not swallow the picture."""
    from pixmend.components import grown

    most = hole.sum() + (~hole).sum() // 2
    for _ in range(rim):
        wider = grown(hole)
        if wider.sum() > most:
            break
        hole = wider
    return hole


def save_preview(picture: Picture, hole: Floats | None, path: Path, overwrite: bool, **how: Any) -> float:
    """Write `mask_preview`, and print where it is and how much would be filled; that share."""
    from pixmend.images import save_picture

    shown, share = mask_preview_and_share(picture, hole, **how)
    save_picture(shown, path, overwrite=overwrite)
    say("note", f"{share:.1%} of the picture is marked, as {path} shows in red")
    if share > ALMOST_ALL:
        say("warning", f"{share:.1%} would be filled; if that is not meant, see --invert-mask")
    return share


def mask_preview(image: Source, mask: Source | None = None, **how: Any) -> Picture:
    """The picture with what would be filled covered half in red, its soft edge less; 8 bits, without alpha or metadata.

    mask: as in `inpainting`; without one, what the picture itself says is missing. how: `blur`, by default none,
    `grow`, `invert` and `soft` of `load_mask`.
    """
    return mask_preview_and_share(image, mask, **how)[0]


def mask_preview_and_share(image: Source, mask: Source | None, **how: Any) -> tuple[Picture, float]:
    """`mask_preview`, and the share of the picture that is hole."""
    import numpy as np

    from pixmend.images import load_mask, mask_from_alpha, open_picture
    from pixmend.pictures import from_values

    picture = open_picture(image)
    if not how.get("soft"):
        how["blur"] = how.get("blur") or 0
    hole = mask_from_alpha(picture) if mask is None else mask
    soft = load_mask(hole, picture.size, **how)[0, 0].numpy()
    share = float((soft > 0).mean())
    if how.get("blur"):  # where edges meet, soft is 1 beside the hole as well
        share = float((load_mask(hole, picture.size, **{**how, "blur": 0}) > 0).float().mean())
    weight = np.float32(_COVER) * soft[..., None]
    return from_values(picture.to_be_seen().colour() * (1 - weight) + weight * np.array(_RED, np.float32)), share
