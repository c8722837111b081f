"""Samples and arithmetic: exact round trips, and a composite that touches nothing outside of the soft mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from picture_files import RNG, noise
from pixmend.errors import MaskError, PictureError
from pixmend.pictures import Picture, composite, from_array, to_samples, to_values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_sample_survives_the_way_to_values_and_back(dtype: type[np.uint8] | type[np.uint16]) -> None:
    samples: Any = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    values = to_values(samples)
    assert values.dtype == np.float32
    assert values[0] == -1
    assert values[-1] == 1
    assert (np.diff(values) > 0).all()
    assert np.array_equal(to_samples(values, dtype), samples)


def test_known_values() -> None:
    assert to_values(np.array([0, 51, 255], np.uint8)).tolist() == pytest.approx([-1, -0.6, 1])
    assert to_samples(np.array([-7.0, -0.6, 0.0, 0.999, 7.0], np.float32)).tolist() == [0, 51, 128, 255, 255]


def test_colour_and_alpha() -> None:
    grey = Picture(np.array([[[255, 51]]], np.uint8))
    assert grey.colour().tolist() == [[[1, 1, 1]]]
    alpha = grey.alpha()
    assert alpha is not None
    assert alpha.tolist() == [[pytest.approx(0.2)]]
    assert Picture(np.zeros((1, 1, 3), np.uint16)).alpha() is None


def test_grey_is_seen_where_it_is_visible() -> None:
    grey = np.repeat(noise(4, 5, 1), 3, axis=2)
    assert Picture(grey).is_grey
    coloured = grey.copy()
    coloured[2, 2] = [1, 2, 3]
    assert not Picture(coloured).is_grey
    alpha = np.full((4, 5, 1), 255, np.uint8)
    alpha[2, 2] = 0
    assert Picture(np.concatenate([coloured, alpha], 2)).is_grey  # the coloured pixel cannot be seen


def layers(height: int, width: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A fill that goes beyond [-1, 1], and a soft mask with zeros, ones and all between."""
    rng = RNG(seed)
    fill = rng.uniform(-1.3, 1.3, (height, width, 3)).astype(np.float32)
    soft = np.clip(rng.uniform(-1, 2, (height, width)), 0, 1).astype(np.float32)
    return fill, soft


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 99)
)
def test_composite_is_exact_outside_and_the_fill_inside(
    height: int, width: int, channels: int, dtype: type[np.uint8] | type[np.uint16], seed: int
) -> None:
    picture = Picture(noise(height, width, channels, seed=seed, dtype=dtype))
    fill, soft = layers(height, width, seed)
    before = picture.samples.copy()
    result = composite(picture, fill, soft)
    assert np.array_equal(picture.samples, before)
    assert result.samples.dtype == dtype
    assert np.array_equal(result.samples[soft == 0], before[soft == 0])
    if picture.has_alpha:
        assert np.array_equal(result.samples[..., -1], before[..., -1])
    if channels >= 3 and not picture.is_grey_where(soft == 0):
        assert np.array_equal(result.samples[soft == 1][:, :3], to_samples(fill, dtype)[soft == 1])


def test_composite_between() -> None:
    picture = Picture(np.array([[[100, 200, 50], [0, 1, 2]]], np.uint8))
    fill = to_values(np.array([[[200, 100, 50], [9, 9, 9]]], np.uint8))
    mixed = composite(picture, fill, np.array([[0.25, 0]], np.float32))
    assert mixed.samples.tolist() == [[[125, 175, 50], [0, 1, 2]]]


def test_fill_of_a_grey_picture_has_no_colour() -> None:
    red = np.zeros((1, 2, 3), np.float32) + np.array([1, -1, -1], np.float32)
    soft = np.array([[1, 0]], np.float32)
    one = composite(Picture(np.full((1, 2, 1), 7, np.uint8)), red, soft)
    assert one.samples.tolist() == [[[76], [7]]]  # 0.299 * 255
    three = composite(Picture(np.array([[[9, 0, 9], [7, 7, 7]]], np.uint8)), red, soft)  # coloured in the hole alone
    assert three.samples.tolist() == [[[76, 76, 76], [7, 7, 7]]]
    unknown = composite(Picture(np.full((1, 2, 3), 7, np.uint8)), red, np.ones((1, 2), np.float32))
    assert unknown.samples[0, 0].tolist() == [255, 0, 0]


def test_black_and_white_stays_so() -> None:
    picture = from_array(np.array([[True, False, True]]))
    fill = np.array([[[-0.1] * 3, [0.1] * 3, [-1.0] * 3]], np.float32)
    assert composite(picture, fill, np.array([[1, 1, 0]], np.float32)).samples.ravel().tolist() == [0, 255, 255]


def test_alpha_that_was_the_mask_becomes_opaque() -> None:
    picture = Picture(np.array([[[5, 5, 5, 0], [5, 5, 5, 155], [5, 5, 5, 9]]], np.uint8))
    soft = np.array([[1, 0.5, 0]], np.float32)
    filled = composite(picture, np.zeros((1, 3, 3), np.float32), soft, opaque=True)
    assert filled.samples[..., 3].tolist() == [[255, 205, 9]]


@pytest.mark.parametrize(
    ("fill", "soft", "error", "says"),
    [
        (np.zeros((2, 3, 3)), np.zeros((2, 2)), PictureError, "shape"),
        (np.zeros((2, 2, 3)), np.zeros((2, 3)), MaskError, "shape"),
        (np.zeros((2, 2, 3)), np.full((2, 2), 1.5), MaskError, "0 to 1"),
        (np.zeros((2, 2, 3)), np.full((2, 2), np.nan), MaskError, "0 to 1"),
        (np.full((2, 2, 3), np.nan), np.ones((2, 2)), PictureError, "not finite"),
    ],
)
def test_bad_layers(fill: NDArray[np.float32], soft: NDArray[np.float32], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        composite(Picture(noise(2, 2, 3)), fill, soft)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 2), (2, 3, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_are_copied_as_they_are(shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16]) -> None:
    array = noise(*shape, dtype=dtype)
    picture = from_array(array[::-1])
    expected = array[::-1].reshape(2, 3, -1).copy()
    array[:] = 0
    assert np.array_equal(picture.samples, expected)
    assert picture.samples.dtype == dtype
    assert picture.size == (2, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), object),
        np.zeros((4, 4, 3), np.bool_),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_bad_arrays(array: NDArray[Any]) -> None:
    with pytest.raises(PictureError, match="array") as caught:
        from_array(array)
    assert "give" in str(caught.value)
