"""Folders on Ray: two workers, one of them killed in the middle, and the same results as without."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from folder_work import Negatives
from folder_work import run as negatives
from pixmend.errors import OptionError
from pixmend.folders.journal import FOLDER

ray = pytest.importorskip("ray", reason="needs the extra pixmend[ray]")
pytest.importorskip("ray.data", reason="needs the extra pixmend[ray]")

from pixmend.folders.ray_engine import TRIES, on_ray  # noqa: E402

# Ray starts a cluster for it, and warns of the file descriptors and threads of its own.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two cores, whatever the machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where the workers find what stands beside this file
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
        yield
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1"])
def test_a_cluster_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(OptionError, match="no cluster answers at"):
        next(on_ray(address, 2)(Negatives(tmp_path), [], tmp_path, lambda step, steps: None))


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    folder, output, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    log.mkdir()
    names = [*(f"sub/{i}.png" for i in range(8)), "line\nbreak.png", os.fsdecode(b"caf\xe9.png"), "bad.png", "z.png"]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)).save(folder / name)
    work = Negatives(log, deaths={"sub/3.png": 1, "z.png": 99})
    summary = negatives(folder, output, work, engine=on_ray(None, 2))

    good = sorted(set(names) - {"bad.png", "z.png"})
    assert (summary.done, summary.left) == (10, 0)
    assert summary.failures["bad.png"].endswith("is bad; give a good one")
    assert summary.failures["z.png"] == f"{TRIES} workers died with it; try it alone"
    for name in good:
        with Image.open(folder / name) as before, Image.open(output / name) as after:
            np.testing.assert_array_equal(np.asarray(after), 255 - np.asarray(before))
    rows = [json.loads(line) for line in (output / FOLDER / "journal.jsonl").read_text().splitlines()]
    assert sorted(row["picture"] for row in rows if row["event"] == "done") == good, "each of them once"
    assert len(work.begun("sub/3.png")) == 2, "the killed one was tried again"
    assert len(work.begun("z.png")) == TRIES
    assert os.listdir(output / FOLDER) == ["journal.jsonl"]
    assert negatives(folder, output, work, engine=on_ray(None, 2)).before == 10
