"""The public face: any kind of picture and mask in, tensors out, and back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from picture_files import noise
from pixmend.errors import FileMissingError, MaskError, OptionError, PictureError
from pixmend.images import (
    Metadata,
    Picture,
    Source,
    load_image,
    load_mask,
    mask_from_alpha,
    mask_samples,
    mask_strength,
    open_picture,
    open_thumbnail,
    picture_files,
    read_mask,
    save_picture,
    save_tensor_as_image,
)

RGB = noise(6, 5, 3)


def test_every_source_is_the_same_picture(tmp_path: Path) -> None:
    path = save_picture(Picture(RGB), tmp_path / "a.png")
    values = torch.from_numpy(RGB).permute(2, 0, 1) / 127.5 - 1
    sources: list[Source] = [
        path,
        str(path),
        Image.fromarray(RGB),
        RGB,
        values,
        values[None].double(),
        torch.from_numpy(RGB).permute(2, 0, 1),
        Picture(RGB),
    ]
    for source in sources:
        assert np.array_equal(open_picture(source).samples, RGB)
        tensor = load_image(source)
        assert tensor.shape == (1, 3, 6, 5)
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor[0], values.float(), atol=1e-6)


def test_picture_is_returned_as_it_is() -> None:
    picture = Picture(RGB)
    assert open_picture(picture) is picture


def test_load_image_repeats_grey_and_drops_alpha() -> None:
    grey = load_image(np.array([[[0, 7], [255, 9]]], np.uint8))
    assert grey.tolist() == [[[[-1, 1]]] * 3]


def test_tensor_of_floats_keeps_its_values_and_is_not_shared() -> None:
    values = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loaded = load_image(values)
    assert torch.equal(loaded, values)
    loaded.zero_()
    assert values.abs().sum() > 0


def test_load_image_resizes() -> None:
    halves = np.zeros((8, 16, 3), np.uint8)
    halves[:, 8:] = 255
    small = load_image(halves, (2, 4))
    assert small.shape == (1, 3, 2, 4)
    assert small[0, 0, 0, 0] < -0.8
    assert small[0, 0, 0, 3] > 0.8
    assert float(small.abs().max()) <= 1
    assert load_image(halves, 5).shape == (1, 3, 5, 5)
    assert torch.equal(load_image(halves, (8, 16)), load_image(halves))


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("missing.png", FileMissingError, "does not exist"),
        (np.zeros((3, 3), np.float64), PictureError, "float64"),
        (torch.full((3, 2, 2), float("nan")), PictureError, "not finite"),
        (torch.full((3, 2, 2), 1.5), PictureError, r"1\.5; give \[-1, 1\]"),
        (torch.zeros(2, 3, 4, 4), PictureError, "one picture"),
        (torch.zeros(4, 4, 4), PictureError, "one picture"),
        (torch.zeros(3, 0, 4), PictureError, "one picture"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), PictureError, "int64"),
        (None, PictureError, "NoneType"),
        (b"\x89PNG", PictureError, "bytes"),
    ],
)
def test_bad_sources(source: Any, error: type[Exception], says: str) -> None:
    for read in (open_picture, load_image):
        with pytest.raises(error, match=says) as caught:
            read(source)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, (0, 4), (4, 0)])
def test_bad_sizes(size: Any) -> None:
    with pytest.raises(OptionError, match="too small"):
        load_image(RGB, size)
    with pytest.raises(OptionError, match="too small"):
        load_mask(RGB, size)


def test_errors_about_files_load_no_torch(tmp_path: Path) -> None:
    bad = tmp_path / "text.png"
    bad.write_text("no picture")
    program = f"""
import sys
from pixmend.images import load_image, load_mask, open_picture, save_picture
from pixmend.errors import PixmendError
for read in (open_picture, load_image, load_mask):
    for name in ("none.png", {str(bad)!r}):
        try:
            read(name)
        except PixmendError:
            pass
        else:
            sys.exit("no error")
import numpy
save_picture(open_picture(numpy.zeros((2, 2), numpy.uint8)), {str(tmp_path / "out.png")!r})
sys.exit("torch was loaded" if "torch" in sys.modules else 0)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


