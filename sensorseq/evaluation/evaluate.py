"""Evaluate a model: on test recordings it has never seen, or by folds of whole groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.evaluation.baselines import BASELINES, predict_baseline
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
from sensorseq.training.preparation import augment_as_told, seen_recordings
from sensorseq.windows import WindowSet

Progress = Callable[[str], None]


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
    """

    model: Evaluation
    baselines: dict[str, Evaluation]
    protocol: str
    notes: tuple[str, ...] = ()
    fold_accuracy: tuple[float, ...] = ()
    seen: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, with the model's scores at the top level."""
        return {
            **self.model.to_dict(),
            "protocol": self.protocol,
            "notes": list(self.notes),
            "fold_accuracy": list(self.fold_accuracy),
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
                        metric: {"value": d.value, "interval": plain_interval(d.interval)}
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
    """Score a model on the test part of windows, next to baselines fitted on the train part.

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
        configured = windows.provenance.get("configuration") or {}
        by_time = (configured.get("split") or {}).get("by") == "time"
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
    train = None if windows.split is None else windows.part("train")
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
    return Comparison(evaluated, compared, protocol, tuple(notes), seen=tuple(seen))


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
    computed over all predictions together.

    Parameters
    ----------
    model : SensorLSTMClassifier
        Fitted or not; its arguments are used, not its weights.
    windows : WindowSet
        All of them are used; a split is ignored.
    n_folds : int
        At least 2.
    baselines, seed, progress
        As in `evaluate_test`; the seed also decides the folds.

    Raises
    ------
    SplitError
        If a class has fewer groups than there are folds.
    """
    say = progress or (lambda message: None)
    labels, groups = _labels(windows), np.asarray(windows.groups)
    if n_folds < 2:
        raise ArgumentError(f"folds={n_folds} must be at least 2.")
    if windows.groups is None:
        raise InputError("the windows have no groups; folds of single windows would leak.")
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
        train = replace(windows.take(train_rows), split=None)
        rows = _balanced(train, seed)
        train = augment_as_told(train.take(rows), rows, seed)
        test = replace(windows.take(test_rows), split=None)
        say(f"fold {number} of {n_folds}: training on {len(train)} windows")
        fitted = clone(model).fit(train)
        columns = np.searchsorted(classes, fitted.classes_)
        probability["model"][np.ix_(test_rows, columns)] = fitted.predict_proba(test)
        right = classes[probability["model"][test_rows].argmax(axis=1)] == labels[test_rows]
        accuracy.append(float(right.mean()))
        for name in baselines:
            say(f"fold {number} of {n_folds}: baseline {name}")
            probability[name][test_rows] = predict_baseline(name, train, test, classes, seed)
    score = _Scorer(windows, classes, seed)
    evaluated = score(probability.pop("model"))
    return Comparison(
        evaluated,
        {name: score(values) for name, values in probability.items()},
        f"{n_folds} folds of whole groups: {evaluated.n_windows} windows of"
        f" {len(evaluated.recordings)} recordings, each predicted by a model that never saw it",
        tuple(_notes(evaluated, windows)),
        fold_accuracy=tuple(accuracy),
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
    configuration = train.provenance.get("configuration") or {}
    said = configuration.get("balance") or {}
    strategy = said.get("strategy") or "none"
    if strategy == "none":
        return np.arange(len(train))
    return balance_indices(
        _labels(train),
        np.asarray(train.groups),
        strategy,
        seed,
        recording_id=np.asarray(train.recording_id),
        max_per_recording=said.get("max_per_recording"),
    )


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
