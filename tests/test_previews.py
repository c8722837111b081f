"""Thumbnails and previews inside metadata: after a repair they show the repaired picture, or are gone."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixmend.decoding import decode_file
from pixmend.encoding import save_picture
from pixmend.extending import extended_canvas
from pixmend.jpeg_editing import NOT_THE_MAKERS, NOTHING_BEHIND, UNSIGNED
from pixmend.jpeg_segments import (
    APP0,
    APP1,
    APP2,
    APP11,
    APP13,
    EXIF_HEAD,
    LONGEST,
    MOST_SEGMENTS,
    MOST_STREAMS,
    Segment,
    join,
    size_of,
    split,
)
from pixmend.packets import without_photoshop_previews, without_xmp_previews
from pixmend.pictures import Metadata, Picture, composite, turned_back
from pixmend.png_bytes import Chunk, chunks, encoded, raw_profile, with_raw_profile
from pixmend.previews import PIXELS_A_BYTE, refreshed, refreshed_exif

SECRET = (200, 30, 160)  # what is removed, and must not be seen in any preview
BOX = np.s_[20:70, 60:120]


def scene(secret: bool = True) -> NDArray[np.uint8]:
    """(H, W, 3) = (96, 160, 3): a ramp, and the secret on it."""
    samples = np.repeat(np.add.outer(np.arange(96), np.arange(160))[..., None], 3, 2).astype(np.uint8)
    if secret:
        samples[BOX] = SECRET
    return samples


def as_jpeg(samples: NDArray[Any], size: tuple[int, int], quality: int = 85) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(samples).resize(size).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def camera_exif(orientation: int, order: str = "<", compression: int = 6) -> bytes:
    """An EXIF block as a camera writes it: a maker note that holds a preview, and a thumbnail in a second directory.

    All data is found by offsets from the start. compression: 6 for a thumbnail in JPEG, 1 for one of plain RGB.
    """
    stored = turned_back(scene(), orientation)
    size = (160, 96) if orientation < 5 else (96, 160)
    note = b"Maker\0\x01\xff\xd8\xff no picture " + as_jpeg(stored, size) + b"end of note" + b"\xff\xd8\xff"
    thumbnail = as_jpeg(stored, (80, 60)) if compression == 6 else np.ascontiguousarray(stored[::4, ::4]).tobytes()

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        packed = struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value)
        return struct.pack(order + "HHI", tag, kind, count) + packed

    exif_at = 8 + 2 + 3 * 12 + 4 + 6
    note_at = exif_at + 2 + 12 + 4
    second_at = note_at + len(note)
    data_at = second_at + 2 + 4 * 12 + 4
    width = stored[::4, ::4].shape[1]
    return b"".join(
        [
            struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8),
            struct.pack(order + "H", 3),
            entry(0x010F, 2, 6, exif_at - 6) + entry(0x0112, 3, 1, orientation) + entry(0x8769, 4, 1, exif_at),
            struct.pack(order + "I", second_at) + b"Maker\0",
            struct.pack(order + "H", 1) + entry(0x927C, 7, len(note), note_at) + bytes(4) + note,
            struct.pack(order + "H", 4),
            entry(0x0100, 3, 1, width) + entry(0x0103, 3, 1, compression),
            entry(0x0201 if compression == 6 else 0x0111, 4, 1, data_at),
            entry(0x0202 if compression == 6 else 0x0117, 4, 1, len(thumbnail)),
            bytes(4) + thumbnail,
        ]
    )


def pictures_in(data: bytes) -> list[NDArray[np.uint8]]:
    """Every JPEG that can be found anywhere in some bytes, whatever surrounds it."""
    found, at = [], data.find(b"\xff\xd8\xff")
    while at >= 0:
        try:
            with Image.open(io.BytesIO(data[at:])) as image:
                found.append(np.asarray(image.convert("RGB")))
        except OSError:
            pass
        at = data.find(b"\xff\xd8\xff", at + 3)
    return found


def shows_secret(samples: NDArray[np.uint8]) -> bool:
    """Whether anything near the secret's colour is there."""
    return bool((np.abs(samples.astype(int) - SECRET).max(axis=-1) < 40).any())


