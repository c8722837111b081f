"""Files of other programs survive the trip, and other programs read ours: ImageMagick, libvips, exiftool, OpenCV."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_files import RNG, noise
from pixmend.decoding import decode_file
from pixmend.encoding import save_picture
from pixmend.errors import PictureError
from pixmend.jpeg import can_keep_blocks
from pixmend.pictures import Metadata, Picture, composite
from programs import imagemagick, program
from test_previews import camera_exif, save
from test_previews import mended as without_secret


def call(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return done.stdout


def seen_by_imagemagick(path: Path, shape: tuple[int, ...], depth: int) -> NDArray[Any]:
    """(H, W, channels) of a file as ImageMagick decodes it."""
    raw = path.with_suffix(".raw")
    names = {1: "gray", 2: "graya", 3: "rgb", 4: "rgba"}
    call(imagemagick(), path, "-depth", depth, "-endian", "LSB", f"{names[shape[2]]}:{raw}")
    samples: NDArray[Any] = np.fromfile(raw, "<u2" if depth == 16 else "u1").reshape(shape)
    return samples


def scene(path: Path) -> Path:
    """A PNG of smooth colours under noise, 64 x 48."""
    smooth = np.add.outer(np.arange(48) * 2, np.arange(64) * 2)[..., None] * np.array([1, 0.8, 0.6])
    Image.fromarray((smooth + RNG(0).integers(0, 20, (48, 64, 3))).astype(np.uint8)).save(path)
    return path


def mended(picture: Picture) -> tuple[Picture, NDArray[np.bool_]]:
    """The picture with a hole filled, and what is known."""
    soft = np.zeros(picture.size, np.float32)
    soft[10:20, 20:40] = 1
    return composite(picture, np.full((*picture.size, 3), 0.3, np.float32), soft), soft == 0


DEEP = "-depth 16 -evaluate multiply 0.77"  # so that low bytes are not the high ones again
IMAGEMAGICK = {
    "16 bits": ("png", DEEP),
    "16 bits, interlaced": ("png", f"{DEEP} -interlace PNG"),
    "16 bits with alpha": ("png", f"{DEEP} -alpha set -channel A -evaluate set 61%"),
    "16 bits of grey": ("png", f"-colorspace Gray {DEEP}"),
    "palette": ("png", "-depth 8 -colors 13 -define png:color-type=3"),
    "4 bits of grey": ("png", "-colorspace Gray -depth 4"),
    "black and white": ("png", "-monochrome"),
    "16 bits, deflate": ("tiff", f"{DEEP} -compress zip"),
    "16 bits, LZW": ("tiff", f"{DEEP} -compress lzw"),
    "16 bits, big-endian": ("tiff", f"{DEEP} -endian MSB"),
    "16 bits, plain, alpha": ("tiff", f"{DEEP} -alpha set -channel A -evaluate set 61% -compress none"),
    "16 bits in planes": ("tiff", f"{DEEP} -interlace plane"),
    "16 bits in planes, LZW": ("tiff", f"{DEEP} -interlace plane -compress lzw -define tiff:rows-per-strip=16"),
    "16 bits of grey with alpha": ("tiff", f"-colorspace Gray {DEEP} -alpha set -channel A -evaluate set 61%"),
    "16 bits of grey with alpha, big-endian": (
        "tiff",
        f"-colorspace Gray {DEEP} -alpha set -channel A -evaluate set 61% -endian MSB -define tiff:predictor=2",
    ),
    "16 bits of grey, white at 0": ("tiff", f"-colorspace Gray {DEEP} -define quantum:polarity=min-is-white"),
    "8 bits of grey, white at 0": ("tiff", "-colorspace Gray -depth 8 -define quantum:polarity=min-is-white"),
    "palette of a TIFF": ("tiff", "-depth 8 -colors 50 -type Palette"),
    "group 4": ("tiff", "-type bilevel -compress group4"),
    "JPEG in it": ("tiff", "-depth 8 -compress jpeg"),
    "palette of a BMP": ("bmp", "-depth 8 -colors 200"),
    "palette of a GIF": ("gif", "-colors 13"),
    "lossless": ("webp", "-define webp:lossless=true"),
    "lossy": ("webp", "-quality 60"),
}


@pytest.mark.parametrize("kind", IMAGEMAGICK)
def test_files_of_imagemagick(tmp_path: Path, kind: str) -> None:
    suffix, options = IMAGEMAGICK[kind]
    source, out = tmp_path / f"source.{suffix}", tmp_path / f"out.{suffix}"
    call(imagemagick(), scene(tmp_path / "scene.png"), *options.split(), source)
    before = decode_file(source)
    depth = 16 if before.samples.dtype == np.uint16 else 8
    assert (depth == 16) == kind.startswith("16")
    theirs = seen_by_imagemagick(source, before.samples.shape, depth)
    if kind not in ("JPEG in it", "palette of a TIFF"):  # decoders differ by rounding
        assert np.array_equal(before.samples, theirs)
    picture, known = mended(before)
    after = decode_file(save_picture(picture, out))
    assert after.mode == before.mode
    assert np.array_equal(after.samples[known], before.samples[known])
    seen = seen_by_imagemagick(out, before.samples.shape, depth)
    if kind == "palette of a TIFF":  # of 16 bits, which ImageMagick rounds, and Pillow cuts; to each it is as it was
        assert np.array_equal(seen[known], theirs[known])
    else:
        assert np.array_equal(seen, after.samples)


VIPS = {
    "16 bits": ("v.tif[compression=lzw,tile,predictor=horizontal]", "ushort"),
    "floats": ("v.tif", "float"),
    "floats, predicted": ("v.tif[compression=deflate,predictor=float]", "float"),
    "floats, predicted as whole numbers": ("v.tif[compression=lzw]", "float"),
    "8 bits, pyramid": ("v.tif[compression=deflate,tile,tile-width=32,tile-height=16]", "uchar"),
    "lossless": ("v.webp[lossless]", "uchar"),
}


@pytest.mark.parametrize("kind", VIPS)
def test_files_of_libvips(tmp_path: Path, kind: str) -> None:
    name, samples = VIPS[kind]
    scene(tmp_path / "scene.png")
    factor = {"ushort": 211, "float": 0.125}.get(samples, 1)
    call(program("vips"), "linear", tmp_path / "scene.png", tmp_path / "bright.v", factor, 0)
    call(program("vips"), "cast", tmp_path / "bright.v", tmp_path / name, samples)
    before = decode_file(tmp_path / name.partition("[")[0])
    with Image.open(tmp_path / "scene.png") as image:
        assert np.array_equal(before.samples, (np.asarray(image) * np.float32(factor)).astype(before.samples.dtype))
    picture, known = mended(before)
    out = save_picture(picture, tmp_path / f"out{Path(name.partition('[')[0]).suffix}")
    after = decode_file(out)
    assert after.samples.dtype == before.samples.dtype
    assert np.array_equal(after.samples[known], before.samples[known])
    call(program("vips"), "copy", out, tmp_path / "seen.tif[compression=none]")
    assert np.array_equal(decode_file(tmp_path / "seen.tif").samples, after.samples)


@pytest.mark.parametrize("kind", ["floats.tif", "lab.tif", "cmyk.tif"])
def test_what_would_not_survive_is_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    options = {
        "floats.tif": "-alpha set -define quantum:format=floating-point -depth 32",
        "lab.tif": "-colorspace Lab -depth 16",
        "cmyk.tif": "-colorspace CMYK -depth 16",
    }[kind].split()
    call(imagemagick(), scene(tmp_path / "scene.png"), *options, tmp_path / kind)
    with pytest.raises(PictureError, match="save it") as caught:
        decode_file(tmp_path / kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "channels"), [*((".png", many) for many in (1, 2, 3, 4)), *((".tiff", many) for many in (1, 3, 4))]
)
def test_opencv_reads_our_sixteen_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    samples = noise(37, 21, channels, dtype=np.uint16)
    metadata = Metadata(icc_profile=b"\0" * 36 + b"acsp" + bytes(88), dpi=(300, 300), xmp=b"<x/>")
    path = save_picture(Picture(samples, metadata=metadata), tmp_path / f"deep{suffix}")
    seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    seen = seen.reshape(37, 21, -1)
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]  # it has no grey with alpha
    assert np.array_equal(seen, samples[..., order])


# ------------------------------------------------------------------------------------------------------------- exiftool

SIZES = ("ThumbnailImage", "ThumbnailLength", "ThumbnailOffset", "PreviewImage")  # a preview of the result is another
STORAGE = ("StripOffsets", "Compression", "RowsPerStrip", "StripByteCounts", "Predictor")  # of a TIFF
LOSSY = ("VP8Version", "HorizontalScale", "VerticalScale", "AlphaIsUsed")  # of a WebP, which is written lossless


def tags(path: Path) -> dict[str, Any]:
    """All tags that exiftool sees, less those of the file system."""
    found = json.loads(call(program("exiftool"), "-j", "-G1", "-a", "-n", path))[0]
    return {key: value for key, value in found.items() if not key.startswith(("System:", "SourceFile"))}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exiftool_sees_no_difference(tmp_path: Path, suffix: str) -> None:
    source = save(tmp_path / f"source{suffix}", 1, camera_exif(1))
    given = ["XMP:Title=a title", "XMP:Rating=3", "EXIF:Artist=Me", "EXIF:FNumber=2.8", "GPSLatitude=12.5"]
    given += ["GPSLatitudeRef=N", "Comment=hello", "Copyright=Ünï", "IPTC:Keywords=key"]
    given += ["EXIF:XResolution=300", "EXIF:YResolution=300", "EXIF:ResolutionUnit=inches"]
    call(program("exiftool"), "-q", "-m", "-overwrite_original", *(f"-{one}" for one in given), source)
    out = save_picture(without_secret(source), tmp_path / f"out{suffix}")
    before, after = tags(source), tags(out)
    assert sum(1 for key in before if key.startswith(("XMP", "IFD0", "ExifIFD", "GPS", "IPTC"))) >= 10
    differs = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if suffix == ".tif":
        differs -= {"File:CurrentIPTCDigest", "IFD0:Orientation"}  # the latter, where it was 1
    expected = SIZES + (STORAGE if suffix == ".tif" else LOSSY if suffix == ".webp" else ())
    assert not [(key, before.get(key), after.get(key)) for key in differs if not key.endswith(expected)]


# How ImageMagick stores samples, and we do not: with fewer bits, interlaced, in planes; what is told of that; dates.
THEIR_STORAGE = {
    "png": ("BitDepth", "Interlace", "Palette", "ModifyDate", "Warning"),
    "tiff": ("BitsPerSample", "SampleFormat", "PlanarConfiguration", "FillOrder", "T6Options", "SamplesPerPixel"),
    "webp": (),
    "bmp": ("Mask", "Length", "Intent", "Version", "ColorSpace", "RedX", "Size", "Data", "File:ProfileSize"),
    "gif": ("ColorResolutionDepth", "BitsPerPixel"),
}


@pytest.mark.parametrize("kind", IMAGEMAGICK)
def test_exiftool_sees_no_difference_in_files_of_imagemagick(tmp_path: Path, kind: str) -> None:
    suffix, options = IMAGEMAGICK[kind]
    source = tmp_path / f"source.{suffix}"
    given = ("-background", "gray", "-density", "300", "-units", "PixelsPerInch", "-set", "comment", "hello")
    call(imagemagick(), scene(tmp_path / "scene.png"), *given, *options.split(), source)
    picture, _ = mended(decode_file(source))
    before, after = tags(source), tags(save_picture(picture, tmp_path / f"out.{suffix}"))
    expected = (*STORAGE, *LOSSY, *THEIR_STORAGE[suffix])
    differs = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    if suffix == "tiff":
        differs -= {"IFD0:Orientation", "IFD0:PhotometricInterpretation", "IFD0:JPEGTables", "IFD0:PreviewImageStart"}
        differs -= {"IFD0:PreviewImage", "IFD0:PreviewImageLength"}  # so exiftool calls samples in JPEG
    assert not {key: (before.get(key), after.get(key)) for key in differs if not key.endswith(expected)}


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exiftool_sees_the_same_orientation_in_a_jpeg(tmp_path: Path, orientation: int) -> None:
    source = save(tmp_path / "source.jpg", orientation, camera_exif(orientation))
    out = save_picture(without_secret(source), tmp_path / "out.jpg")
    before, after = tags(source), tags(out)
    assert before["IFD0:Orientation"] == orientation
    if can_keep_blocks():
        assert {key for key in before | after if before.get(key) != after.get(key)} <= {
            "IFD1:ThumbnailImage",
            "IFD1:ThumbnailLength",
        }
