"""The paths of jobs: what is to be done, how far it is, and what came of it."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from annotated_types import Ge, Le
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from pixmend.efforts import DETAILS, QUALITIES
from pixmend.errors import MaskError, OptionError
from pixmend.samplers import SAMPLERS
from pixmend.web.errors import TooLargeError, UnknownError
from pixmend.web.events import follow
from pixmend.web.jobs import Job
from pixmend.web.operations import Operation, since_clear
from pixmend.web.schemas import Chosen, DenoisingAsked, ExtensionAsked, FillAsked, JobTold, PictureTold
from pixmend.web.service import Service
from pixmend.web.shared import PICTURE_FILE, PROBLEMS, VIEW, Here, Id, Part, Session, drawn, file_of, part_of
from pixmend.web.store import Stored
from pixmend.web.work import Choices

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events `job` and `step`, see docs/serve.md"}
}

router = APIRouter(prefix="/api", responses=PROBLEMS)

Index = Annotated[int, Ge(0), Le(1000)]
Step = Annotated[int, Ge(0), Le(1_000_000)]


@router.post("/fills", status_code=202)
async def fill(service: Here, session: Session, asked: FillAsked) -> JobTold:
    """Fill a picture where operations mark it; or, where the operation `alpha` is all, where it is transparent."""
    stored = service.picture(asked.picture, session)
    choices = _choices(service, asked)
    hole, share = await service.run(_hole_to_fill, service, session, stored, asked.operations)
    # A picture's own alpha as the mask ends with the fill; a mask that was painted leaves the alpha as it is.
    own_alpha = [operation.op for operation in since_clear(asked.operations)] == ["alpha"]
    work = service.worker.fill(None if own_alpha else hole, choices, blur=asked.blur, grow=asked.grow)
    return _told(service, service.submit(Job("fill", session, stored, work, (hole,), share)))


@router.post("/extensions", status_code=202)
async def extend(service: Here, session: Session, asked: ExtensionAsked) -> JobTold:
    """Let a picture go on beyond its borders; what is there stays as it is."""
    stored = service.picture(asked.picture, session)
    choices = _choices(service, asked)
    borders = asked.model_dump(include={"left", "right", "top", "bottom"})
    height, width = stored.size
    pixels = (height + asked.top + asked.bottom) * (width + asked.left + asked.right)
    if pixels == height * width:
        raise OptionError("nothing is to be added; give at least one of left, right, top and bottom")
    if pixels > service.limits.pixels:
        raise TooLargeError(f"the picture would have {pixels:,} pixels; this server takes {service.limits.pixels:,}")
    work = service.worker.extend(borders, choices)
    return _told(service, service.submit(Job("extension", session, stored, work, (), 1 - height * width / pixels)))


@router.post("/denoisings", status_code=202)
async def take_noise_out(service: Here, session: Session, asked: DenoisingAsked) -> JobTold:
    """Take the noise out of a picture."""
    if service.denoiser is None:
        raise UnknownError("this server was started without a denoiser")
    stored = service.picture(asked.picture, session)
    return _told(service, service.submit(Job("denoising", session, stored, service.worker.denoise(asked.level))))


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
    """Cancel a job: it stops within one call of the network, and candidates that were done are dropped."""
    job = service.jobs.get(id, session)
    service.cancel(job)
    return _told(service, job)


@router.get("/jobs/{id}/events", response_class=StreamingResponse, responses=EVENTS)
async def job_events(service: Here, session: Session, id: Id) -> StreamingResponse:
    """The job at every change, as server-sent events, until it is over."""
    job = service.jobs.get(id, session)
    events = await follow(service, job, lambda: _told(service, job).model_dump_json())
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
    return await part_of(service, service.result(id, index, session), part)


@router.get("/jobs/{id}/results/{index}/file", response_class=FileResponse, responses=PICTURE_FILE)
async def get_result_file(service: Here, session: Session, id: Id, index: Index) -> FileResponse:
    """A result in the format of the original, with its metadata."""
    answer = await file_of(service, service.result(id, index, session))
    answer.background = BackgroundTask(service.note_fetched, id, session)  # once it is sent
    return answer


@router.post("/jobs/{id}/results/{index}/keep", status_code=201)
async def keep_result(service: Here, session: Session, id: Id, index: Index) -> PictureTold:
    """A result as a picture to go on with: the very same samples."""
    stored = service.result(id, index, session)
    stored.kept = True
    return PictureTold.of(stored)


# ---------------------------------------------------------------------------------------------------- small helpers


def _told(service: Service, job: Job) -> JobTold:
    return JobTold.of_job(job, service.ahead(job))


def _hole_to_fill(service: Service, session: str, stored: Stored, operations: list[Operation]) -> tuple[Stored, float]:
    """The mask of a fill, stored; what `inpainting` would refuse is refused before it waits for its turn."""
    hole = drawn(service, session, stored, operations)
    share = float(hole.mean())
    if not hole.any():
        raise MaskError("the mask marks nothing; paint over what is to be filled")
    if hole.all():
        raise MaskError("the mask covers the whole picture, so that nothing is known to go on; leave some of it out")
    return service.store.add_hole(hole, session), share


def _choices(service: Service, asked: Chosen) -> Choices:
    """What was chosen, checked before it waits for its turn."""
    if asked.candidates > service.limits.candidates:
        raise OptionError(f"{asked.candidates} candidates are too many; ask for {service.limits.candidates} at most")
    if asked.quality not in QUALITIES:
        raise OptionError(f"quality {asked.quality!r} is not known; choose one of {', '.join(QUALITIES)}")
    if asked.detail not in DETAILS:
        raise OptionError(f"detail {asked.detail!r} is not known; choose one of {', '.join(DETAILS)}")
    if asked.sampler is not None and asked.sampler not in SAMPLERS:
        raise OptionError(f"sampler {asked.sampler!r} is not known; choose one of {', '.join(SAMPLERS)}")
    return Choices(**asked.model_dump(include={field.name for field in dataclasses.fields(Choices)}))
