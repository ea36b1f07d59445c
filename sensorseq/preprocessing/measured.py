"""Measure the scale of each channel of a recording, and values that may not be measurements."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import UNIT_FACTORS
from sensorseq.io.blocks import release
from sensorseq.preprocessing.odd import UNIT_RATIO, Floats, OddFacts, is_usual_mark
from sensorseq.recording import Recording

# The limits were chosen on borealtc and on simulated recordings, with and without planted faults.
# Of a long recording, this many pieces of `PIECE` rows are read. With many channels, pieces are
# shorter, so that at most `MOST_READ` values are read.
MOST_PIECES, PIECE, MOST_READ = 16, 1 << 14, 1 << 22
N_SEGMENT, MOST_SEGMENTS, N_BANDS = 128, 64, 16
_LEAST_POWER = np.finfo(np.float64).tiny  # whose logarithm exists
FEW_VALUES = 10  # a channel with fewer distinct values is a command or a state
# Minimum distance of a mark for missing values from the nearest other value, as multiples of the
# spread of the other values and of the widest gap between them.
MARK_SPREADS = 0.5
MARK_GAPS = 4.0
LONGEST_MARK, MOSTLY = 3, 0.8  # maximum length of a short run, and minimum fraction of short runs
FAR_SPREADS = 10.0
ANGLES = (360.0, 2 * np.pi)
BITS, UNSIGNED_BITS = (8, 10, 12, 14, 16, 32), (8, 12, 16, 32)
# Minimum fraction of a period that the values must cover, and maximum fraction of a period by which
# the values may exceed the period.
FULL, SLACK = 0.9, 0.001
# Signed numbers that were read as unsigned numbers leave the middle of the period empty.
# `MIDDLE` is half of the width of the empty range.
MIDDLE = 0.125  # in periods
MOST_JUMPS = 1000
STRAY = 0.2  # maximum fraction of jumps whose size differs from the period
# Number of steps on each side of a jump, and maximum ratio of the jump, modulo the period, to the
# largest of these steps.
BESIDE, LONGER = 10, 1.5
# Maximum distance of a quaternion's squared length from 1, and maximum product of q and -q.
UNIT_SLACK, OPPOSITE = 0.05, -0.9
MOST_AT_ENDS = 4.0  # a higher ratio of samples at the ends to samples beside them means clipping
# A change of scale is looked for in at least `FEWEST_SAMPLES`; with fewer than `ENOUGH_SAMPLES`, in
# shorter segments.
FEWEST_SAMPLES, ENOUGH_SAMPLES, SHORT_SEGMENT = 512, 2048, 64
LEAST_SEGMENTS = 3
CUT_SDS = 4.0  # minimum change of scale, in standard deviations of the scale on each side
KNOWN_SDS = 5.0  # minimum distance of a nonzero level from zero, in standard errors
SAME_LEVEL, SAME_UNIT = 0.1, 0.06  # tolerances for the log10 of a ratio
SAME_SHAPE, SAME_SHAPE_ALONE = 0.3, 0.25  # maximum root mean square difference of log10 spectra
LEAST_SHAPE = 0.2  # a flatter spectrum is noise, as from a robot at rest


class Measured(NamedTuple):
    """Figures that are compared between recordings; prepared files store them as JSON."""

    # By channel: the range from the 5th to the 95th percentile, and log10 of the power in each band
    scales: dict[str, list[float]]
    odd_values: OddFacts


class _Piece(NamedTuple):
    """The known values of a channel in consecutive rows."""

    values: Floats
    times: Floats


def measure_values(recording: Recording, slow: Mapping[str, str]) -> Measured:
    """Measure each channel; of a long recording, in evenly spaced pieces, to limit the cost.

    `slow` contains the kinds of slow channels, from `kinds_of_slow`. Channels that are constant or
    have too few values are left out of the scales.
    """
    n, n_channels = recording.n_samples, max(recording.n_channels, 1)
    size = int(np.clip(MOST_READ // (MOST_PIECES * n_channels), N_SEGMENT, PIECE))
    spans = [slice(n)]
    if n > MOST_PIECES * size:
        starts = np.linspace(0, n - size, MOST_PIECES).astype(np.int64).tolist()
        spans = [slice(start, start + size) for start in starts]
    scales: dict[str, list[float]] = {}
    odd_of: dict[str, dict[str, list[list[float]]]] = defaultdict(dict)
    for at, name in enumerate(recording.channel_names):
        pieces = [*_known_pieces(recording, spans, at)]
        if not pieces:
            continue
        if scale := _scale(_segments(pieces, N_SEGMENT)[0]):
            scales[name] = scale
        if slow.get(name) == "codes":
            continue
        x = np.concatenate([piece.values for piece in pieces])
        odd = {
            "marks": _marks(x, pieces),
            **_wraps(x, pieces),
            "rescaled": _rescaled(pieces, float(recording.timestamps_s[0])),
        }
        if odd := {kind: figures for kind, figures in odd.items() if figures}:
            odd_of[name] |= odd
        may_turn = np.abs(pieces[0].values).max() < 1 + UNIT_SLACK  # saves reading four channels
        if may_turn and (n_changes := _sign_changes(recording, at, spans)):
            for of_four in recording.channel_names[at : at + 4]:
                odd_of[of_four]["signs"] = [[1.0, n_changes]]
    release(recording.values, recording.timestamps_s)
    return Measured(scales, dict(odd_of))


def _known_pieces(recording: Recording, spans: Sequence[slice], at: int) -> Iterator[_Piece]:
    """Yield the pieces of a channel that contain more than one known value."""
    for span in spans:
        values = recording.values[span, at].astype(np.float64)
        finite = np.isfinite(values)
        if finite.sum() > 1:
            yield _Piece(values[finite], recording.timestamps_s[span][finite])


def _segments(pieces: Sequence[_Piece], size: int) -> tuple[Floats, Floats]:
    """Return evenly spaced segments (n, size) of the known values, and when they begin."""
    most = max(1, MOST_SEGMENTS // len(pieces))
    segments, began_s = [np.empty((0, size))], [np.empty(0)]
    for values, times in pieces:
        count = min(most, len(values) // size)
        first = np.linspace(0, len(values) - size, count).astype(np.int64)
        segments.append(values[first[:, None] + np.arange(size)])
        began_s.append(times[first])
    return np.concatenate(segments), np.concatenate(began_s)


def _scale(segments: Floats) -> list[float]:
    """Return the range and the band powers of a channel; an empty list if it is constant."""
    if not len(segments):
        return []
    low, high = np.quantile(segments, (0.05, 0.95))
    power = mean_spectrum(segments)[1:-1]
    if not (high > low and power.max() > 0):
        return []
    figures = [high - low, *log_bands(np.maximum(power, _LEAST_POWER))]
    return [float(f"{value:.5g}") for value in figures]


def mean_spectrum(segments: Floats) -> Floats:
    """Center segments (n, t), apply a Hann window, and return their mean power spectrum."""
    window = np.hanning(segments.shape[-1] + 1)[:-1]
    moving = segments - segments.mean(axis=-1, keepdims=True)
    return np.asarray((np.abs(np.fft.rfft(moving * window)) ** 2).mean(axis=-2))


def log_bands(power: Floats) -> Floats:
    """Return the mean of log10 of a power spectrum in each of `N_BANDS` bands."""
    decades = np.log10(np.maximum(power, power.max() * 1e-12))
    return np.array([band.mean() for band in np.array_split(decades, N_BANDS)])


def _marks(x: Floats, pieces: Sequence[_Piece]) -> list[list[float]]:
    """Return (value, n_samples, n_short_runs, fraction of samples) of isolated extreme values.

    The values of a robot at rest, such as a speed of 0, may also be isolated, but have longer runs.
    """
    marks = []
    for value in (float(x.min()), float(x.max())):
        others = x[x != value]
        if not len(others):
            return []
        gap = float(max(others.min() - value, value - others.max()))
        spread = float(np.subtract(*np.quantile(others, (0.95, 0.05))))
        if gap <= MARK_SPREADS * spread:
            continue
        levels = np.unique(others)
        if len(levels) < 2:
            continue
        is_usual = is_usual_mark(value) and gap > FAR_SPREADS * max(spread, np.abs(levels).max())
        is_apart = gap > MARK_GAPS * np.diff(levels).max()
        lengths = np.concatenate([_lengths(piece.values == value) for piece in pieces])
        n_short = int((lengths <= LONGEST_MARK).sum())
        is_brief = len(levels) >= FEW_VALUES and n_short >= MOSTLY * len(lengths)
        if is_usual or (is_apart and is_brief and n_short):
            n = len(x) - len(others)
            marks.append([value, n, n_short, float(f"{n / len(x):.3g}")])
    return marks


def _lengths(is_there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of True, except those at the start and the end."""
    edges = np.flatnonzero(np.diff(is_there, prepend=False, append=False))
    first, stop = edges[::2], edges[1::2]
    return (stop - first)[(first > 0) & (stop < len(is_there))]


