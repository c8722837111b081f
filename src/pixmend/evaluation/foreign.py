"""Programs and networks of others as methods: a command line, a TorchScript file, an ONNX file.

Networks take a picture (1, 3, H, W) in [0, 1], black in the hole, and a mask (1, 1, H, W), 1 = hole, and give the whole
picture (1, 3, H, W), in [0, 1] or in [0, 255] (told by a value above 2). So do LaMa's exports, as TorchScript for any
sides that are multiples of 8 and as ONNX for 512x512. Other sides are continued by their border and cut again; where a
file wants one size, the picture is enlarged to it, the hole filled smoothly first so that no black gets beside it, and
the fill reduced again. These files hold programs: load none that you would not run.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pixmend.components import Hole
from pixmend.conditioning import smooth_fill
from pixmend.diffusion import around
from pixmend.errors import FileMissingError, ModelFileError, OptionError, PixmendError
from pixmend.evaluation.method import Method, Unavailable
from pixmend.evaluation.protocol import Pixels
from pixmend.images import open_picture, save_picture
from pixmend.pictures import to_samples
from pixmend.runtime import pick_device

MULTIPLE = 8  # of pixels: LaMa halves its pictures three times
MOST_SECONDS = 600  # for a fill by a command: longer than the slowest of them, and no night
LEVELS_ABOVE = 2.0  # an output with larger values is in [0, 255]

Network = Callable[[Tensor, Tensor], Tensor]


def outside_command(template: str) -> Method:
    """A command such as "tool {image} {mask} {output}", for PNG files, the mask white where to fill.

    It is run without a shell, once for each fill. With {seed} in it, it is asked for several fills.
    Raises OptionError for a template without the three names.
    """
    try:
        parts = _words(template)
    except ValueError as error:
        raise OptionError(f"the command {template!r} is not understood: {error}; check its quotes") from error
    for name in ("{image}", "{mask}", "{output}"):
        if not any(name in part for part in parts):
            raise OptionError(
                f'the command {template!r} lacks {name}; give one such as "tool {{image}} {{mask}} {{output}}"'
            )

    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder, f"{name}.png") for name in ("image", "mask", "output")}
            save_picture(open_picture(picture), paths["image"])
            save_picture(open_picture(hole.astype(np.uint8) * 255), paths["mask"])  # not of one bit, read as 0 and 1
            values = {**paths, "seed": seed}
            _run([_filled_in(part, values) for part in parts])
            if not paths["output"].is_file():
                raise OptionError(f"the command {parts[0]} wrote no picture to {{output}}; check it by hand")
            return to_samples(open_picture(paths["output"]).colour()).astype(np.uint8)

    identity = "".join([template, *map(_content_of, parts)])
    return Method(f"command {Path(parts[0]).name}", fill, "{seed}" in template, identity=identity, key="command")


def torchscript(file: Path, device: str | None = None) -> Method:
    """A TorchScript file. Raises FileMissingError, ModelFileError."""
    _check(file)
    where = pick_device(device)
    try:
        network = torch.jit.load(str(file), map_location=where).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ModelFileError(f"{file} is no TorchScript file; give one that torch.jit.save wrote") from error

    def call(picture: Tensor, mask: Tensor) -> Tensor:
        output: Tensor = network(picture.to(where), mask.to(where))
        return output.cpu()

    return _of_network(file, call, None, where.type)


def onnx(file: Path) -> Method:
    """An ONNX file, by onnxruntime on the CPU. Raises FileMissingError, ModelFileError, Unavailable."""
    _check(file)
    if find_spec("onnxruntime") is None:
        raise Unavailable(f"{file.name} is left out: onnxruntime is not installed; pip install onnxruntime")
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors: its warnings are for whoever made the file
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base of their own
        why = " ".join(str(error).split())[:160]
        raise ModelFileError(f"{file} is no ONNX file that onnxruntime reads ({why}); give another") from error
    put = session.get_inputs()
    inputs = {"picture" if one.shape[1] == 3 else "mask": one for one in put if len(one.shape) == 4}
    if set(inputs) != {"picture", "mask"} or len(put) != 2:
        raise ModelFileError(f"{file} does not take a picture of 3 channels and a mask of 1; give another")
    sides = inputs["picture"].shape[2:]

    def call(picture: Tensor, mask: Tensor) -> Tensor:
        given = {inputs["picture"].name: picture.numpy(), inputs["mask"].name: mask.numpy()}
        return torch.from_numpy(session.run(None, given)[0])

    return _of_network(file, call, (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None)


def _of_network(file: Path, call: Network, size: tuple[int, int] | None, device: str = "cpu") -> Method:
    """size: the one (H, W) that the network takes; None for any."""

    @torch.inference_mode()
    def fill(picture: Pixels, hole: Hole, seed: int) -> Pixels:
        mask = torch.from_numpy(hole)[None, None].float()  # (1, 1, H, W)
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        try:
            put, covered = _fitted(x, mask, size)
            y = call(put, covered).float()
            if y.shape != put.shape or not bool(torch.isfinite(y).all()):
                raise ValueError(f"it gave {tuple(y.shape)} for {tuple(put.shape)}, or numbers that are not finite")
        except Exception as error:  # what a foreign program raises is not known
            why = " ".join(str(error).split())[-160:]
            raise ModelFileError(f"{file} cannot fill a picture of {x.shape[3]} x {x.shape[2]}: {why}") from error
        y = y / 255 if y.max() > LEVELS_ABOVE else y
        if size is not None:
            y = F.interpolate(y, x.shape[-2:], mode="bicubic", antialias=True)
        y = y[..., : x.shape[2], : x.shape[3]]
        return to_samples((2 * y[0] - 1).permute(1, 2, 0).numpy()).astype(np.uint8)

    return Method(file.stem, fill, identity=f"{_content_of(file)}/{device}", key="network")


def _content_of(word: str | Path) -> str:
    """The hash of a file, or of a program in the system's path, by its name; nothing of what is neither."""
    file = Path(shutil.which(word) or word)
    try:
        if not file.is_file():
            return ""
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # a name too long, or a file that may not be read
        return ""


