"""What all scores need: known labels, and intervals that treat groups as units."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError, nearest_known


def check_known_labels(labels: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise when a label is not one of the classes a model knows."""
    known = classes.tolist()
    for label in np.unique(labels).tolist():
        if label not in known:
            by_text = {str(name).lower(): name for name in known}
            nearest = nearest_known(label, by_text)
            hint = f" Did you mean {by_text[nearest]!r}?" if nearest else ""
            raise InputError(
                f"label {label!r} is not one of the classes the model knows: "
                f"{', '.join(str(name) for name in known)}.{hint} Remove those windows, or train a"
                " model on them."
            )


def read_predictions(
    y: ArrayLike, probability: ArrayLike, classes: ArrayLike, purpose: str
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[Any]]:
    """Return labels, scores of shape (N, K) and class names that fit each other."""
    labels, scores, names = np.asarray(y), np.asarray(probability, np.float64), np.asarray(classes)
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
    """Return the position of each label among the classes."""
    order = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([order[label] for label in labels.tolist()], np.int64)


N_RESAMPLES = 2000
CONFIDENCE = 0.95
N_FLIPS = 10_000


class Interval(NamedTuple):
    """The range of a score over other samples of recordings of the same kind."""

    low: float
    high: float


def resampling_weights(n_groups: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each group is drawn, (n_resamples, n_groups); rows sum to n_groups."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def sign_flips(n_groups: int, seed: int) -> NDArray[np.bool_]:
    """Return which groups are exchanged in each permutation, (n_permutations, n_groups).

    All 2**n_groups choices where they are no more than `N_FLIPS`; otherwise that many, drawn at
    random. The first exchanges nothing, so a share of the rows is a valid p-value [1]_.

    References
    ----------
    .. [1] B. Phipson, G. K. Smyth, "Permutation p-values should never be zero", Statistical
       Applications in Genetics and Molecular Biology 9, 2010.
    """
    if 2**n_groups <= N_FLIPS:
        numbers = np.arange(2**n_groups)[:, None]
        return np.asarray(numbers >> np.arange(n_groups) & 1, bool)
    flips = np.random.default_rng(seed).random((N_FLIPS, n_groups)) < 0.5
    flips[0] = False
    return flips


def percentile_interval(values: NDArray[np.float64]) -> Interval:
    """Return the interval of resampled scores; NaN are ignored."""
    values = values[~np.isnan(values)]
    if not len(values) or (np.ptp(values) == 0 and len(values) > 1):
        # One group, or all groups equal: resampling says nothing, rather than "certain".
        return Interval(float("nan"), float("nan"))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return Interval(float(low), float(high))


def plain_interval(interval: Interval) -> list[float] | None:
    """Return an interval for JSON; None when there is none."""
    return list(interval) if np.isfinite(interval).all() else None
