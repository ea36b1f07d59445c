"""Place arriving samples on the even grid of their sensor's clock."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import as_float, check_positive, check_rate, check_signal
from sensorseq.errors import ArgumentError, SignalError
from sensorseq.recording import GAP_PERIODS, sample_period
from sensorseq.stamp_repair import check_stamps_are_finite

_FOLLOWED = 0.02  # fraction of a timestamp's deviation by which the clock is corrected
# Number of timestamps after which their rate is checked, and the largest allowed ratio of their
# rate to the given rate. Lost samples can explain a lower rate, but never a higher rate.
_JUDGED = ((50, 1.25), (250, 1.05))
_MOST_LOST = 1.5
_FEWEST_PACKETS = 5  # with fewer packets, the rate is too uncertain to check

_Row = tuple[float, NDArray[np.float64]]
"""A timestamp and the values of all channels."""


class EvenSamples(NamedTuple):
    """Samples (n, n_channels) on an even grid; `start_s` is set if a new piece starts.

    `drift_s` is the clock's time since the start of the piece, minus the number of ticks times the
    nominal period.
    """

    start_s: float | None
    values: NDArray[np.float64]
    drift_s: float


class LiveClock:
    """Sort live samples, fill in missing samples, and cut the result into evenly sampled pieces.

    The sensor must sample evenly at `sample_rate_hz`, apart from a slow drift of its clock. The
    first 250 timestamps are checked against this rate. Timestamps may jitter by less than half a
    period. A sample is assigned to the nearest tick of a clock that follows the timestamps. Missing
    samples and NaN are interpolated linearly; if a channel is missing for more than `max_gap_s`
    (default: ten periods), a new piece starts. Samples that are up to `max_delay_s` late are sorted
    into place; samples with a longer delay or a repeated timestamp are ignored. If only late
    samples arrive for `max_gap_s`, the clock is assumed to have been set back, and a new piece
    starts.

    With `in_packets`, samples less than half a period apart form a packet, which is complete when
    the next packet begins. The samples of a packet are assumed to be evenly spaced and to follow
    the previous packet directly. If two packets in a row are late by more than half a packet, or
    one packet is late by more than `max_gap_s`, the last sample of the packet is assumed to have
    the packet's timestamp instead.

    `n_late`, `n_duplicates`, `n_filled` (ticks with a missing value) and `n_gaps` are counters.
    """

    def __init__(
        self,
        sample_rate_hz: float,
        n_channels: int,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        *,
        in_packets: bool = False,
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
        self._max_delay_s, self._in_packets = float(max_delay_s), in_packets
        self.n_late = self.n_duplicates = self.n_filled = self.n_gaps = 0
        self.newest_s: float | None = None
        self._first_stamps = np.empty(0)
        self._restart()

    def _restart(self) -> None:
        self._n_received = self._n_late_in_a_row = 0
        self._waiting: list[_Row] = []  # sorted by timestamp
        self._last_s: float | None = None  # newest accepted timestamp
        self._packet_late_s, self._packet_s = 0.0, -np.inf  # delay and time of the previous packet
        self._begin(0.0)

    def _begin(self, stamp_s: float) -> None:
        """Reset the clock: the next row is tick 0, and no channel has a known value yet."""
        self._tick, self._clock_s = -1, stamp_s - self._period
        self._held: list[NDArray[np.float64]] = []  # the newest rows, with NaN for missing values
        self._known = np.full(self._n_channels, -1)  # newest tick with a known value, by channel
        self._next: int | None = None  # next tick to return; None until all channels are known
        self._origin = (stamp_s, 0)  # time and tick at the start of the piece

    def push(self, samples: ArrayLike, timestamps_s: ArrayLike | None = None) -> list[EvenSamples]:
        """Process the next samples (n, n_channels) and, if given, their timestamps."""
        x = check_signal(samples).astype(np.float64, copy=False)
        if x.shape[1] != self._n_channels:
            raise SignalError(
                f"the samples have {x.shape[1]} channel(s), but the stream takes"
                f" {self._n_channels}."
            )
        if np.isinf(x).any():
            raise SignalError("the samples contain infinity; mark missing samples as NaN.")
        if timestamps_s is None:
            stamps = (self._n_received + np.arange(len(x))) * self._period
        else:
            stamps = check_stamps_are_finite(timestamps_s, len(x))
            self._check_rate(stamps)
        if not len(x):
            return []
        self._n_received += len(x)
        self._waiting += zip(stamps.tolist(), x)
        n_due = len(self._waiting)
        if self._max_delay_s:
            # The sort is stable, so the first of several rows with equal timestamps stays first.
            self._waiting.sort(key=lambda pair: pair[0])
            due_s = self._waiting[-1][0] - self._max_delay_s
            n_due = sum(stamp <= due_s for stamp, _ in self._waiting)
        if self._in_packets and n_due:
            n_due = self._packets([stamp for stamp, _ in self._waiting[:n_due]])[-1]
        due, self._waiting = self._waiting[:n_due], self._waiting[n_due:]
        return self._take(due)

    def _check_rate(self, stamps: NDArray[np.float64]) -> None:
        """Raise an error if the rate of the first timestamps differs from the given rate."""
        n_before = len(self._first_stamps)
        if n_before >= _JUDGED[-1][0]:
            return
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
        remaining = self._take(self._waiting)
        self._restart()
        return remaining

    def _packets(self, stamps: ArrayLike) -> list[int]:
        """Return the index of the first row of each packet."""
        return [0, *(np.flatnonzero(np.abs(np.diff(stamps)) > self._period / 2) + 1).tolist()]

    def _take(self, rows: list[_Row]) -> list[EvenSamples]:
        if not rows or not self._in_packets:
            return self._place(rows)
        samples: list[EvenSamples] = []
        starts = self._packets([stamp for stamp, _ in rows])
        for first, last in zip(starts, [*starts[1:], len(rows)]):
            samples += self._place(self._spread(rows[first:last]))
            self.newest_s = self._packet_s  # the timestamp that the sensor sent
        return _joined(samples)

    def _spread(self, packet: list[_Row]) -> list[_Row]:
        """Assign a timestamp to each row of a packet, and return the rows."""
        n, period, end_s = len(packet), self._period, packet[-1][0]
        if self._last_s is not None and end_s <= self._packet_s:
            # The packet is late or was sent twice. Lower a timestamp that is ahead of the newest
            # assigned timestamp, so that the rows of the packet count as late.
            ahead_s = min(0.0, np.nextafter(self._last_s, -np.inf) - end_s)
            stamp_s = self._last_s if end_s == self._packet_s else end_s + ahead_s
            if self._n_late_in_a_row + n > self._most_ticks:
                self._packet_s = end_s  # the clock was set back
            return [(stamp_s, row) for _, row in packet]
        self._packet_s = end_s
        first_s = end_s - (n - 1) * period
        if self._last_s is not None:
            late_s = end_s - self._clock_s - n * period
            both_s, self._packet_late_s = min(late_s, self._packet_late_s), late_s
            if both_s <= n * period / 2 and late_s <= self._most_ticks * period:
                # Correct the clock as much as if the samples of the packet had arrived one by one.
                follow_s = (1 - (1 - _FOLLOWED) ** n) * late_s
                self._clock_s += float(np.clip(follow_s, -0.9 * period, 0.9 * period))
                first_s = self._clock_s + period
            else:
                self._packet_late_s = 0.0
        return [(first_s + j * period, row) for j, (_, row) in enumerate(packet)]

    def _place(self, rows: list[_Row]) -> list[EvenSamples]:
        samples: list[EvenSamples] = []
        if not rows:
            return samples
        plain: list[
            NDArray[np.float64]
        ] = []  # fast path for the usual case: complete rows without gaps

        def end_plain() -> None:
            if plain:
                samples.append(EvenSamples(None, np.array(plain), self._drift_s()))
                self._held = [plain[-1]]
                self._known[:] = self._tick
                plain.clear()

        complete = ~np.isnan(np.array([row for _, row in rows])).any(axis=1)
        for (stamp, row), is_complete in zip(rows, complete.tolist()):
            if self._last_s is not None and stamp <= self._last_s:
                if not self._is_set_back(stamp):
                    continue
                end_plain()
                self._end_piece()
                self._begin(stamp)
            self._n_late_in_a_row = 0
            self._last_s = self.newest_s = stamp
            steps = max(1, round((stamp - self._clock_s) / self._period))
            if steps == 1 and is_complete and self._next == self._tick + 1:
                self._advance(1, stamp)
                self._next += 1
                plain.append(row)
                continue
            end_plain()
            self._add(steps, stamp, row)
            if self._next is not None and (ready := int(self._known.min())) >= self._next:
                start_s = self._origin[0] if self._next == self._origin[1] else None
                samples.append(EvenSamples(start_s, self._release(ready), self._drift_s()))
        end_plain()
        return _joined(samples)

    def _is_set_back(self, stamp: float) -> bool:
        """Count a late or repeated sample; return whether the clock must have been set back."""
        if stamp == self._last_s:
            self.n_duplicates += 1
            return False
        self.n_late += 1
        self._n_late_in_a_row += 1
        return self._n_late_in_a_row > self._most_ticks

    def _advance(self, steps: int, stamp: float) -> None:
        self._tick += steps
        predicted = self._clock_s + steps * self._period
        self._clock_s = predicted + _FOLLOWED * (stamp - predicted)

    def _add(self, steps: int, stamp: float, row: NDArray[np.float64]) -> None:
        """Store a row; a piece starts as soon as every channel has had a value."""
        if steps > self._most_ticks:
            self._end_piece()
            self._begin(stamp)
            steps = 1
        self._advance(steps, stamp)
        self._held += [np.full(self._n_channels, np.nan)] * (steps - 1) + [row]
        lost = (self._known >= 0) & (self._tick - self._known > self._most_ticks)
        if lost.any():
            self._end_piece()
            self._known[lost] = -1
        self._known[~np.isnan(row)] = self._tick
        if self._next is None:
            del self._held[: -self._most_ticks - 1]
            if self._known.min() >= 0:
                self._next = self._tick
                self._origin = (self._clock_s, self._tick)

    def _drift_s(self) -> float:
        start_s, tick = self._origin
        return self._clock_s - start_s - (self._tick - tick) * self._period

    def _end_piece(self) -> None:
        self.n_gaps += self._next is not None
        self._next = None

    def _release(self, ready: int) -> NDArray[np.float64]:
        """Return the rows up to tick `ready`, the last tick at which every channel is known."""
        assert self._next is not None
        first = self._tick - len(self._held) + 1
        rows = np.array(self._held)
        missing = np.isnan(rows)
        n_out = ready - self._next + 1
        if missing.any():
            ticks = np.arange(len(rows))
            for c in np.flatnonzero(missing.any(axis=0)).tolist():
                there = ~missing[:, c]
                rows[~there, c] = np.interp(ticks[~there], ticks[there], rows[there, c])
            out = slice(self._next - first, ready - first + 1)
            self.n_filled += int(missing[out].any(axis=1).sum())
        released: NDArray[np.float64] = rows[self._next - first : self._next - first + n_out]
        # Keep the last returned row, which is complete, as the start of the next interpolation.
        self._held = [released[-1], *self._held[ready - first + 1 :]]
        self._next = ready + 1
        return released


def _joined(samples: list[EvenSamples]) -> list[EvenSamples]:
    """Join consecutive samples of the same piece."""
    pieces: list[list[EvenSamples]] = []
    for part in samples:
        if part.start_s is not None or not pieces:
            pieces.append([])
        pieces[-1].append(part)
    return [
        EvenSamples(
            parts[0].start_s,
            np.concatenate([part.values for part in parts]),
            parts[-1].drift_s,
        )
        for parts in pieces
    ]
