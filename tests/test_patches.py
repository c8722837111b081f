"""Patches: matches are the best there are, what they say is copied, and run into what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from patterns import SIDE, generator, noise, pattern, square
from pixmend import finishing
from pixmend import patches as patches_room
from pixmend.components import Hole
from pixmend.exemplars import FIRST_RADIUS
from pixmend.packed import colours, fixed, loose
from pixmend.patches import Candidates, Patches
from pixmend.soft_masks import dilate
from pixmend.windows import Window, halved_hole

WHOLE = Window(0, 0, SIDE, SIDE)


def whole(patches: Patches) -> Tensor:
    """All that is known and filled, (3, H, W)."""
    return colours(patches.pixels)[:, :3].T.reshape(3, patches.height, patches.width)


def compare(patches: Patches) -> None:
    """Match each patch with all that are known, along their main axes."""
    known = patches.known.nonzero()[:, 0]
    patches._compare(Candidates(known, patches._patches(known)))


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
    known = patches.known.nonzero()[:, 0]
    patches._compare(Candidates(known, patches._patches(known), torch.eye(196)))
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
    known = exact.known.nonzero()[:, 0]
    exact._compare(Candidates(known, exact._patches(known), torch.eye(196)))
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
    monkeypatch.setattr(Patches, "_compare", lambda self, among: compared.append(among.middles))
    monkeypatch.setattr(Patches, "_cohere", lambda self: None)
    monkeypatch.setattr(Patches, "vote", lambda self: None)
    patches.settle(2, 0.5, generator())
    assert [len(set(known.tolist())) for known in compared] == [1500, 1500]
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
    patches.settle(40, 0, generator())
    assert float((whole(patches) - x).abs().mean()) < before / 2


def test_a_vote_of_patches_that_agree_is_a_copy() -> None:
    x, hole = noise(), square()
    patches = Patches(x, hole, 2)
    patches.match = patches.open + 30 * SIDE + 5  # all from 30 rows down and 5 columns to the right
    patches.vote()
    copied = torch.roll(x, (-30, -5), (1, 2))
    wanted = torch.where(torch.from_numpy(hole), copied, x)
    torch.testing.assert_close(whole(patches), wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("radius", [2, 3])
@pytest.mark.parametrize("hole", [np.s_[:6, 11:], np.s_[9:, :7], np.s_[5:9, 6:9], np.s_[:, 16:]])
def test_what_is_said_is_the_mean_over_patches_weighted_by_fit(hole: tuple[slice, slice], radius: int) -> None:
    """Added up patch by patch, of hole and of what is beside it: rows of the picture must not run into each other."""
    x, opened = noise(14, 17), np.zeros((14, 17), bool)
    opened[hole] = True
    patches, side = Patches(x, opened, radius), 2 * radius + 1
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]
    patches.distance = torch.rand(len(patches.open), generator=generator(1))
    usual = float(patches.distance.sort().values[3 * len(patches.open) // 4])
    asked = dilate(torch.from_numpy(opened), 1).flatten().nonzero()[:, 0]
    near = torch.rand(14 * 17, 3, generator=generator(2)) * 2 - 1
    for what in (None, near.numpy()):
        total = np.zeros((14, 17, 4))
        for n, middle in enumerate(patches.open.tolist()):
            (row, column), (down, right) = divmod(middle, 17), divmod(int(patches.match[n]), 17)
            here = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
            there = np.s_[:, down - radius : down + radius + 1, right - radius : right + radius + 1]
            said = np.concatenate([x[there].permute(1, 2, 0).numpy(), np.ones((side, side, 1))], 2)
            weight = np.exp(-float(patches.distance[n]) / (0.5 * usual)) * (1.02 - opened[here].mean())
            if what is not None:
                far = ((said[..., :3] - what.reshape(14, 17, 3)[here]) ** 2).sum(2, keepdims=True)
                weight = weight * np.maximum(np.exp(-far / 0.2**2), 1e-4)
            total[here] += weight * said
        wanted = total.reshape(-1, 4)[asked]
        given = None if what is None else F.pad(near[asked], (0, 1), value=1.0)
        np.testing.assert_allclose(patches.said(asked, given).numpy(), wanted[:, :3] / wanted[:, 3:], atol=1e-3)


def of_two_minds() -> tuple[torch.Tensor, Patches]:
    """A periodic picture, and a vote where two of three patches say it; the third says 0.8 more, from 30 rows down."""
    x = pattern(SIDE, SIDE, 6) / 4 - 0.4
    x[:, 60:] += 0.8
    patches = Patches(x, square(), 2)
    third = (patches.open // SIDE + patches.open % SIDE) % 3 == 0
    patches.match = patches.open + torch.where(third, 30 * SIDE, 30)
    patches.vote()
    return x, patches


def test_at_the_end_a_fill_is_what_most_say_and_not_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    x, patches = of_two_minds()
    inside = torch.from_numpy(square())
    assert float((whole(patches) - x)[:, inside].mean()) == pytest.approx(0.8 / 3, abs=0.02)
    monkeypatch.setattr(Patches, "_cohere", lambda *_, **__: None)  # else all would be copied from the right
    patches.sharpen()
    away = (whole(patches) - x)[:, inside].abs()
    assert float(away.mean()) < 0.02
    assert float(away.max()) < 0.12


def test_at_the_end_matches_hang_together() -> None:
    x, patches = of_two_minds()
    patches.sharpen()
    torch.testing.assert_close(whole(patches), x, atol=2e-3, rtol=0)


def fine(x: Tensor) -> Tensor:
    """How far pixels are from the mean of the 3x3 around them, (3, H, W)."""
    return x - F.avg_pool2d(x[None], 3, 1, 1)[0]


@pytest.mark.parametrize("of_two", [False, True])
def test_fine_detail_that_votes_lose_is_given_back(of_two: bool) -> None:
    """Every patch says something else, and most is lost; or they say one of two things, and a part is."""
    x, inside = noise() / 4, torch.from_numpy(square())
    patches = Patches(x, square(), 2)
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]
    if of_two:
        patches.match = patches.open + torch.where(patches.open % 2 == 0, 30 * SIDE, -30)
    patches.vote()
    before = whole(patches)
    finishing.enliven(patches, WHOLE)
    raised = whole(patches) - before
    lost = fine(before)[:, inside]
    assert not raised[:, ~inside].any()
    if not of_two:
        torch.testing.assert_close(raised[:, inside], 0.5 * lost, atol=2e-3, rtol=0)
    else:
        times = float((raised[:, inside] * lost).sum() / lost.square().sum()) + 1
        usual = fine(x)[:, ~inside].square().mean()
        assert times == pytest.approx(float((usual / lost.square().mean()) ** 0.5), rel=0.05)


@pytest.mark.parametrize("x", [pattern(SIDE, SIDE, 6), torch.full((3, SIDE, SIDE), 0.3)])
def test_a_copy_and_what_is_flat_stay_as_they_are(x: Tensor) -> None:
    patches = Patches(x, square(), 2)
    patches.match = patches.open + 30 * SIDE
    patches.vote()
    finishing.enliven(patches, WHOLE)
    torch.testing.assert_close(whole(patches), x, atol=2e-3, rtol=0)


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


def test_what_the_coarser_level_did_not_have_is_filled_by_what_is_near() -> None:
    """A line so narrow that it is gone when halved, far from the rest of the hole, and of another colour."""
    wide = np.zeros((SIDE, SIDE), bool)
    wide[30:50, 10:30] = True
    hole = wide.copy()
    hole[20:22, 60:90] = True
    fine = 0.1 * noise()
    fine[..., : SIDE // 2] -= 0.6
    fine[..., SIDE // 2 :] += 0.6
    coarse = Patches(F.avg_pool2d(fine, 2), halved_hole(wide), FIRST_RADIUS)
    coarse.settle(4, 0.1, generator())
    finer = coarse.doubled(fine, hole, 2, generator())
    line = whole(finer)[:, torch.from_numpy(hole & ~wide)]
    assert line.min() > 0.3
    assert whole(finer)[:, torch.from_numpy(wide)].max() < -0.3


def test_better_matches_are_found_and_worse_ones_never_taken() -> None:
    x, hole = pattern(SIDE, SIDE, 12), square()
    patches = Patches(x, hole, 2)
    known = patches.known.nonzero()[:, 0]
    patches.match = known[torch.randint(len(known), patches.open.shape, generator=generator())]

    def worth() -> Tensor:
        detail = patches_room._detail(patches._patches(patches.match, sparse=True))
        return patches.distance - patches_room.LOST * patches.filled * detail

    patches.improve((1,), generator(1))
    before = worth()
    for k in range(12):
        patches.improve((8, 1), generator(k))
        assert (worth() <= before + 1e-5).all()
        before = worth()
    assert (patches.distance < 1e-5).float().mean() > 0.9  # x is whole, and every patch of a pattern is there again


def test_what_fits_as_well_is_never_taken_by_chance() -> None:
    """On white paper any match fits; whole pieces stay whole all the same."""
    patches, way = Patches(torch.ones(3, SIDE, SIDE), square(), 2), 32 * SIDE + 5
    patches.match = patches.open + way
    patches.improve((4, 1), generator())
    assert torch.equal(patches.match, patches.open + way)


def test_what_goes_on_as_well_is_taken() -> None:
    """On white paper one patch from elsewhere follows its neighbours, though none is nearer."""
    patches, way = Patches(torch.ones(3, SIDE, SIDE), square(), 2), 32 * SIDE + 5
    patches.match = torch.where(patches.open == 44 * SIDE + 44, 10 * SIDE + 10, patches.open + way)
    patches._cohere()
    assert torch.equal(patches.match[patches.open == 44 * SIDE + 44], torch.tensor([44 * SIDE + 44 + way]))


def test_detail_beyond_the_axes_makes_a_patch_no_nearer() -> None:
    """Of two that are the same along the axes the one with more beyond them is further away."""
    x = noise()
    x[:, 41:48, 41:48] = 0.25
    x[:, 7:14, 7:14] = x[:, 41:48, 41:48] + 0.05 * torch.tensor([1.0, -1.0]).repeat(74)[:147].view(3, 7, 7)
    x[:, 80:87, 80:87] = x[:, 41:48, 41:48] + 0.01
    patches = Patches(x, square(), FIRST_RADIUS)
    patches.filled[:] = 0  # no detail is lost
    known = torch.tensor([10 * SIDE + 10] + 20 * [83 * SIDE + 83])  # most have no such detail
    flat = torch.eye(4)[:, :3].repeat(49, 1) / 7  # mean colours alone
    patches._compare(Candidates(known, patches._patches(known), flat))
    assert patches.match[patches.open == 44 * SIDE + 44] == 83 * SIDE + 83


def test_a_patch_that_is_taken_often_counts_as_less_like() -> None:
    patches = Patches(noise(), square(), FIRST_RADIUS)
    known = patches.known.nonzero()[:, 0]
    patches.match, patches.uses = torch.full_like(patches.open, int(known[100])), torch.zeros(SIDE * SIDE)
    patches.distance[:] = 2
    fair = max(len(patches.open) / len(known), 0.3)
    often = len(patches.open) / 9 / 2  # spread over its 3x3 neighbours, and half of it counts at once
    added = patches._overuse(known)
    assert float(added[100]) == pytest.approx(0.1 * 2 * (often / fair - 1), rel=1e-4)
    assert int((added > 0).sum()) == 9


def test_of_equal_patches_those_taken_less_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches_room, "ROWS", 0)
    patches = Patches(pattern(SIDE, SIDE, 12), square(), FIRST_RADIUS)
    compare(patches)
    before = patches.match.clone()
    patches.uses, patches.distance[:] = torch.zeros(SIDE * SIDE), 1
    compare(patches)
    assert (patches.distance < 1e-4).all()
    assert (patches.match != before).float().mean() > 0.9


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


def copied_from_below(added: Tensor | float, hole: Hole, rows: int = 36, columns: int = -24) -> Patches:
    """A pattern whose hole is a copy of it from further down, to where something was added, (36) or (SIDE)."""
    x = pattern(SIDE, SIDE, 12) / 4 - 0.5
    x[:, 60:] += added
    patches = Patches(x, hole, 2)
    patches.match = patches.open + rows * SIDE + columns
    patches.vote()
    return patches


def off(patches: Patches) -> Tensor:
    """By how much each pixel is, (3, H, W)."""
    return whole(patches) - pattern(SIDE, SIDE, 12) / 4 + 0.5


def test_a_fill_of_something_else_is_not_brought_to_its_border_but_for_a_part_of_the_step() -> None:
    """Copied from where all is 0.6 brighter, more than a fill is ever off by: at the border something else begins."""
    patches, known = copied_from_below(0.6, square()), ~torch.from_numpy(square())
    before = whole(patches)
    finishing.blend(patches, WHOLE)
    torch.testing.assert_close(off(patches)[:, 34:54, 34:54], torch.full((3, 20, 20), 0.6), atol=3e-3, rtol=0)
    for depth, left in enumerate((1 / 3, 2 / 3)):
        along = off(patches)[:, 32 + depth, 36:52]
        torch.testing.assert_close(along, torch.full_like(along, 0.6 * left), atol=3e-3, rtol=0)
    assert torch.equal(whole(patches)[:, known], before[:, known])


def test_so_it_is_where_the_hole_touches_the_pictures_border() -> None:
    hole = np.zeros((SIDE, SIDE), bool)
    hole[:24, 36:60] = True
    patches = copied_from_below(0.6, hole, 60, 0)
    finishing.blend(patches, WHOLE)
    for depth, left in enumerate((1 / 3, 2 / 3)):
        along = off(patches)[:, :20, 36 + depth]
        torch.testing.assert_close(along, torch.full_like(along, 0.6 * left), atol=3e-3, rtol=0)


def test_a_fill_that_is_a_little_more_off_than_a_membrane_takes_keeps_a_part_of_the_rest() -> None:
    patches = copied_from_below(0.3, square())
    finishing.blend(patches, WHOLE)
    for depth, left in enumerate((1 / 3, 2 / 3, 1)):
        along = off(patches)[:, 32 + depth, 38:50]
        torch.testing.assert_close(along, torch.full_like(along, 0.1 * left), atol=4e-3, rtol=0)


def test_where_something_else_begins_beside_what_goes_on_it_is_not_corrected_twice() -> None:
    """Of 0.45 two thirds are made good, the membrane's share of that, which is drawn in from the left, included."""
    added = torch.where(torch.arange(SIDE) < 20, 0.2, 0.45)  # the hole's columns from 44 on are a copy of those from 20
    patches = copied_from_below(added, square())
    finishing.blend(patches, WHOLE)
    along = off(patches)[:, 32, 46:53]
    assert float(along.min()) > 0.15 - 0.2 / 3 - 0.01
    assert float(along.max()) < 0.15 + 0.01


