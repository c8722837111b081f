"""What goes wrong or comes at the wrong time, and what the page makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import Route, expect

from page_driver import HEIGHT, OTHER_STROKE, STROKE, WIDTH, Host, Visitor, photograph, sent

pytestmark = pytest.mark.slow


def refuse(status: int, detail: str) -> dict[str, Any]:
    """What a route is fulfilled with, as the server refuses."""
    return {"status": status, "body": json.dumps({"detail": detail}), "content_type": "application/json"}


def forgive(visitor: Visitor, *words: str) -> None:
    """Take the browser's own notes of what was refused for what they are."""
    assert visitor.complaints
    assert [line for line in visitor.complaints if not any(word in line for word in words)] == []
    visitor.complaints.clear()


def forgive_if_any(visitor: Visitor, *words: str) -> None:
    """The same of what may have been refused."""
    if visitor.complaints:
        forgive(visitor, *words)


# ------------------------------------------------------------------------------------------------- the way to the page


def test_who_follows_a_link_from_another_site_finds_the_work(visitor: Visitor, host: Host) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    mask = visitor.mask()
    page.goto(f"data:text/html,<a href='{host.address}'>pixmend</a>")
    page.get_by_text("pixmend").click()
    expect(page.locator("#about-picture")).to_contain_text("picture.png")
    assert (visitor.mask() == mask).all()


def test_words_are_asked_for_twice_and_then_missed_in_words(come: Callable[..., Visitor]) -> None:
    visitor = come()
    page, refused = visitor.page, list[Route]()

    def once(route: Route) -> None:
        if refused:
            return route.continue_()
        refused.append(route)
        return route.fulfill(**refuse(503, "the server is ending"))

    page.route("**/words/*.json", once)
    page.reload()
    expect(page.locator("body[data-ready]")).to_be_visible()
    page.unroute_all()
    page.route("**/words/*.json", lambda route: route.fulfill(**refuse(503, "the server is ending")))
    page.click("#language")
    visitor.expect_error("The server does not answer")
    page.reload()
    visitor.expect_error("reload it")
    forgive(visitor, "503")


def test_many_tabs_leave_connections_to_others(come: Callable[..., Visitor], host: Host, picture: Path) -> None:
    first = come()
    tabs = [first, *(come(first.page.context) for _ in range(6))]
    for tab in tabs:
        tab.open(picture)
        tab.drag(*STROKE)
    with host.gate.closed():
        for tab in tabs:
            tab.do("run")
            expect(tab.button("cancel")).to_be_visible()
            expect(tab.page.locator("#repair .progress p")).not_to_contain_text("Sending")
        assert tabs[-1].page.evaluate("fetch('/healthz').then((answer) => answer.ok)")
    for tab in tabs:
        expect(tab.candidates).to_have_count(2)
        forgive_if_any(tab, "429")


# ------------------------------------------------------------------------------------------------------- undo and redo


def test_redo_changes_nothing_while_a_job_runs_or_its_result_is_shown(visitor: Visitor, host: Host) -> None:
    visitor.drag(*STROKE)
    mask = visitor.mask()
    visitor.drag(*OTHER_STROKE)
    visitor.do("undo")
    expect(visitor.button("redo")).to_be_enabled()
    with host.gate.closed():
        visitor.do("run")
        assert host.gate.reached.wait(30)
        expect(visitor.button("redo")).to_be_disabled()
        visitor.page.keyboard.press("Control+y")
    expect(visitor.candidates).to_have_count(2)
    expect(visitor.button("redo")).to_be_disabled()
    visitor.page.keyboard.press("Control+y")
    visitor.do("undo")  # from the result to the mask
    assert (visitor.mask() == mask).all()
    expect(visitor.button("redo")).to_be_enabled()


# ------------------------------------------------------------------------------------------------------------- jobs


def test_after_a_job_that_was_lost_another_can_be_asked_for(visitor: Visitor) -> None:
    page = visitor.page
    job = {"id": "lost", "state": "running", "done": 1, "of": 2, "seconds_left": 1, "mask_share": 0.1, "results": []}
    step = json.dumps({"candidate": 0, "step": 0, "url": "/logo.svg"})
    told = f"retry: 1\nevent: job\ndata: {json.dumps(job)}\n\nevent: step\ndata: {step}\n\n"
    begun = {"body": told, "content_type": "text/event-stream"}
    answers = iter([begun])  # and then the stream breaks off, and the job is gone
    page.route("**/api/jobs/*/events", lambda route: route.fulfill(**next(answers, refuse(410, "gone"))))
    page.route("**/api/jobs/lost", lambda route: route.fulfill(**refuse(410, "the job has expired")))
    visitor.drag(*STROKE)
    visitor.do("run")
    visitor.expect_error("the job has expired")
    expect(visitor.button("undo")).to_be_enabled()
    before = visitor.still()
    visitor.drag(*OTHER_STROKE)
    assert (visitor.still() != before).any(), "what is painted is seen"
    page.unroute_all()
    visitor.fill()
    forgive(visitor, "410")


