"""Numbers measured on one History: noise, trend, floors. Each function is one formula.

Series are one-dimensional, in order of epochs, finite and without gaps; a caller drops epochs that
recorded nothing. All estimates are robust against a few outlying epochs unless they say otherwise.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError

Floats = NDArray[np.float64]

SD_PER_MAD = 1.4826  # sd of a normal distribution over its median absolute deviation
_MAX_PAIRWISE_POINTS = 1000  # beyond, slopes of all pairs cost memory and tell nothing new


def _series(values: ArrayLike, minimum: int, name: str = "values") -> Floats:
    series = np.asarray(values, np.float64)
    if series.ndim != 1:
        raise ArgumentError(f"{name} has shape {series.shape}; expected one value per epoch.")
    if not np.isfinite(series).all():
        epoch = int(np.flatnonzero(~np.isfinite(series))[0])
        raise ArgumentError(f"{name}[{epoch}] is {series[epoch]}; drop epochs without a number.")
    if len(series) < minimum:
        raise ArgumentError(f"{name} has {len(series)} epochs; at least {minimum} are needed.")
    return series


def softened_log(loss: ArrayLike, log_classes: float) -> Floats:
    """Return ``log(loss + 0.1 ln K)``: relative at an ordinary loss, flat at a vanishing one.

    The plain logarithm turns ripples of a loss that is practically zero into wild noise.

    Parameters
    ----------
    loss : array_like of shape (n_epochs,)
        Cross-entropy in nats, not negative.
    log_classes : float
        ``ln K``, the loss of a guess among K classes, in nats.

    Returns
    -------
    ndarray of shape (n_epochs,)

    Raises
    ------
    ArgumentError
        If a loss is negative beyond a tenth of ``ln K``, so that it has no logarithm.
    """
    series = _series(loss, 0, "loss")
    softened = series + 0.1 * log_classes
    if len(softened) and softened.min() <= 0:
        raise ArgumentError(
            f"loss is {series.min():g}; a loss far below zero has no logarithm. Give a"
            " cross-entropy, in nats."
        )
    return np.log(softened)


def theil_sen_slope(values: ArrayLike) -> float:
    """Return the median slope over all pairs of epochs, per epoch.

    Up to 29 % of the epochs may be outliers without moving it far. Of more than 1000 epochs, 1000
    evenly spread ones are used.

    References
    ----------
    .. [1] P. K. Sen, *Estimates of the regression coefficient based on Kendall's tau*, 1968.
    """
    series = _series(values, 2)
    epochs = np.arange(len(series), dtype=np.float64)
    if len(series) > _MAX_PAIRWISE_POINTS:
        epochs = np.unique(np.linspace(0, len(series) - 1, _MAX_PAIRWISE_POINTS).round())
        series = series[epochs.astype(np.int64)]
    first, second = np.triu_indices(len(series), 1)
    return float(np.median((series[second] - series[first]) / (epochs[second] - epochs[first])))


def high_frequency_noise(values: ArrayLike) -> float:
    r"""Return the noise from epoch to epoch, blind to any linear trend.

    ``1.4826 * median(abs(d)) / sqrt(6)`` with the second differences
    ``d_t = y_{t-1} - 2 y_t + y_{t+1}``. For white noise this is its standard deviation: a second
    difference has six times the variance of one epoch. Unit of `values`; needs three epochs.

    References
    ----------
    .. [1] T. Gasser, L. Sroka, C. Jennen-Steinmetz, *Residual variance and residual pattern in
       nonlinear regression*, 1986 (second differences); the median makes it robust.
    """
    series = _series(values, 3)
    second_difference = np.diff(series, 2)
    return float(SD_PER_MAD * np.median(np.abs(second_difference)) / math.sqrt(6))


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
    return _loess(_series(values, 0), window)[0]


def _loess(series: Floats, window: int | None) -> tuple[Floats, float]:
    """Return the trend and the share of a white noise's variance that its residuals keep."""
    n_epochs = len(series)
    width = min(trend_window(n_epochs) if window is None else window, n_epochs)
    if width < 3:
        return series.copy(), 0.0
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

    linear = smoother(tricube)
    own = linear[np.arange(n_epochs), np.arange(n_epochs) - start]
    # Residuals (I - S) y of white noise: trace((I - S)(I - S)^T) of n times its variance.
    kept = (n_epochs - 2 * own.sum() + (linear**2).sum()) / n_epochs
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


