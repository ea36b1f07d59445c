"""Measure how a recording moves: idle time, speed, first and last values, channels that agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sensorseq.prediction.outside import Floats, Ints

STEP_S = 0.02  # smallest step of the grid on which channels are compared
MOST_STEPS, PIECE = 2048, 256  # a longer recording is compared in pieces
MOST_DELAY_S, LEAST_DELAYS = 0.5, 3  # largest delay in seconds, but at least in steps
MOST_COMPARED = 64  # maximum number of channels that are compared with each other
BIN_S, IDLE = 0.25, 0.03  # an idle interval varies by less than this fraction of the spread
FAST_S = 1.0  # duration over which the speed is averaged
END_S = 0.5  # duration over which the first and the last values are averaged


def measure_motion(
    t: Floats, columns: Sequence[tuple[Ints, Floats]]
) -> tuple[tuple[float, float, NDArray[np.float32], NDArray[np.float32]], Floats]:
    """Measure how a recording moves, from its timestamps and each channel's known rows and values.

    Return ``idle_s``, ``held_s``, ``agreement`` and ``delay_s`` of `RecordingFacts`, and the
    figures from ``first`` to ``jerk`` of `ChannelFacts`, shape (7, n_channels).
    """
    n, n_channels = len(t), len(columns)
    figures, step = np.full((7, n_channels), np.nan), STEP_S
    is_new = np.zeros(n, bool)
    usable = [k for k, (known, _) in enumerate(columns) if len(known) > 2]
    for k in usable:
        known, values = columns[k]
        times = t[known]
        is_new[known[1:][values[1:] != values[:-1]]] = True
        step = max(step, float(np.median(np.diff(times))))
        first, last = values[times <= times[0] + END_S], values[times >= times[-1] - END_S]
        figures[:4, k] = first.mean(), last.mean(), times[0] - t[0], t[-1] - times[-1]
    grid = np.arange(t[0], t[-1], step) if usable else np.empty(0)
    if len(grid) < 5:
        nothing = np.full((2, *2 * [min(n_channels, MOST_COMPARED)]), np.nan, np.float32)
        return (0.0, 0.0, nothing[0], nothing[1]), figures
    x = np.full((n_channels, len(grid) - 1), np.nan)
    for k in usable:
        x[k] = _means(t[columns[k][0]], columns[k][1], grid)
    for k, row in enumerate(x):
        known_row = row[np.isfinite(row)]
        size = known_row.std() if len(known_row) else np.nan
        figures[4, k] = size if size > 1e-9 * np.abs(known_row).max(initial=0) else 0.0 * size
    moving = np.flatnonzero(figures[4] > 0)
    change = np.diff(x, axis=1) / np.where(figures[4] > 0, figures[4], np.nan)[:, None]
    steps = np.abs(change[moving])
    known = np.maximum(np.isfinite(steps).sum(axis=1), 1)
    mean = np.nansum(steps, axis=1) / known
    total = np.cumsum(np.pad(np.nan_to_num(steps), ((0, 0), (1, 0))), axis=1)
    width = min(max(1, round(FAST_S / step)), steps.shape[1])
    figures[5, moving] = (total[:, width:] - total[:, :-width]).max(axis=1) / (width * step)
    figures[6, moving] = np.nansum(np.abs(np.diff(change[moving])), axis=1) / known / mean
    changes = np.concatenate([[0], np.flatnonzero(is_new), [n - 1]])
    held_s = float(np.diff(t[changes]).max())
    return (_idle_s(x[moving], step), held_s, *_agreement(change[:MOST_COMPARED], step)), figures


def _means(times: Floats, values: Floats, grid: Floats) -> Floats:
    """Return the mean of the interpolated values in each interval of the grid; NaN outside."""
    steps = np.diff(times)
    area = np.concatenate([[0], np.cumsum(steps * (values[1:] + values[:-1]) / 2)])
    at = np.clip(np.searchsorted(times, grid, "right") - 1, 0, len(times) - 2)
    inside = np.clip(grid - times[at], 0, steps[at])
    slope = (values[at + 1] - values[at]) / steps[at]
    total = area[at] + inside * (values[at] + slope * inside / 2)
    width = np.diff(np.clip(grid, times[0], times[-1]))
    means = np.full(len(width), np.nan)
    np.divide(np.diff(total), width, where=width > 0, out=means)
    return means


def _idle_s(x: Floats, step: float) -> float:
    """Return the longest time in which no channel moves by more than a little."""
    n = max(1, round(BIN_S / step))
    count = x.shape[1] // n
    if not count or not len(x):
        return 0.0
    bins = x[:, : count * n].reshape(len(x), count, n)
    moved = np.fmax.reduce(bins, axis=2) - np.fmin.reduce(bins, axis=2)
    moved[:, 1:] += np.abs(np.diff(bins[:, :, 0]))
    spread = np.subtract(*np.nanquantile(x, (0.95, 0.05), axis=1))
    is_idle = ~(moved > IDLE * spread[:, None]).any(axis=0)
    edges = np.flatnonzero(np.diff(is_idle, prepend=False, append=False))
    return float((edges[1::2] - edges[::2]).max(initial=0) * n * step)


def _agreement(change: Floats, step: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the correlation of each pair of channels at the best delay, and the delay in s."""
    (n_channels, n), starts = change.shape, [0]
    result = np.full((2, n_channels, n_channels), np.nan, np.float32)
    known = np.flatnonzero(np.isfinite(change).mean(axis=1) > 0.5)
    if n > MOST_STEPS:
        starts, n = np.linspace(0, n - PIECE, MOST_STEPS // PIECE).astype(int).tolist(), PIECE
    most = max(round(MOST_DELAY_S / step), LEAST_DELAYS)
    if len(known) < 2 or n < 4 * most:
        return result[0], result[1]
    products, power = np.zeros((2 * most + 1, len(known), len(known))), np.zeros((len(known), 1))
    for start in starts:
        x = np.nan_to_num(change[known, start : start + n])
        middle = x[:, most : n - most]
        power += np.square(x).mean(axis=1, keepdims=True)
        shifted = sliding_window_view(x, middle.shape[1], axis=1)  # (c, delays, n)
        products += np.tensordot(shifted, middle.T / middle.shape[1], 1).transpose(1, 2, 0)
    products /= np.sqrt(np.maximum(power * power.T, np.finfo(np.float64).tiny))
    best = np.abs(products).argmax(axis=0)
    # A parabola through the best delay and its neighbors gives fractions of a step.
    inner = np.clip(best, 1, 2 * most - 1)
    before, at, after = (np.take_along_axis(products, (inner + k)[None], 0)[0] for k in (-1, 0, 1))
    bend = before - 2 * at + after
    beside = 0.5 * (before - after) / np.where(bend == 0, np.inf, bend)
    beside = np.where(inner == best, np.clip(beside, -0.5, 0.5), np.nan)  # or beyond the range
    square = np.ix_(known, known)
    result[0][square] = np.take_along_axis(products, best[None], 0)[0]
    result[1][square] = (best + beside - most) * step
    return result[0], result[1]
