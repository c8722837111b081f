"""Figures of families and of hole areas, each with its interval and its paired difference to a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pixmend.evaluation.baselines import CLASSICAL
from pixmend.evaluation.classifier import VALID_TELEA, most_by_lot
from pixmend.evaluation.measuring import Measured
from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import Case
from pixmend.evaluation.statistics import Numbers, by_picture, difference_interval, ratio_interval

AREAS = 10  # bins of the hole's share
ALL = "all"


@dataclass(frozen=True)
class Metric:
    """A figure: the mean of a column of the rows, or with `over` the ratio of the sums of two."""

    column: str
    title: str
    better: Literal["more", "less", "one", "neither"]
    digits: int = 2
    over: str = ""


METRICS = (
    Metric("psnr", "PSNR, dB", "more"),
    Metric("psnr_mean", "PSNR of the mean, dB", "more"),
    Metric("psnr_best", "PSNR of the best, dB", "more"),
    Metric("mae", "MAE, 8-bit levels", "less"),
    Metric("ssim", "SSIM", "more", 3),
    Metric("ssim_mean", "SSIM of the mean", "more", 3),
    Metric("ms_ssim", "MS-SSIM", "more", 3),
    Metric("gmsd", "GMSD", "less", 3),
    Metric("sharpness", "sharpness", "one", over="sharpness_truth"),
    Metric("sharpness_1", "sharpness, finest band", "one", over="sharpness_1_truth"),
    Metric("sharpness_2", "sharpness, middle band", "one", over="sharpness_2_truth"),
    Metric("sharpness_3", "sharpness, coarse band", "one", over="sharpness_3_truth"),
    Metric("seam", "seam", "one", over="seam_truth"),
    Metric("diversity", "diversity, 8-bit levels", "neither", 1),
    Metric("nearest", "nearest training patch / truth's", "neither", over="nearest_truth"),
    Metric("lpips", "LPIPS", "less", 3),
    Metric("known_difference", "known pixels, largest change", "less", 0),
    Metric("network_calls", "network calls", "less", 1),
    Metric("seconds", "seconds", "less", 3),
    Metric("memory", "peak memory, MiB", "less", 0),
)
LARGEST = ("known_difference", "memory")  # their largest is told, not their mean
WHOLE = (  # of a set
    Metric("sliced_wasserstein", "sliced Wasserstein", "less", 3),
    Metric("classifier", "told from real", "less", 3),
    Metric("fid", "FID", "less", 1),
)
TITLES = {metric.column: metric for metric in (*METRICS, *WHOLE)}


@dataclass(frozen=True)
class Entry:
    """A case of a method with its numbers."""

    case: Case
    row: dict[str, float]


@dataclass(frozen=True)
class Figure:
    """One cell of the tables. Numbers that could not be told are None."""

    method: str
    by: Literal["family", "area"]
    group: str  # a family, a bin such as "10-20 %", or "all"
    metric: str  # a column of METRICS or WHOLE
    pictures: int
    cases: int
    value: float | None
    low: float | None = None  # of the interval, where there is one
    high: float | None = None
    reference: str = ""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    note: str = ""


Results = dict[Method, dict[str, tuple[Sequence[Case], Measured]]]  # by method and family


def summarize(results: Results, reference: str | None = None) -> list[Figure]:
    """All figures.

    reference: the key or name of the method that others are compared with, pair by pair; by default the best of
    CLASSICAL for each figure.
    """
    figures = list(_by_group(results, reference, "family", lambda case: case.family))
    figures += _by_group(results, reference, "area", lambda case: area_bin(case.area))
    for method, families in results.items():
        for family, (cases, measured) in families.items():
            figures += _whole(method, family, len(cases), measured)
    return figures


def area_bin(area: float) -> str:
    """The bin of a hole's share, such as "10-20 %"."""
    i = min(int(area * AREAS), AREAS - 1)
    return f"{100 * i // AREAS}-{100 * (i + 1) // AREAS} %"


def entries_of(families: dict[str, tuple[Sequence[Case], Measured]]) -> list[Entry]:
    """All cases of a method with their numbers."""
    return [
        Entry(case, row)
        for cases, measured in families.values()
        for case, row in zip(cases, measured.rows, strict=True)
    ]


