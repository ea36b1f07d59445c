"""IntervalQuantilesMember: a forest of random trees on quantiles of parts of a window."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_state
from sensorseq.errors import SignalError
from sensorseq.features.summary import SMALLEST_POWER
from sensorseq.features.trees import are_trees, leaves_of
from sensorseq.prediction.members.member import Kinds, check_sizes, in_blocks

_KIND = "interval_quantiles"
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
_DEPTH = 4  # windows are divided into 1, 2, 4 and 8 intervals
N_FEATURES = 3 * (2**_DEPTH - 1) * (2 + len(_QUANTILES))  # of each channel
_ARRAYS = {
    "feature": np.int32,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "root": np.int32,
    "leaf": np.int32,
    "share": np.float32,
}


@dataclass(frozen=True, eq=False)
class IntervalQuantilesMember:
    """Extremely randomized trees, whose mean class shares are turned into log-probabilities.

    The `arrays` describe nodes as in `sensorseq.features.trees.BoostedTrees`. ``leaf`` is the row
    of a leaf in ``share`` (n_leaves, K), the share of each class in the windows of the leaf.
    """

    arrays: Mapping[str, NDArray[Any]]
    n_channels: int

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return int(self.arrays["share"].shape[1])

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows."""
        return in_blocks(self._logits, X, lengths, self.n_classes)

    def _logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        return self.logits_of(quantiles_of(X, lengths))

    def logits_of(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits (n, K) of windows from the result of `quantiles_of`."""
        leaves = leaves_of(self.arrays, features)
        n_trees = leaves.shape[1]
        total = np.zeros((len(features), self.n_classes))
        for of_tree in self.arrays["leaf"][leaves].T:
            total += self.arrays["share"][of_tree]
        # one more tree, which knows nothing, keeps logarithms finite
        return np.asarray(np.log((total + 1 / self.n_classes) / (n_trees + 1)))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        return {"kind": _KIND, "n_channels": self.n_channels}, dict(self.arrays)

    @classmethod
    def restore(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "IntervalQuantilesMember":
        """Restore a member from `state`; raise an error if its parts do not match."""
        state = {"settings": settings, "arrays": arrays}
        settings, stored = check_state(state, _KIND, ("n_channels",), _ARRAYS)
        n_values, share = settings["n_channels"] * N_FEATURES, stored["share"]
        nodes = [stored[key] for key in ("feature", "threshold", "left", "right", "leaf")]
        is_consistent = (
            all(array.shape == nodes[0].shape == (nodes[0].size,) for array in nodes)
            and stored["root"].size > 0
            and share.ndim == 2
            and bool(np.isfinite(share).all() and (share >= 0).all())
            and are_trees(stored, n_values)
            and np.isin(stored["leaf"][stored["feature"] < 0], np.arange(len(share))).all()
        )
        if not is_consistent:
            raise SignalError("the stored trees are inconsistent.")
        return cls(stored, settings["n_channels"])

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the member reads these channels and has these outputs."""
        check_sizes((self.n_channels, self.n_classes), (n_channels, n_outputs))


def quantiles_of(X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Return features (n, n_channels * N_FEATURES) of windows (n, t, c), as trees read them.

    The samples, their differences and their logarithmic spectrum are divided into 1, 2, 4 and 8
    intervals. Of each interval: the mean, the standard deviation, and five quantiles minus the
    mean. The method follows QUANT (Dempster, Schmidt, Webb, *QUANT: A Minimalist Interval Method
    for Time Series Classification*, 2024) with fewer features.
    """
    n, n_steps, n_channels = X.shape
    features = np.zeros((n, n_channels * N_FEATURES), np.float32)
    valid = np.full(n, n_steps) if lengths is None else np.asarray(lengths)
    for length in np.unique(valid[valid > 0]):
        rows = np.flatnonzero(valid == length)
        # one channel after the other in memory, so that no result depends on the other windows
        values = np.ascontiguousarray(X[rows, :length].transpose(0, 2, 1), np.float64)
        parts = [part for series in _series(values) for part in _describe(series)]
        features[rows] = np.stack(parts, axis=2).reshape(len(rows), -1)
    return features


def _series(values: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the samples (n, c, t), their differences, and their logarithmic spectrum."""
    yield values
    n_steps = values.shape[2]
    yield np.diff(values) if n_steps > 1 else np.zeros_like(values)
    lines = np.fft.rfft(values - values.mean(axis=2, keepdims=True))[:, :, 1:]
    power = lines.real**2 + lines.imag**2
    yield np.log(power / n_steps + SMALLEST_POWER) if n_steps > 1 else np.zeros_like(values)


def _describe(series: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the features (n, c) of each interval of a series (n, c, t)."""
    n = series.shape[2]
    for depth in range(_DEPTH):
        edges = np.linspace(0, n, 2**depth + 1).astype(int)
        for start, end in zip(np.minimum(edges[:-1], n - 1), edges[1:]):
            part = series[:, :, start : max(end, start + 1)]
            mean = part.mean(axis=2)
            yield mean
            yield part.std(axis=2)
            rising, last = np.sort(part, axis=2), part.shape[2] - 1
            for quantile in _QUANTILES:  # np.quantile takes ten times as long for one window
                low, share = divmod(quantile * last, 1)
                at, after = rising[:, :, int(low)], rising[:, :, min(int(low) + 1, last)]
                yield at + share * (after - at) - mean


KINDS: Kinds = {_KIND: IntervalQuantilesMember.restore}
