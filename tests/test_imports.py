"""What an import costs, and which way imports point: a room knows the rooms below it, never those above or beside."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pixmend

SOURCE = Path(pixmend.__file__).parent

# From the ground up. A room may import any of an earlier row. A new room gets its place here.
ROWS = (
    ("errors", "console", "signals", "channels_last", "packed", "plots", "platforms"),
    ("files",),
    ("locks", "run_place", "options", "train_config", "components", "tars"),
    (
        "model_files",
        "sealed",
        "workers",
        "runtime",
        "strokes",
        "soft_masks",
        "schedules",
        "unet",
        "pictures",
        "png_bytes",
    ),
    ("mask_kinds", "painting", "metadata", "adm", "diffusion", "processes", "jpeg_segments", "heif", "loading"),
    ("jpeg", "modes", "opening", "packets", "tiff_bytes", "wide", "mask_reading", "tiff_tags"),
    ("masks", "decoding", "previews"),
    ("jpeg_editing",),
    ("save_options",),
    ("encoding", "thumbnails"),
    ("images", "conditioning", "samplers", "views"),
    ("picture_cache", "inputs", "scratches"),
    ("shards",),
    ("batches", "checkpoint", "data", "run_folder", "tiles", "windows", "grain", "texture"),
    ("adapters", "backends", "loop", "levels", "budget", "patches", "distillation"),
    ("training", "efforts", "finishing"),
    ("exemplars", "onnx_filler"),
    ("filling",),
    ("job",),
    ("inpainting",),
    ("explain", "extending"),
    ("mask_cli", "folders"),
    ("demo", "denoising", "evaluation"),
    ("web",),
    ("inpainting_cli",),
    ("extending_cli",),
    ("cli",),
    ("__main__",),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# data: crops are resized there, hundreds a second, with no Picture in between; explain: lines and words are drawn
PILLOWS_HOME = {
    "images",
    "decoding",
    "encoding",
    "loading",
    "metadata",
    "modes",
    "opening",
    "previews",
    "save_options",
    "tiff_bytes",
    "tiff_tags",
    "wide",
    "jpeg_editing",
    "thumbnails",
    "data",
    "explain",
    "views",
}
HEAVY = ("torch", "numpy", "PIL", "safetensors", "rich", "typer")


def room_of(path: Path) -> str:
    """The first part below the package: a module's name, or a folder's."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def modules_imported(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Full names of all that is imported anywhere in a file, inside functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    package = ["pixmend", *path.relative_to(SOURCE).parent.parts]
    names = [name.split(".") for name in modules_imported(ast.parse(path.read_text("utf-8")), package)]
    inside = [parts[1] for parts in names if parts[0] == "pixmend" and len(parts) > 1]
    return {pixmend._MODULE_OF.get(name, name) for name in inside}


def test_filling_smoothly_loads_no_exporter() -> None:
    """Torch loads it when it is asked for, which takes time; a guide is made in every process that repairs."""
    program = (
        "import sys, torch\nfrom pixmend.conditioning import smooth_fill\n"
        "smooth_fill(torch.zeros(1, 3, 9, 9), torch.ones(1, 1, 9, 9))\nsys.exit('torch.onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


SOURCES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_direction_reader_sees_every_way_to_import(tmp_path: Path) -> None:
    source = "import torch.nn\nfrom pixmend import Diffusion, unet\ndef f():\n    from ..images import Picture\n"
    names = set(modules_imported(ast.parse(source), ["pixmend", "web"]))
    assert names == {"torch.nn", "pixmend.Diffusion", "pixmend.unet", "pixmend.images.Picture"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in ROW_OF, f"{room} has no place in ROWS yet"
    above = {other for other in rooms_imported(path) - {room} if ROW_OF.get(other, len(ROWS)) >= ROW_OF[room]}
    assert not above, f"{room} may only import rooms of earlier rows, not {sorted(above)}"


@pytest.mark.parametrize("page", ["code.md", "code.zh-CN.md"])
def test_pages_on_the_code_name_every_room_and_no_other_file(page: str) -> None:
    root = Path(__file__).parents[1]
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", (root / "docs" / page).read_text("utf-8")))
    rooms = {f"{room}/" if (SOURCE / room).is_dir() else f"{room}.py" for room in ROW_OF}
    assert not rooms - named
    assert not [name for name in named if not any((place / name).exists() for place in (SOURCE, SOURCE / "web", root))]


def test_pillow_has_one_home() -> None:
    users = {
        room_of(path)
        for path in SOURCES
        if any(name.split(".")[0] == "PIL" for name in modules_imported(ast.parse(path.read_text("utf-8")), []))
    }
    assert users <= PILLOWS_HOME


def test_diffusers_is_not_needed() -> None:
    """Its folders are read and written without it."""
    for path in SOURCES:
        modules = modules_imported(ast.parse(path.read_text("utf-8")), [])
        assert not [name for name in modules if name.split(".")[0] in ("diffusers", "guided_diffusion")], path


def loaded_after(statement: str) -> set[str]:
    """The top-level packages in `sys.modules` after a statement in a fresh interpreter."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_bare_import_loads_nothing_heavy() -> None:
    assert loaded_after("import pixmend").isdisjoint(HEAVY)


def test_errors_load_nothing_heavy() -> None:
    assert loaded_after("from pixmend import PixmendError").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("own", "spins"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_waiting_threads_soon_sleep_unless_the_user_has_said_otherwise(own: dict[str, str], spins: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = "import os, pixmend; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment, **own}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == spins


def test_help_loads_no_torch() -> None:
    loaded = loaded_after("from pixmend.cli import main\nassert main(['--help']) == 0")
    assert "typer" in loaded
    assert loaded.isdisjoint({"torch", "numpy", "PIL", "safetensors"})


def names_seen_by_type_checkers() -> dict[str, str]:
    """Public name -> room, from the `if TYPE_CHECKING:` block of the package."""
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None]
    return {
        alias.asname: node.module.removeprefix("pixmend.")
        for node in imports
        for alias in node.names
        if alias.asname is not None and node.module is not None
    }


def test_type_checkers_see_the_lazy_names() -> None:
    assert names_seen_by_type_checkers() == pixmend._MODULE_OF


@pytest.mark.parametrize("name", sorted(pixmend._MODULE_OF))
def test_public_names_resolve(name: str) -> None:
    assert getattr(pixmend, name).__name__ == name
    assert name in dir(pixmend)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        pixmend.nothing_of_the_kind  # type: ignore[attr-defined]  # noqa: B018


def test_function_is_not_hidden_by_the_room_of_its_name() -> None:
    program = "import pixmend.inpainting\nfrom pixmend import inpainting\nassert inpainting is pixmend.inpainting\n"
    program += "assert callable(inpainting) and pixmend.inpainting.__module__ == 'pixmend.inpainting'"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_version_is_that_of_the_package() -> None:
    assert pixmend.__version__.count(".") == 2
