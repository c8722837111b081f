"""One job: what it is, how far it is, what came of it; and all jobs that are remembered."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from pixmend.web.errors import GoneError, NotReadyError, UnknownError
from pixmend.web.limits import Limits
from pixmend.web.store import FORGOTTEN, Store, Stored

State = Literal["queued", "running", "done", "failed", "cancelled"]
Kind = Literal["fill", "extension", "denoising"]
OVER = ("done", "failed", "cancelled")


class Cancelled(Exception):
    """Raised in the middle of a job that is to stop."""


@dataclass(frozen=True)
class Result:
    """One picture that a job made."""

    stored: Stored
    level: float | None = None  # of the noise that was taken out


@dataclass(frozen=True)
class Preview:
    """What a candidate looked like after a step."""

    candidate: int
    step: int
    stored: Stored


@dataclass(eq=False)
class Job:
    """What one session asked for. The worker's thread writes to it, all others read."""

    kind: Kind
    owner: str
    picture: Stored
    work: Callable[[Job], None]
    inputs: tuple[Stored, ...] = ()  # what was stored for it alone
    mask_share: float | None = None  # of the picture that is to be filled
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "queued"
    done: int = 0  # steps
    of: int | None = None
    calls: int = 0  # of the network
    error: str | None = None
    results: list[Result] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)  # the last ones
    created: float = field(default_factory=time.time)
    asked: float = field(default_factory=time.monotonic)  # when its owner last asked for it
    started: float | None = None
    ended: float | None = None
    fetched: bool = False  # whether a result was, as a file, to its end
    listeners: list[Callable[[], None]] = field(default_factory=list)
    cancelling: bool = False

    @property
    def seconds(self) -> float | None:
        """For how long it was worked on."""
        return None if self.started is None else (self.ended or time.monotonic()) - self.started

    @property
    def seconds_left(self) -> float | None:
        """For how long it will be worked on, by its own speed so far."""
        if self.state != "running" or not self.done or not self.of or self.seconds is None:
            return None
        return self.seconds / self.done * max(0, self.of - self.done)

    @property
    def is_over(self) -> bool:
        """Whether it will change no more."""
        return self.state in OVER

    def is_abandoned(self, patience: float) -> bool:
        """Whether nobody listens to it, and nobody has asked for it for so many seconds."""
        return not self.listeners and time.monotonic() - self.asked > patience

    def check(self) -> None:
        """To be called after every network call: raises Cancelled where it is to stop."""
        if self.cancelling:
            raise Cancelled

    def tell(self, done: int, of: int) -> None:
        """Note how far it is."""
        self.check()
        self.done, self.of = done, of
        self.changed()

    def changed(self) -> None:
        """Wake all who listen."""
        for wake in tuple(self.listeners):
            wake()

    def result(self, index: int) -> Result:
        """A result by number; raises NotReadyError where there is none yet, UnknownError where there will be none."""
        if index < len(self.results):
            return self.results[index]
        if self.is_over:
            raise UnknownError(f"the job is {self.state} and has {len(self.results)} results, counted from 0")
        raise NotReadyError(f"the job is {self.state} and has {len(self.results)} results so far; wait for its events")

    def preview(self, candidate: int, step: int) -> Stored:
        """What a candidate looked like after a step; raises UnknownError where that was not kept."""
        for preview in self.previews:
            if (preview.candidate, preview.step) == (candidate, step):
                return preview.stored
        raise UnknownError("this step has no picture, or has it no more; the job's events name those that have")


class Jobs:
    """All jobs that are remembered: bounded in number and time."""

    def __init__(self, limits: Limits, store: Store) -> None:
        self.limits, self.store = limits, store
        self.lock = threading.Lock()
        self.jobs: OrderedDict[str, Job] = OrderedDict()
        self.forgotten: OrderedDict[str, str] = OrderedDict()

    def add(self, job: Job) -> None:
        """Remember a job; the oldest that are over are forgotten where there are too many."""
        with self.lock:
            own = [other for other in self.jobs.values() if other.owner == job.owner and other.is_over]
            for other in own[: max(0, len(own) + 1 - self.limits.own_jobs)]:
                self._forget(other)
            everybody = [other for other in self.jobs.values() if other.is_over]
            for other in everybody[: max(0, len(self.jobs) + 1 - self.limits.jobs)]:
                self._forget(other)
            self.jobs[job.id] = job

    def get(self, id: str, owner: str) -> Job:
        """The job of this owner; raises GoneError where it was forgotten, else UnknownError."""
        with self.lock:
            job = self.jobs.get(id)
            if job is None and self.forgotten.get(id) == owner:
                raise GoneError("the job has expired; ask for it again")
            if job is None or job.owner != owner:
                raise UnknownError("no job of yours has this id; see /api/jobs")
            job.asked = time.monotonic()
            return job

    def of(self, owner: str) -> list[Job]:
        """The jobs of an owner, the newest first."""
        with self.lock:
            own = [job for job in reversed(self.jobs.values()) if job.owner == owner]
        for job in own:
            job.asked = time.monotonic()
        return own

    def all(self) -> list[Job]:
        """Those of everybody."""
        with self.lock:
            return list(self.jobs.values())

    def sweep(self) -> None:
        """Forget what is over and nobody asked for in a long time."""
        oldest = time.monotonic() - self.limits.keep_seconds
        with self.lock:
            for job in list(self.jobs.values()):
                if job.is_over and max(job.asked, job.ended or 0.0) < oldest and not job.listeners:
                    self._forget(job)

    def _forget(self, job: Job) -> None:
        del self.jobs[job.id]
        self.forgotten[job.id] = job.owner
        if len(self.forgotten) > FORGOTTEN:
            self.forgotten.popitem(last=False)
        for stored in (*(result.stored for result in job.results), *(preview.stored for preview in job.previews)):
            if not stored.kept:
                self.store.remove(stored)
