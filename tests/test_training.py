"""Training: resumed equals undisturbed bit for bit, bad steps are dropped, the loss is what it says."""

from __future__ import annotations

import csv
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pixmend import files, loop, platforms
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.conditioning import roughened, smooth_fill
from pixmend.data import InpaintingDataset
from pixmend.diffusion import Diffusion
from pixmend.errors import (
    FileMissingError,
    MemoryLimitError,
    ModelFileError,
    OptionError,
    OutputError,
    OutputExistsError,
    TrainingError,
)
from pixmend.loop import Report, TrainConfig
from pixmend.processes import ALONE
from pixmend.run_folder import RunFolder, TrainingState
from pixmend.runtime import training_memory_as_one_line
from pixmend.training import FLAT, TYPICAL, InpaintingTask, balance_of, guide_for, train_model
from pixmend.unet import UNetConfig
from small_model import SHORT, SMALL, draw_photos, interrupt_after


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> InpaintingDataset:
    return InpaintingDataset(photos, 16, holdout=SHORT.holdout, cache=photos / ".cache")


def train(data: InpaintingDataset, output: Path, config: TrainConfig = SHORT, **options: object) -> Model:
    options = {"model": Model.new(SMALL, size=16, seed=1), "device": "cpu", **options}
    return train_model(data, output, config, **options)  # type: ignore[arg-type]


def state_of(output: Path) -> dict[str, Tensor]:
    return load_file(output.with_suffix(".run") / "state.safetensors")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*worker processes:UserWarning")
@pytest.mark.parametrize(("bf16", "workers"), [(False, 0), (True, 0), (False, 2)])
def test_resumed_equals_undisturbed_bit_for_bit(
    data: InpaintingDataset, tmp_path: Path, bf16: bool, workers: int
) -> None:
    config = TrainConfig(**{**vars(SHORT), "bf16": bf16})
    train(data, tmp_path / "whole.safetensors", config)
    stopped, again = tmp_path / "stopped.safetensors", TrainConfig(**{**vars(config), "workers": workers})
    for steps in (3, 11):
        train(data, stopped, again, progress=interrupt_after(steps), resume=steps > 3)
        assert load_model(stopped).legs[-1]["kimg"] == steps * 4 / 1000
    train(data, stopped, again, resume=True)
    whole, resumed = state_of(tmp_path / "whole.safetensors"), state_of(stopped)
    assert whole.keys() == resumed.keys()
    assert any(name.startswith("adam.exp_avg_sq.") for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (tmp_path / "whole.run" / "log.csv").read_text().count("\n") == 21
    logs = [
        [(row["kimg"], row["lr"], row["held_out_loss"]) for row in csv.DictReader(file.read_text().splitlines())]
        for file in (tmp_path / "whole.run" / "log.csv", tmp_path / "stopped.run" / "log.csv")
    ]
    assert logs[0] == logs[1]


def test_training_learns(data: InpaintingDataset, tmp_path: Path) -> None:
    losses: list[float] = []
    config = TrainConfig(**{**vars(SHORT), "total_kimg": 1.2, "measure_kimg": 0.4, "lr": 3e-3})

    def note(report: Report) -> None:
        if report.held_out is not None:
            losses.append(report.held_out)

    model = train(data, tmp_path / "m.safetensors", config, progress=note)
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]
    assert model.legs[-1]["held_out_loss"] == pytest.approx(losses[-1], abs=1e-5)
    assert len(list((tmp_path / "m.run").glob("sample-*.png"))) == 3


