"""The server without HTTP: pictures, masks and jobs of many sessions, and the worker behind them."""

from __future__ import annotations

import asyncio
import mmap
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import anyio
import anyio.to_thread

from pixmend.backends import open_network
from pixmend.checkpoint import Model
from pixmend.decoding import decode_file
from pixmend.denoising.model_file import Denoiser
from pixmend.errors import PixmendError
from pixmend.images import Picture, mask_strength
from pixmend.opening import TIFF, header_size
from pixmend.runtime import usable_cores
from pixmend.tiff_bytes import Directory, is_unknown_to_pillow, size_of
from pixmend.web.errors import EndingError, FullError, GoneError, TooLargeError, UnknownError, without_options
from pixmend.web.jobs import Job, Jobs
from pixmend.web.limits import Limits
from pixmend.web.metrics import Metrics
from pixmend.web.store import Store, Stored, clean_name
from pixmend.web.turns import Turns
from pixmend.web.work import Worker

T = TypeVar("T")
SWEEP_SECONDS = 15.0


class Service:
    """Everything that requests share. Made once, begun and ended with the server."""

    def __init__(
        self,
        model: Model,
        denoiser: Denoiser | None = None,
        *,
        limits: Limits | None = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        self.model, self.denoiser = model, denoiser
        self.limits = limits or Limits()
        self.store = Store(self.limits)
        self.jobs = Jobs(self.limits, self.store)
        self.turns = Turns(self.limits)
        self.metrics = Metrics()
        self.worker = Worker(
            model, open_network(model, backend, device), denoiser, self.turns, self.store, self.metrics
        )
        self.worker.gives_way = self._gives_way
        self.cpu = anyio.CapacityLimiter(max(2, usable_cores() // 2))  # decoding, encoding, drawing
        self.streams = 0  # of events, open now
        self.ending = False  # takes no more jobs
        self.closing = asyncio.Event()  # streams are to end
        self.ending_since: float | None = None
        self.idle_since: float | None = None  # once it is ending: when the last job was over
        watch = self.metrics.watch
        watch("queue_jobs", "Jobs that wait.", lambda: len(self.turns))
        watch("running_jobs", "Jobs that are worked on.", lambda: int(self.worker.current is not None))
        watch("stored", "Pictures, masks and results that are kept.", lambda: len(self.store))
        watch("stored_bytes", "What they take on the disk.", lambda: self.store.size)
        watch("event_streams", "Streams of events that are open.", lambda: self.streams)

    # ------------------------------------------------------------------------------------------------ begin and end

    def start(self) -> None:
        """Begin to work."""
        self.worker.start()

    def stop(self) -> None:
        """End: a job that still runs is cancelled, everything stored is removed."""
        self.ending = True
        self.turns.close()
        if (running := self.worker.current) is not None:
            running.cancelling = True
        self.worker.join()
        self.store.close()

    def wind_down(self) -> None:
        """Take no more jobs and drop those that wait; the one that runs goes on."""
        self.ending = True
        self.ending_since = self.ending_since or time.monotonic()
        for job in self.turns.order():
            self.cancel(job, "the server was told to end before the job's turn came")

    def is_wound_down(self) -> bool:
        """Whether the last job is over, and its results were saved or had their time to be."""
        if self.worker.current is not None or len(self.turns):
            return False
        if self.idle_since is None:
            self.idle_since = time.monotonic()
        if time.monotonic() - self.idle_since > self.limits.end_seconds:
            return True
        last = [job for job in self.jobs.all() if (job.ended or 0.0) > (self.ending_since or 0.0)]
        wanted = [job for job in last if not job.is_abandoned(self.limits.patience_seconds)]
        return all(job.fetched for job in wanted if job.state == "done")

    def close_streams(self) -> None:
        """Let all streams of events end."""
        self.closing.set()
        for job in self.jobs.all():
            job.changed()

    async def sweep(self) -> None:
        """Forget what expired, again and again."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.run(self.jobs.sweep)
            await self.run(self.store.sweep)

    async def run(self, function: Callable[..., T], *arguments: object, **named: object) -> T:
        """Run what takes the processor for a while beside the event loop; few at a time, so that memory is bounded."""
        return await anyio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self.cpu)

    # ------------------------------------------------------------------------------------------- pictures and masks

    def add_picture(self, upload: BinaryIO, name: str | None, owner: str) -> Stored:
        """Decode an upload and store it."""
        name = clean_name(name)
        with self.store.incoming(upload) as path:
            return self.store.add_picture(self._decoded(path, name), owner, name, path, kept=True)

    def add_mask(self, upload: BinaryIO, name: str | None, picture: Stored) -> tuple[Stored, float]:
        """Decode an upload as the mask of a picture and store it; also the share of its hole."""
        with self.store.incoming(upload) as path:
            strength = mask_strength(self._decoded(path, clean_name(name)), picture.size)
        hole = strength >= 0.5
        return self.store.add_hole(hole, picture.owner), float(hole.mean())

    def picture(self, id: str, owner: str) -> Stored:
        """A stored picture; raises UnknownError for a mask."""
        stored = self.store.get(id, owner)
        if stored.shell is None:
            raise UnknownError("this id is of a mask; give that of a picture")
        return stored

    def result(self, id: str, index: int, owner: str) -> Stored:
        """A result of a job."""
        stored = self.jobs.get(id, owner).result(index).stored
        self.store.touch(stored)
        return stored

    def note_fetched(self, id: str, owner: str) -> None:
        """Note that a result of a job was sent as a file, to its end: a server that was told to end need not wait."""
        with suppress(GoneError, UnknownError):  # the job was forgotten meanwhile
            self.jobs.get(id, owner).fetched = True

    def _decoded(self, path: Path, name: str) -> Picture:
        try:
            rows, columns = _told_size(path)
            if rows * columns > self.limits.pixels:
                raise TooLargeError(
                    f"{name} has {columns} x {rows} pixels; this server takes {self.limits.pixels:,} at most: "
                    "reduce it, or use the command line"
                )
            return decode_file(path)
        except PixmendError as error:
            # where it lies here is nobody's business
            raise type(error)(without_options(str(error).replace(str(path), name))) from None

    # -------------------------------------------------------------------------------------------------------- jobs

    def submit(self, job: Job) -> Job:
        """Let a job wait for its turn; raises FullError and EndingError."""
        if self.ending:
            raise EndingError("the server was told to end and takes no more jobs; try again when it is back")
        self._drop_abandoned(job.owner)
        self.store.hold(job.picture, *job.inputs)
        try:
            self.turns.put(job)
        except FullError:
            self.worker.let_go(job)
            self.metrics.refused.inc()
            raise
        self.jobs.add(job)
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs come before this one."""
        if job.state != "queued":
            return 0
        order = self.turns.order()
        running = int(self.worker.current is not None)
        return running + (order.index(job) if job in order else 0)

    def cancel(self, job: Job, why: str | None = None) -> None:
        """Cancel a job: at once where it waits, at its next network call where it runs; nothing where it is over."""
        job.cancelling = True
        if self.turns.drop(job):
            job.error = why
            self.worker.end(job, "cancelled")
            for other in self.turns.order():
                other.changed()

    def _drop_abandoned(self, owner: str) -> None:
        """Where the queue is full, free the places of those who went away."""
        if len(self.turns) < self.limits.queue:
            return
        for job in self.turns.order():
            if job.owner != owner and job.is_abandoned(self.limits.patience_seconds):
                self.cancel(job, "nobody asked for the job any more, and others waited")

    def _gives_way(self, job: Job) -> bool:
        return job.is_abandoned(self.limits.patience_seconds) and self.turns.others_wait(job.owner)


def _told_size(path: Path) -> tuple[int, int]:
    """The rows and columns that a file's header tells, also of a TIFF that Pillow does not open; nothing is decoded."""
    with path.open("rb") as file:
        if file.read(4) in TIFF[:2]:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as data, suppress(ValueError):  # else damaged
                directory = Directory(data)
                if is_unknown_to_pillow(directory):
                    return size_of(directory)
    return header_size(path)
