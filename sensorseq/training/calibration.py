"""Temperature scaling: one number that makes probabilities as sure as they are right."""

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

    The cross entropy of the windows is minimised [1]_, plus ``b - 1 - log(b)`` with ``b = 1 / T``:
    a gamma prior whose mode is the network as it is. Of some dozens of windows it is not felt. Of
    windows that are all right, where cross entropy alone falls for ever as T goes to 0, or that are
    worse than chance, where it does as T goes to infinity, it keeps T finite and near 1. The sum is
    strictly convex in b, so there is one minimum and no bound is needed.

    Parameters
    ----------
    logits : ndarray of shape (n_windows, n_classes)
        Of windows that were not trained on; of an ensemble the log of its mean probability.
    class_index : ndarray of shape (n_windows,), int
        Their classes.

    Returns
    -------
    float
        Above 1 where the network is too sure, below 1 where it is not sure enough.

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


def probability_spread(logits: NDArray[np.floating], temperature: float) -> float:
    """Return by how much the probability of the likeliest class depends on the windows drawn.

    The standard error of log T, from the information in the logits, times what a change of log T
    does to that probability, as a root mean square over the windows. Windows count as independent;
    of few recordings the spread is larger.

    Parameters
    ----------
    logits : ndarray of shape (n_windows, n_classes)
        What the temperature was fitted on.
    temperature : float
        What was fitted.
    """
    z = _below_highest(logits) / temperature
    probability = softmax(z)
    expected = (probability * z).sum(axis=1, keepdims=True)
    information = (probability * (z - expected) ** 2).sum() + _PRIOR / temperature
    change = probability.max(axis=1) * -expected[:, 0]  # d p_max / d log T; its z is 0
    return float(np.sqrt((change**2).mean() / information))


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
