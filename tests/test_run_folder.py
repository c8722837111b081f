"""A run's folder: its log has all rows up to its state, whoever has the files open."""

from __future__ import annotations

import builtins
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pixmend import platforms, run_folder
from pixmend.errors import (
    OutputError,
)
from pixmend.run_folder import RunFolder, TrainingState


def some_state() -> TrainingState:
    network = nn.Linear(1, 1)
    return TrainingState(network, torch.optim.Adam(network.parameters()), {})


def test_a_killed_training_has_all_rows_up_to_its_state(tmp_path: Path) -> None:
    """And the log of the resumed one is that of the undisturbed one."""
    logs = [[{"kimg": 0.001 * step, "loss": 1 / step, "held_out_loss": None} for step in range(1, 8)]] * 2
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    for folder, rows in zip((whole, killed), logs, strict=True):
        folder.prepare(resume=False)
        for row in rows[:4]:
            folder.log(row)
        folder.save_state(some_state())
        for row in rows[4:]:
            folder.log(row)
    whole.write_log()
    with open(killed.log_file, "a") as stream:
        stream.write("0.005,0.2,\n0.006,0.1")  # where the kill fell into the writing
    again = RunFolder(tmp_path / "killed")
    again.settle(4, 1)
    for row in logs[1][4:]:
        again.log(row)
    again.write_log()
    assert again.log_file.read_text() == whole.log_file.read_text()
    assert whole.log_file.read_text().count("\n") == 8


def test_rows_that_are_missing_let_no_later_ones_stay(tmp_path: Path) -> None:
    """Rows are lost where a spreadsheet has the log open, or somebody removes it."""
    folder = RunFolder(tmp_path)
    folder.log_file.write_text("kimg,loss\n0.008,1\n0.024,3\n0.032,4\n0.04,5\n0.048,6\n")
    folder.settle(4, 8)
    assert folder.log_file.read_text() == "kimg,loss\n0.008,1\n0.024,3\n0.032,4\n"


def test_rows_of_the_log_can_be_read_after_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pixmend.run_folder.time.monotonic", lambda: now)
    folder = RunFolder(tmp_path)
    for _ in range(10):
        now += 0.3
        folder.log({"kimg": now})
    lines = folder.log_file.read_text().splitlines()
    assert lines[0] == "kimg"
    assert float(lines[-1]) > now - run_folder.LOG_SECONDS


class Spreadsheet:
    """A program on Windows that has log.csv open, as long as it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open, self.open = True, open
        monkeypatch.setattr(platforms, "WINDOWS", True)
        monkeypatch.setattr(builtins, "open", self.opened)

    def opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if self.is_open and str(file).endswith("log.csv") and mode == "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return self.open(file, mode, *arguments, **options)


def test_a_log_that_a_spreadsheet_has_open_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spreadsheet = RunFolder(tmp_path), Spreadsheet(monkeypatch)
    folder.prepare(resume=False)
    for k in range(3):
        folder.log({"kimg": k})
        folder.write_log()
    folder.save_state(some_state())
    assert folder.state_file.exists()
    assert not folder.log_file.exists()
    (note,) = folder.notes_file.read_text().splitlines()
    assert "log.csv is open in another program" in note
    spreadsheet.is_open = False
    folder.log({"kimg": 3})
    folder.write_log()
    assert folder.log_file.read_text().split() == ["kimg", "0", "1", "2", "3"]


def test_elsewhere_a_log_that_may_not_be_written_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spreadsheet(monkeypatch)
    monkeypatch.setattr(platforms, "WINDOWS", False)
    folder = RunFolder(tmp_path)
    folder.log({"kimg": 1})
    with pytest.raises(OutputError, match="Permission denied; move model and run folder elsewhere"):
        folder.write_log()


def test_states_of_before_weights_were_named_can_be_resumed() -> None:
    now = {"teacher": {"steps": 2, "weights": "abc"}}
    assert run_folder._differences({"teacher": {"steps": 2}}, now) == ""
    other = {"teacher": {"steps": 2, "weights": "other"}}
    assert run_folder._differences(other, now) == "teacher.weights was 'other' and is now 'abc'"
