"""Pictures in modes of their own: palettes, and colours that are not RGB. There, and back for what changed.

All else works on grey and RGB. What did not change is written back as the file had it, index for index and ink for ink;
only what changed is brought into the file's mode.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pixmend.metadata import png_grounds
from pixmend.pictures import Picture, Samples

CONVERTED = {"La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
MULTIPLIED = ("La", "RGBa")  # grey and colours that were multiplied with their alpha
COLOURS = 256  # in a palette

# Which formats take which modes back.
_KEEPS = {
    "PNG": ("P",),
    "GIF": ("P", "L", "RGB", "RGBA", "1"),
    "BMP": ("P",),
    "TIFF": ("P", "CMYK", "LAB", "YCbCr", "RGBX", *MULTIPLIED),
    "JPEG": ("CMYK",),
}


def read_stored(image: Image.Image) -> tuple[Samples, NDArray[np.uint8] | None] | None:
    """A loaded image's samples (H, W, N) in its own mode, and the palette (n, 4) RGBA of indices; None if not kept.

    Any GIF of at most 256 colours has a palette, whatever Pillow makes of it: frames behind the first come as RGB.
    """
    if image.mode == "P":
        return np.array(image)[..., None], _palette_of(image)
    if image.mode in CONVERTED:
        return np.array(image), None
    if image.format == "GIF":
        layer = image.convert("RGBA")
        if counted := layer.getcolors(COLOURS):  # None: there are more
            colours = np.sort(_packed(np.array([colour for _, colour in counted], np.uint8)))
            indices = np.searchsorted(colours, _packed(np.asarray(layer).reshape(-1, 4))).astype(np.uint8)
            return indices.reshape(layer.height, layer.width, 1), _unpacked(colours)
    return None


def to_rgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """An image of a mode in CONVERTED as sRGB, grey or with alpha; through its profile, where that can be done."""
    transform = _transform(image.mode, icc_profile, back=False)
    converted = None if transform is None else ImageCms.applyTransform(image, transform)
    return image.convert(CONVERTED[image.mode]) if converted is None else converted


def stored_image(picture: Picture, file_format: str) -> Image.Image | None:
    """The picture in the mode of the file that it came from, if this format has it and something is left of it.

    Samples that did not change are the file's own. A palette keeps the entries that are used; the others, and those up
    to 256, go to the new colours.
    """
    read = picture.original
    if read is None or read.stored is None or picture.mode not in _KEEPS.get(file_format, ()):
        return None
    if picture.samples.shape != read.samples.shape:
        return None
    changed = picture.changed()
    if read.palette is not None:
        no_alpha = file_format in ("BMP", "TIFF") and not picture.is_opaque
        if no_alpha or (changed.all() and file_format != "GIF"):
            return None
        return _indexed(picture, read.stored, read.palette, changed)
    stored = read.stored.copy()
    stored[changed] = _from_rgb(picture.samples[changed], picture.mode, read.icc_profile)
    height, width = picture.size
    return Image.frombytes(picture.mode, (width, height), stored.tobytes())


def _palette_of(image: Image.Image) -> NDArray[np.uint8]:
    rgb = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.concatenate([rgb, np.full((len(rgb), 1), 255, np.uint8)], axis=1)
    clear = image.info.get("transparency")
    if isinstance(clear, bytes):
        palette[: len(clear), 3] = np.frombuffer(clear, np.uint8)[: len(palette)]
    elif isinstance(clear, int) and clear < len(palette):
        palette[clear, 3] = 0
    if image.palette is not None and image.palette.mode == "RGBA":
        palette[:, 3] = np.array(image.getpalette("RGBA"), np.uint8).reshape(-1, 4)[:, 3]
    return palette


def _indexed(picture: Picture, stored: Samples, palette: NDArray[np.uint8], changed: NDArray[np.bool_]) -> Image.Image:
    indices = stored[..., 0].astype(np.uint8)
    packed, which = np.unique(_packed(_rgba(picture.samples[changed])), return_inverse=True)
    wanted = _unpacked(packed)  # (N, 4)
    used = np.zeros(COLOURS, np.bool_)
    used[indices[~changed]] = True
    used[[data[0] for data in png_grounds(picture.metadata) if len(data) == 1 and data[0] < len(palette)]] = True
    entries = np.concatenate([palette, np.full((COLOURS - len(palette), 4), (0, 0, 0, 255), np.uint8)])
    may_hold = used | (np.arange(COLOURS) < len(palette))  # an entry that nobody uses yields to a colour that is wanted
    new = wanted[_nearest(wanted, entries[may_hold])[1] > 0]
    if len(new):
        free = [i for i in (*range(len(palette), COLOURS), *range(len(palette))) if not used[i]]
        new = _fewer(new, len(free))
        entries[free[: len(new)]] = new
        may_hold[free[: len(new)]] = True
    slots = np.flatnonzero(may_hold)
    indices[changed] = slots[_nearest(wanted, entries[slots])[0]][which.ravel()]
    last = int(slots[-1]) + 1
    image = Image.fromarray(indices)
    image.putpalette(entries[:last, :3].tobytes())  # which makes its mode "P"
    if picture.has_alpha and (entries[:last, 3] < 255).any():
        image.info["transparency"] = entries[:last, 3].tobytes()
    return image


def _nearest(wanted: NDArray[np.uint8], entries: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """For each colour (N, 4) the nearest entry, and the square of how far it is; transparent ones are all alike."""
    index, distance = np.empty(len(wanted), np.intp), np.empty(len(wanted), np.int32)
    palette = entries.astype(np.int32)
    for at in range(0, len(wanted), 4096):
        some = wanted[at : at + 4096, None].astype(np.int32)  # (n, 1, 4)
        colour = ((some[..., :3] - palette[:, :3]) ** 2).sum(2) * (np.minimum(some[..., 3], palette[:, 3]) > 0)
        far = colour + 4 * (some[..., 3] - palette[:, 3]) ** 2  # alpha weighs more than a colour
        index[at : at + 4096], distance[at : at + 4096] = far.argmin(1), far.min(1)
    return index, distance


def _fewer(colours: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many colours in place of these, (N, 4)."""
    if len(colours) <= most or not most:
        return colours[:most]
    opaque = bool((colours[:, 3] == 255).all())
    row = Image.fromarray(colours[None, :, :3] if opaque else colours[None])
    method = Image.Quantize.MEDIANCUT if opaque else Image.Quantize.FASTOCTREE
    return _palette_of(row.quantize(most, method))[:most]


