"""A `UNet` of ours as an `AdmUNet` that calculates exactly the same, so that it can be written for diffusers.

Two differences have to be bridged, and each costs width or blocks, never exactness.

A `UNet` changes the channels while it halves the picture; an `AdmUNet` halves first and changes then, and what its
levels hold must go through the fewer channels of the finer one. So every level is made wide enough for the next: its
width is a common multiple of its own channels and of the next level's, and the channels stand in it as copies. Every
group of a normalisation holds each of its channels equally often, so means and variances stay what they are.

An `AdmUNet` has more blocks: one more on the way up than down, and two in the middle. The additional ones do nothing
(their second convolution is zero) or hold, in their shortcut, a projection: the first of a level on the way up that
which enlarges (nearest neighbours commute with a convolution of one pixel), and the last one drops what it is handed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import lcm
from typing import NamedTuple

import torch
from torch import Tensor

from pixmend.adm import AdmConfig, AdmUNet
from pixmend.errors import OptionError
from pixmend.unet import UNet, UNetConfig


class Copies(NamedTuple):
    """How some channels stand in wider ones."""

    held: Tensor  # (wide,), which channel every place holds
    first: Tensor  # (channels,), a place of every channel, from which it is read


def copies(channels: int, wide: int, groups: int) -> Copies:
    """Every group of the wide channels holds the channels of that group, one after the other, as often as it can."""
    in_group, in_wide_group = channels // groups, wide // groups
    places, numbers = torch.arange(wide), torch.arange(channels)
    held = places // in_wide_group * in_group + places % in_group
    first = numbers // in_group * in_wide_group + numbers % in_group
    return Copies(held, first)


def side_by_side(of: Copies) -> Copies:
    """The same copies twice: what comes from below beside what was handed over, or a scale beside a shift."""
    wide, channels = len(of.held), len(of.first)
    return Copies(torch.cat([of.held, of.held + channels]), torch.cat([of.first, of.first + wide]))


def widths(config: UNetConfig) -> list[int]:
    """The channels of the `AdmUNet`'s levels; of the first as many as it has sinusoids. Raises OptionError."""
    c = config.channels
    least = lcm(*c[:2])
    if config.patch != 1:
        raise OptionError(
            f"a network on patches (patch = {config.patch}) has no equal in diffusers; train with patch=1"
        )
    if not config.groups:
        raise OptionError(
            "a network without normalisation (groups = 0) has no equal in diffusers; train with groups=16"
        )
    if config.time_channels % least:
        raise OptionError(
            f"a network with time_channels = {config.time_channels} has no equal in diffusers, only with a multiple of "
            f'{least}; train a Model.new(UNetConfig(time_channels={least}), conditioning="plain")'
        )
    return [config.time_channels, *(lcm(a, b) for a, b in pairwise(c[1:])), *c[1:][-1:]]


def widened(network: UNet) -> AdmUNet:
    """The `AdmUNet` that gives what the `UNet` gives, but for rounding. Raises OptionError where there is none."""
    c, wide, groups = network.config.channels, widths(network.config), network.config.groups
    levels, last = range(len(c)), len(c) - 1
    same = AdmUNet(_config(network.config, wide)).eval()
    filling = _Filling(network.state_dict(), same)
    ours = [copies(c[i], wide[i], groups) for i in levels]

    time, pixels = torch.arange(network.config.time_channels), torch.arange(network.config.in_channels)
    filling.time("time_mlp.0", time)
    filling.time("time_mlp.2", time)
    filling.layer("first", "first", ours[0].held, pixels)
    for i in levels:
        begun = ours[0] if i == 0 else copies(c[i], wide[i - 1], groups)  # in the finer level's width
        for k in range(network.config.blocks):
            filling.stage(f"down.{i}.{k}", f"down.{i}.{k}", ours[i], begun if k == 0 else ours[i])
            filling.stage(f"up.{i}.{k + 1}", f"up.{i}.{k}", ours[i], side_by_side(ours[i]))
        filling.pass_on(f"up.{i}.{network.config.blocks + 1}.block.shortcut")
        if i < last:
            filling.layer(f"shrink.{i}.conv", f"shrink.{i}", copies(c[i + 1], wide[i], groups).held, ours[i].first)
            filling.layer(f"up.{i}.0.block.shortcut", f"grow.{i}", ours[i].held, ours[i + 1].first)
            filling.pass_on(f"grow.{i}.conv")
    filling.pass_on(f"up.{last}.0.block.shortcut")
    filling.stage("middle.0", "middle.0", ours[-1], ours[-1])
    filling.norm("norm", "norm", ours[0].held)
    filling.layer("last", "last", torch.arange(network.config.out_channels), ours[0].first)
    same.load_state_dict(filling.wide)
    return same


