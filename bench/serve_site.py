"""What bench/serve_load.py and bench/serve_attack.py share: a server as a process of its own, and its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from pixmend.checkpoint import Model, save_model
from pixmend.unet import UNetConfig


@dataclass(frozen=True)
class Site:
    """A server that runs."""

    address: str
    process: subprocess.Popen[str]

    def metric(self, name: str) -> float:
        """One of its figures, the sum over all labels."""
        lines = httpx2.get(f"{self.address}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    @property
    def memory(self) -> float:
        """MB that it holds."""
        return self.metric("process_resident_memory_bytes") / 1e6


@contextmanager
def site(*options: object, log: Path | None = None) -> Iterator[Site]:
    """`pixmend serve` with these options, on any free port; what it says on stderr goes to a file."""
    with tempfile.TemporaryDirectory() as folder, open(log or os.devnull, "w") as stderr:
        words = ["serve", "--port", "0", "--no-open", "--folder", folder, *map(str, options)]
        command = [sys.executable, "-m", "pixmend", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                yield Site(
                    line.removeprefix("pixmend serves ").partition(";")[0].partition("?")[0].rstrip("/"), process
                )
            finally:
                process.terminate()
                process.wait()
        left = list(Path(folder).iterdir())
        assert not left, f"left behind: {left}"


def tiny_model(folder: Path) -> Path:
    """A model file with random weights that fills in milliseconds: the server's own work is what shows."""
    model = Model.new(UNetConfig(channels=(16,), attention=(False,), blocks=1, time_channels=16), size=64)
    model.steps = 2
    model.legs = [{"kimg": 0.0}]
    return save_model(folder / "tiny.safetensors", model)
