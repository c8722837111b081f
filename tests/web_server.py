"""A server with a tiny model for the tests of pixmend.web: in this process, or in one of its own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from pixmend.checkpoint import Model
from pixmend.denoising.model_file import Denoiser
from pixmend.unet import UNetConfig
from pixmend.web.app import create_app
from pixmend.web.limits import Limits
from pixmend.web.service import Service

ADDRESS = "http://127.0.0.1:8188"
SIZE = (40, 56)  # (H, W) of the pictures here
HOLE = {"op": "rectangle", "left": 16, "top": 10, "right": 32, "bottom": 20}


def tiny_model() -> Model:
    """A model with random weights that fills in milliseconds."""
    config = UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16)
    model = Model.new(config, size=16)
    model.steps = 2
    model.legs = [{"kimg": 0.0}]  # an untrained model is warned of
    return model


@contextmanager
def serving(limits: Limits | None = None, **named: Any) -> Iterator[Site]:
    """A server in this process."""
    service = Service(tiny_model(), Denoiser.new("timed"), limits=limits, device="cpu")
    with TestClient(create_app(service, **named), base_url=ADDRESS) as client:
        yield Site(client, service)


class Site:
    """A server, and one of its visitors."""

    def __init__(self, client: TestClient, service: Service) -> None:
        self.client, self.service = client, service
        self.gate = Gate(service)

    def visitor(self) -> Site:
        """Somebody else."""
        client = TestClient(self.client.app, base_url=ADDRESS)
        client.portal = self.client.portal  # the same event loop
        return Site(client, self.service)

    def upload(self, data: bytes | None = None, name: str = "picture.png") -> dict[str, Any]:
        answer = self.client.post("/api/pictures", files={"file": (name, data or picture_file())})
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def fill(self, picture: str, *operations: dict[str, Any], **choices: Any) -> dict[str, Any]:
        asked = {"picture": picture, "operations": list(operations) or [HOLE], **choices}
        answer = self.client.post("/api/fills", json=asked)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def get(self, path: str) -> bytes:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content

    def events(self, job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """All events of a job from now until it is over."""
        text = self.get(f"/api/jobs/{job['id']}/events").decode()
        pairs = [entry.split("\n") for entry in text.split("\n\n") if entry.startswith("event: ")]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]

    def over(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job once it is over."""
        return self.events(job)[-1][1]


class Gate:
    """Holds the worker before its next network call, so that a test sees a job while it runs."""

    def __init__(self, service: Service) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()
        service.model.network.register_forward_pre_hook(self._pass, prepend=True)

    def _pass(self, network: Any, inputs: Any) -> None:
        self.reached.set()
        assert self.open.wait(60)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Within, the worker stops at its next call."""
        self.reached.clear()
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()


def wait_for_listener(service: Service) -> None:
    """Wait until somebody listens to a job's events; pytest's own timeout bounds it."""
    while not any(job.listeners for job in service.jobs.all()):
        time.sleep(0.01)


def picture_file(size: tuple[int, int] = SIZE, format: str = "PNG", seed: int = 0, **options: Any) -> bytes:
    """A picture of noise as a file."""
    samples = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, format, **options)
    return stream.getvalue()


def samples_of(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@contextmanager
def process(*options: object, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pixmend serve` in a process of its own, and its address."""
    command = [sys.executable, "-m", "pixmend", "serve", "--port", "0", "--no-open", "--folder", folder, *options]
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            yield server, line.removeprefix("pixmend serves ").partition(";")[0]
        finally:
            server.kill()


def detail(answer: Any, status: int) -> str:
    """The one line that an answer with this status says."""
    assert answer.status_code == status, answer.text
    (line,) = str(answer.json()["detail"]).splitlines()
    return line
