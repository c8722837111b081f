"""The application: paths, errors as one line, the page's files, and the guard around all of it."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import pixmend
from pixmend.errors import PixmendError
from pixmend.web import jobs_api, pictures_api
from pixmend.web.errors import ServerError, status_of
from pixmend.web.guard import HEADERS, Guard, problem
from pixmend.web.metrics import CONTENT_TYPE
from pixmend.web.schemas import Health
from pixmend.web.service import Service
from pixmend.web.shared import PROBLEMS
from pixmend.web.store import ADVICE

STATIC = Path(__file__).parent / "static"
LONGEST_DETAIL = 500  # characters
UNREADABLE = "There was an error parsing the body"
PLAINER = {  # what FastAPI says of its own accord, with what to do
    "Not Found": "there is nothing at this path; /openapi.json has those that there are",
    "Method Not Allowed": "this path is not for this method; /openapi.json has those that are",
    UNREADABLE: "the body cannot be read; /openapi.json has what it is to be: JSON in UTF-8, or a form with a file",
}

TYPES = {  # some systems' tables say otherwise, and then browsers refuse modules and style sheets
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
for suffix, media_type in TYPES.items():
    mimetypes.add_type(media_type, suffix)


def create_app(service: Service, *, token: str | None = None, loopback: bool = True) -> FastAPI:
    """The server's ASGI application.

    token: what who asks must know; None for nobody but this machine. loopback: only hosts' names of this machine do.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        sweeping = asyncio.create_task(service.sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="pixmend",
        version=pixmend.__version__,
        summary="Repairs pictures: upload one, mark what is to be filled, fetch the result.",
        docs_url=None,  # they load scripts from other hosts; the description itself is at /openapi.json
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    for api in (pictures_api, jobs_api):
        app.include_router(api.router)
    _add_errors(app)
    _add_health(app, service)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.add_middleware(Guard, limits=service.limits, metrics=service.metrics, token=token, loopback=loopback)
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the server is there."""
        return Health(status="ending" if service.ending else "ok")

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, 401: PROBLEMS[401]})
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(PixmendError)
    async def of_pixmend(request: Request, error: PixmendError) -> Response:
        if isinstance(error, ServerError):
            return problem(error)
        return _answer(status_of(error), str(error))

    @app.exception_handler(Exception)
    async def of_defect(request: Request, error: Exception) -> Response:
        return _answer(500, "this is a defect of pixmend; the server's log has more", HEADERS)  # the guard is passed by

    @app.exception_handler(RequestValidationError)
    async def of_validation(request: Request, error: RequestValidationError) -> Response:
        first, *others = error.errors()
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        more = f"; and {len(others)} more" if others else ""
        return _answer(422, f"{where or 'the request'}: {first['msg']}{more}; see /openapi.json")

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        if error.detail == UNREADABLE and isinstance(error.__cause__, OSError):  # an upload comes through a file
            return _answer(507, f"the upload could not be kept: {error.__cause__.strerror}; {ADVICE}")
        detail = PLAINER.get(str(error.detail), str(error.detail))
        return _answer(error.status_code, detail, dict(error.headers or {}))


def _answer(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": " ".join(detail.split())[:LONGEST_DETAIL]}, status, headers)
