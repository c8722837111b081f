"""Masks as people make them: what is meant is found, and what was made of them is told."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from picture_files import RNG
from pixmend.checkpoint import Model, save_model
from pixmend.cli import main
from pixmend.decoding import decode_file
from pixmend.errors import MaskError, OptionError
from pixmend.images import load_mask, mask_from_color, mask_samples, open_picture, read_mask
from pixmend.inpainting import inpainting
from pixmend.inputs import MaskOptions, mask_preview, read_inputs
from pixmend.mask_reading import near_colour, read_mask_array, read_mask_picture, small_parts, without_specks
from pixmend.pictures import Picture
from pixmend.unet import UNetConfig

SIZE = (90, 120)  # (H, W)


def drawn(mode: str, ground: Any, *colours: Any, scale: int = 1) -> Image.Image:
    """Two strokes and a disc, in these colours in turn."""
    height, width = SIZE[0] * scale, SIZE[1] * scale
    image = Image.new(mode, (width, height), ground)
    pen = ImageDraw.Draw(image)
    pick = [colours[i % len(colours)] for i in range(3)]
    pen.line((10 * scale, 20 * scale, 70 * scale, 30 * scale), pick[0], 9 * scale)
    pen.line((30 * scale, 80 * scale, 50 * scale, 40 * scale), pick[1], 7 * scale)
    pen.ellipse((80 * scale, 50 * scale, 110 * scale, 80 * scale), pick[2])
    return image


HOLE = np.asarray(drawn("L", 0, 255)) > 0
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 230, 0)


def spoilt(image: Image.Image, quality: int = 75, file_format: str = "JPEG") -> Image.Image:
    """What is left of it in a lossy file."""
    stream = io.BytesIO()
    image.save(stream, file_format, quality=quality)
    return Image.open(stream)


def opaque(*colours: tuple[int, int, int]) -> list[tuple[int, ...]]:
    return [(*colour, 255) for colour in colours]


MASKS: dict[str, Callable[[], Image.Image]] = {
    "white on black": lambda: drawn("RGB", 0, (255, 255, 255)),
    "paletted": lambda: drawn("RGB", 0, (255, 255, 255)).quantize(8),
    "red on white": lambda: drawn("RGB", (255, 255, 255), RED),
    "red on black": lambda: drawn("RGB", 0, RED),
    "blue on grey": lambda: drawn("RGB", (128, 128, 128), BLUE),
    "three colours on white": lambda: drawn("RGB", (255, 255, 255), RED, GREEN, YELLOW),
    "three colours on black": lambda: drawn("RGB", 0, RED, GREEN, BLUE),
    "colours and white on black": lambda: drawn("RGB", 0, RED, (255, 255, 255), BLUE),
    "red on nothing": lambda: drawn("RGBA", (0, 0, 0, 0), *opaque(RED)),
    "yellow and red on nothing": lambda: drawn("RGBA", (0, 0, 0, 0), *opaque(YELLOW, RED)),
    "yellow and green on clear white": lambda: drawn("RGBA", (255, 255, 255, 0), *opaque(YELLOW, GREEN)),
    "black on nothing": lambda: drawn("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)),
    "grey and alpha": lambda: drawn("LA", (0, 0), (255, 255)),
    "black and white, opaque alpha": lambda: drawn("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
    "red on white, opaque alpha": lambda: drawn("RGBA", (255, 255, 255, 255), *opaque(RED)),
}


@pytest.mark.parametrize("kind", MASKS)
def test_the_hole_is_what_was_painted(kind: str, tmp_path: Path) -> None:
    MASKS[kind]().save(tmp_path / "mask.png")
    assert np.array_equal(mask_samples(tmp_path / "mask.png"), HOLE)


@pytest.mark.parametrize("kind", [*MASKS][:8])  # those without alpha
@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_lossy_mask_differs_by_its_edges_alone(kind: str, quality: int, file_format: str) -> None:
    reading = read_mask(spoilt(MASKS[kind]().convert("RGB"), quality, file_format))
    near = np.asarray(drawn("L", 0, 255).filter(ImageFilter.MaxFilter(5))) > 0
    deep = np.asarray(drawn("L", 0, 255).filter(ImageFilter.MinFilter(5))) > 0
    hole = reading.strength >= 0.5
    assert not (hole & ~near).any()
    assert (hole | ~deep).all()


@pytest.mark.parametrize(
    ("mode", "ground", "colours", "doubt"),
    [
        ("RGB", 0, [(255, 255, 255)], 0.02),
        ("RGB", (255, 255, 255), [RED], 0.02),
        ("RGB", 0, [RED, GREEN, BLUE], 0.25),  # colours of other strengths: less exact
        ("RGBA", (0, 0, 0, 0), opaque(YELLOW, RED), 0.02),
    ],
)
def test_antialiased_strokes_are_cut_where_half_of_a_pixel_is_painted(
    mode: str, ground: Any, colours: list[Any], doubt: float
) -> None:
    fine = drawn(mode, ground, *colours, scale=8)
    covered = np.asarray(drawn("L", 0, 255, scale=8)).reshape(SIZE[0], 8, SIZE[1], 8).mean((1, 3)) / 255
    hole = mask_samples(fine.resize(SIZE[::-1], Image.Resampling.BOX))
    clear = np.abs(covered - 0.5) > doubt
    assert np.array_equal(hole[clear], covered[clear] > 0.5)


def test_jpeg_noise_is_left_out_and_counted() -> None:
    strength = np.zeros((40, 60), np.float32)
    strength[10:30, 10:40] = 1
    strength[3, 5:7] = 0.6  # a speck of noise
    strength[15, 20] = 0.4  # a pinhole of noise
    strength[35, 50] = 1  # a dot that somebody painted
    clean, specks = without_specks(strength)
    assert specks == 2
    assert not clean[3].any()
    assert (clean[10:30, 10:40] == 1).all()
    assert clean[35, 50] == 1


@pytest.mark.parametrize("file_format", ["WEBP", "JPEG"])
def test_no_grey_of_a_soft_mask_is_left_out(tmp_path: Path, file_format: str) -> None:
    """Of a lossless file above all; one that is cut at one half loses its specks."""
    grey = np.zeros((48, 64), np.uint8)
    grey[8:32, 8:40] = 255
    grey[40:42, 48:50], grey[16:18, 16:18] = 153, 102  # spots of 0.6, and of 0.4
    path = tmp_path / "mask.file"
    Image.fromarray(grey).convert("RGB").save(path, file_format, lossless=True, quality=100)
    hard, soft = (read_mask_picture(open_picture(path), soft=soft) for soft in (False, True))
    off = 0.005 if file_format == "WEBP" else 0.05
    np.testing.assert_allclose(soft.strength, grey / 255, atol=off)
    assert (soft.specks, hard.specks) == (0, 2)
    assert np.array_equal(load_mask(path, soft=True)[0, 0].numpy(), soft.strength)
    assert np.array_equal(load_mask(path, blur=0)[0, 0].numpy(), hard.strength >= 0.5)
    picture = RNG(0).integers(0, 256, (48, 64)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    assert read_inputs(tmp_path / "picture.png", MaskOptions(path, soft=True), [])[2] == []
    assert not hard.strength[40:42, 48:50].any()
    assert (hard.strength[16:18, 16:18] == 1).all()


def labels(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The connected parts of a mask by flooding from every pixel: slow and plain."""
    left, parts = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, []
    while left:
        part, todo = set(), [left.pop()]
        while todo:
            y, x = todo.pop()
            part.add((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        parts.append(part)
    return parts


@given(st.integers(1, 14), st.integers(1, 14), st.floats(0.1, 0.9), st.integers(0, 999), st.integers(1, 9))
def test_small_parts_are_those_that_flooding_finds(
    height: int, width: int, share: float, seed: int, pixels: int
) -> None:
    rng = RNG(seed)
    mask, firm = rng.random((height, width)) < share, rng.random((height, width)) < 0.05
    found, count = small_parts(mask, pixels, firm)
    small = [part for part in labels(mask) if len(part) < pixels and not any(firm[at] for at in part)]
    assert count == len(small)
    assert {(int(y), int(x)) for y, x in zip(*np.nonzero(found), strict=True)} == set().union(*small)


# -------------------------------------------------------------------------------- holes painted in the picture


def painted(tmp_path: Path) -> Path:
    samples = RNG(3).integers(0, 200, (40, 50, 3)).astype(np.uint8)
    samples[10:20, 15:30] = (255, 0, 255)
    samples[10, 15:18] = (250, 4, 252)
    path = tmp_path / "painted.png"
    Image.fromarray(samples).save(path)
    return path


@pytest.mark.parametrize("color", ["#ff00ff", "ff00ff", "#F0F", "magenta", "rgb(255, 0, 255)"])
def test_colour_tells_the_hole(tmp_path: Path, color: str) -> None:
    expected = np.zeros((40, 50), bool)
    expected[10:20, 15:30] = True
    exact = expected.copy()
    exact[10, 15:18] = False
    path = painted(tmp_path)
    assert np.array_equal(mask_from_color(path, color), exact)
    assert np.array_equal(mask_from_color(path, color, 4), exact)
    assert np.array_equal(mask_from_color(path, color, 5), expected)


def test_colour_that_is_nowhere_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        MaskError, match=r"within 3 of #fffffa; the nearest is (\d+) away: give --tolerance \1"
    ) as caught:
        mask_from_color(painted(tmp_path), "#fffffa", 3)
    nearest = int(str(caught.value).split("the nearest is ")[1].split()[0])
    assert mask_from_color(painted(tmp_path), "#fffffa", nearest).any()
    with pytest.raises(MaskError):
        mask_from_color(painted(tmp_path), "#fffffa", nearest - 1)


def test_the_nearest_colour_is_found_with_the_tolerance_that_is_named(tmp_path: Path) -> None:
    for value in (0.5, 0.2, 0.499, 7.5 / 255):
        Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "floats.tif")
        with pytest.raises(MaskError, match="give --tolerance") as caught:
            mask_from_color(tmp_path / "floats.tif", "#000000", 0)
        nearest = int(str(caught.value).split("--tolerance ")[1].split(",")[0])
        assert mask_from_color(tmp_path / "floats.tif", "#000000", nearest).all()


