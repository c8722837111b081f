"""The paths under /api, and what each answers."""

from __future__ import annotations

import dataclasses
import io
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse

import pixmend
from pixmend.checkpoint import Model
from pixmend.encoding import FORMATS
from pixmend.errors import MaskError, OptionError
from pixmend.filling import QUALITIES, Filling
from pixmend.images import encode, open_picture
from pixmend.masks import KINDS
from pixmend.samplers import SAMPLERS
from pixmend.views import MOST_PIXELS, view_of
from pixmend.web.errors import UnknownError
from pixmend.web.events import follow
from pixmend.web.jobs import Job
from pixmend.web.limits import MOST_OPERATIONS, MOST_POINTS, MOST_STEPS, MOST_WHOLE
from pixmend.web.operations import Hole, Operation, draw
from pixmend.web.schemas import (
    About,
    DenoisingAsked,
    FillAsked,
    JobTold,
    KindTold,
    Limited,
    MaskAsked,
    MaskTold,
    PictureTold,
    Problem,
    QualityTold,
)
from pixmend.web.service import Service
from pixmend.web.store import Stored
from pixmend.web.work import Choices

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "A value, mask or body that does not do",
        401: "The token is missing or wrong",
        403: "Another site, or another host",
        404: "Nothing of yours has this id",
        408: "The request came too slowly",
        409: "Not ready yet",
        410: "It has expired",
        413: "Too many bytes or pixels",
        415: "Not a picture that can be read",
        422: "A request that is not understood",
        429: "Too many; see Retry-After",
        503: "The server is ending",
        507: "No room for more pictures",
    }.items()
}
PICTURE_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}}, "description": "The file, in the format of the original"}
}
VIEW: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/jpeg": {}}, "description": "The part, 8 bits a sample"}
}
MASK: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "White where to fill"}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events `job` and `step`, see docs/serve.md"}
}

router = APIRouter(prefix="/api", responses=PROBLEMS)

Id = Annotated[str, MaxLen(100)]
Index = Annotated[int, Ge(0), Le(1000)]
Step = Annotated[int, Ge(0), Le(1_000_000)]


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _session(request: Request) -> str:
    session: str = request.scope["state"]["session"]
    return session


Here = Annotated[Service, Depends(_service)]
Session = Annotated[str, Depends(_session)]


class Part:
    """The query of a view: a part of the picture, in its pixels, and a scale."""

    def __init__(
        self,
        left: Annotated[int, Query(ge=0)] = 0,
        top: Annotated[int, Query(ge=0)] = 0,
        width: Annotated[int | None, Query(ge=1)] = None,
        height: Annotated[int | None, Query(ge=1)] = None,
        scale: Annotated[float | None, Query(gt=0, le=1, allow_inf_nan=False)] = None,
    ) -> None:
        self.asked: dict[str, Any] = {"left": left, "top": top, "width": width, "height": height, "scale": scale}


# --------------------------------------------------------------------------------------------------------- pictures


@router.get("/about")
async def about(service: Here) -> About:
    """What there is to choose from, and what the limits are."""
    limits, model = service.limits, service.model
    told = {
        "parameters": model.network.parameter_count,
        "size": model.size,
        "sampler": model.sampler,
        "steps": model.steps,
        "conditioning": model.conditioning,
        "legs": model.legs,
        "terms": model.terms,
    }
    return About(
        version=pixmend.__version__,
        model=told,
        limits=Limited(
            bytes=limits.bytes,
            pixels=limits.pixels,
            view_pixels=MOST_PIXELS,
            queue=limits.queue,
            own_queue=limits.own_queue,
            candidates=limits.candidates,
            steps=MOST_STEPS,
            operations=MOST_OPERATIONS,
            points=MOST_POINTS,
            whole_operations=MOST_WHOLE,
            keep_seconds=limits.keep_seconds,
        ),
        qualities=[QualityTold(name=name, calls=calls_of(name, model)) for name in QUALITIES],
        kinds=[KindTold(name=name, text=(draw.__doc__ or "").splitlines()[0]) for name, draw in KINDS.items()],
        samplers=list(SAMPLERS),
        denoiser=service.denoiser is not None,
    )


