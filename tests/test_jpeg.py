"""JPEGs: blocks that no change touches keep their coefficients, and every marker segment stays what it was."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import RNG, exif_block, noise
from pixmend import jpeg, jpeg_editing, platforms
from pixmend.decoding import decode_file
from pixmend.encoding import save_picture
from pixmend.jpeg_segments import APP1, APP13, APP14, COM, Segment, bare, join, split
from pixmend.pictures import Picture, composite, turned, turned_back
from programs import imagemagick, program

jpeglib = pytest.importorskip("jpeglib", reason="coefficients are read back with jpeglib")

PROFILE = bytes(range(256)) * 300  # longer than one segment
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6">title</x:xmpmeta>'


def scene(height: int = 93, width: int = 137) -> NDArray[np.uint8]:
    """Squares of many colours under a little noise: (H, W, 3)."""
    squares = RNG(0).integers(0, 256, (height // 9 + 1, width // 7 + 1, 3)).repeat(9, 0).repeat(7, 1)[:height, :width]
    return (squares * 0.9 + noise(height, width, 3) * 0.1).astype(np.uint8)


def write(path: Path, orientation: int = 1, *, grey: bool = False, **given: Any) -> Path:
    options: dict[str, Any] = {"quality": 85, "icc_profile": PROFILE, "xmp": XMP, "comment": b"a comment"}
    options |= {"exif": b"Exif\0\0" + exif_block(orientation)} | given
    Image.fromarray(scene()[..., 0] if grey else scene()).save(path, **options)
    return path


def coefficients(path: Path) -> Any:
    with jpeglib.version("turbo210"):  # which reads arithmetic coding too
        coded = jpeglib.read_dct(str(path))
        coded.load()
    return coded


def mended(picture: Picture, box: tuple[slice, slice] = np.s_[40:60, 50:75]) -> tuple[Picture, NDArray[np.bool_]]:
    """The picture with a soft-edged patch of green, and where the soft mask is more than 0."""
    soft = np.zeros(picture.size, np.float32)
    soft[box] = 0.5
    soft[box[0].start + 2 : box[0].stop - 2, box[1].start + 2 : box[1].stop - 2] = 1
    fill = np.broadcast_to(np.array([-0.5, 0.7, -0.2], np.float32), (*picture.size, 3))
    return composite(picture, fill, soft), soft > 0


def blocks_touched(touched: NDArray[np.bool_], blocks: tuple[int, int], step: tuple[int, int]) -> NDArray[np.bool_]:
    """Which blocks of a component cover a touched pixel of the file, straight from the definition."""
    covered = np.zeros(blocks, np.bool_)
    for y, x in zip(*np.nonzero(touched), strict=True):
        covered[y // (8 * step[0]), x // (8 * step[1])] = True
    return covered


KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {},
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2, progressive": {"subsampling": "4:2:2", "progressive": True},
    "4:2:0, progressive": {"progressive": True},
    "grey": {"grey": True},
    "grey, progressive": {"grey": True, "progressive": True},
    "RGB": {"keep_rgb": True},
    "with restarts": {"restart_marker_blocks": 3},
    "at quality 100": {"quality": 100},
    "at quality 5": {"quality": 5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_untouched_blocks_keep_their_coefficients(tmp_path: Path, kind: str) -> None:
    source = write(tmp_path / "source.jpg", **KINDS[kind])
    picture, touched = mended(decode_file(source))
    told: list[str] = []
    out = save_picture(picture, tmp_path / "out.jpg", note=told.append)
    before, after = coefficients(source), coefficients(out)
    factors = before.samp_factor.max(0) // before.samp_factor
    same = total = 0
    for i, name in enumerate(("Y", "Cb", "Cr")[: picture.channels]):
        old, new = getattr(before, name), getattr(after, name)
        reached = blocks_touched(touched, old.shape[:2], tuple(factors[i]))
        assert np.array_equal(old[~reached], new[~reached]), name
        assert (old[reached] != new[reached]).any(), name
        same, total = same + int((~reached).sum()), total + reached.size
    assert told == [f"{out}: {same / total:.1%} of the JPEG's blocks keep their coefficients exactly"]
    assert np.array_equal(before.qt, after.qt)
    assert np.array_equal(before.samp_factor, after.samp_factor)
    assert before.progressive_mode == after.progressive_mode
    assert before.jpeg_color_space == after.jpeg_color_space


@pytest.mark.parametrize("kind", [*KINDS][:-1])  # at quality 5 a tie in rounding makes a difference of 30 levels
def test_the_fill_is_as_good_as_the_tables_allow(tmp_path: Path, kind: str) -> None:
    """In blocks that are filled as a whole, the result is as near to what was wanted as libjpeg's own encoding is."""
    source = write(tmp_path / "source.jpg", **KINDS[kind])
    picture, _ = mended(decode_file(source), np.s_[16:80, 16:96])
    out = decode_file(save_picture(picture, tmp_path / "out.jpg"))
    stream = io.BytesIO()
    samples = picture.samples[..., 0] if picture.channels == 1 else picture.samples
    Image.fromarray(samples).save(stream, "JPEG", **decode_file(source).metadata.jpeg)
    other = np.asarray(Image.open(stream)).reshape(picture.samples.shape)
    inside = np.s_[36:60, 36:76]
    ours, theirs = (np.abs(one[inside].astype(int) - picture.samples[inside]) for one in (out.samples, other))
    assert ours.mean() <= theirs.mean() + 0.5
    assert ours.max() <= theirs.max() + 2


