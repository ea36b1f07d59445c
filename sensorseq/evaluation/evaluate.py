"""Evaluate a model: on test recordings it has never seen, or by folds of whole groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.baselines import BASELINES, predict_baseline
from sensorseq.evaluation.fold_windows import check_whole_recordings, choose_fold_windows
from sensorseq.evaluation.labels import check_known_labels
from sensorseq.evaluation.metrics import (
    FEW_GROUPS,
    METRICS,
    Evaluation,
    compare,
    score_predictions,
)
from sensorseq.evaluation.resampling import plain_interval
from sensorseq.preprocessing.balance import balance_indices
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.training.preparation import augment_as_told, seen_recordings
from sensorseq.windows import WindowSet

Progress = Callable[[str], None]

_DOMINANT = 0.5  # share of its class's windows, from which on a recording decides its score
_FEWEST_TO_DOMINATE = 3  # recordings of the class; of two, one always holds half or more


class DominantRecording(NamedTuple):
    """A recording that holds most windows of its class.

    Parameters
    ----------
    recording_id : str
        The recording.
    label : str, int, float or bool
        The class.
    share : float
        Its share of the class's windows, above 0.5.
    """

    recording_id: str
    label: Any
    share: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model and its baselines, scored on the same windows.

    Parameters
    ----------
    model : Evaluation
        The model's scores.
    baselines : dict of str to Evaluation
        Scores of each baseline, fitted on the same training windows.
    protocol : str
        A description of what the scores were measured on.
    notes : tuple of str
        Caveats to read before trusting the figures.
    fold_accuracy : tuple of float
        Accuracy in each fold; empty for a test part.
    seen : tuple of str
        Evaluated recordings that were in the training data; empty unless that was allowed.
    dominant : tuple of DominantRecording
        Recordings with more than half of the evaluated windows of their class; the notes name
        them.
    """

    model: Evaluation
    baselines: dict[str, Evaluation]
    protocol: str
    notes: tuple[str, ...] = ()
    fold_accuracy: tuple[float, ...] = ()
    seen: tuple[str, ...] = ()
    dominant: tuple[DominantRecording, ...] = ()

    @property
    def fold_mean(self) -> float | None:
        """Mean of the fold accuracies; None for a test part."""
        return float(np.mean(self.fold_accuracy)) if self.fold_accuracy else None

    @property
    def fold_sd(self) -> float | None:
        """Standard deviation of the fold accuracies (n - 1); None for a test part."""
        return float(np.std(self.fold_accuracy, ddof=1)) if self.fold_accuracy else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with the model's scores at the top level."""
        return {
            **self.model.to_dict(),
            "protocol": self.protocol,
            "notes": list(self.notes),
            "fold_accuracy": list(self.fold_accuracy),
            "fold_accuracy_mean": self.fold_mean,
            "fold_accuracy_sd": self.fold_sd,
            "dominant_recordings": [row._asdict() for row in self.dominant],
            "seen_recordings": list(self.seen),
            "baselines": {
                name: {
                    **{metric: baseline.scores[metric] for metric in METRICS},
                    "intervals": {
                        metric: plain_interval(interval)
                        for metric, interval in baseline.intervals.items()
                    },
                    "recording_vote": baseline.to_dict()["recording_vote"],
                    "difference": {
                        metric: {
                            "value": d.value,
                            "interval": plain_interval(d.interval),
                            "p_value": d.p_value,
                        }
                        for metric, d in compare(self.model, baseline).items()
                    },
                }
                for name, baseline in self.baselines.items()
            },
        }


