"""Repair time stamps, and resample uneven signals to an even grid, in pieces between gaps."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from sensorseq._signal import all_finite
from sensorseq.errors import SignalError, check_choice
from sensorseq.preprocessing._checks import check_rate, check_signal
from sensorseq.preprocessing.polyphase import ATTENUATION_DB, SAME_RATIO, change_rate, check_engine

DUPLICATES = ("mean", "first", "last")


@dataclass(frozen=True, eq=False)
class RepairedStamps:
    """Samples (n_kept, n_channels) with strictly increasing stamps, and the number of repairs.

    `n_out_of_order` counts rows whose stamp was below an earlier one, `n_duplicates` rows that were
    merged into another with the same stamp.
    """

    timestamps_s: NDArray[np.float64]
    values: NDArray[np.floating]
    n_out_of_order: int
    n_duplicates: int

    @property
    def counts(self) -> dict[str, int]:
        """The two counts by name."""
        return {"n_out_of_order": self.n_out_of_order, "n_duplicates": self.n_duplicates}


def repair_stamps(
    timestamps_s: ArrayLike, values: ArrayLike, *, duplicates: str = "mean"
) -> RepairedStamps:
    """Sort samples by time and merge those with equal time stamps.

    For logs whose rows arrived out of order or twice. It cannot repair a clock that was reset while
    recording: rows from before and after would be mixed. The counts help to tell the two apart.

    Parameters
    ----------
    timestamps_s : array-like of shape (n_samples,)
        Seconds, finite, in any order.
    values : array-like of shape (n_samples, n_channels), float32 or float64
        NaN marks a missing sample.
    duplicates : {"mean", "first", "last"}, default="mean"
        How to merge rows with equal time stamps: the mean of the valid samples of each channel,
        the first row, or the last row.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.preprocessing.regrid import repair_stamps
    >>> repaired = repair_stamps([0.0, 0.2, 0.1, 0.2], [[1.0], [3.0], [2.0], [5.0]])
    >>> repaired.values[:, 0].tolist(), repaired.counts
    ([1.0, 2.0, 4.0], {'n_out_of_order': 1, 'n_duplicates': 1})
    """
    check_choice("duplicates", duplicates, DUPLICATES)
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    n_out_of_order = int((t[1:] < np.maximum.accumulate(t)[:-1]).sum()) if len(t) else 0
    order = np.argsort(t, kind="stable")
    t, x = t[order], x[order]
    is_first = np.ones(len(t), bool)
    is_first[1:] = t[1:] > t[:-1]
    n_duplicates = len(t) - int(is_first.sum())
    if n_duplicates:
        starts = np.flatnonzero(is_first)
        if duplicates == "mean":
            x = _means(x, starts)
        else:
            ends = np.append(starts[1:], len(t)) - 1
            x = x[starts if duplicates == "first" else ends]
        t = t[starts]
    return RepairedStamps(t, x, n_out_of_order, n_duplicates)


def check_stamps_are_finite(timestamps_s: ArrayLike, n_samples: int) -> NDArray[np.float64]:
    """Return the stamps as float64 if there is a finite one for each of `n_samples`."""
    t = np.asarray(timestamps_s, dtype=np.float64)
    if t.shape != (n_samples,):
        raise SignalError(
            f"timestamps have shape {t.shape} for {n_samples} samples; give one for each sample."
        )
    if not all_finite(t):
        wrong = np.flatnonzero(~np.isfinite(t))
        raise SignalError(
            f"{wrong.size} timestamp(s) are not finite, the first at sample {wrong[0]}"
            f" ({t[wrong[0]]}); fill them in, or remove those samples."
        )
    return t


def _means(x: NDArray[np.floating], starts: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return the mean of the valid samples from each start to the next; NaN if there are none."""
    there = ~np.isnan(x)
    total = np.add.reduceat(np.where(there, x, 0).astype(np.float64), starts, axis=0)
    n = np.add.reduceat(there.astype(np.float64), starts, axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(x.dtype)


GAP_PERIODS = 10.0  # sample periods after which a hole is a gap, by default
FILLED_PERIODS = 1.75  # samples further apart than this have one missing; jitter stays below
HOLE_PERIODS = 3.0  # longer holes are bridged by a line: a cubic would overshoot on noise
EVEN_PERIODS = 0.02  # stamps this close to an even clock are treated as even
DRIFT_PERIODS = 0.01  # how far a simpler ratio of rates may drift over one piece
MERGE_PERIODS = 0.1  # samples closer than this are merged: their noise must not become a slope


@dataclass(frozen=True, eq=False)
class RegriddedPiece:
    """The samples between two gaps, on an even grid from `start_s` on, with facts about the input.

    Holes and their missing samples (by the channel's median period) are counted over all channels;
    `longest_hole_s` is the time between the two samples around a hole. `sample_rate_hz` is the rate
    of the even clock, or one over the median interval of the stamps.
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
        """Everything except the samples and their start, as plain values."""
        return {field.name: getattr(self, field.name) for field in fields(self)[2:]}


def regrid(
    timestamps_s: ArrayLike,
    values: ArrayLike,
    sample_rate_hz: float,
    max_gap_s: float | None = None,
    *,
    attenuation_db: float = ATTENUATION_DB,
    engine: str = "polyphase",
) -> list[tuple[float, NDArray[np.floating]]]:
    """Resample samples with uneven stamps or missing values (NaN) to an even grid, between gaps.

    Stamps within 0.02 periods of an even clock (rows may be missing) are treated as even and
    filtered as in `resample`. Otherwise a cubic spline interpolates the samples at the grid. If the
    rate decreases, it interpolates at a grid at least twice as dense as the samples, and the same
    filter reduces the rate. Holes of more than three periods are bridged by a straight line. With
    stamps up to a tenth of a period off an even clock, the error for a sine of amplitude 1 and
    frequency f up to 0.2 of the samples' rate is at most ``0.03 * (f / (0.2 * rate)) ** 4`` (0.023
    measured).

    Samples of a channel more than `max_gap_s` apart (by default ten of its median periods) are
    separated by a gap, which ends the piece for all channels. Returns ``(start_s, values)`` for
    each interval in which every channel is known; `start_s` is one of `timestamps_s`.
    """
    pieces = regrid_pieces(
        timestamps_s,
        values,
        sample_rate_hz,
        max_gap_s,
        attenuation_db=attenuation_db,
        engine=engine,
    )
    return [(piece.start_s, piece.values) for piece in pieces]


def regrid_pieces(
    timestamps_s: ArrayLike,
    values: ArrayLike,
    sample_rate_hz: float,
    max_gap_s: float | None = None,
    *,
    attenuation_db: float = ATTENUATION_DB,
    engine: str = "polyphase",
) -> list[RegriddedPiece]:
    """Regrid as `regrid` does, and report what was filled in each piece."""
    check_engine(engine, attenuation_db)
    x = check_signal(values)
    t = check_stamps_are_finite(timestamps_s, len(x))
    rate = check_rate("sample_rate_hz", sample_rate_hz)
    if not (t[1:] > t[:-1]).all():
        wrong = np.flatnonzero(np.diff(t) <= 0)
        row = int(wrong[0]) + 1
        raise SignalError(
            f"{wrong.size} timestamp(s) repeat or go back, the first at sample {row}"
            f" ({t[row - 1]:.9g} s, then {t[row]:.9g} s); timestamps must be strictly increasing."
            " Use `repair_stamps` to sort and merge them."
        )
    if not len(x):
        return []
    if all_finite(x):  # every channel has the same runs
        channels = [_ChannelRuns(t, np.arange(len(t)), 0, max_gap_s)] * x.shape[1]
        period = channels[0].period_s
    else:
        if np.isinf(x).any():
            raise SignalError("values contain infinity; mark missing samples as NaN.")
        valid = [np.flatnonzero(~np.isnan(column)) for column in x.T]
        channels = [_ChannelRuns(t, rows, c, max_gap_s) for c, rows in enumerate(valid)]
        period = float(np.median(np.diff(t))) if len(t) > 1 else 0.0
    period = period or 1 / rate  # of a single sample
    filtered = partial(change_rate, attenuation_db=attenuation_db, engine=engine)
    return [
        _regrid_piece(t, x, channels, first, last, rate, period, filtered)
        for first, last in _common_stretches(channels, len(t))
    ]


class _ChannelRuns:
    """Valid samples of one channel, cut into runs at gaps."""

    def __init__(
        self,
        t: NDArray[np.float64],
        valid: NDArray[np.int64],
        column: int,
        max_gap_s: float | None,
    ) -> None:
        self.valid = valid
        if not self.valid.size:
            raise SignalError(f"channel {column} has no valid sample; remove the channel.")
        self.distance = distance = np.diff(t if len(valid) == len(t) else t[valid])
        period = float(np.median(distance)) if distance.size else 0.0
        if max_gap_s is None:
            max_gap_s = GAP_PERIODS * period
        elif not max_gap_s >= period:
            raise SignalError(
                f"max_gap_s={max_gap_s!r} is shorter than the sample period of channel {column},"
                f" {period:.6g} s, so every sample would be a separate piece. The default is ten"
                f" periods, {GAP_PERIODS * period:.6g} s."
            )
        breaks = np.flatnonzero(distance > max_gap_s * (1 + 1e-9))
        self.period_s = period
        self.is_complete = len(valid) == len(t)
        self.edges = np.concatenate([[0], breaks + 1, [len(self.valid)]])
        self.starts = self.valid[self.edges[:-1]]
        self.ends = self.valid[self.edges[1:] - 1]

    def holes(self, first: int, last: int) -> tuple[int, int, float]:
        """Return the holes in samples first..last, the samples they lack, and the longest."""
        begin, end = np.searchsorted(self.valid, [first, last])
        # from the sample before to the one after: this channel may have none at first and last
        begin -= int(self.valid[begin] > first)
        distance = self.distance[begin:end]
        distance = distance[distance > FILLED_PERIODS * self.period_s]
        n_missing = np.rint(distance / self.period_s).astype(np.int64) - 1
        return len(distance), int(n_missing.sum()), float(distance.max(initial=0.0))


def _common_stretches(channels: list[_ChannelRuns], n_samples: int) -> list[tuple[int, int]]:
    """Return (first, last) sample of every stretch in which each channel has a run."""
    if len(set(channels)) == 1:
        edges = zip(channels[0].starts.tolist(), channels[0].ends.tolist(), strict=True)
        return list(edges)
    at_sample = np.zeros(n_samples + 1, np.int64)  # runs that begin here, less runs that ended
    after_sample = np.zeros(n_samples + 1, np.int64)  # the same for the time up to the next sample
    for channel in channels:
        at_sample[channel.starts] += 1
        at_sample[channel.ends + 1] -= 1
        after_sample[channel.starts] += 1
        after_sample[channel.ends] -= 1
    covered = np.flatnonzero(np.cumsum(at_sample[:-1]) == len(channels))
    if not covered.size:
        return []
    goes_on = np.cumsum(after_sample[:-1]) == len(channels)
    cuts = np.flatnonzero((np.diff(covered) > 1) | ~goes_on[covered[:-1]])
    firsts = covered[np.concatenate([[0], cuts + 1])]
    lasts = covered[np.concatenate([cuts, [len(covered) - 1]])]
    return [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]


def _regrid_piece(
    t: NDArray[np.float64],
    x: NDArray[np.floating],
    channels: list[_ChannelRuns],
    first: int,
    last: int,
    rate: float,
    period: float,
    filtered: Callable[..., NDArray[np.floating]],
) -> RegriddedPiece:
    """Regrid the samples first..last, which every channel covers."""
    stamps = t[first : last + 1]
    ticks: NDArray[np.int64] | None = None
    if first == last:
        times, ratio, ticks = stamps, Fraction(1), np.zeros(1, np.int64)
    elif (clock := _even_clock(stamps, period, is_whole=len(stamps) == len(t))) is not None:
        ticks, period = clock
        times = stamps[0] + np.arange(ticks[-1] + 1) * period
        ratio = Fraction(rate) * Fraction(period)
    else:
        duration = float(stamps[-1] - stamps[0])
        ends = [np.searchsorted(channel.valid, [first, last + 1]) for channel in channels]
        input_rate = (max(int(stop - start) for start, stop in ends) - 1) / duration
        goes_down = rate < (1 - EVEN_PERIODS) * input_rate
        factor = int(np.ceil(2 * input_rate / rate)) if goes_down else 1
        times = stamps[0] + np.arange(int(duration * factor * rate + 1e-9) + 1) / (factor * rate)
        ratio = Fraction(1, factor)
    is_complete = all(channel.is_complete for channel in channels)
    if is_complete and ticks is not None and len(times) == len(stamps):
        even = x[first : last + 1].astype(np.float64, copy=False)
    else:
        even = _fill(t, x, channels, first, last, times, ticks)
    holes_of = {channel: channel.holes(first, last) for channel in set(channels)}
    n_holes, n_missing, longest = zip(*(holes_of[channel] for channel in channels), strict=True)
    return RegriddedPiece(
        start_s=float(stamps[0]),
        values=filtered(even, ratio, tolerance=max(SAME_RATIO, DRIFT_PERIODS / len(even))).astype(
            x.dtype, copy=False
        ),
        n_holes_filled=sum(n_holes),
        n_samples_filled=sum(n_missing),
        longest_hole_s=max(longest),
        is_even_clock=ticks is not None,
        sample_rate_hz=1 / (period if ticks is not None else float(np.median(np.diff(stamps)))),
    )


def _fill(
    t: NDArray[np.float64],
    x: NDArray[np.floating],
    channels: list[_ChannelRuns],
    first: int,
    last: int,
    times: NDArray[np.float64],
    ticks: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Return the channels at `times`, interpolated except for the samples at `ticks` of a clock."""
    even = np.empty((len(times), x.shape[1]))
    for c, channel in enumerate(channels):
        run = int(np.searchsorted(channel.starts, first, side="right")) - 1
        rows = channel.valid[channel.edges[run] : channel.edges[run + 1]]
        here = rows[(rows >= first) & (rows <= last)]
        if ticks is None or len(here) < len(times):
            even[:, c] = _interpolate(t[rows], x[rows, c], times)
        if ticks is not None:  # on an even clock, present samples stay unchanged
            even[ticks[here - first], c] = x[here, c]
    return even


