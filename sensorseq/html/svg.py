"""Small inline SVGs with axes, lines and bands, whose colors are CSS variables of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 58, 14, 14, 40
# Minimum height of a row, height of its name, maximum number of letters of the name.
_LANE, _LANE_NAME, _LANE_LETTERS = 32, 11, 40


@dataclass
class Panel:
    """One pair of axes; elements are drawn in the order in which they are added."""

    title: str  # alternative text of the picture
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    width: int = 760  # in CSS pixels; the picture shrinks with the page
    height: int = 250
    y_log: bool = False  # if True, values of zero or below are not drawn
    x_whole: bool = True  # label only whole numbers
    _parts: list[str] = field(default_factory=list)

    def line(self, x: Floats, y: Floats, style: str) -> None:
        """Draw a curve with at most a few points per pixel.

        NaN interrupts the curve, and an isolated point becomes a dot.
        """
        keep = extremes(y, self.width)
        style += " dense" * (len(keep) > self.width)
        x, y = x[keep], self._drawable(y[keep])
        for run in _finite_runs(y):
            points = self._points(x[run], y[run])
            if len(points) == 1:
                at = points[0].split(",")
                self._parts.append(f'<circle class="{style}" cx="{at[0]}" cy="{at[1]}" r="2"/>')
            else:
                self._parts.append(f'<polyline class="{style}" points="{" ".join(points)}"/>')

    def dots(self, x: Floats, y: Floats, style: str, radius: float = 2.0) -> None:
        """Draw single points, thinned like a line."""
        keep = extremes(y, self.width)
        x, y = x[keep], self._drawable(y[keep])
        is_finite = np.isfinite(y)
        for at, height in zip(self._x(x[is_finite]), self._y(y[is_finite]), strict=True):
            self._parts.append(
                f'<circle class="{style}" cx="{_short(at)}" cy="{_short(height)}" r="{radius:g}"/>'
            )

    def band(self, x: Floats, low: Floats, high: Floats, style: str) -> None:
        """Fill the area between two curves where both are finite."""
        keep = np.union1d(extremes(low, self.width), extremes(high, self.width))
        x, low, high = x[keep], self._drawable(low[keep]), self._drawable(high[keep])
        for run in _finite_runs(low + high):
            points = [*self._points(x[run], low[run]), *self._points(x[run], high[run])[::-1]]
            self._parts.append(f'<polygon class="{style}" points="{" ".join(points)}"/>')

    def mark(self, x: float, y: float, style: str, words: str) -> None:
        """Draw a triangle that points down at a point, and give the triangle a tooltip."""
        at = self._x(np.array([x]))[0]
        top = max(self._y(np.array([y]))[0] - 5, MARGIN_TOP)
        corners = ((at, top), (at - 4.5, top - 8), (at + 4.5, top - 8))
        points = " ".join(f"{_short(a)},{_short(b)}" for a, b in corners)
        self._parts.append(
            f'<polygon class="{style}" points="{points}"><title>{escape(words)}</title></polygon>'
        )

    def vertical(self, x: float, style: str) -> None:
        """Draw a vertical line from bottom to top."""
        at = _short(self._x(np.array([x]))[0])
        top, bottom = MARGIN_TOP, self.height - MARGIN_BOTTOM
        self._parts.append(f'<line class="{style}" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')

    def crosses(self, x: Floats, style: str, words: str) -> None:
        """Mark missing values with crosses along the top, and give the crosses a tooltip."""
        for at in self._x(x):
            self._parts.append(
                f'<path class="{style}" d="M{_short(at - 3)} {MARGIN_TOP + 2:g}l6 6m0-6l-6 6">'
                f"<title>{escape(words)}</title></path>"
            )

    def note(self, text: str) -> None:
        """Write a note in the upper right corner."""
        self._parts.append(
            f'<text class="tick note" text-anchor="end" x="{self.width - MARGIN_RIGHT - 4}"'
            f' y="{MARGIN_TOP + 12}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """Return the svg element."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img"'
            f' aria-label="{escape(self.title)}">{"".join([*self._axes(), *self._parts])}</svg>'
        )

    def _axes(self) -> list[str]:
        left, right = MARGIN_LEFT, self.width - MARGIN_RIGHT
        top, bottom = MARGIN_TOP, self.height - MARGIN_BOTTOM
        parts = []
        for value in (log_ticks if self.y_log else ticks)(*self.y_limits):
            at = _short(self._y(np.array([value]))[0])
            parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>')
            parts.append(
                f'<text class="tick" text-anchor="end" dominant-baseline="middle" x="{left - 7}"'
                f' y="{at}">{tick_words(value)}</text>'
            )
        for value in ticks(*self.x_limits, whole=self.x_whole):
            at = self._x(np.array([value]))[0]
            words = tick_words(value)
            over = at + 3.5 * len(words) > self.width  # the label would extend past the edge
            place = f'"end" x="{self.width}"' if over else f'"middle" x="{_short(at)}"'
            parts.append(f'<text class="tick" text-anchor={place} y="{bottom + 16}">{words}</text>')
        parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        middle = (top + bottom) / 2
        parts.append(
            f'<text class="label" text-anchor="middle" transform="translate(13 {middle:g})'
            f' rotate(-90)">{escape(self.y_label)}</text>'
        )
        parts.append(
            f'<text class="label" text-anchor="middle" x="{(left + right) / 2:g}"'
            f' y="{self.height - 5}">{escape(self.x_label)}</text>'
        )
        return parts

    def _x(self, x: Floats) -> Floats:
        low, high = self.x_limits
        span = self.width - MARGIN_LEFT - MARGIN_RIGHT
        return MARGIN_LEFT + (x - low) / (high - low) * span

    def _y(self, y: Floats) -> Floats:
        low, high = self.y_limits
        span = self.height - MARGIN_TOP - MARGIN_BOTTOM
        inside = np.clip(y, low, high)
        if self.y_log:
            low, high, inside = math.log10(low), math.log10(high), np.log10(inside)
        return self.height - MARGIN_BOTTOM - (inside - low) / (high - low) * span

    def _drawable(self, y: Floats) -> Floats:
        return np.where(y > 0, y, np.nan) if self.y_log else y

    def _points(self, x: Floats, y: Floats) -> list[str]:
        return _pairs(self._x(x), self._y(y))


