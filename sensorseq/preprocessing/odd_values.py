"""Find channels whose values are not all measurements on one scale."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq._signal import may_have_ends_apart
from sensorseq.base.text import listed, plural, times
from sensorseq.io.blocks import release
from sensorseq.messages import ODD_VALUES
from sensorseq.preprocessing.odd_scales import (
    MOST_PIECES,
    PIECE,
    UNIT_RATIO,
    Floats,
    likely_unit,
    log_bands,
    mean_spectrum,
)
from sensorseq.recording import Recording

# The limits were chosen on borealtc and on simulated recordings, with and without planted faults.
MOST_READ = 1 << 22  # largest number of values read over all channels
FEW_VALUES = 10  # a channel with fewer distinct values is a command or a state
# Minimum distance of a mark for missing values from the nearest other value, as multiples of the
# spread of the other values and of the widest gap between them.
MARK_SPREADS = 0.5
MARK_GAPS = 4.0
_DRAWN, _FEW_OTHERS = 1 << 14, 1000  # with few values, sorting takes little time
LONGEST_MARK, MOSTLY = 3, 0.8  # maximum length of a short run, and minimum fraction of short runs
FAR_SPREADS = 10.0
LEAST_MARKS, LEAST_USUAL_MARKS = 5, 2
ANGLES = (360.0, 2 * np.pi)
BITS, UNSIGNED_BITS = (8, 10, 12, 14, 16, 32), (8, 12, 16, 32)
# Minimum fraction of a period that the values must cover, and maximum fraction of a period by which
# the values may exceed the period.
FULL, SLACK = 0.9, 0.001
# Signed numbers that were read as unsigned numbers leave the middle of the period empty.
# `MIDDLE` is half of the width of the empty range.
MIDDLE = 0.125  # in periods
LEAST_WRAPS, MOST_JUMPS = 3, 1000
STRAY = 0.2  # maximum fraction of jumps whose size differs from the period
# Number of steps on each side of a jump, and maximum ratio of the jump, modulo the period, to the
# largest of these steps.
BESIDE, LONGER = 10, 1.5
# Maximum distance of a quaternion's squared length from 1, and maximum product of q and -q.
UNIT_SLACK, OPPOSITE = 0.05, -0.9
MOST_AT_ENDS = 4.0  # a higher ratio of samples at the ends to samples beside them means clipping
SEGMENTS = ((128, 16), (64, 8))  # samples per segment, and minimum number of segments
MOST_SEGMENTS, LEAST_SEGMENTS = 64, 3
CUT_SDS = 4.0  # minimum change of scale, in standard deviations of the scale on each side
KNOWN_SDS = 5.0  # minimum distance of a nonzero level from zero, in standard errors
SAME_LEVEL, SAME_UNIT = 0.1, 0.06  # tolerances for the log10 of a ratio
SAME_SHAPE, SAME_SHAPE_ALONE = 0.3, 0.25  # maximum root mean square difference of log10 spectra
LEAST_SHAPE = 0.2  # a flatter spectrum is noise, as from a robot at rest
FACTORS = (180 / np.pi, 1e3, 1e6)  # degrees per radian; mA per A; uA per A

OddFacts = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
"""Rows of numbers by channel and kind, from `measure_odd_values`; can be stored as JSON."""


class OddValues(NamedTuple):
    """An irregularity of one channel, described for each recording, the worst recording first."""

    kind: str  # one of `ODD_VALUES`
    channel: str
    figures: dict[int, str]  # descriptions by index of the recording

    def example(self, names: Sequence[str]) -> str:
        """Return the description of the irregularity in the worst recording."""
        at, figures = next(iter(self.figures.items()))
        return f"{self.channel} of {names[at]}: {figures}"


def measure_odd_values(recording: Recording, slow: Mapping[str, str]) -> OddFacts:
    """Measure possible irregularities of each channel, which `find_odd_values` then judges.

    `slow` contains the kinds of slow channels, from `kinds_of_slow`. To limit the cost, at most
    `MOST_PIECES` pieces are read, or fewer if there are many channels.
    """
    n, odd_of, of_four = recording.n_samples, {}, dict[str, int]()
    most = int(np.clip(MOST_READ // (PIECE * max(recording.n_channels, 1)), 1, MOST_PIECES))
    starts = np.arange(0, n, PIECE)
    if len(starts) > most:
        starts = np.linspace(0, n - PIECE, most).astype(np.int64)
    is_complete = recording.is_complete
    stamps = [recording.timestamps_s[start : start + PIECE] for start in starts.tolist()]
    for at, name in enumerate(recording.channel_names):
        if slow.get(name) == "codes":
            continue
        pieces, times = [], []
        for start, t in zip(starts.tolist(), stamps, strict=True):
            values = recording.values[start : start + PIECE, at].astype(np.float64)
            if not is_complete:
                finite = np.isfinite(values)
                values, t = values[finite], t[finite]
            if len(values) > 1:
                pieces.append(values)
                times.append(t)
        if not pieces:
            continue
        x = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        low, high = float(x.min()), float(x.max())
        odd = {
            "marks": _marks(x, low, high, pieces),
            **_wraps(x, low, high, pieces),
            "rescaled": _rescaled(pieces, times, float(recording.timestamps_s[0])),
        }
        if odd := {kind: figures for kind, figures in odd.items() if figures}:
            odd_of[name] = odd
        may_turn = np.abs(pieces[0]).max() < 1 + UNIT_SLACK  # saves reading four channels
        if may_turn and (n_changes := _sign_changes(recording, at, starts)):
            of_four |= dict.fromkeys(recording.channel_names[at : at + 4], n_changes)
    for name, n_changes in of_four.items():
        odd_of.setdefault(name, {})["signs"] = [[1.0, n_changes]]
    release(recording.values, recording.timestamps_s)
    return odd_of


def find_odd_values(measured: Sequence[OddFacts]) -> list[OddValues]:
    """Return the irregularities found in all measurements combined, the most important first."""
    rows_of: dict[tuple[str, str], list[tuple[int, Sequence[float]]]] = defaultdict(list)
    for at, channels in enumerate(measured):
        for name, kinds in channels.items():
            for kind, rows in kinds.items():
                rows_of[kind, name] += [(at, row) for row in rows]
    odd_values = []
    for (kind, name), measured_rows in rows_of.items():
        texts: dict[int, list[str]] = defaultdict(list)
        frequent = _frequent_figures(kind, measured_rows)
        for at, row in sorted(frequent, key=lambda entry: -_size(kind, entry[1])):
            texts[at].append(_format_figures(kind, row))
        if texts:
            figures = {at: " and ".join(of_one) for at, of_one in texts.items()}
            odd_values.append(OddValues(kind, name, figures))
    return sorted(odd_values, key=lambda odd: list(ODD_VALUES).index(odd.kind))


def _frequent_figures(
    kind: str, rows: list[tuple[int, Sequence[float]]]
) -> list[tuple[int, Sequence[float]]]:
    """Return the rows of irregularities that occur often enough over all recordings."""
    if kind == "rescaled":
        return rows
    if kind != "marks":
        return rows if sum(row[1] for _, row in rows) >= LEAST_WRAPS else []
    n_of, n_short_of = Counter[float](), Counter[float]()
    for _, (value, n, n_short, _) in rows:
        n_of[value] += int(n)
        # If a recording was scaled by its largest value, that value occurs once and is not a mark.
        n_short_of[value] += int(n_short) if n_short > 1 else 0
    often = {value for value, n_short in n_short_of.items() if n_short >= LEAST_MARKS}
    often |= {v for v, n in n_of.items() if n >= LEAST_USUAL_MARKS and _is_usual_mark(v)}
    return [(at, row) for at, row in rows if row[0] in often]


def describe_odd_values(names: Sequence[str], measured: Sequence[OddFacts]) -> list[str]:
    """Return a description of each kind of irregularity, with the channels and an example."""
    of_kind: dict[str, list[OddValues]] = defaultdict(list)
    for odd in find_odd_values(measured):
        of_kind[odd.kind].append(odd)
    texts = []
    for kind, odd_channels in of_kind.items():
        seen, advice = ODD_VALUES[kind]
        n = len({i for odd in odd_channels for i in odd.figures})
        channels = listed([odd.channel for odd in odd_channels], 5)
        example = odd_channels[0].example(names)
        texts.append(f"{channels}: {seen}, in {plural(n, 'recording')} ({example}). {advice}")
    return texts


def _size(kind: str, row: Sequence[float]) -> float:
    """Return the extent of an irregularity in one channel of a recording."""
    if kind == "rescaled":
        return max(row[0], 1 / row[0])
    return row[-1]


def _format_figures(kind: str, row: Sequence[float]) -> str:
    """Describe an irregularity in one channel of a recording."""
    if kind == "marks":
        value, n, _, _ = row
        return f"{value:.6g} in {plural(int(n), 'sample')}"
    if kind == "rescaled":
        ratio, after_s = row
        unit = likely_unit(ratio, "it was")
        return f"{times(ratio, 'as large', 'smaller')} after about {after_s:.3g} s{unit}"
    period, n = row
    jumps = plural(int(n), "jump")
    if kind == "unsigned":
        return f"{jumps} between 0 and {period - 1:.10g}"
    if kind == "signs":
        return plural(int(n), "change")
    return f"{jumps} of nearly {period:.6g}"


def _marks(x: Floats, low: float, high: float, pieces: Sequence[Floats]) -> list[list[float]]:
    """Return (value, n_samples, n_short_runs, fraction of samples) of isolated extreme values.

    The values of a robot at rest, such as a speed of 0, may also be isolated, but have longer runs.
    """
    if len(x) >= _FEW_OTHERS and not may_have_ends_apart(x, low, high, MARK_SPREADS, _DRAWN):
        return []  # without sorting all values
    values, counts = np.unique(x, return_counts=True)
    if len(values) < 3:
        return []
    gaps, marks = np.diff(values), []
    for side, inner in ((0, slice(1, None)), (-1, slice(None, -1))):
        value, gap, other_values = float(values[side]), float(gaps[side]), values[inner]
        other_samples = np.repeat(other_values, counts[inner])
        spread = float(np.subtract(*np.quantile(other_samples, (0.95, 0.05))))
        widest = float(gaps[inner].max())
        far = max(FAR_SPREADS * spread, FAR_SPREADS * float(np.abs(other_values).max()))
        is_usual = _is_usual_mark(value) and gap > far
        is_apart = gap > max(MARK_SPREADS * spread, MARK_GAPS * widest)
        lengths = np.concatenate([_lengths(piece == value) for piece in pieces])
        n_short = int((lengths <= LONGEST_MARK).sum())
        is_brief = len(other_values) >= FEW_VALUES and n_short >= MOSTLY * len(lengths)
        if is_usual or (is_apart and is_brief and n_short):
            n = int(counts[side])
            marks.append([value, n, n_short, float(f"{n / len(x):.3g}")])
    return marks


def _lengths(is_there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of True, except those at the start and the end."""
    edges = np.flatnonzero(np.diff(is_there, prepend=False, append=False))
    first, stop = edges[::2], edges[1::2]
    return (stop - first)[(first > 0) & (stop < len(is_there))]


