"""Make timestamps increase that repeat or go back, unless that would mix or merge what differs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import check_signal
from sensorseq.errors import SignalError, check_choice
from sensorseq.io.scratch import count_where, is_finite
from sensorseq.text import listed

DUPLICATES = ("mean", "first", "last")
_FEW = 0.01  # rows that may be out of order, or differ from others with the same timestamp
_FEWEST = 3  # ... in a short recording
_SWAPPED = 0.1  # rows that may be out of order if none moves by more than ...
_NEAR = 10  # ... this many rows
_LARGE = 0.1  # steps back that may be resets, as a fraction of the largest one
_SAME_RATE = 0.25  # tolerance of the number of rows between two timestamps
_FITTING = 0.95  # timestamps that must have the number of rows of one rate
_GAPS = 0.1  # timestamps that may have fewer
_PAIRS = 1.5  # fewer rows for each timestamp must follow an even clock ...
_RUN, _OFF_CLOCK = 2000, 2.0  # ... within this many rows, for this many rows
_EVEN_ROWS = 30  # rows that are spread together
_MOST_IDS = 64  # most sensors whose rows share a timestamp
_MOST_CUTS = 3  # most rows named in a message


@dataclass(frozen=True, eq=False)
class RepairedStamps:
    """Samples (n_kept, n_channels) with strictly increasing timestamps, and repair counts.

    `n_out_of_order` counts rows with a timestamp below an earlier one, `n_duplicates` rows merged
    into another with the same timestamp, `n_spread` rows that were moved away from such another.
    """

    timestamps_s: NDArray[np.float64]
    values: NDArray[np.floating]
    n_out_of_order: int
    n_duplicates: int
    n_spread: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """The three counts by name."""
        names = ("n_out_of_order", "n_duplicates", "n_spread")
        return {name: getattr(self, name) for name in names}


def repair_stamps(
    timestamps_s: ArrayLike, values: ArrayLike, *, duplicates: str = "mean"
) -> RepairedStamps:
    """Sort samples by time, and merge or spread those with equal timestamps.

    Rows that are late by a few places or few in number are sorted. Few rows with equal timestamps,
    and rows written twice, are merged. Many with equal timestamps, such as packets or 30 samples
    for each whole second, are spread evenly up to the next timestamp.

    Parameters
    ----------
    timestamps_s : array-like of shape (n_samples,)
        Seconds, finite, in any order.
    values : array-like of shape (n_samples, n_channels), float32 or float64
        NaN marks a missing sample.
    duplicates : {"mean", "first", "last"}, default="mean"
        How to merge rows with equal time stamps: the mean of the valid samples of each channel,
        the first row, or the last row.

    Raises
    ------
    SignalError
        If sorting would mix two signals, as where a clock began again while recording, or if
        samples with equal timestamps can be neither merged nor spread.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.recording import repair_stamps
    >>> repaired = repair_stamps([0.0, 0.2, 0.1, 0.2], [[1.0], [3.0], [2.0], [5.0]])
    >>> repaired.values[:, 0].tolist(), repaired.counts
    ([1.0, 2.0, 4.0], {'n_out_of_order': 1, 'n_duplicates': 1, 'n_spread': 0})
    """
    check_choice("duplicates", duplicates, DUPLICATES)
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    plan = plan_repair(t, x)
    if plan is None:
        return RepairedStamps(t, x, 0, 0)
    if plan.obstacle:
        raise SignalError(f"the timestamps cannot be repaired: {plan.advice('sample', 0)}")
    return plan.apply(x, duplicates)


def check_stamps_are_finite(timestamps_s: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return the timestamps as float64 if each of `n_samples` has a finite one."""
    t = np.asarray(timestamps_s, dtype=np.float64)
    if t.shape != (n_samples,):
        raise SignalError(
            f"timestamps have shape {t.shape} for {n_samples} samples; give one for each sample."
        )
    if not is_finite(t):
        n_wrong, row = count_where(lambda at, stop: ~np.isfinite(t[at:stop]), len(t), t)
        raise SignalError(
            f"{n_wrong} timestamp(s) are not finite, the first at sample {row}"
            f" ({t[row]}); fill them in, or remove those samples."
        )
    return t


