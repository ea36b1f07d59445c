"""Small inline SVG: axes, lines, bands. Colours are CSS variables of the page it stands in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 52, 14, 14, 40


@dataclass
class Panel:
    """One pair of axes; elements are drawn in the order they are added.

    Parameters
    ----------
    title : str
        What the picture shows, for readers who cannot see it.
    x_limits, y_limits : pair of float
        What the axes span.
    x_label, y_label : str
        Written beside them.
    width, height : int
        Of the picture, in CSS pixels; it shrinks with the page.
    """

    title: str
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    width: int = 760
    height: int = 250
    _parts: list[str] = field(default_factory=list)

    def line(self, x: Floats, y: Floats, style: str) -> None:
        """Draw a curve; what is not a number breaks it, and a point alone gets a dot."""
        for run in _finite_runs(y):
            points = self._points(x[run], y[run])
            if len(points) == 1:
                at = points[0].split(",")
                self._parts.append(f'<circle class="{style}" cx="{at[0]}" cy="{at[1]}" r="2"/>')
            else:
                self._parts.append(f'<polyline class="{style}" points="{" ".join(points)}"/>')

    def band(self, x: Floats, low: Floats, high: Floats, style: str) -> None:
        """Fill between two curves."""
        points = [*self._points(x, low), *self._points(x, high)[::-1]]
        self._parts.append(f'<polygon class="{style}" points="{" ".join(points)}"/>')

    def vertical(self, x: float, style: str) -> None:
        """Draw a line from bottom to top."""
        at = _short(self._x(np.array([x]))[0])
        top, bottom = MARGIN_TOP, self.height - MARGIN_BOTTOM
        self._parts.append(f'<line class="{style}" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>')

    def note(self, text: str) -> None:
        """Write a remark into the upper right corner."""
        self._parts.append(
            f'<text class="tick" text-anchor="end" x="{self.width - MARGIN_RIGHT - 4}"'
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
        for value in ticks(*self.y_limits):
            at = _short(self._y(np.array([value]))[0])
            parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>')
            parts.append(
                f'<text class="tick" text-anchor="end" dominant-baseline="middle" x="{left - 7}"'
                f' y="{at}">{value:g}</text>'
            )
        for value in ticks(*self.x_limits, whole=True):
            at = _short(self._x(np.array([value]))[0])
            parts.append(
                f'<text class="tick" text-anchor="middle" x="{at}" y="{bottom + 16}">'
                f"{value:g}</text>"
            )
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
        return self.height - MARGIN_BOTTOM - (inside - low) / (high - low) * span

    def _points(self, x: Floats, y: Floats) -> list[str]:
        return [f"{_short(a)},{_short(b)}" for a, b in zip(self._x(x), self._y(y), strict=True)]


def sparkline(
    channels: Sequence[Floats], limits: tuple[float, float], title: str, *, height: int = 90
) -> str:
    """Return a small picture of one window: a line for each channel, class ``c0``, ``c1``...

    Parameters
    ----------
    channels : sequence of ndarray of shape (t,)
        Comparable values, scaled.
    limits : pair of float
        What the height spans.
    title : str
        For readers who cannot see it.
    """
    width, (low, high) = 240, limits
    lines = []
    for number, values in enumerate(channels):
        y = height - (np.clip(values, low, high) - low) / (high - low) * (height - 4) - 2
        x = np.linspace(2, width - 2, len(values)) if len(values) > 1 else np.array([width / 2])
        points = " ".join(f"{_short(a)},{_short(b)}" for a, b in zip(x, y, strict=True))
        lines.append(f'<polyline class="c{number}" points="{points}"/>')
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">{"".join(lines)}</svg>'
    )


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers between two limits."""
    if not high > low:
        return [low]
    rough = (high - low) / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _finite_runs(y: Floats) -> list[NDArray[np.int64]]:
    finite = np.flatnonzero(np.isfinite(y))
    return [run for run in np.split(finite, np.flatnonzero(np.diff(finite) > 1) + 1) if run.size]


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
