"""Repair time stamps that repeat or go back, on request only, and count the changes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import SignalError, check_choice
from sensorseq.preprocessing._checks import check_signal

DUPLICATES = ("mean", "first", "last")


@dataclass(frozen=True, eq=False)
class RepairedStamps:
    """Samples with strictly increasing time stamps, and the number of repairs.

    Parameters
    ----------
    timestamps_s : ndarray of shape (n_kept,), float64
        Strictly increasing.
    values : ndarray of shape (n_kept, n_channels)
        In the given dtype.
    n_out_of_order : int
        Rows whose time stamp was below an earlier one.
    n_duplicates : int
        Rows that were merged into another with the same time stamp.
    """

    timestamps_s: NDArray[np.float64]
    values: NDArray[np.floating]
    n_out_of_order: int
    n_duplicates: int

    @property
    def counts(self) -> dict[str, int]:
        """The two counts by name."""
        return {"n_out_of_order": self.n_out_of_order, "n_duplicates": self.n_duplicates}


def repair_stamps(
    timestamps_s: ArrayLike, values: ArrayLike, *, duplicates: str = "mean"
) -> RepairedStamps:
    """Sort samples by time and merge those with equal time stamps.

    For logs whose rows arrived out of order or twice. It cannot repair a clock that was reset while
    recording: rows from before and after would be mixed. The counts help to tell the two apart.

    Parameters
    ----------
    timestamps_s : array-like of shape (n_samples,)
        Seconds, finite, in any order.
    values : array-like of shape (n_samples, n_channels), float32 or float64
        NaN marks a missing sample.
    duplicates : {"mean", "first", "last"}, default="mean"
        How to merge rows with equal time stamps: the mean of the valid samples of each channel,
        the first row, or the last row.

    Returns
    -------
    RepairedStamps
        The samples and the counts.

    Raises
    ------
    SignalError
        If a stamp is NaN or infinite, or shapes disagree.
    ArgumentError
        If `duplicates` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.preprocessing.stamps import repair_stamps
    >>> repaired = repair_stamps([0.0, 0.2, 0.1, 0.2], [[1.0], [3.0], [2.0], [5.0]])
    >>> repaired.values[:, 0].tolist(), repaired.counts
    ([1.0, 2.0, 4.0], {'n_out_of_order': 1, 'n_duplicates': 1})
    """
    check_choice("duplicates", duplicates, DUPLICATES)
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    n_out_of_order = int((t[1:] < np.maximum.accumulate(t)[:-1]).sum()) if len(t) else 0
    order = np.argsort(t, kind="stable")
    t, x = t[order], x[order]
    is_first = np.ones(len(t), bool)
    is_first[1:] = t[1:] > t[:-1]
    n_duplicates = len(t) - int(is_first.sum())
    if n_duplicates:
        starts = np.flatnonzero(is_first)
        if duplicates == "mean":
            x = _means(x, starts)
        else:
            ends = np.append(starts[1:], len(t)) - 1
            x = x[starts if duplicates == "first" else ends]
        t = t[starts]
    return RepairedStamps(t, x, n_out_of_order, n_duplicates)


def check_stamps_are_finite(timestamps_s: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return the stamps as float64 if there is a finite one for each of `n_samples`."""
    t = np.asarray(timestamps_s, dtype=np.float64)
    if t.shape != (n_samples,):
        raise SignalError(
            f"timestamps have shape {t.shape} for {n_samples} samples; give one for each sample."
        )
    wrong = np.flatnonzero(~np.isfinite(t))
    if wrong.size:
        raise SignalError(
            f"{wrong.size} timestamp(s) are not finite, the first at sample {wrong[0]}"
            f" ({t[wrong[0]]}); fill them in, or remove those samples."
        )
    return t


def check_stamps_increase(timestamps_s: NDArray[np.float64]) -> None:
    """Raise unless each stamp is above the one before."""
    wrong = np.flatnonzero(np.diff(timestamps_s) <= 0)
    if wrong.size:
        row = int(wrong[0]) + 1
        raise SignalError(
            f"{wrong.size} timestamp(s) repeat or go back, the first at sample {row}"
            f" ({timestamps_s[row - 1]:.9g} s, then {timestamps_s[row]:.9g} s); timestamps must be"
            " strictly increasing. Use `repair_stamps` to sort and merge them."
        )


def _means(x: NDArray[np.floating], starts: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the mean of the valid samples from each start to the next; NaN if there are none."""
    there = ~np.isnan(x)
    total = np.add.reduceat(np.where(there, x, 0).astype(np.float64), starts, axis=0)
    n = np.add.reduceat(there.astype(np.float64), starts, axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(x.dtype)
