"""Mosaics: matches are the best there are, what they say is copied, and a pattern goes on as it was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pixmend import patches as patches_room
from pixmend.components import Hole
from pixmend.errors import MemoryLimitError
from pixmend.exemplars import FEWEST, FIRST_RADIUS, Mosaic, mosaic_of, plan_mosaic
from pixmend.extending import extend
from pixmend.images import open_picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.levels import Level, halved_hole, plan_levels
from pixmend.masks import create_advanced_mask
from pixmend.patches import Patches, fixed, loose
from pixmend.windows import Window, find_parts
from small_model import box, noise_picture, small_model

SIDE = 96


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(height: int = SIDE, width: int = SIDE) -> Tensor:
    """(3, H, W) of values that `fixed` holds exactly."""
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


def whole(patches: Patches) -> Tensor:
    """All that is known and filled, (3, H, W)."""
    return patches_room._colours(patches.pixels)[:, :3].T.reshape(3, patches.height, patches.width)


def in_blocks(patches: Patches) -> Tensor:
    """All known patches, some of them twice."""
    known = patches.known.nonzero()[:, 0]
    return torch.cat([known, known[: -len(known) % patches_room.BLOCK]])


def compare(patches: Patches) -> None:
    """Match each patch with all that are known, along their main axes."""
    theirs = patches._patches(in_blocks(patches))
    patches._compare(in_blocks(patches), theirs, patches_room._main_axes(theirs))


def known_at(mosaic: Mosaic, level: Level) -> Tensor:
    """What a mosaic knows of a part of one of its levels, (1, 3, h, w)."""
    [(x, outer)] = [
        (x, own.area) for x, own in zip(mosaic.known, mosaic.levels, strict=True) if own.scale == level.scale
    ]
    area = level.area.seen_from(outer)
    return loose(x[..., area.top : area.bottom, area.left : area.right])


def planned(hole: Hole, size: int = 64) -> tuple[Mosaic | None, list[tuple[int, int]]]:
    """The mosaic of a hole in a pattern, and the shapes of its levels."""
    [part] = find_parts(hole, size)
    _, own = plan_mosaic(hole, part, plan_levels(hole, part, size))
    samples = ((pattern(hole.shape[0], hole.shape[1], 16).permute(1, 2, 0).numpy() + 1) * 127).round().astype(np.uint8)
    mosaic = mosaic_of(open_picture(samples), part, own) if own else None
    return mosaic, [level.area.shape for level in own]


def test_whole_numbers_keep_the_levels_of_sixteen_bits() -> None:
    values = torch.arange(0, 65536) / 32767.5 - 1
    again = loose(fixed(values))
    assert float((again - values).abs().max()) <= 1.01 / 32767.5
    assert torch.equal(fixed(again), fixed(values))
    eight = torch.arange(256) / 127.5 - 1
    assert torch.equal(((loose(fixed(eight)) + 1) * 127.5).round(), torch.arange(256.0))
    assert loose(fixed(torch.tensor([5.0, -5.0]))).tolist() == pytest.approx([2, -2], abs=1e-3)


def test_open_patches_have_hole_and_known_ones_none() -> None:
    hole = square()
    patches = Patches(noise(), hole, 2)
    opened = set(patches.open.tolist())
    for middle in range(SIDE * SIDE):
        row, column = divmod(middle, SIDE)
        inside = 2 <= row < SIDE - 2 and 2 <= column < SIDE - 2
        touched = hole[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3].any()
        assert bool(patches.known[middle]) == (inside and not touched)
        assert (middle in opened) == (inside and touched)


def test_matches_are_the_nearest_of_all_known_patches() -> None:
    """Beside a search that computes every distance as it is defined: lost detail of what is hole is no difference."""
    x, hole = noise(40, 40), square(40, 14, 9)
    patches = Patches(x, hole, FIRST_RADIUS)
    known = in_blocks(patches)
    patches._compare(known, patches._patches(known), torch.eye(196))
    windows = x.unfold(1, 7, 1).unfold(2, 7, 1)  # (3, 34, 34, 7, 7)

    def of(middles: Tensor) -> Tensor:
        return windows[:, middles // 40 - 3, middles % 40 - 3].transpose(0, 1).flatten(1)

    holes = torch.from_numpy(hole).float().unfold(0, 7, 1).unfold(1, 7, 1).mean((2, 3))  # (34, 34)
    filled = holes[patches.open // 40 - 3, patches.open % 40 - 3]
    detail = of(known).view(len(known), 3, 49).var(2, unbiased=False).sum(1) * 49
    distances = (of(patches.open)[:, None] - of(known)[None]).square().sum(2)
    which = (distances - 0.6 * filled[:, None] * detail).argmin(1)
    assert not torch.equal(which, distances.argmin(1))
    assert torch.equal(patches.match, known[which])
    torch.testing.assert_close(patches.distance, distances[torch.arange(len(which)), which], atol=1e-3, rtol=1e-4)


def test_along_their_main_axes_photographed_patches_are_nearly_as_near() -> None:
    """Beside the search along all axes: what a match is worse by, of how far the nearest are."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    x = torch.from_numpy(data.astronaut()[100:228, 60:188]).permute(2, 0, 1) / 127.5 - 1
    exact, quick = (Patches(x, square(128, 40, 40), FIRST_RADIUS) for _ in range(2))
    known = in_blocks(exact)
    exact._compare(known, exact._patches(known), torch.eye(196))
    compare(quick)

    def worth(patches: Patches) -> Tensor:
        return patches.distance - 0.6 * patches.filled * patches_room._detail(patches._patches(patches.match))

    assert (worth(quick) >= worth(exact) - 1e-4).all()
    assert float((worth(quick) - worth(exact)).mean()) < 0.02 * float(exact.distance.mean())


