"""The page on a Mac, as far as another system can play one: Safari's pinch, and what the keys are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("playwright")

from playwright.sync_api import BrowserContext, expect

from page_driver import Visitor

pytestmark = pytest.mark.slow

PINCH = """([x, y, scales]) => scales.map((scale, i) => {
    const event = new Event(i ? "gesturechange" : "gesturestart", { cancelable: true });
    Object.assign(event, { scale, clientX: x, clientY: y });
    return document.querySelector("#repair canvas").dispatchEvent(event);
})"""


def test_a_pinch_of_safari_zooms(visitor: Visitor) -> None:
    page = visitor.page
    x, y = visitor.on_screen((0.5, 0.5))
    share = page.locator("#repair .share")
    visitor.button("zoom-actual").click()
    assert page.evaluate(PINCH, [x, y, [1, 1.2, 1.5]]) == [False] * 3, "Safari's own zoom is prevented"
    expect(share).to_have_text("150%")
    page.evaluate(PINCH, [x, y, [1, 2]])  # the next begins with what is there
    expect(share).to_have_text("300%")
    page.mouse.move(x, y)
    page.mouse.down(button="middle")
    page.evaluate(PINCH, [x, y, [1, 2]])  # with a pointer held, as fingers on a screen are
    expect(share).to_have_text("300%")


@pytest.mark.parametrize(("system", "key"), [("MacIntel", "⌘"), ("Linux x86_64", "Ctrl")])
def test_keys_are_called_what_they_are(
    context: Callable[..., BrowserContext], come: Callable[..., Visitor], system: str, key: str
) -> None:
    browsing = context()
    browsing.add_init_script(f"Object.defineProperty(navigator, 'platform', {{ get: () => '{system}' }})")
    visitor = come(browsing)
    expect(visitor.button("undo")).to_have_attribute("title", f"Undo ({key}+Z)")
    assert set(visitor.page.locator("kbd.ctrl").all_text_contents()) == {key}
