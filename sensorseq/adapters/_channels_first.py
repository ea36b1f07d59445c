"""Channel-first series, as aeon and sktime store them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone

from sensorseq.estimator import SensorLSTMClassifier


def to_windows(X: Any) -> dict[str, Any]:
    """Convert series to the arguments `X` and `lengths` of our estimators.

    Series are an array (n, c, t), or a list of arrays (c, t_i) or of DataFrames with a row for each
    step. For an array, `lengths` confirms the order of the axes, so that short series with many
    channels are not mistaken for channel-first ones.
    """
    if isinstance(X, np.ndarray):
        return {"X": X.transpose(0, 2, 1), "lengths": np.full(len(X), X.shape[2])}
    return {"X": [part.T if isinstance(part, np.ndarray) else part.to_numpy() for part in X]}


def fit_clone(estimator: Any, default: Callable[[], Any], X: Any, y: Any) -> Any:
    """Return a fitted clone of the estimator, or of the default one."""
    fitted = default() if estimator is None else clone(estimator)
    return fitted.fit(y=y, **to_windows(X))


def checked_settings(estimator: type) -> list[dict[str, Any]]:
    """Return constructor arguments that keep the libraries' own checks small and quick."""
    quick = {"hidden_size": 4, "max_epochs": 2, "device": "cpu", "random_state": 0}
    sampler = {"sampler": "balanced"} if issubclass(estimator, SensorLSTMClassifier) else {}
    return [
        {"estimator": estimator(**quick)},
        {"estimator": estimator(**{**quick, "hidden_size": 3, "pooling": "last", **sampler})},
    ]
