"""Folders: which pictures there are, which mask belongs to which, and where results may go."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from folder_work import touch
from pixmend.errors import DataError, OutputError
from pixmend.folders.pairing import find


def pairs(folder: Path, masks: Path | None, output: Path | None = None) -> dict[str, str | None]:
    """The name of each picture -> of its mask."""
    found = find(folder, output or folder.parent / "out", masks)
    return {task.name: None if task.mask is None else task.mask.name for task in found.tasks}


def test_masks_are_paired_by_relative_name_with_any_extension(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    names = ["a.jpg", "sub/a.PNG", "sub/deep/b c.tiff", "line\nbreak.png", "ünï.webp", "v1.2 end.png"]
    touch(*(folder / name for name in [*names, "notes.txt", ".hidden.png", ".git/x.png"]))
    given = ["a.png", "sub/a.JPEG", "sub/deep/b c_mask.png", "line\nbreak.PNG", "v1.2 end.bmp"]
    touch(*(masks / name for name in given), masks / f"{unicodedata.normalize('NFD', 'ünï')}.png")
    found = pairs(folder, masks)
    assert list(found) == sorted(names)
    assert [unicodedata.normalize("NFC", str(mask)) for mask in found.values()] == [
        {"sub/a.PNG": "a.JPEG", "sub/deep/b c.tiff": "b c_mask.png", "ünï.webp": "ünï.png"}.get(name)
        or {"a.jpg": "a.png", "v1.2 end.png": "v1.2 end.bmp"}.get(name, "line\nbreak.PNG")
        for name in sorted(names)
    ]


def test_outputs_keep_relative_names(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "a.jpg", tmp_path / "in" / "sub" / "a.JPG")
    found = find(tmp_path / "in", tmp_path / "out")
    outputs = [task.output.relative_to(tmp_path / "out").as_posix() for task in found.tasks]
    assert outputs == ["a.jpg", "a.png", "sub/a.JPG"]


def test_pictures_of_one_stem_never_share_a_mask(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    touch(folder / "a.png", folder / "a.jpg", masks / "a.png")
    found = find(folder, tmp_path / "out", masks)
    assert [task.name for task in found.tasks] == ["a.png"], "its mask has exactly its name"
    assert "a.jpg_mask.png" in found.refused["a.jpg"]
    touch(masks / "a.jpg_mask.png")
    assert pairs(folder, masks) == {"a.jpg": "a.jpg_mask.png", "a.png": "a.png"}
    (masks / "a.png").rename(masks / "a.webp")
    assert "another extension" in find(folder, tmp_path / "out", masks).refused["a.png"]


def test_a_mask_that_is_missing_or_not_the_only_one_is_a_refusal(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    touch(*(folder / f"{name}.jpg" for name in "abc"), masks / "a.png", masks / "b.png", masks / "b.webp")
    touch(masks / "typo.png")
    found = find(folder, tmp_path / "out", masks)
    assert [task.name for task in found.tasks] == ["a.jpg"]
    assert "b.png, b.webp" in found.refused["b.jpg"]
    assert "no mask" in found.refused["c.jpg"]
    assert found.notes == [f"masks in {masks} that belong to no picture: 1, such as typo.png"]
    touch(masks / "b.jpg")
    assert pairs(folder, masks)["b.jpg"] == "b.jpg", "exactly its name goes before all"


def test_the_mask_of_a_picture_that_is_refused_is_not_idle(tmp_path: Path) -> None:
    folder, masks = tmp_path / "in", tmp_path / "masks"
    touch(folder / "a.jpg", masks / "a.png", masks / "b.png", tmp_path / "elsewhere.jpg")
    (folder / "b.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    found = find(folder, tmp_path / "out", masks)
    assert "leads out" in found.refused["b.jpg"]
    assert found.notes == []


def test_masks_beside_the_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.jpg", folder / "a_mask.png", folder / "b.png", folder / "b.jpg", folder / "b.jpg_mask.png")
    assert pairs(folder, folder) == {"a.jpg": "a_mask.png", "b.jpg": "b.jpg_mask.png"}
    assert "b.png" in find(folder, tmp_path / "out", folder).refused


def test_one_mask_for_all_and_none(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png", tmp_path / "in" / "stain.png")
    assert pairs(tmp_path / "in", tmp_path / "in" / "stain.png") == {"a.png": "stain.png", "b.png": "stain.png"}
    assert set(pairs(tmp_path / "in", None).values()) == {None}


def test_outputs_and_masks_within_the_folder_are_no_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "out" / "a.png", folder / "masks" / "a.png")
    assert pairs(folder, folder / "masks", folder / "out") == {"a.png": "a.png"}
    assert pairs(folder, None, folder / "out") == {"a.png": None, "masks/a.png": None}
    for clash in (folder, folder / "masks", tmp_path / "in" / "sub" / ".."):
        with pytest.raises(OutputError, match="choose another folder"):
            find(folder, clash, folder / "masks")


def test_a_folder_of_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where capitals do not matter, and where a folder is mounted twice: the paths differ, links or not."""
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "out" / "b.png", folder / "masks" / "a.png")
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: stat(os.fspath(path).replace("IN", "in"), **how))
    with pytest.raises(OutputError, match="choose another folder"):
        find(folder, tmp_path / "IN")
    assert pairs(folder, None, tmp_path / "IN" / "out") == {"a.png": None, "masks/a.png": None}