def detrended_volatility(
    values: ArrayLike, window: int | None = None, *, robust: bool = True
) -> float:
    """Return the standard deviation about the local trend, slow waves included.

    ``1.4826 * MAD(y - local_trend(y))``, divided by what smoothing takes from white noise, so that
    white noise of any length gives its own standard deviation.

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        A series of at least five epochs.
    window : int, optional
        See `local_trend`.
    robust : bool, default True
        False takes the root mean square instead of the MAD: right for an accuracy, whose few
        possible values make a median jump.
    """
    series = _series(values, 5)
    trend, kept = _loess(series, window)
    residual = series - trend
    if robust:
        spread = SD_PER_MAD * float(np.median(np.abs(residual - np.median(residual))))
    else:
        spread = float(np.sqrt(np.mean(residual**2)))
    return spread / math.sqrt(kept)


def turning_point_z(values: ArrayLike) -> float:
    """Return how many standard errors the number of turning points lies above white noise's.

    White noise of N epochs turns ``2 (N - 2) / 3`` times with variance ``(16 N - 29) / 90``. Far
    above zero: a zig-zag; far below: slow waves. Repeated values count once.

    References
    ----------
    .. [1] P. J. Brockwell, R. A. Davis, *Introduction to Time Series and Forecasting*, 1.6 (c).
    """
    series = _series(values, 3)
    series = series[np.concatenate(([True], np.diff(series) != 0))]
    n_epochs = len(series)
    if n_epochs < 3:
        return 0.0
    n_turns = int((np.diff(np.sign(np.diff(series))) != 0).sum())
    expected = 2 * (n_epochs - 2) / 3
    return (n_turns - expected) / math.sqrt((16 * n_epochs - 29) / 90)


def lag1_autocorrelation(values: ArrayLike) -> float:
    """Return the correlation of each epoch with the next; 0 for a constant series.

    ``sum(r_t r_{t+1}) / sum(r_t^2)`` about the mean. Below -0.3 on detrended values: overshoot to
    and fro; above 0.3: drift.
    """
    series = _series(values, 2)
    centred = series - series.mean()
    power = float(centred @ centred)
    return float(centred[:-1] @ centred[1:]) / power if power > 0 else 0.0


def max_drawdown(accuracy: ArrayLike) -> float:
    """Return the deepest fall below the best epoch before it: ``max_t(max_{s<=t} a_s - a_t)``."""
    series = _series(accuracy, 1, "accuracy")
    return float(np.max(np.maximum.accumulate(series) - series))


def final_drawdown(accuracy: ArrayLike) -> float:
    """Return how far the last epoch lies below the best one."""
    series = _series(accuracy, 1, "accuracy")
    return float(series.max() - series[-1])


def burn_in(log_loss: ArrayLike) -> int:
    """Return how many first epochs are still the initial descent, and tell nothing about noise.

    Until the robust slope over ``max(5, E / 8)`` epochs has lost half of its initial steepness; at
    least ``max(3, 0.1 E)`` epochs and at most ``E / 3`` of the E epochs.

    Parameters
    ----------
    log_loss : array_like of shape (n_epochs,)
        `softened_log` of the training loss.
    """
    series = _series(log_loss, 0, "log_loss")
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


def binomial_sd(accuracy: float, n_windows: int) -> float:
    """Return ``sqrt(p (1 - p) / n)``: how far the accuracy of n independent windows may scatter.

    A fraction, 0 to 0.5. Windows drawn anew scatter by this much around the true accuracy p. One
    fixed set of windows scatters less from epoch to epoch, for most windows never change sides.
    """
    if n_windows < 1:
        raise ArgumentError(f"n_windows={n_windows}; expected at least 1.")
    if not 0 <= accuracy <= 1:
        raise ArgumentError(f"accuracy={accuracy}; expected a fraction, 0 to 1.")
    return math.sqrt(accuracy * (1 - accuracy) / n_windows)