@pytest.mark.parametrize(("color", "tolerance"), [("#12", 0), ("nonsense", 0), ("#ff00ff", 256), ("#ff00ff", -1)])
def test_bad_colours(tmp_path: Path, color: str, tolerance: int) -> None:
    with pytest.raises(OptionError):
        mask_from_color(painted(tmp_path), color, tolerance)


def test_a_tolerance_that_takes_a_part_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = RNG(1).integers(0, 200, (*SIZE, 3)).astype(np.uint8)
    samples[HOLE] = (255, 0, 255)
    Image.fromarray(samples).save(tmp_path / "picture.png")
    Image.fromarray(samples).save(tmp_path / "picture.jpg", quality=75, subsampling=0)
    given = ("--mask-color", "#ff00ff", "--preview", tmp_path / "preview.png", "--overwrite")
    assert run(tmp_path / "picture.jpg", *given, "--tolerance", 2) == 0
    told = re.search(
        r"note: (\S+)% more of the picture is within 22 of #ff00ff; --tolerance 22 ", capsys.readouterr().err
    )
    few, more = (mask_from_color(tmp_path / "picture.jpg", "#ff00ff", n).mean() for n in (2, 22))
    assert told is not None
    assert float(told[1]) == pytest.approx(100 * (more - few), abs=0.06)
    for name, tolerance in (("picture.jpg", 60), ("picture.png", 0)):
        assert run(tmp_path / name, *given, "--tolerance", tolerance) == 0
        assert "more of the picture" not in capsys.readouterr().err


