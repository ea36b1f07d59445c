"""Resample uneven signals to an even grid, in pieces between gaps."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import as_float, check_rate, check_signal
from sensorseq.base.numeric import interpolate_cubic
from sensorseq.errors import SignalError
from sensorseq.io.blocks import Rows, blocks, count_where, is_finite, map_blocks, rows_where
from sensorseq.preprocessing.polyphase import (
    ATTENUATION_DB,
    change_rate_in_blocks,
    check_attenuation,
)
from sensorseq.stamps.packets import decimal_step_s
from sensorseq.stamps.period import (
    GAP_PERIODS,
    KEPT_STEPS,
    SAME_PERIOD,
    resolution_s,
    roundest_rate,
    sample_period,
)
from sensorseq.stamps.repair import BY_HAND, check_stamps_are_finite, plan_repair

FILLED_PERIODS = 1.75  # a longer step between timestamps means missing samples, not jitter
HOLE_PERIODS = 3.0  # longer holes are bridged linearly, because a cubic would overshoot on noise
EVEN_PERIODS = 0.02  # timestamps this close to an even clock count as even
DRIFT_PERIODS = 0.01  # maximum drift over one piece due to a rounded rate
_FEWEST_ROUNDED = 100  # in shorter pieces, the rate is not rounded more
_FEW_DIGITS = 5  # of a rate that a user would give
_ROUNDED_STEPS = 1.05  # maximum range of the deviations of rounded timestamps, in rounding steps
_REACH = 256  # distance in knots beyond which a spline no longer depends on a sample
LATE = 1e-6  # periods by which a sample may be later than the time from which it is held
_SUMMED = 1 << 16  # number of timestamps per partial sum when the period of a clock is fitted
# Samples closer than this are merged, so that their noise does not become a steep slope.
MERGE_PERIODS = 0.1
_LARGE_S = 2.0**22  # from this time on, floats in seconds do not resolve nanoseconds


@dataclass(frozen=True, eq=False)
class RegriddedPiece:
    """The samples between two gaps, on an even grid from `start_s`, with facts about the input.

    `n_holes_filled` and `n_samples_filled` are sums over all channels. A channel's own period
    determines how many of its samples are missing in a hole. `longest_hole_s` is the time between
    the samples around the longest hole. `sample_rate_hz` is the rate of the even clock or, without
    such a clock, the inverse of the timestamps' sample period.
    """

    start_s: float
    values: NDArray[np.floating]
    n_holes_filled: int
    n_samples_filled: int
    longest_hole_s: float
    is_even_clock: bool
    sample_rate_hz: float

    @property
    def facts(self) -> dict[str, object]:
        """All fields except the samples and their start, as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)[2:]}


def regrid(
    timestamps_s: ArrayLike,
    values: ArrayLike,
    sample_rate_hz: float,
    max_gap_s: float | None = None,
    *,
    attenuation_db: float = ATTENUATION_DB,
) -> list[tuple[float, NDArray[np.floating]]]:
    """Resample uneven samples, or samples with NaN, to an even grid between gaps.

    If all timestamps are within 0.02 periods of an even clock, the samples are treated as evenly
    sampled and filtered as in `resample`, even if rows are missing. Otherwise, a cubic spline
    interpolates the samples at the grid times. If the rate decreases, the spline interpolates to a
    grid at least twice as dense as the samples, and the same filter as in `resample` reduces the
    rate. Holes of more than three periods are bridged by a straight line. If timestamps are up to a
    tenth of a period off an even clock, and f is at most 0.2 times the rate of the samples, the
    error for a sine of amplitude 1 and frequency f is at most ``0.03 * (f / (0.2 * rate)) ** 4``.

    If two successive samples of a channel are more than `max_gap_s` apart, the piece ends for all
    channels. By default, `max_gap_s` is ten of the channel's own periods. The result has
    ``(start_s, values)`` for each interval in which every channel is known; `start_s` is one of
    `timestamps_s`.
    """
    pieces = regrid_pieces(
        timestamps_s,
        values,
        sample_rate_hz,
        max_gap_s,
        attenuation_db=attenuation_db,
    )
    return [(piece.start_s, piece.values) for piece in pieces]


