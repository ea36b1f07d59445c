"""Where a series is heading: slopes, the local trend, and the stretches at its two ends."""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from sensorseq.fluctuation.series import Floats, check_series

_MAX_PAIRWISE_POINTS = 1000  # beyond, slopes of all pairs cost memory and tell nothing new


def theil_sen_slope(values: ArrayLike) -> float:
    """Return the median slope over all pairs of epochs, per epoch.

    Up to 29 % of the epochs may be outliers without moving it far. Of more than 1000 epochs, 1000
    evenly spread ones are used.

    References
    ----------
    .. [1] P. K. Sen, *Estimates of the regression coefficient based on Kendall's tau*, 1968.
    """
    return float(np.median(_pairwise_slopes(check_series(values, 2))))


def slope_interval(values: ArrayLike, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of the Theil-Sen slope, per epoch, by Kendall's rank statistic.

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        At least three epochs whose noise is independent; where neighbours correlate, the interval
        is too narrow.
    z : float, default 1.96
        Two-sided 95 % point of the normal distribution.

    References
    ----------
    .. [1] P. K. Sen, *Estimates of the regression coefficient based on Kendall's tau*, 1968.
    """
    series = check_series(values, 3)
    slopes = np.sort(_pairwise_slopes(series))
    half_width = z * _kendall_sd(min(len(series), _MAX_PAIRWISE_POINTS))
    low = int(max((len(slopes) - half_width) / 2, 0))
    high = int(min((len(slopes) + half_width) / 2, len(slopes) - 1))
    return float(slopes[low]), float(slopes[high])


def _pairwise_slopes(series: Floats) -> Floats:
    epochs = np.arange(len(series), dtype=np.float64)
    if len(series) > _MAX_PAIRWISE_POINTS:
        epochs = np.linspace(0, len(series) - 1, _MAX_PAIRWISE_POINTS).round()
        series = series[epochs.astype(np.int64)]
    first, second = np.triu_indices(len(series), 1)
    return np.asarray((series[second] - series[first]) / (epochs[second] - epochs[first]))


def _kendall_sd(n: int) -> float:
    """Return the spread of rising less falling pairs among n independent values without ties."""
    return math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def plateau_start(values: ArrayLike, z: float = 1.96) -> int:
    """Return the index of the first epoch of the plateau: the longest flat end of the series.

    The longest suffix whose Theil-Sen slope has an interval with 0 in it, in other words: one that
    the Mann-Kendall test does not tell from trendless noise. Never fewer than the last three
    epochs, for which no test can tell; noise whose neighbours correlate makes it shorter.

    References
    ----------
    .. [1] H. B. Mann, *Nonparametric tests against trend*, 1945.
    """
    series = check_series(values, 1)
    start, rising = len(series) - 1, 0.0
    for first in range(len(series) - 2, -1, -1):
        rising += float(np.sign(series[first + 1 :] - series[first]).sum())
        if abs(rising) <= z * _kendall_sd(len(series) - first):
            start = first
    return start


def trend_window(n_epochs: int) -> int:
    """Return the width of the local trend, in epochs: a quarter of the run, 7 to 101."""
    return min(max(7, n_epochs // 4), 101)


def local_trend(values: ArrayLike, window: int | None = None) -> Floats:
    """Return a robust local line through each epoch (LOESS, tricube weights, bisquare twice).

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        A series; one with fewer than three epochs is its own trend.
    window : int, optional
        Epochs that each local line sees; `trend_window` when not given.

    Returns
    -------
    ndarray of shape (n_epochs,)

    References
    ----------
    .. [1] W. S. Cleveland, *Robust locally weighted regression and smoothing scatterplots*, 1979.
    """
    return loess(check_series(values, 0), window)[0]


def smoothing_matrix(n_epochs: int, window: int | None = None) -> Floats:
    """Return the matrix of `local_trend` without its two robust passes, of shape (n, n)."""
    width = min(trend_window(n_epochs) if window is None else window, n_epochs)
    if width < 3:
        return np.eye(n_epochs)
    columns, tricube, smoother = _local_lines(n_epochs, width)
    matrix = np.zeros((n_epochs, n_epochs))
    np.put_along_axis(matrix, columns, smoother(tricube), axis=1)
    return matrix


def _local_lines(
    n_epochs: int, width: int
) -> tuple[NDArray[np.int64], Floats, Callable[[Floats], Floats]]:
    """Return the epochs each local line sees, their weights, and what makes lines of weights."""
    start = np.clip(np.arange(n_epochs) - width // 2, 0, n_epochs - width)
    columns = start[:, None] + np.arange(width)
    offset = (columns - np.arange(n_epochs)[:, None]).astype(np.float64)
    # One beyond the farthest epoch, so that this one still has a weight.
    reach = np.abs(offset).max(axis=1, keepdims=True) + 1
    tricube = (1 - (np.abs(offset) / reach) ** 3) ** 3

    def smoother(weight: Floats) -> Floats:
        moment_0 = weight.sum(axis=1)
        moment_1 = (weight * offset).sum(axis=1)
        moment_2 = (weight * offset**2).sum(axis=1)
        determinant = moment_0 * moment_2 - moment_1**2
        return np.asarray(
            weight * (moment_2[:, None] - moment_1[:, None] * offset) / determinant[:, None]
        )

    return columns, tricube, smoother


def loess(series: Floats, window: int | None) -> tuple[Floats, float]:
    """Return the trend and the share of a white noise's variance that its residuals keep."""
    n_epochs = len(series)
    width = min(trend_window(n_epochs) if window is None else window, n_epochs)
    if width < 3:
        return series.copy(), 0.0
    columns, tricube, smoother = _local_lines(n_epochs, width)
    linear = smoother(tricube)
    own = (linear * (columns == np.arange(n_epochs)[:, None])).sum()
    # Residuals (I - S) y of white noise: trace((I - S)(I - S)^T) of n times its variance.
    kept = (n_epochs - 2 * own + (linear**2).sum()) / n_epochs
    # From running medians, not from a first line: a wild epoch would drag its neighbours' line
    # so far that all of them look wild.
    trend = _running_median(series, width)
    for _ in range(2):
        residual = np.abs(series - trend)
        # Where most residuals vanish, a hundredth of the largest still tells wild from tame.
        scale = max(6 * float(np.median(residual)), 0.01 * float(residual.max()), 1e-300)
        # A floor keeps every local line defined, even where a whole window is outlying.
        bisquare = np.maximum((1 - np.minimum(residual / scale, 1) ** 2) ** 2, 1e-3)
        trend = (smoother(tricube * bisquare[columns]) * series[columns]).sum(axis=1)
    return trend, float(kept)


def _running_median(series: Floats, width: int) -> Floats:
    """Medians of symmetric windows, narrower at the ends: exact for a line everywhere."""
    last = len(series) - 1
    reach = np.minimum(width // 2, np.minimum(np.arange(last + 1), last - np.arange(last + 1)))
    medians = np.empty(len(series))
    whole = np.flatnonzero(reach == width // 2)
    if len(whole):
        medians[whole] = np.median(sliding_window_view(series, 2 * (width // 2) + 1), axis=1)
    for t in np.flatnonzero(reach < width // 2):
        medians[t] = np.median(series[t - reach[t] : t + reach[t] + 1])
    return medians


def burn_in(log_loss: ArrayLike) -> int:
    """Return how many first epochs are still the initial descent, and tell nothing about noise.

    Until the robust slope over ``max(5, E / 8)`` epochs has lost half of its initial steepness; at
    least ``max(3, 0.1 E)`` epochs and at most ``E / 3`` of the E epochs.

    Parameters
    ----------
    log_loss : array_like of shape (n_epochs,)
        `softened_log` of the training loss.
    """
    series = check_series(log_loss, 0, "log_loss")
    n_epochs = len(series)
    least = max(3, math.ceil(0.1 * n_epochs))
    most = max(n_epochs // 3, min(3, n_epochs))
    least = min(least, most)
    width = max(5, n_epochs // 8)
    if n_epochs < width:
        return least
    initial = theil_sen_slope(series[:width])
    if initial >= 0:
        return least
    for epoch in range(least, most):
        if theil_sen_slope(series[epoch : epoch + width]) > initial / 2:
            return epoch
    return most
