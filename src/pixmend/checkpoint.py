"""The model file: one .safetensors that knows everything about itself.

The header's metadata has one key, "pixmend", with JSON: architecture, diffusion, how the network is told what is
known, its native size, the sampler and number of steps that suit it, its legs of training and its terms of use. A
second network may stand in the same file, which answers the mean. docs/model-file.md describes it. Nothing is ever
unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from pixmend import model_files
from pixmend.adm import AdmConfig, AdmUNet
from pixmend.conditioning import INPUT_CHANNELS
from pixmend.diffusion import Conditioning, Diffusion
from pixmend.errors import OptionError
from pixmend.model_files import (
    REPAIRER,
    building_from,
    legs_of,
    read_content,
    read_weights,
    refuse_unknown,
    whole_number,
    write_model_file,
)
from pixmend.samplers import SAMPLERS
from pixmend.unet import UNet, UNetConfig

PLAIN_STEPS = 10  # where known pixels are put back around a network that is not told of them, few are not enough
KNOWN = frozenset({"format", "version", "architecture", "diffusion", "conditioning", "size"})
KNOWN |= {"sampler", "steps", "legs", "terms", "mean"}
KNOWN_OF_DIFFUSION = frozenset(("schedule", "T", "prediction"))
LARGEST_SIZE = 1 << 12  # pixels a side of the pictures that a model may claim to have seen
# What the mean knows is near: it needs no look at the whole picture.
MEAN_SHAPE = UNetConfig(channels=(48, 80, 128, 144), attention=(False,) * 4)
OF_MEAN = "mean."  # what the names of the weights of the mean begin with

Network = UNet | AdmUNet
NetworkConfig = UNetConfig | AdmConfig
KINDS: dict[str, type[UNetConfig] | type[AdmConfig]] = {"unet": UNetConfig, "adm": AdmConfig}


def build(config: NetworkConfig) -> Network:
    """A new network of the kind that its configuration is for."""
    return UNet(config) if isinstance(config, UNetConfig) else AdmUNet(config)


def default_steps(conditioning: Conditioning, T: int) -> int:
    """Network calls of a model that was not distilled, of T noise levels."""
    return min(PLAIN_STEPS if conditioning == "plain" else Model.steps, T)


@dataclass
class Model:
    """A network with all that is needed to repair with it."""

    network: Network
    diffusion: Diffusion
    conditioning: Conditioning = "known-aware"
    size: int = 64  # pixels; the side of the pictures that it was trained on
    sampler: str = "unipc"
    steps: int = 4  # network calls that look and measure best; more make a network that was trained briefly busier
    legs: list[dict[str, Any]] = field(default_factory=list)  # of training, oldest first
    terms: str = "not stated"  # of use of the weights
    mean: Model | None = None  # answers the mean of what may be there: fills narrow holes, and guides this one
    # What `backends.kept_open` keeps: opening takes longer than a small fill. A copy by `replace` begins without.
    opened: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle has: no more than `replace` gives, for what is open can be neither."""
        return {**self.__dict__, "opened": {}}

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
        """A model with random weights, the same for the same seed.

        config: its `in_channels` are replaced by what the conditioning needs. Raises OptionError.
        """
        if conditioning not in INPUT_CHANNELS:
            raise OptionError(f"conditioning {conditioning!r} is not known; choose {' or '.join(INPUT_CHANNELS)}")
        config = dataclasses.replace(config or UNetConfig(), in_channels=INPUT_CHANNELS[conditioning])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(config)
        diffusion = diffusion or Diffusion()
        return cls(network, diffusion, conditioning, size, steps=default_steps(conditioning, diffusion.T))

    @classmethod
    def new_mean(cls, config: NetworkConfig = MEAN_SHAPE, *, size: int = 64, seed: int = 0) -> Model:
        """One that answers the mean of what may be there in a single call, at a single level of noise alone; with
        random weights. Where holes are narrow the mean is nearly the truth; of wide ones it is a blurred sketch.
        """
        pure_noise = Diffusion(torch.ones(1, dtype=torch.float64), prediction="x0")
        model = cls.new(config, conditioning="residual", diffusion=pure_noise, size=size, seed=seed)
        model.steps, model.sampler = 1, "ddim"
        return model

    @property
    def answers_the_mean(self) -> bool:
        """Whether it answers the mean, in one call."""
        return self.diffusion.T == 1

    @property
    def distilled_to(self) -> int | None:
        """How many steps its last leg distilled it to; None where that was no distillation."""
        return self.legs[-1].get("distilled_to") if self.legs else None

    @property
    def header(self) -> dict[str, Any]:
        """Everything but the weights, as it stands in the file."""
        d, config = self.diffusion, self.network.config
        (kind,) = (name for name, configuration in KINDS.items() if isinstance(config, configuration))
        named = {} if kind == "unet" else {"kind": kind}  # files from before there were kinds have none
        return {
            "format": REPAIRER.format,
            "version": 1 if self.mean is None else 2,
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
            **({} if self.mean is None else {"mean": self.mean.header}),
        }

    @property
    def fingerprint(self) -> str:
        """A short hash of the weights."""
        hashed = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            hashed.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]

    @property
    def weights(self) -> dict[str, Tensor]:
        """All weights, as they stand in the file."""
        of_mean = {} if self.mean is None else self.mean.weights
        return self.network.state_dict() | {OF_MEAN + name: value for name, value in of_mean.items()}