def regrid_pieces(
    timestamps_s: ArrayLike,
    values: ArrayLike,
    sample_rate_hz: float,
    max_gap_s: float | None = None,
    *,
    attenuation_db: float = ATTENUATION_DB,
    held: Sequence[int] = (),
    sample_period_s: float | None = None,
) -> list[RegriddedPiece]:
    """Regrid like `regrid`, and report the filled holes of each piece.

    The channels `held`, without missing values, keep the value of the previous sample.
    `sample_period_s` is the period of all timestamps, if it is known.
    """
    check_attenuation(attenuation_db)
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    n_wrong, row = count_where(lambda at, stop: t[at + 1 : stop + 1] <= t[at:stop], len(t) - 1, t)
    if (plan := plan_repair(t, lambda: x) if n_wrong else None) is not None:
        advice = plan.advice("sample", 0, repair=BY_HAND)
        raise SignalError(
            f"{n_wrong} timestamp(s) repeat or go back, the first at sample {row + 1}"
            f" ({t[row] - t[0]:.6g} s from the start); timestamps must be strictly increasing."
            f" {advice}"
        )
    is_complete = is_finite(x)
    if not is_complete and count_where(lambda at, stop: np.isinf(x[at:stop]), len(x), x)[0]:
        raise SignalError("values contain infinity; mark missing samples as NaN.")
    if not len(x):
        return []
    period = 1 / rate
    if len(t) > 1:
        period = sample_period(t) if sample_period_s is None else sample_period_s
    starts_s, t = t, since_first(t)
    if is_complete:  # all channels have the same runs
        channels = [_ChannelRuns(t, None, 0, max_gap_s, period)] * x.shape[1]
    else:
        channels = [
            _ChannelRuns(t, valid_rows(x, c), c, max_gap_s, period) for c in range(x.shape[1])
        ]
    filtered = partial(change_rate_in_blocks, attenuation_db=attenuation_db)
    return [
        replace(
            _regrid_piece(t, x, channels, first, last, rate, period, filtered, held),
            start_s=float(starts_s[first]),
        )
        for first, last in _common_stretches(channels)
    ]


