"""Mutated files, thrown at everything that reads files.

    python bench/fuzz.py [--minutes 10] [--loader NAME] [--seed 0] [--plain] [--keep DIR]

Begins with valid files and changes them: bits, lengths, headers, numbers; checksums are put right again, so that a
change gets past them. Every reader may succeed or raise PixmendError; anything else, a run of more than SLOW seconds,
and memory that grows by more than GROWTH are findings, whose inputs are kept in DIR. Each reader has its own process.
With atheris (pip install atheris) it is guided by what the code does with the files; --plain goes without.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from machine import machine

guided = "--plain" not in sys.argv and importlib.util.find_spec("atheris") is not None
if guided and "--child" in sys.argv:
    import atheris

    watching: contextlib.AbstractContextManager[None] = atheris.instrument_imports(include=["pixmend"])
else:
    watching = contextlib.nullcontext()
with watching:  # what is imported here tells atheris where it comes by
    from fuzz_files import LOADERS, mutated
    from pixmend import opening
    from pixmend.errors import PixmendError

LONGEST = 1 << 20  # bytes of a file
SLOW = 20  # seconds that one file may take
GROWTH = 1500  # MB that the process may grow by
PIXELS = 1 << 23  # what opening.MAX_PIXELS is meanwhile, so that a run is short


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    parser.add_argument("--loader", choices=LOADERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="mutations by chance alone, without atheris")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "pixmend-fuzz")
    parser.add_argument("--child", choices=LOADERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    if options.child:
        _child(options.child, options)
        return 0
    print(f"# Mutated files\n\n{machine()}.\n")
    print(f"{options.minutes:g} minutes for each reader, {'guided by atheris' if guided else 'by chance'}.\n")
    print("| reader | files tried | read | refused | peak memory, MB | findings |")
    print("|---|---|---|---|---|---|")
    rows = [_row(name, options) for name in options.loader or LOADERS]
    return 1 if any(rows) else 0


def _row(name: str, options: argparse.Namespace) -> int:
    """Run one reader in a process of its own, and print what came of it; returns the number of findings."""
    arguments = ["--child", name, "--minutes", str(options.minutes), "--seed", str(options.seed)]
    arguments += ["--keep", str(options.keep), *([] if guided else ["--plain"])]
    log = options.keep / f"{name}.log"
    with open(log, "w") as stream:
        code = subprocess.call([sys.executable, __file__, *arguments], stdout=stream, stderr=stream)
    lines = log.read_text(errors="replace").splitlines()
    counts = next((line.split()[1:] for line in reversed(lines) if line.startswith("COUNTS")), ["?"] * 4)
    found = sum(line.startswith("FINDING") for line in lines) or int(code != 0)
    told = "none" if not found else f"{found}, see {log.name}"
    print(f"| {name} | {' | '.join(counts)} | {told} |", flush=True)
    return found


class Trial:
    """What happens with one file after the other."""

    def __init__(self, name: str, keep: Path) -> None:
        self.name, self.loader, self.keep = name, LOADERS[name](), keep
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.tried = self.read = self.refused = self.findings = 0
        self.loader.prepare(self.folder)
        with contextlib.suppress(PixmendError):  # what is loaded once does not count as memory of a file
            self.loader.run(self.folder, self.loader.seeds[0])
        self.before = _memory()

    def __call__(self, content: bytes) -> None:
        """Read one file; a finding is told, and its input kept."""
        self.tried += 1
        begun = time.monotonic()
        signal.alarm(SLOW)
        try:
            self.loader.run(self.folder, content[:LONGEST])
            self.read += 1
        except PixmendError:
            self.refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self._find(f"{type(error).__name__}: {str(error)[:200]!r}", content)
        finally:
            signal.alarm(0)
        if time.monotonic() - begun > SLOW:
            self._find(f"{time.monotonic() - begun:.0f} seconds", content)
        if _memory() > self.before + GROWTH:
            self._find(f"memory grew from {self.before} to {_memory()} MB", content)
            self.before = _memory()

    def _find(self, what: str, content: bytes) -> None:
        self.findings += 1
        place = self.keep / f"{self.name}-{self.findings}"
        if self.findings <= 20:
            place.write_bytes(content)
            traceback.print_exc()
        print(f"FINDING {self.name}: {what}", flush=True)

    def tell(self) -> None:
        """The line that the parent reads."""
        print("COUNTS", self.tried, self.read, self.refused, _memory(), flush=True)


def _child(name: str, options: argparse.Namespace) -> None:
    faulthandler.enable()
    opening.MAX_PIXELS = PIXELS
    signal.signal(signal.SIGALRM, _too_slow)
    trial = Trial(name, options.keep)
    end = time.monotonic() + 60 * options.minutes
    try:
        if guided:
            _guided(trial, options, end)
        else:
            rng = random.Random(options.seed)
            while time.monotonic() < end:
                trial(mutated(trial.loader, rng))
            trial.tell()
    finally:
        shutil.rmtree(trial.folder, ignore_errors=True)


def _guided(trial: Trial, options: argparse.Namespace, end: float) -> None:
    """Atheris chooses which of the files so far is worth changing; the changes are ours, and sometimes its own."""
    corpus = trial.folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(trial.loader.seeds):
        (corpus / f"seed-{i}").write_bytes(seed)

    def one(content: bytes) -> None:
        if time.monotonic() > end:
            trial.tell()
            shutil.rmtree(trial.folder, ignore_errors=True)
            sys.stdout.flush()
            os._exit(0)  # libFuzzer never returns
        trial(content)

    def change(content: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.1:
            return bytes(atheris.Mutate(content, most))
        return mutated(trial.loader, rng, content)[:most]

    flags = [f"-seed={options.seed + 1}", f"-max_len={LONGEST}", "-timeout=60", "-rss_limit_mb=8000"]
    flags += [f"-artifact_prefix={options.keep}/{trial.name}-", str(corpus)]
    atheris.Setup([sys.argv[0], *flags], one, custom_mutator=change)
    atheris.Fuzz()


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SLOW} seconds")


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
