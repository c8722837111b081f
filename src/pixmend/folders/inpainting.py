"""Filling holes, as work on a folder: each picture as `pixmend inpaint` does it alone, with a model loaded once."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixmend.errors import MaskError, OptionError, PictureError
from pixmend.folders.pairing import Task
from pixmend.folders.work import Do, Tick, sha256_of
from pixmend.inputs import MaskOptions, read_inputs
from pixmend.options import ALMOST_ALL

if TYPE_CHECKING:
    from pixmend.pictures import Floats, Picture


@dataclass(frozen=True)
class InpaintWork:
    """`inpainting()` with these options, which mean what they mean there; the same seed for every picture."""

    model: Path | None = None  # a model file; None: the one that ships with pixmend
    hole: MaskOptions = field(default_factory=MaskOptions)  # the mask itself is each picture's own
    steps: int | None = None
    sampler: str | None = None
    quality: str = "balanced"
    detail: str = "picture"
    seed: int = 0
    blur: int | None = None
    grow: int = 0
    backend: str | None = None
    device: str | None = None
    max_memory: str | None = None

    def __post_init__(self) -> None:
        """Name the model so that workers find it, whose current folder is another."""
        if self.model is not None:
            object.__setattr__(self, "model", self.model.absolute())

    def settings(self) -> dict[str, Any]:
        """All options but those of the machine, which change results within rounding only.

        Raises ModelFileError, and OptionError for more steps than the model has noise levels.
        """
        from pixmend import model_files

        path = self.model or model_files.DEFAULT_MODEL
        told = model_files.read_content(path, model_files.REPAIRER).get("diffusion")
        levels = told.get("T") if isinstance(told, dict) else None  # who reads the whole file refuses another
        if self.steps and isinstance(levels, int) and self.steps > levels:
            raise OptionError(f"{self.steps} steps are too many; {path} has {levels} noise levels: give at most that")
        names = ("steps", "sampler", "quality", "detail", "seed", "blur", "grow")
        model = sha256_of(path)
        of_hole = {name: value for name, value in asdict(self.hole).items() if name != "mask"}
        return {"command": "inpaint", "model": model, **{name: getattr(self, name) for name in names}, **of_hole}

    def check(self, task: Task) -> dict[str, Any]:
        """The hole's share, before it grows; raises what reading raises, and MaskError for nothing and for all.

        As `job.read_job` has it, which loads torch.
        """
        from pixmend.components import reached
        from pixmend.pictures import NOT_WHOLE_BESIDE

        picture, strength, notes = self._read(task)
        if strength is None:
            from pixmend.images import mask_from_alpha

            strength = (mask_from_alpha(picture) != self.hole.invert).astype("float32")
        hole = strength > 0 if self.hole.soft else strength >= 0.5
        share = float(hole.mean())
        if share in (0, 1):
            what = "covers the whole picture" if share else "marks nothing"
            raise MaskError(f"the mask {what}; paint white what is to be filled, or use --invert-mask")
        if reached(hole, self.grow + 2 * (self.blur or 0)).all():
            raise MaskError("the mask, grown, covers the whole picture; give a smaller --blur or --grow-mask")
        filled = reached(strength == 1 if self.hole.soft else hole, self.grow)
        if picture.is_float and (picture.lacking() & ~filled).any():
            raise PictureError(NOT_WHOLE_BESIDE)
        return {"hole_share": share, **({"notes": notes} if notes else {})}

    def prepare(self) -> Do:
        """Load the model, and open its network."""
        from pixmend.backends import open_network
        from pixmend.checkpoint import load_model
        from pixmend.images import save_picture
        from pixmend.inpainting import inpainting

        model = load_model(self.model)
        network = open_network(model, self.backend, self.device)

        def do(task: Task, staged: Path, tick: Tick) -> dict[str, Any]:
            picture, strength, notes = self._read(task)
            with warnings.catch_warnings():  # a model from a file may be anything; that is for its maker to say
                warnings.filterwarnings("ignore", "the model was never trained")
                result = inpainting(
                    picture,
                    strength,
                    model=model,
                    steps=self.steps,
                    sampler=self.sampler,
                    quality=self.quality,
                    detail=self.detail,
                    seed=self.seed,
                    blur=self.blur,
                    grow=self.grow,
                    invert_mask=self.hole.invert and strength is None,
                    soft_mask=self.hole.soft,
                    backend=network,
                    max_memory=self.max_memory,
                    progress=tick,
                )
            save_picture(result.pictures[0], staged, note=lambda told: notes.append(told.removeprefix(f"{staged}: ")))
            if result.hole_share > ALMOST_ALL:
                notes.append(f"{result.hole_share:.1%} was filled; if that is not meant, see --invert-mask")
            names = ("hole_share", "touched_share", "network_calls", "seconds", "backend")
            figures = {name: getattr(result, name) for name in names}
            return figures | ({"notes": notes} if notes else {})

        return do

    def _read(self, task: Task) -> tuple[Picture, Floats | None, list[str]]:
        return read_inputs(task.picture, replace(self.hole, mask=task.mask), [task.output])