def since_first(stamps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return increasing timestamps relative to the first one.

    Floats resolve seconds since 1970 only to a quarter of a microsecond. If the original timestamps
    were whole microseconds or milliseconds, the result is bit-identical to timestamps that were
    stored relative to the first one.
    """
    if not len(stamps) or not stamps[0]:
        return stamps
    first, resolution = stamps[0], resolution_s(stamps)
    digits = int(np.floor(-np.log10(2 * resolution)))
    is_large = max(abs(first), abs(stamps[-1])) >= _LARGE_S

    def is_off(at: int, stop: int) -> NDArray[np.bool_]:
        since = stamps[at:stop] - first
        off: NDArray[np.bool_] = np.abs(since - np.round(since, digits)) > resolution
        return off

    if is_large and not count_where(is_off, len(stamps), stamps)[0]:
        return map_blocks(lambda t: np.round(t - first, digits), stamps, np.float64)
    return map_blocks(lambda t: t - first, stamps, np.float64)


def bridging_gap_s(
    timestamps_s: NDArray[np.float64], values: NDArray[np.floating], least_s: float
) -> float:
    """Return the smallest `max_gap_s` for which long pieces cover half of each channel.

    A piece is long if it lasts `least_s` or more. The result is rounded up to two significant
    digits.
    """
    longest = 0.0
    for column in range(values.shape[1]):
        rows = valid_rows(values, column)
        stamps = timestamps_s if rows is None else timestamps_s[rows]
        steps = np.diff(stamps)
        tried = np.unique(steps)
        low, high = 0, len(tried) - 1
        while low < high:
            middle = (low + high) // 2
            ends = np.flatnonzero(np.append(steps > tried[middle], True))
            lasts = stamps[ends] - stamps[np.append(0, ends[:-1] + 1)]
            if lasts[lasts >= least_s].sum() >= 0.5 * (stamps[-1] - stamps[0]):
                high = middle
            else:
                low = middle + 1
        longest = max(longest, float(tried[high]) if len(tried) else 0.0)
    digits = 10.0 ** (np.floor(np.log10(longest)) - 1) if longest else 1.0
    return float(f"{np.ceil(longest / digits) * digits:.2g}")


def valid_rows(x: NDArray[np.floating], column: int) -> NDArray[np.int64] | None:
    """Return the rows of the valid samples of a channel; None if all samples are valid."""
    rows = Rows.like(x, np.int64)
    for at, stop in blocks(len(x), x):
        rows.append(np.flatnonzero(~np.isnan(x[at:stop, column])) + at)
    return None if len(rows) == len(x) else rows.as_array()


class _ChannelRuns:
    """Valid samples of one channel, cut into runs at gaps."""

    def __init__(
        self,
        t: NDArray[np.float64],
        valid: NDArray[np.int64] | None,  # row numbers, or None for all rows
        column: int,
        max_gap_s: float | None,
        usual_period: float,
    ) -> None:
        self.t, self.valid = t, valid
        n = len(t) if valid is None else len(valid)
        if not n:
            raise SignalError(f"channel {column} has no valid sample; remove the channel.")
        if n == 1:
            period = 0.0
        else:
            period = usual_period if self.valid is None else sample_period(t, self.valid)
        if max_gap_s is None:
            max_gap_s = GAP_PERIODS * period
        elif not as_float(max_gap_s) >= period:
            raise SignalError(
                f"max_gap_s={max_gap_s!r} is shorter than the sample period of channel {column},"
                f" {period:.6g} s, so every sample would be a separate piece. The default is ten"
                f" periods, {GAP_PERIODS * period:.6g} s."
            )
        longest = max_gap_s * (1 + 1e-9)
        breaks = rows_where(lambda at, stop: np.diff(self.stamps(at, stop + 1)) > longest, n - 1, t)
        self.period_s = period
        self.edges = np.concatenate([[0], breaks + 1, [n]])
        self.starts, self.ends = self._rows_at(self.edges[:-1]), self._rows_at(self.edges[1:] - 1)

    def _rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return positions if self.valid is None else self.valid[positions]

    def rows(self, begin: int, end: int) -> Any:
        """Return the rows of valid samples `begin` to `end - 1`, as a slice or an array."""
        return slice(begin, end) if self.valid is None else self.valid[begin:end]

    def stamps(self, begin: int, end: int) -> NDArray[np.float64]:
        """Return the timestamps of valid samples `begin` to `end - 1`."""
        stamps: NDArray[np.float64] = self.t[self.rows(begin, end)]
        return stamps

    def n_before(self, row: int) -> int:
        """Return the number of valid samples before a row."""
        return row if self.valid is None else int(np.searchsorted(self.valid, row))

    def holes(self, first: int, last: int) -> tuple[int, int, float]:
        """Return the numbers of holes and missing samples, and the longest hole in seconds.

        Only samples first..last are counted.
        """
        begin, end = self.n_before(first), self.n_before(last)
        # Include one sample on each side, because this channel may lack samples `first` and `last`.
        begin -= int(self._rows_at(np.array([begin]))[0] > first)
        n_holes, n_missing, longest = 0, 0, 0.0
        for at, stop in blocks(end - begin, self.t):
            distance = np.diff(self.stamps(begin + at, begin + stop + 1))
            distance = distance[distance > FILLED_PERIODS * self.period_s]
            n_holes += len(distance)
            n_missing += int((np.rint(distance / self.period_s).astype(np.int64) - 1).sum())
            longest = max(longest, float(distance.max(initial=0.0)))
        return n_holes, n_missing, longest

    def n_until(self, time_s: float) -> int:
        """Return the number of valid samples before a time."""
        return self.n_before(int(np.searchsorted(self.t, time_s)))


class _Run:
    """A run of valid samples of a channel, interpolated by a cubic spline.

    The influence of a sample on the spline falls by more than half with each knot. The result from
    the knots within a distance of `_REACH` is therefore bit-identical to the result from all knots.
    """

    def __init__(self, channel: _ChannelRuns, x: NDArray[np.floating], row: int) -> None:
        """Set up the run that contains or surrounds a row; `x` contains the channel's values."""
        run = int(np.searchsorted(channel.starts, row, side="right")) - 1
        self._channel, self._x = channel, x
        self._begin, self._end = int(channel.edges[run]), int(channel.edges[run + 1])

    @cached_property
    def _period_s(self) -> float:
        channel, begin, end = self._channel, self._begin, self._end
        if end - begin < 2:
            return 0.0
        if channel.valid is None:
            return sample_period(channel.t[begin:end])
        return sample_period(channel.t, channel.valid[begin:end])

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at increasing times."""
        channel, margin = self._channel, _REACH
        while True:
            begin = max(self._begin, channel.n_until(times[0]) - margin)
            end = min(self._end, channel.n_until(times[-1]) + margin)
            rows = channel.rows(begin, end)
            heights = self._x[rows].astype(np.float64)
            knots, heights = _merge_near(channel.t[rows], heights, self._period_s)
            left, right = np.searchsorted(knots, times[[0, -1]])
            is_left = begin == self._begin or left >= _REACH // 2
            if is_left and (end == self._end or len(knots) - right >= _REACH // 2):
                return _interpolate(knots, heights, times, self._period_s)
            margin *= 4


def _common_stretches(channels: list[_ChannelRuns]) -> list[tuple[int, int]]:
    """Return the (first, last) sample of every interval in which each channel has a run."""
    common = list(zip(channels[0].starts.tolist(), channels[0].ends.tolist()))
    for channel in set(channels[1:]) - {channels[0]}:
        starts, ends = channel.starts.tolist(), channel.ends.tolist()
        met = []
        for first, last in common:
            for run in range(bisect_left(ends, first), bisect_right(starts, last)):
                met.append((max(first, starts[run]), min(last, ends[run])))
        common = met
    return common


def _regrid_piece(
    t: NDArray[np.float64],
    x: NDArray[np.floating],
    channels: list[_ChannelRuns],
    first: int,
    last: int,
    rate: float,
    period: float,
    filtered: Callable[..., Iterator[NDArray[np.floating]]],
    held: Sequence[int],
) -> RegriddedPiece:
    """Regrid the samples first..last, an interval that every channel covers."""
    stamps = t[first : last + 1]
    start_s, duration = float(stamps[0]), float(stamps[-1] - stamps[0])
    clock = _even_clock(stamps, period, is_whole=len(stamps) == len(t))
    if clock is not None:
        usual_period = period
        ticks, period = clock
        n_times = int(ticks[-1]) + 1
        drift = DRIFT_PERIODS / max(n_times, _FEWEST_ROUNDED)
        ratio = Fraction(1)
        if n_times > 1 and abs(rate * period - 1) > drift:
            ratio = Fraction(rate) / Fraction(_rounded_rate(usual_period, period, drift))
        even = partial(_even_block, x, channels, first, ticks, period, start_s)
    else:
        ends = [(channel.n_before(first), channel.n_before(last + 1)) for channel in channels]
        input_rate = (max(stop - start for start, stop in ends) - 1) / duration
        goes_down = rate < (1 - EVEN_PERIODS) * input_rate
        factor = int(np.ceil(2 * input_rate / rate)) if goes_down else 1
        n_times, ratio = int(duration * factor * rate + 1e-9) + 1, Fraction(1, factor)
        runs = [_Run(channel, x[:, c], first) for c, channel in enumerate(channels)]
        even = partial(_uneven_block, runs, start_s, factor * rate)
    values = Rows.like(x, x.dtype, x.shape[1])
    read = [t, x, *(channel.valid for channel in channels if channel.valid is not None)]
    grid = blocks(n_times, *read, *(() if clock is None else clock[:1]), n_columns=x.shape[1])
    for block in filtered((even(*ends) for ends in grid), ratio, x.shape[1]):
        if held:
            block, steps = np.array(block), np.arange(len(values), len(values) + len(block))
            if clock is None:
                row = np.searchsorted(stamps, start_s + steps / rate + LATE * period, "right")
            else:
                row = np.searchsorted(ticks, steps / float(ratio) + LATE, "right")
            block[:, held] = x[first + row - 1][:, held]
        values.append(block)
    holes_of = {channel: channel.holes(first, last) for channel in set(channels)}
    holes = [holes_of[channel] for channel in channels]
    return RegriddedPiece(
        start_s=start_s,
        values=values.as_array(),
        n_holes_filled=sum(n for n, _, _ in holes),
        n_samples_filled=sum(n for _, n, _ in holes),
        longest_hole_s=max(longest for _, _, longest in holes),
        is_even_clock=clock is not None,
        sample_rate_hz=1 / (period if clock is not None else sample_period(stamps)),
    )


def _rounded_rate(usual_period: float, period: float, drift: float) -> float:
    """Return the rate of an even clock, as a user would give it to a stream.

    If the rate of the whole recording has few digits, it is returned, otherwise the roundest rate.
    Both differ from the rate of the clock by at most `drift`, relative to the rate.
    """
    rate, _ = roundest_rate(usual_period, 0.0)
    if float(f"{rate:.{_FEW_DIGITS}g}") == rate and abs(rate * period - 1) <= drift:
        return rate
    return roundest_rate(period, drift)[0]


def _even_block(
    x: NDArray[np.floating],
    channels: list[_ChannelRuns],
    first: int,
    ticks: NDArray[np.int64],
    period: float,
    start_s: float,
    begin: int,
    end: int,
) -> NDArray[np.float64]:
    """Return the values at ticks `begin` to `end - 1`, with missing samples filled in."""
    place, stop = np.searchsorted(ticks, [begin, end])
    if stop - place == end - begin and all(channel.valid is None for channel in channels):
        return x[first + place : first + stop].astype(np.float64, copy=False)
    even = np.empty((end - begin, x.shape[1]))
    for c, channel in enumerate(channels):
        here = channel.rows(channel.n_before(first + place), channel.n_before(first + stop))
        ticks_here = ticks[place:stop] if channel.valid is None else ticks[here - first]
        if len(ticks_here) < end - begin:
            times: Any = start_s + np.arange(begin, end) * period
            even[:, c] = _Run(channel, x[:, c], first).at(times)
        even[ticks_here - begin, c] = x[here, c]
    return even


def _uneven_block(
    runs: list[_Run], start_s: float, rate: float, begin: int, end: int
) -> NDArray[np.float64]:
    """Return the values at grid times `begin` to `end - 1`."""
    times: Any = start_s + np.arange(begin, end) / rate
    return np.stack([run.at(times) for run in runs], axis=1)


def _even_clock(
    t: NDArray[np.float64], usual_period: float, *, is_whole: bool
) -> tuple[NDArray[np.int64], float] | None:
    """Return the ticks and the period if an even clock fits all timestamps, otherwise None.

    `usual_period` is the period of the whole recording. Timestamps with few digits, such as whole
    milliseconds, may be off by one unit in the last digit; in this case, no rows may be missing.
    """
    rows = Rows.like(t, np.int64)
    rows.append(np.zeros(1, np.int64))
    if len(t) == 1:
        return rows.as_array(), usual_period
    # Start from the usual period, so that two timestamps around a missing row do not suggest a
    # slower clock.
    period = usual_period if is_whole else min(usual_period, sample_period(t))
    last = np.int64(0)
    for at, stop in blocks(len(t) - 1, t):
        steps = np.rint(np.diff(t[at : stop + 1]) / period)
        if steps.min() < 1:
            break
        rows.append(last + np.cumsum(steps).astype(np.int64))
        last += np.int64(steps.sum())
    else:
        clock = _fit_clock(t, rows.as_array())
        if clock is not None and abs(clock[1] / period - 1) < SAME_PERIOD:
            return clock
    step_s = decimal_step_s(t)
    if step_s < 2 * EVEN_PERIODS * period:
        return None
    rows = Rows.like(t, np.int64)
    for at, stop in blocks(len(t), t):
        rows.append(np.arange(at, stop))
    return _fit_clock(t, rows.as_array(), _ROUNDED_STEPS * step_s)


def _fit_clock(
    t: NDArray[np.float64], ticks: NDArray[np.int64], most_off_s: float | None = None
) -> tuple[NDArray[np.int64], float] | None:
    """Return ticks and period of timestamps; None if a timestamp is too far off an even clock.

    `most_off_s` is the largest allowed range of the deviations from an even clock, by default twice
    `EVEN_PERIODS` periods.
    """
    # With blocks of fixed length, sums have the same terms for arrays in memory and on disk.
    n = len(t)

    def parts() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for at, stop in blocks(n, t, ticks, step=_SUMMED):
            yield ticks[at:stop].astype(np.float64), t[at:stop] - t[0]

    passes = list(parts()).__iter__ if n <= KEPT_STEPS else parts
    mean_tick = sum(float(tick.sum()) for tick, _ in passes()) / n
    mean = sum(float(since.sum()) for _, since in passes()) / n
    products = [  # without BLAS, whose order of summation depends on the machine
        (float((offset * since).sum()), float((offset * offset).sum()))
        for offset, since in ((tick - mean_tick, since) for tick, since in passes())
    ]
    period = sum(with_time for with_time, _ in products) / sum(square for _, square in products)
    low, high = np.inf, -np.inf
    for tick, since in passes():
        residual = (tick - mean_tick) * period - (since - mean)
        low, high = min(low, float(residual.min())), max(high, float(residual.max()))
    most_s = 2 * EVEN_PERIODS * period if most_off_s is None else most_off_s
    return None if high - low > most_s else (ticks, period)


def _merge_near(
    knots: NDArray[np.float64], heights: NDArray[np.float64], period: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Replace knots that are much less than a period apart with their mean."""
    near = np.diff(knots) < MERGE_PERIODS * period
    if not near.any():
        return knots, heights
    cluster = np.concatenate([[0], np.cumsum(~near)])
    size = np.bincount(cluster)
    return np.bincount(cluster, knots) / size, np.bincount(cluster, heights) / size


def _interpolate(
    knots: NDArray[np.float64],
    heights: NDArray[np.float64],
    times: NDArray[np.float64],
    period: float,
) -> NDArray[np.float64]:
    """Interpolate knots at `times` by a cubic spline.

    The interpolation is linear across holes, and constant beyond the ends.
    """
    if len(knots) == 1:
        return np.full(len(times), heights[0])
    at = np.clip(times, knots[0], knots[-1])
    y = interpolate_cubic(knots, heights, at)
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    hole = np.diff(knots)[left] > HOLE_PERIODS * period
    if hole.any():
        y[hole] = np.interp(at[hole], knots, heights)
    return y
