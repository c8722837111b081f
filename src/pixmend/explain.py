"""What was done to a picture, as JSON and drawn: windows, levels, tiles, calls, milliseconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixmend.efforts import LevelRecord
from pixmend.files import write_atomically
from pixmend.images import open_picture, save_picture
from pixmend.inpainting import Inpainted
from pixmend.options import explanation_files

SIDE = 1024  # pixels of the drawing's longer side, at most
LINE = 14  # pixels from one line of text to the next
HOLE = np.array([255, 60, 60])  # what holes are tinted with
WINDOW = (255, 220, 0)
TILES = ((0, 230, 255), (80, 255, 80), (255, 140, 255), (255, 165, 60))  # of the levels 1, 2, 4, 8 and so on, in turn

Box = tuple[int, int, int, int]  # left, top, right, bottom


def explanation(result: Inpainted) -> dict[str, Any]:
    """What was done, in numbers: windows, first of narrow holes, their levels from coarse to fine; all in pixels."""
    height, width = result.job.picture.size
    network = sum(level.network_seconds for part in result.records for level in part.levels)
    return {
        "picture": {"height": height, "width": width},
        "hole_share": result.hole_share,
        "touched_share": result.touched_share,
        "candidates": len(result.pictures),
        "network_calls": result.network_calls,
        "backend": result.backend,
        "milliseconds": 1e3 * result.seconds,
        "network_milliseconds": 1e3 * network,
        "windows": [
            {
                "hole": asdict(record.part.box),
                "window": asdict(record.part.window),
                "halvings": record.part.halvings,
                "narrow": record.part.narrow,
                "levels": [_level(level) for level in record.levels],
            }
            for record in result.records
        ],
    }


def _level(record: LevelRecord) -> dict[str, Any]:
    level = record.level
    return {
        "scale": level.scale,
        "candidate": None if record.candidate is None else record.candidate + 1,  # counted as the outputs are
        "area": asdict(level.area),
        "tile": level.size,
        "detail": "model" if record.times else "picture",
        "noise_levels": record.times,
        "tiles": record.tiles,
        "tile_corners": record.corners,
        "network_calls": record.calls,
        "milliseconds": 1e3 * record.seconds,
        "network_milliseconds": 1e3 * record.network_seconds,
    }


def drawing(result: Inpainted) -> NDArray[np.uint8]:
    """The picture with its windows and tiles, and below it the table of levels: (H, W, 3)."""
    height, width = result.job.picture.size
    step = max(1, -(-max(height, width) // SIDE))
    factor = max(1, SIDE // 2 // max(height, width)) / step  # small pictures are enlarged
    reduced = replace(result.job.picture, samples=result.job.picture.samples[::step, ::step])
    shown = np.clip(reduced.colour() * 63.5 + 159.5, 0, 255)  # pale: lines show
    touched = result.job.soft[::step, ::step, None] > 0
    shown = np.where(touched, 0.5 * shown + 0.5 * HOLE, shown).astype(np.uint8)
    picture = Image.fromarray(shown).resize((max(1, int(width * factor)), max(1, int(height * factor))))
    lines = _table(result)
    sheet = Image.new("RGB", (max(picture.width, 640), picture.height + LINE * (len(lines) + 2)), "white")
    for record in result.records:
        w = record.part.window
        for level in record.levels:
            for tile in _tiles(level, w.top, w.left):
                _frame(picture, tile, factor, _colour(level.level.scale))
        _frame(picture, (w.left, w.top, w.right, w.bottom), factor, WINDOW, width=2)
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for i, (text, colour) in enumerate(lines):
        draw.text((8, picture.height + LINE * (i + 1)), text, fill=colour)
    return np.asarray(sheet)


def _tiles(record: LevelRecord, top: int, left: int) -> Iterator[Box]:
    """The tiles of a level's last step, in the picture."""
    level = record.level
    for i, j in record.corners:
        y = top + (level.area.top + i) * level.scale
        x = left + (level.area.left + j) * level.scale
        side = level.size * level.scale
        yield x, y, x + side, y + side


def _frame(picture: Image.Image, box: Box, factor: float, colour: tuple[int, int, int], width: int = 1) -> None:
    """Draw a box; what reaches beyond the picture, as tiles at its borders do, is cut."""
    most = (picture.width - 1, picture.height - 1) * 2
    corners = [min(max(0, int(v * factor) - 1), end) for v, end in zip(box, most, strict=True)]
    ImageDraw.Draw(picture).rectangle(corners, outline=colour, width=width)


def _colour(scale: int) -> tuple[int, int, int]:
    return TILES[(scale.bit_length() - 1) % len(TILES)]


def _table(result: Inpainted) -> list[tuple[str, tuple[int, int, int]]]:
    """Lines of text with their colours."""
    black = (0, 0, 0)
    lines = [
        (
            f"{result.hole_share:.1%} hole, {result.touched_share:.1%} touched; {result.network_calls} network calls, "
            f"{1e3 * result.seconds:.0f} ms; {len(result.pictures)} fill(s); {result.backend}",
            black,
        )
    ]
    for number, record in enumerate(result.records, 1):
        w = record.part.window
        holes = ", narrow holes" if record.part.narrow else ""
        lines.append((f"window {number}: {w.right - w.left} x {w.bottom - w.top} at {w.left}, {w.top}{holes}", black))
        for level in record.levels:
            width, height = level.level.area.shape[::-1]
            how = (
                f"{_counted(len(level.times), 'step')}, "
                f"{_counted(level.tiles, 'tile')} in {_counted(level.calls, 'call')}, "
                f"{1e3 * level.seconds:.0f} ms ({1e3 * level.network_seconds:.0f} in the network)"
                if level.times
                else f"patches of the picture, {1e3 * level.seconds:.0f} ms"
            )
            whose = (
                f" of fill {level.candidate + 1}" if len(result.pictures) > 1 and level.candidate is not None else ""
            )
            text = f"    1/{level.level.scale}{whose}: {width} x {height}, {how}"
            lines.append((text, tuple(c * 2 // 3 for c in _colour(level.level.scale))))  # type: ignore[arg-type]
    return lines


def _counted(number: int, what: str) -> str:
    """Such as "1 step" and "2 steps"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def save_explanation(result: Inpainted, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write FILE.json, or FILE.png with FILE.json beside it."""
    numbers, *picture = explanation_files(Path(path))
    content = json.dumps(explanation(result), indent=2).encode()
    for file in picture:  # first: where there is no room for it, nothing is left
        save_picture(open_picture(drawing(result)), file, overwrite=overwrite)
    write_atomically(numbers, lambda stream: stream.write(content), overwrite=overwrite)
