"""How much a series moves about its trend, and in which pattern."""

import math

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation.series import SD_PER_MAD, Floats, NullTest, check_series
from sensorseq.fluctuation.trend import (
    loess,
    plateau_start,
    smoothing_matrix,
    theil_sen_slope,
)

_MAX_PERMUTED = 1000  # epochs; their smoother is a square matrix


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
    second_difference = np.diff(check_series(values, 3), 2)
    return float(SD_PER_MAD * np.median(np.abs(second_difference)) / math.sqrt(6))


def mean_noise(values: ArrayLike) -> float:
    """Return the noise from epoch to epoch by a mean, which leaps in a few epochs move as well.

    ``sqrt(pi / 2) * mean(abs(d)) / sqrt(6)`` with the second differences d. For white noise this is
    its standard deviation, as `high_frequency_noise`; that one, a median, is blind to a model that
    is calm most of the time and now and then thrown off. Unit of `values`; needs three epochs.
    """
    return float(mean_noise_of_differences(np.diff(check_series(values, 3), 2)))


def mean_noise_of_differences(second_differences: Floats) -> Floats:
    """Return `mean_noise` of second differences, along the last axis."""
    return np.asarray(math.sqrt(math.pi / 12) * np.abs(second_differences).mean(axis=-1))


def innovation_variance(values: ArrayLike) -> float:
    r"""Return the noise variance of one epoch, from its change to the next less the drift.

    ``mean((y_{t+1} - y_t - drift)^2) / 2`` with the Theil-Sen slope as drift. For white noise about
    a line this is its variance. Unit of `values`, squared; not robust: one leap counts in full.

    References
    ----------
    .. [1] J. von Neumann, *Distribution of the ratio of the mean square successive difference to
       the variance*, 1941.
    """
    series = check_series(values, 3)
    return float(np.mean((np.diff(series) - theil_sen_slope(series)) ** 2) / 2)


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
    series = check_series(values, 5)
    trend, kept = loess(series, window)
    residual = series - trend
    if robust:
        spread = SD_PER_MAD * float(np.median(np.abs(residual - np.median(residual))))
    else:
        spread = float(np.sqrt(np.mean(residual**2)))
    return spread / math.sqrt(kept)


def relative_volatility(values: ArrayLike, start: float, best: float, least_range: float) -> float:
    """Return `detrended_volatility` as a share of what was learned.

    ``V_d / max(abs(start - best), least_range)``.

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        At least five epochs, from the end of the initial descent on.
    start, best : float
        The first value of the run, and its best: the lowest of a loss, the highest of an accuracy.
    least_range : float
        Above zero; what a run that learned nothing is measured against.
    """
    if not least_range > 0:
        raise ArgumentError(f"least_range={least_range!r}; expected a number above 0.")
    return detrended_volatility(values) / max(abs(start - best), least_range)


def turning_point_z(values: ArrayLike) -> float:
    """Return how many standard errors the number of turning points lies above white noise's.

    White noise of N epochs turns ``2 (N - 2) / 3`` times with variance ``(16 N - 29) / 90``. Far
    above zero: a zig-zag; far below: slow waves. Repeated values count once.

    References
    ----------
    .. [1] P. J. Brockwell, R. A. Davis, *Introduction to Time Series and Forecasting*, 1.6 (c).
    """
    series = check_series(values, 3)
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
    series = check_series(values, 2)
    centred = series - series.mean()
    power = float(centred @ centred)
    return float(centred[:-1] @ centred[1:]) / power if power > 0 else 0.0


def zero_crossings(
    values: ArrayLike,
    window: int | None = None,
    *,
    n_permutations: int = 500,
    seed: int = 0,
) -> NullTest:
    """Return the share of epochs at which the detrended series changes sign, and its null.

    ``mean(r_t r_{t-1} < 0)`` of the residuals about a local line. Near 1: to and fro in every epoch
    (overshoot); below 0.3: waves. White noise does not give 0.5, since a trend that was fitted to
    it leaves residuals that cross more often; so the null permutes the residuals, detrends them
    again and counts again. p is two-sided.

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        At least five epochs; of more than 1000 the last 1000 are looked at.
    window : int, optional
        See `local_trend`; its plain lines are used, without the robust passes.
    n_permutations : int, default 500
        Of the residuals.
    seed : int, default 0
        Fixed, so that one history gives one report.

    References
    ----------
    .. [1] B. Kedem, *Time Series Analysis by Higher Order Crossings*, 1994 (crossings of a series).
    """
    series = check_series(values, 5)[-_MAX_PERMUTED:]
    keep = np.eye(len(series)) - smoothing_matrix(len(series), window)
    residual = keep @ series
    shuffled = np.random.default_rng(seed).permuted(
        np.broadcast_to(residual, (n_permutations, len(series))), axis=1
    )
    null = _crossing_rate(shuffled @ keep.T)
    rate = float(_crossing_rate(residual))
    middle = float(null.mean())
    n_beyond = int((np.abs(null - middle) >= abs(rate - middle) - 1e-12).sum())
    return NullTest(rate, null, (1 + n_beyond) / (1 + n_permutations))


def _crossing_rate(residual: Floats) -> Floats:
    return np.asarray((residual[..., 1:] * residual[..., :-1] < 0).mean(axis=-1))


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
    series = check_series(values, 12)
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


def plateau_variance(values: ArrayLike) -> float:
    """Return the variance over the plateau, the noise of the steady state; see `plateau_start`.

    Unit of `values`, squared; NaN for a plateau of a single epoch.
    """
    series = check_series(values, 1)
    plateau = series[plateau_start(series) :]
    return float(plateau.var(ddof=1)) if len(plateau) > 1 else math.nan


def excess_plateau_loss(loss: ArrayLike, averaged_loss: float, decay: float) -> float:
    """Return how much loss the noise of the weights costs: mean of the raw less the averaged ones.

    The raw losses are averaged over the plateau with the weights that the mean of the network
    weights gives to each epoch, so that both speak of the same epochs. Near 0 the movement is
    harmless. The plateau leaves out a descent, along which the mean of the weights lags.

    Parameters
    ----------
    loss : array_like of shape (n_epochs,)
        Loss of a fixed set of windows after each epoch, in nats.
    averaged_loss : float
        Loss of the same windows under the averaged weights.
    decay : float
        Of the exponential average, per epoch.

    Returns
    -------
    float
        Nats; NaN where the plateau holds less than half of the average.

    References
    ----------
    .. [1] B. T. Polyak, A. B. Juditsky, *Acceleration of stochastic approximation by averaging*,
       1992.
    """
    series = check_series(loss, 1, "loss")
    plateau = series[plateau_start(series) :]
    if 1 - decay ** len(plateau) < 0.5:
        return math.nan
    return float(plateau @ averaging_weights(len(plateau), decay)) - averaged_loss


def averaging_weights(n_epochs: int, decay: float) -> Floats:
    """Return the weight of each of the last epochs in an exponential average; they sum to 1."""
    weight = decay ** np.arange(n_epochs)[::-1]
    return np.asarray(weight / weight.sum())
