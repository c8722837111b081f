"""Where the focus goes on the page, and what its controls are called: for who works with keys or a screen reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import expect

from page_driver import STROKE, Host, Visitor

pytestmark = pytest.mark.slow


def test_the_focus_goes_to_cancel_and_comes_back_to_fill(visitor: Visitor, host: Host) -> None:
    visitor.drag(*STROKE)
    for button in ("run", "others"):  # "Try again" goes away with the candidates
        with host.gate.closed():
            visitor.button(button).focus()
            visitor.page.keyboard.press("Enter")
            assert host.gate.reached.wait(30)
            expect(visitor.button("cancel")).to_be_focused()
        expect(visitor.candidates).to_have_count(2)
        expect(visitor.button("run")).to_be_focused()


def test_the_skip_link_leads_to_the_picture_of_the_tab(come: Callable[..., Visitor], picture: Path) -> None:
    page = come().page
    for name in ("Denoise", "Repair"):
        page.get_by_role("tab", name=name).click()
        page.locator(".skip").press("Enter")
        expect(page.locator(f"#{name.lower()}-canvas")).to_be_focused()


def test_all_controls_have_names_that_say_what_is_seen(visitor: Visitor) -> None:
    page = visitor.page
    expect(page.get_by_role("button", name=re.compile(r"^\d+%$"))).to_be_visible()
    page.locator("details").evaluate_all("all => all.forEach((each) => (each.open = true))")
    for control in page.locator("button:visible, a:visible, input:visible, select:visible").all():
        expect(control).to_have_accessible_name(re.compile(r"\S"))
        name, seen = control.get_attribute("aria-label"), control.inner_text()
        assert name is None or seen in name
