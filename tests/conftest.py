"""What all tests share: one thread, no clock, and a training to break."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

    from command_line import Run
    from page_driver import Host, Visitor
    from web_server import Site

# The networks of the tests are tiny: a second thread gains nothing, and on a busy machine two wait for each other.
# Before torch is imported; what tests start in processes of their own inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has Ctrl-C ignored, and nohup has SIGHUP; whatever they start would
# ignore them as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("pixmend", deadline=None)  # no test measures speed
settings.load_profile("pixmend")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests keep for later, such as compiled networks, does not fill the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def network_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the networks that are compiled in a module are kept; they are compiled there, whatever was before."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "pixmend" / "networks"


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


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line as a call."""
    from command_line import Done
    from pixmend import cli

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        return Done(cli.main([str(a) for a in arguments]), *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights that fills in milliseconds."""
    from pixmend.checkpoint import Model, save_model
    from pixmend.unet import UNetConfig

    config = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)
    model = Model.new(config, size=16)
    model.steps = 2
    return save_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", model)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    from page_driver import browsing, chromium

    if chromium() is None:
        pytest.skip("no Chromium here; Debian's package is `chromium`")
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A server with a tiny model, which browsers reach."""
    from page_driver import hosting

    with hosting() as begun:
        yield begun


@pytest.fixture
def context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts: each is somebody else's browser."""
    from page_driver import DESKTOP

    opened: list[BrowserContext] = []

    def make(**options: Any) -> BrowserContext:
        opened.append(browser.new_context(**{"locale": "en-GB", **DESKTOP, **options}))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def come(context: Callable[..., BrowserContext], host: Host) -> Iterator[Callable[..., Visitor]]:
    """Lets visitors come; in the end none of their consoles may have complained, unless the test looked at it."""
    from page_driver import Visitor

    visitors: list[Visitor] = []

    def make(within: BrowserContext | None = None, **options: Any) -> Visitor:
        visitors.append(Visitor.come(within or context(**options), host.address))
        return visitors[-1]

    yield make
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []


@pytest.fixture
def visitor(come: Callable[..., Visitor], picture: Path) -> Visitor:
    """Somebody who has opened a picture."""
    one = come()
    one.open(picture)
    return one


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture, smooth with some noise."""
    from page_driver import HEIGHT, WIDTH, photograph

    return photograph(tmp_path / "picture.png", (HEIGHT, WIDTH))


@pytest.fixture
def eager_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in this process shows every step of a fill to whoever listens."""
    for name, value in {"AFTER": 0, "EVERY": 0, "SHARE": 1e9}.items():
        monkeypatch.setattr(f"pixmend.web.work.PREVIEW_{name}", value)


def bench_module(name: str) -> Any:
    """A module of bench/, which is no package."""
    with mock.patch.object(sys, "path", [str(Path(__file__).parents[1] / "bench"), *sys.path]):
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def _shared() -> Iterator[Site]:
    from web_server import serving

    with serving() as site:
        yield site


@pytest.fixture
def site(_shared: Site) -> Site:
    """A new visitor of a server that all tests of a file share."""
    return _shared.visitor()
