"""What stands before every request: who may ask, from where, how much and how slowly; and what every answer says.

The server is for one machine, or for people with its token. So a page of another site must not use it through a
visitor's browser: its requests bear their Origin, and a name that was rebound to 127.0.0.1 bears its Host. Who follows
a link from there is let in with his cookies (SameSite=Lax), for asking changes nothing: whatever does is no GET.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmend.web.errors import (
    FullError,
    LongHeadError,
    OriginError,
    ServerError,
    TokenError,
    TooLargeError,
    TooSlowError,
)
from pixmend.web.hosts import is_loopback
from pixmend.web.limits import MOST_HEAD, Limits
from pixmend.web.metrics import Metrics

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/healthz",)
CLOSED_PATHS = ("/api/", "/metrics", "/openapi.json")  # need the token; the page itself is no secret
UPLOAD_PATHS = ("/api/pictures", "/api/masks")
SLACK = 64 << 10  # bytes of a multipart body besides the file

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, *, limits: Limits, metrics: Metrics, token: str | None = None, loopback: bool = True
    ) -> None:
        self.app, self.limits, self.metrics, self.token, self.loopback = app, limits, metrics, token, loopback
        self.key = secrets.token_bytes(32)  # sessions are signed, so that none needs to be remembered
        self.incoming = {True: limits.incoming_bytes, False: limits.incoming_json_bytes}  # left, of uploads and others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers, cookies = Headers(scope=scope), cookie_parser(Headers(scope=scope).get("cookie", ""))
        new_session = None
        port = scope["server"][1] if scope.get("server") else 0  # browsers keep cookies by host, whatever the port

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(_method(scope), message["status"]).inc()
                self._add_headers(scope, MutableHeaders(scope=message), f"pixmend-session-{port}", new_session)
            await send(message)

        try:
            self._check_head(scope)
            self._check_host(headers)
            self._check_origin(scope, headers)
            if (
                scope["path"] == "/"
                and self.token
                and (given := parse_qs(scope["query_string"].decode("latin-1")).get("token"))
            ):
                await self._let_in(given[0], f"pixmend-token-{port}")(scope, receive, send_on)
                return
            self._check_token(scope, headers, cookies.get(f"pixmend-token-{port}"))
            upload, length = self._check_length(scope, headers)
        except ServerError as error:
            await problem(error)(scope, receive, send_on)
            return
        session = cookies.get(f"pixmend-session-{port}", "")
        if not self._is_ours(session):
            session = new_session = self._begin_session()
        scope.setdefault("state", {})["session"] = session
        with self._taking(upload, length):
            only_asks = scope["method"] in SAFE_METHODS  # and nobody waits for a body
            await self.app(scope, receive if only_asks else self._bounded(receive, length), send_on)

    def _check_head(self, scope: Scope) -> None:
        """Refuse a large head that came at once; uvicorn bounds only those that come in parts."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEAD:
            raise LongHeadError(
                f"the request's head is larger than {MOST_HEAD:,} bytes; send fewer headers and cookies"
            )

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.loopback and self.token is None and not is_loopback(name):  # a token is not told to a name rebound
            raise OriginError(
                f"the host {host[:100]!r} is not this machine; use http://127.0.0.1, or start it with --token"
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        if scope["method"] in SAFE_METHODS:
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        foreign = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
        if foreign or site not in ("same-origin", "none"):
            raise OriginError("requests of other sites are refused; use the page that this server serves")

    def _let_in(self, given: str, cookie: str) -> Response:
        """Answer `/?token=T`: the browser keeps the token, and the address loses it."""
        self._compare(given)
        response = RedirectResponse("/", 303)
        response.set_cookie(cookie, given, httponly=True, samesite="lax")
        return response

    def _check_token(self, scope: Scope, headers: Headers, cookie: str | None) -> None:
        if self.token is None or not scope["path"].startswith(CLOSED_PATHS):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        self._compare(given.strip() if kind.lower() == "bearer" else cookie or "")

    def _compare(self, given: str) -> None:
        if not hmac.compare_digest(given.encode(), (self.token or "").encode()):
            raise TokenError(
                "the token is missing or wrong; open the address that the server printed, with its ?token=..., "
                "or send the header Authorization: Bearer TOKEN"
            )

    def _check_length(self, scope: Scope, headers: Headers) -> tuple[bool, int]:
        """Whether it is an upload, and how many bytes its body may have; raises TooLargeError and FullError."""
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        upload = is_form and scope["path"] in UPLOAD_PATHS
        limit = self.limits.bytes + SLACK if upload else self.limits.json_bytes
        told = headers.get("content-length", "" if "transfer-encoding" in headers else "0")
        length = int(told[:20]) if told.isdecimal() else limit
        if length > limit:
            raise _too_large(limit)
        if length > self.incoming[upload]:
            raise FullError("too much is being sent to the server at once; try again in a second", 1)
        return upload, length

    @contextmanager
    def _taking(self, upload: bool, length: int) -> Iterator[None]:
        """Take the room for a body, and give it back."""
        self.incoming[upload] -= length
        try:
            yield
        finally:
            self.incoming[upload] += length

    def _begin_session(self) -> str:
        name = secrets.token_urlsafe(24)
        return f"{name}.{self._signature(name)}"

    def _is_ours(self, session: str) -> bool:
        name, _, signature = session.partition(".")
        return hmac.compare_digest(signature.encode(), self._signature(name).encode())

    def _signature(self, name: str) -> str:
        return hmac.new(self.key, name.encode(), "sha256").hexdigest()

    def _bounded(self, receive: Receive, limit: int) -> Receive:
        """The body's parts, as long as it is neither too long nor too slow."""
        begun, length, whole = time.monotonic(), 0, False

        async def receive_on() -> Message:
            nonlocal length, whole
            if whole:  # what comes now is that the client went away
                return await receive()
            allowed = self.limits.first_seconds + length / self.limits.least_rate
            try:
                async with asyncio.timeout(max(0.0, begun + allowed - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise _as_http(TooSlowError("the request came too slowly and was dropped; send it again")) from None
            length += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if length > limit:
                raise _as_http(_too_large(limit))
            return message

        return receive_on

    def _add_headers(self, scope: Scope, headers: MutableHeaders, cookie: str, session: str | None) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith(CLOSED_PATHS) else "no-cache")
        if session is not None and not scope["path"].startswith(OPEN_PATHS):
            headers.append("Set-Cookie", f"{cookie}={session}; HttpOnly; Path=/; SameSite=Lax")


def problem(error: ServerError) -> Response:
    """An error as an answer."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"detail": str(error)}, error.status, headers)


def _as_http(error: ServerError) -> HTTPException:
    """What FastAPI lets through where it reads a body."""
    return HTTPException(error.status, str(error))


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the request is larger than {limit:,} bytes, which is what this server takes; send less")


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in (*SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE") else "other"
