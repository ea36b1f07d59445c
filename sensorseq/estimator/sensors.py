"""Fit a model of each sensor, and the weights of their sum."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from sensorseq.errors import ArgumentError, InputError, SplitError, check_choice, noting
from sensorseq.estimator.adapt import refuse_apart
from sensorseq.estimator.explain import (
    METHODS,
    Explanation,
    SensorEnsemble,
    explain,
    target_of,
)
from sensorseq.features.stack import fit_stack
from sensorseq.numeric import log_softmax
from sensorseq.prediction.fusion import MISSING, Fusion, key_of, tell_missing
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.head import Candidate, FeatureChoice
from sensorseq.prediction.probabilities import softmax
from sensorseq.preprocessing.split.parts import holdout_by_group
from sensorseq.sensor_windows import SensorWindows, are_sensors, as_sensor_windows
from sensorseq.training.inputs import check_axis_order, check_sample_weight
from sensorseq.training.labels import draw_entropy, read_labels

_MOST_WEIGHED = 6  # sensors; of more, only one alone, all, and all but one are weighed


def fit_sensors(model: Any, X: Any, y: Any, given: Mapping[str, Any]) -> None:
    """Fit `model` to windows of several sensors, see `SensorLSTM.fit`.

    Each sensor gets a model of its own with the settings of `model`; the logits of windows that
    they were not fitted on then determine the weights of their sum.
    """
    _check_given(model, given)
    labels = y if y is None else read_labels(y, len(as_sensor_windows(X)), "y")[0]
    for name, own in () if isinstance(X, SensorWindows) else X.items():
        if len(np.shape(own)) == 3:
            check_axis_order(own, None, f"X[{name!r}]")
    windows = as_sensor_windows(X, labels, given.get("groups"))
    if windows.y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    weight = check_sample_weight(given.get("sample_weight"), len(windows))
    weight = np.ones(len(windows)) if weight is None else weight
    if windows.split is not None:
        rows = np.flatnonzero(windows.split != "test")
        windows, weight = windows.take(rows), weight[rows]
    names = tuple(windows)
    if model.missing == "error" and not windows.present.all():
        raise InputError(tell_missing(names, windows.present))
    if model.missing != "error":
        windows = _without_lost(windows)
    seed = model.random_state
    if not isinstance(seed, int | np.integer):
        seed = int(draw_entropy(seed) % 2**31)
    windows = _with_common_split(windows, model.validation_fraction, int(seed))
    models: dict[str, Any] = {}
    for name, own, rows in windows.by_sensor():
        _check_classes(name, own.y, windows.y)
        one = clone(model).set_params(random_state=int(seed))
        own_weight = None if given.get("sample_weight") is None else weight[rows]
        with noting(f"in the windows of sensor {name!r}"):
            models[name] = one.fit(own, sample_weight=own_weight)
    lacking = [name for name in names if name not in models]
    if lacking:
        raise InputError(f"sensor {lacking[0]!r} has no window in the training part.")
    classes = next(iter(models.values())).classes_
    class_index = np.searchsorted(classes, np.asarray(windows.y))
    logits, present = _left_out(models, windows, len(classes))
    fusion = Fusion(names, _weigh(logits, present, class_index, weight), model.missing)
    _forget(model)
    model.classes_, model.temperature_ = classes, 1.0
    model.sensors_, model._fusion = models, fusion
    is_known = present.any(axis=1)
    joined = fusion.join(logits, np.where(present, COMPLETE, EMPTY))[is_known]
    model.features_ = _describe(fusion, logits, present, class_index, weight)
    model._learn_shares(softmax(joined))


def _without_lost(windows: SensorWindows) -> SensorWindows:
    """Take a sensor as missing where a channel has no number: else that would tell the class."""
    sets = dict(windows.sensors)
    for name, own in windows.sensors.items():
        is_valid = np.arange(own.n_timesteps) < np.asarray(own.lengths)[:, None]
        is_known = ~np.isnan(own.X) & is_valid[:, :, None]
        has_all = np.asarray(np.all(np.any(is_known, axis=1), axis=1))
        if not has_all.all():
            sets[name] = replace(own, X=np.where(has_all[:, None, None], own.X, np.nan))
    return SensorWindows(sets)


def _with_common_split(windows: SensorWindows, fraction: float, seed: int) -> SensorWindows:
    """Hold out the same windows of all sensors; if none is missing, equal seeds do so.

    Only groups with windows of all sensors are held out, so that each has every class in training.
    """
    rows = np.flatnonzero(windows.present.all(axis=1))
    if windows.split is not None or len(rows) in (0, len(windows)) or not fraction:
        return windows
    classes = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    groups = np.arange(len(windows)) if windows.groups is None else np.asarray(windows.groups)
    try:
        _, held_out = holdout_by_group(classes[rows], groups[rows], fraction, seed)
    except SplitError:  # each fit finds another way, or says that there is none
        return windows
    is_held_out = np.isin(groups, groups[rows[held_out]])
    return windows.with_split(np.where(is_held_out, "validation", "train"))


def explain_sensors(
    model: Any, X: Any, lengths: Any, *, label: Any, method: str, n_regions: int
) -> dict[str, Explanation]:
    """Explain what each sensor adds to the decisions of all; see `SensorLSTMClassifier.explain`."""
    check_choice("method", method, METHODS)
    if method == "gradients":
        raise ArgumentError(
            "method='gradients' explains a model of one sensor; use method='occlusion'."
        )
    windows, _ = model._fusion.read(model._open(X, "X"), lengths)
    logits, lacks = model._of_sensors(windows, None)
    model._check_not_empty(lacks.min(axis=1))
    weights = model._fusion.weights_for(lacks)
    joined = model._fusion.join(logits, lacks)
    target = joined.argmax(axis=1)
    if label is not None:
        target = target_of(model.classes_, label, len(windows))
    found = {}
    for name, own, rows in windows.by_sensor():
        at, one = model._fusion.sensors.index(name), model.sensors_[name]
        weight = weights[rows, at]
        rest = joined[rows] - weight[:, None] * logits[at, rows]
        ensemble = SensorEnsemble(one._ensemble, weight, rest)
        scaled = one._scaled(one._without_failed(one._read_windows(own, None))[0])
        how = {"label": one.classes_[target[rows]], "method": method, "n_regions": n_regions}
        found[name] = explain(ensemble, [], scaled, model.temperature_, model.classes_, **how)
    return found


def adapt_sensors(model: Any, X: Any, y: Any, groups: Any, lengths: Any) -> Any:
    """Return a copy whose model of each sensor is adapted; see `SensorLSTMClassifier.adapt`."""
    given = model._open(X, "X")
    if are_sensors(given):
        if getattr(given, "split", None) is not None:
            refuse_apart(y, groups)
        given = as_sensor_windows(given, y, groups)
    windows = model._fusion.read(given, lengths)[0]
    if model.missing != "error":
        windows = _without_lost(windows)
    adapted = copy(model)
    adapted.sensors_ = dict(model.sensors_)
    adapted.__dict__.pop("abstention_", None)
    for name, own, _ in windows.by_sensor():
        with noting(f"in the windows of sensor {name!r}"):
            adapted.sensors_[name] = model.sensors_[name].adapt(own)
    return adapted


def _check_given(model: Any, given: Mapping[str, Any]) -> None:
    check_choice("missing", model.missing, MISSING)
    for name in ("lengths", "X_val", "y_val", "groups_val", "lengths_val"):
        if given.get(name) is not None:
            raise ArgumentError(
                f"{name} cannot be given with several sensors; use SensorWindows with a split."
            )
    for name, harmless in (("warm_start", False), ("checkpoint", None)):
        if getattr(model, name) != harmless:
            raise ArgumentError(
                f"{name}={getattr(model, name)!r} works for one sensor at a time; fit a model of"
                " each, or leave it out."
            )


def _check_classes(name: str, own: Any, every: Any) -> None:
    lost = np.setdiff1d(np.asarray(every), np.asarray(own))
    if lost.size:
        raise InputError(
            f"sensor {name!r} has no window of class {lost.tolist()[0]!r}. Record some, or leave"
            " out the class or the sensor."
        )


def _left_out(
    models: Mapping[str, Any], windows: SensorWindows, n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return logits (n_sensors, n, K) by models not fitted on the window, and which there are."""
    logits = np.zeros((len(models), len(windows), n_classes))
    known = np.zeros((len(windows), len(models)), bool)
    for at, (name, _, rows) in enumerate(windows.by_sensor()):
        found = models[name]._left_out
        if found is None:
            way = "set validation_fraction above 0"
            if windows.split is not None:
                way = "split the windows into train, validation and test"
            raise InputError(
                f"no window of sensor {name!r} was left out, so sensors cannot be weighed; {way}."
            )
        own, outputs = found
        logits[at, rows[own]] = outputs
        known[rows[own], at] = True
    return logits, known


