"""What can be seen in the windows without training: dead channels, rare classes, shared samples."""

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
    """Every channel must vary somewhere."""
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
        f"{len(dead)} of {n_channels} channels have one value in all windows: {named}. Nothing"
        " can be learned from them.",
        "Look at the sensor and how it was read, or leave the channel out.",
        figures,
    )


def check_classes(windows: CheckedWindows) -> CheckResult:
    """Every class must have windows to learn from and to be judged by."""
    counts = np.bincount(windows.y, minlength=len(windows.classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    share = counts[largest] / counts.sum()
    figures = {"smallest": int(counts[smallest]), "largest_share": float(share)}
    if share > _DOMINANT:
        return CheckResult(
            "classes_have_windows",
            FAILED,
            f"{share:.0%} of the windows are of class {windows.classes[largest]!r}: a classifier"
            " that always says so is right as often, and the loss rewards it for that.",
            "Take class_weight='balanced' or sampler='balanced', and judge by balanced accuracy.",
            figures,
        )
    if counts[smallest] < 2:
        return CheckResult(
            "classes_have_windows",
            FAILED,
            f"Class {windows.classes[smallest]!r} has one window: it cannot be learned from and"
            " judged by.",
            "Record more of it, or leave the class out.",
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
                f"All windows of class {windows.classes[alone]!r} are of one group: the class"
                " cannot be told from what else is particular to that group.",
                "Record the class a second time, in another group.",
                figures,
            )
    return CheckResult(
        "classes_have_windows",
        PASSED,
        f"Each of the {len(counts)} classes has {counts[smallest]} windows or more, and the"
        f" largest {share:.0%} of all.",
        figures=figures,
    )


def check_separate(windows: CheckedWindows) -> CheckResult:
    """Windows that a split may put on different sides must share no samples."""
    if len(np.unique(windows.split_unit)) < 2:
        return CheckResult("groups_share_no_samples", NOT_POSSIBLE, "All windows are of one group.")
    _, n_across = connect_shared(windows)
    figures = {"n_windows": len(windows), "n_sharing": n_across}
    kind = "windows" if windows.groups is None else "groups"
    if not n_across:
        return CheckResult(
            "groups_share_no_samples",
            PASSED,
            f"No two {kind} hold the same samples, as far as {len(windows)} windows show.",
            figures=figures,
        )
    if windows.groups is None:
        finding = (
            f"{n_across} of {len(windows)} windows overlap or repeat another, and without groups= a"
            " split puts them on both sides: validation asks for what was learned by heart."
        )
        advice = "Give groups= with the recording of each window."
    else:
        finding = (
            f"{n_across} of {len(windows)} windows hold samples that a window of another group"
            " holds, too: validation asks for what was learned by heart."
        )
        advice = "Look at how groups= was made: what overlaps or was copied belongs to one group."
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
