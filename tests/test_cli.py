"""The command line: what it writes and says."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from PIL import Image

from command_line import SIZE, Run, contents, fails, inpaint, picture_and_mask, samples
from pixmend import cli, demo, inpainting_cli, mask_cli
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.console import header_lines
from pixmend.errors import MemoryLimitError, OptionError, OutputError, OutputExistsError, PictureError
from pixmend.masks import create_advanced_mask
from pixmend.samplers import SAMPLERS
from pixmend.training import TrainConfig
from pixmend.unet import UNetConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture, a mask for it, and no more."""
    return picture_and_mask(tmp_path)


# ---------------------------------------------------------------------------------------------------------- the help


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ([], ["inpaint", "train", "mask", "info", "demo"]),
        (["inpaint"], ["IMAGE", "-o", "--mask", "--model", "--steps", "--sampler", "--seed", "--candidates"]),
        (["inpaint"], ["--blur", "--grow-mask", "--invert-mask", "--soft-mask", "--overwrite", "--device", "--json"]),
        (["train"], ["FOLDER", "-o", "--size", "--batch", "--kimg", "--lr", "--seed", "--overwrite"]),
        (["train"], ["--init", "--mean", "--resume", "--workers", "--device", "--accumulate"]),
        (["mask"], ["KIND", "SIZE", "-o", "--seed", "--list", "--overwrite"]),
        (["info"], ["MODEL", "--json"]),
        (["demo"], ["-o", "--seed", "--overwrite"]),
    ],
)
def test_help_names_every_option(run: Run, command: list[str], options: list[str]) -> None:
    done = run(*command, "--help")
    assert (done.code, done.err) == (0, "")
    assert [option for option in options if option not in done.out] == []


def test_no_command_is_help(run: Run) -> None:
    assert run().out == run("--help").out


def test_help_states_the_defaults_of_training() -> None:
    hints = get_type_hints(cli.train, include_extras=True)
    stated = {name: float(hints[name].__metadata__[0].show_default) for name in ("size", "batch", "kimg", "lr")}
    config = TrainConfig()
    assert stated == {"size": Model.size, "batch": config.batch_size, "kimg": config.total_kimg, "lr": config.lr}


# ----------------------------------------------------------------------------------------------------- repairing


def test_inpaint_fills_the_hole_and_nothing_else(run: Run, folder: Path, tiny_model: Path) -> None:
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--blur", 0))
    assert (done.code, done.err) == (0, "")
    before, after = samples(folder / "picture.png"), samples(folder / "out.png")
    known = samples(folder / "mask.png") == 0
    np.testing.assert_array_equal(after[known], before[known])
    assert (after[~known] != before[~known]).any()
    assert "7.1% of the picture was filled\n" in done.out  # 10 x 16 of 40 x 56 pixels
    assert str(folder / "out.png") in done.out


def test_inpaint_as_json(run: Run, folder: Path, tiny_model: Path) -> None:
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--blur", 1, "--json"))
    result = json.loads(done.out)
    assert result["outputs"] == [str(folder / "out.png")]
    assert result["hole_share"] == pytest.approx(160 / 2240)
    assert result["touched_share"] == pytest.approx(14 * 20 / 2240)  # two pixels more on every side
    assert result["network_calls"] >= 2
    assert result["seconds"] > 0
    assert result["backend"].startswith(("torch ", "OpenVINO "))


def test_a_sampler_by_name(run: Run, folder: Path, tiny_model: Path) -> None:
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--sampler", "repaint", "--steps", 12, "--json"))
    assert done.code == 0
    assert json.loads(done.out)["network_calls"] >= 12 + 9 * 10, "twelve levels, and nine jumps over ten"
    assert all(f" {name}" in f" {inpainting_cli.SAMPLER_HELP}" for name in SAMPLERS)
    done = run(*inpaint(folder, tiny_model, "-o", folder / "other.png", "--sampler", "magic"))
    assert (done.code, (folder / "other.png").exists()) == (OptionError.exit_code, False)
    assert "unipc" in done.err


