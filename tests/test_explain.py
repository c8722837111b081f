"""What was done, told: the numbers are those of the work, the drawing shows where it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pixmend.backends import open_network
from pixmend.errors import OptionError, OutputExistsError
from pixmend.explain import _table, drawing, explanation, save_explanation
from pixmend.images import open_picture
from pixmend.inpainting import Inpainted, inpainting
from pixmend.options import explanation_files
from small_model import MODEL, box, noise_picture


@pytest.fixture(scope="module")
def result() -> Inpainted:
    hole = box(120, 200, 10, 10, 40, 40) | box(120, 200, 90, 170, 94, 174)
    return inpainting(noise_picture(120, 200), hole, model=MODEL, device="cpu", candidates=2, detail="model")


def test_the_numbers_are_those_of_the_work(result: Inpainted) -> None:
    told = explanation(result)
    assert (told["picture"], told["candidates"]) == ({"height": 120, "width": 200}, 2)
    assert told["backend"] == result.backend == open_network(MODEL, "torch", "cpu").description
    assert [part["hole"] for part in told["windows"]] == [
        {"top": 10, "left": 10, "bottom": 40, "right": 40},
        {"top": 90, "left": 170, "bottom": 94, "right": 174},
    ]
    assert [[level["scale"] for level in part["levels"]] for part in told["windows"]] == [[8, 4, 2, 1], [1]]
    levels = [level for part in told["windows"] for level in part["levels"]]
    assert sum(level["network_calls"] for level in levels) == told["network_calls"] == result.network_calls
    assert 0 < told["network_milliseconds"] <= sum(level["milliseconds"] for level in levels) <= told["milliseconds"]
    for level in levels:
        assert level["tiles"] >= 2 * len(level["noise_levels"]), "of two candidates"
    assert told["windows"][1]["levels"][0]["tile_corners"] == [(0, 0)]


@pytest.mark.parametrize("candidates", [1, 2])
def test_levels_of_one_candidate_say_whose_they_are(candidates: int) -> None:
    hole = box(150, 150, 50, 50, 100, 100)
    wide = inpainting(noise_picture(150, 150), hole, model=MODEL, device="cpu", candidates=candidates, blur=0)
    [window] = explanation(wide)["windows"]
    whose = [(level["detail"], level["scale"], level["candidate"]) for level in window["levels"]]
    own = [("picture", scale, candidate) for candidate in range(1, candidates + 1) for scale in (4, 2, 1)]
    assert whose == [("model", scale, None) for scale in (16, 8, 4)] + own
    drawn = [line.split(":")[0].strip() for line, _ in _table(wide) if "patches" in line]
    named = [f"1/{scale} of fill {candidate}" for _, scale, candidate in own]
    assert drawn == (named if candidates > 1 else ["1/4", "1/2", "1/1"])


def test_the_drawing_shows_the_picture_and_the_table(result: Inpainted) -> None:
    sheet = drawing(result)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 240, "the picture, enlarged twofold, and text below"
    tint = sheet[..., 0].astype(int) - sheet[..., 2]
    red = [np.median(part) for part in (tint[24:76, 24:76], tint[150:170, 150:190])]  # lines cross the hole
    assert red[0] > red[1] + 40, "holes are tinted red"


def test_files(result: Inpainted, tmp_path: Path) -> None:
    save_explanation(result, tmp_path / "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    save_explanation(result, tmp_path / "b.png")
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads((tmp_path / "a.json").read_text())
    assert open_picture(tmp_path / "b.png").size == drawing(result).shape[:2]
    with pytest.raises(OutputExistsError):
        save_explanation(result, tmp_path / "a.png")
    with pytest.raises(OptionError, match="explanation"):
        explanation_files(tmp_path / "c.txt")
