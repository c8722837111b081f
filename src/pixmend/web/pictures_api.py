"""The paths of pictures and masks."""

from __future__ import annotations

import io
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.responses import FileResponse, Response

import pixmend
from pixmend.efforts import QUALITIES, effort_for
from pixmend.images import encode, open_picture
from pixmend.masks import KINDS
from pixmend.samplers import SAMPLERS
from pixmend.views import MOST_PIXELS
from pixmend.web.limits import MOST_OPERATIONS, MOST_POINTS, MOST_STEPS, MOST_WHOLE
from pixmend.web.schemas import About, KindTold, Limited, MaskAsked, MaskTold, PictureTold, QualityTold
from pixmend.web.shared import PICTURE_FILE, PROBLEMS, VIEW, Here, Id, Part, Session, drawn, file_of, part_of

MASK: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "White where to fill"}}
router = APIRouter(prefix="/api", responses=PROBLEMS)


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
        qualities=[
            QualityTold(name=name, calls=effort_for(name, model).first_steps(model.diffusion.T, model.steps))
            for name in QUALITIES
        ],
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
    return await part_of(service, service.picture(id, session), part)


@router.get("/pictures/{id}/file", response_class=FileResponse, responses=PICTURE_FILE)
async def get_picture_file(service: Here, session: Session, id: Id) -> FileResponse:
    """The picture as it would be saved: in its own format, with its metadata."""
    return await file_of(service, service.picture(id, session))


# ------------------------------------------------------------------------------------------------------------ masks


@router.post("/masks", status_code=201)
async def upload_mask(
    service: Here, session: Session, file: Annotated[UploadFile, File()], picture: Annotated[str, Form(max_length=100)]
) -> MaskTold:
    """Upload a mask of a picture's size, white where to fill."""
    stored = service.picture(picture, session)
    mask, share = await service.run(service.add_mask, file.file, file.filename, stored)
    return MaskTold(id=mask.id, share=share)


@router.get("/masks/{id}")
async def get_mask(service: Here, session: Session, id: Id) -> MaskTold:
    """What is known of an uploaded mask."""
    hole = await service.run(service.store.get(id, session).hole)
    return MaskTold(id=id, share=float(hole.mean()))


@router.post("/masks/render", response_class=Response, responses=MASK)
async def render_mask(service: Here, session: Session, asked: MaskAsked) -> Response:
    """The mask that operations draw, at the picture's own size, as a file that `pixmend inpaint --mask` reads."""
    stored = service.picture(asked.picture, session)

    def render() -> bytes:
        stream = io.BytesIO()
        encode(open_picture(drawn(service, session, stored, asked.operations)), stream, "PNG")
        return stream.getvalue()

    return Response(await service.run(render), media_type="image/png")