def test_a_fill_that_lost_its_detail_gets_it_back() -> None:
    """In a pattern of half the contrast all patches are too lively; a flat one must not fit better for that."""
    x, hole = pattern(SIDE, SIDE, 12), square()
    x[:, :, :20] = 0  # flat patches are known as well
    faint = torch.where(torch.from_numpy(hole), x / 2 + 0.05, x)
    patches = Patches(faint, hole, FIRST_RADIUS)
    compare(patches)
    patches.vote()
    inside = torch.from_numpy(hole)
    assert float(whole(patches)[:, inside].std() / x[:, inside].std()) > 0.95


def test_of_too_many_known_patches_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches(noise(), square(), FIRST_RADIUS)
    monkeypatch.setattr(patches_room, "COMPARED", 1500 * len(patches.open))
    compared: list[Tensor] = []
    monkeypatch.setattr(Patches, "_compare", lambda self, known, theirs, axes: compared.append(known))
    monkeypatch.setattr(Patches, "_cohere", lambda self: None)
    monkeypatch.setattr(Patches, "vote", lambda self: None)
    patches.settle(2, 0.5, generator(), no_tick)
    assert [len(set(known.tolist())) for known in compared] == [1500, 1500]
    assert [len(known) % patches_room.BLOCK for known in compared] == [0, 0]
    assert patches.known[compared[0]].all()


def test_where_all_are_too_many_pairs_better_matches_are_looked_for_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    x, hole = pattern(SIDE, SIDE, 12), square()
    patches = Patches(x, hole, FIRST_RADIUS)
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]
    patches.vote()
    before = float((whole(patches) - x).abs().mean())
    monkeypatch.setattr(patches_room, "COMPARED", 0)
    monkeypatch.setattr(Patches, "_compare", lambda *_: pytest.fail("all were compared"))
    patches.settle(40, 0, generator(), no_tick)
    assert float((whole(patches) - x).abs().mean()) < before / 2


