"""Plots as SVG, drawn by hand: reports and logs need lines, axes and a legend, no more, and no package for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

NAMESPACE = "http://www.w3.org/2000/svg"
WIDTH, HEIGHT = 690, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 230, 28, 44  # margins in pixels; the legend stands on the right
COLOURS = ("#1b6ca8", "#d1495b", "#2a9d5c", "#e08e0b", "#7b4fa3", "#00798c", "#8c6d46", "#555555", "#b5179e", "#6a994e")
STEPS = 300  # of a training, that are drawn
DASHES = ("", "6 3", "2 3")  # once the colours have all been used


@dataclass(frozen=True)
class Line:
    """Points of one method, or with a single y and no x a level across the plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = True  # at the points


def line_plot(
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    ticks: Sequence[tuple[float, str]],
    *,
    logarithmic: bool = False,
) -> str:
    """An <svg> element, also a file by itself; nothing where there is no number to show.

    ticks: where the x axis is marked, and with what; every x lies between the first and the last. logarithmic: the y
    axis, on which what is not above 0 is left out.
    """
    values = [y for line in lines for y in line.y if math.isfinite(y) and (y > 0 or not logarithmic)]
    if not values:
        return ""
    marks = (_round_powers if logarithmic else _round_numbers)(min(values), max(values))
    axes = _Axes(ticks[0][0], ticks[-1][0], marks[0], marks[-1], logarithmic)
    middle, upright = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        f'<svg xmlns="{NAMESPACE}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}" font-family="sans-serif" font-size="11">',
        f'<text x="{LEFT}" y="16" font-size="13" font-weight="bold">{escape(title)}</text>',
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(13 {upright}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for mark in marks:
        parts.append(f'<path d="M{LEFT} {axes.down(mark)}H{WIDTH - RIGHT}" stroke="#8884" fill="none"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{axes.down(mark) + 4}" text-anchor="end">{mark:g}</text>')
    for x, text in ticks:
        parts.append(
            f'<text x="{axes.across(x)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(text)}</text>'
        )
    parts += [_drawn(line, i, axes) for i, line in enumerate(lines)]
    return "\n".join([*parts, "</svg>"])


def plot_of_log(rows: Sequence[Mapping[str, str]]) -> str:
    """The losses in the log of a training, its rows as csv.DictReader has them; of the many steps some hundred."""
    lines = []
    for name, shown in (("loss", [*rows[:: max(1, len(rows) // STEPS)], rows[-1]]), ("held_out_loss", rows)):
        if points := [(float(row["kimg"]), float(row[name])) for row in shown if row[name]]:
            x, y = zip(*points, strict=True)
            lines.append(Line(name.replace("_", " "), x, y, dots=name != "loss"))
    end = float(rows[-1]["kimg"])
    ticks = [(end * i / 4, f"{end * i / 4:.4g}") for i in range(5)]
    return line_plot("Training", "thousands of samples", "mean squared error", lines, ticks, logarithmic=True)


@dataclass(frozen=True)
class _Axes:
    """What numbers the frame's edges stand for."""

    left: float
    right: float
    bottom: float
    top: float
    logarithmic: bool

    def across(self, x: float) -> float:
        """Pixels from the left."""
        share = (x - self.left) / ((self.right - self.left) or 1)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def down(self, y: float) -> float:
        """Pixels from the top."""
        y, bottom, top = map(math.log if self.logarithmic else float, (y, self.bottom, self.top))
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - bottom) / (top - bottom), 1)

    def shows(self, y: float) -> bool:
        """Whether there is a place for it."""
        return math.isfinite(y) and (y > 0 or not self.logarithmic)


def _drawn(line: Line, i: int, axes: _Axes) -> str:
    """The i-th line, its points and its entry in the legend."""
    colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
    width = 1.8 if line.x else 1  # thin levels across the plot
    stroke = f'stroke="{colour}" stroke-dasharray="{dashes}" stroke-width="{width}" fill="none"'
    points = list(zip(line.x, line.y, strict=True)) if line.x else [(x, line.y[0]) for x in (axes.left, axes.right)]
    places = [(axes.across(x), axes.down(y)) for x, y in points if axes.shows(y)]
    row, start = TOP + 8 + 15 * i, WIDTH - RIGHT + 12
    parts = [f'<polyline points="{" ".join(f"{x},{y}" for x, y in places)}" {stroke}/>']
    parts += [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in places if line.x and line.dots]
    parts.append(f'<path d="M{start} {row - 4}h18" {stroke}/>')
    parts.append(f'<text x="{start + 23}" y="{row}">{escape(line.name)}</text>')
    return "".join(parts)


def _round_numbers(low: float, high: float) -> list[float]:
    """About five round numbers from at most `low` to at least `high`."""
    span = (high - low) or max(abs(high), 1.0)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= span / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _round_powers(low: float, high: float) -> list[float]:
    """1, 2 or 5 times powers of ten, from at most `low` to at least `high`, both above 0; at least two."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    numbers = [round(factor * 10.0**power, 12) for power in range(first, last + 1) for factor in (1, 2, 5)]
    below, above = [n for n in numbers if n <= low], [n for n in numbers if n >= high]
    return [n for n in numbers if below[-1] <= n <= max(above[0], numbers[numbers.index(below[-1]) + 1])]