def save_model(
    path: str | os.PathLike[str], model: Model, *, overwrite: bool = False, dtype: torch.dtype = torch.float16
) -> Path:
    """Write the model file, atomically; by default in half precision, which fills do not show."""
    if not 1 <= model.size <= LARGEST_SIZE:
        raise OptionError(f"a model of pictures of {model.size} pixels a side is not written; 1 to {LARGEST_SIZE} go")
    if model.mean is not None and model.mean.mean is not None:
        raise OptionError("a model that answers the mean has no such part itself; take its `mean`, or set that to None")
    return write_model_file(path, model.header, model.weights, dtype, overwrite=overwrite)


def load_model(path: str | os.PathLike[str] | None = None) -> Model:
    """The model from its file alone, on the CPU in float32; without a path, the model that ships with pixmend."""
    path = Path(model_files.DEFAULT_MODEL if path is None else path)
    header = read_header(path)
    with building_from(path):
        model = _from_header(header)
        _take_weights(model, read_weights(path))
    return model


def _take_weights(model: Model, weights: Mapping[str, Tensor]) -> None:
    if model.mean is not None:
        own = {name: value for name, value in weights.items() if not name.startswith(OF_MEAN)}
        _take_weights(model.mean, {name.removeprefix(OF_MEAN): weights[name] for name in weights.keys() - own})
        weights = own
    # They become the network's own: nothing is allocated because a header claims it.
    model.network.load_state_dict(weights, assign=True)
    model.network.eval()


def read_header(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The header of a model file, without loading its weights; docs/model-file.md says what stands in it."""
    return read_content(Path(model_files.DEFAULT_MODEL if path is None else path), REPAIRER)


def _from_header(header: Mapping[str, Any]) -> Model:
    refuse_unknown(header, KNOWN)
    refuse_unknown(header["diffusion"], KNOWN_OF_DIFFUSION)
    shape: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in header["architecture"].items()}
    kind = shape.pop("kind", "unet")
    if kind not in KINDS:
        raise OptionError(f"networks of kind {kind!r} are not known to this pixmend; update pixmend")
    config = KINDS[kind](**shape)
    noise = header["diffusion"]
    schedule = noise["schedule"]
    diffusion = Diffusion(
        schedule if isinstance(schedule, str) else torch.tensor(schedule, dtype=torch.float64),
        whole_number(noise, "T"),
        noise["prediction"],
    )
    conditioning = header["conditioning"]
    if conditioning not in get_args(Conditioning) or config.in_channels != INPUT_CHANNELS[conditioning]:
        raise OptionError(f"conditioning {conditioning!r} with {config.in_channels} input channels is not known")
    size, steps, sampler = whole_number(header, "size"), whole_number(header, "steps"), str(header["sampler"])
    if (
        not 1 <= size <= LARGEST_SIZE
        or not 1 <= steps <= diffusion.T
        or sampler not in SAMPLERS
        or config.out_channels != 3
    ):
        raise OptionError(f"size {size}, {steps} steps of {sampler!r} and {config.out_channels} channels do not go")
    legs = legs_of(header)
    for taught in (leg.get("distilled_to") for leg in legs):
        if taught is not None and not (type(taught) is int and 1 <= taught <= diffusion.T):
            raise OptionError(f"a training distilled it to {taught!r} steps; only 1 to {diffusion.T} are possible")
    with torch.device("meta"):  # neither time nor memory is lost on random weights
        network = build(config)
    return Model(
        network,
        diffusion,
        conditioning,
        size,
        sampler,
        steps,
        legs,
        str(header["terms"]),
        _from_header({**header["mean"], "mean": None}) if header.get("mean") else None,
    )
