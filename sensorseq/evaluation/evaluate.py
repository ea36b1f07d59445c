"""Evaluate a model on unseen test recordings, or by cross-validation over whole groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq.base.text import percent, plural
from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.estimator import AnyClassifier, classifiers_of
from sensorseq.estimator.uncertainty import seen_by
from sensorseq.evaluation.baselines import BASELINES, predict_baseline
from sensorseq.evaluation.calibration import LEAST_GROUPS, check_known_labels, plain_interval
from sensorseq.evaluation.drives import USUAL_SMOOTHING, DriveEvaluation, evaluate_drives
from sensorseq.evaluation.metrics import FEW_GROUPS, METRICS, Evaluation, compare, score_predictions
from sensorseq.prediction.outside import OutsideWindows, join_outside
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.windowing.balance import balance_indices
from sensorseq.sensor_windows import AnyWindows
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.windows import WindowSet

_WHOLE = 1e-9  # tolerance within which a quotient of seconds counts as an integer


@dataclass(frozen=True, eq=False)
class FoldWindows:
    """The windows that folds are tested on, as sorted indices; folds may train on all windows.

    `protocol` describes how training and test windows differ; it is empty if they do not differ.
    """

    rows: NDArray[np.int64]
    protocol: str = ""
    notes: tuple[str, ...] = ()


def choose_fold_windows(windows: AnyWindows) -> FoldWindows:
    """From windows cut with ``train_hop_s``, choose the windows on the grid of ``hop_s``.

    If the windows' configuration has no ``train_hop_s``, all windows are chosen. Within a segment
    of one label without gaps, the chosen windows are those that would be cut without
    ``train_hop_s``. An `InputError` is raised if windows on the grid are missing.
    """
    options = PreparationOptions.recorded(windows.provenance)
    window_s, train_hop_s = options.window_s, options.train_hop_s
    hop_s = options.hop_s or window_s
    if train_hop_s is None or np.isnan(window_s) or train_hop_s == hop_s:
        return FoldWindows(np.arange(len(windows)))
    times = hop_s / train_hop_s
    if round(times) < 1 or abs(times - round(times)) > _WHOLE * times:
        raise InputError(
            f"training windows of this file start every {train_hop_s:g} s (train_hop_s), so the"
            f" file lacks some of the windows every {hop_s:g} s (hop_s) on which folds are tested."
            f" Prepare again with a train_hop_s that divides {hop_s:g}, such as"
            f" {hop_s / max(1, np.ceil(times - _WHOLE)):g}, to use folds."
        )
    assert isinstance(windows, WindowSet)
    rows = _on_grid(windows, float(window_s), float(hop_s), float(train_hop_s))
    protocol = f"trained on windows every {train_hop_s:g} s, tested on windows every {hop_s:g} s"
    return FoldWindows(rows, protocol, _coarse_recordings(windows, train_hop_s, hop_s))


def check_whole_recordings(windows: AnyWindows) -> None:
    """Raise an error unless each recording is in a single group, so that no fold splits it."""
    if windows.recording_id is None:
        return
    ids, groups = np.asarray(windows.recording_id), np.asarray(windows.groups)
    _, first, code = np.unique(ids, return_index=True, return_inverse=True)
    divided = ids[groups != groups[first][code]]
    if divided.size:
        raise InputError(
            f"recording {min(divided.tolist())} has windows in several groups, so a fold would be"
            " tested on a recording that it is trained on; put all windows of a recording in one"
            " group."
        )


def _on_grid(
    windows: WindowSet, window_s: float, hop_s: float, train_hop_s: float
) -> NDArray[np.int64]:
    rate = windows.sample_rate_hz
    if windows.start_s is None or windows.recording_id is None or rate is None:
        raise InputError(
            "these windows overlap (train_hop_s), and without recording_id, start_s and"
            " sample_rate_hz the windows for testing a fold cannot be determined; use a file"
            " written by `prepare`."
        )
    start_s = np.asarray(windows.start_s)
    recording = np.unique(np.asarray(windows.recording_id), return_inverse=True)[1]
    label = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    overlaps = np.full(len(windows), True) if windows.split is None else windows.split == "train"
    hop, train_hop = hop_s * rate, int(np.ceil(train_hop_s * rate - _WHOLE))
    apart = int(min(hop, window_s * rate) + _WHOLE)  # minimum number of samples between starts
    chosen = np.flatnonzero(~overlaps).tolist()
    before = last = -1  # indices of the previous window and of the last chosen one
    origin_s: float | None = None  # start of the grid; None until a window is chosen

    def samples_since(start: float, row: int) -> int:
        return round(float(start - start_s[row]) * rate)

    for row in np.lexsort((start_s, recording)).tolist():
        if not overlaps[row]:
            continue
        start = float(start_s[row])
        if before < 0 or recording[row] != recording[before]:
            last, origin_s = -1, None
        elif label[row] != label[before] or samples_since(start, before) > train_hop:
            origin_s = None  # a gap or a different label starts a new grid
        before = row
        if origin_s is None:
            is_chosen = last < 0 or samples_since(start, last) >= apart
            origin_s = start if is_chosen else None
        else:
            sample = round((start - origin_s) * rate)
            exact = int(sample / hop + _WHOLE) * hop
            is_chosen = sample == int(np.ceil(exact - max(_WHOLE, 1e-15 * exact)))
        if is_chosen:
            chosen.append(row)
            last = row
    return np.sort(np.asarray(chosen, np.int64))


def _coarse_recordings(windows: WindowSet, train_hop_s: float, hop_s: float) -> tuple[str, ...]:
    """Return a note if recordings outside the train part have windows only every `hop_s`."""
    if windows.split is None or train_hop_s > hop_s:
        return ()
    ids = np.asarray(windows.recording_id)
    n_coarse = len(np.unique(ids[windows.split != "train"]))
    if not n_coarse:
        return ()
    return (
        f"{n_coarse} of {len(np.unique(ids))} recordings are not in the train part of this file, so"
        f" they have windows only every {hop_s:g} s, even for training. To train on windows every"
        f" {train_hop_s:g} s in all recordings, prepare another file with --split 1,0,0 and use it"
        " for the folds.",
    )


Progress = Callable[[str], None]

_DOMINANT = 0.5  # a recording with more than this fraction of its class's windows dominates
_FEWEST_TO_DOMINATE = 3  # fewest recordings; one of two always has at least half the windows


class DominantRecording(NamedTuple):
    """A recording with most of the windows of its class."""

    recording_id: str
    label: Any
    share: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model and its baselines, scored on the same windows.

    `protocol` describes how the scores were measured; read the caveats in `notes` before trusting
    the scores. `fold_accuracy` is empty for a test part. `seen` lists the evaluated recordings that
    were in the training data, and `dominant` lists recordings with more than half of the windows of
    their class. `outside` marks windows unlike the training windows; it is None if the model does
    not have the ranges of its training windows. `drives` contains the scores over time; it is None
    if no recording has several classes.
    """

    model: Evaluation
    baselines: dict[str, Evaluation]
    protocol: str
    notes: tuple[str, ...] = ()
    fold_accuracy: tuple[float, ...] = ()
    seen: tuple[str, ...] = ()
    dominant: tuple[DominantRecording, ...] = ()
    outside: OutsideWindows | None = None
    drives: DriveEvaluation | None = None

    @property
    def fold_mean(self) -> float | None:
        """The mean of the fold accuracies, or None for a test part."""
        return float(np.mean(self.fold_accuracy)) if self.fold_accuracy else None

    @property
    def fold_sd(self) -> float | None:
        """The standard deviation (n - 1) of the fold accuracies, or None for a test part."""
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
            "n_outside": None if self.outside is None else self.outside.n_outside,
            "drives": None if self.drives is None else self.drives.to_dict(),
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
                            "value": difference.value,
                            "interval": plain_interval(difference.interval),
                            "p_value": difference.p_value,
                        }
                        for metric, difference in compare(self.model, baseline).items()
                    },
                }
                for name, baseline in self.baselines.items()
            },
        }


