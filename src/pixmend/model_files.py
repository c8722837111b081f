"""What all model files have in common: a .safetensors with one key, "pixmend", in its metadata: JSON that says it all.

docs/model-file.md describes them. A file is read without its weights by hand, and nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixmend.errors import FileMissingError, ModelFileError, OptionError
from pixmend.files import write_atomically
from pixmend.run_place import STATE_KEY

if TYPE_CHECKING:
    from torch import Tensor, dtype

LARGEST_HEADER = 16 << 20  # bytes; a damaged length would otherwise be read as a request for all memory


@dataclass(frozen=True)
class Kind:
    """One kind of model file."""

    format: str  # as its header names it
    version: int  # the newest that is known
    what: str  # for people
    writer: str  # the command that writes such files


REPAIRER = Kind("pixmend-model", 2, "a model that fills holes", "pixmend train")
DENOISER = Kind("pixmend-denoiser", 1, "a denoiser", "pixmend denoise train")
KINDS = (REPAIRER, DENOISER)

DEFAULT_MODEL, DEFAULT_DENOISER = (
    Path(__file__).parent / "weights" / name for name in ("default.safetensors", "denoiser.safetensors")
)


def read_any_header(path: Path) -> dict[str, Any]:
    """What a model file of any kind says of itself, without its weights. Raises FileMissingError, ModelFileError."""
    named = _content(path, REPAIRER.writer).get("format")
    return read_content(path, DENOISER if named == DENOISER.format else REPAIRER)


def read_content(path: Path, kind: Kind) -> dict[str, Any]:
    """What a file of that kind says of itself, without its weights. Raises FileMissingError, ModelFileError."""
    content = _content(path, kind.writer)
    if content.get("format") != kind.format:
        others = (other.what for other in KINDS if content.get("format") == other.format)
        what = next((f"is {other}, not {kind.what}" for other in others), f"does not hold {kind.what}")
        raise ModelFileError(f"{path} {what}; give a file that `{kind.writer}` wrote")
    if content.get("version") not in range(1, kind.version + 1):
        known = " and ".join(map(str, range(1, kind.version + 1)))
        raise ModelFileError(
            f"{path} is of version {content.get('version')!r}; this pixmend reads version {known}: update pixmend"
        )
    return content


def _content(path: Path, writer: str) -> dict[str, Any]:
    metadata = read_safetensors_metadata(path, writer)
    header = metadata.get("pixmend")
    if header is None and STATE_KEY in metadata:
        raise ModelFileError(
            f"{path} is the state of a training, for --resume, and no model; give the model that it saved, "
            f"{_model_of(path.parent)}, or go on with that training with --resume"
        )
    if header is None:
        raise ModelFileError(f"{path} is a safetensors file of another program; give one that `{writer}` wrote")
    try:
        content = json.loads(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} has a header that cannot be read ({error}); get the file again") from error
    return content if isinstance(content, dict) else {}


def _model_of(run: Path) -> Path:
    """The model of a run folder: beside it, or in it, as those of denoisers are."""
    return run.with_suffix(".safetensors") if run.suffix == ".run" else run / "model.safetensors"


def refuse_unknown(said: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise OptionError for a field that is not known: what it changes is not known either."""
    if others := sorted(set(said) - known):
        raise OptionError(f"what its field {others[0]!r} means is not known to this pixmend; update pixmend")


def whole_number(said: Mapping[str, Any], name: str) -> int:
    """The number of that name. Raises OptionError where it is not a whole one."""
    value = said[name]
    if type(value) is not int:
        raise OptionError(f"{name} = {value!r} is no whole number")
    return value


def legs_of(header: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainings that a header tells of. Raises OptionError where that is no list of them."""
    legs = header["legs"]
    if not isinstance(legs, list) or not all(isinstance(leg, dict) for leg in legs):
        raise OptionError("its legs are no list of trainings")
    return legs


def read_safetensors_metadata(path: Path, writer: str = "pixmend train") -> Mapping[str, Any]:
    """The free-form metadata of any safetensors file, read by hand: no tensor library is needed for it."""
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise FileMissingError(f"the model {path} {what}; give a .safetensors file that `{writer}` wrote")
    foreign = ModelFileError(f"{path} is not a model file; give a .safetensors file that `{writer}` wrote")
    try:
        with open(path, "rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else LARGEST_HEADER + 1
            if length > LARGEST_HEADER:
                raise foreign
            content = json.loads(stream.read(length))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise foreign from error
    metadata = content.get("__metadata__", {}) if isinstance(content, dict) else {}
    return metadata if isinstance(metadata, dict) else {}


def write_model_file(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    number_type: dtype,
    *,
    overwrite: bool,
) -> Path:
    """Write the file, atomically, its real numbers as `number_type`; whole ones, such as counts, keep their type.

    Raises OptionError where one is not finite so, for such a file would not be read again.
    """
    from safetensors.torch import save

    stored = {
        name: value.detach().to("cpu", number_type if value.is_floating_point() else value.dtype).contiguous()
        for name, value in weights.items()
    }
    if broken := _not_finite(stored):
        raise OptionError(
            f"{path} was not written, for its {broken} is not finite in {number_type}; half precision ends at 65504, "
            "and single (without --half, or dtype=torch.float32) far beyond"
        )
    content = save(stored, {"pixmend": json.dumps(header)})
    return write_atomically(path, lambda stream: stream.write(content), overwrite=overwrite)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, real numbers as float32. Raises ModelFileError where one is not finite."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(path)
    if of_other_kind := next((name for name, value in weights.items() if value.is_complex()), None):
        raise ModelFileError(f"{path} holds weights that are no real numbers ({of_other_kind}); get the file again")
    if broken := _not_finite(weights):
        raise ModelFileError(f"{path} holds weights that are not finite ({broken}); get the file again")
    # Copies, for what load_file gives may be the file itself, mapped: were it cut short, the process would end.
    return {
        name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
        for name, value in weights.items()
    }


def half_or_single(weights: Mapping[str, Tensor]) -> dtype:
    """Half precision, or single where a weight is beyond half's 65504, as those of imported models may be."""
    import torch

    fits = not _not_finite({name: value.half() for name, value in weights.items() if value.is_floating_point()})
    return torch.float16 if fits else torch.float32


def _not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds a value that is not finite."""
    return next((name for name, value in weights.items() if not bool(value.isfinite().all())), None)


@contextmanager
def building_from(path: Path) -> Iterator[None]:
    """Turn whatever a header or weights that do not fit lead to into a ModelFileError of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except OptionError as error:
        raise ModelFileError(f"{path} does not describe a model that can be built: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{path} has a header that is not complete ({error!r}); get the file again") from error
    except (SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())[:160]
        raise ModelFileError(f"{path} is damaged: weights and header do not fit ({why}); get it again") from error
