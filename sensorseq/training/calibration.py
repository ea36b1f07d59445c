"""Temperature scaling: one number that calibrates the probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from sensorseq.errors import InputError

# What the belief that the network is right as it is weighs. The windows outweigh it soon: each adds
# the variance of its logits, which is about 1 for an unsure one.
_PRIOR = 1.0
NOTABLE_SPREAD = 0.05


def fit_temperature(logits: NDArray[np.floating], class_index: NDArray[np.integer]) -> float:
    """Return the temperature T for which ``softmax(logits / T)`` suits the classes best.

    It minimizes the cross entropy of the windows [1]_ plus ``b - 1 - log(b)`` with ``b = 1 / T``, a
    gamma prior whose mode is T = 1. With a few dozen windows the prior has no noticeable effect. If
    all windows are classified correctly (cross entropy alone falls as T goes to 0) or are worse
    than chance (it falls as T goes to infinity), the prior keeps T finite and near 1. The sum is
    strictly convex in b, so there is one minimum and no bound is needed.

    Parameters
    ----------
    logits : ndarray of shape (n_windows, n_classes)
        Logits of windows not used for training; for an ensemble the log of its mean probability.
    class_index : ndarray of shape (n_windows,), int
        True classes.

    Returns
    -------
    float
        Above 1 if the network is overconfident, below 1 if it is underconfident.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, *On Calibration of Modern Neural Networks*,
       ICML 2017.
    """
    z = _below_highest(logits)
    of_class = z[np.arange(len(z)), class_index]

    def slope(log_b: float) -> float:
        b = np.exp(log_b)
        expected = (softmax(b * z) * z).sum(axis=1)
        # times b, which has the same root and does not overflow
        return float(b * (expected - of_class).sum() + _PRIOR * (b - 1))

    low, high = -1.0, 1.0
    while slope(low) > 0:
        low *= 2
    while slope(high) < 0:
        high *= 2
    return float(np.exp(-brentq(slope, low, high, xtol=1e-12, rtol=1e-12)))


def probability_spread(
    logits: NDArray[np.floating],
    class_index: NDArray[np.integer],
    temperature: float,
    groups: NDArray[Any] | None = None,
) -> float:
    """Return by how much the probability of the likeliest class depends on the windows drawn.

    The standard error of log T times what a change of log T does to that probability, as a root
    mean square over the windows. The error is that of independent windows, or if that is larger,
    the one that sums each group's slope of the loss before squaring it: the windows of a recording
    ask for another temperature together.

    Parameters
    ----------
    logits, class_index
        What the temperature was fitted on.
    temperature : float
        What was fitted.
    groups : ndarray of shape (n_windows,), optional
        What was recorded as a whole.
    """
    z = _below_highest(logits) / temperature
    probability = softmax(z)
    expected = (probability * z).sum(axis=1)
    spread_of_z = float((probability * (z - expected[:, np.newaxis]) ** 2).sum())
    variance = spread_of_z
    if groups is not None and len(names := np.unique(groups)) > 1:
        slope = expected - z[np.arange(len(z)), class_index]
        of_group = np.bincount(np.searchsorted(names, groups), slope)
        variance = max(variance, float((of_group**2).sum()) * len(names) / (len(names) - 1))
    information = spread_of_z + _PRIOR / temperature
    change = probability.max(axis=1) * expected  # d p_max / d log T; its own z is 0
    return float(np.sqrt((change**2).mean() * variance) / information)


def check_temperature(value: float) -> float:
    """Return a temperature read from a file, when it is one."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"temperature is {value!r}, expected a number above 0")
    return value


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities of shape (n, K), float64."""
    exponentials = np.exp(_below_highest(logits))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _below_highest(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    z = np.asarray(logits, np.float64)
    return np.asarray(z - z.max(axis=1, keepdims=True))
