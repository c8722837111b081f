"""Plots as SVG, drawn by hand: a report must stand alone, and needs lines, axes and a legend, no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 690, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 230, 28, 44  # margins in pixels; the legend stands on the right
COLOURS = ("#1b6ca8", "#d1495b", "#2a9d5c", "#e08e0b", "#7b4fa3", "#00798c", "#8c6d46", "#555555", "#b5179e", "#6a994e")
DASHES = ("", "6 3", "2 3")  # once the colours have all been used


@dataclass(frozen=True)
class Line:
    """Points of one method, or with a single y and no x a level across the plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_plot(title: str, x_label: str, y_label: str, lines: Sequence[Line], ticks: Sequence[tuple[float, str]]) -> str:
    """An <svg> element; nothing where there is no number to show.

    ticks: where the x axis is marked, and with what; every x lies between the first and the last.
    """
    values = [y for line in lines for y in line.y if math.isfinite(y)]
    if not values:
        return ""
    marks = _round_numbers(min(values), max(values))
    axes = _Axes(ticks[0][0], ticks[-1][0], marks[0], marks[-1])
    middle, upright = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
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


@dataclass(frozen=True)
class _Axes:
    """What numbers the frame's edges stand for."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: float) -> float:
        """Pixels from the left."""
        share = (x - self.left) / ((self.right - self.left) or 1)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def down(self, y: float) -> float:
        """Pixels from the top."""
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - self.bottom) / (self.top - self.bottom), 1)


def _drawn(line: Line, i: int, axes: _Axes) -> str:
    """The i-th line, its points and its entry in the legend."""
    colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
    width = 1.8 if line.x else 1  # thin levels across the plot
    stroke = f'stroke="{colour}" stroke-dasharray="{dashes}" stroke-width="{width}" fill="none"'
    points = list(zip(line.x, line.y, strict=True)) if line.x else [(x, line.y[0]) for x in (axes.left, axes.right)]
    places = [(axes.across(x), axes.down(y)) for x, y in points if math.isfinite(y)]
    row, start = TOP + 8 + 15 * i, WIDTH - RIGHT + 12
    parts = [f'<polyline points="{" ".join(f"{x},{y}" for x, y in places)}" {stroke}/>']
    parts += [f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in places if line.x]
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
