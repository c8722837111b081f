"""Extending: what was there stays byte for byte, wherever the canvas grows; amounts are understood or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixmend.errors import OptionError
from pixmend.extending import extend, pixels
from pixmend.images import open_picture
from small_model import MODEL, noise_picture


def test_amounts() -> None:
    assert [pixels(amount, 250, "left") for amount in (7, "7", "7px", "10%", "0.5 %", "0")] == [7, 7, 7, 25, 1, 0]
    for amount in ("a lot", "-1", -1, "1.5", "", "10%%"):
        with pytest.raises(OptionError, match="left"):
            pixels(amount, 250, "left")


@settings(max_examples=30)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(*[st.integers(0, 20)] * 4).filter(any),
    st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "I;16"]),
)
def test_what_was_there_is_exact(h: int, w: int, amounts: tuple[int, int, int, int], mode: str) -> None:
    image = noise_picture(h, w, "L").convert(mode) if mode == "I;16" else noise_picture(h, w, mode)
    before = open_picture(image)
    top, bottom, left, right = amounts
    result = extend(image, top=top, bottom=bottom, left=left, right=right, model=MODEL, device="cpu")
    after = result.pictures[0]
    assert after.size == (h + top + bottom, w + left + right)
    assert after.samples.dtype == before.samples.dtype
    assert np.array_equal(after.samples[top : top + h, left : left + w], before.samples)
    assert result.hole_share == pytest.approx(1 - h * w / (after.size[0] * after.size[1]))
    if after.has_alpha:
        new = np.ones(after.size, bool)
        new[top : top + h, left : left + w] = False
        assert (after.samples[new, -1] == after.levels).all()


@pytest.mark.parametrize("wrong", [{}, {"left": 0}, {"left": "20%%"}, {"top": 5, "blur": 2}, {"top": 10**8}])
def test_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        extend(noise_picture(10, 10), model=MODEL, **wrong)
