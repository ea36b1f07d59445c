"""Compact facts about recordings and their channels, measured one recording at a time."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.inspection.copies import stretch_hashes
from sensorseq.inspection.motion import measure_motion
from sensorseq.prediction.outside import Floats, Ints
from sensorseq.preprocessing.held import HELD, kinds_of_slow
from sensorseq.preprocessing.measured import Measured, mean_spectrum, measure_values
from sensorseq.recording import Channel, Recording
from sensorseq.stamps.period import GAP_PERIODS, sample_period

QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
N_BINS = 80  # number of time bins in a plot
# Number of samples per segment of a spectrum, and maximum number of segments.
N_SEGMENT, MOST_SEGMENTS = 128, 200
LEAST_SEGMENT = 16
N_BANDS = N_SEGMENT // 2 + 1
MOST_GAPS, MOST_FAR = 200, 20
LEAST_STILL_SAMPLES = 20  # shorter constant segments are not compared with other channels
# width of the band at an extreme in which values are counted, as a fraction of the range
EDGE_BAND = 0.02

_NONE = np.full(len(QUANTILES), np.nan)


@dataclass(frozen=True, eq=False)
class Edge:
    """How often a channel has exactly its lowest or highest value."""

    value: float
    n_samples: int
    n_runs: int  # number of segments at `value`
    n_next: int  # number of samples near `value`, but not at `value`


@dataclass(frozen=True, eq=False)
class ChannelFacts:
    """Facts about one channel of a recording; a fact is NaN if the channel has too few values."""

    name: str
    unit: str
    n_known: int  # number of finite values
    n_lost: int  # number of samples missing outside gaps, judged by the channel's period
    rate_hz: float
    quantiles: Floats  # quantiles at the levels in `QUANTILES`
    mean: float
    low: Edge
    high: Edge
    gaps_s: Floats  # (k, 2): start and end of the longest gaps, on the recording's clock
    gap_share: float  # fraction of the recording's duration that is in gaps
    n_stretches: int  # number of segments of equal values
    still_s: float  # duration of the longest segment of equal values
    still_value: float
    others_move: bool  # whether other channels vary during this segment, or there are none
    far: Floats  # largest deviations from the median, descending
    spectrum: Floats  # log10 of the power density, evenly spaced from 0 to half the rate
    envelope: NDArray[np.float32]  # (2, N_BINS): minimum and maximum over time
    is_held: bool  # whether a value is held until the next one, so that its rate means nothing
    first: float  # mean of the first values
    last: float  # mean of the last values
    late: float  # seconds from the start of the recording to the first value
    early: float  # seconds from the last value to the end of the recording
    size: float  # standard deviation
    speed: float  # largest mean speed over a second, in standard deviations per second
    jerk: float  # mean change of the speed, relative to the mean speed

    @property
    def spread(self) -> float:
        """Distance between the 5th and the 95th percentile."""
        return float(self.quantiles[3] - self.quantiles[1])

    @property
    def lost_share(self) -> float:
        """The fraction of samples that are missing outside gaps."""
        return self.n_lost / max(self.n_known + self.n_lost, 1)

    @property
    def still_samples(self) -> float:
        """Length in samples of the longest constant segment."""
        return self.still_s * self.rate_hz if self.n_known > 1 else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether all values are equal."""
        return self.low.value == self.high.value


@dataclass(frozen=True, eq=False)
class RecordingFacts:
    """Facts about one recording, or about one of its label spans."""

    recording_id: str
    label: str | None
    group: str
    start_s: float
    duration_s: float
    rate_hz: float
    channels: dict[str, ChannelFacts]
    measured: Measured  # as `prepare` measures it
    idle_s: float  # longest time in which no channel moves
    held_s: float  # longest time in which no value changes
    # (c, c) for the first channels: correlation of their changes at the best delay, and this delay
    # of the second channel in seconds
    agreement: NDArray[np.float32]
    delay_s: NDArray[np.float32]
    # Lowest hashes of the recording's segments; see `stretch_hashes`.
    hashes: NDArray[np.uint64] = field(repr=False)


