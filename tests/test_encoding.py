"""Writing files: what is known comes back byte for byte, and everything that a file said goes into the next one."""

from __future__ import annotations

import errno
import io
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from picture_files import RNG, chunk, exif_block, noise, png
from pixmend.decoding import decode_file
from pixmend.encoding import FORMATS, check_savable, encode, fitted, save_animation, save_picture
from pixmend.errors import MemoryLimitError, OutputError, OutputExistsError
from pixmend.extending import extended_canvas
from pixmend.heif import register_heif
from pixmend.jpeg_segments import APP13, Segment, dressed, split
from pixmend.metadata import calm
from pixmend.pictures import Metadata, Picture, composite, from_array
from pixmend.png_bytes import chunks

LOSSLESS = {  # suffix -> the channels that it can hold, with 8 and with 16 bits
    ".png": ((1, 2, 3, 4), (1,)),
    ".tiff": ((1, 2, 3, 4), (1,)),
    ".webp": ((3, 4), ()),
    ".bmp": ((1, 3), ()),
}


@st.composite
def pictures(draw: st.DrawFn, suffix: str) -> Picture:
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 99))
    kinds = {(8, channels) for channels in LOSSLESS[suffix][0]} | {(16, channels) for channels in LOSSLESS[suffix][1]}
    bits, channels = draw(st.sampled_from(sorted(kinds | ({(1, 1)} if suffix != ".webp" else set()))))
    if bits == 1:
        return from_array(RNG(seed).random(size) < 0.5)
    return Picture(noise(*size, channels, seed=seed, dtype=np.uint8 if bits == 8 else np.uint16))


