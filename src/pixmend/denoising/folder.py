"""Taking out noise, as work on a folder: each picture as `pixmend denoise` does it alone, with a model loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixmend.folders.pairing import Task
from pixmend.folders.work import Do, Tick, sha256_of


@dataclass(frozen=True)
class DenoiseWork:
    """`denoise()` with these options, which mean what they mean there."""

    model: Path | None = None  # a denoiser's file; None: the one that ships with pixmend
    level: float | None = None  # None: estimated, of each picture
    device: str | None = None

    def __post_init__(self) -> None:
        """Name the model so that workers find it, whose current folder is another."""
        if self.model is not None:
            object.__setattr__(self, "model", self.model.absolute())

    def settings(self) -> dict[str, Any]:
        """All options but the device, which changes results within rounding only; raises ModelFileError."""
        from pixmend import model_files

        path = self.model or model_files.DEFAULT_DENOISER
        model_files.read_content(path, model_files.DENOISER)
        return {"command": "denoise", "model": sha256_of(path), "level": self.level}

    def check(self, task: Task) -> dict[str, Any]:
        """Notes, if any; raises what reading the picture raises, and OutputError for a format that cannot hold it."""
        from pixmend.images import fitted, open_picture

        picture = fitted(open_picture(task.picture), task.output)
        picture.require_whole()
        return {"notes": list(picture.notes)} if picture.notes else {}

    def prepare(self) -> Do:
        """Load the denoiser."""
        from pixmend.denoising.model_file import load_denoiser
        from pixmend.denoising.picture import denoise
        from pixmend.images import fitted, open_picture, save_picture

        denoiser = load_denoiser(self.model)

        def do(task: Task, staged: Path, tick: Tick) -> dict[str, Any]:
            picture = fitted(open_picture(task.picture), task.output)
            notes = list(picture.notes)
            result = denoise(picture, level=self.level, model=denoiser, device=self.device, progress=tick)
            save_picture(result.picture, staged, note=lambda told: notes.append(told.removeprefix(f"{staged}: ")))
            figures = {name: getattr(result, name) for name in ("level", "told", "estimated", "seconds")}
            return figures | ({"notes": notes} if notes else {})

        return do
