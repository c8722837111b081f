"""Texture: noise grows in brightness, by as much as said, where surroundings are rough; fills are calm beside calm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pixmend import texture
from pixmend.conditioning import smooth_fill
from pixmend.filling import Filled
from pixmend.levels import Level
from pixmend.texture import CALM, LIVELY, NEAR, ROUGH, calmed, calmness, livening, roughness
from pixmend.windows import Window

SIDE, MORE = 64, 0.08


def square() -> Tensor:
    hole = torch.zeros(1, 1, SIDE, SIDE)
    hole[..., 16:48, 16:48] = 1
    return hole


def chequered(amplitude: float) -> Tensor:
    signs = 1 - 2 * ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2)
    return amplitude * signs.float().expand(1, 3, SIDE, SIDE)


def noise(count: int = 1) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def calm_fill(fill: Tensor, x: Tensor, hole: Tensor) -> Tensor:
    return calmed(fill, x, hole, calmness(x, hole))


def test_roughness_is_the_distance_from_the_mean_of_what_is_around() -> None:
    rough = roughness(chequered(0.05), torch.zeros(1, 1, SIDE, SIDE))[..., 2:-2, 2:-2]
    torch.testing.assert_close(rough, torch.full_like(rough, 0.05 * (1 - 1 / 25)))  # 13 of 25 are like the middle


def test_what_lies_in_the_hole_is_not_looked_at() -> None:
    hole, x = square(), chequered(0.05)
    spoilt = torch.where(hole > 0, noise(), x)
    torch.testing.assert_close(roughness(spoilt, hole), roughness(x, hole))


def test_beside_what_is_even_the_noise_stays_as_it_is() -> None:
    for even in (torch.full((1, 3, SIDE, SIDE), 0.7), torch.linspace(-1, 1, 3)[None, :, None, None]):
        x = even.expand(1, 3, SIDE, SIDE)
        torch.testing.assert_close(livening(x, square(), MORE)(noise()), noise(), rtol=0, atol=1e-5)


def test_beside_what_is_rough_brightness_alone_grows_away_from_what_is_known() -> None:
    before, after = noise(2), livening(chequered(2 * ROUGH), square(), MORE)(noise(2))
    within = square().bool()[0, 0]
    light, lighter = (n.mean(1)[:, within] for n in (before, after))
    share = torch.ones(32)
    share[:4], share[-4:] = torch.arange(5, 9) / 9, torch.arange(8, 4, -1) / 9  # of nine pixels so many are unknown
    torch.testing.assert_close(lighter, light * (1 + MORE * (share[:, None] * share).flatten()))
    for n in (before, after):
        n -= n.mean(1, keepdim=True)
    torch.testing.assert_close(after, before)


def test_it_grows_towards_what_is_rough() -> None:
    x = chequered(2 * ROUGH).clone()
    x[..., : SIDE // 2] = 0.3
    more = ((livening(x, square(), MORE)(noise()) / noise() - 1) / (noise().mean(1) / noise())).mean(1)
    row = more[0, SIDE // 2]
    assert float(row[20]) < 0.5 * MORE < 0.9 * MORE < float(row[43])


def test_beside_what_is_calm_a_fill_is_the_smooth_one_and_known_pixels_stay() -> None:
    x = torch.linspace(-1, 1, SIDE).expand(1, 3, SIDE, SIDE) * 0.05 + CALM / 3 * noise()
    fills = torch.where(square() > 0, noise(2), x)
    found, inside = calm_fill(fills, x, square()), square().expand(2, 3, -1, -1) > 0
    torch.testing.assert_close(found[inside], smooth_fill(x, square()).expand(2, -1, -1, -1)[inside])
    assert torch.equal(found[~inside], fills[~inside])


def test_beside_what_is_lively_a_fill_stays_as_it_is() -> None:
    assert torch.equal(calm_fill(noise(), chequered(1.5 * LIVELY), square()), noise())


@pytest.mark.parametrize("known", [0, 1])
def test_where_nothing_is_told_a_fill_stays_as_it_is(known: int) -> None:
    hole = torch.ones(1, 1, SIDE, SIDE)
    hole[..., :known, :known] = 0
    assert torch.equal(calm_fill(noise(), torch.full((1, 3, SIDE, SIDE), 0.5), hole), noise())


def test_calm_ends_where_something_lively_is_near() -> None:
    """A band of texture crosses a narrow hole in a clear sky."""
    hole = torch.zeros(1, 1, SIDE, SIDE)
    hole[..., 30:34] = 1
    x = torch.full((1, 3, SIDE, SIDE), 0.3)
    x[..., 28:36, :] += chequered(0.3)[..., 28:36, :]
    change = (calm_fill(noise(), x, hole) - noise()).abs().mean(1)[0, :, 31]
    assert float(change[28 - NEAR + 2 : 36 + NEAR - 2].max()) == 0
    smooth = (smooth_fill(x, hole) - noise()).abs().mean(1)[0, :, 31]
    torch.testing.assert_close(change[:8], smooth[:8])
    torch.testing.assert_close(change[-8:], smooth[-8:])


def test_what_is_large_is_filled_by_channels_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(-1, 1, SIDE).expand(1, 3, SIDE, SIDE) * torch.tensor([0.1, 0.2, -0.1])[None, :, None, None]
    at_once = calm_fill(noise(), x, square())
    monkeypatch.setattr(texture, "LARGE", 0)
    torch.testing.assert_close(calm_fill(noise(), x, square()), at_once)


def test_far_from_what_is_known_a_coarser_level_has_a_say() -> None:
    """Far out of focus: a fine level is smooth all around the hole, and the coarser one is not."""
    hole = np.zeros((256, 256), bool)
    hole[64:192, 64:192] = True
    fine, coarse = Level(1, Window(0, 0, 256, 256), hole, 64), Level(2, Window(0, 0, 128, 128), hole[::2, ::2], 64)
    x, here = torch.full((1, 3, 256, 256), 0.3), torch.from_numpy(hole)[None, None].float()
    assert float(calmness(x, here).min()) == 1
    some = torch.zeros(1, 1, 128, 128)
    some[..., :64] = 0.7
    found = Filled(coarse, torch.zeros(1, 3, 128, 128), some).calmness(fine, x, here)
    deep = 64 + 2 * NEAR
    torch.testing.assert_close(found[..., deep:-deep, deep:126], torch.full((1, 1, 256 - 2 * deep, 126 - deep), 0.7))
    assert float(found[..., deep:-deep, 130:-deep].max()) == 0
    assert float(torch.where(here > 0, 1, found).min()) == 1
    assert float(found[..., 64 : 64 + NEAR // 2, :].min()) == 1
