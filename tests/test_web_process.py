"""The server as a process: how it begins and ends, and what it does with visitors who dawdle or leave."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
pytest.importorskip("uvicorn")

from pixmend import cli
from pixmend.checkpoint import save_model
from pixmend.web import server
from pixmend.web.app import STATIC, create_app
from pixmend.web.cli import _address
from pixmend.web.hosts import is_loopback
from pixmend.web.service import Service
from web_server import HOLE, picture_file, process, tiny_model

FILE = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture_file() + b"\r\n--x--\r\n"
)
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", tiny_model())


class Visitor:
    """Somebody with a cookie, over connections that can be left open."""

    def __init__(self, address: str) -> None:
        self.host, self.cookie = urlsplit(address).netloc, ""
        self.open = ExitStack()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.open.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        self.open.callback(connection.close)
        connection.request(method, path, body, {"Cookie": self.cookie, **headers})
        answer = connection.getresponse()
        self.open.callback(answer.close)
        self.cookie = self.cookie or answer.headers.get("Set-Cookie", "").partition(";")[0]
        return answer

    def json(self, method: str, path: str, asked: Any = None) -> Any:
        body = None if asked is None else json.dumps(asked).encode()
        return json.load(self.ask(method, path, body, **{"Content-Type": "application/json"}))

    def long_job(self, steps: int = 1000) -> dict[str, Any]:
        picture = json.load(self.ask("POST", "/api/pictures", FILE, **MULTIPART))
        asked = {"picture": picture["id"], "operations": [HOLE], "steps": steps}
        job: dict[str, Any] = self.json("POST", "/api/fills", asked)
        return job


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in answer:
        if line.startswith(b'data: {"id"'):
            yield json.loads(line.removeprefix(b"data: "))


def test_sigterm_lets_the_running_job_end_and_its_result_be_fetched(model: Path, tmp_path: Path) -> None:
    with process("--model", model, folder=tmp_path) as (server, address), Visitor(address) as visitor:
        job = visitor.long_job()
        stream = events(visitor.ask("GET", f"/api/jobs/{job['id']}/events"))
        assert any(told["done"] for told in stream)  # it runs
        waiting = visitor.long_job()
        server.send_signal(signal.SIGTERM)
        ended = next(told for told in stream if told["state"] != "running")
        assert (ended["state"], ended["done"]) == ("done", ended["of"])
        assert visitor.json("GET", f"/api/jobs/{waiting['id']}")["state"] == "cancelled"
        refused = visitor.ask(
            "POST",
            "/api/fills",
            json.dumps({"picture": job["picture"], "operations": [HOLE]}).encode(),
            **{"Content-Type": "application/json"},
        )
        assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
        assert visitor.ask("GET", f"/api/jobs/{job['id']}/results/0/file").read().startswith(b"\x89PNG")
        assert server.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


def test_signal_right_after_the_first_line_ends_it_in_order(model: Path, tmp_path: Path) -> None:
    with process("--model", model, folder=tmp_path) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


def test_signal_before_it_has_begun_leaves_nothing_behind(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pixmend", "serve", "--port", "0", "--no-open", "--model", str(model)]
    with subprocess.Popen(
        [*command, "--folder", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as one:
        while one.poll() is None and not [*tmp_path.iterdir()]:  # it has made its folder, and is about to serve
            time.sleep(0.001)
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) in (0, 130)
    assert list(tmp_path.iterdir()) == []


def test_second_signal_ends_at_once(model: Path, tmp_path: Path) -> None:
    with process("--model", model, folder=tmp_path) as (server, address), Visitor(address) as visitor:
        job = visitor.long_job()
        stream = events(visitor.ask("GET", f"/api/jobs/{job['id']}/events"))
        assert any(told["done"] for told in stream)
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        *_, last = [*stream]
        assert last["done"] < last["of"]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_break_of_windows_ends_it_as_sigterm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    service = Service(tiny_model())
    with server.Server(create_app(service), service).capture_signals():
        signal.raise_signal(signal.SIGUSR1)
        assert service.ending
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    service.store.close()


def test_visitor_who_leaves_a_stream_on_windows_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(server.tell_but_of_leaving)

    class _ProactorBasePipeTransport:
        def _call_connection_lost(self, error: Exception) -> None:
            raise error

        def _other(self, error: Exception) -> None:
            raise error

    pipe, reset = _ProactorBasePipeTransport(), ConnectionResetError(10054, "forcibly closed")
    for callback, error in (
        (pipe._call_connection_lost, reset),
        (pipe._call_connection_lost, ValueError()),
        (pipe._other, reset),
    ):
        loop.call_soon(callback, error)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    first, second = caplog.messages
    assert "_call_connection_lost" in first
    assert "_other" in second


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that several tests share."""
    with process("--model", model, folder=tmp_path_factory.mktemp("server")) as (_, address):
        yield address


