"""History: one row per epoch, rows in, rows out."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class History:
    """What a training run recorded: one mapping of names to numbers for each epoch.

    `history["val_loss"]` is the column as an array of shape (n_epochs,), NaN where an epoch has no
    such entry; `history[3]` is the row of the fourth epoch. Column names are `epoch` (from 1),
    `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, `grad_norm`, `duration_s`.

    Parameters
    ----------
    rows : iterable of mapping, optional
        Rows to begin with.
    """

    def __init__(self, rows: Any = ()) -> None:
        self._rows: list[dict[str, Any]] = []
        for row in rows:
            self.append(row)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add the row of one epoch."""
        self._rows.append({str(name): _plain(value) for name, value in row.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Every column name, in order of first appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(row) for row in self._rows)

    def __contains__(self, name: object) -> bool:
        return any(name in row for row in self._rows)

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return self.column(key)
        return dict(self._rows[key])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"History({len(self)} epochs: {', '.join(self.names)})"

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one column as float64 of shape (n_epochs,).

        Raises
        ------
        KeyError
            If no row has that name.
        """
        if name not in self:
            raise KeyError(f"no column {name!r}; there are {', '.join(self.names)}")
        values = [row.get(name) for row in self._rows]
        return np.array([np.nan if value is None else value for value in values], np.float64)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a copy of the rows as plain dictionaries."""
        return [dict(row) for row in self._rows]

    def to_columns(self) -> dict[str, list[Any]]:
        """Return the columns as lists, None where an epoch has no entry."""
        return {name: [row.get(name) for row in self._rows] for name in self.names}

    def to_json(self) -> str:
        """Return the rows as a JSON array; NaN is written as the text NaN, as Python reads it."""
        return json.dumps(self._rows)

    @classmethod
    def from_json(cls, text: str) -> "History":
        """Read what `to_json` wrote."""
        return cls(json.loads(text))


def _plain(value: Any) -> Any:
    """Turn numpy and torch scalars into Python's own, so that rows can be written as JSON."""
    return value.item() if hasattr(value, "item") else value
