"""What the paths under /api share: who asks, what can go wrong, and the parts and files of pictures."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import MaxLen
from fastapi import Depends, Query, Request
from fastapi.responses import FileResponse, Response

from pixmend.components import Hole
from pixmend.encoding import FORMATS
from pixmend.views import view_of
from pixmend.web.operations import Operation, draw
from pixmend.web.schemas import Problem
from pixmend.web.service import Service
from pixmend.web.store import Stored

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
        431: "Too many headers or cookies",
        503: "The server is ending",
        507: "No room for more pictures",
    }.items()
}
PICTURE_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}}, "description": "The file, in the format of the original"}
}
VIEW: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {}, "image/png": {}, "image/jpeg": {}}, "description": "The part, 8 bits a sample"}
}

Id = Annotated[str, MaxLen(100)]


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


async def part_of(service: Service, stored: Stored, part: Part) -> Response:
    """The part of a picture that was asked for."""
    view = await service.run(lambda: view_of(stored.picture(), **part.asked))
    return Response(view.data, media_type=view.media_type)


async def file_of(service: Service, stored: Stored) -> FileResponse:
    """A picture in its own format."""
    path = await service.run(service.store.file, stored)
    return FileResponse(path, media_type=f"image/{FORMATS[path.suffix].lower()}", filename=stored.name)


def drawn(service: Service, session: str, stored: Stored, operations: list[Operation]) -> Hole:
    """The hole that operations mark."""
    return draw(operations, stored.picture(), lambda id: service.store.get(id, session).hole())
