"""The work file: one line of JSON per fit, written as soon as the fit ends.

An interrupted run loses only its current fit. A truncated line is ignored, and of two lines for the
same fit the later one counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common.json_lines import append_line, read_lines
from numpy.typing import NDArray
from sklearn.metrics import recall_score


class Key(NamedTuple):
    """Identifies a fit. `task` names a data set; `part` is "test" or "develop"."""

    task: str
    part: str
    split: int
    fold: int
    method: str
    seed: int


@dataclass(frozen=True)
class WorkFile:
    """The rows of fits in a JSON Lines file."""

    path: Path

    def read(self) -> dict[Key, dict[str, Any]]:
        """Return the rows by key."""
        rows = {}
        for row in read_lines(self.path):
            if all(name in row for name in Key._fields):
                rows[Key(*(row[name] for name in Key._fields))] = row
        return rows

    def append(self, row: dict[str, Any]) -> None:
        """Write one row."""
        append_line(self.path, row)


def missing(keys: Iterable[Key], done: dict[Key, Any], *, resume: bool) -> list[Key]:
    """Return the keys that have no row, or all keys if the run does not resume."""
    return [key for key in keys if not (resume and key in done)]


def scores(y: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, Any]:
    """Return the accuracy, the balanced accuracy, n_test and which windows are correct."""
    right = np.asarray(predicted) == y
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(
            recall_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0)
        ),
        "n_test": len(y),
        "right": pack(right),
    }


def pack(right: NDArray[np.bool_]) -> str:
    """Encode one bit per test window in hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def unpack(text: str, n: int) -> NDArray[np.bool_]:
    """Decode a string made by `pack`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=n).astype(bool)