def test_pixels_beyond_the_touched_blocks_decode_the_same(tmp_path: Path) -> None:
    """But for one sample of chroma around them, with which decoders that interpolate it look across the border."""
    for name, subsampling, reach in (("fine", "4:4:4", 0), ("coarse", "4:2:0", 2)):
        before = decode_file(write(tmp_path / f"{name}.jpg", subsampling=subsampling))
        after = decode_file(save_picture(mended(before)[0], tmp_path / f"{name}-out.jpg"))
        size = 8 if reach == 0 else 16
        box = [(s.start // size * size - reach, -(-s.stop // size) * size + reach) for s in np.s_[40:60, 50:75]]
        differs = (before.samples != after.samples).any(2)
        differs[box[0][0] : box[0][1], box[1][0] : box[1][1]] = False
        assert not differs.any()


@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2, progressive", "grey"])
def test_ten_edits_elsewhere_drift_by_nothing(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "picture.jpg", **KINDS[kind])
    first = coefficients(path)
    for i in range(10):
        top, left = 48 + 3 * (i % 4), 64 + 2 * i
        picture, touched = mended(decode_file(path), np.s_[top : top + 12, left : left + 14])
        assert not touched[:48].any()
        assert not touched[:, :64].any()
        save_picture(picture, path, overwrite=True)
    last = coefficients(path)
    for i, name in enumerate(("Y", "Cb", "Cr")[: 1 if kind == "grey" else 3]):
        step = first.samp_factor.max(0) // first.samp_factor[i]
        rows, columns = 48 // (8 * step[0]), 64 // (8 * step[1])
        old, new = getattr(first, name), getattr(last, name)
        assert np.array_equal(old[:rows], new[:rows]), name
        assert np.array_equal(old[:, :columns], new[:, :columns]), name


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "grey", "RGB"])
def test_the_same_fill_again_changes_less_each_time(tmp_path: Path, kind: str) -> None:
    """What is known in the hole's blocks is rounded with it, and must not wander off with every edit."""
    path = write(tmp_path / "picture.jpg", **KINDS[kind])
    soft = np.zeros((93, 137), np.float32)
    soft[40:60, 50:76] = 1
    fill = np.broadcast_to(np.array([-0.5, 0.7, -0.2], np.float32), (93, 137, 3))
    moved, shown = [], [decode_file(path).samples.astype(int)]
    for _ in range(5):
        before = coefficients(path)
        save_picture(composite(decode_file(path), fill, soft), path, overwrite=True)
        after = coefficients(path)
        names = ("Y", "Cb", "Cr")[: 1 if kind == "grey" else 3]
        moved.append(sum(int((getattr(before, name) != getattr(after, name)).sum()) for name in names))
        shown.append(decode_file(path).samples.astype(int))
    assert moved[0] > 4 * moved[1] > 0
    assert all(later < earlier or later <= 2 for earlier, later in pairwise(moved)), moved
    first, more = (np.abs(shown[i] - shown[j])[soft == 0].mean() for i, j in ((0, 1), (1, -1)))
    assert more < first / 2


def named(data: bytes, names: bytes, *, adobe: bool) -> bytes:
    """A JPEG in one scan whose three components are called so; with or without its Adobe segment."""
    segments, rest = split(data)
    segments = [one for one in segments if adobe or one.marker != APP14]
    (at,) = (i for i, one in enumerate(segments) if one.marker == 0xC0)
    frame, scan = bytearray(segments[at].payload), bytearray(rest)
    frame[6::3], scan[5:11:2] = names, names
    return join([*segments[:at], Segment(0xC0, bytes(frame)), *segments[at + 1 :]], bytes(scan))


