"""Making the fills: one file for each method and case, so that a run that was stopped goes on where it stopped."""

from __future__ import annotations

import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixmend.console import say
from pixmend.errors import OptionError, PixmendError
from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import Case, Pixels
from pixmend.files import errors_as_one_line, write_atomically

Progress = Callable[[int, int, str], None]  # fills done, of how many, what is being done


@dataclass(frozen=True)
class Fills:
    """All fills of a case by a method, and what they cost."""

    values: NDArray[np.uint8]  # (N, pixels in the hole, 3)
    known_difference: NDArray[np.float64]  # (N,): largest change of a known sample, in 8-bit levels
    seconds: NDArray[np.float64]  # (N,)
    network_calls: NDArray[np.float64]  # (N,)
    memory: NDArray[np.float64]  # (N,): peak of the process while it filled, and of the GPU, in MiB; NaN where unknown

    def pictures(self, case: Case) -> list[Pixels]:
        """The fills with the known pixels around them."""
        pictures = [case.truth.copy() for _ in self.values]
        for picture, values in zip(pictures, self.values, strict=True):
            picture[case.hole] = values
        return pictures


def cases_for(method: Method, family: str, cases: Sequence[Case]) -> Sequence[Case]:
    """The cases of a family that a method is measured on."""
    if method.limits.families is not None and family not in method.limits.families:
        return []
    return cases[: method.limits.pictures]


def fills_for(method: Method, fills: int) -> int:
    """How many fills of each case are made."""
    return min(fills, method.limits.fills) if method.random else 1


def make_fills(
    methods: Sequence[Method],
    cases: Mapping[str, Sequence[Case]],
    folder: Path,
    fills: int,
    progress: Progress | None = None,
) -> list[Method]:
    """Make all fills that are not in the folder yet; returns the methods that did not fail.

    cases: by family. A method that fails is left out with one line; what the others made is kept. Raises OptionError
    where two of them have one name, and OutputError.
    """
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two methods are called {name!r}; give one another name")
    works = {
        method: [c for family, all_cases in cases.items() for c in cases_for(method, family, all_cases)]
        for method in methods
    }
    total, done = sum(len(work) * fills_for(m, fills) for m, work in works.items()), 0
    whole = []
    for method, work in works.items():
        wanted = fills_for(method, fills)
        for case in work:
            if progress:
                progress(done, total, f"{method.name}: {case.family}")
            if read_fills(folder, method, case, wanted) is None:
                try:
                    made = [_fill(method, case, number) for number in range(wanted)]
                except Exception as error:  # noqa: BLE001  # what functions of others raise is not known
                    say("warning", f"{method.name} is left out: {_said(error)}")
                    total, done = total - len(work) * wanted, done - work.index(case) * wanted
                    break
                _keep(made, file_of(folder, method, case))
            done += wanted
        else:
            whole.append(method)
    return whole


def _said(error: Exception) -> str:
    """The message of an error of ours; of another one its kind as well, and where it was raised."""
    if isinstance(error, PixmendError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"


def file_of(folder: Path, method: Method, case: Case) -> Path:
    """Where the fills of a case by a method are kept."""
    return folder / method.folder / case.family / f"{case.name}.npz"


def read_fills(folder: Path, method: Method, case: Case, fills: int) -> Fills | None:
    """The fills that were made before; None where there are none, too few, or where the file is damaged."""
    try:
        with open(file_of(folder, method, case), "rb") as stream, np.load(stream, allow_pickle=False) as content:
            kept = Fills(**{name: content[name][:fills] for name in Fills.__dataclass_fields__})
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    return kept if kept.values.shape == (fills, int(case.hole.sum()), 3) else None


def _keep(made: Sequence[tuple[Any, ...]], file: Path) -> None:
    names = list(Fills.__dataclass_fields__)
    columns = {name: np.stack([row[i] for row in made]) for i, name in enumerate(names)}
    with errors_as_one_line(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda stream: np.savez_compressed(stream, allow_pickle=False, **columns), overwrite=True)


def _fill(method: Method, case: Case, number: int) -> tuple[Any, ...]:
    """One fill, as a row of `Fills`."""
    given = case.given
    with _peak_memory() as peak:
        start = time.perf_counter()
        pixels, calls = method(given, case.hole.copy(), case.seed(number))
        seconds = time.perf_counter() - start
    if pixels.shape != case.truth.shape or pixels.dtype != np.uint8:
        raise PixmendError(
            f"it gave {pixels.dtype} of shape {pixels.shape} for a picture of uint8 {case.truth.shape}; "
            "a method gives back what it was given, filled"
        )
    known = ~case.hole
    changed = np.abs(pixels[known].astype(float) - case.truth[known]).max()
    return pixels[case.hole], *(np.float64(number) for number in (changed, seconds, calls, peak[0]))


@contextmanager
def _peak_memory() -> Iterator[list[float]]:
    """One number once it is left: the largest memory of this process meanwhile, and of the GPU, in MiB; NaN if
    unknown.
    """
    peak = [float("nan")]
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    reset = _reset_peak()
    yield peak
    if reset:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak[0] = next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    if on_gpu:
        peak[0] = np.nansum([peak[0], torch.cuda.max_memory_allocated() / 2**20])


def _reset_peak() -> bool:
    """Have Linux forget the largest memory that this process has had so far; whether it did."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
