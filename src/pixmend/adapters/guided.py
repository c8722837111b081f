"""Checkpoints of guided-diffusion, and of what was built on it, such as RePaint.

https://github.com/openai/guided-diffusion (Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233). A checkpoint is
a state_dict and does not say what it is for. So a small JSON file does, in guided-diffusion's own option names and with
its defaults: what is a flag in the documentation of a checkpoint is a key here. docs/other-models.md has some.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixmend.adapters.folding import fold_label, without_variance
from pixmend.adapters.mapping import Layers, MisfitError, Parts, fitting, name_layers, to_ours
from pixmend.adapters.reading import MOST_LEVELS, described_by, read_json, read_options, read_tensors
from pixmend.adm import AdmConfig, AdmUNet, Attention, Grow, ResidualBlock, Shrink
from pixmend.checkpoint import Model
from pixmend.diffusion import Diffusion
from pixmend.errors import ModelFileError

DEFAULTS = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "channel_mult": "",  # "" takes what is usual for the size
    "attention_resolutions": "16,8",  # sides, in pixels, of the levels that attend
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,  # -1 takes num_heads
    "resblock_updown": False,
    "use_scale_shift_norm": True,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "class_cond": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "rescale_timesteps": False,
}
FORMS: Mapping[str, tuple[type, ...]] = {"channel_mult": (str, list), "attention_resolutions": (str, list)}
ONLY = {"noise_schedule": ("linear", "cosine")}
# of training, of the arithmetic, and of how many levels are visited while sampling
IDLE = {"dropout", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas", "timestep_respacing"}
CHANNEL_MULT: Mapping[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
GROUPS = 32

PARTS: Parts = {  # what our layers are called there
    ResidualBlock: {
        "norm1": ("in_layers.0",),
        "conv1": ("in_layers.2",),
        "time": ("emb_layers.1",),
        "norm2": ("out_layers.0",),
        "conv2": ("out_layers.3",),
        "shortcut": ("skip_connection",),
    },
    Attention: {"norm": ("norm",), "qkv": ("qkv",), "out": ("proj_out",)},
    Shrink: {"conv": ("op",)},
    Grow: {"conv": ("conv",)},
}


def read_guided(weights: Path, architecture: Path, label: int | None) -> Model:
    """The checkpoint in `weights` as a plain model; `architecture` describes it. label: the class to fill with."""
    options = read_description(architecture)
    with described_by(architecture):
        diffusion = diffusion_of(options)
        with torch.device("meta"):  # neither time nor memory is lost on random weights
            network = AdmUNet(config_of(options)).eval()
    tensors = read_tensors(weights)
    layers = name_layers(network, places(network.config), PARTS)
    with fitting(weights):
        refuse_relatives(tensors)
        if options["learn_sigma"]:
            tensors = without_variance(tensors, "out.2")
        tensors = fold_label(tensors, "label_emb.weight", "time_embed.2.bias", label, wanted=options["class_cond"])
        if not options["use_new_attention_order"]:
            tensors = in_new_order(tensors, network, layers)
        network.load_state_dict(to_ours(tensors, network, layers), assign=True)
    return Model(network, diffusion, "plain", options["image_size"], "ddpm", legs=[{"imported": "guided-diffusion"}])


def read_description(path: Path) -> dict[str, Any]:
    """All options of a checkpoint from its JSON description."""
    content = read_json(path)
    if {"large_size", "small_size"} & content.keys():
        raise ModelFileError(
            f"{path} describes an upsampler (super-resolution), which cannot repair; give another network"
        )
    if any(name.startswith("classifier_") for name in content):
        raise ModelFileError(
            f"{path} has options of a classifier, which is not used; leave out what begins with classifier_"
        )
    options = read_options(path, content, DEFAULTS, forms=FORMS, only=ONLY, idle=IDLE)
    if "image_size" not in content or options["image_size"] < 1:
        raise ModelFileError(
            f"{path} does not say image_size, the side of the pictures that the network was trained on"
        )
    if options["rescale_timesteps"] and options["diffusion_steps"] != 1000:
        raise ModelFileError(
            f"{path}: rescale_timesteps is supported with 1000 diffusion_steps alone, where it does nothing"
        )
    ups = options["num_heads_upsample"]
    if options["num_head_channels"] == -1 and ups not in (-1, options["num_heads"]):
        raise ModelFileError(f"{path}: num_heads_upsample = {ups} is supported only where it is num_heads")
    return options


def diffusion_of(options: Mapping[str, Any]) -> Diffusion:
    """The noise that the network knows; the schedules of these names are ours."""
    schedule, steps = options["noise_schedule"], options["diffusion_steps"]
    if steps > MOST_LEVELS:
        raise ValueError(f"diffusion_steps = {steps} is not possible, only 2 to {MOST_LEVELS}")
    return Diffusion(schedule, steps, "x0" if options["predict_xstart"] else "eps")


def config_of(options: Mapping[str, Any]) -> AdmConfig:
    """The shape of the network, from all its options."""
    size, width, mult = options["image_size"], options["num_channels"], _numbers(options["channel_mult"])
    if not mult and size not in CHANNEL_MULT:
        known = ", ".join(map(str, CHANNEL_MULT))
        raise ValueError(f"image_size = {size} has no usual channel_mult (those with one are {known}); state it")
    channels = tuple(int(m * width) for m in mult or CHANNEL_MULT[size])
    attending = {size // int(side) for side in _numbers(options["attention_resolutions"])}
    attention = tuple(2**level in attending for level in range(len(channels)))
    by_block = (options["resblock_updown"],) * (len(channels) - 1)
    head_channels = options["num_head_channels"]
    return AdmConfig(
        channels=channels,
        down_attention=attention,
        up_attention=attention,
        shrink_by_block=by_block,
        grow_by_block=by_block,
        time_channels=width,
        embedding_channels=4 * width,
        blocks=options["num_res_blocks"],
        middle_groups=GROUPS,
        heads=options["num_heads"],
        head_channels=None if head_channels == -1 else head_channels,
        scale_shift=options["use_scale_shift_norm"],
        groups=GROUPS,
    )


def places(config: AdmConfig) -> Iterator[tuple[str, str]]:
    """Our modules and their names there, where the blocks of all levels are counted through."""
    yield "time_mlp.0", "time_embed.0"
    yield "time_mlp.2", "time_embed.2"
    yield "first", "input_blocks.0.0"
    levels, n = len(config.channels), 1
    for level in range(levels):
        for i in range(config.blocks):
            yield f"down.{level}.{i}.block", f"input_blocks.{n}.0"
            yield f"down.{level}.{i}.attention", f"input_blocks.{n}.1"
            n += 1
        if level < levels - 1:
            yield f"shrink.{level}", f"input_blocks.{n}.0"
            n += 1
    yield "middle.0.block", "middle_block.0"
    yield "middle.0.attention", "middle_block.1"
    yield "middle.1.block", "middle_block.2"
    n = 0
    for level in reversed(range(levels)):
        for i in range(config.blocks + 1):
            yield f"up.{level}.{i}.block", f"output_blocks.{n}.0"
            yield f"up.{level}.{i}.attention", f"output_blocks.{n}.1"
            n += 1
        if level > 0:
            yield f"grow.{level - 1}", f"output_blocks.{n - 1}.{1 + config.up_attention[level]}"
    yield "norm", "out.0"
    yield "last", "out.2"


def refuse_relatives(tensors: Mapping[str, Tensor]) -> None:
    """Tell the two other kinds of network in guided-diffusion from its U-Net, by their weights."""
    if not any(name.startswith("output_blocks.") for name in tensors):
        raise MisfitError(
            "there are no output_blocks, so it is no U-Net of guided-diffusion; its classifiers have none"
        )
    first = tensors.get("input_blocks.0.0.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != 3:
        what = "is an upsampler (super-resolution)" if first.shape[1] == 6 else "is not for RGB pictures"
        raise MisfitError(f"the network {what}, it sees {first.shape[1]} channels; only those of 3 are supported")


def in_new_order(tensors: Mapping[str, Tensor], network: AdmUNet, layers: Layers) -> dict[str, Tensor]:
    """Queries, keys and values sorted as ours and as with use_new_attention_order.

    By default guided-diffusion has them head by head, (heads, 3, channels of a head); here all queries come first.
    """
    ordered = dict(tensors)
    for ours, (theirs, *_) in layers.items():
        attention = network.get_submodule(ours.rpartition(".")[0])
        if not (isinstance(attention, Attention) and ours.endswith(".qkv")):
            continue
        for name in (f"{theirs}.weight", f"{theirs}.bias"):
            value = ordered.get(name, torch.empty(0))
            if len(value) == attention.qkv.out_features:  # else it is told that the shape is wrong
                by_head = value.reshape(attention.heads, 3, -1, *value.shape[1:])
                ordered[name] = by_head.transpose(0, 1).reshape(value.shape)
    return ordered


def _numbers(text: str | list[float]) -> tuple[float, ...]:
    """Of "1,2,3" or [1, 2, 3]."""
    parts = text.split(",") if isinstance(text, str) else text
    return tuple(float(part) for part in parts if part != "")
