"""The wheel as a user gets it: built, installed into an environment of its own, and asked to repair a picture."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixmend.demo import ASSETS, EXAMPLE, GAP

ROOT = Path(__file__).parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-weights", "NOTICE", "src")

pytestmark = pytest.mark.slow


def called(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=ignore)
        else:
            shutil.copy(source, copy / part)
    called(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy, cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that holds the wheel alone; torch and the like are lent to it by path."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet")
    called(*pip, wheel, cwd=folder)
    own = called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(own) / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return programs


def test_wheel_holds_code_weights_and_photographs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert sources <= set(names)
    page = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/pixmend/web/static").rglob("*.*")}
    assert "pixmend/web/static/index.html" in page
    assert page <= set(names)
    assert {"pixmend/py.typed", "pixmend/assets/coffee.jpg", "pixmend/assets/README.md"} <= set(names)
    assert "pixmend/weights/default.safetensors" in names
    assert not [name for name in names if not name.startswith(("pixmend/", "pixmend-"))]


def test_wheel_says_what_it_is(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert f"Version: {project['version']}\n" in metadata
    assert "License-Expression: MIT AND LicenseRef-pixmend-weights\n" in metadata
    assert "License-File: LICENSE-weights\n" in metadata
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(required) == len(project["dependencies"])


def test_installed_wheel_repairs_a_picture(bin_folder: Path, tmp_path: Path) -> None:
    where = called(bin_folder / "python", "-c", "import pixmend; print(pixmend.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(bin_folder.parent)
    out = called(bin_folder / "pixmend", "demo", "--output", "mended.png", cwd=tmp_path)
    assert "of the picture was filled" in out
    with Image.open(tmp_path / "mended.png") as mended, Image.open(tmp_path / "mended-side-by-side.png") as beside:
        with Image.open(ASSETS / EXAMPLE.photograph) as photograph:
            width, height = photograph.size
        assert mended.size == (width, height)
        assert beside.size == (3 * width + 2 * GAP, height)
        before, damaged, after = (np.asarray(beside)[:, i * (width + GAP) :][:, :width] for i in range(3))
        np.testing.assert_array_equal(after, np.asarray(mended))
    hole = (damaged != before).any(axis=2)
    changed = (after != before).any(axis=2)
    assert 0.001 < hole.mean() < 0.5
    assert changed[hole].mean() > 0.5  # the damage is not what stands there now
    assert changed.mean() < 2 * hole.mean()


def test_module_is_the_command(bin_folder: Path, tmp_path: Path) -> None:
    assert called(bin_folder / "python", "-m", "pixmend", "--help", cwd=tmp_path) == called(
        bin_folder / "pixmend", "--help", cwd=tmp_path
    )
