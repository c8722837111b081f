"""The denoiser's file: one .safetensors that knows its network, its law, its training and its terms of use.

As pixmend's other model file (docs/model-file.md), with "pixmend-denoiser" as its format.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from pixmend import model_files
from pixmend.denoising.law import NoiseLaw
from pixmend.denoising.networks import ScaledUNet, UNetCIFAR, UNetDiffusionCIFAR
from pixmend.errors import OptionError
from pixmend.model_files import (
    DENOISER,
    building_from,
    legs_of,
    read_content,
    read_weights,
    refuse_unknown,
    whole_number,
    write_model_file,
)
from pixmend.unet import UNetConfig

NetworkKind = Literal["timed", "blind", "scaled"]
KINDS: tuple[str, ...] = get_args(NetworkKind)

# As many operations as the printed network has: docs/results/denoise-cifar.md
CIFAR_SHAPE = UNetConfig(in_channels=3, channels=(56, 48, 80), attention=(False, False, False), blocks=2, groups=0)
# Without attention, whose cost grows with the square of the picture
PHOTO_SHAPE = UNetConfig(in_channels=3, channels=(48, 80, 128, 144), attention=(False,) * 4)


@dataclass
class Denoiser:
    """A network that predicts noise, with all that is needed to use it."""

    network: nn.Module  # (x_t, t) -> eps
    kind: NetworkKind
    law: NoiseLaw = field(default_factory=NoiseLaw)
    levels: tuple[float, float] = (0.1, 0.9)  # the lowest and highest sigma = t/T that it was trained on
    size: int = 32  # pixels; the side of the pictures that it was trained on
    legs: list[dict[str, Any]] = field(default_factory=list)  # of training, oldest first
    terms: str = "not stated"  # of use of the weights

    @classmethod
    def new(
        cls,
        kind: NetworkKind = "timed",
        *,
        T: int = 10,
        shape: UNetConfig = CIFAR_SHAPE,
        levels: tuple[float, float] | None = None,
        size: int = 32,
        seed: int = 0,
    ) -> Denoiser:
        """A denoiser with random weights, the same for the same seed.

        kind: "timed" is UNetDiffusionCIFAR and "blind" UNetCIFAR, as printed; "scaled" is ScaledUNet of that `shape`.
        """
        law = NoiseLaw(T)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _build(kind, shape, law)
        return cls(network, kind, law, levels or (1 / T, (T - 1) / T), size)

    @property
    def config(self) -> UNetConfig | None:
        """The shape of a network of our own; the printed ones have theirs."""
        return self.network.unet.config if isinstance(self.network, ScaledUNet) else None

    @property
    def header(self) -> dict[str, Any]:
        """Everything but the weights, as it stands in the file."""
        shape = self.config
        return {
            "format": DENOISER.format,
            "version": DENOISER.version,
            "network": self.kind,
            "architecture": None if shape is None else dataclasses.asdict(shape),
            "T": self.law.T,
            "levels": list(self.levels),
            "size": self.size,
            "legs": self.legs,
            "terms": self.terms,
        }

    @property
    def any_size(self) -> bool:
        """Whether the network takes pictures of any size; the printed ones take multiples of 4."""
        return self.kind == "scaled"


def _build(kind: str, shape: UNetConfig | None, law: NoiseLaw) -> nn.Module:
    if kind == "timed":
        return UNetDiffusionCIFAR()
    if kind == "blind":
        return UNetCIFAR()
    if kind == "scaled" and shape is not None and shape.in_channels == shape.out_channels == 3:
        return ScaledUNet(shape, law.T)
    raise OptionError(f"network {kind!r} of shape {shape} is not known; choose {', '.join(KINDS)}")


def save_denoiser(
    path: str | os.PathLike[str], denoiser: Denoiser, *, overwrite: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Write the file, atomically."""
    return write_model_file(path, denoiser.header, denoiser.network.state_dict(), dtype, overwrite=overwrite)


def load_denoiser(path: str | os.PathLike[str] | None = None) -> Denoiser:
    """The denoiser from its file alone, on the CPU in float32; without a path, the one that ships with pixmend."""
    path = Path(model_files.DEFAULT_DENOISER if path is None else path)
    header = read_denoiser_header(path)
    with building_from(path):
        denoiser = _from_header(header)
        # The weights become the network's own: nothing is allocated because a header claims it.
        denoiser.network.load_state_dict(read_weights(path), assign=True)
    denoiser.network.eval()
    return denoiser


def read_denoiser_header(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The header of a denoiser's file, without loading its weights."""
    return read_content(Path(model_files.DEFAULT_DENOISER if path is None else path), DENOISER)


KNOWN = frozenset(("format", "version", "network", "architecture", "T", "levels", "size", "legs", "terms"))


def _from_header(header: Mapping[str, Any]) -> Denoiser:
    refuse_unknown(header, KNOWN)
    law, kind = NoiseLaw(whole_number(header, "T")), header["network"]
    shape = header["architecture"]
    if shape is not None:
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in shape.items()}
        shape = UNetConfig(**values)
    low, high = (float(level) for level in header["levels"])
    size = whole_number(header, "size")
    if not 0 < low <= high < math.inf or size < 1:
        raise OptionError(f"levels {low} to {high} at {size} pixels do not go")
    with torch.device("meta"):  # neither time nor memory is lost on random weights
        network = _build(kind, shape, law)
    return Denoiser(network, kind, law, (low, high), size, legs_of(header), str(header["terms"]))
