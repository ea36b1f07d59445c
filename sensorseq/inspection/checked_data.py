"""Checks without training: dead channels, rare classes, shared samples."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sensorseq.inspection.check_result import FAILED, NOT_POSSIBLE, PASSED, Outcome
from sensorseq.inspection.checked_windows import CheckedWindows
from sensorseq.inspection.copies import shared_stretches
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.overlap import SHARE, TOLERATED
from sensorseq.inspection.part import Part
from sensorseq.inspection.window_checks import check_shares, constant_channels

_NAMED = 5


def check_channels(windows: CheckedWindows) -> Outcome:
    """Check that every channel varies."""
    n_channels = len(windows.channels)
    pieces = (Part(piece.X, piece.lengths, piece.y) for piece in windows.pieces())
    dead = [windows.channels[i] for i in constant_channels(pieces)]
    figures = {"n_channels": n_channels, "constant": dead, "n_constant": len(dead)}
    if not dead:
        return PASSED, Finding("channels_vary", figures)
    return FAILED, Finding("dead_channels", figures)


def check_classes(windows: CheckedWindows) -> Outcome:
    """Check that every class has windows to train and to validate on."""
    counts = np.bincount(windows.y, minlength=len(windows.classes))
    smallest, share = int(counts.min()), float(counts.max() / counts.sum())
    figures = {"n_classes": len(counts), "smallest": smallest, "largest_share": share}
    for found in check_shares(windows.y, windows.classes, windows.groups):
        return FAILED, replace(found, values={**figures, **found.values})
    return PASSED, Finding("classes_have_windows", figures)


def check_separate(windows: CheckedWindows) -> Outcome:
    """Check that windows a split may separate share no samples."""
    if len(np.unique(windows.split_unit)) < 2:
        return NOT_POSSIBLE, Finding("one_group")
    _, n_across = connect_shared(windows)
    unit = "windows" if windows.groups is None else "groups"
    figures = {"n_windows": len(windows), "n_sharing": n_across, "unit": unit}
    if not n_across:
        return PASSED, Finding("nothing_shared", figures)
    return FAILED, Finding(f"{unit}_share_samples", figures)


def connect_shared(windows: CheckedWindows) -> tuple[NDArray[np.int64], int]:
    """Join windows that hold the same samples; return the number of each window's stretch from 0.

    Also return how many are joined to a window of another group, or without groups to any; 0 when
    they are so few that a sensor at rest explains it.
    """
    n_windows = len(windows)
    X = np.ascontiguousarray(windows.X, np.float32)
    everyone, pairs = np.arange(n_windows), []
    # Two places differ in a bit at least: so every pair is compared.
    for bit in range(max(1, (n_windows - 1).bit_length())):
        for side in (0, 1):
            rows = everyone[(everyone >> bit & 1) == side]
            among = everyone[(everyone >> bit & 1) != side]
            pairs.append(np.stack(shared_stretches(X, windows.lengths, rows, among, share=SHARE)))
    left, right = np.concatenate(pairs, axis=1)
    joined = coo_array((np.ones(len(left)), (left, right)), shape=(n_windows, n_windows))
    _, stretch = connected_components(joined, directed=False)
    across = windows.split_unit[left] != windows.split_unit[right]
    n_across = len(np.unique(np.concatenate([left[across], right[across]])))
    return stretch.astype(np.int64), n_across if n_across > TOLERATED * n_windows else 0
