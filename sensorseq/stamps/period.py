"""The sample period of timestamps, and timestamps of an even clock."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.blocks import Rows, blocks, evenly_drawn

PLAUSIBLE_HZ = (0.5, 20_000.0)
"""A time unit that implies a sample rate outside this range is doubtful."""
GAP_PERIODS = 10.0
"""By default, a step of more than this many sample periods between two samples is a gap."""
MOST_STEPS = 1 << 22
"""Maximum number of steps between timestamps from which a median is computed."""
KEPT_STEPS = 1 << 20  # more steps than this are not stored, but computed again for each pass
_FEWEST_STEPS = 12  # with fewer steps, a clock cannot be recognized
SAME_PERIOD = 0.03
"""A clock's period and the time per sample count as equal up to this relative difference."""
_OFF_CLOCK = 0.1  # if at least this fraction of steps are not multiples of the median, use the mean
_OFF_STEP = 0.25  # a step is off the clock by more than this many periods
_FEW_GAPS = 0.05  # if a larger fraction of steps is long, long steps are not gaps
# Steps of more than _LONG_PERIODS periods are gaps. Other long steps belong to an uneven clock,
# unless the remaining steps cover less than _MOST_LEFT of the time.
_LONG_PERIODS, _MOST_LEFT = 100.0, 0.9
_FEW_PAUSES = 0.02  # if a smaller fraction of steps is long, the long steps are gaps
# If samples are lost independently, the deviations of n stamps from an even clock behave like a
# Brownian bridge: their mean range is 1.25 * sqrt(n) standard deviations of a step. If stamps are
# rounded or come in bursts, the range is much smaller.
_LOSS_RANGE = 0.5 * 1.25
_ROUNDEST = 0.01  # maximum relative change of a period by rounding
_MOST_DIGITS = 9


def is_plausible(rate_hz: float) -> bool:
    """Return whether a sample rate is usual for the sensors of robots."""
    return PLAUSIBLE_HZ[0] <= rate_hz <= PLAUSIBLE_HZ[1]


def resolution_s(stamps: NDArray[np.float64]) -> float:
    """Return the spacing of floats, in seconds, at the largest magnitude of the timestamps."""
    return float(np.spacing(np.abs(stamps[[0, -1]]).max())) if len(stamps) else 0.0


_Intervals = Callable[[], Iterator[NDArray[np.float64]]]
"""Function that yields the steps between timestamps in blocks; it can be called repeatedly."""


class _Clock(NamedTuple):
    """An even clock fitted to timestamps; `range_s` is the range of deviations from this clock."""

    period_s: float
    range_s: float
    span_s: float
    deviation_s: float  # standard deviation of the steps, per tick
    n_ticks: float
    n_steps: int


def sample_period(stamps: NDArray[np.float64], rows: NDArray[np.int64] | None = None) -> float:
    """Return the sample period in seconds of all timestamps (at least two), or of those at `rows`.

    If the steps are multiples of the usual step, the usual step is the period, and rows may be
    missing. Otherwise, the period is the mean time per sample, not counting gaps. The mean is also
    used if the timestamps stay so close to an even clock that lost rows cannot explain the longer
    steps, for example if timestamps are rounded to milliseconds, or come in pairs or bursts. Within
    the precision of the timestamps, the period with the roundest rate is returned.
    """
    n_steps = (len(stamps) if rows is None else len(rows)) - 1

    def intervals() -> Iterator[NDArray[np.float64]]:
        for at, stop in blocks(n_steps, stamps):
            yield np.diff(stamps[at : stop + 1] if rows is None else stamps[rows[at : stop + 1]])

    passes = list(intervals()).__iter__ if n_steps <= KEPT_STEPS else intervals
    resolution = resolution_s(stamps)
    usual = _median(passes, n_steps)
    if n_steps < _FEWEST_STEPS or usual <= 0:
        return roundest_rate(usual, resolution / usual)[1] if usual > 0 else usual
    clock = _choose_clock(passes, n_steps, usual)
    return roundest_rate(clock.period_s, (resolution + clock.range_s) / clock.span_s)[1]


def _median(intervals: _Intervals, n_steps: int) -> float:
    """Return the median of the steps, or of `MOST_STEPS` evenly drawn steps if there are more."""
    at, some = 0, []
    for steps in intervals():
        if n_steps > MOST_STEPS:
            rows = evenly_drawn(at, at + len(steps), n_steps, MOST_STEPS) - at
            at, steps = at + len(steps), steps[rows]
        some.append(steps)
    return float(np.median(np.concatenate(some)))


