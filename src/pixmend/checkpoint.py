"""The model file: one .safetensors that knows everything about itself.

The header's metadata has one key, "pixmend", with JSON: architecture, diffusion, how the network is told what is
known, its native size, the sampler and number of steps that suit it, its legs of training and its terms of use.
docs/model-file.md describes it. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pixmend.adm import AdmConfig, AdmUNet
from pixmend.conditioning import INPUT_CHANNELS
from pixmend.diffusion import Conditioning, Diffusion
from pixmend.errors import FileMissingError, ModelFileError, OptionError
from pixmend.files import write_atomically
from pixmend.samplers import SAMPLERS
from pixmend.unet import UNet, UNetConfig

FORMAT, VERSION = "pixmend-model", 1
DEFAULT_MODEL = Path(__file__).parent / "weights" / "default.safetensors"
LARGEST_SIZE = 1 << 16  # pixels a side of the pictures that a model may claim to have seen
LARGEST_HEADER = 16 << 20  # bytes; a damaged length would otherwise be read as a request for all memory

Network = UNet | AdmUNet
NetworkConfig = UNetConfig | AdmConfig
KINDS: dict[str, type[UNetConfig] | type[AdmConfig]] = {"unet": UNetConfig, "adm": AdmConfig}


def build(config: NetworkConfig) -> Network:
    """A new network of the kind that its configuration is for."""
    return UNet(config) if isinstance(config, UNetConfig) else AdmUNet(config)


@dataclass
class Model:
    """A network with all that is needed to repair with it."""

    network: Network
    diffusion: Diffusion
    conditioning: Conditioning = "known-aware"
    size: int = 64  # pixels; the side of the pictures that it was trained on
    sampler: str = "ddim"
    steps: int = 10  # network calls that look and measure best
    legs: list[dict[str, Any]] = field(default_factory=list)  # of training, oldest first
    terms: str = "not stated"  # of use of the weights

    @classmethod
    def new(
        cls,
        config: NetworkConfig | None = None,
        *,
        conditioning: Conditioning = "known-aware",
        diffusion: Diffusion | None = None,
        size: int = 64,
        seed: int = 0,
    ) -> Model:
        """A model with random weights, the same for the same seed. `config` follows the conditioning's channels."""
        if conditioning not in INPUT_CHANNELS:
            raise OptionError(f"conditioning {conditioning!r} is not known; choose {' or '.join(INPUT_CHANNELS)}")
        config = dataclasses.replace(config or UNetConfig(), in_channels=INPUT_CHANNELS[conditioning])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(config)
        return cls(network, diffusion or Diffusion(), conditioning, size)

    @property
    def header(self) -> dict[str, Any]:
        """Everything but the weights, as it stands in the file."""
        d, config = self.diffusion, self.network.config
        (kind,) = (name for name, configuration in KINDS.items() if isinstance(config, configuration))
        named = {} if kind == "unet" else {"kind": kind}  # files from before there were kinds have none
        return {
            "format": FORMAT,
            "version": VERSION,
            "architecture": {**named, **dataclasses.asdict(config)},
            "diffusion": {
                "schedule": d.schedule if d.schedule != "custom" else d.betas.tolist(),
                "T": d.T,
                "prediction": d.prediction,
            },
            "conditioning": self.conditioning,
            "size": self.size,
            "sampler": self.sampler,
            "steps": self.steps,
            "legs": self.legs,
            "terms": self.terms,
        }


def save_model(
    path: str | os.PathLike[str], model: Model, *, overwrite: bool = False, dtype: torch.dtype = torch.float16
) -> Path:
    """Write the model file, atomically; by default in half precision, which fills do not show."""
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.network.state_dict().items()}
    content = save(weights, {"pixmend": json.dumps(model.header)})
    return write_atomically(path, lambda stream: stream.write(content), overwrite=overwrite)


def load_model(path: str | os.PathLike[str] | None = None) -> Model:
    """The model from its file alone, on the CPU in float32; without a path, the model that ships with pixmend."""
    path = Path(DEFAULT_MODEL if path is None else path)
    header = read_header(path)
    try:
        model = _from_header(header)
        # The weights become the network's own: nothing is allocated because a header claims it.
        model.network.load_state_dict(_as_float32(path, load_file(path)), assign=True)
    except OptionError as error:
        raise ModelFileError(f"{path} does not describe a model that can be built: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{path} has a header that is not complete ({error!r}); get the file again") from error
    except (SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())[:160]
        raise ModelFileError(f"{path} is damaged: weights and header do not fit ({why}); get it again") from error
    model.network.eval()
    return model


def read_header(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The header of a model file, without loading its weights; docs/model-file.md says what stands in it."""
    path = Path(DEFAULT_MODEL if path is None else path)
    header = read_metadata(path).get("pixmend")
    if header is None:
        raise ModelFileError(f"{path} is a safetensors file of another program; give one that `pixmend train` wrote")
    try:
        content = json.loads(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} has a header that cannot be read ({error}); get the file again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelFileError(f"{path} does not hold a model of pixmend; give a file that `pixmend train` wrote")
    if content.get("version") != VERSION:
        raise ModelFileError(
            f"{path} is of version {content.get('version')!r}; this pixmend reads version {VERSION}: update pixmend"
        )
    return content


def read_metadata(path: Path) -> Mapping[str, Any]:
    """The free-form metadata of any safetensors file, read by hand: no tensor library is needed for it."""
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise FileMissingError(f"the model {path} {what}; give a .safetensors file that `pixmend train` wrote")
    foreign = ModelFileError(f"{path} is not a model file; give a .safetensors file that `pixmend train` wrote")
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


def _from_header(header: Mapping[str, Any]) -> Model:
    shape: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header["architecture"].items()}
    kind = shape.pop("kind", "unet")
    if kind not in KINDS:
        raise OptionError(f"networks of kind {kind!r} are not known to this pixmend; update pixmend")
    config = KINDS[kind](**shape)
    noise = header["diffusion"]
    schedule = noise["schedule"]
    diffusion = Diffusion(
        schedule if isinstance(schedule, str) else torch.tensor(schedule, dtype=torch.float64),
        noise["T"],
        noise["prediction"],
    )
    conditioning = header["conditioning"]
    if conditioning not in get_args(Conditioning) or config.in_channels != INPUT_CHANNELS[conditioning]:
        raise OptionError(f"conditioning {conditioning!r} with {config.in_channels} input channels is not known")
    size, steps, sampler = int(header["size"]), int(header["steps"]), str(header["sampler"])
    if (
        not 1 <= size <= LARGEST_SIZE
        or not 1 <= steps <= diffusion.T
        or sampler not in SAMPLERS
        or config.out_channels != 3
    ):
        raise OptionError(f"size {size}, {steps} steps of {sampler!r} and {config.out_channels} channels do not go")
    with torch.device("meta"):  # neither time nor memory is lost on random weights
        network = build(config)
    return Model(
        network,
        diffusion,
        conditioning,
        size,
        sampler,
        steps,
        list(header["legs"]),
        str(header["terms"]),
    )


def _as_float32(path: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelFileError(f"{path} holds weights that are not finite ({broken[0]}); get the file again")
    # Copies, for what load_file gives may be the file itself, mapped: were it cut short, the process would end.
    return {name: value.to(torch.float32, copy=True) for name, value in weights.items()}