def _fitted(x: Tensor, mask: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """The picture, black in the hole, and the hole, as the network takes them."""
    if size is not None:
        grown = F.interpolate(mask, size, mode="nearest")
        whole = around(smooth_fill(x, mask), mask, x)
        return F.interpolate(whole, size, mode="bicubic", antialias=True).clamp(0, 1) * (1 - grown), grown
    more, x = (0, -x.shape[3] % MULTIPLE, 0, -x.shape[2] % MULTIPLE), x * (1 - mask)
    return F.pad(x, more, mode="replicate"), F.pad(mask, more, mode="replicate")


def _words(template: str) -> list[str]:
    """A command's words, without the quotes around them. On Windows a backslash stands between folders, and escapes
    nothing.
    """
    if sys.platform != "win32":
        return shlex.split(template)
    words = shlex.split(template, posix=False)
    return [word[1:-1] if len(word) > 1 and word[0] == word[-1] in "\"'" else word for word in words]


def _filled_in(part: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        part = part.replace(f"{{{name}}}", str(value))
    return part


def _run(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise OptionError(
            f"the command {arguments[0]} was not done with a picture in {MOST_SECONDS} seconds; check it by hand"
        ) from error
    except OSError as error:
        raise OptionError(f"the command {arguments[0]} cannot be run: {error.strerror}; check its name") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1][:160]
        raise OptionError(f"the command {arguments[0]} left with {done.returncode}: {said}")


def _check(file: Path) -> None:
    if not file.is_file():
        error: PixmendError = FileMissingError(f"{file} does not exist, or is a folder; give a file")
        raise error
