"""The evaluation from folder to report: resuming, figures, memorisation, plots, the command."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from evaluations import MEAN, SIZE, Counting, picture, six_pictures, tiny_model_file
from pixmend.cli import main
from pixmend.components import Hole
from pixmend.errors import OptionError, OutputError
from pixmend.evaluation import measuring, memorisation, protocol
from pixmend.evaluation.baselines import mean_colour
from pixmend.evaluation.evaluate import evaluate
from pixmend.evaluation.measuring import Measured, as_tensor
from pixmend.evaluation.method import Filled, Limits, Method
from pixmend.evaluation.protocol import Case, Pixels
from pixmend.evaluation.runner import make_fills
from pixmend.evaluation.summary import Results, area_bin, summarize
from pixmend.images import open_picture, save_picture
from pixmend.plots import NAMESPACE, Line, line_plot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return six_pictures(tmp_path / "photographs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model_file(tmp_path / "tiny.safetensors")


# ------------------------------------------------------------------------------------------------------ resuming


def test_resuming_makes_and_measures_nothing_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    methods = [MEAN, Method("noise", counting, random=True)]

    def run(fills: int) -> list[Any]:
        families = ["centre", "thin"]
        return evaluate(
            folder, tmp_path / "r", methods=methods, families=families, fills=fills, size=SIZE, part="all"
        ).figures

    first = run(2)
    assert counting.count == 6 * 2 * 2
    monkeypatch.setattr("pixmend.evaluation.measuring._measure", None)
    assert run(2) == first
    assert counting.count == 6 * 2 * 2
    monkeypatch.undo()
    run(1)  # fewer are a part of those
    assert counting.count == 6 * 2 * 2


def test_what_other_measures_found_is_not_used(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 1 had another SSIM: a report folder that it measured in is measured anew."""

    def run() -> None:
        evaluate(folder, tmp_path / "r", methods=[MEAN], families=["centre"], fills=1, size=SIZE, part="all")

    with monkeypatch.context() as earlier:
        earlier.setattr(measuring, "VERSION", 1)
        run()
    measured = Mock(wraps=measuring._measure)
    monkeypatch.setattr(measuring, "_measure", measured)
    run()
    assert measured.call_count == 1
    run()
    assert measured.call_count == 1


def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path) -> None:
    cases = {"centre": protocol.cases_of("centre", protocol.read_pictures(folder, 6, SIZE, "all"))}
    counting = Counting()

    def stops(picture: Pixels, hole: Hole, seed: int) -> Filled:
        if counting.count == 5:
            raise KeyboardInterrupt
        return counting(picture, hole, seed)

    with pytest.raises(KeyboardInterrupt):
        make_fills([Method("noise", stops, random=True)], cases, tmp_path, 2)
    counting.count = 0
    make_fills([Method("noise", counting, random=True)], cases, tmp_path, 2)
    assert counting.count == 6 * 2 - 4  # two whole cases were kept, the half one was not