def _pairs(x: Floats, y: Floats) -> list[str]:
    return [f"{_short(a)},{_short(b)}" for a, b in zip(x, y, strict=True)]


def sparkline(
    channels: Sequence[Floats],
    limits: tuple[float, float],
    title: str,
    *,
    shares: Sequence[float] = (),
    height: int = 90,
    lanes: Sequence[str] = (),
) -> str:
    """Draw a small picture of a window, with a line for each channel.

    The lines have the CSS classes ``c0``, ``c1``... `shares` contains a value for each of several
    equal time intervals; the largest value gives the darkest shade. If `lanes` (the names of the
    channels) is given, each channel has its own row below its name, and all have the same color.
    """
    width, (low, high) = 240, limits
    head, row = (_LANE_NAME, max(_LANE, height // len(lanes))) if lanes else (0, height)
    height = row * len(lanes) if lanes else height
    step = width / max(1, len(shares))
    lines = [
        f'<rect class="share" x="{_short(i * step)}" width="{_short(step)}" height="{height}"'
        f' opacity="{share / max(shares):.2f}"/>'
        for i, share in enumerate(shares)
        if share > 0
    ]
    for number, values in enumerate(channels):
        inside = np.where(np.isfinite(values), np.clip(values, low, high), np.nan)
        bottom = number * row + row if lanes else height
        y = bottom - (inside - low) / (high - low) * (row - head - 4) - 2
        x = np.linspace(2, width - 2, len(values)) if len(values) > 1 else np.array([width / 2])
        for run in _finite_runs(y):
            points = " ".join(_pairs(x[run], y[run]))
            lines.append(f'<polyline class="c{0 if lanes else number}" points="{points}"/>')
    for number, name in enumerate(lanes):
        words = name if len(name) <= _LANE_LETTERS else f"…{name[1 - _LANE_LETTERS :]}"
        place = number * row + _LANE_NAME - 1
        lines.append(f'<text class="lane" x="2" y="{place}">{escape(words)}</text>')
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">{"".join(lines)}</svg>'
    )


def over_time(
    envelope: Floats,
    limits: tuple[float, float],
    gaps: Floats,
    cut: Sequence[Sequence[int]],
    title: str,
) -> str:
    """Draw a small picture of a long signal from its `envelope`, the extremes in time intervals.

    The envelope (2, n) has the minimum and the maximum in each of n intervals. `gaps` (k, 2)
    contains starts and ends as fractions of the width. `cut` contains two lists: the intervals in
    which the signal is clipped at its lowest value, and the intervals in which it is clipped at its
    highest value.
    """
    n, (low, high) = envelope.shape[1], limits
    y = np.rint(100 * (1 - (np.clip(envelope, low, high) - low) / (high - low)))
    parts = [
        f'<rect class="gap" x="{_short(n * start)}" width="{_short(max(n * (end - start), 0.5))}"'
        ' height="100"/>'
        for start, end in gaps
    ]
    drawn = np.flatnonzero(np.isfinite(y[0]))
    middle = (gaps.mean(axis=1) * n).astype(np.int64)  # so that no line is drawn across a gap
    for run in np.split(drawn, np.searchsorted(drawn, np.unique(middle))):
        if len(run):
            path = [
                *zip(run, y[1, run], strict=True),
                *zip(run[::-1], y[0, run[::-1]], strict=True),
            ]
            steps = np.diff(np.array(path), axis=0).astype(np.int64)
            moved = "".join(f"{dx} {dy} ".replace(" -", "-") for dx, dy in steps.tolist())
            parts.append(f'<path d="M{run[0] + 0.5:g} {path[0][1]:g}l{moved.strip()}z"/>')
    for top, stretches in zip((94, 0), cut, strict=True):
        ends = "".join(f"M{at} {top}h1v6h-1z" for at in stretches)
        parts += [f'<path class="cut" d="{ends}"/>'] * bool(ends)
    return (
        f'<svg class="time" viewBox="0 0 {n} 100" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers between two limits."""
    if not 1e-300 < high - low < math.inf:
        return [low]
    rough = (high - low) / 5
    power = math.floor(math.log10(rough))
    scale = 10.0**power
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    decimals = max(-power, 0)  # as many digits as the steps need: 0.3, not 0.30000000000000004
    return [round(i * step, decimals) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return up to seven powers of ten between positive limits, or round numbers if too few fit."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 1:
        return [value for value in ticks(low, high) if value > 0]
    step = -(-(last - first + 1) // 7)
    return [10.0**power for power in range(first, last + 1, step)]


def tick_words(value: float) -> str:
    """Format a number briefly for an axis; large numbers below a million get no exponent."""
    return f"{value:,.0f}".replace(",", "\u202f") if 1e4 <= abs(value) < 1e6 else f"{value:g}"


def extremes(y: Floats, most: int) -> NDArray[np.int64]:
    """Return the indices of the minimum, maximum and first NaN in each of `most` intervals."""
    if len(y) <= 2 * most:
        return np.arange(len(y))
    finite = np.isfinite(y)
    chosen = [0, len(y) - 1]
    for part in np.array_split(np.arange(len(y)), most):
        inside = part[finite[part]]
        if inside.size:
            chosen += [int(inside[y[inside].argmin()]), int(inside[y[inside].argmax()])]
        if inside.size < part.size:
            chosen.append(int(part[~finite[part]][0]))
    return np.unique(chosen)


def _finite_runs(y: Floats) -> list[NDArray[np.int64]]:
    finite = np.flatnonzero(np.isfinite(y))
    return [run for run in np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1) if run.size]


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
