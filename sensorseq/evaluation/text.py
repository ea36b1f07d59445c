"""Format scores and fits as text of at most 80 columns."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sensorseq.base.layout import WIDTH, wrapped

if TYPE_CHECKING:
    from sensorseq.estimator import AnyClassifier, SensorLSTMClassifier

NO_INTERVAL = "no interval"
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "calibration_error": "calibration error",
    "gradient_boosting": "gradient boosting",
    "rocket_ridge": "MiniRocket ridge",
}


def format_p_value(p_value: float) -> str:
    """Format a p-value with two digits, or as "< 0.001"."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"


def format_interval(interval: Sequence[float], *, signed: bool = False) -> str:
    """Format an interval of fractions in percent, or of differences of fractions in points."""
    if not np.isfinite(interval).all():
        return NO_INTERVAL
    low, high = (100 * value for value in interval)
    return f"[{low:+.1f}, {high:+.1f}]" if signed else f"{low:.1f} to {high:.1f}"


def describe_fit(model: "SensorLSTMClassifier") -> list[str]:
    """Describe the windows that the final members of a fit were trained on."""
    sentences, choice = [], model.features_
    if (model.features or model.motors) and not choice.candidates:
        sentences.append(f"Features: none, because {choice.reason}.")
    if model.refitted_ and len(model.modules_) > model.n_models:
        sentences.append(
            f"The model keeps the networks of {len(model.modules_)} folds, which together were"
            " trained on all windows except the test part."
        )
    elif model.refitted_ and not model.model_.sum.uses_lstm:
        sentences.append(
            "The LSTM adds nothing to the features here, so the features decide alone. The"
            " features were fitted on all windows except the test part."
        )
    elif model.refitted_:
        sentences.append(
            "After this fit, the network was trained again on all windows except the test part."
        )
    return [*textwrap.wrap(" ".join(sentences), WIDTH), ""] if sentences else []


def describe_sensors(model: "AnyClassifier") -> list[str]:
    """Describe a fit on several sensors: each sensor's accuracy and the verdict on its curve."""
    from sensorseq.estimator import classifiers_of

    lines = [wrapped(f"Accuracy on {model.features_.reason}:")]
    for candidate in model.features_.candidates:
        weight = "" if candidate.weight is None else f"  weight {candidate.weight:.2f}"
        lines.append(f"  {candidate.name:<12} {100 * candidate.accuracy:5.1f} %{weight}")
    if not model.features_.candidates:
        lines = [wrapped(f"{model.features_.reason}.")]
    lines.append("")
    for name, classifier in classifiers_of(model).items():
        verdict = classifier.fluctuation_.verdict
        lines.append(wrapped(f"{name}: the curve of its LSTM is {verdict}"))
    return lines