def test_a_damaged_file_is_made_again(folder: Path, tmp_path: Path) -> None:
    cases = {"centre": protocol.cases_of("centre", protocol.read_pictures(folder, 6, SIZE, "all"))}
    counting = Counting()
    method = Method("noise", counting, random=True)
    make_fills([method], cases, tmp_path, 1)
    files = sorted(tmp_path.rglob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:40])
    files[1].write_bytes(b"")
    middle = bytearray(files[2].read_bytes())
    middle[len(middle) // 2] ^= 0xFF  # in what is compressed
    files[2].write_bytes(middle)
    make_fills([method], cases, tmp_path, 1)
    assert counting.count == 6 + 3


def test_a_method_that_fails_is_left_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        return picture[:2]

    def breaks(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        raise IndexError("no such thing")

    methods = [MEAN, Method("short", fails), Method("broken", breaks)]
    result = evaluate(folder, tmp_path / "r", methods=methods, families=["centre"], size=SIZE, part="all")
    assert {figure.method for figure in result.figures} == {"mean colour"}
    told = capsys.readouterr().err
    assert "short is left out: it gave uint8 of shape (2, 16, 3)" in told
    assert "broken is left out: IndexError: no such thing (test_evaluation.py, line" in told
    assert any("2 of the methods failed" in note for note in result.notes)


def test_a_full_disk_is_no_failing_method(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("pixmend.evaluation.runner.write_atomically", full)
    with pytest.raises(OutputError, match="the disk is full"):
        evaluate(folder, tmp_path / "r", methods=[MEAN], families=["centre"], size=SIZE, part="all")


def test_methods_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    methods = [Method("noise", Counting()), Method("noise", Counting(), identity="another")]
    with pytest.raises(OptionError, match="two methods are called 'noise'"):
        evaluate(folder, tmp_path / "r", methods=methods, families=["centre"], size=SIZE, part="all")


def test_what_a_fill_cost_is_measured_anew_where_it_was_made_anew(folder: Path, tmp_path: Path) -> None:
    for calls in (3, 9):
        method = Method("mean colour", lambda *given, calls=calls: Filled(mean_colour(*given), calls))
        found = evaluate(folder, tmp_path / "r", methods=[method], families=["centre"], size=SIZE, part="all").figures
        assert [f.value for f in found if (f.group, f.metric) == ("centre", "network_calls")] == [calls]
        shutil.rmtree(tmp_path / "r" / "fills")  # the same pixels come again


# ------------------------------------------------------------------------------------------------------ figures


def shift(amount: int) -> Callable[[Pixels, Hole, int], Pixels]:
    """Mean colour, brighter, that changes known pixels too."""

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        filled: Pixels = np.clip(mean_colour(picture, hole, seed).astype(int) + amount, 0, 255).astype(np.uint8)
        return filled

    return fill


def test_known_pixels_are_measured_and_put_back(folder: Path, tmp_path: Path) -> None:
    put_back: list[Pixels] = []

    def shifted(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        filled = shift(9)(picture, hole, seed)
        put_back.append(np.where(hole[..., None], filled, picture))
        return filled

    def seams(pictures: Iterable[Pixels]) -> float:
        """The sum over all neighbours of which one lies in a hole: in alternate rows, those below each other."""
        return float(sum(np.abs(np.diff(pixels.astype(int), axis=0)).sum() for pixels in pictures))

    methods = [MEAN, Method("shifted", shifted)]
    result = evaluate(folder, tmp_path / "r", methods=methods, families=["alternate-rows"], size=SIZE, part="all")
    value = {(f.method, f.metric): f.value for f in result.figures if f.group == "alternate-rows"}
    assert value["mean colour", "known_difference"] == 0
    assert value["shifted", "known_difference"] == 9
    assert value["shifted", "seam"] == pytest.approx(seams(put_back) / seams(picture(i) for i in range(6)), rel=1e-5)


def test_differences_are_taken_on_the_cases_that_both_have() -> None:
    rng = np.random.default_rng(0)
    cases = [Case(f"{i}", "centre", rng.integers(0, 256, (8, 8, 3), np.uint8), np.eye(8, dtype=bool)) for i in range(3)]
    telea, other = Method("T", mean_colour, key="telea"), Method("O", mean_colour)
    results: Results = {
        telea: {"centre": (cases, Measured([{"psnr": p} for p in (10.0, 20.0, 90.0)], {}))},
        other: {"centre": (cases[:2], Measured([{"psnr": p} for p in (11.0, 23.0)], {}))},
    }
    (figure,) = (f for f in summarize(results) if f.method == "O" and f.group == "centre")
    assert figure.value == pytest.approx(17)
    assert figure.difference == pytest.approx(2)
    assert figure.reference == "T"
    assert figure.pictures == 2


def test_areas_have_ten_bins() -> None:
    assert [area_bin(a) for a in (0.0, 0.0999, 0.1, 0.55, 1.0)] == [
        "0-10 %",
        "0-10 %",
        "10-20 %",
        "50-60 %",
        "90-100 %",
    ]


def test_a_copied_patch_is_found_wherever_it_was(tmp_path: Path) -> None:
    """A training picture, moved by an even number of pixels and mirrored, is at distance 0; another is not."""
    save_picture(open_picture(picture(3, 64)), tmp_path / "trained.png")
    trained = as_tensor([picture(3, 64)])
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 16:48, 16:48] = 1
    windows = memorisation.windows_of(hole)
    assert windows.side == 8
    assert windows.cases.tolist() == [0]
    patches = memorisation.TrainingPatches(tmp_path, 64)
    for copied in (trained, trained.roll((6, -10), dims=(2, 3)), trained.flip(-1)):
        assert float(patches.nearest(copied, windows)[0]) < 0.5  # rounded to 8 bits
    assert float(patches.nearest(as_tensor([picture(4, 64)]), windows)[0]) > 10


def test_narrow_holes_have_no_patch_to_look_for() -> None:
    assert (
        len(
            memorisation.windows_of(
                torch.from_numpy(protocol.draw_hole("alternate-rows", 0, (64, 64))).float()[None, None]
            ).cases
        )
        == 0
    )


def test_plots_escape_what_they_are_given_and_place_their_points() -> None:
    ticks = [(0.0, "1"), (1.0, "2")]
    text = line_plot("<title>", "x & y", "y", [Line("<b>", [0, 1], [1.0, 2.0]), Line("level", [], [1.5])], ticks)
    assert "<title>" not in text
    assert "&lt;b&gt;" in text
    assert text.count("<circle") == 2
    assert line_plot("t", "x", "y", [Line("n", [0], [float("nan")])], ticks) == ""


def test_powers_of_ten_are_evenly_apart_on_a_logarithmic_axis() -> None:
    line = Line("n", [0, 1, 1, 0], [0.01, 0.1, 1.0, 0.0], dots=False)
    text = line_plot("t", "x", "y", [line], [(0.0, "0"), (1.0, "1")], logarithmic=True)
    (points,) = re.findall(r'<polyline points="([^"]*)"', text)
    heights = [float(point.split(",")[1]) for point in points.split()]  # of three: 0 has no logarithm
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert "<circle" not in text
    marks = [float(mark) for mark in re.findall(r'text-anchor="end">([^<]*)<', text)]
    assert marks == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]


@pytest.mark.parametrize(("low", "high"), [(0.03, 0.03), (0.1, 0.1), (1, 1), (0.0719, 0.34), (3e-7, 9e4)])
def test_a_logarithmic_axis_holds_what_it_shows(low: float, high: float) -> None:
    text = line_plot("t", "x", "y", [Line("n", [0, 1], [low, high])], [(0.0, "0"), (1.0, "1")], logarithmic=True)
    marks = [float(mark) for mark in re.findall(r'text-anchor="end">([^<]*)<', text)]
    assert marks[0] <= low <= high <= marks[-1]
    assert len(set(marks)) > 1


# ------------------------------------------------------------------------------------------------------ the command


def test_the_command_writes_a_report_that_stands_alone(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    options = [
        "--part",
        "all",
        "--families",
        "centre,thin",
        "--methods",
        "mean,pixmend",
        "--fills",
        "2",
        "--calls",
        "1,2",
    ]
    assert main(["evaluate", str(folder), "-o", str(report), "--model", str(model), *options]) == 0
    shown = capsys.readouterr()
    assert "tiny, unipc, 4 steps" in shown.out
    assert "6 pictures are few" in shown.err
    page = (report / "report.html").read_text("utf-8")
    assert "&lt;b&gt;e.png" in page
    assert "<b>e" not in page
    assert "c&amp;d" in page
    assert "http" not in page.replace("http-equiv", "").replace(NAMESPACE, "")
    assert page.count("data:image/png;base64,") == 2 * 3 * (2 + 4)  # families, cases, given and truth and four methods
    content = json.loads((report / "report.json").read_text("utf-8"))
    with open(report / "figures.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(content["figures"])
    psnr = next(f for f in content["figures"] if f["metric"] == "psnr" and f["group"] == "centre")
    assert psnr["low"] <= psnr["value"] <= psnr["high"]
    assert len((report / "cases.csv").read_text("utf-8").splitlines()) == 1 + 4 * 2 * 6


@pytest.mark.parametrize(
    ("options", "code", "told_of"),
    [
        (["--families", "spirals"], 2, "spirals"),
        (["--methods", "magic"], 2, "magic"),
        (["--calls", "1,x"], 2, "1,2,4,8"),
        (["--part", "half"], 2, "choice, report, all"),
        (["--model", "nowhere.safetensors"], 3, "nowhere"),
        (["--reference", "telea", "--methods", "mean"], 2, "not among the methods"),
        (["--size", "512", "--methods", "mean"], 9, "fewer than two pictures"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], code: int, told_of: str, folder: Path, tmp_path: Path, err: Callable[[], str]
) -> None:
    given = options if "--part" in options else [*options, "--part", "all"]
    given = given if "--size" in given else [*given, "--size", "16"]
    assert main(["evaluate", str(folder), "-o", str(tmp_path / "r"), *given]) == code
    assert told_of in err()


def test_ctrl_c_says_how_to_go_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixmend.evaluation.runner._fill", stopped)
    options = ["--part", "all", "--methods", "mean", "--families", "centre", "--size", "16"]
    assert main(["evaluate", str(folder), "-o", str(tmp_path / "r"), *options]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_limits_hold(folder: Path, tmp_path: Path) -> None:
    counting = Counting()
    slow = Method("slow", counting, random=True, limits=Limits(("centre",), pictures=2, fills=1))
    both = {"families": ["centre", "thin"], "fills": 3, "size": SIZE, "part": "all"}
    result = evaluate(folder, tmp_path / "r", methods=[slow, MEAN], **both)  # type: ignore[arg-type]
    assert counting.count == 2
    assert {(f.method, f.group) for f in result.figures if f.by == "family"} == {
        ("slow", "centre"),
        *((MEAN.name, group) for group in ("centre", "thin", "all")),
    }, "of one family there is no mean over all"
    assert {figure.method for figure in result.figures if figure.by == "area"} == {MEAN.name}
    evaluate(folder, tmp_path / "alone", methods=[slow], **both)  # type: ignore[arg-type]


def test_a_method_without_a_case_is_told(folder: Path, tmp_path: Path) -> None:
    slow = Method("slow", Counting(), limits=Limits(("centre",)))
    thin = {"families": ["thin"], "size": SIZE, "part": "all"}
    with pytest.raises(OptionError, match="slow is left out: it is measured on centre alone; choose"):
        evaluate(folder, tmp_path / "r", methods=[slow], **thin)  # type: ignore[arg-type]
    assert not (tmp_path / "r").exists()
    with pytest.raises(OptionError, match="the reference 'slow' is not among the methods"):
        evaluate(folder, tmp_path / "r", methods=[slow, MEAN], reference="slow", **thin)  # type: ignore[arg-type]
    result = evaluate(folder, tmp_path / "r", methods=[slow, MEAN], **thin)  # type: ignore[arg-type]
    assert "slow is left out: it is measured on centre alone" in result.notes
