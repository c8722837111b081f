"""What all tests share: one thread, no clock, and a training to break."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings

# The networks of the tests are tiny: a second thread gains nothing, and on a busy machine two wait for each other.
# Before torch is imported; what tests start in processes of their own inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("pixmend", deadline=None)  # no test measures speed
settings.load_profile("pixmend")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep for later, such as compiled networks, does not fill the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny training to break, `victim.Stage` of bench/."""
    return bench_module("victim").Stage(tmp_path_factory.mktemp("stage") / "stage")


@pytest.fixture(scope="session")
def whole(stage: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What that training comes by where nobody breaks it, `victim.Course`."""
    return bench_module("victim").undisturbed(stage, tmp_path_factory.mktemp("whole") / "m.safetensors")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The model file of a training to break."""
    return tmp_path / "m.safetensors"


@pytest.fixture
def err(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What returns the error that stands on stderr since it was called last: one line, and no traceback beside it."""
    return lambda: str(bench_module("victim").only_error(capsys.readouterr().err))


def bench_module(name: str) -> Any:
    """A module of bench/, which is no package."""
    with mock.patch.object(sys, "path", [str(Path(__file__).parents[1] / "bench"), *sys.path]):
        return importlib.import_module(name)
