"""The server: limits, bad input, and that nobody gets what is not theirs."""

from __future__ import annotations

import asyncio
import errno
import importlib
import io
import mimetypes
import shutil
import stat
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")

from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from pixmend.errors import OutputError
from pixmend.images import open_picture
from pixmend.web import app, store
from pixmend.web.cli import limits_of
from pixmend.web.errors import FullError
from pixmend.web.events import follow
from pixmend.web.guard import Guard
from pixmend.web.limits import Limits
from pixmend.web.metrics import Metrics
from pixmend.web.operations import Operations
from pixmend.web.store import Store
from web_server import HOLE, Site, detail, picture_file, serving

# ------------------------------------------------------------------------------------------------ limits and bad input


def test_uploads_are_checked_by_what_they_hold(site: Site) -> None:
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50), b"<svg/>", b"%!PS-Adobe", picture_file()[:200]):
        line = detail(site.client.post("/api/pictures", files={"file": ("x.png", data)}), 415)
        assert "pixmend-serve" not in line  # where it lay is not told
        assert line.startswith("x.png")


def test_tiffs_that_pillow_does_not_open_are_taken_and_bounded(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    rng = np.random.default_rng(0)
    floats, grey = rng.random((30, 40, 3), np.float32), rng.integers(0, 65536, (30, 40, 2), np.uint16)
    tifffile.imwrite(tmp_path / "floats.tif", floats, photometric="rgb", metadata=None)
    tifffile.imwrite(
        tmp_path / "grey.tif",
        grey,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=("unassalpha",),
        metadata=None,
    )
    for name in ("floats.tif", "grey.tif"):
        data = (tmp_path / name).read_bytes()
        with serving() as site:
            told = site.upload(data, name)
            assert (told["width"], told["height"]) == (40, 30)
        with serving(Limits(pixels=1199)) as site:
            assert "40 x 30" in detail(site.client.post("/api/pictures", files={"file": (name, data)}), 413)


def test_floats_of_other_formats_come_back_as_tiff(site: Site) -> None:
    floats = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    picture = site.upload(b"Pf\n32 32\n-1.0\n" + floats.tobytes(), "a.pfm")
    box = {"op": "rectangle", "left": 4, "top": 4, "right": 9, "bottom": 9}
    job = site.over(site.fill(picture["id"], box, blur=0))
    result = open_picture(Image.open(io.BytesIO(site.get(f"/api/jobs/{job['id']}/results/0/file"))))
    assert result.format == "TIFF"
    assert result.is_float


def test_what_cannot_be_written_is_told_without_where_it_lies(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(picture: Any, path: Path, **options: Any) -> None:
        raise OutputError(f"{path} cannot be written: no space left on device")

    picture = site.upload(picture_file())
    monkeypatch.setattr(store, "save_picture", full)
    told = detail(site.client.get(f"/api/pictures/{picture['id']}/file"), 507)
    assert told.startswith("picture.png cannot be written: no space left")


def test_bytes_and_pixels_are_bounded() -> None:
    with serving(Limits(bytes=5000, pixels=1000, json_bytes=2000)) as site:
        bomb = picture_file((40, 26))
        assert len(bomb) < 5000
        assert "1,000" in detail(site.client.post("/api/pictures", files={"file": bomb}), 413)
        assert detail(site.client.post("/api/pictures", files={"file": bytes(100_000)}), 413)
        assert detail(site.client.post("/api/fills", content=b"[" * 2001), 413)

        def parts() -> Any:
            yield from [b" " * 500] * 5

        chunked = {"content-type": "application/json", "transfer-encoding": "chunked"}
        assert detail(site.client.post("/api/fills", content=parts(), headers=chunked), 413)
        form = {"content-type": "multipart/form-data; boundary=x"}
        for path in ("/api/fills", "/api/masks/render", "/api/nothing"):  # take no uploads
            assert detail(site.client.post(path, content=b"[" * 2001, headers=form), 413)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"operations": []}, 400),
        ({"operations": [{"op": "invert"}]}, 400),
        ({"operations": [{"op": "alpha"}]}, 400),
        ({"operations": [{"op": "kind", "kind": "none"}]}, 400),
        ({"operations": [{"op": "invert"}] * 201}, 400),
        ({"operations": [{"op": "lasso", "points": [[0, 0]] * 66_667}] * 3}, 400),
        ({"operations": [{"op": "uploaded", "mask": "x"}]}, 404),
        ({"operations": [*[{"op": "lasso", "points": [[0, 0]] * 190_000}] * 3, {"op": "clear"}]}, 422),
        ({"operations": [{"op": "stroke", "points": [], "width": 3}]}, 422),
        ({"operations": [{"op": "stroke", "points": [[1e9, 0]], "width": 3}]}, 422),
        ({"operations": [HOLE | {"left": "nan"}]}, 422),
        ({"operations": [HOLE | {"wide": 3}]}, 422),
        ({"operations": [HOLE], "sampler": "magic"}, 400),
        ({"operations": [HOLE], "quality": "magic"}, 400),
        ({"operations": [HOLE], "detail": "mine"}, 400),
        ({"operations": [HOLE], "candidates": 9}, 400),
        ({"operations": [HOLE], "candidates": 0}, 422),
        ({"operations": [HOLE], "seed": -1}, 422),
        ({"operations": [HOLE], "seeed": 1}, 422),
        ({"operations": [HOLE], "steps": 0}, 422),
    ],
)
def test_what_does_not_do_is_refused_in_one_line(site: Site, asked: dict[str, Any], status: int) -> None:
    picture = site.upload()["id"]
    assert detail(site.client.post("/api/fills", json={"picture": picture, **asked}), status)