def _wraps(x: Floats, pieces: Sequence[_Piece]) -> dict[str, list[list[float]]]:
    """Return the period at which a channel wraps and the number of jumps, by kind of wrapping.

    If a channel wraps, its jumps from one end of the range to the other are, modulo the period, no
    larger than the neighboring steps. In a command channel, or in a sensor with two states, most
    jumps are larger than the neighboring steps, or the values clip at the ends of the range.
    """
    low, high = float(x.min()), float(x.max())
    if high - low < FULL * min(ANGLES):
        return {}
    is_whole = bool((x == np.rint(x)).all())
    for period in (*ANGLES, *(2.0**bits for bits in BITS if is_whole)):
        starts = [end for end in (0.0, -period / 2) if low >= end - SLACK * period]
        if high - low < FULL * period or not any(
            high <= end + (1 + SLACK) * period for end in starts
        ):
            continue
        steps = np.concatenate([np.abs(np.diff(piece.values)) for piece in pieces])
        steps = steps[steps > 0]  # a value may be held over several samples
        around = np.minimum(steps, np.abs(period - steps))
        at = np.flatnonzero((steps > period / 2) & (around > 0))
        if not len(at) or (around > period / 4).sum() > STRAY * len(at):
            continue
        beside = np.where(steps > period / 2, 0.0, around)
        some = at[:MOST_JUMPS]
        near = np.clip(some[:, None] + np.arange(-BESIDE, BESIDE + 1), 0, len(steps) - 1)
        if np.median(around[some] - LONGER * beside[near].max(axis=1)) > 0:
            continue
        is_empty = not (np.abs(x - low - period / 2) < MIDDLE * period).any()
        if period in ANGLES or not is_empty:
            return {"wraps": [[period, len(at)]]}
        if np.log2(period) in UNSIGNED_BITS and low >= 0:
            signed = np.where(x > period / 2, x - period, x)
            at_ends, beside_ends = (np.isin(signed, ends).sum() for ends in ((0, -1), (1, -2)))
            if period >= 2**16 or at_ends <= MOST_AT_ENDS * beside_ends:
                return {"unsigned": [[period, len(at)]]}
    return {}


