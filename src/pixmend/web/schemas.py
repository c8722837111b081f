"""What requests and answers are made of; FastAPI checks them and describes them in /openapi.json."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen
from pydantic import BaseModel, ConfigDict, Field

from pixmend.soft_masks import RADIUS_LIMIT
from pixmend.web.errors import without_options
from pixmend.web.jobs import Job, Kind, State
from pixmend.web.limits import MOST_STEPS
from pixmend.web.operations import Operations
from pixmend.web.store import Stored

Id = Annotated[str, MaxLen(100)]
Seed = Annotated[int, Ge(0), Le(2**53)]  # as far as JavaScript counts
Pixels = Annotated[int, Ge(0), Le(RADIUS_LIMIT)]
Border = Annotated[int, Ge(0), Le(100_000)]


class Problem(BaseModel):
    """What was wrong, what is allowed, and what to do next, in one line."""

    detail: str


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a misspelt option is an error, and not ignored


class MaskAsked(_Asked):
    """A mask to be drawn."""

    picture: Id
    operations: Operations


class Chosen(_Asked):
    """How a fill is to be made; what is left out, the model knows best."""

    quality: Annotated[str, MaxLen(100)] = "balanced"
    detail: Annotated[str, MaxLen(100)] = "picture"
    steps: Annotated[int, Ge(1), Le(MOST_STEPS)] | None = None
    sampler: Annotated[str, MaxLen(100)] | None = None
    seed: Seed = 0
    candidates: Annotated[int, Ge(1)] = 1


class FillAsked(MaskAsked, Chosen):
    """A picture to be filled where the operations mark it."""

    blur: Pixels | None = None
    grow: Pixels = 0


class ExtensionAsked(Chosen):
    """A picture to go on beyond its borders, by so many pixels."""

    picture: Id
    left: Border = 0
    right: Border = 0
    top: Border = 0
    bottom: Border = 0


class DenoisingAsked(_Asked):
    """A picture to take the noise out of: of this standard deviation in units of [-1, 1], or else estimated."""

    picture: Id
    level: Annotated[float, Ge(0), Le(1), Field(allow_inf_nan=False)] | None = None


class PictureTold(BaseModel):
    """A picture, upright."""

    id: str
    name: str = Field(description="As it will be saved: the suffix says the format.")
    width: int
    height: int
    format: str | None = Field(description="Of the file that came; null for a picture from memory.")
    mode: str
    alpha: bool
    lacking: bool = Field(description="Whether samples say that something was not measured; `alpha` marks it, too.")
    notes: list[str] = Field(description="What could not be kept as it was.")

    @classmethod
    def of(cls, stored: Stored) -> PictureTold:
        """Of a stored picture."""
        height, width = stored.size
        shell = stored.shell
        assert shell is not None  # for Store.get_picture has seen to it
        return cls(
            id=stored.id,
            name=stored.name,
            width=width,
            height=height,
            format=shell.format,
            mode=shell.mode,
            alpha=shell.has_alpha,
            lacking=stored.lacking,
            notes=[without_options(note) for note in shell.notes],
        )


class MaskTold(BaseModel):
    """An uploaded mask."""

    id: str
    share: float = Field(description="Of the picture that it marks, 0 to 1.")


class ResultTold(BaseModel):
    """One picture that a job made."""

    index: int
    width: int
    height: int
    level: float | None = Field(default=None, description="Of the noise that was taken out, in units of [-1, 1].")


class JobTold(BaseModel):
    """A job, and how far it is."""

    id: str
    kind: Kind
    picture: str
    state: State
    ahead: int = Field(description="How many jobs come before it.")
    done: int = Field(description="Of `of`: tiles that the network was called on, of all candidates.")
    of: int | None
    seconds_left: float | None
    error: str | None
    calls: int = Field(description="Of the network, so far.")
    seconds: float | None = Field(description="For how long it was worked on.")
    results: list[ResultTold]
    mask_share: float | None
    created: float = Field(description="Seconds since 1970.")

    @classmethod
    def of_job(cls, job: Job, ahead: int) -> JobTold:
        """Of a job as it is now."""
        results = [
            ResultTold(index=i, width=result.stored.size[1], height=result.stored.size[0], level=result.level)
            for i, result in enumerate(job.results)
        ]
        return cls(
            id=job.id,
            kind=job.kind,
            picture=job.picture.id,
            state=job.state,
            ahead=ahead,
            done=job.done,
            of=job.of,
            seconds_left=job.seconds_left,
            error=job.error,
            calls=job.calls,
            seconds=job.seconds,
            results=results,
            mask_share=job.mask_share,
            created=job.created,
        )


class Limited(BaseModel):
    """What the server takes."""

    bytes: int
    pixels: int
    view_pixels: int
    queue: int
    own_queue: int
    candidates: int
    steps: int
    operations: int
    points: int
    whole_operations: int
    keep_seconds: float


class QualityTold(BaseModel):
    """What a fill can be asked to cost."""

    name: str
    calls: int = Field(description="Of the network at the coarsest level; the finer ones come on top.")


class KindTold(BaseModel):
    """A kind of mask."""

    name: str
    text: str


class About(BaseModel):
    """What there is to choose from."""

    version: str
    model: dict[str, Any]
    limits: Limited
    qualities: list[QualityTold]
    kinds: list[KindTold]
    samplers: list[str]
    denoiser: bool


class Health(BaseModel):
    """Whether the server is there."""

    status: Literal["ok", "ending"]