@pytest.mark.parametrize("points", [[["x", "y"]] * 190_000, [["x", "y"]] * 100])
def test_points_that_are_none_are_complained_of_once(points: list[Any]) -> None:
    operations = [HOLE, *[{"op": "lasso", "points": [[0, 0]] * 70 + points}] * 2]
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Operations).validate_python(operations)
    errors = raised.value.errors()
    assert errors[0]["loc"] == (1, "lasso", "points", 70, 0)
    assert len(errors) <= 200  # building 760,000 takes the event loop's time


def test_work_of_all_strokes_together_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmend.web.operations.MOST_RUNS", 100)
    stroke = {"op": "stroke", "points": [[3, 3], [20, 20]], "width": 3}
    lasso = {"op": "lasso", "points": [[3, 3], [20, 20], [3, 20]]}
    asked = {"picture": site.upload()["id"]}
    assert site.client.post("/api/masks/render", json={**asked, "operations": [stroke, lasso, HOLE]}).status_code == 200
    for operation in (stroke, lasso, HOLE):
        answer = site.client.post("/api/masks/render", json={**asked, "operations": [operation] * 11})
        assert "fewer points" in detail(answer, 400)


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"{", b'{"picture": NaN}', b"\xff\xfe", b"9" * 5000])
def test_bodies_that_are_no_json_are_refused_in_one_line(site: Site, body: bytes) -> None:
    answer = site.client.post("/api/fills", content=body, headers={"content-type": "application/json"})
    assert detail(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_too_much_at_once_is_told_to_come_back() -> None:
    with serving(Limits(incoming_bytes=1000, incoming_json_bytes=100, streams=0)) as site:
        picture = {"file": ("x.png", picture_file())}
        for answer in (
            site.client.post("/api/pictures", files=picture),
            site.client.post("/api/fills", content=b" " * 200),
        ):
            assert detail(answer, 429)
            assert answer.headers["Retry-After"] == "1"
    with serving(Limits(own_streams=0)) as site:
        job = site.fill(site.upload()["id"])
        assert detail(site.client.get(f"/api/jobs/{job['id']}/events"), 429)
    with serving(Limits(streams=0)) as site:
        job = site.fill(site.upload()["id"])
        assert detail(site.client.get(f"/api/jobs/{job['id']}/events"), 429)


def test_the_largest_upload_that_is_allowed_has_room() -> None:
    for megabytes in (1, 128, 600, 5000):
        limits = limits_of(50, megabytes, 1)
        assert limits.bytes == megabytes * 10**6
        assert limits.incoming_bytes > 2 * limits.bytes


def test_streams_count_as_soon_as_they_are_given() -> None:
    """However many are asked for at once, before any of them is read."""
    with serving(Limits(own_streams=2)) as site, site.gate.closed():
        job = site.service.jobs.jobs[site.fill(site.upload()["id"])["id"]]

        async def ask() -> Sequence[object]:
            asked = [follow(site.service, job, lambda: "{}") for _ in range(5)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for answer in answers:
                if not isinstance(answer, Exception):
                    await cast("AsyncGenerator[str, None]", answer).aclose()
            return answers

        answers = asyncio.run(ask())
        assert [isinstance(answer, FullError) for answer in answers] == [False, False, True, True, True]
        assert (site.service.streams, job.listeners) == (0, [])


@pytest.mark.parametrize(("method", "told"), [("GET", "still open"), ("POST", "dropped")])
def test_the_body_of_what_only_asks_is_not_waited_for(method: str, told: str) -> None:
    """A stream of events listens for whether its visitor leaves, and would be cut off."""
    came: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(0.5):
                await receive()
        except HTTPException:
            came.append("dropped")
        except TimeoutError:
            came.append("still open")

    async def receive() -> Any:
        return await asyncio.get_running_loop().create_future()  # nothing comes

    async def send(message: Any) -> None:
        raise AssertionError(message)

    guard = Guard(app, limits=Limits(first_seconds=0.01), metrics=Metrics())
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"10"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": "/api/jobs", "headers": headers, "query_string": b""}
    asyncio.run(guard(scope, receive, send))
    assert came == [told]


def test_a_folder_that_was_cleaned_up_is_made_again(site: Site) -> None:
    shutil.rmtree(site.service.store.root)
    site.upload()
    assert stat.S_IMODE(site.service.store.root.stat().st_mode) == 0o700


def test_a_full_disk_while_an_upload_comes_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **how: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", full)
    line = detail(site.client.post("/api/pictures", files={"file": ("x.png", picture_file())}), 507)
    assert "No space left on device; free some space" in line


def test_a_job_that_ran_for_long_is_kept_from_its_end_on() -> None:
    with serving(Limits(keep_seconds=100)) as site:
        told = site.over(site.fill(site.upload()["id"]))
        job = site.service.jobs.jobs[told["id"]]
        job.asked -= 1000
        site.service.jobs.sweep()
        assert job.id in site.service.jobs.jobs
        assert job.ended is not None
        job.ended -= 1000
        site.service.jobs.sweep()
        assert job.id not in site.service.jobs.jobs


def test_body_that_dawdles_is_dropped() -> None:
    came: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except HTTPException as error:
            came.append(error.status_code)

    async def receive() -> Any:
        if not came:
            came.append("a first part")
            return {"type": "http.request", "body": b"x", "more_body": True}
        return await asyncio.get_running_loop().create_future()  # nothing more comes

    async def send(message: Any) -> None:
        raise AssertionError(message)

    guard = Guard(app, limits=Limits(first_seconds=0.05), metrics=Metrics())
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"99")]
    asyncio.run(guard({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send))
    assert came == ["a first part", 408]
    assert guard.incoming == {True: Limits().incoming_bytes, False: Limits().incoming_json_bytes}


def test_nobody_gets_what_is_not_theirs(site: Site) -> None:
    picture = site.upload()["id"]
    job = site.over(site.fill(picture))["id"]
    other = site.visitor()
    assert other.client.get("/api/jobs").json() == []
    for path in (f"pictures/{picture}", f"pictures/{picture}/file", f"jobs/{job}", f"jobs/{job}/results/0/file"):
        assert detail(other.client.get(f"/api/{path}"), 404)
    assert detail(other.client.delete(f"/api/jobs/{job}"), 404)
    forged = site.visitor()
    forged.client.cookies.set("pixmend-session-8188", "chosen.0123", domain="127.0.0.1")
    assert forged.client.get("/api/jobs").headers["set-cookie"].startswith("pixmend-session-8188=")


def test_what_expired_says_so() -> None:
    with serving(Limits(disk_bytes=40_000, keep_seconds=-1, own_jobs=1)) as site:
        first = site.upload()["id"]
        for seed in range(4):
            site.upload(picture_file(seed=seed))
        assert "upload" in detail(site.client.get(f"/api/pictures/{first}"), 410)
        assert site.service.store.size <= 40_000
        assert len(list(site.service.store.root.iterdir())) == len(site.service.store) + 1  # and the lock
        last = site.upload()["id"]
        jobs = [site.over(site.fill(last)) for _ in range(3)]
        assert detail(site.client.get(f"/api/jobs/{jobs[0]['id']}"), 410)
        site.service.jobs.sweep()
        site.service.store.sweep()
        assert detail(site.client.get(f"/api/jobs/{jobs[-1]['id']}"), 410)
        assert len(site.service.store) == 0


def test_pictures_of_waiting_jobs_are_not_given_up() -> None:
    with serving(Limits(disk_bytes=30_000)) as site:
        picture = site.upload()["id"]
        with site.gate.closed():
            job = site.fill(picture)
            assert site.gate.reached.wait(60)
            answers = [site.client.post("/api/pictures", files={"file": picture_file()}) for _ in range(4)]
            assert answers[-1].status_code == 201  # in the place of the one before
        assert site.over(job)["state"] == "done"


# -------------------------------------------------------------------------------------------------------- who may ask


def test_other_sites_and_other_names_are_refused(site: Site) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert detail(site.client.post("/api/denoisings", json={"picture": "x"}, headers=headers), 403)
    for host in ("evil.example", "evil.example:8188", "127.0.0.1.evil.example", ""):
        assert detail(site.client.get("/api/about", headers={"host": host}), 403)
    for host in ("localhost:8188", "127.0.0.1", "[::1]:8188"):
        assert site.client.get("/api/about", headers={"host": host}).status_code == 200
    own = {"origin": "http://127.0.0.1:8188", "sec-fetch-site": "same-origin"}
    assert detail(site.client.post("/api/denoisings", json={"picture": "x"}, headers=own), 404)


def test_every_answer_forbids_framing_and_guessing(site: Site) -> None:
    for path in ("/healthz", "/api/about", "/nothing", "/api/pictures/x"):
        headers = site.client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    cookie = site.visitor().client.get("/api/about").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie  # who follows a link from elsewhere keeps his work


def test_files_of_the_page_say_what_they_are_whatever_the_system_thinks(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimetypes._db", mimetypes.MimeTypes())
    for suffix in app.TYPES:
        mimetypes.add_type("text/plain", suffix)
    importlib.reload(app)
    for path, kind in (
        ("app.js", "text/javascript"),
        ("style.css", "text/css"),
        ("words/en.json", "application/json"),
        ("logo.svg", "image/svg+xml"),
    ):
        assert site.client.get(f"/{path}").headers["content-type"].partition(";")[0] == kind


def test_token_opens_and_nothing_else_does() -> None:
    token = "a-token-of-some-length"
    with serving(token=token, loopback=False) as site:
        assert site.client.get("/healthz").status_code == 200
        for path in ("/api/about", "/metrics", "/openapi.json"):
            assert detail(site.client.get(path), 401)
            for given in ("", "x", token[:-1], token + "x", "\xe9"):
                headers = {"authorization": f"Bearer {given}".encode("latin-1")}
                assert detail(site.client.get(path, headers=headers), 401)  # type: ignore[arg-type]
            assert site.client.get(path, headers={"authorization": f"bearer {token}"}).status_code == 200
        assert detail(site.client.get("/?token=wrong"), 401)
        assert detail(site.client.get("/api/about"), 401)
        let_in = site.client.get(f"/?token={token}", follow_redirects=False)
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
        assert "HttpOnly" in let_in.headers["set-cookie"]
        assert "SameSite=lax" in let_in.headers["set-cookie"]
        assert site.client.get("/api/about", headers={"host": "some.name"}).status_code == 200
    with serving(token=token) as site:  # bound to this machine, behind a proxy that passes on Host
        own = {"host": "some.name", "origin": "https://some.name", "authorization": f"Bearer {token}"}
        assert site.client.get("/api/about", headers=own).status_code == 200
        assert detail(site.client.post("/api/denoisings", json={"picture": "x"}, headers=own), 404)
        assert detail(site.client.get("/api/about", headers={"host": "some.name"}), 401)


def test_asking_changes_nothing(site: Site) -> None:
    """Other sites' links come with the visitor's cookies: so whatever changes something is no GET."""
    changing = {"upload", "fill", "extend", "take", "cancel", "keep", "render"}
    for path, methods in site.client.get("/openapi.json").json()["paths"].items():
        assert set(methods) <= {"get", "post", "delete"}
        assert not changing & set(methods.get("get", {}).get("operationId", "").split("_")), path


def test_unknown_paths_and_methods_say_what_to_do(site: Site) -> None:
    for answer, status in (
        (site.client.get("/api/nothing"), 404),
        (site.client.put("/api/about"), 405),
        (site.client.post("/api/fills", content=b"{"), 422),
    ):
        assert "/openapi.json" in detail(answer, status)


def test_metrics_count(site: Site) -> None:
    def counts() -> tuple[float, float]:
        told = dict(line.rsplit(" ", 1) for line in site.get("/metrics").decode().splitlines() if line[0] != "#")
        names = ('pixmend_jobs_total{kind="fill",state="done"}', "pixmend_network_calls_total")
        jobs, calls = (float(told.get(name, 0)) for name in names)
        return jobs, calls

    jobs, calls = counts()
    job = site.over(site.fill(site.upload()["id"]))
    assert job["calls"] > 0
    assert counts() == (jobs + 1, calls + job["calls"])


def test_description_names_all_paths_and_no_scripts_of_others(site: Site) -> None:
    description = site.client.get("/openapi.json").json()
    assert {"/api/fills", "/api/jobs/{id}/events", "/api/masks/render", "/healthz"} <= set(description["paths"])
    for path in ("/docs", "/redoc"):
        assert site.client.get(path).status_code == 404


def test_folder_is_private_and_removed_at_the_end() -> None:
    with serving() as site:
        root = site.service.store.root
        site.upload()
        modes = {path.stat().st_mode & 0o077 for path in (root, *(p for p in root.iterdir() if p.is_dir()))}
        assert modes == {0}
    assert not root.exists()


def test_leftovers_of_a_killed_server_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    running = Store(Limits())
    killed = tmp_path / "pixmend-serve-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (killed / "picture").touch()
    other = Store(Limits())
    assert not killed.exists()
    assert running.root.is_dir()
    running.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_now_is_removed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, while a picture's file is mapped or sent."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(Limits())

    def in_use(folder: Path, ignore_errors: bool) -> None:
        (folder / "lock").unlink(missing_ok=True)

    mask = store.add_hole(np.ones((4, 4), bool), "somebody")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", in_use)
        store.remove(mask)
        store.sweep()
        assert mask.folder.is_dir()
    store.sweep()
    assert not mask.folder.exists()
    assert store.left == set()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", in_use)
        store.close()
    assert store.root.is_dir()
    Store(Limits()).close()
    assert list(tmp_path.iterdir()) == [], "the next server's is all that is done then"


def test_nothing_is_taken_for_left_over_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("pixmend.locks._try_lock", lambda handle, shared=False: False)
    running = Store(Limits())
    other = Store(Limits())
    assert running.root.is_dir()
    running.close()
    other.close()


def test_picture_is_read_as_the_command_line_reads_it(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)).save(path)
    picture = site.upload(path.read_bytes())
    box = {"op": "rectangle", "left": 4, "top": 4, "right": 9, "bottom": 9}
    job = site.over(site.fill(picture["id"], box, blur=0))
    result = open_picture(Image.open(io.BytesIO(site.get(f"/api/jobs/{job['id']}/results/0/file"))))
    outside = np.ones((32, 32), bool)
    outside[4:9, 4:9] = False
    np.testing.assert_array_equal(result.samples[outside], open_picture(path).samples[outside])
