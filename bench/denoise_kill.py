"""Kill a training at random moments, resume it each time, and compare its end with that of an undisturbed one.

    python bench/denoise_kill.py [--kills 20] [--network timed]

Both train the same denoiser on drawn pictures, saving often. The kills are SIGKILL after a random time, so that they
fall into steps, logging and saving alike. Leaves with 1 if any tensor of the final states differs in a single bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from machine import machine
from pixmend.denoising.cifar import PictureSet
from pixmend.denoising.model_file import Denoiser
from pixmend.denoising.task import document_config, train_denoiser

COUNT, EPOCHS = 64, 40  # 320 steps of 8


def train(run: Path, network: str) -> None:
    """Begin the training in `run`, or go on with it."""
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    config = document_config(COUNT, epochs=EPOCHS, save_model_epochs=0.5)  # each 4 steps
    config = dataclasses.replace(config, measure_kimg=config.total_kimg, held_out_samples=8)
    denoiser = Denoiser.new(network, seed=0)  # type: ignore[arg-type]
    resume = (run / "state.safetensors").exists()
    train_denoiser(PictureSet(pictures, pictures[:8]), run, config, denoiser=denoiser, resume=resume, device="cpu")


def start(run: Path, network: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--run", str(run), "--network", network])


def kill_and_resume(run: Path, network: str, kills: int, seconds: float) -> None:
    """Kill it so many times at random moments while it trains, then let it end. SystemExit where it ended before."""
    for done in range(kills):
        process = start(run, network)
        wait_for_a_step(run, process)
        try:
            process.wait(timeout=random.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        else:
            raise SystemExit(f"it ended after {done} kills; start again")
    start(run, network).wait()


def wait_for_a_step(run: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the log has grown since now, or the process is over: starting Python takes longer than many steps."""
    log, began = run / "log.csv", time.time()
    while process.poll() is None and not (log.exists() and log.stat().st_mtime > began):
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--network", default="timed")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        train(options.run, options.network)
        return
    with tempfile.TemporaryDirectory() as name:
        whole, killed = Path(name) / "whole", Path(name) / "killed"
        began = time.monotonic()
        start(whole, options.network).wait()
        seconds = (time.monotonic() - began) / options.kills  # twice the mean time to a kill
        kill_and_resume(killed, options.network, options.kills, seconds)
        one, other = (load_file(run / "state.safetensors") for run in (whole, killed))
        same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    print(
        f"{machine()}; {options.network}: {options.kills} kills; the final state is",
        "the same, bit for bit" if same else "ANOTHER",
    )
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
