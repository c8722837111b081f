"""How much of drawn damage `pixmend mask --scratches` finds, and how much of what it marks is damage.

    python bench/scratches.py [--seeds 3] [--save DIR]

Scratches, fibres, dust and creases are drawn with antialiasing, fading and grain on photographs of scikit-image that
may be redistributed, in black and white, sepia and colour; without damage too, for what is marked there is all wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from machine import machine
from pixmend.scratches import find_scratches

Floats = NDArray[np.float32]
Hole = NDArray[np.bool_]
Rng = np.random.Generator

SLACK = 2  # pixels that a mark may be beside the damage, and the other way round
SEEN = 0.05  # of the range: damage that changes a pixel by less is not labelled
PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "brick", "grass")
TONES = ("grey", "sepia", "colour")


def damaged(picture: Floats, rng: Rng, tone: str = "grey") -> tuple[NDArray[np.uint8], dict[str, Hole]]:
    """A picture (H, W, 3) in [0, 1] as a scan of an old print with drawn damage, and where each kind of it is seen."""
    clean = faded(picture, tone)
    now, labels = clean, {}
    for kind, draw in KINDS.items():
        before = now
        for strength, value in draw(clean.shape[:2], rng):
            now = now + strength[..., None] * (np.float32(value) - now)
        labels[kind] = np.abs(now - before).max(axis=2) >= SEEN
    grain = rng.normal(0, rng.uniform(0.008, 0.02), clean.shape[:2]).astype(np.float32)
    return np.rint(255 * np.clip(now + grain[..., None], 0, 1)).astype(np.uint8), labels


def faded(picture: Floats, tone: str) -> Floats:
    """A picture in less than the full range, without its colours unless the tone is colour."""
    if tone != "colour":
        picture = np.repeat(picture @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if tone == "sepia":
        picture = picture * np.array([1.0, 0.92, 0.76], np.float32)
    return 0.08 + 0.82 * picture


def scratches(shape: tuple[int, int], rng: Rng) -> Iterator[tuple[Floats, float]]:
    """Long, nearly straight lines, most of them light, whose strength comes and goes."""
    for _ in range(6):
        length = rng.uniform(0.15, 0.9) * min(shape)
        points = curve(shape, rng, length, bend=0.06)
        yield stroke(shape, points, rng.uniform(0.4, 1.4), fading(len(points), rng, 0.3)), light_or_dark(rng, 0.75)


def fibres(shape: tuple[int, int], rng: Rng) -> Iterator[tuple[Floats, float]]:
    """Short, thin, strongly bent lines."""
    for _ in range(4):
        points = curve(shape, rng, rng.uniform(25, 70), bend=0.5)
        yield stroke(shape, points, rng.uniform(0.4, 0.8), fading(len(points), rng, 0.6)), light_or_dark(rng, 0.5)


def dust(shape: tuple[int, int], rng: Rng) -> Iterator[tuple[Floats, float]]:
    """Specks of a few pixels."""
    for _ in range(30):
        points = curve(shape, rng, rng.uniform(0, 3), bend=0.5)
        yield (
            stroke(shape, points, rng.uniform(0.8, 2.6), np.full(len(points), rng.uniform(0.6, 1))),
            light_or_dark(rng),
        )


def creases(shape: tuple[int, int], rng: Rng) -> Iterator[tuple[Floats, float]]:
    """Broad light lines across most of the picture, with a soft shadow beside them."""
    for _ in range(1):
        points = curve(shape, rng, rng.uniform(0.7, 1.1) * min(shape), bend=0.03)
        strength = fading(len(points), rng, 0.5)
        yield stroke(shape, points + 3.0, rng.uniform(2, 3), 0.3 * strength), 0.05
        yield stroke(shape, points, rng.uniform(1.2, 2.8), strength), rng.uniform(0.85, 1)


KINDS = {"scratches": scratches, "fibres": fibres, "dust": dust, "creases": creases}


def light_or_dark(rng: Rng, light: float = 0.65) -> float:
    return rng.uniform(0.9, 1) if rng.random() < light else rng.uniform(0, 0.08)


def curve(shape: tuple[int, int], rng: Rng, length: float, bend: float) -> NDArray[np.float64]:
    """Points (N, 2), half a pixel apart, of a parabola through the picture."""
    middle = rng.uniform(0.1, 0.9, 2) * shape
    angle, bulge = rng.uniform(0, np.pi), rng.uniform(-bend, bend) * length
    along = np.linspace(-1, 1, max(2, int(2 * length)))
    there, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    return middle + along[:, None] * there * length / 2 + bulge * (1 - along**2)[:, None] * across


def fading(count: int, rng: Rng, least: float) -> NDArray[np.float64]:
    """A strength along a line, between `least` and 1, that ends in nothing."""
    knots = rng.uniform(least, 1, 6)
    strength = np.interp(np.linspace(0, 5, count), np.arange(6), knots)
    return strength * np.clip(np.minimum(np.arange(count), np.arange(count)[::-1]) / 8, 0.2, 1)


def stroke(shape: tuple[int, int], points: NDArray[np.float64], radius: float, strength: NDArray[np.float64]) -> Floats:
    """How much of each pixel (H, W) a line of this radius covers, times its strength there."""
    reach = int(np.ceil(radius + 1))
    covered = np.zeros(shape, np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            pixels = np.floor(points).astype(int) + np.array([dy, dx])
            inside = ((pixels >= 0) & (pixels < shape)).all(axis=1)
            distance = np.hypot(*(pixels - points).T)
            value = strength * np.clip(radius + 0.5 - distance, 0, min(1.0, 2 * radius))
            np.maximum.at(covered, tuple(pixels[inside].T), value[inside].astype(np.float32))
    return covered


def near(hole: Hole, radius: int = SLACK) -> Hole:
    """The hole grown by a square."""
    edged, (height, width) = np.pad(hole, radius), hole.shape
    sides = range(2 * radius + 1)
    return np.any([edged[y : y + height, x : x + width] for y in sides for x in sides], axis=0)


def precision(found: Hole, labels: dict[str, Hole]) -> float:
    """The share of what is marked that is damage, or within SLACK pixels of it."""
    truth = near(np.any(list(labels.values()), axis=0))
    return float((found & truth).sum() / max(1, found.sum()))


def recall(found: Hole, label: Hole) -> float:
    """The share of the damage that is marked, or within SLACK pixels of a mark."""
    return float((label & near(found)).sum() / max(1, label.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", type=Path, help="a folder for the damaged pictures and their masks")
    options = parser.parse_args()
    import skimage.data

    print("# Drawn damage, found\n")
    print(f"{machine()}.\n")
    print(f"Means over {options.seeds} sets of damage for each picture. Recall, of all damage and of each kind, is a")
    print(f"share of damaged pixels, precision of marked ones; both within {SLACK} pixels.\n")
    print("| picture | marked of clean | precision | recall |", *(f"{kind} |" for kind in KINDS))
    print("|---|---|---|---|" + "---|" * len(KINDS))
    rows = []
    for number, name in enumerate(PHOTOGRAPHS):
        photograph = getattr(skimage.data, name)()
        picture = np.stack([photograph] * 3, axis=2) if photograph.ndim == 2 else photograph[..., :3]
        picture = picture.astype(np.float32) / 255
        figures = []
        for seed in range(options.seeds):
            tone = TONES[seed % len(TONES)]
            scan, labels = damaged(picture, np.random.default_rng([number, seed]), tone)
            found = find_scratches(scan)
            clean = find_scratches(np.rint(255 * faded(picture, tone)).astype(np.uint8))
            every = np.any(list(labels.values()), axis=0)
            parts = [recall(found, label) for label in labels.values()]
            figures.append([float(clean.mean()), precision(found, labels), recall(found, every), *parts])
            if options.save:
                beside = np.concatenate([scan, np.where(found[..., None], np.uint8([255, 0, 0]), scan)], axis=1)
                Image.fromarray(beside).save(options.save / f"{name}-{seed}.png")
        rows.append(np.mean(figures, axis=0))
        print(line(name, rows[-1]), flush=True)
    print(line("mean", np.mean(rows, axis=0)))


def line(name: str, figures: NDArray[np.float64]) -> str:
    return f"| {name} | {figures[0]:.2%} | " + " | ".join(f"{figure:.2f}" for figure in figures[1:]) + " |"


if __name__ == "__main__":
    main()
