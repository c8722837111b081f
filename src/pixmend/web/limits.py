"""What the server allows, in one place; `/api/about` tells it, and so does docs/serve.md."""

from __future__ import annotations

from dataclasses import dataclass

MOST_OPERATIONS = 10_000  # of one mask
MOST_POINTS = 200_000  # of all strokes and outlines of one mask
MOST_RUNS = 30_000_000  # of pixels in rows that one mask draws: some seconds
MOST_WHOLE = 200  # operations of one mask that go over the whole picture: invert, grow, kind, uploaded, alpha
MOST_STEPS = 1000  # network calls of a sampler
MOST_HEAD = 32 << 10  # bytes of a request before its body
MOST_NAME = 200  # characters of a file's name


@dataclass(frozen=True)
class Limits:
    """How much the server takes, of everybody together unless it says otherwise."""

    bytes: int = 128 << 20  # of one upload
    pixels: int = 50_000_000  # of one picture, before it is decoded; of a view, see `pixmend.views`
    json_bytes: int = 8 << 20  # of any other request
    incoming_bytes: int = 512 << 20  # of all uploads that come at the same time
    incoming_json_bytes: int = 64 << 20  # of all other requests
    queue: int = 100  # jobs that wait
    own_queue: int = 20  # jobs of one session that wait
    candidates: int = 8  # of one job
    jobs: int = 1000  # that are remembered
    own_jobs: int = 100  # of one session that are remembered
    previews: int = 24  # of one job on its way: the last ones
    streams: int = 256  # of events, open at once
    own_streams: int = 4  # of one session: browsers open 6 connections to a server, of all tabs together
    disk_bytes: int = 8 << 30  # of pictures, masks and results
    keep_seconds: float = 3600  # after which what nobody asked for is forgotten
    patience_seconds: float = 60  # after which a job that nobody asks for gives way to those of others
    first_seconds: float = 20  # within which the first of a request has to come ...
    least_rate: float = 10_000  # ... and bytes a second that the rest must come with on average
    end_seconds: float = 10  # for which results can be fetched after the last job, when the server is told to end
