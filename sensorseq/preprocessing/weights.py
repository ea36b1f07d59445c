"""Class weights, so that rare classes are not outvoted."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, WindowError, check_choice

KINDS = ("balanced", "effective_number")
BETA = 0.999


def class_weights(
    y: ArrayLike,
    kind: str = "balanced",
    beta: float = BETA,
    sample_weight: ArrayLike | None = None,
) -> dict[Any, float]:
    """Return a loss weight for each class; the mean over all windows is 1.

    Parameters
    ----------
    y : array-like of shape (n_windows,)
        Labels of the training windows.
    kind : {"balanced", "effective_number"}, default="balanced"
        balanced: ``n / (k * count)``, so that every class counts equally [1]_. effective_number:
        proportional to ``(1 - beta) / (1 - beta**count)`` [2]_. Windows that overlap or resemble
        each other add less and less information, so large classes are reduced less than by their
        count.
    beta : float, default=0.999
        Only for ``"effective_number"``, from 0 (no weights) to below 1. A class counts as at most
        ``1 / (1 - beta)`` windows. [2]_ used 0.9 to 0.9999 and found 0.999 or above best for large
        sets.
    sample_weight : array-like of shape (n_windows,), optional
        A window of weight 2 counts as two.

    Returns
    -------
    dict of label to float
        For `class_weight` of an estimator, in the order of the sorted labels.

    Raises
    ------
    WindowError
        If there is no window, or `sample_weight` has the wrong shape, is negative or not finite, or
        is 0 for a whole class.
    ArgumentError
        If `kind` is unknown or `beta` is outside its range.

    References
    ----------
    .. [1] G. King, L. Zeng, *Logistic Regression in Rare Events Data*, 2001.
    .. [2] Y. Cui, M. Jia, T.-Y. Lin, Y. Song, S. Belongie, *Class-Balanced Loss Based on Effective
       Number of Samples*, CVPR 2019.
    """
    check_choice("kind", kind, KINDS)
    labels = np.asarray(y)
    if labels.ndim != 1 or not labels.size:
        raise WindowError(f"y has shape {labels.shape}; expected (n_windows,), at least one.")
    weight = _check_sample_weight(sample_weight, len(labels))
    classes, class_index = np.unique(labels, return_inverse=True)
    counts = np.bincount(class_index, weights=weight, minlength=len(classes))
    if not (counts > 0).all():
        lost = classes.tolist()[int(np.argmin(counts))]
        raise WindowError(
            f"class {lost!r}: sample_weight is 0 for all its windows; leave the class out."
        )
    return dict(zip(classes.tolist(), weights_of_counts(counts, kind, beta).tolist(), strict=True))


def weights_of_counts(
    counts: NDArray[np.integer[Any]] | NDArray[np.float64], kind: str, beta: float = BETA
) -> NDArray[np.float64]:
    """Return `class_weights` by how many windows each class has; 1 for a class of none."""
    present = counts > 0
    if kind == "balanced":
        balanced = counts.sum() / (present.sum() * np.maximum(counts, np.where(present, 0, 1)))
        return np.where(present, balanced, 1.0)
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 <= beta < 1:
        raise ArgumentError(f"beta={beta!r} is not in 0..1 (1 excluded).")
    if beta == 0:
        return np.ones(len(counts))
    # expm1: 1 - beta**count in full precision where beta is close to 1
    effective = np.expm1(np.where(present, counts, 1) * np.log(beta)) / (beta - 1)
    weight = np.where(present, 1 / effective, 0.0)
    return np.where(present, weight * counts.sum() / (weight * counts).sum(), 1.0)


def _check_sample_weight(sample_weight: ArrayLike | None, n_windows: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n_windows)
    try:
        weight = np.asarray(sample_weight, np.float64)
    except (TypeError, ValueError) as error:
        raise WindowError(f"sample_weight does not hold numbers ({error}).") from error
    if weight.shape != (n_windows,):
        raise WindowError(
            f"sample_weight has shape {weight.shape}; {n_windows} windows need ({n_windows},)."
        )
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        row = int(wrong[0])
        raise WindowError(f"sample_weight[{row}] is {weight[row]}; weights must be 0 or more.")
    return weight
