"""Mosaics: matches are the best there are, what they say is copied, and a pattern goes on as it was."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmend import exemplars
from pixmend.exemplars import FEWEST, FIRST_RADIUS, Mosaic, _Patches, mosaic_of, plan_mosaic
from pixmend.images import open_picture
from pixmend.levels import halved_hole, plan_levels
from pixmend.windows import Hole, find_parts

SIDE = 96


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int = SIDE, width: int = SIDE) -> Tensor:
    """(3, H, W) of values that halves hold exactly."""
    return torch.randint(-64, 65, (3, height, width), generator=generator(7)) / 64


def pattern(height: int, width: int, period: int) -> Tensor:
    """(3, H, W) that repeats itself."""
    return noise(period, period).repeat(1, -(-height // period), -(-width // period))[:, :height, :width]


def square(side: int = SIDE, top: int = 32, width: int = 24) -> Hole:
    hole = np.zeros((side, side), bool)
    hole[top : top + width, top : top + width] = True
    return hole


def no_tick() -> None:
    pass


def planned(hole: Hole, size: int = 64) -> tuple[Mosaic | None, list[tuple[int, int]]]:
    """The mosaic of a hole in a pattern, and the shapes of its levels."""
    [part] = find_parts(hole, size)
    own = plan_mosaic(hole, part, plan_levels(hole, part, size))
    samples = ((pattern(hole.shape[0], hole.shape[1], 16).permute(1, 2, 0).numpy() + 1) * 127).round().astype(np.uint8)
    mosaic = mosaic_of(open_picture(samples), part, own) if own else None
    return mosaic, [level.area.shape for level in own]


def test_open_patches_have_hole_and_known_ones_none() -> None:
    hole = square()
    patches = _Patches(noise(), hole, 2)
    for middle in range(SIDE * SIDE):
        row, column = divmod(middle, SIDE)
        inside = 2 <= row < SIDE - 2 and 2 <= column < SIDE - 2
        touched = hole[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].any()
        assert bool(patches.known[middle]) == (inside and not touched)
        assert (middle in patches.open) == (inside and touched) if row % 7 == 0 else True


def test_matches_are_the_nearest_of_all_known_patches() -> None:
    """Beside a search that computes every distance as it is defined."""
    x, hole = noise(40, 40), square(40, 14, 9)
    patches = _Patches(x, hole, FIRST_RADIUS)
    known = patches.known.nonzero()[:, 0]
    patches._compare(known)
    windows = x.unfold(1, 7, 1).unfold(2, 7, 1)  # (3, 34, 34, 7, 7)

    def of(middles: Tensor) -> Tensor:
        return windows[:, middles // 40 - 3, middles % 40 - 3].transpose(0, 1).flatten(1)

    distances = (of(patches.open)[:, None] - of(known)[None]).square().sum(2)
    least, which = distances.min(1)
    assert torch.equal(patches.match, known[which])
    torch.testing.assert_close(patches.distance, least, atol=1e-3, rtol=1e-4)


def test_a_vote_of_patches_that_agree_is_a_copy() -> None:
    x, hole = noise(), square()
    patches = _Patches(x, hole, 2)
    patches.match = patches.open + 30 * SIDE + 5  # all from 30 rows down and 5 columns to the right
    patches.vote()
    copied = torch.roll(x, (-30, -5), (1, 2))
    wanted = torch.where(torch.from_numpy(hole), copied, x)
    torch.testing.assert_close(patches.image()[0], wanted, atol=2e-3, rtol=0)


def test_doubled_matches_lie_twice_as_far() -> None:
    fine, hole = noise(), square()
    coarse = _Patches(noise(48, 48), halved_hole(hole), FIRST_RADIUS)
    coarse.match = coarse.open + 16 * 48 - 3
    finer = coarse.doubled(fine, hole, generator())
    shift = finer.match - finer.open
    known = finer.known[(finer.open + 32 * SIDE - 6).clamp(max=SIDE * SIDE - 1)]
    assert (shift[known] == 32 * SIDE - 6).all()
    assert known.float().mean() > 0.9
    assert finer.known[finer.match].all()


def test_better_matches_are_found_and_worse_ones_never_taken() -> None:
    x, hole = pattern(SIDE, SIDE, 12), square()
    patches = _Patches(x, hole, 2)
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]
    patches.improve((1,), generator(1), no_tick)
    before = patches.distance.clone()
    for k in range(12):
        patches.improve((8, 1), generator(k), no_tick)
        assert (patches.distance <= before + 1e-6).all()
        before = patches.distance.clone()
    assert (before < 1e-6).float().mean() > 0.9  # x is whole, and every patch of a pattern is there again


def test_a_pattern_goes_on_as_it_was() -> None:
    """A known answer: what has a period is known everywhere, also in a hole far wider than the period."""
    hole = square(192, 60, 64)
    mosaic, _ = planned(hole)
    assert mosaic is not None
    coarsest = mosaic.levels[-1]
    truth = mosaic.known[-1].clone()
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)  # a sketch: right, but soft
    [*_, (level, image)] = mosaic.made(blurred, coarsest, 12, 2, generator(), no_tick)
    inside = torch.from_numpy(level.hole)
    error = (image - mosaic.known[0])[0][:, inside].abs()
    assert level.scale == 1
    assert float((error < 0.02).float().mean()) > 0.95


def test_levels_double_and_end_at_the_network_s_coarsest() -> None:
    hole = square(301, 91, 75)
    [part] = find_parts(hole, 64)
    levels = plan_levels(hole, part, 64)
    own = plan_mosaic(hole, part, levels)
    assert len(own) == len(levels)
    for k, (fine, coarse) in enumerate(pairwise(own)):
        assert (fine.area.top, fine.area.left) == (2 * coarse.area.top, 2 * coarse.area.left)
        assert fine.scale == 2**k
        assert np.array_equal(halved_hole(fine.hole), coarse.hole)
    assert own[-1].hole.sum() == levels[-1].hole.sum()
    finest = own[0].in_picture(part.window)
    assert finest.of(hole).sum() == hole.sum()


def test_no_mosaic_where_little_is_known_or_the_hole_is_narrow() -> None:
    assert planned(square(96, 40, 9))[0] is None
    almost_all = np.ones((96, 96), bool)
    almost_all[:8, :8] = False
    assert planned(almost_all)[0] is None
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    patches = _Patches(mosaic.known[-1][0], mosaic.levels[-1].hole, FIRST_RADIUS)
    assert int(patches.known.sum()) >= FEWEST


@pytest.mark.parametrize("compared", [1 << 27, 0])
def test_the_same_seed_gives_the_same_whatever_is_done_at_once(compared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "COMPARED", compared)  # 0: the first matches are looked for by chance
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    sketch = mosaic.known[-1]
    made = []
    for seed, chunk in ((1, 1 << 16), (1, 100), (2, 1 << 16)):
        monkeypatch.setattr(exemplars, "CHUNK", chunk)
        noisy = Mosaic(mosaic.levels, [noise(*x.shape[-2:])[None] for x in mosaic.known])
        made.append([*noisy.made(sketch, mosaic.levels[-1], 3, 1, generator(seed), no_tick)][-1][1])
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_known_pixels_stay_and_hole_takes_no_other_colours() -> None:
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    for level, image in mosaic.made(mosaic.known[-1], mosaic.levels[-1], 2, 1, generator(), no_tick):
        x = mosaic.known[mosaic.levels.index(level)]
        known = torch.from_numpy(~level.hole)
        torch.testing.assert_close(image[0][:, known], x[0][:, known], atol=1e-3, rtol=0)
        assert float(image.max()) <= float(x[0][:, known].max()) + 1e-3
        assert float(image.min()) >= float(x[0][:, known].min()) - 1e-3


def test_whoever_is_told_may_end_it() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    with pytest.raises(KeyboardInterrupt):
        list(mosaic.made(mosaic.known[-1], mosaic.levels[-1], 2, 1, generator(), stop))
