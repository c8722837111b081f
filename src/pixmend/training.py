"""Training for inpainting: a folder of pictures in, a model file out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from pixmend import files, run_folder
from pixmend.budget import at_once, check_step_memory
from pixmend.checkpoint import LARGEST_SIZE, Model, Network, default_steps, load_model, save_model
from pixmend.conditioning import make_denoiser, network_input, roughened, smooth_fill
from pixmend.data import InpaintingDataset, Views
from pixmend.diffusion import Known
from pixmend.distillation import Teacher
from pixmend.errors import OptionError, OutputError
from pixmend.files import remove_leftovers
from pixmend.images import save_tensor_as_image
from pixmend.loop import Batch, Progress, Report, TrainConfig, fit, in_bf16
from pixmend.model_files import half_or_single
from pixmend.processes import Processes, joined
from pixmend.run_folder import RunFolder
from pixmend.run_place import check_training
from pixmend.samplers import SAMPLERS
from pixmend.schedules import step_subset
from pixmend.signals import stop_on_signal

__all__ = ["InpaintingTask", "Report", "TrainConfig", "train_model"]

SHOWN = 8  # pictures in the grid that is drawn while training
MEASURED = 32  # held-out pictures at once
NARROW_VIEWS = Views(coarse_guide=0, whole=0)  # a model that answers the mean works at one level
FLAT, TYPICAL = 0.003, 0.05  # mean squared errors of guides, of pictures in [-1, 1]
FLAT_NARROW = 0.0003  # where holes are narrow guides are that much nearer


def train_model(
    data: str | os.PathLike[str] | InpaintingDataset,
    output: str | os.PathLike[str],
    config: TrainConfig | None = None,
    *,
    model: Model | None = None,
    init: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    size: int | None = None,
    device: str | None = None,
    balance: float = 0.0,
    teacher: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    mean: bool = False,
    progress: Progress | None = None,
    decoding: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Model:
    """Train a model on a folder of pictures, and write it to the model file `output`.

    The error of the network's prediction is squared, summed over the values in the hole and divided by their number in
    the batch; Adam, with warm-up and cosine. Beside the model, the folder `output` without its suffix plus ".run" keeps
    the state to resume from, log.csv and pictures that show what the model does.

    data: a folder, the name of tar shards, or a data set, whose own size, seed and held-out share then count instead
    of `size` and those of `config`. model: an untrained one of another shape than the default, which is trained in
    place: use what is returned. init: a model file to start from, with a fresh optimiser:
    fine-tuning, or one more leg of a long training. resume: go on where the training of `output` stopped, bit for bit.
    size: side of the training pictures in pixels, by default the model's. device: by default the best there is.
    balance: from 0, squared errors as they are, so that hard holes decide, to 1, errors relative to that of the guide,
    so that easy holes, thin or in flat parts, count as much: a sample's error is divided by this power of its guide's.
    teacher, steps: a model file that begins as the student of itself, and learns to do in so many steps what it does in
    twice as many: see `distillation`. With `model` or `init` the student begins as that.
    mean: train a model that answers the mean, see `Model.new_mean`; with `model` or `init` the one that is part of
    that, or a new one that becomes part of it: the rest stays as it is, in half precision (single, where
    a weight is beyond that).
    decoding(done, of how many) is told while the pictures of a folder are read, note(text) of each that is left out,
    and progress(report) of each step.
    Ctrl-C (or SIGTERM, or SIGHUP: a terminal that closes) ends the training after the step that runs, with everything
    saved. While it runs, no other training can write into its folder.
    A model file that exists is replaced only with `overwrite` or `resume`; a training that was begun, never.
    Started by torchrun, the processes share out each batch, and rank 0 alone writes and calls the three functions.
    Raises DataError, ModelFileError, TrainingError, OptionError, each before any long work where that can be.
    """
    config, output = config or TrainConfig(), Path(output)
    if not 0 <= balance <= 1:
        raise OptionError(f"balance = {balance} must be from 0 to 1")
    if (teacher is None) != (steps is None):
        raise OptionError("a student needs a teacher and its own number of steps; give both, or none")
    if mean and teacher is not None:
        raise OptionError("a model that answers the mean learns from no teacher: it takes a single step; leave one out")
    if model is not None and init is not None:
        raise OptionError("a training starts from a model or from the file `init`; give one of them, or none")
    folder = RunFolder(check_training(output, overwrite=overwrite, resume=resume, sources=(init, teacher)))
    with joined() as processes, folder.lock() if processes.first else nullcontext():
        config.part_size(processes.count)
        if processes.first:
            folder.prepare(resume)
            remove_leftovers(output)
        where = processes.device(device)
        if model is None:
            begun = teacher if init is None else init
            new = Model.new_mean if mean else Model.new
            model = new(seed=config.seed) if begun is None else load_model(begun)
        whole = None
        if mean and not model.answers_the_mean:
            whole, model = model, model.mean or Model.new_mean(size=model.size, seed=config.seed)
        side = model.size if size is None else size
        if isinstance(data, InpaintingDataset):
            if size not in (None, data.size):
                raise OptionError(f"size = {size} does not fit samples of {data.size} pixels; leave it out")
            side = data.size
        dtype = torch.bfloat16 if in_bf16(config, where) else torch.float32
        if side > LARGEST_SIZE:
            raise OptionError(f"size = {side} is too large; give at most {LARGEST_SIZE}")
        sharing = processes.local_count if where.type == "cpu" else 1
        check_step_memory(model.network.config, side, config.part_size(processes.count) * sharing, dtype, where)
        if model.distilled_to is not None:  # what follows is an ordinary model again, or another student
            usual = default_steps(model.conditioning, model.diffusion.T)
            model = dataclasses.replace(model, steps=usual, sampler=Model.sampler)
        taught_by = None
        if teacher is not None and steps is not None:
            taught_by = Teacher(load_model(teacher), steps, where)
            for name in ("diffusion", "conditioning"):
                if taught_by.model.header[name] != model.header[name]:
                    raise OptionError(f"{init or 'the model'} and {teacher} differ in {name}; give one that is alike")
            model = dataclasses.replace(model, steps=steps, sampler="ddim")
        if not isinstance(data, InpaintingDataset):
            data = _decoded(data, side, config, model, processes, decoding, note)
        if data.T != model.diffusion.T:
            raise OptionError(f"the samples have {data.T} noise levels, the model {model.diffusion.T}; make them alike")
        model = dataclasses.replace(model, size=data.size)
        task = InpaintingTask(model, data, config, output, balance, taught_by, whole, processes.count)
        with stop_on_signal() as stop, _advising_to_resume():
            fit(task, config, folder, device=where, processes=processes, resume=resume, progress=progress, stop=stop)
        return load_model(output)


def _decoded(
    data: str | os.PathLike[str],
    size: int,
    config: TrainConfig,
    model: Model,
    processes: Processes,
    decoding: Callable[[int, int], None] | None,
    note: Callable[[str], None],
) -> InpaintingDataset:
    with processes.first_alone():
        kinds: dict[str, Any] = {"masks": "narrow", "views": NARROW_VIEWS} if model.answers_the_mean else {}
        samples = InpaintingDataset(
            data, size, seed=config.seed, T=model.diffusion.T, holdout=config.holdout, progress=decoding, **kinds
        )
    for reason in samples.skipped if processes.first else ():
        note(f"left out: {reason}")
    return samples


@contextmanager
def _advising_to_resume() -> Iterator[None]:
    """Say of a file that could not be written what helps a training that runs: another output would be another one."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(files.ADVICE, run_folder.ADVICE)) from error


