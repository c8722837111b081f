"""docs/formats.md says what is so: its table is what repairing a file of every format and mode gives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jpeglib", reason="the table is of all extras")
pytest.importorskip("pillow_heif", reason="the table is of all extras")


@pytest.fixture(scope="module")
def script() -> Any:
    path = Path(__file__).parents[1] / "scripts" / "formats_table.py"
    spec = importlib.util.spec_from_file_location("formats_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["formats_table"] = module
    spec.loader.exec_module(module)
    return module


def test_pages_are_current(script: Any) -> None:
    for path, text in script.pages():
        assert path.read_text("utf-8") == text, f"python scripts/formats_table.py --write brings {path} up to date"


def test_only_lossy_coding_changes_what_is_known(script: Any) -> None:
    words = script.WORDS["en"]
    rows = [line.strip("| ").split(" | ") for line in script.table("en").splitlines()[2:]]
    changed = {row[0] for row in rows if row[2] not in (words["exact"], words["blocks"])}
    assert len(rows) == len(script.CASES)
    assert changed == {"AVIF"}
    assert {row[0] for row in rows if row[2] == words["blocks"]} == {"JPEG"}
    assert not [row for row in rows if words["no"] in row[3:]]
