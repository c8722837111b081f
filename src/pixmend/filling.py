"""Filling one window with a model, coarse to fine: which noise levels at which level, and the sampler at each.

The coarsest level is sampled from pure noise, all candidates in one batch. Every finer level starts from the enlarged
fill, noised to a middle level, with that fill as the network's guide. docs/any-size.md has the settings.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pixmend.backends import OpenNetwork
from pixmend.budget import MOST_PIXELS, STATE, Batches, memory_as_one_line, memory_limit, tile_bytes
from pixmend.checkpoint import Model
from pixmend.conditioning import denoiser
from pixmend.diffusion import Known, Noise
from pixmend.errors import MemoryLimitError, OptionError
from pixmend.grain import match_grain
from pixmend.levels import Level
from pixmend.runtime import fast_dtype
from pixmend.samplers import SAMPLERS, visited_times
from pixmend.schedules import step_subset
from pixmend.tiles import tile_corners, tiled
from pixmend.windows import Part

REFINE_FROM = 0.5  # of all noise levels: where the finer levels start
OVERLAP = 0.25  # of a tile: what neighbours share

OnStep = Callable[
    [int, Level, Tensor], None
]  # which candidate, and its state after a step, (1, 3, h, w) without padding


@dataclass(frozen=True)
class Effort:
    """How many network calls a quality spends."""

    first: float  # times the model's own number of steps, at the coarsest level
    finer: tuple[int, ...]  # at the finer levels, from coarse to fine; the last for all that follow


QUALITIES = {
    "fast": Effort(0.67, (1,)),
    "balanced": Effort(1, (2,)),
    "best": Effort(2, (4, 3)),
}


@dataclass
class LevelRecord:
    """What was done at one level of one window."""

    level: Level
    times: list[int]  # the noise levels that were visited
    corners: list[tuple[int, int]]  # of the tiles of the last of them, in pixels of the area
    tiles: int = 0  # of all steps and candidates
    calls: int = 0  # of the network; one may be of many tiles
    seconds: float = 0.0
    network_seconds: float = 0.0


@dataclass
class PartRecord:
    """What was done in one window, its levels from coarse to fine."""

    part: Part
    levels: list[LevelRecord] = field(default_factory=list)


def first_steps(model: Model, quality: str) -> int:
    """The steps of the sampler that a quality spends at the coarsest level. Raises OptionError."""
    if quality not in QUALITIES:
        raise OptionError(f"quality {quality!r} is not known; choose one of {', '.join(QUALITIES)}")
    return min(model.diffusion.T, max(1, round(QUALITIES[quality].first * model.steps)))


class Filling:
    """Fills windows with a model."""

    def __init__(
        self,
        network: OpenNetwork,
        model: Model,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        quality: str = "balanced",
        max_memory: int | str | None = None,
        after_tiles: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        """network: the model's, as `open_network` gives it. steps: at the coarsest level, in the place of what quality
        says. after_tiles: told after every network call of how many tiles it was; what it raises ends the filling.
        """
        sampler = sampler or model.sampler
        if sampler not in SAMPLERS:
            raise OptionError(f"sampler {sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")
        self.network, self.device = network, network.device
        self.model, self.sampler = model, sampler
        T = model.diffusion.T
        own = first_steps(model, quality)
        self.first_times = step_subset(T, own if steps is None else steps)
        self.effort = QUALITIES[quality]
        self.limit, self.strict = memory_limit(max_memory, self.device), max_memory is not None
        self.dtype = fast_dtype(self.device)
        self.records: list[PartRecord] = []
        self.calls = 0
        self.after_tiles = after_tiles

    def times(self, halvings: int, of: int) -> list[int]:
        """The noise levels that are visited at a level, `halvings` below the finest one, in a window of so many."""
        if halvings == of:
            return self.first_times
        finer = self.effort.finer
        calls = finer[min(of - halvings, len(finer)) - 1]
        T = self.model.diffusion.T
        calls = min(calls, T)
        return step_subset(max(round(REFINE_FROM * T), calls), calls)

    def tiles(self, levels: Sequence[Level], candidates: int) -> int:
        """How many tiles the network is going to be called on for a window: what progress counts."""
        total = 0
        for k, level in enumerate(levels):
            visited = visited_times(self.sampler, self.times(k, len(levels) - 1))
            total += candidates * sum(len(self._corners(level, t)) for t in visited)
        return total

    def check_memory(self, levels: Sequence[Level], candidates: int) -> None:
        """Refuse a window that takes more memory than was allowed, before any work. Raises MemoryLimitError."""
        one = tile_bytes(self.model.network.config, levels[0].size, self.dtype)
        least = one + max(_level_bytes(levels[0], 1), _level_bytes(levels[-1], candidates))
        if self.strict and least > self.limit:
            raise MemoryLimitError(
                f"{self.limit / 1e6:,.0f} MB do not hold what is worked on at once; give a max memory of at least "
                f"{math.ceil(least / 1e6):,} MB, or fill less at once"
            )

    def __call__(
        self,
        part: Part,
        levels: Sequence[Level],
        tensors: Sequence[tuple[Tensor, Tensor]],
        seeds: Sequence[int],
        on_step: OnStep,
    ) -> Iterator[tuple[int, Tensor]]:
        """The fills of a window, one for each seed: its number, and (1, 3, h, w) of the finest level's area.

        levels, tensors: as `plan_levels` and `level_tensors` give them, finest first.
        """
        record = PartRecord(part)
        self.records.append(record)
        coarsest = len(levels) - 1
        record.levels = [
            LevelRecord(level, self.times(k, coarsest), self._corners(level, self.times(k, coarsest)[-1]))
            for k, level in reversed(list(enumerate(levels)))
        ]
        with torch.inference_mode(), memory_as_one_line():
            first = self._fill_level(part, record.levels[0], tensors[-1], None, range(len(seeds)), seeds, on_step)
        for i in range(len(seeds)):
            fill = first[i : i + 1]
            for k in reversed(range(coarsest)):
                with torch.inference_mode(), memory_as_one_line():
                    guide = levels[k].guide(fill, levels[k + 1])
                    fill = self._fill_level(part, record.levels[coarsest - k], tensors[k], guide, [i], seeds, on_step)
            generator = torch.Generator().manual_seed(_seed(seeds[i], part.window.top, part.window.left, 0))
            yield i, match_grain(fill.cpu(), levels[0].cut(tensors[0][1]), generator)

    def _fill_level(
        self,
        part: Part,
        record: LevelRecord,
        tensors: tuple[Tensor, Tensor],
        guide: Tensor | None,
        candidates: Sequence[int],
        seeds: Sequence[int],
        on_step: OnStep,
    ) -> Tensor:
        """One level of some candidates at once: (B, 3, h, w) without padding, on the device."""
        started = time.perf_counter()
        level, times, diffusion = record.level, record.times, self.model.diffusion
        x, soft = (v.to(self.device).expand(len(candidates), -1, -1, -1) for v in tensors)
        noise = _noise([_seed(seeds[i], part.window.top, part.window.left, level.scale) for i in candidates])
        known = Known(x, soft, diffusion, self.model.conditioning, noise)
        if guide is None:
            start = known.start(times[0])
        else:
            start = known.put_back(diffusion.add_noise(guide, times[0], noise(guide)), times[0], times[0])
        network = self._batched(record, len(candidates))

        def tell(t: int, state: Tensor, x0: Tensor) -> None:
            for i, one in zip(candidates, torch.split(state, 1), strict=True):
                on_step(i, level, level.cut(one))

        needed = level.needed.to(self.device)
        fill = SAMPLERS[self.sampler](
            denoiser(tiled(network, needed, level.size, OVERLAP, network.most), known, guide),
            start,
            times,
            diffusion,
            noise=noise,
            put_back=known.put_back,
            callback=tell,
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        record.seconds += time.perf_counter() - started
        return level.cut(fill)

    def _batched(self, record: LevelRecord, candidates: int) -> Batches:
        """The network, on as many tiles at once as memory allows beside what the level itself takes."""
        level = record.level
        one = tile_bytes(self.model.network.config, level.size, self.dtype)
        rest = self.limit - _level_bytes(level, candidates)
        most = MOST_PIXELS.get(self.device.type, MOST_PIXELS["cpu"]) // level.size**2

        def network(x: Tensor, t: Tensor) -> Tensor:
            started = time.perf_counter()
            output = self.network(x, t)
            if x.is_cuda:
                torch.cuda.synchronize()
            record.network_seconds += time.perf_counter() - started
            return output

        def after(tiles: int) -> None:
            record.calls += 1
            record.tiles += tiles
            self.calls += 1
            self.after_tiles(tiles)

        return Batches(network, max(1, min(most, rest // one)), after)

    def _corners(self, level: Level, t: int) -> list[tuple[int, int]]:
        if max(level.shape) <= level.size:
            return [(0, 0)]
        return tile_corners(level.hole, level.size, t, OVERLAP)


def _level_bytes(level: Level, candidates: int) -> int:
    """About what a level takes beside the network."""
    return 4 * STATE * candidates * level.shape[0] * level.shape[1]


def _seed(seed: int, top: int, left: int, scale: int) -> int:
    """One number for all that a draw depends on: not on other windows, other candidates or the size of a batch."""
    low, high = np.random.SeedSequence([seed, top, left, scale]).generate_state(2)
    return int(low) << 31 ^ int(high)


def _noise(seeds: Sequence[int]) -> Noise:
    """Standard normal noise (B, C, H, W), each picture's from a generator of its own; drawn on the CPU: the same on
    every device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(like: Tensor) -> Tensor:
        return torch.cat([torch.randn((1, *like.shape[1:]), generator=g) for g in generators]).to(like)

    return noise