class InpaintingTask:
    """What an inpainting network is taught: to take noise out of the hole, told what is known around it."""

    def __init__(
        self,
        model: Model,
        samples: InpaintingDataset,
        config: TrainConfig,
        output: Path,
        balance: float = 0.0,
        teacher: Teacher | None = None,
        whole: Model | None = None,
        processes: int = 1,
    ) -> None:
        """whole: the model that this one is part of, which is saved with it. processes: how many share a batch."""
        self.model, self.samples, self.output, self.balance = model, samples, output, balance
        self.part = config.part_size(processes)
        self.teacher, self.whole = teacher, whole
        self.network = model.network
        self.held_out = held_out_samples(samples, config)
        taught = teacher and {
            "legs": teacher.model.legs,
            "weights": teacher.model.fingerprint,
            "steps": teacher.steps,
        }
        self.identity: Mapping[str, Any] = {
            "model": {k: v for k, v in model.header.items() if k in ("architecture", "diffusion", "conditioning")},
            "legs": model.legs,
            "samples": samples.identity,
            "balance": balance,
            **({} if taught is None else {"teacher": taught}),
            **({} if whole is None else {"whole": {"weights": _alone(whole).fingerprint, **_alone(whole).header}}),
        }

    def weight(self, batch: Batch) -> Tensor:
        """The number of values in the holes."""
        return batch["hole"].count_nonzero() * batch["x0"].shape[1]

    def error(self, network: nn.Module, batch: Batch) -> Tensor:
        """Squared error of the prediction, summed over the values in the holes; with `balance`, weighted by sample."""
        diffusion, conditioning = self.model.diffusion, self.model.conditioning
        x0, hole = _pictures_and_holes(batch)
        t, noise = batch["t"], batch["noise"]
        guide = guide_for(batch, x0, hole)
        drawn = x0 - guide if conditioning == "residual" else x0
        xt = diffusion.add_noise(drawn, t, noise)

        def told(x: Tensor) -> Tensor:
            return x if conditioning == "plain" else network_input(x, x0, hole, guide)

        target = self.teacher.target(xt, t, told) if self.teacher else diffusion.target(drawn, t, noise)
        squared = (network(told(xt), t).float() - target) ** 2 * hole
        if self.balance:
            flat = FLAT_NARROW if self.model.answers_the_mean else FLAT
            squared = squared * balance_of(x0, guide, hole, self.balance, flat)
        error: Tensor = squared.sum()
        return error

    @torch.no_grad()
    def held_out_loss(self, network: nn.Module) -> float | None:
        """The loss over all held-out samples, as if they were one batch, in float32; None where nothing is held out."""
        if self.held_out is None:
            return None
        device = next(network.parameters()).device
        error = weight = 0.0
        for batch in DataLoader(self.held_out, batch_size=at_once(MEASURED, self.part)):
            error += float(self.error(network, {name: value.to(device) for name, value in batch.items()}))
            weight += float(self.weight(batch))
        return error / weight

    @torch.no_grad()
    def show(self, network: nn.Module, step: int, folder: RunFolder) -> None:
        """A picture of three rows: held-out pictures with their holes, as the network mends them, as they were."""
        shown = self.held_out or Subset(self.samples, range(SHOWN))
        batch = next(iter(DataLoader(shown, batch_size=SHOWN)))
        device = next(network.parameters()).device
        x0, hole = (part.to(device) for part in _pictures_and_holes(batch))
        diffusion, steps = self.model.diffusion, self.model.steps
        generator = torch.Generator().manual_seed(0)

        def noise(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator).to(x)

        def mend(x0: Tensor, hole: Tensor) -> Tensor:
            known = Known(x0, hole, diffusion, self.model.conditioning, noise)
            return SAMPLERS[self.model.sampler](
                make_denoiser(network, known),
                known.start(times[0]),
                times,
                diffusion,
                noise=noise,
                put_back=known.put_back,
            )

        times, count = step_subset(diffusion.T, steps), at_once(SHOWN, self.part)
        mended = torch.cat([mend(x0[i : i + count], hole[i : i + count]) for i in range(0, len(x0), count)])
        rows = [torch.cat(list(row), dim=-1) for row in (x0 * (1 - hole), mended, x0)]
        grid = torch.cat(rows, dim=-2)[None].cpu()  # (1, 3, 3 size, 8 size)
        save_tensor_as_image(grid, folder.path / f"sample-{step:07d}.png", overwrite=True)

    def save(self, network: nn.Module, leg: Mapping[str, Any], folder: RunFolder) -> None:
        """Write the model file, with this leg behind those that it was trained on before."""
        told: dict[str, Any] = {"conditioning": self.model.conditioning}  # a leg may change it, and says so
        if self.balance:
            told["balance"] = self.balance
        if self.teacher:
            told["distilled_to"] = self.teacher.steps
        leg = {"pictures": len(self.samples), "size": self.samples.size, **told, **leg}
        model = dataclasses.replace(self.model, network=cast(Network, network), legs=[*self.model.legs, leg])
        if self.whole is not None:
            model = dataclasses.replace(self.whole, mean=model)
        save_model(self.output, model, overwrite=True, dtype=half_or_single(model.weights))


