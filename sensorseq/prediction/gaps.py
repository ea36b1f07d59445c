"""Missing samples in windows: bridge gaps, and judge windows by their remaining channels."""

import numpy as np
from numpy.typing import NDArray

# How much of a window is missing. A sensor's DOUBTFUL window counts only if no other sensor has a
# COMPLETE window.
COMPLETE, DOUBTFUL, EMPTY = range(3)
DOUBTFUL_SHARE = 0.5  # a window is DOUBTFUL if more than this fraction of its channels is missing
_BLOCK = 256  # number of windows whose gaps are bridged together


def bridge_gaps(X: NDArray[np.floating], lengths: NDArray[np.int64]) -> NDArray[np.floating]:
    """Replace NaN in windows (n, t, c) with values interpolated between the neighboring numbers.

    At the ends of a window, the nearest number is repeated. A channel without a number stays NaN.
    Samples beyond the lengths do not change.
    """
    steps = np.arange(X.shape[1])[:, None]
    is_valid = steps[:, 0] < lengths[:, None]
    rows = np.flatnonzero((np.isnan(X).any(axis=2) & is_valid).any(axis=1))
    if len(rows):
        X = X.copy()
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        x, inside = X[block], is_valid[block][:, :, None]
        is_number = ~np.isnan(x) & inside
        before = np.maximum.accumulate(np.where(is_number, steps, -1), axis=1)
        backwards = np.where(is_number, steps, len(steps))[:, ::-1]
        after = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
        has_before, has_after = before >= 0, after < len(steps)
        before = np.where(has_before, before, np.where(has_after, after, 0))
        after = np.where(has_after, after, before)
        low, high = (np.take_along_axis(x, at, axis=1) for at in (before, after))
        share = (steps - before) / np.maximum(after - before, 1)
        line = (low + share * (high - low)).astype(X.dtype)
        bridged = np.where(has_before | has_after, line, np.nan)
        X[block] = np.where(is_number | ~inside, x, bridged)
    return X


def judge_windows(X: NDArray[np.floating]) -> NDArray[np.int8]:
    """Return COMPLETE, DOUBTFUL or EMPTY for each bridged window, judged by its lost channels."""
    lost = np.isnan(X[:, 0]).mean(axis=1)
    return np.where(lost == 1, EMPTY, np.where(lost > DOUBTFUL_SHARE, DOUBTFUL, COMPLETE)).astype(
        np.int8
    )
