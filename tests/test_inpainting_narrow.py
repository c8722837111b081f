"""Narrow holes: filled first, by what the model has for them; and the mean as the guide of what is drawn."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixmend.backends import Careful, OpenNetwork, open_network
from pixmend.checkpoint import Model
from pixmend.explain import explanation
from pixmend.images import Picture, open_picture
from pixmend.inpainting import Inpainted
from pixmend.windows import AROUND
from small_model import SMALL, box, mend, noise_picture, small_model


def with_narrow() -> Model:
    model, narrow = small_model(), Model.new_mean(SMALL, size=16, seed=2)
    with torch.no_grad():
        narrow.network.last.weight.normal_(0, 0.1)
    model.mean = narrow
    return model


def levels_of(result: Inpainted) -> list[list[list[int]]]:
    return [[level.times for level in record.levels] for record in result.records]


def test_narrow_holes_are_filled_by_what_the_model_has_for_them() -> None:
    image, model = noise_picture(200, 40), with_narrow()
    line, wide = box(200, 40, 3, 5, 6, 35), box(200, 40, 170, 10, 185, 30)
    alone = mend(image, line, model=model, blur=2)
    assert levels_of(alone) == [[[0]]]
    assert alone.network_calls == 1
    drawn = mend(image, wide, model=model, blur=2)
    both = mend(image, line | wide, model=model, blur=2)
    assert levels_of(both) == levels_of(alone) + levels_of(drawn)
    assert [record.part.narrow for record in both.records] == [True, False]
    assert [window["narrow"] for window in explanation(both)["windows"]] == [True, False]
    assert both.network_calls == 1 + drawn.network_calls
    apart = np.where(np.arange(200)[:, None, None] < 50, alone.pictures[0].samples, drawn.pictures[0].samples)
    assert np.array_equal(both.pictures[0].samples, apart)


def test_the_best_quality_asks_the_mean_of_mirror_images_too() -> None:
    image, model = noise_picture(60, 60), with_narrow()
    line, wide = box(60, 60, 20, 5, 23, 55), box(60, 60, 35, 20, 45, 30)
    told: list[tuple[int, int]] = []
    calls = {}
    for quality in ("balanced", "best"):
        result = mend(image, line, model=model, quality=quality)
        calls[quality] = result.network_calls
        told.clear()
        both = mend(image, line | wide, model=model, quality=quality, progress=lambda *now: told.append(now))
        assert told[-1][0] == told[-1][1], "what is counted beforehand is what is done"
        assert {part.narrow for part in both.job.parts} == {True, False}
    assert calls == {"balanced": 1, "best": 4}


def scratched_and_stained() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Hairlines across a picture of 200x60, and a stain that some of them run into."""
    hairlines = np.zeros((200, 60), bool)
    hairlines[10::20] = True
    return hairlines, box(200, 60, 100, 15, 130, 45)


def test_what_is_narrow_is_filled_first_beside_what_is_wide() -> None:
    image, model = noise_picture(200, 60), with_narrow()
    hairlines, stain = scratched_and_stained()
    result = mend(image, hairlines | stain, model=model, candidates=2)
    flags = [part.narrow for part in result.job.parts]
    assert flags == sorted(flags, reverse=True)
    assert set(flags) == {True, False}
    near = np.zeros((200, 60), bool)
    near[100 - AROUND : 130 + AROUND] = True  # more or less: what is near to the stain is filled with it
    assert (result.job.narrow <= hairlines).all()
    assert (result.job.narrow | near)[hairlines].all()
    alone, apart = mend(image, result.job.narrow, model=model, candidates=2), result.job.narrow & ~near
    for own, other in zip(result.pictures, alone.pictures, strict=True):
        assert np.array_equal(own.samples[apart], other.samples[apart])
    filled = np.where(result.job.narrow[..., None], result.pictures[0].samples, np.asarray(image))
    wide = mend(filled, result.job.hole & ~result.job.narrow, model=model)
    difference = wide.pictures[0].samples.astype(int) - result.pictures[0].samples
    assert np.abs(difference).max() <= 2, "the wide hole is filled as if the narrow ones had never been"
    untouched = result.job.soft == 0
    assert np.array_equal(result.pictures[0].samples[untouched], np.asarray(image)[untouched])


