"""The command `pixmend inpaint`: one picture, or a folder of them. What is heavy is imported inside."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixmend.backends import check_backend
from pixmend.console import progress_bar, say, warnings_as_lines
from pixmend.errors import OptionError, OutputError
from pixmend.files import beside, check_output, check_output_folder, errors_as_one_line
from pixmend.folders.command import (
    DryRun,
    EngineName,
    FolderOptions,
    RayAddress,
    Workers,
    refuse_for_folder,
    run_folder,
)
from pixmend.folders.inpainting import InpaintWork
from pixmend.inputs import (
    Frame,
    MaskColor,
    MaskFromAlpha,
    MaskOptions,
    OptionalOutput,
    Preview,
    Tolerance,
    read_inputs,
    save_preview,
)
from pixmend.options import (
    ALMOST_ALL,
    RADIUS_LIMIT,
    AsJson,
    Backend,
    Detail,
    Device,
    Explain,
    MaxMemory,
    ModelFile,
    Overwrite,
    Quality,
    Seed,
    Steps,
    check_choices,
    check_inputs,
    explanation_files,
)

if TYPE_CHECKING:
    from pixmend.inpainting import Inpainted
    from pixmend.pictures import Picture

Mask = Annotated[
    Path | None,
    typer.Option("--mask", "--masks", metavar="FILE", help="White where to fill; else IMAGE's alpha. Or a folder."),
]

OF_STEPS = re.compile(r"step-\d{3,}(-\d+)?\.png|steps(-\d+)?\.gif")  # what --save-steps writes
PAINTED_RIM = 2  # pixels beside what is painted into a picture that have some of its colour: brushes are soft
GROW_HELP = f"Let the hole grow by N pixels first: {PAINTED_RIM} with --mask-color, else 0."
SAMPLER_HELP = "ddpm, ddim, dpmpp-2m, unipc, repaint or ddnm; the model knows best."
Sampler = Annotated[str | None, typer.Option(metavar="NAME", help=SAMPLER_HELP, show_default=False)]
Candidates = Annotated[int, typer.Option(min=1, metavar="N", help="Fills to make: OUT-1, OUT-2 and so on.")]


def inpaint(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture to repair; or a folder of them.")],
    output: OptionalOutput = None,
    mask: Mask = None,
    mask_from_alpha: MaskFromAlpha = False,
    mask_color: MaskColor = None,
    tolerance: Tolerance = None,
    frame: Frame = None,
    preview: Preview = None,
    model: ModelFile = None,
    steps: Steps = None,
    sampler: Sampler = None,
    quality: Quality = "balanced",
    detail: Detail = "picture",
    seed: Seed = 0,
    candidates: Candidates = 1,
    save_steps: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the pictures on the way here.")] = None,
    blur: Annotated[
        int | None,
        typer.Option(min=0, max=RADIUS_LIMIT, metavar="R", help="Radius of a soft edge, in pixels; 0 without."),
    ] = None,
    grow_mask: Annotated[
        int | None, typer.Option(min=0, max=RADIUS_LIMIT, metavar="N", help=GROW_HELP, show_default=False)
    ] = None,
    invert_mask: Annotated[bool, typer.Option("--invert-mask", help="Fill where the mask is black.")] = False,
    soft_mask: Annotated[bool, typer.Option("--soft-mask", help="Take grey in the mask as strength.")] = False,
    explain: Explain = None,
    max_memory: MaxMemory = None,
    overwrite: Overwrite = False,
    backend: Backend = None,
    device: Device = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
) -> None:
    """Repair a picture, or all in a folder, where their masks are white."""
    check_backend(backend, device)
    check_choices(sampler=sampler, quality=quality, detail=detail, max_memory=max_memory)
    if soft_mask and blur is not None:
        raise OptionError("with --soft-mask, grey tells how soft the edge is, as --blur does; leave out one of them")
    of_folder = FolderOptions(dry_run, engine, ray_address, workers, overwrite, as_json)
    rim = PAINTED_RIM if mask_color and grow_mask is None else 0
    hole_options = MaskOptions(mask, mask_from_alpha, mask_color, tolerance, invert_mask, soft_mask, rim)
    how: dict[str, Any] = {
        "model": model,
        "steps": steps,
        "sampler": sampler,
        "quality": quality,
        "detail": detail,
        "seed": seed,
        "blur": blur,
        "grow": grow_mask or 0,
        "backend": backend,
        "device": device,
        "max_memory": max_memory,
    }
    of_fill = {"--candidates": candidates > 1, "--save-steps": save_steps, "--explain": explain}
    if os.path.isdir(image):
        refuse_for_folder(of_fill | {"--frame": frame, "--preview": preview})
        check_inputs(None if mask is None or os.path.isdir(mask) else mask, model)
        if output is None:
            raise OptionError("nothing would be written; give -o FOLDER for the results")
        work = InpaintWork(hole=replace(hole_options, mask=None), **how)
        run_folder(image, output, work, of_folder, masks=mask)
        return
    of_folder.refuse_for_one_picture()
    if output is None and preview is None:
        raise OptionError("nothing would be written; give -o OUT, --preview FILE, or both")
    for name, value in of_fill.items():
        if output is None and value:
            raise OptionError(f"{name} is of a fill, and a preview is none; give -o OUT as well, or leave it out")
    outputs = numbered(output, candidates) if output else []
    check_outputs([*outputs, *explanation_files(explain), *([preview] if preview else [])], save_steps, overwrite)
    check_inputs(image, mask, model)
    picture, hole, notes = read_inputs(image, hole_options, outputs, frame=frame)
    for text in notes:
        say("note", text)
    if preview is not None:
        by_alpha = invert_mask and hole is None
        how_soft = {"blur": blur, "grow": grow_mask or 0, "invert": by_alpha, "soft": soft_mask}
        share = save_preview(picture, hole, preview, overwrite, **how_soft)
        if not outputs and as_json:
            print(json.dumps({"preview": str(preview), "hole_share": share}))
    if not outputs:
        return
    from pixmend.images import save_picture
    from pixmend.inpainting import inpainting

    with progress_bar() as tell, warnings_as_lines():
        result = inpainting(
            picture,
            hole,
            **how,
            candidates=candidates,
            invert_mask=invert_mask and hole is None,
            soft_mask=soft_mask,
            save_steps=save_steps is not None,
            progress=tell,
        )
    for path, one in zip(outputs, result.pictures, strict=True):
        save_picture(one, path, overwrite=overwrite, note=lambda text: say("note", text))
    print_result(result, outputs, as_json=as_json)
    if candidates > 1 and all(part.narrow for part in result.job.parts):
        say(
            "note",
            "the fills are alike: of narrow holes there is one, the mean; --steps 4 draws different ones",
        )
    if save_steps:
        _save_steps(result, len(outputs), save_steps, overwrite)
    if explain:
        from pixmend.explain import save_explanation

        save_explanation(result, explain, overwrite=overwrite)


def numbered(output: Path, candidates: int) -> list[Path]:
    """The names of the outputs: OUT for one candidate, else its stem with -1, -2 and so on.

    Raises OutputError for a folder, beside which they would come to lie.
    """
    if candidates == 1:
        return [output]
    if os.path.isdir(output):
        raise OutputError(f"{output} is a folder; name a file in it")
    return [beside(output, f"-{i}") for i in range(1, candidates + 1)]


def check_outputs(outputs: Sequence[Path], folder: Path | None, overwrite: bool) -> None:
    """Refuse early what exists, cannot be written or would be written twice; folder: of the steps."""
    places = [Path(os.path.realpath(path.parent), path.name) for path in outputs]
    for i, path in enumerate(outputs):
        check_output(path, overwrite)
        if places[i] in places[:i]:
            raise OptionError(f"{path} would be written twice, with two things; give each a name of its own")
    if folder is None:
        return
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise OutputError(f"{folder} is a file; give a folder for the steps")
    if not os.path.isdir(folder):
        check_output_folder(folder)
        return
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written to; choose another for the steps")
    for path in folder.iterdir():
        if OF_STEPS.fullmatch(path.name):
            check_output(path, overwrite)


def _save_steps(result: Inpainted, candidates: int, folder: Path, overwrite: bool) -> None:
    from pixmend.images import save_animation, save_picture
    from pixmend.pictures import from_values

    """Write the pictures on the way; overwrite: those of an earlier fill, of which there may be more, are gone then."""
    with errors_as_one_line(folder):
        folder.mkdir(exist_ok=True)
    names: set[str] = set()
    for candidate in range(candidates):
        end = f"-{candidate + 1}" if candidates > 1 else ""

        def saved(candidate: int = candidate, end: str = end) -> Iterator[Picture]:
            for step in range(len(result.steps[candidate])):
                picture = result.step_picture(step, candidate)
                shown = from_values(picture.colour()) if picture.is_float else picture  # PNG holds no floats
                names.add(name := f"step-{step:03d}{end}.png")
                save_picture(shown, folder / name, overwrite=overwrite)
                yield picture  # one at a time: a large one has hundreds of megabytes

        names.add(name := f"steps{end}.gif")
        save_animation(saved(), folder / name, overwrite=overwrite)
    with errors_as_one_line(folder):
        for path in folder.iterdir() if overwrite else ():
            if OF_STEPS.fullmatch(path.name) and path.name not in names:
                path.unlink()


def print_result(result: Inpainted, outputs: Sequence[Path], *, as_json: bool) -> None:
    """Say how much was filled, how long it took, and where it is."""
    if result.hole_share > ALMOST_ALL:
        say("warning", f"{result.hole_share:.1%} of the picture was filled; if that is not meant, see --invert-mask")
    names = ("hole_share", "touched_share", "network_calls", "seconds", "backend")
    if as_json:
        figures = {name: getattr(result, name) for name in names}
        print(json.dumps({"outputs": [str(path) for path in outputs], **figures}))
        return
    edge = f", {result.touched_share:.1%} with the soft edge" if result.touched_share > result.hole_share else ""
    print(f"{result.hole_share:.1%} of the picture was filled{edge}")
    print(f"{result.seconds:.1f} s, {result.network_calls} network calls")
    print("the result is in", *outputs)
