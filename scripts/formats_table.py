"""What every format and mode keeps, tried: writes the tables of docs/formats.md and docs/formats.zh-CN.md.

    python scripts/formats_table.py           # prints the table
    python scripts/formats_table.py --write   # puts it into both pages

Each row is a file that is made, read, repaired in one place, written in its own format and read again. A test runs the
same and compares with the pages.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from pixmend.decoding import decode_file
from pixmend.encoding import encode, save_picture
from pixmend.heif import register_heif
from pixmend.pictures import Metadata, Original, Picture, composite

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- scripts/formats_table.py writes from here -->\n", "<!-- to here -->\n"
SIDE, HOLE = 48, np.s_[8:18, 20:34]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">title</x:xmpmeta>'
TEXT = "kept"

# What the columns hold, in the words of each page.
WORDS = {
    "en": {
        "head": ["format", "mode", "known samples", "written as", "ICC", "EXIF", "XMP", "resolution", "texts"],
        "exact": "exact",
        "blocks": "exact in all blocks without a changed pixel",
        "lossy": "close: encoded anew",
        "yes": "yes",
        "no": "no",
    },
    "zh": {
        "head": ["格式", "模式", "已知样本", "写出为", "ICC", "EXIF", "XMP", "分辨率", "文字"],
        "exact": "精确",
        "blocks": "凡不含改动像素的块都精确",
        "lossy": "接近：重新编码",
        "yes": "保留",
        "no": "不保留",
    },
}


@dataclass(frozen=True)
class Case:
    """One row: how the file is made."""

    file_format: str
    mode: str  # as the page names it
    suffix: str
    write: Callable[[Path], object]


def samples(channels: int, dtype: type[Any] = np.uint8) -> Any:
    """Smooth colours under noise, (SIDE, SIDE, channels)."""
    rng, top = np.random.default_rng(channels), np.iinfo(dtype).max
    smooth = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None] / (2 * SIDE) * np.linspace(0.5, 1, channels)
    return ((smooth * 0.8 + 0.2 * rng.random((SIDE, SIDE, channels))) * top).astype(dtype)


def image(mode: str) -> Image.Image:
    """The same as a Pillow image of that mode."""
    if mode in ("L", "LA", "RGB", "RGBA"):
        return Image.fromarray(samples(len(mode)).squeeze())
    if mode == "F":
        return Image.fromarray(samples(1, np.uint16)[..., 0].astype(np.float32) / 7000 - 2)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        lab = ImageCms.applyTransform(image("RGB"), to_lab)
        assert lab is not None
        return lab
    if mode == "P":
        return image("RGB").quantize(100)
    return image("RGB").convert(mode)


def described(file_format: str, mode: str) -> dict[str, Any]:
    """Metadata of every kind that Pillow can put into this format."""
    exif = Image.Exif()
    exif[0x010F] = TEXT
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif, "icc_profile": profile, "dpi": (300, 300)}
    if file_format == "TIFF":
        exif[700], exif[0x010E] = XMP, TEXT
    elif file_format != "BMP":
        options["xmp"] = XMP
    if mode in ("CMYK", "LAB", "YCbCr"):
        options["icc_profile"] = b"a profile of other channels, which cannot be used, but is carried"
    return options | ({"comment": TEXT.encode()} if file_format in ("JPEG", "GIF") else {})


def by_pillow(file_format: str, mode: str, name: str = "", **options: Any) -> Case:
    """A file that Pillow writes."""

    def write(path: Path) -> None:
        given = described(file_format, mode) | options
        if file_format == "PNG":
            from PIL import PngImagePlugin

            given["pnginfo"] = PngImagePlugin.PngInfo()
            given["pnginfo"].add_text("Title", TEXT)
            given["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
            del given["xmp"]
        image(mode).save(path, file_format, **given)

    return Case(file_format, name or mode, f".{file_format.lower()}", write)


def by_pixmend(file_format: str, channels: int) -> Case:
    """A file of 16-bit colours, which the tests compare with other programs' readers."""

    def write(path: Path) -> None:
        given = described(file_format, "RGB")
        metadata = Metadata(given["icc_profile"], given["exif"].tobytes(), XMP, (300, 300))
        if file_format == "PNG":
            metadata = replace(metadata, png_chunks=((b"tEXt", b"Title\0" + TEXT.encode()),))
        stream = io.BytesIO()
        encode(Picture(samples(channels, np.uint16), metadata=metadata), stream, file_format)
        path.write_bytes(stream.getvalue())

    name = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return Case(file_format, f"{name}, 16 bit", f".{file_format.lower()}", write)


def write_floats(path: Path) -> None:
    """A TIFF of floats in three channels."""
    given = described("TIFF", "RGB")
    floats = (samples(3) / 100 - 1).astype(np.float32)
    metadata = Metadata(given["icc_profile"], given["exif"].tobytes(), XMP, (300, 300))
    save_picture(Picture(floats, metadata=metadata), path, overwrite=True)


def write_signed(path: Path) -> None:
    """A TIFF of grey of signed numbers."""
    given = described("TIFF", "L")
    heights = samples(1, np.uint16).astype(np.float32) - 2**15
    metadata = Metadata(given["icc_profile"], given["exif"].tobytes(), XMP, (300, 300))
    picture = Picture(heights, metadata=metadata, original=Original(heights, metadata, signed=True))
    save_picture(picture, path, overwrite=True)


