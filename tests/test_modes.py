"""Palettes, inks and floats: what is known comes back as the file had it, and what is new finds its place."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import RNG, noise, png, tiff
from pixmend import heif, tiff_bytes
from pixmend.decoding import decode_file
from pixmend.denoising.picture import denoise
from pixmend.encoding import check_savable, save_picture
from pixmend.errors import MaskError, OutputError, PictureError
from pixmend.images import mask_from_alpha, read_mask
from pixmend.inpainting import inpainting
from pixmend.pictures import Picture, composite
from pixmend.thumbnails import decode_thumbnail
from programs import imagemagick
from small_model import MODEL

HOLE = np.s_[4:12, 6:20]


def paletted(path: Path, colours: int, entries: int, seed: int = 0) -> Path:
    """A file of indices below `colours`, whose palette has more entries, all different."""
    rng = RNG(seed)
    image = Image.fromarray(rng.integers(0, colours, (20, 30)).astype(np.uint8))
    palette = rng.permutation(np.stack(np.meshgrid(*[np.arange(7) * 40] * 3), -1).reshape(-1, 3))[:entries]
    image.putpalette(palette.astype(np.uint8).tobytes())
    image.save(path, optimize=False)
    return path


def filled(picture: Picture, fill: NDArray[np.float32]) -> tuple[Picture, NDArray[np.bool_]]:
    soft = np.zeros(picture.size, np.float32)
    soft[HOLE] = 1
    return composite(picture, fill, soft), soft == 0


def indices(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What a file stores: its indices, and its palette (N, 3)."""
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image), np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
@pytest.mark.parametrize(("colours", "entries"), [(3, 5), (40, 40), (200, 256)])
def test_known_indices_and_entries_in_use_stay(tmp_path: Path, suffix: str, colours: int, entries: int) -> None:
    source = paletted(tmp_path / f"source{suffix}", colours, entries)
    fill = RNG(1).uniform(-1, 1, (20, 30, 3)).astype(np.float32)
    picture, known = filled(decode_file(source), fill)
    out = save_picture(picture, tmp_path / f"out{suffix}")
    (before, palette), (after, new_palette) = indices(source), indices(out)
    assert np.array_equal(before[known], after[known])
    used = np.unique(before[known])
    assert np.array_equal(palette[used], new_palette[used])
    assert np.array_equal(decode_file(out).samples[known], picture.samples[known])
    if colours < 100:  # there is room for each of the 112 colours of the fill
        assert np.array_equal(decode_file(out).samples, picture.samples)


def test_full_palette_gives_the_nearest_colours(tmp_path: Path) -> None:
    source = tmp_path / "source.png"
    levels = np.arange(600).reshape(20, 30) % 256
    image = Image.fromarray(levels.astype(np.uint8))
    image.putpalette(np.repeat(np.arange(256), 3).astype(np.uint8).tobytes())  # all greys, all of them in use
    image.save(source)
    fill = np.broadcast_to(np.array([0.51, 0.5, 0.49], np.float32), (20, 30, 3))
    picture, known = filled(decode_file(source), fill)
    assert set(levels[known]) == set(range(256))
    after, palette = indices(save_picture(picture, tmp_path / "out.png"))
    assert np.array_equal(after[known], levels[known])
    assert set(after[HOLE].ravel()) == {191}  # of (193, 191, 190)
    assert np.array_equal(palette, np.arange(256)[:, None].repeat(3, 1))


def test_an_index_without_an_entry_keeps_its_colour(tmp_path: Path) -> None:
    """It is black; the fill's colour goes elsewhere."""
    before = [(b"PLTE", bytes([10, 20, 30, 40, 50, 60])), (b"tRNS", b"\xff\x80")]
    (tmp_path / "source.png").write_bytes(png(4, 1, 8, 3, bytes([0, 0, 1, 2]), before))
    picture = decode_file(tmp_path / "source.png")
    assert picture.samples[0, 3].tolist() == [0, 0, 0, 255]
    soft = np.array([[1, 0, 0, 0]], np.float32)
    out = save_picture(composite(picture, np.full((1, 4, 3), 0.5, np.float32), soft), tmp_path / "out.png")
    assert indices(out)[0][0, 1:].tolist() == [0, 1, 2]
    assert np.array_equal(decode_file(out).samples[0, 1:], picture.samples[0, 1:])
    assert decode_file(out).samples[0, 0].tolist() == [191, 191, 191, 255]


def test_transparent_entries_stay(tmp_path: Path) -> None:
    source = paletted(tmp_path / "source.png", 5, 5)
    with Image.open(source) as image:
        image.save(tmp_path / "clear.png", transparency=bytes([0, 90, 255, 255, 255]))
        image.save(tmp_path / "clear.gif", transparency=2)
    for name in ("clear.png", "clear.gif"):
        picture, known = filled(decode_file(tmp_path / name), np.full((20, 30, 3), 0.1, np.float32))
        out = save_picture(picture, tmp_path / f"out-{name}")
        assert np.array_equal(indices(out)[0][known], indices(tmp_path / name)[0][known])
        assert np.array_equal(decode_file(out).samples[known], picture.samples[known])
        assert decode_file(out).has_alpha