def evaluate_test(
    model: AnyClassifier,
    windows: AnyWindows,
    *,
    baselines: Sequence[str] = BASELINES,
    include_seen: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    smoothing: Smoothing = USUAL_SMOOTHING,
) -> Comparison:
    """Score a model and baselines on the test part of windows.

    All windows are scored if they have no split, or if they have no test part and none of their
    recordings was in the model's training data. The baselines are fitted on the windows that the
    model was trained on: the train part, and also the validation part if the model was refitted on
    it. Without a train part, no baselines are fitted. `fit` does not read test windows, so neither
    early stopping nor any statistic of the model uses them. Test recordings that were in the
    training data are rejected or, with `include_seen`, mentioned in a note. Drives are smoothed as
    in `SensorLSTMClassifier.timeline`.
    """
    say = progress or (lambda message: None)
    test = windows if windows.split is None else windows.part("test")
    is_recorded = _records_training_data(model)
    if not len(test) and is_recorded and not seen_by(model.model_, windows):
        test = windows = windows.with_split(None)  # all recordings are new
    labels = _labels(test)
    if not len(test):
        raise InputError(
            "there is no test part to evaluate on; prepare one, for example with --split"
            " 0.6,0.2,0.2, or use --folds 5."
        )
    check_known_labels(labels, model.classes_)
    seen = seen_by(model.model_, test)
    if seen and not include_seen:
        _refuse_seen(seen, test)
    say("predicting test windows")
    score = scorer(test, model.classes_, seed)
    probability = model.predict_proba(test)
    evaluation = score(probability)
    compared: dict[str, Evaluation] = {}
    dominant = _dominant(test)
    notes = _test_notes(evaluation, test, seen, dominant, is_recorded=is_recorded)
    train = None
    if windows.split is not None:  # the windows that the model was trained on
        refitted = [classifier.refitted_ for classifier in classifiers_of(model).values()]
        parts = ["train", "validation"] if all(refitted) else ["train"]
        train = windows.take(np.flatnonzero(np.isin(windows.split, parts)))
    if train is None or not len(train):
        notes.append("there is no train part to fit baselines on, so no baselines are shown.")
    else:
        for name in baselines:
            say(f"fitting baseline {name}")
            compared[name] = score(predict_baseline(name, train, test, model.classes_, seed))
    protocol = (
        f"test part: {evaluation.n_windows} windows of"
        f" {plural(len(evaluation.recordings), 'recording')}"
        + ("" if seen or not is_recorded else " the model never saw")
    )
    return Comparison(
        evaluation,
        compared,
        protocol,
        tuple(notes),
        seen=tuple(seen),
        dominant=dominant,
        outside=model.outside(test) if model.model_.has_ranges else None,
        drives=evaluate_drives(
            test,
            probability,
            model.classes_,
            model.model_.with_learned_dwell(smoothing),
            class_shares=model.model_.class_shares,
            seed=seed,
        ),
    )