def _sign_changes(recording: Recording, at: int, spans: Sequence[slice]) -> int:
    """Return how often a quaternion, whose first column is `at`, changes from q to -q."""
    columns, n_changes = recording.values[:, at : at + 4], 0
    first = np.square(columns[0].astype(np.float64)).sum()
    if columns.shape[1] < 4 or abs(first - 1) >= UNIT_SLACK:
        return 0
    for span in spans:
        q = columns[span].astype(np.float64)
        q = q[np.isfinite(q).all(axis=1)]
        is_unit = (np.abs(np.square(q).sum(axis=1) - 1) < UNIT_SLACK).all()
        if not is_unit or len(np.unique(np.abs(q))) < FEW_VALUES:
            return 0
        n_changes += int(((q[1:] * q[:-1]).sum(axis=1) < OPPOSITE).sum())
    return n_changes


def _rescaled(pieces: Sequence[_Piece], start_s: float) -> list[list[float]]:
    """Return the factor of a single change of scale, and the seconds from the start to the change.

    The spread of a channel also changes when the robot stops. A change of unit is assumed only if
    the spectrum stays the same. The level must also change by the same factor as the spread; if the
    level is near zero, this factor must be a ratio of two units.
    """
    n = sum(len(piece.values) for piece in pieces)
    if n < FEWEST_SAMPLES:
        return []
    x, began_s = _segments(pieces, N_SEGMENT if n >= ENOUGH_SAMPLES else SHORT_SEGMENT)
    sd = x.std(axis=1)
    least_ratio = 0.99 * UNIT_RATIO  # the margin is for rounding
    if len(x) < 2 * LEAST_SEGMENTS + 2 or not sd.max() >= least_ratio * sd.min() > 0:
        return []
    level, sizes = x.mean(axis=1), np.log10(sd)
    at = _best_cut(sizes)
    # The segments next to the cut may contain both scales.
    sides = slice(0, at - 1), slice(at + 1, None)
    change = float(sizes[sides[1]].mean() - sizes[sides[0]].mean())
    within = float(np.concatenate([sizes[side] - sizes[side].mean() for side in sides]).std())
    if abs(change) < max(np.log10(UNIT_RATIO), CUT_SDS * within):
        return []
    means = [float(level[side].mean()) for side in sides]
    errors = [float(level[side].std() / np.sqrt(len(level[side]))) for side in sides]
    is_known = [abs(m) > KNOWN_SDS * e for m, e in zip(means, errors, strict=True)]
    shapes = np.array([_shape(x[side]) for side in sides])
    apart = float(np.sqrt(np.mean((shapes[0] - shapes[1]) ** 2)))
    if all(is_known):
        factor = means[1] / means[0]
        same = factor > 0 and abs(np.log10(factor) - change) < SAME_LEVEL and apart < SAME_SHAPE
    else:
        nearest = min(abs(abs(change) - np.log10(factor)) for factor, _, _ in UNIT_FACTORS)
        is_alike = apart < SAME_SHAPE_ALONE and shapes.std(axis=1).min() > LEAST_SHAPE
        same = not any(is_known) and nearest < SAME_UNIT and is_alike
    return [[float(f"{10**change:.3g}"), float(began_s[at] - start_s)]] if same else []


def _best_cut(values: Floats) -> int:
    """Return the index that divides the values into two parts with the least variance."""
    n = len(values)
    ends = np.arange(LEAST_SEGMENTS + 1, n - LEAST_SEGMENTS)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    within = (
        squares[-1] - sums[ends - 1] ** 2 / ends - (sums[-1] - sums[ends - 1]) ** 2 / (n - ends)
    )
    return int(ends[within.argmin()])


def _shape(segments: Floats) -> Floats:
    """Return the log10 spectrum in bands, independent of the signal's magnitude."""
    bands = log_bands(mean_spectrum(segments)[1:-1])
    return np.asarray(bands - bands.mean())
