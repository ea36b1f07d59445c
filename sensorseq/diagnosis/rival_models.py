"""Compare a network with ridge regression and boosted trees on features of the same data."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sensorseq.diagnosis import thresholds as limits
from sensorseq.diagnosis.statements import ReportContents, statement_of
from sensorseq.errors import ArgumentError
from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.ridge import Fold
from sensorseq.learners.kinds import all_learners
from sensorseq.learners.learner import Folds, LearnerData
from sensorseq.learners.linear import LinearLearner
from sensorseq.prediction.checked_windows import Windows
from sensorseq.preprocessing.scale import fit_scaler

Report = TypeVar("Report", bound=ReportContents)
Ints = NDArray[np.int64]

Compared = tuple[Windows, Windows, Ints]  # `train`, `validation` and `rows` of `compare_level`
MOST_WINDOWS = 1_000  # maximum number of windows per part; the rivals then take two seconds
_CONVOLUTIONS, _FOLDS = 2_016, 4


def compare_level(
    report: Report, train: Windows, validation: Windows, rows: Ints | None = None
) -> Report:
    """Add a statement to the report if a rival does better than the network.

    `validation` contains the windows of `val_accuracy`, either all of them in order or those with
    the indices `rows`. Without a record, only the number of correct windows is known, so these
    windows are assumed to differ from the rival's correct windows as much as possible.
    """
    record, epoch = report.record, report.best_epoch or report.n_epochs
    positions = rows = np.arange(len(validation)) if rows is None else rows
    right = None
    if record is not None and len(record.val_predicted) >= epoch > 0:
        _, at, positions = np.intersect1d(record.val_rows, rows, return_indices=True)
        right = (record.val_predicted[epoch - 1] == record.val_target)[at]
    accuracies = report.history.get("val_accuracy", [])[:epoch]
    if right is None and (not accuracies or accuracies[-1] is None):
        return report
    sample = spread(len(positions))
    n = len(sample)
    n_right = round(n * accuracies[-1]) if right is None else int(right[sample].sum())
    n_wrong = n - n_right  # a rival might classify all of these windows correctly
    if n_wrong < limits.LEVEL_GAP * n or 0.5**n_wrong > limits.LEVEL_ALPHA:
        return report
    compared = validation.take(positions[sample])
    for name, predicted in rivals(train, compared):
        rival = predicted == compared.target
        network = _least_overlap(rival, n_right) if right is None else right[sample]
        if is_below(network, rival, compared.groups):
            accuracy = float(rival.mean())
            statement = statement_of(
                "below_data", network=n_right / n, rival=name, accuracy=accuracy
            )
            causes = report.causes_if_below or report.causes
            return replace(report, statements=(statement, *report.statements), causes=causes)
    return report


def read_parts(
    X: Any, y: Any, X_val: Any, y_val: Any, groups: Any = None, groups_val: Any = None
) -> tuple[Windows, Windows]:
    """Check the caller's training and validation windows; return them with coded labels."""
    arguments = {"X": X, "y": y, "X_val": X_val, "y_val": y_val}
    missing = [name for name, values in arguments.items() if values is None]
    if missing:
        raise ArgumentError(
            f"{', '.join(missing)} missing: give all of X, y, X_val and y_val, or none of them."
        )
    labels = [np.asarray(values) for values in (y, y_val)]
    codes = np.unique(np.concatenate(labels), return_inverse=True)[1]
    parts = []
    for suffix, windows, target, part_groups in (
        ("", X, codes[: len(labels[0])], groups),
        ("_val", X_val, codes[len(labels[0]) :], groups_val),
    ):
        values = np.asarray(windows, np.float32)
        n_groups = len(target) if part_groups is None else len(part_groups)
        sizes = {len(values), len(target), n_groups}
        if values.ndim not in (2, 3) or len(sizes) > 1 or not np.isfinite(values).all():
            raise ArgumentError(
                f"X{suffix} has shape {values.shape}, with {len(target)} labels; expected finite"
                " windows (n, t, c) or (n, t), and a label (and group, if given) for each window."
            )
        values = values if values.ndim == 3 else values[:, :, None]
        lengths = np.full(len(values), values.shape[1])
        part_groups = None if part_groups is None else np.asarray(part_groups)
        parts.append(Windows(values, lengths, target=target, groups=part_groups))
    return parts[0], parts[1]


