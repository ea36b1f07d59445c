"""The cubic spline of scipy.interpolate.CubicSpline, within rounding, with numpy alone."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def interpolate_cubic(knots: Floats, heights: Floats, at: Floats) -> Floats:
    """Interpolate with the spline that has no knot at the second point nor the last but one.

    A value depends on the knots nearby: those more than 64 away do not change a bit of it.
    """
    width = np.diff(knots)
    slope = np.diff(heights) / width
    s = _slopes(width, slope)
    bend = (s[:-1] + s[1:] - 2 * slope) / width
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(width) - 1)
    past = at - knots[piece]
    linear = heights[piece] + s[piece] * past
    quadratic = linear + ((slope - s[:-1]) / width - bend)[piece] * (past * past)
    return np.asarray(quadratic + (bend / width)[piece] * (past * past * past))


def _slopes(width: Floats, slope: Floats) -> Floats:
    """Compute the slopes at the knots for which the second derivative does not jump."""
    if len(width) == 1:
        return np.repeat(slope, 2)
    both = width[:-1] + width[1:]
    right = 3 * (width[1:] * slope[:-1] + width[:-1] * slope[1:])
    if len(width) == 2:  # a parabola
        middle = right / (3 * both)
        return np.concatenate([2 * slope[:1] - middle, middle, 2 * slope[1:] - middle])
    ends = both[[0, -1]], width[[0, -1]], width[[1, -2]]
    of_ends = (
        (ends[1] + 2 * ends[0]) * ends[2] * slope[[0, -1]] + ends[1] ** 2 * slope[[1, -2]]
    ) / ends[0]
    # The first and the last slope are only in one equation besides their own: leave them out.
    diagonal = 2 * both
    diagonal[[0, -1]] -= ends[0]
    right[[0, -1]] -= of_ends
    rows = np.stack([width[1:], width[:-1], right]) / diagonal
    rows[0, 0] = rows[1, -1] = 0
    inner = _solve(rows)
    first, last = (of_ends - ends[0] * inner[[0, -1]]) / ends[2]
    return np.concatenate([[first], inner, [last]])


def _solve(rows: Floats) -> Floats:
    """Solve x[i] + lower[i] * x[i - 1] + upper[i] * x[i + 1] = right[i], given these three rows.

    Cyclic reduction of all equations at once: a step puts unknowns twice as far away in place of
    the neighbors. Their factors, which add up to half, are squared by it, so that nothing is left
    of them after six.
    """
    for apart in (1, 2, 4, 8, 16, 32):
        if apart >= rows.shape[1]:
            break
        (lower, upper, right), later, sooner = rows, np.s_[apart:], np.s_[:-apart]
        both = lower[later] * upper[sooner]
        own = np.ones(len(right))
        own[later] -= both
        own[sooner] -= both
        rows = np.stack([np.zeros_like(right), np.zeros_like(right), right])
        rows[0, later] = -lower[later] * lower[sooner]
        rows[1, sooner] = -upper[sooner] * upper[later]
        rows[2, later] -= lower[later] * right[sooner]
        rows[2, sooner] -= upper[sooner] * right[later]
        rows /= own
    return np.asarray(rows[2])
