"""The server: what it answers, and that it gives the command line's bytes."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")


from picture_files import tiff
from pixmend import cli
from pixmend.checkpoint import save_model
from pixmend.decoding import decode_file
from pixmend.extending import extend
from pixmend.images import save_picture
from pixmend.inpainting import inpainting
from pixmend.masks import create_advanced_mask
from pixmend.web.limits import Limits
from pixmend.web.store import clean_name
from web_server import HOLE, SIZE, Site, detail, picture_file, samples_of, serving, tiny_model, wait_for_listener


def render(site: Site, picture: str, *operations: dict[str, Any]) -> np.ndarray[Any, Any]:
    answer = site.client.post("/api/masks/render", json={"picture": picture, "operations": operations})
    assert answer.status_code == 200, answer.text
    return samples_of(answer.content)


# ------------------------------------------------------------------------------------------- the same bytes everywhere


@pytest.mark.parametrize(
    ("name", "options"),
    [("picture.png", {}), ("picture.jpg", {"quality": 83}), ("picture.tif", {}), ("picture.webp", {"lossless": True})],
)
def test_page_command_line_and_python_give_the_same_bytes(
    site: Site, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    suffix = name.rpartition(".")[2]
    exif = Image.Exif()
    exif[315] = "somebody"
    data = picture_file(format=formats.get(suffix, suffix.upper()), exif=exif, **options)
    image, mask, model = tmp_path / name, tmp_path / "mask.png", tmp_path / "tiny.safetensors"
    image.write_bytes(data)
    save_model(model, tiny_model())
    stroke = {"op": "stroke", "points": [[8.5, 9], [30, 21.25], [44, 12]], "width": 7.5}
    picture = site.upload(data, name)
    asked = {"picture": picture["id"], "operations": [stroke]}
    mask.write_bytes(site.client.post("/api/masks/render", json=asked).content)
    job = site.fill(picture["id"], stroke, seed=3, candidates=2, grow=1)
    assert site.over(job)["state"] == "done"

    outputs = [tmp_path / f"out-{i}.{suffix}" for i in (1, 2)]
    words = ["inpaint", image, "--mask", mask, "--model", model, "--seed", 3, "--candidates", 2, "--grow-mask", 1]
    assert cli.main([str(word) for word in (*words, "-o", tmp_path / f"out.{suffix}")]) == 0
    made = inpainting(image, mask, model=model, seed=3, candidates=2, grow=1)
    for i, output in enumerate(outputs):
        result = site.get(f"/api/jobs/{job['id']}/results/{i}/file")
        assert result == output.read_bytes()
        assert result == save_picture(made.pictures[i], tmp_path / f"python-{i}.{suffix}").read_bytes()


def test_ten_rounds_of_painting_on_results_leave_the_rest_as_it_was(site: Site) -> None:
    data = picture_file(format="JPEG", quality=60)
    picture = site.upload(data, "photo.jpg")
    first = samples_of(site.get(f"/api/pictures/{picture['id']}/view?scale=1"))
    touched = np.zeros(SIZE, bool)
    for round_ in range(10):
        box = {"op": "rectangle", "left": 4 * round_, "top": 5, "right": 4 * round_ + 4, "bottom": 9}
        job = site.fill(picture["id"], box, seed=round_, blur=0)
        assert site.over(job)["state"] == "done"
        touched[5:9, 4 * round_ : 4 * round_ + 4] = True
        kept = site.client.post(f"/api/jobs/{job['id']}/results/0/keep")
        assert kept.status_code == 201
        picture = kept.json()
        assert picture["name"] == "photo-mended.jpg"
    last = samples_of(site.get(f"/api/pictures/{picture['id']}/view?scale=1"))
    np.testing.assert_array_equal(last[~touched], first[~touched])
    assert (last[touched] != first[touched]).any()


# ------------------------------------------------------------------------------------------------ pictures and masks


def test_a_raster_of_signed_numbers_is_filled_as_the_library_fills_it(site: Site, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-1, 2, SIZE, np.int16)  # so close to what stands for nothing that fills come upon it
    samples[10:20, 16:32] = 0
    samples[samples == 0] += rng.integers(0, 2, (samples == 0).sum(), np.int16)
    samples[10:20, 16:32] = 0
    path = tmp_path / "heights.tif"
    path.write_bytes(tiff((samples, {42113: "0"})))
    picture = site.upload(path.read_bytes(), path.name)
    assert (picture["alpha"], picture["lacking"]) == (False, True)
    job = site.over(site.fill(picture["id"], {"op": "alpha"}))
    made = inpainting(path, model=tiny_model()).pictures[0]
    saved = save_picture(made, tmp_path / "out.tif").read_bytes()
    assert site.get(f"/api/jobs/{job['id']}/results/0/file") == saved
    assert not decode_file(tmp_path / "out.tif").lacking().any()
    kept = site.client.post(f"/api/jobs/{job['id']}/results/0/keep").json()
    assert not kept["lacking"]


def test_an_extended_map_lies_where_it_lay(site: Site, tmp_path: Path) -> None:
    place = {33550: (10.0, 20.0, 0.0), 33922: (0.0, 0.0, 0.0, 5e5, 4.6e6, 0.0)}
    ome = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'
    path = tmp_path / "map.tif"
    path.write_bytes(tiff((np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8), {270: ome, **place})))
    asked = {"picture": site.upload(path.read_bytes(), path.name)["id"], "left": 7, "top": 5}
    job = site.over(site.client.post("/api/extensions", json=asked).json())
    made = extend(path, left=7, top=5, model=tiny_model()).pictures[0]
    saved = save_picture(made, tmp_path / "out.tif").read_bytes()
    assert site.get(f"/api/jobs/{job['id']}/results/0/file") == saved
    kept = site.client.post(f"/api/jobs/{job['id']}/results/0/keep").json()
    assert kept["notes"] == list(made.notes) != []
    job = site.over(site.fill(kept["id"]))  # and what is made of it
    with Image.open(io.BytesIO(site.get(f"/api/jobs/{job['id']}/results/0/file"))) as image:
        assert image.tag_v2[33922][:2] == (7, 5)  # type: ignore[attr-defined]


def test_orientation_is_applied_once(site: Site) -> None:
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    picture = site.upload(picture_file((20, 30), "JPEG", exif=exif), "turned.jpg")
    assert (picture["width"], picture["height"]) == (20, 30)
    with Image.open(io.BytesIO(site.get(f"/api/pictures/{picture['id']}/file"))) as saved:
        assert ImageOps.exif_transpose(saved).size == (20, 30)


def test_a_gif_comes_back_as_a_gif(site: Site) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE).astype(np.uint8)).quantize(16).save(
        stream, "GIF"
    )
    picture = site.upload(stream.getvalue(), "still.gif")
    told = site.over(site.fill(picture["id"], grow=2))
    answer = site.client.get(f"/api/jobs/{told['id']}/results/0/file")
    assert answer.content.startswith(b"GIF8")
    assert "still-mended.gif" in answer.headers["content-disposition"]
    assert told["mask_share"] == 14 * 20 / (SIZE[0] * SIZE[1])  # with its margin


def test_errors_speak_of_no_options(site: Site) -> None:
    stream = io.BytesIO()
    frames = [Image.new("L", (8, 8), level) for level in (1, 2)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    answer = site.client.post("/api/pictures", files={"file": ("two.gif", stream.getvalue())})
    assert "save the one that is meant as a file of its own" in answer.json()["detail"]
    assert "--" not in answer.json()["detail"]


def test_names_are_cleaned_and_say_the_format(site: Site) -> None:
    for name, expected in {"../../etc/passwd": "passwd.png", "C:\\dir\\a b.JPG": "a b.png"}.items():
        assert site.upload(name=name)["name"] == expected
    assert clean_name('a"\n<;b.png') == "a;b.png"
    assert clean_name("") == clean_name(None) == clean_name("/") == clean_name("..") == "picture"
    assert len(clean_name("x" * 5000 + ".png")) < 300
    picture = site.upload(picture_file(format="GIF"), "x.gif")
    assert picture["name"].endswith((".gif", ".png"))
    answer = site.client.get(f"/api/pictures/{picture['id']}/file")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]


def test_mask_is_what_the_operations_say(site: Site) -> None:
    picture = site.upload()["id"]
    rows, columns = np.indices(SIZE)
    box = (rows >= 10) & (rows < 20) & (columns >= 16) & (columns < 32)
    erased = {"op": "rectangle", "left": 20, "top": 0, "right": 22, "bottom": 40, "erase": True}
    np.testing.assert_array_equal(render(site, picture, HOLE), box)
    np.testing.assert_array_equal(render(site, picture, HOLE, erased), box & ~((columns >= 20) & (columns < 22)))
    np.testing.assert_array_equal(render(site, picture, HOLE, {"op": "invert"}), ~box)
    np.testing.assert_array_equal(render(site, picture, erased, {"op": "clear"}, HOLE), box)
    np.testing.assert_array_equal(render(site, picture), np.zeros(SIZE, bool))
    grown = (rows >= 8) & (rows < 22) & (columns >= 14) & (columns < 34)
    shrunk = (rows >= 12) & (rows < 18) & (columns >= 18) & (columns < 30)
    np.testing.assert_array_equal(render(site, picture, HOLE, {"op": "grow", "pixels": 2}), grown)
    np.testing.assert_array_equal(render(site, picture, HOLE, {"op": "grow", "pixels": -2}), shrunk)
    kind = create_advanced_mask("thick", SIZE, seed=5)[0, 0].numpy() > 0
    np.testing.assert_array_equal(render(site, picture, {"op": "kind", "kind": "thick", "seed": 5}), kind)


def test_uploaded_mask_comes_back(site: Site) -> None:
    picture = site.upload()["id"]
    mask = np.random.default_rng(1).random(SIZE) > 0.5
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    answer = site.client.post("/api/masks", files={"file": stream.getvalue()}, data={"picture": picture})
    assert answer.json()["share"] == mask.mean()
    assert site.client.get(f"/api/masks/{answer.json()['id']}").json() == answer.json()
    np.testing.assert_array_equal(render(site, picture, {"op": "uploaded", "mask": answer.json()["id"]}), mask)
    small = site.client.post("/api/masks", files={"file": picture_file((8, 8))}, data={"picture": picture})
    assert (small.status_code, "picture's size" in small.json()["detail"]) == (400, True)


def test_alpha_as_the_mask_becomes_opaque_as_on_the_command_line(site: Site, tmp_path: Path) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (*SIZE, 4), np.uint8)
    samples[..., 3] = 255
    samples[10:20, 16:32, 3] = 0
    path = tmp_path / "clear.png"
    Image.fromarray(samples).save(path)
    picture = site.upload(path.read_bytes())
    assert picture["alpha"]
    np.testing.assert_array_equal(render(site, picture["id"], {"op": "alpha"}), samples[..., 3] == 0)
    job = site.fill(picture["id"], {"op": "alpha"})
    assert site.over(job)["state"] == "done"
    result = samples_of(site.get(f"/api/jobs/{job['id']}/results/0/file"))
    assert (result[..., 3] == 255).all()
    np.testing.assert_array_equal(result, inpainting(path, model=tiny_model()).pictures[0].samples)


def test_views_show_the_part_asked_for(site: Site) -> None:
    data = picture_file()
    picture = site.upload(data)["id"]
    part = samples_of(site.get(f"/api/pictures/{picture}/view?left=3&top=4&width=10&height=5&scale=1"))
    np.testing.assert_array_equal(part, samples_of(data)[4:9, 3:13])
    assert site.client.get(f"/api/pictures/{picture}/view?left=3&width=100").status_code == 400


# ---------------------------------------------------------------------------------------------------------- the jobs


@pytest.mark.usefixtures("eager_previews")
def test_job_tells_how_far_it_is_and_shows_how_it_forms(site: Site) -> None:
    data = picture_file()
    with ThreadPoolExecutor(1) as pool:
        with site.gate.closed():
            job = site.fill(site.upload(data)["id"], steps=5)
            listening = pool.submit(site.events, job)
            wait_for_listener(site.service)
        events = listening.result()
    told = [data for name, data in events if name == "job"]
    assert told[-1]["state"] == "done"
    assert told[-1]["done"] == told[-1]["of"] > 0
    assert [data["done"] for data in told] == sorted(data["done"] for data in told)
    assert told[-1]["mask_share"] == 10 * 16 / (SIZE[0] * SIZE[1])
    steps = [told for name, told in events if name == "step"]
    assert [(told["candidate"], told["step"]) for told in steps] == [(0, k) for k in range(len(steps))]
    assert len(steps) >= 5
    shown = [samples_of(site.get(told["url"])) for told in steps]
    filled = np.zeros(SIZE, bool)
    filled[10:20, 16:32] = True
    for picture, next_ in zip(shown, [*shown[1:], samples_of(data)], strict=True):
        np.testing.assert_array_equal(picture[~filled], samples_of(data)[~filled])
        assert (picture[filled] != next_[filled]).any()


def test_denoising_tells_the_level_and_keeps_the_size(site: Site) -> None:
    picture = site.upload()["id"]
    answer = site.client.post("/api/denoisings", json={"picture": picture, "level": 0.25})
    job = site.over(answer.json())
    assert (job["state"], job["results"][0]["level"]) == ("done", 0.25)
    assert samples_of(site.get(f"/api/jobs/{job['id']}/results/0/file")).shape == (*SIZE, 3)


def test_extension_is_that_of_the_library(site: Site, tmp_path: Path) -> None:
    data = picture_file(format="JPEG")
    (tmp_path / "picture.jpg").write_bytes(data)
    picture = site.upload(data, "picture.jpg")["id"]
    asked = {"picture": picture, "left": 7, "bottom": 12, "seed": 4}
    job = site.over(site.client.post("/api/extensions", json=asked).json())
    assert (job["state"], job["kind"]) == ("done", "extension")
    (result,) = job["results"]
    assert (result["width"], result["height"]) == (SIZE[1] + 7, SIZE[0] + 12)
    made = extend(tmp_path / "picture.jpg", left=7, bottom=12, seed=4, model=tiny_model()).pictures[0]
    saved = save_picture(made, tmp_path / "out.jpg").read_bytes()
    assert site.get(f"/api/jobs/{job['id']}/results/0/file") == saved
    assert detail(site.client.post("/api/extensions", json={"picture": picture}), 400)
    assert detail(site.client.post("/api/extensions", json={"picture": picture, "top": 100_000, "left": 9999}), 413)


def test_results_outlive_a_reload(site: Site) -> None:
    job = site.over(site.fill(site.upload()["id"]))
    (listed,) = site.client.get("/api/jobs").json()
    assert listed == job
    assert site.get(f"/api/jobs/{listed['id']}/results/0/view")


def test_cancelling_stops_a_running_job_at_its_next_network_call(site: Site) -> None:
    picture = site.upload()["id"]
    with site.gate.closed():
        job = site.fill(picture, steps=50)
        assert site.gate.reached.wait(60)
        waiting = site.fill(picture)
        assert waiting["ahead"] == 1
        dropped = site.client.delete(f"/api/jobs/{waiting['id']}").json()
        assert dropped["state"] == "cancelled"
        site.client.delete(f"/api/jobs/{job['id']}")
    job = site.over(job)
    assert (job["state"], job["results"], job["calls"]) == ("cancelled", [], 1)  # the call that was held is the last
    assert site.over(site.fill(picture))["state"] == "done"


def test_turns_are_fair_and_a_full_queue_says_when_to_come_back() -> None:
    with serving(Limits(queue=3, own_queue=2)) as site:
        other = site.visitor()
        pictures = site.upload()["id"], other.upload()["id"]
        with site.gate.closed():
            running = site.fill(pictures[0])
            assert site.gate.reached.wait(60)
            mine = [site.fill(pictures[0]) for _ in range(2)]
            refused = site.client.post("/api/fills", json={"picture": pictures[0], "operations": [HOLE]})
            theirs = other.fill(pictures[1])
            full = other.client.post("/api/fills", json={"picture": pictures[1], "operations": [HOLE]})
            places = [site.client.get(f"/api/jobs/{job['id']}").json()["ahead"] for job in mine]
        assert (refused.status_code, full.status_code) == (429, 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert (theirs["ahead"], places) == (2, [1, 3])  # one of mine, then theirs, then my second
        assert all(site.over(job)["state"] == "done" for job in (running, *mine))
        assert other.over(theirs)["state"] == "done"


def test_job_that_nobody_asks_for_gives_way_when_others_wait() -> None:
    with serving(Limits(patience_seconds=0)) as site:
        other = site.visitor()
        pictures = site.upload()["id"], other.upload()["id"]
        with site.gate.closed():
            left = site.fill(pictures[0], steps=50)
            assert site.gate.reached.wait(60)
            waits = other.fill(pictures[1])
        assert other.over(waits)["state"] == "done"
        left = site.client.get(f"/api/jobs/{left['id']}").json()
        assert (left["state"], "nobody asked" in left["error"]) == ("cancelled", True)


def test_waiting_job_that_nobody_asks_for_gives_its_place_in_a_full_queue() -> None:
    with serving(Limits(queue=1, patience_seconds=0)) as site:
        visitors = site.visitor(), site.visitor()
        picture, *theirs = [visitor.upload()["id"] for visitor in (site, *visitors)]
        with site.gate.closed():
            site.fill(picture, steps=50)
            assert site.gate.reached.wait(60)
            left = visitors[0].fill(theirs[0])
            taken = visitors[1].fill(theirs[1])
        assert visitors[1].over(taken)["state"] == "done"
        left = visitors[0].client.get(f"/api/jobs/{left['id']}").json()
        assert (left["state"], "nobody asked" in left["error"]) == ("cancelled", True)


def test_what_lies_longest_unused_makes_room_for_a_download() -> None:
    data = picture_file()
    room = 2 * (len(data) + samples_of(data).nbytes)
    with serving(Limits(disk_bytes=room)) as site:
        first, second = site.upload(data)["id"], site.upload(data)["id"]
        assert site.service.store.size == room
        assert (samples_of(site.get(f"/api/pictures/{second}/file")) == samples_of(data)).all()
        assert site.service.store.size <= room
        assert site.client.get(f"/api/pictures/{first}").status_code == 410


def test_failing_job_says_why_and_the_next_one_works(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = site.upload()["id"]

    def fail(*args: object, **named: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("pixmend.web.work.inpainting", fail)
        job = site.over(site.fill(picture))
    assert (job["state"], "defect" in job["error"]) == ("failed", True)
    assert site.over(site.fill(picture))["state"] == "done"
