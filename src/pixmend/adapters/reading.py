"""Reading what other programs wrote: descriptions in JSON, and tensors. Nothing is unpickled that could run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pixmend.adapters.pickles import check_pickles
from pixmend.errors import FileMissingError, ModelFileError

# What the readers of weights raise at files that are damaged, of another kind, or hold more than tensors.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    SafetensorError,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    ImportError,
    MemoryError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)
MOST_LEVELS = 100_000  # of noise, a hundred times as many as is usual: a damaged number asks for all memory


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    if not os.path.isfile(path):
        raise FileMissingError(f"{path} does not exist; check its name")
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is not JSON that can be read ({error}); correct it, or get it again") from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} holds no JSON object; it must name options and their values, as {{...}}")
    return content


@contextmanager
def described_by(path: Path) -> Iterator[None]:
    """Turn what is raised while a description is made sense of into one line that names its file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]  # an OptionError is a ValueError
        raise ModelFileError(f"{path} describes what cannot be built: {why}") from error


def read_options(
    path: Path,
    content: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    forms: Mapping[str, tuple[type, ...]],
    only: Mapping[str, Sequence[Any]],
    idle: Collection[str],
) -> dict[str, Any]:
    """The options of a network: what the file says, else their defaults; and none that is not understood.

    forms: the types of those options that may be of another type than their default. only: the values that are
    supported, where that is not all of them. idle: the options that change nothing about what the network calculates.
    """
    for name, value in content.items():
        if name.startswith("_") or name in idle:
            continue
        if name not in defaults:
            raise ModelFileError(
                f"{path}: the option {name} = {json.dumps(value)[:60]} is not known, and what it changes neither; "
                "is it misspelt, or newer than this pixmend?"
            )
        types = forms.get(name, (type(defaults[name]),))
        types = (*types, int) if float in types else types
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ModelFileError(f"{path}: {name} = {json.dumps(value)[:60]} is not of the type it must be, {expected}")
    options = {**defaults, **{name: content[name] for name in defaults if name in content}}
    for name, supported in only.items():
        if options[name] not in supported:
            expected = " or ".join(json.dumps(value) for value in supported)
            raise ModelFileError(f"{path}: {name} = {json.dumps(options[name])} is not supported, only {expected}")
    return options


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a file that torch.save wrote, by name, in float32 on the CPU."""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            check_pickles(path)
            with warnings.catch_warnings(action="ignore"):  # about pickles that are then refused
                content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:120]
        raise ModelFileError(
            f"{path} holds no weights that can be read safely, as .safetensors or plain tensors of torch.save ({why})"
        ) from error
    tensors = content if isinstance(content, dict) else {"": content}
    left = path.stat().st_size  # bytes; views with a stride of 0, or many of one storage, would ask for all memory
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.is_floating_point():
            raise ModelFileError(
                f"{path} holds {name!r}, a {type(value).__name__}, where weights are expected; give the file of the "
                "network's own (or averaged) state_dict"
            )
        left -= value.numel() * value.element_size()
        if left < 0 or value.layout is not torch.strided or value.device.type != "cpu":
            raise ModelFileError(
                f"{path} holds a tensor, {name}, that claims more values than the file has; get it again"
            )
        if not bool(torch.isfinite(value.float()).all()):  # types of 8 bits cannot be asked themselves
            raise ModelFileError(f"{path} holds weights that are not finite ({name}); get the file again")
    # Copies, for what load_file gives may be the file itself, mapped: were it cut short, the process would end.
    return {name: value.to(torch.float32, copy=True) for name, value in tensors.items()}