def test_results_of_earlier_runs_are_no_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "sub" / "b.png", folder / "sub" / ".pixmend" / "other")
    for earlier in (folder / "mended", folder / "sub" / "clean"):
        touch(earlier / "a.png", earlier / "deep" / "b.png", earlier / ".pixmend" / "journal.jsonl")
    found = find(folder, folder / "clean")
    assert [task.name for task in found.tasks] == ["a.png", "sub/b.png"]
    assert found.notes == [f"folders with results of earlier runs, left out: 2, such as {folder / 'mended'}"]
    assert find(folder, folder / "mended").notes == [
        f"folders with results of earlier runs, left out: 1, such as {folder / 'sub' / 'clean'}"
    ], "where this run goes needs no word"
    assert list(pairs(folder / "mended", None)) == ["a.png", "deep/b.png"], "who gives it means it"
    touch(tmp_path / "only" / "mended" / "a.png", tmp_path / "only" / "mended" / ".pixmend" / "journal.jsonl")
    with pytest.raises(DataError, match=r"holds no picture.*results of earlier runs"):
        find(tmp_path / "only", tmp_path / "out")


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    touch(folder / "a.png", elsewhere / "secret.png", elsewhere / "b.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "secret.png").symlink_to(elsewhere / "secret.png")
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "others").symlink_to(elsewhere, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    found = find(folder, tmp_path / "out")
    assert [task.name for task in found.tasks] == ["a.png", "inside.png"]
    assert set(found.refused) == {"secret.png", "dangling.png", "pipe.png"}
    assert "leads out of" in found.refused["secret.png"]
    assert found.notes == [f"{folder / 'others'} is a link to a folder, which is not followed"]


def test_results_do_not_leave_the_output_folder_by_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    assert "leads" in find(tmp_path / "in", tmp_path / "out").refused["sub/a.png"]


def test_a_file_where_a_result_s_folder_has_to_be(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "deep" / "sub" / "a.png", tmp_path / "in" / "b.png", tmp_path / "out" / "deep")
    found = find(tmp_path / "in", tmp_path / "out")
    assert [task.name for task in found.tasks] == ["b.png"]
    place = tmp_path / "out" / "deep"
    assert found.refused == {"deep/sub/a.png": f"{place} is a file where its folder has to be; move or remove the file"}


def test_films_data_and_what_is_never_read_are_no_pictures(tmp_path: Path) -> None:
    touch(*(tmp_path / f"in/{name}" for name in ("a.png", "clip.mpg", "data.h5", "w.grib", "d.eps", "i.ico", "s.wmf")))
    assert list(pairs(tmp_path / "in", None)) == ["a.png"]


def test_what_is_left_out_among_masks_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "sub" / "a.png", tmp_path / "masks" / "b.png", tmp_path / "elsewhere" / "a.png")
    (tmp_path / "masks" / "sub").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = find(tmp_path / "in", tmp_path / "out", tmp_path / "masks")
    assert list(found.refused) == ["sub/a.png"]
    assert f"{tmp_path / 'masks' / 'sub'} is a link to a folder, which is not followed" in found.notes


def test_a_folder_that_cannot_be_listed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "closed" / "b.png")
    scan = os.scandir

    def scandir(path: Any) -> Any:  # permissions would not do: who runs the tests may be allowed everything
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find(tmp_path / "in", tmp_path / "out")
    assert [task.name for task in found.tasks] == ["a.png"]
    assert "Permission denied" in found.refused["closed"]
    with pytest.raises(DataError, match=r"holds no picture.*Permission denied"):
        find(tmp_path / "in" / "closed", tmp_path / "out")
