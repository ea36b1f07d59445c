"""Predictor: turn a model's logits into labels for windows or recordings, and into timelines."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import check_groups, check_positive, check_real
from sensorseq.errors import InputError, check_choice
from sensorseq.io.model_file import TakeField, describe_labels, read_labels
from sensorseq.prediction.gaps import EMPTY
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.preparation import Preparation
from sensorseq.prediction.windows import refuse_path
from sensorseq.preprocessing.cutting import recorded_hop_s
from sensorseq.sensor_windows import SensorWindows
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import Smoothing, check_smoothing
from sensorseq.windows import WindowSet, iter_recordings


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


class Predictor(ABC):
    """A trained classifier of the windows of one sensor or of several sensors."""

    classes: NDArray[Any]
    temperature: float
    preparation: Preparation | None
    shares: NDArray[np.float64] | None
    abstention: Abstention | None

    @abstractmethod
    def logits_and_lacks(
        self, X: Any, lengths: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (zeros for an EMPTY window) and `lacks` (n,); see `gaps`."""

    @abstractmethod
    def cut(self, X: Any) -> Any:
        """Cut recordings into windows as in training; return anything else unchanged."""

    @abstractmethod
    def check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        """Raise an InputError if a window is EMPTY and therefore cannot be classified."""

    @property
    @abstractmethod
    def has_ranges(self) -> bool:
        """True if the model has the ranges of its training windows, which `outside` needs."""

    @abstractmethod
    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike the training windows; see `SensorLSTMClassifier.outside`."""

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """The mean probability of each class in windows left out of the fit.

        All classes have the same probability if these means are unknown.
        """
        k = len(self.classes)
        return np.full(k, 1 / k) if self.shares is None else self.shares

    def logits(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return the logits (n, K), not yet divided by the temperature."""
        logits, lacks = self.logits_and_lacks(X, lengths)
        self.check_not_empty(lacks)
        return logits

    def probabilities(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return probabilities (n, K) and `lacks` (n,); see `gaps`.

        The probabilities of an EMPTY window are `class_shares`, which do not affect smoothing.
        """
        logits, lacks = self.logits_and_lacks(X, lengths)
        probabilities = softmax(logits / self.temperature)
        is_empty = lacks == EMPTY
        if is_empty.any():
            probabilities[is_empty] = self.class_shares
        return probabilities, lacks

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window; see `SensorLSTMClassifier.predict`."""
        return np.asarray(self.classes[self.logits(X, lengths).argmax(axis=1)])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return probabilities (n, K); see `SensorLSTMClassifier.predict_proba`."""
        return softmax(self.logits(X, lengths) / self.temperature)

    def predict_or_abstain(
        self, X: Any, lengths: ArrayLike | None = None, *, threshold: float | None = None
    ) -> Decisions:
        """Return labels, masked where uncertain; see `SensorLSTMClassifier.predict_or_abstain`."""
        if threshold is None and self.abstention is not None:
            threshold = self.abstention.threshold
        if threshold is None:
            raise InputError(
                "there is no threshold yet: call fit_abstention on held-out windows first, or"
                " give a probability as threshold=."
            )
        check_real("threshold", threshold, 0.0, 1.0, high_open=False)
        rows, lacks = self.probabilities(X, lengths)
        probability = rows.max(axis=1)
        answered = np.array(answered_windows(rows, lacks, threshold), bool)
        label = np.ma.MaskedArray(self.classes[rows.argmax(axis=1)], mask=~answered)
        return Decisions(label, probability, answered)

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return a label for each recording; see `SensorLSTMClassifier.predict_recordings`."""
        check_choice("how", how, ("mean", "vote"))
        if recording_id is None and isinstance(X, (WindowSet, SensorWindows)):
            recording_id = X.recording_id
        if recording_id is None:
            raise InputError(
                "the recording of each window is unknown; give recording_id, or a WindowSet that"
                " has it."
            )
        probabilities = self.predict_proba(X, lengths)
        ids = check_groups("recording_id", recording_id, len(probabilities))
        assert ids is not None
        return [
            _decide(name, probabilities[rows], how, self.classes.tolist())
            for name, rows in iter_recordings(ids)
        ]

    def smoothing(
        self,
        smooth: str,
        lag: int | None,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> Smoothing:
        """Return a `Smoothing`; values learned in training replace parameters that are None.

        Raise an ArgumentError if `smooth` does not use an argument that is given.
        """
        lag = check_smoothing(smooth, lag, mean_dwell_s, transitions)
        return self.with_learned_dwell(Smoothing(smooth, lag, mean_dwell_s, transitions))

    def with_learned_dwell(self, smoothing: Smoothing) -> Smoothing:
        """Replace parameters that are None by values learned in training, if there are any."""
        learned = None if self.preparation is None else self.preparation.get("dwell")
        if learned is not None and len(learned["mean_s"]) == len(self.classes):
            if smoothing.mean_dwell_s is None:
                smoothing = smoothing._replace(mean_dwell_s=learned["mean_s"])
            if smoothing.transitions is None:
                smoothing = smoothing._replace(transitions=learned["follows"])
        return smoothing

    def timeline(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: str = "marginals",
        lag: int | None = None,
        mean_dwell_s: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
    ) -> Timeline:
        """Return the class over time; see `SensorLSTMClassifier.timeline`."""
        refuse_path(X)
        smoothing = self.smoothing(smooth, lag, mean_dwell_s, transitions)
        X, hop_s = self.cut(X), None
        if isinstance(X, (WindowSet, SensorWindows)):
            hop_s = recorded_hop_s(X.provenance)
            recording_id = X.recording_id if recording_id is None else recording_id
            start_s = X.start_s if start_s is None else start_s
            window_s = X.window_s if window_s is None else window_s
        if start_s is None:
            raise InputError(
                "the start of each window is unknown; give start_s in seconds, a WindowSet that has"
                " it, or recordings."
            )
        starts = np.asarray(start_s, np.float64)
        rows, _ = self.probabilities(X, lengths)
        if window_s is None:
            hops = np.diff(np.unique(starts))
            window_s = float(np.median(hops)) if len(hops) else 1.0
        return timeline_of(
            rows,
            self.classes,
            starts,
            check_positive("window_s", window_s),
            recording_id,
            hop_s=hop_s,
            class_shares=self.class_shares,
            **smoothing._asdict(),
        )

    def describe_classes(self) -> dict[str, Any]:
        """Return classes, temperature, threshold and class shares for a model file."""
        return {
            "classes": describe_labels(self.classes),
            "temperature": self.temperature,
            "abstention": None if self.abstention is None else list(self.abstention),
            "class_shares": None if self.shares is None else self.shares.tolist(),
        }


def read_classes(take: TakeField) -> dict[str, Any]:
    """Read the fields of `Predictor.describe_classes`; `take` returns a field of a given type."""
    classes = read_labels(take("classes", dict))
    abstention = take("abstention", (list, type(None)))
    shares = take("class_shares", (list, type(None)))
    return {
        "classes": classes,
        "temperature": check_temperature(take("temperature", float)),
        "abstention": None if abstention is None else check_abstention(abstention),
        "shares": None if shares is None else check_shares(shares, len(classes)),
    }


def _decide(
    name: Any, probability: NDArray[np.float64], how: str, classes: list[Any]
) -> RecordingDecision:
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
