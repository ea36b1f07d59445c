"""Repair timestamps that repeat, go back or come in packets, unless that would mix signals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_signal
from sensorseq.base.text import listed
from sensorseq.errors import SignalError, check_choice
from sensorseq.io.blocks import count_where, is_finite
from sensorseq.stamps.packets import Packets, find_bursts, kind_of_packets, spread_evenly

STAMPS = ("packets", "keep", "merge")
BY_HAND = "sensorseq.recording.repair_stamps"
# Fraction of rows that may be out of order, or may differ from other rows with the same timestamp.
_FEW = 0.01
_FEWEST = 3  # number of such rows that are allowed in any recording, even a short one
_SWAPPED = 0.1  # fraction of rows that may be out of order if none moves by more than _NEAR rows
_NEAR = 10
_LARGE = 0.1  # minimum size of a clock reset, relative to the largest step back in time
_BACKWARDS = 0.9  # minimum fraction of steps back in time if the newest row is first
_LOST = 3  # maximum length of the step in which a counter begins again, in usual steps
_BRIEF = 0.02  # and in periods of the counter; longer steps fit any restarted clock
_MOST_IDS = 64  # maximum number of sensors whose rows share a timestamp
_MOST_CUTS = 3  # maximum number of rows named in a message


@dataclass(frozen=True, eq=False)
class RepairedStamps:
    """Samples (n_kept, n_channels) with strictly increasing timestamps, and repair counts.

    `n_out_of_order` counts the rows whose timestamp is below an earlier row's timestamp,
    `n_duplicates` the rows merged into another row with the same timestamp, and `n_spread` the rows
    of packets that received a timestamp of their own. `packets` states the size of the packets.
    """

    timestamps_s: NDArray[np.float64]
    values: NDArray[np.floating]
    n_out_of_order: int
    n_duplicates: int
    n_spread: int = 0
    packets: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """The three counts by name."""
        names = ("n_out_of_order", "n_duplicates", "n_spread")
        return {name: getattr(self, name) for name in names}


def repair_stamps(
    timestamps_s: ArrayLike, values: ArrayLike, *, stamps: str = "packets"
) -> RepairedStamps:
    """Sort samples by time, and spread or merge samples with equal timestamps.

    Late rows are sorted if they are few or if sorting moves them by only a few rows. A few rows
    with equal timestamps, and rows written twice, are merged.

    Parameters
    ----------
    timestamps_s : array-like of shape (n_samples,)
        Times of the samples in seconds; finite, in any order.
    values : array-like of shape (n_samples, n_channels), float32 or float64
        The samples; NaN marks a missing sample.
    stamps : {"packets", "keep", "merge"}, default="packets"
        packets: many rows with equal timestamps or in regular bursts are spread evenly over the
        time since the previous packet. If timestamps are rounded down, as with 30 samples for each
        whole second, the rows are spread up to the next timestamp instead. merge: all rows with
        equal timestamps are merged into the mean of the valid samples of each channel. keep:
        nothing is changed, and timestamps that do not increase raise an error.

    Raises
    ------
    SignalError
        If sorting would mix two signals, for example because a clock was restarted during the
        recording, or if the packets have no regular rate.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.recording import repair_stamps
    >>> repaired = repair_stamps([0.0, 0.2, 0.1, 0.2], [[1.0], [3.0], [2.0], [5.0]])
    >>> repaired.values[:, 0].tolist(), repaired.counts
    ([1.0, 2.0, 4.0], {'n_out_of_order': 1, 'n_duplicates': 1, 'n_spread': 0})
    """
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    plan = plan_repair(t, lambda: x, stamps)
    if plan is None:
        return RepairedStamps(t, x, 0, 0)
    if plan.obstacle:
        raise SignalError(f"the timestamps cannot be repaired: {plan.advice('sample', 0)}")
    return plan.apply(x)


def check_one_per_sample(timestamps_s: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return the timestamps as float64; raise an error unless there is one for each sample."""
    t = np.asarray(timestamps_s, dtype=np.float64)
    if t.shape != (n_samples,):
        raise SignalError(
            f"timestamps have shape {t.shape} for {n_samples} samples; give one per sample."
        )
    return t


