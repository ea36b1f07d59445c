"""Learn a model's temperature, class frequencies and abstention threshold from left-out windows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betaincc, stdtrit
from sklearn.metrics import accuracy_score

from sensorseq.base.checks import check_groups, check_real, mark_of_unlabeled
from sensorseq.errors import InputError, warn_caller
from sensorseq.estimator.fit_windows import ScaledFit
from sensorseq.learners.all_windows import AllWindows
from sensorseq.learners.weigh import Weighted
from sensorseq.prediction.decisions import Abstention, below_highest, softmax
from sensorseq.prediction.members.choice import FeatureChoice
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.preparation import seen_recordings
from sensorseq.sensor_windows import AnyWindows, sets_of, window_set_of
from sensorseq.training.evaluation import outputs_of
from sensorseq.training.labels import read_known_labels, read_labels

_FEWEST_LEFT_OUT, _MOST_LEFT_OUT = 6, 1000  # number of windows for the class frequencies
_SMALLEST_LOG = -6.0  # lower limit of log-probabilities, so that no class frequency is near zero

LeftOut = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Indices of windows in X, and their logits from models that were not fitted on them."""


def learn_probabilities(
    parameters: Mapping[str, Any],
    model: TrainedModel,
    scaled: ScaledFit,
    windows: AllWindows | None,
    weighted: Weighted | None,
) -> tuple[TrainedModel, LeftOut | None]:
    """Return the model with its temperature and class frequencies, and the left-out logits."""
    if weighted is not None and windows is not None:
        logits = weighted.logits
        class_index, groups, rows = windows.truth_of(weighted.rows)
    else:
        held_out, samples = scaled.data.validation, scaled.samples[1]
        if held_out is None or samples is None:
            return model, None
        logits, groups = outputs_of(model.sum, samples), held_out.groups
        class_index, rows = held_out.target, held_out.rows
    if parameters["calibrate"]:
        model = replace(model, temperature=fit_calibration(logits, class_index, groups))
    shares = learn_shares(parameters, softmax(logits / model.temperature))
    return replace(model, shares=shares), None if rows is None else (rows, logits)


def with_interval(weighted: Weighted, windows: AllWindows) -> FeatureChoice:
    """Return the choice with the interval of the accuracy on new groups.

    Folds that are cut in time have no groups that are new, so that a caveat is added instead.
    """
    choice = weighted.choice
    if windows.shares_groups:
        caveat = "; training and test windows share groups, so all scores are optimistic"
        if any(isinstance(member, LinearMember) for member in weighted.sum.members.values()):
            caveat += ", and linear layers count equally"
        return replace(choice, reason=choice.reason + caveat)
    class_index, groups, _ = windows.truth_of(weighted.rows)
    index = np.unique(weighted.rows if groups is None else groups, return_inverse=True)[1]
    is_right = weighted.logits.argmax(axis=1) == class_index
    interval = accuracy_interval(is_right, index, windows.seen.weight[weighted.rows])
    n_groups = None if groups is None else int(index.max()) + 1
    return replace(choice, interval=interval, n_groups=n_groups)


def accuracy_interval(
    is_right: NDArray[np.bool_], group_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Return the 95 % interval of a weighted accuracy on windows of new groups.

    Wilson's interval (1927) for the number of independent windows that would have the variance
    between groups. With one group, the result is None.
    """
    size = np.bincount(group_index, weight / weight.sum())
    n_groups, right = len(size), np.bincount(group_index, weight * is_right / weight.sum())
    if n_groups < 2:
        return None
    accuracy, z = float(right.sum()), float(stdtrit(n_groups - 1, 0.975))
    variance = n_groups / (n_groups - 1) * ((right - accuracy * size) ** 2).sum()
    n = accuracy * (1 - accuracy) / variance if variance > 1e-12 else 1 / (size**2).sum()
    middle = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    return float(middle - half), float(middle + half)


def with_probabilities(left_out: LeftOut, model: TrainedModel) -> LeftOut:
    """Return the indices of windows, and their probabilities in place of their logits."""
    rows, logits = left_out
    return rows, softmax(logits / model.temperature)


def learn_shares(
    parameters: Mapping[str, Any], probabilities: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the mean of the probabilities (n, K) of left-out windows.

    Return None if there are too few windows, or if training balanced the classes.
    """
    is_balanced = parameters["class_weight"] is not None or parameters["sampler"] != "shuffle"
    n = len(probabilities)
    if is_balanced or n < _FEWEST_LEFT_OUT or not np.isfinite(probabilities).all():
        return None
    rows = np.linspace(0, n - 1, min(n, _MOST_LEFT_OUT)).round().astype(np.int64)
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(probabilities[rows]), _SMALLEST_LOG).astype(np.float32)
    shares = np.exp(logs.astype(np.float64)).mean(axis=0)
    return np.asarray(shares / shares.sum())


