"""What the worker does: one model in memory, and one job after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pixmend.backends import OpenNetwork
from pixmend.checkpoint import Model
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.picture import denoise
from pixmend.errors import OutputError, PixmendError
from pixmend.extending import extend
from pixmend.images import Picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.views import view_of
from pixmend.web.errors import without_options
from pixmend.web.jobs import Cancelled, Job, Preview, Result, State
from pixmend.web.metrics import Metrics
from pixmend.web.store import Store, Stored
from pixmend.web.turns import Turns

MENDED = "-mended"  # what the names of results end in
PREVIEW_AFTER = 1.0  # seconds: what is made sooner is not shown as it forms
PREVIEW_EVERY = 0.25  # seconds, at most so often
PREVIEW_SHARE = 0.05  # of a job's time that may go into showing it
PREVIEW_PIXELS = 1_000_000

log = logging.getLogger("pixmend.serve")


@dataclass(frozen=True)
class Choices:
    """How a fill is to be made: parameters of `inpainting`, None where the model knows best."""

    quality: str = "balanced"
    detail: str = "picture"
    steps: int | None = None
    sampler: str | None = None
    seed: int = 0
    candidates: int = 1


class Worker:
    """Does the jobs of a queue, one after the other, in a thread of its own."""

    def __init__(
        self,
        model: Model,
        network: OpenNetwork,
        denoiser: Denoiser | None,
        turns: Turns,
        store: Store,
        metrics: Metrics,
    ) -> None:
        self.model, self.network, self.denoiser = model, network, denoiser
        self.turns, self.store, self.metrics = turns, store, metrics
        self.current: Job | None = None
        self.gives_way: Callable[[Job], bool] = lambda job: False  # whether the running job is to stop for others
        self.thread = threading.Thread(target=self._run, name="pixmend-worker", daemon=True)

    def start(self) -> None:
        """Begin to take jobs."""
        self.thread.start()

    def join(self, seconds: float | None = None) -> None:
        """Wait for the job that runs."""
        self.thread.join(seconds)

    def fill(self, hole: Stored | None, choices: Choices, *, blur: int | None, grow: int) -> Callable[[Job], None]:
        """The work of filling a picture where a mask is, or where it is transparent."""

        def work(job: Job) -> None:
            mask = None if hole is None else hole.hole()
            options = self._options(job, choices)
            self._add_results(job, inpainting(job.picture.picture(), mask, blur=blur, grow=grow, **options))

        return work

    def extend(self, borders: Mapping[str, int], choices: Choices) -> Callable[[Job], None]:
        """The work of extending a picture by left, right, top and bottom."""

        def work(job: Job) -> None:
            self._add_results(job, extend(job.picture.picture(), **borders, **self._options(job, choices)))

        return work

    def denoise(self, level: float | None) -> Callable[[Job], None]:
        """The work of taking the noise out of a picture."""

        def work(job: Job) -> None:
            picture = job.picture.picture()
            result = denoise(
                picture, level=level, model=self.denoiser, device=str(self.network.device), progress=self._progress(job)
            )
            self._add_result(job, result.picture, level=result.level)

        return work

    def _options(self, job: Job, choices: Choices) -> dict[str, Any]:
        told = {"progress": self._progress(job), "preview": Previews(job, self.store)}
        return {"model": self.model, "backend": self.network, **asdict(choices), **told}

    def _add_results(self, job: Job, made: Inpainted) -> None:
        job.mask_share = made.hole_share  # with its margin
        for picture in made.pictures:
            self._add_result(job, picture)

    def _add_result(self, job: Job, picture: Picture, level: float | None = None) -> None:
        stem, dot, suffix = job.picture.name.rpartition(".")
        name = f"{stem.removesuffix(MENDED)}{MENDED}{dot}{suffix}"
        stored = self.store.add_picture(picture, job.owner, name, job.picture.source, kept=False)
        job.results.append(Result(stored, level))
        job.changed()

    def _progress(self, job: Job) -> Callable[[int, int], None]:
        """What is told after every call of the network: there a job that is cancelled ends."""

        def tell(done: int, of: int) -> None:
            if self.gives_way(job):
                job.error, job.cancelling = "nobody asked for the job any more, and others waited", True
            job.calls += 1
            self.metrics.calls.inc()
            job.tell(done, of)

        return tell

    def end(self, job: Job, state: State) -> None:
        """A job is over."""
        self.let_go(job)
        job.ended = time.monotonic()
        job.state = state
        self.metrics.jobs.labels(job.kind, state).inc()
        if job.started is not None:
            self.metrics.seconds.labels(job.kind).observe(job.seconds or 0.0)
        job.changed()

    def let_go(self, job: Job) -> None:
        """A job needs nothing any more; what was made for it alone is removed."""
        self.store.release(job.picture, *job.inputs)
        for stored in job.inputs:
            self.store.remove(stored)

    def _run(self) -> None:
        while (job := self.turns.take()) is not None:
            self.current = job
            job.started, job.state = time.monotonic(), "running"
            job.changed()
            try:
                job.check()
                job.work(job)
                job.done = job.of = job.of or 1
                self.end(job, "done")
            except Cancelled:
                self.end(job, "cancelled")
            except PixmendError as error:
                job.error = without_options(str(error))
                self.end(job, "failed")
            except Exception:  # the next job must not suffer for a defect that this one met
                log.exception("a job failed")
                job.error = "the job failed by a defect of pixmend; the server's log has more"
                self.end(job, "failed")
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
        self.next = self.begun + PREVIEW_AFTER  # when the next one may be kept

    def __call__(self, candidate: int, step: int, picture: Callable[[], Picture]) -> None:
        """Told after every step."""
        now = time.monotonic()
        too_much = self.spent + self.last > PREVIEW_SHARE * (now - self.begun)
        if not self.job.listeners or now < self.next or too_much:
            return
        with suppress(OutputError):  # no room left: then nobody sees it
            self._keep(candidate, step, picture())
        self.last = time.monotonic() - now
        self.next = now + PREVIEW_EVERY
        self.spent += self.last

    def _keep(self, candidate: int, step: int, made: Picture) -> None:
        height, width = made.size
        view = view_of(made, scale=min(1.0, (PREVIEW_PIXELS / (height * width)) ** 0.5))
        preview = Preview(candidate, step, self.store.add_view(view, self.job.owner))
        previews = self.job.previews
        self.job.previews = [*previews[1 - self.store.limits.previews :], preview]
        for old in set(previews) - set(self.job.previews):
            self.store.remove(old.stored)
        self.job.changed()
