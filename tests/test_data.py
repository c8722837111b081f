"""Training data: the k-th sample is a function of (seed, k), and every picture of a folder counts once."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pixmend import picture_cache, platforms
from pixmend.data import InpaintingDataset, Views
from pixmend.errors import DataError, FileMissingError, OptionError, OutputError


def drawn(folder: Path, count: int = 6, side: int = 40) -> Path:
    """A folder of pictures, each of one colour of its own, so that a sample tells which it came from."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        Image.new("RGB", (side + i, side), (40 * i, 0, 0)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return drawn(tmp_path / "pictures")


def dataset(folder: Path, size: int = 16, **options: object) -> InpaintingDataset:
    return InpaintingDataset(folder, size, cache=folder.parent / "cache", **options)  # type: ignore[arg-type]


PLAIN = Views(enlarged=0, grey=0, sepia=0)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_sample_is_what_the_docs_say(folder: Path) -> None:
    for k in range(20):
        sample = dataset(folder)[k]
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in sample.items()}
        assert shapes == {
            "x0": ((3, 16, 16), torch.uint8),
            "hole": ((1, 16, 16), torch.uint8),
            "t": ((), torch.int64),
            "noise": ((3, 16, 16), torch.float32),
            "guide_noise": ((3, 8, 8), torch.float32),
            "guide_blur": ((), torch.float32),
            "guide_grain": ((), torch.float32),
        }
        assert set(sample["hole"].flatten().tolist()) <= {0, 1}
        assert sample["hole"].any()
        assert 0 <= int(sample["t"]) < 1000
        assert (sample["guide_blur"] >= 0) == (sample["guide_grain"] >= 0)