def test_a_job_is_not_given_up_for_an_answer_that_did_not_come(visitor: Visitor) -> None:
    """Its events are refused, so it is asked for, and once nobody answers."""
    page, asked = visitor.page, list[Route]()

    def once(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/jobs/*/events", lambda route: route.fulfill(**refuse(429, "too many streams")))
    page.route(re.compile(r"/api/jobs/[^/]+$"), once)
    visitor.drag(*STROKE)
    visitor.do("run")
    visitor.expect_error("does not answer")
    expect(visitor.candidates).to_have_count(2)
    expect(page.locator("#error")).not_to_be_visible()
    assert len(asked) > 1
    forgive(visitor, "429", "ERR_FAILED")


def test_other_candidates_have_seeds_that_none_had(visitor: Visitor) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    page.fill("[name=candidates]", "3")
    page.locator("summary", has_text="More").click()
    page.fill("[name=seed]", "")
    visitor.fill()
    page.fill("[name=candidates]", "1")  # of the next ones
    page.select_option("[name=quality]", "best")
    with page.expect_request("**/api/fills") as asked:
        visitor.do("others")
    assert sent(asked.value)["seed"] == 3  # after 0, 1 and 2
    assert sent(asked.value)["quality"] == "best"
    expect(visitor.candidates).to_have_count(2)
    page.reload()
    expect(page.locator("[name=seed]")).to_have_value("3")


def test_the_reason_why_a_job_failed_is_told_in_chinese_too(come: Callable[..., Visitor], picture: Path) -> None:
    visitor = come(locale="zh-CN")
    visitor.open(picture)
    job = {"id": "x", "state": "failed", "error": "the job failed", "results": [], "mask_share": 0.1}
    visitor.page.route("**/api/fills", lambda route: route.fulfill(status=202, json=job))
    visitor.drag(*STROKE)
    visitor.do("run")
    visitor.expect_error("任务未能完成 (the job failed)")


def test_a_file_that_is_too_large_is_told_so_before_it_is_sent(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page

    def limit(route: Route) -> None:
        told = route.fetch().json()
        route.fulfill(json={**told, "limits": {**told["limits"], "bytes": 3_000_000}})

    page.route("**/api/about", limit)
    page.reload()
    expect(page.locator("body[data-ready]")).to_be_visible()
    (tmp_path / "large.png").write_bytes(bytes(3_000_001))
    page.set_input_files("#file", tmp_path / "large.png")
    visitor.expect_error("3 MB")


# ------------------------------------------------------------------------------------------- what comes at its own time


def test_the_picture_that_was_chosen_last_is_seen(visitor: Visitor, tmp_path: Path) -> None:
    page, held = visitor.page, list[Route]()
    page.route("**/api/pictures", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/api/pictures"):
        page.set_input_files("#file", photograph(tmp_path / "slow.png", (HEIGHT, WIDTH)))
    visitor.open(photograph(tmp_path / "quick.png", (HEIGHT, WIDTH)))
    with page.expect_response("**/api/pictures"):
        held[0].continue_()
    visitor.drag(*STROKE)
    expect(page.locator("#about-picture")).to_contain_text("quick.png")
    visitor.do("undo")
    visitor.do("undo")
    expect(page.locator("#about-picture")).to_contain_text("picture.png")
    expect(visitor.button("undo")).to_be_disabled()


def test_an_uploaded_mask_is_for_the_picture_that_it_was_uploaded_for(visitor: Visitor, picture: Path) -> None:
    page, held = visitor.page, list[Route]()
    page.route("**/api/masks", lambda route: held.append(route))
    with page.expect_request("**/api/masks"):
        page.set_input_files("#mask-file", picture)
    visitor.open(picture)
    with page.expect_response("**/api/masks"):
        held[0].continue_()
    visitor.do("undo")  # the picture that was opened
    expect(visitor.button("mask-download")).to_be_disabled()
    expect(visitor.button("undo")).to_be_disabled()


def test_a_result_is_kept_once(visitor: Visitor) -> None:
    page, held = visitor.page, list[Route]()
    page.route("**/keep", lambda route: held.append(route))
    visitor.drag(*STROKE)
    mask = visitor.mask()
    visitor.fill()
    page.keyboard.press("k")
    page.keyboard.press("k")
    visitor.do("compare")  # by now both keys were heard
    for route in held:
        route.continue_()
    visitor.expect_said("Kept.")
    assert len(held) == 1
    visitor.do("undo")
    assert (visitor.mask() == mask).all()


def test_a_picture_for_the_other_tab_comes_late_and_is_shown(come: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor = come()
    page, held = visitor.page, list[Route]()
    page.route("**/api/pictures", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/api/pictures"):
        page.set_input_files("#file", photograph(tmp_path / "slow.png", (HEIGHT, WIDTH)))
    page.get_by_role("tab", name="Denoise").click()
    visitor.open(photograph(tmp_path / "quick.png", (HEIGHT, WIDTH)))
    held[0].continue_()
    visitor.expect_said("slow.png is open.")
    expect(page.locator("#about-picture")).to_contain_text("quick.png")
    page.get_by_role("tab", name="Repair").click()
    expect(page.locator("#about-picture")).to_contain_text("slow.png")
    visitor.drag(*STROKE)
    assert visitor.mask().any()


def test_a_file_that_is_not_there_any_more_is_told_so(visitor: Visitor, picture: Path) -> None:
    take = """document.addEventListener("change", (event) => {
        window.taken = event.target.files[0];
        event.stopImmediatePropagation();
    }, { capture: true, once: true })"""
    drop = """() => {
        const transfer = new DataTransfer();
        transfer.items.add(window.taken);
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }"""
    visitor.page.evaluate(take)
    visitor.page.set_input_files("#file", picture)
    picture.unlink()
    visitor.page.evaluate(drop)
    visitor.expect_error("picture.png cannot be read")


# ---------------------------------------------------------------------------------------------- what the server forgets


def test_what_undo_leads_to_is_asked_for_now_and_then(visitor: Visitor, host: Host, tmp_path: Path) -> None:
    page, store = visitor.page, host.service.store
    page.clock.install()
    page.reload()
    expect(visitor.button("invert")).to_be_enabled()
    page.set_input_files("#mask-file", photograph(tmp_path / "mask.png", (HEIGHT, WIDTH)))
    visitor.expect_said("The mask marks")
    visitor.fill()
    visitor.do("keep")
    visitor.expect_said("Kept.")
    visitor.drag(*STROKE)
    visitor.fill()
    owner = list(store.stored.values())[-1].owner
    needed = [stored for stored in store.stored.values() if stored.owner == owner and stored.name != "view"]
    assert len(needed) == 4  # the picture, its mask, what was kept, and the result that is shown
    for stored in needed:
        stored.used = 0.0
    with page.expect_response("**/results/0/view?*width=1&*"):
        page.clock.fast_forward(1000 * int(host.service.limits.keep_seconds / 2))
    assert min(stored.used for stored in needed) > 0
    store.sweep()
    visitor.do("undo")
    visitor.do("undo")
    visitor.do("undo")
    assert visitor.mask().any()


def test_a_reload_finds_what_is_left_and_complains_once(visitor: Visitor, host: Host, picture: Path) -> None:
    page = visitor.page
    gone = list(host.service.store.stored.values())[-1]
    page.get_by_role("tab", name="Denoise").click()
    visitor.open(picture)
    host.service.store.remove(gone)
    page.reload()
    visitor.expect_error("has expired")
    expect(page.locator("#about-picture")).to_contain_text("picture.png")  # of the other tab
    page.reload()
    expect(page.locator("#about-picture")).to_contain_text("picture.png")
    expect(page.locator("#error")).not_to_be_visible()
    forgive(visitor, "410")


def test_a_result_that_has_expired_says_so(visitor: Visitor, host: Host) -> None:
    visitor.drag(*STROKE)
    visitor.fill()
    host.service.store.remove(list(host.service.store.stored.values())[-1])
    visitor.page.reload()
    visitor.expect_error("has expired")
    forgive(visitor, "410")


def test_what_did_not_come_is_asked_for_again(visitor: Visitor) -> None:
    page = visitor.page
    page.clock.install()
    page.route("**/view?*", lambda route: route.fulfill(**refuse(503, "the server is ending")))
    page.route("**/api/masks/render", lambda route: route.fulfill(**refuse(503, "the server is ending")))
    page.reload()
    visitor.expect_error("the server is ending")
    page.locator("#error button").click()
    page.locator("#repair summary").first.click()
    visitor.do("kind")
    visitor.expect_error("the server is ending")
    page.unroute_all()
    with page.expect_response("**/view?*") as view, page.expect_response("**/api/masks/render") as mask:
        page.clock.fast_forward(10_000)  # nobody touches anything meanwhile
    assert view.value.ok
    assert mask.value.ok
    forgive(visitor, "503")