def test_transparent_pixels_have_no_colour() -> None:
    samples = np.full((1, 2, 4), 9, np.uint8)
    samples[0, 1, 3] = 0
    assert mask_from_color(samples, "#090909").tolist() == [[True, False]]


def test_colours_of_sixteen_bits_and_grey() -> None:
    deep = np.array([[[65535, 0, 65535], [65400, 100, 65400]]], np.uint16)
    assert mask_from_color(deep, "#ff00ff").tolist() == [[True, False]]
    assert mask_from_color(np.array([[7, 8]], np.uint8), "#070707").tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        (np.uint8, 1, "its lightest value is 1 of 255, .*multiply its values by 255$"),
        (np.uint8, 3, "its lightest value is 3 of 255, .*multiply its values by 85$"),
        (np.uint16, 1, "its lightest value is 1 of 65535, .*multiply its values by 65535$"),
        (np.uint16, 255, "its lightest value is 255 of 65535, .*multiply its values by 257$"),
        (np.float32, 0.25, "its lightest value is 0.25 of 1, .*multiply its values by 4$"),
    ],
)
@pytest.mark.parametrize("invert", [False, True])
def test_masks_of_labels_are_told_from_empty_ones(
    tmp_path: Path, dtype: type, value: float, says: str, invert: bool
) -> None:
    """In files, and in arrays, where 0 and 1 alone are known and hole."""
    labels: NDArray[Any] = np.where(HOLE, value, 0).astype(dtype)
    masks: list[Any] = [labels] if value != 1 else []
    if dtype != np.float32:
        Image.fromarray(labels).save(tmp_path / "labels.png")
        masks.append(tmp_path / "labels.png")
    picture = RNG(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    what = "covers the whole picture: " if invert else "marks nothing: "
    for mask in masks:
        with pytest.raises(MaskError, match=what + says):
            inpainting(picture, mask, invert_mask=invert)


def test_masks_of_labels_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(HOLE.astype(np.uint8)).save(tmp_path / "labels.png")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "picture.png")
    given = (tmp_path / "picture.png", "--mask", tmp_path / "labels.png")
    for more in ((), ("--invert-mask",)):
        assert run(*given, "-o", tmp_path / "out.png", *more) == 5
        told = capsys.readouterr().err
        assert "its lightest value is 1 of 255, and it is cut at one half" in told
        assert "--invert-mask" not in told
    assert run(*given, "--soft-mask", "--preview", tmp_path / "preview.png") == 0, "grey is strength, however weak"
    Image.new("L", SIZE[::-1]).save(tmp_path / "labels.png")
    assert run(*given, "-o", tmp_path / "out.png") == 5
    assert "use --invert-mask" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- preview


