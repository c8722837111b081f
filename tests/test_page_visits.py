"""The page in a real browser, as different visitors meet it: large pictures, phones, Chinese, keys alone, errors."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from page_driver import DESKTOP, PHONE, STROKE, Host, Visitor, photograph, samples, sent

pytestmark = pytest.mark.slow


# --------------------------------------------------------------------------------------------- sizes, phones, languages


def test_24_megapixels_are_shown_in_parts_and_saved_whole(come: Callable[..., Visitor], tmp_path: Path) -> None:
    path = photograph(tmp_path / "large.jpg", (4000, 6000), quality=85)
    visitor = come()
    page = visitor.page
    views: list[dict[str, float]] = []
    page.on("request", lambda request: views.append(area(request.url)) if "/view?" in request.url else None)
    visitor.open(path)
    visitor.drag((0.5, 0.5), (0.51, 0.5))
    with page.expect_response(lambda answer: "/view?" in answer.url and area(answer.url)["scale"] == 1):
        visitor.do("zoom-actual")
    assert max(view["width"] * view["scale"] for view in views) <= 960
    assert sum(view["scale"] == 1 for view in views) <= 9  # of the 35 parts at this scale
    canvas = page.locator("#repair-canvas").bounding_box()
    assert canvas is not None
    assert canvas["width"] <= DESKTOP["viewport"]["width"]
    visitor.fill()
    data = visitor.saved()[1]
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (6000, 4000)


def area(address: str) -> dict[str, float]:
    """What part of a picture a view shows."""
    return {name: float(value) for name, value in re.findall(r"(left|top|width|height|scale)=([\d.]+)", address)}


def test_a_phone_paints_with_a_finger_and_zooms_with_two(come: Callable[..., Visitor], picture: Path) -> None:
    visitor = come(**PHONE)
    page = visitor.page
    visitor.open(picture)
    for control in page.locator("button:visible, a.button:visible").all():
        box = control.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= PHONE["viewport"]["width"]
    share = page.locator("#repair .share")
    fitted = share.text_content()
    for deed in ("zoom-in", "zoom-out", "zoom-in", "zoom-in", "zoom-fit"):
        visitor.do(deed)
    expect(share).to_have_text(fitted or "")
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    stroke = [visitor.on_screen(point) for point in STROKE]
    touch("touchStart", stroke[0])
    for point in stroke[1:]:
        touch("touchMove", point)
    touch("touchEnd")
    expect(visitor.button("undo")).to_be_enabled()
    middle = visitor.on_screen((0.5, 0.5))
    before = share.text_content()
    touch("touchStart", (middle[0] - 20, middle[1]), (middle[0] + 20, middle[1]))
    touch("touchMove", (middle[0] - 60, middle[1]), (middle[0] + 60, middle[1]))
    touch("touchEnd")
    expect(share).not_to_have_text(before or "")
    visitor.do("settings")
    expect(page.locator("[name=quality]")).to_be_visible()
    visitor.fill()
    expect(page.locator("[name=quality]")).not_to_be_visible()
    visitor.do("zoom-fit")
    visitor.do("undo")
    visitor.do("undo")
    expect(visitor.button("undo")).to_be_disabled()  # one stroke was all: two fingers paint nothing


def test_chinese_where_the_browser_speaks_it(come: Callable[..., Visitor]) -> None:
    visitor = come(locale="zh-CN")
    page = visitor.page
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(page.get_by_role("button", name="填充")).to_be_visible()
    untranslated = [text for text in page.locator("button:visible").all_inner_texts() if re.search("[a-z]{3}", text)]
    assert untranslated == ["English"]
    expect(page.locator("#version")).to_contain_text("模型")
    page.click("#language")
    expect(page.get_by_role("button", name="Fill", exact=True)).to_be_visible()
    expect(page.locator("#version")).to_contain_text("a model of")
    page.reload()
    expect(page.get_by_role("button", name="Fill", exact=True)).to_be_visible()


def test_dark_where_the_system_is(come: Callable[..., Visitor]) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        style = (
            come(color_scheme=scheme).page.locator(".bar").evaluate("each => getComputedStyle(each).backgroundColor")
        )
        grounds[scheme] = [int(value) for value in re.findall(r"\d+", style)]
    assert min(grounds["light"]) > 200
    assert max(grounds["dark"]) < 50


def test_the_keyboard_alone_suffices(come: Callable[..., Visitor], picture: Path) -> None:
    visitor = come()
    page = visitor.page
    focused = page.locator(":focus")

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if focused.count() and focused.evaluate("(element, selector) => element.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab never comes to {selector}")

    page.on("filechooser", lambda chooser: chooser.set_files(picture))
    tab_to("#open")
    page.keyboard.press("Enter")
    visitor.expect_said("picture.png")
    expect(page.locator("#repair-canvas")).to_be_focused()
    page.keyboard.press("]")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Space")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("r")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    expect(visitor.candidates).to_have_count(2)
    page.keyboard.press("c")
    expect(page.get_by_role("slider", name="Before and after")).to_be_visible()
    page.keyboard.press("k")
    visitor.expect_said("Kept.")
    page.keyboard.press("Control+z")
    mask = visitor.mask()
    assert 0.005 < mask.mean() < 0.5
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).not_to_be_visible()


# ------------------------------------------------------------------------------------------------ the rest of the page


def test_pictures_are_dropped_and_pasted(come: Callable[..., Visitor], picture: Path) -> None:
    visitor = come()
    give = """([kind, bytes]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const event = kind === "drop"
            ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        visitor.page.evaluate(give, [kind, list(picture.read_bytes())])
        visitor.expect_said(f"{kind}.png is open.")
    visitor.do("undo")  # back to the picture that was open before
    expect(visitor.page.locator("#about-picture")).to_contain_text("drop.png")


def test_errors_stay_until_something_succeeds(visitor: Visitor, tmp_path: Path, picture: Path) -> None:
    (tmp_path / "letter.png").write_text("no picture at all")
    visitor.page.set_input_files("#file", tmp_path / "letter.png")
    visitor.expect_error("letter.png")
    visitor.open(picture)
    expect(visitor.page.locator("#error")).not_to_be_visible()
    visitor.do("run")
    visitor.expect_error("Nothing is marked yet")
    visitor.page.locator("#error button").click()
    expect(visitor.page.locator("#error")).not_to_be_visible()
    assert visitor.complaints
    visitor.complaints.clear()  # the browser's own note of the refusal


def test_a_result_outlives_another_run_that_was_cancelled(
    come: Callable[..., Visitor], host: Host, picture: Path
) -> None:
    visitor = come()
    page = visitor.page
    page.get_by_role("tab", name="Denoise").click()
    visitor.open(picture)
    visitor.do("run")
    expect(visitor.button("repair")).to_be_visible()
    result = visitor.saved()[1]
    with host.gate.closed():
        visitor.do("run")
        visitor.do("cancel")
    expect(visitor.button("run")).to_be_visible()
    page.reload()
    expect(visitor.button("repair")).to_be_visible()
    assert visitor.saved()[1] == result


def test_noise_is_taken_out_and_the_result_repaired(come: Callable[..., Visitor], picture: Path) -> None:
    visitor = come()
    page = visitor.page
    page.get_by_role("tab", name="Denoise").click()
    visitor.open(picture)
    visitor.do("run")
    expect(page.get_by_role("slider", name="Before and after")).to_be_visible()
    expect(page.locator(".found")).to_contain_text(re.compile(r"Taken out: 0\.\d+"))
    name, data = visitor.saved()
    assert name == "picture-mended.png"
    assert (samples(data) != samples(picture.read_bytes())).any()
    page.reload()
    expect(page.get_by_role("slider", name="Before and after")).to_be_visible()
    page.locator("[name=level]").fill("0.7")
    expect(page.locator("[name=find]")).not_to_be_checked()
    with page.expect_request("**/api/denoisings") as asked:
        visitor.do("run")
    assert sent(asked.value)["level"] == 0.7
    expect(visitor.button("repair")).to_be_visible()
    visitor.do("repair")
    expect(page.get_by_role("tab", name="Repair")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#repair-canvas")).to_be_focused()
    visitor.drag(*STROKE)
    visitor.fill()