def mended(path: Path) -> Picture:
    """The picture of a file with the ramp in place of the secret."""
    picture = decode_file(path)
    soft = np.zeros(picture.size, np.float32)
    soft[18:72, 58:122] = 1
    return composite(picture, scene(secret=False).astype(np.float32) / 127.5 - 1, soft)


def save(path: Path, orientation: int, exif: bytes, **options: Any) -> Path:
    Image.fromarray(turned_back(scene(), orientation)).save(path, exif=b"Exif\0\0" + exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_previews_show_the_result(tmp_path: Path, suffix: str, orientation: int) -> None:
    block = camera_exif(orientation, "<" if orientation % 2 else ">")
    assert [shows_secret(shown) for shown in pictures_in(block)] == [True, True]
    source = save(tmp_path / f"source{suffix}", orientation, block)
    out = save_picture(mended(source), tmp_path / f"out{suffix}")
    with Image.open(out) as image:
        kept = image.info["exif"].removeprefix(b"Exif\0\0")
        result = np.asarray(image.convert("RGB"))
    assert len(kept) == len(block)
    shown = pictures_in(kept)
    assert len(shown) == 2
    assert not any(shows_secret(one) for one in shown)
    upright = suffix != ".jpg"  # the others are written upright
    large = Image.fromarray(result).resize(shown[0].shape[1::-1])
    assert shown[0].shape[:2] == ((96, 160) if orientation < 5 or upright else (160, 96))
    assert np.abs(np.asarray(large).astype(int) - shown[0]).mean() < 4  # the preview, with the same shape
    assert shown[1].shape[:2] == ((60, 80) if orientation < 5 or not upright else (80, 60))
    # All else stays where and what it was: maker notes hold offsets.
    note = block.index(b"Maker\0\x01")
    assert kept[note : note + 20] == block[note : note + 20]
    assert b"end of note" in kept
    assert kept.index(b"end of note") == block.index(b"end of note")


def test_thumbnail_of_plain_samples_is_unlinked_and_blanked(tmp_path: Path) -> None:
    block = camera_exif(1, compression=1)
    assert bytes(SECRET) in block
    out = save_picture(mended(save(tmp_path / "source.jpg", 1, block)), tmp_path / "out.jpg")
    with Image.open(out) as image:
        kept = image.info["exif"].removeprefix(b"Exif\0\0")
        assert not image.getexif().get_ifd(1)  # the second directory
    assert bytes(SECRET) not in kept
    assert len(kept) == len(block)


def test_previews_of_an_unchanged_picture_stay(tmp_path: Path) -> None:
    block = camera_exif(1)
    out = save_picture(decode_file(save(tmp_path / "source.jpg", 1, block)), tmp_path / "out.png")
    with Image.open(out) as image:
        assert image.info["exif"].removeprefix(b"Exif\0\0") == block


def test_other_places_for_previews(tmp_path: Path) -> None:
    """JFIF, JFXX, multi-picture files, Photoshop and XMP have places of their own."""
    preview = as_jpeg(scene(), (80, 48))
    text = base64.b64encode(preview)
    thumbnails = b"<xmp:Thumbnails><rdf:li><xmpGImg:image>%s</xmpGImg:image></rdf:li></xmp:Thumbnails>" % text
    photoshop = IPTC + resource(1036, preview) + IPTC
    segments, rest = split(as_jpeg(scene(), (160, 96)))
    added = [
        Segment(APP0, b"JFIF\0\x01\x01\x01\0\x48\0\x48\x02\x01" + bytes(SECRET) * 2),
        Segment(APP0, b"JFXX\0\x10" + preview),
        Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x>before" + thumbnails + b"after</x>"),
        Segment(APP1, b"http://ns.adobe.com/xmp/extension/\0 GImage:Data=" + text),
        Segment(APP2, b"MPF\0 offsets of further pictures"),
        Segment(APP13, b"Photoshop 3.0\0" + photoshop),
    ]
    source = tmp_path / "source.jpg"
    source.write_bytes(join([*added, *(one for one in segments if not one.describes)], rest) + preview)  # and a trailer
    out = save_picture(mended(source), tmp_path / "out.jpg").read_bytes()
    kept = [one for one in split(out)[0] if one.describes]
    assert kept == [
        Segment(APP0, b"JFIF\0\x01\x01\x01\0\x48\0\x48\0\0"),
        Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x>beforeafter</x>"),
        Segment(APP13, b"Photoshop 3.0\0" + IPTC + IPTC),
    ]
    assert out.count(b"\xff\xd8\xff") == 1
    assert text not in out


CLAIMS = (
    b'<x %sGCamera:MotionPhoto="1" GCamera:MicroVideoOffset=\'977\' hdrgm:Version="1.0" dc:title="MotionPhoto" '
    b"OpCamera:MotionPhotoOwner='a' %s><GCamera:MotionPhotoVersion>1</GCamera:MotionPhotoVersion>"
    b'<Container:Directory><rdf:Seq><rdf:li Item:Length="977"/></rdf:Seq></Container:Directory>'
    b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>3</rdf:li></rdf:Seq></hdrgm:GainMapMax>%s</x>"
)


@pytest.mark.parametrize("behind", [b"", bytes(9), b"a film"])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_told_of_a_film_is_left_out_with_it(tmp_path: Path, behind: bytes, progressive: bool) -> None:
    """Samsung, Google and others put it behind the end; Ultra HDR its gain map."""
    source, stream = tmp_path / "source.jpg", io.BytesIO()
    exif = b"Exif\0\0" + camera_exif(1)  # whose thumbnails have ends of their own
    Image.fromarray(scene()).save(stream, "JPEG", exif=exif, progressive=progressive, restart_marker_blocks=2)
    segments, rest = split(stream.getvalue())
    xmp = CLAIMS % (b'tiff:Make="Maker" ', b'dc:x="y"', b"end")
    added = [
        Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
        Segment(APP2, b"urn:iso:std:iso:ts:21496:-1\0\0\0"),
    ]
    source.write_bytes(join([*added, *segments], rest) + behind)
    told: list[str] = []
    out = save_picture(mended(source), tmp_path / "out.jpg", note=told.append).read_bytes()
    kept = [one.payload for one in split(out)[0] if one.marker in (APP1, APP2) and not one.payload.startswith(b"Exif")]
    title = b'dc:title="MotionPhoto"'
    assert [b" ".join(one.split()) for one in kept] == [
        b'http://ns.adobe.com/xap/1.0/\0<x tiff:Make="Maker" ' + title + b' dc:x="y">end</x>'
    ]
    assert b"a film" not in out
    assert (NOTHING_BEHIND in told[0]) == (behind == b"a film")
    assert UNSIGNED not in told[0]
    # Written in another format, nothing is behind it either.
    with Image.open(save_picture(mended(source), tmp_path / "out.png")) as image:
        assert image.info["xmp"].count(b"MotionPhoto") == 1


IPTC = b"8BIM\x04\x04\0\0\0\0\0\x05iptc!\0"


def resource(number: int, data: bytes) -> bytes:
    """One of Photoshop's."""
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)


