"""The command `pixmend evaluate`. What is heavy is imported inside."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pixmend.console import progress_bar, say, show
from pixmend.errors import FileMissingError, OptionError, OutputError
from pixmend.options import AsJson, Device, check_inputs

EVERY = 30.0  # seconds between two lines of progress, where they do not go to a terminal


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photographs that no model was trained on.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="REPORT", help="Folder of the report and the fills.")
    ],
    model: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A model; may be given again.")] = None,
    methods: Annotated[str, typer.Option(metavar="A,B,...", help="See docs/evaluation.md; or all.")] = "",
    families: Annotated[str, typer.Option(metavar="A,B,...", help="Kinds of holes, or groups of them.")] = "all",
    pictures: Annotated[int, typer.Option(min=2, metavar="N", help="At most so many.")] = 100,
    fills: Annotated[int, typer.Option(min=1, metavar="N", help="Of each hole, where a method is random.")] = 5,
    calls: Annotated[str, typer.Option(metavar="N,N,...", help="Steps, beside the model's own.")] = "",
    qualities: Annotated[str, typer.Option(metavar="A,B,...", help="As fast,best: beside balanced.")] = "",
    samplers: Annotated[str, typer.Option(metavar="A,B,...", help="In the place of the model's own.")] = "",
    size: Annotated[int | None, typer.Option(min=16, metavar="N", help="Side of the pictures; the model's.")] = None,
    part: Annotated[str, typer.Option(help="choice (to choose settings by), report, or all.")] = "report",
    plain: Annotated[Path | None, typer.Option(metavar="FILE", help="A plain model, for put-back and repaint.")] = None,
    command: Annotated[
        list[str] | None, typer.Option(metavar="TEMPLATE", help='"tool {image} {mask} {output}"')
    ] = None,
    torchscript: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A network of others.")] = None,
    onnx: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="A network of others.")] = None,
    classify: Annotated[str | None, typer.Option(metavar="A,B,...", help="Families to tell real from filled.")] = None,
    training: Annotated[Path | None, typer.Option(metavar="FOLDER", help="What the model may have copied.")] = None,
    reference: Annotated[str | None, typer.Option(metavar="METHOD", help="What others are compared with.")] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure how good fills are, beside other methods. Ctrl-C keeps what is done; the same command goes on."""
    steps = [_number(text) for text in _words(calls)]
    check_inputs(*(model or []), plain, *(torchscript or []), *(onnx or []))
    for path in (folder, training):
        if path is not None and not os.path.isdir(path):
            raise FileMissingError(f"{path} is not a folder; give a folder of pictures")
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"{output} is a file; give a folder for the report")
    from pixmend.checkpoint import read_header
    from pixmend.evaluation import methods as known
    from pixmend.evaluation.evaluate import CLASSIFIED
    from pixmend.evaluation.evaluate import evaluate as run
    from pixmend.evaluation.protocol import choose_families
    from pixmend.evaluation.tables import print_table

    asked = known.Asked(
        models=model or (None,),
        plain=plain,
        samplers=_words(samplers),
        calls=steps,
        qualities=_words(qualities),
        commands=command or (),
        torchscripts=torchscript or (),
        onnx=onnx or (),
        device=device,
    )
    chosen, notes = known.choose_methods(_words(methods) or known.DEFAULT, asked)
    try:
        with progress_bar() as update:
            result = run(
                folder,
                output,
                methods=chosen,
                families=_words(families),
                pictures=pictures,
                fills=fills,
                size=size or int(read_header(asked.models[0])["size"]),
                part=part,
                classify=CLASSIFIED if classify is None else choose_families(_words(classify)),
                training=training,
                reference=reference,
                notes=notes,
                progress=_progress(update),
            )
    except KeyboardInterrupt:
        say("note", f"what is done is kept in {output}; the same command goes on")
        raise
    for note in result.notes:
        say("note", note)
    if as_json:
        print((output / "report.json").read_text("utf-8"))
        return
    print_table(result.figures)
    print("the report is in", output / "report.html")


def _progress(update: Callable[..., None]) -> Callable[[int, int, str], None]:
    """What shows the bar; where nobody sees it, a line now and then."""
    told = time.monotonic()

    def tell(done: int, total: int, text: str) -> None:
        nonlocal told
        update(done, total, text)
        if not sys.stderr.isatty() and time.monotonic() - told > EVERY:
            told = time.monotonic()
            show(f"{done} of {total}: {text}")

    return tell


def _words(text: str) -> list[str]:
    """The words between commas; "none" is none."""
    return [word.strip() for word in text.split(",") if word.strip() not in ("", "none")]


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise OptionError(f"calls {text!r} are not understood; give numbers such as 1,2,4,8")
    return int(text)