# ------------------------------------------------------------------------------------------------------------- masks

HOLE = np.zeros((6, 5), bool)
HOLE[2:4, 1:4] = True


@pytest.mark.parametrize(
    "make",
    [
        lambda hole: hole,
        lambda hole: hole[..., None],
        lambda hole: hole * np.uint8(255),
        lambda hole: hole * np.uint16(65535),
        lambda hole: hole.astype(np.uint8),  # 0 and 1
        lambda hole: hole.astype(np.int64),
        lambda hole: hole.astype(np.float64),
        lambda hole: np.repeat(hole[..., None] * np.uint8(255), 3, 2),
        lambda hole: Image.fromarray(hole),
        lambda hole: Image.fromarray(hole * np.uint8(255)),
        lambda hole: Image.fromarray(hole * np.uint8(255)).convert("P"),
        lambda hole: torch.from_numpy(hole),
        lambda hole: torch.from_numpy(hole)[None, None].float(),
        lambda hole: torch.from_numpy(hole * np.uint8(255))[None],
        lambda hole: Picture(hole[..., None] * np.uint8(255)),
    ],
)
def test_every_kind_of_mask(make: Callable[[NDArray[np.bool_]], Source], tmp_path: Path) -> None:
    assert np.array_equal(mask_samples(make(HOLE)), HOLE)
    assert np.array_equal(mask_samples(make(HOLE), invert=True), ~HOLE)
    loaded = load_mask(make(HOLE), (6, 5), blur=0)
    assert loaded.dtype == torch.float32
    assert np.array_equal(loaded[0, 0].numpy(), HOLE)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".jpg"])
def test_masks_in_files(tmp_path: Path, suffix: str) -> None:
    big = HOLE.repeat(8, 0).repeat(8, 1)
    path = save_picture(Picture(big[..., None] * np.uint8(255)), tmp_path / f"mask{suffix}")
    assert np.array_equal(mask_samples(path), big)


def test_mask_is_cut_at_one_half() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(mask_samples(ramp).ravel(), np.arange(256) >= 128)
    assert np.array_equal(mask_samples(ramp, invert=True), ~mask_samples(ramp))
    assert np.array_equal(mask_samples(np.array([[0.49, 0.5]])), [[False, True]])


def test_share_of_grey() -> None:
    assert read_mask(HOLE).grey == 0
    assert read_mask(np.array([[0, 0.03, 0.5, 1]], np.float32)).grey == 0.25


def strokes(colour: tuple[int, ...], background: tuple[int, ...]) -> NDArray[np.uint8]:
    samples = np.empty((6, 5, 4), np.uint8)
    samples[:] = background
    samples[HOLE] = colour
    return samples


@pytest.mark.parametrize(
    ("colour", "background"),
    [
        ((255, 255, 255, 255), (0, 0, 0, 255)),  # white on black, opaque
        ((255, 255, 255, 255), (255, 255, 255, 0)),  # white on nothing
        ((255, 255, 255, 255), (0, 0, 0, 0)),
        ((0, 0, 0, 255), (0, 0, 0, 0)),  # black on nothing: colours alike, alpha tells
        ((255, 0, 0, 255), (0, 0, 0, 0)),  # red on nothing
        ((255, 0, 0, 255), (255, 255, 255, 0)),
    ],
)
def test_masks_with_alpha(colour: tuple[int, ...], background: tuple[int, ...]) -> None:
    assert np.array_equal(mask_samples(strokes(colour, background)), HOLE)


def test_masks_with_alpha_of_several_colours() -> None:
    two = strokes((255, 0, 0, 255), (0, 0, 0, 0))
    two[2, 1] = (0, 0, 255, 255)  # neither red nor blue is light
    assert np.array_equal(mask_samples(two), HOLE)
    black_and_white = strokes((255, 255, 255, 255), (0, 0, 0, 0))
    black_and_white[0] = (0, 0, 0, 255)  # black is known, opaque or not
    assert np.array_equal(mask_samples(black_and_white), HOLE)
    assert not mask_samples(strokes((255, 255, 255, 0), (0, 0, 0, 0))).any()  # nothing can be seen


