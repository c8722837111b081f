"""How long the page of `pixmend serve` takes: from opening it to painting, and from a click on "Fill" to the result.

    python bench/serve_page.py [--side 512] [--turns 9] [--backend NAME]

A real Chromium opens the page, takes a drawn picture with a square hole of a quarter of it, and fills it with the model
that ships. In turns with it, what the command does between loading the model and ending: the files read, the hole
filled, the result written. Both with the same settings, threads and backend, the model loaded and used once before.

A fill's time in the page is that from the click to the frame after the result was drawn where the picture was, by the
page's own clock; so is the time from opening (navigation) to where the page takes a picture, and from choosing the
picture's file to where its brush can be used. Needs Chromium and the extra `bench`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from machine import machine
from pixmend.checkpoint import load_model
from pixmend.encoding import save_picture
from pixmend.inpainting import inpainting
from pixmend.runtime import tune_allocator
from serve_site import site

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
READY = """new MutationObserver((_, seen) => {
    if (document.body?.dataset.ready === undefined) return;
    seen.disconnect();
    window.readyAt = performance.now();
}).observe(document, { subtree: true, childList: true, attributes: true });"""
DRAWN = """const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (image, ...place) {
    draw.call(this, image, ...place);
    if (image.src?.includes("/results/0/view")) window.resultDrawn?.();
};"""
FILL = """() => new Promise((resolve) => {
    const started = performance.now();
    window.resultDrawn = () => {
        window.resultDrawn = null;
        requestAnimationFrame(() => resolve((performance.now() - started) / 1000));
    };
    document.querySelector("#repair [data-do=run]").click();
})"""
OPENED = """() => {
    const brush = document.querySelector("#repair [data-tool=brush]");
    document.querySelector("#file").addEventListener("change", () => {
        const started = performance.now();
        new MutationObserver((_, seen) => {
            if (brush.disabled) return;
            seen.disconnect();
            window.openedAfter = (performance.now() - started) / 1000;
        }).observe(brush, { attributes: true });
    }, { capture: true, once: true });
}"""


def drawn(folder: Path, side: int) -> tuple[Path, Path]:
    """A picture of colours that change slowly, with noise; and a mask of a quarter of it, in its middle."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    noisy = np.asarray(colours) + rng.normal(0, 6, (side, side, 3))
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 4 + side // 2, side // 4 : side // 4 + side // 2] = 255
    picture, hole = folder / "picture.png", folder / "mask.png"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(picture)
    Image.fromarray(mask).save(hole)
    return picture, hole


def opened(page: Page, address: str, picture: Path, mask: Path) -> tuple[float, float]:
    """Open the page, the picture and the mask; seconds to where it takes a picture, and to where one can paint."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    ready = page.evaluate("window.readyAt / 1000")
    page.evaluate(OPENED)
    page.set_input_files("#file", picture)
    page.wait_for_selector("#repair [data-tool=brush]:enabled")
    page.locator("#repair summary").first.click()
    page.set_input_files("#mask-file", mask)
    page.wait_for_selector("#repair [data-do=mask-download]:enabled")  # the mask has come
    return ready, page.evaluate("window.openedAfter")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def row(name: str, seconds: list[float]) -> str:
    return f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} |"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--backend")
    options = parser.parse_args()
    tune_allocator()
    model = load_model()
    ready: list[float] = []
    paintable: list[float] = []
    fills: list[float] = []
    commands: list[float] = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        picture, mask = drawn(folder := Path(name), options.side)

        def command() -> None:
            filled = inpainting(picture, mask, model=model, backend=options.backend)
            save_picture(filled.pictures[0], folder / "filled.png", overwrite=True)

        with site(*(["--backend", options.backend] if options.backend else [])) as server:
            browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
            for turn in range(options.turns + 1):
                page = browser.new_context(viewport={"width": 1100, "height": 720}).new_page()
                page.add_init_script(READY + DRAWN)
                times = *opened(page, server.address, picture, mask), page.evaluate(FILL), timed(command)
                page.context.close()
                if turn:  # the first warms both
                    for kept, seconds in zip((ready, paintable, fills, commands), times, strict=True):
                        kept.append(seconds)
            browser.close()
    print(f"{machine()}; {options.side} x {options.side}, hole of 25 %, medians of {options.turns} turns, seconds\n")
    print("| | median | least to most |\n| --- | --- | --- |")
    print(row("opening the page to where it takes a picture (aim: 1)", ready))
    print(row("choosing the picture to where one can paint on it", paintable))
    print(row('a click on "Fill" to the result', fills))
    print(row("the command, its model loaded", commands))
    ratios = [fill / command for fill, command in zip(fills, commands, strict=True)]
    print(f"\nThe page takes {statistics.median(ratios):.2f} times as long (aim: 1.10).")


if __name__ == "__main__":
    main()
