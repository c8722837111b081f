"""A server for browsers, and a visitor who opens its page in a real Chromium and works on it with mouse and keys."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect, sync_playwright

from pixmend.denoising.model_file import Denoiser
from pixmend.web.app import create_app
from pixmend.web.server import Server, listen
from pixmend.web.service import Service
from web_server import Gate, tiny_model

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HEIGHT, WIDTH = 96, 144
DESKTOP: dict[str, Any] = {"viewport": {"width": 1100, "height": 720}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
STROKE = ((0.3, 0.4), (0.5, 0.6), (0.6, 0.4))
OTHER_STROKE = ((0.2, 0.8), (0.8, 0.8))

PATIENCE = 30_000  # milliseconds that a machine may take at most; nothing waits so long where all is well
expect.set_options(timeout=PATIENCE)


def chromium() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        # Without a sandbox, as containers need it: it is shown nothing but our own page.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Host:
    """A server that browsers reach, in a thread of this process: so a test can hold its worker."""

    address: str
    gate: Gate
    service: Service


@contextmanager
def hosting() -> Iterator[Host]:
    """A server with a tiny model."""
    service = Service(tiny_model(), Denoiser.new("timed"), device="cpu")
    with listen("127.0.0.1", 0) as listening:
        server = Server(create_app(service), service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Host(f"http://127.0.0.1:{listening.getsockname()[1]}/", Gate(service), service)
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Visitor:
    """One tab. `complaints` has what its console and its scripts complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def come(cls, context: BrowserContext, address: str) -> Visitor:
        """Open the page, and wait until it can be used."""
        visitor = cls(context.new_page())
        visitor.page.set_default_timeout(PATIENCE)
        visitor.page.on("console", visitor._note)
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitor.page.goto(address)
        expect(visitor.page.locator("body[data-ready]")).to_be_visible()
        return visitor

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    # --------------------------------------------------------------------------------------------- opening and saving

    def open(self, path: Path) -> None:
        """Choose a file, and wait until it is open."""
        self.page.set_input_files("#file", path)
        self.expect_said(f"{path.name} is open.", f"已打开 {path.name}")

    def saved(self, button: str = "#download") -> tuple[str, bytes]:
        """Click what downloads something; the file's name, and its bytes."""
        with self.page.expect_download() as waiting:
            self.page.click(button)
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def mask(self) -> np.ndarray[Any, Any]:
        """The mask as the server draws it, downloaded: (H, W) of bool."""
        if not self.button("mask-download").is_visible():
            self.page.locator("#repair summary").first.click()
        _, data = self.saved("[data-do=mask-download]")
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("L")) > 127

    # ------------------------------------------------------------------------------------------------ mouse and keys

    def button(self, name: str) -> Locator:
        """The visible workspace's button that does something."""
        return self.page.locator(f".workspace:not([hidden]) [data-do={name}]")

    def do(self, name: str) -> None:
        self.button(name).click()

    def choose(self, tool: str) -> None:
        self.page.click(f"[data-tool={tool}]")

    def drag(self, *points: tuple[float, float]) -> None:
        """Drag through points, in fractions of the picture's width and height, with the chosen tool."""
        at = [self.on_screen(point) for point in points]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for point in at[1:]:
            self.page.mouse.move(*point, steps=5)
        self.page.mouse.up()

    def on_screen(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where a point of the picture is on the screen, as long as all of the picture is shown."""
        left, top, width, height = self.extent()
        return left + point[0] * width, top + point[1] * height

    def extent(self) -> tuple[float, float, float, float]:
        """Where the fitted picture is on the screen: left, top, width and height, as the page's own sizes give it."""
        box = self.page.locator(".workspace:not([hidden]) .stage").bounding_box()
        assert box is not None
        size = re.search(r"(\d+) × (\d+)", self.page.locator("#about-picture").text_content() or "")
        assert size is not None
        scale = float((self.page.locator(".workspace:not([hidden]) .share").text_content() or "").rstrip("%"))
        width, height = (int(side) for side in size.groups())
        low = self.page.locator(".workspace:not([hidden]) .low").bounding_box()
        top = min(64, box["height"] / 6)
        room = box["height"] - top - (low["height"] if low else 0) - 20
        exact = min((box["width"] - 40) / width, room / height, 4)
        assert abs(100 * exact - scale) <= 0.51, "the picture is not fitted"
        left = box["x"] + (box["width"] - exact * width) / 2
        return left, box["y"] + top + (room - exact * height) / 2, exact * width, exact * height

    # ------------------------------------------------------------------------------------------------- what is shown

    def fill(self) -> None:
        """Fill, and wait for the candidates."""
        self.do("run")
        expect(self.candidates.first).to_be_visible()
        expect(self.button("run")).to_be_visible()

    @property
    def candidates(self) -> Locator:
        """What was there before, and the candidates."""
        return self.page.locator(".strip button")

    def expect_seen(self, condition: Callable[[np.ndarray[Any, Any]], Any]) -> np.ndarray[Any, Any]:
        """Wait until what the canvas shows fulfils a condition, and return it."""
        for _ in range(PATIENCE // 20):
            if condition(seen := self.canvas()):
                return seen
            self.page.wait_for_timeout(20)
        raise AssertionError("the canvas never shows what is expected")

    def still(self) -> np.ndarray[Any, Any]:
        """What the canvas shows once nothing on it moves."""
        last = self.canvas()
        for _ in range(PATIENCE // 100):
            self.page.wait_for_timeout(100)
            if (last == (last := self.canvas())).all():
                return last
        raise AssertionError("the canvas never stands still")

    def expect_said(self, *texts: str) -> None:
        pattern = "|".join(re.escape(text) for text in texts)
        expect(self.page.locator("#said")).to_contain_text(re.compile(pattern))

    def expect_error(self, text: str) -> None:
        expect(self.page.locator("#error")).to_be_visible()
        expect(self.page.locator("#error p")).to_contain_text(text)

    def canvas(self) -> np.ndarray[Any, Any]:
        """What the canvas of the visible workspace shows: (H, W, 3)."""
        address = self.page.evaluate("document.querySelector('.workspace:not([hidden]) canvas').toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"))


def photograph(path: Path, size: tuple[int, int], **options: Any) -> Path:
    """A picture of this (H, W) with colours that change slowly, and some noise."""
    rows, columns = np.linspace(0, 255, HEIGHT)[:, None], np.linspace(255, 0, WIDTH)[None]
    smooth = np.stack(np.broadcast_arrays(rows, (rows + columns) / 2, columns), axis=2)
    noisy = smooth + np.random.default_rng(0).normal(0, 4, smooth.shape)
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    image.resize((size[1], size[0]), Image.Resampling.BILINEAR).save(path, **options)
    return path


def samples(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def sent(request: Request) -> dict[str, Any]:
    """The JSON that the page sent."""
    body: dict[str, Any] = json.loads(request.post_data or "")
    return body


def grown(mask: np.ndarray[Any, Any], radius: int) -> np.ndarray[Any, Any]:
    """A mask dilated by a square of side 2 radius + 1."""
    padded = np.pad(mask, radius)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(windows.any(axis=(2, 3)))
