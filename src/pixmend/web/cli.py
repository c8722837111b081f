"""The command `pixmend serve`. What is heavy is imported inside."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixmend.backends import check_backend
from pixmend.console import say
from pixmend.errors import OptionError
from pixmend.options import Backend, Device, ModelFile, check_inputs
from pixmend.web.hosts import is_loopback, reachable

if TYPE_CHECKING:
    from pixmend.web.limits import Limits

SHORTEST_TOKEN = 16  # characters


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes any that is free.")] = 8188,
    host: Annotated[str, typer.Option(metavar="H", help="Beyond this machine only with --token.")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(metavar="T", help="What visitors must know; auto makes one.", show_default=False)
    ] = None,
    model: ModelFile = None,
    denoiser: Annotated[Path | None, typer.Option(metavar="FILE", help="A denoiser; by default pixmend's own.")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    max_megapixels: Annotated[float, typer.Option(min=0.01, metavar="X", help="Of one picture.")] = 50,
    max_megabytes: Annotated[float, typer.Option(min=0.01, metavar="X", help="Of one upload.")] = 128,
    queue: Annotated[int, typer.Option(min=1, metavar="N", help="Jobs that may wait.")] = 100,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Where pictures lie while it runs.")] = None,
    backend: Backend = None,
    device: Device = None,
) -> None:
    """Serve the page on which pictures are repaired. Ctrl-C lets the running job end; a second one does not."""
    token = _checked_token(host, token)
    check_backend(backend, device)
    check_inputs(model, denoiser)
    if folder is not None and not folder.is_dir():
        raise OptionError(f"{folder} is not a folder; make it first, or choose another for the pictures")
    _check_installed()
    if folder is not None:
        tempfile.tempdir = str(folder)  # for uploads while they come as well
    limits = limits_of(max_megapixels, max_megabytes, queue)
    _serve(host, port, token, model, denoiser, limits, backend, device, no_open=no_open)


def _serve(
    host: str,
    port: int,
    token: str | None,
    model: Path | None,
    denoiser: Path | None,
    limits: Limits,
    backend: str | None,
    device: str | None,
    *,
    no_open: bool,
) -> None:
    from pixmend.checkpoint import load_model
    from pixmend.denoising.model_file import load_denoiser
    from pixmend.signals import stop_on_signal
    from pixmend.web.app import create_app
    from pixmend.web.server import Server, listen
    from pixmend.web.service import Service

    try:
        listening = listen(host, port)
    except OSError as error:
        raise OptionError(
            f"{host}:{port} cannot be served ({error.strerror}); choose another --port or --host"
        ) from error
    # A signal is only noted until the server heeds it: what lies in its folder is removed in any case.
    with listening, stop_on_signal() as stopped:
        service = Service(load_model(model), load_denoiser(denoiser), limits=limits, backend=backend, device=device)
        address = _address(host, listening.getsockname()[1], token)

        def began() -> None:
            service.ending |= stopped()
            print(f"pixmend serves {address}; Ctrl-C ends it", flush=True)
            if token is not None and not is_loopback(host):
                say(
                    "note",
                    "what is sent is not encrypted; beyond a network that you trust, put a proxy with TLS before it",
                )
            if not no_open and is_loopback(host) and has_screen():
                # Not here: where no browser runs yet, it waits for some seconds, and the server with it.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        Server(create_app(service, token=token, loopback=is_loopback(host)), service, began).run(sockets=[listening])


def limits_of(max_megapixels: float, max_megabytes: float, queue: int) -> Limits:
    """The limits with these in them, and room for several of the largest uploads at once."""
    from pixmend.web.limits import Limits

    largest = round(max_megabytes * 1e6)
    room = max(Limits.incoming_bytes, 4 * largest)
    return Limits(pixels=round(max_megapixels * 1e6), bytes=largest, incoming_bytes=room, queue=queue)


def _address(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    host = reachable(host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{'' if token is None else f'?token={token}'}"


def has_screen() -> bool:
    """Whether a browser would open a window, and not take the terminal."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _checked_token(host: str, token: str | None) -> str | None:
    token = os.environ.get("PIXMEND_TOKEN") if token is None else token
    if token == "auto":
        return secrets.token_urlsafe(24)
    if token is None and not is_loopback(host):
        raise OptionError(f"whoever reaches {host} could use this server; give --token auto, or a token of your own")
    if token is not None and not re.fullmatch(rf"[\w.~-]{{{SHORTEST_TOKEN},200}}", token, re.ASCII):
        raise OptionError(
            f"the token does not do; give {SHORTEST_TOKEN} to 200 letters, digits and -._~, or auto for a random one"
        )
    return token


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [
        name for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client") if find_spec(name) is None
    ]
    if missing:
        raise OptionError(f'the server needs {", ".join(missing)}; install them with: pip install "pixmend[web]"')
