"""What goes wrong or comes at the wrong time, and what the page makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from page_driver import OTHER_STROKE, STROKE, Host, Visitor, sent

pytestmark = pytest.mark.slow


def refuse(status: int, detail: str) -> dict[str, Any]:
    """What a route is fulfilled with, as the server refuses."""
    return {"status": status, "body": json.dumps({"detail": detail}), "content_type": "application/json"}


def forgive(visitor: Visitor, *words: str) -> None:
    """Take the browser's own notes of what was refused for what they are."""
    assert visitor.complaints
    assert [line for line in visitor.complaints if not any(word in line for word in words)] == []
    visitor.complaints.clear()


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
    begun = {"body": f"retry: 1\nevent: job\ndata: {json.dumps(job)}\n\n", "content_type": "text/event-stream"}
    answers = iter([begun])  # and then the stream breaks off, and the job is gone
    page.route("**/api/jobs/*/events", lambda route: route.fulfill(**next(answers, refuse(410, "gone"))))
    page.route("**/api/jobs/lost", lambda route: route.fulfill(**refuse(410, "the job has expired")))
    visitor.drag(*STROKE)
    visitor.do("run")
    visitor.expect_error("the job has expired")
    expect(visitor.button("undo")).to_be_enabled()
    page.unroute_all()
    visitor.fill()
    forgive(visitor, "410")


def test_other_candidates_have_seeds_that_none_had(visitor: Visitor) -> None:
    page = visitor.page
    visitor.drag(*STROKE)
    page.fill("[name=candidates]", "3")
    page.locator("summary", has_text="More").click()
    page.fill("[name=seed]", "")
    visitor.fill()
    page.fill("[name=candidates]", "1")  # of the next ones
    with page.expect_request("**/api/fills") as asked:
        visitor.do("others")
    assert sent(asked.value)["seed"] == 3  # after 0, 1 and 2
    expect(visitor.candidates).to_have_count(2)
    page.reload()
    expect(page.locator("[name=seed]")).to_have_value("3")
