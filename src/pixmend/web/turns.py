"""The queue with fair turns: whoever waits is served once, before anybody is served twice."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque

from pixmend.web.errors import FullError
from pixmend.web.jobs import Job
from pixmend.web.limits import Limits

LONGEST_WAIT = 120  # seconds that a client is told to come back after


class Turns:
    """Jobs that wait, of all owners; owners take turns, and each one's jobs come in order."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.changed = threading.Condition()
        self.waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # whose turn is next stands first
        self.usual_seconds = 1.0  # of a job, a running average
        self.closed = False

    def __len__(self) -> int:
        with self.changed:
            return self._count()

    def put(self, job: Job) -> None:
        """Let a job wait; raises FullError where too many do."""
        with self.changed:
            own = len(self.waiting.get(job.owner, ()))
            if own >= self.limits.own_queue:
                raise self._full(f"{own} jobs of yours wait already", own)
            if self._count() >= self.limits.queue:
                raise self._full(f"{self._count()} jobs wait already", self._count() // 4)
            self.waiting.setdefault(job.owner, deque()).append(job)
            self.changed.notify()

    def take(self) -> Job | None:
        """The next job, once there is one; None when the queue was closed."""
        with self.changed:
            while not self.waiting and not self.closed:
                self.changed.wait()
            if self.closed:
                return None
            owner, jobs = next(iter(self.waiting.items()))
            job = jobs.popleft()
            self.waiting.move_to_end(owner)
            if not jobs:
                del self.waiting[owner]
            return job

    def drop(self, job: Job) -> bool:
        """Take a job out of turn; whether it was there."""
        with self.changed:
            jobs = self.waiting.get(job.owner)
            if jobs is None or job not in jobs:
                return False
            jobs.remove(job)
            if not jobs:
                del self.waiting[job.owner]
            return True

    def order(self) -> list[Job]:
        """All jobs that wait, as they will be taken if no more come."""
        with self.changed:
            rounds = [
                (turn, place, job) for place, jobs in enumerate(self.waiting.values()) for turn, job in enumerate(jobs)
            ]
        return [job for _, _, job in sorted(rounds, key=lambda entry: entry[:2])]

    def others_wait(self, owner: str) -> bool:
        """Whether somebody else's job waits."""
        with self.changed:
            return any(other != owner for other in self.waiting)

    def close(self) -> None:
        """Let nobody take a job any more."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def took(self, seconds: float) -> None:
        """Learn from a job how long one takes."""
        self.usual_seconds = 0.8 * self.usual_seconds + 0.2 * seconds

    def _count(self) -> int:
        return sum(len(jobs) for jobs in self.waiting.values())

    def _full(self, why: str, before: int) -> FullError:
        seconds = min(LONGEST_WAIT, max(1, math.ceil(self.usual_seconds * max(1, before))))
        return FullError(f"{why}, which is as many as may; try again in {seconds} s", seconds)
