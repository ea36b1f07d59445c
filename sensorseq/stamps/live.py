"""Place arriving samples on the even grid of their sensor's clock."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import as_float, check_positive, check_rate, check_signal
from sensorseq.base.numeric import fill_forward
from sensorseq.errors import ArgumentError, SignalError
from sensorseq.stamps.period import GAP_PERIODS, sample_period
from sensorseq.stamps.repair import check_one_per_sample

_FOLLOWED = 0.02  # fraction of a timestamp's deviation by which the clock is corrected
# Number of timestamps after which their rate is checked, and the largest allowed ratio of their
# rate to the given rate. Lost samples can explain a lower rate, but never a higher rate.
_JUDGED = ((50, 1.25), (250, 1.05))
_MOST_LOST = 1.5
_FEWEST_PACKETS = 5  # with fewer packets, the rate is too uncertain to check
_MOST_IN_PACKET = 1 << 14  # maximum number of samples of a packet
_LARGEST = float(np.finfo(np.float32).max)  # windows are float32, in which more is infinite


_Row = tuple[float, NDArray[np.float64], bool]
"""A timestamp, the values of all channels, and whether none of them is NaN."""


class EvenSamples(NamedTuple):
    """Samples (n, n_channels) on an even grid; `start_s` is set if a new piece starts.

    `drifts_s` (n,) is the clock's time since the start of the piece at each sample, minus the
    number of ticks times the nominal period.
    """

    start_s: float | None
    values: NDArray[np.float64]
    drifts_s: NDArray[np.float64]

    @property
    def drift_s(self) -> float:
        """The drift at the first sample."""
        return float(self.drifts_s[0])


class LiveClock:
    """Sort live samples, fill in missing samples, and cut the result into evenly sampled pieces.

    The sensor must sample evenly at `sample_rate_hz`, apart from a slow drift of its clock. The
    first 250 timestamps are checked against this rate. Timestamps may jitter by less than half a
    period. A sample is assigned to the nearest tick of a clock that follows the timestamps. Missing
    samples and NaN are interpolated linearly; if a channel is missing for more than `max_gap_s`
    (default: ten periods), a new piece starts. Samples that are up to `max_delay_s` late are sorted
    into place; samples with a longer delay or a repeated timestamp are ignored. If only late
    samples arrive for `max_gap_s`, the clock is assumed to have been set back, and a new piece
    starts. Infinite values, and values too large for float32, are treated as NaN. A sample is
    ignored if its timestamp is not finite, or so large that floats do not resolve half a period.

    A missing value of a channel in `held` is the previous known value, however old it is.

    With `in_packets`, samples less than half a period apart form a packet, which is complete when
    the next packet begins. The samples of a packet are assumed to be evenly spaced and to follow
    the previous packet directly. If two packets in a row are late by more than half a packet, or
    one packet is late by more than `max_gap_s`, the last sample of the packet is assumed to have
    the packet's timestamp instead.

    The result does not depend on how the samples are divided into pushes. No more samples wait than
    twice the number that the sensor samples in `max_delay_s`, or since the previous packet: if
    timestamps hardly differ, the oldest sample no longer waits, and further samples of a packet are
    ignored as late.

    `n_late`, `n_duplicates`, `n_infinite` (values), `n_bad_stamps`, `n_filled` (ticks with a
    missing value) and `n_gaps` are counters.
    """

    def __init__(
        self,
        sample_rate_hz: float,
        n_channels: int,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        *,
        in_packets: bool = False,
        held: Sequence[int] = (),
    ) -> None:
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        if max_gap_s is not None and check_positive("max_gap_s", max_gap_s) * rate < 1:
            raise ArgumentError(
                f"max_gap_s={max_gap_s!r} is shorter than the sample period, {1 / rate:.6g} s."
            )
        if not 0 <= as_float(max_delay_s) < np.inf:
            raise ArgumentError(f"max_delay_s={max_delay_s!r} must be at least 0 seconds.")
        self._period, self._n_channels = 1 / rate, n_channels
        self._most_ticks = int((GAP_PERIODS if max_gap_s is None else max_gap_s * rate) + 1e-9)
        self._held_columns = list(held)
        self._max_delay_s, self._in_packets = float(max_delay_s), in_packets
        self._most_waiting = int(2 * max_delay_s * rate) + self._most_ticks + 1
        self._most_waiting += _MOST_IN_PACKET if in_packets else 0
        self._latest_s = self._period / 2 / np.finfo(np.float64).eps
        self.n_late = self.n_duplicates = self.n_filled = self.n_gaps = 0
        self.n_infinite = self.n_bad_stamps = 0
        self.newest_s: float | None = None
        self._first_stamps = np.empty(0)
        self._restart()

    def _restart(self) -> None:
        self._n_received = 0
        self._waiting: list[_Row] = []  # sorted by timestamp
        self._waiting_s: list[float] = []  # their timestamps
        self._packet: list[_Row] = []  # the packet that is not yet complete
        self._even: list[EvenSamples] = []  # the result of a push
        self._plain: list[NDArray[np.float64]] = []  # the newest rows, if none is missing
        self._plain_s: list[float] = []  # the clock's times of these rows
        self._next: int | None = None  # next tick to return; None until all channels are known
        self._forget_stamps()

    def _forget_stamps(self) -> None:
        """Let the next row begin a new signal."""
        self._last_s: float | None = None  # newest accepted timestamp
        self._n_late_in_a_row = 0
        self._last_held = np.full(len(self._held_columns), np.nan)
        # delay and time of the previous packet, and its number of samples
        self._packet_late_s, self._packet_s, self._n_in_packet = 0.0, -np.inf, 0

    def _begin(self, stamp_s: float) -> None:
        """Reset the clock: the next row is tick 0, and no channel has a known value yet."""
        # The clock starts at zero, because floats resolve seconds since 1970 only to 0.2 us.
        self._zero_s, self._tick, self._clock_s = stamp_s, -1, -self._period
        self._held: list[NDArray[np.float64]] = []  # the newest rows, with NaN for missing values
        self._held_s: list[float] = []  # the clock's times of these rows
        self._known = np.full(self._n_channels, -1)  # newest tick with a known value, by channel
        self._next = None
        self._origin = (0.0, 0)  # time and tick at the start of the piece

    def push(self, samples: ArrayLike, timestamps_s: ArrayLike | None = None) -> list[EvenSamples]:
        """Process the next samples (n, n_channels) and, if given, their timestamps."""
        x = check_signal(samples).astype(np.float64, copy=False)
        if x.shape[1] != self._n_channels:
            raise SignalError(
                f"the samples have {x.shape[1]} channel(s), but the stream takes"
                f" {self._n_channels}."
            )
        if timestamps_s is None:
            stamps = (self._n_received + np.arange(len(x))) * self._period
        else:
            stamps = check_one_per_sample(timestamps_s, len(x))
            is_usable = np.abs(stamps) <= self._latest_s
            self._check_rate(stamps, is_usable)
            if not is_usable.all():
                self.n_bad_stamps += int((~is_usable).sum())
                x, stamps = x[is_usable], stamps[is_usable]
        self._n_received += len(x)
        complete = np.asarray((np.abs(x) <= _LARGEST).all(axis=1))
        if not complete.all():
            is_infinite = np.abs(x) > _LARGEST
            self.n_infinite += int(is_infinite.sum())
            x = np.where(is_infinite, np.nan, x)
        take = self._place
        if self._in_packets:
            take = self._pack
        if self._max_delay_s:
            take = self._wait
        for stamp_s, row, is_complete in zip(stamps.tolist(), x, complete.tolist()):
            take(stamp_s, row, is_complete)
        return self._taken()

    def _check_rate(self, stamps: NDArray[np.float64], is_usable: NDArray[np.bool_]) -> None:
        """Raise an error if the rate of the first timestamps differs from the given rate."""
        n_before = len(self._first_stamps)
        if n_before >= _JUDGED[-1][0]:
            return
        n_bad = self.n_bad_stamps + int(np.append(is_usable, True).argmax())
        if not n_before and n_bad >= _JUDGED[0][0]:
            raise SignalError(
                f"the first {n_bad} timestamps are not finite, or too large for"
                f" {1 / self._period:g} Hz. Timestamps must be in seconds."
            )
        stamps = stamps[is_usable]
        first = np.concatenate([self._first_stamps, stamps])
        for n_judged, most_faster in _JUDGED:
            if not n_before < n_judged <= len(first):
                continue
            if self._in_packets:
                self._check_packets(first[:n_judged], most_faster)
                continue
            different = np.unique(first[:n_judged])
            rate = 1 / sample_period(different) if len(different) > 1 else np.inf
            usual_s = np.median(np.diff(different)) if len(different) > 1 else 0.0
            # With so few timestamps, gaps and pauses can lower the rate, so also check the median
            # step.
            is_slower = usual_s > _MOST_LOST * self._period and rate * self._period < 1 / _MOST_LOST
            if is_slower or rate * self._period > most_faster:
                self._refuse_rate(rate, len(different) < n_judged / _MOST_LOST)
        self._first_stamps = first

    def _check_packets(self, stamps: NDArray[np.float64], most_faster: float) -> None:
        """Raise an error if the samples of several packets do not have the given rate."""
        starts = self._packets(stamps)
        duration_s, n_packets = stamps[starts[-1]] - stamps[starts[0]], len(starts) - 1
        if n_packets >= _FEWEST_PACKETS and duration_s > 0:
            rate = float(starts[-1] - starts[0]) / duration_s
            # A packet may be late by up to its length, so a slightly higher rate is allowed.
            if not 1 / _MOST_LOST < rate * self._period < most_faster + 1 / n_packets:
                self._refuse_rate(rate, are_shared=False)

    def _refuse_rate(self, rate: float, are_shared: bool) -> None:
        way_out = "Give the sensor's rate with sample_rate_hz; timestamps must be in seconds."
        if are_shared:
            way_out = (
                "Several samples share each timestamp. If they form packets, train on recordings"
                " prepared with stamps='packets', or give samples without timestamps_s."
            )
        raise SignalError(
            f"the timestamps give {rate:.4g} Hz, which does not match {1 / self._period:g} Hz."
            f" {way_out}"
        )

    def flush(self) -> list[EvenSamples]:
        """Return the remaining samples; the next sample starts a new signal."""
        self._release_waiting()
        remaining = self._taken()
        self._restart()
        return remaining

    def _taken(self) -> list[EvenSamples]:
        """Return the even samples since the last call."""
        self._end_plain()
        even, self._even = self._even, []
        return _joined(even)

    def _wait(self, stamp_s: float, row: NDArray[np.float64], is_complete: bool) -> None:
        """Keep a row for `max_delay_s`, in the order of the timestamps."""
        waiting_s = self._waiting_s
        at = bisect_right(waiting_s, stamp_s)
        if at and waiting_s[at - 1] == stamp_s and not self._in_packets:
            self.n_duplicates += 1
            return
        self._waiting.insert(at, (stamp_s, row, is_complete))
        waiting_s.insert(at, stamp_s)
        due_s = waiting_s[-1] - self._max_delay_s
        if waiting_s[0] <= due_s or len(waiting_s) > self._most_waiting:
            n_due = bisect_right(waiting_s, due_s)
            self._release(max(n_due, len(waiting_s) - self._most_waiting))

    def _release(self, n: int) -> None:
        """Let the first rows wait no longer."""
        due = self._waiting[:n]
        del self._waiting[:n], self._waiting_s[:n]
        for row in due:
            (self._pack if self._in_packets else self._place)(*row)

    def _release_waiting(self) -> None:
        """Let no row wait any longer."""
        self._release(len(self._waiting))
        self._end_packet()

    def _start_over(self) -> None:
        """End the signal, because its clock was set back."""
        self._release_waiting()
        self._end_plain()
        self._end_piece()
        self._forget_stamps()

    def _packets(self, stamps: ArrayLike) -> list[int]:
        """Return the index of the first row of each packet."""
        return [0, *(np.flatnonzero(np.abs(np.diff(stamps)) > self._period / 2) + 1).tolist()]

    def _pack(self, stamp_s: float, row: NDArray[np.float64], is_complete: bool) -> None:
        """Add a row to the packet, or end the packet if the row belongs to the next one."""
        if self._packet and abs(stamp_s - self._packet[-1][0]) > self._period / 2:
            self._end_packet()
        n_usual = max(abs(stamp_s - self._packet_s) / self._period, self._n_in_packet)
        if len(self._packet) < min(2 * n_usual + self._most_ticks + 1, _MOST_IN_PACKET):
            self._packet.append((stamp_s, row, is_complete))
        else:
            self.n_late += 1

    def _end_packet(self) -> None:
        """Place the rows of a packet on the clock."""
        packet, self._packet = self._packet, []
        if not packet:
            return
        n, end_s = len(packet), packet[-1][0]
        if self._last_s is not None and end_s == self._packet_s:  # the packet was sent twice
            self.n_duplicates += n
            return
        if self._last_s is not None and end_s < self._packet_s:
            if not self._is_set_back(n):
                return
            self._start_over()
        first_s = self._first_of_packet(n, end_s)
        for j, (_, row, is_complete) in enumerate(packet):
            self._place(first_s + j * self._period, row, is_complete)
        self._packet_s = self.newest_s = end_s  # the timestamp that the sensor sent
        self._n_in_packet = n

    def _first_of_packet(self, n: int, end_s: float) -> float:
        """Return the time of the first of the `n` rows of a packet, and correct the clock."""
        period = self._period
        if self._last_s is not None:
            late_s = end_s - self._zero_s - self._clock_s - n * period
            both_s, self._packet_late_s = min(late_s, self._packet_late_s), late_s
            if both_s <= n * period / 2 and late_s <= self._most_ticks * period:
                # Correct the clock as much as if the samples of the packet had arrived one by one.
                follow_s = (1 - (1 - _FOLLOWED) ** n) * late_s
                self._clock_s += float(np.clip(follow_s, -0.9 * period, 0.9 * period))
                return self._zero_s + self._clock_s + period
            self._packet_late_s = 0.0
        return end_s - (n - 1) * period

    def _place(self, stamp_s: float, row: NDArray[np.float64], is_complete: bool) -> None:
        """Assign a row to a tick of the clock."""
        if self._last_s is None:
            self._begin(stamp_s)
        elif stamp_s <= self._last_s:
            if stamp_s == self._last_s:
                self.n_duplicates += 1
                return
            if not self._is_set_back(1):
                return
            self._start_over()
            self._begin(stamp_s)
        self._n_late_in_a_row = 0
        self._last_s = self.newest_s = stamp_s
        if self._held_columns:
            row = row.copy()
            values = row[self._held_columns]
            row[self._held_columns] = np.where(np.isnan(values), self._last_held, values)
            self._last_held = row[self._held_columns]
            is_complete = not np.isnan(row).any()
        since_s = stamp_s - self._zero_s
        periods = (since_s - self._clock_s) / self._period
        if periods < 1.5 and is_complete and self._next == self._tick + 1:  # the usual case
            self._advance(1, since_s)
            self._next += 1
            self._plain.append(row)
            self._plain_s.append(self._clock_s)
            return
        self._end_plain()
        self._add(max(1, round(periods)), stamp_s, row)
        if self._next is not None and (ready := int(self._known.min())) >= self._next:
            self._even.append(self._filled(ready))

    def _end_plain(self) -> None:
        """Move the newest rows to the result, if none of them is missing."""
        if self._plain:
            drifts_s = self._drifts_s(self._plain_s, self._tick - len(self._plain) + 1)
            self._even.append(EvenSamples(None, np.array(self._plain), drifts_s))
            self._held, self._held_s = [self._plain[-1]], [self._clock_s]
            self._known[:] = self._tick
            self._plain, self._plain_s = [], []

    def _drifts_s(self, times_s: list[float], first: int) -> NDArray[np.float64]:
        """Return the drift at the ticks from `first` on, given the clock's times."""
        start_s, tick = self._origin
        since = np.arange(first - tick, first - tick + len(times_s))
        return np.array(times_s) - start_s - since * self._period

    def _is_set_back(self, n: int) -> bool:
        """Count late samples; return whether the clock must have been set back."""
        self.n_late += n
        self._n_late_in_a_row += n
        return self._n_late_in_a_row > self._most_ticks

    def _advance(self, steps: int, since_s: float) -> None:
        self._tick += steps
        predicted = self._clock_s + steps * self._period
        self._clock_s = predicted + _FOLLOWED * (since_s - predicted)

    def _add(self, steps: int, stamp: float, row: NDArray[np.float64]) -> None:
        """Store a row; a piece starts as soon as every channel has had a value."""
        if steps > self._most_ticks:
            self._end_piece()
            self._begin(stamp)
            steps = 1
        self._held += [np.full(self._n_channels, np.nan)] * (steps - 1) + [row]
        self._held_s += [self._clock_s + step * self._period for step in range(1, steps)]
        self._advance(steps, stamp - self._zero_s)
        self._held_s.append(self._clock_s)
        lost = (self._known >= 0) & (self._tick - self._known > self._most_ticks)
        if lost.any():
            self._end_piece()
            self._known[lost] = -1
        self._known[~np.isnan(row)] = self._tick
        if self._next is None:
            del self._held[: -self._most_ticks - 1], self._held_s[: -self._most_ticks - 1]
            if self._known.min() >= 0:
                self._next = self._tick
                self._origin = (self._clock_s, self._tick)

    def _end_piece(self) -> None:
        self.n_gaps += self._next is not None
        self._next = None

    def _filled(self, ready: int) -> EvenSamples:
        """Return the rows up to tick `ready`, the last tick at which every channel is known."""
        assert self._next is not None
        first = self._tick - len(self._held) + 1
        rows = np.array(self._held)
        missing = np.isnan(rows)
        out = slice(self._next - first, ready - first + 1)
        if missing.any():
            ticks = np.arange(len(rows))
            for c in np.flatnonzero(missing.any(axis=0)).tolist():
                there = ~missing[:, c]
                if c in self._held_columns:
                    rows[:, c : c + 1] = fill_forward(rows[:, c : c + 1])
                    continue
                rows[~there, c] = np.interp(ticks[~there], ticks[there], rows[there, c])
            self.n_filled += int(missing[out].any(axis=1).sum())
        start_s = self._zero_s + self._origin[0] if self._next == self._origin[1] else None
        even = EvenSamples(start_s, rows[out], self._drifts_s(self._held_s[out], self._next))
        # Keep the last returned row, which is complete, as the start of the next interpolation.
        self._held = [even.values[-1], *self._held[out.stop :]]
        self._held_s = self._held_s[out.stop - 1 :]
        self._next = ready + 1
        return even


def _joined(samples: list[EvenSamples]) -> list[EvenSamples]:
    """Join consecutive samples of the same piece."""
    pieces: list[list[EvenSamples]] = []
    for part in samples:
        if part.start_s is not None or not pieces:
            pieces.append([])
        pieces[-1].append(part)
    return [
        parts[0]
        if len(parts) == 1
        else EvenSamples(
            parts[0].start_s,
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.drifts_s for part in parts]),
        )
        for parts in pieces
    ]