def test_colours_without_a_ground_count_by_luminance() -> None:
    row = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    assert mask_samples(row).tolist() == [[False, True, False, True]]
    assert mask_strength(row)[0].tolist() == pytest.approx([0.299, 0.587, 0.114, 0.886], abs=1e-6)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.full((2, 2), np.nan), "values from nan"),
        (np.full((2, 2), 1.5), "values from 1.5"),
        (np.full((2, 2), -1), "values from -1"),
        (np.full((2, 2), 255), "values from 255"),  # int64: whole numbers are 0 and 1
        (np.zeros((0, 2)), "at least one pixel"),
        (np.zeros((2, 2), complex), "complex"),
        (np.zeros((2, 2, 3), bool), "one value a pixel"),
        (np.zeros((2, 2, 3)), "one value a pixel"),
        (torch.zeros(3, 2, 2), "one value a pixel"),
    ],
)
def test_bad_masks(mask: Any, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        load_mask(mask)


def test_mask_of_another_size_is_told_with_both_sizes() -> None:
    with pytest.raises(MaskError, match=r"mask is 5 x 6 pixels and the picture 6 x 5"):
        load_mask(HOLE, (5, 6))
    assert load_mask(HOLE, (6, 5)).shape == (1, 1, 6, 5)


def test_resized_mask_keeps_the_thinnest_line() -> None:
    line = np.zeros((64, 64), bool)
    line[:, 17] = True
    small = load_mask(line, 8, blur=0, resize=True)
    assert small.shape == (1, 1, 8, 8)
    assert np.array_equal(np.nonzero(small[0, 0, 0].numpy())[0], [2])
    large = load_mask(line, (128, 128), blur=0, resize=True)
    assert np.array_equal(large[0, 0].numpy(), line.repeat(2, 0).repeat(2, 1))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 3), st.integers(0, 99))
def test_soft_mask_is_one_on_the_hole_and_ends_at_two_radii(height: int, width: int, radius: int, seed: int) -> None:
    hole = np.random.default_rng(seed).random((height, width)) < 0.1
    soft = load_mask(hole, blur=radius)[0, 0].numpy()
    rows, columns = np.nonzero(hole)
    reach = np.zeros_like(hole)
    for y, x in zip(rows, columns, strict=True):
        reach[max(0, y - 2 * radius) : y + 2 * radius + 1, max(0, x - 2 * radius) : x + 2 * radius + 1] = True
    assert (soft[hole] == 1).all()
    assert np.array_equal(soft > 0, reach)


def test_alternate_rows_are_not_feathered_into_everything() -> None:
    rows = np.zeros((16, 16), bool)
    rows[::2] = True
    assert np.array_equal(load_mask(rows)[0, 0].numpy(), rows)
    block = np.zeros((64, 64), bool)
    block[12:52, 12:52] = True
    assert (load_mask(block)[0, 0].numpy() > 0).sum() > block.sum()


def test_grow_and_strength() -> None:
    one = np.zeros((7, 7), bool)
    one[3, 3] = True
    assert load_mask(one, grow=2, blur=0).sum() == 25
    grey = np.full((2, 2), 51, np.uint8)
    assert load_mask(grey, soft=True).flatten().tolist() == pytest.approx([0.2] * 4)
    assert load_mask(grey).sum() == 0
    with pytest.raises(OptionError, match="grow -1"):
        load_mask(one, grow=-1)
    with pytest.raises(OptionError, match="blur -1"):
        load_mask(one, blur=-1)


def test_mask_from_alpha() -> None:
    samples = np.zeros((1, 4, 4), np.uint8)
    samples[0, :, 3] = [0, 127, 128, 255]
    assert mask_from_alpha(Picture(samples)).tolist() == [[True, True, False, False]]
    with pytest.raises(MaskError, match="no alpha"):
        mask_from_alpha(Picture(RGB))


