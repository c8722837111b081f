"""The commands `pixmend denoise ...`. What is heavy is imported inside."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pixmend.console import progress_bar, say, show
from pixmend.denoising.folder import DenoiseWork
from pixmend.errors import OptionError
from pixmend.files import check_made_folder, check_output, errors_as_one_line
from pixmend.folders.command import (
    DryRun,
    EngineName,
    FolderOptions,
    RayAddress,
    Workers,
    refuse_for_folder,
    run_folder,
)
from pixmend.inputs import Frame
from pixmend.options import STOPPED, AsJson, Device, Output, Overwrite, Seed, check_inputs

if TYPE_CHECKING:
    from pixmend.denoising.cifar import PictureSet
    from pixmend.loop import Report
    from pixmend.train_config import TrainConfig

PICTURE = "picture"  # the command that is meant where none is named
NETWORKS = ("timed", "blind", "scaled")


class _PictureByDefault(TyperGroup):
    """A group that takes what names none of its commands for the arguments of `picture`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [PICTURE, *args]
        return super().parse_args(ctx, args or ["--help"])


denoise = typer.Typer(
    cls=_PictureByDefault,
    help="Take noise out of a picture: pixmend denoise IMAGE -o OUT; its options: pixmend denoise picture --help. "
    "Or train and measure denoisers.",
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="CIFAR-10 in any layout, or a folder of pictures.")]
Run = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The folder of the training.")]
KINDS = "timed or blind (as printed), or scaled (ours)."
Network = Annotated[str, typer.Option(metavar="KIND", help=KINDS)]
Begun = Annotated[Path | None, typer.Option(metavar="FILE", help="A denoiser to go on from, instead of a new one.")]


@denoise.command(PICTURE)
def picture(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, of any size; or a folder of them.")],
    output: Output,
    level: Annotated[str, typer.Option(metavar="X", help="Standard deviation, 0 to 1 in [-1, 1], or auto.")] = "auto",
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A denoiser; by default pixmend's own.")] = None,
    frame: Frame = None,
    overwrite: Overwrite = False,
    device: Device = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    engine: EngineName = "local",
    ray_address: RayAddress = None,
    workers: Workers = None,
) -> None:
    """Take the noise out of a picture, or of all in a folder. The word `picture` may be left out."""
    known = parse_level(level)
    of_folder = FolderOptions(dry_run, engine, ray_address, workers, overwrite, as_json)
    if os.path.isdir(image):
        refuse_for_folder({"--frame": frame})
        check_inputs(model)
        run_folder(image, output, DenoiseWork(model, known, device), of_folder)
        return
    of_folder.refuse_for_one_picture()
    check_output(output, overwrite)
    check_inputs(image, model)
    from pixmend.images import fitted, open_picture, save_picture

    source = fitted(open_picture(image, frame), output)
    for note in source.notes:
        say("note", note)
    from pixmend.denoising.picture import denoise as take_noise_out

    with progress_bar() as update:
        result = take_noise_out(source, level=known, model=model, device=device, progress=update)
    save_picture(result.picture, output, overwrite=overwrite, note=lambda text: say("note", text))
    if as_json:
        figures = {name: getattr(result, name) for name in ("level", "told", "estimated", "seconds")}
        print(json.dumps({"output": str(output), **figures}))
        return
    told = "estimated" if result.estimated else "as given"
    if result.told == 0:
        told += ": nothing was taken out"
    elif result.told != result.level:
        told += f", held to {result.told:.3f}, the nearest that the model knows"
    print(f"noise of standard deviation {result.level:.3f} in [-1, 1], {told}; {result.seconds:.1f} s")
    print("the result is in", output)


@denoise.command()
def train(
    data: Data,
    output: Run,
    network: Annotated[str | None, typer.Option(metavar="KIND", help=KINDS, show_default="timed")] = None,
    epochs: Annotated[float, typer.Option(min=0.0, metavar="X", help="Rounds through all pictures.")] = 20,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples a step.")] = 8,
    lr: Annotated[float, typer.Option(metavar="X", help="Highest learning rate.")] = 2e-4,
    save_model_epochs: Annotated[float, typer.Option(metavar="X", help="Save each so many epochs.")] = 1,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the training in RUN stopped.")] = False,
    init: Begun = None,
    device: Device = None,
) -> None:
    """Train a denoiser with the settings of docs/denoising.md. Ctrl-C saves and leaves; --resume goes on."""
    if network is not None and init is not None:
        raise OptionError(f"{init} has a network of its own; leave --network out")
    _check_kind(network or NETWORKS[0])
    check_inputs(init)
    _check_data(data)
    from pixmend.denoising.model_file import Denoiser, load_denoiser
    from pixmend.denoising.task import EpochAverage, check_place, document_config, train_denoiser
    from pixmend.runtime import pick_device

    def config_of(count: int) -> TrainConfig:
        return document_config(count, epochs=epochs, batch=batch, lr=lr, seed=seed, save_model_epochs=save_model_epochs)

    config_of(1)  # what cannot be is told before all pictures are read
    check_place(output, resume)
    pick_device(device)
    begun = Denoiser.new(network or NETWORKS[0], seed=seed) if init is None else load_denoiser(init)  # type: ignore[arg-type]
    pictures = _pictures(data)
    count = len(pictures.train)
    config = config_of(count)
    average = EpochAverage(output / "log.csv", count, batch)
    last: Report | None = None
    with progress_bar() as update:

        def tell(report: Report) -> None:
            nonlocal last
            last = report
            line = average.line(report, epochs)
            update(report.step, report.steps, line)
            if average.ended:
                show(line)

        train_denoiser(pictures, output, config, denoiser=begun, resume=resume, device=device, progress=tell)
    print(f"the denoiser is in {output / 'model.safetensors'}; its log and pictures are in {output}")
    if os.path.exists(output / "notes.txt"):
        say("note", f"what went wrong on the way is in {output / 'notes.txt'}")
    if last and last.step < last.steps:
        print(f"saved after step {last.step} of {last.steps}; the same command with --resume goes on")
        raise typer.Exit(STOPPED)


