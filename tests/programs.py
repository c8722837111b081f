"""Other people's programs. Where one is not installed, the test that asks for it is skipped."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def program(name: str) -> str:
    """Where a program is."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def imagemagick() -> str:
    """Where ImageMagick is: before version 7 it is called `convert`, as other things are, too."""
    for path in filter(None, map(shutil.which, ("magick", "convert"))):
        told = subprocess.run([path, "-version"], capture_output=True, text=True)
        if told.stdout.startswith("Version: ImageMagick"):
            return path
    pytest.skip("ImageMagick is not installed")
