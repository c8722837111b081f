"""The command line in the tests: what one run of it gives, and a folder with a picture and a mask to give it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

SIZE = (40, 56)  # (H, W) of the picture in `picture_and_mask`


class Done(NamedTuple):
    """What one run of the command line gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def fails(done: Done, code: int, *says: str) -> None:
    """One line on stderr, and nothing on stdout."""
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("pixmend: error: ")
    assert len(done.err.splitlines()) == 1
    assert [word for word in says if word not in done.err] == []


def picture_and_mask(folder: Path) -> Path:
    """The folder, with a picture and a mask for it."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / "picture.png")
    hole = np.zeros(SIZE, np.uint8)
    hole[10:20, 16:32] = 255
    Image.fromarray(hole).save(folder / "mask.png")
    return folder


def inpaint(folder: Path, model: Path, *more: object) -> list[object]:
    """The command that repairs that picture."""
    return ["inpaint", folder / "picture.png", "--mask", folder / "mask.png", "--model", model, *more]


def samples(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
