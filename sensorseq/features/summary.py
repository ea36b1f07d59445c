"""Summary statistics of each channel of a window."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import (
    as_windows,
    check_channels,
    check_finite,
    check_integer,
    check_lengths,
    check_not_empty,
    check_state,
)
from sensorseq.errors import SignalError

N_BANDS = 5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SLACK = 1e-11  # relative increase, far above rounding errors of float64 and far below sensor noise
SMALLEST_POWER = 1e-12  # keeps the logarithm of a band without power finite
FEATURES = (
    "mean",
    "sd",
    "min",
    "max",
    "skew",
    "kurtosis",
    "mean_difference",
    "sd_difference",
    *(f"quantile_{q:g}" for q in QUANTILES),
    *(f"log_power_{band}" for band in range(N_BANDS)),
)


class SummaryFeatures:
    """Describe windows by the statistics of each channel that are listed in `FEATURES`.

    The statistics are the mean, standard deviation, extremes, skewness, excess kurtosis and
    quantiles; the mean and standard deviation of the differences between neighboring steps; and the
    logarithm of the power in five equal frequency bands up to half the sample rate. The power is
    computed after the mean is subtracted. In a window of one step, the differences are 0. All
    statistics of an empty window are 0.

    `fit` learns only the number of channels, `n_channels_`. The number of features is
    `n_features_`.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.features import SummaryFeatures
    >>> X = np.random.default_rng(0).normal(size=(20, 100, 3))
    >>> SummaryFeatures().fit(X).transform(X).shape
    (20, 54)
    """

    def __init__(self) -> None:
        self._n_channels = 0

    def __repr__(self) -> str:
        return "SummaryFeatures()"

    @property
    def n_features_(self) -> int:
        """The number of features: ``len(FEATURES)`` for each channel."""
        return self.n_channels_ * len(FEATURES)

    @property
    def n_channels_(self) -> int:
        """Number of channels of the windows given to `fit`."""
        if not self._n_channels:
            raise SignalError("SummaryFeatures was not fitted: call fit first.")
        return self._n_channels

    def fit(self, X: ArrayLike, lengths: ArrayLike | None = None) -> "SummaryFeatures":
        """Remember the number of channels, and return this object.

        Parameters
        ----------
        X, lengths : as in `RandomConvolutions.fit`

        Raises
        ------
        SignalError
            If the shapes disagree, or there are no timesteps or no channels.
        """
        windows = as_windows(X)
        check_not_empty(windows)
        check_lengths(windows, lengths)
        self._n_channels = windows.shape[2]
        return self

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the statistics of windows: a float64 array (n_windows, n_features_).

        The statistics of the first channel come first, in the order of `FEATURES`.

        Parameters
        ----------
        X, lengths : as in `RandomConvolutions.transform`

        Raises
        ------
        SignalError
            If `fit` was not called, `X` has a different number of channels or no timesteps, or a
            valid step is NaN or infinite.
        """
        n_channels = self.n_channels_
        windows = as_windows(X)
        check_not_empty(windows)
        steps = check_lengths(windows, lengths)
        check_channels(windows, n_channels)
        check_finite(windows, steps)
        return summary_features(windows, steps)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`: settings as plain values for JSON, and no arrays."""
        settings = {"kind": "summary", "features": list(FEATURES), "n_channels": self.n_channels_}
        return {"settings": settings, "arrays": {}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SummaryFeatures":
        """Restore from `state`; raise a SignalError if it lists statistics other than `FEATURES`.

        Parameters
        ----------
        state : mapping
        """
        settings, _ = check_state(state, "summary", ("features", "n_channels"), {})
        if settings["features"] != list(FEATURES):
            raise SignalError(
                "the stored state does not list the statistics that this version computes."
            )
        restored = cls()
        restored._n_channels = check_integer("n_channels", settings["n_channels"], 1)
        return restored


def summary_features(X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the statistics (N, C * n_features) of windows (N, T, C); see `SummaryFeatures`."""
    windows = np.asarray(X, np.float64)
    n, t, c = windows.shape
    valid = np.full(n, t) if lengths is None else np.asarray(lengths)
    features = np.zeros((n, c, len(FEATURES)))
    for length in np.unique(valid).tolist():
        rows = np.flatnonzero(valid == length)
        if length:
            features[rows] = np.stack(list(_statistics(windows[rows, :length])), axis=-1)
    return features.reshape(n, c * len(FEATURES))


def above_ties(thresholds: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Increase thresholds of statistics by slightly more than rounding errors.

    A statistic often equals a threshold, because thresholds are learned from statistics. Without
    the increase, the order of summation, which differs between machines and programs, would decide
    whether such a statistic exceeds the threshold. `spread` is the largest magnitude of the
    statistic.
    """
    return np.asarray(thresholds + _SLACK * np.maximum(np.abs(thresholds), spread))


def _statistics(x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield each of `FEATURES` for windows (n, t, c) of equal length, as an array (n, c)."""
    n, t, c = x.shape
    mean, sd = x.mean(axis=1), x.std(axis=1)
    # Rounding may give a constant channel a tiny spread; skewness and kurtosis would be noise.
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
    yield from np.quantile(x, QUANTILES, axis=1)
    power = np.abs(np.fft.rfft(x - mean[:, None], axis=1)) ** 2 / t
    frequency = np.fft.rfftfreq(t) / 0.5  # as fractions of half the sample rate
    band = np.minimum((frequency * N_BANDS).astype(np.int64), N_BANDS - 1)
    for number in range(N_BANDS):
        inside = (band == number) & (frequency > 0)
        total = power[:, inside].sum(axis=1) / t
        yield np.log(total + SMALLEST_POWER)