@pytest.mark.parametrize(("names", "adobe"), [(b"RGB", True), (b"RGB", False), (b"\1\2\3", True)])
def test_rgb_stays_rgb_by_whatever_it_is_told(tmp_path: Path, names: bytes, adobe: bool) -> None:
    path = write(tmp_path / "picture.jpg", keep_rgb=True, quality=95)
    path.write_bytes(named(path.read_bytes(), names, adobe=adobe))
    before = decode_file(path)
    assert np.abs(before.samples.astype(int) - scene()).mean() < 3
    box = np.s_[40:64, 48:72]  # whole blocks
    soft = np.zeros((93, 137), np.float32)
    soft[box] = 1
    for colour in ([-0.5, 0.7, -0.2], [0.9, -0.8, 0.3]):
        fill = np.broadcast_to(np.array(colour, np.float32), (93, 137, 3))
        save_picture(composite(decode_file(path), fill, soft), path, overwrite=True)
        after = decode_file(path).samples
        assert np.array_equal(after[soft == 0], before.samples[soft == 0])
        assert np.abs(after[box] - (np.array(colour) + 1) * 127.5).max() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_and_coefficients_stay_and_the_fill_is_turned_back(tmp_path: Path, orientation: int) -> None:
    source = write(tmp_path / "source.jpg", orientation)
    picture = decode_file(source)
    picture, touched = mended(picture, np.s_[24:48, 60:90] if orientation < 5 else np.s_[60:90, 24:48])
    out = save_picture(picture, tmp_path / "out.jpg")
    with Image.open(out) as image:
        assert image.getexif()[0x0112] == orientation
    lies = turned_back(touched, orientation)
    old, new = coefficients(source).Y, coefficients(out).Y
    reached = blocks_touched(lies, old.shape[:2], (1, 1))
    assert np.array_equal(old[~reached], new[~reached])
    shown = decode_file(out).samples
    whole = touched & (np.abs(picture.samples.astype(int) - [64, 217, 102]).max(2) <= 1)  # the pure green
    assert np.abs(shown[whole].astype(int) - picture.samples[whole]).mean() < 8
    assert np.array_equal(turned(lies, orientation), touched)


