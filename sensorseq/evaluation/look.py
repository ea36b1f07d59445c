"""One HTML page about recordings or windows before training: what is odd, and a look at each."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from sensorseq.data_checks.facts import N_BANDS, ChannelFacts, RecordingFacts
from sensorseq.data_checks.part import Floats
from sensorseq.data_checks.recordings import (
    clipped_edges,
    limits_of,
    median_known,
    sets_of_channels,
)
from sensorseq.evaluation.text import format_hours
from sensorseq.html.render import render
from sensorseq.html.svg import over_time, sparkline

MOST_ROWS = 50  # of a class, as pictures
MOST_CELLS = 1800  # pictures of the page, which stays below 3 MB with them
MOST_CHANNELS = 16
MOST_CLASSES = 60
SHORT = {
    "copies": "copy",
    "time_unit": "time unit",
    "rates": "other rate",
    "unit": "other unit",
    "constant": "constant",
    "empty": "no value",
    "flipped": "opposite sign",
    "swapped": "swapped",
    "stuck": "stuck",
    "saturated": "cut off",
    "gaps": "gaps",
    "outliers": "outliers",
    "missing_channel": "no such channel",
}
_UNLABELLED = "no label"
MOST_DECADES = 8.0  # of power density in a picture


@dataclass(frozen=True)
class _Scale:
    """What is common to the pictures of one channel."""

    name: str
    unit: str
    limits: tuple[float, float]  # of the pictures over time
    extremes: tuple[float, float]  # as `clipped_edges` compares with
    rate_hz: float

    def spectrum_of(self, channels: Sequence[ChannelFacts]) -> Floats:
        """Return the median spectrum of channels that move, on the grid of the usual rate."""
        grid = np.linspace(0, self.rate_hz / 2, N_BANDS)
        rows = [
            np.interp(grid, np.linspace(0, c.rate_hz / 2, N_BANDS), c.spectrum, right=np.nan)
            for c in channels
            if np.isfinite(c.spectrum).all() and not c.is_constant
        ]
        middle = np.full(N_BANDS, np.nan)
        if rows and (known := np.isfinite(rows).any(axis=0)).any():
            middle[known] = np.nanmedian(np.asarray(rows)[:, known], axis=0)
        return middle


def make_look(found: Mapping[str, Any], facts: Sequence[RecordingFacts], *, title: str) -> str:
    """Return a self-contained HTML page, in light and dark, that needs no script to be read.

    `found` and `facts` are what `inspect_recordings` and `inspect_windows` return.
    """
    notes: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for odd in found["odd"]:
        for name in odd["values"]["recordings"]:
            if short := SHORT.get(odd["kind"]):
                for channel in odd["values"].get("channels") or [odd["values"]["channel"]]:
                    notes[name, channel].append(short)
    errors = [row["error"] for row in found["recordings"] if "error" in row]
    sets = sets_of_channels(facts)
    of_id = {one.recording_id: one for one in facts}
    room = MOST_CELLS / max(1, len({one.label for one in facts}))
    return render(
        "look.html",
        title=title,
        heading=title,
        summary=summarize(facts, len(errors)),
        odd=[(odd["text"], _with_code(odd["advice"])) for odd in found["odd"]],
        errors=errors,
        sets=[
            _describe_set(names, [of_id[i] for i in ids], notes, room / len(sets))
            for names, ids in sets
        ],
    )


def _with_code(text: str) -> Markup:
    return Markup(re.sub(r"(--[a-z]+)", r"<code>\1</code>", str(escape(text))))


def summarize(facts: Sequence[RecordingFacts], n_errors: int = 0) -> str:
    """Return one sentence with what there is."""
    labels = {one.label for one in facts} - {None}
    channels = {name for one in facts for name in one.channels}
    groups = {one.group for one in facts}
    rates = sorted({f"{hz:.4g}": hz for one in facts if np.isfinite(hz := one.rate_hz)}.values())
    between = (
        f"{rates[0]:.4g} to {rates[-1]:.4g}"
        if len(rates) > 2
        else " and ".join(f"{hz:.4g}" for hz in rates)
    )
    parts = [
        _count(len(facts), "recording"),
        f"{_count(len(labels), 'class', 'classes')}" if labels else "no labels",
        _count(len(groups), "group"),
        _count(len(channels), "channel"),
        f"{format_hours(sum(one.duration_s for one in facts))} in total",
        *([f"at {between} Hz"] if rates else []),
        *([f"{n_errors} more cannot be read"] if n_errors else []),
    ]
    return ", ".join(parts) + "."


def _count(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _describe_set(
    names: Sequence[str],
    facts: Sequence[RecordingFacts],
    notes: Mapping[tuple[str, str | None], Sequence[str]],
    room: float,
) -> dict[str, Any]:
    """Return the values of one table of classes and those of recordings, class by class."""
    noted = {channel for _, channel in notes}
    shown = sorted(sorted(names, key=lambda n: n not in noted)[:MOST_CHANNELS], key=names.index)
    scales = [_scale_of(name, facts) for name in shown]
    classes: dict[str, list[RecordingFacts]] = defaultdict(list)
    for one in sorted(facts, key=lambda one: one.label or _UNLABELLED):
        classes[one.label or _UNLABELLED].append(one)
    n_rows = int(min(MOST_ROWS, max(room / len(shown), 1)))
    listed_classes = dict(list(classes.items())[:MOST_CLASSES])
    columns = [_class_cells(scale, listed_classes) for scale in scales]
    return {
        "channels": [_head(scale) for scale in scales],
        "left": [name for name in names if name not in shown],
        "n_classes": len(classes),
        "classes": [
            {
                "name": label,
                "words": _class_words(rows),
                "cells": [column[number] for column in columns],
                "rows": [_row(one, scales, notes) for one in _chosen(rows, notes, n_rows)],
                "n_left": max(0, len(rows) - len(_chosen(rows, notes, n_rows))),
            }
            for number, (label, rows) in enumerate(listed_classes.items())
        ],
    }


def _chosen(
    rows: Sequence[RecordingFacts],
    notes: Mapping[tuple[str, str | None], Sequence[str]],
    most: int,
) -> list[RecordingFacts]:
    """Return all recordings, or the first of them, after the odd ones."""
    if len(rows) <= most:
        return list(rows)
    odd = {name for name, _ in notes}
    chosen = sorted(rows, key=lambda one: one.recording_id not in odd)[:most]
    return sorted(chosen, key=lambda one: one.recording_id)


def _scale_of(name: str, facts: Sequence[RecordingFacts]) -> _Scale:
    rows = [(one, one.channels[name]) for one in facts if name in one.channels]
    known = [c for _, c in rows if c.n_known]
    units = [c.unit for _, c in rows if c.unit]
    rate = median_known([c.rate_hz for c in known])
    usual = float(np.median([c.spread for c in known if c.spread > 0] or [0.0]))
    centre = float(np.median([c.quantiles[2] for c in known])) if known else 0.0
    near = [
        c
        for c in known
        if c.spread <= 10 * usual and abs(c.quantiles[2] - centre) <= 10 * (usual or np.inf)
    ] or known
    low, high = 0.0, 1.0
    if near:
        reach = [0.5 * (c.quantiles[-1] - c.quantiles[0]) for c in near]
        pairs = list(zip(near, reach, strict=True))
        low = min(max(c.low.value, c.quantiles[0] - r) for c, r in pairs)
        high = max(min(c.high.value, c.quantiles[-1] + r) for c, r in pairs)
    low, high = (low, high) if high > low else (low - 1, high + 1)
    return _Scale(name, units[0] if units else "", (low, high), limits_of(rows), rate)


def _head(scale: _Scale) -> dict[str, str]:
    low, high = scale.limits
    return {
        "name": scale.name,
        "unit": scale.unit,
        "limits": f"{_short(low, high)} to {_short(high, low)}",
        "rate": f"{scale.rate_hz:.4g} Hz" if np.isfinite(scale.rate_hz) else "",
        "nyquist": f"{scale.rate_hz / 2:.4g} Hz" if np.isfinite(scale.rate_hz) else "",
    }


def _short(value: float, other: float) -> str:
    """Return a number with as many digits as its range needs."""
    size = max(abs(value), abs(other))
    return f"{0.0 if abs(value) < 0.005 * size else value:.3g}".replace("-", "\N{MINUS SIGN}")


def _class_words(rows: Sequence[RecordingFacts]) -> str:
    n_groups = len({one.group for one in rows})
    parts = [
        _count(len(rows), "recording"),
        *([_count(n_groups, "group")] if n_groups != len(rows) else []),
        format_hours(sum(one.duration_s for one in rows)),
    ]
    return ", ".join(parts)


def _class_cells(
    scale: _Scale, classes: Mapping[str, Sequence[RecordingFacts]]
) -> list[dict[str, Any]]:
    """Return for each class its median spectrum over that of all, and its usual range."""
    channels = {
        label: [c for one in rows if (c := one.channels.get(scale.name)) and c.n_known]
        for label, rows in classes.items()
    }
    spectra = {label: scale.spectrum_of(own) for label, own in channels.items()}
    whole = scale.spectrum_of([c for own in channels.values() for c in own])
    drawn = np.concatenate([whole, *spectra.values()])
    drawn = drawn[np.isfinite(drawn)]
    top = float(drawn.max()) if drawn.size else 1.0
    bottom = max(float(drawn.min()), top - MOST_DECADES) if drawn.size else 0.0
    limits = (min(bottom, top - 1), top)
    cells: list[dict[str, Any]] = []
    for label, own in channels.items():
        if not own:
            cells.append({"picture": "", "words": "\N{EN DASH}"})
            continue
        title = f"spectrum of {scale.name} in {label}"
        picture = sparkline([whole, spectra[label]], limits, title, height=80)
        middle = np.median([c.quantiles for c in own], axis=0)
        at = [100 * _share(value, scale.limits) for value in middle]
        cells.append(
            {
                "picture": Markup(picture),
                "box": [(at[0], at[-1] - at[0]), (at[1], at[-2] - at[1]), (at[2], 0)],
                "words": f"{_short(middle[0], middle[-1])} to {_short(middle[-1], middle[0])}",
            }
        )
    return cells


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return float(np.clip((value - low) / (high - low), 0, 1))


def _row(
    one: RecordingFacts,
    scales: Sequence[_Scale],
    notes: Mapping[tuple[str, str | None], Sequence[str]],
) -> dict[str, Any]:
    rate = f", {one.rate_hz:.4g} Hz" if np.isfinite(one.rate_hz) else ""
    return {
        "name": one.recording_id,
        "group": one.group if one.group != one.recording_id else "",
        "words": f"{_seconds(one.duration_s)}{rate}",
        "odd": _unique(notes.get((one.recording_id, None), [])),
        "cells": [
            _cell(one, scale, _unique(notes.get((one.recording_id, scale.name), [])))
            for scale in scales
        ],
    }


def _unique(words: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 600 else format_hours(seconds)


def _cell(one: RecordingFacts, scale: _Scale, odd: Sequence[str]) -> dict[str, Any]:
    channel = one.channels.get(scale.name)
    if channel is None or not channel.n_known:
        return {"picture": "", "words": "\N{EN DASH}", "odd": odd}
    cut = clipped_edges(channel, scale.extremes)
    duration = one.duration_s or 1.0
    picture = over_time(
        channel.envelope,
        scale.limits,
        (channel.gaps_s - one.start_s) / duration,
        [edge.bins.tolist() if edge in cut else [] for edge in (channel.low, channel.high)],
        f"{scale.name} of {one.recording_id} over time",
    )
    low, high = channel.quantiles[[0, -1]]
    words = [f"{_short(low, high)} to {_short(high, low)}"]
    if channel.gap_share > 0.001:
        words.append(f"gaps {channel.gap_share:.1%}")
    lost = channel.n_lost / (channel.n_known + channel.n_lost)
    if lost > 0.001:
        words.append(f"lost {lost:.1%}")
    if np.isfinite(channel.rate_hz) and channel.rate_hz < 0.99 * one.rate_hz:
        words.append(f"{channel.rate_hz:.4g} Hz")
    return {"picture": Markup(picture), "words": ", ".join(words), "odd": odd}
