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
    n_models, n, k = scores.shape
    smooth = 1.0 / (n + 2)
    target = np.full((n, k), smooth / k)
    target[np.arange(n), class_index] += 1 - smooth
    share = weight / weight.sum()
    # scaling each model's scores by their spread improves the conditioning of the search
    centered = scores - scores.mean(axis=2, keepdims=True)
    spread = np.sqrt((centered**2).mean(axis=(1, 2)))
    # scores that are equal for all classes carry no information, so their weight is 0
    varies = spread > 1e-12 * np.abs(scores).max(axis=(1, 2))
    unit = np.where(varies, spread, 1.0)
    units = np.where(varies, 1 / unit, 0.0)[:, None, None] * centered

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = np.tensordot(factors, units, 1)
        value = -(share @ (target * log_softmax(logits, axis=1)).sum(axis=1))
        error = share[:, None] * (softmax(logits, axis=1) - target)
        return float(value), np.tensordot(units, error, ([1, 2], [0, 1]))

    optimum = minimize(
        loss,
        np.full(n_models, 1.0 / n_models),
        jac=True,
        bounds=[(0.0, _LARGEST)] * n_models,
        method="L-BFGS-B",
    )
    return np.where(varies, optimum.x / unit, 0.0), float(optimum.fun)