@pytest.mark.parametrize("colours", [2, 3, 40, 255])
def test_frames_behind_the_first_have_a_palette_too(tmp_path: Path, colours: int) -> None:
    """Pillow gives them as RGB."""
    with (
        Image.open(paletted(tmp_path / "one.gif", colours, colours)) as one,
        Image.open(paletted(tmp_path / "two.gif", colours, colours, seed=1)) as two,
    ):
        one.save(tmp_path / "both.gif", save_all=True, append_images=[two])
    before = decode_file(tmp_path / "both.gif", 2)
    assert before.mode == "RGB"
    with Image.open(tmp_path / "two.gif") as two:
        assert np.array_equal(before.samples[..., :3], np.asarray(two.convert("RGB")))
    picture, known = filled(before, np.full((20, 30, 3), 0.1, np.float32))
    after = decode_file(save_picture(picture, tmp_path / "out.gif"))
    assert np.array_equal(after.colour()[known], picture.colour()[known])


def test_palette_without_a_known_pixel_becomes_rgb(tmp_path: Path) -> None:
    before = decode_file(paletted(tmp_path / "source.png", 5, 5))
    picture = composite(before, RNG(0).uniform(-1, 1, (20, 30, 3)).astype(np.float32), np.ones((20, 30), np.float32))
    after = decode_file(save_picture(picture, tmp_path / "out.png"))
    assert after.mode == "RGB"
    assert np.array_equal(after.samples, picture.samples)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_the_fill_comes_back_in_the_colours_of_the_file(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source.tif"
    Image.frombytes(mode, (30, 20), noise(20, 30, 4 if mode == "CMYK" else 3, seed=2).tobytes()).save(source)
    before = decode_file(source)
    picture, known = filled(before, np.broadcast_to(np.array([0.2, -0.1, 0.4], np.float32), (20, 30, 3)))
    out = save_picture(picture, tmp_path / "out.tif")
    with Image.open(source) as old, Image.open(out) as new:
        assert new.mode == mode
        assert np.array_equal(np.asarray(old)[known], np.asarray(new)[known])
    assert np.abs(decode_file(out).samples[HOLE].astype(int) - picture.samples[HOLE]).max() <= 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_colours_multiplied_with_their_alpha_come_back_so(tmp_path: Path, mode: str) -> None:
    """As ImageMagick writes and reads them: dividing by alpha and multiplying again would round."""
    convert = imagemagick()
    samples = noise(20, 30, len(mode))
    samples[..., -1] |= 64
    Image.fromarray(samples).save(tmp_path / "plain.png")
    source = tmp_path / "source.tif"
    subprocess.run([convert, tmp_path / "plain.png", "-define", "tiff:alpha=associated", source], check=True)
    picture, known = filled(decode_file(source), np.broadcast_to(np.array([0.2, -0.1, 0.4], np.float32), (20, 30, 3)))
    out = save_picture(picture, tmp_path / "out.tif")
    read = []
    for path in (source, out):
        with Image.open(path) as image:
            assert image.tag_v2[338] == (1,)  # type: ignore[attr-defined]
            assert image.tag_v2.tagtype[338] == 3  # type: ignore[attr-defined]
        raw = subprocess.run([convert, path, "-depth", "16", "RGBA:-"], check=True, capture_output=True).stdout
        read.append(np.frombuffer(raw, np.uint16).reshape(20, 30, 4))
    assert np.array_equal(read[0][known], read[1][known])
    assert np.abs(decode_file(out).samples[HOLE].astype(int) - picture.samples[HOLE]).max() <= 4  # a step is 255/64


def test_a_palette_of_16_bits_keeps_them(tmp_path: Path) -> None:
    source = paletted(tmp_path / "source.tif", 40, 40)
    data = bytearray(source.read_bytes())
    directory = tiff_bytes.Directory(data)
    deep = RNG(4).integers(0, 65536, 768)
    directory.set_longer(320, deep.tolist())
    source.write_bytes(data)
    picture, known = filled(decode_file(source), RNG(1).uniform(-1, 1, (20, 30, 3)).astype(np.float32))
    out = save_picture(picture, tmp_path / "out.tif")
    with Image.open(source) as old, Image.open(out) as new:
        used = np.unique(np.asarray(old)[known])
        before, after = (np.array(one.tag_v2[320]).reshape(3, -1) for one in (old, new))  # type: ignore[attr-defined]
    assert len(used) == 40
    assert np.array_equal(before[:, used], after[:, used])


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (-300.0, 41000.0), (7.0, 7.0)])
def test_floats_are_filled_within_their_range(tmp_path: Path, low: float, high: float) -> None:
    values = RNG(0).uniform(low, high, (20, 30)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "source.tif")
    before = decode_file(tmp_path / "source.tif")
    black, white = before.span
    assert (black, white) == ((0, 1) if high < 1 else (values.min(), values.max() + (low == high)))
    assert np.abs(before.colour()[..., 0] - ((values - black) / (white - black) * 2 - 1)).max() < 1e-6
    fill = np.full((20, 30, 3), -1, np.float32)
    fill[:, 15:] = 1
    picture, known = filled(before, fill)
    after = decode_file(save_picture(picture, tmp_path / "out.tif"))
    assert after.samples.dtype == np.float32
    assert np.array_equal(after.samples[known][:, 0], values[known])
    assert np.allclose(after.samples[4:12, 6:15], black)
    assert np.allclose(after.samples[4:12, 15:20], white)
    with pytest.raises(OutputError, match=r"holds no floats.*use \.tiff"):
        check_savable(picture, "out.png")


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_the_hole(nothing: float, tmp_path: Path) -> None:
    values = (300 * np.random.default_rng(0).random((20, 30))).astype(np.float32)
    hole = np.zeros((20, 30), bool)
    hole[4:12, 6:20] = True
    Image.fromarray(np.where(hole, np.float32(nothing), values)).save(tmp_path / "in.tif")
    before = decode_file(tmp_path / "in.tif")
    assert before.colour_span == (values[~hole].min(), values[~hole].max())
    assert np.array_equal(mask_from_alpha(before), hole)
    assert np.isfinite(before.colour()).all()
    result = inpainting(before, model=MODEL, device="cpu", blur=0)
    after = decode_file(save_picture(result.pictures[0], tmp_path / "out.tif")).samples[..., 0]
    assert np.array_equal(after[~hole], values[~hole])
    assert np.isfinite(after).all()
    softly = inpainting(before, hole, model=MODEL, device="cpu", blur=2).pictures[0].samples[..., 0]
    assert np.isfinite(softly).all()