def _config(config: UNetConfig, wide: list[int]) -> AdmConfig:
    by_convolution = (False,) * (len(wide) - 1)
    return AdmConfig(
        channels=tuple(wide),
        down_attention=config.attention,
        up_attention=config.attention,
        shrink_by_block=by_convolution,
        grow_by_block=by_convolution,
        time_channels=config.time_channels,
        embedding_channels=4 * wide[0],  # what every version of diffusers knows
        blocks=config.blocks + 1,
        middle_attention=config.attention[-1],
        middle_groups=config.groups,
        head_channels=config.head_channels,
        groups=config.groups,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
    )


class _Filling:
    """Weights of a wide network, all zero, that are filled from ours; layers are named by their paths."""

    def __init__(self, ours: Mapping[str, Tensor], wide: AdmUNet) -> None:
        self.ours = ours
        self.wide = {name: torch.zeros_like(value) for name, value in wide.state_dict().items()}

    def layer(self, wide: str, ours: str, held: Tensor, first: Tensor) -> None:
        """held: of the first outputs, which of ours each one is; first: where each input of ours is read."""
        weight, bias = self.wide[f"{wide}.weight"], self.wide[f"{wide}.bias"]
        part = weight.flatten(2) if weight.ndim > 2 else weight[..., None]  # views: (outs, ins, places of a kernel)
        value = self.ours[f"{ours}.weight"]
        part[: len(held), first] = value.reshape(*value.shape[:2], -1)[held]
        bias[: len(held)] = self.ours[f"{ours}.bias"][held]

    def time(self, name: str, channels: Tensor) -> None:
        self.layer(name, name, channels, channels)

    def norm(self, wide: str, ours: str, held: Tensor) -> None:
        for kind in ("weight", "bias"):
            self.wide[f"{wide}.{kind}"] = self.ours[f"{ours}.{kind}"][held]

    def pass_on(self, wide: str) -> None:
        """A convolution that gives its first inputs as they are, and drops the others."""
        weight = self.wide[f"{wide}.weight"]  # (outs, ins, k, k)
        centre = weight.shape[-1] // 2
        weight[:, :, centre, centre].fill_diagonal_(1)

    def stage(self, wide: str, ours: str, outs: Copies, ins: Copies) -> None:
        """A residual block, and attention where there is any."""
        self.norm(f"{wide}.block.norm1", f"{ours}.block.norm1", ins.held)
        self.layer(f"{wide}.block.conv1", f"{ours}.block.conv1", outs.held, ins.first)
        times = torch.arange(self.ours[f"{ours}.block.time.weight"].shape[1])
        self.layer(f"{wide}.block.time", f"{ours}.block.time", side_by_side(outs).held, times)
        self.norm(f"{wide}.block.norm2", f"{ours}.block.norm2", outs.held)
        self.layer(f"{wide}.block.conv2", f"{ours}.block.conv2", outs.held, outs.first)
        if f"{ours}.block.shortcut.weight" in self.ours:
            self.layer(f"{wide}.block.shortcut", f"{ours}.block.shortcut", outs.held, ins.first)
        elif f"{wide}.block.shortcut.weight" in self.wide:  # ours is the identity, but the widths differ
            self.wide[f"{wide}.block.shortcut.weight"][torch.arange(len(outs.held)), ins.first[outs.held]] = 1
        if f"{ours}.attention.qkv.weight" in self.ours:
            self.attention(f"{wide}.attention", f"{ours}.attention", outs)

    def attention(self, wide: str, ours: str, outs: Copies) -> None:
        """The heads are as many as the width gives; those that are not ours see and say nothing."""
        self.norm(f"{wide}.norm", f"{ours}.norm", outs.held)
        channels, width = len(outs.first), len(outs.held)
        weight, bias = self.wide[f"{wide}.qkv.weight"], self.wide[f"{wide}.qkv.bias"]
        value = self.ours[f"{ours}.qkv.weight"].view(3, channels, channels)
        weight.view(3, width, width)[:, :channels, outs.first] = value
        bias.view(3, width)[:, :channels] = self.ours[f"{ours}.qkv.bias"].view(3, channels)
        self.layer(f"{wide}.out", f"{ours}.out", outs.held, torch.arange(channels))
