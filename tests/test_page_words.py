"""The page's words: the same in each language, none missing and none left over; and what its files may hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pixmend
from pixmend.efforts import DETAILS, QUALITIES
from pixmend.masks import KINDS

pytest.importorskip("fastapi")

from pixmend.web.shared import PROBLEMS

STATIC = Path(pixmend.__file__).parent / "web" / "static"
MADE_UP = (
    {f"kind.{name}" for name in KINDS}
    | {f"quality.{name}" for name in QUALITIES}
    | {f"detail.{name}" for name in DETAILS}
)
MADE_UP |= {f"error.{status}" for status in (*PROBLEMS, 500, "job")}


def words(language: str) -> dict[str, str]:
    read: dict[str, str] = json.loads((STATIC / "words" / f"{language}.json").read_text("utf-8"))
    return read


def sources() -> str:
    return "\n".join(path.read_text("utf-8") for path in (*STATIC.glob("*.js"), STATIC / "index.html"))


def test_each_language_has_the_same_words_with_the_same_values() -> None:
    english, chinese = words("en"), words("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert text.strip()
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_chinese_is_chinese() -> None:
    names = {"help.version"}  # of which little is words
    for key, text in words("zh").items():
        assert re.search("[\u4e00-\u9fff]", text) or key in names, key


def test_no_words_are_missing_or_left_over() -> None:
    used = set(re.findall(r"""\bt\("([\w.-]+)"|data-t(?:-label|-title)?="([\w.-]+)\"""", sources()))
    named = {one or other for one, other in used} | MADE_UP
    known = set(words("en"))
    assert named <= known
    assert known - named == set()


@pytest.mark.parametrize("path", sorted(STATIC.rglob("*.*")), ids=lambda path: str(path.relative_to(STATIC)))
def test_files_need_no_network_and_no_inline_script_or_style(path: Path) -> None:
    text = path.read_text("utf-8")
    addresses = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    if path.suffix == ".html":
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", text)


def luminance(colour: str) -> float:
    """Of an sRGB colour, #rrggbb: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(dark: bool) -> None:
    """By 4.5 to 1 (WCAG 2.2, AA), and what shows where the focus is by 3 to 1."""
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", (STATIC / "style.css").read_text("utf-8"), re.DOTALL)
    ]
    assert len(themes) == 2
    colours = themes[0] | (themes[1] if dark else {})

    def contrast(one: str, other: str) -> float:
        darker, lighter = sorted((luminance(colours[one]), luminance(colours[other])))
        return (lighter + 0.05) / (darker + 0.05)

    grounds = {"text": "page surface stage hover", "quiet": "page surface stage hover"}
    grounds |= {"on-accent": "accent accent-hover", "accent-text": "accent-soft surface hover", "error": "error-soft"}
    for text, behind in grounds.items():
        for ground in behind.split():
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert min(contrast("accent", ground) for ground in ("page", "surface", "stage")) >= 3
