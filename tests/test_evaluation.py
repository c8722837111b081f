"""The evaluation from folder to report: the protocol's promises, methods of all sorts, resuming, the command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixmend.checkpoint import Model, load_model, save_model
from pixmend.cli import main
from pixmend.components import Hole
from pixmend.errors import DataError, ModelFileError, OptionError
from pixmend.evaluation import memorisation, protocol
from pixmend.evaluation.baselines import BASELINES, mean_colour
from pixmend.evaluation.evaluate import evaluate
from pixmend.evaluation.foreign import onnx, outside_command, torchscript
from pixmend.evaluation.measuring import Measured, as_tensor
from pixmend.evaluation.method import Filled, Limits, Method, Unavailable
from pixmend.evaluation.methods import WORDS, Asked, choose_methods
from pixmend.evaluation.models import told, untold
from pixmend.evaluation.plots import Line, line_plot
from pixmend.evaluation.protocol import FAMILIES, Case, Pixels
from pixmend.evaluation.runner import make_fills
from pixmend.evaluation.summary import Results, area_bin, summarize
from pixmend.images import open_picture, save_picture
from pixmend.inpainting import inpainting
from pixmend.unet import UNetConfig

SIZE = 16
MEAN = Method("mean colour", mean_colour, key="mean")


def picture(seed: int, side: int = SIZE) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side // 4, side // 4, 3))
    grain = rng.integers(-20, 20, (side, side, 3))
    pixels: Pixels = np.clip(np.repeat(np.repeat(coarse, 4, 0), 4, 1) + grain, 0, 255).astype(np.uint8)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures; one name would be a tag in HTML."""
    where = tmp_path / "photographs"
    where.mkdir()
    for i, name in enumerate(["a", "b", "c&d", "<b>e", "f", "g"]):
        save_picture(open_picture(picture(i)), where / f"{name}.png")
    return where


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that says that it was trained, and was not."""
    config = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)
    made = Model.new(config, size=SIZE)
    made.legs.append({"kimg": 0})
    return save_model(tmp_path / "tiny.safetensors", made)


class Counting:
    """A method that counts its fills: noise, another for every seed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, picture: Pixels, hole: Hole, seed: int) -> Filled:
        self.count += 1
        filled = picture.copy()
        filled[hole] = np.random.default_rng(seed).integers(0, 256, (int(hole.sum()), 3))
        return Filled(filled, 7)


# ------------------------------------------------------------------------------------------------------ protocol


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


