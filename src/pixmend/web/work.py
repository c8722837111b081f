"""What the worker does: one model in memory, and one job after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pixmend.checkpoint import Model
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.picture import denoise
from pixmend.errors import PixmendError
from pixmend.images import Picture
from pixmend.inpainting import inpainting
from pixmend.views import view_of
from pixmend.web.jobs import Cancelled, Job, Preview, Result, State
from pixmend.web.metrics import Metrics
from pixmend.web.store import Store, Stored
from pixmend.web.turns import Turns

MENDED = "-mended"  # what the names of results end in
PREVIEW_SHARE = 0.05  # of a job's time that may go into showing how it forms
PREVIEW_PIXELS = 1_000_000

log = logging.getLogger("pixmend.serve")


@dataclass(frozen=True)
class Choices:
    """How a fill is to be made; as the parameters of `inpainting`, None where the model knows best."""

    quality: str = "balanced"
    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    candidates: int = 1
    blur: int | None = None
    grow: int = 0


class Worker:
    """Does the jobs of a queue, one after the other, in a thread of its own."""

    def __init__(
        self, model: Model, denoiser: Denoiser | None, device: str | None, turns: Turns, store: Store, metrics: Metrics
    ) -> None:
        self.model, self.denoiser, self.device = model, denoiser, device
        self.turns, self.store, self.metrics = turns, store, metrics
        self.current: Job | None = None
        self.gives_way: Callable[[Job], bool] = lambda job: False  # whether the running job is to stop for others
        self.thread = threading.Thread(target=self._run, name="pixmend-worker", daemon=True)
        for network in (model.network, *((denoiser.network,) if denoiser else ())):
            network.register_forward_pre_hook(self._before_call)

    def start(self) -> None:
        """Begin to take jobs."""
        self.thread.start()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the job that runs."""
        self.thread.join(seconds)

    def fill(self, stored: Stored, hole: Stored | None, choices: Choices) -> Callable[[Job], None]:
        """The work of filling a picture where a mask is, or where it is transparent."""

        def work(job: Job) -> None:
            picture = stored.picture()
            mask = None if hole is None else hole.hole()
            result = inpainting(
                picture,
                mask,
                model=self.model,
                **asdict(choices),
                device=self.device,
                progress=job.tell,
                preview=Previews(job, self.store),
            )
            for made in result.pictures:
                self._add_result(job, made)

        return work

    def denoise(self, stored: Stored, level: float | None) -> Callable[[Job], None]:
        """The work of taking the noise out of a picture."""

        def work(job: Job) -> None:
            result = denoise(stored.picture(), level=level, model=self.denoiser, device=self.device)
            job.done = job.of = 1
            self._add_result(job, result.picture, level=result.level)

        return work

    def _add_result(self, job: Job, picture: Picture, level: float | None = None) -> None:
        stem, dot, suffix = job.picture.name.rpartition(".")
        name = f"{stem.removesuffix(MENDED)}{MENDED}{dot}{suffix}"
        stored = self.store.add_picture(picture, job.owner, name, job.picture.source, kept=False)
        job.results.append(Result(stored, level))
        job.changed()

    def _before_call(self, network: object, inputs: Any) -> None:
        """Runs before every call of a network: here a job that is cancelled ends."""
        job = self.current
        if job is None:
            return
        if self.gives_way(job):
            job.error, job.cancelling = "nobody asked for the job any more, and others waited", True
        job.check()
        job.calls += 1
        self.metrics.calls.inc()

    def _run(self) -> None:
        while (job := self.turns.take()) is not None:
            self.current = job
            begin(job)
            try:
                job.check()
                job.work(job)
                end(job, "done", self.metrics)
            except Cancelled:
                end(job, "cancelled", self.metrics)
            except PixmendError as error:
                job.error = str(error)
                end(job, "failed", self.metrics)
            except Exception:  # the next job must not suffer for a defect that this one met
                log.exception("a job failed")
                job.error = "the job failed by a defect of pixmend; the server's log has more"
                end(job, "failed", self.metrics)
            finally:
                self.current = None
                self.turns.took(job.seconds or 0.0)
            for other in self.turns.order():
                other.changed()


class Previews:
    """Keeps what a fill looks like on its way, as often as that costs little, and only while somebody looks."""

    def __init__(self, job: Job, store: Store) -> None:
        self.job, self.store = job, store
        self.begun = time.monotonic()
        self.spent = self.last = 0.0  # seconds

    def __call__(self, candidate: int, step: int, picture: Callable[[], Picture]) -> None:
        """Told after every step."""
        now = time.monotonic()
        if not self.job.listeners or self.spent + self.last > PREVIEW_SHARE * (now - self.begun):
            return
        made = picture()
        height, width = made.size
        view = view_of(made, scale=min(1.0, (PREVIEW_PIXELS / (height * width)) ** 0.5))
        preview = Preview(candidate, step, self.store.add_view(view, self.job.owner))
        previews = self.job.previews
        self.job.previews = [*previews[1 - self.store.limits.previews :], preview]
        for old in set(previews) - set(self.job.previews):
            self.store.remove(old.stored)
        self.job.changed()
        self.last = time.monotonic() - now
        self.spent += self.last


def begin(job: Job) -> None:
    """A job's turn has come."""
    job.started = time.monotonic()
    job.state = "running"
    job.changed()


def end(job: Job, state: State, metrics: Metrics) -> None:
    """A job is over."""
    job.ended = time.monotonic()
    job.state = state
    job.picture.pins -= 1
    for stored in job.inputs:
        stored.pins -= 1
    metrics.jobs.labels(job.kind, state).inc()
    if job.started is not None:
        metrics.seconds.labels(job.kind).observe(job.seconds or 0.0)
    job.changed()
