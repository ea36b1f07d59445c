"""The windows to check: read as `fit` reads them, and small parts of them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.io.stored_windows import StoredSamples
from sensorseq.training.config import CLASSIFICATION
from sensorseq.training.inputs import Sequences, check_groups, from_one_hot, read_sequences
from sensorseq.training.preparation import read_training_file
from sensorseq.training.stream import StoredPart
from sensorseq.windows import WindowSet

_PIECE = 1024  # windows that are read from a file at once


@dataclass(frozen=True)
class CheckedWindows:
    """Windows with their targets and what they belong to.

    X (N, T, C) is unscaled, and `StoredSamples` where a file is larger than the buffer, see `held`.
    `y` is the index in `classes`, or the values of a regression (N,) or (N, K). A validation split
    keeps `groups` whole; `recording` is what each window was cut from, where it is known.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64]
    y: NDArray[Any]
    classes: tuple[Any, ...]
    groups: NDArray[Any] | None
    recording: NDArray[Any] | None
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.X)

    @property
    def n_timesteps(self) -> int:
        """Steps of the padded windows, T."""
        return int(self.X.shape[1])

    @property
    def split_unit(self) -> NDArray[Any]:
        """What goes to one side of a split as a whole: the group, or else the window alone."""
        return np.arange(len(self)) if self.groups is None else self.groups

    def take(self, rows: NDArray[Any]) -> "CheckedWindows":
        """Return the windows at `rows`."""
        return replace(
            self,
            X=self.X[rows],
            lengths=self.lengths[rows],
            y=self.y[rows],
            groups=None if self.groups is None else self.groups[rows],
            recording=None if self.recording is None else self.recording[rows],
        )

    def held(self) -> "CheckedWindows":
        """Return the windows in memory, read from their file if they are still there."""
        samples: Any = self.X
        if not isinstance(samples, StoredSamples):
            return self
        with StoredPart(Sequences(samples, self.lengths)).opened() as reader:  # type: ignore[arg-type]
            return replace(self, X=reader.cropped(np.arange(len(self))).X)

    def pieces(self) -> Iterator["CheckedWindows"]:
        """Yield all windows in memory, not many at a time when they are in a file."""
        size = len(self) if isinstance(self.X, np.ndarray) else _PIECE
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self)))).held()

    def head(self, n_timesteps: int) -> "CheckedWindows":
        """Return the first steps of every window."""
        if n_timesteps >= self.n_timesteps:
            return self
        lengths = np.minimum(self.lengths, n_timesteps)
        return replace(self, X=self.X[:, :n_timesteps], lengths=lengths)


def read_checked_windows(X: Any, y: Any, groups: Any, lengths: Any, task: str) -> CheckedWindows:
    """Read the data as `fit` would; test windows of a split are left out."""
    recording, channels = None, None
    if isinstance(X, str | os.PathLike):
        X, _ = read_training_file(X)
    if isinstance(X, WindowSet):
        if X.split is not None:
            y = X.y if y is None else y
            rows = np.flatnonzero(X.split != "test")
            y = None if y is None else np.asarray(y)[rows]
            X = replace(X.take(rows), split=None)
        y = X.y if y is None else y
        recording, channels = X.recording_id, tuple(X.channels)
        groups = X.groups if groups is None else groups
        groups = recording if groups is None else groups
    if y is None:
        raise InputError("y is None; give the targets.")
    sequences = read_sequences(X, lengths)
    if channels is None:
        channels = tuple(sequences.channels or map(str, range(sequences.X.shape[2])))
    target, classes = np.asarray(y), ()
    if task == CLASSIFICATION:
        if target.ndim == 2 and target.shape[1] > 1:
            target = from_one_hot(target, "y")
        names, target = np.unique(target.ravel(), return_inverse=True)
        classes = tuple(names.tolist())
    groups = check_groups(groups, len(sequences), "groups")
    return CheckedWindows(
        sequences.X, sequences.lengths, target, classes, groups, recording, channels
    )


def take_in_runs(windows: CheckedWindows, n_windows: int) -> CheckedWindows:
    """Return about `n_windows` windows, neighbours together, so that what overlaps still does.

    These are the first windows of each group; without groups, four runs.
    """
    if len(windows) <= n_windows:
        return windows
    if windows.groups is None:
        starts = np.linspace(0, len(windows) - n_windows // 4, 4).astype(int)
        return windows.take(
            np.unique(np.concatenate([s + np.arange(n_windows // 4) for s in starts]))
        )
    _, unit = np.unique(windows.groups, return_inverse=True)
    # Every class comes along when groups of all classes do: take groups spread over the file.
    n_units = min(int(unit.max()) + 1, max(2, n_windows // 4))
    chosen = np.unique(np.linspace(0, unit.max(), n_units).astype(int))
    each = max(1, n_windows // len(chosen))
    return windows.take(np.sort(np.concatenate([np.flatnonzero(unit == u)[:each] for u in chosen])))
