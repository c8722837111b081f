"""Writing files: what a picture tells about itself stays, and nothing that was removed from it."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from picture_files import chunk, exif_block, noise, png
from pixmend.decoding import decode_file
from pixmend.encoding import FORMATS, encode, fitted, save_picture
from pixmend.extending import extended_canvas
from pixmend.heif import register_heif
from pixmend.jpeg_segments import APP13, Segment, dressed, split
from pixmend.metadata import calm
from pixmend.pictures import Metadata, Picture, composite
from pixmend.png_bytes import chunks

PROFILE = bytes(range(256)) * 3


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">title</x:xmpmeta>'


def with_one_changed(picture: Picture) -> Picture:
    """One pixel by one level: else a JPEG would be copied as it is."""
    samples = picture.samples.copy()
    samples[4, 4, 0] ^= 1
    return replace(picture, samples=samples)


def test_metadata_from_file_to_file(tmp_path: Path) -> None:
    """From each format to each other one, all that both have a place for."""
    has = {
        ".png": {"icc_profile", "exif", "xmp", "dpi"},
        ".tiff": {"icc_profile", "exif", "xmp", "dpi"},
        ".jpg": {"icc_profile", "exif", "xmp", "dpi"},
        ".webp": {"icc_profile", "exif", "xmp"},
        ".bmp": {"dpi"},
    }
    metadata = Metadata(icc_profile=PROFILE, exif=exif_block(1), xmp=XMP, dpi=(300, 150))
    # A picture from memory is not what the thumbnail shows: it is unlinked (the second directory) and blanked.
    block = exif_block(1)[:46] + bytes(4) + exif_block(1)[50:-9] + bytes(9)
    for source in has:
        first = save_picture(Picture(noise(9, 9, 3), metadata=metadata), tmp_path / f"from{source}")
        for target in has:
            path = save_picture(with_one_changed(decode_file(first)), tmp_path / f"{source[1:]}-to{target}")
            read, both = decode_file(path).metadata, has[source] & has[target]
            assert read.icc_profile == (PROFILE if "icc_profile" in both else None), path
            assert read.xmp == (XMP if "xmp" in both else None), path
            assert read.dpi == (pytest.approx((300, 150), rel=1e-3) if "dpi" in both else None), path
            assert (read.exif is not None) == ("exif" in both), path
            if "exif" in both and ".tiff" not in (source, target):
                assert read.exif == block, path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_of_a_tiff_keeps_what_describes_and_drops_what_stores(tmp_path: Path, dtype: Any) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x010E], exif[0x0131] = "Maker", "圖像 Grüße".encode(), "Software"
    exif[0x0100], exif[0x0103], exif[0x0111] = 77, 5, 99  # width, compression, offset: lies that would ruin a TIFF
    exif.get_ifd(0x8769).update({0x9003: "2020:01:01 00:00:00", 0xA005: {1: "R98"}})
    exif.get_ifd(0x8825)[1] = "N"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    picture = Picture(noise(9, 9, 3, dtype=dtype), metadata=Metadata(exif=block))
    once = decode_file(save_picture(picture, tmp_path / "once.tiff"))
    twice = decode_file(save_picture(once, tmp_path / "twice.tiff"))
    assert np.array_equal(twice.samples, picture.samples)
    assert twice.metadata.exif == once.metadata.exif
    assert once.metadata.exif is not None
    kept = Image.Exif()
    kept.load(b"Exif\0\0" + once.metadata.exif)
    assert (kept[0x010F], kept[0x0131]) == ("Maker", "Software")
    assert kept[0x010E].encode("latin-1").decode() == "圖像 Grüße"
    assert kept.get_ifd(0x8769) == {0x9003: "2020:01:01 00:00:00"}  # and no offset of a directory that is not there
    assert kept.get_ifd(0x8825)[1] == "N"
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "pillow.tiff", exif=block)  # with that offset
    once = decode_file(save_picture(decode_file(tmp_path / "pillow.tiff"), tmp_path / "out.tiff"))
    assert once.metadata.exif is not None
    kept.load(b"Exif\0\0" + once.metadata.exif)
    assert kept.get_ifd(0x8769) == {0x9003: "2020:01:01 00:00:00"}
    assert not set(kept) & {0x0100, 0x0103, 0x0111}


def test_png_chunks_are_kept_as_they_stand(tmp_path: Path) -> None:
    kept = [
        (b"gAMA", b"\0\0\xb1\x8f"),
        (b"cHRM", bytes(range(32))),
        (b"tEXt", b"Title\0Gr\xfc\xdfe"),
        (b"tEXt", b"Title\0again"),
        (b"zTXt", b"Long\0\0x\x9c\x03\0\0\0\0\x01"),
        (b"iTXt", "Titel\0\0\0de\0Titel\0Grüße".encode()),
        (b"teSt", b"private, may be copied"),
    ]
    kept += [(b"oFFs", bytes(9)), (b"mDCV", bytes(range(24))), (b"cLLI", bytes(range(8)))]
    gone = [(b"teST", b"private, must not be copied"), (b"tIME", b"\x07\xe4\1\1\0\0\0")]
    late = [(b"tEXt", b"After\0the samples")]
    source = tmp_path / "source.png"
    source.write_bytes(png(2, 2, 8, 2, bytes(12), before=kept + gone, after=late))
    once = save_picture(decode_file(source), tmp_path / "once.png")
    twice = save_picture(decode_file(once), tmp_path / "twice.png")
    data = twice.read_bytes()
    for one in kept + late:
        assert data.count(chunk(*one)) == 1, one
    for kind, _ in gone:
        assert kind not in data
    assert once.read_bytes() == data


@pytest.mark.parametrize(("depth", "rows"), [(8, bytes(12)), (16, bytes(24))])
def test_a_profile_of_a_png_keeps_its_name(tmp_path: Path, depth: int, rows: bytes) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    before = [(b"iCCP", b"Name of it\0\0" + zlib.compress(profile))]
    (tmp_path / "source.png").write_bytes(png(2, 2, depth, 2, rows, before=before))
    out = save_picture(decode_file(tmp_path / "source.png"), tmp_path / "out.png")
    [data] = [data for kind, data in chunks(out.read_bytes()) if kind == b"iCCP"]
    assert data.partition(b"\0")[0] == b"Name of it"
    assert zlib.decompress(data.partition(b"\0\0")[2]) == profile


def test_a_picture_that_grew_has_no_place_on_a_page(tmp_path: Path) -> None:
    page = [(b"oFFs", bytes(9)), (b"vpAg", bytes(9)), (b"caNv", bytes(16))]
    (tmp_path / "source.png").write_bytes(png(2, 2, 8, 2, bytes(12), before=page))
    picture = decode_file(tmp_path / "source.png")
    grown, _ = extended_canvas(picture, left=3)
    for one, there in ((picture, True), (grown, False)):
        data = save_picture(one, tmp_path / "out.png", overwrite=True).read_bytes()
        assert [kind in data for kind, _ in page] == [there] * 3


@pytest.mark.parametrize("inside", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_chunks_of_programs_show_nothing_that_was_removed(tmp_path: Path, inside: bytes) -> None:
    """Skitch keeps the picture as it was before its arrows in such a one."""
    before = [(b"skRf", b"some bytes " + inside + b" and more"), (b"teSt", b"no picture")]
    (tmp_path / "source.png").write_bytes(png(5, 5, 8, 2, bytes(75), before=before))
    picture = decode_file(tmp_path / "source.png")
    for one, there in ((picture, True), (with_one_changed(picture), False)):
        data = save_picture(one, tmp_path / "out.png", overwrite=True).read_bytes()
        assert [chunk(*kept) in data for kept in before] == [there, True]


@pytest.mark.parametrize(
    ("depth", "colour_type", "rows", "ground", "kept"),
    [
        (8, 2, bytes(12), b"\0\1\0\2\0\3", b"\0\1\0\2\0\3"),
        (16, 2, bytes(24), b"\1\1\2\2\3\3", b"\1\1\2\2\3\3"),
        (4, 0, bytes(2), b"\0\x0a", b"\0\xaa"),  # of 15 as of 255
        (8, 3, bytes(4), b"\0", b"\0"),  # an index, whose entry is not given to another colour
        (8, 3, bytes(4), b"\1", None),  # of which there is no entry
        (8, 2, bytes(12), b"\1\1\2\2\3\3", None),  # damage
        (8, 2, bytes(12), b"", None),
    ],
)
def test_background_of_a_png(
    tmp_path: Path, depth: int, colour_type: int, rows: bytes, ground: bytes, kept: bytes | None
) -> None:
    before = [(b"PLTE", bytes(3)), (b"bKGD", ground)] if colour_type == 3 else [(b"bKGD", ground)]
    (tmp_path / "source.png").write_bytes(png(2, 2, depth, colour_type, rows, before=before))
    data = save_picture(decode_file(tmp_path / "source.png"), tmp_path / "out.png").read_bytes()
    assert (chunk(b"bKGD", kept) in data) if kept else (b"bKGD" not in data)


def test_page_number_and_photoshop_resources_of_a_tiff(tmp_path: Path) -> None:
    resources = b"8BIM\x04\x0a\0\0\0\0\0\1\1\0"
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\4\xff\xd8\xff\xd9"
    tags = Image.Exif()
    tags[297], tags[34377] = (1, 3), resources + thumbnail
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "source.tif", exif=tags)
    before = decode_file(tmp_path / "source.tif")
    soft = np.zeros((9, 9), np.float32)
    soft[2:4] = 1
    for name, picture, kept in (
        ("same", before, resources + thumbnail),
        ("mended", composite(before, np.zeros((9, 9, 3), np.float32), soft), resources),
    ):
        with Image.open(save_picture(picture, tmp_path / f"{name}.tif")) as out:
            assert (out.getexif()[297], out.getexif()[34377]) == ((1, 3), kept)


def test_jpeg_is_encoded_as_its_source_was(tmp_path: Path) -> None:
    source = tmp_path / "source.jpg"
    smooth = Image.fromarray(np.add.outer(np.arange(64), 2 * np.arange(64))[..., None].repeat(3, 2).astype(np.uint8))
    smooth.save(source, quality=63, subsampling="4:2:2", progressive=True, comment=b"a comment")
    path = save_picture(with_one_changed(decode_file(source)), tmp_path / "out.jpg")
    assert path.read_bytes() != source.read_bytes()
    with Image.open(source) as before, Image.open(path) as after:
        assert before.quantization == after.quantization  # type: ignore[attr-defined]
        assert [c[1:3] for c in before.layer] == [c[1:3] for c in after.layer]  # type: ignore[attr-defined]
        assert after.info["progressive"]
        assert after.info["comment"] == b"a comment"
    error = decode_file(path).samples.astype(int) - decode_file(source).samples
    assert np.abs(error).max() <= 4


def test_a_jpeg_that_grew_tells_what_it_told(tmp_path: Path) -> None:
    """Segments that Pillow does not write go along, and those that it does are there once."""
    source, resources = tmp_path / "source.jpg", b"8BIM\x04\x04\0\0\0\0\0\x08\x1c\2\x50\0\3Ann"
    thumbnail = b"8BIM\x04\x0c\0\0\0\0\0\4\xff\xd8\xff\xd9"
    options: dict[str, Any] = {
        "icc_profile": PROFILE,
        "exif": b"Exif\0\0" + exif_block(6),
        "xmp": XMP,
        "comment": b"a comment",
    }
    Image.fromarray(noise(16, 24, 3)).save(source, dpi=(300, 150), **options)
    iptc = Segment(APP13, b"Photoshop 3.0\0" + resources)
    more = [iptc._replace(payload=iptc.payload + thumbnail), Segment(0xE5, b"of a maker")]
    source.write_bytes(dressed(source.read_bytes(), [*split(source.read_bytes())[0], *more]))
    before = decode_file(source)
    after = decode_file(save_picture(extended_canvas(before, left=8)[0], tmp_path / "out.jpg"))
    segments, _ = split((tmp_path / "out.jpg").read_bytes())
    assert after.size == (24, 24)
    assert [one for one in segments if one.marker in (APP13, 0xE5)] == [iptc, Segment(0xE5, b"of a maker")]
    markers = [one.marker for one in segments if one.describes]
    assert sorted(markers) == [0xE0, 0xE1, 0xE1, 0xE2, 0xE5, 0xED, 0xFE]
    for name in ("icc_profile", "xmp", "comment", "dpi"):
        assert getattr(after.metadata, name) == getattr(before.metadata, name)
    stripped = replace(extended_canvas(before, left=8)[0], metadata=Metadata())
    save_picture(stripped, tmp_path / "bare.jpg")
    assert not [one for one in split((tmp_path / "bare.jpg").read_bytes())[0] if one.marker in (0xE1, 0xE5, APP13)]


def test_jpeg_of_another_source_is_good(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 2
    for picture in (Picture(ramp[..., None]), Picture(np.dstack([ramp, ramp.T, 255 - ramp]))):
        read = decode_file(save_picture(picture, tmp_path / "out.jpeg", overwrite=True))
        assert read.samples.shape == picture.samples.shape
        assert np.abs(read.samples.astype(int) - picture.samples).max() <= 6


@pytest.mark.parametrize("file_format", sorted(set(FORMATS.values()) - {"HEIF", "GIF"}))
@pytest.mark.parametrize("exif", [b"II*\0\x08\0\0\0\xff\xff", b"nonsense", exif_block(1)[:40]])
def test_damaged_exif_costs_no_picture(file_format: str, exif: bytes) -> None:
    stream = io.BytesIO()
    encode(Picture(noise(3, 4, 3), metadata=Metadata(exif=exif)), stream, file_format)
    with calm():
        assert Image.open(stream).size == (4, 3)


def nclx(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        told = image.info["nclx_profile"]
    return told["color_primaries"], told["transfer_characteristics"]


def test_colours_that_a_heic_tells_by_number(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    register_heif()
    for numbers in ((12, 13), (9, 16)):  # Display P3; BT.2020 with PQ
        options: dict[str, Any] = {"color_primaries": numbers[0], "transfer_characteristics": numbers[1]}
        Image.fromarray(noise(16, 16, 3)).save(tmp_path / "source.heic", quality=-1, matrix_coefficients=0, **options)
        assert nclx(tmp_path / "source.heic") == numbers
        picture, told = decode_file(tmp_path / "source.heic"), list[str]()
        options = {"overwrite": True, "note": told.append}
        assert nclx(save_picture(with_one_changed(picture), tmp_path / "out.heic", **options)) == numbers
        png_file = save_picture(picture, tmp_path / "out.png", **options)
        assert dict(chunks(png_file.read_bytes()))[b"cICP"] == bytes((*numbers, 0, 1))
        assert nclx(save_picture(decode_file(png_file), tmp_path / "again.heic", **options)) == numbers
        assert told == []
        for name in ("out.avif", "out.webp", "out.tif"):
            save_picture(picture, tmp_path / name, **options)
            assert "CICP" in told.pop()
    Image.fromarray(noise(16, 16, 3)).save(tmp_path / "plain.heic")
    assert decode_file(tmp_path / "plain.heic").metadata.png_chunks == ()


def test_colours_that_an_avif_tells_by_number(tmp_path: Path) -> None:
    told: list[str] = []
    Image.fromarray(noise(16, 16, 3)).save(tmp_path / "plain.avif")
    data = (tmp_path / "plain.avif").read_bytes()
    assert data.count(b"colrnclx\0\1\0\x0d") == 1
    (tmp_path / "p3.avif").write_bytes(data.replace(b"colrnclx\0\1", b"colrnclx\0\x0c"))
    for name, chunk_of_it in (("plain.avif", None), ("p3.avif", b"\x0c\x0d\0\1")):
        picture = decode_file(tmp_path / name)
        out = save_picture(picture, tmp_path / "out.png", overwrite=True)
        assert dict(chunks(out.read_bytes())).get(b"cICP") == chunk_of_it
        save_picture(picture, tmp_path / "out.avif", overwrite=True, note=told.append)
        assert ("CICP" in told.pop()) == (chunk_of_it is not None)


def test_comments_go_from_jpeg_and_gif_to_png_and_back(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.gif"):
        Image.fromarray(noise(8, 8, 1)[..., 0]).save(tmp_path / name, comment=b"hi there")
        save_picture(decode_file(tmp_path / name), tmp_path / "b.png", overwrite=True)
        with Image.open(tmp_path / "b.png") as image:
            assert image.text == {"Comment": "hi there"}  # type: ignore[attr-defined]
        save_picture(decode_file(tmp_path / "b.png"), tmp_path / f"c{name}")
        with Image.open(tmp_path / f"c{name}") as image:
            assert image.info["comment"] == b"hi there"
        save_picture(decode_file(tmp_path / "b.png"), tmp_path / "again.png", overwrite=True)
        assert (tmp_path / "again.png").read_bytes().count(b"Comment") == 1


LONG = {"exif": exif_block(1) + bytes(66000), "xmp": b"<x>" + b"x" * 66000 + b"</x>", "comment": b"c" * 66000}


@pytest.mark.parametrize("name", LONG)
def test_metadata_that_a_jpeg_has_no_room_for_costs_no_picture(tmp_path: Path, name: str) -> None:
    metadata = replace(Metadata(exif=exif_block(1), xmp=XMP, comment=b"hello", dpi=(72, 72)), **{name: LONG[name]})  # type: ignore[arg-type]
    picture = Picture(noise(8, 8, 3), metadata=metadata)
    ready = fitted(picture, tmp_path / "out.jpg")
    shown = name if name == "comment" else name.upper()
    assert ready.notes == (f"of the metadata, {shown} is left out: JPEG has room for 64 KiB of each; .png keeps it",)
    for one, says in ((ready, False), (picture, True)):  # told beforehand or, where nobody asked, at the end
        told: list[str] = []
        kept = decode_file(save_picture(one, tmp_path / "out.jpg", overwrite=True, note=told.append)).metadata
        assert {kind for kind in ("exif", "xmp", "comment") if getattr(kept, kind) is None} == {name}
        assert (ready.notes[0] in told[0]) == says
    assert fitted(picture, tmp_path / "out.png") is picture


def test_metadata_that_is_long_because_of_previews_is_kept_without_them(tmp_path: Path) -> None:
    xmp = XMP + b"<xmpGImg:image>" + b"A" * 66000 + b"</xmpGImg:image>"
    picture = fitted(Picture(noise(8, 8, 3), metadata=Metadata(xmp=xmp)), tmp_path / "out.jpg")
    assert not picture.notes
    assert decode_file(save_picture(picture, tmp_path / "out.jpg")).metadata.xmp == XMP
