"""Tags that a page taken alone, a turned or an extended picture would make untrue: moved along, shortened, left out."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from picture_files import exif_block, noise, tiff
from pixmend.decoding import decode_file, decode_image
from pixmend.encoding import save_picture
from pixmend.extending import extended_canvas
from pixmend.metadata import tiff_exif
from pixmend.pictures import Metadata, Picture
from pixmend.tiff_tags import NO_OME, NO_PLACE, NO_SLICES

SCALE, TIES, MATRIX, KEYS, NO_DATA = 33550, 33922, 34264, 34735, 42113
SYSTEM = (1, 1, 0, 1, 1024, 0, 1, 1)
IMAGEJ = "ImageJ=1.53t\nimages=5\nslices=5\nhyperstack=true\nmode=gray\nloop=false\nspacing=0.3\nunit=um\nmin=3.0\n"
IMAGEJ_OF_ONE = "ImageJ=1.53t\nspacing=0.3\nunit=um\nmin=3.0\n"
OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"/></OME>'


def written(tmp_path: Path, *pages: tuple[Any, dict[int, Any]], name: str = "source.tif") -> Path:
    (tmp_path / name).write_bytes(tiff(*pages))
    return tmp_path / name


def tags_of(picture: Picture, tmp_path: Path) -> dict[int, Any]:
    """Those of the TIFF that the picture is saved as."""
    with Image.open(save_picture(picture, tmp_path / "out.tif", overwrite=True)) as image:
        return dict(image.tag_v2)  # type: ignore[attr-defined]


def world(tags: dict[int, Any], column: float, row: float) -> tuple[float, float]:
    """Where a place in the picture lies (GeoTIFF 1.1, 7.2.3)."""
    if MATRIX in tags:
        x, y = np.array(tags[MATRIX]).reshape(4, 4)[:2] @ (column, row, 0, 1)
        return x, y
    i, j, _, x, y, _ = tags[TIES][:6]
    return x + (column - i) * tags[SCALE][0], y - (row - j) * tags[SCALE][1]


PLACES = {
    "one tie point": {SCALE: (10.0, 20.0, 0.0), TIES: (0.0, 0.0, 0.0, 5e5, 4.6e6, 0.0)},
    "several": {
        SCALE: (0.5, 0.5, 0.0),
        TIES: (1.0, 2.0, 0.0, 5e5, 4.6e6, 0.0, 8.0, 9.0, 0.0, 500003.5, 4599996.5, 0.0),
    },
    "matrix": {MATRIX: (9.0, -2.0, 0.0, 5e5, -2.0, -9.0, 0.0, 4.6e6, *[0.0] * 4, 0.0, 0.0, 0.0, 1.0)},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_an_extended_picture_stays_where_it_is_on_earth(
    tmp_path: Path, place: dict[int, Any], dtype: Any, suffix: str
) -> None:
    before = {**place, KEYS: SYSTEM, NO_DATA: "0"}
    picture = decode_file(written(tmp_path, (noise(9, 12, 3, dtype=dtype), before)))
    grown, hole = extended_canvas(picture, left=3, right=1, top=7, bottom=2)
    assert grown.notes == ()
    save_picture(grown, tmp_path / f"out{suffix}")
    tags = tags_of(decode_file(tmp_path / f"out{suffix}"), tmp_path)
    for column, row in ((0, 0), (5, 2), (12, 9)):
        assert world(tags, column + 3, row + 7) == pytest.approx(world(before, column, row), rel=1e-15)
    assert len(tags.get(TIES, ())) == len(place.get(TIES, ()))
    assert (tags[KEYS], tags[NO_DATA]) == (SYSTEM, "0")
    assert np.array_equal(decode_file(tmp_path / "out.tif").samples[~hole], picture.samples.reshape(-1, 3))


def test_known_numbers_of_a_place(tmp_path: Path) -> None:
    picture = decode_file(written(tmp_path, (noise(9, 12), PLACES["several"] | {MATRIX: PLACES["matrix"][MATRIX]})))
    tags = tags_of(extended_canvas(picture, left=3, top=7)[0], tmp_path)
    assert tags[TIES] == (4.0, 9.0, 0.0, 5e5, 4.6e6, 0.0, 11.0, 16.0, 0.0, 500003.5, 4599996.5, 0.0)
    assert tags[MATRIX] == (9.0, -2.0, 0.0, 5e5 - 27 + 14, -2.0, -9.0, 0.0, 4.6e6 + 6 + 63, *[0.0] * 7, 1.0)


def test_growing_to_the_right_and_below_moves_nothing(tmp_path: Path) -> None:
    picture = decode_file(written(tmp_path, (noise(9, 12), PLACES["several"])))
    assert extended_canvas(picture, right=4, bottom=4)[0].metadata is picture.metadata


@pytest.mark.parametrize("orientation", [2, 6])
def test_a_turned_picture_has_no_place(tmp_path: Path, orientation: int) -> None:
    place = PLACES["one tie point"] | {KEYS: SYSTEM, NO_DATA: "0"}
    source = written(tmp_path, (noise(9, 12), place | {274: orientation}))
    with Image.open(source) as image:
        for picture in (decode_file(source), decode_image(image)):
            assert picture.notes == (NO_PLACE,)
            tags = tags_of(picture, tmp_path)
            assert not {SCALE, TIES, KEYS} & tags.keys()
            assert tags[NO_DATA] == "0"
    upright = written(tmp_path, (noise(9, 12), place | {274: 1}), name="upright.tif")
    assert decode_file(upright).notes == ()


def test_an_orientation_in_xmp_alone_turns_a_tiff_too(tmp_path: Path) -> None:
    """For Pillow goes by it, in the source as in the output."""
    tags, samples = Image.Exif(), noise(9, 12)
    tags[SCALE], tags[TIES] = PLACES["one tie point"].values()
    tags[700] = b'<x tiff:Orientation="6"/>'
    Image.fromarray(samples).save(tmp_path / "source.tif", exif=tags)
    picture = decode_file(tmp_path / "source.tif")
    assert np.array_equal(picture.samples[..., 0], np.rot90(samples, -1))
    assert picture.notes == (NO_PLACE,)
    assert not {SCALE, TIES} & tags_of(picture, tmp_path).keys()
    assert np.array_equal(decode_file(tmp_path / "out.tif").samples, picture.samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("orientation", "upright"), [(1, (200, 100)), (3, (200, 100)), (6, (100, 200))])
def test_resolution_is_turned_along(tmp_path: Path, orientation: int, upright: tuple[int, int], dtype: Any) -> None:
    resolution = {282: 200, 283: 100, 296: 2, 274: orientation}
    picture = decode_file(written(tmp_path, (noise(9, 12, 2, dtype=dtype), {262: 1, 338: 2} | resolution)))
    again = decode_file(save_picture(picture, tmp_path / "out.tif"))
    for kept in (picture.metadata, again.metadata):
        assert (kept.dpi, kept.tiff_resolution) == (upright, (*upright, 2))


def test_a_place_that_is_not_understood_is_left_out(tmp_path: Path) -> None:
    picture = decode_file(written(tmp_path, (noise(9, 12), {SCALE: (1.0, 1.0, 0.0), TIES: (0.0,) * 5})))
    grown, _ = extended_canvas(picture, top=1)
    assert not {SCALE, TIES} & tags_of(grown, tmp_path).keys()
    assert len(grown.notes) == 1


def test_other_exif_stays_byte_for_byte() -> None:
    for exif in (exif_block(1), b"II*\0\xff\xff\xff\xff", b"no EXIF", None):
        picture = Picture(noise(9, 9, 3), metadata=Metadata(exif=exif))
        assert extended_canvas(picture, left=1, top=2)[0].metadata is picture.metadata


# -------------------------------------------------------------------------------------------------------- descriptions


@pytest.mark.parametrize("frame", [1, 2, 5])
def test_a_page_of_imagej_keeps_its_unit(tmp_path: Path, frame: int) -> None:
    pages = [(noise(8, 9, seed=i, dtype=np.uint16), {270: IMAGEJ} if i == 0 else {}) for i in range(5)]
    picture = decode_file(written(tmp_path, *pages), frame)
    assert np.array_equal(picture.samples[..., 0], pages[frame - 1][0])
    assert picture.is_as_read
    assert picture.notes == ()
    assert tags_of(picture, tmp_path)[270] == IMAGEJ_OF_ONE
    assert tags_of(extended_canvas(picture, left=3)[0], tmp_path)[270] == IMAGEJ_OF_ONE


def test_imagej_of_one_directory(tmp_path: Path) -> None:
    """Of stacks of more than 4 GB only the first page has one; and a picture that was alone keeps all lines."""
    alone = IMAGEJ.replace("images=5", "images=1")
    for text, left, notes in ((IMAGEJ, IMAGEJ_OF_ONE, (NO_SLICES,)), (alone, alone, ())):
        picture = decode_file(written(tmp_path, (noise(8, 9), {270: text})))
        assert tags_of(picture, tmp_path)[270] == left
        assert picture.notes == notes


def test_unit_outside_of_ascii(tmp_path: Path) -> None:
    pages = [(noise(8, 9), {270: IMAGEJ.replace("um", "µm")}), (noise(8, 9), {})]
    told = tags_of(decode_file(written(tmp_path, *pages), 2), tmp_path)[270]
    assert told.encode("latin-1").decode() == IMAGEJ_OF_ONE.replace("um", "µm")


def test_ome_is_left_out_where_pages_or_size_are_others(tmp_path: Path) -> None:
    alone = decode_file(written(tmp_path, (noise(8, 9), {270: OME})))
    assert alone.notes == ()
    assert tags_of(alone, tmp_path)[270] == OME
    grown, _ = extended_canvas(alone, right=1)
    source = written(tmp_path, (noise(8, 9), {270: OME}), (noise(8, 9), {}))
    for picture in (grown, decode_file(source, 1), decode_file(source, 2)):
        assert picture.notes == (NO_OME,)
        assert 270 not in tags_of(picture, tmp_path)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_the_shape_of_tifffile_is_that_of_the_output(tmp_path: Path, shape: tuple[int, ...]) -> None:
    text = json.dumps({"shape": shape, "axes": "YXS"[: len(shape)], "laser": "488 nm"})
    picture = decode_file(written(tmp_path, (noise(*shape), {270: text})))
    assert tags_of(picture, tmp_path)[270] == text
    grown, _ = extended_canvas(picture, top=1)
    assert grown.notes == ()
    assert json.loads(tags_of(grown, tmp_path)[270]) == {"laser": "488 nm"}
    stack = [(noise(*shape), {270: json.dumps({"shape": (2, *shape)})}), (noise(*shape), {})]
    for frame in (1, 2):
        assert 270 not in tags_of(decode_file(written(tmp_path, *stack), frame), tmp_path)


@pytest.mark.parametrize("text", ["a plain one", "{no JSON", '{"shape": "round"}', "{}", "Öl"])
def test_other_descriptions_stay(tmp_path: Path, text: str) -> None:
    picture = decode_file(written(tmp_path, (noise(8, 9), {270: text}), (noise(8, 9), {})), 1)
    grown, _ = extended_canvas(picture, left=1)
    assert grown.metadata is picture.metadata
    assert tags_of(grown, tmp_path)[270].encode("latin-1").decode() == text
    assert 270 not in tags_of(decode_file(tmp_path / "source.tif", 2), tmp_path)


def test_what_else_is_told_stays_with_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270], exif[0x010F], exif[305] = IMAGEJ, "Müller".encode(), "Software"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    source = Picture(noise(9, 9, 3), metadata=Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0")))
    kept = decode_file(save_picture(source, tmp_path / "source.tif")).metadata.exif
    assert kept is not None
    tags = tiff_exif(kept)
    assert (tags[270], tags[0x010F].decode(), tags[305]) == (IMAGEJ_OF_ONE, "Müller", "Software")
    assert tags.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert tags.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif_of_a_turned_tiff_tells_the_size_that_it_has(tmp_path: Path, orientation: int) -> None:
    """Pillow turns it when it loads it, and leaves the EXIF directory as it was."""
    made, tags = Image.Exif(), Image.Exif()
    made[0x0112] = orientation
    made.get_ifd(0x8769).update({0xA002: 40, 0xA003: 30})
    tags.load(made.tobytes())
    Image.fromarray(noise(30, 40, 3)).save(tmp_path / "source.tif", exif=tags)
    for name in ("out.tif", "out.png"):
        with Image.open(save_picture(decode_file(tmp_path / "source.tif"), tmp_path / name)) as image:
            told = image.getexif().get_ifd(0x8769)
            assert (told[0xA002], told[0xA003]) == image.size == ((40, 30) if orientation < 5 else (30, 40))


def test_each_page_has_the_profile_that_it_has_itself(tmp_path: Path) -> None:
    """Pillow keeps that of the page before."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    one, two = (Image.fromarray(noise(8, 9, 3, seed=k)) for k in (1, 2))
    one.save(tmp_path / "two.tif", save_all=True, append_images=[two], icc_profile=profile)
    content = bytearray((tmp_path / "two.tif").read_bytes())
    second = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, second)[0]
    second = struct.unpack_from("<I", content, second + 2 + 12 * count)[0]
    at = content.index(struct.pack("<H", 34675), second)
    content[at : at + 2] = struct.pack("<H", 60000)  # some other tag
    (tmp_path / "two.tif").write_bytes(content)
    assert decode_file(tmp_path / "two.tif", 1).metadata.icc_profile == profile
    assert decode_file(tmp_path / "two.tif", 2).metadata.icc_profile is None


def test_colours_that_were_multiplied_keep_their_profile(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    samples = noise(8, 9, 4)
    samples[..., :3] = samples[..., :3].astype(int) * samples[..., 3:] // 255
    (tmp_path / "a.tif").write_bytes(tiff((samples, {338: 1, 34675: profile})))
    assert decode_file(tmp_path / "a.tif").metadata.icc_profile == profile