def spread(n_windows: int) -> Ints:
    """Return indices of the windows to compare: all, or MOST_WINDOWS evenly spaced ones."""
    count = min(n_windows, MOST_WINDOWS)
    return np.linspace(0, n_windows - 1, count).round().astype(np.int64)


def is_below(network: Any, rival: Any, groups: Any) -> bool:
    """Test whether a rival is correct on significantly more windows than the network.

    This is a sign test over groups if there are enough groups, and over windows otherwise.
    """
    network, rival = np.asarray(network, bool), np.asarray(rival, bool)
    difference = rival.astype(np.int64) - network
    gap = limits.LEVEL_GAP
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
        if codes.max() + 1 >= limits.LEVEL_GROUPS:
            difference = np.bincount(codes, difference).astype(np.int64)
        else:
            gap = limits.LEVEL_GAP_OF_FEW_GROUPS
    is_wide = rival.mean() - network.mean() >= gap
    return bool(is_wide and sign_test(difference) <= limits.LEVEL_ALPHA)


def sign_test(differences: Ints) -> float:
    """Return the probability of a sum this large or larger if each number had a random sign."""
    sizes = np.abs(differences[differences != 0])
    chance = np.ones(1)  # probability of each possible sum, from the lowest to the highest
    for size in sizes:
        wider = np.zeros(len(chance) + 2 * size)
        wider[: len(chance)] += 0.5 * chance
        wider[2 * size :] += 0.5 * chance
        chance = wider
    return float(chance[int(differences.sum() + sizes.sum()) :].sum())


def _least_overlap(rival: NDArray[np.bool_], n_right: int) -> NDArray[np.bool_]:
    """Return a mask of `n_right` correct windows, as different from the rival's as possible."""
    network = np.zeros(len(rival), bool)
    network[np.argsort(rival, kind="stable")[:n_right]] = True
    return network


def rivals(train: Windows, validation: Windows) -> Iterator[tuple[str, Ints]]:
    """Yield each rival's name and predicted validation classes, the fastest rival first."""
    train = train.take(spread(len(train)))
    classes, target = np.unique(train.target, return_inverse=True)
    if len(classes) < 2:
        return
    scaler = fit_scaler(train.X, train.lengths)
    (X, lengths), shown = (
        (scaler.transform(part.X, part.lengths), None if part.are_full else part.lengths)
        for part in (train, validation)
    )
    every, seed = np.arange(len(target)), np.random.SeedSequence(0)
    data = LearnerData(X, lengths, target, np.ones(len(target)), len(classes), every)
    for name, learners, pairs in (
        ("ridge on features", (LinearLearner(_convolutions), all_learners()["summary"]), True),
        ("boosting on features", (all_learners()["boosting"],), False),
    ):
        folds = Folds(_folds(train) if pairs else [], every)
        members = [learner.fit(data, folds, seed).member for learner in learners]
        logits = np.sum([member.logits(*shown) for member in members], axis=0)
        yield name, classes[logits.argmax(axis=1)]


def _convolutions(data: LearnerData, seed: np.random.SeedSequence) -> RandomConvolutions:
    convolutions = RandomConvolutions(_CONVOLUTIONS, random_state=0, pad=True)
    return convolutions.fit(data.X, data.lengths)


def _folds(train: Windows) -> list[Fold]:
    codes = np.arange(len(train))
    if train.groups is not None and len(np.unique(train.groups)) >= _FOLDS:
        codes = np.unique(train.groups, return_inverse=True)[1]
    fold = (np.random.default_rng(0).permutation(codes.max() + 1) % _FOLDS)[codes]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(_FOLDS)]