def test_a_sample_depends_on_seed_and_k_alone(folder: Path) -> None:
    one, other = dataset(folder, seed=4), dataset(folder, seed=4)
    backwards = {k: other[k] for k in reversed(range(12))}
    assert all(same(one[k], backwards[k]) for k in range(12))
    assert not same(one[0], dataset(folder, seed=5)[0])
    assert not same(one[0], one[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*worker processes:UserWarning")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(folder: Path, workers: int) -> None:
    samples = dataset(folder)
    alone = list(DataLoader(samples, batch_size=4, sampler=range(3, 27)))
    beside = list(DataLoader(samples, batch_size=4, sampler=range(3, 27), num_workers=workers))
    assert all(same(a, b) for a, b in zip(alone, beside, strict=True))


def test_every_round_shows_every_picture_once_in_a_new_order(folder: Path) -> None:
    samples = dataset(folder, views=PLAIN)
    reds = [int(samples[k]["x0"][0, 0, 0]) // 40 for k in range(18)]
    rounds = [reds[i : i + 6] for i in range(0, 18, 6)]
    assert all(sorted(r) == list(range(6)) for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_times_are_uniform_and_noise_is_normal(folder: Path) -> None:
    samples = dataset(folder, T=10)
    drawn_samples = [samples[k] for k in range(600)]
    counts = np.bincount([int(s["t"]) for s in drawn_samples], minlength=10)
    assert len(counts) == 10
    assert counts.min() > 30  # 60 expected; 4 standard deviations are 29
    noise = torch.stack([s["noise"] for s in drawn_samples])
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(1, abs=0.01)


def test_views_do_what_their_shares_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "noise"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "a.png")
    grey = dataset(folder, views=Views(enlarged=0, grey=1, sepia=0))[0]["x0"]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    sepia = dataset(folder, views=Views(enlarged=0, grey=0, sepia=1))[0]["x0"].float()
    assert sepia[0].mean() > sepia[1].mean() > sepia[2].mean()
    roughness = [
        float(
            dataset(folder, views=Views(enlarged=share, grey=0, sepia=0), seed=9)[0]["x0"].float().diff().abs().mean()
        )
        for share in (0, 1)
    ]
    assert roughness[1] < 0.75 * roughness[0]  # an enlarged crop of noise is smooth
    whole = dataset(folder, views=Views(whole=1.0))
    assert all(bool(whole[k]["hole"].all()) for k in range(5))


def test_held_out_pictures_are_never_trained_on(tmp_path: Path) -> None:
    samples = dataset(drawn(tmp_path / "many", count=60), holdout=0.3)
    others = samples.held_out()
    assert others is not None
    assert len(samples) + len(others) == 60
    assert 5 < len(others) < 31
    shown = {p.tobytes() for p in samples.pictures}
    assert not shown & {p.tobytes() for p in others.pictures}
    assert dataset(tmp_path / "many").held_out() is None
    larger = dataset(tmp_path / "many", size=8, holdout=0.3).held_out()
    assert larger is not None
    assert len(larger) == len(others)  # another size of training keeps back the same files
    again = dataset(tmp_path / "many", holdout=0.3, seed=7).held_out()
    assert again is not None
    assert same(again[0], others[0])  # measured on the same samples whatever the seed


def test_any_format_and_mode_is_read_and_bad_files_are_listed_once(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep" / "er").mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        suffix = "tif" if mode == "CMYK" else "png"
        picture.convert("L").convert(mode).save(folder / f"{mode.replace(';', '')}.{suffix}")
    picture.save(folder / "deep" / "er" / "photo.JPG")
    picture.save(folder / "photo.webp")
    (folder / "broken.png").write_bytes((folder / "RGB.png").read_bytes()[:400])
    (folder / "text.jpg").write_text("no picture")
    (folder / "nowhere.png").symlink_to(tmp_path / "gone.png")
    Image.new("RGB", (8, 200)).save(folder / "tiny.png")
    (folder / "notes.txt").write_text("left alone")
    samples = dataset(folder)
    assert len(samples) == 10
    assert len(samples.skipped) == 4
    for name in ("broken.png", "text.jpg", "tiny.png", "nowhere.png"):
        assert sum(name in line for line in samples.skipped) == 1
    assert all(p.shape[2] == 3 and p.dtype == np.uint8 for p in samples.pictures)


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for place in (folder / "a.png", elsewhere / "b.png"):
        Image.new("RGB", (40, 30), "red").save(place)
    (folder / "within.png").symlink_to("a.png")
    (folder / "out.png").symlink_to(elsewhere / "b.png")
    (folder / "up.png").symlink_to("../elsewhere/b.png")
    samples = dataset(folder)
    assert len(samples) == 2
    (told,) = samples.skipped
    assert told.startswith("2 links that lead out of")
    assert dataset(folder).skipped == [told], "also where all was decoded before"


def test_large_pictures_are_reduced_to_a_few_times_the_size(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    Image.new("RGB", (900, 300), "red").save(folder / "a.jpg")
    Image.new("RGB", (40, 30), "red").save(folder / "b.png")
    shapes = sorted(p.shape for p in dataset(folder, 16).pictures)
    assert shapes == [(30, 40, 3), (48, 144, 3)]


def test_pictures_are_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset(folder)[0]

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(picture_cache, "open_thumbnails", never)
        assert same(dataset(folder)[0], first)
    Image.new("RGB", (40, 40), (250, 0, 0)).save(folder / "new.png")
    assert len(dataset(folder)) == 7


def test_decoded_pictures_that_a_training_reads_are_not_replaced_on_windows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_: object) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(platforms, "WINDOWS", True)
    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OutputError, match=r"\.rgb .* if a training .* has it open, close that, or set XDG_CACHE_HOME"):
        dataset(folder)


def test_workers_do_not_get_copies_of_the_pictures(folder: Path) -> None:
    samples = dataset(folder)
    packed = pickle.dumps(samples.pictures)
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed)[3], samples.pictures[3])  # noqa: S301  # what was made a line before


def test_progress_counts_the_files(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    dataset(folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_nothing_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="not a folder"):
        dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no picture to train on"):
        dataset(tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"1 were skipped.*a\.png"):
        dataset(tmp_path / "empty")


# ------------------------------------------------------------------------------------------------------------ trouble


def test_one_picture_is_enough_whatever_would_be_held_out(tmp_path: Path) -> None:
    samples = dataset(drawn(tmp_path / "one", 1), holdout=0.999999)
    assert len(samples) == 1
    assert samples.held_out() is None
    assert samples.identity["holdout"] == 0
    assert len(dataset(drawn(tmp_path / "many", 6), holdout=0.5)) in range(1, 6)


def test_folders_that_cannot_be_read_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert dataset(folder).skipped == [f"{folder / 'closed'} cannot be read: Permission denied"]


def test_a_picture_for_which_there_was_no_memory_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory(image: Image.Image, *_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("pixmend.thumbnails.loaded", short_of_memory)
        with pytest.raises(DataError, match=r"0\.png needs more memory than there is"):
            dataset(folder)
    assert len(dataset(folder)) == 6


def test_decoding_does_not_run_far_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a picture that takes long, the decoded ones would fill memory."""
    drawn(folder, 40)
    ahead: list[Any] = []
    counts: list[int] = []

    class Slow(ThreadPoolExecutor):
        """Decodes nothing before somebody waits for it."""

        def submit(self, call: Callable[..., Any], *arguments: Any) -> Any:  # type: ignore[override]
            ahead.append(arguments)
            counts.append(len(ahead))
            return SimpleNamespace(result=lambda: call(*ahead.pop(0)))

    monkeypatch.setattr(picture_cache, "usable_cores", lambda: 2)
    monkeypatch.setattr(picture_cache, "ThreadPoolExecutor", Slow)
    assert len(dataset(folder)) == len(counts) == 40
    assert max(counts) == 4


@pytest.mark.parametrize("wrong", [{"size": 0}, {"T": 0}, {"holdout": 1.0}, {"masks": "thikc"}], ids=str)
def test_options_are_checked_before_anything_is_decoded(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        InpaintingDataset(folder, **{"size": 16, **wrong}, progress=lambda done, total: pytest.fail("decoded"))


def test_samples_are_counted_from_0(folder: Path) -> None:
    samples = InpaintingDataset(folder, 16, cache=folder / ".cache")
    with pytest.raises(IndexError, match="counted from 0"):
        samples[-1]
