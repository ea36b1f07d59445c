"""The windows to check, read as `fit` reads them, and subsets of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sensorseq.inspection.copies import shared_stretches
from sensorseq.inspection.overlap import SHARE, TOLERATED
from sensorseq.io.stored_windows import StoredSamples
from sensorseq.prediction.inputs import Sequences, check_groups, read_sequences
from sensorseq.prediction.outside import Ints
from sensorseq.training.labels import read_labels
from sensorseq.training.stream import StoredPart
from sensorseq.windows import WindowSet

_PIECE = 1024  # windows read from a file at once


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedWindows(Sequences):
    """Unscaled windows with their classes.

    X is `StoredSamples` if a file is larger than the buffer, see `held`. `y` is the index in
    `classes`. A validation split keeps `groups` whole; `recording_id` is each window's recording,
    if known.
    """

    y: NDArray[np.int64]
    classes: NDArray[Any]
    channels: list[str]

    @property
    def n_timesteps(self) -> int:
        """The length T of the padded windows."""
        return int(self.X.shape[1])

    @property
    def split_unit(self) -> NDArray[Any]:
        """What a split keeps on one side: the group of each window, or the window itself."""
        return np.arange(len(self)) if self.groups is None else self.groups

    def take(self, rows: NDArray[np.integer[Any]]) -> "CheckedWindows":
        """Return the windows at `rows`."""
        return replace(self, **vars(super().take(rows)), y=self.y[rows])

    def held(self) -> "CheckedWindows":
        """Return the windows in memory; they are read if they are still in a file."""
        if not isinstance(self.X, StoredSamples):
            return self
        with StoredPart(self).opened() as reader:
            return replace(self, X=reader.cropped(np.arange(len(self))).X)

    def pieces(self) -> Iterator["CheckedWindows"]:
        """Yield all windows in memory; from a file, a limited number at a time."""
        size = len(self) if isinstance(self.X, np.ndarray) else _PIECE
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self)))).held()

    def head(self, n_timesteps: int) -> "CheckedWindows":
        """Return the first `n_timesteps` of every window."""
        lengths = np.minimum(self.lengths, n_timesteps)
        return replace(self, X=self.X[:, :n_timesteps], lengths=lengths)

    def in_runs(self, n_windows: int) -> "CheckedWindows":
        """Return about `n_windows` windows in runs of neighbors, so that overlaps are preserved.

        They are the first windows of groups spread over the file, or four runs without groups.
        """
        if len(self) <= n_windows:
            return self
        if self.groups is None:
            each = n_windows // 4
            starts = np.linspace(0, len(self) - each, 4).astype(int)
            return self.take(np.unique(np.add.outer(starts, np.arange(each))))
        _, unit = np.unique(self.groups, return_inverse=True)
        # Groups spread over the file usually cover every class.
        n_units = min(int(unit.max()) + 1, max(2, n_windows // 4))
        chosen = np.unique(np.linspace(0, unit.max(), n_units).astype(int))
        each = max(1, n_windows // len(chosen))
        rows = [np.flatnonzero(unit == number)[:each] for number in chosen]
        return self.take(np.sort(np.concatenate(rows)))

    def stretches(self) -> tuple[Ints, int]:
        """Join windows that share samples into segments; return each window's segment number.

        Also return how many windows are joined to one of another group (without groups, to any), or
        0 if they are so few that a sensor at rest explains them.
        """
        n_windows = len(self)
        X = np.ascontiguousarray(self.X, np.float32)
        everyone, pairs = np.arange(n_windows), []
        # Two different indices differ in at least one bit, so every pair is compared.
        for bit in range(max(1, (n_windows - 1).bit_length())):
            for side in (0, 1):
                rows = everyone[(everyone >> bit & 1) == side]
                among = everyone[(everyone >> bit & 1) != side]
                pairs.append(np.stack(shared_stretches(X, self.lengths, rows, among, share=SHARE)))
        left, right = np.concatenate(pairs, axis=1)
        joined = coo_array((np.ones(len(left)), (left, right)), shape=(n_windows, n_windows))
        _, stretch = connected_components(joined, directed=False)
        across = self.split_unit[left] != self.split_unit[right]
        n_across = len(np.unique(np.concatenate([left[across], right[across]])))
        return stretch.astype(np.int64), n_across if n_across > TOLERATED * n_windows else 0


def read_checked_windows(X: Any, y: Any, groups: Any, lengths: Any) -> CheckedWindows:
    """Read the data as `fit` would; test windows of a split are left out."""
    channels = None
    if isinstance(X, WindowSet):
        y = X.y if y is None else y
        if X.split is not None:
            rows = np.flatnonzero(X.split != "test")
            y = None if y is None else np.asarray(y)[rows]
            X = replace(X.take(rows), split=None)
        groups = X.groups if groups is None else groups
        groups = X.recording_id if groups is None else groups
        channels = X.channels
    sequences = read_sequences(X, lengths)
    channels = channels or sequences.channels or map(str, range(sequences.X.shape[2]))
    labels, _ = read_labels(y, len(sequences), "y")
    classes, target = np.unique(labels, return_inverse=True)
    known = {"groups": check_groups(groups, len(sequences), "groups"), "channels": list(channels)}
    return CheckedWindows(**{**vars(sequences), **known}, y=target, classes=classes)
