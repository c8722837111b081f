"""The report that people read: one HTML file that stands alone, with tables, plots, and pictures side by side."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from pixmend.evaluation.method import Method
from pixmend.evaluation.protocol import FAMILIES, Case, Pixels
from pixmend.evaluation.summary import ALL, AREAS, TITLES, Figure, Results
from pixmend.evaluation.tables import Cells, cells_of, groups_of, methods_of, text_of
from pixmend.images import encode, open_picture
from pixmend.plots import Line, line_plot

FirstFill = Callable[[Method, Case], Pixels]

COLUMNS = (
    *("psnr", "psnr_mean", "ssim", "sharpness_1", "sharpness_2", "sharpness_3", "seam"),
    *("sliced_wasserstein", "classifier", "lpips", "fid", "network_calls", "seconds", "memory", "known_difference"),
    *("nearest", "diversity", "psnr_best", "mae", "ssim_mean", "ms_ssim", "gmsd", "sharpness"),
)
PLOTTED = ("psnr", "ssim", "sharpness_1", "seam")

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, dl { max-width: 90ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; }
.plots { display: flex; flex-wrap: wrap; gap: 0 2rem; }
svg { display: block; margin: .6rem 0; max-width: 100%; height: auto; }
svg text { fill: CanvasText; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .45rem; text-align: right; vertical-align: top; border-bottom: 1px solid #8883; }
th { font-weight: 600; max-width: 6rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; white-space: nowrap; }
td small { display: block; opacity: .65; white-space: nowrap; font-size: 10px; }
tr.apart td { font-style: italic; }
.cases td, .cases th { text-align: center; border: 0; padding: .15rem; max-width: 7rem; }
.cases small { white-space: normal; }
.cases td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.cases img { width: 112px; image-rendering: pixelated; display: block; }
"""

READING = """ <p>Every figure looks at the hole alone, for known pixels are equal by construction. Small numbers below
a figure: the interval that holds 95 % of 2000 draws of pictures, and with a sign the paired difference to the
reference (by default the best of Telea, Navier-Stokes and biharmonic in that figure) with its own. Each interval is
one by itself: of equal methods one in twenty misses 0 by chance, and many are printed. Sliced Wasserstein and FID
have none.</p> <p>A perfect sampler has twice the expected squared error of the mean of all likely pictures, 3 dB, so
PSNR and SSIM are also those of the mean of all fills; everything else is of single fills. Sharpness and seam are 1
for the truth. Sliced Wasserstein is 0, within chance, for a perfect sampler. The classifier tells a perfect fill from
the truth in 0.5 of the cases; where it could not tell Telea, or told lots between real pictures, its answer stands in
brackets and does not count. Methods in italics stand apart: they are no part of the comparison.</p>
"""


def html_report(facts: dict[str, Any], figures: Sequence[Figure], results: Results, first_fill: FirstFill) -> str:
    """The whole page. first_fill(method, case): the picture to show."""
    cells = cells_of(figures)
    apart = {method.name for method in results if method.apart}
    tables = "".join(_family(group, figures, cells, apart) for group in groups_of(figures))
    areas = cells_of(figures, "area")
    bins = "".join(
        _table(group, methods_of(figures, group, "area"), areas, apart) for group in groups_of(figures, "area")
    )
    told = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(fact))}</dd>" for name, fact in facts.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>How good the fills are</title><style>{STYLE}</style></head><body>
