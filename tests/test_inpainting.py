"""Repairing: exact outside of the hole for any size, mask and mode; the same for the same seed; bad input is told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixmend import budget, levels
from pixmend.backends import with_torch
from pixmend.checkpoint import Model, save_model
from pixmend.efforts import QUALITIES
from pixmend.errors import MaskError, MemoryLimitError, OptionError
from pixmend.images import Picture, encode, open_picture
from pixmend.masks import create_advanced_mask
from pixmend.samplers import SAMPLERS, network_calls
from small_model import MODEL, SMALL, box, mend, noise_picture, small_model


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "I;16"]),
    st.sampled_from(["rectangles", "irregular", "scattered", "alternate-rows", "expand", "border", "thin"]),
    st.sampled_from([None, 0, 1, 3]),
    st.integers(0, 999),
)
def test_known_pixels_are_exact(h: int, w: int, mode: str, kind: str, blur: int | None, seed: int) -> None:
    mask = create_advanced_mask(kind, (h, w), seed=seed)
    image = noise_picture(h, w, "L", seed).convert(mode) if mode == "I;16" else noise_picture(h, w, mode, seed)
    before = open_picture(image)
    try:
        result = mend(image, mask, blur=blur, seed=seed)
    except MaskError as error:
        assert "covers the whole picture" in str(error)  # noqa: PT017  # which masks do is left to chance
        return
    stream = io.BytesIO()
    encode(result.pictures[0], stream, "PNG")
    after = open_picture(Image.open(stream))
    assert after.samples.dtype == before.samples.dtype
    assert after.size == before.size
    touched = result.job.soft > 0
    assert np.array_equal(after.samples[~touched], before.samples[~touched])
    assert result.touched_share == pytest.approx(touched.mean())
    hole = mask[0, 0].numpy() > 0
    assert (result.job.soft[hole] == 1).all()
    assert result.hole_share >= hole.mean() - 1e-6


def test_grey_stays_grey_whatever_the_mode_says() -> None:
    grey = noise_picture(40, 40, "L")
    hole = box(40, 40, 10, 10, 20, 20)
    assert mend(grey, hole).pictures[0].samples.shape == (40, 40, 1)
    rgb = mend(grey.convert("RGB"), hole).pictures[0].samples
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()


def test_alpha_is_the_mask_where_none_is_given() -> None:
    image = noise_picture(40, 40, "RGB").convert("RGBA")
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[5:15, 20:30] = 0
    image.putalpha(Image.fromarray(alpha))
    result = mend(image)
    assert result.hole_share == pytest.approx(100 / 1600)
    assert (result.pictures[0].samples[..., 3] == 255).all()
    with pytest.raises(MaskError, match="nothing is transparent"):
        mend(noise_picture(20, 20))


def test_same_seed_same_result_whatever_is_made_beside_it() -> None:
    image, hole = noise_picture(70, 50), box(70, 50, 10, 5, 60, 45)
    three = mend(image, hole, seed=5, candidates=3)
    assert len(three.pictures) == 3
    for i in range(3):
        alone = mend(image, hole, seed=5 + i)
        difference = alone.pictures[0].samples.astype(int) - three.pictures[i].samples
        assert np.abs(difference).max() <= 1  # the batch is another: rounding may differ
    assert (three.pictures[0].samples != three.pictures[1].samples).mean() > 0.1
    assert three.network_calls < 3 * alone.network_calls, "the coarsest level is one batch"


@pytest.mark.parametrize("blur", [0, 3])
@pytest.mark.parametrize("detail", ["picture", "model"])
@pytest.mark.parametrize("conditioning", ["known-aware", "plain"])
def test_what_stood_in_the_hole_is_never_used(conditioning: str, detail: str, blur: int) -> None:
    """Neither the fill nor its soft edge may know what the mask covers."""
    hole = box(50, 50, 12, 12, 40, 40)
    one = np.asarray(noise_picture(50, 50)).copy()
    other = one.copy()
    other[hole] = 255 - other[hole]
    model = small_model(conditioning=conditioning)
    a, b = (mend(each, hole, model=model, detail=detail, blur=blur).pictures[0].samples for each in (one, other))
    assert np.array_equal(a, b)


def test_steps_can_be_kept_and_the_last_is_the_result() -> None:
    image, hole = noise_picture(40, 40), box(40, 40, 10, 10, 14, 14)  # narrow enough for one level
    seen: list[tuple[int, int]] = []
    more: dict[str, Any] = {"steps": 4, "save_steps": True, "candidates": 2, "blur": 0}
    result = mend(image, hole, **more, progress=lambda *x: seen.append(x))
    assert [len(states) for states in result.steps] == [4, 4]
    assert seen == [(i, 8) for i in range(2, 9, 2)], "two tiles a call"
    for i in range(2):
        assert np.array_equal(result.step_picture(3, i).samples, result.pictures[i].samples)
    first, known = result.step_picture(0).samples, result.job.soft == 0
    assert np.array_equal(first[known], np.asarray(image)[known])
    with pytest.raises(OptionError, match="save_steps=True"):
        mend(image, hole).step_picture(0)


def test_the_network_is_asked_as_often_as_told_and_only_near_the_hole() -> None:
    sizes: list[tuple[int, ...]] = []
    model = small_model()
    model.network.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    result = mend(noise_picture(300, 400), box(300, 400, 100, 100, 104, 104), model=model, steps=3, blur=0)
    assert result.network_calls == 3
    assert [part.window.shape for part in result.job.parts] == [(16, 16)], "one tile"
    assert sizes == [(1, 7, 16, 16)] * 3


def test_an_untrained_model_is_allowed_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="never trained"):
        mend(noise_picture(20, 20), box(20, 20, 5, 5, 9, 9), model=Model.new(SMALL, size=16))


def test_a_model_file_needs_its_path_alone(tmp_path: Path) -> None:
    image, hole = noise_picture(30, 30), box(30, 30, 5, 5, 12, 12)
    file = save_model(tmp_path / "m.safetensors", MODEL, dtype=torch.float32)
    assert np.array_equal(mend(image, hole, model=file).pictures[0].samples, mend(image, hole).pictures[0].samples)


def test_colour_anywhere_in_a_picture_allows_colour_in_its_fill() -> None:
    """Whether a picture is grey is a matter of all of it, not of the window around a hole."""
    samples = np.repeat(np.asarray(noise_picture(300, 40))[..., :1], 3, axis=2)
    hole = box(300, 40, 8, 8, 16, 16)
    mended = mend(samples, hole, blur=0).pictures[0].samples[hole]
    assert (mended == mended[:, :1]).all()
    samples[-1, -1] = 255, 0, 0
    mended = mend(samples, hole, blur=0).pictures[0].samples[hole]
    assert (mended != mended[:, :1]).any()


def test_invert_grow_and_soft_masks() -> None:
    image, hole = noise_picture(40, 40), box(40, 40, 10, 10, 20, 20)
    assert mend(image, ~hole, invert_mask=True, blur=0).hole_share == pytest.approx(100 / 1600)
    assert mend(image, hole, grow=2, blur=0).hole_share == pytest.approx(14 * 14 / 1600)
    strength = np.zeros((40, 40), np.float32)
    strength[10:20, 10:20] = 0.4
    result = mend(image, strength, soft_mask=True, steps=5)
    assert result.hole_share == result.touched_share == pytest.approx(100 / 1600)
    with pytest.raises(MaskError, match="the mask covers the whole picture"):
        mend(image, np.full((40, 40), 0.4, np.float32), soft_mask=True)


@pytest.mark.parametrize("strength", [0.9, 0.3, 0.1, 0.05])
def test_the_faintest_strength_takes_part(strength: float) -> None:
    """A pixel joins the hole at the noise level of its strength, and few calls end above that of a faint one."""
    image, mask = noise_picture(40, 40), np.zeros((40, 40), np.float32)
    mask[10:20, 10:20] = strength
    result = mend(image, mask, soft_mask=True, steps=3)
    assert result.records[0].levels[-1].times[-1] < strength * 1000
    assert (result.pictures[0].samples[12:18, 12:18] != np.asarray(image)[12:18, 12:18]).any()


def test_a_soft_edge_that_leaves_nothing_known_is_named() -> None:
    with pytest.raises(MaskError, match=r"with its soft edge covers the whole picture.*smaller --blur"):
        mend(noise_picture(20, 20), box(20, 20, 5, 5, 15, 15), blur=20)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.zeros((20, 20), bool), "marks nothing"),
        (np.ones((20, 20), bool), "covers the whole picture"),
        (np.zeros((20, 21), bool), "21 x 20 pixels and the picture 20 x 20"),
    ],
)
def test_masks_that_cannot_be(mask: NDArray[np.bool_], told: str) -> None:
    with pytest.raises(MaskError, match=told):
        mend(noise_picture(20, 20), mask)


def test_a_single_pixel_has_nothing_to_go_on() -> None:
    with pytest.raises(MaskError, match="covers the whole picture"):
        mend(noise_picture(1, 1), np.ones((1, 1), bool))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 1001}, {"candidates": 0}, {"sampler": "magic"}, {"device": "abacus"}, {"blur": -1}],
)
def test_options_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        mend(noise_picture(20, 20), box(20, 20, 5, 5, 9, 9), **wrong)


@pytest.mark.parametrize("light", [(255, 255), (150, 230)])
def test_a_clear_sky_stays_clear(light: tuple[int, int]) -> None:
    """White, and blue that grows lighter, whatever the network says: MODEL is of chance."""
    sky = np.linspace(*light, 150).round()[:, None, None] - np.array([100, 50, 0]) * (light[0] < 255)
    image = Image.fromarray(np.broadcast_to(sky, (150, 200, 3)).astype(np.uint8))
    result = mend(image, box(150, 200, 50, 50, 75, 100))
    assert len(result.records[0].levels) > 1
    assert np.abs(result.pictures[0].samples.astype(int) - np.asarray(image)).max() <= 2


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_sixteen_bits_of_which_a_few_are_used_are_filled_as_well_as_all(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hole holds, here white of 16 bits, does not count. In bfloat16 both would be rounded to 8 bits."""
    monkeypatch.setattr("pixmend.backends.with_torch.fast_dtype", lambda _: torch.float32)
    rng, hole = np.random.default_rng(5), box(60, 50, 20, 20, 34, 30)
    grey = rng.integers(0, 2**bits, (60, 50)).astype(np.uint16)
    grey[0, 0] = 2**bits - 1
    grey[hole] = 65535
    few = mend(grey, hole, blur=0, backend="torch").pictures[0]
    full = (grey.astype(np.float64) * 65535 / (2**bits - 1)).clip(0, 65535).round().astype(np.uint16)
    whole = mend(full, hole, blur=0, backend="torch").pictures[0]
    filled, scaled = few.samples[hole], whole.samples[hole] * ((2**bits - 1) / 65535)
    assert filled.max() < 2**bits
    assert np.abs(filled - scaled).max() <= 1 + 2**bits / 1000  # the full one is rounded elsewhere
    assert few.span == (0, 65535)