def test_the_border_is_judged_by_what_most_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the patches says something else of the hole and of its border: there is nothing to be corrected."""
    patches = copied_from_below(0.6, square(), 0, 36)
    third = (patches.open // SIDE + patches.open % SIDE) % 3 == 0
    patches.match = torch.where(third, patches.open + 36 * SIDE, patches.match)
    monkeypatch.setattr(Patches, "_cohere", lambda *_, **__: None)
    patches.sharpen()
    finishing.blend(patches, WHOLE)
    assert float(off(patches).abs().mean(0)[torch.from_numpy(square())].mean()) < 0.03


def test_a_fill_that_is_a_little_too_bright_is_brought_to_its_border() -> None:
    """Known answer: copied from where all is 0.18 brighter, it ends as what it was copied for."""
    x, hole = pattern(SIDE, SIDE, 12) / 2, square()
    x[:, 60:] += 0.18  # exact, as the pattern's period is a part of the shift
    patches = Patches(x, hole, 2)
    patches.match = patches.open + 36 * SIDE - 24
    brighter = torch.roll(x, (-36, 24), (1, 2))[:, torch.from_numpy(hole)]
    patches.vote()
    torch.testing.assert_close(whole(patches)[:, torch.from_numpy(hole)], brighter, atol=2e-3, rtol=0)
    finishing.blend(patches, WHOLE)
    torch.testing.assert_close(whole(patches), x, atol=3e-3, rtol=0)