@dataclass(frozen=True, eq=False)
class StampRepair:
    """How timestamps that repeat or go back can be repaired, or the `obstacle`.

    `stamps_s` are those of the rows in `order`, sorted and perhaps spread; rows that still share
    one are to be merged.
    """

    order: NDArray[np.int64]
    stamps_s: NDArray[np.float64]
    n_late: int
    n_spread: int = 0
    cure: str = ""
    obstacle: str = ""
    cuts: tuple[int, ...] = ()  # rows in `obstacle`
    column: int = 0  # channel in `obstacle`

    def advice(
        self,
        row_word: str,
        first: int,
        names: Sequence[str] = (),
        repair: str = "repair_stamps",
    ) -> str:
        """Return the way out in words, with rows called `row_word` and numbered from `first`."""
        several = "s" if len(self.cuts) > 1 else ""
        rows = listed([row + first for row in self.cuts], _MOST_CUTS)
        return (self.obstacle or self.cure).format(
            row=row_word,
            rows=f"{row_word}{several} {rows}",
            column=repr(names[self.column]) if names else self.column,
            repair=repair,
        )

    def starts(self) -> NDArray[np.int64]:
        """Return the first of the rows in order with each timestamp."""
        return _starts(self.stamps_s)

    def repaired_s(self) -> NDArray[np.float64]:
        """Return the timestamps of the rows that are left."""
        return self.stamps_s[self.starts()]

    def apply(self, x: NDArray[np.floating], duplicates: str = "mean") -> RepairedStamps:
        """Return the samples `x` in order, merged where timestamps are equal."""
        starts, x = self.starts(), x[self.order]
        n_duplicates = len(x) - len(starts)
        if n_duplicates and duplicates == "mean":
            x = _means(x, starts)
        elif n_duplicates:
            ends = np.append(starts[1:], len(x)) - 1
            x = x[starts if duplicates == "first" else ends]
        return RepairedStamps(self.stamps_s[starts], x, self.n_late, n_duplicates, self.n_spread)


def plan_repair(t: NDArray[np.float64], x: NDArray[np.floating]) -> StampRepair | None:
    """Judge how the rows `x` at finite timestamps `t` can be repaired; None if `t` increases."""
    n = len(t)
    if not count_where(lambda at, stop: t[at + 1 : stop + 1] <= t[at:stop], n - 1, t)[0]:
        return None
    order = np.argsort(t, kind="stable")
    t_sorted, x_sorted = t[order], x[order]
    is_late = np.r_[False, t[1:] < np.maximum.accumulate(t)[:-1]]
    is_early = np.r_[t[:-1] > np.minimum.accumulate(t[::-1])[-2::-1], False]
    repeats = np.r_[False, t_sorted[1:] == t_sorted[:-1]]  # of rows in order
    is_same = np.r_[False, _same_rows(x_sorted)]
    plan = StampRepair(order, t_sorted, int(is_late.sum()))
    is_late[order[repeats & is_same]] = False  # nothing is lost by merging those
    is_moved = is_late if is_late.sum() <= is_early.sum() else is_early
    obstacle, cuts = _sorting_mixes(t, order, is_moved)
    if obstacle:
        return replace(plan, obstacle=obstacle, cuts=cuts)
    n_repeats, few = int(repeats.sum()), _few_of(n)
    # Rows are written twice if those with one timestamp are equal, but not those with the next.
    are_twins = 2 * int((is_same & ~repeats).sum()) < n - n_repeats
    n_hurt = int((repeats & ~is_same).sum()) if are_twins else n_repeats
    if n_hurt > few:
        each = f"About {n / (n - n_repeats):.3g} {{row}}s have each time stamp"
        if (column := _id_column(t_sorted, x_sorted)) is not None:
            obstacle = f"{each}, and {{column}} has the same values at each: {_OF_SENSORS}"
            return replace(plan, obstacle=obstacle, column=column)
        spread = _spread(t_sorted)
        if spread is None:
            obstacle = f"{each}{_mean_rate(t_sorted)}, but not evenly. {_NOT_EVEN}"
            return replace(plan, obstacle=obstacle)
        cure = f"{each}{_mean_rate(spread)}. {_SPREADING}"
        return replace(plan, stamps_s=spread, n_spread=n_repeats, cure=cure)
    remedy = "Sort the {row}s by time" if plan.n_late else "Keep one {row} for each time stamp"
    return replace(plan, cure=f"{remedy}, or {_MERGING}")


_MERGING = "use {repair}, which sorts {row}s and merges equal time stamps."
_SPREADING = "Use {repair}, which spreads them evenly up to the next time stamp."
_NOT_EVEN = (
    "Use finer time stamps, or keep one {row} for each. If the {row}s were sampled evenly, leave"
    " out the time column and give their rate with `sample_rate_hz`."
)
_OF_SENSORS = (
    "the {row}s are of several sensors. Give each sensor columns of its own, or a file of its own;"
    " or leave out that column."
)
_CUT = (
    "the clock began again, or another recording follows. Cut the recording at {rows}; or sort"
    " the {row}s by time if they are of one recording. {repair} would mix them."
)
_TAKE_TURNS = (
    "{row}s of two recordings or clocks take turns. Write each to a file of its own; or sort the"
    " {row}s by time if they are of one sensor. {repair} would mix them."
)


def _few_of(n: int) -> int:
    return max(_FEWEST, int(_FEW * n))


def _starts(t: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.r_[np.ones(min(1, len(t)), bool), t[1:] > t[:-1]])


