"""Read windows for the checks in the same way as `fit` does, and choose subsets of them."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sensorseq.checks import check_groups
from sensorseq.inspection.copies import shared_stretches
from sensorseq.inspection.overlap import SHARE, TOLERATED
from sensorseq.prediction.outside import Ints
from sensorseq.prediction.windows import Windows, windows_of
from sensorseq.training.labels import read_labels
from sensorseq.windows import WindowSet


def read_checked_windows(X: Any, y: Any, groups: Any, lengths: Any) -> Windows:
    """Read the data as `fit` would, without the test windows of a split."""
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
    windows = windows_of(X, lengths)
    channels = channels or windows.channels or map(str, range(windows.X.shape[2]))
    labels, _ = read_labels(y, len(windows), "y")
    classes, target = np.unique(labels, return_inverse=True)
    return replace(
        windows,
        target=target,
        classes=classes,
        groups=check_groups("groups", groups, len(windows)),
        channels=list(channels),
    )


def split_unit(windows: Windows) -> NDArray[Any]:
    """Return each window's group or, without groups, its index; splits keep groups together."""
    return np.arange(len(windows)) if windows.groups is None else windows.groups


def choose_runs(windows: Windows, n_windows: int) -> Windows:
    """Return about `n_windows` windows in runs of neighbors, so that overlaps are preserved.

    Each run is the beginning of a group; the chosen groups are evenly spaced in sorted order.
    Without groups, there are four runs.
    """
    if len(windows) <= n_windows:
        return windows
    if windows.groups is None:
        each = n_windows // 4
        starts = np.linspace(0, len(windows) - each, 4).astype(int)
        return windows.take(np.unique(np.add.outer(starts, np.arange(each))))
    _, unit = np.unique(windows.groups, return_inverse=True)
    # Evenly spaced groups usually cover every class.
    n_units = min(int(unit.max()) + 1, max(2, n_windows // 4))
    chosen = np.unique(np.linspace(0, unit.max(), n_units).astype(int))
    each = max(1, n_windows // len(chosen))
    rows = [np.flatnonzero(unit == number)[:each] for number in chosen]
    return windows.take(np.sort(np.concatenate(rows)))


def join_stretches(windows: Windows) -> tuple[Ints, int]:
    """Join windows that share samples into segments; return each window's segment number.

    Also return how many windows are joined to a window of another group (without groups, to any
    other window). If there are few such windows, 0 is returned, because a sensor at rest can
    explain them.
    """
    n_windows = len(windows)
    X = np.ascontiguousarray(windows.X, np.float32)
    every, pairs = np.arange(n_windows), []
    # The indices of two windows differ in at least one bit, so every pair is compared.
    for bit in range(max(1, (n_windows - 1).bit_length())):
        for side in (0, 1):
            rows = every[(every >> bit & 1) == side]
            among = every[(every >> bit & 1) != side]
            pairs.append(np.stack(shared_stretches(X, windows.lengths, rows, among, share=SHARE)))
    left, right = np.concatenate(pairs, axis=1)
    joined = coo_array((np.ones(len(left)), (left, right)), shape=(n_windows, n_windows))
    _, stretch = connected_components(joined, directed=False)
    unit = split_unit(windows)
    across = unit[left] != unit[right]
    n_across = len(np.unique(np.concatenate([left[across], right[across]])))
    return stretch.astype(np.int64), n_across if n_across > TOLERATED * n_windows else 0