CASES = [
    *(by_pillow("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    by_pillow("PNG", "P", "P, transparent", transparency=bytes([0, 99, 255])),
    by_pillow("PNG", "L", "L, one level transparent", transparency=40),
    by_pillow("PNG", "RGB", "RGB, one colour transparent", transparency=(40, 50, 60)),
    *(by_pixmend("PNG", channels) for channels in (1, 2, 3, 4)),
    *(by_pillow("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(by_pixmend("TIFF", channels) for channels in (1, 2, 3, 4)),
    Case("TIFF", "L, 16 bit signed", ".tiff", write_signed),
    by_pillow("TIFF", "F", "float, 32 bit"),
    Case("TIFF", "RGB, float, 32 bit", ".tiff", write_floats),
    *(by_pillow("TIFF", mode) for mode in ("CMYK", "LAB", "YCbCr")),
    by_pillow("WEBP", "RGB", "RGB, lossless", lossless=True),
    by_pillow("WEBP", "RGBA", "RGBA, lossless", lossless=True, exact=True),
    by_pillow("WEBP", "RGB", "RGB, lossy"),
    *(by_pillow("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    by_pillow("GIF", "P"),
    by_pillow("GIF", "P", "P, transparent", transparency=3),
    *(by_pillow("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(by_pillow("AVIF", mode, quality=100) for mode in ("RGB", "RGBA")),
    *(by_pillow("HEIF", mode, quality=-1) for mode in ("RGB", "RGBA")),
]


def row(case: Case, folder: Path, words: dict[str, Any]) -> list[str]:
    """What becomes of the file of one row when it is repaired."""
    register_heif()
    path, out = folder / f"in{case.suffix}", folder / f"out{case.suffix}"
    case.write(path)
    before = decode_file(path)
    soft = np.zeros(before.size, np.float32)
    soft[HOLE] = 1
    mended = composite(before, np.zeros((*before.size, 3), np.float32), soft)
    told: list[str] = []
    after = decode_file(save_picture(mended, out, overwrite=True, note=told.append))
    deep = ", 16 bit" if after.samples.dtype == np.uint16 and after.mode in ("LA", "RGB", "RGBA") else ""
    new = after.metadata
    texts = [case.file_format in ("PNG", "JPEG", "GIF"), TEXT in str(new.png_chunks) or new.comment == TEXT.encode()]
    floats = ", float, 32 bit" if after.is_float and after.channels == 3 else ""
    modes = {"I;16": "L, 16 bit", "I": "L, 16 bit signed" if after.is_signed else "I", "F": "float, 32 bit"}
    return [
        case.file_format if case.file_format != "HEIF" else "HEIC",
        case.mode,
        known(before, after, soft == 0, told, words),
        modes.get(after.mode, after.mode) + deep + floats,
        *(kept(one(before), one(after), words) for one in (profile_of, exif_of, xmp_of, resolution_of)),
        words["yes" if texts[1] else "no"] if texts[0] else "–",
    ]


def known(before: Picture, after: Picture, where: Any, told: list[str], words: dict[str, Any]) -> str:
    """How exactly the known samples came back; of palettes and inks, those of the file itself."""
    if "keep their coefficients" in "".join(told):
        return str(words["blocks"])
    pairs = [(before.samples, after.samples)]
    if before.original and after.original and before.original.stored is not None and after.mode == before.mode:
        pairs.append((before.original.stored, after.original.stored))  # type: ignore[arg-type]
    if before.samples.shape != after.samples.shape:  # an alpha that is opaque everywhere
        pairs = [(before.samples[..., :3], after.samples[..., :3])]
    worst = max(float(np.abs(a[where].astype(float) - b[where]).max()) for a, b in pairs)
    return str(words["exact" if worst == 0 else "lossy"])


def profile_of(picture: Picture) -> Any:
    """The ICC profile of the file's own channels."""
    return picture.original and picture.original.icc_profile


def exif_of(picture: Picture) -> Any:
    """The maker in EXIF; whole blocks are compared by the tests."""
    return picture.metadata.exif and TEXT.encode() in picture.metadata.exif


def xmp_of(picture: Picture) -> Any:
    """XMP, byte for byte."""
    return picture.metadata.xmp


def resolution_of(picture: Picture) -> Any:
    """Dots per inch, rounded: BMP and JPEG count in whole units."""
    return picture.metadata.dpi and tuple(round(number) for number in picture.metadata.dpi)


def kept(old: Any, new: Any, words: dict[str, Any]) -> str:
    """Yes, no, or a dash where the source had nothing that we could read."""
    return str(words["yes" if old == new else "no"]) if old else "–"


def table(language: str) -> str:
    """The table in the words of a page."""
    words = WORDS[language]
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(case, Path(folder), words) for case in CASES]
    lines = [words["head"], ["---"] * len(words["head"]), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page, and what it should be."""
    for path, language in ((DOCS / "formats.md", "en"), (DOCS / "formats.zh-CN.md", "zh")):
        before, _, rest = path.read_text("utf-8").partition(BEGIN)
        yield path, before + BEGIN + "\n" + table(language) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--write" in sys.argv:
        for path, text in pages():
            path.write_text(text, "utf-8", newline="\n")
    else:
        print(table("en"))
