"""Make an HTML page about recordings or windows, with their irregularities and plots."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.html.render import render
from sensorseq.html.svg import over_time, sparkline
from sensorseq.inspection.facts import N_BANDS, ChannelFacts, RecordingFacts
from sensorseq.inspection.odd_recordings import first_to_look_at
from sensorseq.inspection.recordings import (
    clipped_edges,
    limits_of,
    median_finite,
    sets_of_channels,
)
from sensorseq.prediction.outside import Floats
from sensorseq.readers.columns import describe_counters, describe_dropped

MOST_ROWS = 50  # maximum number of recordings of a class that are drawn
MOST_CELLS = 1200  # maximum number of plots on the page, reduced if the page is too large
MOST_BYTES = 1_000_000
MOST_CHANNELS = 16
MOST_CLASSES = 60
MOST_DECADES = 8.0  # largest range of power density in a plot, in powers of ten


def make_look(result: Mapping[str, Any], facts: Sequence[RecordingFacts], *, title: str) -> str:
    """Return a self-contained HTML page with a light and a dark theme, readable without scripts.

    `result` and `facts` come from `inspect_recordings` or `inspect_windows`. To stay within
    `MOST_BYTES`, the page draws fewer recordings, then fewer channels.
    """
    n_cells = MOST_CELLS
    while True:
        values = describe_look(result, facts, n_cells)
        page = render("look.html", title=title, heading=title, **values)
        size = len(page.encode())
        if size <= MOST_BYTES or n_cells == 1:
            return page
        n_cells = max(int(0.95 * n_cells * MOST_BYTES / size), 1)


def describe_look(
    result: Mapping[str, Any], facts: Sequence[RecordingFacts], n_cells: int = MOST_CELLS
) -> dict[str, Any]:
    """Return the values for the template of the recordings, with at most `n_cells` plots."""
    notes: dict[str, dict[str | None, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    channels_of = {recording.recording_id: recording.channels for recording in facts}
    for odd in result["odd"]:
        for name in odd["values"].get("recordings", ()):
            channels = odd["values"].get("channels", ())
            for channel in channels if set(channels_of[name]) - set(channels) else [None]:
                notes[name][channel][odd["kind"]] = None
    counters, dropped = (
        Counter(name for row in result["recordings"] for name in row.get(kind, ()))
        for kind in ("counters", "dropped_columns")
    )
    noted = {channel for channels in notes.values() for channel in channels}
    room = n_cells / min(max(1, len({recording.label for recording in facts})), MOST_CLASSES)
    sets = []
    for names, members in sets_of_channels(facts):
        moving = {c.name for r in members for c in r.channels.values() if c.spread > 0}
        first = sorted(names, key=lambda name: (name not in moving, name not in noted))
        # Each channel needs at least two plots: a spectrum and a recording.
        n_channels = min(MOST_CHANNELS, max(int(room / 2), 1))
        shown = sorted(first[:n_channels], key=names.index)
        scales = [_Scale.of(name, members) for name in shown]
        classes: dict[str, list[RecordingFacts]] = defaultdict(list)
        for recording in sorted(members, key=lambda r: (r.label or "", r.recording_id)):
            classes[recording.label or "no label"].append(recording)
        n_rows = int(min(MOST_ROWS, max(room / len(shown) - 1, 1)))
        drawn = dict(list(classes.items())[:MOST_CLASSES])
        chosen = {
            label: sorted(rows, key=lambda r: r.recording_id not in notes)[:n_rows]
            for label, rows in drawn.items()
        }
        sets.append(
            {
                "scales": scales,
                "left": [name for name in names if name not in shown],
                "n_classes": len(classes),
                "classes": drawn,
                "chosen": {k: [r for r in drawn[k] if r in chosen[k]] for k in drawn},
                "usual": [scale.of_classes(drawn) for scale in scales],
            }
        )
    return {
        "result": result,
        "errors": [row["error"] for row in result["recordings"] if "error" in row],
        "facts": facts,
        "left_out": [*describe_counters(counters, "--channels"), *describe_dropped(dropped)],
        "rates": sorted({f"{r.rate_hz:.4g}" for r in facts if r.rate_hz > 0}, key=float),
        "sets": sets,
        "first": _first(result, facts),
        "notes": notes,
        "number": _number,
    }


def _first(
    result: Mapping[str, Any], facts: Sequence[RecordingFacts]
) -> list[tuple[Mapping[str, Any], list[Markup]]]:
    """Return the first recordings of the ranking, each with its picture and that of a usual one."""
    of_id = {recording.recording_id: recording for recording in facts}
    usual = {}
    for odd in result["ranked"]:  # at the end, the most usual recording of each class
        usual[odd["label"]] = of_id[odd["recording_id"]]
    rows: list[tuple[Mapping[str, Any], list[Markup]]] = []
    for odd in first_to_look_at(result["ranked"]):
        pair = (of_id[odd["recording_id"]], usual[odd["label"]])
        moving = [c.name for c in pair[0].channels.values() if c.spread > 0]
        name = [*pair[0].channels, *moving[::-1], *odd["channels"]][-1]
        shown = [each for each in pair if name in each.channels and each.channels[name].n_known]
        scale = _Scale.of(name, facts)
        quoted = {"quoted": shlex.quote(odd["recording_id"])}
        rows.append(({**odd, **quoted}, [scale.picture(each) for each in shown]))
    return rows


def _number(value: float, other: float) -> str:
    """Format one end of a range; an end that is near zero relative to the other end becomes 0."""
    is_zero = abs(value) < 0.005 * max(abs(value), abs(other))
    return f"{0.0 if is_zero else value:.3g}".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class _Scale:
    """The common scale of all plots of one channel."""

    name: str
    unit: str
    limits: tuple[float, float]  # range of values in the plots over time
    extremes: tuple[float, float]  # limits of the values, for `clipped_edges`
    rate_hz: float

    @classmethod
    def of(cls, name: str, facts: Sequence[RecordingFacts]) -> "_Scale":
        """Choose a scale that suits most recordings, regardless of outliers."""
        rows = [(r, r.channels[name]) for r in facts if name in r.channels]
        measured = [c for _, c in rows if c.n_known]
        ends = [(c.quantiles[[0, -1]], (c.low.value, c.high.value)) for c in measured]
        if not ends:
            ends = [(np.array([0.0, 1.0]), (0.0, 1.0))]
        reach = [0.25 * (high - low) for (low, high), _ in ends]
        lows = [max(e[0], q[0] - r) for (q, e), r in zip(ends, reach, strict=True)]
        highs = [min(e[1], q[1] + r) for (q, e), r in zip(ends, reach, strict=True)]
        usual = float(np.median(np.subtract(highs, lows)))
        center = float(np.median(np.add(highs, lows)) / 2)
        lows = [v for v in lows if v >= min(center - 10 * usual, float(np.median(lows)))]
        highs = [v for v in highs if v <= max(center + 10 * usual, float(np.median(highs)))]
        low, high = sorted(lows)[len(lows) // 10], sorted(highs)[-1 - len(highs) // 10]
        limits = (low, high) if high > low else (low - 1.0, high + 1.0)
        unit = next((c.unit for _, c in rows if c.unit), "")
        rate_hz = median_finite([c.rate_hz for c in measured])
        return cls(name, unit, limits, limits_of(rows), rate_hz)

    def spectrum_of(self, channels: Sequence[ChannelFacts]) -> Floats:
        """Return the median of the channels' spectra on a common frequency grid."""
        grid = np.linspace(0, self.rate_hz / 2, N_BANDS)
        rows = [
            np.interp(grid, np.linspace(0, c.rate_hz / 2, N_BANDS), c.spectrum, right=np.nan)
            for c in channels
            if np.isfinite(c.spectrum).all()
        ]
        # channels of low rate lack the highest bands
        bands = np.array(rows, np.float64).reshape(-1, N_BANDS)
        return np.array([median_finite(band) for band in bands.T])

    def of_classes(self, classes: Mapping[str, Sequence[RecordingFacts]]) -> dict[str, Any]:
        """Return plots of the classes' spectra, the plots' range, and the classes' quantiles."""
        channels = {
            label: [c for r in rows if (c := r.channels.get(self.name)) and c.n_known]
            for label, rows in classes.items()
        }
        spectra = {label: self.spectrum_of(members) for label, members in channels.items()}
        whole = self.spectrum_of([c for members in channels.values() for c in members])
        drawn = np.concatenate([whole, *spectra.values()])
        top = max(drawn[np.isfinite(drawn)], default=1.0)
        power = (min(max(np.nanmin(drawn, initial=top), top - MOST_DECADES), top - 1), top)
        words = "spectrum of {} in {}"
        return {
            "power": power,
            "pictures": {
                label: Markup(
                    sparkline([whole, spectrum], power, words.format(self.name, label), height=80)
                )
                for label, spectrum in spectra.items()
            },
            "quantiles": {
                label: np.median([c.quantiles for c in members], axis=0)
                for label, members in channels.items()
                if members
            },
        }

    def share(self, value: float) -> float:
        """Return a value's position within the limits, in percent."""
        low, high = self.limits
        return float(np.clip(100 * (value - low) / (high - low), 0, 100))

    def picture(self, recording: RecordingFacts) -> Markup:
        """Draw a recording over time."""
        channel = recording.channels[self.name]
        edges, cut = (channel.low, channel.high), clipped_edges(channel, self.extremes)
        return Markup(
            over_time(
                channel.envelope,
                self.limits,
                (channel.gaps_s - recording.start_s) / (recording.duration_s or 1.0),
                [
                    np.flatnonzero(line == np.float32(edge.value)).tolist() if edge in cut else []
                    for line, edge in zip(channel.envelope, edges, strict=True)
                ],
                f"{self.name} of {recording.recording_id} over time",
            )
        )