# ------------------------------------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("shape", [(1, 3, 6, 5), (3, 6, 5)])
def test_tensor_to_file_and_back_is_exact(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensor = load_image(RGB).reshape(shape)
    path = save_tensor_as_image(tensor, tmp_path / "out.png")
    assert np.array_equal(open_picture(path).samples, RGB)
    assert torch.equal(load_image(path), tensor.reshape(1, 3, 6, 5))


def test_saved_tensor_is_clipped_and_may_be_grey(tmp_path: Path) -> None:
    path = save_tensor_as_image(torch.tensor([[[-3.0, 0.0, 3.0]]]), tmp_path / "grey.png")
    assert open_picture(path).samples.tolist() == [[[0], [128], [255]]]


def test_saved_tensor_in_the_manner_of_a_picture(tmp_path: Path) -> None:
    metadata = Metadata(icc_profile=b"profile")
    tensor = load_image(RGB)
    same = Picture(noise(6, 5, 2), metadata=metadata)
    path = save_tensor_as_image(tensor, tmp_path / "same.png", like=same)
    assert open_picture(path).samples[..., 1].tolist() == same.samples[..., 1].tolist()
    assert open_picture(path).metadata.icc_profile == b"profile"
    deep = Picture(noise(6, 5, 1, dtype=np.uint16))
    path = save_tensor_as_image(tensor[:, :1], tmp_path / "deep.png", like=deep)
    assert np.array_equal(open_picture(path).samples, RGB[..., :1].astype(np.uint16) * 257)
    other = Picture(noise(9, 9, 3), metadata=metadata)
    path = save_tensor_as_image(tensor, tmp_path / "other.png", like=other)
    assert np.array_equal(open_picture(path).samples, RGB)
    assert open_picture(path).metadata.icc_profile == b"profile"


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.full((3, 2, 2), float("inf")), "not finite"),
        (torch.zeros(2, 3, 2, 2), "one picture"),
        (torch.zeros(3, 2, 2, dtype=torch.uint8), "uint8"),
        (np.zeros((2, 2), np.uint8), "ndarray"),
    ],
)
def test_bad_tensors_are_not_saved(tmp_path: Path, tensor: Any, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        save_tensor_as_image(tensor, tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------- folders


def test_picture_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png", "sub/c.webp", "sub/d.tiff", ".git/e.png", "f.eps"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in picture_files(tmp_path)]
    assert [name for name in found if name != "f.eps"] == ["a.jpg", "b.PNG", "sub/c.webp", "sub/d.tiff"]
    with pytest.raises(FileMissingError, match="not a folder"):
        picture_files(tmp_path / "a.jpg")


@given(st.lists(st.lists(st.text("aAbB-.é 0", min_size=1), min_size=1, max_size=3), max_size=8))
def test_the_order_of_pictures_is_that_of_posix_paths_everywhere(names: list[list[str]]) -> None:
    for folder in ("", ".", "..", "/a/b"):
        here = [PurePosixPath(folder, *parts) for parts in names]
        there = [PureWindowsPath(folder, *parts) for parts in names]
        assert sorted(here, key=lambda file: file.parts) == sorted(here)
        by_parts = sorted(there, key=lambda file: file.parts)
        assert [file.as_posix() for file in by_parts] == [file.as_posix() for file in sorted(here)]


def test_the_case_of_names_counts_in_their_order(tmp_path: Path) -> None:
    for name in ("b.png", "B.png", "a/c.png", "a.png", "Z/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in picture_files(tmp_path)]
    assert found == ["B.png", "Z/d.png", "a/c.png", "a.png", "b.png"]


def test_open_thumbnail(tmp_path: Path) -> None:
    path = save_picture(Picture(np.full((40, 60, 1), 9, np.uint8)), tmp_path / "a.png")
    assert (open_thumbnail(path, 20) == np.full((20, 30, 3), 9)).all()


def test_a_mask_has_one_soft_edge() -> None:
    with pytest.raises(OptionError, match="leave out either"):
        load_mask(np.zeros((4, 4), np.float32), soft=True, blur=1)
