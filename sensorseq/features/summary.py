"""Summary statistics of each channel of a window."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import (
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
_MOST_NARROW_BANDS = 20
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
"""The statistics of a channel without a spectrum."""
SPECTRAL = ("spectral_centroid", "spectral_spread", "spectral_entropy")


class SummaryFeatures:
    """Describe windows by statistics of each channel, whose names are in `names`.

    The statistics are the mean, standard deviation, extremes, skewness, excess kurtosis and
    quantiles; the mean and standard deviation of the differences between neighboring steps; and the
    logarithm of the power in five equal frequency bands up to half the sample rate. The power is
    computed after the mean is subtracted. In a window of one step, the differences are 0. All
    statistics of an empty window are 0.

    With a spectrum, statistics of narrow bands follow: the logarithm of the power in up to 20 bands
    whose edges are spaced logarithmically, and of the spectrum as a whole the centroid and the
    spread (in cycles per step) and the entropy (in nats). The edges are lines of the spectrum of
    windows of `n_steps_` steps; a line of a shorter window belongs to the band that contains its
    frequency. A channel that does not vary has no power, and 0 for the spectrum as a whole.

    `fit` learns only the number of channels, `n_channels_`, and with a spectrum the length of the
    longest window, `n_steps_`. The number of features is `n_features_`.

    Parameters
    ----------
    spectrum : bool, default=False
        Whether the statistics of narrow bands are computed, too.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.features import SummaryFeatures
    >>> X = np.random.default_rng(0).normal(size=(20, 100, 3))
    >>> SummaryFeatures().fit(X).transform(X).shape
    (20, 54)
    """

    def __init__(self, spectrum: bool = False) -> None:
        self.spectrum = spectrum
        self._n_channels = self._n_steps = 0

    def __repr__(self) -> str:
        return f"SummaryFeatures(spectrum={self.spectrum})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the statistics of a channel, in the order of the features."""
        return statistic_names(self.n_steps_)

    @property
    def n_features_(self) -> int:
        """The number of features: ``len(names)`` for each channel."""
        return self.n_channels_ * len(self.names)

    @property
    def n_channels_(self) -> int:
        """Number of channels of the windows given to `fit`."""
        if not self._n_channels:
            raise SignalError("SummaryFeatures was not fitted: call fit first.")
        return self._n_channels

    @property
    def n_steps_(self) -> int | None:
        """Length of the windows that set the edges of narrow bands; None without a spectrum."""
        self.n_channels_  # noqa: B018
        return self._n_steps if self.spectrum else None

    def fit(self, X: ArrayLike, lengths: ArrayLike | None = None) -> "SummaryFeatures":
        """Remember the number of channels and the longest length, and return this object.

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
        steps = check_lengths(windows, lengths)
        self._n_channels = windows.shape[2]
        self._n_steps = windows.shape[1] if steps is None else max(1, int(steps.max()))
        return self

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the statistics of windows: a float64 array (n_windows, n_features_).

        The statistics of the first channel come first, in the order of `names`.

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
        return summary_features(windows, steps, self.n_steps_)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`: settings as plain values for JSON, and no arrays."""
        settings: dict[str, Any] = {"kind": "summary", "features": list(self.names)}
        settings["n_channels"] = self.n_channels_
        if self.spectrum:
            settings["n_steps"] = self.n_steps_
        return {"settings": settings, "arrays": {}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SummaryFeatures":
        """Restore from `state`; raise a SignalError if it lists statistics other than `names`.

        Parameters
        ----------
        state : mapping
        """
        settings, _ = check_state(state, "summary", ("features", "n_channels"), {})
        restored = cls(spectrum="n_steps" in settings)
        restored._n_channels = check_integer("n_channels", settings["n_channels"], 1)
        if restored.spectrum:
            restored._n_steps = check_integer("n_steps", settings["n_steps"], 1, 2**31 - 1)
        if settings["features"] != list(restored.names):
            raise SignalError(
                "the stored state does not list the statistics that this version computes."
            )
        return restored


def statistic_names(n_steps: int | None) -> tuple[str, ...]:
    """Return the names of a channel's statistics; see `summary_features`."""
    if n_steps is None:
        return FEATURES
    bands = range(len(inner_edges(n_steps)) + 1)
    return (*FEATURES, *(f"log_narrow_power_{band}" for band in bands), *SPECTRAL)


@cache
def inner_edges(n_steps: int) -> NDArray[np.int64]:
    """Return the edges between narrow bands, as numbers of lines in windows of `n_steps` steps."""
    end = max(1, n_steps // 2) + 1
    edges = np.unique(np.round(np.geomspace(1, end, _MOST_NARROW_BANDS + 1)).astype(np.int64))
    return edges[1:-1]


def summary_features(
    X: ArrayLike, lengths: ArrayLike | None = None, n_steps: int | None = None
) -> NDArray[np.float64]:
    """Return the statistics (N, C * n_features) of windows (N, T, C); see `SummaryFeatures`.

    They include those of the spectrum if the length `n_steps` is given that sets its edges.
    """
    windows = np.asarray(X, np.float64)
    n, t, c = windows.shape
    valid = np.full(n, t) if lengths is None else np.asarray(lengths)
    n_features = len(statistic_names(n_steps))
    features = np.zeros((n, c, n_features))
    for length in np.unique(valid).tolist():
        rows = np.flatnonzero(valid == length)
        if length:
            features[rows] = np.stack(list(_statistics(windows[rows, :length], n_steps)), axis=-1)
    return features.reshape(n, c * n_features)


def above_ties(thresholds: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Increase thresholds of statistics by slightly more than rounding errors.

    A statistic often equals a threshold, because thresholds are learned from statistics. Without
    the increase, the order of summation, which differs between machines and programs, would decide
    whether such a statistic exceeds the threshold. `spread` is the largest magnitude of the
    statistic.
    """
    return np.asarray(thresholds + _SLACK * np.maximum(np.abs(thresholds), spread))


def _statistics(x: NDArray[np.float64], n_steps: int | None) -> Iterator[NDArray[np.float64]]:
    """Yield each statistic of windows (n, t, c) of equal length, as an array (n, c)."""
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
    if n_steps is not None:
        power[:, 0] = 0.0
        power = np.where(varies[:, None], power, 0.0)
        yield from _spectral(np.ascontiguousarray(power.transpose(0, 2, 1)), t, n_steps)


def _spectral(power: NDArray[np.float64], t: int, n_steps: int) -> Iterator[NDArray[np.float64]]:
    """Yield the statistics (n, c) of spectra (n, c, lines) of windows of `t` steps.

    Line k has the frequency k / t. In windows of `n_steps` steps, it would be line k * n_steps / t.
    """
    first = -(-inner_edges(n_steps) * t // n_steps)  # in integers, without rounding errors
    for start, end in zip([0, *first], [*first, t]):
        yield np.log(power[:, :, start:end].sum(axis=2) / t + SMALLEST_POWER)
    total, frequency = power.sum(axis=2), np.arange(power.shape[2]) / t
    share = power / np.where(total > 0, total, 1.0)[:, :, None]
    centroid = (share * frequency).sum(axis=2)
    yield centroid
    yield np.sqrt((share * (frequency - centroid[:, :, None]) ** 2).sum(axis=2))
    yield -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=2)
