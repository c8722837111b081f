"""What pixmend says when something is wrong: one line, with its own exit code.

Every error that a user can cause is a `PixmendError`: its message gives the value, what was allowed
and what to do next, on one line. The command line prints that line and leaves with `exit_code`;
anything else that is raised is a defect of pixmend.
"""

from __future__ import annotations


class PixmendError(Exception):
    """Base of all errors that a user can cause and mend."""

    exit_code = 1


class OptionError(PixmendError, ValueError):
    """A parameter is outside of what is allowed."""

    exit_code = 2


class FileMissingError(PixmendError, FileNotFoundError):
    """The path does not exist, or is a folder where a file is needed."""

    exit_code = 3


class PictureError(PixmendError):
    """The file is no picture that can be read: empty, truncated, not a picture, too large."""

    exit_code = 4


class MaskError(PixmendError):
    """The mask marks nothing, or everything, or does not fit the picture."""

    exit_code = 5


class ModelFileError(PixmendError):
    """The model file, or the weights to import, are damaged, foreign, or of a kind that this pixmend does not know."""

    exit_code = 6


class OutputExistsError(PixmendError, FileExistsError):
    """The output is there already, and nothing is overwritten without being told to."""

    exit_code = 7


class OutputError(PixmendError):
    """The output could not be written: no folder, no permission, no space."""

    exit_code = 8


class DataError(PixmendError):
    """The folder of pictures holds nothing that can be repaired, trained on, or measured with."""

    exit_code = 9


class TrainingError(PixmendError):
    """Training cannot go on: losses that are not finite, or a state that does not fit."""

    exit_code = 10


class MemoryLimitError(PixmendError):
    """The memory that is free, or that was allowed, does not hold the least that is needed."""

    exit_code = 11


class BackendError(PixmendError):
    """What was asked to compute the network is not installed, or failed."""

    exit_code = 12


class SomeFailedError(PixmendError):
    """Some pictures of a folder could not be done; the others are."""

    exit_code = 20


class AllFailedError(PixmendError):
    """None of the pictures of a folder could be done."""

    exit_code = 21
