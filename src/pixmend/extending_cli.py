"""The command `pixmend extend`. What is heavy is imported inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pixmend.backends import check_backend
from pixmend.console import progress_bar, say, warnings_as_lines
from pixmend.inpainting_cli import Candidates, Sampler, check_outputs, numbered
from pixmend.inputs import Frame
from pixmend.options import (
    AsJson,
    Backend,
    Detail,
    Device,
    Explain,
    MaxMemory,
    ModelFile,
    Output,
    Overwrite,
    Quality,
    Seed,
    Steps,
    check_choices,
    check_inputs,
    explanation_files,
)

Side = Annotated[str, typer.Option(metavar="N", help="Pixels, or such as 20%.")]


def extend(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to extend.")],
    output: Output,
    left: Side = "0",
    right: Side = "0",
    top: Side = "0",
    bottom: Side = "0",
    frame: Frame = None,
    model: ModelFile = None,
    steps: Steps = None,
    sampler: Sampler = None,
    quality: Quality = "balanced",
    detail: Detail = "picture",
    seed: Seed = 0,
    candidates: Candidates = 1,
    explain: Explain = None,
    max_memory: MaxMemory = None,
    overwrite: Overwrite = False,
    backend: Backend = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Let a picture go on beyond its borders. What was there stays as it is."""
    check_backend(backend, device)
    check_choices(sampler=sampler, quality=quality, detail=detail, max_memory=max_memory)
    outputs = numbered(output, candidates)
    check_outputs([*outputs, *explanation_files(explain)], None, overwrite)
    check_inputs(image, model)
    from pixmend.extending import extended_canvas
    from pixmend.images import fitted, open_picture, save_picture

    canvas, hole = extended_canvas(open_picture(image, frame), left=left, right=right, top=top, bottom=bottom)
    canvas = fitted(canvas, outputs[0])
    for note in canvas.notes:
        say("note", note)
    from pixmend.inpainting import inpainting

    with progress_bar() as tell, warnings_as_lines():
        result = inpainting(
            canvas,
            hole,
            blur=0,  # no soft edge: it would lie on what is known
            model=model,
            steps=steps,
            sampler=sampler,
            candidates=candidates,
            quality=quality,
            detail=detail,
            seed=seed,
            backend=backend,
            device=device,
            max_memory=max_memory,
            progress=tell,
        )
    for path, extended_picture in zip(outputs, result.pictures, strict=True):
        save_picture(extended_picture, path, overwrite=overwrite, note=lambda text: say("note", text))
    height, width = result.pictures[0].size
    if as_json:
        figures = {name: getattr(result, name) for name in ("hole_share", "network_calls", "seconds", "backend")}
        print(json.dumps({"outputs": [str(path) for path in outputs], "width": width, "height": height, **figures}))
    else:
        print(f"{width} x {height} pixels, {result.hole_share:.1%} of them new")
        print(f"{result.seconds:.1f} s, {result.network_calls} network calls")
        print("the result is in", *outputs)
    if explain:
        from pixmend.explain import save_explanation

        save_explanation(result, explain, overwrite=overwrite)
