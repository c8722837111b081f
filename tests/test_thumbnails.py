"""Reading pictures small, for training: lenient where `decode_file` is strict, and every page of a stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from picture_files import noise, png, saved, several_frames, tiff, written
from pixmend.data import InpaintingDataset
from pixmend.decoding import decode_file
from pixmend.denoising.cifar import read_pictures
from pixmend.errors import PictureError
from pixmend.picture_cache import PictureCache
from pixmend.thumbnails import decode_thumbnail, decode_thumbnails


def test_thumbnail_sizes(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("RGB", (1200, 400), (10, 200, 30)), "JPEG")
    small = decode_thumbnail(path, 100)
    assert small.shape == (100, 300, 3)
    assert np.abs(small.astype(int) - [10, 200, 30]).max() <= 3
    assert decode_thumbnail(path, 4000).shape == (400, 1200, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (4, 4), 1), 255),
        (Image.new("L", (4, 4), 99), 99),
        (Image.new("I;16", (4, 4), 0x6342), 0x63),
        (Image.new("LA", (4, 4), (0, 0)), 255),  # transparent: white
        (Image.new("RGBA", (4, 4), (7, 7, 7, 255)), 7),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_thumbnails_of_all_modes(tmp_path: Path, image: Image.Image, expected: int) -> None:
    assert (decode_thumbnail(saved(tmp_path, image, "PNG"), 2) == expected).all()


def test_thumbnails_are_lenient(tmp_path: Path) -> None:
    assert decode_thumbnail(written(tmp_path, several_frames("GIF")), 8).shape == (8, 8, 3)
    deep = png(1, 1, 16, 2, b"\x10\x10\x20\x20\xf0\xf0")
    assert decode_thumbnail(written(tmp_path, deep), 1).tolist() == [[[0x10, 0x20, 0xF0]]]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_thumbnails_show_what_cameras_put_into_sixteen_bits(tmp_path: Path, file_format: str, bits: int) -> None:
    white = 2**bits - 1
    levels = np.array([[0, white // 2, white]], np.uint16)
    path = saved(tmp_path, Image.fromarray(levels), file_format)
    assert decode_thumbnail(path, 1)[0, :, 0].tolist() == [0, 127, 255]
    assert decode_file(path).span == (0, 65535)


# ------------------------------------------------------------------------------------------------------------- pages


def stack(path: Path, pages: int, **options: Any) -> list[np.ndarray[Any, Any]]:
    """A TIFF of grey pages of 16 bits, and what they hold."""
    slices = [noise(60 + 10 * k, 70 + 10 * k, dtype=np.uint16, seed=k) for k in range(pages)]
    first, *others = (Image.fromarray(one) for one in slices)
    first.save(path, "TIFF", save_all=True, append_images=others, **options)
    return slices


def test_every_page_of_a_stack_is_read_as_if_alone(tmp_path: Path) -> None:
    slices = stack(tmp_path / "stack.tif", 3)
    found, left_out = decode_thumbnails(tmp_path / "stack.tif", 1000)
    assert (len(found), left_out) == (3, None)
    for one, pixels in zip(slices, found, strict=True):
        Image.fromarray(one).save(tmp_path / "alone.tif")
        assert np.array_equal(pixels, decode_thumbnail(tmp_path / "alone.tif", 1000))


def test_colours_of_sixteen_bits_are_read_on_every_page(tmp_path: Path) -> None:
    pages = [noise(30, 40, 3, dtype=np.uint16, seed=k) for k in range(3)]
    path = written(tmp_path, tiff(*((page, {}) for page in pages)), "stack.tif")
    found, _ = decode_thumbnails(path, 30)
    for page, pixels in zip(pages, found, strict=True):
        assert np.abs(pixels - page / 257).max() <= 0.51


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_reduced_copies_and_masks_are_no_pictures(tmp_path: Path, kind: int) -> None:
    """Also where there are several pages, each with such a copy behind it."""
    page, copy = noise(30, 40), noise(15, 20)
    pages: Any = ((page, {}), (copy, {254: kind}), (255 - page, {}), (copy > 99, {254: 4, 262: 4}))
    found, left_out = decode_thumbnails(written(tmp_path, tiff(*pages), "cog.tif"), 1000)
    assert left_out is None
    assert [pixels[..., 0].tolist() for pixels in found] == [page.tolist(), (255 - page).tolist()]


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    found, left_out = decode_thumbnails(written(tmp_path, several_frames("GIF")), 8)
    assert (len(found), left_out) == (1, None)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (np.full((30, 40), np.nan, np.float32), "page 2 of"),
        (noise(30, 40, dtype=np.uint16).astype(np.uint32), "32 bits"),
        (np.zeros((30, 40, 3), np.float32), "of a kind that is not read"),
        (noise(15, 15), "15 x 15 pixels are fewer than 16 a side"),
    ],
    ids=["nothing measured", "32 bits", "colours in floats", "small"],
)
def test_a_page_that_cannot_be_used_is_named_and_the_others_are_used(tmp_path: Path, second: Any, reason: str) -> None:
    path = tmp_path / "folder" / "stack.tif"
    path.parent.mkdir()
    path.write_bytes(tiff((noise(30, 40), {}), (second, {}), (noise(31, 41), {})))
    samples = InpaintingDataset(path.parent, 16, cache=tmp_path / "cache")
    assert sorted(p.shape[:2] for p in samples.pictures) == [(30, 40), (31, 41)]
    (told,) = samples.skipped
    assert reason in told
    assert told.startswith("page 2 of")


def test_a_first_page_that_cannot_be_used_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(
        tiff((noise(30, 40).astype(np.int8), {}), (noise(31, 41), {}), (noise(32, 42), {}))
    )
    pages, told = decode_thumbnails(tmp_path / "stack.tif", 64)
    assert [page.shape[:2] for page in pages] == [(31, 41), (32, 42)]
    assert told is not None
    assert "signed numbers of 8 bits" in told
    with pytest.raises(PictureError, match="signed numbers of 8 bits"):
        decode_thumbnail(tmp_path / "stack.tif", 64)


def test_linked_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    Image.fromarray(noise(20, 20)).save(tmp_path / "folder" / "a.png")
    (tmp_path / "folder" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    samples = InpaintingDataset(tmp_path / "folder", 16, cache=tmp_path / "cache")
    assert any("more is a link to a folder, which is not followed" in line for line in samples.skipped)


def test_of_a_stack_that_was_cut_off_the_first_pages_are_used(tmp_path: Path) -> None:
    content = tiff(*((noise(30, 40, seed=k), {}) for k in range(4)))
    for share in (0.6, 0.8, 0.95):
        path = written(tmp_path, content[: int(share * len(content))], "stack.tif")
        found, left_out = decode_thumbnails(path, 30)
        assert len(found) == int(4 * share)
        assert left_out is not None


def test_decoding_a_stack_can_be_ended(tmp_path: Path) -> None:
    stack(tmp_path / "stack.tif", 5)
    asked: list[bool] = []

    def go_on() -> bool:
        asked.append(True)
        return len(asked) < 2

    assert len(decode_thumbnails(tmp_path / "stack.tif", 9, 1, go_on)[0]) == 2


def test_training_takes_all_pages_and_holds_a_stack_out_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    stack(folder / "stack.tif", 3)
    Image.new("RGB", (40, 30)).save(folder / "other.png")
    assert len(InpaintingDataset(folder, 16, cache=tmp_path / "cache")) == 4
    cache = PictureCache(folder, 48, tmp_path / "cache", None)
    assert sorted(p.shape[:2] for p in cache.split(0.0, held_out=False)) == [(30, 40), (48, 54), (48, 55), (48, 56)]
    sides = [int(digest, 16) / 16**16 for digest in sorted(set(cache.hashes))]
    between = [len(cache.split(sum(sides) / 2, held_out=held_out)) for held_out in (False, True)]
    assert sorted(between) == [1, 3]


def test_a_denoiser_takes_all_pages_and_tests_on_a_stack_as_a_whole(tmp_path: Path) -> None:
    for k in range(30):
        slices = [noise(40, 40, seed=9 * k + page) for page in range(4)]
        (tmp_path / f"{k}.tif").write_bytes(tiff(*((one, {}) for one in slices)))
    found = read_pictures(tmp_path)
    assert len(found.train) + len(found.test) == 120
    assert len(found.train) % 4 == 0
    assert len(found.test) > 0
