"""Bad input for `pixmend serve`: attacks by hand, and Schemathesis over its OpenAPI description.

    python bench/serve_attack.py [--examples 100]

Prints a table of what was tried and what the server said (docs/serve.md has it), and what Schemathesis found. Any
answer of 500 or above that is not meant, any answer that the description does not allow, and any traceback in the
server's log is a failure. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import io
import random
import socket
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from PIL import Image

from serve_site import Site, site, tiny_model

TOKEN = "correct-horse-battery"
SLOW_SECONDS = 60  # after which a slow sender must have been sent away
Attack = Callable[[Site], str]


def png_claiming(width: int, height: int) -> bytes:
    """A small file that claims to be a large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_with_text(bytes_: int) -> bytes:
    """A picture with a compressed text of so many bytes."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    data = stream.getvalue()
    text = b"zTXt" + b"bomb\0\0" + zlib.compress(bytes(bytes_), 9)
    return data[:33] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + data[33:]


def picture(format: str = "PNG", size: tuple[int, int] = (64, 64)) -> bytes:
    """A plain picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, "teal").save(stream, format)
    return stream.getvalue()


def frames() -> bytes:
    """An animation."""
    stream = io.BytesIO()
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:])
    return stream.getvalue()


def upload(data: bytes, name: str = "x.png") -> Attack:
    """An upload of this."""
    return lambda site: said(httpx2.post(f"{site.address}/api/pictures", files={"file": (name, data)}))


def post(path: str, body: bytes, **headers: str) -> Attack:
    """A body as it is."""
    headers = {"Content-Type": "application/json", **headers}
    return lambda site: said(httpx2.post(f"{site.address}{path}", content=body, headers=headers, timeout=60))