def test_the_log_is_drawn(data: InpaintingDataset, tmp_path: Path) -> None:
    train(data, tmp_path / "m.safetensors")
    figure = ElementTree.parse(tmp_path / "m.run" / "log.svg")
    texts = [element.text for element in figure.iter("{http://www.w3.org/2000/svg}text")]
    assert {"loss", "held out loss", "mean squared error", "thousands of samples"} <= set(texts)
    assert len(list(figure.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


def test_legs_add_up(data: InpaintingDataset, tmp_path: Path) -> None:
    first = train(data, tmp_path / "one.safetensors")
    second = train(data, tmp_path / "two.safetensors", model=None, init=tmp_path / "one.safetensors")
    assert [leg["kimg"] for leg in second.legs] == [0.08, 0.08]
    assert second.network.config == first.network.config == SMALL


def test_the_loss_is_of_the_hole_alone(data: InpaintingDataset) -> None:
    """Squared error summed over the holes' values and divided by their number, on an example counted by hand."""
    task = InpaintingTask(Model.new(SMALL, diffusion=Diffusion(prediction="x0")), data, SHORT, Path("unused"))

    class Zero(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.zeros(len(x), 3, 16, 16)

    batch = {name: torch.stack([data[k][name] for k in range(2)]) for name in data[0]}
    batch["x0"] = torch.full_like(batch["x0"], 255)  # 1 in [-1, 1]
    batch["x0"][1] = 0
    batch["x0"][1, 0, 2, 3] = 153  # 0.2
    batch["hole"] = torch.zeros_like(batch["hole"])
    batch["hole"][1, 0, 2, 3:5] = 1
    # 0.2 squared, and five times 1
    assert float(task.error(Zero(), batch)) == pytest.approx(0.04 + 5, abs=1e-4)
    assert int(task.weight(batch)) == 6


def test_the_guide_holds_nothing_of_the_hole_unless_it_is_coarse(data: InpaintingDataset) -> None:
    batch = {name: torch.stack([data[k][name] for k in range(40)]) for name in data[0]}
    x0, hole = batch["x0"].float() / 127.5 - 1, batch["hole"].float()
    spoilt = torch.where(hole > 0, torch.rand_like(x0), x0)
    same = (guide_for(batch, x0, hole) == guide_for(batch, spoilt, hole)).flatten(1).all(1)
    assert torch.equal(same, batch["guide_blur"] < 0)
    assert same.any()
    assert not same.all()


def test_the_guide_is_one_of_two_fills(data: InpaintingDataset) -> None:
    batch = {name: torch.stack([data[k][name] for k in range(20)]) for name in data[0]}
    x0, hole = batch["x0"].float() / 127.5 - 1, batch["hole"].float()
    fill = smooth_fill(x0, hole)
    rough = roughened(x0, hole, batch["guide_blur"], batch["guide_grain"], batch["guide_noise"])
    coarse = batch["guide_blur"][:, None, None, None] >= 0
    assert torch.equal(guide_for(batch, x0, hole), torch.where(coarse, rough, fill))


@pytest.mark.parametrize("narrow", [True, False])
def test_guides_of_one_kind_alone_ask_for_none_of_the_other(
    data: InpaintingDataset, monkeypatch: pytest.MonkeyPatch, narrow: bool
) -> None:
    """MPS has refused to compute on tensors of no pictures."""

    def never(*_: object) -> Tensor:
        raise AssertionError("it was asked to")

    batch = {name: torch.stack([data[k][name] for k in range(8)]) for name in data[0]}
    batch["guide_blur"] = torch.full_like(batch["guide_blur"], -1 if narrow else 0.5)
    x0, hole = batch["x0"].float() / 127.5 - 1, batch["hole"].float()
    rough = roughened(x0, hole, batch["guide_blur"], batch["guide_grain"], batch["guide_noise"])
    expected = smooth_fill(x0, hole) if narrow else rough
    monkeypatch.setattr("pixmend.training." + ("roughened" if narrow else "smooth_fill"), never)
    assert torch.equal(guide_for(batch, x0, hole), expected)


def test_a_leg_tells_what_it_was_trained_on() -> None:
    assert loop._name_of(torch.device("cpu"), ALONE) == f"CPU, {torch.get_num_threads()} threads"
    assert loop._name_of(torch.device("mps"), ALONE) == "mps"


def test_balance_divides_by_the_error_of_the_guide() -> None:
    """Guides that are off by 0.1 and 0.2 everywhere in the hole, wherever else: at balance 1, four to one."""
    x0, hole = torch.zeros(3, 3, 8, 8), torch.zeros(3, 1, 8, 8)
    hole[0, :, :2], hole[1, :, 2:], hole[2, :, 1] = 1, 1, 1
    guide = torch.tensor([0.1, 0.2, 0.0])[:, None, None, None] + 5 * (1 - hole)
    squared = torch.tensor([0.01, 0.04, 0.0]) + FLAT
    for balance in (0.5, 1.0):
        expected = (squared / TYPICAL) ** -balance
        torch.testing.assert_close(balance_of(x0, guide, hole, balance).flatten(), expected)
    assert balance_of(x0, guide, hole, 0).tolist() == [[[[1.0]]]] * 3


def test_balance_is_told_in_the_leg_and_kept_by_a_resumed_training(data: InpaintingDataset, tmp_path: Path) -> None:
    model = train(data, tmp_path / "m.safetensors", balance=0.5)
    assert model.legs[-1]["balance"] == 0.5
    with pytest.raises(TrainingError, match=r"balance was 0.5 and is now 0.0"):
        train(data, tmp_path / "m.safetensors", resume=True)
    with pytest.raises(OptionError, match=r"balance = 2 must be from 0 to 1"):
        train_model(data, tmp_path / "n.safetensors", SHORT, balance=2)


# a shape whose norms are over several channels each: a bias before the norm of one channel learns only its rounding
BROAD = UNetConfig(channels=(16, 32), attention=(False, True), head_channels=16, time_channels=16, groups=4)


def test_parts_of_a_batch_give_what_the_whole_gives(data: InpaintingDataset, tmp_path: Path) -> None:
    """Though holes differ in size: what is divided by is the number of values of the batch, not of each part."""
    states = []
    for accumulate in (1, 2, 4):
        output = tmp_path / f"{accumulate}.safetensors"
        config = TrainConfig(**{**vars(SHORT), "bf16": False, "total_kimg": 0.04, "accumulate": accumulate})
        train(data, output, config, model=Model.new(BROAD, size=16, seed=1))
        states.append(state_of(output))
    start = Model.new(BROAD, size=16, seed=1).network.state_dict()
    whole = {name: states[0][f"network.{name}"] for name in start}
    assert max(float((whole[name] - start[name]).abs().max()) for name in start) > 1e-3
    for state in states[1:]:
        for name in start:
            torch.testing.assert_close(state[f"network.{name}"], whole[name], rtol=0, atol=1e-5)


def test_the_number_of_parts_may_change_on_the_way(data: InpaintingDataset, tmp_path: Path) -> None:
    train(data, tmp_path / "m.safetensors", progress=interrupt_after(2))
    again = TrainConfig(**{**vars(SHORT), "accumulate": 4})
    assert train(data, tmp_path / "m.safetensors", again, resume=True).legs[-1]["kimg"] == 0.08


def test_too_little_memory_is_an_error_of_one_line() -> None:
    for told in (torch.OutOfMemoryError("CUDA out of memory.\nTried"), RuntimeError("MPS backend out of memory (...)")):
        with pytest.raises(TrainingError, match="--accumulate"), training_memory_as_one_line():
            raise told
    with pytest.raises(RuntimeError, match="another"), training_memory_as_one_line():
        raise RuntimeError("another")


def test_learning_rate_and_average_follow_their_formulas() -> None:
    config = TrainConfig(total_kimg=10, batch_size=10, lr=1.0, warmup_kimg=1, lr_end=0.1)
    assert config.steps == 1000
    assert config.lr_at(0) == pytest.approx(0.01)
    assert config.lr_at(500) == pytest.approx(0.55)
    assert config.lr_at(1000) == pytest.approx(0.1)
    short = TrainConfig(total_kimg=0.2, batch_size=8, lr=1.0)  # 25 steps, far fewer than the warm-up of a long training
    assert max(map(short.lr_at, range(short.steps))) > 0.95
    half = TrainConfig(batch_size=10, ema_halflife_kimg=0.5, ema_ramp=0.05)
    assert half.ema_decay_at(10_000) ** 50 == pytest.approx(0.5)  # 50 steps are 500 samples
    assert half.ema_decay_at(39) ** 2 == pytest.approx(0.5)  # of 400 samples seen, a twentieth are 20: 2 steps
    assert half.ema_decay_at(0) == pytest.approx(0.5**20)  # of 10, half a sample: a twentieth of a step


def test_a_step_that_memory_does_not_hold_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitError, match=r"a step with 32 samples of 4096x4096 at once takes about .* GB"):
        train_model(tmp_path / "not even looked for", tmp_path / "model.safetensors", size=4096)
    with pytest.raises(OptionError, match="size = 5000 is too large; give at most 4096"):
        train_model(tmp_path / "not even looked for", tmp_path / "model.safetensors", size=5000)
    assert not (tmp_path / "model.safetensors").exists()


def test_the_average_is_the_formula() -> None:
    network = nn.Linear(2, 2)
    state = TrainingState(network, torch.optim.Adam(network.parameters()), {})
    before = state.ema.weight.clone()  # type: ignore[operator]
    with torch.no_grad():
        network.weight.add_(1.0)
    state.average(0.75)
    torch.testing.assert_close(state.ema.weight, before + 0.25)


class Poisoned(InpaintingDataset):
    """Noise that is not finite in some samples."""

    bad: frozenset[int] = frozenset()

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        sample = super().__getitem__(k)
        if k // SHORT.batch_size in self.bad:
            sample["noise"] = torch.full_like(sample["noise"], float("nan"))
        return sample


def poisoned(photos: Path, *bad: int) -> InpaintingDataset:
    samples = Poisoned(photos, 16, holdout=SHORT.holdout, cache=photos / ".cache")
    samples.bad = frozenset(bad)
    return samples


def test_a_bad_step_is_dropped_and_named(photos: Path, tmp_path: Path) -> None:
    train(poisoned(photos, 5, 6), tmp_path / "m.safetensors")
    notes = (tmp_path / "m.run" / "notes.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in notes] == ["step 5", "step 6"]
    assert all(value.isfinite().all() for value in state_of(tmp_path / "m.safetensors").values())


def test_many_bad_steps_end_the_training_and_keep_the_last_good_state(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    train(poisoned(photos), output, progress=interrupt_after(4))
    good = state_of(output)
    with pytest.raises(TrainingError, match="10 steps in a row up to step 16"):
        train(poisoned(photos, *range(7, 20)), output, resume=True)
    assert all(torch.equal(good[name], value) for name, value in state_of(output).items())
    assert load_model(output).legs[-1]["kimg"] == 0.016


def test_nothing_begun_is_lost(data: InpaintingDataset, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    with pytest.raises(OptionError, match=r"give m\.safetensors"):
        train(data, tmp_path / "m.run")
    with pytest.raises(TrainingError, match="no state to resume"):
        train(data, output, resume=True)
    output.write_text("something else")
    with pytest.raises(OutputExistsError):
        train(data, output)
    assert output.read_text() == "something else"
    output.unlink()
    train(data, output, progress=interrupt_after(2))
    with pytest.raises(TrainingError, match="--resume"):
        train(data, output, overwrite=True)
    with pytest.raises(TrainingError, match=r"config\.lr was 0\.001 and is now 0\.5"):
        train(data, output, TrainConfig(**{**vars(SHORT), "lr": 0.5}), resume=True)
    states = sorted(output.with_suffix(".run").glob("state*.safetensors"))
    assert len(states) == 2
    for state in states:  # with one of them whole, it goes on: tests/test_faults.py
        state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"cannot be resumed from .* begin a new training"):
        train(data, output, resume=True)


def test_bad_input_is_said_before_any_work(data: InpaintingDataset, tmp_path: Path) -> None:
    with pytest.raises(FileMissingError):
        train(data, tmp_path / "m.safetensors", model=None, init=tmp_path / "nowhere.safetensors")
    (tmp_path / "bad.safetensors").write_text("no model")
    with pytest.raises(ModelFileError):
        train(data, tmp_path / "n.safetensors", model=None, init=tmp_path / "bad.safetensors")
    with pytest.raises(OptionError, match="give one of them"):
        train(data, tmp_path / "m.safetensors", init=tmp_path / "bad.safetensors")
    with pytest.raises(OptionError, match="size = 32 does not fit samples of 16 pixels"):
        train(data, tmp_path / "m.safetensors", size=32)
    assert not list(tmp_path.glob("m.safetensors"))


def test_resuming_needs_the_same_samples_and_the_same_start(
    photos: Path, data: InpaintingDataset, tmp_path: Path
) -> None:
    output = tmp_path / "m.safetensors"
    train(data, tmp_path / "first.safetensors")
    train(data, output, model=None, init=tmp_path / "first.safetensors", progress=interrupt_after(2))
    with pytest.raises(TrainingError, match="trainings of the model that it began with, are others"):
        train(data, output, resume=True)
    others = InpaintingDataset(photos, 16, masks="thick", holdout=SHORT.holdout, cache=photos / ".cache")
    with pytest.raises(TrainingError, match=r"samples\.masks was 'mixed' and is now 'thick'"):
        train(others, output, model=None, init=tmp_path / "first.safetensors", resume=True)


def test_samples_and_model_must_have_the_same_noise_levels(photos: Path, tmp_path: Path) -> None:
    samples = InpaintingDataset(photos, 16, T=100, cache=photos / ".cache")
    with pytest.raises(OptionError, match="100 noise levels, the model 1000"):
        train(samples, tmp_path / "m.safetensors")


@pytest.mark.parametrize("windows", [True, False])
def test_pictures_that_a_viewer_has_open_are_not_drawn(
    data: InpaintingDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    write, tried = files._rename, list[str]()

    def rename(name: str, path: Path, overwrite: bool) -> None:
        if path.suffix == ".png":
            tried.append(path.name)
            raise PermissionError(errno.EACCES, "Access is denied")
        write(name, path, overwrite)

    monkeypatch.setattr(files, "_rename", rename)
    monkeypatch.setattr(platforms, "WINDOWS", windows)
    if not windows:
        with pytest.raises(OutputError, match="Access is denied"):
            train(data, tmp_path / "m.safetensors")
        return
    model = train(data, tmp_path / "m.safetensors")
    assert model.legs[-1]["kimg"] == SHORT.total_kimg
    notes = (tmp_path / "m.run" / "notes.txt").read_text().splitlines()
    assert len(notes) == len(tried) > 0
    assert tried[0].startswith("sample-")
    assert all(note.startswith("a picture was not drawn: ") for note in notes)


def test_a_log_without_rows_is_begun_anew_and_no_other(data: InpaintingDataset, tmp_path: Path) -> None:
    """A training saves its first state before it logs a row: of a log with rows somebody removed the states."""
    (tmp_path / "m.run").mkdir()
    log = tmp_path / "m.run" / "log.csv"
    log.write_text("kimg,loss\n1,1\n")
    with pytest.raises(OutputExistsError, match="whose states are gone"):
        train(data, tmp_path / "m.safetensors")
    assert log.read_text() == "kimg,loss\n1,1\n"
    log.write_text("kimg,old\n")
    train(data, tmp_path / "m.safetensors")
    assert "old" not in log.read_text()


def test_a_model_of_few_noise_levels_takes_no_more_steps(photos: Path, tmp_path: Path) -> None:
    samples = InpaintingDataset(photos, 16, T=3, cache=photos / ".cache")
    model = Model.new(SMALL, conditioning="plain", diffusion=Diffusion("linear", 3), size=16)
    assert train(samples, tmp_path / "m.safetensors", model=model).steps == 3


def test_measuring_and_drawing_take_no_more_memory_than_a_step(data: InpaintingDataset, tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            sizes.append(len(x))
            return self.network(x, t)  # type: ignore[no-any-return]

    model = Model.new(SMALL, size=16)
    for accumulate, processes, parts in ((1, 1, [8]), (2, 1, [8]), (4, 1, [4, 4]), (2, 2, [4, 4])):
        config = TrainConfig(**{**vars(SHORT), "accumulate": accumulate})
        task = InpaintingTask(model, data, config, tmp_path / "m", processes=processes)
        task.held_out_loss(Counting(model.network))
        assert sizes == parts
        sizes.clear()
        task.show(Counting(model.network), 0, RunFolder(tmp_path))
        assert sizes == [size for size in parts for _ in range(model.steps)]
        sizes.clear()


def test_memory_that_ends_while_measuring_is_an_error_of_one_line(
    data: InpaintingDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(task: InpaintingTask, network: nn.Module) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried")

    monkeypatch.setattr(InpaintingTask, "held_out_loss", measure)
    with pytest.raises(TrainingError, match="--accumulate"):
        train(data, tmp_path / "m.safetensors")


def test_weights_beyond_half_precision_are_saved_in_single(data: InpaintingDataset, tmp_path: Path) -> None:
    model = Model.new(SMALL, size=16)
    with torch.no_grad():
        next(iter(model.network.parameters())).view(-1)[0] = 1e5
    trained = train(data, tmp_path / "m.safetensors", model=model)
    assert next(iter(trained.network.parameters())).view(-1)[0] > 65504


def test_plain_models_train_too(data: InpaintingDataset, tmp_path: Path) -> None:
    model = Model.new(SMALL, conditioning="plain", diffusion=Diffusion("linear", 100, "eps"), size=16)
    data = InpaintingDataset(data.folder, 16, T=100, cache=data.folder / ".cache")
    trained = train(data, tmp_path / "m.safetensors", model=model)
    assert trained.conditioning == "plain"
    assert trained.diffusion.prediction == "eps"
    save_model(tmp_path / "copy.safetensors", trained)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"lr_end": -0.1},
        {"batch_size": 0},
        {"holdout": 1.0},
        {"total_kimg": float("nan")},
        {"warmup_kimg": -1.0},
        {"adam_betas": (0.9, 1.5)},
        {"ema_ramp": 0.0},
        {"workers": -1},
        {"bad_steps": 0},
    ],
    ids=str,
)
def test_numbers_that_no_training_has_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_the_held_out_loss_is_that_of_all_samples_as_one_batch(data: InpaintingDataset, tmp_path: Path) -> None:
    model = Model.new(SMALL, size=16)
    task = InpaintingTask(model, data, TrainConfig(**{**vars(SHORT), "held_out_samples": 33}), tmp_path / "m")
    assert task.held_out is not None
    batch = next(iter(DataLoader(task.held_out, batch_size=33)))
    with torch.no_grad():
        expected = task.error(model.network, batch) / (batch["hole"].sum() * 3)
    assert task.held_out_loss(model.network) == pytest.approx(float(expected), rel=1e-5)


def test_a_lasting_slowdown_is_seen_and_a_sleep_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 ms that come to take 500 ms are told as such; an hour in between is no time of training."""
    now = 0.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    clock = loop._Clock(SimpleNamespace(seconds=0.0))  # type: ignore[arg-type]
    for spent in (*[0.01] * 10, 3600, *[0.5] * 200):
        now += spent
        total = clock.tick()
        clock.resume()
    assert total == pytest.approx(11 * 0.01 + 200 * 0.5)
    assert clock.step_seconds == pytest.approx(0.5, rel=0.01)


def test_a_slow_first_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells yet how long steps take; none is NaN, which would stay in the state for good."""
    now = 0.0
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now))
    clock = loop._Clock(SimpleNamespace(seconds=0.0))  # type: ignore[arg-type]
    for spent in (100, 90):
        now += spent
        assert clock.tick() == now
        clock.resume()
