"""Load on `pixmend serve`: many clients at once, each with pictures of its own; is anything lost or mixed up?

    python bench/serve_load.py [--clients 50] [--jobs 200] [--side 64] [--model FILE] [--rounds 3]

Every client uploads a picture of one colour of its own, has a part of it filled, follows the job's events and fetches
the result: all pixels outside of the mask must be of its colour, exactly. 429 is no failure: the client waits as long
as Retry-After says. Some clients break off in the middle. Printed: seconds, refusals, and memory after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image

from machine import machine
from serve_site import site, tiny_model

LEAVES = 0.1  # the share of clients' jobs whose events are not followed to the end


class Client:
    """One visitor."""

    def __init__(self, address: str, number: int, side: int) -> None:
        self.http = httpx2.AsyncClient(base_url=address, timeout=600)
        self.random = random.Random(number)
        self.colour = tuple(self.random.randrange(256) for _ in range(3))
        self.side, self.refused = side, 0

    async def run(self, jobs: int) -> int:
        """Do so many jobs, one after the other; returns how many results were right."""
        async with self.http:
            stream = io.BytesIO()
            Image.new("RGB", (self.side, self.side), self.colour).save(stream, "PNG")
            answer = await self.http.post("/api/pictures", files={"file": ("one.png", stream.getvalue())})
            picture = answer.raise_for_status().json()["id"]
            return sum([await self.job(picture) for _ in range(jobs)])

    async def job(self, picture: str) -> bool:
        """One job; whether its result is ours."""
        left, top = (self.random.randrange(self.side // 2) for _ in range(2))
        box = {"left": left, "top": top, "right": left + self.side // 4, "bottom": top + self.side // 4}
        asked = {"picture": picture, "operations": [{"op": "rectangle", **box}], "blur": 0}
        while (answer := await self.http.post("/api/fills", json=asked)).status_code == 429:
            self.refused += 1
            await asyncio.sleep(float(answer.headers["Retry-After"]) * self.random.uniform(0.5, 1))
        job = answer.raise_for_status().json()["id"]
        while (state := await self.follow(job)) not in ("done", "failed", "cancelled"):
            pass  # it broke off, and comes back
        if state != "done":
            return False
        result = await self.http.get(f"/api/jobs/{job}/results/0/file")
        samples = np.array(Image.open(io.BytesIO(result.raise_for_status().content)))
        known = np.ones((self.side, self.side), bool)
        known[top : box["bottom"], left : box["right"]] = False
        return bool((samples[known] == self.colour).all())

    async def follow(self, job: str) -> str:
        """The job's state at the end of its events, or where this client leaves."""
        leaves = self.random.random() < LEAVES
        state = ""
        async with self.http.stream("GET", f"/api/jobs/{job}/events") as events:
            async for line in events.aiter_lines():
                if line.startswith('data: {"id"'):
                    state = json.loads(line.removeprefix("data: "))["state"]
                    if leaves:
                        break
        return state


async def round_of(address: str, clients: int, jobs: int, side: int, number: int) -> tuple[float, int, int]:
    """Seconds, right results and refusals of all clients together."""
    visitors = [Client(address, 1000 * number + i, side) for i in range(clients)]
    shares = [jobs // clients + (i < jobs % clients) for i in range(clients)]
    started = time.perf_counter()
    right = await asyncio.gather(*(visitor.run(share) for visitor, share in zip(visitors, shares, strict=True)))
    return time.perf_counter() - started, sum(right), sum(visitor.refused for visitor in visitors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--queue", type=int, default=40, help="smaller than the number of clients: so that some wait")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a model file; by default a tiny one, so that the server shows")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = told.model or tiny_model(Path(folder))
        with site("--model", model, "--queue", told.queue) as server:
            what = told.model.name if told.model else "a tiny model"
            print(f"{machine()}; {what}, {told.clients} clients, {told.jobs} jobs of {told.side} x {told.side}\n")
            print("| round | seconds (aim: 60) | results right | times 429 | MB | streams left open |")
            print("| --- | --- | --- | --- | --- | --- |")
            print(f"| before | | | | {server.memory:.0f} | |")
            for number in range(told.rounds):
                seconds, right, refused = asyncio.run(
                    round_of(server.address, told.clients, told.jobs, told.side, number)
                )
                streams = server.metric("pixmend_event_streams")
                print(
                    f"| {number + 1} | {seconds:.1f} | {right} of {told.jobs} | {refused} | {server.memory:.0f} | "
                    f"{streams:.0f} |"
                )
                if right != told.jobs:
                    raise SystemExit("results were lost or mixed up")


if __name__ == "__main__":
    main()