def test_floats_are_filled_within_what_is_known() -> None:
    """Measurements have absurd values where nothing was measured."""
    hole = box(60, 50, 20, 20, 34, 30)
    values = np.random.default_rng(5).random((60, 50), np.float32) + 3
    values[hole] = -9999
    [filled] = mend(Picture(values[..., None]).spanned(), hole, blur=0).pictures
    assert 3 <= filled.samples[hole].min() <= filled.samples[hole].max() <= 4


def test_a_perfect_network_mends_perfectly() -> None:
    """A network that knows the picture: coarse to fine, tiles, steps and composite together lose nothing."""
    smooth = Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 5, 3), np.uint8)).resize((48, 48))
    truth = torch.from_numpy(open_picture(smooth).colour()).permute(2, 0, 1)[None]
    truth = torch.nn.functional.pad(truth, (0, 16, 0, 16))  # as a picture below the network's size is
    model = small_model()
    alpha_bars = model.diffusion.alpha_bars

    class Oracle(torch.nn.Module):
        """Answers v for the true picture: v = (sqrt(alpha_bar) x_t - x0) / sqrt(1 - alpha_bar)."""

        config = SMALL

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            a = alpha_bars[int(t[0])].float()
            assert x.shape[-2:] == truth.shape[-2:]
            return (a.sqrt() * x[:, :3] - truth) / (1 - a).sqrt()

    model.network = Oracle()  # type: ignore[assignment]
    model.size = 64
    result = mend(smooth, box(48, 48, 10, 10, 30, 40), model=model, steps=10)
    error = result.pictures[0].samples.astype(int) - np.asarray(smooth).astype(int)
    assert np.abs(error).max() <= 3  # rounding at t = 999 is divided by a small alpha_bar only at the first step


