"""Checks of predictions, intervals from resampled groups, and the calibration error."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_integer, check_per_window
from sensorseq.errors import ArgumentError, InputError
from sensorseq.training.labels import nearest_label

N_RESAMPLES = 2000
CONFIDENCE = 0.95
N_FLIPS = 10_000
LEAST_GROUPS = 5  # with fewer, an interval would only be the range of the groups' scores
_FEWEST = 20  # minimum number of windows per bin, which limits the number of bins


def check_known_labels(labels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise an error if a label is not one of a model's classes."""
    names = classes.tolist()
    for label in np.unique(labels).tolist():
        if label not in names:
            raise InputError(
                f"label {label!r} is not one of the classes of the model:"
                f" {', '.join(map(str, names))}.{nearest_label(label, names)} Remove the windows"
                " with this label, or train a model on them."
            )


def read_predictions(
    y: ArrayLike, probability: ArrayLike, classes: ArrayLike, purpose: str
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[Any]]:
    """Check that the arguments match, and return labels, scores (N, K) and class names."""
    labels, scores, names = np.asarray(y), np.asarray(probability, np.float64), np.asarray(classes)
    if labels.ndim != 1:
        raise InputError(f"y has shape {labels.shape}; give one label per window.")
    if not len(labels):
        raise InputError(f"there are no windows to {purpose}.")
    if scores.shape != (len(labels), len(names)):
        raise InputError(
            f"probability has shape {scores.shape}; {len(labels)} windows of {len(names)} classes"
            f" need {(len(labels), len(names))}."
        )
    check_known_labels(labels, names)
    return labels, scores, names


