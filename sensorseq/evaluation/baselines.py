"""Baselines for the network: the majority class, and classic learners on summary features."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq.windows import WindowSet

N_BANDS = 5
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SMALLEST_POWER = 1e-12  # of a band without power, whose logarithm would be infinite
FEATURES = (
    "mean",
    "sd",
    "min",
    "max",
    "skew",
    "kurtosis",
    "mean_difference",
    "sd_difference",
    *(f"quantile_{q:g}" for q in _QUANTILES),
    *(f"log_power_{band}" for band in range(N_BANDS)),
)
BASELINES = ("majority", "ridge", "gradient_boosting")


def summary_features(X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
    """Describe each window by statistics of its channels.

    Parameters
    ----------
    X : array-like of shape (N, T, C)
        Windows.
    lengths : array-like of shape (N,), int, optional
        Valid steps; later steps are ignored.

    Returns
    -------
    ndarray of shape (N, C * n_features), float64
        For each channel, the statistics named in `FEATURES`. Bands are equal fifths of the
        frequencies up to half the sample rate; powers exclude the mean. A statistic that needs a
        longer window is 0.
    """
    windows = np.asarray(X, np.float64)
    n, t, c = windows.shape
    valid = np.full(n, t) if lengths is None else np.asarray(lengths)
    features = np.zeros((n, c, len(FEATURES)))
    for length in np.unique(valid).tolist():
        rows = np.flatnonzero(valid == length)
        if length:
            features[rows] = np.stack(list(_statistics(windows[rows, :length])), axis=-1)
    return features.reshape(n, -1)


def make_baseline(name: str, seed: int = 0) -> Any:
    """Return an unfitted classifier of summary features, one of `BASELINES`, untuned."""
    if name == "majority":
        return DummyClassifier(strategy="most_frequent")
    if name == "ridge":
        return make_pipeline(
            StandardScaler(),
            RidgeClassifierCV(alphas=np.logspace(-3, 3, 13), class_weight="balanced"),
        )
    # Without early stopping: what it would hold out is windows of recordings it trains on.
    return HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.08,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )


def predict_baseline(
    name: str, train: WindowSet, test: WindowSet, classes: NDArray[Any], seed: int = 0
) -> NDArray[np.float64]:
    """Fit a baseline on `train` and return its scores on `test`.

    Returns
    -------
    ndarray of shape (N, K), float64
        Probabilities if the learner gives them, otherwise 1 for the predicted class; columns in
        the order of `classes`.
    """
    fitted = make_baseline(name, seed).fit(summary_features(train.X, train.lengths), train.y)
    features = summary_features(test.X, test.lengths)
    order = {label: i for i, label in enumerate(classes.tolist())}
    scores = np.zeros((len(test), len(classes)))
    if hasattr(fitted, "predict_proba"):
        columns = [order[label] for label in fitted.classes_.tolist()]
        scores[:, columns] = fitted.predict_proba(features)
    else:
        chosen = [order[label] for label in fitted.predict(features).tolist()]
        scores[np.arange(len(test)), chosen] = 1.0
    return scores


def _statistics(x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield each of `FEATURES` for windows (n, t, c) of equal length, as (n, c)."""
    n, t, c = x.shape
    mean, sd = x.mean(axis=1), x.std(axis=1)
    # Rounding leaves a constant channel a tiny spread, whose shape is noise.
    varies = sd > 1e-9 * np.maximum(np.abs(mean), 1e-300)
    standard = (x - mean[:, None]) / np.where(varies, sd, 1.0)[:, None]
    yield mean
    yield sd
    yield x.min(axis=1)
    yield x.max(axis=1)
    yield np.where(varies, (standard**3).mean(axis=1), 0.0)
    yield np.where(varies, (standard**4).mean(axis=1) - 3.0, 0.0)
    steps = np.diff(x, axis=1) if t > 1 else np.zeros((n, 1, c))
    yield steps.mean(axis=1)
    yield steps.std(axis=1)
    yield from np.quantile(x, _QUANTILES, axis=1)
    power = np.abs(np.fft.rfft(x - mean[:, None], axis=1)) ** 2 / t
    frequency = np.fft.rfftfreq(t) / 0.5  # 1 is half the sample rate
    band = np.minimum((frequency * N_BANDS).astype(np.int64), N_BANDS - 1)
    for number in range(N_BANDS):
        inside = (band == number) & (frequency > 0)
        total = power[:, inside].sum(axis=1) / t
        yield np.log(total + _SMALLEST_POWER)
