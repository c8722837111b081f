"""Options that several commands share, and what is checked of their values before torch is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pixmend.errors import FileMissingError

STOPPED = 130  # the exit code of Ctrl-C, as shells and typer have it

Seed = Annotated[int, typer.Option(min=0, metavar="N", help="The same seed gives the same result.")]
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


def check_inputs(*paths: Path | None) -> None:
    """Refuse here, before torch is loaded, the commonest mistake that the readers of files would refuse later."""
    for path in paths:
        if path is not None and not path.is_file():
            what = "is a folder; give a file" if path.is_dir() else "does not exist; check its name"
            raise FileMissingError(f"{path} {what}")
