"""Checks of classes: their shares, those a part lacks, and those that the length gives away."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.part import Finding, Ints, Part

DOMINANT = 0.9  # share of the windows
LEAST_INFORMATION = 0.3  # of the entropy of the classes that the lengths tell
MOST_BINS, LEAST_IN_BIN = 10, 20  # windows: fewer tell of a class by chance
MANY_UNSEEN = 0.05  # of the validation windows


def check_shares(
    target: Ints, classes: Sequence[Any], groups: NDArray[Any] | None = None
) -> Iterator[Finding]:
    """Yield it when one class dominates, or one has a single window or a single group."""
    counts = np.bincount(target, minlength=len(classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    share = float(counts[largest] / counts.sum())
    if share > DOMINANT:
        yield Finding(
            "dominant_class",
            {"class": largest, "share": share},
            f"{share:.0%} of the windows belong to class {classes[largest]!r}: a classifier that"
            " always predicts it reaches that accuracy, and the loss rewards it for that.",
            "Use class_weight='balanced' or sampler='balanced', and compare balanced accuracy.",
        )
    if counts[smallest] < 2:
        n_single = int((counts < 2).sum())
        yield Finding(
            "single_window",
            {"class": smallest, "n_classes": n_single},
            f"class {classes[smallest]!r} of y has one window ({n_single} such class"
            f"{'es' if n_single > 1 else ''}), so validation cannot show whether it is learned.",
            "Record more of it, or drop the class.",
        )
    elif groups is not None:
        of_class = [len(np.unique(groups[target == k])) for k in range(len(classes))]
        alone = int(np.argmin(of_class))
        if of_class[alone] < 2:
            yield Finding(
                "single_group",
                {"class": alone},
                f"All windows of class {classes[alone]!r} come from one group: the network may"
                " learn that group instead of the class.",
                "Record the class again in another group.",
            )


def check_classes(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield classes that one of the parts has no window of."""
    if validation is None:
        return
    ours, theirs = np.unique(train.target), np.unique(validation.target)
    unlearned, unseen = np.setdiff1d(theirs, ours), np.setdiff1d(ours, theirs)
    if len(unlearned):
        n = int(np.isin(validation.target, unlearned).sum())
        are = "window belongs to one" if n == 1 else "windows belong to such classes"
        yield Finding(
            "class_not_in_training",
            {"n_windows": n, "severe": n > MANY_UNSEEN * len(validation)},
            f"There is no training window of class {train.name_classes(unlearned)}: {n} of"
            f" {len(validation)} validation {are}, and cannot be predicted correctly.",
            "Split so that every part has every class, or drop the class.",
        )
    if len(unseen) and len(validation) >= 5 * len(ours):  # else a small part lacks one by chance
        n = int(np.isin(train.target, unseen).sum())
        yield Finding(
            "class_not_in_validation",
            {"n_windows": n},
            f"There is no validation window of class {train.name_classes(unseen)}, which has {n} of"
            f" {len(train)} training windows: validation measures a different problem.",
            "Split so that every part has every class.",
        )


def check_lengths(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield it when the length of a window gives its class away."""
    classes, target = np.unique(train.target, return_inverse=True)
    n_bins = min(MOST_BINS, len(train) // max(LEAST_IN_BIN, 2 * len(classes)))
    if train.lengths is None or len(classes) < 2 or n_bins < 2:
        return
    edges = np.unique(np.quantile(train.lengths, np.arange(1, n_bins) / n_bins))
    table = np.zeros((len(edges) + 1, len(classes)))
    np.add.at(table, (np.searchsorted(edges, train.lengths, side="right"), target), 1)
    share = _share_told(table)
    if share < LEAST_INFORMATION:
        return
    medians = [float(np.median(train.lengths[target == k])) for k in range(len(classes))]
    short, long = int(np.argmin(medians)), int(np.argmax(medians))
    yield Finding(
        "length_tells_class",
        {"share": share},
        f"The length of a window determines {share:.0%} of its class: the median is"
        f" {medians[short]:.0f} steps for {train.name_classes([classes[short]])} and"
        f" {medians[long]:.0f} for {train.name_classes([classes[long]])}. The network may learn the"
        " length instead of the signal.",
        "Cut windows of one length, unless lengths will differ in the same way on the robot.",
    )


def _share_told(table: NDArray[np.float64]) -> float:
    """Return the mutual information of rows and columns, over the entropy of the columns."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    information = _entropy(rows) + _entropy(columns) - _entropy(table)
    # what chance adds, to first order (Miller and Madow)
    information -= ((rows > 0).sum() - 1) * (len(columns) - 1) / (2 * table.sum())
    return information / _entropy(columns)


def _entropy(counts: NDArray[np.float64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
