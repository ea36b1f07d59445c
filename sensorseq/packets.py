"""Packets of samples that share a time stamp or arrive in a burst: found, judged, spread evenly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.scratch import count_where

FEWEST = 3  # timestamps without which there is no rate
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
_RATE_LAG = 16  # packets over which their rate is measured
_MOST_OFF = 2.0  # periods of packets by which one may be off the even clock
# Of a signal without pauses, samples on both sides of a packet's end differ as within a packet.
_PAUSED = 2.0
_SMOOTH = 0.5  # neighbours differ less than this part of what any two samples differ by
_SAME_PLACE = 0.7  # of sensors that take turns, rows in the same place of packets differ less


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
        if len(counts) <= FEWEST or counts[0] > counts[1] or counts[-1] > counts[1]:
            return 0
        return int(counts[1]) if (counts[1:-1] == counts[1]).all() else 0

    def __str__(self) -> str:
        counts = self.counts[1:-1] if len(self.starts) > FEWEST else self.counts
        least, most = int(counts.min()), int(counts.max())
        return f"packets of {least} samples" if least == most else f"packets of {least} to {most}"


def find_bursts(t: NDArray[np.float64]) -> Packets | None:
    """Find packets among increasing timestamps: short steps within them, regular ones between."""
    longest_s = _longest_within(np.diff(t[:_SEEN]))
    if longest_s is None:
        return None
    starts = np.r_[0, np.flatnonzero(np.diff(t) > longest_s) + 1]
    ends = np.append(starts[1:], len(t)) - 1
    return Packets(starts, t[ends], len(t), are_bursts=True)


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
    if usual < 2 or within_s > _PART * between_s or is_regular.mean() < _ALIKE:
        return None
    if (np.abs(sizes - usual) <= max(1, usual // 4)).mean() < _ALIKE:
        return None
    return float(np.sqrt(ordered[split - 1] * ordered[split]))


def are_certain(packets: Packets, x: NDArray[np.floating]) -> bool | None:
    """Judge by the signal whether rows `x` in order are samples of one sensor, taken evenly.

    True if a counter of rows or packets proves it, or if all packets have one size and the signal
    agrees; of bursts, it must also be so smooth that pauses would show. False if it shows the
    pauses between bursts; None if it is not certain.
    """
    if _has_counter(packets, x):
        return True
    size, counts = packets.size, packets.counts
    usual = size or int(np.median(counts))
    whole = packets.starts[(counts == usual) & (packets.starts < _SEEN)]
    if usual < 2 or len(whole) <= FEWEST:
        return None
    rows = x[whole[:, np.newaxis] + np.arange(usual)].astype(np.float64)
    follows = np.diff(whole) == usual
    rises_within, rises_across = np.diff(rows, axis=1), (rows[1:, 0] - rows[:-1, -1])[follows]
    within, across = np.abs(rises_within), np.abs(rises_across)
    same_place = np.abs(rows[1:] - rows[:-1])
    # Any two samples, in an order that is always the same.
    shuffled = rows.reshape(-1, x.shape[1])[np.random.default_rng(0).permutation(rows[..., 0].size)]
    apart = np.abs(np.diff(shuffled, axis=0))
    is_smooth = is_paused = is_mixed = False
    for column in range(x.shape[1]):
        inner = _mean(within[..., column])
        rises = rises_within[..., column], rises_across[..., column]
        is_row_number = all((one == 1).all() for one in rises)
        if not inner > 0 or is_row_number:
            continue
        is_smooth |= inner < _SMOOTH * _mean(apart[..., column])
        is_paused |= _mean(across[..., column]) > _PAUSED * inner
        is_mixed |= _mean(same_place[..., column]) < _SAME_PLACE * inner
    if packets.are_bursts and is_paused:
        return False
    return True if size and not (is_paused or is_mixed or packets.are_bursts > is_smooth) else None


def _mean(differences: NDArray[np.float64]) -> float:
    known = differences[~np.isnan(differences)]
    return float(known.mean()) if len(known) else 0.0


def _has_counter(packets: Packets, x: NDArray[np.floating]) -> bool:
    """Test whether a column counts the samples, or the packets, and is not the row's number."""
    n = min(len(x), _SEEN)
    is_first = np.zeros(n, bool)
    is_first[packets.starts[packets.starts < n]] = True
    n_first = int(is_first[1:].sum())
    for column in x[:n].T:
        steps = np.diff(column)
        is_one, other = steps == 1, steps[steps != 1]
        if n > FEWEST and 0.9 * (n - 1) <= is_one.sum() < n - 1 and (other != 0).all():
            return True  # it begins again, or numbers are missing
        if is_one.all() and column[0] not in (0, 1):
            return True
        is_inside = (steps == 0) == ~is_first[1:]
        if n_first > FEWEST and is_inside.all() and (is_one & is_first[1:]).sum() >= 0.9 * n_first:
            return True
    return False


def spread(packets: Packets) -> NDArray[np.float64] | None:
    """Return a timestamp for each row, evenly over the time of its packet; None if not possible.

    Rows lie between the stamp of the packet before and that of their own. Stamps that are rounded
    down, such as whole seconds, are those of the first row instead.
    """
    t, counts = packets.stamps_s, packets.counts
    if len(t) <= FEWEST:
        return None
    is_first = not packets.are_bursts and _are_rounded(t, packets.size)
    if packets.size:
        return _spread_equal(t, counts, packets.size, is_first)
    if is_first:
        return _spread_by_rate(t, counts)
    reversed_s = _spread_by_rate(-t[::-1], counts[::-1])
    return None if reversed_s is None else -reversed_s[::-1]


def _are_rounded(t: NDArray[np.float64], size: int) -> bool:
    """Test whether timestamps are multiples of the step between them, as rounded ones are."""
    steps_s = np.diff(t)
    usual_s = float(np.median(steps_s))
    if abs(decimal_step_s(t) / usual_s - 1) < _DECIMAL:
        return True
    off = np.abs(steps_s / usual_s - np.rint(steps_s / usual_s))
    return not size and bool((off < 0.05).all() and (steps_s < 1.5 * usual_s).mean() > 1 - _GAPS)


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
    lag = min(_RATE_LAG, (len(t) - 1) // 2)
    period_s = float(np.median((t[lag:] - t[:-lag]) / (rows[lag:] - rows[:-lag])))
    for _ in range(2):
        # Where all later packets are late, packets are lost before.
        late_s = t - period_s * rows
        n = len(late_s)
        soon = np.lib.stride_tricks.sliding_window_view(
            np.append(late_s, np.full(_DELAYED - 1, np.inf)), _DELAYED
        )
        jumps = np.diff(soon.min(axis=1)) / (size * period_s)
        if (jumps > 0.5).mean() > _GAPS:
            return None
        lost = np.r_[0.0, np.where(jumps > 0.5, np.rint(jumps), 0.0)]
        ticks = rows + size * np.cumsum(lost)
        shifted = ticks - ticks.mean()
        period_s = float((shifted * (t - t.mean())).sum() / (shifted * shifted).sum())
        if not period_s > 0:
            return None
    off_s = t - t.mean() - period_s * shifted
    if (np.abs(off_s) > _MOST_OFF * size * period_s).mean() > 1 - _FITTING:
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