def test_what_is_too_small_or_broken_is_left_out(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    save_picture(open_picture(picture(9, 8)), folder / "small.png")
    assert len(protocol.read_pictures(folder, 100, SIZE, "all")) == 6
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


# ------------------------------------------------------------------------------------------------------ methods


def median(picture: Pixels, hole: Hole, seed: int) -> Pixels:
    filled = picture.copy()
    filled[hole] = np.median(picture[~hole], axis=0)
    return filled


def test_a_method_takes_ten_lines(folder: Path, tmp_path: Path) -> None:
    result = evaluate(
        folder, tmp_path / "r", methods=[MEAN, Method("median", median)], families=["centre"], size=SIZE, part="all"
    )
    assert {figure.method for figure in result.figures} == {"mean colour", "median"}


@pytest.mark.parametrize("word", BASELINES)
def test_baselines_fill_a_flat_picture_flat(word: str) -> None:
    try:
        method = BASELINES[word]()
    except Unavailable as missing:
        pytest.skip(str(missing))
    flat = np.full((32, 32, 3), (40, 120, 200), np.uint8)
    hole = protocol.draw_hole("centre", 0, (32, 32))
    given = np.where(hole[..., None], np.uint8(protocol.BLANK), flat)
    before = given.copy()
    filled = method(given, hole, 0).pixels
    assert np.abs(filled[hole].astype(int) - flat[hole]).max() <= 3
    assert (given == before).all()


def test_own_model_is_what_inpainting_gives(model: Path) -> None:
    method = told(model, steps=2)
    truth, hole = picture(0), protocol.draw_hole("centre", 0, (SIZE, SIZE))
    filled = method(truth, hole, 5)
    expected = inpainting(truth, hole, model=model, steps=2, seed=5, blur=0)
    assert (filled.pixels == expected.pictures[0].samples).all()
    assert filled.network_calls == expected.network_calls


def test_narrow_holes_are_filled_as_a_user_gets_them_or_by_the_sampler_that_is_asked_for(
    model: Path, tmp_path: Path
) -> None:
    whole = load_model(model)
    whole.mean = Model.new_mean(whole.network.config, size=whole.size)
    both = save_model(tmp_path / "both.safetensors", whole)
    own, sampled = told(both), told(both, steps=whole.steps)
    assert own.name == f"{sampled.name}, narrow 1"
    truth, hole = picture(0), protocol.draw_hole("alternate-rows", 0, (SIZE, SIZE))
    assert own(truth, hole, 0).network_calls == 1
    assert sampled(truth, hole, 0).network_calls == told(model)(truth, hole, 0).network_calls + 1 > 2, "the guide's"


@pytest.mark.parametrize(("way", "calls"), [("put-back", 250), ("repaint-1", 250), ("repaint-10", 2410)])
def test_untold_networks_keep_known_pixels_and_call_as_often_as_their_papers_say(
    way: str, calls: int, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = untold(model, way)
    truth, hole = picture(0), protocol.draw_hole("centre", 0, (SIZE, SIZE))
    filled = method(truth, hole, 0)
    assert (filled.pixels[~hole] == truth[~hole]).all()
    assert filled.network_calls == calls
    assert method.limits.pictures == 20


COPY = """
import sys
from pixmend.images import mask_samples, open_picture, save_picture
image, mask, output = sys.argv[1:4]
picture = open_picture(image)
samples = picture.samples.copy()
samples[mask_samples(mask)] = int(sys.argv[4])
save_picture(open_picture(samples), output)
"""


def test_an_outside_command(tmp_path: Path) -> None:
    tool = tmp_path / "a tool.py"
    tool.write_text(COPY)
    method = outside_command(f"{sys.executable} '{tool}' {{image}} {{mask}} {{output}} 99")
    truth, hole = picture(0), protocol.draw_hole("thick", 0, (SIZE, SIZE))
    filled = method(truth, hole, 0).pixels
    assert (filled[hole] == 99).all()
    assert (filled[~hole] == truth[~hole]).all()
    assert not method.random
    assert outside_command("tool {image} {mask} {output} --seed {seed}").random


def test_commands_that_fail_say_so_in_a_line() -> None:
    truth, hole = picture(0), protocol.draw_hole("thick", 0, (SIZE, SIZE))
    with pytest.raises(OptionError, match=r"lacks \{mask\}"):
        outside_command("tool {image} {output}")
    with pytest.raises(OptionError, match="cannot be run"):
        outside_command("no-such-tool {image} {mask} {output}")(truth, hole, 0)
    program = "import sys; sys.stderr.write('no memory'); sys.exit(3)"
    with pytest.raises(OptionError, match="left with 3: no memory"):
        outside_command(f'{sys.executable} -c "{program}" {{image}} {{mask}} {{output}}')(truth, hole, 0)
    with pytest.raises(OptionError, match="wrote no picture"):
        outside_command(f"{sys.executable} -c pass {{image}} {{mask}} {{output}}")(truth, hole, 0)


class Half(nn.Module):
    """A network with LaMa's signature: a quarter of white in the hole, in [0, 255]; it asks for sides of multiples of
    8.
    """

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return 255 * (image * (1 - mask) + 0.25 * mask)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("shape", [(16, 16), (21, 13)])
def test_a_torchscript_file(shape: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "net.pt"
    example = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    torch.jit.save(torch.jit.trace(Half(), example), str(file))  # type: ignore[no-untyped-call]
    truth = picture(0, 24)[: shape[0], : shape[1]]
    hole = protocol.draw_hole("centre", 0, shape)
    filled = torchscript(file)(truth, hole, 0).pixels
    assert (filled[hole] == 64).all()
    assert (filled[~hole] == truth[~hole]).all()


@pytest.mark.parametrize("fixed", [False, True])
def test_an_onnx_file(fixed: bool, tmp_path: Path) -> None:
    package = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    h, w = (32, 32) if fixed else ("h", "w")
    helper, float32 = package.helper, package.TensorProto.FLOAT
    nodes = [
        helper.make_node("Mul", ["mask", "level"], ["fill"]),
        helper.make_node("Add", ["image", "fill"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [
            helper.make_tensor_value_info("image", float32, [1, 3, h, w]),
            helper.make_tensor_value_info("mask", float32, [1, 1, h, w]),
        ],
        [helper.make_tensor_value_info("output", float32, [1, 3, h, w])],
        [helper.make_tensor("level", float32, [1], [0.5])],
    )
    file = tmp_path / "net.onnx"
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    package.save(content, str(file))
    truth, hole = np.full((16, 16, 3), 128, np.uint8), protocol.draw_hole("centre", 0, (16, 16))
    filled = onnx(file)(truth, hole, 0).pixels
    assert np.abs(filled[5:11, 5:11].astype(int) - 128).max() <= 2
    assert (filled[0] == 128).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_that_are_no_networks(tmp_path: Path) -> None:
    file = tmp_path / "net.bin"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelFileError, match="no TorchScript"):
        torchscript(file)
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelFileError, match="no ONNX file"):
        onnx(file)


def test_methods_are_chosen_by_word(model: Path) -> None:
    methods, _ = choose_methods(["mean", "pixmend"], Asked(models=[model], calls=[1, 2], samplers=["ddim", "unipc"]))
    assert [m.name for m in methods[:2]] == ["mean colour", "tiny, ddim, 4 steps"]
    assert len({m.folder for m in methods}) == len(methods) == 7
    with pytest.raises(OptionError, match="method 'magic' is not known"):
        choose_methods(["magic"])
    assert {"telea", "repaint-10", "pixmend"} < set(WORDS)


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
    make_fills([method], cases, tmp_path, 1)
    assert counting.count == 6 + 2


def test_a_method_that_fails_is_left_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        return picture[:2]

    result = evaluate(
        folder, tmp_path / "r", methods=[MEAN, Method("short", fails)], families=["centre"], size=SIZE, part="all"
    )
    assert {figure.method for figure in result.figures} == {"mean colour"}
    assert "short is left out: it gave uint8 of shape (2, 16, 3)" in capsys.readouterr().err
    assert any("1 of the methods failed" in note for note in result.notes)


# ------------------------------------------------------------------------------------------------------ figures


def shift(amount: int) -> Callable[[Pixels, Hole, int], Pixels]:
    """Mean colour, brighter, that changes known pixels too."""

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        filled: Pixels = np.clip(mean_colour(picture, hole, seed).astype(int) + amount, 0, 255).astype(np.uint8)
        return filled

    return fill


def test_known_pixels_are_measured_and_put_back(folder: Path, tmp_path: Path) -> None:
    methods = [MEAN, Method("shifted", shift(9))]
    result = evaluate(folder, tmp_path / "r", methods=methods, families=["alternate-rows"], size=SIZE, part="all")
    value = {(f.method, f.metric): f.value for f in result.figures if f.group == "alternate-rows"}
    assert value["mean colour", "known_difference"] == 0
    assert value["shifted", "known_difference"] == 9
    assert (value["shifted", "seam"] or 0) == pytest.approx(
        value["mean colour", "seam"], rel=0.2
    )  # not of both shifted


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
    assert "http" not in page.replace("http-equiv", "")
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

    monkeypatch.setattr("pixmend.evaluation.runner._make", stopped)
    options = ["--part", "all", "--methods", "mean", "--families", "centre", "--size", "16"]
    assert main(["evaluate", str(folder), "-o", str(tmp_path / "r"), *options]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_limits_hold(folder: Path, tmp_path: Path) -> None:
    counting = Counting()
    slow = Method("slow", counting, random=True, limits=Limits(("centre",), pictures=2, fills=1))
    evaluate(folder, tmp_path / "r", methods=[slow], families=["centre", "thin"], fills=3, size=SIZE, part="all")
    assert counting.count == 2
