"""FeatureChoice: the members that were compared in a fit, and their weights."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Optional

from sensorseq.io.model_file import check_texts

LSTM = "lstm"  # name of the member that every model has


@dataclass(frozen=True)
class Candidate:
    """A model scored in cross-validation (``"lstm"``, a kind of features, or ``"together"``).

    `log_loss` is the mean over the test windows, in nats, after optimal scaling of the scores.
    `weight` is the factor of the model's scores in the logits, or None for ``"together"``. `share`
    is the spread of the weighted scores over the classes, as a fraction of the sum over all models;
    it is None for ``"together"`` or if it is unknown.
    """

    name: str
    log_loss: float
    accuracy: float
    weight: Optional[float]
    share: Optional[float] = None


@dataclass(frozen=True)
class FeatureChoice:
    """The kinds of features used in addition to the LSTM, and the reason for this choice in words.

    `candidates` contains each model alone, followed by all models together, and is empty if nothing
    was compared. The comparison used `n_windows` test windows of `n_folds` folds, from `n_groups`
    groups. `interval` is the 95 % interval of the accuracy of all models together on windows of
    new groups; it is None if unknown.
    """

    names: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    n_windows: int = 0
    n_folds: int = 0
    reason: str = "features=None"
    n_groups: Optional[int] = None
    interval: Optional[tuple[float, float]] = None

    @property
    def lstm_share(self) -> Optional[float]:
        """The share of the LSTM in the sum, or None if it is unknown."""
        return next((each.share for each in self.candidates if each.name == LSTM), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        candidates = [vars(candidate) for candidate in self.candidates]
        return vars(self) | {"names": list(self.names), "candidates": candidates}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FeatureChoice":
        """Restore from the result of `to_dict`; raise a TypeError if a value has the wrong type."""
        candidates = tuple(Candidate(**fields) for fields in stored["candidates"])
        interval = None if stored.get("interval") is None else tuple(stored["interval"])
        parts = {"names": tuple(stored["names"]), "candidates": candidates, "interval": interval}
        choice = cls(**{**stored, **parts})
        texts = [*choice.names, choice.reason, *(candidate.name for candidate in candidates)]
        numbers = [
            value
            for candidate in candidates
            for value in (
                candidate.log_loss,
                candidate.accuracy,
                candidate.weight,
                candidate.share,
            )
        ]
        numbers += interval or ()
        counts = [choice.n_windows, choice.n_folds, choice.n_groups or 0]
        check_texts("features", texts)
        if not (
            all(type(value) in (int, float, type(None)) for value in numbers)
            and all(type(count) is int for count in counts)
        ):
            raise TypeError(f"features: {stored!r} does not describe a choice")
        return choice

    def __str__(self) -> str:
        if not self.candidates:
            return f"the LSTM alone ({self.reason})"
        lines = [f"{self.reason}", "                log-loss  accuracy  weight   share"]
        for name, log_loss, accuracy, factor, part in map(astuple, self.candidates):
            weight = "" if factor is None else f"{factor:8.3g}"
            share = "" if part is None else f"  {100 * part:4.0f} %"
            lines.append(f"  {name:<12}  {log_loss:8.3f}  {100 * accuracy:6.1f} %{weight}{share}")
        return "\n".join(lines)
