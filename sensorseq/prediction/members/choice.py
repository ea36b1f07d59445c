"""FeatureChoice: the members that were compared in a fit, and their weights."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from sensorseq.io.model_file import check_texts


@dataclass(frozen=True)
class Candidate:
    """A model scored in cross-validation (``"lstm"``, a kind of features, or ``"together"``).

    `log_loss` is the mean over the test windows, in nats, after optimal scaling of the scores.
    `weight` is the factor of the model's scores in the logits, or None for ``"together"``.
    """

    name: str
    log_loss: float
    accuracy: float
    weight: float | None


@dataclass(frozen=True)
class FeatureChoice:
    """The kinds of features used in addition to the LSTM, and the reason for this choice in words.

    `candidates` contains each model alone, followed by all models together, and is empty if nothing
    was compared. The comparison used `n_windows` test windows of `n_folds` folds.
    """

    names: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    n_windows: int = 0
    n_folds: int = 0
    reason: str = "features=None"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        candidates = [vars(candidate) for candidate in self.candidates]
        return vars(self) | {"names": list(self.names), "candidates": candidates}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FeatureChoice":
        """Restore from the result of `to_dict`; raise a TypeError if a value has the wrong type."""
        candidates = tuple(Candidate(**fields) for fields in stored["candidates"])
        choice = cls(**{**stored, "names": tuple(stored["names"]), "candidates": candidates})
        texts = [*choice.names, choice.reason, *(candidate.name for candidate in candidates)]
        numbers = [
            value
            for candidate in candidates
            for value in (candidate.log_loss, candidate.accuracy, candidate.weight)
        ]
        counts = [choice.n_windows, choice.n_folds]
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
        lines = [f"{self.reason}", "                log-loss  accuracy  weight"]
        for name, log_loss, accuracy, factor in map(astuple, self.candidates):
            weight = "" if factor is None else f"{factor:8.3g}"
            lines.append(f"  {name:<12}  {log_loss:8.3f}  {100 * accuracy:6.1f} %{weight}")
        return "\n".join(lines)