def test_preview_shows_the_hole_in_red_and_all_else_as_it_is(tmp_path: Path) -> None:
    samples = RNG(0).integers(0, 256, (40, 50)).astype(np.uint8)
    hole = np.zeros((40, 50), bool)
    hole[10:20, 15:30] = True
    shown = mask_preview(samples, hole, blur=0).samples.astype(int)
    assert np.array_equal(shown[~hole], samples[~hole][:, None].repeat(3, 1))
    assert np.abs(shown[hole] - (samples[hole][:, None] + np.array([255, 0, 0])) / 2).max() <= 0.5


def run(*arguments: object) -> int:
    return main(["inpaint", *map(str, arguments)])


def test_preview_alone_fills_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, preview = painted(tmp_path), tmp_path / "preview.png"
    given = (path, "--mask-color", "#ff00ff", "--tolerance", 5, "--preview", preview, "--overwrite")
    assert run(*given, "--grow-mask", 0) == 0
    assert "7.5% of the picture is marked" in capsys.readouterr().err
    assert run(*given) == 0
    assert "13.3% of the picture is marked" in capsys.readouterr().err, "two pixels around, where paint has a rim"
    assert decode_file(preview).samples[15, 20].tolist() == [255, 0, 128]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["painted.png", "preview.png"]
    assert run(path, "--mask-color", "#ff00ff", "--preview", preview) == 7


