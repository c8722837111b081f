"""The protocol of `pixmend evaluate`: holes, names, pictures and parts."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluations import SIZE, picture, six_pictures
from pixmend.errors import DataError, OptionError
from pixmend.evaluation import protocol
from pixmend.evaluation.protocol import FAMILIES, Case
from pixmend.images import open_picture, save_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return six_pictures(tmp_path / "photographs")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_leaves_something_to_fill_and_something_known(family: str) -> None:
    for number in range(8):
        hole = protocol.draw_hole(family, number, (64, 48))
        assert hole.shape == (64, 48)
        assert 0 < hole.mean() <= protocol.MOST


def test_holes_and_names_are_the_same_in_another_process() -> None:
    program = "from pixmend.evaluation import protocol as p\n"
    program += "print(*(p.mask_name(p.draw_hole(f, 3, (32, 32))) for f in p.FAMILIES))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [protocol.mask_name(protocol.draw_hole(f, 3, (32, 32))) for f in FAMILIES]


def test_holes_are_those_of_this_version() -> None:
    """Where one changes, whoever measured before has other holes: `protocol.VERSION` is raised then, and this hash.

    Letters are left out: each version of Pillow draws its own.
    """
    drawn = [family for family in FAMILIES if family != "text"]
    names = [protocol.mask_name(protocol.draw_hole(family, k, (64, 64))) for family in drawn for k in (0, 1)]
    assert protocol.VERSION == 1
    assert hashlib.sha256("".join(names).encode()).hexdigest()[:16] == "31e0ba0adc4b4473"


def test_holes_differ_from_picture_to_picture_where_they_are_drawn() -> None:
    fixed = {"centre", "expand"}
    for family in set(FAMILIES) - fixed:
        assert len({protocol.mask_name(protocol.draw_hole(family, n, (64, 64))) for n in range(20)}) > 1, family
    for family in fixed:
        assert len({protocol.mask_name(protocol.draw_hole(family, n, (64, 64))) for n in range(5)}) == 1


def test_names_tell_size_and_pixels_apart() -> None:
    hole = np.zeros((4, 8), bool)
    other = hole.copy()
    other[3, 7] = True
    names = {protocol.mask_name(h) for h in (hole, other, hole.reshape(8, 4), hole.reshape(2, 16))}
    assert len(names) == 4


def test_shares_of_the_scattered_families() -> None:
    for share in (0.5, 0.8, 0.92):
        holes = [protocol.draw_hole(f"scattered-{100 * share:.0f}", n, (64, 64)) for n in range(10)]
        assert np.mean(holes) == pytest.approx(share, abs=4 * (share * (1 - share) / (10 * 64 * 64)) ** 0.5)


def test_pictures_come_in_an_order_that_growing_keeps(folder: Path) -> None:
    all_of_them = [name for name, _ in protocol.read_pictures(folder, 100, SIZE, "all")]
    assert [name for name, _ in protocol.read_pictures(folder, 3, SIZE, "all")] == all_of_them[:3]
    assert sorted(all_of_them) == sorted(path.name for path in folder.iterdir())


def test_parts_are_disjoint_and_of_the_promised_sizes() -> None:
    names = [f"{i}.png" for i in range(2000)]
    chosen = sum(protocol.part_of(name) == "choice" for name in names) / len(names)
    share = protocol.CHOICE_SHARE
    assert chosen == pytest.approx(share, abs=4 * (share * (1 - share) / len(names)) ** 0.5)
    assert {protocol.part_of(name) for name in names} == {"choice", "report"}


def test_what_is_too_small_or_broken_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    save_picture(open_picture(picture(9, 8)), folder / "small.png")
    assert len(protocol.read_pictures(folder, 100, SIZE, "all")) == 6
    told = capsys.readouterr().err
    assert "2 left out: " in told
    assert told.count("\n") == 1
    with pytest.raises(DataError, match="fewer than two pictures of 32 x 32"):
        protocol.read_pictures(folder, 100, 32, "all")


def test_a_method_is_not_given_the_truth() -> None:
    case = Case("a", "centre", picture(0), protocol.draw_hole("centre", 0, (SIZE, SIZE)))
    assert (case.given[case.hole] == protocol.BLANK).all()
    assert (case.given[~case.hole] == case.truth[~case.hole]).all()
    assert len({case.seed(n) for n in range(5)}) == 5


def test_families_are_chosen_by_name_by_group_and_by_other_names() -> None:
    assert protocol.choose_families(["wide", "narrow"]) == ["thin", "thick"]
    assert protocol.choose_families(["own"]) == ["rectangles", "centre", "irregular", "stripes"]
    assert protocol.choose_families(["all"]) == list(FAMILIES)
    with pytest.raises(OptionError, match="family 'spirals' is not known"):
        protocol.choose_families(["spirals"])