def test_visitor_who_leaves_frees_its_stream(address: str) -> None:
    with Visitor(address) as visitor:
        job = visitor.long_job()
        next(events(visitor.ask("GET", f"/api/jobs/{job['id']}/events")))
        assert b"pixmend_event_streams 1.0" in visitor.ask("GET", "/metrics").read()
        visitor.open.close()
        while b"pixmend_event_streams 1.0" in visitor.ask("GET", "/metrics").read():
            pass  # until the server has noticed; pytest's own timeout bounds it
        visitor.json("DELETE", f"/api/jobs/{job['id']}")
        *_, last = events(visitor.ask("GET", f"/api/jobs/{job['id']}/events"))
        assert last["state"] == "cancelled"


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/..%2fapp.py",
        "/%2e%2e/%2E%2E/errors.py",
        "/x/../../app.py",
        "/..\\app.py",
        f"/{STATIC.parent}/app.py",
        "/api/pictures/..%2f..%2fx",
    ],
)
def test_paths_lead_nowhere_else(address: str, path: str) -> None:
    """Sent as they stand: most clients tidy paths up first."""
    with Visitor(address) as visitor:
        answer = visitor.ask("GET", path)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/json")


def test_upload_that_breaks_off_stores_nothing(address: str) -> None:
    with Visitor(address) as visitor:
        before = stored(visitor)
        with broken_off(address, b"POST /api/pictures HTTP/1.1\r\nContent-Length: 99999\r\n", FILE[:400]):
            pass
        assert stored(visitor) == before
        assert visitor.ask("POST", "/api/pictures", FILE, **MULTIPART).status == 201


def test_huge_heads_are_refused(address: str) -> None:
    with broken_off(address, b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_many_headers_that_come_at_once_are_refused(address: str) -> None:
    head = b"GET /healthz HTTP/1.1\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1500 + b"\r\n"
    with broken_off(address, head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_head_that_does_not_come_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    with server.listen("127.0.0.1", 0) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        service = Service(tiny_model())
        uvicorn = server.Server(create_app(service), service)
        thread = threading.Thread(target=uvicorn.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            for head in (b"", b"GET / HTTP/1.1\r\nX: y", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"):
                with broken_off(address, head) as connection:
                    while connection.recv(10_000):
                        pass  # an answer to what was whole; then the end
        finally:
            uvicorn.should_exit = True
            thread.join()


@contextmanager
def broken_off(address: str, head: bytes, body: bytes = b"") -> Iterator[socket.socket]:
    """A connection on which a request begins and never ends."""
    to = urlsplit(address)
    with socket.create_connection((to.hostname, to.port), 60) as connection:
        more = f"Host: {to.netloc}\r\nContent-Type: {MULTIPART['Content-Type']}\r\n\r\n" if body else ""
        connection.sendall(head + more.encode() + body)
        yield connection


def stored(visitor: Visitor) -> bytes:
    return next(
        line for line in visitor.ask("GET", "/metrics").read().splitlines() if line.startswith(b"pixmend_stored ")
    )


def test_only_loopback_goes_without_a_token(err: Any) -> None:
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--token" in err()
    assert cli.main(["serve", "--host", "0.0.0.0", "--token", "short"]) == 2
    assert "auto" in err()
    for host in ("127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.0.3", "example.org", "localhost.example.org", ""):
        assert not is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_address_that_is_printed_is_one_that_others_can_open(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(host: str) -> str:
        address = urlsplit(_address(host, 8188, "a-token-of-some-length"))
        assert (address.port, address.query) == (8188, "token=a-token-of-some-length")
        return address.hostname or ""

    assert named(host) not in ("", "0.0.0.0", "::")
    assert named("127.0.0.1") == "127.0.0.1"
    assert named("::1") == "::1"

    def no_way(*given: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("pixmend.web.hosts.socket.socket", no_way)
    assert named(host) == socket.gethostname().lower()


def test_port_in_use_is_one_line(err: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["serve", "--no-open", "--port", str(taken.getsockname()[1])]) == 2
    assert "another --port" in err()


def test_missing_packages_are_named(err: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["serve", "--no-open"]) == 2
    assert 'pip install "pixmend[web]"' in err()


def test_help_of_serve_loads_no_torch() -> None:
    program = "import sys\nfrom pixmend.cli import main\nassert main(['serve', '--help']) == 0\n"
    program += "assert not {'torch', 'numpy', 'fastapi', 'uvicorn'} & {name.partition('.')[0] for name in sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
