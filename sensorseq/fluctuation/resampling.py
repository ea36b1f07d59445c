"""Intervals and p values by resampling, with generators of fixed seeds of their own."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.fluctuation.series import Floats, NullTest, check_series

_MAX_DRAWN = 4_000_000  # numbers in all resamples together: 32 MB
_MAX_MOVED = 20_000_000  # changes moved by all shifts together: about a second


def block_bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """Return a statistic of resamples of a series whose neighbours may correlate.

    Stationary bootstrap: blocks of random length, ``ceil(n^(1/3))`` epochs on average, glued until
    the series is as long as before. Equal lengths and seeds draw the same blocks.

    Parameters
    ----------
    values : array_like of shape (n,) or (n, d)
        For example second differences; rows are drawn whole.
    statistic : callable
        Maps resamples of shape (n_resamples, n) or (n_resamples, n, d) to one value, or a row of
        values, for each.
    n_resamples : int, default 1000
        Resamples drawn; of very long series fewer, at least 100.
    seed : int, default 0
        Fixed, so that one history gives one report.

    Returns
    -------
    ndarray of shape (n_resamples, ...)

    References
    ----------
    .. [1] D. N. Politis, J. P. Romano, *The Stationary Bootstrap*, 1994.
    """
    series = np.asarray(values, np.float64)
    n = len(series)
    n_resamples = min(n_resamples, max(100, _MAX_DRAWN // max(n, 1)))
    rng = np.random.default_rng(seed)
    fresh = rng.random((n_resamples, n)) < 1 / math.ceil(n ** (1 / 3))
    fresh[:, 0] = True
    start = rng.integers(0, n, (n_resamples, n))
    position = np.arange(n)
    begun = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    index = (np.take_along_axis(start, begun, axis=1) + position - begun) % n
    return np.asarray(statistic(series[index]))


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    confidence: float = 0.9,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of what `block_bootstrap` gives.

    Parameters
    ----------
    values, statistic, n_resamples, seed
        See `block_bootstrap`.
    confidence : float, default 0.9
        Probability inside the interval.
    """
    series = check_series(values, 1)
    return interval_of(
        block_bootstrap(series, statistic, n_resamples=n_resamples, seed=seed), confidence
    )


def interval_of(resampled: Floats, confidence: float = 0.9) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for the number of tests: the smallest times m, the next times m - 1.

    Rejecting what is below alpha then errs in any of the tests with probability alpha at most,
    however the tests depend on each other.

    References
    ----------
    .. [1] S. Holm, *A simple sequentially rejective multiple test procedure*, 1979.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min((len(p_values) - rank) * p_values[name], 1.0))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def circular_shift_test(changes: ArrayLike, *, n_shifts: int = 500, seed: int = 0) -> NullTest:
    """Test whether units change together: variance of their sum, against shifted units.

    ``mean_t(sum_u(d_ut)^2)``. Under the null every unit's series is rotated in time by a random
    offset of its own: each keeps its rate and its pattern of changes, only that they happen in the
    same epochs is destroyed. p is one-sided, for moving together.

    Parameters
    ----------
    changes : array_like of shape (n_changes, n_units)
        Change of each unit from one epoch to the next.
    n_shifts : int, default 500
        Rotations drawn; of a very large number of changes fewer, at least 100.
    seed : int, default 0
        Of a generator of its own; fixed, so that one run gives one report.
    """
    change = np.asarray(changes, np.float64)
    n_changes, n_units = change.shape
    epoch, unit = np.nonzero(change)  # flips are rare: only they are moved
    value = change[epoch, unit]
    observed = float(np.mean(change.sum(axis=1) ** 2))
    if not len(value):
        return NullTest(observed, np.zeros(n_shifts), 1.0)
    n_shifts = min(n_shifts, max(100, _MAX_MOVED // len(value)))
    rng = np.random.default_rng(seed)
    sums = np.empty((n_shifts, n_changes))
    at_once = max(_MAX_DRAWN // len(value), 1)
    for first in range(0, n_shifts, at_once):
        n_now = min(at_once, n_shifts - first)
        offset = rng.integers(0, n_changes, (n_now, n_units))
        moved = (epoch + offset[:, unit]) % n_changes + n_changes * np.arange(n_now)[:, None]
        drawn = np.bincount(moved.ravel(), np.tile(value, n_now), n_now * n_changes)
        sums[first : first + n_now] = drawn.reshape(n_now, n_changes)
    null = (sums**2).mean(axis=1)
    n_beyond = int((null >= observed * (1 - 1e-12)).sum())
    return NullTest(observed, null, (1 + n_beyond) / (1 + n_shifts))
