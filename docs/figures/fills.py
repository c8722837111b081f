"""Draw docs/figures/fills.png: free photographs with holes, mended by OpenCV's Telea and by pixmend.

    python docs/figures/fills.py          needs the `bench` extra (OpenCV, scikit-image)

From left to right: the hole, Telea (radius 3), pixmend with the shipped model as it is, the photograph. The cat and the
cup travel with pixmend; the rocket (SpaceX, public domain) and the grass (linolafett, CC0) are from scikit-image, whose
documentation states the terms.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from pixmend.demo import ASSETS
from pixmend.inpainting import inpainting
from pixmend.masks import draw_mask

SIDE, GAP = 256, 4
CASES = (  # photograph, in the package or in scikit-image, top, left, kind of mask, seed, its parameters
    ("chelsea.jpg", 20, 100, "text", 1, {"letter": 0.09}),
    ("coffee.jpg", 60, 60, "scratches", 3, {"width": (0.008, 0.02)}),
    ("coffee.jpg", 60, 60, "stripes", 2, {"period": 0.1, "share": 0.4}),
    ("chelsea.jpg", 20, 100, "irregular", 4, {"width": (0.05, 0.08)}),
    ("coffee.jpg", 60, 60, "centre", 0, {"side": 0.25}),
    ("chelsea.jpg", 20, 100, "rectangles", 8, {"side": (0.1, 0.25)}),
    ("chelsea.jpg", 20, 100, "thick", 3, {}),
    ("rocket", 90, 250, "thick", 1, {}),
    ("grass", 0, 0, "thick", 5, {}),
)


def crop(name: str, top: int, left: int) -> NDArray[np.uint8]:
    image = Image.open(ASSETS / name) if "." in name else Image.fromarray(getattr(skimage.data, name)())
    pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])


def row(photograph: NDArray[np.uint8], hole: NDArray[np.bool_]) -> NDArray[np.uint8]:
    damaged = np.where(hole[..., None], np.uint8(255), photograph)
    telea = cv2.inpaint(damaged, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    ours = inpainting(damaged, hole, seed=0).pictures[0].samples
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    return np.hstack([damaged, gap, telea, gap, ours, gap, photograph])


def main() -> None:
    rows = []
    for name, top, left, kind, seed, parameters in CASES:
        hole = draw_mask(kind, (SIDE, SIDE), np.random.default_rng(seed), **parameters)
        rows += [row(crop(name, top, left), hole), np.full((GAP, 4 * SIDE + 3 * GAP, 3), 255, np.uint8)]
    figure = Image.fromarray(np.vstack(rows[:-1]))
    figure.save(Path(__file__).with_name("fills.png"), optimize=True)


if __name__ == "__main__":
    main()
