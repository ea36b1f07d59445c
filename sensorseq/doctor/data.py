"""Checks without training: dead channels, rare classes, shared samples."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sensorseq.doctor.diagnosis import FAILED, NOT_POSSIBLE, PASSED, CheckResult
from sensorseq.doctor.windows import CheckedWindows
from sensorseq.preprocessing.shared_stretches import shared_stretches

_DOMINANT = 0.9  # share of the windows
_SHARE = 0.25  # of a window; less of an overlap tells the network little
_TOLERATED = 0.05  # of the windows: a sensor at rest may repeat itself
_NAMED = 5


def check_channels(windows: CheckedWindows) -> CheckResult:
    """Check that every channel varies."""
    n_channels = len(windows.channels)
    first, varies = None, np.zeros(n_channels, bool)
    for piece in windows.pieces():
        first = piece.X[0, 0] if first is None else first
        valid = np.arange(piece.n_timesteps) < piece.lengths[:, None]
        for i in np.flatnonzero(~varies):
            varies[i] = (valid & (piece.X[:, :, i] != first[i])).any()
    dead = [name for name, is_alive in zip(windows.channels, varies, strict=True) if not is_alive]
    figures = {"n_channels": n_channels, "constant": dead}
    if not dead:
        words = "The channel varies" if n_channels == 1 else f"All {n_channels} channels vary"
        return CheckResult("channels_vary", PASSED, f"{words}.", figures=figures)
    named = ", ".join(dead[:_NAMED]) + (" and more" if len(dead) > _NAMED else "")
    return CheckResult(
        "channels_vary",
        FAILED,
        f"{len(dead)} of {n_channels} channels are constant in all windows: {named}. Nothing can"
        " be learned from them.",
        "Check the sensor and how it was read, or drop the channel.",
        figures,
    )


def check_classes(windows: CheckedWindows) -> CheckResult:
    """Check that every class has windows to train and to validate on."""
    counts = np.bincount(windows.y, minlength=len(windows.classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    share = counts[largest] / counts.sum()
    figures = {"smallest": int(counts[smallest]), "largest_share": float(share)}
    if share > _DOMINANT:
        return CheckResult(
            "classes_have_windows",
            FAILED,
            f"{share:.0%} of the windows belong to class {windows.classes[largest]!r}: a classifier"
            " that always predicts it reaches that accuracy, and the loss rewards it for that.",
            "Use class_weight='balanced' or sampler='balanced', and compare balanced accuracy.",
            figures,
        )
    if counts[smallest] < 2:
        return CheckResult(
            "classes_have_windows",
            FAILED,
            f"Class {windows.classes[smallest]!r} has one window, which cannot be used for both"
            " training and validation.",
            "Record more of it, or drop the class.",
            figures,
        )
    if windows.groups is not None:
        of_class = [len(np.unique(windows.groups[windows.y == k])) for k in range(len(counts))]
        alone = int(np.argmin(of_class))
        figures["fewest_groups"] = of_class[alone]
        if of_class[alone] < 2:
            return CheckResult(
                "classes_have_windows",
                FAILED,
                f"All windows of class {windows.classes[alone]!r} come from one group: the network"
                " may learn that group instead of the class.",
                "Record the class again in another group.",
                figures,
            )
    return CheckResult(
        "classes_have_windows",
        PASSED,
        f"Each of the {len(counts)} classes has {counts[smallest]} windows or more; the largest"
        f" has {share:.0%} of all windows.",
        figures=figures,
    )


def check_separate(windows: CheckedWindows) -> CheckResult:
    """Check that windows a split may separate share no samples."""
    if len(np.unique(windows.split_unit)) < 2:
        return CheckResult("groups_share_no_samples", NOT_POSSIBLE, "There is only one group.")
    _, n_across = connect_shared(windows)
    figures = {"n_windows": len(windows), "n_sharing": n_across}
    kind = "windows" if windows.groups is None else "groups"
    if not n_across:
        return CheckResult(
            "groups_share_no_samples",
            PASSED,
            f"No two {kind} share samples ({len(windows)} windows compared).",
            figures=figures,
        )
    if windows.groups is None:
        finding = (
            f"{n_across} of {len(windows)} windows overlap or repeat another. Without groups= a"
            " split puts them on both sides, so validation tests on samples seen in training."
        )
        advice = "Give groups= with the recording of each window."
    else:
        finding = (
            f"{n_across} of {len(windows)} windows share samples with a window of another group,"
            " so validation tests on samples seen in training."
        )
        advice = "Check how groups= was made: overlapping or copied windows belong in one group."
    return CheckResult("groups_share_no_samples", FAILED, finding, advice, figures)


def connect_shared(windows: CheckedWindows) -> tuple[NDArray[np.int64], int]:
    """Join windows that hold the same samples.

    Returns
    -------
    stretch : ndarray of shape (N,), int64
        Windows that are joined, over others or directly, have the same number, from 0.
    n_across : int
        Windows joined to one of another group, or without groups to any; 0 when they are so few
        that a sensor at rest explains it.
    """
    n_windows = len(windows)
    X = np.ascontiguousarray(windows.X, np.float32)
    everyone, pairs = np.arange(n_windows), []
    # Two places differ in a bit at least: so every pair is compared.
    for bit in range(max(1, (n_windows - 1).bit_length())):
        for side in (0, 1):
            rows = everyone[(everyone >> bit & 1) == side]
            among = everyone[(everyone >> bit & 1) != side]
            pairs.append(np.stack(shared_stretches(X, windows.lengths, rows, among, share=_SHARE)))
    left, right = np.concatenate(pairs, axis=1)
    joined = coo_array((np.ones(len(left)), (left, right)), shape=(n_windows, n_windows))
    _, stretch = connected_components(joined, directed=False)
    across = windows.split_unit[left] != windows.split_unit[right]
    n_across = len(np.unique(np.concatenate([left[across], right[across]])))
    return stretch.astype(np.int64), n_across if n_across > _TOLERATED * n_windows else 0
