"""Filling one window, coarse to fine: which noise levels at which level, the sampler at each, and the picture's detail.

The coarsest level is sampled from pure noise, all candidates in one batch; its guide is the smooth fill, or the mean of
what may be there, where a second network answers that. Every finer level starts from the enlarged fill, noised to a
middle level, with that fill as the network's guide. Rough surroundings make a fill livelier, and
smooth ones calm, see `texture`. Where a mosaic of the picture's own patches takes over, see `exemplars`, there are no
finer levels of the network. docs/any-size.md has the settings.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pixmend.backends import OpenNetwork
from pixmend.budget import GRAIN, MOST_PIXELS, STATE, Batches, memory_limit, tile_bytes
from pixmend.checkpoint import Model
from pixmend.conditioning import NetworkCall, make_denoiser, smooth_fill
from pixmend.diffusion import Known, Noise
from pixmend.efforts import LevelRecord, PartRecord, down_to, effort_for
from pixmend.errors import MemoryLimitError, OptionError
from pixmend.exemplars import Mosaic, mosaic_bytes
from pixmend.levels import Level, part_of
from pixmend.samplers import SAMPLERS, visited_times
from pixmend.schedules import step_subset
from pixmend.texture import calmed, calmness, livening
from pixmend.tiles import mirrored, tile_corners, tiled
from pixmend.windows import SOLID, Part, is_wide

OVERLAP = 0.25  # of a tile: what neighbours share

# Told which candidate, and its state after a step, (1, 3, h, w) without padding.
OnStep = Callable[[int, Level, Tensor], None]


@dataclass(frozen=True)
class Filled:
    """A level that is filled: what the next finer one goes on from."""

    level: Level
    fill: Tensor  # (1, 3, h, w), without padding, on the CPU
    calm: Tensor  # (1, 1, h, w), the weight of the smooth fill, 0 to 1; defined outside the hole, too

    def calmness(self, other: Level, x: Tensor, hole: Tensor) -> Tensor:
        """How far the next finer level, or a block of it, is to be the smooth fill; or a part of this level itself."""
        if other.scale == self.level.scale:
            return part_of(self.calm, other.area.seen_from(self.level.area))
        return calmness(x, hole, other.guide(self.calm, self.level)[..., : x.shape[-2], : x.shape[-1]].to(x.device))


@dataclass(frozen=True)
class Guiding:
    """What answers the mean of what may be there: the guide of what is drawn."""

    model: Model  # of a single noise level
    network: OpenNetwork  # as `open_network` gives it, on the device of what draws


class Filling:
    """Fills windows with a model."""

    def __init__(
        self,
        network: OpenNetwork,
        model: Model,
        guiding: Guiding | None = None,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        quality: str = "balanced",
        faintest: float = 1.0,
        max_memory: int | str | None = None,
        after_tiles: Callable[[int], None] = lambda tiles: None,
    ) -> None:
        """network: the model's, as `open_network` gives it; guiding: what answers the mean, for the guide. steps: at
        the coarsest level, in the place of what quality says. faintest: the weakest strength of the soft mask that has
        to take part, above 0; a pixel joins the hole at the noise level of its strength. after_tiles: told after every
        network call of how many tiles it was; what it raises ends the filling.
        """
        sampler = sampler or model.sampler
        if sampler not in SAMPLERS:
            raise OptionError(f"sampler {sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")
        self.network, self.guiding, self.device = network, guiding, network.device
        self.model, self.sampler, self.effort = model, sampler, effort_for(quality, model)
        T = model.diffusion.T
        own = self.effort.first_steps(T, model.steps)
        self.first_times = step_subset(T, own if steps is None else steps)
        self.faintest = max(0, int(faintest * T) - 1)  # the noise level at which the weakest join
        self.limit, self.strict = memory_limit(max_memory, self.device), max_memory is not None
        self.dtype = network.dtype
        self.records: list[PartRecord] = []
        self.calls = 0
        self.after_tiles = after_tiles

    def times(self, level: Level, finer: int) -> list[int]:
        """The noise levels that are visited at a level that is so many times finer than the coarsest one."""
        times = self.effort.finer_times(self.model.diffusion.T, finer) if finer else self.first_times
        return down_to(times, self.faintest) if level.scale == 1 else times  # coarser ones have no soft edge

    def tiles(self, levels: Sequence[Level], own: Sequence[Level], candidates: int) -> int:
        """How many tiles the network is going to be called on for a window: what progress counts.

        own: the levels of its mosaic, which count as the tiles that their holes would fill.
        """
        total = candidates * sum(map(_worth, own))
        if self._guiding(levels[-1]):
            batches = self._batches_of_candidates(levels[-1], candidates)
            total += self.effort.mirrored * len(batches) * len(self._corners(levels[-1], 0))
        for finer, level in enumerate(reversed(levels)):
            visited = visited_times(self.sampler, self.times(level, finer))
            total += self._mirrored(self.model) * candidates * sum(len(self._corners(level, t)) for t in visited)
        return total

    def least_memory(self, levels: Sequence[Level], own: Sequence[Level]) -> int:
        """About how many bytes a window takes at least; own: the levels of its mosaic."""
        models = [self.model, *([self.guiding.model] if self.guiding else [])]
        one = max(tile_bytes(model.network.config, levels[0].size, self.dtype) for model in models)
        least = one + max(_level_bytes(level, 1) for level in levels)  # candidates that do not fit wait
        return max(least, mosaic_bytes(own))

    def check_memory(self, least: int) -> None:
        """Refuse, before any work, what takes more bytes than were allowed. Raises MemoryLimitError."""
        if self.strict and least > self.limit:
            given = f"{self.limit / 1e6:,.0f} MB" if self.limit >= 1e6 else f"{self.limit:,} bytes"
            raise MemoryLimitError(
                f"{given} do not hold what is worked on at once; give a max memory of at least "
                f"{math.ceil(least / 1e6):,} MB, or fill less at once"
            )

    def __call__(
        self,
        part: Part,
        levels: Sequence[Level],
        tensors: Sequence[tuple[Tensor, Tensor]],
        seeds: Sequence[int],
        on_step: OnStep,
        mosaic: Mosaic | None = None,
    ) -> Iterator[tuple[int, Level, Tensor]]:
        """The fills of a window, one for each seed: its number, the finest level, and (1, 3, h, w) of its area.

        levels, tensors: as `plan_levels` and `level_tensors` give them, finest first; x may be written to. mosaic:
        takes over from the finest of these levels, and its own finest one is the last.
        """
        record = PartRecord(part)
        self.records.append(record)
        coarsest = len(levels) - 1
        record.levels = [
            LevelRecord(level, times, self._corners(level, times[-1]))
            for level, times in ((level, self.times(level, finer)) for finer, level in enumerate(reversed(levels)))
        ]
        first = [
            one
            for some in self._batches_of_candidates(levels[-1], len(seeds))
            for one in self._fill_level(part, record.levels[0], tensors[-1], None, some, seeds, on_step)
        ]
        for i, filled in enumerate(first):
            for k in reversed(range(coarsest)):
                now = record.levels[coarsest - k]
                [filled] = self._fill_level(part, now, tensors[k], filled, [i], seeds, on_step)
            generator = torch.Generator().manual_seed(seed_of(seeds[i], part.window.top, part.window.left, 0))
            finest, fill = filled.level, filled.fill
            for finest, fill in self._detailed(record, filled, mosaic, generator):
                record.levels[-1].candidate = i
                on_step(i, finest, fill)
            yield i, finest, fill

    def _detailed(
        self, record: PartRecord, sketch: Filled, mosaic: Mosaic | None, generator: torch.Generator
    ) -> Iterator[tuple[Level, Tensor]]:
        """The levels of a mosaic."""
        if mosaic is None:
            return
        started, effort, before = time.perf_counter(), self.effort, sketch
        rounds, passes = effort.rounds, effort.passes
        made = mosaic.made(sketch.fill, sketch.level, rounds, passes, generator, lambda: self.after_tiles(0))
        for level, image in made:
            if level.scale < sketch.level.scale or level.scale == 1:
                hole = torch.from_numpy(level.hole)[None, None].float()
                calm = before.calmness(level, image, hole)
                image = calmed(image, image, hole, calm)
                before = Filled(level, image, calm)
            record.levels.append(LevelRecord(level, [], [], seconds=time.perf_counter() - started))
            self.after_tiles(_worth(level))
            yield level, image
            started = time.perf_counter()

    def _batches_of_candidates(self, level: Level, candidates: int) -> list[range]:
        """Which candidates are filled in one batch: all, but where the coarsest level is large."""
        many = max(1, self.limit // 2 // _level_bytes(level, 1)) if level.is_one_block else 1
        return [range(i, min(i + many, candidates)) for i in range(0, candidates, many)]

    @torch.inference_mode()
    def _fill_level(
        self,
        part: Part,
        record: LevelRecord,
        tensors: tuple[Tensor, Tensor],
        coarser: Filled | None,
        candidates: Sequence[int],
        seeds: Sequence[int],
        on_step: OnStep,
    ) -> list[Filled]:
        """One level of some candidates at once."""
        started = time.perf_counter()
        level, (x, soft) = record.level, tensors
        calms = torch.ones_like(soft)
        if not level.is_one_block:  # other candidates need x as it is, and soft may be the caller's own
            x, soft = x.clone() if len(seeds) > 1 else x, soft.clone()
        for block in level.blocks():
            own = [
                seed_of(seeds[i], part.window.top, part.window.left, level.scale, *_corner(block)) for i in candidates
            ]

            def tell(state: Tensor, block: Level = block) -> None:
                for i, one in zip(candidates, torch.split(state, 1), strict=True):
                    on_step(i, block, block.cut(one))

            view = level.of(x, block), level.of(soft, block)
            fill, calm = self._fill_block(record, block, view, part.faint, coarser, own, tell)
            level.of(calms, block).clamp_(max=calm)
            if not level.is_one_block:  # from now on it is known
                needed = block.needed > 0
                view[0][:] = torch.where(needed, fill, view[0])
                view[1][:] = view[1].masked_fill(needed, 0)
        record.seconds += time.perf_counter() - started
        fills = torch.split(level.cut(fill if level.is_one_block else x), 1)
        return [Filled(level, fill, level.cut(calms)) for fill in fills]

    def _fill_block(
        self,
        record: LevelRecord,
        block: Level,
        tensors: tuple[Tensor, Tensor],
        faint: bool,
        coarser: Filled | None,
        seeds: Sequence[int],
        tell: Callable[[Tensor], None],
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), a picture for each seed, and how calm they are, (1, 1, H, W); on the CPU."""
        times, diffusion, noise = record.times, self.model.diffusion, _noise(seeds)
        x, soft = (v.to(self.device).expand(len(seeds), -1, -1, -1) for v in tensors)
        known = Known(x, soft, diffusion, self.model.conditioning, noise)
        surroundings = x[:1], (soft[:1] > 0 if faint else soft[:1] >= SOLID).to(x.dtype)
        options: dict[str, Any] = {}
        if coarser is None:
            calm, smooth = calmness(*surroundings), smooth_fill(*surroundings)
            asked = self._guiding(record.level)
            guide = self._mean_fill(asked, record, block, *surroundings, smooth) if asked else smooth
            guide, start = guide.expand_as(x), known.start(times[0])
            if self.effort.noise and self.sampler == "ddim":  # what students learn; no other sampler takes it
                options["liven"] = livening(*surroundings, self.effort.noise)
        else:
            calm, smooth = coarser.calmness(block, *surroundings), None
            guide = block.guide(coarser.fill, coarser.level).to(self.device)
            begin = livening(*surroundings, self.effort.finer_noise)(noise(guide))
            start = known.put_back(diffusion.add_noise(guide, times[0], begin), times[0], times[0])
        tiles = self._tiled(record, block, len(seeds), self.network, self.model)
        fill = SAMPLERS[self.sampler](
            make_denoiser(tiles, known, guide),
            start,
            times,
            diffusion,
            noise=noise,
            put_back=known.put_back,
            callback=lambda t, state, x0: tell(state),
            **options,
        )
        return calmed(fill, *surroundings, calm, smooth).cpu(), calm.cpu()

    def _guiding(self, level: Level) -> Guiding | None:
        """What gives the guide at the coarsest level; None where the hole is too wide to be seen across.

        There the mean is blurred at all scales, and what is drawn from it would vary too little.
        """
        return None if is_wide(level.hole, level.size) else self.guiding

    def _mean_fill(
        self, asked: Guiding, record: LevelRecord, block: Level, x: Tensor, hole: Tensor, smooth: Tensor
    ) -> Tensor:
        """The mean of what may be in the hole, as a guide: (1, 3, H, W).

        x, smooth: (1, 3, H, W), the picture and its smooth fill, which guides the mean; hole: (1, 1, H, W) of 0 and 1.
        """
        model = asked.model
        known = Known(x, hole, model.diffusion, model.conditioning, _noise([0]))
        tiles = self._tiled(record, block, 1, asked.network, model)
        return make_denoiser(tiles, known, smooth)(known.start(0), 0)

    def _mirrored(self, model: Model) -> int:
        """How many times a model is asked at each step."""
        return self.effort.mirrored if model.answers_the_mean else 1

    def _tiled(
        self, record: LevelRecord, level: Level, candidates: int, opened: OpenNetwork, model: Model
    ) -> NetworkCall:
        """A model's network, on as many tiles at once as memory allows beside what the level itself takes."""
        one = tile_bytes(model.network.config, level.size, self.dtype)
        rest = self.limit - _level_bytes(level, candidates)
        most = MOST_PIXELS.get(self.device.type, MOST_PIXELS["cpu"]) // level.size**2

        def network(x: Tensor, t: Tensor) -> Tensor:
            started = time.perf_counter()
            output = opened(x, t)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            record.network_seconds += time.perf_counter() - started
            return output

        def after(tiles: int) -> None:
            record.calls += 1
            record.tiles += tiles
            self.calls += 1
            self.after_tiles(tiles)

        batches = Batches(network, max(1, min(most, rest // one)), after)
        asked = mirrored(batches, self._mirrored(model))
        return tiled(asked, level.needed.to(self.device), level.size, OVERLAP, batches.most)

    def _corners(self, level: Level, t: int) -> list[tuple[int, int]]:
        """Of the tiles at one noise level, in pixels of the level's area."""
        corners = []
        for block in level.blocks():
            top, left = block.area.top - level.area.top, block.area.left - level.area.left
            own = [(0, 0)] if max(block.shape) <= block.size else tile_corners(block.hole, block.size, t, OVERLAP)
            corners += [(top + i, left + j) for i, j in own]
        return corners


def _level_bytes(level: Level, candidates: int) -> int:
    """About what a level takes beside the network: its largest block, or its grain; two copies of itself; its calm."""
    block = max((block.shape[0] * block.shape[1] for block in level.blocks()), default=0)
    pixels = level.shape[0] * level.shape[1]
    return 4 * (max(STATE * candidates * block, GRAIN * pixels) + 9 * pixels)


def _worth(level: Level) -> int:
    """The tiles that the hole of a level would fill."""
    return -(-int(level.hole.sum()) // level.size**2)


def _corner(block: Level) -> tuple[int, int]:
    return block.area.top, block.area.left


def seed_of(*parts: int) -> int:
    """One number for all that a draw depends on: not on other windows, other candidates or the size of a batch."""
    low, high = np.random.SeedSequence(parts).generate_state(2)
    return int(low) << 31 ^ int(high)


def _noise(seeds: Sequence[int]) -> Noise:
    """Standard normal noise (B, C, H, W), each picture's from a generator of its own; drawn on the CPU: the same on
    every device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(like: Tensor) -> Tensor:
        return torch.cat([torch.randn((1, *like.shape[1:]), generator=g) for g in generators]).to(like)

    return noise
