"""Find, judge and spread out packets of samples that share a timestamp or arrive in a burst."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.blocks import count_where

_FEWEST = 3  # a rate is computed only from more timestamps than this
_SAME_RATE = 0.25  # relative tolerance for the number of rows between two timestamps
_FITTING = 0.95  # minimum fraction of timestamps whose numbers of rows fit a single rate
_GAPS = 0.1  # maximum fraction of timestamps with too few rows
_PAIRS = 1.5  # if timestamps have fewer rows than this on average, rows must follow an even clock
# Timestamps per linear piece of the even clock, and maximum deviation in rows.
_RUN, _OFF_CLOCK = 2000, 2.0
_EVEN_ROWS = 30  # number of rows that are spread together
_MOST_DECIMALS = 5
_DECIMAL = 1e-3  # maximum deviation from a multiple of a step, as a fraction of the step
# Steps within bursts are shorter than steps between bursts by at least this factor, and a burst
# takes at most this fraction of the step to the next burst.
_SHORTER, _PART = 4.0, 0.25
_LEAST_BURSTS, _MOST_ROWS = 8, 256  # minimum bursts per recording; maximum rows per burst
_SEEN = 1 << 16  # number of rows that are searched for bursts and judged
_ALIKE = 0.9  # minimum fraction of bursts of about the usual size, and of usual steps between them
_REGULAR = 0.3  # maximum relative deviation from the median time between bursts
_DELAYED = 8  # of this many successive packets, at least one arrives without a delay
_REFINED = 4  # number of iterations that estimate the rate and the losses
_LOST = 0.3  # maximum fraction of packets that follow a loss
_MOST_OFF = 0.75  # maximum deviation of most packets from the even clock, in packet lengths
_FEWEST_JUDGED = 8  # number of complete packets needed to judge the signal
_ROUNDED_S = (1.0, 1e-3)  # steps in seconds to which timestamps are often rounded down
# Limits for ratios of three mean differences: between neighboring rows of one packet, between
# neighboring rows of two packets, and between rows at the same position in successive packets. For
# one evenly sampled sensor, the first two are similar, and the third is larger if the signal is
# smooth.
_SAME, _LARGER = (0.6, 1.5), 1.4
_PAUSED, _HELD, _MIXED = 2.0, 0.3, 0.7
_COUNTERS = (16, 256, 4096, 65536, 2**32)  # counts after which a counter wraps around


@dataclass(frozen=True, eq=False)
class Packets:
    """Packets of rows: `starts` are the indices of the first rows, `stamps_s` the timestamps."""

    starts: NDArray[np.int64]
    stamps_s: NDArray[np.float64]
    n_rows: int
    are_bursts: bool = False

    @classmethod
    def of_equal(cls, t: NDArray[np.float64]) -> "Packets":
        """Return one packet for each distinct timestamp; `t` is sorted."""
        starts = np.flatnonzero(np.r_[np.ones(min(1, len(t)), bool), t[1:] > t[:-1]])
        return cls(starts, t[starts], len(t))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of rows of each packet."""
        return np.diff(np.append(self.starts, self.n_rows))

    @property
    def size(self) -> int:
        """Number of rows of every packet; 0 if the number varies.

        The first and the last packet may have fewer rows.
        """
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
    """Find bursts in increasing timestamps: short steps, separated by longer, regular steps."""
    longest_s = _longest_within(np.diff(t[:_SEEN]))
    if longest_s is None:
        return None
    starts = np.r_[0, np.flatnonzero(np.diff(t) > longest_s) + 1]
    ends = np.append(starts[1:], len(t)) - 1
    bursts = Packets(starts, t[ends], len(t), are_bursts=True)
    return bursts if _are_alike(bursts.counts[1:-1]) else None


