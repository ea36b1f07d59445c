"""The range in which an accuracy scatters because it is measured on few windows."""

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats


def sampling_band(accuracy: Floats, n_windows: int) -> tuple[Floats, Floats]:
    """Return the 95 % range of binomial sampling around the local trend of an accuracy.

    Parameters
    ----------
    accuracy : ndarray of shape (n_epochs,)
        Fractions, one for each epoch that has one.
    n_windows : int
        Independent windows behind each.

    Returns
    -------
    low, high : ndarray of shape (n_epochs,)
        Fractions; 1.96 binomial standard deviations to either side, cut off at 0 and 1.
    """
    trend = np.clip(metrics.local_trend(accuracy), 0.0, 1.0)
    # Half a window at least: even a perfect score says no more than n windows can.
    level = np.clip(trend, 0.5 / n_windows, 1 - 0.5 / n_windows)
    half_width = 1.96 * np.array([metrics.binomial_sd(float(p), n_windows) for p in level])
    return np.clip(trend - half_width, 0, 1), np.clip(trend + half_width, 0, 1)
