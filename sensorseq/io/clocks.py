"""Read timestamps as a clock: seconds from the first one, and the sample period."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.io import scratch
from sensorseq.io.order_statistics import median

GAP_PERIODS = 10.0
"""Sample periods after which a hole between samples is a gap, if nothing else is said."""

_LARGE_S = 2.0**22  # from here on floats of seconds resolve less than a nanosecond
_FEWEST_STEPS = 12  # with fewer steps, a clock cannot be recognized
SAME_PERIOD = 0.03
"""Fraction by which the periods of a clock and of samples over time may differ, being equal."""
_OFF_CLOCK = 0.1  # without a clock, at least this fraction of steps are not multiples of the median
_FEW_GAPS = 0.05  # of the steps; more of them belong to the clock, as pauses between bursts do
# Steps of more periods are gaps. Others are long steps of an uneven clock, unless they leave so
# little of the time.
_LONG_PERIODS, _MOST_LEFT = 100.0, 0.9
_FEW_PAUSES = 0.02  # of the steps; fewer are gaps of a clock
# Independent losses move n stamps away from their mean clock by 1.25 * sqrt(n) standard deviations
# of a step (the mean range of a Brownian bridge); rounding and bursts by much less.
_OF_LOSSES = 0.5 * 1.25
_MOST_DECIMALS = 5
_DECIMAL = 1e-3  # most by which a multiple of a decimal step is off, as a fraction of the step
_ROUNDEST = 0.01  # most that a period changes by when it is rounded
_MOST_DIGITS = 9

_Intervals = Callable[[], Iterator[NDArray[np.float64]]]
"""Starts a pass over the steps between timestamps, in blocks."""


def resolution_s(stamps: NDArray[np.float64]) -> float:
    """Return the seconds between neighbouring floats at the largest of increasing timestamps."""
    return float(np.spacing(np.abs(stamps[[0, -1]]).max())) if len(stamps) else 0.0


def since_first(stamps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return increasing timestamps counted from the first one.

    Seconds since 1970 resolve a quarter of a microsecond only. If they were whole microseconds, or
    another power of ten, before they became floats, the result is what stamps counted from the
    first one would have been, bit for bit.
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

    if is_large and not scratch.count_where(is_off, len(stamps), stamps)[0]:
        return scratch.map_blocks(lambda t: np.round(t - first, digits), stamps, np.float64)
    return scratch.map_blocks(lambda t: t - first, stamps, np.float64)


def decimal_step_s(stamps: NDArray[np.float64]) -> float:
    """Return the decimal step of timestamps in seconds, such as 0.001, or 0 if it is too fine."""
    for digits in range(_MOST_DECIMALS):
        scale = 10.0**digits

        def is_between(at: int, stop: int, scale: float = scale) -> NDArray[np.bool_]:
            steps = stamps[at:stop] * scale
            return np.abs(steps - np.rint(steps)) > _DECIMAL

        # the first ones usually decide
        few = min(len(stamps), 64)
        if (
            not is_between(0, few).any()
            and not scratch.count_where(is_between, len(stamps), stamps)[0]
        ):
            return 1 / scale
    return 0.0


class _Clock(NamedTuple):
    """An even clock through timestamps; `range_s` is how far they spread around it."""

    period_s: float
    range_s: float
    span_s: float
    deviation_s: float  # standard deviation of a step, for each tick
    n_ticks: float
    n_steps: int


def sample_period(stamps: NDArray[np.float64], rows: NDArray[np.int64] | None = None) -> float:
    """Return the sample period in seconds from two or more timestamps, or from those at `rows`.

    If the steps are multiples of the usual one, it is the period of that clock, some of whose rows
    are missing. That is checked against the time over the number of samples, without gaps, which is
    the period if the timestamps stay closer to it than lost rows would let them: rounded to whole
    milliseconds, in pairs, or in bursts. Within what the timestamps can tell, the period is the one
    with the roundest rate.
    """
    n_steps = (len(stamps) if rows is None else len(rows)) - 1

    def intervals() -> Iterator[NDArray[np.float64]]:
        for at, stop in scratch.blocks(n_steps, stamps):
            yield np.diff(stamps[at : stop + 1] if rows is None else stamps[rows[at : stop + 1]])

    resolution = resolution_s(stamps)
    usual = median(lambda: (steps[:, np.newaxis] for steps in intervals()), n_steps)
    if n_steps < _FEWEST_STEPS or usual <= 0:
        return _roundest(usual, resolution / usual) if usual > 0 else usual
    clock = _choose(intervals, n_steps, usual)
    return _roundest(clock.period_s, (resolution + clock.range_s) / clock.span_s)


def _choose(intervals: _Intervals, n_steps: int, usual: float) -> _Clock:
    """Return the clock of the usual step, or that of the number of samples."""
    gap_s = _longest_step(intervals, n_steps)
    n_off = n_long = 0
    long_s = whole_s = 0.0
    for steps in intervals():
        periods = steps[steps <= gap_s] / usual
        n_off += int(((np.abs(periods - np.rint(periods)) > 0.25) | (periods < 0.5)).sum())
        n_long += int((periods > GAP_PERIODS).sum())
        long_s += float(periods[periods > GAP_PERIODS].sum()) * usual
        whole_s += float(periods.sum()) * usual
    comes_in_bursts = n_long > _FEW_PAUSES * n_steps and long_s > whole_s / 2
    if n_off >= _OFF_CLOCK * n_steps or comes_in_bursts:
        return _fit(intervals, gap_s)
    gap_s = min(gap_s, GAP_PERIODS * usual)
    clock = _fit(intervals, gap_s, usual)
    if clock.n_steps * (1 + SAME_PERIOD) * clock.period_s > clock.span_s:
        return clock
    counted = _fit(intervals, gap_s)
    lost_s = _OF_LOSSES * counted.deviation_s * np.sqrt(counted.n_ticks)
    return clock if counted.range_s > lost_s else counted


def _longest_step(intervals: _Intervals, n_steps: int) -> float:
    """Return the longest step that is no gap."""
    gap_s, (span_s, n_left) = np.inf, _sum(intervals, np.inf)
    for periods, most_left in ((_LONG_PERIODS, 1.0), (GAP_PERIODS, _MOST_LEFT)):
        while (next_gap_s := periods * span_s / n_left) < gap_s:
            left_s, n_next = _sum(intervals, next_gap_s)
            if n_steps - n_next > max(2, _FEW_GAPS * n_steps) or left_s >= most_left * span_s:
                break
            gap_s, span_s, n_left = next_gap_s, left_s, n_next
    return gap_s


def _sum(intervals: _Intervals, gap_s: float) -> tuple[float, int]:
    """Return the time and the number of the steps up to `gap_s`."""
    span_s, n_steps = 0.0, 0
    for steps in intervals():
        kept = steps[steps <= gap_s]
        span_s, n_steps = span_s + float(kept.sum()), n_steps + len(kept)
    return span_s, n_steps


def _fit(intervals: _Intervals, gap_s: float, unit_s: float = np.inf) -> _Clock:
    """Fit a clock to the steps up to `gap_s`: a tick for each step, or for each of its units."""

    def kept() -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        for steps in intervals():
            some = steps[steps <= gap_s]
            yield some, np.maximum(np.rint(some / unit_s), 1.0)

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


def _roundest(period_s: float, tolerance: float) -> float:
    """Return the period with the fewest digits, of its rate or its own, within the tolerance."""
    tolerance = min(tolerance + 4 * np.finfo(np.float64).eps, _ROUNDEST)
    for digits in range(1, _MOST_DIGITS + 1):
        rate = float(f"{1 / period_s:.{digits}g}")
        if abs(rate * period_s - 1) <= tolerance:
            return 1 / rate
        period = float(f"{period_s:.{digits}g}")
        if abs(period / period_s - 1) <= tolerance:
            return period
    return period_s
