"""The page's words: the same in each language, none missing and none left over; and what its files may hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pixmend
from pixmend.masks import KINDS

STATIC = Path(pixmend.__file__).parent / "web" / "static"
MADE_UP = {f"kind.{name}" for name in KINDS} | {f"quality.{name}" for name in ("fast", "balanced", "best")}


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
    used = set(re.findall(r"""\bt\("([\w.-]+)"|data-t(?:-label)?="([\w.-]+)\"""", sources()))
    named = {one or other for one, other in used} | MADE_UP
    known = set(words("en"))
    assert named <= known
    assert {key for key in known - named if not key.startswith("error.")} == set()


@pytest.mark.parametrize("path", sorted(STATIC.rglob("*.*")), ids=lambda path: str(path.relative_to(STATIC)))
def test_files_need_no_network_and_no_inline_script_or_style(path: Path) -> None:
    text = path.read_text("utf-8")
    addresses = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    if path.suffix == ".html":
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", text)