def test_segments_stay_byte_for_byte(tmp_path: Path) -> None:
    source = write(tmp_path / "source.jpg", 6)
    segments, rest = split(source.read_bytes())
    strange = [
        Segment(0xEB, b"of a maker that nobody knows"),
        Segment(APP13, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x04iptc"),
        Segment(COM, b"a second comment"),
        Segment(APP1, b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 60000),
    ]
    source.write_bytes(join([*segments[:1], *strange, *segments[1:]], rest))
    out = save_picture(mended(decode_file(source))[0], tmp_path / "out.jpg")
    kept, _ = split(out.read_bytes())
    before, after = (
        [one for one in found if one.describes and not one.payload.startswith(b"Exif")]
        for found in (split(source.read_bytes())[0], kept)
    )
    assert len(before) >= 8
    assert before == after
    with Image.open(out) as image:
        assert image.info["icc_profile"] == PROFILE


def test_damage_that_decoders_overlook_is_told_once_and_in_our_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library itself would write to stderr, and once for each pass through the file."""
    source = write(tmp_path / "source.jpg")
    data = bytearray(source.read_bytes())
    data[-400:-384] = b"\xff\0" * 8  # ones alone are no Huffman code
    source.write_bytes(data)
    picture, _ = mended(decode_file(source))
    told: list[str] = []
    save_picture(picture, tmp_path / "out.jpg", note=told.append)
    assert capfd.readouterr().err == ""
    assert len(told) == 1
    assert told[0].count("Corrupt JPEG data") == 1
    with jpeg._warnings_of_libjpeg() as warnings:
        os.write(2, b"of another thread\nCorrupt JPEG data: x\nCorrupt JPEG data: x\n")
    assert warnings() == ["Corrupt JPEG data: x"]
    assert capfd.readouterr().err == "of another thread\n"


def test_without_a_change_the_file_is_the_same(tmp_path: Path) -> None:
    source = write(tmp_path / "source.jpg", 3)
    out = save_picture(decode_file(source), tmp_path / "out.jpg")
    assert out.read_bytes() == source.read_bytes()


def test_where_c_cannot_open_names_blocks_are_kept_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, whose C takes the UTF-8 of jpeglib for something else."""
    home, short, all_users = (tmp_path / name for name in ("Jürgen", "JRGEN~1", "ProgramData"))
    for folder in (home, short, all_users):
        folder.mkdir()
    read, seen = jpeglib.read_dct, list[Path]()

    def by_c(path: str) -> Any:
        if not path.isascii():
            raise OSError(f"{path} does not exist")
        seen.append(Path(path).parent.parent)
        return read(path)

    monkeypatch.setattr(jpeglib, "read_dct", by_c)
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    monkeypatch.setenv("PROGRAMDATA", str(all_users))
    data = bare(write(tmp_path / "a.jpg").read_bytes())
    samples = np.array(Image.open(io.BytesIO(data)))
    assert jpeg.with_changes(data, samples, samples) is None
    monkeypatch.setattr(platforms, "WINDOWS", True)
    for name in (short, home):  # the short name may be the long one
        monkeypatch.setattr(jpeg, "_short", lambda path, name=name: path.replace(str(home), str(name)))
        result = jpeg.with_changes(data, samples, samples)
        assert result is not None
        assert result[1] == 1
    assert seen == [short, all_users]
    assert not [file for folder in (home, short, all_users) for file in folder.iterdir()]


@pytest.mark.parametrize("kind", KINDS)
def test_without_jpeglib_the_tables_and_segments_stay(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg, "can_keep_blocks", lambda: False)
    monkeypatch.setattr(jpeg_editing, "can_keep_blocks", lambda: False)
    source = write(tmp_path / "source.jpg", 6, **KINDS[kind])
    picture, touched = mended(decode_file(source))
    told: list[str] = []
    out = save_picture(picture, tmp_path / "out.jpg", note=told.append)
    assert "encoded anew" in told[0]
    assert 'pip install "pixmend[jpeg]"' in told[0]
    with Image.open(source) as before, Image.open(out) as after:
        assert before.quantization == after.quantization  # type: ignore[attr-defined]
        assert [c[:3] for c in before.layer] == [c[:3] for c in after.layer]  # type: ignore[attr-defined]
        assert bool(before.info.get("progressive")) == bool(after.info.get("progressive"))
        assert after.getexif()[0x0112] == 6
        for key in ("icc_profile", "comment", "xmp"):
            assert before.info[key] == after.info[key]
    error = np.abs(decode_file(out).samples.astype(int) - picture.samples)[~touched]
    assert error.mean() < (5 if kind != "at quality 5" else 12)


def write_inks(path: Path, kind: str) -> Path:
    """A CMYK JPEG: of Pillow, or with Y, Cb and Cr of its colours coarser than black, as ImageMagick writes it."""
    source = path.with_suffix(".tif")
    Image.fromarray(scene()).convert("CMYK").save(source)
    if kind == "CMYK":
        Image.open(source).save(path, quality=90, exif=b"Exif\0\0" + exif_block(6))
    else:
        subprocess.run([imagemagick(), source, *f"-quality 90 -sampling-factor {kind}".split(), path], check=True)
    return path


@pytest.mark.parametrize("kind", ["CMYK", "1x1", "2x2", "2x2 -interlace Plane"])
def test_inks_keep_their_blocks(tmp_path: Path, kind: str) -> None:
    source = write_inks(tmp_path / "source.jpg", kind)
    picture, touched = mended(decode_file(source), np.s_[32:80, 32:80])
    told: list[str] = []
    out = save_picture(picture, tmp_path / "out.jpg", note=told.append)
    assert "keep their coefficients exactly" in told[0]
    before, after = coefficients(source), coefficients(out)
    factors = before.samp_factor.max(0) // before.samp_factor
    lying = turned_back(touched, 6 if kind == "CMYK" else 1)
    for i, name in enumerate(("Y", "Cb", "Cr", "K")):
        old, new = getattr(before, name), getattr(after, name)
        reached = blocks_touched(lying, old.shape[:2], tuple(factors[i]))
        assert np.array_equal(old[~reached], new[~reached]), name
        assert (old[reached] != new[reached]).any() or name == "K", name
    assert np.array_equal(before.samp_factor, after.samp_factor)
    with Image.open(source) as first, Image.open(out) as last:
        assert (first.mode, first.info["adobe_transform"]) == (last.mode, last.info["adobe_transform"])
        assert last.info["adobe_transform"] == (0 if kind == "CMYK" else 2)
        assert bool(first.info.get("progressive")) == bool(last.info.get("progressive"))
    inside = np.s_[48:64, 48:64]
    error = decode_file(out).samples[inside].astype(int) - picture.samples[inside]
    assert np.abs(error).max() <= 12


def test_black_ink_that_changes_is_encoded_anew(tmp_path: Path) -> None:
    """Of black, jpeglib writes the coefficients as they were, whatever is said."""
    inks = np.zeros((93, 137, 4), np.uint8)
    inks[..., 0], inks[32:80, 32:80, 3] = 20, 255
    source = tmp_path / "source.jpg"
    Image.frombytes("CMYK", (137, 93), inks.tobytes()).save(source, quality=95)
    picture, _ = mended(decode_file(source), np.s_[28:84, 28:84])
    told: list[str] = []
    out = save_picture(picture, tmp_path / "out.jpg", note=told.append)
    assert "encoded anew" in told[0]
    inside = np.s_[40:72, 40:72]
    error = decode_file(out).samples[inside].astype(int) - picture.samples[inside]
    assert np.abs(error).max() <= 12


@pytest.mark.parametrize("kind", ["CMYK", "2x2"])
def test_without_jpeglib_inks_are_encoded_anew(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "can_keep_blocks", lambda: False)
    source = write_inks(tmp_path / "source.jpg", kind)
    picture, touched = mended(decode_file(source), np.s_[60:90, 24:48])
    told: list[str] = []
    out = save_picture(picture, tmp_path / "out.jpg", note=told.append)
    assert "encoded anew" in told[0]
    with Image.open(source) as before, Image.open(out) as after:
        assert after.mode == "CMYK"
        lying = turned_back(touched, 6 if kind == "CMYK" else 1)
        error = np.abs(np.asarray(before).astype(int) - np.asarray(after))[~lying]
    assert error.mean() < 2


def test_metadata_that_was_taken_out_stays_out(tmp_path: Path) -> None:
    from dataclasses import replace

    from pixmend.pictures import Metadata

    picture = replace(decode_file(write(tmp_path / "source.jpg", 6)), metadata=Metadata())
    with Image.open(save_picture(picture, tmp_path / "out.jpg")) as image:
        assert not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)