def evaluate_test(
    model: SensorLSTMClassifier,
    windows: WindowSet,
    *,
    baselines: Sequence[str] = BASELINES,
    include_seen: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Score a model on the test part of windows, next to baselines.

    The baselines are fitted on the windows that the model was trained on: the train part, and the
    validation part if the model was refitted with it.

    Neither early stopping nor any statistic of the model uses test windows: `fit` does not read
    them, and recordings from the training data are rejected here.

    Parameters
    ----------
    model : SensorLSTMClassifier
        Fitted.
    windows : WindowSet
        Prepared like the training windows. Without a split, all of them are test windows.
    baselines : sequence of str
        Names from `BASELINES`; ignored without a train part.
    include_seen : bool, default=False
        Also score recordings from the training data; a note reports it.
    seed : int, default=0
        Seed of the resampling and the baselines.
    progress : callable, optional
        Called with a description of each step.

    Raises
    ------
    InputError
        If there are no labels or no test windows, a label is unknown to the model, or a recording
        was in the training data.
    """
    say = progress or (lambda message: None)
    test = windows if windows.split is None else windows.part("test")
    labels = _labels(test)
    if not len(test):
        raise InputError(
            "there is no test part to evaluate on; prepare with a test share, such as --split"
            " 0.6,0.2,0.2, or use --folds 5."
        )
    check_known_labels(labels, model.classes_)
    seen = seen_recordings(model.preparation_, test)
    if seen and not include_seen:
        some = ", ".join(seen[:3]) + (" ..." if len(seen) > 3 else "")
        by_time = PreparationOptions.recorded(windows.provenance).split_by == "time"
        way = (
            "These windows are split by time, so every recording is in each part. Use"
            " --include-seen to score later stretches of known recordings; to test on new"
            " recordings, prepare with --split-by group."
            if by_time
            else "Evaluate on the file it was trained on, or on new recordings; use --include-seen"
            " to score them anyway."
        )
        raise InputError(
            f"the model was trained on {len(seen)} of the {_n_recordings(test)} test recordings"
            f" ({some}); its score on them does not show how it does on new ones. {way}"
        )
    say("predicting test windows")
    score = _Scorer(test, model.classes_, seed)
    evaluated = score(model.predict_proba(test))
    compared: dict[str, Evaluation] = {}
    notes = _notes(evaluated, test)
    dominant = _dominant(test)
    notes += [
        f"{row.recording_id} holds {row.share:.0%} of the test windows of {row.label}: the recall"
        f" of {row.label} is mostly that of this recording."
        for row in dominant
    ]
    if seen:
        notes.insert(
            0,
            f"{len(seen)} of these recordings were in the training data (--include-seen), so the"
            " scores are inflated.",
        )
    if model.preparation_ is None:
        notes.append(
            "the model was trained on arrays, so it is not checked whether these recordings were"
            " in the training data."
        )
    train = None
    if windows.split is not None:  # what the model was trained on
        parts = ["train", "validation"] if model.refitted_ else ["train"]
        train = windows.take(np.flatnonzero(np.isin(windows.split, parts)))
    if train is None or not len(train):
        notes.append("there is no train part to fit baselines on, so no baselines are shown.")
    else:
        for name in baselines:
            say(f"fitting baseline {name}")
            compared[name] = score(predict_baseline(name, train, test, model.classes_, seed))
    protocol = (
        f"test part: {evaluated.n_windows} windows of {len(evaluated.recordings)} recordings"
        + ("" if seen or model.preparation_ is None else " the model never saw")
    )
    return Comparison(
        evaluated, compared, protocol, tuple(notes), seen=tuple(seen), dominant=dominant
    )


def evaluate_folds(
    model: SensorLSTMClassifier,
    windows: WindowSet,
    n_folds: int,
    *,
    baselines: Sequence[str] = BASELINES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Score a model's arguments by cross-validation over whole groups.

    For each fold a clone is fitted on the other groups, some of which it holds out for early
    stopping; the fold itself is only predicted. Every window is predicted once, and the scores are
    computed over all predictions together; `Comparison.fold_mean` is the mean over folds instead.

    In a file prepared with ``train_hop_s``, folds are trained on all windows of the train part, and
    tested only on those that start every ``hop_s``. A fold never shares a recording or a group
    with its training windows, so overlapping windows are never on both sides.

    Parameters
    ----------
    model : SensorLSTMClassifier
        Fitted or not; its arguments are used, not its weights.
    windows : WindowSet
        All of them are used, whatever their part; a split only tells which of them overlap.
    n_folds : int
        At least 2.
    baselines, seed, progress
        As in `evaluate_test`; the seed also decides the folds.

    Raises
    ------
    SplitError
        If a class has fewer groups than there are folds.
    InputError
        If there are no labels or groups, a recording has windows in several groups, or training
        windows start at other times than multiples of ``hop_s``.
    """
    say = progress or (lambda message: None)
    _labels(windows)
    if n_folds < 2:
        raise ArgumentError(f"folds={n_folds} must be at least 2.")
    if windows.groups is None:
        raise InputError("the windows have no groups; folds of single windows would leak.")
    check_whole_recordings(windows)
    may_test = choose_fold_windows(windows)
    tested = windows.take(may_test.rows)
    labels, groups = _labels(tested), np.asarray(tested.groups)
    classes = np.unique(labels)
    for label in classes.tolist():
        n_groups = len(np.unique(groups[labels == label]))
        if n_groups < n_folds:
            raise SplitError(
                f"class {label!r} has {n_groups} group(s), too few for {n_folds} folds; use --folds"
                f" {n_groups} or record more."
                if n_groups > 1
                else f"class {label!r} has one group, which cannot be used for both training and"
                " testing; record more."
            )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(len(labels)), labels, groups))
    probability = {name: np.zeros((len(labels), len(classes))) for name in ("model", *baselines)}
    accuracy = []
    for number, (train_rows, test_rows) in enumerate(parts, start=1):
        in_training = np.isin(np.asarray(windows.groups), groups[train_rows])
        train = replace(windows.take(np.flatnonzero(in_training)), split=None)
        rows = _balanced(train, seed)
        train = augment_as_told(train.take(rows), rows, seed)
        test = replace(tested.take(test_rows), split=None)
        say(f"fold {number} of {n_folds}: training on {len(train)} windows")
        fitted = clone(model).fit(train)
        columns = np.searchsorted(classes, fitted.classes_)
        probability["model"][np.ix_(test_rows, columns)] = fitted.predict_proba(test)
        right = classes[probability["model"][test_rows].argmax(axis=1)] == labels[test_rows]
        accuracy.append(float(right.mean()))
        for name in baselines:
            say(f"fold {number} of {n_folds}: baseline {name}")
            probability[name][test_rows] = predict_baseline(name, train, test, classes, seed)
    score = _Scorer(tested, classes, seed)
    evaluated = score(probability.pop("model"))
    dominant = _dominant(tested)
    notes = [*_notes(evaluated, tested), *may_test.notes]
    notes += [
        f"{row.recording_id} holds {row.share:.0%} of the windows of {row.label}: a fold that tests"
        f" it trains on little of {row.label}."
        for row in dominant
    ]
    return Comparison(
        evaluated,
        {name: score(values) for name, values in probability.items()},
        f"{n_folds} folds of whole groups: {evaluated.n_windows} windows of"
        f" {len(evaluated.recordings)} recordings, each predicted by a model that never saw it"
        + (f"; {may_test.protocol}" if may_test.protocol else ""),
        tuple(notes),
        fold_accuracy=tuple(accuracy),
        dominant=dominant,
    )