def _by_group(
    results: Results, reference: str | None, by: Literal["family", "area"], group_of: Callable[[Case], str]
) -> Iterator[Figure]:
    groups: dict[str, dict[Method, list[Entry]]] = {}
    for method, families in results.items():
        everywhere = method.limits.families is None
        if by == "area" and not everywhere:  # a mean over some families is not to be compared with one over all
            continue
        for entry in entries_of(families):
            for group in (group_of(entry.case), *([ALL] if by == "family" and everywhere else [])):
                groups.setdefault(group, {}).setdefault(method, []).append(entry)
    order = sorted(groups) if by == "area" else sorted(groups, key=lambda group: group == ALL)
    for group in order:
        for metric in METRICS:
            yield from _figures(groups[group], metric, reference, by, group)


def _figures(
    methods: dict[Method, list[Entry]], metric: Metric, reference: str | None, by: Literal["family", "area"], group: str
) -> Iterator[Figure]:
    """A metric of all methods on one group."""
    told = {method: _told(entries, metric) for method, entries in methods.items()}
    told = {method: entries for method, entries in told.items() if entries}
    against = _reference(told, metric, reference)
    for method, entries in told.items():
        pictures = len({entry.case.picture for entry in entries})
        if metric.column in LARGEST:
            largest = max(entry.row[metric.column] for entry in entries)
            yield Figure(method.name, by, group, metric.column, pictures, len(entries), largest)
            continue
        value, low, high = (_number(x) for x in ratio_interval(*_sums(entries, metric)))
        figure = Figure(method.name, by, group, metric.column, pictures, len(entries), value, low, high)
        if against is None or against is method:
            yield figure
            continue
        a, b = _in_common(entries, told[against])
        apart = difference_interval(_sums(a, metric), _sums(b, metric)) if a else (math.nan,) * 3
        names = ("difference", "difference_low", "difference_high")
        paired = dict(zip(names, map(_number, apart), strict=True))
        yield Figure(**{**figure.__dict__, **paired, "reference": against.name})


def _told(entries: list[Entry], metric: Metric) -> list[Entry]:
    """The entries that have a number for the metric."""
    columns = [metric.column, *([metric.over] if metric.over else [])]
    return [e for e in entries if all(not math.isnan(e.row.get(column, math.nan)) for column in columns)]


def _reference(told: dict[Method, list[Entry]], metric: Metric, wanted: str | None) -> Method | None:
    if wanted is not None:
        return next((method for method in told if wanted in (method.key, method.name)), None)
    if metric.better == "neither":
        return None

    def badness(method: Method) -> float:
        top, bottom = (float(sums.sum()) for sums in _sums(told[method], metric))
        ratio = top / bottom if bottom else math.inf
        return {"more": -ratio, "less": ratio, "one": abs(ratio - 1)}.get(metric.better, 0.0)

    return min((method for method in told if method.key in CLASSICAL), key=badness, default=None)


def _sums(entries: list[Entry], metric: Metric) -> tuple[Numbers, Numbers]:
    """Numerators and denominators, one of each for a picture, pictures in their sorted order."""
    entries = sorted(entries, key=lambda entry: entry.case.picture)
    pictures = [entry.case.picture for entry in entries]
    top = by_picture(pictures, [entry.row[metric.column] for entry in entries])
    bottom = by_picture(pictures, [entry.row[metric.over] if metric.over else 1.0 for entry in entries])
    return np.array(list(top.values())), np.array(list(bottom.values()))


def _in_common(a: list[Entry], b: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    shared = {entry.case.name for entry in a} & {entry.case.name for entry in b}
    one, other = ([entry for entry in entries if entry.case.name in shared] for entries in (a, b))
    return one, other


def _whole(method: Method, family: str, count: int, measured: Measured) -> Iterator[Figure]:
    for name, numbers in measured.whole.items():
        value, low, high = numbers["value"], numbers.get("low"), numbers.get("high")
        note = validity(numbers, count) if name == "classifier" else ""
        yield Figure(method.name, "family", family, name, count, count, value, low, high, note=note)


def validity(numbers: dict[str, float], pictures: int) -> str:
    """What speaks against a classifier's answer about so many pictures; nothing, where it counts."""
    against = []
    if math.isnan(numbers["telea"]):
        against.append("Telea is not there to be told")
    elif numbers["telea"] < VALID_TELEA:
        against.append(f"Telea is told in {numbers['telea']:.1%} only")
    if numbers["real"] > most_by_lot(pictures):
        against.append(f"lots between real pictures are told in {numbers['real']:.1%}")
    return f"does not count: {', '.join(against)}" if against else ""


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
