"""What follows from class probabilities: abstention, and one decision for a recording."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.gaps import EMPTY


def check_temperature(value: float) -> float:
    """Return a temperature read from a file if it is valid."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"temperature is {value!r}, expected a number above 0")
    return value


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities (n, K), float64."""
    exponentials = np.exp(below_highest(logits))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def below_highest(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return logits (n, K) minus the highest of each window, float64."""
    z = np.asarray(logits, np.float64)
    return np.asarray(z - z.max(axis=1, keepdims=True))


class Abstention(NamedTuple):
    """A threshold, its requirements, and its results on the windows used to choose it.

    Windows whose highest probability is below `threshold` get no label. At most a fraction
    `error_rate` of the answers is wrong, with this `confidence`. `coverage` is the fraction of
    windows that were answered, and `error` the fraction of wrong answers.
    """

    threshold: float
    error_rate: float
    confidence: float
    coverage: float
    error: float
    n_windows: int
    n_groups: int


def judge(
    probability: NDArray[np.float64],
    lacks: NDArray[np.integer[Any]],
    threshold: Optional[float],
) -> list[Optional[bool]]:
    """Return whether windows (n, K) are answered: never EMPTY ones; None without a threshold."""
    if threshold is None:
        return [False if lack == EMPTY else None for lack in lacks.tolist()]
    answered: list[Optional[bool]]
    answered = ((probability.max(axis=1) >= threshold) & (lacks != EMPTY)).tolist()
    return answered


def recording_prediction(probability: NDArray[np.float64]) -> tuple[int, int, NDArray[np.float64]]:
    """Return the majority vote, the class of highest mean probability, and the mean."""
    mean = probability.mean(axis=0)
    votes = np.bincount(probability.argmax(axis=1), minlength=probability.shape[1])
    tied = np.flatnonzero(votes == votes.max())
    return int(tied[np.argmax(mean[tied])]), int(mean.argmax()), mean


def check_shares(values: Sequence[Any], n_classes: int) -> NDArray[np.float64]:
    """Check and return the mean probability of each class, read from a file."""
    shares = np.asarray(values, np.float64)
    if shares.shape != (n_classes,) or not (np.isfinite(shares) & (shares > 0)).all():
        raise InputError(f"class_shares is {values!r}, expected {n_classes} numbers above 0")
    return shares


def check_abstention(fields: Sequence[Any]) -> Abstention:
    """Check and return the result of `fit_abstention` read from a file."""
    read = Abstention(*fields)
    numbers = all(isinstance(value, (int, float)) for value in read)
    if not numbers or not 0 <= read.threshold <= 1:
        raise InputError(f"abstention is {list(fields)!r}, expected a threshold and six numbers")
    return read