<h1>How good the fills are</h1>
<dl>{told}</dl>
{READING}
<h2>Quality against calls of the network</h2>
{_against_calls(results, cells)}
<h2>Quality against the hole's share of the picture</h2>
{_against_area(results, areas)}
<h2>By family of holes</h2>
{tables}
<h2>Worst, median and best</h2>
{_all_cases(results, first_fill)}
<h2>By the hole's share of the picture</h2>
{bins}
</body></html>
"""


def _family(group: str, figures: Sequence[Figure], cells: Cells, apart: set[str]) -> str:
    says = "all families together" if group == ALL else FAMILIES[group].says
    return _table(f"{group}: {says}", methods_of(figures, group), cells, apart, group)


def _table(title: str, methods: Sequence[str], cells: Cells, apart: set[str], group: str | None = None) -> str:
    group = title if group is None else group
    names = [name for name in COLUMNS if any((group, method, name) in cells for method in methods)]
    head = "".join(f"<th>{escape(TITLES[name].title)}</th>" for name in ("pictures", *names) if name in TITLES)
    rows = []
    for method in sorted(methods, key=lambda name: name in apart):
        found = [cells.get((group, method, name)) for name in names]
        pictures = max(figure.pictures for figure in found if figure is not None)
        style = ' class="apart"' if method in apart else ""
        rows.append(f"<tr{style}><td>{escape(method)}</td><td>{pictures}</td>{''.join(map(_cell, found))}</tr>")
    return (
        f'<h3>{escape(title)}</h3><div class="wide"><table>'
        f"<thead><tr><th>method</th><th>pictures</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "<td></td>"
    digits = TITLES[figure.metric].digits
    small = ""
    if figure.low is not None:
        small += f"<small>{figure.low:.{digits}f} … {figure.high:.{digits}f}</small>"
    if figure.difference is not None and figure.difference_low is not None:
        between = f"{figure.difference_low:+.{digits}f} … {figure.difference_high:+.{digits}f}"
        small += f"<small>{figure.difference:+.{digits}f}: {between}</small>"
    value = text_of(figure) if figure.note else f"{figure.value:.{digits}f}"
    title = figure.note or (f"difference to {figure.reference}" if figure.reference else "")
    return f'<td title="{escape(title, quote=True)}">{value}{small}</td>'


def _against_calls(results: Results, cells: Cells) -> str:
    series: dict[str, list[str]] = {}
    for method in results:
        if method.series:
            series.setdefault(method.series, []).append(method.name)
    levels = [method.name for method in results if _is_plotted(method) and not method.series]

    def value(method: str, metric: str) -> float:
        figure = cells.get((ALL, method, metric))
        return math.nan if figure is None or figure.value is None else figure.value

    called = [value(name, "network_calls") for names in series.values() for name in names]
    if not series or not all(calls >= 1 for calls in called):
        return "<p>No model was measured.</p>"
    most = max(1, math.ceil(math.log2(max(called))))
    ticks = [(float(i), str(2**i)) for i in range(most + 1)]
    plots = []
    for metric in PLOTTED:
        lines = []
        for name, methods in series.items():
            points = sorted((math.log2(value(method, "network_calls")), value(method, metric)) for method in methods)
            lines.append(Line(name, [x for x, _ in points], [y for _, y in points]))
        lines += [Line(name, [], [value(name, metric)]) for name in levels]
        title = f"{TITLES[metric].title}, all families"
        plots.append(line_plot(title, "calls of the network for one fill (mean)", TITLES[metric].title, lines, ticks))
    return f'<div class="plots">{"".join(plots)}</div>'


def _is_plotted(method: Method) -> bool:
    """Not what was measured on less or stands apart; nor the mean colour, which would leave all else one line."""
    return not method.apart and not method.limits.families and method.key != "mean"


def _against_area(results: Results, cells: Cells) -> str:
    bins = list(dict.fromkeys(group for group, _, _ in cells))
    ticks = [(float(i), f"{100 * i // AREAS}") for i in range(AREAS + 1)]
    plots = []
    for metric in PLOTTED:
        lines = []
        for method in results:
            figures = [cells.get((group, method.name, metric)) for group in bins]
            told = [f for f in figures if f is not None and f.value is not None]
            middles = [int(f.group.split("-")[0]) / 100 * AREAS + 0.5 for f in told]
            if told and _is_plotted(method):
                lines.append(Line(method.name, middles, [float(f.value or 0) for f in told]))
        title = f"{TITLES[metric].title}, all families"
        plots.append(line_plot(title, "hole, % of the picture", TITLES[metric].title, lines, ticks))
    return f'<div class="plots">{"".join(plots)}</div>'


def _all_cases(results: Results, first_fill: FirstFill) -> str:
    """For every family the worst, the median and the best case of the first model, by PSNR, with all other methods'
    fills.
    """
    judged = [method for method in results if method.key == "pixmend"] or list(results)
    chosen = judged[0]
    parts = [f"<p>Chosen by the PSNR of single fills of {escape(chosen.name)}; each picture is a first fill.</p>"]
    for family, (cases, measured) in results[chosen].items():
        order = sorted(range(len(cases)), key=lambda i: measured.rows[i]["psnr"])
        picked = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
        methods = [
            m for m, families in results.items() if all(cases[i] in _cases(families, family) for i in picked.values())
        ]
        heads = ["", "given", *(method.name for method in methods), "truth"]
        rows = []
        for word, i in picked.items():
            pictures = [cases[i].given, *(first_fill(method, cases[i]) for method in methods), cases[i].truth]
            told = f"{word}<br>{measured.rows[i]['psnr']:.1f} dB<br><small>{escape(cases[i].picture)}</small>"
            rows.append(f"<tr><td>{told}</td>{''.join(f'<td>{_image(p)}</td>' for p in pictures)}</tr>")
        head = "".join(f"<th>{escape(text)}</th>" for text in heads)
        parts.append(
            f'<h3>{escape(family)}</h3><div class="wide">'
            f'<table class="cases"><tr>{head}</tr>{"".join(rows)}</table></div>'
        )
    return "".join(parts)


def _cases(families: dict[str, tuple[Sequence[Case], Any]], family: str) -> Sequence[Case]:
    return families[family][0] if family in families else []


def _image(pixels: Pixels) -> str:
    stream = io.BytesIO()
    encode(open_picture(np.ascontiguousarray(pixels)), stream, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'