TOOLS = {  # other programs' ways to code the same picture
    "arithmetic": ["jpegtran", "-arithmetic"],
    "progressive": ["jpegtran", "-progressive"],
    "restarts": ["jpegtran", "-restart", "2"],
    "optimised": ["jpegtran", "-optimize"],
    "4:1:1": ["cjpeg", "-sample", "4x1"],
    "4:4:0": ["cjpeg", "-sample", "1x2"],
    "mixed": ["cjpeg", "-sample", "2x2,1x2,2x1"],
    "RGB": ["cjpeg", "-rgb"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_files_of_libjpeg(tmp_path: Path, tool: str) -> None:
    name, *options = TOOLS[tool]
    plain = write(tmp_path / "plain.jpg")
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PPM")
    given = stream.getvalue() if name == "cjpeg" else plain.read_bytes()
    source = tmp_path / "source.jpg"
    source.write_bytes(subprocess.run([program(name), *options], input=given, capture_output=True, check=True).stdout)
    picture, touched = mended(decode_file(source))
    out = save_picture(picture, tmp_path / "out.jpg")
    before, after = coefficients(source), coefficients(out)
    assert np.array_equal(before.samp_factor, after.samp_factor)
    assert before.progressive_mode == after.progressive_mode
    for i, name in enumerate(("Y", "Cb", "Cr")):
        old, new = getattr(before, name), getattr(after, name)
        step = before.samp_factor.max(0) // before.samp_factor[i]
        reached = blocks_touched(touched, old.shape[:2], tuple(step))
        assert np.array_equal(old[~reached], new[~reached]), name
        assert (old[reached] != new[reached]).any()


@pytest.mark.parametrize("cut", [0, 1, 3, 10, 400])
def test_what_is_cut_off_before_its_samples_is_told(tmp_path: Path, cut: int) -> None:
    data = write(tmp_path / "a.jpg").read_bytes()
    with pytest.raises(ValueError, match=r"JPEG|cut off"):
        split(data[:cut])


def test_bare_has_no_metadata_and_the_same_pixels(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jpg", 6).read_bytes()
    naked = Image.open(io.BytesIO(bare(data)))
    assert set(naked.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert np.array_equal(np.asarray(naked), np.asarray(Image.open(io.BytesIO(data))))