def _same_rows(x: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Test whether each row but the first is equal to the one before it."""
    same = (x[1:] == x[:-1]) | (np.isnan(x[1:]) & np.isnan(x[:-1]))
    return np.asarray(same.all(axis=1))


def _sorting_mixes(
    t: NDArray[np.float64], order: NDArray[np.int64], is_moved: NDArray[np.bool_]
) -> tuple[str, tuple[int, ...]]:
    """Return why the rows cannot be sorted, and where a clock began again; "" if they can."""
    n, n_moved = len(t), int(is_moved.sum())
    if not n_moved:
        return "", ()
    rank = np.empty(n + 1, np.int64)
    rank[order], rank[n] = np.arange(n), 0
    if n_moved <= max(_FEWEST, _SWAPPED * n) and np.abs(rank[:n] - np.arange(n)).max() <= _NEAR:
        return "", ()
    edges = np.flatnonzero(np.diff(np.r_[False, is_moved, False]))
    # A run of rows that move fits between two others, or is mixed with others.
    n_places = np.maximum.reduceat(rank, edges) - np.minimum.reduceat(rank, edges) + 1
    n_rows = np.diff(np.append(edges, n))
    is_mixed = (n_places > n_rows)[::2] & (n_rows[::2] > _FEWEST)
    if n_moved <= _few_of(n) and not is_mixed.any():
        return "", ()
    steps_s = np.diff(t)
    back_s = -float(steps_s.min())
    said = f"{n_moved} {{row}}(s) are out of order: "
    resets = np.flatnonzero(steps_s <= -_LARGE * back_s) + 1
    if len(resets) > 2 and 2 * int((steps_s > back_s / 2).sum()) > len(resets):
        return said + _TAKE_TURNS, ()
    return said + _CUT, tuple(resets.tolist())


def _id_column(t: NDArray[np.float64], x: NDArray[np.floating]) -> int | None:
    """Return the column whose values differ between rows of a timestamp, as for all timestamps."""
    starts = _starts(t)
    counts = np.diff(np.append(starts, len(t)))
    usual = int(np.median(counts))
    whole = starts[counts == usual]
    if not (2 <= usual <= _MOST_IDS and len(whole) > max(_FEWEST, 0.9 * len(starts))):
        return None
    for column in range(x.shape[1]):
        values = x[whole[:, np.newaxis] + np.arange(usual), column]
        if (values == values[0]).all() and (values[0] != values[0, 0]).any():
            return column
    return None


def _spread(t: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Spread rows with equal timestamps evenly up to the next; None if they follow no rate.

    Rows of the first timestamp end before the second one, as a log may begin between the two.
    Where a timestamp has too few rows for the time up to the next, that time ends with a gap.
    """
    starts = _starts(t)
    n, n_stamps = len(t), len(starts)
    if n_stamps <= _FEWEST:
        return None
    steps_s, counts = np.diff(t[starts]), np.diff(starts)
    usual = steps_s <= 1.5 * np.median(steps_s)
    usual[0] = False  # perhaps not whole
    period_s = float(steps_s[usual].sum() / counts[usual].sum()) if usual.any() else 0.0
    if not period_s > 0:
        return None
    wanted = steps_s / period_s
    tolerance = np.maximum(1.0, _SAME_RATE * wanted)
    is_gap, fits = counts < wanted - tolerance, np.abs(counts - wanted) <= tolerance
    n_inner = n_stamps - 2
    if fits[1:].sum() < (1 - _GAPS) * n_inner or (fits | is_gap)[1:].sum() < _FITTING * n_inner:
        return None
    if n / n_stamps < _PAIRS:
        ends = np.unique(np.r_[np.arange(0, n_stamps, _RUN), n_stamps - 1])
        line = np.interp(t[starts], t[starts[ends]], starts[ends])
        if np.abs(starts - line).max() > _OFF_CLOCK:
            return None
    # Several timestamps with few rows are spread together: their numbers are rounded.
    is_knot = np.ones(n_stamps, bool)
    is_knot[1:] = np.diff(starts // _EVEN_ROWS) > 0
    is_knot[1] = True
    is_knot[1:] |= is_gap
    is_knot[:-1] |= is_gap
    at = np.flatnonzero(is_knot)
    rows, times_s = starts[at], t[starts[at]]
    each_s = np.append(np.diff(times_s) / np.diff(rows), period_s)
    each_s[:-1][is_gap[at[:-1]]] = period_s
    if counts[0] <= wanted[0]:
        times_s[0], each_s[0] = t[starts[1]] - counts[0] * period_s, period_s
    of = np.repeat(np.arange(len(at)), np.diff(np.append(rows, n)))
    spread: NDArray[np.float64] = times_s[of] + (np.arange(n) - rows[of]) * each_s[of]
    return spread if (np.diff(spread) > 0).all() else None


def _mean_rate(t: NDArray[np.float64]) -> str:
    """Return the rows over the time up to the last timestamp, in words."""
    last = int(np.searchsorted(t, t[-1]))
    return f", {last / (t[-1] - t[0]):.4g} Hz in all" if last else ""


def _means(x: NDArray[np.floating], starts: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the mean of the valid samples from each start to the next; NaN if there are none."""
    there = ~np.isnan(x)
    total = np.add.reduceat(np.where(there, x, 0).astype(np.float64), starts, axis=0)
    n = np.add.reduceat(there.astype(np.float64), starts, axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(x.dtype)