@router.post("/pictures", status_code=201)
async def upload_picture(service: Here, session: Session, file: Annotated[UploadFile, File()]) -> PictureTold:
    """Upload a picture in any format that the command line reads."""
    return PictureTold.of(await service.run(service.add_picture, file.file, file.filename, session))


@router.get("/pictures/{id}")
async def get_picture(service: Here, session: Session, id: Id) -> PictureTold:
    """What is known of a picture."""
    return PictureTold.of(service.picture(id, session))


@router.get("/pictures/{id}/view", response_class=Response, responses=VIEW)
async def view_picture(service: Here, session: Session, id: Id, part: Annotated[Part, Depends()]) -> Response:
    """A part of a picture to be shown; left out, all of it at the largest scale that fits 4 megapixels."""
    return await _view(service, service.picture(id, session), part)


@router.get("/pictures/{id}/file", response_class=FileResponse, responses=PICTURE_FILE)
async def get_picture_file(service: Here, session: Session, id: Id) -> FileResponse:
    """The picture as it would be saved: in its own format, with its metadata."""
    return await _file(service, service.picture(id, session))


# ------------------------------------------------------------------------------------------------------------ masks


@router.post("/masks", status_code=201)
async def upload_mask(
    service: Here, session: Session, file: Annotated[UploadFile, File()], picture: Annotated[str, Form(max_length=100)]
) -> MaskTold:
    """Upload a mask of a picture's size, white where to fill."""
    stored = service.picture(picture, session)
    mask, share = await service.run(service.add_mask, file.file, file.filename, stored)
    return MaskTold(id=mask.id, share=share)


@router.post("/masks/render", response_class=Response, responses=MASK)
async def render_mask(service: Here, session: Session, asked: MaskAsked) -> Response:
    """The mask that operations draw, at the picture's own size, as a file that `pixmend inpaint --mask` reads."""
    stored = service.picture(asked.picture, session)

    def render() -> bytes:
        stream = io.BytesIO()
        encode(open_picture(_hole(service, session, stored, asked.operations)), stream, "PNG")
        return stream.getvalue()

    return Response(await service.run(render), media_type="image/png")


# ------------------------------------------------------------------------------------------------------------- jobs


@router.post("/fills", status_code=202)
async def fill(service: Here, session: Session, asked: FillAsked) -> JobTold:
    """Fill a picture where operations mark it; or, where the operation `alpha` is all, where it is transparent."""
    stored = service.picture(asked.picture, session)
    _check_choices(service, asked)
    choices = Choices(**asked.model_dump(include={field.name for field in dataclasses.fields(Choices)}))
    hole, share = await service.run(_hole_to_fill, service, session, stored, asked.operations)
    # A picture's own alpha as the mask ends with the fill; a mask that was painted leaves the alpha as it is.
    own_alpha = [operation.op for operation in asked.operations] == ["alpha"]
    work = service.worker.fill(stored, None if own_alpha else hole, choices)
    return _told(service, service.submit(Job("fill", session, stored, work, (hole,), share)))


@router.post("/denoisings", status_code=202)
async def take_noise_out(service: Here, session: Session, asked: DenoisingAsked) -> JobTold:
    """Take the noise out of a picture."""
    if service.denoiser is None:
        raise UnknownError("this server has no denoiser; start it without --no-denoiser")
    stored = service.picture(asked.picture, session)
    return _told(
        service, service.submit(Job("denoising", session, stored, service.worker.denoise(stored, asked.level)))
    )


@router.get("/jobs")
async def list_jobs(service: Here, session: Session) -> list[JobTold]:
    """All jobs of this session that are remembered, the newest first."""
    return [_told(service, job) for job in service.jobs.of(session)]


@router.get("/jobs/{id}")
async def get_job(service: Here, session: Session, id: Id) -> JobTold:
    """How far a job is."""
    return _told(service, service.jobs.get(id, session))


