"""Threads that share a batch: the gradients of the whole, the same every time, and torch left as it was."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from pixmend.team import Team


class Network(nn.Module):
    """Some layers, and one that no error ever reaches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 1, 3))
        self.unused = nn.Linear(5, 5)

    def error(self, part: Mapping[str, Tensor]) -> Tensor:
        squares: Tensor = self.layers(part["x"]) ** 2
        return (squares * part["scale"][:, None, None, None]).sum()


def network() -> Network:
    return Network().double()


def batch(count: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.randn(count, 3, 9, 9).double(), "scale": torch.rand(count).double()}


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_gradients_are_those_of_the_whole_batch(threads: int, count: int) -> None:
    alone, shared, samples = network(), network(), batch(count)
    whole = alone.error(samples)
    whole.backward()  # type: ignore[no-untyped-call]
    with Team(threads) as team:
        for times in (1, 2):  # the second adds to the first
            total = team.backward(shared.error, samples, shared)
            torch.testing.assert_close(total, whole.detach())
            for a, b in zip(alone.layers.parameters(), shared.layers.parameters(), strict=True):
                assert a.grad is not None
                torch.testing.assert_close(b.grad, times * a.grad)
    assert all(p.grad is None for p in shared.unused.parameters())


def test_the_same_bits_every_time() -> None:
    found = []
    for _ in range(5):
        shared, samples = network().float(), {name: value.float() for name, value in batch(7).items()}
        with Team(3) as team:
            team.backward(shared.error, samples, shared)
        found.append(torch.cat([p.grad.flatten() for p in shared.layers.parameters() if p.grad is not None]))
    assert all(torch.equal(found[0], other) for other in found)


def test_torch_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Team(2) as team:
            shared, seen = network(), list[int]()

            def error(part: Mapping[str, Tensor]) -> Tensor:
                seen.append(torch.get_num_threads())
                return shared.error(part)

            def fails(part: Mapping[str, Tensor]) -> Tensor:
                raise ArithmeticError("in a thread")

            team.backward(error, batch(4), shared)
            assert seen == [1, 1]
            with pytest.raises(ArithmeticError, match="in a thread"):
                team.backward(fails, batch(4), shared)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
