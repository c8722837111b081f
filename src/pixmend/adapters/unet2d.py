"""UNet2DModel of diffusers: its options, its names, and which `AdmUNet` it is.

https://huggingface.co/docs/diffusers/api/models/unet2d. An option that an `AdmUNet` has no equal for is refused by its
name, and so is one that is not known at all; none is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from pixmend.adapters.mapping import Parts
from pixmend.adapters.reading import read_options
from pixmend.adm import AdmConfig, Attention, Grow, ResidualBlock, Shrink
from pixmend.errors import ModelFileError, OptionError

DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}
FORMS: Mapping[str, tuple[type, ...]] = {
    "sample_size": (int, list, NoneType),
    "time_embedding_dim": (int, NoneType),
    "mid_block_type": (str, NoneType),
    "mid_block_scale_factor": (float,),
    "freq_shift": (float,),
    "attention_head_dim": (int, NoneType),
    "attn_norm_num_groups": (int, NoneType),
    "class_embed_type": (str, NoneType),
    "num_class_embeds": (int, NoneType),
}
ONLY = {
    "in_channels": (3,),
    "out_channels": (3, 6),  # 6 where the variance was learnt
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "class_embed_type": (None,),
}
IDLE = {"dropout", "num_train_timesteps"}  # of training, and of an embedding that is refused

# Whether a block attends, and whether it changes the size by a residual block; None: as down- or upsample_type say.
DOWN_BLOCKS = {
    "DownBlock2D": (False, False),
    "AttnDownBlock2D": (True, None),
    "ResnetDownsampleBlock2D": (False, True),
}
UP_BLOCKS = {"UpBlock2D": (False, False), "AttnUpBlock2D": (True, None), "ResnetUpsampleBlock2D": (False, True)}

PARTS: Parts = {  # what our layers are called there
    ResidualBlock: {
        "norm1": ("norm1",),
        "conv1": ("conv1",),
        "time": ("time_emb_proj",),
        "norm2": ("norm2",),
        "conv2": ("conv2",),
        "shortcut": ("conv_shortcut",),
    },
    Attention: {"norm": ("group_norm",), "qkv": ("to_q", "to_k", "to_v"), "out": ("to_out.0",)},
    Shrink: {"conv": ("conv",)},
    Grow: {"conv": ("conv",)},
}
OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def check_options(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a UNet2DModel from its config.json."""
    name = content.get("_class_name", "UNet2DModel")
    if name != "UNet2DModel":
        raise ModelFileError(f"{path} is of a {name}, which is not supported; only UNet2DModel is")
    return read_options(path, content, DEFAULTS, forms=FORMS, only=ONLY, idle=IDLE)


def config_of(options: Mapping[str, Any]) -> AdmConfig:
    """The shape of the network, from all its options; it answers 3 channels."""
    channels = tuple(options["block_out_channels"])
    by_norm = options["resnet_time_scale_shift"] == "scale_shift"
    groups = options["norm_num_groups"]
    down = _blocks(options["down_block_types"], DOWN_BLOCKS, options["downsample_type"])
    up = _blocks(options["up_block_types"], UP_BLOCKS, options["upsample_type"])[::-1]  # ours count from the finest
    head_channels = options["attention_head_dim"]  # None: a single head
    middle_groups = options["attn_norm_num_groups"] or (None if by_norm else groups)
    return AdmConfig(
        channels=channels,
        down_attention=tuple(attends for attends, _ in down),
        up_attention=tuple(attends for attends, _ in up),
        shrink_by_block=tuple(by_block for _, by_block in down[:-1]),
        grow_by_block=tuple(by_block for _, by_block in up[1:]),
        time_channels=channels[0],
        embedding_channels=options["time_embedding_dim"] or 4 * channels[0],
        blocks=options["layers_per_block"],
        middle_attention=options["add_attention"],
        middle_groups=middle_groups if options["add_attention"] else None,
        head_channels=head_channels,
        scale_shift=by_norm,
        sines_first=not options["flip_sin_to_cos"],
        frequency_shift=options["freq_shift"],
        pad_after=options["downsample_padding"] == 0,
        groups=groups,
        eps=options["norm_eps"],
    )