def edited(tmp_path: Path, added: list[Segment]) -> list[Segment]:
    """What is left of these segments in a JPEG that was mended."""
    segments, rest = split(as_jpeg(scene(), (160, 96)))
    source = tmp_path / "source.jpg"
    source.write_bytes(join([*added, *(one for one in segments if not one.describes)], rest))
    told: list[str] = []
    out = save_picture(mended(source), tmp_path / "out.jpg", overwrite=True, note=told.append).read_bytes()
    assert (UNSIGNED in told[0]) == any(one.marker == APP11 for one in added)
    assert (NOT_THE_MAKERS in told[0]) == any(one.payload.startswith(b"FLIR") or one.marker == 0xE3 for one in added)
    return [one for one in split(out)[0] if one.describes]


def test_signed_manifests_and_makers_segments_with_pictures_are_left_out(tmp_path: Path) -> None:
    preview = as_jpeg(scene(), (80, 48))
    half = len(preview) // 2
    box = b"JP\0\x01\0\0\0\x01\0\0\0\x20jumb c2pa.thumbnail.claim.jpeg "
    stay = [Segment(0xE5, b"RMETA\0of a maker"), Segment(0xE2, b"ICC_PROFILE\0\x01\x01" + b"\xff\xd8\xff" * 9)]
    added = [
        Segment(APP11, box + preview[:half]),
        Segment(APP11, box + preview[half:]),
        Segment(APP1, b"FLIR\0\x01\0\x02" + preview),
        Segment(APP1, b"FLIR\0\x01\x01\x02behind it"),
        Segment(0xE3, preview),
        Segment(APP2, b"Exif\0\0" + preview),
        Segment(APP11, b"HDR_RI ver=11\n" + preview),
        Segment(APP11, b"HDR_RI ext=2\nbehind it"),
    ]
    assert edited(tmp_path, [stay[0], *added, stay[1]]) == stay