def granularity(n_windows: int) -> float:
    """Return the accuracy that one window is worth, ``1 / n``, as a fraction."""
    if n_windows < 1:
        raise ArgumentError(f"n_windows={n_windows}; expected at least 1.")
    return 1 / n_windows


def expected_maximum(n_draws: float) -> float:
    """Return the mean of the largest of n standard normal draws; n need not be whole.

    ``E = integral of x n phi(x) Phi(x)^(n-1) dx``: 1.54 for 10 draws, 2.04 for 30, 2.51 for 100.

    References
    ----------
    .. [1] H. A. David, H. N. Nagaraja, *Order Statistics*, 2003, section 3.1.
    """
    if n_draws <= 1:
        return 0.0
    # Integrated by parts, which needs no density: -int_{-inf}^0 F^n + int_0^inf (1 - F^n).
    x = np.linspace(0, 9, 1801)
    upper = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    integrand = (1 - upper**n_draws) - (1 - upper) ** n_draws
    return float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(x)).sum())


def selection_bias(noise_sd: float, n_epochs: int) -> float:
    """Return how far the best of n epochs lies above their mean by luck alone.

    ``noise_sd * expected_maximum(n_epochs)``, in the unit of `noise_sd`. Neighbours that correlate
    by 0.5 lower it by 5 % only.

    Parameters
    ----------
    noise_sd : float
        Standard deviation of the curve about its trend.
    n_epochs : int
        Epochs the best was picked from.
    """
    return noise_sd * expected_maximum(n_epochs)


def divergence_epoch(
    loss: ArrayLike, n_epochs: int = 3, factor: float = 10.0, *, least: float = 0.0
) -> int | None:
    """Return the index of the epoch at which a loss diverges, or None.

    The first epoch whose loss is NaN or infinite, or the first of `n_epochs` neighbours whose loss
    is above `factor` times that of the first epoch (``log loss > start + ln 10``).

    Parameters
    ----------
    loss : array_like of shape (n_epochs,)
        As recorded: may hold NaN and infinity.
    n_epochs : int, default 3
        One bad epoch is a spike; three are a divergence.
    factor : float, default 10
        Times the first loss.
    least : float, default 0
        A loss below this is never diverging, however small the first one was: a model trained
        before starts near zero. The loss of a guess, ``ln K``, is a good value.
    """
    series = np.asarray(loss, np.float64)
    broken = np.flatnonzero(~np.isfinite(series))
    end = int(broken[0]) if broken.size else len(series)
    if end == 0:
        return 0 if broken.size else None
    limit = max(factor * abs(series[0]), least)
    run = 0
    for epoch in range(end):
        run = run + 1 if series[epoch] > limit else 0
        if run == n_epochs:
            return epoch - n_epochs + 1
    return end if broken.size else None


def chance_limit(chance: float, n_windows: int | None, z: float = 1.645) -> float:
    """Return the accuracy that guessing stays below in 95 of 100 epochs, as a fraction.

    ``p + z sqrt(p (1 - p) / n)``, and never closer to p than one window.

    Parameters
    ----------
    chance : float
        Accuracy of always answering the most frequent class, or ``1 / K``.
    n_windows : int or None
        Windows behind the accuracy; None takes `chance` itself.
    z : float, default 1.645
        One-sided 95 % point of the normal distribution.
    """
    if n_windows is None:
        return chance
    spread = max(z * binomial_sd(chance, n_windows), granularity(n_windows))
    return min(chance + spread, 1.0)


def spike_epochs(
    values: ArrayLike, window: int | None = None, *, factor: float = 4.0, least_rise: float = 0.0
) -> list[int]:
    """Return the indices of epochs that leap above what the epochs before them let expect.

    An epoch is a spike when it exceeds the median of the previous `window` epochs by more than
    `factor` times their MAD scale, and by more than `least_rise`; later epochs never decide.
    """
    series = _series(values, 0)
    width = trend_window(len(series)) if window is None else window
    if len(series) <= width:
        return []
    before = sliding_window_view(series, width)[:-1]
    level = np.median(before, axis=1)
    scale = SD_PER_MAD * np.median(np.abs(before - level[:, None]), axis=1)
    limit = np.maximum(factor * scale, max(least_rise, 1e-12))
    return (width + np.flatnonzero(series[width:] - level > limit)).tolist()


