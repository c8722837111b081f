"""The same work by many workers, on this machine or on a cluster, through Ray Data (the extra pixmend[ray]).

Each worker is an actor that loads the model once. Ray restarts actors that die and hands their picture to another. What
a worker hands back is a staged file, on a file system that all machines share; the one process that holds the journal
puts it in its place (`runner`), so that a picture that was computed twice is still done once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixmend.backends import NEEDED
from pixmend.errors import OptionError, OutputError
from pixmend.files import errors_as_one_line
from pixmend.folders.journal import ADVICE
from pixmend.folders.pairing import Task
from pixmend.folders.runner import Engine
from pixmend.folders.work import DEFECT, Outcome, Tick, Work, attempt
from pixmend.signals import handlers_kept

TRIES = 3  # of a picture whose workers die, be it of that picture or not
CONNECT_SECONDS = 10
SHARES = 10_000  # of a core or GPU, in which Ray counts; what lies between it would round, perhaps up
OBJECT_BYTES = 100 << 20  # of shared memory for a cluster of this machine's own: only names and figures travel


def on_ray(address: str | None, workers: int | None) -> Engine:
    """The engine of a cluster: the one at the address, or a new one of this machine; raises OptionError without Ray."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise OptionError(
            '--engine ray needs Ray; install it with pip install "ray[data]", or leave --engine out'
        ) from error

    def engine(work: Work, tasks: Sequence[Task], staging: Path, tick: Tick) -> Generator[Outcome, None, None]:
        # What Ray prints of workers that die is for people: stdout is for the result alone.
        with redirect_stdout(sys.stderr), _cluster(address):
            yield from _outcomes(work, tasks, staging, workers)

    return engine


class Worker:
    """An actor: holds the model, and does the pictures that it is handed."""

    def __init__(self, work: Work, staging: str) -> None:
        self.staging = Path(staging)
        self.refusal: Outcome | None = None
        try:
            self.do = work.prepare()
        except Exception as error:  # noqa: BLE001  # told with each picture: raised, it would read as a worker that died
            self.refusal = Outcome.of_any("", error)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Do a task; both it and its outcome travel as JSON, for Arrow's texts take no names that are not UTF-8."""
        name, picture, mask, output = json.loads(row["task"])
        task = Task(name, Path(picture), None if mask is None else Path(mask), Path(output))
        return {"outcome": json.dumps(self._done(task).to_json())}

    def _done(self, task: Task) -> Outcome:
        if self.refusal is not None:
            return replace(self.refusal, name=task.name)
        try:
            with errors_as_one_line(self.staging, ADVICE):
                tries = self._tries(task.name)
        except OutputError as error:
            return Outcome.of_error(task.name, error)
        if tries > TRIES:
            return Outcome(task.name, error=f"{TRIES} workers died with it; try it alone", exit_code=DEFECT)
        return attempt(self.do, task, self.staging, lambda step, steps: None)

    def _tries(self, name: str) -> int:
        """How often a picture was begun in this run, this time included: Ray itself would try for ever."""
        with open(self.staging / hashlib.sha256(json.dumps(name).encode()).hexdigest(), "ab") as tries:
            tries.write(b".")
            return tries.tell()


def _outcomes(work: Work, tasks: Sequence[Task], staging: Path, workers: int | None) -> Iterator[Outcome]:
    import ray.data
    import ray.exceptions

    left = {task.name for task in tasks}
    # A block a picture: each is handed out, tried again and, at worst, given up by itself.
    rows = ray.data.from_items([_as_row(task) for task in tasks], override_num_blocks=len(tasks))
    size, resources = _pool(work, len(tasks), workers)
    outcomes = rows.map(
        Worker,
        fn_constructor_args=(work, os.path.abspath(staging)),
        # One at a time: pictures that wait for a worker are not charged with its death.
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        **resources,
    )
    try:
        for row in outcomes.iter_rows():
            outcome = Outcome.from_json(json.loads(row["outcome"]))
            left.discard(outcome.name)
            yield outcome
    except ray.exceptions.RayError as error:  # no worker could be started, or the cluster is gone
        told = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        why = f"Ray gave up ({told}); mend it, then the same command goes on"
    else:
        why = "Ray lost it, with the machine that it was on; try it again"
    for name in sorted(left):
        yield Outcome(name, error=why, exit_code=DEFECT)


def _as_row(task: Task) -> dict[str, str]:
    paths = (task.picture, task.mask, task.output)
    return {"task": json.dumps([task.name, *(path and os.path.abspath(path) for path in paths)])}


def _pool(work: Work, tasks: int, workers: int | None) -> tuple[int, dict[str, float]]:
    """How many workers there are to be, and what each reserves: a GPU or a share of one, where there are some; cores.

    Cores are reserved by GPU workers as well: Ray allows a worker as many threads as it has reserved cores.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    with_gpus = [] if _wants_no_gpu(work) else [node for node in nodes if node.get("GPU", 0) >= 1]
    gpus = sum(int(node["GPU"]) for node in with_gpus)
    size = max(1, min(workers or gpus or sum(cores), tasks))
    if gpus:
        each = math.ceil(size / gpus)  # workers on a GPU
        share = min(node.get("CPU", 0) / (int(node["GPU"]) * each) for node in with_gpus)
        return size, {"num_gpus": _rounded(1 / each), "num_cpus": _rounded(share)}
    share = min(sum(cores) / size, *cores, sum(cores))  # no worker is to need more than the smallest machine has
    return size, {"num_cpus": _rounded(share)}


def _wants_no_gpu(work: Work) -> bool:
    return work.device == "cpu" or getattr(work, "backend", None) in NEEDED  # `DenoiseWork` knows no backends


def _rounded(share: float) -> float:
    """Whole where it is one or more, as Ray wants it, and never more."""
    return int(share) or math.floor(share * SHARES) / SHARES


def _check_address(address: str) -> None:
    """Raise OptionError where nobody answers: Ray would go on asking for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise OptionError(
            f"no cluster answers at {address!r} ({error}); give HOST:PORT of one that runs, auto for the one of this "
            "machine, or leave --ray-address out"
        ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A connection to a cluster, quiet; one that is there already is used, and left as it is."""
    import ray
    from ray.data import DataContext

    ours = not ray.is_initialized()
    if ours:
        if address is not None:
            _check_address(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a new cluster would report to its makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else stderr is told of Ray's own affairs
        own: dict[str, Any] = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_BYTES}
        try:
            with handlers_kept():  # Ray takes SIGTERM for itself, and ends the process without a word
                ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:160]
            raise OptionError(f"no cluster at {address or 'this machine'} ({why}); start one, or correct it") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a large picture takes what it takes
    context.max_errored_blocks = -1  # a picture that is lost is a failure, and stops nobody else
    try:
        with DataContext.current(context):
            yield
    finally:
        if ours:
            ray.shutdown()
