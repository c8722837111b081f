"""What the server alone can say no to. Each has its status; all are one line, as every error here."""

from __future__ import annotations

import re

from pixmend.errors import (
    FileMissingError,
    MaskError,
    MemoryLimitError,
    OptionError,
    OutputError,
    PictureError,
    PixmendError,
)


class ServerError(PixmendError):
    """Something that was asked of the server cannot be had."""

    status = 400
    retry_after: int | None = None  # seconds


class TokenError(ServerError):
    """The token is missing or wrong."""

    status = 401


class OriginError(ServerError):
    """The request comes from another site, or is for another host."""

    status = 403


class UnknownError(ServerError):
    """There is nothing by this id."""

    status = 404


class TooSlowError(ServerError):
    """The request's body came too slowly."""

    status = 408


class NotReadyError(ServerError):
    """The job has not come so far."""

    status = 409


class GoneError(ServerError):
    """What was there has expired."""

    status = 410


class TooLargeError(ServerError):
    """More bytes or pixels than the server takes."""

    status = 413


class FullError(ServerError):
    """The queue is full."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LongHeadError(ServerError):
    """The request has more before its body than the server takes."""

    status = 431


class EndingError(ServerError):
    """The server was told to end, and takes nothing more."""

    status = 503
    retry_after = 30


_STATUS: tuple[tuple[type[PixmendError], int], ...] = (
    (OptionError, 400),
    (MaskError, 400),
    (PictureError, 415),
    (FileMissingError, 404),
    (OutputError, 507),
    (MemoryLimitError, 507),
)


def status_of(error: PixmendError) -> int:
    """The HTTP status that says what an error says."""
    if isinstance(error, ServerError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


_WITHOUT_OPTIONS = (
    (r"take one: of a picture .* as a file of its own", "save the one that is meant as a file of its own"),
    (r"give a smaller --blur or --grow-mask", "give a smaller soft edge (blur) or margin (grow)"),
    (r"or use --invert-mask", "or invert it"),
    (r"give it with --mask", "upload it as a mask"),
    (r"with `pixmend inpaint` and no mask", "by 'Fill what is transparent or was not measured' on the page"),
    (r" or --device cpu", ""),
)


def without_options(message: str) -> str:
    """What an error says, in words for those who have no command line."""
    for option, words in _WITHOUT_OPTIONS:
        message = re.sub(option, words, message)
    return message
