"""Choose from windows that were left out: the temperature, and when to abstain."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincc

from sensorseq.prediction.decisions import Abstention, below_highest, softmax

# Weight of the prior that the network is calibrated. Windows soon outweigh it: each adds the
# variance of its logits, which is about 1 if it is uncertain.
_PRIOR = 1.0
NOTABLE_SPREAD = 0.05


def fit_temperature(logits: NDArray[np.floating], class_index: NDArray[np.integer]) -> float:
    """Return the temperature T for which ``softmax(logits / T)`` fits the classes best.

    It minimizes the cross entropy of windows not used for training [1]_ plus ``b - 1 - log(b)``
    with ``b = 1 / T``, a gamma prior whose mode is T = 1. With a few dozen windows the prior has no
    noticeable effect. If all windows are classified correctly (cross entropy alone falls as T goes
    to 0) or are worse than chance (it falls as T goes to infinity), the prior keeps T finite and
    near 1. The sum is strictly convex in b, so there is one minimum and no bound is needed.

    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, *On Calibration of Modern Neural Networks*,
    2017.
    """
    z = below_highest(logits)
    of_class = z[np.arange(len(z)), class_index]

    def slope(log_b: float) -> float:
        b = np.exp(log_b)
        expected = (softmax(b * z) * z).sum(axis=1)
        # multiplied by b, which keeps the root and avoids overflow
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

    It is the standard error of log T times the derivative of that probability by log T, root mean
    square over the windows. The error is that for independent windows or, if larger, that from the
    groups' slopes of the loss, because windows of a recording are correlated.
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


# Candidate thresholds, by the fraction of windows that they answer.
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
    """Return the lowest threshold that keeps the error of answered windows, or None.

    The thresholds that answer 30, 35, ... 100 % of the windows are tested in this order, each
    against the null hypothesis "more than `error_rate` of its answers are wrong", until one cannot
    be rejected. A fixed testing order needs no correction for the number of tests [1]_. Because few
    windows cannot reject any hypothesis, there are three starting points, at 30, 60 and 100 %,
    which share ``1 - confidence``; a start passes the part it has not used on to the next (the
    fallback procedure [2]_).

    Each test is an exact binomial test with the *effective* number of windows: the number of
    answered windows divided by their design effect ``1 + (m - 1) rho``, where m is the number of
    windows of a group and rho the correlation of errors within a group, as in surveys [3]_. rho is
    estimated from all windows and shrunk towards 1 (a group is one observation) with the weight of
    one group that has an error, in place of their correction for few groups.

    .. [1] A. N. Angelopoulos et al., *Learn then Test*, 2021.
    .. [2] B. L. Wiens, *A fixed sequence Bonferroni procedure for testing ... endpoints*, 2003.
    .. [3] E. L. Korn, B. I. Graubard, *Confidence intervals for proportions with small expected
       number of positive counts estimated from survey data*, Survey Methodology 24, 1998.
    """
    thresholds = np.quantile(probability, 1 - _COVERAGES, method="lower")
    refuted_at = _p_values(thresholds, probability, is_right, group_index, error_rate)
    chosen = None
    available = 0.0
    for place, (threshold, p_value) in enumerate(zip(thresholds, refuted_at, strict=True)):
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
    """Return the lowest error rate, in hundredths up to 0.5, that these windows can guarantee."""
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
    """Return, per threshold, the probability of so few errors if the rate were `error_rate`."""
    n_groups = int(group_index.max()) + 1
    alike = _error_correlation(is_right, group_index, n_groups)
    values = np.ones(len(thresholds))
    for place, threshold in enumerate(thresholds):
        answered = probability >= threshold
        sizes = np.bincount(group_index[answered], minlength=n_groups).astype(float)
        n, n_errors = sizes.sum(), float((answered & ~is_right).sum())
        design_effect = 1 + ((sizes**2).sum() / n - 1) * alike
        worth = n / design_effect
        errors = n_errors / n * worth
        # P(Bin(worth, error_rate) <= errors), generalized to fractional counts
        values[place] = betaincc(errors + 1, worth - errors, error_rate) if worth > errors else 1.0
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
