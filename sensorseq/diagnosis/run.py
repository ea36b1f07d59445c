"""Columns of numbers of a history, each value checked; Run: one history as the rules see it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from sensorseq.checks import check_integer_or_none
from sensorseq.diagnosis.thresholds import RATE_RISE, RATE_RISE_EPOCHS
from sensorseq.errors import ArgumentError
from sensorseq.training_record import TrainingRecord

Floats = NDArray[np.float64]

COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")
NEEDED = ("loss", "val_loss", "val_accuracy")


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a history."""

    values: Floats  # (n_epochs,); NaN where none, or no number, was recorded
    # (n_epochs,): which epochs recorded something, be it NaN or infinity
    recorded: NDArray[np.bool_]


def read_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Column], int]:
    """Return the columns named in `COLUMNS` of a history of a row per epoch, and how many epochs.

    None is "not recorded". NaN in a loss is a loss that is not a number; in an accuracy, which
    cannot diverge, it is "not recorded" too.
    """
    if not rows:
        raise ArgumentError("history has no epochs; fit for at least one.")
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        read = [row.get(name) for row in rows]
        values = np.array([math.nan if value is None else value for value in read], np.float64)
        recorded = np.array([value is not None for value in read])
        if name.endswith("accuracy"):
            outside = np.flatnonzero((values < 0) | (values > 1))
            if outside.size:
                raise ArgumentError(
                    f"history: {name} of epoch {outside[0] + 1} is {values[outside[0]]:g}; expected"
                    " a fraction, 0 to 1. Divide percentages by 100."
                )
            recorded = np.isfinite(values)
        columns[name] = Column(values, recorded)
    if not any(columns[name].recorded.any() for name in NEEDED):
        have = ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "nothing"
        raise ArgumentError(
            f"history has {have}; it needs at least one of {', '.join(NEEDED)} to be judged."
        )
    return columns, len(rows)


def read_numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Return columns of numbers alone, None where there is no entry, without the duration."""
    names = dict.fromkeys(str(name) for row in rows for name in row if name != "duration_s")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: [None if value is None else float(value) for value in values]
        for name, values in columns.items()
        if all(value is None or isinstance(value, int | float | np.number) for value in values)
    }


def check_epoch(best_epoch: int | None, n_epochs: int) -> int | None:
    """Return the epoch whose weights were kept, counted from 1, or raise an error."""
    checked = check_integer_or_none("best_epoch", best_epoch)
    if checked is not None and checked > n_epochs:
        raise ArgumentError(
            f"best_epoch={best_epoch}, but history has {n_epochs} epoch(s); epochs are"
            " counted from 1."
        )
    return checked


def unplain(kind: Any, value: Any) -> Any:
    """Rebuild what `plain` made of a value of a type; fields of other versions are ignored.

    A number that was not finite comes back as NaN, or as None where the type has it.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is float:
        return math.nan if value is None else float(_of_kind(int | float, value))
    if kind in (str, int, bool):
        return _of_kind(kind, value)
    if origin is UnionType:
        return None if value is None else unplain(inner[0], value)
    if origin in (list, tuple):
        return origin(unplain(inner[0], part) for part in _of_kind(list | tuple, value))
    if origin is Mapping:
        return {str(name): unplain(inner[1], part) for name, part in value.items()}
    if is_dataclass(kind):
        names, kinds = {field.name for field in fields(kind)}, get_type_hints(kind)
        known = {name: unplain(kinds[name], part) for name, part in value.items() if name in names}
        make: Any = kind
        return make(**known)
    return value


def _of_kind(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is not of type {getattr(kind, '__name__', kind)}")
    return value


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
        rate = np.array([math.nan if one is None else one for one in learning_rate or ()])
        self.after_rise = np.zeros(n_epochs, bool)  # a scheduled rise, whose leaps are no fault
        for epoch in np.flatnonzero(rate[1:] > RATE_RISE * rate[:-1]) + 1:
            self.after_rise[epoch : epoch + RATE_RISE_EPOCHS] = True
        late = rate[len(rate) // 2 :]
        late = late[late > 0]
        self.rate_is_constant = len(late) > 1 and bool(np.ptp(late) <= 1e-6 * late.max())
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


def part(name: str) -> str:
    """Return which part of the data a column speaks of."""
    return "Validation" if name.startswith("val_") else "Training"
