"""Draw mask-gallery.png beside this file: every kind of mask, several seeds each; white = hole.

python docs/figures/mask_gallery.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pixmend.masks import KINDS, create_advanced_mask

SIZE, SEEDS, COLUMNS = 96, 6, 2  # pixels of a mask, masks of a kind, columns of kinds
GAP, LABEL, MARGIN = 6, 24, 22
PAPER, INK, FAINT = (250, 249, 246), (38, 40, 48), (128, 130, 138)
KNOWN, HOLE = (58, 66, 88), (255, 255, 255)


def main() -> None:
    """Draw and save."""
    kinds = list(KINDS)
    rows = -(-len(kinds) // COLUMNS)
    width = SEEDS * (SIZE + GAP) - GAP
    height = LABEL + SIZE + 14
    page = Image.new("RGB", (COLUMNS * (width + MARGIN) + MARGIN, rows * height + 2 * MARGIN - 10), PAPER)
    for place, kind in enumerate(kinds):
        column, row = divmod(place, rows)
        corner = (MARGIN + column * (width + MARGIN), MARGIN - 6 + row * height)
        _draw_kind(page, kind, corner, width)
    page.quantize(64, dither=Image.Dither.NONE).save(Path(__file__).with_name("mask-gallery.png"), optimize=True)


def _draw_kind(page: Image.Image, kind: str, corner: tuple[int, int], width: int) -> None:
    draw = ImageDraw.Draw(page)
    left, top = corner
    shares = [float(create_advanced_mask(kind, SIZE, seed=seed).mean()) for seed in range(200)]
    draw.text((left, top), kind, INK, ImageFont.load_default(15))
    low, high = (f"{100 * q:.0f}" for q in np.quantile(shares, (0.05, 0.95)))  # nine masks of ten are between
    spread = f"{low} % hole" if low == high else f"{low} to {high} % hole"
    draw.text((left + width, top + 3), spread, FAINT, ImageFont.load_default(11), anchor="ra")
    for seed in range(SEEDS):
        hole = create_advanced_mask(kind, SIZE, seed=seed)[0, 0].bool().numpy()
        picture = np.where(hole[..., None], np.array(HOLE, np.uint8), np.array(KNOWN, np.uint8))
        place = (left + seed * (SIZE + GAP), top + LABEL)
        page.paste(Image.fromarray(picture), place)
        draw.rectangle((place[0] - 1, place[1] - 1, place[0] + SIZE, place[1] + SIZE), outline=KNOWN)


if __name__ == "__main__":
    main()