def test_what_stands_in_a_wide_hole_is_not_used_for_narrow_ones() -> None:
    hairlines, stain = scratched_and_stained()
    one = np.asarray(noise_picture(200, 60)).copy()
    other = one.copy()
    other[stain] = 255 - other[stain]
    first, second = (mend(image, hairlines | stain, model=with_narrow()) for image in (one, other))
    assert np.array_equal(first.pictures[0].samples, second.pictures[0].samples)


def test_steps_of_narrow_holes_are_those_of_every_candidate() -> None:
    hairlines, stain = scratched_and_stained()
    seen: list[tuple[int, int]] = []
    result = mend(
        noise_picture(200, 60),
        hairlines | stain,
        model=with_narrow(),
        candidates=2,
        save_steps=True,
        preview=lambda candidate, step, make: seen.append((candidate, step)),
        progress=lambda done, total: None,
    )
    assert seen[:2] == [(0, 0), (1, 0)]
    many = sum(part.narrow for part in result.job.parts)
    for i in range(2):
        assert np.array_equal(result.step_picture(-1, i).samples, result.pictures[i].samples)
        first = result.step_picture(many - 1, i).samples
        assert np.array_equal(first[result.job.narrow], result.pictures[i].samples[result.job.narrow])
        wide = (result.job.soft > 0) & ~result.job.narrow
        assert np.array_equal(first[wide], np.asarray(noise_picture(200, 60))[wide])


def test_narrow_holes_are_one_level_however_soft_their_edge() -> None:
    hole = box(100, 100, 50, 5, 53, 95)
    result = mend(noise_picture(100, 100), hole, model=with_narrow(), blur=20)
    assert levels_of(result) == [[[0]]]
    touched = result.job.soft > 0
    before = open_picture(noise_picture(100, 100)).samples
    assert np.array_equal(result.pictures[0].samples[~touched], before[~touched])


@pytest.mark.parametrize("asked", [{"steps": 2}, {"sampler": "unipc"}, {"soft_mask": True}])
def test_a_sampler_that_is_asked_for_and_grey_masks_are_for_the_model_itself(asked: dict[str, Any]) -> None:
    image, line = noise_picture(40, 40), box(40, 40, 3, 5, 5, 35)
    mask = np.where(line, 255, 0).astype(np.uint8)
    mask[4] //= 1 + ("soft_mask" in asked)
    own, without = (mend(image, mask, model=model, **asked) for model in (with_narrow(), small_model()))
    assert levels_of(own) == levels_of(without)
    assert not own.job.narrow.any()


def test_the_mean_is_the_guide_of_what_is_drawn() -> None:
    """Untrained, the second network answers its own guide: nothing changes but the number of calls."""
    image, wide = noise_picture(60, 60), box(60, 60, 10, 10, 22, 24)
    own, without, other = small_model(), small_model(), with_narrow()
    own.mean = Model.new_mean(SMALL, size=16)
    same, alone, others = (mend(image, wide, model=model, candidates=2) for model in (own, without, other))
    for i in range(2):
        assert np.array_equal(same.pictures[i].samples, alone.pictures[i].samples)
        assert not np.array_equal(others.pictures[i].samples, alone.pictures[i].samples)
    assert same.network_calls == alone.network_calls + 1, "of both candidates at the coarsest level"


@pytest.mark.parametrize("candidates", [1, 2])
def test_progress_counts_the_guide_and_ends_at_its_end(candidates: int) -> None:
    hairlines, stain = scratched_and_stained()
    for hole in (hairlines | stain, stain, box(200, 60, 10, 10, 22, 24)):
        seen: list[tuple[int, int]] = []
        mend(
            noise_picture(200, 60),
            hole,
            model=with_narrow(),
            candidates=candidates,
            progress=lambda *x, seen=seen: seen.append(x),
        )
        assert len({total for _, total in seen}) == 1
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1][0] == seen[-1][1]


