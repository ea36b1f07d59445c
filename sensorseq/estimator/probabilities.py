"""Learn from windows that were left out: the temperature, and when to abstain."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score

from sensorseq.checks import check_real, mark_of_unlabeled
from sensorseq.errors import InputError, warn_caller
from sensorseq.estimator.fit_windows import ScaledFit
from sensorseq.estimator.refit import Refit
from sensorseq.prediction.fused import FusedModel
from sensorseq.prediction.head import FeatureChoice
from sensorseq.prediction.loading import AnyModel
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.preparation import seen_recordings
from sensorseq.prediction.probabilities import Abstention, softmax
from sensorseq.prediction.windows import check_groups
from sensorseq.sensor_windows import SensorWindows
from sensorseq.training.evaluation import outputs_of
from sensorseq.training.labels import read_known_labels, read_labels
from sensorseq.training.probabilities import (
    NOTABLE_SPREAD,
    choose_threshold,
    fit_temperature,
    lowest_error_rate,
    probability_spread,
)
from sensorseq.windows import WindowSet

_FEWEST_LEFT_OUT, _MOST_LEFT_OUT = 6, 1000  # windows to learn the shares of the classes from
_SMALLEST_LOG = -6.0  # of a probability, so that no class has a share near zero

LeftOut = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Rows of X as given to `fit`, and their logits by models that were not fitted on them."""


def learn_probabilities(
    parameters: Mapping[str, Any],
    model: TrainedModel,
    scaled: ScaledFit,
    plan: Refit | FeatureChoice | None,
) -> tuple[TrainedModel, LeftOut | None]:
    """Return a model that turns its logits into probabilities, and the windows left out."""
    if model.head is not None and isinstance(plan, Refit):
        logits, class_index, groups = plan.left_out(model.head)
        rows = model.head.given_rows
    else:
        held_out, samples = scaled.data.validation, scaled.samples[1]
        if held_out is None or samples is None:
            return model, None
        logits, groups = outputs_of(model, samples), held_out.groups
        class_index, rows = held_out.target, held_out.rows
    if parameters["calibrate"]:
        model = replace(model, temperature=calibrated(logits, class_index, groups))
    shares = learn_shares(parameters, softmax(logits / model.temperature))
    return replace(model, shares=shares), None if rows is None else (rows, logits)


def out_of_fold_of(
    model: TrainedModel,
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Return rows of X, and their cross-validated probabilities, see `FeatureHead`."""
    head = model.head
    if head is None or head.given_rows is None or head.out_of_fold is None:
        return None
    return head.given_rows, softmax(head.out_of_fold / model.temperature)


def learn_shares(
    parameters: Mapping[str, Any], probabilities: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the mean probabilities of left-out windows (n, K).

    None if they are too few, or the training evened out the classes.
    """
    evens_out = parameters["class_weight"] is not None or parameters["sampler"] != "shuffle"
    n = len(probabilities)
    if evens_out or n < _FEWEST_LEFT_OUT or not np.isfinite(probabilities).all():
        return None
    rows = np.linspace(0, n - 1, min(n, _MOST_LEFT_OUT)).round().astype(np.int64)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(probabilities[rows]), _SMALLEST_LOG).astype(np.float32)
    shares = np.exp(logs.astype(np.float64)).mean(axis=0)
    return np.asarray(shares / shares.sum())


def calibrated(
    logits: NDArray[np.float64], class_index: NDArray[np.int64], groups: NDArray[Any] | None
) -> float:
    """Return the temperature for left-out windows; warn if they determine it badly."""
    temperature = fit_temperature(logits, class_index)
    spread = probability_spread(logits, class_index, temperature, groups)
    if spread > NOTABLE_SPREAD:
        of = "" if groups is None else f" of {len(np.unique(groups))} group(s)"
        warn_caller(
            f"calibrate=True had only {len(logits)} validation windows{of}; with other"
            " validation windows the probability of the predicted class would differ by about"
            f" {spread:.2f}. Hold out more (validation_fraction, X_val), or do not rely on the"
            " probabilities.",
        )
    return temperature


def seen_by(model: AnyModel, windows: WindowSet | SensorWindows) -> list[str]:
    """Return the recordings of `windows` that a model was trained on."""
    models = model.models if isinstance(model, FusedModel) else {"": model}
    sets = windows.sensors if isinstance(windows, SensorWindows) else {"": windows}
    found = [
        name
        for sensor, one in models.items()
        if sensor in sets
        for name in seen_recordings(one.preparation, sets[sensor])
    ]
    return list(dict.fromkeys(found))


def find_abstention(
    model: AnyModel,
    X: Any,
    y: Any,
    groups: ArrayLike | None,
    lengths: ArrayLike | None,
    *,
    error_rate: float,
    confidence: float,
) -> Abstention:
    """Choose the probability below which to abstain; see `SensorLSTMClassifier.fit_abstention`."""
    check_real("error_rate", error_rate, 0.0, 1.0, low_open=True)
    check_real("confidence", confidence, 0.0, 1.0, low_open=True)
    if isinstance(X, WindowSet | SensorWindows):
        y = X.y if y is None else y
        groups = X.groups if groups is None else groups
        if seen := seen_by(model, X):
            raise InputError(
                f"X has {len(seen)} recording(s) that were used for training or validation"
                f" ({', '.join(seen[:3])}), where the model makes fewer errors than on new"
                " ones. Give recordings that were not used in fit."
            )
    probability = model.predict_proba(X, lengths)
    n_windows = len(probability)
    class_index = read_known_labels(y, n_windows, "y", "X", model.classes)
    named = check_groups(groups, n_windows, "groups")
    group_index = np.arange(n_windows)
    if named is not None:
        group_index = np.unique(named, return_inverse=True)[1]
    highest, is_right = probability.max(axis=1), probability.argmax(axis=1) == class_index
    chosen = choose_threshold(
        highest, is_right, group_index, error_rate=error_rate, confidence=confidence
    )
    if chosen is None:
        lowest = lowest_error_rate(highest, is_right, group_index, confidence)
        way = "" if lowest is None else f", or use error_rate={lowest:g}, which these can show"
        raise InputError(
            f"no threshold was found: {n_windows} windows of {group_index.max() + 1} group(s),"
            f" {100 * is_right.mean():.1f} % of them right, cannot show with confidence"
            f" {confidence:g} that at most error_rate={error_rate:g} of the answers are wrong,"
            f" not even for the most confident 30 %. Record more groups{way}."
        )
    return chosen


def accuracy_of(
    predicted: NDArray[Any],
    classes: NDArray[Any],
    X: Any,
    y: Any = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the accuracy of predictions; see `SensorLSTMClassifier.score`."""
    y = X.y if y is None and isinstance(X, WindowSet | SensorWindows) else y
    labels, _ = read_labels(y, len(predicted), "y", classes=classes)
    mark = mark_of_unlabeled({*classes.tolist(), *labels.tolist()})
    if mark is not None and mark not in classes.tolist():
        n = int((labels == mark).sum())
        warn_caller(
            f"y is {mark!r} for {n} of {len(labels)} windows, which is no class of the model"
            " and usually marks what has no label; these windows count as errors. Leave them"
            f" out: with keep = np.not_equal(y, {mark!r}), give X[keep] and y[keep]."
        )
    return float(accuracy_score(labels, predicted, sample_weight=sample_weight))