def _rgba(samples: Samples) -> NDArray[np.uint8]:
    """(N, C) of any channels as (N, 4)."""
    channels = samples.shape[1]
    colour = samples[:, [0, 0, 0]] if channels <= 2 else samples[:, :3]
    alpha = samples[:, -1:] if channels in (2, 4) else np.full((len(samples), 1), 255, np.uint8)
    return np.concatenate([colour, alpha], axis=1).astype(np.uint8)


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Colours (N, 4) as numbers (N,), in the same order: these are sorted and compared many times faster."""
    return np.ascontiguousarray(colours).view(">u4")[:, 0].astype(np.uint32)


def _unpacked(numbers: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return numbers.astype(">u4").view(np.uint8).reshape(-1, 4)


def _from_rgb(samples: Samples, mode: str, icc_profile: bytes | None) -> Samples:
    """Pixels (N, 3) of RGB in a mode of CONVERTED that files have: (N, channels)."""
    image = Image.fromarray(samples[None].astype(np.uint8))
    transform = _transform(mode, icc_profile, back=True)
    converted = image.convert(mode) if transform is None else ImageCms.applyTransform(image, transform)
    pixels: Samples = np.asarray(converted)[0]
    return pixels


def _transform(mode: str, icc_profile: bytes | None, *, back: bool) -> ImageCms.ImageCmsTransform | None:
    """Between a mode and sRGB; None where Pillow's plain arithmetic has to do: no profile, or one of other channels."""
    if mode != "LAB" and (mode != "CMYK" or not icc_profile):
        return None
    try:
        lab = mode == "LAB"
        own = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(icc_profile or b""))
        ends: tuple[Any, str, Any, str] = (own, mode, ImageCms.createProfile("sRGB"), "RGB")
        ends = (*ends[2:], *ends[:2]) if back else ends
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        return ImageCms.buildTransform(ends[0], ends[2], ends[1], ends[3], ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    except (ImageCms.PyCMSError, OSError):
        return None