def test_known_gaps_stay_known_under_a_soft_edge() -> None:
    """The edges of lines six pixels apart meet: what is between them is soft all over, and is not the hole."""
    lines = np.zeros((100, 60), bool)
    lines[6:90:6] = lines[7:90:6] = True
    for blur in (1, 2, 3):
        result = mend(noise_picture(100, 60), lines, model=with_narrow(), blur=blur)
        assert result.hole_share == lines.mean()
        assert np.array_equal(result.job.narrow, lines)


def test_what_is_filled_first_has_its_grain_where_wide_holes_are_filled_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    level_tensors = importlib.import_module("pixmend.levels").level_tensors

    def recorded(picture: Picture, *arguments: Any) -> Any:
        seen.append(picture.samples.copy())
        return level_tensors(picture, *arguments)

    module = importlib.import_module("pixmend.inpainting")
    monkeypatch.setattr(module, "level_tensors", recorded)
    model, picture = with_narrow(), np.full((200, 60, 3), 128, np.uint8)
    model.mean = Model.new_mean(SMALL, size=16)  # which answers the smooth fill
    picture += np.random.default_rng(0).integers(0, 20, (200, 60, 1), np.uint8)
    hairlines, stain = scratched_and_stained()
    narrow = mend(picture, hairlines | stain, model=model).job.narrow
    assert seen[-1][narrow].std() > 0.8 * picture[~hairlines].std()


def test_a_hole_that_cannot_be_seen_across_is_not_guided() -> None:
    most = box(60, 60, 2, 2, 58, 58)
    own, without = (mend(noise_picture(60, 60), most, model=model) for model in (with_narrow(), small_model()))
    assert own.network_calls == without.network_calls
    assert np.array_equal(own.pictures[0].samples, without.pictures[0].samples)


def test_a_network_that_takes_no_guide_is_given_none() -> None:
    model = small_model(conditioning="plain")
    model.mean = with_narrow().mean
    result = mend(noise_picture(60, 60), box(60, 60, 10, 10, 22, 24), model=model)
    model.mean = None
    again = mend(noise_picture(60, 60), box(60, 60, 10, 10, 22, 24), model=model)
    assert result.network_calls == again.network_calls
    assert np.array_equal(result.pictures[0].samples, again.pictures[0].samples)


def test_what_is_known_is_used_up_to_a_narrow_hole_however_soft_its_edge() -> None:
    waves = 128 + 100 * np.sin(2 * np.pi * np.arange(100) / 24)
    picture = np.repeat(waves.round().astype(np.uint8)[:, None], 100, axis=1)
    model = with_narrow()
    model.mean = Model.new_mean(SMALL, size=16)  # which answers the guide
    result = mend(picture, box(100, 100, 50, 5, 53, 95), model=model, blur=8)
    assert np.abs(result.pictures[0].samples[..., 0].astype(int) - picture).max() <= 8


def test_a_part_of_another_size_works_in_tiles_of_the_model() -> None:
    model = with_narrow()
    assert model.mean is not None
    model.mean.size = 32
    result = mend(noise_picture(100, 100), box(100, 100, 50, 5, 53, 95), model=model)
    (level,) = result.records[0].levels
    assert (level.level.size, int(level.level.needed.sum())) == (16, 3 * 90)


def test_an_open_network_is_of_the_model_and_not_of_its_part() -> None:
    model, image, line = with_narrow(), noise_picture(40, 40), box(40, 40, 3, 5, 5, 35)
    network = open_network(model, "torch", "cpu")
    assert np.array_equal(
        mend(image, line, model=model, backend=network).pictures[0].samples,
        mend(image, line, model=model, backend="torch").pictures[0].samples,
    )


@pytest.mark.parametrize("falls_back", [True, False])
def test_what_was_left_to_pixmend_is_left_to_it_for_narrow_holes_too(
    falls_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def kept_open(model: Model, backend: str | None, device: str | None) -> OpenNetwork:
        asked.append((backend, device))
        return open_network(model, "torch", "cpu")

    module = importlib.import_module("pixmend.inpainting")
    monkeypatch.setattr(module, "kept_open", kept_open)
    model = with_narrow()
    sure = open_network(model, "torch", "cpu")
    mend(
        noise_picture(40, 40),
        box(40, 40, 3, 5, 5, 35),
        model=model,
        backend=Careful(sure, sure if falls_back else None),
    )
    assert asked == [(None if falls_back else "torch", "cpu")]
