"""The hand on the page: painting on results, zooming and moving by wheel, keys and drags, and the divider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from page_driver import DESKTOP, HEIGHT, OTHER_STROKE, STROKE, WIDTH, Visitor, samples, sent

pytestmark = pytest.mark.slow


# ------------------------------------------------------------------------------------------------- painting on results


def test_who_paints_on_a_result_keeps_it(visitor: Visitor) -> None:
    visitor.page.fill("[name=grow]", "0")
    visitor.drag(*STROKE)
    first = visitor.mask()
    visitor.fill()
    result = samples(visitor.saved()[1])
    visitor.drag(*OTHER_STROKE)
    visitor.expect_said("Kept.")
    expect(visitor.candidates).to_have_count(0)
    assert (samples(visitor.saved()[1]) == result).all()
    second = visitor.mask()
    assert second.any()
    assert not (second & first).any()
    visitor.do("undo")
    visitor.do("undo")
    assert (visitor.mask() == first).all()


def test_a_stroke_that_is_under_way_belongs_to_the_mask(visitor: Visitor) -> None:
    """And no more than that: the next key does not lift its pen, which would keep the result unasked."""
    page = visitor.page
    page.locator("#repair-canvas").focus()
    page.keyboard.press("Enter")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Enter")
    expect(visitor.candidates).to_have_count(2)
    page.locator("#repair-canvas").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert visitor.mask().any()
    expect(visitor.candidates).to_have_count(2)


def test_a_bar_let_go_elsewhere_is_let_go(visitor: Visitor) -> None:
    page = visitor.page
    page.locator("#repair-canvas").focus()
    page.keyboard.down("Space")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    visitor.drag(*STROKE)
    assert visitor.mask().any()
    page.keyboard.up("Space")


def test_the_help_stays_while_its_own_margin_is_clicked(visitor: Visitor) -> None:
    page = visitor.page
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog")
    box = help_.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    expect(help_).to_be_visible()
    page.mouse.click(box["x"] - 5, box["y"] + 5)
    expect(help_).not_to_be_visible()


def test_what_was_seen_stays_until_what_was_kept_has_come(visitor: Visitor) -> None:
    visitor.drag(*STROKE)
    visitor.fill()
    visitor.still()
    visitor.page.route("**/api/pictures/*/view?*", lambda route: None)  # never answered
    visitor.do("keep")
    visitor.expect_said("Kept.")
    ground = (visitor.still() == (0xCF, 0xD3, 0xDA)).all(axis=2)
    assert ground.mean() < 0.001


def test_what_is_painted_on_an_extended_picture_lies_where_it_was_painted(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_text("Extend the canvas").click()
    page.fill("[name=left]", "24")
    page.fill("[name=bottom]", "16")
    page.locator("summary", has_text="More").click()
    page.select_option("[name=sampler]", "ddim")
    with page.expect_request("**/api/extensions") as asked:
        visitor.do("extend")
    assert sent(asked.value)["sampler"] == "ddim"
    expect(visitor.candidates).to_have_count(2)
    visitor.do("compare")
    expect(page.get_by_role("slider", name="Before and after")).to_be_visible()
    visitor.do("compare")
    stage = page.locator("#repair .stage").bounding_box()
    assert stage is not None
    visitor.choose("rectangle")
    page.mouse.move(stage["x"] + 4, stage["y"] + 4)
    page.mouse.down()  # from outside of the picture: a rectangle ends where the picture ends
    page.mouse.move(stage["x"] + stage["width"] - 4, stage["y"] + stage["height"] - 4, steps=3)
    page.mouse.up()
    visitor.expect_said("Kept.")
    mask = visitor.mask()
    assert mask.shape == (HEIGHT + 16, WIDTH + 24)
    assert mask.all()


def test_a_stroke_under_way_while_its_result_is_kept_lies_where_it_was_painted(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("[name=grow]", "0")
    page.get_by_text("Extend the canvas").click()
    page.fill("[name=left]", "48")
    visitor.do("extend")
    expect(visitor.candidates).to_have_count(2)
    visitor.still()
    visitor.choose("rectangle")
    stage = page.locator("#repair .stage").bounding_box()
    assert stage is not None
    page.mouse.move(stage["x"] + 4, stage["y"] + 4)
    page.mouse.down()  # from outside of the picture to its middle
    page.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] - 4, steps=3)
    page.keyboard.press("k")
    visitor.expect_said("Kept.")
    page.mouse.up()
    mask = visitor.mask()
    assert mask.shape == (HEIGHT, WIDTH + 48)
    columns = np.asarray(mask.any(axis=0))
    assert columns[: (WIDTH + 48) // 2 - 2].all()
    assert not columns[(WIDTH + 48) // 2 + 2 :].any()


def test_a_mouse_that_is_touched_does_not_spoil_what_the_arrows_draw(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("[name=grow]", "0")
    page.locator("#repair-canvas").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.mouse.move(*visitor.on_screen((0.1, 0.1)))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    rows, columns = visitor.mask().nonzero()
    assert rows.min() > HEIGHT * 0.25
    assert columns.min() > WIDTH * 0.25


# ----------------------------------------------------------------------------------------------------- zoom and moving


def test_the_view_is_zoomed_and_moved_by_wheel_keys_and_drags(come: Callable[..., Visitor], tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2] = 255, 0, 0
    Image.fromarray(pixels).save(tmp_path / "red.png")
    visitor = come()
    page = visitor.page
    visitor.open(tmp_path / "red.png")
    share = page.locator("#repair .share")

    def edge(canvas: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
        """Where red ends, in the row at the middle."""
        row = canvas[len(canvas) // 2].astype(int)
        return int(np.flatnonzero((row == (255, 0, 0)).all(axis=1)).max(initial=-1))

    fitted = edge(visitor.still())
    middle = visitor.on_screen((0.5, 0.5))

    def moved_by(pixels: int) -> None:
        visitor.expect_seen(lambda seen: abs(edge(seen) - fitted - pixels) <= 1)
        visitor.do("zoom-fit")
        visitor.expect_seen(lambda seen: edge(seen) == fitted)

    page.keyboard.press("Alt+ArrowLeft")
    moved_by(60)
    for button, held in (("middle", None), ("left", " ")):
        page.mouse.move(*middle)
        if held:
            page.locator("#repair-canvas").focus()
            page.keyboard.down(held)
        page.mouse.down(button=button)  # type: ignore[arg-type]
        page.mouse.move(middle[0] - 50, middle[1], steps=3)
        page.mouse.up(button=button)  # type: ignore[arg-type]
        if held:
            page.keyboard.up(held)
        moved_by(-50)
    page.mouse.move(*middle)
    page.mouse.wheel(0, -200)
    expect(share).to_have_text(f"{round(100 * 4 * np.exp(0.3))}%")
    visitor.expect_seen(lambda seen: abs(edge(seen) - fitted) <= 2)  # what is under the mouse stays there
    for key, shown in (("1", "100%"), ("+", "125%"), ("-", "100%"), ("0", "400%")):
        page.keyboard.press(key)
        expect(share).to_have_text(shown)
    expect(visitor.button("undo")).to_be_disabled()  # nothing was painted


def test_strokes_lie_where_they_are_painted_on_another_screen(visitor: Visitor) -> None:
    page = visitor.page
    middle = visitor.on_screen((0.5, 0.5))
    page.mouse.click(*middle)
    mask = visitor.mask()
    visitor.do("clear")
    height, width, _ = visitor.canvas().shape
    screen = {**DESKTOP["viewport"], "deviceScaleFactor": 2, "mobile": False}
    page.context.new_cdp_session(page).send("Emulation.setDeviceMetricsOverride", screen)
    page.mouse.move(middle[0] + 9, middle[1])  # a frame, which headless browsers draw for no other reason
    visitor.expect_seen(lambda seen: seen.shape[:2] == (2 * height, 2 * width))
    page.mouse.click(*middle)
    assert (visitor.mask() & mask).sum() > 0.8 * mask.sum() > 0


def test_the_divider_is_dragged(visitor: Visitor) -> None:
    visitor.drag(*STROKE)
    visitor.fill()
    visitor.do("compare")
    divider = visitor.page.get_by_role("slider", name="Before and after")
    box = divider.bounding_box()
    assert box is not None
    left, _, width, _ = visitor.extent()
    visitor.page.mouse.move(left + 0.5 * width, box["y"] + box["height"] / 2)
    visitor.page.mouse.down()
    visitor.page.mouse.move(left + 0.75 * width, box["y"] + 10, steps=3)
    visitor.page.mouse.up()
    expect(divider).to_have_attribute("aria-valuenow", "75")


def test_a_picture_wider_than_any_canvas_is_shown(come: Callable[..., Visitor], tmp_path: Path) -> None:
    Image.new("RGB", (70_000, 100), (255, 0, 0)).save(tmp_path / "wide.png")
    visitor = come()
    visitor.open(tmp_path / "wide.png")

    def is_red_in_the_middle(seen: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
        row = seen[:, seen.shape[1] // 2].astype(int)
        return bool((row == (255, 0, 0)).all(axis=1).any())

    visitor.expect_seen(is_red_in_the_middle)
    visitor.do("zoom-actual")
    visitor.expect_seen(lambda seen: (seen.reshape(-1, 3) == (255, 0, 0)).all(axis=1).sum() > 50 * seen.shape[1])
