"""Columns of numbers of a history, each value checked; and numbers to JSON and back."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError

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
    """Return every column of rows that holds numbers alone, None where there is no entry.

    Not what an epoch took: equal runs have equal reports.
    """
    names = dict.fromkeys(str(name) for row in rows for name in row if name != "duration_s")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: [None if value is None else float(value) for value in values]
        for name, values in columns.items()
        if all(value is None or isinstance(value, int | float | np.number) for value in values)
    }


def check_count(name: str, value: int | None, least: int = 1) -> int | None:
    """Return a count that may be absent, or raise an error that names it."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name}={value!r}; expected a whole number of at least {least}.")
    return int(value)


def check_fraction(name: str, value: float | None) -> float | None:
    """Return a fraction that may be absent, or raise an error that names it."""
    if value is None:
        return None
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}={value!r}; expected a fraction above 0 and at most 1.")
    return float(value)


def check_epoch(best_epoch: int | None, n_epochs: int) -> int | None:
    """Return the epoch whose weights were kept, counted from 1, or raise an error."""
    checked = check_count("best_epoch", best_epoch)
    if checked is not None and checked > n_epochs:
        raise ArgumentError(
            f"best_epoch={best_epoch}, but history has {n_epochs} epoch(s); epochs are"
            " counted from 1."
        )
    return checked


def plain(value: Any) -> Any:
    """Return dictionaries, lists, text, numbers, True, False and None in place of anything.

    NaN and infinity become None, tuples and arrays lists, keys text. What has no such form, such as
    a function given for an argument, becomes its name.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return getattr(value, "__qualname__", None) or str(value)


def unplain(kind: Any, value: Any) -> Any:
    """Rebuild what `plain` made of a value of a type; fields of other versions are ignored.

    A number that was not finite comes back as NaN, or as None where the type has it.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is float:
        return math.nan if value is None else float(value)
    if origin is UnionType:
        return None if value is None else unplain(inner[0], value)
    if origin in (list, tuple):
        return origin(unplain(inner[0], part) for part in value)
    if origin is Mapping:
        return {str(name): unplain(inner[1], part) for name, part in value.items()}
    if is_dataclass(kind):
        names, kinds = {field.name for field in fields(kind)}, get_type_hints(kind)
        known = {name: unplain(kinds[name], part) for name, part in value.items() if name in names}
        make: Any = kind
        return make(**known)
    return value