def _is_usual_mark(value: float) -> bool:
    """Return whether drivers often use this value, such as -999 or 65535, for missing values."""
    size = abs(value)
    return size == round(size) and (
        (size >= 999 and set(f"{size:.0f}") == {"9"})
        or any(size in (2.0**bits, 2.0**bits - 1) for bits in (15, 16, 31, 32))
    )


def _wraps(
    x: Floats, low: float, high: float, pieces: Sequence[Floats]
) -> dict[str, list[list[float]]]:
    """Return the period at which a channel wraps and the number of jumps, by kind of wrapping.

    If a channel wraps, its jumps from one end of the range to the other are, modulo the period, no
    larger than the neighboring steps. In a command channel, or in a sensor with two states, most
    jumps are larger than the neighboring steps, or the values clip at the ends of the range.
    """
    if high - low < FULL * min(ANGLES):
        return {}
    is_whole = bool((x == np.rint(x)).all())
    for period in (*ANGLES, *(2.0**bits for bits in BITS if is_whole)):
        starts = [end for end in (0.0, -period / 2) if low >= end - SLACK * period]
        if high - low < FULL * period or not any(
            high <= end + (1 + SLACK) * period for end in starts
        ):
            continue
        steps = np.concatenate([np.abs(np.diff(piece)) for piece in pieces])
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


