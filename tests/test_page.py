"""The page of `pixmend serve` in a real browser: everything that a visitor does with it, from opening to download."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import Browser, BrowserContext, Route, expect

from page_driver import Host, Visitor, browsing, chromium, hosting
from pixmend.images import save_picture
from pixmend.inpainting import inpainting
from web_server import tiny_model

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here; Debian's package is `chromium`")

HEIGHT, WIDTH = 96, 144
DESKTOP: dict[str, Any] = {"viewport": {"width": 1100, "height": 720}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
STROKE = ((0.3, 0.4), (0.5, 0.6), (0.6, 0.4))
OTHER_STROKE = ((0.2, 0.8), (0.8, 0.8))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with hosting() as begun:
        yield begun


@pytest.fixture
def context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts: each is somebody else's browser."""
    opened: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        opened.append(browser.new_context(**{"locale": "en-GB", **DESKTOP, **options}))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def come(context: Callable[..., BrowserContext], host: Host) -> Iterator[Callable[..., Visitor]]:
    """Lets visitors come; in the end none of their consoles may have complained, unless the test looked at it."""
    visitors: list[Visitor] = []

    def make(within: BrowserContext | None = None, **options: Any) -> Visitor:
        visitors.append(Visitor.come(within or context(**options), host.address))
        return visitors[-1]

    yield make
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@pytest.fixture
def visitor(come: Callable[..., Visitor], picture: Path) -> Visitor:
    """Somebody who has opened a picture."""
    one = come()
    one.open(picture)
    return one


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture, smooth with some noise."""
    return photograph(tmp_path / "picture.png", (HEIGHT, WIDTH))


def photograph(path: Path, size: tuple[int, int], **options: Any) -> Path:
    rows, columns = np.linspace(0, 255, size[0])[:, None], np.linspace(255, 0, size[1])[None]
    noise = np.random.default_rng(0).normal(0, 4, (size[0], size[1]) if size[0] < 1000 else (1, 1))
    samples = np.stack([rows + 0 * columns + noise, (rows + columns) / 2 + noise, 0 * rows + columns + noise], 2)
    Image.fromarray(samples.clip(0, 255).astype(np.uint8)).save(path, **options)
    return path


def samples(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


# ------------------------------------------------------------------------------------------------ paint, fill, download


def test_what_was_painted_is_filled_as_the_library_fills_it(visitor: Visitor, picture: Path, tmp_path: Path) -> None:
    visitor.drag(*STROKE)
    mask = visitor.mask()
    visitor.fill()
    name, data = visitor.saved()
    assert name == "picture-mended.png"
    Image.fromarray(mask).save(tmp_path / "mask.png")
    made = inpainting(picture, tmp_path / "mask.png", model=tiny_model(), seed=0, grow=3)
    assert data == save_picture(made.pictures[0], tmp_path / "made.png").read_bytes()
    changed = (samples(data) != samples(picture.read_bytes())).any(2)
    assert changed[mask].mean() > 0.9


def test_metadata_outlive_the_page(come: Callable[..., Visitor], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274], exif[315] = 6, "somebody"  # turned by a quarter
    path = photograph(tmp_path / "turned.jpg", (WIDTH, HEIGHT), exif=exif, quality=90)
    visitor = come()
    visitor.open(path)
    expect(visitor.page.locator("#about-picture")).to_have_text(f"turned.jpg · {WIDTH} × {HEIGHT} · JPEG")
    visitor.drag(*STROKE)
    visitor.fill()
    _, data = visitor.saved()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        assert image.getexif()[315] == "somebody"


def test_candidates_are_kept_and_painted_on(visitor: Visitor, picture: Path) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    first_mask = visitor.mask()
    page.fill("[name=candidates]", "3")
    visitor.fill()
    expect(visitor.candidates).to_have_count(4)
    expect(page.get_by_role("button", name="Candidate 1")).to_have_attribute("aria-pressed", "true")
    files = []
    for number in (1, 2, 3):
        page.get_by_role("button", name=f"Candidate {number}").click()
        files.append(visitor.saved()[1])
    assert len(set(files)) == 3
    visitor.do("keep")
    expect(visitor.candidates).to_have_count(0)
    assert (samples(visitor.saved()[1]) == samples(files[2])).all()
    visitor.drag(*OTHER_STROKE)
    visitor.fill()
    result = samples(visitor.saved()[1])
    visitor.do("undo")  # from the result to the second mask
    second_mask = visitor.mask()
    far = ~(grown(second_mask, 3 + 4))
    assert (result[far] == samples(files[2])[far]).all()
    visitor.do("undo")  # the second stroke
    visitor.do("undo")  # the result that was kept
    assert (visitor.mask() == first_mask).all()
    assert samples(visitor.saved()[1]).tolist() == samples(picture.read_bytes()).tolist()


def grown(mask: np.ndarray[Any, Any], radius: int) -> np.ndarray[Any, Any]:
    padded = np.pad(mask, radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    found: np.ndarray[Any, Any] = windows.any((2, 3))
    return found


def test_others_have_other_seeds(visitor: Visitor) -> None:
    visitor.drag(*STROKE)
    visitor.page.fill("[name=candidates]", "2")
    visitor.fill()
    first = visitor.saved()[1]
    with visitor.page.expect_request("**/api/fills") as asked:
        visitor.do("others")
    assert asked.value.post_data_json["seed"] == 2
    expect(visitor.candidates).to_have_count(3)
    assert visitor.saved()[1] != first


def test_before_and_after_can_be_compared(visitor: Visitor) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    visitor.fill()
    visitor.do("compare")
    divider = page.get_by_role("slider", name="Before and after")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    divider.press("End")
    expect(divider).to_have_attribute("aria-valuenow", "100")
    before = visitor.canvas()
    divider.press("Home")
    visitor.expect_seen(lambda seen: (seen != before).any())
    divider.press("End")
    visitor.expect_seen(lambda seen: (seen == before).all())


# --------------------------------------------------------------------------------------------------- jobs that are long


def test_cancel_stops_at_once_and_leaves_the_mask(visitor: Visitor, host: Host) -> None:
    visitor.drag(*STROKE)
    mask = visitor.mask()
    with host.gate.closed():
        visitor.do("run")
        assert host.gate.reached.wait(30)
        visitor.do("cancel")
        visitor.page.wait_for_timeout(50)
    visitor.expect_said("Cancelled.")
    expect(visitor.button("run")).to_be_enabled()
    assert visitor.candidates.count() == 0
    assert (visitor.mask() == mask).all()
    visitor.fill()


def test_a_reload_in_the_middle_finds_the_job_and_its_result(visitor: Visitor, host: Host) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    mask = visitor.mask()
    with host.gate.closed():
        visitor.do("run")
        assert host.gate.reached.wait(30)
        page.reload()
        expect(visitor.button("cancel")).to_be_visible()
    expect(visitor.candidates).to_have_count(2)
    data = visitor.saved()[1]
    page.reload()
    expect(visitor.candidates).to_have_count(2)
    assert visitor.saved()[1] == data
    visitor.do("undo")
    assert (visitor.mask() == mask).all()
    visitor.do("undo")
    expect(visitor.button("undo")).to_be_disabled()
    visitor.do("redo")
    assert (visitor.mask() == mask).all()


def test_two_tabs_do_not_disturb_each_other(
    context: Callable[..., BrowserContext], come: Callable[..., Visitor], tmp_path: Path, host: Host
) -> None:
    browser = context()
    sizes = {"one": (HEIGHT, WIDTH), "other": (WIDTH, HEIGHT)}
    tabs = {name: come(browser) for name in sizes}
    with host.gate.closed():
        for name, tab in tabs.items():
            tab.open(photograph(tmp_path / f"{name}.png", sizes[name]))
            tab.drag(*STROKE)
            tab.do("run")
        expect(tabs["other"].page.locator("#repair .progress p")).to_contain_text("1 ahead in the queue")
    for name, tab in tabs.items():
        expect(tab.candidates).to_have_count(2)
        file, data = tab.saved()
        assert file == f"{name}-mended.png"
        assert samples(data).shape[:2] == sizes[name]
        tab.page.reload()
        expect(tab.candidates).to_have_count(2)
        assert tab.saved() == (file, data)


def test_a_full_queue_is_waited_for(visitor: Visitor) -> None:
    answers = iter([429])

    def refuse(route: Route) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            body = json.dumps({"detail": "the queue is full"})
            route.fulfill(status=status, headers={"Retry-After": "1"}, body=body, content_type="application/json")

    visitor.page.route("**/api/fills", refuse)
    visitor.drag(*STROKE)
    visitor.do("run")
    expect(visitor.page.locator("#repair .progress p")).to_contain_text("The queue is full")
    expect(visitor.candidates).to_have_count(2)
    assert [line for line in visitor.complaints if "429" not in line] == []
    visitor.complaints.clear()  # the browser's own note of the 429


# --------------------------------------------------------------------------------------------------------- the mask


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
    visitor.expect_said("The mask marks 5.8 % of the picture.")
    assert (visitor.mask() == mask).all()
    expect(visitor.page.locator("[name=grow]")).to_have_value("0")  # what came as a file is exact
    Image.new("L", (5, 5), 255).save(tmp_path / "small.png")
    visitor.page.set_input_files("#mask-file", tmp_path / "small.png")
    visitor.expect_error("5 x 5")
    assert (visitor.mask() == mask).all()
    assert visitor.complaints
    visitor.complaints.clear()  # the browser's own note of the refusal


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


# --------------------------------------------------------------------------------------------- sizes, phones, languages


def test_24_megapixels_are_shown_in_parts_and_saved_whole(come: Callable[..., Visitor], tmp_path: Path) -> None:
    path = photograph(tmp_path / "large.jpg", (4000, 6000), quality=85)
    visitor = come()
    page = visitor.page
    views: list[dict[str, float]] = []
    page.on("request", lambda request: views.append(area(request.url)) if "/view?" in request.url else None)
    visitor.open(path)
    visitor.drag(*STROKE)
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
    share = page.locator("#repair .share")
    before = share.text_content()
    touch("touchStart", (middle[0] - 20, middle[1]), (middle[0] + 20, middle[1]))
    touch("touchMove", (middle[0] - 60, middle[1]), (middle[0] + 60, middle[1]))
    touch("touchEnd")
    expect(share).not_to_have_text(before or "")
    visitor.do("settings")
    expect(page.locator("[name=quality]")).to_be_visible()
    visitor.fill()
    expect(page.locator("[name=quality]")).not_to_be_visible()
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
    page.click("#language")
    expect(page.get_by_role("button", name="Fill", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Fill", exact=True)).to_be_visible()


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
    page.locator("[name=level]").fill("0.2")
    expect(page.locator("[name=find]")).not_to_be_checked()
    with page.expect_request("**/api/denoisings") as asked:
        visitor.do("run")
    assert asked.value.post_data_json["level"] == 0.2
    expect(visitor.button("repair")).to_be_visible()
    visitor.do("repair")
    expect(page.get_by_role("tab", name="Repair")).to_have_attribute("aria-selected", "true")
    visitor.drag(*STROKE)
    visitor.fill()
