"""Mosaics: where one is made, that a pattern goes on as it was, and that what is known stays."""

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

from patterns import generator, no_tick, noise, pattern, square
from pixmend import finishing
from pixmend import patches as patches_room
from pixmend.components import Hole
from pixmend.errors import MemoryLimitError
from pixmend.exemplars import FEWEST, FIRST_RADIUS, Mosaic, mosaic_of, plan_mosaic
from pixmend.extending import extend
from pixmend.images import open_picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.levels import Level, plan_levels
from pixmend.masks import create_advanced_mask
from pixmend.packed import fixed, loose
from pixmend.patches import Patches
from pixmend.windows import find_parts, halved_hole
from small_model import box, noise_picture, small_model


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
    _, own = plan_mosaic(hole, part, plan_levels(hole, hole, part, size))
    samples = ((pattern(hole.shape[0], hole.shape[1], 16).permute(1, 2, 0).numpy() + 1) * 127).round().astype(np.uint8)
    mosaic = mosaic_of(open_picture(samples), part, own) if own else None
    return mosaic, [level.area.shape for level in own]


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


def test_a_ruled_page_goes_on_to_the_pixel() -> None:
    """Where many patches fit equally well none is taken by chance: lines stay lines."""
    hole = square(256, 90, 76)
    mosaic, _ = planned(hole)
    assert mosaic is not None
    page = torch.ones(1, 3, 256, 256)
    page[..., ::16] = page[..., ::16, :] = -1
    known = [page]
    for _ in mosaic.levels[1:]:
        known.append(torch.nn.functional.avg_pool2d(known[-1], 2))
    areas = [level.area for level in mosaic.levels]
    own = [x[..., a.top : a.bottom, a.left : a.right] for x, a in zip(known, areas, strict=True)]
    ruled = Mosaic(mosaic.levels, [fixed(x) for x in own])
    [*_, (level, image)] = ruled.made(own[-1], mosaic.levels[-1], 10, 4, generator(), no_tick)
    error = (image - known_at(ruled, level))[0][:, torch.from_numpy(level.hole)].abs()
    assert float(error.mean()) < 0.01


def test_levels_double_and_end_one_below_the_sketch() -> None:
    hole = square(501, 91, 128)
    [part] = find_parts(hole, 64)
    levels = plan_levels(hole, hole, part, 64)
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
        monkeypatch.setattr(finishing, "CHUNK", chunk)
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
