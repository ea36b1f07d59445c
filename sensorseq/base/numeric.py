"""numpy versions of the scipy functions for prediction; most results are bit-identical."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


def log_softmax(x: Floats, axis: int) -> Floats:
    """Compute the logarithm of the softmax; values may be minus infinity."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def logsumexp(x: Floats, axis: int) -> Floats:
    """Compute ``log(sum(exp(x)))`` along an axis, where at least one value must be finite."""
    largest = x.max(axis=axis, keepdims=True)
    is_largest = x == largest
    n_largest = is_largest.sum(axis=axis, dtype=x.dtype)
    others = np.exp(np.where(is_largest, -np.inf, x) - largest).sum(axis=axis)
    return np.asarray(np.log1p(others / n_largest) + np.log(n_largest) + largest.squeeze(axis))


def stochastic_exponential(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the matrix exponential of a matrix of transition rates, whose rows sum to 0.

    The method is uniformization, which replaces the continuous process with a Markov chain of many
    short steps, and sums over the number of steps. No term is negative, so nothing cancels.
    """
    fastest = max(float(-rates.diagonal().min()), 1e-300)
    n_doublings = max(0, int(np.ceil(np.log2(fastest))) + 4)
    part = fastest / 2**n_doublings  # at most 1/16, so that a dozen terms are enough
    step = np.eye(len(rates)) + rates / fastest
    term = total = np.eye(len(rates))
    for n in range(1, 13):
        term = term @ step * (part / n)
        total = total + term
    for _ in range(n_doublings):
        total = total / total.sum(axis=1, keepdims=True)
        total = total @ total
    return np.asarray(total / total.sum(axis=1, keepdims=True))


def interpolate_cubic(knots: Doubles, heights: Doubles, at: Doubles) -> Doubles:
    """Interpolate with a cubic spline, as scipy.interpolate.CubicSpline does.

    Not-a-knot conditions hold at the second and the second-to-last knot. A value depends only on
    the 64 nearest knots on each side.
    """
    width = np.diff(knots)
    slope = np.diff(heights) / width
    s = _spline_slopes(width, slope)
    bend = (s[:-1] + s[1:] - 2 * slope) / width
    piece = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(width) - 1)
    past = at - knots[piece]
    linear = heights[piece] + s[piece] * past
    quadratic = linear + ((slope - s[:-1]) / width - bend)[piece] * (past * past)
    return np.asarray(quadratic + (bend / width)[piece] * (past * past * past))


def _spline_slopes(width: Doubles, slope: Doubles) -> Doubles:
    """Compute the slopes at the knots for which the second derivative is continuous."""
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
    # Besides its own equation, the first slope occurs only in the second equation, and the last
    # slope only in the second-to-last equation. Eliminate both slopes first.
    diagonal = 2 * both
    diagonal[[0, -1]] -= ends[0]
    right[[0, -1]] -= of_ends
    rows = np.stack([width[1:], width[:-1], right]) / diagonal
    rows[0, 0] = rows[1, -1] = 0
    inner = _solve_tridiagonal(rows)
    first, last = (of_ends - ends[0] * inner[[0, -1]]) / ends[2]
    return np.concatenate([[first], inner, [last]])


def _solve_tridiagonal(rows: Doubles) -> Doubles:
    """Solve x[i] + lower[i] * x[i - 1] + upper[i] * x[i + 1] = right[i] for x.

    The method is cyclic reduction of all equations. Each step replaces the two neighbors of an
    unknown with unknowns twice as far away, and roughly squares the coefficients of the neighbors.
    These coefficients initially add up to one half, so they are negligible after six steps.
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


def fill_forward(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Replace NaN in (n, n_channels) by the previous value; NaN at the start remains."""
    known = np.where(np.isnan(values), 0, np.arange(len(values))[:, np.newaxis])
    filled: NDArray[np.floating] = np.take_along_axis(values, np.maximum.accumulate(known), axis=0)
    return filled
