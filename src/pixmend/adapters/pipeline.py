"""Folders of diffusers: a UNet2DModel and its scheduler, read as a plain model and written from one.

Neither needs diffusers. A folder is a whole pipeline (model_index.json, unet/, scheduler/), as `save_pretrained` makes
it, or holds the network's config.json and weights, with the scheduler beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pixmend.adapters.folding import fold_label, without_variance
from pixmend.adapters.mapping import MisfitError, fitting, name_layers, to_ours, to_theirs
from pixmend.adapters.reading import described_by, read_json, read_tensors
from pixmend.adapters.scheduler import diffusion_of, read_scheduler, scheduler_config
from pixmend.adapters.unet2d import PARTS, check_options, config_of, options_of, places, renamed
from pixmend.adapters.widening import widened
from pixmend.adm import AdmUNet
from pixmend.checkpoint import Model
from pixmend.diffusion import Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError
from pixmend.files import write_atomically, write_folder_atomically
from pixmend.model_files import read_safetensors_metadata
from pixmend.unet import UNet

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # the second is of older folders


def read_pipeline(folder: Path, label: int | None, size: int | None, assume_ddpm: bool) -> Model:
    """The network and the scheduler in a folder as a plain model.

    label: the class to fill with, of a network that knows classes. size: side of the pictures it was trained on, where
    the configuration does not say. assume_ddpm: where there is no scheduler, take the defaults of DDPM's.
    """
    unet = folder / "unet" if os.path.isdir(folder / "unet") else folder
    around = folder.resolve().parent if unet is folder else folder  # the pipeline, where a folder is its network alone
    for place in (folder, around):
        if os.path.isfile(place / INDEX):
            _refuse_other_parts(place / INDEX)
    if not os.path.isfile(unet / CONFIG):
        raise FileMissingError(f"{unet} has no {CONFIG}; give a folder that save_pretrained of diffusers made")
    content = read_json(unet / CONFIG)
    options = check_options(unet / CONFIG, content)
    size = size or _size_of(unet / CONFIG, options["sample_size"])
    diffusion, sampler, variance = _scheduler(folder, around, assume_ddpm)
    weights = _weights(unet)
    tensors = read_tensors(weights)
    with described_by(unet / CONFIG), torch.device("meta"):  # neither time nor memory is lost on random weights
        network = AdmUNet(config_of(options)).eval()
    with fitting(weights):
        tensors = _by_new_names(tensors)
        if variance:
            tensors = without_variance(tensors, "conv_out")
        elif options["out_channels"] != 3:
            raise MisfitError("it answers 6 channels, and the scheduler does not say that the variance was learnt")
        classes = options["num_class_embeds"] is not None
        tensors = fold_label(tensors, "class_embedding.weight", "time_embedding.linear_2.bias", label, wanted=classes)
        layers = name_layers(network, places(network.config), PARTS)
        network.load_state_dict(to_ours(tensors, network, layers), assign=True)
    metadata = read_safetensors_metadata(weights) if weights.suffix == ".safetensors" else {}
    return Model(
        network,
        diffusion,
        "plain",
        size,
        sampler,
        legs=[{"imported": "diffusers UNet2DModel"}],
        terms=str(metadata.get("terms", Model.terms)),
    )


def write_pipeline(model: Model, folder: str | Path) -> Path:
    """Write a plain model as a new folder, for `from_pretrained` of DDPMPipeline or DDIMPipeline.

    Raises OptionError, with what to do instead, where a UNet2DModel cannot calculate the same.
    """
    if model.conditioning != "plain":
        raise OptionError(
            f"a {model.conditioning} network also sees the hole and a guide, which no pipeline of diffusers shows it; "
            "only plain ones can be exported so: export it as an .onnx file, or train a plain one, from an imported "
            'model with `pixmend train --init`, or in Python from a Model.new(conditioning="plain")'
        )
    network = widened(model.network) if isinstance(model.network, UNet) else model.network
    options = options_of(network.config, model.size)
    scheduler = scheduler_config(model.diffusion, model.sampler)
    index = {
        "_class_name": scheduler["_class_name"].replace("Scheduler", "Pipeline"),
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "unet": ["diffusers", "UNet2DModel"],
    }
    tensors = to_theirs(network, name_layers(network, places(network.config), PARTS))

    terms = model.terms.encode("utf-8", "replace").decode()  # as bytes of an argument that are no text are not

    def write(part: Path) -> None:
        (part / "unet").mkdir()
        (part / "scheduler").mkdir()
        _write(part / INDEX, _json(index))
        _write(part / "scheduler" / SCHEDULER, _json(scheduler))
        _write(part / "unet" / CONFIG, _json(options))
        _write(part / "unet" / WEIGHTS[0], save(tensors, {"format": "pt", "terms": terms}))

    return write_folder_atomically(folder, write)


def _refuse_other_parts(index: Path) -> None:
    """A pipeline of more parts, such as an autoencoder, has a network that does not work on pictures."""
    parts = {name: value for name, value in read_json(index).items() if not name.startswith("_")}
    others = sorted(parts.keys() - {"unet", "scheduler"})
    if others:
        raise ModelFileError(
            f"{index} is of a pipeline with {', '.join(others)}; only unet and scheduler are supported"
        )


def _by_new_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if renamed(name) in found:
            raise MisfitError(f"{renamed(name)} is there twice, once by the name that it had at first")
        found[renamed(name)] = value
    return found


def _scheduler(folder: Path, around: Path, assume_ddpm: bool) -> tuple[Diffusion, str, bool]:
    for place in (folder / "scheduler", folder, around / "scheduler"):
        if os.path.isfile(place / SCHEDULER):
            return read_scheduler(place / SCHEDULER)
    if not assume_ddpm:
        raise FileMissingError(
            f"{folder} has no {SCHEDULER}, there, in scheduler/ or beside it, which says what noise the network knows; "
            "add it, or give --assume-ddpm for DDPM's (linear, 1000 levels, eps)"
        )
    return diffusion_of({}), "ddpm", False


def _size_of(path: Path, size: Any) -> int:
    sides = size if isinstance(size, list) else [size]
    if not sides or any(not isinstance(side, int) or side < 1 or side != sides[0] for side in sides):
        raise ModelFileError(
            f"{path}: sample_size = {json.dumps(size)} names no one side of pictures; give it with --size"
        )
    return int(sides[0])


def _weights(folder: Path) -> Path:
    for name in WEIGHTS:
        if os.path.isfile(folder / name):
            return folder / name
    parts = " in one piece" if any(folder.glob("*.index.json")) else ""
    raise FileMissingError(f"{folder} does not hold its weights{parts}, {WEIGHTS[0]}; get them, or save them so")


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda stream: stream.write(content), overwrite=False)