@pytest.mark.parametrize("conditioning", ["plain", "known-aware"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_what_is_known_and_tells_its_steps(sampler: str, conditioning: str) -> None:
    """Over two levels, around a hole with a soft edge: RePaint's many calls are announced as many."""
    image, hole = noise_picture(40, 30), box(40, 30, 4, 4, 30, 26)
    steps, told = 13, list[tuple[int, int]]()
    result = mend(
        image,
        hole,
        model=small_model(conditioning=conditioning),
        sampler=sampler,
        steps=steps,
        blur=2,
        progress=lambda *x: told.append(x),
    )
    before, after = np.asarray(image), result.pictures[0].samples
    soft = result.job.soft
    assert 0 < (soft > 0).sum() - (soft >= 1).sum(), "there is a soft edge"
    assert np.array_equal(after[soft == 0], before[soft == 0])
    assert not np.array_equal(after[soft >= 1], before[soft >= 1])
    done, totals = zip(*told, strict=True)
    assert done[-1] == totals[0]
    assert set(totals) == {done[-1]}, "as many as announced"
    assert len(told) == result.network_calls
    coarsest, finer = result.records[0].levels[0], result.records[0].levels[1:]
    assert coarsest.calls == network_calls(sampler, steps)
    wanted = (*QUALITIES["balanced"].finer, QUALITIES["balanced"].finer[-1])
    assert [level.calls for level in finer] == [network_calls(sampler, n) for n in wanted[: len(finer)]]


# ------------------------------------------------------------------------------------------- pictures of any size


@pytest.mark.parametrize(
    ("shape", "hole"),
    [
        ((1, 2), (0, 0, 1, 1)),
        ((1, 700), (0, 100, 1, 650)),
        ((700, 3), (600, 0, 700, 3)),
        ((500, 20_000), (100, 3000, 140, 3500)),
        ((61, 47), (0, 0, 30, 47)),
        ((61, 47), (40, 30, 61, 47)),
    ],
)
def test_any_shape_with_holes_at_borders_and_corners(shape: tuple[int, int], hole: tuple[int, int, int, int]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mask = box(*shape, *hole)
    after = mend(samples, mask, blur=0).pictures[0].samples
    assert np.array_equal(after[~mask], samples[~mask])
    assert (after[mask] != samples[mask]).any()


@pytest.mark.parametrize("shape", [(1, 2), (40, 40), (37, 150)])
def test_all_but_one_pixel(shape: tuple[int, int]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    mask = np.ones(shape, bool)
    mask[0, shape[1] // 2] = False
    result = mend(samples, mask)
    assert np.array_equal(result.pictures[0].samples[~mask], samples[~mask])
    assert result.hole_share == pytest.approx(1 - 1 / mask.size)


def test_holes_far_apart_do_not_know_of_each_other() -> None:
    """The fill of one is the same beside the other, and nothing between their windows was ever in floats."""
    image = noise_picture(200, 300)
    one, other = box(200, 300, 20, 20, 40, 30), box(200, 300, 150, 250, 160, 270)
    alone, both = mend(image, one), mend(image, one | other)
    assert len(both.job.parts) == 2
    window = both.job.parts[0].window
    assert np.array_equal(window.of(alone.pictures[0].samples), window.of(both.pictures[0].samples))
    assert not np.array_equal(both.pictures[0].samples, alone.pictures[0].samples)


def test_the_result_does_not_depend_on_the_batch_of_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32; what remains is the order of sums inside the network, 1e-6 of a step of 8 bits."""
    monkeypatch.setattr(with_torch, "fast_dtype", lambda device: torch.float32)
    image, hole = noise_picture(90, 80), box(90, 80, 10, 10, 80, 60)
    results = []
    for pixels in (16 * 16, 5 * 16 * 16, 1000 * 16 * 16):
        monkeypatch.setitem(budget.MOST_PIXELS, "cpu", pixels)
        results.append(mend(image, hole, save_steps=True))
    assert results[0].network_calls > results[1].network_calls > results[2].network_calls
    for result in results[1:]:
        torch.testing.assert_close(result.steps[0][-1].state, results[0].steps[0][-1].state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_large_level_is_filled_in_blocks(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known pixels exact, all of the hole filled, as many tiles as told; the state of a block is small."""
    monkeypatch.setattr(levels, "BLOCK", blocks)
    samples = np.asarray(noise_picture(130, 100))
    mask = box(130, 100, 5, 0, 100, 90) & (np.random.default_rng(0).random((130, 100)) < 0.7)
    mask[20:60, 30:80] = True
    told: list[tuple[int, int]] = []
    result = mend(samples, mask, blur=0, candidates=2, save_steps=True, progress=lambda *x: told.append(x))
    assert result.hole_share == pytest.approx(mask.mean()), "the mask is left as it was"
    for picture in result.pictures:
        assert np.array_equal(picture.samples[~mask], samples[~mask])
        assert (picture.samples[mask] != samples[mask]).any(1).mean() > 0.9
    assert told[-1][0] == told[-1][1]
    assert max(max(step.state.shape[-2:]) for step in result.steps[0][:-1]) <= 16 * (blocks + 2)
    alone = mend(samples, mask, blur=0, seed=1)
    assert alone.hole_share == result.hole_share
    assert np.abs(alone.pictures[0].samples.astype(int) - result.pictures[1].samples).max() <= 1


def test_a_budget_that_holds_one_tile_is_enough_and_less_is_told() -> None:
    image, hole = noise_picture(90, 80), box(90, 80, 10, 10, 80, 60)
    with pytest.raises(MemoryLimitError, match="at least") as told:
        mend(image, hole, max_memory="100 kB")
    (least,) = re.findall(r"at least ([0-9,]+) MB", str(told.value))
    little = mend(image, hole, max_memory=f"{least}MB")
    assert little.network_calls > mend(image, hole).network_calls


def test_of_several_windows_the_most_is_told() -> None:
    image = noise_picture(300, 600)
    hole = box(300, 600, 10, 10, 14, 14) + box(300, 600, 120, 440, 180, 500)
    with pytest.raises(MemoryLimitError, match="at least") as told:
        mend(image, hole, max_memory="100 kB")
    (least,) = re.findall(r"at least ([0-9,]+) MB", str(told.value))
    assert len(mend(image, hole, max_memory=f"{least}MB").job.parts) == 2


@pytest.mark.parametrize("middle", [20, 200, 420, 800, 1180])
@pytest.mark.parametrize("detail", ["picture", "model"])
def test_a_stain_upon_a_scratch_longer_than_a_block_at_every_level(middle: int, detail: str) -> None:
    """Of the coarser levels the scratch is gone, and one block has all of their hole."""
    samples = np.random.default_rng(0).integers(0, 256, (40, 1200, 3), np.uint8)
    mask = np.zeros((40, 1200), bool)
    mask[20, 5:1195] = True
    mask[6:34, middle - 14 : middle + 14] = True
    told: list[tuple[int, int]] = []
    result = mend(samples, mask, steps=2, detail=detail, progress=lambda *x: told.append(x), candidates=2)
    scales = {level.level.scale for record in result.records for level in record.levels}
    assert max(scales) > 1
    assert told[-1][0] == told[-1][1]
    for picture in result.pictures:
        assert np.array_equal(picture.samples[~mask], samples[~mask])
        assert (picture.samples[mask] != samples[mask]).any(1).mean() > 0.9


def test_a_faint_strip_beside_what_is_solid_where_a_level_has_no_hole() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (80, 1800, 3), np.uint8)
    mask = np.zeros((80, 1800), np.float32)
    mask[8:20, 25:1775], mask[40, 800] = 0.4, 1
    result = mend(samples, mask, steps=2, soft_mask=True)
    assert not all(level.level.hole.any() for record in result.records for level in record.levels)
    assert np.array_equal(result.pictures[0].samples[mask == 0], samples[mask == 0])


def test_progress_that_raises_stops_after_that_call() -> None:
    calls: list[int] = []
    model = small_model()
    model.network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))

    def stop(done: int, total: int) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mend(noise_picture(90, 80), box(90, 80, 10, 10, 80, 60), model=model, progress=stop)
    assert len(calls) == 3


def test_the_preview_is_the_picture_as_it_is() -> None:
    image = noise_picture(120, 200)
    hole = box(120, 200, 10, 10, 40, 40) | box(120, 200, 90, 170, 100, 180)
    seen: dict[int, list[Any]] = {0: [], 1: []}

    def preview(candidate: int, step: int, make: Callable[[], Picture]) -> None:
        assert step == len(seen[candidate])
        seen[candidate].append(make().samples)

    result = mend(image, hole, candidates=2, save_steps=True, preview=preview)
    untouched = result.job.soft == 0
    for candidate, pictures in seen.items():
        assert len(pictures) == len(result.steps[candidate])
        parts = [step.part for step in result.steps[candidate]]
        for step, samples in enumerate(pictures[:-1]):
            assert np.array_equal(samples[untouched], np.asarray(image)[untouched])
            if parts[step] == parts[step + 1]:  # the last step of a part is shown without its grain
                assert np.array_equal(samples, result.step_picture(step, candidate).samples)


@pytest.mark.parametrize("wrong", [{"quality": "supreme"}, {"detail": "mine"}, {"max_memory": "much"}])
def test_budgets_that_cannot_be(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        mend(noise_picture(20, 20), box(20, 20, 5, 5, 9, 9), **wrong)


def test_quality_is_network_calls() -> None:
    model = small_model()
    model.steps = 6
    image, hole = noise_picture(60, 60), box(60, 60, 10, 10, 50, 50)
    steps = {}
    for quality in QUALITIES:
        records = mend(image, hole, model=model, quality=quality).records[0].levels
        steps[quality] = [len(record.times) for record in records]
    assert steps["fast"][0] < steps["balanced"][0] == 6 < steps["best"][0]
    assert sum(steps["fast"]) < sum(steps["balanced"]) < sum(steps["best"])
    assert mend(image, hole, model=model, steps=3).records[0].levels[0].times == [999, 666, 332]


@pytest.mark.parametrize("edge", ["--blur 5", "a halo of 25 pixels"])
def test_what_a_soft_edge_leaves_is_known_to_the_fill(edge: str) -> None:
    """With the model that ships: colours that run into each other go on in the hole, however wide its edge."""
    down, right = np.mgrid[:160, :160] / 160
    truth = np.stack([200 * down + 20, 90 + 80 * np.sin(4 * right + 2 * down), 220 - 150 * right], -1).astype(np.uint8)
    hole = box(160, 160, 65, 65, 95, 95)
    given = np.where(hole[..., None], np.array([255, 0, 0], np.uint8), truth)
    if edge == "--blur 5":
        result = mend(given, hole, blur=5, model=None)
    else:
        apart = np.maximum.reduce([65 - 160 * down, 160 * down - 94, 65 - 160 * right, 160 * right - 94])
        result = mend(given, (1 - apart / 25).clip(0, 1).astype(np.float32), soft_mask=True, model=None)
    assert np.abs(result.pictures[0].samples[hole].astype(float) - truth[hole]).mean() < 6
