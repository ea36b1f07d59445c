"""Fit a classifier for each sensor, and the weights of the sensors on windows left out of these."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from sensorseq.base.checks import check_sample_weight
from sensorseq.base.numeric import log_softmax
from sensorseq.errors import ArgumentError, InputError, SplitError, check_choice, noting
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.uncertainty import LeftOut, learn_shares
from sensorseq.features.stack import fit_stack
from sensorseq.learners.motors import Roles, check_motors
from sensorseq.prediction.decisions import softmax
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.inputs import MISSING
from sensorseq.prediction.members.choice import Candidate, FeatureChoice
from sensorseq.prediction.members.sensors import SensorSum, pattern_key
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.sensor_windows import SensorWindows, as_sensor_windows, check_complete
from sensorseq.training.inputs import check_axis_order
from sensorseq.training.labels import draw_entropy, read_labels

# With at most this many sensors, weights are fitted for every combination of sensors; with more,
# only for single sensors, for all sensors, and for all but one.
_MOST_WEIGHED = 6


def fit_sensors(
    estimator: SensorLSTMClassifier, X: Any, y: Any, sample_weight: ArrayLike | None, groups: Any
) -> tuple[dict[str, SensorLSTMClassifier], TrainedModel, FeatureChoice]:
    """Fit a copy of the estimator for each sensor; see `SensorFusionClassifier.fit`.

    Return the classifiers, the model that joins them but lacks their models, and their scores.
    """
    _check_estimator(estimator)
    windows = _read(X, y, groups)
    checked = check_sample_weight(sample_weight, len(windows))
    weight = np.ones(len(windows)) if checked is None else checked
    if windows.split is not None:
        rows = np.flatnonzero(windows.split != "test")
        windows, weight = windows.take(rows), weight[rows]
    if estimator.missing == "error":
        check_complete(windows, list(windows))
    else:
        windows = without_lost(windows)
    seed = estimator.random_state
    if not isinstance(seed, int | np.integer):
        seed = int(draw_entropy(seed) % 2**31)
    windows = _with_common_split(windows, estimator.validation_fraction, int(seed))
    motors = _motors_of(estimator.motors, windows)
    classifiers: dict[str, SensorLSTMClassifier] = {}
    left_out: dict[str, LeftOut | None] = {}
    for name, of_sensor, rows in windows.by_sensor():
        _check_classes(name, of_sensor.y, windows.y)
        settings = {"random_state": int(seed), "motors": motors[name] or None}
        classifier = clone(estimator).set_params(**settings)
        options = {"sample_weight": None if checked is None else weight[rows]}
        with noting(f"in the windows of sensor {name!r}"):
            left_out[name] = classifier._fit(of_sensor, None, options).left_out
        classifiers[name] = classifier
    lacking = [name for name in windows if name not in classifiers]
    if lacking:
        raise InputError(f"sensor {lacking[0]!r} has no window in the training part.")
    classes = next(iter(classifiers.values())).classes_
    truth = np.searchsorted(classes, np.asarray(windows.y)), weight
    logits, present = _left_out_logits(left_out, windows, len(classes))
    joint = SensorSum({}, _weigh(logits, present, *truth), np.zeros(len(classes)))
    joined, lacks = joint.join(logits, np.where(present, COMPLETE, EMPTY).astype(np.int8))
    probabilities = softmax(joined[lacks != EMPTY])
    shares = learn_shares(estimator.get_params(deep=False), probabilities)
    scores = _describe(list(windows), joint, logits, present, *truth)
    return classifiers, TrainedModel(classes, {}, joint, shares=shares), scores


def _read(X: Any, y: Any, groups: Any) -> SensorWindows:
    """Return windows of several sensors with their labels."""
    labels = y if y is None else read_labels(y, len(as_sensor_windows(X)), "y")[0]
    for name, of_sensor in () if isinstance(X, SensorWindows) else X.items():
        if len(np.shape(of_sensor)) == 3:
            check_axis_order(of_sensor, None, f"X[{name!r}]")
    windows = as_sensor_windows(X, labels, groups)
    if windows.y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    return windows


def _check_estimator(estimator: SensorLSTMClassifier) -> None:
    check_choice("missing", estimator.missing, MISSING)
    for name, harmless in (("warm_start", False), ("checkpoint", None)):
        if getattr(estimator, name) != harmless:
            raise ArgumentError(
                f"{name}={getattr(estimator, name)!r} works for one sensor at a time; fit a"
                f" classifier for each sensor, or set {name}={harmless!r}."
            )


def _motors_of(motors: Sequence[Roles] | None, windows: SensorWindows) -> dict[str, list[Roles]]:
    """Return the motors of each sensor, which has both channels of a motor."""
    found: dict[str, list[Roles]] = {name: [] for name in windows}
    for pair in check_motors(motors):
        owners = [k for k, each in windows.sensors.items() if set(pair) <= set(each.channels)]
        if len(owners) != 1:
            known = [f"{k}: {', '.join(each.channels)}" for k, each in windows.sensors.items()]
            raise ArgumentError(
                f"motors names {pair!r}, which must be two channels of one sensor;"
                f" {len(owners)} sensors have both. Channels: {'; '.join(known)}."
            )
        found[owners[0]].append(pair)
    return found


def without_lost(windows: SensorWindows) -> SensorWindows:
    """Mark a sensor as missing in the windows in which one of its channels is all NaN."""
    sets = dict(windows.sensors)
    for name, of_sensor in windows.sensors.items():
        is_valid = np.arange(of_sensor.n_timesteps) < np.asarray(of_sensor.lengths)[:, None]
        is_number = ~np.isnan(of_sensor.X) & is_valid[:, :, None]
        has_all = np.asarray(np.all(np.any(is_number, axis=1), axis=1))
        if not has_all.all():
            X = np.where(has_all[:, None, None], of_sensor.X, np.nan)
            sets[name] = replace(of_sensor, X=X)
    return SensorWindows(sets)


def _with_common_split(windows: SensorWindows, fraction: float, seed: int) -> SensorWindows:
    """Hold out the same windows of all sensors, even if some windows lack a sensor.

    The held-out groups are drawn using only the windows that have all sensors, so that each sensor
    keeps every class in training. If no sensor is missing, nothing is done, because the sensors
    then get the same split from their common seed.
    """
    rows = np.flatnonzero(windows.present.all(axis=1))
    if windows.split is not None or len(rows) in (0, len(windows)) or not fraction:
        return windows
    classes = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    groups = np.arange(len(windows)) if windows.groups is None else np.asarray(windows.groups)
    try:
        _, held_out = holdout_by_group(classes[rows], groups[rows], fraction, seed)
    except SplitError:  # each fit then draws its own split or raises an error
        return windows
    is_held_out = np.isin(groups, groups[rows[held_out]])
    return windows.with_split(np.where(is_held_out, "validation", "train"))


def _check_classes(name: str, labels: Any, all_labels: Any) -> None:
    lost = np.setdiff1d(np.asarray(all_labels), np.asarray(labels))
    if lost.size:
        raise InputError(
            f"sensor {name!r} has no window of class {lost.tolist()[0]!r}. Record such"
            " windows, or leave out the class or the sensor."
        )


def _left_out_logits(
    left_out: Mapping[str, LeftOut | None], windows: SensorWindows, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits (n_sensors, n, K) of models not fitted on these windows, and a mask.

    The mask (n, n_sensors) is True for each window and sensor that has logits.
    """
    logits = np.zeros((len(left_out), len(windows), n_classes))
    present = np.zeros((len(windows), len(left_out)), bool)
    for at, (name, _, rows) in enumerate(windows.by_sensor()):
        of_sensor = left_out[name]
        if of_sensor is None:
            remedy = "set validation_fraction above 0"
            if windows.split is not None:
                remedy = "split the windows into train, validation and test"
            raise InputError(
                f"no window of sensor {name!r} was left out, so sensors cannot be weighted;"
                f" {remedy}."
            )
        places, outputs = of_sensor
        logits[at, rows[places]] = outputs
        present[rows[places], at] = True
    return logits, present