def _records_training_data(model: AnyClassifier) -> bool:
    """Test whether a model lists the recordings that it was trained on."""
    of_sensors = model.model_.inputs.values()
    return all(of_sensor.preparation is not None for of_sensor in of_sensors)


def _test_notes(
    evaluation: Evaluation,
    test: AnyWindows,
    seen: Sequence[str],
    dominant: Sequence[DominantRecording],
    *,
    is_recorded: bool,
) -> list[str]:
    notes = [
        *_notes(evaluation, test),
        *(
            f"{row.recording_id} has {percent(row.share, 0)} of the test windows of {row.label} and"
            f" dominates the recall of {row.label}."
            for row in dominant
        ),
    ]
    if seen:
        inflated = (
            f"{len(seen)} of these recordings were in the training data (--include-seen), so the"
            " scores are inflated."
        )
        notes.insert(0, inflated)
    if not is_recorded:
        notes.append(
            "the model was trained on arrays, so it could not be checked whether these recordings"
            " were in the training data."
        )
    return notes


def _refuse_seen(seen: Sequence[str], test: AnyWindows) -> None:
    some = ", ".join(seen[:3]) + (" ..." if len(seen) > 3 else "")
    by_time = PreparationOptions.recorded(test.provenance).split_by == "time"
    advice = (
        "These windows are split by time, so every part contains every recording. Use"
        " --include-seen to score later parts of the same recordings; to test on new"
        " recordings, prepare with --split-by group."
        if by_time
        else "Evaluate on the file that the model was trained on, or on new recordings; use"
        " --include-seen to score these recordings anyway."
    )
    n_recordings = len(np.unique(np.asarray(test.recording_id)))
    raise InputError(
        f"the model was trained on {len(seen)} of the {n_recordings} test recordings"
        f" ({some}), so the score does not show how well the model classifies new"
        f" recordings. {advice}"
    )