def options_of(config: AdmConfig, size: int) -> dict[str, Any]:
    """The options of the UNet2DModel that calculates the same. Raises OptionError where there is none."""
    c = config.channels
    down, downsample = _block_types(config.down_attention, (*config.shrink_by_block, None), DOWN_BLOCKS)
    up, upsample = _block_types(config.up_attention, (None, *config.grow_by_block), UP_BLOCKS)
    if config.time_channels != c[0]:
        raise OptionError(
            f"this network cannot be exported: UNet2DModel has as many sinusoids as channels at its first level, "
            f"{c[0]} and not {config.time_channels}"
        )
    if config.middle_attention and config.middle_groups is None and not config.scale_shift:
        raise OptionError(
            "this network cannot be exported: UNet2DModel normalises before its middle's attention where the time is "
            "added, and this one does not"
        )
    options = {
        "_class_name": "UNet2DModel",
        "sample_size": size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "freq_shift": config.frequency_shift,
        "flip_sin_to_cos": not config.sines_first,
        "down_block_types": down,
        "up_block_types": up[::-1],
        "block_out_channels": list(c),
        "layers_per_block": config.blocks,
        "downsample_padding": 0 if config.pad_after else 1,
        "downsample_type": downsample,
        "upsample_type": upsample,
        "attention_head_dim": _head_channels(config),
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": config.middle_groups,
        "norm_eps": config.eps,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
        "add_attention": config.middle_attention,
    }
    if config.embedding_channels != 4 * c[0]:  # older versions do not know the option
        options["time_embedding_dim"] = config.embedding_channels
    return options


def places(config: AdmConfig) -> Iterator[tuple[str, str]]:
    """Our modules and their names there, where the levels of the way up are counted from the coarsest."""
    yield "time_mlp.0", "time_embedding.linear_1"
    yield "time_mlp.2", "time_embedding.linear_2"
    yield "first", "conv_in"
    last = len(config.channels) - 1
    for level in range(last + 1):
        for i in range(config.blocks):
            yield f"down.{level}.{i}.block", f"down_blocks.{level}.resnets.{i}"
            yield f"down.{level}.{i}.attention", f"down_blocks.{level}.attentions.{i}"
        for i in range(config.blocks + 1):
            yield f"up.{level}.{i}.block", f"up_blocks.{last - level}.resnets.{i}"
            yield f"up.{level}.{i}.attention", f"up_blocks.{last - level}.attentions.{i}"
    for level in range(last):
        yield f"shrink.{level}", f"down_blocks.{level}.downsamplers.0"
        yield f"grow.{level}", f"up_blocks.{last - 1 - level}.upsamplers.0"
    yield "middle.0.block", "mid_block.resnets.0"
    yield "middle.0.attention", "mid_block.attentions.0"
    yield "middle.1.block", "mid_block.resnets.1"
    yield "norm", "conv_norm_out"
    yield "last", "conv_out"


def renamed(name: str) -> str:
    """The name of a tensor, where it stands in the names that the layers of attentions had at first."""
    if ".attentions." in name:
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
    return name


def _blocks(types: list[str], known: Mapping[str, tuple[bool, bool | None]], by_type: str) -> list[tuple[bool, bool]]:
    """Of every level: whether it attends, and whether the next level is made by a residual block."""
    found = []
    for name in types:
        name = name.removeprefix("UNetRes")  # as the first versions called them
        if name not in known:
            raise ValueError(f"blocks of the type {name} are not supported, only {', '.join(known)}")
        attends, by_block = known[name]
        found.append((attends, by_type == "resnet" if by_block is None else by_block))
    return found


def _block_types(
    attention: tuple[bool, ...], by_block: tuple[bool | None, ...], known: Mapping[str, tuple[bool, bool | None]]
) -> tuple[list[str], str]:
    """The way back of `_blocks`; by_block is None at the level that has no next one."""
    plain, attending, resampling = known
    of_attending = {by for attends, by in zip(attention, by_block, strict=True) if attends and by is not None}
    if len(of_attending) > 1:
        raise OptionError(
            "this network cannot be exported: behind attention, UNet2DModel changes the size always by a block or never"
        )
    names = [
        attending if attends else resampling if by else plain for attends, by in zip(attention, by_block, strict=True)
    ]
    return names, "resnet" if of_attending == {True} else "conv"


def _head_channels(config: AdmConfig) -> int | None:
    """attention_head_dim: None is a single head, whatever its channels."""
    if config.head_channels is not None or config.heads == 1:
        return config.head_channels
    attending = {
        c for c, down, up in zip(config.channels, config.down_attention, config.up_attention, strict=True) if down or up
    } | ({config.channels[-1]} if config.middle_attention else set())
    if len(attending) > 1:
        raise OptionError(
            f"this network cannot be exported: in UNet2DModel all heads are of one size, and {config.heads} heads "
            "at levels of different channels have not"
        )
    return config.channels[-1] // config.heads if attending else None
