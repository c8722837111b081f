"""The page's masks in a real browser: what is painted is what the server draws, and what the canvas shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from page_driver import HEIGHT, STROKE, WIDTH, Visitor, grown, samples

pytestmark = pytest.mark.slow


def test_undo_and_redo_walk_along_all_strokes(visitor: Visitor) -> None:
    masks = []
    for i in range(5):
        visitor.drag((0.1 + 0.15 * i, 0.2), (0.15 + 0.15 * i, 0.8))
        masks.append(visitor.mask())
    for mask in masks[-2::-1]:
        visitor.page.keyboard.press("Control+z")
        assert (visitor.mask() == mask).all()
    visitor.page.keyboard.press("Control+z")
    expect(visitor.button("mask-download")).to_be_disabled()
    for mask in masks:
        visitor.page.keyboard.press("Control+y")
        assert (visitor.mask() == mask).all()
    assert len({mask.tobytes() for mask in masks}) == 5


def test_rectangles_fall_on_whole_pixels(visitor: Visitor) -> None:
    visitor.choose("rectangle")
    corner, opposite = (0.25, 0.25), (0.75, 0.5)
    edge = 0.1 / WIDTH  # a little inside of the pixels at the corners
    visitor.drag((corner[0] + edge, corner[1] + edge), (opposite[0] - edge, opposite[1] - edge))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[HEIGHT // 4 : HEIGHT // 2, WIDTH // 4 : 3 * WIDTH // 4] = True
    assert (visitor.mask() == expected).all()
    visitor.do("invert")
    assert (visitor.mask() == ~expected).all()
    visitor.do("clear")
    visitor.page.get_by_text("Fill outside").click()
    visitor.drag((corner[0] + edge, corner[1] + edge), (opposite[0] - edge, opposite[1] - edge))
    assert (visitor.mask() == ~expected).all()
    visitor.page.fill("[name=by]", "2")
    visitor.do("shrink")
    assert (visitor.mask() == ~grown(expected, 2)).all()


def test_the_page_draws_the_mask_that_the_server_draws(come: Callable[..., Visitor], tmp_path: Path) -> None:
    """At the middle of each pixel of a black picture the canvas is coloured where the server's mask is white."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "black.png")
    visitor = come()
    visitor.open(tmp_path / "black.png")
    visitor.page.fill("[name=grow]", "0")

    def compare() -> None:
        mask = visitor.mask()
        assert 0.01 < mask.mean() < 0.99
        border = grown(mask, 1) & grown(~mask, 1)

        def agrees(canvas: np.ndarray[Any, Any]) -> bool:
            seen = marked(visitor, canvas)
            return bool((seen == mask)[~border].all()) and (seen != mask).mean() < 0.02

        visitor.page.mouse.move(5, 5)  # away, with its ring
        visitor.expect_seen(agrees)

    visitor.drag(*STROKE)
    compare()
    visitor.choose("eraser")
    visitor.drag((0.4, 0.3), (0.45, 0.7))
    compare()
    visitor.choose("lasso")
    visitor.drag((0.1, 0.1), (0.4, 0.3), (0.1, 0.4), (0.4, 0.1))  # crosses itself
    compare()
    for deed in ("grow", "invert", "shrink", "shrink"):
        visitor.do(deed)
        compare()
    visitor.page.select_option("[name=kind]", "stripes")
    visitor.do("clear")
    visitor.do("kind")
    compare()


def marked(visitor: Visitor, canvas: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the canvas shows a black picture coloured, at the middle of each of its pixels."""
    box = visitor.page.locator("#repair-canvas").bounding_box()
    assert box is not None
    left, top, width, height = visitor.extent()
    columns = left - box["x"] + (np.arange(WIDTH) + 0.5) * width / WIDTH
    rows = top - box["y"] + (np.arange(HEIGHT) + 0.5) * height / HEIGHT
    found: np.ndarray[Any, Any] = canvas[rows.astype(int)[:, None], columns.astype(int)[None], 0] > 60
    return found


def test_masks_are_uploaded(visitor: Visitor, tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:40, 50:90] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")
    visitor.page.set_input_files("#mask-file", tmp_path / "mask.png")
    visitor.expect_said("The mask marks 5.8% of the picture.")
    assert (visitor.mask() == mask).all()
    expect(visitor.page.locator("[name=grow]")).to_have_value("0")  # what came as a file is exact
    Image.new("L", (5, 5), 255).save(tmp_path / "small.png")
    visitor.page.set_input_files("#mask-file", tmp_path / "small.png")
    visitor.expect_error("5 x 5")
    assert (visitor.mask() == mask).all()
    assert visitor.complaints
    visitor.complaints.clear()  # the browser's own note of the refusal


def test_a_mask_by_kind_is_exact_once_what_was_drawn_is_cleared(visitor: Visitor) -> None:
    visitor.drag(*STROKE)
    assert visitor.mask().any()
    visitor.do("clear")
    visitor.do("kind")
    expect(visitor.page.locator("[name=grow]")).to_have_value("0")
    visitor.do("clear")
    expect(visitor.page.locator("[name=grow]")).to_have_value("3")


def test_the_margin_outlives_a_reload(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    page.fill("[name=grow]", "5")
    Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=bool)).save(tmp_path / "mask.png")
    page.set_input_files("#mask-file", tmp_path / "mask.png")
    visitor.expect_said("The mask marks")
    page.reload()
    expect(visitor.button("clear")).to_be_enabled()
    expect(page.locator("[name=grow]")).to_have_value("0")
    visitor.do("clear")
    expect(page.locator("[name=grow]")).to_have_value("5")
    page.reload()
    expect(page.locator("[name=grow]")).to_have_value("5")


def test_what_was_not_measured_is_filled(come: Callable[..., Visitor], tmp_path: Path) -> None:
    pixels = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    visitor = come()
    for name, hole in (("whole.tif", False), ("lacking.tif", True)):
        pixels[30:50, 40:80] = np.nan if hole else 0
        Image.fromarray(pixels).save(tmp_path / name)
        visitor.open(tmp_path / name)
        visitor.button("clear").wait_for()
        if not hole:
            visitor.page.locator("#repair summary").first.click()
        expect(visitor.button("alpha")).to_be_visible(visible=hole)
    visitor.do("alpha")
    assert (visitor.mask() == np.isnan(pixels)).all()
    visitor.fill()
    filled = samples(visitor.saved()[1])
    assert np.isfinite(filled).all()


def test_transparency_is_filled(come: Callable[..., Visitor], tmp_path: Path) -> None:
    pixels = np.full((HEIGHT, WIDTH, 4), 120, np.uint8)
    pixels[..., 3] = 255
    pixels[30:50, 40:80, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    visitor = come()
    visitor.open(tmp_path / "clear.png")
    visitor.page.locator("#repair summary").first.click()
    visitor.do("alpha")
    visitor.fill()
    assert samples(visitor.saved()[1]).shape[:2] == (HEIGHT, WIDTH)