def test_a_jpeg_that_was_extended_tells_what_was_left_out_as_well(tmp_path: Path) -> None:
    segments, rest = split(as_jpeg(scene(), (160, 96)))
    box = Segment(APP11, b"JP\0\x01\0\0\0\x01\0\0\0\x20jumb c2pa.thumbnail.claim.jpeg ")
    thermal = Segment(APP1, b"FLIR\0\x01\0\x02" + as_jpeg(scene(), (80, 48)))
    lines = {UNSIGNED: [box], NOT_THE_MAKERS: [thermal], NOTHING_BEHIND: []}
    for line, added in lines.items():
        source = tmp_path / "source.jpg"
        source.write_bytes(join([*added, *segments], rest) + b"a film" * (line == NOTHING_BEHIND))
        grown, _ = extended_canvas(decode_file(source), left=16)
        told: list[str] = []
        out = save_picture(grown, tmp_path / "out.jpg", overwrite=True, note=told.append).read_bytes()
        assert [one for one in lines if one in told[0]] == [line]
        assert not any(one in split(out)[0] for one in added)
        assert b"a film" not in out


def in_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene()).save(stream, "PNG")
    return stream.getvalue()


NUMBERS = np.arange(5 * LONGEST + 9, dtype="<u2").tobytes()  # of heat, say
THERMAL: dict[str, list[Segment]] = {
    "FLIR's, a PNG": [Segment(APP1, b"FLIR\0\x01\0\0" + in_png())],
    "FLIR's, plain": [
        Segment(APP1, b"FLIR\0\x01\0\0" + NUMBERS[:9000]),
        Segment(APP1, b"FLIR\0\x01\x01\0" + NUMBERS[:900]),
    ],
    "DJI's": [Segment(0xE3, NUMBERS[at : at + LONGEST]) for at in range(0, len(NUMBERS), LONGEST)],
    "a PNG": [Segment(0xE3, b"maker\0" + in_png())],
    "a TIFF": [Segment(0xE3, b"maker\0MM\0*" + NUMBERS[:9000])],
}


@pytest.mark.parametrize("kind", THERMAL)
def test_thermal_data_is_left_out(tmp_path: Path, kind: str) -> None:
    stay = [Segment(0xE4, b"of the same maker"), Segment(0xE5, NUMBERS[:9000]), Segment(APP2, NUMBERS[:LONGEST])]
    assert edited(tmp_path, [*stay, *THERMAL[kind], stay[-1]]) == [*stay, stay[-1]]


