"""`pixmend evaluate` and bad input: odd names, links to nowhere, methods of others that fail in ways of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import Run, fails
from evaluations import MEAN, SIZE, picture, six_pictures
from pixmend.components import Hole
from pixmend.errors import DataError, ModelFileError, OptionError
from pixmend.evaluation import protocol
from pixmend.evaluation.evaluate import evaluate
from pixmend.evaluation.foreign import onnx, outside_command
from pixmend.evaluation.measuring import Settings
from pixmend.evaluation.memorisation import TrainingPatches
from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import Pixels
from pixmend.images import open_picture, save_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return six_pictures(tmp_path / "photographs")


def of_centre(folder: Path, output: Path, *methods: Method, **options: object) -> set[str]:
    result = evaluate(folder, output, methods=methods, families=["centre"], size=SIZE, part="all", **options)  # type: ignore[arg-type]
    return {figure.method for figure in result.figures}


@pytest.mark.skipif(sys.platform != "linux", reason="names there are no mere bytes")
def test_names_that_are_no_text_and_links_to_nowhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_picture(open_picture(picture(9)), folder / os.fsdecode(b"not \xff utf-8.png"))
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert of_centre(folder, tmp_path / "r", MEAN) == {"mean colour"}
    assert "1 left out" in capsys.readouterr().err
    assert rb"not \udcff utf-8.png" in (tmp_path / "r" / "cases.csv").read_bytes()


def test_training_pictures_of_one_pixel_and_links_to_nowhere_are_passed_over(folder: Path, tmp_path: Path) -> None:
    save_picture(open_picture(np.zeros((1, 40, 3), np.uint8)), folder / "thin.png")
    save_picture(open_picture(np.zeros((40, 1, 3), np.uint8)), folder / "narrow.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert len(TrainingPatches(folder, SIZE).pictures) == 6


def test_a_training_folder_without_pictures_is_told_before_anything_is_filled(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture that can be read"):
        of_centre(folder, tmp_path / "r", MEAN, training=tmp_path / "empty")
    assert not [*(tmp_path / "r").rglob("*.npz")]


def test_more_training_pictures_are_measured_anew(folder: Path) -> None:
    before = Settings(training=TrainingPatches(folder, SIZE)).identity
    assert Settings(training=TrainingPatches(folder, SIZE)).identity == before
    save_picture(open_picture(picture(9)), folder / "one-more.png")
    assert Settings(training=TrainingPatches(folder, SIZE)).identity != before


def test_no_method_left_and_no_family(folder: Path, tmp_path: Path) -> None:
    def shorter(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        return picture[:2]

    with pytest.raises(OptionError, match="all methods failed"):
        of_centre(folder, tmp_path / "r", Method("shorter", shorter))
    with pytest.raises(OptionError, match="no family of holes"):
        evaluate(folder, tmp_path / "r", methods=[MEAN], families=[], size=SIZE, part="all")


def test_what_a_command_says_need_not_be_text(tmp_path: Path) -> None:
    tool = tmp_path / "tool.py"
    tool.write_text(
        "import shutil, sys\n"
        "sys.stdout.buffer.write(bytes([255, 254]))\n"
        "shutil.copy(sys.argv[1], sys.argv[2])\n"
        "sys.exit(int(sys.argv[3]))\n"
    )
    truth, hole = picture(0), protocol.draw_hole("centre", 0, (SIZE, SIZE))
    command = f"{sys.executable} {tool} {{image}} {{output}} {{mask}}"
    copied = outside_command(command.replace("{mask}", "0 {mask}"))(truth, hole, 0)
    assert np.array_equal(copied.pixels[~hole], truth[~hole])
    with pytest.raises(OptionError, match="left with 3"):
        outside_command(command.replace("{mask}", "3 {mask}"))(truth, hole, 0)


def test_a_command_with_a_quote_that_is_not_closed(run: Run, folder: Path, tmp_path: Path) -> None:
    command = 'tool "{image} {mask} {output}'
    fails(run("evaluate", folder, "-o", tmp_path / "r", "--command", command), 2, "check its quotes")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("shape", [[3], [1, 3], [1, 3, 8, 8, 8]], ids=str)
def test_an_onnx_file_of_other_things(tmp_path: Path, shape: list[int]) -> None:
    package = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, float32 = package.helper, package.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", float32, shape)],
        [helper.make_tensor_value_info("y", float32, shape)],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    package.save(content, str(tmp_path / "net.onnx"))
    with pytest.raises(ModelFileError, match="does not take a picture"):
        onnx(tmp_path / "net.onnx")
