"""A job's progress as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from pixmend.web.errors import FullError
from pixmend.web.jobs import Job, Preview
from pixmend.web.service import Service

SILENCE_SECONDS = 15.0  # after which a comment shows that the connection still stands
LEAST_SECONDS = (
    0.2  # between two events of progress; each costs the browser, and so a fill beside it, some milliseconds
)


async def follow(service: Service, job: Job, tell: Callable[[], str]) -> AsyncIterator[str]:
    """The events of a job from now until it is over; raises FullError where too many streams are open.

    They have begun, and count, when this returns.
    """
    own = sum(len(each.listeners) for each in service.jobs.of(job.owner))
    if service.streams >= service.limits.streams or own >= service.limits.own_streams:
        raise FullError("too many streams of events are open; close some, or ask for the job itself", 5)
    events = _events(service, job, tell)
    first = await anext(events)

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for event in events:
            yield event

    return all_of_them()


async def _events(service: Service, job: Job, tell: Callable[[], str]) -> AsyncIterator[str]:
    loop, changed, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def look() -> None:
        changed.set()
        if job.is_over:
            ended.set()

    def wake() -> None:  # from the worker's thread
        with suppress(RuntimeError):  # the loop may have been closed meanwhile
            loop.call_soon_threadsafe(look)

    service.streams += 1
    job.listeners.append(wake)
    last, seen = None, set[Preview]()
    try:
        while True:
            changed.clear()
            over = job.is_over
            for preview in job.previews:
                if preview not in seen:
                    seen.add(preview)
                    yield _event("step", preview_told(job, preview))
            if (told := tell()) != last:
                yield _event("job", told)
                last = told
            if over or service.closing.is_set():
                return
            with suppress(TimeoutError):  # the end is told at once
                async with asyncio.timeout(LEAST_SECONDS):
                    await ended.wait()
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield ": still here\n\n"
    finally:
        job.listeners.remove(wake)
        job.asked = time.monotonic()
        service.streams -= 1


def preview_told(job: Job, preview: Preview) -> str:
    """Where what a candidate looked like after a step can be fetched, as JSON."""
    url = f"/api/jobs/{job.id}/steps/{preview.candidate}/{preview.step}/view"
    return json.dumps({"candidate": preview.candidate, "step": preview.step, "url": url})


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"
