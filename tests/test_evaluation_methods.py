"""The methods of `pixmend evaluate`: classical fills, models of ours and of others, outside commands."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluations import MEAN, SIZE, picture, six_pictures, tiny_model_file
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.components import Hole
from pixmend.errors import ModelFileError, OptionError
from pixmend.evaluation import foreign, protocol
from pixmend.evaluation.baselines import BASELINES
from pixmend.evaluation.evaluate import evaluate
from pixmend.evaluation.foreign import onnx, outside_command, torchscript
from pixmend.evaluation.method import Method, Unavailable
from pixmend.evaluation.methods import WORDS, Asked, choose_methods
from pixmend.evaluation.models import told, untold
from pixmend.evaluation.protocol import Pixels
from pixmend.inpainting import inpainting


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return six_pictures(tmp_path / "photographs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model_file(tmp_path / "tiny.safetensors")


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
    best = told(both, quality="best")
    assert best.name == "both, unipc, 8 steps, narrow 4, best"
    assert best(truth, hole, 0).network_calls == 4
    expected = inpainting(truth, hole, model=both, quality="best").pictures[0].samples
    assert (best(truth, hole, 0).pixels == expected).all()
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
import numpy
from PIL import Image
image, mask, output = sys.argv[1:4]
samples = numpy.array(Image.open(image))
samples[numpy.asarray(Image.open(mask)) > 127] = int(sys.argv[4])
Image.fromarray(samples).save(output)
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
    before = method.folder
    tool.write_text(COPY + "# another version")
    assert outside_command(method.identity[: -2 * 64]).folder != before, "the program's content is part of what it is"


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_backslashes_of_windows_stay(quote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    tool = r"C:\tools\a lama.exe" if quote else r"C:\tools\lama.exe"
    method = outside_command(f"{quote}{tool}{quote} {{image}} {{mask}} {{output}}")
    monkeypatch.undo()
    assert method.name == f"command {tool}"  # here all of it is a name


def test_a_picture_is_on_the_same_side_however_its_name_is_composed() -> None:
    names = [f"{i} \xe9t\xe9.jpg" for i in range(50)]
    parts = [protocol.part_of(name) for name in names]
    assert {*parts} == {"choice", "report"}
    assert [protocol.part_of(unicodedata.normalize("NFD", name)) for name in names] == parts


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


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MOST_SECONDS", 0.2)
    sleeping = outside_command(f'{sys.executable} -c "import time; time.sleep(600)" {{image}} {{mask}} {{output}}')
    with pytest.raises(OptionError, match=r"was not done with a picture in 0\.2 seconds"):
        sleeping(picture(0), protocol.draw_hole("thick", 0, (SIZE, SIZE)), 0)


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
    assert np.abs(filled.astype(int) - 128).max() <= 2


@pytest.mark.parametrize("family", ["centre", "alternate-rows", "scattered-80"])
def test_a_network_of_one_size_is_shown_what_is_known_and_nothing_of_the_hole(family: str) -> None:
    mask = torch.from_numpy(protocol.draw_hole(family, 0, (16, 16)))[None, None].float()
    for inside in (0.0, 1.0):
        x = torch.where(mask > 0, inside, 0.75).expand(1, 3, 16, 16)
        shown, grown = foreign._fitted(x, mask, (128, 128))
        assert set(grown.flatten().tolist()) == {0, 1}
        torch.testing.assert_close(shown, (0.75 * (1 - grown)).expand_as(shown), rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("wrong", "told"), [("flat", r"it gave \(3, 16, 16\) for"), ("nothing", "not finite")])
def test_answers_that_are_no_pictures_are_told(wrong: str, told: str, tmp_path: Path) -> None:
    class Wrong(nn.Module):
        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            return image[0] + mask[0] if wrong == "flat" else (image + mask) * float("nan")

    file = tmp_path / "net.pt"
    example = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    torch.jit.save(torch.jit.trace(Wrong(), example, check_trace=False), str(file))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelFileError, match=told):
        torchscript(file)(picture(0), protocol.draw_hole("centre", 0, (SIZE, SIZE)), 0)


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
    methods, _ = choose_methods(["pixmend"], Asked(models=[model], calls=[1], qualities=["fast", "best"]))
    assert [m.name for m in methods] == [
        "tiny, unipc, 4 steps",
        "tiny, unipc, 1 step",
        "tiny, unipc, 3 steps, fast",
        "tiny, unipc, 8 steps, best",
    ]
    with pytest.raises(OptionError, match="quality 'finest' is not known"):
        choose_methods(["pixmend"], Asked(models=[model], qualities=["finest"]))
    with pytest.raises(OptionError, match="method 'magic' is not known"):
        choose_methods(["magic"])
    assert {"telea", "repaint-10", "pixmend"} < set(WORDS)


def test_two_models_of_one_name_are_two_curves_and_keep_their_fills(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = load_model(model)
    with torch.no_grad():
        other.network.first.weight.add_(1)
    second = save_model(tmp_path / "other" / model.name, other)
    (alone,), _ = choose_methods(["pixmend"], Asked(models=[model]))
    (one, two), _ = choose_methods(["pixmend"], Asked(models=[model, second]))
    assert one.name != two.name
    assert one.series != two.series
    assert one.folder == alone.folder != two.folder