def _choose_clock(intervals: _Intervals, n_steps: int, usual: float) -> _Clock:
    """Return the clock with the usual step, or the clock with the mean time per sample."""
    ends = [(float(steps.min()), float(steps.max())) for steps in intervals()]
    shortest_s, longest_s = min(low for low, _ in ends), max(high for _, high in ends)
    gap_s = _longest_step(intervals, n_steps, longest_s)
    n_off = n_long = 0
    long_s = whole_s = 0.0
    # If all steps are about as long, none is off the clock or a gap.
    is_even = shortest_s / usual >= 1 - _OFF_STEP and longest_s / usual <= 1 + _OFF_STEP
    for steps in () if is_even else intervals():
        periods = _up_to(steps, gap_s) / usual
        n_off += int(((np.abs(periods - np.rint(periods)) > _OFF_STEP) | (periods < 0.5)).sum())
        n_long += int((periods > GAP_PERIODS).sum())
        long_s += float(periods[periods > GAP_PERIODS].sum()) * usual
        whole_s += float(periods.sum()) * usual
    comes_in_bursts = n_long > _FEW_PAUSES * n_steps and long_s > whole_s / 2
    if n_off >= _OFF_CLOCK * n_steps or comes_in_bursts:
        return _fit_clock(intervals, gap_s)
    gap_s = min(gap_s, GAP_PERIODS * usual)
    clock = _fit_clock(intervals, gap_s, usual)
    if clock.n_steps * (1 + SAME_PERIOD) * clock.period_s > clock.span_s:
        return clock
    counted = _fit_clock(intervals, gap_s)
    lost_s = _LOSS_RANGE * counted.deviation_s * np.sqrt(counted.n_ticks)
    return clock if counted.range_s > lost_s else counted


def _longest_step(intervals: _Intervals, n_steps: int, longest_s: float) -> float:
    """Return the longest step that is not a gap."""
    gap_s, (span_s, n_left) = np.inf, _sum_steps(intervals, np.inf)
    for periods, most_left in ((_LONG_PERIODS, 1.0), (GAP_PERIODS, _MOST_LEFT)):
        while (next_gap_s := periods * span_s / n_left) < min(gap_s, longest_s):
            left_s, n_next = _sum_steps(intervals, next_gap_s)
            if n_steps - n_next > max(2, _FEW_GAPS * n_steps) or left_s >= most_left * span_s:
                break
            gap_s, span_s, n_left = next_gap_s, left_s, n_next
    return gap_s


def _sum_steps(intervals: _Intervals, gap_s: float) -> tuple[float, int]:
    """Return the sum and the number of the steps up to `gap_s`."""
    span_s, n_steps = 0.0, 0
    for steps in intervals():
        kept = _up_to(steps, gap_s)
        span_s, n_steps = span_s + float(kept.sum()), n_steps + len(kept)
    return span_s, n_steps


def _up_to(steps: NDArray[np.float64], gap_s: float) -> NDArray[np.float64]:
    return steps if steps.max(initial=0.0) <= gap_s else steps[steps <= gap_s]


def _fit_clock(intervals: _Intervals, gap_s: float, unit_s: float = np.inf) -> _Clock:
    """Fit a clock to the steps up to `gap_s`, with one tick for each step or for each `unit_s`."""

    def kept() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for steps in intervals():
            some = _up_to(steps, gap_s)
            are_single = some.max(initial=0.0) < (1 + _OFF_STEP) * unit_s
            ones = np.broadcast_to(1.0, some.shape)
            yield some, ones if are_single else np.maximum(np.rint(some / unit_s), 1.0)

    span_s = n_ticks = 0.0
    n_steps = 0
    for steps, ticks in kept():
        span_s, n_ticks = span_s + float(steps.sum()), n_ticks + float(ticks.sum())
        n_steps += len(steps)
    period_s = span_s / n_ticks
    at = low = high = squares = 0.0
    for steps, ticks in kept():
        off = steps - ticks * period_s
        squares += float((off * off).sum())
        path = at + np.cumsum(off)
        low, high = min(low, float(path.min(initial=low))), max(high, float(path.max(initial=high)))
        at = float(path[-1]) if len(path) else at
    deviation_s = float(np.sqrt(squares / n_ticks))
    return _Clock(period_s, high - low, span_s, deviation_s, n_ticks, n_steps)


def roundest_rate(period_s: float, tolerance: float) -> tuple[float, float]:
    """Return the rate and the period within the tolerance, one of which has the fewest digits."""
    tolerance = min(tolerance + 4 * np.finfo(np.float64).eps, _ROUNDEST)
    for digits in range(1, _MOST_DIGITS + 1):
        rate = float(f"{1 / period_s:.{digits}g}")
        if abs(rate * period_s - 1) <= tolerance:
            return rate, 1 / rate
        period = float(f"{period_s:.{digits}g}")
        if abs(period / period_s - 1) <= tolerance:
            return 1 / period, period
    return 1 / period_s, period_s


def even_stamps(
    start_s: float, sample_rate_hz: float, n_samples: int, folder: Path | None
) -> NDArray[np.float64]:
    """Return the timestamps of evenly spaced samples, on disk if a folder is given."""
    stamps = Rows(folder, np.float64)
    for at, stop in blocks(n_samples):
        stamps.append(start_s + np.arange(at, stop) / sample_rate_hz)
    return stamps.as_array()