def test_paint_in_single_pixels_leaves_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = RNG(2).integers(0, 200, (80, 80, 3)).astype(np.uint8)
    samples[::5, ::5] = (255, 0, 255)
    Image.fromarray(samples).save(tmp_path / "dots.png")
    given = (tmp_path / "dots.png", "--mask-color", "#ff00ff", "--preview", tmp_path / "preview.png")
    assert run(*given) == 0
    told = re.search(r"note: (\S+)% of the picture is marked", capsys.readouterr().err)
    assert told is not None
    assert 30 < float(told[1]) < 40, "a pixel around each of every fifth, and not two"


@pytest.mark.parametrize(("grown", "is_left"), [((), False), (("--grow-mask", 0), True)])
def test_nothing_is_left_of_what_was_painted_with_a_smooth_rim(
    tmp_path: Path, grown: tuple[object, ...], is_left: bool
) -> None:
    fine = Image.new("RGB", (320, 320), (128, 128, 128))
    ImageDraw.Draw(fine).line((30, 20, 290, 260), (255, 0, 255), width=24)
    fine.resize((80, 80), Image.Resampling.BOX).save(tmp_path / "painted.png")
    done = run(tmp_path / "painted.png", "--mask-color", "#ff00ff", *grown, "-o", tmp_path / "out.png")
    assert done == 0
    off = np.abs(decode_file(tmp_path / "out.png").samples.astype(int) - 128).max()
    assert (off > 60) == is_left


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "nothing would be written; give -o OUT, --preview FILE, or both"),
        (["-o", "a.png", "--mask-from-alpha", "--mask-color", "red"], "--mask-from-alpha and --mask-color each tell"),
        (["-o", "a.png", "--tolerance", 3], "--tolerance is of --mask-color"),
        (["-o", "a.png", "--preview", "a.png"], "would be written twice"),
        (["-o", "a.png", "--frame", 2, "--mask-color", "red"], "has no frame 2; give 1, or none"),
    ],
)
def test_options_that_contradict_each_other(
    tmp_path: Path,
    options: list[object],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(painted(tmp_path), *options) == 2
    assert says in capsys.readouterr().err


def test_alpha_that_is_asked_for_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(painted(tmp_path), "--mask-from-alpha", "--preview", tmp_path / "p.png") == 5
    assert "no alpha channel" in capsys.readouterr().err


def test_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A frame of an animated GIF, its hole painted in it, written without a suffix: still a GIF, with known samples."""
    model = Model.new(UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16), size=16)
    tiny_model = save_model(tmp_path / "tiny.safetensors", model)
    frames = [Image.open(painted(tmp_path)).quantize(60) for _ in range(2)]
    frames[1] = frames[1].rotate(180)
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    command = [tmp_path / "moving.gif", "-o", tmp_path / "still", "--mask-color", "#ff00ff", "--tolerance", 20]
    assert run(*command) == 4
    assert "holds 2 frames or pages; take one: of a picture to work on with --frame 1 to 2" in capsys.readouterr().err
    assert run(*command, "--frame", 2, "--model", tiny_model, "--steps", 1, "--grow-mask", 0, "--json") == 0
    json.loads(capsys.readouterr().out)
    before, after = decode_file(tmp_path / "moving.gif", 2), decode_file(tmp_path / "still")
    hole = mask_from_color(before, "#ff00ff", 20)
    assert after.format == "GIF"
    assert np.array_equal(before.samples[~hole], after.samples[~hole][:, : before.samples.shape[2]])
    assert open_picture(tmp_path / "moving.gif", frame=2).samples.shape == before.samples.shape


def test_masks_of_floats_may_be_rounded() -> None:
    mask = np.array([[-1e-7, 0.3, 1.0000001]], np.float32)
    assert read_mask_array(mask).strength.tolist() == [[0.0, pytest.approx(0.3), 1.0]]
    with pytest.raises(MaskError, match="holds values from"):
        read_mask_array(mask * np.float32(1.01))


def test_no_colour_is_in_what_is_all_transparent() -> None:
    with pytest.raises(MaskError, match="all of the picture is transparent"):
        near_colour(Picture(np.zeros((4, 4, 4), np.uint8)), (255, 0, 255), 255)
