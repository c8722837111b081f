"""Options that several commands share, and what is checked of their values before torch is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pixmend.errors import FileMissingError, OptionError, PixmendError

ALMOST_ALL = 0.9  # filling a larger share than this is rarely meant: the mask may be the wrong way round
MUCH_GREY = 0.01  # of a mask: more than the edges of a brush or the noise of a JPEG
STOPPED = 130  # the exit code of Ctrl-C, as shells and typer have it
OUT_OF_MEMORY = "the memory that is free does not hold what is worked on; close other programs, or fill less at once"

# What may be chosen: what has these by name is in modules that load torch.
SAMPLERS = ("ddpm", "ddim", "dpmpp-2m", "unipc", "repaint", "ddnm")
QUALITIES = ("fast", "balanced", "best")
DETAILS = ("picture", "model")
RADIUS_LIMIT = 1024  # pixels, of soft edges and of what holes grow by
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}

Seed = Annotated[int, typer.Option(min=0, max=2**63 - 2, metavar="N", help="The same seed gives the same result.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; left out, the best there is.", show_default=False)]
Backend = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, torch, openvino or onnx: what computes the network.", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="OUT", help="Where to write; the suffix is the format.")
]
ModelFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A model file; by default pixmend's own.")]
Steps = Annotated[int | None, typer.Option(min=1, metavar="N", help="Network calls at the coarsest level.")]
Quality = Annotated[str, typer.Option(metavar="NAME", help="fast, balanced or best: network calls a level.")]
Detail = Annotated[
    str,
    typer.Option(metavar="NAME", help="From 11 pixels on: picture, from known parts of it; or model, by the network."),
]
MaxMemory = Annotated[
    str | None, typer.Option(metavar="X", help="Such as 2GB, or 50% of what is free.", show_default="50%")
]
Explain = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw what was done: a .png with a .json beside it, or a .json.")
]


def explanation_files(path: Path | None) -> list[Path]:
    """What --explain FILE writes: FILE.json, or FILE.png with FILE.json beside it."""
    if path is None:
        return []
    if path.suffix.lower() not in (".png", ".json"):
        raise OptionError(f"{path} cannot hold an explanation; name it .png, and a .json comes beside it, or .json")
    return [path] if path.suffix.lower() == ".json" else [path.with_suffix(".json"), path]


def check_choices(*, sampler: str | None, quality: str, detail: str, max_memory: str | None) -> None:
    """Refuse here, before torch is loaded, what `inpainting` would refuse later. Raises OptionError."""
    for what, name, known in (
        ("sampler", sampler, SAMPLERS),
        ("quality", quality, QUALITIES),
        ("detail", detail, DETAILS),
    ):
        if name is not None and name not in known:
            raise OptionError(f"{what} {name!r} is not known; choose one of {', '.join(known)}")
    if max_memory is not None:
        memory_amount(max_memory)


def memory_amount(wanted: int | str) -> tuple[float, bool]:
    """What "2GB", "1.5 GiB" or "50%" stand for: bytes, or a share of what is free, and whether it is a share.

    Raises OptionError for what is not understood.
    """
    text = str(wanted).strip().lower()
    found = re.fullmatch(r"(\d+\.?\d*)\s*(%|[kmg]?i?)b?", text)
    value = float(found[1]) if found else 0
    if not found or (found[2] not in UNITS and found[2] != "%") or not (0 < value <= (100 if "%" in text else 2**60)):
        raise OptionError(f"max memory {wanted!r} is not understood; give such as 2GB, 800MB or 50% of what is free")
    return (value / 100, True) if found[2] == "%" else (value * UNITS[found[2]], False)


def check_inputs(*paths: Path | None) -> None:
    """Refuse here, before torch is loaded, the commonest mistake that the readers of files would refuse later."""
    for path in paths:
        # os.path answers no where pathlib raises: a name too long, a folder that may not be searched
        if path is not None and not os.path.isfile(path):
            raise FileMissingError(f"{path} {_why_no_file(path)}")


def _why_no_file(path: Path) -> str:
    if os.path.isdir(path):
        return "is a folder; give a file"
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist; check its name"
    except OSError as error:
        return f"cannot be reached ({error.strerror}); check its name, and see to its permissions"
    return "is a device or a pipe; save what it holds as a file, and give that"


@contextmanager
def named_as_options(options: Mapping[str, str]) -> Iterator[None]:
    """Call parameters, in what is raised inside, by the options that they were given with: name -> option."""
    try:
        yield
    except PixmendError as error:
        text = re.sub(rf"(config\.)?\b({'|'.join(options)})\b", lambda found: options[found[2]], str(error))
        if text == str(error):
            raise
        raise type(error)(text) from error
