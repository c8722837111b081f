"""Models from other programs and for them: a checkpoint is translated once, at the edge, and no more is known of it."""

from __future__ import annotations

import os
from pathlib import Path

from pixmend.adapters.guided import read_guided
from pixmend.adapters.pipeline import read_pipeline, write_pipeline
from pixmend.checkpoint import LARGEST_SIZE, Model
from pixmend.errors import FileMissingError, ModelFileError, OptionError

STEPS = 50  # of an imported model, for which nothing says a better number; what DDIMPipeline of diffusers takes


def import_model(
    source: str | os.PathLike[str],
    *,
    architecture: str | os.PathLike[str] | None = None,
    label: int | None = None,
    size: int | None = None,
    assume_ddpm: bool = False,
    terms: str | None = None,
) -> Model:
    """A plain model from the weights of another program.

    source: a folder of diffusers with a UNet2DModel, or a checkpoint of guided-diffusion.
    architecture: the JSON file that describes a checkpoint (docs/other-models.md).
    label: the class to fill with, of a network that knows classes.
    size: side in pixels of the pictures it was trained on, where a folder does not say.
    assume_ddpm: take DDPM's noise where a folder has no scheduler.
    terms: of use of the weights, in words: those of their author.
    Raises FileMissingError, ModelFileError, OptionError.
    """
    source = Path(source)
    if not os.path.exists(source):
        raise FileMissingError(
            f"{source} does not exist; give a folder of diffusers, or a checkpoint of guided-diffusion"
        )
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise OptionError(f"size {size} is not possible; give the side of the training pictures, 1 to {LARGEST_SIZE}")
    if os.path.isdir(source):
        if architecture is not None:
            raise OptionError(f"{source} is a folder and describes its network itself; leave --architecture out")
        model = read_pipeline(source, label, size, assume_ddpm)
    else:
        if architecture is None:
            raise OptionError(
                f"{source} is a single file, which does not say what network it is of; describe that with "
                "--architecture FILE.json, as docs/other-models.md shows"
            )
        if size is not None or assume_ddpm:
            raise OptionError(f"the size and the noise of {source} are told by its description; leave the options out")
        model = read_guided(source, Path(architecture), label)
    if model.size > LARGEST_SIZE:
        raise ModelFileError(
            f"{source} is described as of pictures of {model.size} pixels a side, and no more than {LARGEST_SIZE} go"
        )
    model.steps = min(STEPS, model.diffusion.T)
    model.terms = model.terms if terms is None else terms
    return model


def export_model(model: Model, folder: str | os.PathLike[str]) -> Path:
    """Write a plain model as a new folder for diffusers: DDPMPipeline or DDIMPipeline, by the model's sampler.

    The folder's network gives what the model's gives, but for rounding. Raises OptionError where that cannot be,
    OutputExistsError and OutputError.
    """
    return write_pipeline(model, Path(folder))
