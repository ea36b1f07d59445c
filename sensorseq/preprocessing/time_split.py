"""Split each recording in time, and leave out windows where two parts meet."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing._checks import check_positive
from sensorseq.preprocessing.split import check_fractions
from sensorseq.windows import PARTS


def split_by_time(
    recording_id: ArrayLike,
    start_s: ArrayLike,
    window_s: float,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    embargo_s: float | None = None,
    y: ArrayLike | None = None,
) -> NDArray[np.str_]:
    """Assign the windows of every recording to train, validation and test in order of time.

    Use it if there are too few recordings to hold some out: the score is then for later times of
    known runs, not for new runs. Windows of the earlier part that overlap one of the later part, or
    are closer to it than the embargo, are left out, so parts before a border are smaller than their
    share.

    Parameters
    ----------
    recording_id : array-like of shape (n_windows,)
        The recording each window was cut from.
    start_s : array-like of shape (n_windows,)
        Time of its first sample in seconds.
    window_s : float
        Length of a window in seconds.
    fractions : sequence of 3 floats, default=(0.6, 0.2, 0.2)
        Shares of each recording's windows for train, validation and test, which sum to 1. A part
        of 0 stays empty.
    embargo_s : float, optional
        Least time between the end of a window and the start of one in another part, 0 or more; one
        window by default, because signals stay correlated for a while.
    y : array-like of shape (n_windows,), optional
        Labels; if given, every part must have every class.

    Returns
    -------
    ndarray of shape (n_windows,), str
        ``"train"``, ``"validation"``, ``"test"``, or ``""`` for windows to leave out.

    Raises
    ------
    SplitError
        If shapes disagree, a start is not finite, or a part lacks windows or a class.
    ArgumentError
        If `fractions`, `window_s` or `embargo_s` are invalid.
    """
    shares = check_fractions(fractions)
    recording, starts = check_times(recording_id, start_s)
    reach = check_reach(window_s, embargo_s)
    label = np.zeros(len(starts), np.int64) if y is None else np.asarray(y)
    if label.shape != starts.shape:
        raise SplitError(f"y has shape {label.shape}; {len(starts)} windows need ({len(starts)},).")
    rank, n_ranks = _ranks(recording, starts)
    part_index = np.searchsorted(np.cumsum(shares)[:2], (rank + 0.5) / n_ranks, side="right")
    # A share of 0 has no width between two borders, but rounding may miss the last border.
    part_index = np.minimum(part_index, np.flatnonzero(shares)[-1])
    part: NDArray[np.str_] = np.array(PARTS)[part_index]
    # Leave out windows before a border: test windows are the fewest and are all kept.
    for index in (1, 0):
        later = np.isin(part, PARTS[index + 1 :])
        part[(part == PARTS[index]) & near_in_time(recording, starts, later, reach)] = ""
    for name in np.array(PARTS)[shares > 0]:
        lacking = np.setdiff1d(label, label[part == name])
        if lacking.size or not (part == name).any():
            of = "" if y is None else f" of class {lacking.tolist()[0]!r}"
            raise SplitError(
                f"no window{of} remains for {name}: the recordings are too short for these parts"
                f" with {reach - window_s:g} s between them. Split by group, set a part's fraction"
                " to 0, use shorter windows or a shorter embargo_s, or longer recordings."
            )
    return part


def time_blocks(
    recording_id: NDArray[Any], start_s: NDArray[np.float64], n_blocks: int
) -> NDArray[np.int64]:
    """Cut every recording into blocks of equally many windows in order of time.

    Windows with equal starts, such as copies, are in one block. A recording with fewer windows than
    blocks has no window in some blocks.
    """
    rank, n_ranks = _ranks(recording_id, start_s)
    return (rank * n_blocks) // n_ranks


def near_in_time(
    recording_id: NDArray[Any],
    start_s: NDArray[np.float64],
    marked: NDArray[np.bool_],
    reach_s: float,
) -> NDArray[np.bool_]:
    """Return a mask of windows within `reach_s` of a marked one of their recording, by start."""
    near = np.zeros(len(start_s), bool)
    # Time stamps in seconds since 1970, about 1.7e9 s, are rounded to 2.4e-7 s.
    rounding = 1e-6 * reach_s + 4 * np.finfo(np.float64).eps * float(np.abs(start_s).max(initial=0))
    for rows in rows_of(recording_id):
        there = np.sort(start_s[rows[marked[rows]]])
        if there.size:
            after = np.searchsorted(there, start_s[rows])
            left = there[np.maximum(after - 1, 0)]
            right = there[np.minimum(after, len(there) - 1)]
            distance = np.minimum(np.abs(start_s[rows] - left), np.abs(right - start_s[rows]))
            near[rows] = distance < reach_s - rounding
    return near


def rows_of(recording_id: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the positions of the windows of each recording."""
    index = np.unique(recording_id, return_inverse=True)[1]
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)


def check_times(
    recording_id: ArrayLike, start_s: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the recording and the start of each window if they are known for all."""
    recording, starts = np.asarray(recording_id), np.asarray(start_s)
    if recording.ndim != 1 or not recording.size or starts.shape != recording.shape:
        raise SplitError(
            f"recording_id has shape {recording.shape} and start_s has shape {starts.shape}; both"
            " need (n_windows,), with at least one window."
        )
    if starts.dtype.kind not in "fiu":
        raise SplitError(f"start_s has dtype {starts.dtype}; it must hold numbers of seconds.")
    starts = starts.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(starts))
    if wrong.size:
        row = int(wrong[0])
        raise SplitError(
            f"start_s[{row}] is {starts[row]} (recording {recording.tolist()[row]!r}); every window"
            " needs a finite start."
        )
    return recording, starts


def check_reach(window_s: float, embargo_s: float | None) -> float:
    """Return how far apart windows of two parts must start: a window and the embargo."""
    length = check_positive("window_s", window_s)
    if embargo_s is None:
        return 2 * length
    is_number = isinstance(embargo_s, int | float | np.number) and not isinstance(embargo_s, bool)
    if not (is_number and np.isfinite(embargo_s) and embargo_s >= 0):
        raise ArgumentError(f"embargo_s={embargo_s!r} is not a number of seconds, 0 or more.")
    return length + float(embargo_s)


def _ranks(
    recording_id: NDArray[Any], start_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rank of each window's start in its recording, and the number of starts."""
    rank, n_ranks = np.empty(len(start_s), np.int64), np.empty(len(start_s), np.int64)
    for rows in rows_of(recording_id):
        known, rank[rows] = np.unique(start_s[rows], return_inverse=True)
        n_ranks[rows] = len(known)
    return rank, n_ranks
