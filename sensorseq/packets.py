"""Packets of samples that share a time stamp or arrive in a burst: found, judged, spread evenly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.scratch import count_where

_FEWEST = 3  # timestamps without which there is no rate
_SAME_RATE = 0.25  # tolerance of the number of rows between two timestamps
_FITTING = 0.95  # timestamps that must have the number of rows of one rate
_GAPS = 0.1  # timestamps that may have fewer
_PAIRS = 1.5  # fewer rows for each timestamp must follow an even clock ...
_RUN, _OFF_CLOCK = 2000, 2.0  # ... within this many rows, for this many rows
_EVEN_ROWS = 30  # rows that are spread together
_MOST_DECIMALS = 5
_DECIMAL = 1e-3  # most by which a multiple of a step is off, as a fraction of the step
# Bursts: their steps are this much shorter than those between them, and a small part of the time.
_SHORTER, _PART = 4.0, 0.25
_LEAST_BURSTS, _MOST_ROWS = 8, 256  # of a recording; of a burst
_SEEN = 1 << 16  # rows that are looked at for bursts and judged
_ALIKE = 0.9  # bursts of the usual number of rows
_REGULAR = 0.3  # most by which the usual time between bursts differs from their median
_DELAYED = 8  # packets within which one arrives without a delay
_REFINED = 4  # passes in which their rate and the losses are found
_LOST = 0.3  # packets before which others may be lost
_MOST_OFF = 0.75  # lengths of a packet by which most are off the even clock
_FEWEST_JUDGED = 8  # whole packets without which the signal proves nothing
_ROUNDED_S = (1.0, 1e-3)  # steps to which stamps are often rounded down
# Mean differences of neighbours within packets, of neighbours across their ends, and of rows in the
# same place of successive packets. Of one sensor sampled evenly, the second is as the first, and
# the third is larger where the signal is smooth.
_SAME, _LARGER = (0.6, 1.5), 1.4
_PAUSED, _HELD, _MIXED = 2.0, 0.3, 0.7
_COUNTERS = (16, 256, 4096, 65536, 2**32)  # after which a counter begins again


@dataclass(frozen=True, eq=False)
class Packets:
    """Packets of rows: `starts` are their first rows, `stamps_s` the times of their last ones."""

    starts: NDArray[np.int64]
    stamps_s: NDArray[np.float64]
    n_rows: int
    are_bursts: bool = False

    @classmethod
    def of_equal(cls, t: NDArray[np.float64]) -> "Packets":
        """Return the rows with each of sorted timestamps."""
        starts = np.flatnonzero(np.r_[np.ones(min(1, len(t)), bool), t[1:] > t[:-1]])
        return cls(starts, t[starts], len(t))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of rows of each packet."""
        return np.diff(np.append(self.starts, self.n_rows))

    @property
    def size(self) -> int:
        """The number of rows of all packets, of the first and last at most; 0 if they differ."""
        counts = self.counts
        if len(counts) <= _FEWEST or counts[0] > counts[1] or counts[-1] > counts[1]:
            return 0
        return int(counts[1]) if (counts[1:-1] == counts[1]).all() else 0

    def __str__(self) -> str:
        counts = self.counts[1:-1] if len(self.starts) > _FEWEST else self.counts
        least, most = int(counts.min()), int(counts.max())
        return (
            f"packets of {least} samples"
            if least == most
            else f"packets of {least} to {most} samples"
        )


def find_bursts(t: NDArray[np.float64]) -> Packets | None:
    """Find packets among increasing timestamps: short steps within them, regular ones between."""
    longest_s = _longest_within(np.diff(t[:_SEEN]))
    if longest_s is None:
        return None
    starts = np.r_[0, np.flatnonzero(np.diff(t) > longest_s) + 1]
    ends = np.append(starts[1:], len(t)) - 1
    found = Packets(starts, t[ends], len(t), are_bursts=True)
    return found if _are_alike(found.counts[1:-1]) else None