def test_a_vote_of_patches_that_agree_is_a_copy() -> None:
    x, hole = noise(), square()
    patches = Patches(x, hole, 2)
    patches.match = patches.open + 30 * SIDE + 5  # all from 30 rows down and 5 columns to the right
    patches.vote()
    copied = torch.roll(x, (-30, -5), (1, 2))
    wanted = torch.where(torch.from_numpy(hole), copied, x)
    torch.testing.assert_close(whole(patches), wanted, atol=2e-3, rtol=0)


def test_doubled_matches_lie_twice_as_far() -> None:
    fine, hole = noise(), square()
    coarse = Patches(noise(48, 48), halved_hole(hole), FIRST_RADIUS)
    coarse.match = coarse.open + 16 * 48 - 3
    finer = coarse.doubled(fine, hole, 2, generator())
    shift = finer.match - finer.open
    known = finer.known[(finer.open + 32 * SIDE - 6).clamp(max=SIDE * SIDE - 1)]
    assert (shift[known] == 32 * SIDE - 6).all()
    assert known.float().mean() > 0.9
    assert finer.known[finer.match].all()


def test_better_matches_are_found_and_worse_ones_never_taken() -> None:
    x, hole = pattern(SIDE, SIDE, 12), square()
    patches = Patches(x, hole, 2)
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]

    def worth() -> Tensor:
        detail = patches_room._detail(patches._patches(patches.match, sparse=True))
        return patches.distance - patches_room.LOST * patches.filled * detail

    patches.improve((1,), generator(1), no_tick)
    before = worth()
    for k in range(12):
        patches.improve((8, 1), generator(k), no_tick)
        assert (worth() <= before + 1e-5).all()
        before = worth()
    assert (patches.distance < 1e-5).float().mean() > 0.9  # x is whole, and every patch of a pattern is there again


@pytest.mark.parametrize(("times", "stays"), [(1.4, False), (1.6, True)])
def test_a_piece_hangs_together_where_that_is_not_much_worse(times: float, stays: bool) -> None:
    """In the midst of what is copied from 32 rows down and 5 columns to the right is one from elsewhere, and nearer."""
    x, way = noise(), 32 * SIDE + 5
    x[:, 41:48, 41:48] -= x[:, 41:48, 41:48].mean((1, 2), keepdim=True)
    x[:, 7:14, 7:14] = x[:, 41:48, 41:48] + 0.1  # as much detail, and 147 * 0.01 away
    x[:, 73:80, 46:53] = x[:, 41:48, 41:48] - 0.1 * times**0.5
    patches = Patches(x, square(), FIRST_RADIUS)
    apart = patches.open == 44 * SIDE + 44
    patches.match = torch.where(apart, 10 * SIDE + 10, patches.open + way)
    patches._cohere()
    assert bool((patches.match[apart] == 10 * SIDE + 10).all()) == stays
    assert (patches.match == patches.open + way).float().mean() > 0.9
    assert float(patches.distance[apart]) == pytest.approx(1.47 * (1 if stays else times), rel=1e-2)


