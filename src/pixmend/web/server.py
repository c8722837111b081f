"""uvicorn, with an end that lets the running job finish, and without patience for requests that never begin."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from pixmend.signals import handling
from pixmend.web.limits import MOST_HEAD
from pixmend.web.service import Service

HEAD_SECONDS = 15.0  # for the head of a request, from its first byte or the connection's begin on
MOST_CONNECTIONS = 500  # half of the files that a process may have open, on many systems

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a request is told who sent it


class Server(uvicorn.Server):
    """Tells when it begins. Ends as it was asked to: told once, when the running job is over; told twice, at once."""

    def __init__(self, app: FastAPI, service: Service, began: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                access_log=False,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=MOST_HEAD,
                timeout_graceful_shutdown=5,
            )
        )
        self.service, self.began = service, began

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin; it is told only now, when a signal that follows is heeded."""
        asyncio.get_running_loop().set_exception_handler(tell_but_of_leaving)
        await super().startup(sockets)
        if self.started and self.began is not None:
            self.began()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM, SIGHUP and Windows' Ctrl-Break end the server; that is no failure, so nothing is raised."""
        with handling(self.handle_exit, "SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end; one more ends at once."""
        if self.service.ending:
            self.should_exit = True
        self.service.ending = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether it is time to end."""
        if self.service.ending and not self.should_exit:
            self.service.wind_down()
            self.should_exit = self.service.is_wound_down()
        if self.should_exit:
            self.service.close_streams()
        return await super().on_tick(counter)


class Protocol(H11Protocol):
    """HTTP/1.1 whose connections are closed where the head of a request does not come in time (slowloris)."""

    overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock runs from the beginning of a connection ..."""
        super().connection_made(transport)
        # asyncio does this only for sockets that were made with a protocol, which `create_server` does not do. Without
        # it, the second part of an answer waits for 40 ms where the client acknowledges the first one late.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """... and from the first byte of each further request, until its head is whole."""
        self._expect_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and self.overdue is not None:
            self.overdue.cancel()
            self.overdue = None

    def connection_lost(self, exc: Exception | None) -> None:
        """No clock runs for what is closed."""
        if self.overdue is not None:
            self.overdue.cancel()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self.overdue is None and self.conn.their_state is h11.IDLE:
            self.overdue = self.loop.call_later(HEAD_SECONDS, self.transport.close)


def tell_but_of_leaving(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody caught, but for one thing: on Windows a visitor who leaves a stream looks like an error there."""
    where = "_ProactorBasePipeTransport._call_connection_lost"
    if not (isinstance(context.get("exception"), ConnectionResetError) and where in context["message"]):
        loop.default_exception_handler(context)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError where it cannot. Port 0 is any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)
