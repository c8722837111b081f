"""What is spent on a fill, and the record of what was: noise levels, network calls and matches, level by level.

docs/any-size.md has the table, and how the figures were found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pixmend.checkpoint import Model
from pixmend.errors import OptionError
from pixmend.levels import Level
from pixmend.schedules import step_subset
from pixmend.windows import Part


@dataclass(frozen=True)
class Effort:
    """How many network calls a quality spends, and how much on matching patches."""

    first: float  # times the model's own number of steps, at the coarsest level
    finer_from: float  # of all noise levels: where the finer levels start
    finer: tuple[int, ...]  # calls at the finer levels, from coarse to fine; the last for all that follow
    rounds: int  # of matching at the first level of a mosaic, and a quarter as many at the next
    passes: int  # over the matches at each finer level
    mirrored: int = 1  # times the mean is asked, of the picture and its mirror images: 1, 2 or 4
    # Beside what is rough, how much more noise than the network is told (`texture`):
    noise: float = 0.0  # at each step of the coarsest level
    finer_noise: float = 0.08  # at the start of a finer one

    def first_steps(self, T: int, own: int) -> int:
        """Calls at the coarsest level, of a model with T noise levels that does well with `own`."""
        return min(T, max(1, round(self.first * own)))

    def of_student(self, steps: int) -> Effort:
        """The same for a model that was distilled to so many steps. It has learnt one length of step (`distillation`),
        and shorter ones make it too sharp. So no more calls than fit; but one more at finer levels, which start from an
        enlarged fill, and that is too smooth. What it draws is smoother than what its teacher does, so it gets more
        noise.
        """
        fitting = 1 + round(self.finer_from * steps)
        finer = tuple(min(calls, fitting) for calls in self.finer)
        return replace(self, first=min(self.first, 1), finer=finer, noise=OF_STUDENT)

    def finer_times(self, T: int, number: int) -> list[int]:
        """The noise levels that are visited at a finer level, 1 the one above the coarsest."""
        calls = min(self.finer[min(number, len(self.finer)) - 1], T)
        return step_subset(max(round(self.finer_from * T), calls), calls)


def down_to(times: list[int], level: int) -> list[int]:
    """The times, and after them ever half of the last one, until one is at most `level`."""
    times = list(times)
    while times[-1] > level:
        times.append(times[-1] // 2)
    return times


OF_STUDENT = 0.03  # as `Effort.noise`: brings the sharpness of four steps to that of photographs (few-steps.md)

DETAILS = ("picture", "model")  # where it comes from: a mosaic of known patches, where there can be one, or the network

QUALITIES = {
    "fast": Effort(0.67, 0.5, (1,), 12, 1),
    "balanced": Effort(1, 0.75, (4, 3, 2), 18, 1),
    "best": Effort(2, 0.9, (6,), 48, 2, mirrored=4),
}


def effort_for(quality: str, model: Model) -> Effort:
    """What a quality spends on a model. Raises OptionError."""
    if quality not in QUALITIES:
        raise OptionError(f"quality {quality!r} is not known; choose one of {', '.join(QUALITIES)}")
    steps, effort = model.distilled_to, QUALITIES[quality]
    return effort if steps is None else effort.of_student(steps)


@dataclass
class LevelRecord:
    """What was done at one level of one window."""

    level: Level
    times: list[int]  # the noise levels that were visited; none where its detail is the picture's own
    corners: list[tuple[int, int]]  # of the tiles of the last of them, in pixels of the area
    tiles: int = 0  # of all steps and candidates
    calls: int = 0  # of the network; one may be of many tiles
    seconds: float = 0.0
    network_seconds: float = 0.0
    candidate: int | None = None  # whose it is, counted from 0; None: it is of all


@dataclass
class PartRecord:
    """What was done in one window, its levels from coarse to fine."""

    part: Part
    levels: list[LevelRecord] = field(default_factory=list)