def _even_clock(
    t: NDArray[np.float64], usual_period: float, *, is_whole: bool
) -> tuple[NDArray[np.int64], float] | None:
    """Return each stamp's tick and the period when all lie on one even clock, else None.

    `usual_period` is the median period of the recording, of which `t` may be the whole.
    """
    distance = np.diff(t)
    # The usual period, so that two stamps around a missing row are not mistaken for a slower clock.
    period = usual_period if is_whole else min(usual_period, float(np.median(distance)))
    steps = np.rint(distance / period)
    if steps.min() < 1:
        return None
    ticks = np.concatenate([[0.0], np.cumsum(steps)])
    # A median of rounded stamps is itself rounded (33 ms at 30 Hz): fit the period instead.
    offset, since = ticks - ticks.mean(), t - t[0]
    period = float(offset @ since / (offset @ offset))
    since -= since.mean()
    offset *= period
    offset -= since
    if np.ptp(offset) > 2 * EVEN_PERIODS * period:
        return None
    return ticks.astype(np.int64), period


def _interpolate(
    t: NDArray[np.float64], x: NDArray[np.floating], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cubic spline through (t, x) at `times`; straight across holes, flat beyond the ends."""
    knots, heights = t, x.astype(np.float64)
    period = float(np.median(np.diff(knots))) if len(knots) > 1 else 0.0
    near = np.diff(knots) < MERGE_PERIODS * period
    if near.any():
        cluster = np.concatenate([[0], np.cumsum(~near)])
        size = np.bincount(cluster)
        knots = np.bincount(cluster, knots) / size
        heights = np.bincount(cluster, heights) / size
    if len(knots) == 1:
        return np.full(len(times), heights[0])
    at = np.clip(times, knots[0], knots[-1])
    y: NDArray[np.float64] = CubicSpline(knots, heights)(at)
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    hole = np.diff(knots)[left] > HOLE_PERIODS * period
    if hole.any():
        y[hole] = np.interp(at[hole], knots, heights)
    return y