def measure(recording: Recording) -> RecordingFacts:
    """Measure the facts about a recording."""
    columns = _columns(recording)
    slow = kinds_of_slow(recording)
    rows = [(column.clock.rows, column.values) for column in columns]
    moves, figures = measure_motion(recording.timestamps_s, rows)
    facts = {
        channel.name: _measure_channel(
            channel, column, columns, slow.get(channel.name) in HELD, of_channel
        )
        for channel, column, of_channel in zip(
            recording.channels, columns, figures.T.tolist(), strict=True
        )
    }
    rates = [channel.rate_hz for channel in facts.values() if np.isfinite(channel.rate_hz)]
    return RecordingFacts(
        recording.recording_id,
        recording.label,
        recording.group,
        float(recording.timestamps_s[0]) if recording.n_samples else np.nan,
        recording.duration_s,
        max(rates, default=np.nan),
        facts,
        measure_values(recording, slow),
        *moves,
        stretch_hashes(recording.values),
    )


class _Clock(NamedTuple):
    """The times of a channel's values; channels without missing values share a clock."""

    rows: Ints
    times: Floats
    period: float
    n_lost: int
    gaps: Floats  # (k, 2): start and end of gaps, longest first
    gap_share: float
    breaks: Ints  # number of steps before each value that are too long for a spectrum
    bins: Ints  # time bins of a plot that contain values
    firsts: Ints  # first value in each of these bins

    @classmethod
    def of(cls, recording: Recording, rows: Ints) -> "_Clock":
        t = recording.timestamps_s
        times = t[rows] if len(rows) < len(t) else t
        steps = np.diff(times)
        period = sample_period(times) if len(steps) else np.nan
        # without a regular clock, lost samples cannot be counted
        is_even = len(steps) and abs(period / float(np.median(steps)) - 1) < 0.25
        short = steps[steps <= GAP_PERIODS * period] if is_even else steps[:0]
        n_lost = int(np.maximum(np.rint(short / period) - 1, 0).sum())
        # A late start or an early end is also a gap, but not of joined sensors.
        is_joined = "sensor_rates_hz" in recording.attributes
        around = times if is_joined else np.concatenate([t[:1], times, t[-1:]])
        at = np.flatnonzero(np.diff(around) > GAP_PERIODS * period)
        gaps = np.stack([around[at], around[at + 1]], axis=1)
        gaps = gaps[np.argsort(gaps[:, 0] - gaps[:, 1], kind="stable")]
        gap_s = float(np.diff(gaps).sum() - period * len(gaps)) if len(gaps) else 0.0
        place = (times - t[:1]) / (recording.duration_s or 1.0) * N_BINS
        bins = np.minimum(place.astype(np.int64), N_BINS - 1)
        firsts = np.flatnonzero(np.diff(bins, prepend=-1))
        return cls(
            rows,
            times,
            period,
            n_lost,
            gaps,
            gap_s / (recording.duration_s or 1.0),
            np.concatenate([[0], np.cumsum(steps > 1.5 * period)]),
            bins[firsts],
            firsts,
        )


@dataclass(frozen=True, eq=False)
class _Column:
    """The finite values of a channel."""

    clock: _Clock
    values: Floats

    @cached_property
    def spread(self) -> float:
        """Distance between the 5th and the 95th percentile."""
        return float(np.subtract(*np.quantile(self.values, (0.95, 0.05))))

    def moves_within(self, start_s: float, end_s: float) -> bool:
        """Whether the channel varies by a large fraction of its spread between two times."""
        first, last = np.searchsorted(self.clock.times, (start_s, end_s))
        return bool(last - first > 2 and np.ptp(self.values[first:last]) > 0.3 * self.spread > 0)


def _columns(recording: Recording) -> list[_Column]:
    complete = _Clock.of(recording, np.arange(recording.n_samples))
    columns = []
    for values in recording.values.T:
        rows, clock = np.flatnonzero(np.isfinite(values)), complete
        if len(rows) < len(values):
            clock, values = _Clock.of(recording, rows), values[rows]
        columns.append(_Column(clock, values.astype(np.float64, copy=False)))
    return columns