def index_of(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the index of each label in the classes."""
    order = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([order[label] for label in labels.tolist()], np.int64)


class Interval(NamedTuple):
    """The 95 % interval of a score over resampled groups."""

    low: float
    high: float


def resampling_weights(n_groups: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Return counts (n_resamples, n_groups) of how often each group is drawn.

    Each row sums to n_groups.
    """
    n_resamples = check_integer("n_resamples", n_resamples, 1)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def sign_flips(n_groups: int, seed: int) -> NDArray[np.bool_]:
    """Return a mask (n_permutations, n_groups) of the groups that each permutation exchanges.

    All 2**n_groups permutations are used if there are at most `N_FLIPS` of them, otherwise
    `N_FLIPS` random ones. The first permutation exchanges nothing and represents the observed data,
    so that a p-value is never zero (B. Phipson, G. K. Smyth, *Permutation p-values should never be
    zero*, 2010).
    """
    if 2**n_groups <= N_FLIPS:
        numbers = np.arange(2**n_groups)[:, None]
        return np.asarray(numbers >> np.arange(n_groups) & 1, bool)
    flips = np.random.default_rng(seed).random((N_FLIPS, n_groups)) < 0.5
    flips[0] = False
    return flips


def percentile_interval(values: NDArray[np.float64], n_groups: int) -> Interval:
    """Return the interval of scores from resampling groups, ignoring NaN.

    With fewer than `LEAST_GROUPS` groups, it is NaN: resamples would repeat the few scores of whole
    groups.
    """
    values = values[~np.isnan(values)]
    if n_groups < LEAST_GROUPS or not len(values) or (np.ptp(values) == 0 and len(values) > 1):
        # With one group, or identical groups, all resamples agree, but the score is uncertain.
        return Interval(float("nan"), float("nan"))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def plain_interval(interval: Interval) -> list[float] | None:
    """Return an interval as a list for JSON, or None if there is no interval."""
    return list(interval) if np.isfinite(interval).all() else None


class CalibrationBin(NamedTuple):
    """A bin of windows with similar probabilities."""

    n_windows: int
    probability: float
    accuracy: float


class CalibrationError(NamedTuple):
    """The gap between predicted probability and accuracy.

    The gap of a bin is its mean probability minus its accuracy. `value` is the root mean square gap
    over all windows; 0.1 means that probabilities are off by about ten points. `squared` is an
    unbiased estimate of the mean square gap. For a perfectly calibrated classifier, about half of
    these estimates are negative. `value` is 0 if `squared` is negative. The interval comes from
    resampling whole groups. The bins, in order of probability, are the points of a reliability
    diagram.
    """

    value: float
    interval: Interval
    squared: float
    bins: tuple[CalibrationBin, ...]


def calibration_error(
    y: ArrayLike,
    probability: ArrayLike,
    classes: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_bins: int = 15,
    debias: bool = True,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> CalibrationError:
    """Measure the gap between the probability of the predicted class and the accuracy.

    Windows are sorted into bins of equal size by the probability p of the predicted class. The
    plain estimate of a bin's squared error is the square of the mean of ``p - right``, where
    ``right`` is 1 for a correct prediction and 0 otherwise. This estimate is too high by the
    variance of the mean, which is larger with fewer windows. This function averages only products
    of the errors of *two different windows*; the expectation of such a product is the squared error
    itself. If p is constant within a bin, this is the debiased estimator of Kumar, Liang and Ma
    [1]_. With `groups`, the two windows come from different groups. Predictions for one recording
    tend to be right or wrong together, so products within a recording would overestimate the
    calibration error. If no bin has windows of two groups, the result is NaN.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        True labels.
    probability : array-like of shape (n_windows, n_classes)
        Predicted probabilities; each row sums to 1.
    classes : array-like of shape (n_classes,)
        Labels of the columns.
    groups : array-like of shape (n_windows,), optional
        Group of each window, such as its recording; by default each window is independent.
    n_bins : int, default=15
        Maximum number of bins. Fewer bins are used if a bin would otherwise have fewer than 20
        windows. Windows with equal probabilities are in the same bin.
    debias : bool, default=True
        If False, the plain estimate is returned, for comparison with published values.
    n_resamples : int, default=2000
        Number of resamples of the groups for the interval, which is centered on the estimate.
    seed : int, default=0
        Seed of the resampling.

    Raises
    ------
    InputError
        If shapes disagree, there are no windows, a label is not in `classes`, or a row of
        `probability` does not sum to 1.

    References
    ----------
    .. [1] A. Kumar, P. Liang, T. Ma, *Verified Uncertainty Calibration*, NeurIPS 2019, section 4.
    """
    labels, rows, names = read_predictions(y, probability, classes, "measure the calibration on")
    if not are_probabilities(rows):
        raise InputError("rows of probability must sum to 1; give the output of predict_proba.")
    if n_bins < 1:
        raise ArgumentError(f"n_bins={n_bins!r} must be at least 1.")
    group = check_per_window("groups", groups, len(labels), owner="y")
    group = np.arange(len(labels)) if group is None else group
    confidence = rows.max(axis=1)
    right = names[rows.argmax(axis=1)] == labels
    # Sorting makes the result bit-identical for any order of the windows.
    order = np.lexsort((right, confidence, group))
    confidence, right = confidence[order], right[order].astype(np.float64)
    drawn_groups, group_index = np.unique(group[order], return_inverse=True)
    n_groups = len(drawn_groups)
    bin_index, n_used = _equal_bins(confidence, min(n_bins, max(1, len(confidence) // _FEWEST)))
    n, off = np.zeros((2, n_groups, n_used))
    np.add.at(n, (group_index, bin_index), 1)
    np.add.at(off, (group_index, bin_index), confidence - right)
    squared = _squared(n, off, np.ones((1, n_groups)), debias=debias)[0]
    drawn = _squared(n, off, resampling_weights(n_groups, n_resamples, seed), debias=debias)
    # Resampled estimates are biased; shift them so that their mean equals the estimate.
    drawn += squared - np.nanmean(drawn) if np.isfinite(drawn).any() else 0.0
    counts = np.bincount(bin_index, minlength=n_used)
    return CalibrationError(
        float(np.sqrt(max(squared, 0.0))) if np.isfinite(squared) else float("nan"),
        percentile_interval(np.sqrt(np.maximum(drawn, 0.0)), n_groups),
        float(squared),
        tuple(
            CalibrationBin(int(count), float(p), float(a))
            for count, p, a in zip(
                counts,
                np.bincount(bin_index, confidence, n_used) / counts,
                np.bincount(bin_index, right, n_used) / counts,
                strict=True,
            )
        ),
    )


def are_probabilities(rows: NDArray[np.float64]) -> bool:
    """Test whether every row is non-negative and sums to 1."""
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1.0, atol=1e-6))


def _equal_bins(values: NDArray[np.float64], n_bins: int) -> tuple[NDArray[np.int64], int]:
    """Return the bin of each value and the number of bins; equal values get the same bin."""
    inner = np.quantile(values, np.arange(1, n_bins) / n_bins, method="lower")
    used, index = np.unique(np.searchsorted(inner, values, side="left"), return_inverse=True)
    return index, len(used)


def _squared(
    n: NDArray[np.float64],
    off: NDArray[np.float64],
    weights: NDArray[np.generic],
    *,
    debias: bool,
) -> NDArray[np.float64]:
    """Return each resample's estimate of the squared calibration error.

    `n` (numbers of windows) and `off` (summed errors) have a row for each group and a column for
    each bin.
    """
    w = weights.astype(np.float64)
    windows, product = w @ n, (w @ off) ** 2
    pairs = windows**2
    if debias:  # a group drawn twice counts as two groups
        product -= w @ off**2
        pairs -= w @ n**2
    usable = pairs > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(usable, product / pairs, 0.0)
        share = np.where(usable, windows, 0.0)
        return np.asarray((share * each).sum(axis=1) / share.sum(axis=1))