@router.delete("/jobs/{id}")
async def cancel_job(service: Here, session: Session, id: Id) -> JobTold:
    """Cancel a job: it stops within one call of the network. What it made so far stays."""
    job = service.jobs.get(id, session)
    service.cancel(job)
    return _told(service, job)


@router.get("/jobs/{id}/events", response_class=StreamingResponse, responses=EVENTS)
async def job_events(service: Here, session: Session, id: Id) -> StreamingResponse:
    """The job at every change, as server-sent events, until it is over."""
    job = service.jobs.get(id, session)
    events = follow(service, job, lambda: _told(service, job).model_dump_json())
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.get("/jobs/{id}/steps/{candidate}/{step}/view", response_class=Response, responses=VIEW)
async def view_step(service: Here, session: Session, id: Id, candidate: Index, step: Step) -> Response:
    """What a candidate looked like after a step, reduced; the job's events name the steps that have this."""
    stored = service.jobs.get(id, session).preview(candidate, step)
    view = await service.run(stored.view)
    return Response(view.data, media_type=view.media_type)


@router.get("/jobs/{id}/results/{index}/view", response_class=Response, responses=VIEW)
async def view_result(
    service: Here, session: Session, id: Id, index: Index, part: Annotated[Part, Depends()]
) -> Response:
    """A part of a result, as of a picture."""
    return await _view(service, service.result(id, index, session), part)


@router.get("/jobs/{id}/results/{index}/file", response_class=FileResponse, responses=PICTURE_FILE)
async def get_result_file(service: Here, session: Session, id: Id, index: Index) -> FileResponse:
    """A result in the format of the original, with its metadata."""
    return await _file(service, service.result(id, index, session))


@router.post("/jobs/{id}/results/{index}/keep", status_code=201)
async def keep_result(service: Here, session: Session, id: Id, index: Index) -> PictureTold:
    """A result as a picture to go on with: the very same samples."""
    stored = service.result(id, index, session)
    stored.kept = True
    return PictureTold.of(stored)


# ---------------------------------------------------------------------------------------------------- small helpers


def _told(service: Service, job: Job) -> JobTold:
    return JobTold.of_job(job, service.ahead(job))


async def _view(service: Service, stored: Stored, part: Part) -> Response:
    view = await service.run(lambda: view_of(stored.picture(), **part.asked))
    return Response(view.data, media_type=view.media_type)


async def _file(service: Service, stored: Stored) -> FileResponse:
    path = await service.run(stored.file)
    return FileResponse(path, media_type=f"image/{FORMATS[path.suffix].lower()}", filename=stored.name)


def _hole(service: Service, session: str, stored: Stored, operations: list[Operation]) -> Hole:
    return draw(operations, stored.picture(), lambda id: service.store.get(id, session).hole())


def _hole_to_fill(service: Service, session: str, stored: Stored, operations: list[Operation]) -> tuple[Stored, float]:
    """The mask of a fill, stored; what `inpainting` would refuse is refused before it waits for its turn."""
    hole = _hole(service, session, stored, operations)
    share = float(hole.mean())
    if not hole.any():
        raise MaskError("the mask marks nothing; paint over what is to be filled")
    if hole.all():
        raise MaskError("the mask covers the whole picture, so that nothing is known to go on; leave some of it out")
    return service.store.add_hole(hole, session), share


def _check_choices(service: Service, asked: FillAsked) -> None:
    if asked.candidates > service.limits.candidates:
        raise OptionError(f"{asked.candidates} candidates are too many; ask for {service.limits.candidates} at most")
    if asked.quality not in QUALITIES:
        raise OptionError(f"quality {asked.quality!r} is not known; choose one of {', '.join(QUALITIES)}")
    if asked.sampler is not None and asked.sampler not in SAMPLERS:
        raise OptionError(f"sampler {asked.sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")


def calls_of(quality: str, model: Model) -> int:
    """The network calls that a quality spends at the coarsest level."""
    return len(Filling(model, quality=quality).first_times)