def _sign_changes(recording: Recording, at: int, starts: NDArray[np.int64]) -> int:
    """Return how often a quaternion, whose first column is `at`, changes from q to -q."""
    columns, n_changes = recording.values[:, at : at + 4], 0
    first = np.square(columns[0].astype(np.float64)).sum()
    if columns.shape[1] < 4 or abs(first - 1) >= UNIT_SLACK:
        return 0
    for start in starts.tolist():
        q = columns[start : start + PIECE].astype(np.float64)
        q = q[np.isfinite(q).all(axis=1)]
        is_unit = (np.abs(np.square(q).sum(axis=1) - 1) < UNIT_SLACK).all()
        if not is_unit or len(np.unique(np.abs(q))) < FEW_VALUES:
            return 0
        n_changes += int(((q[1:] * q[:-1]).sum(axis=1) < OPPOSITE).sum())
    return n_changes


def _rescaled(
    pieces: Sequence[Floats], times: Sequence[Floats], start_s: float
) -> list[list[float]]:
    """Return the factor of a single change of scale, and the seconds from the start to the change.

    The spread of a channel also changes when the robot stops. A change of unit is assumed only if
    the spectrum stays the same. The level must also change by the same factor as the spread; if the
    level is near zero, this factor must be a ratio of two units.
    """
    n = sum(map(len, pieces))
    size = next((size for size, fewest in SEGMENTS if n >= size * fewest), 0)
    if not size:
        return []
    segments, began = [], []
    for values, t in zip(pieces, times, strict=True):
        most = max(1, MOST_SEGMENTS // len(pieces))
        count = min(most, len(values) // size)
        if not count:
            continue
        first = np.linspace(0, len(values) - size, count).astype(np.int64)
        segments.append(values[first[:, None] + np.arange(size)])
        began.append(t[first])
    x, began_s = np.concatenate(segments), np.concatenate(began)
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
        nearest = min(abs(abs(change) - np.log10(factor)) for factor in FACTORS)
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
