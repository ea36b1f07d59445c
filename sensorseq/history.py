"""History, with one row of numbers per epoch, and TrainingRecord, with more detail."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import EnvironmentProblemError
from sensorseq.io.atomic import write_whole

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

__all__ = ["History"]


class History:
    """The log of a training run: for each epoch, a mapping of names to numbers.

    `history["val_loss"]` is the column as an array of shape (n_epochs,), with NaN for epochs that
    have no such entry; `history[3]` is the row of the fourth epoch. The column names are `epoch`
    (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, `grad_norm` and
    `duration_s`.

    Parameters
    ----------
    rows : iterable of mapping, optional
        Initial rows.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: list[dict[str, Any]] = []
        for row in rows:
            self.append(row)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add the row of one epoch.

        Parameters
        ----------
        row : mapping of str to number
            The values of the epoch, by column name.
        """
        self._rows.append(
            {
                str(name): value.item() if hasattr(value, "item") else value
                for name, value in row.items()
            }
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order of first appearance."""
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

        Parameters
        ----------
        name : str
            Name of the column.

        Raises
        ------
        KeyError
            If no row has this column.
        """
        if name not in self:
            raise KeyError(f"no column {name!r}; the columns are {', '.join(self.names)}")
        values = [row.get(name) for row in self._rows]
        return np.array([np.nan if value is None else value for value in values], np.float64)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a copy of the rows as plain dictionaries."""
        return [dict(row) for row in self._rows]

    def to_columns(self) -> dict[str, list[Any]]:
        """Return the columns as lists, with None for epochs that have no entry."""
        return {name: [row.get(name) for row in self._rows] for name in self.names}

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the rows as a JSON array; NaN is written as ``NaN``, which Python can read.

        Parameters
        ----------
        path : str or path, optional
            File to which the array is also written. An existing file is replaced only when the new
            file is complete.
        """
        text = json.dumps(self._rows)
        if path is not None:
            write_whole(path, (text + "\n").encode())
        return text

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas DataFrame with one row per epoch; missing entries are NaN.

        Raises
        ------
        EnvironmentProblemError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise EnvironmentProblemError(
                "to_frame() needs pandas: pip install pandas. to_columns() and to_json() work"
                " without it."
            ) from error
        columns = self.to_columns()
        return pd.DataFrame(
            {
                name: [np.nan if value is None else value for value in values]
                for name, values in columns.items()
            },
            index=pd.RangeIndex(len(self)),
        )


MAX_WATCHED = 20_000  # maximum number of tracked windows of a part, which are evenly spaced
STEP_NAMES = (
    "n_windows",
    "learning_rate",
    "loss",
    "loss_variance",
    "accuracy",
    "grad_norm",
)


def _empty(dtype: Any, *shape: int) -> Callable[[], NDArray[Any]]:
    return lambda: np.zeros(shape or 0, dtype)


@dataclass(eq=False)
class TrainingRecord:
    """Measurements of a run of E epochs and S steps; NaN or empty if not measured.

    The native engine and autograd record the same measurements. Recording does not change a single
    bit of the training results.
    """

    # Shape (E + 1,): the first step of each epoch, and the end of the last epoch.
    epoch_steps: NDArray[np.int64] = field(default_factory=_empty(np.int64, 1))
    # The columns in `STEP_NAMES`, each of shape (S,): number of windows in the batch, learning
    # rate, loss of the batch (in nats, before the step, in training mode), variance of the loss
    # over the windows of the batch, accuracy, and global gradient norm before clipping.
    steps: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    # Shape (S, K): number of windows of each class in each batch.
    class_counts: NDArray[np.int32] = field(default_factory=_empty(np.int32, 0, 0))
    # Indices of the fixed training windows, which are evaluated after each epoch.
    fixed_rows: NDArray[np.int64] = field(default_factory=_empty(np.int64))
    # Shape (E,): mean loss (in nats) and accuracy of the fixed windows after each epoch, in
    # evaluation mode and unweighted, so that neither sampling nor dropout has an effect.
    fixed_loss: NDArray[np.float64] = field(default_factory=_empty(np.float64))
    fixed_accuracy: NDArray[np.float64] = field(default_factory=_empty(np.float64))
    # Final loss of the fixed windows, computed with an exponential average of the weights over
    # epochs.
    averaged_loss: float = np.nan
    average_decay: float = 0.9  # decay of the average per epoch
    # Shape (v,): the indices of the tracked validation windows, their classes, and codes of their
    # recordings or groups. Shape (E, v), after each epoch: the predicted class, and the logit of
    # the true class minus the largest other logit.
    val_rows: NDArray[np.int64] = field(default_factory=_empty(np.int64))
    val_target: NDArray[np.int64] = field(default_factory=_empty(np.int64))
    val_groups: NDArray[np.int64] | None = None
    val_predicted: NDArray[np.uint16] = field(default_factory=_empty(np.uint16, 0, 0))
    val_margin: NDArray[np.float16] = field(default_factory=_empty(np.float16, 0, 0))
    # Shape (w,): the indices of the tracked training windows, and their classes. Shape (E, w): the
    # margins of these windows, computed in training mode before the step that used the window; NaN
    # in epochs that did not use the window.
    train_rows: NDArray[np.int64] = field(default_factory=_empty(np.int64))
    train_target: NDArray[np.int64] = field(default_factory=_empty(np.int64))
    train_margin: NDArray[np.float16] = field(default_factory=_empty(np.float16, 0, 0))
    duration_s: float = 0.0  # time spent recording, as far as it can be separated from training
    loss_unit: str = "nats"  # "" if the loss was not cross-entropy

    @property
    def n_epochs(self) -> int:
        """Number of recorded epochs."""
        return len(self.epoch_steps) - 1

    @property
    def is_in_nats(self) -> bool:
        """True if the losses are in nats, so that thresholds in nats apply."""
        return self.loss_unit == "nats"

    @property
    def val_correct(self) -> NDArray[np.bool_]:
        """Mask (E, v) that is True where a validation window was predicted correctly."""
        return np.asarray(self.val_predicted == self.val_target)