def test_what_is_at_the_same_height_is_preferred() -> None:
    x = pattern(SIDE, SIDE, 12) + 0.3 * noise()  # there again every 12 rows, but for the noise
    patches, far = Patches(x, square(), FIRST_RADIUS), []
    patches.uses = torch.zeros(SIDE * SIDE)
    for _ in range(2):  # the first time no distance is usual yet
        compare(patches)
        far.append(float((patches.match // SIDE - patches.open // SIDE).abs().float().mean()))
    assert far[1] < 0.8 * far[0]


def test_a_pattern_goes_on_as_it_was() -> None:
    """A known answer: what has a period is known everywhere, also in a hole far wider than the period."""
    hole = square(192, 60, 64)
    mosaic, _ = planned(hole)
    assert mosaic is not None
    coarsest = mosaic.levels[-1]
    truth = loose(mosaic.known[-1])
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)  # a sketch: right, but soft
    [*_, (level, image)] = mosaic.made(blurred, coarsest, 12, 2, generator(), no_tick)
    inside = torch.from_numpy(level.hole)
    error = (image - known_at(mosaic, level))[0][:, inside].abs()
    assert level.scale == 1
    assert float((error < 0.02).float().mean()) > 0.95


def test_levels_double_and_end_one_below_the_sketch() -> None:
    hole = square(501, 91, 128)
    [part] = find_parts(hole, 64)
    levels = plan_levels(hole, part, 64)
    sketch, own = plan_mosaic(hole, part, levels)
    assert sketch == len(levels) - 1
    assert len(own) == len(levels) + 1
    for k, (fine, coarse) in enumerate(pairwise(own)):
        assert (fine.area.top, fine.area.left) == (2 * coarse.area.top, 2 * coarse.area.left)
        assert fine.scale == 2**k
        assert np.array_equal(halved_hole(fine.hole), coarse.hole)
    assert own[sketch].hole.sum() == levels[-1].hole.sum()
    finest = own[0].in_picture(part.window)
    assert finest.of(hole).sum() == hole.sum()


def test_no_mosaic_where_little_is_known_or_the_hole_is_narrow() -> None:
    assert planned(square(96, 40, 9))[0] is None
    assert planned(square(192, 60, 9))[0] is None
    almost_all = np.ones((96, 96), bool)
    almost_all[:8, :8] = False
    assert planned(almost_all)[0] is None
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    patches = Patches(mosaic.known[-1][0], mosaic.levels[-1].hole, FIRST_RADIUS)
    assert int(patches.known.sum()) >= FEWEST


def test_at_the_picture_s_own_size_a_mosaic_knows_more_than_the_network() -> None:
    """A stroke that the network sees across is one where there is more to copy from than a tile holds."""
    stroke = np.zeros((192, 192), bool)
    stroke[10:180, 90:104] = True
    mosaic, shapes = planned(stroke)
    assert mosaic is not None
    assert [level.scale for level in mosaic.levels] == [1, 2]
    assert shapes[0][0] * shapes[0][1] > 64**2
    assert planned(stroke[60:124, 60:124])[0] is None
    assert planned(square(192, 60, 14))[0] is None  # its window is a tile


def test_no_mosaic_where_patches_are_too_many_to_be_compared() -> None:
    """Of stripes all over a picture the first matches would be found by chance, and the fill be grey."""
    stripes = np.broadcast_to((np.arange(512) % 51 < 20)[:, None], (512, 512)).copy()
    assert planned(stripes)[0] is None
    stripes[150:] = False
    assert planned(stripes)[0] is not None


def test_the_same_seed_gives_the_same_whatever_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    sketch = loose(mosaic.known[-1])
    made = []
    for seed, chunk in ((1, 1 << 16), (1, 100), (2, 1 << 16)):
        monkeypatch.setattr(patches_room, "CHUNK", chunk)
        noisy = Mosaic(mosaic.levels, [fixed(noise(*x.shape[-2:]))[None] for x in mosaic.known])
        made.append([*noisy.made(sketch, mosaic.levels[-1], 3, 1, generator(seed), no_tick)][-1][1])
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_known_pixels_stay_and_hole_takes_no_other_colours() -> None:
    mosaic, _ = planned(square(192, 60, 64))
    assert mosaic is not None
    for level, image in mosaic.made(loose(mosaic.known[-1]), mosaic.levels[-1], 2, 1, generator(), no_tick):
        x = known_at(mosaic, level)
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
        list(mosaic.made(loose(mosaic.known[-1]), mosaic.levels[-1], 2, 1, generator(), stop))


# ------------------------------------------------------------------------------------------------------ in a whole fill

LARGE = small_model(size=64)


def mended(height: int, width: int, hole: NDArray[Any], mode: str = "RGB", **options: Any) -> tuple[Any, Inpainted]:
    image = noise_picture(height, width, mode)
    return image, inpainting(image, hole, **{"model": LARGE, "device": "cpu", **options})


@settings(max_examples=12)
@given(
    st.integers(70, 190),
    st.integers(70, 190),
    st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16"]),
    st.sampled_from(["centre", "thick", "rectangles", "half", "border", "expand"]),
    st.sampled_from([None, 0]),
    st.integers(0, 99),
)
def test_known_pixels_stay_byte_for_byte(
    height: int, width: int, mode: str, kind: str, blur: int | None, seed: int
) -> None:
    hole = create_advanced_mask(kind, (height, width), seed=seed)[0, 0].numpy() > 0
    image, result = mended(height, width, hole, mode, blur=blur)
    untouched = result.job.soft == 0
    before = open_picture(image).samples
    assert np.array_equal(result.pictures[0].samples[untouched], before[untouched])


def test_the_network_sketches_and_the_picture_has_the_detail() -> None:
    hole = box(400, 380, 56, 46, 194, 174)
    _, own = mended(400, 380, hole)
    _, drawn = mended(400, 380, hole, detail="model")
    levels = own.records[0].levels
    assert [(level.level.scale, bool(level.times)) for level in levels] == [
        (8, True), (16, False), (8, False), (4, False), (2, False), (1, False)
    ]  # fmt: skip
    assert all(level.times for level in drawn.records[0].levels)
    assert own.network_calls < drawn.network_calls


def test_the_network_goes_on_until_enough_is_known() -> None:
    """At an eighth, 33 x 30 pixels, the hole leaves hardly a whole patch; at a quarter there are some hundreds."""
    _, result = mended(260, 240, box(260, 240, 56, 46, 194, 174))
    levels = [(level.level.scale, bool(level.times)) for level in result.records[0].levels]
    assert levels == [(8, True), (4, True), (4, False), (2, False), (1, False)]


def test_a_fill_of_something_else_is_not_brought_to_its_border() -> None:
    """Copied from where all is 0.6 brighter, more than a fill is ever off by: at the border something else begins."""
    x, hole = pattern(SIDE, SIDE, 12) / 4 - 0.5, square()
    x[:, 60:] += 0.6
    patches = Patches(x, hole, 2)
    patches.match = patches.open + 36 * SIDE - 24
    patches.vote()
    before = whole(patches)
    patches.blend(Window(0, 0, SIDE, SIDE))
    torch.testing.assert_close(whole(patches), before, atol=3e-3, rtol=0)


@pytest.mark.parametrize("width", [14, 60])
def test_beside_what_is_calm_a_mosaic_gives_way(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slope is smooth at all levels: whatever the patches say, it goes on."""
    made = Mosaic.made

    def spoilt(self: Mosaic, *args: Any) -> Iterator[tuple[Level, Tensor]]:
        for level, image in made(self, *args):
            yield level, torch.where(torch.from_numpy(level.hole), -1, image)

    monkeypatch.setattr(Mosaic, "made", spoilt)
    image = np.broadcast_to(np.linspace(60, 140, 160).round()[:, None, None], (160, 160, 3)).astype(np.uint8)
    result = inpainting(image, box(160, 160, 50, 50, 100, 50 + width), model=LARGE, device="cpu")
    assert not result.records[0].levels[-1].times
    assert np.abs(result.pictures[0].samples.astype(int) - image).max() <= 2


def test_a_candidate_is_what_its_seed_gives_alone() -> None:
    hole = box(150, 140, 40, 40, 110, 100)
    _, both = mended(150, 140, hole, candidates=2, seed=5)
    _, alone = mended(150, 140, hole, seed=6)
    difference = np.abs(both.pictures[1].samples.astype(int) - alone.pictures[0].samples)
    assert (difference > 2).mean() < 0.01  # a sketch that differs by rounding may match another patch
    assert not np.array_equal(both.pictures[0].samples, both.pictures[1].samples)


def test_where_the_mask_is_a_strength_the_network_draws_all() -> None:
    """A mosaic would be of other places; an edge of a few grey pixels is no reason to do without one."""
    soft = box(150, 140, 40, 40, 110, 100).astype(np.float32)
    edge = soft.copy()
    edge[40:110, 40:44] = edge[40:110, 96:100] = 0.5
    for mask, is_mosaic in ((edge, True), (0.5 * soft, False)):
        levels = mended(150, 140, mask, soft_mask=True)[1].records[0].levels
        assert any(not level.times for level in levels) == is_mosaic


def test_a_sketch_takes_the_steps_of_the_sampler_whatever_the_edge() -> None:
    """Only at the picture's own size an edge is to join at its own levels."""
    soft = box(150, 140, 40, 40, 110, 100).astype(np.float32)
    soft[40:110, 40] = 5 / 255
    _, result = mended(150, 140, soft, soft_mask=True, steps=4)
    sketch = result.records[0].levels[0]
    assert sketch.level.scale > 1
    assert len(sketch.times) == 4


def test_a_mosaic_that_takes_more_memory_than_allowed_is_refused_before_any_work() -> None:
    hole = box(900, 800, 100, 100, 700, 600)
    with pytest.raises(MemoryLimitError, match="at least"):
        mended(900, 800, hole, max_memory="40MB", progress=lambda done, total: pytest.fail("it was begun"))


def test_steps_previews_and_progress_go_on_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    seen: list[Any] = []
    hole = box(150, 140, 40, 40, 110, 100)
    image, result = mended(
        150, 140, hole, save_steps=True,
        progress=lambda done, total: told.append((done, total)),
        preview=lambda candidate, step, make: seen.append(make().samples),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(seen) == len(result.steps[0])
    assert np.array_equal(result.step_picture(-1).samples, result.pictures[0].samples)
    for samples in seen:
        assert np.array_equal(samples[result.job.soft == 0], np.asarray(image)[result.job.soft == 0])


def test_stripes_go_on_across_a_wide_hole() -> None:
    """Black and white, 16 pixels each, in a hole of 120: most of every stripe is right; by chance half would be."""
    stripes = np.where(np.arange(320) // 16 % 2, 255, 0).astype(np.uint8)
    picture = np.broadcast_to(stripes, (300, 320)).copy()
    hole = box(300, 320, 90, 100, 210, 220)
    result = inpainting(picture, hole, model=LARGE, device="cpu", blur=0)
    middles = np.arange(320) % 16 // 4 % 3 != 0
    inside = hole & middles
    wrong = np.abs(result.pictures[0].samples[..., 0].astype(int) - picture)[inside] > 64
    assert wrong.mean() < 0.2


def test_a_picture_is_extended_with_its_own_patches() -> None:
    image = noise_picture(200, 180)
    result = extend(image, right=90, model=LARGE, device="cpu")
    samples = result.pictures[0].samples
    assert samples.shape == (200, 270, 3)
    assert np.array_equal(samples[:, :180], np.asarray(image))
    assert any(not level.times for level in result.records[0].levels)
    assert samples[:, 180:].std() > 30  # noise as well; a network that was never trained is not asked for it


def test_a_fill_that_is_a_little_too_bright_is_brought_to_its_border() -> None:
    """Known answer: copied from where all is 0.18 brighter, it ends as what it was copied for."""
    x, hole = pattern(SIDE, SIDE, 12) / 2, square()
    x[:, 60:] += 0.18  # exact, as the pattern's period is a part of the shift
    patches = Patches(x, hole, 2)
    patches.match = patches.open + 36 * SIDE - 24
    brighter = torch.roll(x, (-36, 24), (1, 2))[:, torch.from_numpy(hole)]
    patches.vote()
    torch.testing.assert_close(whole(patches)[:, torch.from_numpy(hole)], brighter, atol=2e-3, rtol=0)
    patches.blend(Window(0, 0, SIDE, SIDE))
    torch.testing.assert_close(whole(patches), x, atol=3e-3, rtol=0)
