"""Train the model that ships with pixmend, leg by leg, and put it into the package.

    python scripts/train_default_model.py pack PHOTOS PACKED          photographs for another machine, at most 40 MiB
    python scripts/train_default_model.py run PHOTOS RUNS --leg 32:400 --leg 64:250      size in pixels : kimg
    python scripts/train_default_model.py ship RUNS/leg-2-64.safetensors --steps 4
    python scripts/train_default_model.py run PHOTOS MEAN --mean --leg 64:60         its part that answers the mean
    python scripts/train_default_model.py ship MEAN/leg-1-64.safetensors --mean

`run` trains each leg from the end of the one before (the first from --init, if given), in a folder of its own. Started
again with the same arguments, it goes on where it was stopped, on a CPU bit for bit. It serves a CPU and a GPU alike.
Without --init, the part that answers the mean begins as the denoiser that ships, which knows how photographs go on.

A file's bytes decide whether it is held out, and packing changes them. So `pack` leaves out the photographs that are
held out: no model trained on PACKED has seen them. `run` holds out others of PACKED, which its held-out losses are of.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

import torch
from legs import TERMS, Printer, add_leg_options, end_leg, leg_config
from PIL import Image
from rich.progress import track

from pixmend.checkpoint import Model, load_model, save_model
from pixmend.conditioning import INPUT_CHANNELS
from pixmend.data import InpaintingDataset
from pixmend.denoising.model_file import Denoiser, load_denoiser
from pixmend.denoising.networks import PICTURE_DEVIATION, ScaledUNet, embedded_level
from pixmend.diffusion import Conditioning
from pixmend.errors import PixmendError
from pixmend.images import open_thumbnail, picture_files
from pixmend.model_files import DEFAULT_MODEL
from pixmend.picture_cache import content_hash, is_held_out
from pixmend.training import NARROW_VIEWS, TrainConfig, train_model
from pixmend.unet import sinusoidal_embedding

PACK_LIMIT = 40 << 20  # bytes
PACKED_SIDE = 144  # pixels, of the shorter side
LITTLE = 0.05  # noise, in units of [-1, 1]: about as much as smooth fills of narrow holes are off


def pack(photos: Path, packed: Path) -> None:
    """Write the photographs that are not held out as small WebP files, with the quality that the limit leaves."""
    files = _to_pack(photos)
    for quality in (85, 75, 65, 50, 35):
        encoded: dict[Path, bytes] = {}
        for file in track(files, f"quality {quality}", disable=not sys.stderr.isatty()):
            stream = io.BytesIO()
            Image.fromarray(open_thumbnail(file, PACKED_SIDE)).save(stream, "WEBP", quality=quality, method=4)
            encoded[file.relative_to(photos).with_name(file.name + ".webp")] = stream.getvalue()
        total = sum(map(len, encoded.values()))
        print(f"quality {quality}: {total / 2**20:.1f} MiB")
        if total <= PACK_LIMIT:
            break
    else:
        sys.exit("the photographs are too many to be packed into 40 MiB")
    for name, data in encoded.items():
        (packed / name).parent.mkdir(parents=True, exist_ok=True)
        (packed / name).write_bytes(data)


def _to_pack(photos: Path) -> list[Path]:
    """The photographs that can be read and are not held out; says which cannot, and how many are."""
    files, held_out = [], 0
    for file in picture_files(photos):
        try:
            open_thumbnail(file, PACKED_SIDE)
            content = content_hash(file)
        except (PixmendError, OSError) as error:
            print(f"left out: {error}")
            continue
        if is_held_out(content, TrainConfig().holdout):
            held_out += 1
        else:
            files.append(file)
    print(f"{len(files)} photographs to pack; {held_out} are held out and stay behind")
    return files


def run(options: argparse.Namespace) -> None:
    """Train the legs, one after the other."""
    options.runs.mkdir(parents=True, exist_ok=True)
    before = options.init
    for number, (size, _) in enumerate(options.leg, 1):
        output = options.runs / f"leg-{number}-{size}.safetensors"
        config = leg_config(options, number)
        resume = (output.with_suffix(".run") / "state.safetensors").exists()
        model = _start_mean(before) if options.mean else _start(before, options.conditioning, config.seed)
        data = InpaintingDataset(
            options.photos,
            size,
            seed=config.seed,
            T=model.diffusion.T,
            masks="narrow" if options.mean else "mixed",
            views=NARROW_VIEWS if options.mean else None,
            holdout=config.holdout,
            cache=options.cache,
        )
        model = train_model(
            data,
            output,
            config,
            model=model,
            resume=resume,
            size=size,
            device=options.device,
            balance=options.balance,
            progress=Printer(),
        )
        end_leg(number, model.legs[-1], config)
        before = output


def _start(before: Path | None, conditioning: Conditioning | None, seed: int) -> Model:
    """What a leg starts from; it is told what is known as its file was, unless another way is asked for."""
    if before is None:
        return Model.new(conditioning=conditioning or "known-aware", seed=seed)
    model = load_model(before)
    if conditioning is None:
        return model
    channels = model.network.config.in_channels
    if INPUT_CHANNELS[conditioning] != channels:
        sys.exit(f"{before} has {channels} input channels, but {conditioning} needs {INPUT_CHANNELS[conditioning]}")
    return replace(model, conditioning=conditioning)


def _start_mean(before: Path | None) -> Model:
    if before is None:
        return from_denoiser(load_denoiser())
    return _mean_of(load_model(before), before)


def _mean_of(model: Model, file: Path) -> Model:
    part = model if model.answers_the_mean else model.mean
    if part is None:
        sys.exit(f"{file} has no part that answers the mean")
    return part


def from_denoiser(denoiser: Denoiser) -> Model:
    """A denoiser of this project's own parts as a model that answers the mean.

    A guide that is not quite right is a picture with a little noise in the hole. So the network is shown the guide
    where it saw a noisy picture, and told of that little noise; of what else it is shown it takes note by and by.
    What it answers is its denoised picture less the guide, but for the part that follows from each value by itself.
    """
    scaled = denoiser.network
    if not isinstance(scaled, ScaledUNet):
        sys.exit("only a denoiser of the kind `scaled` can become a model that answers the mean")
    shape, weights = scaled.unet.config, scaled.unet.state_dict()
    model = Model.new_mean(shape)
    spread = (PICTURE_DEVIATION**2 + LITTLE**2) ** 0.5
    first = torch.zeros_like(model.network.first.weight)  # (C, 7, 3, 3): noise, hole, guide
    first[:, 4:] = weights["first.weight"] / spread
    times = embedded_level(torch.tensor([LITTLE])), torch.zeros(1)
    sines, others = (sinusoidal_embedding(t, shape.time_channels)[0] for t in times)
    told = weights["time_mlp.0.weight"] @ (sines - others)
    scale = LITTLE * PICTURE_DEVIATION / spread
    weights |= {"first.weight": first, "time_mlp.0.bias": weights["time_mlp.0.bias"] + told}
    weights |= {name: scale * weights[name] for name in ("last.weight", "last.bias")}
    model.network.load_state_dict(weights)
    return model


def ship(file: Path, steps: int | None, sampler: str | None, mean: bool) -> None:
    """Put a model file into the package as the default or as its part that answers the mean, with its terms of use."""
    before, model = load_model(), _mean_of(load_model(file), file) if mean else load_model(file)
    model.steps, model.sampler, model.terms = steps or model.steps, sampler or model.sampler, TERMS
    model = replace(before, mean=model) if mean else replace(model, mean=model.mean or before.mean)
    print(save_model(DEFAULT_MODEL, model, overwrite=True), f"{DEFAULT_MODEL.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    packing = commands.add_parser("pack")
    packing.add_argument("photos", type=Path)
    packing.add_argument("packed", type=Path)
    running = commands.add_parser("run")
    add_leg_options(running)
    running.add_argument(
        "--conditioning", choices=list(INPUT_CHANNELS), help="left out: that of the model begun with; mean: residual"
    )
    running.add_argument("--balance", type=float, default=1.0, help="0: every value counts alike; 1: every hole does")
    shipping = commands.add_parser("ship")
    shipping.add_argument("file", type=Path)
    shipping.add_argument("--steps", type=int, help="left out: those in FILE")
    shipping.add_argument("--sampler", help="left out: the one in FILE")
    for command in (running, shipping):
        command.add_argument("--mean", action="store_true", help="the part that answers the mean")
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.photos, options.packed)
    elif options.command == "run":
        run(options)
    else:
        ship(options.file, options.steps, options.sampler, options.mean)


if __name__ == "__main__":
    main()
