"""The noise schedule of diffusers: what a scheduler's configuration says of the training, and the way back.

The rest of such a configuration is about sampling there (clipping, the spacing of steps, the variance), and pixmend's
samplers have their own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixmend.adapters.reading import MOST_LEVELS, described_by, read_json
from pixmend.diffusion import Diffusion, Prediction
from pixmend.errors import ModelFileError
from pixmend.schedules import SCHEDULES, check_betas, cosine_betas, make_betas, stretched_to_zero

SAMPLERS = {"DDPMScheduler": "ddpm", "DDIMScheduler": "ddim"}
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
DEFAULTS = {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
FORMS = {"num_train_timesteps": int, "rescale_betas_zero_snr": bool, "predict_epsilon": bool}
LEARNED = ("learned", "learned_range")  # values of variance_type for which the network answers the variance too


def _linear(T: int, first: float, last: float) -> Tensor:
    return torch.linspace(first, last, T, dtype=torch.float64)


BETAS: Mapping[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "scaled_linear": lambda T, first, last: _linear(T, first**0.5, last**0.5) ** 2,
    "squaredcos_cap_v2": lambda T, first, last: cosine_betas(T),
    "sigmoid": lambda T, first, last: torch.sigmoid(_linear(T, -6, 6)) * (last - first) + first,
}


def read_scheduler(path: Path) -> tuple[Diffusion, str, bool]:
    """The diffusion that a scheduler's file describes, the sampler's name, and whether the variance was learnt."""
    content = read_json(path)
    name = content.get("_class_name")
    if name not in tuple(SAMPLERS):
        raise ModelFileError(f"{path}: the scheduler {name!r} is not supported, only {' and '.join(SAMPLERS)}")
    if content.get("timestep_values") is not None:
        raise ModelFileError(f"{path}: timestep_values of its own are not supported; networks are told t = 0 to T-1")
    with described_by(path):
        return diffusion_of(content), SAMPLERS[name], content.get("variance_type") in LEARNED


def diffusion_of(content: Mapping[str, Any]) -> Diffusion:
    """The diffusion that a scheduler's configuration describes; what it does not say is as DDPM has it."""
    for name, kind in FORMS.items():
        if name in content and type(content[name]) is not kind:
            raise ValueError(f"{name} = {content[name]!r} is not of the type it must be, {kind.__name__}")
    said = {**DEFAULTS, **content}
    T, schedule = said["num_train_timesteps"], said["beta_schedule"]
    if schedule not in BETAS:
        raise ValueError(f"beta_schedule {schedule!r} is not supported, only {', '.join(BETAS)}")
    if not 2 <= T <= MOST_LEVELS:
        raise ValueError(f"num_train_timesteps = {T} is not possible, only 2 to {MOST_LEVELS}")
    trained = content.get("trained_betas")
    if trained is None:
        betas = BETAS[schedule](T, float(said["beta_start"]), float(said["beta_end"]))
    else:
        betas = check_betas(torch.tensor(trained, dtype=torch.float64))
        if len(betas) != content.get("num_train_timesteps", len(betas)):
            raise ValueError(f"there are {len(betas)} trained_betas, and num_train_timesteps = {T}; they must agree")
    if content.get("rescale_betas_zero_snr"):
        betas = stretched_to_zero(betas)
    before = "epsilon" if content.get("predict_epsilon", True) else "sample"  # as the first versions say it
    prediction = content.get("prediction_type", before)
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type {prediction!r} is not supported, only {', '.join(PREDICTIONS)}")
    return Diffusion(_named(betas), len(betas), PREDICTIONS[prediction])


def scheduler_config(diffusion: Diffusion, sampler: str) -> dict[str, Any]:
    """The configuration of a scheduler of diffusers for networks of this diffusion."""
    schedulers = {ours: theirs for theirs, ours in SAMPLERS.items()}
    if diffusion.schedule == "cosine":
        said: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2"}
    elif diffusion.schedule == "linear":
        said = {
            "beta_schedule": "linear",
            "beta_start": float(diffusion.betas[0]),
            "beta_end": float(diffusion.betas[-1]),
        }
    else:
        said = {"trained_betas": diffusion.betas.tolist()}
    return {
        "_class_name": schedulers.get(sampler, "DDIMScheduler"),
        "num_train_timesteps": diffusion.T,
        **said,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[diffusion.prediction],
        "clip_sample": True,
        "timestep_spacing": "trailing",  # as in `step_subset`
    }


def _named(betas: Tensor) -> str | Tensor:
    """The name of the schedule among ours that this is, in the digits of the float32 that files may come from."""
    for name in SCHEDULES:
        if torch.allclose(betas, make_betas(name, len(betas)), rtol=1e-6, atol=0):
            return name
    return betas