def _alone(model: Model) -> Model:
    """A model without the part that answers the mean."""
    return dataclasses.replace(model, mean=None)


def _pictures_and_holes(batch: Batch) -> tuple[Tensor, Tensor]:
    """The pictures of a batch, (B, 3, H, W) in [-1, 1], and their holes, (B, 1, H, W) of 0 and 1."""
    return batch["x0"].float() / 127.5 - 1, batch["hole"].float()


def guide_for(batch: Batch, x0: Tensor, hole: Tensor) -> Tensor:
    """The guide of each sample: the smooth fill, or, where guide_blur >= 0, the truth as a coarser level has it."""
    blur, grain, noise = batch["guide_blur"], batch["guide_grain"], batch["guide_noise"]
    smooth, rough = (blur < 0).nonzero()[:, 0], (blur >= 0).nonzero()[:, 0]  # each fill takes milliseconds
    guide = torch.empty_like(x0)
    if len(smooth):  # MPS has refused to compute on no pictures
        guide[smooth] = smooth_fill(x0[smooth], hole[smooth])
    if len(rough):
        guide[rough] = roughened(x0[rough], hole[rough], blur[rough], grain[rough], noise[rough])
    return guide


def balance_of(x0: Tensor, guide: Tensor, hole: Tensor, balance: float, flat: float = FLAT) -> Tensor:
    """How much the error of each sample counts, (B, 1, 1, 1): less, the further its guide is from the truth.

    The mean squared error of the guide in the hole says how hard the hole is. `flat` is added, lest a clear sky, where
    there is nothing to learn, outweighs all else; TYPICAL is the error of a sample that counts as without balance.
    """
    difference = ((x0 - guide) ** 2 * hole).mean((1, 2, 3), keepdim=True) / hole.mean((1, 2, 3), keepdim=True)
    return ((difference + flat) / TYPICAL) ** -balance


def held_out_samples(samples: InpaintingDataset, config: TrainConfig) -> Subset[Any] | None:
    """The first samples of the pictures that are held out, always the same; None where none are."""
    others = samples.held_out()
    return None if others is None else Subset(others, range(config.held_out_samples))
