"""The commands: each reads its options, calls one function and prints. What is heavy is imported inside."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixmend.backends import missing_packages
from pixmend.console import header_lines, open_closed_streams, progress_bar, say, show
from pixmend.denoising.cli import denoise
from pixmend.errors import (
    BackendError,
    FileMissingError,
    MemoryLimitError,
    OptionError,
    OutputError,
    PixmendError,
)
from pixmend.evaluation.cli import evaluate
from pixmend.extending_cli import extend
from pixmend.files import beside, check_output, check_output_folder
from pixmend.inpainting_cli import check_outputs, inpaint, print_result
from pixmend.locks import RUN_LOCK, refuse_if_held
from pixmend.mask_cli import mask
from pixmend.options import (
    OUT_OF_MEMORY,
    STOPPED,
    AsJson,
    Device,
    Output,
    Overwrite,
    Seed,
    check_inputs,
    named_as_options,
)
from pixmend.processes import rank, speaks
from pixmend.run_place import check_training
from pixmend.signals import end_on_signal
from pixmend.train_config import TrainConfig
from pixmend.web.cli import serve

if TYPE_CHECKING:
    from pixmend.training import Report

# Plain help shows in half the time that a decorated one takes, and can be pasted anywhere.
app = typer.Typer(
    help="Repair the missing parts of pictures, and train models that do.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(denoise, name="denoise")


TRAIN_OPTIONS = {"total_kimg": "--kimg", "batch_size": "--batch"}  # what `TrainConfig` calls otherwise
# What the system says of paths that were given, where nobody who read or wrote them put it into words.
REFUSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)
CLOSED = (errno.EPIPE, errno.EIO, *([errno.EINVAL] if sys.platform == "win32" else []))  # a pipe or a terminal
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; what a user can mend is one line on stderr, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have letters that cannot be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    with end_on_signal() as stopped:
        try:
            if "" in arguments:  # a path of no letters would be the current folder
                raise OptionError("an argument is empty, perhaps a variable that is not set; name a file or folder")
            code = app(args=list(arguments) or ["--help"], prog_name="pixmend", standalone_mode=False) or 0
            sys.stdout.flush()  # here, where it can be told that it failed
        except KeyboardInterrupt:
            code = STOPPED
        except Exception as error:  # noqa: BLE001  # raised again, where it is a defect
            if not stopped():
                return _told(error)
            code = STOPPED
    if code == STOPPED:
        _complain("stopped")
    return int(code)


def _told(error: Exception) -> int:
    """Say what a user can mend, and return its exit code; raise all else again."""
    if isinstance(error, PixmendError):
        _complain(str(error))
        return error.exit_code
    if isinstance(error, MemoryError):
        _complain(OUT_OF_MEMORY)
        return MemoryLimitError.exit_code
    if isinstance(error, typer.TyperException):  # an option that is unknown, missing or malformed
        _complain(f"{error.format_message().rstrip('.')}; see pixmend --help")
        return error.exit_code
    if isinstance(error, OSError) and error.errno in (*CLOSED, errno.ENOSPC) and not error.filename:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python empties its buffers at the end
        if error.errno != errno.ENOSPC:
            return STOPPED  # nobody reads what is printed any more, which needs no word
        _complain("what was to be printed could not be written: the disk is full; free some space, or print elsewhere")
        return OutputError.exit_code
    if isinstance(error, OSError) and error.errno in (*REFUSED, *FULL) and error.filename:
        advice = "choose another output" if error.errno in FULL else "check its name, and see to its permissions"
        _complain(f"{os.fsdecode(error.filename)}: {error.strerror}; {advice}")
        return (OutputError if error.errno in FULL else FileMissingError).exit_code
    raise error


def _complain(message: str) -> None:
    """One line, of one of the processes where there are several."""
    if speaks():
        say("error", message)


app.command()(inpaint)
app.command()(extend)


@app.command()
def train(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder of pictures, at any depth; or tar files: x-{00..99}.tar"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")],
    size: Annotated[int | None, typer.Option(min=8, metavar="N", help="Sample's side.", show_default="64")] = None,
    batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Samples a step.", show_default="32")] = None,
    accumulate: Annotated[int, typer.Option(min=1, metavar="N", help="Parts of a batch, one by one.")] = 1,
    kimg: Annotated[float | None, typer.Option(metavar="X", help="Thousands of samples.", show_default="400")] = None,
    lr: Annotated[float | None, typer.Option(metavar="X", help="Learning rate.", show_default="0.0004")] = None,
    balance: Annotated[float, typer.Option(min=0, max=1, metavar="X", help="1: errors relative to the guide's.")] = 0,
    seed: Seed = 0,
    init: Annotated[Path | None, typer.Option(metavar="MODEL", help="A model file to start from.")] = None,
    distill: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Learn to do in N steps what it does in 2N.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Those of --distill.")] = None,
    mean: Annotated[bool, typer.Option("--mean", help="The mean of what may be there, in one step.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the training of MODEL stopped.")] = False,
    workers: Annotated[int | None, typer.Option(min=0, metavar="N", help="Processes that prepare samples.")] = None,
    overwrite: Overwrite = False,
    device: Device = None,
) -> None:
    """Train a model on a folder of pictures. Ctrl-C saves and leaves; --resume goes on."""
    run = check_training(output, overwrite=overwrite, resume=resume, sources=(init, distill))
    if rank() == 0:
        refuse_if_held(run / RUN_LOCK)
    check_inputs(init, distill)
    if (distill is None) != (steps is None):
        raise OptionError("--distill MODEL and --steps N go together: N steps for what MODEL does in 2N; give both")
    if mean and distill is not None:
        raise OptionError("--mean is for models of a single step, which learn from no teacher; leave out --distill")
    if folder.name.lower().endswith(COMPRESSED):
        raise OptionError(
            f"{folder} is compressed, and would be read from the start for each picture; unpack it to .tar"
        )
    if not os.path.isdir(folder) and folder.suffix.lower() != ".tar":
        raise FileMissingError(f"{folder} is not a folder; give a folder of pictures to train on, or .tar files")
    chosen: dict[str, Any] = {"batch_size": batch, "total_kimg": kimg, "lr": lr, "workers": workers}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    with named_as_options(TRAIN_OPTIONS):
        config = TrainConfig(seed=seed, accumulate=accumulate, **chosen)
    from pixmend.training import train_model

    last: Report | None = None
    with progress_bar(shown=rank() == 0) as update, named_as_options(TRAIN_OPTIONS):

        def tell(report: Report) -> None:
            nonlocal last
            last = report
            update(report.step, report.steps, _training_line(report))
            if report.held_out is not None:
                show(_training_line(report))

        train_model(
            folder,
            output,
            config,
            init=init,
            resume=resume,
            overwrite=overwrite,
            size=size,
            device=device,
            balance=balance,
            teacher=distill,
            steps=steps,
            mean=mean,
            progress=tell,
            decoding=update,
            note=lambda text: say("note", text),
        )
    if rank() > 0:
        return
    is_stopped = last is not None and last.step < last.steps
    print(f"the model{' so far' if is_stopped else ''} is in {output}; its log and pictures are in {run}")
    if os.path.exists(run / "notes.txt"):
        say("note", f"what went wrong on the way is in {run / 'notes.txt'}")
    if last and is_stopped:
        print(f"saved after step {last.step} of {last.steps}; the same command with --resume goes on")
        raise typer.Exit(STOPPED)


app.command()(mask)


@app.command()
def info(
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help="By default pixmend's own.")] = None,
    denoiser: Annotated[bool, typer.Option("--denoiser", help="Of the denoiser that ships.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a model file says of itself: of one that fills holes, or of a denoiser."""
    if denoiser and model is not None:
        raise OptionError(f"--denoiser is the one that ships, and {model} another; give one of the two")
    from pixmend.model_files import DEFAULT_DENOISER, DEFAULT_MODEL, read_any_header

    header = read_any_header(model or (DEFAULT_DENOISER if denoiser else DEFAULT_MODEL))
    print(json.dumps(header, indent=2) if as_json else "\n".join(header_lines(header)))


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder of diffusers, or a .pt of guided-diffusion.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write.")],
    architecture: Annotated[Path | None, typer.Option(metavar="JSON", help="What network a .pt is of.")] = None,
    label: Annotated[int | None, typer.Option("--class", min=0, metavar="N", help="The class to fill with.")] = None,
    size: Annotated[int | None, typer.Option(min=1, metavar="N", help="Side of the training pictures.")] = None,
    assume_ddpm: Annotated[bool, typer.Option("--assume-ddpm", help="If no scheduler is there, take DDPM's.")] = False,
    terms: Annotated[str | None, typer.Option(metavar="TEXT", help="The terms of use of the weights.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Half precision: half the file, a little rounded.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a model file from weights that others trained."""
    check_output(output, overwrite, "model.safetensors")
    if output.suffix != ".safetensors":
        raise OptionError(f"the model {output} must be named as what it is; give {output.stem}.safetensors")
    check_inputs(architecture, None if os.path.isdir(source) else source)
    import torch

    from pixmend.adapters import import_model
    from pixmend.checkpoint import save_model

    model = import_model(
        source, architecture=architecture, label=label, size=size, assume_ddpm=assume_ddpm, terms=terms
    )
    save_model(output, model, overwrite=overwrite, dtype=torch.float16 if half else torch.float32)
    print(f"the model is in {output}: {model.network.parameter_count:,} parameters, pictures of {model.size} pixels")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file; for diffusers, of a plain model.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="A new folder, or an .onnx file.")],
    kind: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="onnx or diffusers; left out, as OUT is named.")
    ] = None,
    filler: Annotated[
        bool, typer.Option("--filler", help="ONNX: guide and sampler in the file, too; it takes a picture and a mask.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs: as an ONNX file, or as a folder for diffusers."""
    kind = kind or ("onnx" if output.suffix == ".onnx" else "diffusers")
    if kind not in ("onnx", "diffusers"):
        raise OptionError(f"format {kind!r} is not known; choose onnx or diffusers")
    if kind == "onnx":
        _export_onnx(model, output, filler, overwrite)
        return
    if filler:
        raise OptionError("--filler is for ONNX; leave it out, or give an OUT that ends in .onnx")
    if overwrite:
        raise OptionError("a folder is never replaced; leave --overwrite out, and choose a new name")
    check_output_folder(output)
    check_inputs(model)
    from pixmend.adapters import export_model
    from pixmend.checkpoint import load_model

    export_model(load_model(model), output)
    print(f"the pipeline is in {output}; DiffusionPipeline.from_pretrained of diffusers loads it")


def _export_onnx(model: Path, output: Path, filler: bool, overwrite: bool) -> None:
    check_output(output, overwrite, "model.onnx")
    check_inputs(model)
    if missing := missing_packages("onnx"):
        raise BackendError(f"exporting to ONNX needs {' and '.join(missing)}; install pixmend[onnx]")
    from pixmend.checkpoint import load_model

    if filler:
        from pixmend.onnx_filler import export_onnx_filler

        export_onnx_filler(load_model(model), output, overwrite=overwrite)
        print(f"what fills holes is in {output}, checked against torch; docs/backends.md shows how to repair with it")
        return
    from pixmend.backends.onnx_file import export_onnx

    export_onnx(load_model(model), output, overwrite=overwrite)
    print(f"the network is in {output}, checked against torch; docs/backends.md says what it takes")


@app.command()
def demo(output: Output = Path("pixmend-demo.png"), seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Repair a photograph that ships with pixmend."""
    compared = beside(output, "-side-by-side")
    check_outputs([output, compared], None, overwrite)
    from pixmend.demo import ASSETS, EXAMPLE, run_demo
    from pixmend.images import check_savable, open_picture, save_picture

    check_savable(open_picture(ASSETS / EXAMPLE.photograph), output)
    with progress_bar() as tell:
        result, side_by_side = run_demo(seed=seed, progress=tell)
    save_picture(side_by_side, compared, overwrite=overwrite)
    save_picture(result.pictures[0], output, overwrite=overwrite)
    print_result(result, [output, compared], as_json=False)


app.command()(evaluate)
app.command()(serve)


def _training_line(report: Report) -> str:
    minutes = report.seconds_left / 60
    held_out = "" if report.held_out is None else f", held out {report.held_out:.4f}"
    return (
        f"step {report.step}/{report.steps}: loss {report.loss:.4f}{held_out}, lr {report.lr:.1e}, "
        f"{report.samples_per_second:.0f} samples/s, {minutes:.0f} min left"
    )