def fit_calibration(
    logits: NDArray[np.float64], class_index: NDArray[np.int64], groups: NDArray[Any] | None
) -> float:
    """Return the temperature fitted to left-out windows; warn if it is poorly determined."""
    temperature = fit_temperature(logits, class_index)
    spread = probability_spread(logits, class_index, temperature, groups)
    if spread > NOTABLE_SPREAD:
        of = "" if groups is None else f" of {len(np.unique(groups))} group(s)"
        warn_caller(
            f"calibrate=True had only {len(logits)} validation windows{of}; with other"
            " validation windows, the probability of the predicted class would differ by about"
            f" {spread:.2f}. Hold out more windows (validation_fraction, X_val), or do not rely on"
            " the probabilities.",
        )
    return temperature


def seen_by(model: TrainedModel, windows: AnyWindows) -> list[str]:
    """Return the recordings of `windows` that were used in the fit of a model."""
    sets = sets_of(windows)
    seen = [
        recording
        for sensor, of_sensor in model.inputs.items()
        if sensor in sets
        for recording in seen_recordings(of_sensor.preparation, sets[sensor])
    ]
    return list(dict.fromkeys(seen))


def find_abstention(
    model: TrainedModel,
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
    if (windows := window_set_of(X)) is not None:
        y = windows.y if y is None else y
        groups = windows.groups if groups is None else groups
        if seen := seen_by(model, windows):
            raise InputError(
                f"X has {len(seen)} recording(s) that were used for training or validation"
                f" ({', '.join(seen[:3])}). The model makes fewer errors on these than on new"
                " recordings. Give recordings that were not used in fit."
            )
    probability = model.predict_proba(X, lengths)
    n_windows = len(probability)
    class_index = read_known_labels(y, n_windows, "y", "X", model.classes)
    named = check_groups("groups", groups, n_windows)
    group_index = np.arange(n_windows)
    if named is not None:
        group_index = np.unique(named, return_inverse=True)[1]
    highest, is_right = probability.max(axis=1), probability.argmax(axis=1) == class_index
    chosen = choose_threshold(
        highest, is_right, group_index, error_rate=error_rate, confidence=confidence
    )
    if chosen is None:
        lowest = lowest_error_rate(highest, is_right, group_index, confidence)
        remedy = "" if lowest is None else f", or allow error_rate={lowest:g}"
        raise InputError(
            f"no threshold was found: {n_windows} windows of {group_index.max() + 1} group(s),"
            f" {100 * is_right.mean():.1f} % of them classified correctly, do not show"
            f" with confidence {confidence:g} that at most error_rate={error_rate:g} of the answers"
            " are wrong, even if only the most confident 30 % of the windows are answered."
            f" Record more groups{remedy}."
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
    if y is None and (windows := window_set_of(X)) is not None:
        y = windows.y
    labels, _ = read_labels(y, len(predicted), "y", classes=classes)
    mark = mark_of_unlabeled({*classes.tolist(), *labels.tolist()})
    if mark is not None and mark not in classes.tolist():
        n = int((labels == mark).sum())
        warn_caller(
            f"y is {mark!r} for {n} of {len(labels)} windows. This value is not a class of the"
            " model and usually marks windows without a label. These windows count as errors. To"
            f" leave them out, set keep = np.not_equal(y, {mark!r}), and give X[keep] and y[keep]."
        )
    return float(accuracy_score(labels, predicted, sample_weight=sample_weight))


# The estimates, from logits and probabilities

# Weight of the prior belief that the network is calibrated. An uncertain window has about the same
# weight (the variance of its logits), so a few windows outweigh the prior.
_PRIOR = 1.0
NOTABLE_SPREAD = 0.05


def fit_temperature(logits: NDArray[np.floating], class_index: NDArray[np.integer]) -> float:
    """Return the temperature T for which ``softmax(logits / T)`` fits the classes best.

    T minimizes the sum of two terms: the cross entropy of windows not used for training [1]_, and
    ``b - 1 - log(b)`` with ``b = 1 / T``. The second term is a gamma prior whose mode is T = 1.
    With a few dozen windows or more, the prior has no noticeable effect. The cross entropy alone
    would fall as T goes to 0 if all windows are classified correctly, and as T goes to infinity if
    the logits are worse than chance. The prior keeps T away from both extremes. The sum is strictly
    convex in b, so there is one minimum and no bound is needed.

    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, *On Calibration of Modern Neural Networks*,
    2017.
    """
    z = below_highest(logits)
    of_class = z[np.arange(len(z)), class_index]

    def slope(log_b: float) -> float:
        b = np.exp(log_b)
        expected = (softmax(b * z) * z).sum(axis=1)
        # the derivative times b, which has the same root and avoids overflow
        return float(b * (expected - of_class).sum() + _PRIOR * (b - 1))

    low, high = -1.0, 1.0
    while slope(low) > 0:
        low *= 2
    while slope(high) < 0:
        high *= 2
    return float(np.exp(-brentq(slope, low, high, xtol=1e-12, rtol=1e-12)))


def probability_spread(
    logits: NDArray[np.floating],
    class_index: NDArray[np.integer],
    temperature: float,
    groups: NDArray[Any] | None = None,
) -> float:
    """Estimate the standard error of the top class's probability due to fitting T.

    The result is the standard error of log T times the root mean square, over the windows, of the
    derivative of the top class's probability with respect to log T. Two standard errors of log T
    are estimated, and the larger one is used. The first assumes independent windows. The second is
    computed from the slope of each group's loss, so it allows for correlated windows within a
    group.
    """
    z = below_highest(logits) / temperature
    probability = softmax(z)
    expected = (probability * z).sum(axis=1)
    spread_of_z = float((probability * (z - expected[:, np.newaxis]) ** 2).sum())
    variance = spread_of_z
    if groups is not None and len(names := np.unique(groups)) > 1:
        slope = expected - z[np.arange(len(z)), class_index]
        of_group = np.bincount(np.searchsorted(names, groups), slope)
        variance = max(variance, float((of_group**2).sum()) * len(names) / (len(names) - 1))
    information = spread_of_z + _PRIOR / temperature
    change = probability.max(axis=1) * expected  # d p_max / d log T; the z of the top class is 0
    return float(np.sqrt((change**2).mean() * variance) / information)


# Coverage of each candidate threshold: the fraction of windows that are answered.
_COVERAGES = np.arange(6, 21) / 20
_STARTS = (0, 6, 14)  # indices of 30, 60 and 100 % in `_COVERAGES`, see `choose_threshold`


def choose_threshold(
    probability: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    group_index: NDArray[np.int64],
    *,
    error_rate: float,
    confidence: float,
) -> Abstention | None:
    """Return the lowest threshold for which the answers stay within the error rate, or None.

    The thresholds that answer 30, 35, ... 100 % of the windows are tested in this order. The null
    hypothesis of each test is that more than `error_rate` of the answers are wrong; testing stops
    when a hypothesis cannot be rejected. A fixed testing order needs no correction for the number
    of tests [1]_. Because 30 % of the windows may be too few to reject a hypothesis, testing starts
    again at 60 and at 100 %. ``1 - confidence`` is divided equally among the three starting points.
    If all hypotheses between a starting point and the next one are rejected, the next one also gets
    the part of the first (the fallback procedure [2]_).

    Each test is an exact binomial test with the *effective* number of windows, as in surveys [3]_:
    the number of answered windows divided by the design effect ``1 + (m - 1) rho``. Here, m is the
    number of windows in a group, and rho is the correlation of errors within a group. The
    correlation is estimated from all windows and shrunk toward 1, at which a group counts as one
    observation. The result is a weighted mean of the estimate, whose weight is the number of groups
    with an error, and of the value 1, whose weight is 1. This shrinkage replaces the correction in
    [3]_ for a small number of groups.

    .. [1] A. N. Angelopoulos et al., *Learn then Test*, 2021.
    .. [2] B. L. Wiens, *A fixed sequence Bonferroni procedure for testing ... endpoints*, 2003.
    .. [3] E. L. Korn, B. I. Graubard, *Confidence intervals for proportions with small expected
       number of positive counts estimated from survey data*, Survey Methodology 24, 1998.
    """
    thresholds = np.quantile(probability, 1 - _COVERAGES, method="lower")
    p_values = _p_values(thresholds, probability, is_right, group_index, error_rate)
    chosen = None
    available = 0.0
    for place, (threshold, p_value) in enumerate(zip(thresholds, p_values, strict=True)):
        available += (1 - confidence) / len(_STARTS) if place in _STARTS else 0.0
        if p_value <= available:
            chosen = float(threshold)
        else:
            available = 0.0
    if chosen is None:
        return None
    answered = probability >= chosen
    return Abstention(
        chosen,
        error_rate,
        confidence,
        float(answered.mean()),
        float(1 - is_right[answered].mean()),
        len(probability),
        int(group_index.max()) + 1,
    )


def lowest_error_rate(
    probability: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    group_index: NDArray[np.int64],
    confidence: float,
) -> float | None:
    """Return the lowest error rate, in steps of 0.01 up to 0.5, that these windows support."""
    for percent in range(1, 51):
        arguments = {"error_rate": percent / 100, "confidence": confidence}
        if choose_threshold(probability, is_right, group_index, **arguments) is not None:
            return percent / 100
    return None


def _p_values(
    thresholds: NDArray[np.float64],
    probability: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    group_index: NDArray[np.int64],
    error_rate: float,
) -> NDArray[np.float64]:
    """Return the p-value of each threshold for the null hypothesis in `choose_threshold`."""
    n_groups = int(group_index.max()) + 1
    correlation = _error_correlation(is_right, group_index, n_groups)
    values = np.ones(len(thresholds))
    for place, threshold in enumerate(thresholds):
        answered = probability >= threshold
        sizes = np.bincount(group_index[answered], minlength=n_groups).astype(float)
        n, n_errors = sizes.sum(), float((answered & ~is_right).sum())
        effective_n = n / (1 + ((sizes**2).sum() / n - 1) * correlation)
        errors = n_errors / n * effective_n
        # P(Bin(effective_n, error_rate) <= errors), generalized to fractional counts
        if effective_n > errors:
            values[place] = betaincc(errors + 1, effective_n - errors, error_rate)
    return values


def _error_correlation(
    is_right: NDArray[np.bool_], group_index: NDArray[np.int64], n_groups: int
) -> float:
    """Estimate the correlation of errors within a group (by ANOVA), shrunk toward 1."""
    sizes = np.bincount(group_index, minlength=n_groups).astype(float)
    n = sizes.sum()
    if n_groups == n:
        return 0.0
    if n_groups < 2:
        return 1.0
    wrong = np.bincount(group_index, ~is_right, n_groups)
    mean = wrong / sizes
    between = (sizes * (mean - wrong.sum() / n) ** 2).sum() / (n_groups - 1)
    within = (sizes * mean * (1 - mean)).sum() / (n - n_groups)
    typical = (n - (sizes**2).sum() / n) / (n_groups - 1)
    total = between + (typical - 1) * within
    estimate = float(np.clip((between - within) / total, 0, 1)) if total > 0 else 1.0
    evidence = int((wrong > 0).sum())
    return (evidence * estimate + 1.0) / (evidence + 1)