def test_candidates_that_cannot_differ_are_told_of(run: Run, folder: Path, tiny_model: Path) -> None:
    model = load_model(tiny_model)
    model.mean = Model.new_mean(UNetConfig(channels=(16,), attention=(False,)), size=model.size)
    both = save_model(folder / "both.safetensors", model)
    line = np.zeros((40, 56), np.uint8)
    line[20, 5:50] = 255
    Image.fromarray(line).save(folder / "line.png")
    command = inpaint(folder, both, "-o", folder / "out.png", "--mask", folder / "line.png", "--candidates", 2)
    assert "the fills are alike" in run(*command).err
    assert "the fills are alike" not in run(*command, "--overwrite", "--steps", 2).err
    assert "the fills are alike" not in run(*inpaint(folder, both, "-o", folder / "wide.png", "--candidates", 2)).err


def test_same_seed_same_file(run: Run, folder: Path, tiny_model: Path) -> None:
    for name, seed in (("a.png", 5), ("b.png", 5), ("c.png", 6)):
        assert run(*inpaint(folder, tiny_model, "-o", folder / name, "--seed", seed)).code == 0
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()
    assert (folder / "a.png").read_bytes() != (folder / "c.png").read_bytes()


def test_inverted_mask_is_the_mask_turned_round(run: Run, folder: Path, tiny_model: Path) -> None:
    assert run(*inpaint(folder, tiny_model, "-o", folder / "a.png")).code == 0
    Image.fromarray(255 - samples(folder / "mask.png")).save(folder / "mask.png")
    assert run(*inpaint(folder, tiny_model, "-o", folder / "b.png", "--invert-mask")).code == 0
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


def test_candidates_are_numbered_and_differ(run: Run, folder: Path, tiny_model: Path) -> None:
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--candidates", 3, "--json"))
    assert [Path(name).name for name in json.loads(done.out)["outputs"]] == ["out-1.png", "out-2.png", "out-3.png"]
    assert len({(folder / f"out-{i}.png").read_bytes() for i in (1, 2, 3)}) == 3
    assert not (folder / "out.png").exists()
    (folder / "results").mkdir()
    fails(run(*inpaint(folder, tiny_model, "-o", folder / "results", "--candidates", 2)), 8, "name a file in it")


def test_steps_of_an_earlier_fill_do_not_stay(run: Run, folder: Path, tiny_model: Path) -> None:
    kept = ("-o", folder / "out.png", "--save-steps", folder / "steps", "--overwrite")
    (folder / "steps").mkdir()
    (folder / "steps" / "mine.png").write_bytes(b"mine")
    assert run(*inpaint(folder, tiny_model, *kept, "--steps", 5)).code == 0
    many = set(contents(folder / "steps"))
    assert run(*inpaint(folder, tiny_model, *kept, "--steps", 1)).code == 0
    few = set(contents(folder / "steps"))
    assert {"mine.png", "steps.gif", "step-000.png"} < few < many
    assert len(many - few) == 4


def test_steps_of_floats_are_saved_with_8_bits(run: Run, folder: Path, tiny_model: Path) -> None:
    """PNG holds no others."""
    Image.fromarray(np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)).save(folder / "floats.tif")
    more = (
        "--mask",
        folder / "mask.png",
        "--model",
        tiny_model,
        "-o",
        folder / "out.tif",
        "--save-steps",
        folder / "steps",
    )
    done = run("inpaint", folder / "floats.tif", *more)
    assert done.code == 0, done.err
    assert samples(folder / "steps" / "step-000.png").shape[:2] == SIZE
    assert (folder / "steps" / "steps.gif").exists()


@pytest.mark.parametrize(("candidates", "ends"), [(1, [""]), (2, ["-1", "-2"])])
def test_steps_are_saved(run: Run, folder: Path, tiny_model: Path, candidates: int, ends: list[str]) -> None:
    steps = folder / "steps"
    more = ("-o", folder / "out.png", "--save-steps", steps, "--candidates", candidates, "--json")
    done = run(*inpaint(folder, tiny_model, *more))
    assert (done.code, done.err) == (0, "")
    count = len(list(steps.glob(f"step-*{ends[0]}.png")))
    assert count >= 2
    for end in ends:
        assert [(steps / f"step-{i:03d}{end}.png").exists() for i in range(count + 1)] == [True] * count + [False]
        with Image.open(steps / f"steps{end}.gif") as film:
            assert (getattr(film, "n_frames", 1), film.size) == (count, (SIZE[1], SIZE[0]))
        np.testing.assert_array_equal(
            samples(steps / f"step-{count - 1:03d}{end}.png"), samples(folder / f"out{end}.png")
        )