def _measure_channel(
    channel: Channel,
    column: _Column,
    columns: list[_Column],
    is_held: bool,
    moves: list[float],
) -> ChannelFacts:
    values, clock = column.values, column.clock
    n, times, period = len(values), clock.times, clock.period
    ordered = np.sort(values)
    quantiles = ordered[np.rint(np.array(QUANTILES) * (n - 1)).astype(np.int64)] if n else _NONE
    ends = np.abs(np.concatenate([ordered[:MOST_FAR], ordered[-MOST_FAR:]]) - quantiles[2])
    # start of each segment of equal values
    first = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    length = np.diff(first, append=n)
    still, value, others_move = 0.0, np.nan, False
    if n:
        of_stretch = times[first + length - 1] - times[first]
        longest = int(of_stretch.argmax())
        start, still = float(times[first[longest]]), float(of_stretch[longest])
        value = float(values[first[longest]])
        if still >= LEAST_STILL_SAMPLES * period:
            others = [other for other in columns if other is not column]
            others_move = not others or any(
                other.moves_within(start, start + still) for other in others
            )
    stretches = values[first]
    return ChannelFacts(
        channel.name,
        channel.unit,
        n,
        clock.n_lost,
        1 / period,
        quantiles,
        float(values.mean()) if n else np.nan,
        _edge(stretches, length, ordered, quantiles, -1),
        _edge(stretches, length, ordered, quantiles, 1),
        clock.gaps[: 0 if is_held else MOST_GAPS],
        0.0 if is_held else clock.gap_share,
        len(first),
        still,
        value,
        others_move,
        np.sort(ends)[::-1][: min(n, MOST_FAR)],
        _spectrum(column),
        _envelope(column),
        is_held,
        *moves,
    )


def _edge(
    stretches: Floats,
    length: NDArray[np.int64],
    ordered: Floats,
    quantiles: Floats,
    sign: int,
) -> Edge:
    """Return the `Edge` of a channel's minimum or maximum, given its segments of equal values."""
    if not len(ordered):
        return Edge(np.nan, 0, 0, 0)
    value = ordered[0 if sign < 0 else -1]
    is_there = stretches == value
    band = EDGE_BAND * (quantiles[-1] - quantiles[0])
    n_samples = int(length[is_there].sum())
    n_near = int((np.abs(ordered - value) <= band).sum())
    return Edge(float(value), n_samples, int(is_there.sum()), n_near - n_samples)


def _spectrum(column: _Column) -> Floats:
    """Return the log of the mean spectrum of segments without lost samples.

    If samples are lost so often that no long segment is complete, shorter segments are used, and
    the spectrum is coarser.
    """
    values, breaks = column.values, column.clock.breaks
    size = min(N_SEGMENT, 1 << max(len(values).bit_length() - 1, 0))
    starts, step = np.empty(0, np.int64), size // 2
    while size >= LEAST_SEGMENT:
        starts = np.arange(0, len(values) - size + 1, step)
        starts = starts[breaks[starts + size - 1] == breaks[starts]]
        if len(starts):
            break
        size, step = size // 2, 1  # from now on, segments may start at any sample
    if not len(starts):
        return np.full(N_BANDS, np.nan)
    starts = starts[np.linspace(0, len(starts) - 1, min(len(starts), MOST_SEGMENTS)).astype(int)]
    segments = values[starts[:, None] + np.arange(size)]
    density = (
        mean_spectrum(segments) * 2 * column.clock.period / (np.hanning(size + 1)[:-1] ** 2).sum()
    )
    if not density.max() > 0:
        return np.full(N_BANDS, np.nan)
    logs = np.log10(np.maximum(density, density.max() * 1e-12))
    grid = np.linspace(0, 1, N_BANDS)
    return np.asarray(np.interp(grid, np.linspace(0, 1, len(logs)), logs))


def _envelope(column: _Column) -> NDArray[np.float32]:
    """Return the minimum and maximum in each time bin; NaN in bins without a sample."""
    envelope = np.full((2, N_BINS), np.nan, np.float32)
    if len(column.values):
        clock = column.clock
        envelope[0, clock.bins] = np.minimum.reduceat(column.values, clock.firsts)
        envelope[1, clock.bins] = np.maximum.reduceat(column.values, clock.firsts)
    return envelope
