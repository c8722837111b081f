"""Texture: noise grows in brightness, by as much as said, where surroundings are rough, and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor

from pixmend.texture import MORE, ROUGH, livened, roughness

SIDE = 64


def square() -> Tensor:
    hole = torch.zeros(1, 1, SIDE, SIDE)
    hole[..., 16:48, 16:48] = 1
    return hole


def chequered(amplitude: float) -> Tensor:
    signs = 1 - 2 * ((torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2)
    return amplitude * signs.float().expand(1, 3, SIDE, SIDE)


def noise(count: int = 1) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_roughness_is_the_distance_from_the_mean_of_what_is_around() -> None:
    rough = roughness(chequered(0.05), torch.zeros(1, 1, SIDE, SIDE))[..., 2:-2, 2:-2]
    torch.testing.assert_close(
        rough, torch.full_like(rough, 0.05 * (1 - 1 / 25))
    )  # 13 squares of 25 are like the middle


def test_what_lies_in_the_hole_is_not_looked_at() -> None:
    hole, x = square(), chequered(0.05)
    spoilt = torch.where(hole > 0, noise(), x)
    torch.testing.assert_close(roughness(spoilt, hole), roughness(x, hole))


def test_beside_what_is_even_the_noise_stays_as_it_is() -> None:
    for even in (torch.full((1, 3, SIDE, SIDE), 0.7), torch.linspace(-1, 1, 3)[None, :, None, None]):
        x = even.expand(1, 3, SIDE, SIDE)
        torch.testing.assert_close(livened(noise(), x, square()), noise(), rtol=0, atol=1e-5)


def test_beside_what_is_rough_brightness_alone_grows() -> None:
    before, after = noise(2), livened(noise(2), chequered(2 * ROUGH), square())
    within = square().bool()[0, 0]
    light, lighter = (n.mean(1)[:, within] for n in (before, after))
    torch.testing.assert_close(lighter, (1 + MORE) * light)
    for n in (before, after):
        n -= n.mean(1, keepdim=True)
    torch.testing.assert_close(after, before)


def test_it_grows_towards_what_is_rough() -> None:
    x = chequered(2 * ROUGH).clone()
    x[..., : SIDE // 2] = 0.3
    more = (livened(noise(), x, square()) - noise()).abs().mean((1, 2)) / noise().mean(1).abs().mean(1)
    left, right = more[0, 16:20].mean(), more[0, 44:48].mean()
    assert left < 0.25 * MORE
    assert right > 0.75 * MORE
