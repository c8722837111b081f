"""Draw page*.png beside this file: the page of `pixmend serve` with a scratched photograph, in Chromium.

python docs/figures/page.py
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw
from playwright.sync_api import Page, sync_playwright

from pixmend.demo import ASSETS

HERE = Path(__file__).parent
SCRATCHES = (  # in the picture's pixels
    ((60, 60), (150, 95), (240, 90), (330, 150), (420, 160)),
    ((350, 20), (330, 90), (345, 170), (320, 250), (330, 320)),
    ((40, 300), (110, 250), (170, 265), (250, 215)),
)
SHOTS = {  # name: language, colours, whether filled
    "page.png": ("en", "light", False),
    "page-result.png": ("en", "dark", True),
    "page.zh-CN.png": ("zh-CN", "light", False),
    "page-result.zh-CN.png": ("zh-CN", "dark", True),
}
WIDTH, HEIGHT = 1120, 700  # of the window


def main() -> None:
    """Draw and save."""
    with tempfile.TemporaryDirectory() as folder, serving() as address, sync_playwright() as playwright:
        picture = Path(folder) / "coffee.png"
        scratched().save(picture)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (language, colours, filled) in SHOTS.items():
            viewport = {"width": WIDTH, "height": HEIGHT}
            page = browser.new_page(locale=language, color_scheme=colours, viewport=viewport)
            open_picture(page, address, picture)
            paint(page)
            if filled:
                fill(page)
            save(page, HERE / name)
        browser.close()


def scratched() -> Image.Image:
    """The photograph with white scratches."""
    image = Image.open(ASSETS / "coffee.jpg").convert("RGB")
    draw = ImageDraw.Draw(image)
    for line in SCRATCHES:
        draw.line(line, (245, 240, 230), 3, joint="curve")
    return image


@contextmanager
def serving() -> Iterator[str]:
    """`pixmend serve` on a free port; yields its address."""
    command = [sys.executable, "-m", "pixmend", "serve", "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().removeprefix("pixmend serves ").partition(";")[0]
        finally:
            server.terminate()


def open_picture(page: Page, address: str, picture: Path) -> None:
    """Open the page, and the picture on it."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.set_input_files("#file", picture)
    page.wait_for_selector("#about-picture:not(:empty)", state="attached")
    page.wait_for_load_state("networkidle")


def paint(page: Page) -> None:
    """Paint over the scratches, with a narrow brush."""
    page.locator("#width").press("Home")
    for _ in range(4):
        page.keyboard.press("]")
    box = page.locator("#repair-canvas").bounding_box()
    assert box is not None
    image = scratched()
    scale = min((box["width"] - 40) / image.width, (box["height"] - 128) / image.height)  # as stage.js fits it
    left = box["x"] + (box["width"] - scale * image.width) / 2
    top = box["y"] + 64 + (box["height"] - 128 - scale * image.height) / 2
    for line in SCRATCHES:
        for i, (x, y) in enumerate(line):
            page.mouse.move(left + scale * x, top + scale * y, steps=4)
            if i == 0:
                page.mouse.down()
        page.mouse.up()


def fill(page: Page) -> None:
    """Ask for three candidates, and compare one with what was there before."""
    page.fill("[name=candidates]", "3")
    page.click("#repair [data-do=run]")
    page.locator(".strip button").nth(3).wait_for()
    page.click("[data-do=compare]")
    page.wait_for_load_state("networkidle")
    page.mouse.move(5, 5)
    page.locator("#said").evaluate("line => line.textContent = ''")  # how long it took says more of the machine


def save(page: Page, path: Path) -> None:
    """A photograph of the page, in few enough colours to be small."""
    page.wait_for_timeout(1000)  # for what was asked for to be drawn
    image = Image.open(io.BytesIO(page.screenshot()))
    image.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
