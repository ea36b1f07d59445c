"""Scores of predictions per window and per recording, with intervals from resampling groups."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.layout import WIDTH, table
from sensorseq.base.text import html_table, percent
from sensorseq.errors import ArgumentError
from sensorseq.evaluation.calibration import (
    N_RESAMPLES,
    CalibrationBin,
    Interval,
    are_probabilities,
    calibration_error,
    index_of,
    percentile_interval,
    plain_interval,
    read_predictions,
    resampling_weights,
    sign_flips,
)
from sensorseq.evaluation.text import NAMES, format_interval
from sensorseq.prediction.decisions import recording_prediction

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
_CELLS_AT_ONCE = 2_000_000  # number of cells of permuted confusion matrices in memory at a time
_MANY_RECORDINGS = 40
FEW_GROUPS = 10  # with fewer groups, percentile intervals are clearly too narrow


@dataclass(frozen=True)
class RecordingScore:
    """The predictions for one recording.

    `label` is None if the recording has windows of several classes. `vote` is the majority vote of
    the windows, with ties broken by the higher mean probability; `predicted` is the class with the
    highest mean `probability`.
    """

    recording_id: str
    group: str
    label: Any
    n_windows: int
    accuracy: float
    vote: Any
    predicted: Any
    probability: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of one classifier on one set of windows.

    `confusion_matrix` (K, K) has true classes in rows; `group_confusion` (n_groups, K, K) has one
    matrix for each group, for paired comparisons. Besides scores over windows, `scores` contains
    ``calibration_error``, and the fractions of recordings that are classified correctly by majority
    vote (``recording_vote``) and by mean probability (``recording_mean``). `reliability` contains
    the bins of the calibration error, which is NaN if the predictions are not probabilities.
    `intervals` come from resampling whole groups. `recordings` are sorted by label and id.
    """

    classes: NDArray[Any]
    confusion_matrix: NDArray[np.int64]
    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]
    recordings: tuple[RecordingScore, ...]
    n_groups: int
    group_confusion: NDArray[np.int64] = field(repr=False)
    reliability: tuple[CalibrationBin, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return "\n\n".join((scores_text(self), confusion_text(self), recordings_text(self)))

    def __repr__(self) -> str:
        return (
            f"<Evaluation of {self.n_windows} windows of {len(self.recordings)} recordings:"
            f" accuracy {percent(self.scores['accuracy'])}>"
        )

    def _repr_html_(self) -> str:
        """Show the scores as a table in a notebook."""
        heads = ["", "score", "95 % interval by group"]
        return html_table(repr(self)[1:-1], heads, score_rows(self))

    @property
    def n_windows(self) -> int:
        """The number of windows."""
        return int(self.confusion_matrix.sum())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for `json.dumps`, with None for NaN."""
        return {
            **{name: self.scores[name] for name in METRICS},
            "confusion_matrix": self.confusion_matrix.tolist(),
            "classes": self.classes.tolist(),
            "intervals": {name: plain_interval(i) for name, i in self.intervals.items()},
            "recording_vote": _number(self.scores["recording_vote"]),
            "recording_mean": _number(self.scores["recording_mean"]),
            "calibration_error": _number(self.scores["calibration_error"]),
            "n_windows": self.n_windows,
            "n_recordings": len(self.recordings),
            "n_groups": self.n_groups,
            "recordings": [
                {**asdict(row), "probability": list(row.probability)} for row in self.recordings
            ],
        }


def score_predictions(
    y: ArrayLike,
    probability: ArrayLike,
    classes: ArrayLike,
    *,
    recording_id: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score predicted probabilities.

    Windows of one recording are similar, so intervals come from resampling whole groups with
    replacement [1]_. The intervals extend from the 2.5 % to the 97.5 % quantile of the score over
    `n_resamples` resamples. With fewer than about ten groups, the intervals are too narrow; with
    fewer than five groups, they are NaN.

    Parameters
    ----------
    y : array-like of shape (N,)
        True labels.
    probability : array-like of shape (N, K)
        Probability of each class, or any other score. The class with the highest value is
        predicted.
    classes : array-like of shape (K,)
        Labels of the columns.
    recording_id, groups : array-like of shape (N,), optional
        The recording and the group of each window; by default, every window is independent.
    n_resamples : int, default=2000
        Number of resamples for the intervals.
    seed : int, default=0
        The same seed and groups give the same resamples, which makes comparisons paired.

    Raises
    ------
    InputError
        If there are no windows, the shapes disagree, or a label is not in `classes`.

    References
    ----------
    .. [1] A. C. Davison, D. V. Hinkley, *Bootstrap Methods and their Application*, 1997, section
       3.8: resampling whole clusters.
    """
    labels, scores, names = read_predictions(y, probability, classes, "score")
    ids = np.arange(len(labels)) if recording_id is None else np.asarray(recording_id)
    group = ids if groups is None else np.asarray(groups)
    true_index = index_of(labels, names)
    predicted_index = scores.argmax(axis=1)
    groups_named, group_index = np.unique(group, return_inverse=True)
    group_confusion = np.zeros((len(groups_named), len(names), len(names)), np.int64)
    np.add.at(group_confusion, (group_index, true_index, predicted_index), 1)
    total = group_confusion.sum(axis=0)
    weights = resampling_weights(len(group_confusion), n_resamples, seed)
    recordings = _score_recordings(labels, scores, predicted_index, names, ids, group)
    calibration, interval = float("nan"), Interval(float("nan"), float("nan"))
    bins: tuple[CalibrationBin, ...] = ()
    if are_probabilities(scores):
        calibration, interval, _, bins = calibration_error(
            labels, scores, names, groups=group, n_resamples=n_resamples, seed=seed
        )
    point, drawn = scores_of(total), scores_of(_resampled(group_confusion, weights))
    results = {
        name: (float(point[name]), percentile_interval(drawn[name], len(groups_named)))
        for name in METRICS
    }
    results |= _score_decisions(recordings, group, weights)
    results["calibration_error"] = (calibration, interval)
    return Evaluation(
        classes=names,
        confusion_matrix=total,
        scores={name: value for name, (value, _) in results.items()},
        intervals={name: interval for name, (_, interval) in results.items()},
        recordings=recordings,
        n_groups=len(group_confusion),
        group_confusion=group_confusion,
        reliability=bins,
    )


class ScoreDifference(NamedTuple):
    """The score of one classifier minus that of another on the same windows.

    The interval comes from resampling whole groups; `p_value` is the probability of a difference at
    least this large, in either direction, if the two classifiers were exchangeable in every group.
    """

    value: float
    interval: Interval
    p_value: float


def compare(
    first: Evaluation, second: Evaluation, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, ScoreDifference]:
    """Return the scores of `first` minus those of `second`, with paired intervals and tests.

    Both classifiers are scored on the same resampled groups, so the difficulty of a resample
    cancels out. The test is a permutation test that exchanges the two classifiers' predictions in
    whole groups (P. I. Good, *Permutation, Parametric and Bootstrap Tests of Hypotheses*, 2005,
    section 3.2). The test is exact if the predictions differ in at most 13 groups; otherwise, it
    uses 10,000 random permutations. If the predictions differ in n groups, the p-value is at least
    ``2 / 2**n``.
    """
    a, b = first.group_confusion, second.group_confusion
    if a.shape != b.shape or not np.array_equal(a.sum(axis=2), b.sum(axis=2)):
        raise ArgumentError(
            "the two evaluations use different windows; score both on the same windows."
        )
    weights = resampling_weights(len(a), n_resamples, seed)
    drawn_a, drawn_b = (scores_of(_resampled(confusion, weights)) for confusion in (a, b))
    p_values = _sign_flip_test(a, b, seed)
    return {
        name: ScoreDifference(
            first.scores[name] - second.scores[name],
            percentile_interval(drawn_a[name] - drawn_b[name], len(a)),
            p_values[name],
        )
        for name in METRICS
    }


def scores_of(confusion: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Return accuracy, balanced accuracy and macro-F1 of confusion matrices (..., K, K).

    As in scikit-learn, a class without windows is left out of the balanced accuracy, and a class
    neither true nor predicted is left out of macro-F1.
    """
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(true > 0, right / true, np.nan)
        f1 = np.where(true + predicted > 0, 2 * right / (true + predicted), np.nan)
    return {
        "accuracy": right.sum(axis=-1) / true.sum(axis=-1),
        "balanced_accuracy": np.nanmean(recall, axis=-1),
        "macro_f1": np.nanmean(f1, axis=-1),
    }


def _resampled(
    group_confusion: NDArray[np.int64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    n_groups, k, _ = group_confusion.shape
    flat = weights.astype(np.float64) @ group_confusion.reshape(n_groups, k * k)
    return np.asarray(flat.reshape(len(weights), k, k))


def _sign_flip_test(a: NDArray[np.int64], b: NDArray[np.int64], seed: int) -> dict[str, float]:
    """Return each score's two-sided p-value, found by exchanging whole groups."""
    differ = np.flatnonzero((a != b).any(axis=(1, 2)))
    flips = sign_flips(len(differ), seed)
    # Exchanging a group adds its `change` to `a` and subtracts it from `b`.
    change = (b - a)[differ]
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    at_once = max(1, _CELLS_AT_ONCE // total_a.size)
    sizes: dict[str, list[NDArray[np.float64]]] = {name: [] for name in METRICS}
    for at in range(0, len(flips), at_once):
        moved = _resampled(change, flips[at : at + at_once].astype(np.int64))
        scores_a, scores_b = scores_of(total_a + moved), scores_of(total_b - moved)
        for name in METRICS:
            sizes[name].append(np.abs(scores_a[name] - scores_b[name]))
    result = {}
    for name, parts in sizes.items():
        size = np.concatenate(parts)
        # The tolerance allows for rounding, because equal scores may be summed in different orders.
        result[name] = float((size >= size[0] - 1e-12).mean())
    return result


def _score_recordings(
    labels: NDArray[Any],
    probability: NDArray[np.float64],
    predicted_index: NDArray[np.int64],
    classes: NDArray[Any],
    recording_id: NDArray[Any],
    groups: NDArray[Any],
) -> tuple[RecordingScore, ...]:
    names = classes.tolist()
    true_index = index_of(labels, classes)
    rows = []
    for name in np.unique(recording_id).tolist():
        members = np.flatnonzero(recording_id == name)
        present = np.unique(true_index[members])
        vote, best, mean = recording_prediction(probability[members])
        rows.append(
            (
                int(present[0]),
                RecordingScore(
                    recording_id=str(name),
                    group=str(groups[members[0]]),
                    label=names[present[0]] if len(present) == 1 else None,
                    n_windows=len(members),
                    accuracy=float((predicted_index[members] == true_index[members]).mean()),
                    vote=names[vote],
                    predicted=names[best],
                    probability=tuple(mean.tolist()),
                ),
            )
        )
    return tuple(row for _, row in sorted(rows, key=lambda pair: (pair[0], pair[1].recording_id)))


def _score_decisions(
    recordings: Sequence[RecordingScore], group: NDArray[Any], weights: NDArray[np.int64]
) -> dict[str, tuple[float, Interval]]:
    """Score the decisions about recordings with one label, by vote and by mean probability."""
    row_of = {str(name): row for row, name in enumerate(np.unique(group).tolist())}
    judged, vote, mean = np.zeros((3, weights.shape[1]))
    for recording in recordings:
        if recording.label is not None:
            row = row_of[recording.group]
            judged[row] += 1
            vote[row] += recording.vote == recording.label
            mean[row] += recording.predicted == recording.label
    with np.errstate(invalid="ignore"):  # NaN if a resample has no recording with one label
        return {
            name: (
                float(right.sum() / judged.sum()),
                percentile_interval((weights @ right) / (weights @ judged), len(judged)),
            )
            for name, right in (("recording_vote", vote), ("recording_mean", mean))
        }


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def score_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the name, value and interval of each score that is not NaN."""
    return [
        [NAMES[name], percent(evaluation.scores[name]), format_interval(evaluation.intervals[name])]
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
        if np.isfinite(evaluation.scores[name])
    ]


def scores_text(evaluation: Evaluation) -> str:
    """Format the scores with their intervals as a table."""
    return table(["", "score", "95 % interval by group"], score_rows(evaluation))


def confusion_text(evaluation: Evaluation) -> str:
    """Format the confusion matrix if it fits the width, otherwise the recall of each class."""
    names = [str(name) for name in evaluation.classes.tolist()]
    matrix = evaluation.confusion_matrix
    recall = [
        percent(matrix[i, i] / matrix[i].sum()) if matrix[i].sum() else "-"
        for i in range(len(names))
    ]
    for length in (12, 8, 5, 3):
        short = [name[:length] for name in names]
        rows = [
            [names[i][:16], *(str(count) for count in matrix[i].tolist()), recall[i]]
            for i in range(len(names))
        ]
        text = table(["true \\ predicted", *short, "recall"], rows, right=range(1, len(names) + 2))
        if max(len(line) for line in text.splitlines()) <= WIDTH:
            return text
    rows = [[name, *recall[i : i + 1]] for i, name in enumerate(names)]
    return table(["class", "recall"], rows, right=(1,)) + "\n(--json has the confusion matrix)"


def recordings_text(evaluation: Evaluation) -> str:
    """Summarize the classification of each recording."""
    rows = [
        [
            row.recording_id if len(row.recording_id) <= 34 else "..." + row.recording_id[-31:],
            str(row.n_windows),
            percent(row.accuracy),
            "correct" if row.label == row.predicted else f"wrong: {row.predicted}",
        ]
        for row in evaluation.recordings
        if row.label is not None
    ]
    judged = [row for row in evaluation.recordings if row.label is not None]
    if not judged:
        return "every recording has windows of several classes"
    n_right = sum(row.label == row.predicted for row in judged)
    head = f"recordings classified correctly: {n_right} of {len(judged)}"
    if len(rows) > _MANY_RECORDINGS:
        wrong = [row for row in rows if row[3] != "correct"]
        rows, head = wrong[:_MANY_RECORDINGS], f"{head}; the others:"
    heads = ["recording", "windows", "accuracy", "by mean probability"]
    return f"{head}\n{table(heads, rows, right=(1, 2))}" if rows else head