def _weigh(
    logits: NDArray[np.float64],
    known: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Return the weights for each pattern of sensors that enough windows have."""
    n = known.shape[1]
    weights = {}
    for bits in product((False, True), repeat=n):
        pattern = np.array(bits)
        size = int(pattern.sum())
        if not size or (n > _MOST_WEIGHED and size not in (1, n - 1, n)):
            continue
        rows = known[:, pattern].all(axis=1) & (weight > 0)
        row = np.zeros(n)
        if rows.any():
            row[pattern], _ = fit_stack(logits[pattern][:, rows], class_index[rows], weight[rows])
        elif size > 1:
            continue
        if not row.any():
            row[pattern] = 1.0 / size
        weights[key_of(pattern)] = row
    return weights


def _describe(
    fusion: Fusion,
    logits: NDArray[np.float64],
    known: NDArray[np.bool_],
    class_index: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> FeatureChoice:
    """Describe how good each sensor and their sum are, on left-out windows that have all."""
    n = len(fusion.sensors)
    rows = known.all(axis=1) & (weight > 0)
    if not rows.any():
        return FeatureChoice(reason="no left-out window has all sensors")
    whole = fusion.weights_of(np.ones(n, bool))
    candidates = []
    for at in range(n + 1):
        used = np.arange(n) == at if at < n else np.ones(n, bool)
        name, factor = (fusion.sensors[at], float(whole[at])) if at < n else ("together", None)
        joined = np.tensordot(fusion.weights_of(used), logits[:, rows], 1)
        log = log_softmax(joined, axis=1)[np.arange(rows.sum()), class_index[rows]]
        right = joined.argmax(axis=1) == class_index[rows]
        accuracy = float(np.average(right, weights=weight[rows]))
        log_loss = -float(np.average(log, weights=weight[rows]))
        candidates.append(Candidate(name, log_loss, accuracy, factor))
    reason = f"{int(rows.sum())} windows left out of the fits of the sensors"
    return FeatureChoice(fusion.sensors, tuple(candidates), int(rows.sum()), 0, reason)


def _forget(model: Any) -> None:
    """Remove what an earlier fit left."""
    own, parameters = model.__dict__, model.get_params(deep=False)
    for name in [name for name in own if name.endswith("_") and name not in parameters]:
        del own[name]  # some are properties, too
    for name in ("_head", "_shares", "_ranges", "_held_out", "_left_out", "_to_compare"):
        own.pop(name, None)
    model.preparation_ = None