def test_what_is_not_finite_beside_the_hole_is_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    values[5, 5] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    hole = np.zeros((20, 30), bool)
    hole[10:15, 10:15] = True
    with pytest.raises(PictureError, match=r"not finite, .* beside the hole"):
        inpainting(tmp_path / "nan.tif", hole, model=MODEL, device="cpu")
    with pytest.raises(PictureError, match=r"not finite, .*; fill them first"):
        denoise(tmp_path / "nan.tif", device="cpu")
    with pytest.raises(PictureError, match=r"not finite, .*; give a picture that is whole"):
        decode_thumbnail(tmp_path / "nan.tif", 10)
    with pytest.raises(MaskError, match="not finite"):
        read_mask(tmp_path / "nan.tif")
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "all.tif")
    with pytest.raises(PictureError, match="no value is finite and measured"):
        decode_file(tmp_path / "all.tif")


def test_gif_of_too_many_colours_is_refused_beforehand() -> None:
    with pytest.raises(OutputError, match="256 colours"):
        check_savable(Picture(noise(4, 4, 3)), "out.gif")
    assert check_savable(Picture(noise(4, 4, 1)), "out.gif") == "GIF"


def test_heic_without_its_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "find_spec", lambda name: None)
    heif.register_heif.cache_clear()
    try:
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        with pytest.raises(PictureError, match=r'pip install "pixmend\[heif\]"'):
            decode_file(tmp_path / "a.heic")
        with pytest.raises(OutputError, match=r'pip install "pixmend\[heif\]"'):
            check_savable(Picture(noise(4, 4, 3)), "out.heic")
    finally:
        heif.register_heif.cache_clear()


def test_name_without_a_suffix_takes_the_format_of_the_source(tmp_path: Path) -> None:
    for suffix in (".tif", ".bmp", ".webp", ".png"):
        source = save_picture(Picture(noise(9, 9, 3)), tmp_path / f"source{suffix}")
        picture = decode_file(source)
        assert decode_file(save_picture(picture, tmp_path / f"out-{suffix[1:]}")).format == picture.format


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint16, np.float32])
def test_grey_with_white_as_zero_comes_back_so(tmp_path: Path, kind: type[np.generic]) -> None:
    """The stored numbers, which Pillow is shown as if 0 were black."""
    numbers = noise(20, 30, dtype=np.uint16)
    stored: NDArray[Any] = numbers > 32767 if kind is np.bool_ else numbers.astype(kind)
    (tmp_path / "source.tif").write_bytes(tiff((stored, {262: 0})))
    before = decode_file(tmp_path / "source.tif")
    if kind is not np.float32:
        assert np.array_equal(before.samples[..., 0], (~stored).astype(np.uint8) * 255 if kind is np.bool_ else ~stored)
    picture, known = filled(before, np.full((20, 30, 3), 0.2, np.float32))
    out = save_picture(picture, tmp_path / "out.tif")
    after = decode_file(out)
    assert np.array_equal(after.samples, picture.samples)
    assert tiff_bytes.Directory(bytearray(out.read_bytes())).number(262, 1) == 0
    raw = bytearray(out.read_bytes())
    tiff_bytes.Directory(raw).set(262, 1, 3)
    with Image.open(io.BytesIO(raw)) as image:
        assert np.array_equal(np.asarray(image)[known], stored[known])
    if kind is not np.float32:  # other formats know one way round alone
        assert np.array_equal(decode_file(save_picture(picture, tmp_path / "out.png")).samples, picture.samples)
