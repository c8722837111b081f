"""Distillation: what a student is to answer leads where the teacher's two steps do; the file says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from command_line import Run
from pixmend import efforts
from pixmend.checkpoint import Model, load_model, save_model
from pixmend.conditioning import make_denoiser, network_input, smooth_fill
from pixmend.data import InpaintingDataset
from pixmend.diffusion import Conditioning, Diffusion, Known, Prediction
from pixmend.distillation import Teacher, source, step
from pixmend.efforts import QUALITIES, effort_for
from pixmend.errors import OptionError, TrainingError
from pixmend.inpainting import inpainting
from pixmend.loop import TrainConfig
from pixmend.pictures import Samples
from pixmend.samplers import ddim
from pixmend.training import InpaintingTask, train_model
from small_model import SMALL, box, draw_photos, interrupt_after, noise_picture, small_model

CPU = torch.device("cpu")
CONFIG = TrainConfig(total_kimg=0.06, batch_size=4, lr=1e-3, holdout=0.3, held_out_samples=8, workers=0)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def no_noise(x: Tensor) -> Tensor:
    raise AssertionError("ddim without fresh noise draws none")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("teacher") / "teacher.safetensors", small_model())


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
@given(t=st.integers(0, 99))
def test_answer_is_what_predict_x0_reads_it_from(prediction: Prediction, t: int) -> None:
    diffusion = Diffusion(T=100, prediction=prediction)
    xt, x0 = drawn(1, 3, 4, 4).double(), drawn(1, 3, 4, 4, seed=1).double().clamp(-1, 1)
    torch.testing.assert_close(diffusion.predict_x0(xt, t, diffusion.output_for(xt, t, x0)), x0)


@given(t=st.integers(0, 99), back=st.integers(1, 100))
def test_a_step_from_its_source_leads_to_its_end(t: int, back: int) -> None:
    diffusion, s = Diffusion(T=100), max(t - back, -1)
    xt, xs = drawn(1, 3, 4, 4).double(), drawn(1, 3, 4, 4, seed=1).double()
    times = torch.tensor([t]), torch.tensor([s])
    torch.testing.assert_close(step(diffusion, xt, source(diffusion, xt, xs, *times), *times), xs)


@pytest.mark.parametrize("conditioning", ["known-aware", "plain", "residual"])
def test_one_step_of_what_is_taught_is_two_of_the_teachers_sampler(conditioning: Conditioning) -> None:
    """Beside `samplers.ddim`, which steps all pictures at once, from numbers: the last two steps of a way.

    Of pale pictures, of which nothing is cut.
    """
    model = Model.new(SMALL, conditioning=conditioning, diffusion=Diffusion(T=40), size=16)
    torch.nn.init.normal_(model.network.last.weight, std=0.02)  # as it is new, it answers 0
    x0, hole = 0.1 * drawn(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[..., 4:12, 5:14] = 1
    guide, diffusion, t = smooth_fill(x0, hole), model.diffusion, 9
    base = guide if conditioning == "residual" else torch.zeros_like(x0)
    known = Known(x0, hole, diffusion, conditioning, no_noise)
    x = diffusion.add_noise(x0, t, 0.3 * drawn(2, 3, 16, 16, seed=2))
    signal = diffusion.alpha_bar(t) ** 0.5

    def told(state: Tensor) -> Tensor:
        return state if conditioning == "plain" else network_input(state, x0, hole, guide)

    with torch.inference_mode():
        expected = ddim(make_denoiser(model.network, known, guide), x, [t, 4], diffusion, noise=no_noise)
        xt, times = x - signal * base, torch.tensor([t, t])
        target = Teacher(model, 4, CPU).target(xt, times, told)  # ten levels: from 9 by 4 to the picture
        reached = base + diffusion.predict_x0(xt, times, target)
    inside = hole.expand_as(x0) > 0
    torch.testing.assert_close(reached[inside], expected[inside], atol=1e-5, rtol=0)
    assert expected[inside].abs().max() < 0.9


def test_a_teacher_that_knows_the_picture_teaches_it_at_every_level(monkeypatch: pytest.MonkeyPatch) -> None:
    diffusion, x0 = Diffusion(T=50), drawn(50, 3, 4, 4).double().clamp(-1, 1)
    model, times = Model.new(SMALL, diffusion=diffusion), torch.arange(50)
    teacher, xt = Teacher(model, 7, CPU), diffusion.add_noise(x0, times, drawn(50, 3, 4, 4, seed=1).double())
    monkeypatch.setattr(teacher, "_x0", lambda x, t, told: x0)
    target = teacher.target(xt, times, lambda x: x)
    torch.testing.assert_close(diffusion.predict_x0(xt, times, target), x0)


@pytest.mark.parametrize("steps", [0, 501])
def test_steps_that_cannot_be(steps: int) -> None:
    with pytest.raises(OptionError, match="choose 1 to 500"):
        Teacher(Model.new(SMALL), steps, CPU)


def test_a_student_begins_as_its_teacher_and_its_file_says_so(photos: Path, teacher: Path, tmp_path: Path) -> None:
    whole = train_model(photos, tmp_path / "a.safetensors", CONFIG, teacher=teacher, steps=2, size=16, device="cpu")
    assert (whole.steps, whole.sampler) == (2, "ddim")
    assert whole.legs[-1]["distilled_to"] == 2
    assert whole.legs[0] == load_model(teacher).legs[0]
    for ours, theirs in zip(whole.network.parameters(), load_model(teacher).network.parameters(), strict=True):
        assert 0 < (ours - theirs).abs().max() < 0.2, "fifteen steps away from it"


def test_a_student_is_resumed_with_the_teacher_that_it_began_with(photos: Path, teacher: Path, tmp_path: Path) -> None:
    own = tmp_path / "teacher.safetensors"
    own.write_bytes(teacher.read_bytes())

    def trained(**options: object) -> Model:
        how = {"teacher": own, "steps": 2, "size": 16, "device": "cpu", **options}
        return train_model(photos, tmp_path / "student.safetensors", CONFIG, **how)  # type: ignore[arg-type]

    trained(progress=interrupt_after(3))
    other = load_model(own)  # of the same legs, as all imported models have
    with torch.no_grad():
        other.network.first.weight.mul_(2)
    save_model(own, other, overwrite=True)
    with pytest.raises(TrainingError, match=r"teacher\.weights was"):
        trained(resume=True)
    own.write_bytes(teacher.read_bytes())
    assert trained(resume=True).legs[-1]["kimg"] == CONFIG.total_kimg


def test_a_student_can_learn_what_its_teacher_does_in_two_steps(photos: Path, teacher: Path) -> None:
    """One batch, over and over."""
    data, student = InpaintingDataset(photos, 16, cache=photos / ".cache"), load_model(teacher)
    task = InpaintingTask(student, data, CONFIG, Path("unused"), teacher=Teacher(load_model(teacher), 1, CPU))
    batch = next(iter(DataLoader(data, batch_size=4)))
    optimiser = torch.optim.Adam(student.network.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        loss = task.error(student.network, batch) / task.weight(batch)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("options", [("--distill", "MODEL"), ("--steps", "4")])
def test_distill_and_steps_go_together(run: Run, photos: Path, teacher: Path, options: tuple[str, str]) -> None:
    given = [str(teacher) if option == "MODEL" else option for option in options]
    done = run("train", photos, "-o", photos / "out.safetensors", *given)
    assert done.code == 2
    assert "--distill MODEL and --steps N go together" in done.err


def test_a_student_is_like_its_teacher(photos: Path, teacher: Path, tmp_path: Path) -> None:
    other = Model.new(SMALL, diffusion=Diffusion(schedule="linear"), size=16)
    init, output = save_model(tmp_path / "other.safetensors", other), tmp_path / "a.safetensors"
    with pytest.raises(OptionError, match="differ in diffusion"):
        train_model(photos, output, CONFIG, teacher=teacher, steps=2, init=init, size=16, device="cpu")


def test_a_student_takes_no_more_calls_than_it_has_learnt(photos: Path, teacher: Path, tmp_path: Path) -> None:
    student = train_model(photos, tmp_path / "a.safetensors", CONFIG, teacher=teacher, steps=4, size=16, device="cpu")
    assert student.distilled_to == 4
    fast, balanced, best = (effort_for(quality, student) for quality in ("fast", "balanced", "best"))
    assert [effort.first_steps(1000, 4) for effort in (fast, balanced, best)] == [3, 4, 4]
    assert balanced.finer == (4, 3, 2), "three quarters of the noise levels, a quarter at a step, and one more"
    assert best.finer == (5,)
    assert fast.noise == balanced.noise == best.noise > QUALITIES["balanced"].noise
    assert effort_for("balanced", load_model(teacher)) == QUALITIES["balanced"]
    ordinary = train_model(photos, tmp_path / "b.safetensors", CONFIG, init=tmp_path / "a.safetensors", device="cpu")
    assert (ordinary.distilled_to, ordinary.sampler, ordinary.steps) == (None, "unipc", Model.steps)


def test_a_student_has_more_noise_beside_what_is_rough(monkeypatch: pytest.MonkeyPatch) -> None:
    model, picture, hole = small_model(), noise_picture(20, 20), box(20, 20, 4, 4, 16, 16)
    model.legs, model.sampler = [{"distilled_to": 4}], "ddim"

    def filled(sampler: str, noise: float) -> Samples:
        monkeypatch.setattr(efforts, "OF_STUDENT", noise)
        return inpainting(picture, hole, model=model, sampler=sampler).pictures[0].samples

    assert not np.array_equal(filled("ddim", 0.03), filled("ddim", 0))
    assert np.array_equal(filled("unipc", 0.03), filled("unipc", 0)), "which no student has learnt"
