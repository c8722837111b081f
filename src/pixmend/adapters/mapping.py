"""Weights by other names.

A table says what each module of an `AdmUNet` is called elsewhere, and a second one what the layers within are called;
together they name every layer. Reading and writing go through the same tables. Reading is strict: every tensor is used
once, and one that is missing, left over or of another shape is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from pixmend.errors import ModelFileError

Places = Iterable[tuple[str, str]]  # a module of ours, and its name there
Parts = Mapping[type[nn.Module], Mapping[str, tuple[str, ...]]]  # within a module: a layer, and its name or names there
Layers = Mapping[str, tuple[str, ...]]  # a layer of ours, and its names there: several are one of ours when stacked
KINDS = ("weight", "bias")  # every layer has these two


class MisfitError(Exception):
    """The weights are not those of the network that is described."""


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn a misfit of weights into one line that names their file."""
    try:
        yield
    except MisfitError as error:
        raise ModelFileError(f"{path} does not fit its description: {error}") from error


def name_layers(network: nn.Module, places: Places, parts: Parts) -> Layers:
    """Every layer of the network that has weights, and its names there."""
    layers = {}
    for ours, theirs in places:
        module = network.get_submodule(ours)
        for inner, names in parts.get(type(module), {"": ("",)}).items():
            if any(True for _ in module.get_submodule(inner).parameters()):
                layers[_join(ours, inner)] = tuple(_join(theirs, name) for name in names)
    return layers


def to_ours(tensors: Mapping[str, Tensor], network: nn.Module, layers: Layers) -> dict[str, Tensor]:
    """The network's state_dict from tensors by their names there. Raises MisfitError unless they fit exactly."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    names = {
        f"{ours}.{kind}": [f"{name}.{kind}" for name in theirs] for ours, theirs in layers.items() for kind in KINDS
    }
    used = [name for several in names.values() for name in several]
    _complain("is missing", [name for name in used if name not in tensors])
    _complain("is more than is described", sorted(tensors.keys() - set(used)))
    found = {}
    for ours, several in names.items():
        value = torch.cat([tensors[name] for name in several]) if len(several) > 1 else tensors[several[0]]
        if _essential(value.shape) != _essential(wanted[ours]):
            shapes = f"of shape {tuple(value.shape)}, where {tuple(wanted[ours])} is described"
            raise MisfitError(f"{', '.join(several)} is {shapes}")
        found[ours] = value.reshape(wanted[ours])
    return found


def to_theirs(network: nn.Module, layers: Layers) -> dict[str, Tensor]:
    """The network's weights by their names there: the way back of `to_ours`."""
    weights = network.state_dict()
    return {
        f"{name}.{kind}": part.clone()  # parts of one tensor would share their memory
        for ours, theirs in layers.items()
        for kind in KINDS
        for name, part in zip(theirs, weights[f"{ours}.{kind}"].chunk(len(theirs)), strict=True)
    }


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)


def _essential(shape: torch.Size) -> tuple[int, ...]:
    """A shape without the ones at its end: a convolution of one place is a linear layer."""
    sizes = list(shape)
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _complain(what: str, names: list[str]) -> None:
    if names:
        raise MisfitError(f"{names[0]} {what}" + (f", and so are {len(names) - 1} more" if len(names) > 1 else ""))
