"""check_classes and check_lengths: classes that a part lacks, and those their length gives away."""

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Names, Part
from sensorseq.fluctuation.run import plural

LEAST_INFORMATION = 0.3  # of the entropy of the classes that the lengths tell
MOST_BINS = 10
LEAST_IN_BIN = 20  # windows: fewer tell of a class by chance
MOST_NAMED = 4


def check_classes(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return classes that one of the parts has no window of."""
    if validation is None:
        return []
    ours, theirs = np.unique(train.target), np.unique(validation.target)
    found = []
    unlearned = np.setdiff1d(theirs, ours)
    if len(unlearned):
        n = int(np.isin(validation.target, unlearned).sum())
        found.append(
            Cause(
                "data_bug",
                "supported",
                0.4 if n > 0.05 * len(validation) else 0.2,
                f"There is no training window of class {_named(unlearned, names)}, and"
                f" {plural(n, 'validation window')} of {len(validation)}: these cannot be learned.",
                finding="class missing in training",
                advice="Split such that every part has every class, or leave the class out.",
            )
        )
    unseen = np.setdiff1d(ours, theirs)
    if len(unseen) and len(validation) >= 5 * len(ours):  # else a small part lacks one by chance
        n = int(np.isin(train.target, unseen).sum())
        found.append(
            Cause(
                "distribution_shift",
                "supported",
                0.15,
                f"There is no validation window of class {_named(unseen, names)}, which has {n} of"
                f" {len(train)} training windows: validation measures another problem.",
                finding="class missing in validation",
                advice="Split such that every part has every class.",
            )
        )
    return found


def _named(codes: NDArray[np.int64], names: Names) -> str:
    shown = ", ".join(names.class_(int(code)) for code in codes[:MOST_NAMED])
    return shown + (", ..." if len(codes) > MOST_NAMED else "")


def check_lengths(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return it when the length of a window gives its class away."""
    if train.lengths is None:
        return []
    classes, target = np.unique(train.target, return_inverse=True)
    n_bins = min(MOST_BINS, len(train) // max(LEAST_IN_BIN, 2 * len(classes)))
    if len(classes) < 2 or n_bins < 2:
        return []
    edges = np.unique(np.quantile(train.lengths, np.arange(1, n_bins) / n_bins))
    bins = np.searchsorted(edges, train.lengths, side="right")
    table = np.zeros((len(edges) + 1, len(classes)))
    np.add.at(table, (bins, target), 1)
    information, entropy = _information(table)
    # what chance adds, to first order (Miller and Madow)
    filled = (table.sum(axis=1) > 0).sum()
    information -= (filled - 1) * (len(classes) - 1) / (2 * len(train))
    if entropy <= 0 or information < LEAST_INFORMATION * entropy:
        return []
    medians = [float(np.median(train.lengths[target == k])) for k in range(len(classes))]
    short, long = int(np.argmin(medians)), int(np.argmax(medians))
    return [
        Cause(
            "data_bug",
            "supported",
            0.1,
            f"The length of a window tells {100 * information / entropy:.0f} % of its class: the"
            f" median is {medians[short]:.0f} steps for {names.class_(int(classes[short]))} and"
            f" {medians[long]:.0f} for {names.class_(int(classes[long]))}. The network may learn"
            " the length in place of the signal.",
            finding="length tells the class",
            advice="Cut windows of one length, unless lengths will differ so on the robot as well.",
        )
    ]


def _information(table: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mutual information of rows and columns, and the entropy of columns, in nats."""
    joint = table / table.sum()
    row, column = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    some = joint > 0
    information = float((joint[some] * np.log(joint[some] / (row * column)[some])).sum())
    present = column[column > 0]
    return information, float(-(present * np.log(present)).sum())
