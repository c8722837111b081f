"""Our samplers and diffusers' schedulers around the same small network with the same weights: state by state."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pixmend.diffusion import Diffusion
from pixmend.samplers import ddim, ddpm, dpmpp_2m, unipc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it imports may be older than what warns of it
    diffusers = pytest.importorskip("diffusers")

T = 1000
CASES: dict[str, tuple[Callable[..., Tensor], str, dict[str, Any]]] = {
    "ddpm": (ddpm, "DDPMScheduler", {"variance_type": "fixed_small", "clip_sample": False}),
    "ddpm, large variance": (
        partial(ddpm, variance="large"),
        "DDPMScheduler",
        {"variance_type": "fixed_large", "clip_sample": False, "timestep_spacing": "leading"},
    ),
    "ddim": (ddim, "DDIMScheduler", {"clip_sample": False}),
    "ddim, eta 0.6": (partial(ddim, eta=0.6), "DDIMScheduler", {"clip_sample": False}),
    "dpmpp-2m": (dpmpp_2m, "DPMSolverMultistepScheduler", {"solver_order": 2, "final_sigmas_type": "zero"}),
    "unipc": (unipc, "UniPCMultistepScheduler", {"solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "zero"}),
}


@pytest.fixture(scope="module")
def network() -> Callable[[Tensor, Tensor], Tensor]:
    """A small network that answers noise, and depends on the picture and the time; in double precision."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).double()
    unet.requires_grad_(False)
    return lambda x, t: unet(x, t).sample


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of torch in NumPy's hands, theirs
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [2, 5, 20])
@pytest.mark.parametrize("case", CASES)
def test_the_same_states(case: str, steps: int, prediction: str, network: Callable[..., Tensor]) -> None:
    sampler, name, options = CASES[case]
    scheduler = getattr(diffusers, name)(
        num_train_timesteps=T, prediction_type=prediction, **{"timestep_spacing": "trailing", **options}
    )
    scheduler.set_timesteps(steps)
    times = scheduler.timesteps.tolist()
    diffusion = Diffusion("linear", T, "eps" if prediction == "epsilon" else "v")
    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    theirs, x = [], start
    generator = torch.Generator().manual_seed(2)
    extra: dict[str, Any] = {"generator": generator} if name.startswith("DD") else {}
    if "eta" in case:
        extra["eta"] = 0.6
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, **extra).prev_sample
        theirs.append(x)

    def denoise(x: Tensor, t: int) -> Tensor:
        return diffusion.predict_x0(x, t, network(x, torch.tensor(t)), limit=float("inf"))

    again, ours = torch.Generator().manual_seed(2), list[Tensor]()
    sampler(
        denoise,
        start,
        times,
        diffusion,
        noise=lambda x: torch.randn(x.shape, generator=again, dtype=x.dtype),
        callback=lambda t, x, x0: ours.append(x),
    )
    assert len(ours) == len(theirs) == steps
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()