def _are_alike(sizes: NDArray[np.int64]) -> bool:
    usual = int(np.median(sizes))
    return usual > 1 and float((np.abs(sizes - usual) <= max(1, usual // 4)).mean()) > _ALIKE


def _longest_within(steps_s: NDArray[np.float64]) -> float | None:
    """Return a time between the steps within bursts and those between them; None without bursts."""
    ordered = np.sort(steps_s)
    n = len(ordered)
    first, last = (n + 1) // 2, min(n - _LEAST_BURSTS, n - n // _MOST_ROWS)
    if last <= first or ordered[0] <= 0:
        return None
    ratios = ordered[first : last + 1] / ordered[first - 1 : last]
    split = first + int(np.argmax(ratios))
    if ratios.max() < _SHORTER:
        return None
    is_between = steps_s >= ordered[split]
    sizes = np.diff(np.flatnonzero(is_between))
    usual, between_s = int(np.median(sizes)), float(np.median(ordered[split:]))
    within_s = (usual - 1) * float(np.median(ordered[:split]))
    is_regular = np.abs(ordered[split:] - between_s) <= _REGULAR * between_s
    if within_s > _PART * between_s or is_regular.mean() < _ALIKE or not _are_alike(sizes):
        return None
    return float(np.sqrt(ordered[split - 1] * ordered[split]))


def judge(packets: Packets, x: NDArray[np.floating]) -> str:
    """Judge by the signal what packets of rows `x` in order are; "" if it does not show.

    "samples" of one sensor taken evenly: all have one size, a smooth channel goes on from one to
    the next as within them, and no channel speaks against it; or a counter of rows, which begins
    again after a power of 2, proves it. "pauses": the signal goes on between them by the time that
    passes. "sensors": channels are missing, held or alike in certain places of each packet.
    """
    counts, size = packets.counts, packets.size
    usual = size or int(np.median(counts))
    is_whole = (counts == usual) & (packets.starts < _SEEN)
    whole, stamps_s = packets.starts[is_whole], packets.stamps_s[is_whole]
    if usual < 2 or len(whole) < _FEWEST_JUDGED:
        return ""
    rows = x[whole[:, np.newaxis] + np.arange(usual)].astype(np.float64)
    steps_s = np.diff(stamps_s)  # no packet is missing where they are as usual
    follows = (np.diff(whole) == usual) & (steps_s <= 1.5 * np.median(steps_s))
    within = np.abs(np.diff(rows, axis=1)).reshape(-1, x.shape[1])
    across = np.abs(rows[1:, 0] - rows[:-1, -1])[follows]
    same_place = np.abs(rows[1:] - rows[:-1])[follows].reshape(-1, x.shape[1])
    differences = within, across, same_place
    counters = [c for c, column in enumerate(x[:_SEEN].T) if _counts_rows(column)]
    kinds = [
        "sensors" if _lacks_places(rows[..., c]) else _kind(*(d[:, c] for d in differences))
        for c in range(x.shape[1])
        if c not in counters and not _rises(x[:_SEEN, c])
    ]
    if "sensors" in kinds:
        return "sensors"
    if "pauses" in kinds:
        return "" if "samples" in kinds else "pauses"
    return "samples" if counters or (size and "samples" in kinds) else ""


def _kind(*differences: NDArray[np.float64]) -> str:
    """Return what one channel shows; "" if nothing, as if it is noise, or constant."""
    inner, outer, apart = (
        float(d[~np.isnan(d)].mean()) if (~np.isnan(d)).any() else 0.0 for d in differences
    )
    if outer < _HELD * inner or apart < _MIXED * inner:
        return "sensors"
    if outer > _PAUSED * inner:
        return "pauses"
    is_even = _SAME[0] * inner <= outer <= _SAME[1] * inner
    return "samples" if is_even and apart > _LARGER * inner else ""


def _rises(column: NDArray[np.floating]) -> bool:
    """Test whether a column rises or falls in every row, as numbers of rows and times do."""
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all())


def _lacks_places(values: NDArray[np.float64]) -> bool:
    """Test whether a channel is missing in certain places of each packet (n, size)."""
    missing = np.isnan(values).mean(axis=0)
    return bool(missing.max() > 0.9 and missing.min() < 0.1)


def _counts_rows(column: NDArray[np.floating]) -> bool:
    """Test whether a column counts the rows and begins again; a row's number does not."""
    steps = np.diff(column)
    other = steps[steps != 1]
    is_again = np.isin(-other, np.subtract(_COUNTERS, 1)).all() and len(set(other.tolist())) == 1
    return bool(len(other) and is_again and column.min() == 0)


def spread(packets: Packets) -> NDArray[np.float64] | None:
    """Return a timestamp for each row, evenly over the time of its packet; None if not possible.

    Rows lie between the stamp of the packet before and that of their own. Stamps that are rounded
    down, such as whole seconds, are those of the first row instead.
    """
    t, counts = packets.stamps_s, packets.counts
    if len(t) <= _FEWEST:
        return None
    is_first = not packets.are_bursts and _are_rounded(t, packets.size)
    if packets.size:
        return _spread_equal(t, counts, packets.size, is_first)
    if is_first:
        return _spread_by_rate(t, counts)
    reversed_s = _spread_by_rate(-t[::-1], counts[::-1])
    return None if reversed_s is None else -reversed_s[::-1]


def _are_rounded(t: NDArray[np.float64], size: int) -> bool:
    """Test whether timestamps are rounded down: multiples of the step between them.

    Of packets of one size, which may be sent regularly, it must be a usual step.
    """
    steps_s = np.diff(t)
    usual_s = float(np.median(steps_s))
    if size:
        step_s = decimal_step_s(t)
        return abs(step_s / usual_s - 1) < _DECIMAL and step_s in _ROUNDED_S
    off = np.abs(steps_s / usual_s - np.rint(steps_s / usual_s))
    return bool((off < 0.05).all() and (steps_s < 1.5 * usual_s).mean() > 1 - _GAPS)


def decimal_step_s(stamps: NDArray[np.float64]) -> float:
    """Return the decimal step of timestamps in seconds, such as 0.001, or 0 if it is too fine."""
    for digits in range(_MOST_DECIMALS):
        scale = 10.0**digits

        def is_between(at: int, stop: int, scale: float = scale) -> NDArray[np.bool_]:
            steps = stamps[at:stop] * scale
            return np.abs(steps - np.rint(steps)) > _DECIMAL

        # the first ones usually decide
        few = min(len(stamps), 64)
        if not is_between(0, few).any() and not count_where(is_between, len(stamps), stamps)[0]:
            return 1 / scale
    return 0.0


def _spread_equal(
    t: NDArray[np.float64], counts: NDArray[np.int64], size: int, is_first: bool
) -> NDArray[np.float64] | None:
    """Spread packets of one size along an even clock; a packet may be late, and some lost."""
    ends = np.cumsum(counts)
    rows = (ends - counts if is_first else ends - 1).astype(np.float64)  # the rows with the stamps
    if is_first and counts[0] < size:
        rows[0] -= size - counts[0]  # the log began within the first packet
    period_s = float(np.median(np.diff(t) / np.diff(rows)))
    n = len(t)
    for _ in range(_REFINED):
        # Where all later packets are late, packets are lost before.
        late_s = np.append(t - period_s * rows, np.full(_DELAYED - 1, np.inf))
        soon = np.lib.stride_tricks.sliding_window_view(late_s, _DELAYED).min(axis=1)
        jumps = np.diff(soon) / (size * period_s)
        lost = np.r_[0.0, np.where(jumps > 0.5, np.rint(jumps), 0.0)]
        ticks = rows + size * np.cumsum(lost)
        shifted = ticks - ticks.mean()
        period_s = float((shifted * (t - t.mean())).sum() / (shifted * shifted).sum())
        if not period_s > 0:
            return None
    off_s = np.abs(t - t.mean() - period_s * shifted)
    if (lost > 0).mean() > _LOST or np.quantile(off_s, _FITTING) > _MOST_OFF * size * period_s:
        return None
    of = np.repeat(np.arange(n), counts)
    row_ticks = np.arange(ends[-1]) + (ticks - rows)[of]
    spread_s: NDArray[np.float64] = t.mean() + (row_ticks - ticks.mean()) * period_s
    return spread_s


def _spread_by_rate(
    t: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Spread rows with equal timestamps evenly up to the next; None if they follow no rate.

    Rows of the first timestamp end before the second one, as a log may begin between the two.
    Where a timestamp has too few rows for the time up to the next, that time ends with a gap.
    """
    n_stamps, n = len(t), int(counts.sum())
    starts = np.cumsum(counts) - counts
    steps_s, counts = np.diff(t), counts[:-1]
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
        line = np.interp(t, t[ends], starts[ends])
        if np.abs(starts - line).max() > _OFF_CLOCK:
            return None
    # Several timestamps with few rows are spread together: their numbers are rounded.
    is_knot = np.ones(n_stamps, bool)
    is_knot[1:] = np.diff(starts // _EVEN_ROWS) > 0
    is_knot[1] = True
    is_knot[1:] |= is_gap
    is_knot[:-1] |= is_gap
    at = np.flatnonzero(is_knot)
    rows, times_s = starts[at], t[at]
    each_s = np.append(np.diff(times_s) / np.diff(rows), period_s)
    each_s[:-1][is_gap[at[:-1]]] = period_s
    if counts[0] <= wanted[0]:
        times_s[0], each_s[0] = t[1] - counts[0] * period_s, period_s
    of = np.repeat(np.arange(len(at)), np.diff(np.append(rows, n)))
    spread_s: NDArray[np.float64] = times_s[of] + (np.arange(n) - rows[of]) * each_s[of]
    return spread_s if (np.diff(spread_s) > 0).all() else None
