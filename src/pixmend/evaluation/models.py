"""Models of pixmend as methods: as a user gets them, and as networks that are not told of the hole.

The latter are what known-aware training has to be better than: known pixels put back clean at every step (the first
design of this project), put back with noise of the level (RePaint with r = 1), and RePaint with r = 10. A network that
was trained known-aware saw pictures that are all hole, too: shown nothing as known, it is an unconditional network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pixmend
from pixmend.checkpoint import Model, load_model
from pixmend.components import Hole
from pixmend.conditioning import make_denoiser
from pixmend.diffusion import Known, Noise
from pixmend.efforts import effort_for
from pixmend.evaluation.method import Filled, Limits, Method
from pixmend.evaluation.protocol import Pixels
from pixmend.inpainting import inpainting
from pixmend.model_files import DEFAULT_MODEL
from pixmend.pictures import to_samples, to_values
from pixmend.runtime import fast_dtype, pick_device
from pixmend.samplers import repaint
from pixmend.schedules import step_subset

LEVELS = 250  # that RePaint visits; with 10 resamplings 2,410 network calls
SLOW = Limits(families=("centre", "thick"), pictures=20, fills=1)


def told(
    file: Path | None,
    sampler: str | None = None,
    steps: int | None = None,
    device: str | None = None,
    quality: str = "balanced",
) -> Method:
    """A model file as `pixmend inpaint` uses it, without a soft edge; by default with its own sampler and steps, and
    with what it has for narrow holes.
    """
    model, label = _load(file)
    how: dict[str, Any] = {name: value for name, value in (("sampler", sampler), ("steps", steps)) if value is not None}
    effort, T = effort_for(quality, model), model.diffusion.T
    sampler, steps = sampler or model.sampler, steps or effort.first_steps(T, model.steps)
    step_subset(T, steps)  # refuses here what sampling would refuse later

    def fill(picture: Pixels, hole: Hole, seed: int) -> Filled:
        result = inpainting(picture, hole, model=model, **how, quality=quality, seed=seed, blur=0, device=device)
        samples = result.pictures[0].samples
        return Filled(samples.astype("uint8"), result.network_calls)

    name = f"{label}, {sampler}, {steps} step{'s' if steps > 1 else ''}"
    if model.mean is not None and not how:
        name += f", narrow {effort.mirrored * model.mean.steps}"
    if quality != "balanced":
        name += f", {quality}"
    where = pick_device(device)
    return Method(name, fill, random=True, identity=_identity(file, where), key="pixmend", series=f"{label}, {sampler}")


def untold(file: Path | None, way: str, device: str | None = None) -> Method:
    """A network that is not told of the hole; way: a name in UNTOLD."""
    model, label = _load(file)
    what, resamplings = UNTOLD[way]
    where = pick_device(device)
    times = step_subset(model.diffusion.T, min(LEVELS, model.diffusion.T))
    network = model.network.to(where).eval()
    dtype = fast_dtype(where)

    @torch.inference_mode()
    def fill(picture: Pixels, hole: Hole, seed: int) -> Filled:
        calls, generator = 0, torch.Generator().manual_seed(seed)

        def call(x: Tensor, t: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            with torch.autocast(where.type, dtype, enabled=dtype != torch.float32):
                output: Tensor = network(x, t).float()
            return output

        def noise(like: Tensor) -> Tensor:  # drawn on the CPU: the same on every device
            return torch.randn(like.shape, generator=generator).to(like)

        x0 = torch.from_numpy(to_values(picture)).permute(2, 0, 1)[None].to(where)  # (1, 3, H, W)
        mask = torch.from_numpy(hole)[None, None].to(x0)  # (1, 1, H, W)
        everything = Known(torch.zeros_like(x0), torch.ones_like(mask), model.diffusion, model.conditioning, noise)
        start, put_back = _put_back(model, x0, mask, noise, times[0], clean=resamplings == 0)
        x = repaint(
            make_denoiser(call, everything),
            start,
            times,
            model.diffusion,
            noise=noise,
            resamplings=max(1, resamplings),
            put_back=put_back,
        )
        return Filled(to_samples(x[0].permute(1, 2, 0).cpu().numpy()).astype("uint8"), calls)

    return Method(f"{label}, {what}", fill, random=True, identity=_identity(file, where), key=way, limits=SLOW)


UNTOLD = {  # word on the command line -> what it is called, and how often each stretch of levels is gone; 0 = put clean
    "put-back": ("known pixels put back clean", 0),
    "repaint-1": ("RePaint r = 1", 1),
    "repaint-10": ("RePaint r = 10", 10),
}


def _put_back(
    model: Model, x0: Tensor, mask: Tensor, noise: Noise, first: int, *, clean: bool
) -> tuple[Tensor, Callable[[Tensor, int, int], Tensor]]:
    """The state to start from, and how known pixels are put back at every step."""
    if not clean:
        known = Known(x0, mask, model.diffusion, "plain", noise)
        return known.start(first), known.put_back

    def put_back(x: Tensor, t: int, s: int) -> Tensor:
        return torch.where(mask > 0, x, x0)

    return put_back(noise(x0), first, first), put_back


def _load(file: Path | None) -> tuple[Model, str]:
    return load_model(file), "pixmend" if file is None else file.stem


def _identity(file: Path | None, device: torch.device) -> str:
    """All that a model's fills depend on: its file, this version of pixmend, and where it computes."""
    content = hashlib.sha256((file or DEFAULT_MODEL).read_bytes()).hexdigest()
    return f"{content}/{pixmend.__version__}/{device.type}"
