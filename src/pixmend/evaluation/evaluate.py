"""The whole evaluation, in order: pictures, holes, fills, measures, figures, report."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import pixmend
from pixmend.errors import OptionError
from pixmend.evaluation import learned, protocol
from pixmend.evaluation.measuring import Settings, Yardstick, measure
from pixmend.evaluation.memorisation import TrainingPatches
from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import Case, Pixels
from pixmend.evaluation.report import html_report
from pixmend.evaluation.runner import Fills, cases_for, fills_for, make_fills, read_fills
from pixmend.evaluation.summary import Figure, Results, summarize
from pixmend.evaluation.tables import as_csv, as_json, cases_as_csv
from pixmend.files import errors_as_one_line, write_atomically

CLASSIFIED = ("thick", "centre", "half", "border", "expand")  # families with holes wide enough to look into
ENOUGH = 100  # pictures, for figures that others should believe

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Evaluation:
    """What came of it; the files lie in the folder."""

    facts: dict[str, Any]
    figures: list[Figure]
    notes: list[str]  # what was left out and why, for people to read


def evaluate(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    methods: Sequence[Method],
    families: Sequence[str] = ("all",),
    pictures: int = 100,
    fills: int = 5,
    size: int = 64,
    part: str = "report",
    classify: Sequence[str] = CLASSIFIED,
    training: str | os.PathLike[str] | None = None,
    reference: str | None = None,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Fill the holes of the protocol in pictures of a folder with all methods, measure, and write a report.

    output: a folder, made where there is none. What lies there of an earlier run is used and not made again. Written
    are report.html, report.json, figures.csv and cases.csv, over those of an earlier run. families: names of
    `protocol.FAMILIES`, of their groups, or "all". pictures: at most so many, from the part "choice", "report" or
    "all" of the folder. fills: of each case, where a method is random. size: side of the pictures in pixels.
    classify: the families in which real is told from filled. training: the folder that the models were trained on, to
    look for copies in. reference: key or name of the method that others are compared with. notes: what was left out
    before. Raises FileMissingError, DataError, OptionError, OutputError.
    """
    output = Path(output)
    if fills < 1 or pictures < 2 or size < 16:
        raise OptionError(
            f"{fills} fills of {pictures} pictures of {size} pixels are too few; give at least 1, 2 and 16"
        )
    chosen = protocol.choose_families(families)
    if not chosen:
        raise OptionError("no family of holes is chosen; name some, or all")
    able = [m for m in methods if m.limits.families is None or {*m.limits.families} & {*chosen}]
    idle = [
        f"{method.name} is left out: it is measured on {' and '.join(method.limits.families or ())} alone"
        for method in methods
        if method not in able
    ]
    if idle and not able:
        raise OptionError(f"nothing is left to measure: {'; '.join(idle)}; choose one of these families as well")
    _check_reference(reference, able)
    found = protocol.read_pictures(Path(folder), pictures, size, part)
    with errors_as_one_line(output):
        output.mkdir(parents=True, exist_ok=True)
    cases: dict[str, Sequence[Case]] = {family: protocol.cases_of(family, found) for family in chosen}
    patches = None if training is None else TrainingPatches(Path(training), size, _named(progress, "training pictures"))
    whole = make_fills(able, cases, output / "fills", fills, progress)
    if not whole:
        raise OptionError("all methods failed, for the reasons above; choose another one as well, such as mean")
    settings = Settings(frozenset(classify), patches)
    results = _measured(whole, cases, output, fills, settings, progress)
    figures = summarize(results, reference)
    told = [line for name in ("LPIPS", "FID") if (line := learned.missing(name)) is not None]
    told = [*notes, *idle, *told, *_shortcomings(len(found), len(able) - len(whole))]
    facts = _facts(found, [case for each in cases.values() for case in each], part, size, fills) | {"notes": told}
    _write(output, facts, figures, results)
    return Evaluation(facts, figures, told)


def _measured(
    methods: Sequence[Method],
    cases: dict[str, Sequence[Case]],
    output: Path,
    fills: int,
    settings: Settings,
    progress: Progress | None,
) -> Results:
    results: Results = {method: {} for method in methods}
    for done, (family, all_cases) in enumerate(cases.items()):
        yardsticks: dict[int, Yardstick] = {}  # by the number of cases: slow methods have fewer
        for i, method in enumerate(methods):
            if progress:
                progress(done * len(methods) + i, len(cases) * len(methods), f"measuring {method.name}: {family}")
            some = cases_for(method, family, all_cases)
            if not some:
                continue
            yardstick = yardsticks.setdefault(len(some), Yardstick(some, settings))
            made = [_fills(output, method, case, fills_for(method, fills)) for case in some]
            results[method][family] = some, measure(method, made, yardstick, output / "measures")
    return {method: families for method, families in results.items() if families}


def _fills(output: Path, method: Method, case: Case, count: int) -> Fills:
    made = read_fills(output / "fills", method, case, count)
    if made is None:
        raise OptionError(f"the fills of {method.name} in {output} went away meanwhile; run the same command again")
    return made


def _write(output: Path, facts: dict[str, Any], figures: Sequence[Figure], results: Results) -> None:
    def first_fill(method: Method, case: Case) -> Pixels:
        return _fills(output, method, case, 1).pictures(case)[0]

    shown = {name: "; ".join(fact) if isinstance(fact, list) else fact for name, fact in facts.items()}
    texts = {
        "report.html": html_report(shown, figures, results, first_fill),
        "report.json": as_json(facts, figures),
        "figures.csv": as_csv(figures),
        "cases.csv": cases_as_csv(results),
    }
    for name, text in texts.items():
        content = text.encode("utf-8", "backslashreplace")  # names of files may have letters that are none
        write_atomically(output / name, lambda stream, content=content: stream.write(content), overwrite=True)  # type: ignore[misc]


def _facts(
    pictures: Sequence[tuple[str, Pixels]], cases: Sequence[Case], part: str, size: int, fills: int
) -> dict[str, Any]:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "pictures": f"{len(pictures)}, {size}x{size}, of the part {part!r}",
        "holes": f"{len(cases)} in {len({case.family for case in cases})} families, R = 0",
        "fills of each, where random": fills,
        "protocol": f"{protocol.VERSION}, these pictures and holes {protocol.protocol_name(cases)}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores "
        f"({torch.get_num_threads()} threads){gpu}, torch {torch.__version__}",
        "pixmend": str(pixmend.__version__),
    }


def _shortcomings(pictures: int, failed: int) -> list[str]:
    told = []
    if pictures < ENOUGH:
        told.append(f"{pictures} pictures are few; figures to believe take {ENOUGH} or more")
    if failed:
        told.append(f"{failed} of the methods failed and {'is' if failed == 1 else 'are'} not in the tables")
    return told


def _check_reference(reference: str | None, methods: Sequence[Method]) -> None:
    if not methods:
        raise OptionError("no method is left to evaluate; choose one that can run here, such as mean")
    if reference is not None and not any(reference in (method.key, method.name) for method in methods):
        names = ", ".join(dict.fromkeys(method.key or method.name for method in methods))
        raise OptionError(f"the reference {reference!r} is not among the methods; choose of {names}")


def _named(progress: Progress | None, text: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(done, total, text)