def _weigh(
    logits: NDArray[np.float64],
    present: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return weights for each single sensor, and for each combination of sensors in the windows."""
    n = present.shape[1]
    weights = {}
    for bits in product((False, True), repeat=n):
        pattern = np.array(bits)
        size = int(pattern.sum())
        if not size or (n > _MOST_WEIGHED and size not in (1, n - 1, n)):
            continue
        rows = present[:, pattern].all(axis=1) & (weight > 0)
        row = np.zeros(n)
        if rows.any():
            row[pattern], _ = fit_stack(logits[pattern][:, rows], class_index[rows], weight[rows])
        elif size > 1:
            continue
        if not row.any():
            row[pattern] = 1.0 / size
        weights[pattern_key(pattern)] = row
    return weights


def _describe(
    sensors: list[str],
    joint: SensorSum,
    logits: NDArray[np.float64],
    present: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> FeatureChoice:
    """Return the scores of each sensor and of their weighted sum, on windows with all sensors."""
    n = len(sensors)
    rows = present.all(axis=1) & (weight > 0)
    if not rows.any():
        return FeatureChoice(reason="no left-out window has all sensors")
    whole = joint.weights_of(np.ones(n, bool))
    candidates = []
    for at in range(n + 1):
        used = np.arange(n) == at if at < n else np.ones(n, bool)
        name, factor = (sensors[at], float(whole[at])) if at < n else ("together", None)
        joined = np.tensordot(joint.weights_of(used), logits[:, rows], 1)
        log = log_softmax(joined, axis=1)[np.arange(rows.sum()), class_index[rows]]
        right = joined.argmax(axis=1) == class_index[rows]
        accuracy = float(np.average(right, weights=weight[rows]))
        log_loss = -float(np.average(log, weights=weight[rows]))
        candidates.append(Candidate(name, log_loss, accuracy, factor))
    reason = f"{int(rows.sum())} windows left out when the sensors' models were fitted"
    return FeatureChoice(tuple(sensors), tuple(candidates), int(rows.sum()), 0, reason)
