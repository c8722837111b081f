"""HEIC files, through pillow-heif (the extra `heif`), which teaches Pillow to read and write them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

# The brands of ISO/IEC 23008-12 in a file's first box, which tell a HEIC from an AVIF.
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@cache
def register_heif() -> bool:
    """Have Pillow read and write HEIC; false where pillow-heif is not installed."""
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so, 12 bytes or more, is a HEIC: an AVIF, too, may be of a brand that is of both."""
    size = int.from_bytes(head[:4], "big")
    others = {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS and not others & {b"avif", b"avis"}
