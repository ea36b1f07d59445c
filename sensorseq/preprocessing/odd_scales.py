"""Find recordings whose timestamps or channels are in a different unit from the others."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import times
from sensorseq.errors import RecordingError
from sensorseq.io.blocks import release
from sensorseq.recording import Recording, sample_rate_of
from sensorseq.stamps.names import UNITS
from sensorseq.stamps.period import PLAUSIBLE_HZ

Floats = NDArray[np.float64]

# The limits were chosen with borealtc and simulated recordings, both healthy and with planted
# faults.
RATE_RATIO = 95.0  # largest usual ratio to the median rate: 100 minus a margin for jitter
UNIT_RATIO = 30.0  # largest usual ratio of a recording's spread to the median spread of its class
SAME_SHAPE = 0.6  # largest RMS difference between log10 spectra of equal shape
SHAPE_MARGIN = 1.5  # largest RMS difference, as a multiple of the difference among usual recordings
FEWEST = 3  # minimum number of recordings of a class that a comparison needs
N_SEGMENT, MOST_SEGMENTS, N_BANDS = 128, 64, 16
_LEAST_POWER = np.finfo(np.float64).tiny  # whose logarithm exists
# Rows per piece, and maximum number of pieces, that are read one at a time.
PIECE, MOST_PIECES = 1 << 14, 16

_UNITS = (  # range of max(ratio, 1 / ratio); likely unit if ratio > 1; likely unit if ratio < 1
    (25.0, 130.0, "degrees where {} radians", "radians where {} degrees"),
    (250.0, 4e3, "1000 times smaller, such as mA where {} A", "A where {} mA"),
    (2.5e5, 4e6, "a million times smaller, such as uA where {} A", "A where {} uA"),
)


class ScaleFacts(NamedTuple):
    """Facts about a recording, to compare recordings; `channels` comes from `measure_scales`."""

    name: str  # name by which the user knows the recording
    label: str
    rate_hz: float | None
    time_unit: str = ""  # unit in which the timestamps were read, if known
    channels: Mapping[str, Sequence[float]] = MappingProxyType({})
    is_zero: bool = False

    @classmethod
    def of(cls, recording: Recording) -> "ScaleFacts":
        """Measure a recording."""
        clock: Any = recording.attributes.get("clock", {})
        return cls(
            f"recording {recording.recording_id!r}",
            ", ".join(sorted(recording.labels)),
            sample_rate_of(recording),
            str(clock.get("unit", "s")),
            measure_scales(recording),
        )


def measure_scales(recording: Recording) -> dict[str, list[float]]:
    """Measure each channel's range from the 5th to the 95th percentile, and its log10 band powers.

    At most `MOST_SEGMENTS` short segments are read, so the cost is limited for recordings of any
    length. Channels that are constant or have too few values are left out.
    """
    x = recording.values
    starts = _even_positions(len(x) - N_SEGMENT, MOST_SEGMENTS, N_SEGMENT)
    together = x[starts[:, None] + np.arange(N_SEGMENT)].astype(np.float64)
    release(x)
    of_channels = np.ascontiguousarray(np.moveaxis(together, 2, 0))
    is_known = np.isfinite(of_channels).all(axis=(1, 2))
    figures = np.full((recording.n_channels, 1 + N_BANDS), np.nan)
    if len(starts) and is_known.any():
        figures[is_known] = _measure(of_channels[is_known])
    for at in np.flatnonzero(~is_known).tolist():
        if len(segments := _known_segments(x, at)):
            figures[at] = _measure(segments[np.newaxis])[0]
    return {
        name: [float(f"{value:.5g}") for value in row]
        for name, row in zip(recording.channel_names, figures.tolist())
        if np.isfinite(row[0])
    }


def _even_positions(last: int, most: int, apart: int) -> NDArray[np.int64]:
    """Return up to `most` evenly spaced positions from 0 to `last`, at least `apart` apart."""
    count = min(most, last // apart + 1) if last >= 0 else 0
    return np.linspace(0, max(last, 0), count).astype(np.int64)


def _known_segments(x: NDArray[np.floating], at: int) -> Floats:
    """Return segments of a channel's known values, joined as if no value were missing."""
    segments = []
    for start in _even_positions(max(len(x) - PIECE, 0), MOST_PIECES, PIECE):
        piece = x[start : start + PIECE, at]
        finite = piece[np.isfinite(piece)]
        first = _even_positions(len(finite) - N_SEGMENT, MOST_SEGMENTS // MOST_PIECES, N_SEGMENT)
        segments.append(finite[first[:, None] + np.arange(N_SEGMENT)])
    return np.concatenate([np.empty((0, N_SEGMENT)), *segments])


def _measure(segments: Floats) -> Floats:
    """Return the range and the band powers of each channel (c, n, t); NaN for a constant one."""
    low, high = np.quantile(segments.reshape(len(segments), -1), (0.05, 0.95), axis=1)
    power = mean_spectrum(segments)[:, 1:-1]
    figures = np.column_stack([high - low, log_bands(np.maximum(power, _LEAST_POWER))])
    figures[~((high > low) & (power.max(axis=1) > 0))] = np.nan
    return figures


def mean_spectrum(segments: Floats) -> Floats:
    """Center segments (..., n, t), apply a Hann window, and return their mean power spectrum."""
    window = np.hanning(segments.shape[-1] + 1)[:-1]
    moving = segments - segments.mean(axis=-1, keepdims=True)
    return np.asarray((np.abs(np.fft.rfft(moving * window)) ** 2).mean(axis=-2))


def log_bands(power: Floats) -> Floats:
    """Return the mean of log10 of power spectra (..., f) in each of `N_BANDS` bands."""
    decades = np.log10(np.maximum(power, power.max(axis=-1, keepdims=True) * 1e-12))
    bands = np.array_split(decades, N_BANDS, axis=-1)
    return np.stack([band.mean(axis=-1) for band in bands], axis=-1)


def find_odd_scales(facts: Sequence[ScaleFacts]) -> dict[int, list[str]]:
    """Describe recordings that differ in a unit or contain only zeros, by position in `facts`."""
    texts_of: dict[int, list[str]] = {}
    zeros = [(at, "all its samples are zero") for at, fact in enumerate(facts) if fact.is_zero]
    for at, text in [*_odd_rates(facts), *_odd_channels(facts), *zeros]:
        texts_of.setdefault(at, []).append(text)
    return texts_of


def odd_scale_error(facts: ScaleFacts, texts: Sequence[str], count: int = 1) -> RecordingError:
    """Return the error for one of `count` recordings that have a different unit."""
    more = f" {count} recordings are affected." if count > 1 else ""
    return RecordingError(
        f"{facts.name}: {'; '.join(texts)}.{more} Correct the recording, leave it out (--exclude),"
        " or use it as it is with allow_scales=True (--allow-scales)."
    )


def _odd_rates(facts: Sequence[ScaleFacts]) -> list[tuple[int, str]]:
    rates = np.array([recording.rate_hz or np.nan for recording in facts])
    low, high = PLAUSIBLE_HZ
    plausible = rates[(rates >= low) & (rates <= high)]
    usable = plausible if len(plausible) else rates[np.isfinite(rates)]
    if not len(usable):
        return []
    usual, texts = float(np.median(usable)), []
    for at, recording in enumerate(facts):
        ratio = (recording.rate_hz or np.nan) / usual
        if not max(ratio, 1 / ratio) > RATE_RATIO:
            continue
        read = UNITS.get(recording.time_unit, 1)
        likely = [unit for unit, per_s in UNITS.items() if 0.2 < ratio * per_s / read < 5]
        known_by = f" (read as {recording.time_unit})" if recording.time_unit else ""
        guess = f"; its timestamps are perhaps in {likely[0]}" if likely else ""
        texts.append(
            (
                at,
                f"its timestamps{known_by} give {recording.rate_hz:.4g} Hz, but those of most"
                f" recordings give {usual:.4g} Hz{guess}",
            )
        )
    return texts


def _odd_channels(facts: Sequence[ScaleFacts]) -> list[tuple[int, str]]:
    texts = []
    labels = [recording.label for recording in facts]
    for at, name, ratio in odd_units(labels, [recording.channels for recording in facts]):
        among = f" of class {labels[at]}" if labels[at] else ""
        texts.append(
            (
                at,
                f"channel {name!r} varies {times(ratio, 'as much as', 'less than')} in most"
                f" recordings{among}, with the same spectrum{likely_unit(ratio)}",
            )
        )
    return texts


def odd_units(
    labels: Sequence[str | None], scales: Sequence[Mapping[str, Sequence[float]]]
) -> Iterator[tuple[int, str, float]]:
    """Yield recordings in which a channel has a different unit, given their `measure_scales`.

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


def likely_unit(ratio: float, other_unit: str = "others have") -> str:
    """Return the end of a sentence with the unit that a ratio suggests, or an empty string."""
    for low, high, larger, smaller in _UNITS:
        if low < max(ratio, 1 / ratio) < high:
            return f"; its unit is perhaps {(larger if ratio > 1 else smaller).format(other_unit)}"
    return ""