def _are_alike(sizes: NDArray[np.int64]) -> bool:
    usual = int(np.median(sizes))
    return usual > 1 and float((np.abs(sizes - usual) <= max(1, usual // 4)).mean()) > _ALIKE


def _longest_within(steps_s: NDArray[np.float64]) -> float | None:
    """Return a duration that separates steps within bursts from steps between bursts, or None."""
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


def kind_of_packets(packets: Packets, x: NDArray[np.floating]) -> str:
    """Return the kind of packets, judged by the sorted rows `x`; "" if the kind is unclear.

    "samples": the rows come from one evenly sampled sensor. Either a row counter wraps around at a
    power of 2, or all packets have the same size and a smooth channel changes as much between
    packets as within them. In addition, no channel suggests another kind. "pauses": the signal
    changes much more between packets than within them. "sensors": the rows of a packet come from
    several sensors, because channels are missing, held or alike at fixed positions in each packet.
    """
    counts, size = packets.counts, packets.size
    usual = size or int(np.median(counts))
    is_whole = (counts == usual) & (packets.starts < _SEEN)
    whole, stamps_s = packets.starts[is_whole], packets.stamps_s[is_whole]
    if usual < 2 or len(whole) < _FEWEST_JUDGED:
        return ""
    rows = x[whole[:, np.newaxis] + np.arange(usual)].astype(np.float64)
    steps_s = np.diff(stamps_s)  # a longer step means that a packet is missing
    follows = (np.diff(whole) == usual) & (steps_s <= 1.5 * np.median(steps_s))
    within = np.abs(np.diff(rows, axis=1)).reshape(-1, x.shape[1])
    across = np.abs(rows[1:, 0] - rows[:-1, -1])[follows]
    same_place = np.abs(rows[1:] - rows[:-1])[follows].reshape(-1, x.shape[1])
    differences = within, across, same_place
    counters = [c for c, column in enumerate(x[:_SEEN].T) if _counts_rows(column)]
    kinds = [
        "sensors"
        if _lacks_places(rows[..., c])
        else _kind_by_channel(*(d[:, c] for d in differences))
        for c in range(x.shape[1])
        if c not in counters and not _rises(x[:_SEEN, c])
    ]
    if "sensors" in kinds:
        return "sensors"
    if "pauses" in kinds:
        return "" if "samples" in kinds else "pauses"
    return "samples" if counters or (size and "samples" in kinds) else ""


def _kind_by_channel(*differences: NDArray[np.float64]) -> str:
    """Return the kind of packets that one channel suggests; "" for noise or a constant channel."""
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
    """Test whether a column rises or falls in every row, like row numbers and times."""
    steps = np.diff(column)
    return bool((steps > 0).all() or (steps < 0).all())


def _lacks_places(values: NDArray[np.float64]) -> bool:
    """Test whether a channel is missing at certain positions in the packets (n, size)."""
    missing = np.isnan(values).mean(axis=0)
    return bool(missing.max() > 0.9 and missing.min() < 0.1)


def _counts_rows(column: NDArray[np.floating]) -> bool:
    """Test whether a column counts the rows and wraps around, unlike row numbers."""
    steps = np.diff(column)
    restarts = steps[steps != 1]
    is_counter = np.isin(-restarts, np.subtract(_COUNTERS, 1)).all()
    is_counter &= len(set(restarts.tolist())) == 1
    return bool(len(restarts) and is_counter and column.min() == 0)


def spread_evenly(packets: Packets) -> NDArray[np.float64] | None:
    """Return evenly spread timestamps for the rows of each packet; None if that is impossible.

    A packet's timestamp is the time of its last row, so the rows are spread over the time since
    the previous packet. If timestamps are rounded down, for example to whole seconds, a packet's
    timestamp is the time of its first row.
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
    """Test whether timestamps are rounded down, which makes all steps multiples of the usual step.

    Packets of the same size may have such steps because they are sent regularly. For these packets,
    the step must therefore be one of `_ROUNDED_S`.
    """
    steps_s = np.diff(t)
    usual_s = float(np.median(steps_s))
    if size:
        step_s = decimal_step_s(t)
        return abs(step_s / usual_s - 1) < _DECIMAL and step_s in _ROUNDED_S
    off = np.abs(steps_s / usual_s - np.rint(steps_s / usual_s))
    return bool((off < 0.05).all() and (steps_s < 1.5 * usual_s).mean() > 1 - _GAPS)


def decimal_step_s(stamps: NDArray[np.float64]) -> float:
    """Return the decimal step of timestamps in seconds, such as 0.001, or 0 if no step is found."""
    for digits in range(_MOST_DECIMALS):
        scale = 10.0**digits

        def is_between(at: int, stop: int, scale: float = scale) -> NDArray[np.bool_]:
            steps = stamps[at:stop] * scale
            return np.abs(steps - np.rint(steps)) > _DECIMAL

        # Usually, a few timestamps are enough to reject a step.
        few = min(len(stamps), 64)
        if not is_between(0, few).any() and not count_where(is_between, len(stamps), stamps)[0]:
            return 1 / scale
    return 0.0


def _spread_equal(
    t: NDArray[np.float64], counts: NDArray[np.int64], size: int, is_first: bool
) -> NDArray[np.float64] | None:
    """Spread packets of the same size along an even clock; packets may be late or lost."""
    ends = np.cumsum(counts)
    # The row to which each packet's timestamp belongs.
    rows = (ends - counts if is_first else ends - 1).astype(np.float64)
    if is_first and counts[0] < size:
        rows[0] -= size - counts[0]  # the log began within the first packet
    period_s = float(np.median(np.diff(t) / np.diff(rows)))
    n = len(t)
    for _ in range(_REFINED):
        # If `_DELAYED` packets in a row are late, packets were lost before them.
        late_s = np.append(t - period_s * rows, np.full(_DELAYED - 1, np.inf))
        soon = np.lib.stride_tricks.sliding_window_view(late_s, _DELAYED).min(axis=1)
        jumps = np.diff(soon) / (size * period_s)
        lost = np.r_[0.0, np.where(jumps > 0.5, np.rint(jumps), 0.0)]
        ticks = rows + size * np.cumsum(lost)
        shifted = ticks - ticks.mean()
        period_s = float((shifted * (t - t.mean())).sum() / (shifted * shifted).sum())
        if not period_s > 0:
            return None
    deviation_s = np.abs(t - t.mean() - period_s * shifted)
    if (lost > 0).mean() > _LOST or np.quantile(
        deviation_s, _FITTING
    ) > _MOST_OFF * size * period_s:
        return None
    packet_of = np.repeat(np.arange(n), counts)
    row_ticks = np.arange(ends[-1]) + (ticks - rows)[packet_of]
    spread_s: NDArray[np.float64] = t.mean() + (row_ticks - ticks.mean()) * period_s
    return spread_s


def _spread_by_rate(
    t: NDArray[np.float64], counts: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Spread rows with equal timestamps up to the next timestamp; None if no rate fits.

    The rows of the first timestamp are spread backward from the second timestamp, because the log
    may begin between these timestamps. If a timestamp has too few rows to fill the time up to the
    next timestamp, a gap follows its rows.
    """
    n_stamps, n = len(t), int(counts.sum())
    starts = np.cumsum(counts) - counts
    steps_s, counts = np.diff(t), counts[:-1]
    usual = steps_s <= 1.5 * np.median(steps_s)
    usual[0] = False  # the first packet may be incomplete
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
    # If timestamps have few rows, spread the rows of several timestamps together, because the
    # number of rows per timestamp is rounded.
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
    knot_of = np.repeat(np.arange(len(at)), np.diff(np.append(rows, n)))
    after_knot = np.arange(n) - rows[knot_of]
    spread_s: NDArray[np.float64] = times_s[knot_of] + after_knot * each_s[knot_of]
    return spread_s if (np.diff(spread_s) > 0).all() else None
