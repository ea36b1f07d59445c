"""Fit, on held-out windows, the weights that combine the scores of several models into logits."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

_LARGEST = 50.0  # limits weights that would diverge if the scores separated all classes


def fit_stack(
    scores: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return the non-negative model weights (m,) that minimize the log-loss, and the minimum loss.

    The scores (m, n, k) must come from windows on which no model was fitted. The method is
    stacking: Wolpert, "Stacked Generalization", Neural Networks 5 (1992). The problem is convex. As
    in Platt scaling (1999), targets are smoothed by ``1 / (n + 2)`` to keep the weights finite.
    """
    units, unit, varies = _in_units(scores)
    weights, _, log_loss = _minimize(units, class_index, weight, None)
    return np.where(varies, weights / unit, 0.0), log_loss


def fit_bias(
    scores: NDArray[np.float64],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    penalty: float,
) -> tuple[float, NDArray[np.float64]]:
    """Return a non-negative factor of the scores (n, k) and the bias (k,) of each class.

    They minimize the log-loss of `fit_stack` plus ``penalty * (bias**2).sum()``.
    """
    units, unit, varies = _in_units(scores[None])
    factors, bias, _ = _minimize(units, class_index, weight, penalty)
    return float(np.where(varies, factors / unit, 0.0)[0]), bias


def smoothed_log_loss(
    logits: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> float:
    """Return the log-loss of logits (n, k) for the smoothed targets of `fit_stack`."""
    logs = log_softmax(logits, axis=1)
    return float(-(weight / weight.sum()) @ (_targets(logs.shape, class_index) * logs).sum(axis=1))


def _in_units(
    scores: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Center and scale the scores of each model, which improves the conditioning of the search."""
    centered = scores - scores.mean(axis=2, keepdims=True)
    spread = np.sqrt((centered**2).mean(axis=(1, 2)))
    # scores that are equal for all classes carry no information, so their weight is 0
    varies = spread > 1e-12 * np.abs(scores).max(axis=(1, 2))
    unit = np.where(varies, spread, 1.0)
    return np.where(varies, 1 / unit, 0.0)[:, None, None] * centered, unit, varies


def _targets(shape: tuple[int, ...], class_index: NDArray[np.int64]) -> NDArray[np.float64]:
    n, k = shape
    smooth = 1.0 / (n + 2)
    target = np.full((n, k), smooth / k)
    target[np.arange(n), class_index] += 1 - smooth
    return target


def _minimize(
    units: NDArray[np.float64],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
    penalty: float | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return factors (m,) and biases (k,), which are 0 without a penalty, and the minimum."""
    m, n, k = units.shape
    target, share = _targets((n, k), class_index), weight / weight.sum()
    n_biases = 0 if penalty is None else k

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factors, bias = values[:m], values[m:]
        logits = np.tensordot(factors, units, 1)
        if penalty is not None:
            logits += bias
        value = -(share @ (target * log_softmax(logits, axis=1)).sum(axis=1))
        error = share[:, None] * (softmax(logits, axis=1) - target)
        slope = np.tensordot(units, error, ([1, 2], [0, 1]))
        if penalty is None:
            return float(value), slope
        of_bias = error.sum(axis=0) + 2 * penalty * bias
        return float(value + penalty * (bias @ bias)), np.concatenate([slope, of_bias])

    optimum = minimize(
        loss,
        np.concatenate([np.full(m, 1.0 / m), np.zeros(n_biases)]),
        jac=True,
        bounds=[(0.0, _LARGEST)] * m + [(None, None)] * n_biases,
        method="L-BFGS-B",
    )
    return optimum.x[:m], np.append(optimum.x[m:], np.zeros(k - n_biases)), float(optimum.fun)