@denoise.command()
def overfit(
    data: Data,
    output: Run,
    network: Network = "timed",
    pictures: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures to learn by heart.")] = 8,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of training.")] = 1500,
    seed: Seed = 0,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train on a handful of pictures alone: shows whether a network can denoise at all."""
    _check_kind(network)
    _check_data(data)
    from pixmend.denoising.model_file import Denoiser
    from pixmend.denoising.overfit import FIGURE, check_new
    from pixmend.denoising.overfit import overfit as learn_by_heart
    from pixmend.runtime import pick_device

    check_new(output)
    pick_device(device)
    found = _pictures(data)
    with progress_bar() as update:
        result = learn_by_heart(
            found,
            output,
            count=pictures,
            steps=steps,
            denoiser=Denoiser.new(network, seed=seed),  # type: ignore[arg-type]  # checked above
            seed=seed,
            device=device,
            progress=lambda report: update(report.step, report.steps, f"loss {report.loss:.4f}, lr {report.lr:.2e}"),
        )
    _print_measures(result, as_json)
    if not as_json:
        print("clean, noisy and denoised pictures are in", output / FIGURE)


@denoise.command()
def evaluate(
    data: Data,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A denoiser; by default pixmend's own.")] = None,
    pictures: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N test pictures.")] = None,
    many_steps: Annotated[
        int, typer.Option(min=0, metavar="PICTURES", help="Denoise in many steps too, so many of the pictures.")
    ] = 0,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw what it does at every level here.")] = None,
    overwrite: Overwrite = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Measure a denoiser on the test pictures: loss, PSNR, SSIM and sharpness by level."""
    if overwrite and figures is None:
        raise OptionError("--overwrite is of figures; give --figures DIR as well, or leave it out")
    check_inputs(model)
    _check_data(data)
    if figures is not None:
        from pixmend.denoising.figures import BOTH, draw_both

        check_made_folder(figures)
        for name in BOTH if os.path.isdir(figures) else ():
            check_output(figures / name, overwrite)
    from pixmend.denoising.measure import evaluate as measure
    from pixmend.denoising.model_file import load_denoiser
    from pixmend.runtime import pick_device

    where, denoiser = pick_device(device), load_denoiser(model)
    found = _pictures(data).test[:pictures]
    denoiser.network.to(where)
    with progress_bar() as update:
        result = measure(denoiser.network, found, denoiser.law, many_steps=many_steps, device=where, progress=update)
    _print_measures(result, as_json)
    if figures is not None:
        with errors_as_one_line(figures):
            figures.mkdir(parents=True, exist_ok=True)
        draw_both(denoiser.network, found[0], denoiser.law, figures, where)


def parse_level(text: str) -> float | None:
    """A level from 0 to 1, or None for "auto"."""
    if text == "auto":
        return None
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise OptionError(f"level {text!r} is not understood; give a number from 0 to 1 (in units of [-1, 1]), or auto")
    return level


def _check_kind(network: str) -> None:
    if network not in NETWORKS:
        raise OptionError(f"network {network!r} is not known; choose {', '.join(NETWORKS)}")


def _check_data(data: Path) -> None:
    from pixmend.denoising.cifar import check_data

    check_data(data)


def _pictures(data: Path) -> PictureSet:
    from pixmend.denoising.cifar import read_pictures

    pictures = read_pictures(data)
    for reason in pictures.skipped:
        say("note", f"left out: {reason}")
    return pictures


def _print_measures(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    print(f"loss {result['loss']:.4f} on {result['pictures']} pictures, the mean over all levels")
    print("  t  sigma    loss   PSNR noisy   PSNR    SSIM  sharpness")
    for row in result["levels"]:
        print(
            f"{row['t']:3}  {row['sigma']:5.2f}  {row['loss']:.4f}  {row['psnr_noisy']:8.2f} dB  {row['psnr']:5.2f}  "
            f"{row['ssim']:.4f}  {row['sharpness']:9.3f}"
        )
    for row in result.get("many_steps", []):
        ways = "; ".join(
            f"{name.replace('_', ' ')} {row[name]['psnr']:.2f} dB, sharpness {row[name]['sharpness']:.3f}"
            for name in ("single", "deterministic", "fresh_noise")
        )
        print(f"t = {row['t']}, {row['pictures']} pictures: {ways}")
