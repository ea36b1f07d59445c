"""Single epochs that matter: spikes, drawdowns, the epoch of a divergence."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from sensorseq.fluctuation.series import SD_PER_MAD, check_series
from sensorseq.fluctuation.trend import local_trend, trend_window


def spike_epochs(
    values: ArrayLike, window: int | None = None, *, factor: float = 4.0, least_rise: float = 0.0
) -> list[int]:
    """Return the indices of epochs that leap above what the epochs before them let expect.

    An epoch is a spike when it exceeds the median of the previous `window` epochs by more than
    `factor` times their MAD scale, and by more than `least_rise`; later epochs never decide.
    """
    series = check_series(values, 0)
    width = trend_window(len(series)) if window is None else window
    if len(series) <= width:
        return []
    before = sliding_window_view(series, width)[:-1]
    level = np.median(before, axis=1)
    scale = SD_PER_MAD * np.median(np.abs(before - level[:, None]), axis=1)
    limit = np.maximum(factor * scale, max(least_rise, 1e-12))
    return (width + np.flatnonzero(series[width:] - level > limit)).tolist()


def time_to_stable(values: ArrayLike, noise_floor: float, window: int | None = None) -> int | None:
    """Return the index of the first epoch from which on the series stays near its trend, or None.

    From there to the end no residual about `local_trend` exceeds ``2 noise_floor`` or a hundredth
    of the range, whichever is more. None: not before the end of the run, for the last epoch itself
    is still beyond.

    Parameters
    ----------
    values : array_like of shape (n_epochs,)
        From the first epoch on.
    noise_floor : float
        Standard deviation that a healthy run may have, in the unit of `values`.
    window : int, optional
        See `local_trend`.
    """
    series = check_series(values, 1)
    limit = max(2 * noise_floor, 0.01 * float(np.ptp(series)))
    wild = np.flatnonzero(np.abs(series - local_trend(series, window)) > limit)
    first = int(wild[-1]) + 1 if len(wild) else 0
    return first if first < len(series) else None


def max_drawdown(accuracy: ArrayLike) -> float:
    """Return the deepest fall below the best epoch before it: ``max_t(max_{s<=t} a_s - a_t)``."""
    series = check_series(accuracy, 1, "accuracy")
    return float(np.max(np.maximum.accumulate(series) - series))


def final_drawdown(accuracy: ArrayLike) -> float:
    """Return how far the last epoch lies below the best one."""
    series = check_series(accuracy, 1, "accuracy")
    return float(series.max() - series[-1])


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
