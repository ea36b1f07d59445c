"""Formulas of scipy that prediction needs: numpy is enough, and for most the bits are the same."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def log_softmax(x: Floats, axis: int) -> Floats:
    """Compute the logarithms of softmax; finite values, or some of minus infinity."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def logsumexp(x: Floats, axis: int) -> Floats:
    """Compute the logarithm of a sum from logarithms, of which the largest is finite."""
    largest = x.max(axis=axis, keepdims=True)
    is_largest = x == largest
    n_largest = is_largest.sum(axis=axis, dtype=x.dtype)
    rest = np.exp(np.where(is_largest, -np.inf, x) - largest).sum(axis=axis)
    return np.asarray(np.log1p(rest / n_largest) + np.log(n_largest) + largest.squeeze(axis))