def check_stamps_are_finite(timestamps_s: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return the timestamps as float64; raise an error if a sample has no finite timestamp."""
    t = check_one_per_sample(timestamps_s, n_samples)
    if not is_finite(t):
        n_wrong, row = count_where(lambda at, stop: ~np.isfinite(t[at:stop]), len(t), t)
        raise SignalError(
            f"{n_wrong} timestamp(s) are not finite, the first at sample {row}"
            f" ({t[row]}); fill them in, or remove those samples."
        )
    return t


@dataclass(frozen=True, eq=False)
class StampRepair:
    """A repair of timestamps, or an `obstacle` that prevents it, with a remedy.

    `stamps_s` contains the timestamps of the rows in `order`, sorted and perhaps spread; rows that
    still share a timestamp are to be merged.
    """

    order: NDArray[np.int64]
    stamps_s: NDArray[np.float64]
    n_late: int
    n_spread: int = 0
    packets: str = ""
    obstacle: str = ""
    cuts: tuple[int, ...] = ()  # rows that `obstacle` mentions
    column: int = 0  # channel that `obstacle` mentions

    def advice(self, row_word: str, first: int, names: Sequence[str] = (), repair: str = "") -> str:
        """Return the obstacle as a string, with rows called `row_word` and numbered from `first`.

        The suggested remedy names the argument `stamps`, and the function `repair` if it is given.
        """
        several = "s" if len(self.cuts) > 1 else ""
        rows = listed([row + first for row in self.cuts], _MOST_CUTS)
        use = {
            kind: f"{repair}(..., stamps={kind!r})" if repair else f"stamps={kind!r}"
            for kind in STAMPS
        }
        return (self.obstacle or _SPREADING).format(
            row=row_word,
            rows=f"{row_word}{several} {rows}",
            column=repr(names[self.column]) if names else self.column,
            **use,
        )

    def starts(self) -> NDArray[np.int64]:
        """Return the position in `order` of the first row with each timestamp."""
        return Packets.of_equal(self.stamps_s).starts

    def repaired_s(self) -> NDArray[np.float64]:
        """Return the timestamps of the rows that remain after merging."""
        return self.stamps_s[self.starts()]

    def apply(self, x: NDArray[np.floating]) -> RepairedStamps:
        """Return the samples `x`, sorted, and merged where timestamps are equal."""
        starts, x = self.starts(), x[self.order]
        n_duplicates = len(x) - len(starts)
        if n_duplicates:
            x = _means(x, starts)
        stamps_s = self.stamps_s[starts]
        return RepairedStamps(stamps_s, x, self.n_late, n_duplicates, self.n_spread, self.packets)


def plan_repair(
    t: NDArray[np.float64],
    values: Callable[[], NDArray[np.floating]],
    stamps: str | None = None,
) -> StampRepair | None:
    """Return a plan to repair rows with finite timestamps `t`; None if no repair is needed.

    If `stamps` is None, packets are spread only if the signal shows that they come from one sensor.
    Other timestamps that repeat or go back are an obstacle, and so are bursts of an unclear kind.
    `values` returns the rows, and is called only if the rows are needed.
    """
    if stamps is not None:
        check_choice("stamps", stamps, STAMPS)
    n = len(t)
    if not count_where(lambda at, stop: t[at + 1 : stop + 1] <= t[at:stop], n - 1, t)[0]:
        bursts = find_bursts(t) if stamps in (None, "packets") else None
        return None if bursts is None else _plan_bursts(t, values(), bursts, stamps)
    x = values()
    order = np.argsort(t, kind="stable")
    t_sorted, x_sorted = t[order], x[order]
    is_late = np.r_[False, t[1:] < np.maximum.accumulate(t)[:-1]]
    is_early = np.r_[t[:-1] > np.minimum.accumulate(t[::-1])[-2::-1], False]
    repeats = np.r_[False, t_sorted[1:] == t_sorted[:-1]]  # one entry per sorted row
    is_same = np.r_[False, _same_rows(x_sorted)]
    plan = StampRepair(order, t_sorted, int(is_late.sum()))
    is_late[order[repeats & is_same]] = False  # merging equal rows loses nothing
    is_moved = is_late if is_late.sum() <= is_early.sum() else is_early
    obstacle, cuts = _sorting_mixes(t, order, is_moved)
    if obstacle:
        return replace(plan, obstacle=obstacle, cuts=cuts)
    is_requested = stamps in ("packets", "merge")
    n_repeats, few = int(repeats.sum()), _few_of(n)
    # Rows were written twice if rows with the same timestamp are equal, but most successive rows
    # with different timestamps are not.
    are_twins = 2 * int((is_same & ~repeats).sum()) < n - n_repeats
    n_lossy = int((repeats & ~is_same).sum()) if are_twins else n_repeats
    if n_lossy <= few:
        remedy = "Sort the {row}s by time" if plan.n_late else "Keep one {row} for each timestamp"
        return plan if is_requested else replace(plan, obstacle=f"{remedy}, or {_MERGING}")
    each = f"About {n / (n - n_repeats):.3g} {{row}}s share each timestamp"
    if (column := _id_column(t_sorted, x_sorted)) is not None:
        obstacle = f"{each}, and {{column}} has the same values at each stamp, so {_OF_SENSORS}"
        return replace(plan, obstacle=obstacle, column=column)
    if stamps == "merge":
        return plan
    packets = Packets.of_equal(t_sorted)
    spread_s = spread_evenly(packets)
    if spread_s is None:
        return replace(
            plan, obstacle=f"{each}{_mean_rate(t_sorted)}, but without an even rate. {_NOT_EVEN}"
        )
    kind = "" if stamps or plan.n_late else kind_of_packets(packets, x_sorted)
    if stamps == "packets" or kind == "samples":
        return replace(plan, stamps_s=spread_s, n_spread=n_repeats, packets=str(packets))
    return replace(plan, obstacle=f"{each}{_mean_rate(spread_s)}. {_SPREADING}")


def _plan_bursts(
    t: NDArray[np.float64], x: NDArray[np.floating], packets: Packets, stamps: str | None
) -> StampRepair | None:
    """Return the plan for rows in bursts, which may be packets."""
    kind = "samples" if stamps else kind_of_packets(packets, x)
    is_pair = int(np.median(packets.counts)) == 2  # a pair may be two events, or two sensors
    if kind in ("pauses", "sensors") or (not kind and is_pair):
        return None
    spread_s = spread_evenly(packets)
    plan = StampRepair(np.arange(len(t)), t, 0)
    if kind and spread_s is not None:
        n_spread = len(t) - len(packets.starts)
        return replace(plan, stamps_s=spread_s, n_spread=n_spread, packets=str(packets))
    between_s = float(np.median(np.diff(packets.stamps_s)))
    finding = f"The {{row}}s come in bursts ({packets}), {between_s:.3g} s apart"
    if spread_s is None:
        return replace(plan, obstacle=f"{finding}, but without an even rate. {_KEEPING}")
    return replace(plan, obstacle=f"{finding}. {_IN_BURSTS}")


_MERGING = "use {merge}, which sorts {row}s and merges those with equal timestamps."
_SPREADING = (
    "If they are packets of samples of one sensor, use {packets}, which spreads them evenly. If"
    " they belong to several sensors, give each sensor its own columns or file, because {merge}"
    " would average the sensors."
)
_KEEPING = "Use {keep} if the sensor pauses between bursts."
_IN_BURSTS = (
    "If they are packets of samples, use {packets}, which spreads them evenly over the time since"
    " the previous packet. If the sensor pauses between bursts, or the {row}s belong to several"
    " sensors, use {keep}."
)
_NOT_EVEN = (
    "Use finer timestamps, or keep one {row} for each timestamp. If the {row}s were sampled"
    " evenly, leave out the time column and give their rate with `sample_rate_hz`. {merge} takes"
    " the mean of the {row}s with the same timestamp."
)
_OF_SENSORS = (
    "it is a part of the time, or the {row}s belong to several sensors. Write the time into one"
    " column, give each sensor its own columns or file, or leave out that column."
)
_RESTARTED = (
    "the clock was restarted, or another recording follows. Cut the recording at {rows}, or sort"
    " the {row}s by time if they belong to one recording. {merge} would mix the recordings."
)
_REVERSED = "the time runs backwards. Reverse the order of the {row}s."
_UNPADDED = (
    "time goes back within a second each time, as if the fractions lacked leading zeros (12.5 for"
    " 12.005). Insert the zeros."
)
_WRAPPED = (
    "a counter of {bits} bits begins again at {{rows}}. Each time, add 2**{bits} to all stamps that"
    " follow, or cut the recording there."
)
_ALTERNATING = (
    "{row}s of two recordings or clocks alternate. Write each recording to its own file, or sort"
    " the {row}s by time if they belong to one sensor. {merge} would mix the recordings."
)


def _few_of(n: int) -> int:
    return max(_FEWEST, int(_FEW * n))


def _same_rows(x: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Test whether each row after the first is equal to the previous row."""
    same = (x[1:] == x[:-1]) | (np.isnan(x[1:]) & np.isnan(x[:-1]))
    return np.asarray(same.all(axis=1))


def _sorting_mixes(
    t: NDArray[np.float64], order: NDArray[np.int64], is_moved: NDArray[np.bool_]
) -> tuple[str, tuple[int, ...]]:
    """Return why rows cannot be sorted ("" if they can), and the rows where a clock restarted."""
    n, n_moved = len(t), int(is_moved.sum())
    if not n_moved:
        return "", ()
    rank = np.empty(n + 1, np.int64)
    rank[order], rank[n] = np.arange(n), 0
    if n_moved <= max(_FEWEST, _SWAPPED * n) and np.abs(rank[:n] - np.arange(n)).max() <= _NEAR:
        return "", ()
    edges = np.flatnonzero(np.diff(np.r_[False, is_moved, False]))
    # Moved rows in a run either fit between two adjacent rows, or are interleaved with other rows.
    n_places = np.maximum.reduceat(rank, edges) - np.minimum.reduceat(rank, edges) + 1
    n_rows = np.diff(np.append(edges, n))
    is_mixed = (n_places > n_rows)[::2] & (n_rows[::2] > _FEWEST)
    if n_moved <= _few_of(n) and not is_mixed.any():
        return "", ()
    steps_s = np.diff(t)
    back_s = -float(steps_s.min())
    finding = f"{n_moved} {{row}}(s) are out of order: "
    resets = np.flatnonzero(steps_s <= -_LARGE * back_s) + 1
    if t[-1] < t[0] and (steps_s < 0).sum() > _BACKWARDS * np.count_nonzero(steps_s):
        return finding + _REVERSED, ()
    (_, after), (second, same) = np.modf([t[resets - 1], t[resets]])
    is_tenth = (10 * after + 1e-4).astype(np.int64) == 1  # without zeros, .100 follows .99
    if len(resets) > 2 and (second == same).all() and 2 * is_tenth.sum() >= len(resets):
        return finding + _UNPADDED, ()
    if len(resets) > 2 and 2 * int((steps_s > back_s / 2).sum()) > len(resets):
        return finding + _ALTERNATING, ()
    longest_s = _LOST * float(np.median(steps_s[steps_s > 0]))
    for bits, per_s in product((16, 32), (1e3, 1e6, 1e9)):
        forward_s = steps_s[resets - 1] + 2**bits / per_s
        if (forward_s > 0).all() and forward_s.max() < longest_s < _BRIEF * 2**bits / per_s:
            return finding + _WRAPPED.format(bits=bits), tuple(resets.tolist())
    return finding + _RESTARTED, tuple(resets.tolist())


def _id_column(t: NDArray[np.float64], x: NDArray[np.floating]) -> int | None:
    """Return a column that has the same values, not all equal, at each timestamp, or None."""
    packets = Packets.of_equal(t)
    starts, counts = packets.starts, packets.counts
    usual = int(np.median(counts))
    whole = starts[counts == usual]
    if not (2 <= usual <= _MOST_IDS and len(whole) > max(_FEWEST, 0.9 * len(starts))):
        return None
    for column in range(x.shape[1]):
        values = x[whole[:, np.newaxis] + np.arange(usual), column]
        if (values == values[0]).all() and (values[0] != values[0, 0]).any():
            return column
    return None


def _means(x: NDArray[np.floating], starts: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the mean of the valid samples in each group of rows; `starts` are the first rows."""
    is_valid = ~np.isnan(x)
    total = np.add.reduceat(np.where(is_valid, x, 0).astype(np.float64), starts, axis=0)
    n = np.add.reduceat(is_valid.astype(np.float64), starts, axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(x.dtype)


def _mean_rate(t: NDArray[np.float64]) -> str:
    """Return the mean rate up to the last timestamp as a string."""
    last = int(np.searchsorted(t, t[-1]))
    return f", {last / (t[-1] - t[0]):.4g} Hz on average" if last else ""
