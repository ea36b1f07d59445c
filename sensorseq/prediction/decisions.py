"""Decisions about windows and recordings, made from a model's probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.prediction.gaps import EMPTY


class Decisions(NamedTuple):
    """Labels of windows, masked if the classifier abstains.

    `label` (n_windows,) contains the most probable label of each window. Labels that are not
    `answered` are masked, so comparisons with them are never true. `answered` is True if
    `probability` reaches the threshold. To replace masked labels, use
    ``np.where(answered, label.data, "unknown")``.
    """

    label: Any
    probability: NDArray[np.float64]
    answered: NDArray[np.bool_]


class RecordingDecision(NamedTuple):
    """One label for all windows of a recording.

    `probability` is the mean probability of the label, `probabilities` has the mean probability of
    every class in the order of `classes_`, and `vote_share` is the fraction of windows for which
    this label is the most probable.
    """

    recording_id: Any
    label: Any
    probability: float
    vote_share: float
    n_windows: int
    probabilities: tuple[float, ...]


class Abstention(NamedTuple):
    """A threshold, its requirements, and its results on the windows used to choose it.

    Windows whose highest probability is below `threshold` get no label. With a confidence of
    `confidence`, at most a fraction `error_rate` of the labels is wrong. Of the windows used to
    choose the threshold, the fraction `coverage` got a label; `error` is the fraction of these
    labels that are wrong.
    """

    threshold: float
    error_rate: float
    confidence: float
    coverage: float
    error: float
    n_windows: int
    n_groups: int


def decide_recording(
    name: Any, probability: NDArray[np.float64], how: str, classes: list[Any]
) -> RecordingDecision:
    """Return the decision about a recording from the probabilities (n, K) of its windows."""
    vote, best, mean = recording_prediction(probability)
    index = best if how == "mean" else vote
    return RecordingDecision(
        name,
        classes[index],
        float(mean[index]),
        float((probability.argmax(axis=1) == index).mean()),
        len(probability),
        tuple(mean.tolist()),
    )


def refuse_empty(lacks: NDArray[np.int8], missing: str, what: str, part: str) -> None:
    """Raise an InputError if a window is EMPTY; `what` and `part` are words for the message."""
    if (lacks == EMPTY).any():
        failed = f", or every {part} has failed" if missing == "outside" else ""
        raise InputError(
            f"window {int(np.argmax(lacks))} has no {what}{failed}, so it has no class; use"
            " predict_or_abstain, which masks EMPTY windows, or leave such windows out."
        )


def check_temperature(value: float) -> float:
    """Check a temperature that was read from a file, and return it."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"temperature is {value!r}; expected a number above 0")
    return value


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities (n, K), float64."""
    exponentials = np.exp(below_highest(logits))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def below_highest(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Subtract the highest logit of each window from its logits (n, K), in float64."""
    z = np.asarray(logits, np.float64)
    return np.asarray(z - z.max(axis=1, keepdims=True))


def answered_windows(
    probability: NDArray[np.float64],
    lacks: NDArray[np.integer[Any]],
    threshold: Optional[float],
) -> list[Optional[bool]]:
    """Return whether each window gets a label; an EMPTY window never does.

    Without a threshold, the result is None for windows that are not EMPTY.
    """
    if threshold is None:
        return [False if lack == EMPTY else None for lack in lacks.tolist()]
    answered: list[Optional[bool]]
    answered = ((probability.max(axis=1) >= threshold) & (lacks != EMPTY)).tolist()
    return answered


def recording_prediction(probability: NDArray[np.float64]) -> tuple[int, int, NDArray[np.float64]]:
    """Return the class with the most votes, the class with the highest mean, and all means."""
    mean = probability.mean(axis=0)
    votes = np.bincount(probability.argmax(axis=1), minlength=probability.shape[1])
    tied = np.flatnonzero(votes == votes.max())
    return int(tied[np.argmax(mean[tied])]), int(mean.argmax()), mean


def check_shares(values: Sequence[Any], n_classes: int) -> NDArray[np.float64]:
    """Check mean class probabilities that were read from a file, and return them as an array."""
    shares = np.asarray(values, np.float64)
    if shares.shape != (n_classes,) or not (np.isfinite(shares) & (shares > 0)).all():
        raise InputError(f"class_shares is {values!r}; expected {n_classes} numbers above 0")
    return shares


def check_abstention(fields: Sequence[Any]) -> Abstention:
    """Check a result of `fit_abstention` that was read from a file, and return it."""
    abstention = Abstention(*fields)
    are_numbers = all(isinstance(value, (int, float)) for value in abstention)
    if not are_numbers or not 0 <= abstention.threshold <= 1:
        raise InputError(f"abstention is {list(fields)!r}; expected a threshold and six numbers")
    return abstention
