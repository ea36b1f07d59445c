"""The sentences of a report (Statement) and the attributes of a report (ReportContents)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sensorseq.diagnosis.causes import Cause
from sensorseq.diagnosis.metrics import Statistic
from sensorseq.diagnosis.thresholds import MINOR_SHARE
from sensorseq.history import TrainingRecord
from sensorseq.messages import MESSAGES, fill
from sensorseq.prediction.members.choice import FeatureChoice


@dataclass(frozen=True)
class Statement:
    """One sentence of a report: the kind of message, and the values in it."""

    kind: str  # one of `sensorseq.messages.MESSAGES`
    values: Mapping[str, Any] = field(default_factory=dict)  # numbers, strings and lists of numbers

    @property
    def topic(self) -> str:
        """The topic of the message; code selects statements by topic."""
        return MESSAGES[self.kind].topic if self.kind in MESSAGES else "other"

    def __str__(self) -> str:
        if self.kind not in MESSAGES:  # written by a later version
            return f"{self.kind}: {dict(self.values)}"
        return fill(MESSAGES[self.kind].text, self.values)


def statement_of(kind: str, **values: Any) -> Statement:
    """Return a statement with values given by name."""
    return Statement(kind, values)


_CARRIED = ("not_carried_over", "not_carried_over_loss", "parts_apart", "val_loss_guesses")
_GENERALIZATION = dict.fromkeys(_CARRIED, "not_generalizing")
_GENERALIZATION |= dict.fromkeys(("overfits", "got_worse"), "overfitting")


def generalization_of(statements: Iterable[Statement]) -> str | None:
    """Return ``"overfitting"``, ``"not_generalizing"`` or None, derived from the statements."""
    values = (_GENERALIZATION.get(statement.kind) for statement in statements)
    return next((value for value in values if value is not None), None)


def of_topic(statements: Iterable[Statement], *topics: str) -> list[Statement]:
    """Return the statements about any of the topics, in their original order."""
    return [statement for statement in statements if statement.topic in topics]


@dataclass(frozen=True, eq=False, repr=False)
class ReportContents:
    """The contents of a `FluctuationReport`, which documents the attributes."""

    verdict: str
    severity: str | None
    statements: tuple[Statement, ...] = ()
    causes: tuple[Cause, ...] = ()
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    n_epochs: int = 0
    n_val: int | None = None
    n_train: int | None = None
    n_classes: int | None = None
    best_epoch: int | None = None
    history: Mapping[str, list[Any]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    record: TrainingRecord | None = None
    columns_read: Mapping[str, str] = field(default_factory=dict)
    model: FeatureChoice | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "record": None}  # too large for a pickle

    @property
    def explanation(self) -> tuple[str, ...]:
        """The texts of `statements`."""
        return tuple(map(str, self.statements))

    @property
    def generalization(self) -> str | None:
        """``"overfitting"``, ``"not_generalizing"`` or None, independent of the verdict."""
        return generalization_of(self.statements)

    @property
    def network_is_minor(self) -> bool:
        """True if the judged network has little or no weight in the model that was fitted."""
        share = None if self.model is None else self.model.lstm_share
        return share is not None and share < MINOR_SHARE
