"""Run: one history as the rules see it, and the statistics measured on the way."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.statistics.columns import Column, Floats
from sensorseq.fluctuation.statistics.thresholds import RATE_RISE, RATE_RISE_EPOCHS
from sensorseq.training_record import TrainingRecord


@dataclass(frozen=True)
class Statistic:
    """One measured number, and what to compare it with."""

    value: float
    unit: str  # "nats", "relative", "fraction", "epochs", "windows", "groups", "ratio" or "z"
    floor: float | None = None  # what a healthy run, or sampling alone, accounts for
    floor_is: str = ""  # where the floor comes from, in words
    low: float | None = None  # with `high` the 90 % interval of `value` by the block bootstrap
    high: float | None = None
    p: float | None = None  # of a value as large by chance alone, where that was tested


_NOTHING = Column(np.zeros(0), np.zeros(0, bool))


class Run:
    """One history, cut to what can be judged, and the statistics measured on the way."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        n_epochs: int,
        *,
        n_val: int | None,
        n_train: int | None,
        n_classes: int | None,
        majority_fraction: float | None,
        best_epoch: int | None,
        learning_rate: Sequence[float | None] | None = None,
        record: TrainingRecord | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.n_epochs = n_epochs
        self.n_val = n_val
        self.n_train = n_train
        self.best_epoch = best_epoch
        self.record = record if record is not None and record.n_epochs == n_epochs else None
        self.has_foreign_record = record is not self.record
        self.is_in_nats = self.record is None or self.record.is_in_nats
        if self.record is not None and self.is_in_nats and len(self.record.fixed_loss) == n_epochs:
            fixed = np.asarray(self.record.fixed_loss, np.float64)
            self.columns["fixed_loss"] = Column(fixed, np.isfinite(fixed))
        self.after_rise = _epochs_after_rise(learning_rate, n_epochs)
        self.rate_is_constant = _is_constant(learning_rate)
        self.statistics: dict[str, Statistic] = {}
        self.evidence: dict[str, Any] = {}  # series to draw, by name, in lists
        labels = () if self.followed is None else np.unique(self.followed.val_target)
        self.validates_one_class = majority_fraction == 1 or len(labels) == 1
        self.chance = None if self.validates_one_class else majority_fraction
        if self.chance is None and n_classes is not None:
            self.chance = 1 / n_classes
        self.log_classes = self._guess_loss(n_classes)
        self.first = 0  # index of the first epoch after the initial descent

    def _guess_loss(self, n_classes: int | None) -> float:
        """Return ln K; where K is not known, the first loss, for that is what guessing costs."""
        if n_classes is not None:
            return math.log(n_classes)
        for name in ("loss", "val_loss"):
            series = self.whole(name)
            if len(series) and np.isfinite(series[0]):
                return float(np.clip(series[0], math.log(2), math.log(100)))
        return math.log(2)

    @property
    def followed(self) -> TrainingRecord | None:
        """The record, where it holds what each validation window was taken for in every epoch."""
        record = self.record
        if record is None or record.val_predicted.shape[0] != self.n_epochs:
            return None
        return record

    def whole(self, name: str) -> Floats:
        """Return what was recorded of a column, gaps left out; empty when there is none."""
        column = self.columns.get(name, _NOTHING)
        return column.values[column.recorded]

    def settled(self, name: str) -> Floats:
        """Return the same from the end of the initial descent on."""
        column = self.columns.get(name, _NOTHING)
        return column.values[self.first :][column.recorded[self.first :]]

    def settled_epochs(self, name: str) -> NDArray[np.int64]:
        """Return the indices of the epochs of `settled`."""
        recorded = np.flatnonzero(self.columns.get(name, _NOTHING).recorded)
        return np.asarray(recorded[recorded >= self.first], np.int64)

    def judged_triples(self, name: str) -> NDArray[np.bool_]:
        """Return which second differences of `settled` hold no epoch right after a rate's rise."""
        after = self.after_rise[self.settled_epochs(name)]
        return np.asarray(~(after[:-2] | after[1:-1] | after[2:]))

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        floor: float | None = None,
        floor_is: str = "",
        *,
        interval: tuple[float, float] | None = None,
        p: float | None = None,
    ) -> float:
        """Keep a statistic under its name, and return its value."""
        low, high = (None, None) if interval is None else interval
        self.statistics[name] = Statistic(float(value), unit, floor, floor_is, low, high, p)
        return float(value)


def _epochs_after_rise(
    learning_rate: Sequence[float | None] | None, n_epochs: int
) -> NDArray[np.bool_]:
    """Mark epochs right after a scheduled rise of the rate, whose leaps are no fluctuation."""
    marked = np.zeros(n_epochs, bool)
    if learning_rate is None:
        return marked
    rate = np.array([math.nan if value is None else value for value in learning_rate])
    for epoch in np.flatnonzero(rate[1:] > RATE_RISE * rate[:-1]) + 1:
        marked[epoch : epoch + RATE_RISE_EPOCHS] = True
    return marked


def _is_constant(learning_rate: Sequence[float | None] | None) -> bool:
    """Whether a rate was recorded, and was one and the same over the second half of the run."""
    late = [rate for rate in (learning_rate or ())[len(learning_rate or ()) // 2 :] if rate]
    return len(late) > 1 and max(late) - min(late) <= 1e-6 * max(late)


def part(name: str) -> str:
    """Return which part of the data a column speaks of."""
    return "Validation" if name.startswith("val_") else "Training"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
