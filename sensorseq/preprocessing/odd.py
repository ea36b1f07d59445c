"""Find recordings in a different unit, and channels whose values are not all measurements.

The rules judge what `sensorseq.preprocessing.measured` measured of all recordings.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import likely_unit, listed, plural, times
from sensorseq.errors import RecordingError
from sensorseq.messages import ODD_VALUES
from sensorseq.stamps.names import UNITS
from sensorseq.stamps.period import is_plausible

Floats = NDArray[np.float64]
OddFacts = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]
"""Rows of figures by channel and kind, a key of `ODD_VALUES`; can be stored as JSON."""

# The limits were chosen on borealtc and on simulated recordings, with and without planted faults.
RATE_RATIO = 95.0  # largest usual ratio to the median rate: 100 minus a margin for jitter
UNIT_RATIO = 30.0  # largest usual ratio of a recording's spread to the median spread of its class
SAME_SHAPE = 0.6  # largest RMS difference between log10 spectra of equal shape
SHAPE_MARGIN = 1.5  # largest RMS difference, as a multiple of the difference among usual recordings
FEWEST = 3  # minimum number of recordings of a class that a comparison needs
LEAST_MARKS, LEAST_USUAL_MARKS, LEAST_WRAPS = 5, 2, 3


class OddValues(NamedTuple):
    """An irregularity of one channel, described for each recording, the worst recording first."""

    kind: str  # one of `ODD_VALUES`
    channel: str
    figures: dict[int, str]  # descriptions by index of the recording

    def example(self, names: Sequence[str]) -> str:
        """Return the description of the irregularity in the worst recording."""
        at, figures = next(iter(self.figures.items()))
        return f"{self.channel} of {names[at]}: {figures}"


def find_odd_values(measured: Sequence[OddFacts]) -> list[OddValues]:
    """Return the irregularities found in all recordings together, the most important first."""
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
    often |= {v for v, n in n_of.items() if n >= LEAST_USUAL_MARKS and is_usual_mark(v)}
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


def is_usual_mark(value: float) -> bool:
    """Return whether drivers often use this value, such as -999 or 65535, for missing values."""
    size = abs(value)
    return size == round(size) and (
        (size >= 999 and set(f"{size:.0f}") == {"9"})
        or any(size in (2.0**bits, 2.0**bits - 1) for bits in (15, 16, 31, 32))
    )


def odd_rates(rates_hz: Sequence[float | None], units: Sequence[str]) -> dict[int, str]:
    """Describe rates that suggest a wrong unit of time, by position.

    `units` are the units in which the timestamps were read; a unit is empty if it is unknown.
    """
    known = [rate for rate in rates_hz if rate and np.isfinite(rate)]
    usual, texts = float(np.median([*filter(is_plausible, known)] or known or [1.0])), {}
    for at, (rate, unit) in enumerate(zip(rates_hz, units, strict=True)):
        ratio = (rate or np.nan) / usual
        if not max(ratio, 1 / ratio) > RATE_RATIO:
            continue
        per_s = UNITS.get(unit, 1)
        likely = [name for name, each in UNITS.items() if 0.2 < ratio * each / per_s < 5]
        known_by = f" (read as {unit})" if unit else ""
        guess = f"; its timestamps are perhaps in {likely[0]}" if likely else ""
        texts[at] = (
            f"its timestamps{known_by} give {rate:.4g} Hz, but those of most recordings give"
            f" {usual:.4g} Hz{guess}"
        )
    return texts


def odd_units(
    labels: Sequence[str | None], scales: Sequence[Mapping[str, Sequence[float]]]
) -> Iterator[tuple[int, str, float]]:
    """Yield recordings in which a channel has a different unit, given their scales.

    Each is yielded as its position, the channel, and the channel's spread divided by the median
    spread in the class.
    """
    for name in dict.fromkeys(name for channels in scales for name in channels):
        positions = [at for at, channels in enumerate(scales) if name in channels]
        table = np.array([scales[at][name] for at in positions])
        of_rows = [labels[at] for at in positions]
        for i, ratio in _odd_sizes(of_rows, table[:, 0], table[:, 1:]).items():
            yield positions[i], name, ratio


def _odd_sizes(labels: Sequence[str | None], spreads: Floats, spectra: Floats) -> dict[int, float]:
    """Return the ratio of spreads for each recording in which a channel has a different unit.

    The ratio is the channel's spread divided by the median spread of the class; the keys are
    positions of recordings. `spreads` (n,) and the log10 `spectra` (n, bands) describe the channel
    in each recording. Spreads may also vary for other reasons, such as the idle times of a motor.
    Therefore, the distance of an unusual spread from the usual spreads must exceed two standard
    deviations of the usual spreads in every class. In addition, the spectrum must be about as close
    to the median spectrum of the class as the spectra of usual recordings are.
    """
    size, of_class = np.log10(spreads), np.array([label or "" for label in labels])
    shapes = spectra - spectra.mean(axis=1, keepdims=True)
    width, nearest, odd = 0.0, np.inf, {}
    for label in np.unique(of_class):
        members = np.flatnonzero(of_class == label)
        ratios = size[members] - np.quantile(size[members], 0.5, method="lower")
        is_usual = abs(ratios) <= np.log10(UNIT_RATIO)
        usual, n = ratios[is_usual], int(is_usual.sum())
        if len(members) < FEWEST or n < 2:
            continue
        width = max(width, 2 * float(usual.std()))
        apart = np.sqrt(
            np.mean((shapes[members] - np.median(shapes[members[is_usual]], axis=0)) ** 2, 1)
        )
        # The factor corrects for the fact that each usual recording contributes to the median.
        of_others = apart[is_usual].max() * np.sqrt((n + 1) / (n - 1))
        is_alike = apart <= min(SAME_SHAPE, SHAPE_MARGIN * of_others)
        for i in np.flatnonzero(~is_usual).tolist():
            nearest = min(nearest, float(abs(usual - ratios[i]).min()))
            if is_alike[i]:
                odd[int(members[i])] = float(10 ** ratios[i])
    return dict(sorted(odd.items())) if nearest > width else {}


def odd_scale_error(name: str, texts: Sequence[str], count: int = 1) -> RecordingError:
    """Return the error for one of `count` recordings that have a different unit."""
    more = f" {count} recordings are affected." if count > 1 else ""
    return RecordingError(
        f"{name}: {'; '.join(texts)}.{more} Correct the recording, leave it out (--exclude), or use"
        " it as it is with allow_scales=True (--allow-scales)."
    )


def unit_text(channel: str, ratio: float, label: str) -> str:
    """Return the description of a channel with a different unit in a recording of a class."""
    among = f" of class {label}" if label else ""
    return (
        f"channel {channel!r} varies {times(ratio, 'as much as', 'less than')} in most"
        f" recordings{among}, with the same spectrum{likely_unit(ratio)}"
    )