def test_thumbnails_that_go_on_in_a_second_photoshop_segment(tmp_path: Path) -> None:
    preview, long = as_jpeg(scene(), (80, 48)), bytes(range(1, 255)) * 300
    whole = IPTC + resource(1036, preview) + resource(4000, long)
    parts = [whole[: len(preview) // 2], whole[len(preview) // 2 : 60000], whole[60000:]]
    photoshop = [Segment(APP13, b"Photoshop 3.0\0" + part) for part in parts]
    kept = edited(tmp_path, [photoshop[0], Segment(0xFE, b"between"), *photoshop[1:]])
    assert [one.marker for one in kept] == [APP13, APP13, 0xFE]
    assert b"".join(one.payload[14:] for one in kept[:2]) == IPTC + resource(4000, long)
    assert len(kept[0].payload) == LONGEST
    # Those without thumbnails stay as they are split.
    parts = [IPTC, resource(4000, long)[:90], resource(4000, long)[90:60000], resource(4000, long)[60000:]]
    photoshop = [Segment(APP13, b"Photoshop 3.0\0" + part) for part in parts]
    assert edited(tmp_path, photoshop) == photoshop


def dataset(record: int, number: int, data: bytes) -> bytes:
    """One of IPTC's; a long one has a length of so many bytes."""
    short = len(data) < 1 << 15
    length = struct.pack(">H", len(data)) if short else struct.pack(">HI", 0x8004, len(data))
    return bytes((0x1C, record, number)) + length + data


@pytest.mark.parametrize("long", [b"", bytes(1 << 15)])
def test_previews_in_other_resources_of_photoshop(tmp_path: Path, long: bytes) -> None:
    """IPTC has a preview of its own, and XMP as well; others may hold one anywhere."""
    preview = as_jpeg(scene(), (80, 48))
    first, last = dataset(1, 90, b"\x1b%G") + dataset(2, 5, b"a title"), dataset(2, 25, b"keyword") + bytes(3)
    about = dataset(2, 200, b"\0\x0b") + dataset(2, 201, b"\0\1")
    before = [
        resource(1028, first + about + dataset(2, 202, preview + long) + last),
        resource(1060, b"<x>a<xmpGImg:image>/9j/</xmpGImg:image>b</x>"),
        resource(4000, b"whatever" + preview),
        resource(4001, b"of no picture"),
        resource(1028, b"no datasets" + preview),
    ]
    left = resource(1028, first + last) + resource(1060, b"<x>ab</x>") + resource(4001, b"of no picture")
    assert without_photoshop_previews(b"".join(before)) == left
    whole = b"".join(before)
    parts = [whole[at : at + LONGEST - 14] for at in range(0, len(whole), LONGEST - 14)]
    added = [Segment(APP13, b"Photoshop 3.0\0" + part) for part in parts]
    assert edited(tmp_path, added) == [Segment(APP13, b"Photoshop 3.0\0" + left)]


@pytest.mark.parametrize("name", ["GImage:Data", "GDepth:Data"])
@pytest.mark.parametrize("told", [b'="%s"', b"='%s'", b">%s</"])
def test_depth_and_pictures_of_google_in_xmp(tmp_path: Path, name: str, told: bytes) -> None:
    """Of a JPEG they stand in further segments, which the first tells of; other formats have room for them in one."""
    text = name.encode() + told % base64.b64encode(scene().tobytes())
    is_element = told.startswith(b">")
    body = b'<x a="1">%s</x>' % (b"<" + text + name.encode() + b">") if is_element else b'<x a="1" %s></x>' % text
    left = b'<x a="1"></x>' if is_element else b'<x a="1" ></x>'
    show = lambda: Image.new("RGB", (9, 9))  # noqa: E731
    assert refreshed(Metadata(xmp=body), show).xmp == left
    main = [
        Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x %s>%s</x>" % about)
        for about in (
            (b'xmpNote:HasExtendedXMP="12AB"', b"text"),
            (b"", b"<xmpNote:HasExtendedXMP>12AB</xmpNote:HasExtendedXMP>text"),
        )
    ]
    for one in main:
        more = Segment(APP1, b"http://ns.adobe.com/xmp/extension/\0" + b"12AB" * 8 + bytes(8) + body)
        assert edited(tmp_path, [one, more]) == [Segment(APP1, b"http://ns.adobe.com/xap/1.0/\0<x >text</x>")]
        other = Segment(APP1, b"http://ns.adobe.com/xmp/extension/\0" + b"12AB" * 8 + bytes(8) + b"<x>other</x>")
        assert edited(tmp_path, [one, other]) == [one, other]


def as_text(name: str, profile: bytes, kind: bytes = b"zTXt") -> Chunk:
    """A profile as ImageMagick puts it into a PNG."""
    digits = profile.hex()
    lines = "".join(digits[at : at + 72] + "\n" for at in range(0, len(digits), 72))
    text = f"\n{name}\n{len(profile):8}\n{lines}".encode()
    middle = {b"tEXt": b"\0", b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    return kind, f"Raw profile type {name}".encode() + middle + (text if kind == b"tEXt" else zlib.compress(text))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_profiles_in_texts_of_png_lose_their_previews(kind: bytes) -> None:
    thumbnail = resource(1036, as_jpeg(scene(), (80, 48)))
    before = (
        as_text("8bim", IPTC + thumbnail, kind),
        as_text("iptc", b"Photoshop 3.0\0" + thumbnail + IPTC, kind),
        as_text("iptc", dataset(2, 202, as_jpeg(scene(), (80, 48))) + dataset(2, 5, b"a title"), kind),
        as_text("app12", as_jpeg(scene(), (80, 48)), kind),
        as_text("xmp", b"<x>a<xmpGImg:image>/9j/</xmpGImg:image>b</x>", kind),
    )
    stay = (as_text("icc", bytes(range(256)), kind), as_text("8bim", IPTC, kind), (b"tEXt", b"Title\0of it"))
    show = lambda: Image.new("RGB", (9, 9))  # noqa: E731
    after = refreshed(Metadata(png_chunks=(*before, (b"zTXt", b"Raw profile type 8bim\0\0damage"), *stay)), show)
    kept = after.png_chunks[:-3]
    assert [raw_profile(one) for one in kept] == [
        IPTC,
        b"Photoshop 3.0\0" + IPTC,
        dataset(2, 5, b"a title"),
        b"<x>ab</x>",
    ]
    assert [one[1].partition(b"\0")[0][17:] for one in kept] == [b"8bim", b"iptc", b"iptc", b"xmp"]
    assert after.png_chunks[-3:] == stay
    assert raw_profile(with_raw_profile(before[0], IPTC * 20)) == IPTC * 20


def test_png_of_imagemagick_with_a_thumbnail(tmp_path: Path) -> None:
    """Untouched it keeps all; XMP that stands in such a text becomes the file's XMP."""
    thumbnail, xmp = resource(1036, as_jpeg(scene(), (80, 48))), b"<x>a<xmpGImg:image>/9j/</xmpGImg:image>b</x>"
    source = save(tmp_path / "source.png", 1, camera_exif(1))
    data = source.read_bytes()
    texts = [encoded(*as_text("8bim", IPTC + thumbnail)), encoded(*as_text("xmp", xmp))]
    source.write_bytes(b"".join([data[:33], *texts, data[33:]]))
    for picture, profile, left in (
        (decode_file(source), IPTC + thumbnail, xmp),
        (mended(source), IPTC, b"<x>ab</x>"),
    ):
        out = save_picture(picture, tmp_path / "out.png", overwrite=True)
        found = [raw_profile(one) for one in chunks(out.read_bytes()) if one[1].startswith(b"Raw profile")]
        assert found == [profile]
        with Image.open(out) as image:
            assert image.info["xmp"] == left


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_damaged_blocks_keep_their_length(cut: int) -> None:
    block = camera_exif(1)[: 40 + cut * 3]
    for damaged in (block, block[::-1], b"II*\0" + b"\xff" * cut):
        show = lambda: Image.new("RGB", (9, 9))  # noqa: E731
        assert len(refreshed_exif(damaged, show)) == len(damaged)
        without_photoshop_previews(b"8BIM" + damaged)


@pytest.mark.parametrize("first", [b"\xff", b"\0", b"\x02"])
def test_a_preview_with_a_wrong_first_byte_is_made_anew(first: bytes) -> None:
    """As some cameras of Minolta write them; programs that show previews repair it."""
    segments, rest = split(as_jpeg(scene(), (80, 48)))
    stream = join([one for one in segments if not one.describes], rest)
    assert stream.startswith(b"\xff\xd8\xff\xdb")
    made = refreshed_exif(
        b"II*\0\x08\0\0\0\0\0\0\0\0\0note" + first + stream[1:] + b"end", lambda: Image.new("RGB", (9, 9))
    )
    assert made[14:18] == b"note"
    assert made.endswith(b"end")
    (shown,) = pictures_in(made)
    assert shown.shape == (48, 80, 3)
    assert not shown.any()


def test_a_preview_that_claims_to_be_huge_is_blanked() -> None:
    huge = bytearray(as_jpeg(scene(), (80, 48)))
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    block = b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(huge)
    assert not any(refreshed_exif(block, lambda: Image.new("RGB", (9, 9)))[14:])


def test_previews_in_xmp_are_found_in_linear_time() -> None:
    """Of so many that never end, a search for the end of each would take hours."""
    for start in (b"<xmp:Thumbnails>", b"<xmpGImg:image>", b"<GDepth:Data>", b" xmpGImg:image='", b' GDepth:Data="'):
        endless = start * 300_000
        assert without_xmp_previews(endless) == (endless if start.startswith(b"<") else b" " * 150_000)
    assert without_xmp_previews(b"<a xmpGImg:image=\"1\"/><b xmpGImg:image='2'/>") == b"<a /><b />"


def test_of_many_streams_a_few_are_made_anew_and_the_others_blanked() -> None:
    """Each costs time that a file of a few bytes more would ask for again and again."""
    claims = bytearray(as_jpeg(scene(), (80, 48)))
    frame = claims.index(b"\xff\xc0")
    claims[frame + 5 : frame + 9] = struct.pack(">HH", 4000, 4000)  # which do not fit into so few bytes
    calls = []

    def show() -> Image.Image:
        calls.append(1)
        return Image.new("RGB", (9, 9))

    for stream, most in ((bytes(claims), 0), (as_jpeg(scene(), (80, 48)), MOST_STREAMS), (b"\xff\xd8\xff", 0)):
        calls.clear()
        block = b"II*\0\x08\0\0\0\0\0\0\0\0\0" + stream * 500
        made = refreshed_exif(block, show)
        assert len(made) == len(block)
        assert len(calls) <= most
        assert not any(made[14 + MOST_STREAMS * len(stream) :])


def test_all_previews_of_a_flat_picture_fit_that_can() -> None:
    """No JPEG that would fit is given up because of its size."""
    flat = Image.new("RGB", (1600, 1200), (90, 90, 90))
    stream = io.BytesIO()
    flat.save(stream, "JPEG", quality=10)
    assert stream.tell() * PIXELS_A_BYTE >= 1600 * 1200
    made = refreshed_exif(b"II*\0\x08\0\0\0\0\0\0\0\0\0" + stream.getvalue(), lambda: flat)
    assert [one.shape for one in pictures_in(made)] == [(1200, 1600, 3)]


def test_what_claims_to_have_segments_without_end_is_given_up() -> None:
    """All of them would be looked at in Python, for each stream that may begin before them."""
    whole = as_jpeg(scene(), (80, 48))
    for many, size in ((10, (80, 48)), (MOST_SEGMENTS, None)):
        assert size_of(whole[:2] + b"\xff\xe0\0\x02" * many + whole[2:]) == size
    assert size_of(whole[:2] + b"\xff" * 1_000_000 + whole[2:]) == (80, 48), "bytes that fill cost nothing"


@pytest.mark.parametrize("cut", [40, 300, 900])
def test_a_preview_that_goes_on_in_a_second_segment_of_exif(tmp_path: Path, cut: int) -> None:
    exif = camera_exif(1)
    segments, rest = split(as_jpeg(scene(), (160, 96)))
    halves = [Segment(APP1, EXIF_HEAD + part) for part in (exif[:cut], exif[cut:])]
    (tmp_path / "a.jpg").write_bytes(join([*halves, *segments], rest))
    save_picture(mended(tmp_path / "a.jpg"), tmp_path / "out.jpg")
    after = split((tmp_path / "out.jpg").read_bytes())[0]
    own = [data[len(EXIF_HEAD) :] for marker, data in after if marker == APP1 and data.startswith(EXIF_HEAD)]
    assert all(shows_secret(one) for one in pictures_in(exif))
    shown = pictures_in(b"".join(own))
    assert len(shown) == len(pictures_in(exif))
    assert not any(shows_secret(one) for one in shown)
