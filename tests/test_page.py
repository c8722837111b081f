"""The page of `pixmend serve` in a real browser, from opening a picture to its download; and jobs that take long."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import BrowserContext, Route, expect

from page_driver import HEIGHT, OTHER_STROKE, STROKE, WIDTH, Host, Visitor, grown, photograph, samples, sent
from pixmend.images import save_picture
from pixmend.inpainting import inpainting
from web_server import tiny_model, wait_for_listener

pytestmark = pytest.mark.slow


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
    known = ~grown(second_mask, 3)  # the page's own margin
    assert (result[known] == samples(files[2])[known]).all()
    visitor.do("undo")  # the second stroke
    visitor.do("undo")  # the result that was kept
    assert (visitor.mask() == first_mask).all()
    assert samples(visitor.saved()[1]).tolist() == samples(picture.read_bytes()).tolist()


def test_others_have_other_seeds(visitor: Visitor) -> None:
    visitor.drag(*STROKE)
    visitor.page.fill("[name=candidates]", "2")
    visitor.fill()
    first = visitor.saved()[1]
    with visitor.page.expect_request("**/api/fills") as asked:
        visitor.do("others")
    assert sent(asked.value)["seed"] == 2
    expect(visitor.candidates).to_have_count(3)
    assert visitor.saved()[1] != first


def test_the_canvas_is_extended(visitor: Visitor, picture: Path) -> None:
    page = visitor.page
    page.get_by_text("Extend the canvas").click()
    page.fill("[name=left]", "24")
    page.fill("[name=bottom]", "16")
    visitor.do("extend")
    expect(visitor.candidates).to_have_count(2)
    data = visitor.saved()[1]
    result = samples(data)
    assert result.shape == (HEIGHT + 16, WIDTH + 24, 3)
    assert (result[:HEIGHT, 24:] == samples(picture.read_bytes())).all()
    page.reload()
    expect(visitor.candidates).to_have_count(2)
    with page.expect_request("**/api/extensions") as asked:  # the same sides, though a reload empties the form
        visitor.do("others")
    assert {side: sent(asked.value)[side] for side in ("left", "top", "bottom")} == {"left": 24, "top": 0, "bottom": 16}
    expect(visitor.candidates).to_have_count(2)
    data = visitor.saved()[1]
    visitor.do("keep")
    expect(page.locator("#about-picture")).to_contain_text(f"{WIDTH + 24} × {HEIGHT + 16}")
    assert visitor.saved()[1] == data
    visitor.drag(*STROKE)
    visitor.fill()


def test_a_side_that_is_left_empty_is_not_extended(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_text("Extend the canvas").click()
    page.fill("[name=left]", "24")
    page.fill("[name=bottom]", "")
    visitor.do("extend")
    expect(visitor.candidates).to_have_count(2)
    assert samples(visitor.saved()[1]).shape == (HEIGHT, WIDTH + 24, 3)


@pytest.mark.usefixtures("eager_previews")
def test_pictures_on_the_way_are_shown(visitor: Visitor, host: Host) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    with page.expect_response(re.compile(r"/steps/0/\d+/view")) as shown, host.gate.closed():
        visitor.do("run")
        wait_for_listener(host.service)
    assert shown.value.ok
    expect(visitor.candidates).to_have_count(2)


def test_of_several_candidates_the_first_is_shown_on_its_way(visitor: Visitor, picture: Path) -> None:
    page, asked = visitor.page, list[str]()

    def show(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(path=picture)

    job = {"id": "x", "state": "running", "done": 1, "of": 9, "seconds_left": 1, "mask_share": 0.1, "results": []}
    steps = [
        {"candidate": candidate, "step": 0, "url": f"/api/jobs/x/steps/{candidate}/0/view"} for candidate in (1, 0)
    ]
    events = [("job", job), *(("step", step) for step in steps)]
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    page.route("**/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    page.route("**/steps/**", show)
    visitor.drag(*STROKE)
    with page.expect_response("**/steps/0/**"):
        visitor.do("run")
    assert {url.split("/")[-3] for url in asked} == {"0"}


def test_before_and_after_can_be_compared(visitor: Visitor) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    visitor.fill()
    visitor.do("compare")
    divider = page.get_by_role("slider", name="Before and after")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    divider.press("End")
    expect(divider).to_have_attribute("aria-valuenow", "100")
    before = visitor.still()
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


def test_a_reload_before_the_server_answered_finds_the_job_too(visitor: Visitor) -> None:
    page = visitor.page
    answers = []
    page.route("**/api/fills", lambda route: answers.append(route.fetch()))  # the page is never told
    visitor.drag(*STROKE)
    visitor.do("run")
    while not answers:
        page.wait_for_timeout(20)
    page.reload()
    expect(visitor.candidates).to_have_count(2)


def test_two_tabs_do_not_disturb_each_other(
    context: Callable[..., BrowserContext], come: Callable[..., Visitor], tmp_path: Path, host: Host
) -> None:
    browser = context()
    sizes = {"one": (HEIGHT, WIDTH), "other": (WIDTH, HEIGHT)}
    tabs = {name: come(browser) for name in sizes}
    with host.gate.closed():
        for name, tab in tabs.items():
            tab.page.bring_to_front()
            tab.open(photograph(tmp_path / f"{name}.png", sizes[name]))
            tab.drag(*STROKE)
            tab.do("run")
        expect(tabs["other"].page.locator("#repair .progress p")).to_contain_text("1 ahead in the queue")
    for name, tab in tabs.items():
        tab.page.bring_to_front()
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