def evaluate_folds(
    model: AnyClassifier,
    windows: AnyWindows,
    n_folds: int,
    *,
    baselines: Sequence[str] = BASELINES,
    seed: int = 0,
    progress: Progress | None = None,
    smoothing: Smoothing = USUAL_SMOOTHING,
) -> Comparison:
    """Cross-validate a model over whole groups; only the model's arguments are used.

    For each fold, a clone is fitted on the other groups. Some of these groups are held out for
    early stopping; the windows of the fold are only predicted. Every test window is predicted once,
    and the scores are computed from all predictions together, whereas `Comparison.fold_mean` is the
    mean of the fold accuracies. Windows of all parts are used.

    If a file was prepared with ``train_hop_s``, folds are trained on all of its windows, but tested
    only on windows that start every ``hop_s``. A fold's test windows never share a recording or a
    group with the fold's training windows, so no test window overlaps a training window. Drives are
    smoothed as in `SensorLSTMClassifier.timeline`.
    """
    say = progress or (lambda message: None)
    _labels(windows)
    if n_folds < 2:
        raise ArgumentError(f"folds={n_folds} must be at least 2.")
    if windows.groups is None:
        raise InputError("the windows have no groups; folds of single windows would leak.")
    check_whole_recordings(windows)
    testable = choose_fold_windows(windows)
    tested = windows.take(testable.rows)
    labels, groups = _labels(tested), np.asarray(tested.groups)
    classes = np.unique(labels)
    _check_enough_groups(labels, groups, n_folds)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(len(labels)), labels, groups))
    probability = {name: np.zeros((len(labels), len(classes))) for name in ("model", *baselines)}
    shares = np.full((len(labels), len(classes)), 1 / len(classes))
    accuracy, outside = [], []
    for number, (train_rows, test_rows) in enumerate(parts, start=1):
        in_training = np.isin(np.asarray(windows.groups), groups[train_rows])
        train = windows.take(np.flatnonzero(in_training)).with_split(None)
        train = train.take(_balanced(train, seed))
        test = tested.take(test_rows).with_split(None)
        say(f"fold {number} of {n_folds}: training on {len(train)} windows")
        fitted = clone(model).fit(train)
        columns = np.searchsorted(classes, fitted.classes_)
        probability["model"][np.ix_(test_rows, columns)] = fitted.predict_proba(test)
        shares[np.ix_(test_rows, columns)] = fitted.model_.class_shares
        outside.append(fitted.outside(test))
        right = classes[probability["model"][test_rows].argmax(axis=1)] == labels[test_rows]
        accuracy.append(float(right.mean()))
        for name in baselines:
            say(f"fold {number} of {n_folds}: baseline {name}")
            probability[name][test_rows] = predict_baseline(name, train, test, classes, seed)
    score = scorer(tested, classes, seed)
    of_model = probability.pop("model")
    evaluation = score(of_model)
    dominant = _dominant(tested)
    notes = [*_notes(evaluation, tested), *testable.notes]
    notes += [
        f"{row.recording_id} has {percent(row.share, 0)} of the windows of {row.label}, so the fold"
        f" that is tested on this recording is trained on few windows of {row.label}."
        for row in dominant
    ]
    return Comparison(
        evaluation,
        {name: score(values) for name, values in probability.items()},
        f"{n_folds} folds of whole groups: {evaluation.n_windows} windows of"
        f" {len(evaluation.recordings)} recordings, each predicted by a model not trained on it"
        + (f"; {testable.protocol}" if testable.protocol else ""),
        tuple(notes),
        fold_accuracy=tuple(accuracy),
        dominant=dominant,
        outside=join_outside(outside),
        drives=evaluate_drives(
            tested, of_model, classes, smoothing, class_shares=shares, seed=seed
        ),
    )