def test_extend_and_explain(run: Run, folder: Path, tiny_model: Path) -> None:
    amounts = ("--left", "25%", "--top", 7, "--explain", folder / "why.png", "--model", tiny_model)
    done = run("extend", folder / "picture.png", "-o", folder / "out.png", *amounts, "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["width"], told["height"]) == (SIZE[1] + 14, SIZE[0] + 7)
    np.testing.assert_array_equal(samples(folder / "out.png")[7:, 14:], samples(folder / "picture.png"))
    assert json.loads((folder / "why.json").read_text())["network_calls"] == told["network_calls"]
    before = contents(folder)
    again = run("extend", folder / "picture.png", "-o", folder / "other.png", *amounts)
    assert (again.code, contents(folder)) == (OutputExistsError.exit_code, before)
    done = run("extend", folder / "picture.png", "-o", folder / "other.png", "--left", "wide", "--model", tiny_model)
    assert (done.code, done.err.count("\n")) == (OptionError.exit_code, 1)
    assert "wide" in done.err
    more = ("--candidates", 2, "--sampler", "ddim", "--right", 9, "--model", tiny_model)
    assert run("extend", folder / "picture.png", "-o", folder / "two.png", *more).code == 0
    one, two = (samples(folder / f"two-{i}.png") for i in (1, 2))
    assert (one[:, : SIZE[1]] == two[:, : SIZE[1]]).all()
    assert (one != two).any()


def test_extend_takes_one_page(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    pages = [Image.fromarray(np.full((8, 10), level, np.uint8)) for level in (40, 90)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    given = ("extend", tmp_path / "two.tif", "-o", tmp_path / "out.png", "--left", 3, "--model", tiny_model)
    fails(run(*given), PictureError.exit_code, "--frame 1 to 2")
    assert run(*given, "--frame", 2).code == 0
    assert (samples(tmp_path / "out.png")[:, 3:] == 90).all()


def test_extend_asks_first_whether_the_larger_picture_can_be_saved(run: Run, folder: Path, tiny_model: Path) -> None:
    given = ("extend", folder / "picture.png", "-o", folder / "out.webp", "--left", 16_383 - SIZE[1] + 1)
    fails(run(*given, "--model", tiny_model), OutputError.exit_code, "16383 pixels a side")
    assert not (folder / "out.webp").exists()


def test_no_two_things_are_written_to_one_file(run: Run, folder: Path, tiny_model: Path) -> None:
    out = folder / "out.png"
    before = contents(folder)
    for more in (("--explain", out), ("--preview", out), ("--candidates", 2, "--explain", folder / "out-2.png")):
        done = run(*inpaint(folder, tiny_model, "-o", out, "--overwrite", *more))
        assert (done.code, contents(folder)) == (OptionError.exit_code, before)
        assert "would be written twice" in done.err
    done = run("extend", folder / "picture.png", "-o", out, "--left", 9, "--explain", out, "--model", tiny_model)
    assert (done.code, contents(folder)) == (OptionError.exit_code, before)


def test_inpaint_takes_a_budget_a_quality_and_explains(run: Run, folder: Path, tiny_model: Path) -> None:
    more = ("-o", folder / "out.png", "--quality", "fast", "--max-memory", "50%", "--explain", folder / "why.JSON")
    done = run(*inpaint(folder, tiny_model, *more))
    assert (done.code, done.err) == (0, "")
    assert json.loads((folder / "why.JSON").read_text())["picture"] == {"height": SIZE[0], "width": SIZE[1]}
    done = run(*inpaint(folder, tiny_model, "-o", folder / "other.png", "--max-memory", "1kB"))
    assert (done.code, done.err.count("\n")) == (MemoryLimitError.exit_code, 1)
    done = run(*inpaint(folder, tiny_model, "-o", folder / "other.png", "--explain", folder / "why.txt"))
    assert (done.code, (folder / "other.png").exists()) == (OptionError.exit_code, False)


def test_alpha_is_the_mask_without_a_mask(run: Run, folder: Path, tiny_model: Path) -> None:
    alpha = 255 - samples(folder / "mask.png")
    picture = np.dstack([samples(folder / "picture.png"), alpha])
    Image.fromarray(picture).save(folder / "clear.png")
    done = run("inpaint", folder / "clear.png", "--model", tiny_model, "-o", folder / "out.png")
    assert (done.code, done.err) == (0, "")
    mended = samples(folder / "out.png")
    assert (mended[..., 3] == 255).all()
    np.testing.assert_array_equal(mended[alpha == 255], picture[alpha == 255])


def test_almost_everything_filled_is_a_warning(run: Run, folder: Path, tiny_model: Path) -> None:
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--invert-mask", "--json"))
    assert done.code == 0
    assert done.err.startswith("pixmend: warning: 92.9% of the picture")
    assert "--invert-mask" in done.err
    assert len(done.err.splitlines()) == 1


def test_grey_mask_is_a_note(run: Run, folder: Path, tiny_model: Path) -> None:
    hole = samples(folder / "mask.png").copy()
    hole[30:34] = 100
    Image.fromarray(hole).save(folder / "mask.png")
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--blur", 0))
    assert done.err.startswith("pixmend: note: 10.0% of the mask is grey")
    assert "7.1% of the picture was filled\n" in done.out
    edged = run(*inpaint(folder, tiny_model, "-o", folder / "edged.png", "--blur", 1))
    assert re.search(r"7\.1% of the picture was filled, \d+\.\d% with the soft edge\n", edged.out)
    soft = run(*inpaint(folder, tiny_model, "-o", folder / "soft.png", "--soft-mask"))
    assert soft.err == ""
    assert "17.1% of the picture was filled\n" in soft.out


def test_overwrite_replaces(run: Run, folder: Path, tiny_model: Path) -> None:
    (folder / "out.png").write_bytes(b"old")
    assert run(*inpaint(folder, tiny_model, "-o", folder / "out.png", "--overwrite")).code == 0
    assert samples(folder / "out.png").shape == (*SIZE, 3)


def test_demo_shows_before_damaged_and_after(
    run: Run, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmend.model_files.DEFAULT_MODEL", tiny_model)
    done = run("demo", "-o", tmp_path / "mended.png")
    assert (done.code, done.err) == (0, "")
    assert "mended.png" in done.out
    original = samples(demo.ASSETS / demo.EXAMPLE.photograph)
    width = original.shape[1]
    beside = samples(tmp_path / "mended-side-by-side.png")
    before, damaged, after = (beside[:, i * (width + demo.GAP) :][:, :width] for i in range(3))
    np.testing.assert_array_equal(before, original)
    np.testing.assert_array_equal(after, samples(tmp_path / "mended.png"))
    hole = create_advanced_mask(demo.EXAMPLE.kind, original.shape[:2], seed=demo.EXAMPLE.seed)[0, 0].numpy() > 0
    assert (damaged[hole] == 255).all()
    np.testing.assert_array_equal(damaged[~hole], original[~hole])
    fails(run("demo", "-o", tmp_path / "mended.png"), 7, "--overwrite")


# ------------------------------------------------------------------------------------------------ masks and model files


def test_mask_is_written_white_on_black(run: Run, tmp_path: Path) -> None:
    done = run("mask", "centre", "8x4", "-o", tmp_path / "mask.png")
    assert (done.code, done.err) == (0, "")
    expected = np.zeros((4, 8), bool)
    expected[1:3, 2:6] = True
    np.testing.assert_array_equal(samples(tmp_path / "mask.png").astype(bool), expected)
    assert "25.0%" in done.out


def test_mask_by_seed(run: Run, tmp_path: Path) -> None:
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert run("mask", "thick", 64, "-o", tmp_path / name, "--seed", seed).code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    fails(run("mask", "thick", 64, "-o", tmp_path / "a.png"), 7, "--overwrite")


def test_mask_kinds_are_listed(run: Run) -> None:
    done = run("mask", "--list")
    assert done.code == 0
    names = [line.split()[0] for line in done.out.splitlines()]
    assert {"rectangles", "centre", "irregular", "stripes", "thin", "medium", "thick", "mixed"} <= set(names)


def test_info_prints_the_header(run: Run, tiny_model: Path) -> None:
    header = json.loads(run("info", tiny_model, "--json").out)
    assert header["size"] == 16
    lines = run("info", tiny_model).out.splitlines()
    assert "size: 16" in lines
    assert "diffusion.schedule: cosine" in lines
    assert "architecture.channels: [16]" in lines


def test_info_of_the_denoiser_that_ships(run: Run, tiny_model: Path) -> None:
    assert json.loads(run("info", "--denoiser", "--json").out)["network"] == "scaled"
    fails(run("info", "--denoiser", tiny_model), OptionError.exit_code, "give one of the two")


def test_lines_of_a_header() -> None:
    header = {"a": 1, "b": {"c": "text", "d": [1, 2]}, "legs": [{"kimg": 2.5}, {"kimg": 3.0}], "none": None}
    assert list(header_lines(header)) == [
        "a: 1",
        "b.c: text",
        "b.d: [1, 2]",
        "legs[1].kimg: 2.5",
        "legs[2].kimg: 3.0",
        "none: null",
    ]


def test_parse_size() -> None:
    assert mask_cli.parse_size("256") == (256, 256)
    assert mask_cli.parse_size("640x480") == (480, 640)
    for text in ("", "x", "640x", "x480", "6.4", "-5", "1x2x3"):
        with pytest.raises(OptionError, match="640x480"):
            mask_cli.parse_size(text)


# ---------------------------------------------------------------------------------------------------------- training


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photographs"
    (folder / "below").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for i in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8))
        coarse.resize((40, 32), Image.Resampling.BICUBIC).save(folder / "below" / f"{i}.png")
    return folder


def training(photographs: Path, model: Path, output: Path, *more: object) -> list[object]:
    options = ("--init", model, "--batch", 2, "--kimg", 0.006, "--workers", 0, "--device", "cpu")
    return ["train", photographs, "-o", output, *options, *more]


def test_train_then_repair(run: Run, folder: Path, photographs: Path, tiny_model: Path) -> None:
    output = folder / "mine.safetensors"
    (photographs / "broken.jpg").write_bytes(b"not a picture")
    Image.new("RGB", (3, 3)).save(photographs / "tiny.png")
    done = run(*training(photographs, tiny_model, output))
    assert done.code == 0, done
    notes = [line for line in done.err.splitlines() if line.startswith("pixmend: note: left out: ")]
    assert sorted(Path(line.split()[4].rstrip(":")).name for line in notes) == ["broken.jpg", "tiny.png"]
    assert str(output) in done.out
    header = json.loads(run("info", output, "--json").out)
    assert header["legs"][-1]["kimg"] == pytest.approx(0.006)
    assert run(*inpaint(folder, output, "-o", folder / "out.png")).code == 0


def test_train_for_narrow_holes_then_repair_pictures_in_a_folder(
    run: Run, folder: Path, photographs: Path, tiny_model: Path
) -> None:
    output = folder / "both.safetensors"
    assert run(*training(photographs, tiny_model, output, "--mean")).code == 0
    header = json.loads(run("info", output, "--json").out)
    assert header["legs"] == json.loads(run("info", tiny_model, "--json").out)["legs"]
    assert (header["mean"]["diffusion"]["T"], len(header["mean"]["legs"])) == (1, 1)
    line = np.zeros((32, 40), np.uint8)
    line[20, 5:35] = 255
    Image.fromarray(line).save(folder / "line.png")
    mended = run("inpaint", photographs, "--mask", folder / "line.png", "--model", output, "-o", folder / "mended")
    assert mended.code == 0, mended
    after, before = samples(folder / "mended" / "below" / "0.png"), samples(photographs / "below" / "0.png")
    assert (after[line == 0] == before[line == 0]).all()
    assert (after[line > 0] != before[line > 0]).any()


def test_ctrl_c_saves_and_resume_goes_on(
    run: Run, folder: Path, photographs: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = folder / "straight.safetensors", folder / "broken.safetensors"
    assert run(*training(photographs, tiny_model, straight)).code == 0
    line = cli._training_line

    def interrupt(report: Any) -> str:
        if report.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return line(report)

    monkeypatch.setattr(cli, "_training_line", interrupt)
    done = run(*training(photographs, tiny_model, broken))
    assert done.code == 130
    assert "of 3; the same command with --resume goes on" in done.out
    assert done.err.splitlines()[-1] == "pixmend: error: stopped"
    monkeypatch.setattr(cli, "_training_line", line)
    assert run(*training(photographs, tiny_model, broken, "--resume")).code == 0
    state = folder / "straight.run" / "state.safetensors"
    for command in (["info", state], training(photographs, state, folder / "new.safetensors")):
        fails(
            run(*command), 6, "is the state of a training", f"give the model that it saved, {straight}, or", "--resume"
        )
    fails(
        run(*training(photographs, tiny_model, straight, "--resume", "--kimg", 7, "--batch", 3)),
        10,
        "begun: --batch was 2 and is now 3; --kimg was 0.006 and is now 7.0",
    )
    weights = [path.read_bytes()[8 + int.from_bytes(path.read_bytes()[:8], "little") :] for path in (straight, broken)]
    assert weights[0] == weights[1]


def test_bad_training(run: Run, folder: Path, photographs: Path, tiny_model: Path) -> None:
    output = folder / "mine.safetensors"
    (folder / "nothing").mkdir()
    before = contents(folder)
    fails(run("train", folder / "gone", "-o", output), 3, "gone")
    fails(run("train", folder / "picture.png", "-o", output), 3, "picture.png")
    fails(run(*training(folder / "nothing", tiny_model, output)), 9, "nothing")
    fails(run(*training(photographs, folder / "picture.png", output)), 6, "picture.png")
    fails(run(*training(photographs, tiny_model, folder / "picture.png")), 7, "picture.png")
    fails(run(*training(photographs, tiny_model, output, "--resume")), 10, "--resume")
    fails(run(*training(photographs, tiny_model, output, "--lr", 0)), 2, "lr")
    fails(run("train", photographs, "-o", output, "--kimg", 0), 2, "error: --kimg = 0.0 must be above 0")
    fails(run("train", photographs, "-o", folder / "nothing"), 8, f"such as {folder / 'nothing' / 'model.safetensors'}")
    fails(run("import", photographs, "-o", folder / "nothing"), 8, "model.safetensors")
    fails(run(*training(photographs, tiny_model, output, "--accumulate", 3)), 2, "a multiple of 3")
    distilling = ("--mean", "--distill", tiny_model, "--steps", 2)
    fails(run(*training(photographs, tiny_model, output, *distilling)), 2, "learn from no teacher")
    fails(run(*training(photographs, tiny_model, folder / "mine.pt")), 2, "give mine.safetensors")
    assert not list(folder.glob("mine*"))
    assert {name: data for name, data in contents(folder).items() if name in before} == before


def test_a_fill_that_stays_transparent_is_noted(run: Run, folder: Path, tiny_model: Path) -> None:
    with Image.open(folder / "picture.png") as image, Image.open(folder / "mask.png") as mask:
        clear = image.convert("RGBA")
        clear.putalpha(mask.convert("L").point(lambda level: 0 if level > 127 else 255))
        clear.save(folder / "picture.png")
    done = run(*inpaint(folder, tiny_model, "-o", folder / "out.png"))
    assert done.code == 0
    assert "transparent, and stays so" in done.err
    half = run(
        "inpaint", folder / "picture.png", "--mask", folder / "mask.png", "--invert-mask", "-o", folder / "b.png"
    )
    assert "stays so" not in half.err


def test_a_picture_that_is_erased_in_places_becomes_a_jpeg(run: Run, folder: Path, tiny_model: Path) -> None:
    """What is transparent is filled and opaque, and a JPEG holds that; what is nearly opaque it does not."""
    alpha = 255 - samples(folder / "mask.png")
    picture = np.dstack([samples(folder / "picture.png"), alpha])
    Image.fromarray(picture).save(folder / "erased.png")
    command = ["inpaint", folder / "erased.png", "--model", tiny_model, "-o", folder / "out.jpg"]
    done = run(*command)
    assert done.code == 0, done.err
    with Image.open(folder / "out.jpg") as image:
        assert (image.mode, image.size) == ("RGB", (SIZE[1], SIZE[0]))
    picture[0, 0, 3] = 200
    Image.fromarray(picture).save(folder / "erased.png")
    fails(run(*command, "--overwrite"), OutputError.exit_code, "cannot keep the picture's alpha")
    done = run(*command[:-1], folder / "out.png")
    assert done.code == 0
    assert "less than half transparent stays" in done.err
    assert samples(folder / "out.png")[0, 0, 3] == 200
    assert "stays as it is" not in run(*command[:-1], folder / "b.png", "--invert-mask").err, "it is what is filled"


def test_a_preview_tells_the_share_of_a_soft_mask(run: Run, folder: Path) -> None:
    Image.fromarray(samples(folder / "mask.png") // 255 * np.uint8(200)).save(folder / "grey.png")
    command = ["inpaint", folder / "picture.png", "--mask", folder / "grey.png", "--soft-mask"]
    done = run(*command, "--preview", folder / "p.png")
    assert f"{(samples(folder / 'mask.png') > 0).mean():.1%} of the picture is marked" in done.err
