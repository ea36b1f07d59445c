"""Checks of classes: their shares, and those that a part lacks."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.part import Finding, Ints, Part

DOMINANT = 0.9  # share of the windows
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