def noise_change(values: ArrayLike) -> tuple[float, float]:
    """Return whether the noise grows or shrinks: ratio of late to early noise, and its z score.

    The ratio is `high_frequency_noise` of the second half over that of the first. The score is the
    Mann-Kendall trend test of ``abs(d_t)``, the second differences, averaged over the three
    subsequences in which no two share an epoch; beyond -2 the noise is falling, beyond 2 rising.
    Needs 12 epochs.

    References
    ----------
    .. [1] M. Kendall, *Rank Correlation Methods*, 1975 (variance ``n (n - 1) (2 n + 5) / 18``).
    """
    series = _series(values, 12)
    half = len(series) // 2
    early, late = high_frequency_noise(series[:half]), high_frequency_noise(series[-half:])
    ratio = late / early if early > 0 else (1.0 if late == 0 else math.inf)
    size = np.abs(np.diff(series, 2))
    scores = []
    for first in range(3):
        part = size[first::3]
        n = len(part)
        left, right = np.triu_indices(n, 1)
        concordance = float(np.sign(part[right] - part[left]).sum())
        scores.append(concordance / math.sqrt(n * (n - 1) * (2 * n + 5) / 18))
    return ratio, float(np.mean(scores))


def share_lower_limit(n_hits: int, n_epochs: int, z: float = 1.645) -> float:
    """Return the share that is surely reached when `n_hits` of `n_epochs` are hits (Wilson).

    Parameters
    ----------
    n_hits, n_epochs : int
        Counts; no epochs at all give 0.
    z : float, default 1.645
        One-sided 95 % point of the normal distribution.

    References
    ----------
    .. [1] E. B. Wilson, *Probable inference, the law of succession, and statistical inference*,
       1927.
    """
    if n_epochs == 0:
        return 0.0
    share = n_hits / n_epochs
    middle = share + z**2 / (2 * n_epochs)
    width = z * math.sqrt(share * (1 - share) / n_epochs + z**2 / (4 * n_epochs**2))
    return max((middle - width) / (1 + z**2 / n_epochs), 0.0)


def sd_ratio_lower_limit(ratio: float, n_epochs: int, z: float = 1.645) -> float:
    """Return what a measured sd over a known one surely reaches, for a normal sample of n epochs.

    ``ratio / sqrt(chi2_{0.95, f} / f)`` with ``f = n - 1`` and the chi-square quantile in the
    approximation ``f (1 - 2/(9f) + z sqrt(2/(9f)))^3``.

    References
    ----------
    .. [1] E. B. Wilson, M. M. Hilferty, *The distribution of chi-square*, 1931.
    """
    if n_epochs < 2:
        return 0.0
    part = 2 / (9 * (n_epochs - 1))
    return ratio / math.sqrt((1 - part + z * math.sqrt(part)) ** 3)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    confidence: float = 0.9,
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a percentile interval of a statistic of a series whose neighbours may correlate.

    Stationary bootstrap: blocks of random length, ``ceil(n^(1/3))`` epochs on average, glued until
    the series is as long as before.

    Parameters
    ----------
    values : array_like of shape (n,)
        For example second differences.
    statistic : callable
        Maps resamples of shape (n_resamples, n) to values of shape (n_resamples,).
    confidence : float, default 0.9
        Probability inside the interval.
    n_resamples : int, default 1000
        Resamples drawn.
    seed : int, default 0
        Fixed, so that one history gives one report.

    References
    ----------
    .. [1] D. N. Politis, J. P. Romano, *The Stationary Bootstrap*, 1994.
    """
    series = _series(values, 1)
    n = len(series)
    rng = np.random.default_rng(seed)
    fresh = rng.random((n_resamples, n)) < 1 / math.ceil(n ** (1 / 3))
    fresh[:, 0] = True
    start = rng.integers(0, n, (n_resamples, n))
    position = np.arange(n)
    begun = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    index = (np.take_along_axis(start, begun, axis=1) + position - begun) % n
    outcome = statistic(series[index])
    tail = (1 - confidence) / 2
    low, high = np.quantile(outcome, [tail, 1 - tail])
    return float(low), float(high)
