"""The figures as a table on the screen, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from pixmend.evaluation.summary import TITLES, Figure, Results

SHOWN = (  # columns of the tables that people read
    "psnr",
    "psnr_mean",
    "ssim",
    "sharpness_1",
    "sharpness_2",
    "sharpness_3",
    "seam",
    "sliced_wasserstein",
    "classifier",
    "known_difference",
    "network_calls",
    "seconds",
)
SHORT = {  # heads of columns, where the titles are too long
    "psnr": "PSNR",
    "psnr_mean": "of the mean",
    "sharpness_1": "sharp, fine",
    "sharpness_2": "middle",
    "sharpness_3": "coarse",
    "sliced_wasserstein": "sliced W.",
    "classifier": "told",
    "known_difference": "known",
    "network_calls": "calls",
}

Cells = dict[tuple[str, str, str], Figure]  # by group, method and metric


def cells_of(figures: Iterable[Figure], by: str = "family") -> Cells:
    """The figures by what they are looked up with."""
    return {(f.group, f.method, f.metric): f for f in figures if f.by == by}


def text_of(figure: Figure | None) -> str:
    """A cell as people read it: the value; an answer of the classifier that does not count stands in brackets."""
    if figure is None or figure.value is None:
        return ""
    text = f"{figure.value:.{TITLES[figure.metric].digits}f}"
    if figure.note:
        return f"({text})"
    if figure.metric == "psnr" and figure.difference is not None:
        text += f" ({figure.difference:+.2f})"
    return text


def groups_of(figures: Iterable[Figure], by: str = "family") -> list[str]:
    """Families or bins, in their order."""
    return list(dict.fromkeys(f.group for f in figures if f.by == by))


def methods_of(figures: Iterable[Figure], group: str, by: str = "family") -> list[str]:
    """The methods that were measured on a group."""
    return list(dict.fromkeys(f.method for f in figures if f.group == group and f.by == by))


def print_table(figures: Sequence[Figure]) -> None:
    """One table on the screen, a section for each family; as wide as it needs where nobody looks."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200
    cells = cells_of(figures)
    shown = [name for name in SHOWN if any(metric == name for _, _, metric in cells)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("holes, method")
    for name in shown:
        table.add_column(SHORT.get(name, TITLES[name].title), justify="right")
    for group in groups_of(figures):
        table.add_row(f"{group}", style="bold")
        counts = {method: cells[group, method, "psnr"].pictures for method in methods_of(figures, group)}
        for method, count in counts.items():
            found = [text_of(cells.get((group, method, name))) for name in shown]
            fewer = f" ({count} pictures)" if count < max(counts.values()) else ""
            table.add_row(f"  {_plain(method)}{fewer}", *found)
    console.print(table)
    console.print(
        "PSNR: of single fills in the hole, in dB; in brackets the paired difference to the best of Telea, "
        "Navier-Stokes and biharmonic, or to --reference. Sharpness, seam: 1 as the truth. "
        "told: by the classifier, 0.5 is best; in brackets where it does not count."
    )


def as_csv(figures: Iterable[Figure]) -> str:
    """All figures, one in a line."""
    stream = io.StringIO()
    names = [field.name for field in fields(Figure)]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(figure) for figure in figures)
    return stream.getvalue()


def cases_as_csv(results: Results) -> str:
    """All numbers of all cases, one case of a method in a line."""
    stream = io.StringIO()
    names = dict.fromkeys(
        name for families in results.values() for _, m in families.values() for row in m.rows for name in row
    )
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", "family", "picture", "mask", "area", *names])
    for method, families in results.items():
        for family, (cases, measured) in families.items():
            for case, row in zip(cases, measured.rows, strict=True):
                head = [method.name, family, case.picture, case.mask, f"{case.area:.6f}"]
                writer.writerow([*head, *(f"{row[name]:.6g}" if name in row else "" for name in names)])
    return stream.getvalue()


def as_json(facts: dict[str, Any], figures: Iterable[Figure]) -> str:
    """Facts and figures as one JSON object."""
    return json.dumps({**facts, "figures": [asdict(figure) for figure in figures]}, indent=1)


def _plain(text: str) -> str:
    """Names as they are: rich would take square brackets for its own."""
    from rich.markup import escape

    return escape(text)