@pytest.mark.parametrize("suffix", LOSSLESS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_known_samples_come_back_byte_for_byte(suffix: str, data: st.DataObject) -> None:
    picture = data.draw(pictures(suffix))
    rng = RNG(data.draw(st.integers(0, 99)))
    soft = np.clip(rng.uniform(-1, 2, picture.size), 0, 1).astype(np.float32)
    fill = rng.uniform(-1.2, 1.2, (*picture.size, 3)).astype(np.float32)
    mended = composite(picture, fill, soft)
    with tempfile.TemporaryDirectory() as folder:
        read = decode_file(save_picture(mended, Path(folder, f"mended{suffix}")))
    assert read.samples.dtype == picture.samples.dtype
    assert read.mode == picture.mode or picture.mode != "1"
    back = read.samples
    if back.shape[2] == 3 and mended.samples.shape[2] == 4:  # WebP drops an alpha that is opaque everywhere
        assert mended.is_opaque
        back = np.concatenate([back, np.full((*picture.size, 1), 255, np.uint8)], axis=2)
    assert np.array_equal(back[soft == 0], picture.samples[soft == 0])
    assert np.array_equal(back, mended.samples)


def test_ten_edits_drift_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    first = Picture(noise(8, 8, 3))
    save_picture(first, path)
    for i in range(10):
        soft = np.zeros((8, 8), np.float32)
        soft[i % 3, :] = 1
        save_picture(composite(decode_file(path), np.zeros((8, 8, 3), np.float32), soft), path, overwrite=True)
    assert np.array_equal(decode_file(path).samples[3:], first.samples[3:])


@pytest.mark.parametrize("suffix", [".webp", ".avif", ".heic", ".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_profile_of_grey_is_in_no_file_of_colours(tmp_path: Path, suffix: str, channels: int) -> None:
    if suffix == ".heic":
        pytest.importorskip("pillow_heif")
    profile = bytes(16) + b"GRAY" + bytes(200)
    picture = Picture(noise(5, 5, channels), metadata=Metadata(icc_profile=profile))
    read = decode_file(save_picture(picture, tmp_path / f"grey{suffix}"))
    assert read.is_grey or suffix == ".avif"
    assert read.metadata.icc_profile == (profile if read.channels == 1 else None)
    if suffix == ".webp":
        assert np.array_equal(read.samples[..., : 2 + channels : 3][..., :channels], picture.samples)


def test_palette_is_rgb_where_there_are_none(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.putdata([0, 1])
    image.save(tmp_path / "palette.png")
    path = save_picture(decode_file(tmp_path / "palette.png"), tmp_path / "out.webp")
    with Image.open(path) as out:
        assert out.mode == "RGB"
        assert np.asarray(out).tolist() == [[[1, 2, 3], [40, 50, 60]]]


# ---------------------------------------------------------------------------------------------------------- metadata

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


# ---------------------------------------------------------------------------------------------------- colours by number


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


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["out", "out.xyz", ".png", "out.png.gz"])
def test_unknown_name_lists_what_is_allowed(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"allowed are \.png, \.tif"):
        save_picture(Picture(noise(2, 2, 3)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_names_in_capitals(tmp_path: Path) -> None:
    assert check_savable(Picture(noise(2, 2, 3)), tmp_path / "A.JPG") == "JPEG"


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_refused_only_where_it_says_something(tmp_path: Path, suffix: str) -> None:
    samples = noise(4, 4, 4)
    samples[..., 3] = 255
    path = save_picture(Picture(samples), tmp_path / f"opaque{suffix}")
    assert decode_file(path).samples.shape == (4, 4, 3)
    samples[1, 1, 3] = 254
    with pytest.raises(OutputError, match=r"alpha .* use \.png, \.webp"):
        save_picture(Picture(samples), tmp_path / f"clear{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp"])
def test_sixteen_bits_are_refused_where_they_would_be_cut(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"8 bits .* \.png or \.tiff"):
        save_picture(Picture(noise(2, 2, 1, dtype=np.uint16)), tmp_path / f"deep{suffix}")


def test_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="exists"):
        save_picture(Picture(noise(2, 2, 3)), path)
    assert path.read_bytes() == b"precious"
    save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert decode_file(path).size == (2, 2)


@pytest.mark.parametrize(("suffix", "longest"), [(".webp", 16383), (".avif", 32768), (".jpg", 65500), (".gif", 65535)])
def test_sides_that_a_format_does_not_hold_are_refused_before_anything_is_computed(
    tmp_path: Path, suffix: str, longest: int
) -> None:
    long = Picture(np.zeros((1, longest, 1), np.uint8))
    assert decode_file(save_picture(long, tmp_path / f"long{suffix}")).size == (1, longest)
    for shape in ((1, longest + 1, 1), (longest + 1, 1, 1)):
        with pytest.raises(OutputError, match=rf"holds {longest} pixels a side.*use \.png"):
            check_savable(Picture(np.zeros(shape, np.uint8)), tmp_path / f"longer{suffix}")


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


@pytest.mark.parametrize(("suffix", "lossy"), [(".jpg", True), (".avif", True), (".png", False), (".webp", False)])
def test_rounding_of_what_is_known_is_told(tmp_path: Path, suffix: str, lossy: bool) -> None:
    """Whatever the source's name: that of a PNG may end in .jpg."""
    told: list[str] = []
    save_picture(Picture(noise(8, 8, 3)), tmp_path / f"out{suffix}", note=told.append)
    assert ["rounds colours" in line for line in told] == [True] * lossy


def test_failing_encoder_leaves_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("pixmend.encoding.encode", failing)
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"cannot be written as PNG: two lines") as caught:
        save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_that_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pixmend.encoding.encode", full)
    with pytest.raises(MemoryLimitError, match=r"out\.png needs more memory"):
        save_picture(Picture(noise(2, 2, 3)), tmp_path / "out.png")
    assert not list(tmp_path.iterdir())


def test_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        save_picture(Picture(noise(2, 2, 3)), path, overwrite=True)
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("file_format", sorted(set(FORMATS.values())))
def test_encoding_to_a_stream(file_format: str) -> None:
    if file_format == "HEIF":
        pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    encode(Picture(noise(3, 4, 4)), stream, file_format)
    with Image.open(stream) as image:
        options: Any = image.format, image.size
        assert options == (file_format, (4, 3))


def test_animation_rests_on_its_last_picture(tmp_path: Path) -> None:
    shades = [from_array(np.full((30, 600, 3), level, np.uint8)) for level in (0, 100, 200)]
    path = save_animation(shades, tmp_path / "steps.gif")
    with Image.open(path) as film:
        assert (getattr(film, "n_frames", 1), film.size, film.info["loop"]) == (3, (480, 24), 0)
        seen = []
        for i in range(3):
            film.seek(i)
            seen.append((film.convert("RGB").getpixel((5, 5)), film.info["duration"]))
    assert seen == [((0, 0, 0), 120), ((100, 100, 100), 120), ((200, 200, 200), 1500)]
    with pytest.raises(OutputExistsError):
        save_animation(shades, path)
    with pytest.raises(OutputError, match="at least one picture"):
        save_animation([], tmp_path / "none.gif")


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