class _Scorer:
    """Scores any predictions of the same windows, over the same resampled groups."""

    def __init__(self, windows: WindowSet, classes: NDArray[Any], seed: int) -> None:
        self._windows, self._classes, self._seed = windows, classes, seed

    def __call__(self, probability: NDArray[np.float64]) -> Evaluation:
        return score_predictions(
            self._windows.y,  # type: ignore[arg-type]  # checked by _labels
            probability,
            self._classes,
            recording_id=self._windows.recording_id,
            groups=self._windows.groups,
            seed=self._seed,
        )


def _labels(windows: WindowSet) -> NDArray[Any]:
    if windows.y is None:
        raise InputError("the windows have no labels to compare with; use predict for those.")
    return windows.y


def _n_recordings(windows: WindowSet) -> int:
    return len(np.unique(np.asarray(windows.recording_id)))


def _balanced(train: WindowSet, seed: int) -> NDArray[np.int64]:
    """Balance a training fold as the windows' configuration says for their train part."""
    options = PreparationOptions.recorded(train.provenance)
    if options.balance is None:
        return np.arange(len(train))
    return balance_indices(
        _labels(train),
        np.asarray(train.groups),
        options.balance,
        seed,
        recording_id=np.asarray(train.recording_id),
        max_per_recording=options.max_per_recording,
    )


def _dominant(windows: WindowSet) -> tuple[DominantRecording, ...]:
    if windows.recording_id is None:
        return ()
    labels, ids = _labels(windows), np.asarray(windows.recording_id)
    found = []
    for label in np.unique(labels).tolist():
        names, counts = np.unique(ids[labels == label], return_counts=True)
        most = int(counts.argmax())
        share = float(counts[most] / counts.sum())
        if len(names) >= _FEWEST_TO_DOMINATE and share > _DOMINANT:
            found.append(DominantRecording(str(names[most]), label, share))
    return tuple(found)


def _notes(evaluated: Evaluation, windows: WindowSet) -> list[str]:
    notes = []
    if evaluated.n_groups < FEW_GROUPS:
        notes.append(
            f"these figures come from only {evaluated.n_groups} groups, so the intervals are too"
            " narrow. --folds 5 tests on every recording."
        )
    counts = {row.recording_id: row.n_windows for row in evaluated.recordings}
    largest = max(counts, key=lambda name: counts[name])
    if len(counts) > 2 and counts[largest] > 0.4 * evaluated.n_windows:
        notes.append(
            f"recording {largest} alone has {counts[largest] / evaluated.n_windows:.0%} of the"
            " windows and dominates the accuracy."
        )
    labels = _labels(windows)
    groups = np.asarray(windows.groups)
    for label in evaluated.classes.tolist():
        n_groups = len(np.unique(groups[labels == label]))
        if n_groups == 1 and len(counts) > 1:
            notes.append(f"class {label} is tested on only one group.")
        if n_groups == 0:
            notes.append(f"class {label} has no windows here.")
    return notes