def get(path: str, **headers: str) -> Attack:
    """A path as it is, not tidied up."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    host = "" if "Host" in headers else "Host: 127.0.0.1\r\n"
    return raw(f"GET {path} HTTP/1.1\r\n{host}{head}Connection: close\r\n\r\n".encode("latin-1"))


def fill(*operations: Any, **choices: Any) -> Attack:
    """A fill of a picture that is really there."""

    def attack(site: Site) -> str:
        with httpx2.Client(base_url=site.address, timeout=120) as client:
            id = client.post("/api/pictures", files={"file": ("x.png", picture())}).json()["id"]
            return said(client.post("/api/fills", json={"picture": id, "operations": operations, **choices}))

    return attack


def raw(data: bytes) -> Attack:
    """Bytes on a connection, and what comes back."""

    def attack(site: Site) -> str:
        with connection(site) as sock:
            with suppress(ConnectionError):  # who does not listen to the end may have said why
                sock.sendall(data)
            return first_line(sock)

    return attack


def slowly(head: bytes, byte: bytes) -> Attack:
    """A request that comes a byte a second."""

    def attack(site: Site) -> str:
        with connection(site) as sock:
            sock.sendall(head)
            started = time.monotonic()
            while (seconds := time.monotonic() - started) < SLOW_SECONDS:
                try:
                    sock.settimeout(1)
                    answer = sock.recv(1000)
                    return f"{(answer.split(bytes([13]))[0].decode() or 'closed')} after {seconds:.0f} s"
                except TimeoutError:
                    pass
                except ConnectionError:
                    return f"closed after {seconds:.0f} s"
                try:
                    sock.sendall(byte)
                except ConnectionError:
                    return f"closed after {seconds:.0f} s"
            return "still open"

    return attack


def many_idle(site: Site) -> str:
    """Connections that say nothing, and what others then get."""
    idle = [connection(site) for _ in range(300)]
    try:
        return said(httpx2.get(f"{site.address}/healthz"))
    finally:
        for sock in idle:
            sock.close()


def connection(site: Site) -> socket.socket:
    """To the server."""
    to = urlsplit(site.address)
    return socket.create_connection((to.hostname, to.port), 30)


def first_line(sock: socket.socket) -> str:
    """What the server says first, or that it closed."""
    try:
        return sock.recv(1000).split(b"\r\n")[0].decode("latin-1") or "closed"
    except TimeoutError:
        return "no answer"
    except ConnectionError:
        return "closed"


def said(answer: httpx2.Response) -> str:
    """Status and reason of an answer, as a line."""
    try:
        detail = answer.json().get("detail", "")
    except (ValueError, AttributeError):
        detail = ""
    return f"{answer.status_code} {detail}".strip()


BOX = {"op": "rectangle", "left": 8, "top": 8, "right": 20, "bottom": 20}
GROW = {"op": "grow", "pixels": 1024}
BROAD = {"op": "stroke", "points": [[-1e6, -1e6], [1e6, 1e6]], "width": 10_000}
LASSO = {"op": "lasso", "points": [[random.Random(i).uniform(0, 60), i % 64] for i in range(200_000)]}
FILL = b'{"picture": "x", "operations": []}'
NAN = b'{"picture": "x", "operations": [{"op": "stroke", "points": [[NaN, 1]], "width": 1}]}'
LATIN = b'{"picture": "\xe9", "operations": []}'
DIGITS = b'{"picture": ' + b"9" * 100_000 + b"}"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"
PARTS = b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % i for i in range(5000)) + b"--x--"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
EVIL = {"Origin": "http://evil.example"}
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /api/fills HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

# What is tried, and how the answer must begin.
ATTACKS: tuple[tuple[str, str, Attack], ...] = (
    ("a PNG of 1 MB that claims 30,000 x 30,000 pixels", "415", upload(png_claiming(30_000, 30_000))),
    ("a PNG that claims 8,000 x 8,000 pixels", "413", upload(png_claiming(8000, 8000))),
    ("a PNG that claims 2^31 - 1 pixels a side", "415", upload(png_claiming(2**31 - 1, 2**31 - 1))),
    ("a PNG with 100 MB of compressed text", "415", upload(png_with_text(100_000_000))),
    ("140 MB", "413", upload(bytes(140_000_000))),
    ("an empty file", "415", upload(b"")),
    ("a JPEG cut in half", "415", upload(picture("JPEG")[:400], "x.jpg")),
    ("an animation", "415", upload(frames(), "x.gif")),
    ("PostScript", "415", upload(b"%!PS\nshowpage", "x.png")),
    ("an SVG with a script", "415", upload(SVG, "x.svg")),
    ("an HTML page named .png", "415", upload(b"<html><script>alert(1)</script>", "x.png")),
    ("a zip named .png", "415", upload(b"PK\x03\x04" + bytes(100), "x.png")),
    ("a file named ../../../etc/cron.d/x", "201", upload(picture(), "../../../etc/cron.d/x")),
    ("a file whose name is 100,000 letters long", "400", upload(picture(), "x" * 100_000)),
    ("an upload without a file", "422", post("/api/pictures", b"a=b")),
    ("multipart without a boundary", "400", post("/api/pictures", b"--x", **{"Content-Type": "multipart/form-data"})),
    ("multipart with 5,000 parts", "400", post("/api/pictures", PARTS, **MULTIPART)),
    ("multipart that is none", "4", post("/api/pictures", b"\0" * 1000, **MULTIPART)),
    ("100,000 opening brackets as JSON", "400", post("/api/fills", b"[" * 100_000)),
    ("9 MB of JSON", "413", post("/api/fills", b" " * 9_000_000)),
    ("a number of 100,000 digits", "400", post("/api/fills", DIGITS)),
    ("NaN for a number", "422", post("/api/fills", NAN)),
    ("Latin-1 instead of UTF-8", "400", post("/api/fills", LATIN)),
    ("XML", "422", post("/api/fills", b"<x/>", **{"Content-Type": "application/xml"})),
    ("10,001 operations", "422", fill(*[BOX] * 10_001)),
    ("10,000 operations", "202", fill(*[BOX] * 10_000)),
    ("300 times growing by 1,024 pixels", "400", fill(BOX, *[GROW] * 300)),
    ("a stroke a million pixels long and 10,000 wide", "400", fill(BROAD)),
    ("an outline of 200,000 points", "202", fill(LASSO)),
    ("a mask id that is a path", "404", fill({"op": "uploaded", "mask": "../../x"})),
    ("1,000,000 candidates", "400", fill(BOX, candidates=1_000_000)),
    ("1,000,000 steps", "422", fill(BOX, steps=1_000_000)),
    ("a seed below zero", "422", fill(BOX, seed=-1)),
    ("../ in a path", "HTTP/1.1 404", get("/../../../../etc/passwd")),
    ("%2e%2e%2f in a path", "HTTP/1.1 404", get("/%2e%2e%2f%2e%2e%2fetc/passwd")),
    ("..%5c in a path", "HTTP/1.1 404", get("/..%5c..%5cetc/passwd")),
    ("a zero byte in a path", "HTTP/1.1 404", get("/x%00.js")),
    ("../ in an id", "HTTP/1.1 404", get("/api/pictures/..%2f..%2fx/file")),
    ("another site's Origin", "403", post("/api/fills", FILL, **EVIL)),
    ("Origin: null", "403", post("/api/fills", FILL, Origin="null")),
    ("Sec-Fetch-Site: cross-site", "403", post("/api/fills", FILL, **{"Sec-Fetch-Site": "cross-site"})),
    ("another site's form", "403", post("/api/pictures", PARTS, **MULTIPART, **EVIL)),
    ("a name that was bound to 127.0.0.1", "HTTP/1.1 403", get("/api/about", Host="evil.example")),
    ("no Host", "HTTP/1.1 403", raw(b"GET / HTTP/1.0\r\n\r\n")),
    ("two Hosts", "HTTP/1.1 400", raw(GET + b"Host: x\r\n\r\n")),
    ("a head of 1 MB", "HTTP/1.1 400", raw(GET + b"X: " + b"y" * 1_000_000)),
    ("2,000 headers", "HTTP/1.1 4", raw(GET + b"X: yyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 2000 + b"\r\n")),
    ("a greeting of TLS", "HTTP/1.1 400", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")),
    ("Content-Length and chunked", "HTTP/1.1 4", raw(POST + CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n")),
    ("a chunk of odd length", "HTTP/1.1 400", raw(POST + CHUNKED + b"\r\n-5\r\nhello\r\n0\r\n\r\n")),
    ("a Content-Length below zero", "HTTP/1.1 400", raw(POST + b"Content-Length: -3\r\n\r\n")),
    ("a websocket", "HTTP/1.1 200", get("/healthz", Upgrade="websocket")),
    ("TRACE", "HTTP/1.1 405", raw(b"TRACE /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")),
    ("300 connections that say nothing, and one that asks", "200", many_idle),
    ("a head that comes a byte a second", "closed", slowly(GET + b"X: ", b"y")),
    ("a body that comes a byte a second", "HTTP/1.1 408", slowly(POST + b"Content-Length: 9999\r\n\r\n", b" ")),
)

TOKENS: tuple[tuple[str, str, Attack], ...] = (
    ("no token", "HTTP/1.1 401", get("/api/about")),
    ("a wrong token", "HTTP/1.1 401", get("/api/about", Authorization="Bearer wrong-wrong-wrong")),
    ("a token cut off", "HTTP/1.1 401", get("/api/about", Authorization=f"Bearer {TOKEN[:-1]}")),
    ("the token under Basic", "HTTP/1.1 401", get("/api/about", Authorization=f"Basic {TOKEN}")),
    ("the token in the address of a path of the API", "HTTP/1.1 401", get(f"/api/about?token={TOKEN}")),
    ("a wrong token in the address", "HTTP/1.1 401", get("/?token=wrong")),
    ("bytes beyond ASCII as the token", "HTTP/1.1 401", get("/api/about", Authorization="Bearer \xe9\xff")),
    ("//api/about without a token", "HTTP/1.1 404", get("//api/about")),
    ("/API/about without a token", "HTTP/1.1 404", get("/API/about")),
    ("/%61pi/about without a token", "HTTP/1.1 401", get("/%61pi/about")),
    ("the right token", "HTTP/1.1 200", get("/api/about", Authorization=f"Bearer {TOKEN}")),
)


def try_all(site: Site, attacks: tuple[tuple[str, str, Attack], ...]) -> list[str]:
    """Try them and print a row of a table for each; returns those that the server did not answer as it should."""
    wrong = []
    for what, expected, attack in attacks:
        try:
            answer = attack(site)
        except httpx2.HTTPError as error:  # closed before all was sent
            answer = f"closed: {type(error).__name__}"
            expected = "closed" if expected in ("413", "4") else expected
        print(f"| {what} | {answer.replace('|', '/')[:160]} |", flush=True)
        if not answer.startswith(expected) or httpx2.get(f"{site.address}/healthz").status_code != 200:
            wrong.append(f"{what}: {answer}, expected {expected}")
    return wrong


def schemathesis_over(site: Site, examples: int) -> Iterator[str]:
    """Requests that Schemathesis makes up, right and wrong ones, half of them with ids that exist; yields failures."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from hypothesis.strategies import booleans
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    client = httpx2.Client(base_url=site.address, timeout=60)
    id = client.post("/api/pictures", files={"file": ("x.png", picture())}).json()["id"]
    job = client.post("/api/fills", json={"picture": id, "operations": [BOX]}).json()["id"]
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    accepted = [positive_data_acceptance]  # not all bytes are a picture, whatever a schema can say
    schema = schemathesis.openapi.from_url(f"{site.address}/openapi.json")
    statuses: Counter[int] = Counter()

    def check(case: Any, real: bool) -> None:
        real = real and mode is GenerationMode.POSITIVE  # what is to be wrong stays wrong
        if real and isinstance(case.path_parameters, dict) and "id" in case.path_parameters:
            case.path_parameters["id"] = job if "/jobs/" in case.operation.path else id
        if real and isinstance(case.body, dict) and "picture" in case.body:
            case.body["picture"] = id
        answer = case.call(headers=headers, timeout=60)
        statuses[answer.status_code] += 1
        if answer.status_code not in (429, 507):  # a flood of requests is told to come back
            case.validate_response(answer, headers=headers, excluded_checks=accepted)

    quiet = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
                continue  # nothing can be wrong
            try:
                quiet(given(case=operation.as_strategy(mode), real=booleans())(check))()
            except BaseExceptionGroup as group:
                yield from (f"{operation.label}, {mode}: {error}" for error in group.exceptions)
            except Exception as error:  # noqa: BLE001  whatever a check raises is what was found
                yield f"{operation.label}, {mode}: {error}"
    told = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))
    print(f"Schemathesis: {sum(statuses.values()):,} requests; {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="requests of Schemathesis a path")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, log = tiny_model(Path(folder)), Path(folder) / "log.txt"
        print("| tried | answer |\n|---|---|")
        with site("--model", model, "--token", TOKEN, log=log) as server:
            wrong = try_all(server, TOKENS)
        with site("--model", model, log=log) as server:
            wrong += try_all(server, ATTACKS)
            before = server.memory
            wrong += schemathesis_over(server, told.examples)
            print(f"memory: {before:.0f} MB before Schemathesis, {server.memory:.0f} MB after")
            print(f"answers of 500: {server_errors(server):.0f}")
        if "Traceback" in log.read_text():
            wrong.append(log.read_text()[-3000:])
    if wrong:
        raise SystemExit("\n".join(wrong))
    print("nothing went wrong")


def server_errors(site: Site) -> float:
    """How many answers of 500 the server counted."""
    lines = httpx2.get(f"{site.address}/metrics").text.splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if "http_requests_total" in line and 'status="500"' in line
    )


if __name__ == "__main__":
    main()