def _check_enough_groups(labels: NDArray[Any], groups: NDArray[Any], n_folds: int) -> None:
    for label in np.unique(labels).tolist():
        n_groups = len(np.unique(groups[labels == label]))
        if n_groups < n_folds:
            raise SplitError(
                f"class {label!r} has {n_groups} groups, too few for {n_folds} folds; use --folds"
                f" {n_groups} or record more groups."
                if n_groups > 1
                else f"class {label!r} has one group, which cannot be used for both training and"
                " testing; record more groups."
            )


def scorer(
    windows: AnyWindows, classes: NDArray[Any], seed: int = 0
) -> Callable[[NDArray[np.float64]], Evaluation]:
    """Return a function that scores predictions for these windows, always with the same seed."""
    return partial(
        score_predictions,
        _labels(windows),
        classes=classes,
        recording_id=windows.recording_id,
        groups=windows.groups,
        seed=seed,
    )


def _labels(windows: AnyWindows) -> NDArray[Any]:
    if windows.y is None:
        raise InputError("the windows have no labels to compare with; use predict for them.")
    return windows.y


def _balanced(train: AnyWindows, seed: int) -> NDArray[np.int64]:
    """Balance a training fold as configured for the train part of the windows."""
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


def _dominant(windows: AnyWindows) -> tuple[DominantRecording, ...]:
    if windows.recording_id is None:
        return ()
    labels, ids = _labels(windows), np.asarray(windows.recording_id)
    dominant = []
    for label in np.unique(labels).tolist():
        names, counts = np.unique(ids[labels == label], return_counts=True)
        most = int(counts.argmax())
        share = float(counts[most] / counts.sum())
        if len(names) >= _FEWEST_TO_DOMINATE and share > _DOMINANT:
            dominant.append(DominantRecording(str(names[most]), label, share))
    return tuple(dominant)


def _notes(evaluation: Evaluation, windows: AnyWindows) -> list[str]:
    notes = []
    if evaluation.n_groups < FEW_GROUPS:
        has_none = evaluation.n_groups < LEAST_GROUPS
        so = "too few for intervals" if has_none else "so the intervals are too narrow"
        notes.append(
            f"these scores come from only {plural(evaluation.n_groups, 'group')}, {so}. Use"
            " --folds 5 to test on every recording."
        )
    counts = {row.recording_id: row.n_windows for row in evaluation.recordings}
    largest = max(counts, key=lambda name: counts[name])
    if len(counts) > 2 and counts[largest] > 0.4 * evaluation.n_windows:
        notes.append(
            f"recording {largest} alone has {percent(counts[largest] / evaluation.n_windows, 0)} of"
            " the windows and dominates the accuracy."
        )
    labels = _labels(windows)
    groups = np.asarray(windows.groups)
    for label in evaluation.classes.tolist():
        n_groups = len(np.unique(groups[labels == label]))
        if n_groups == 1 and len(counts) > 1:
            notes.append(f"class {label} is tested on only one group.")
        if n_groups == 0:
            notes.append(f"class {label} has no windows here.")
    return notes
