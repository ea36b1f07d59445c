"""One HTML page about predictions over time: a strip of classes above the signals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.evaluation.predict import RecordingPrediction
from sensorseq.html.render import render
from sensorseq.html.svg import over_time, ticks
from sensorseq.inspection.facts import ChannelFacts, RecordingFacts

MOST_RECORDINGS, MOST_CHANNELS, MOST_SPANS = 60, 8, 400
_N_COLORS = 6  # that the style sheet names


def make_drive_page(predictions: Sequence[RecordingPrediction], *, title: str) -> str:
    """Return a self-contained HTML page, in light and dark, that needs no script to be read.

    The predictions are those of `predict_recordings` with `with_facts`.
    """
    shown = [one for one in predictions if one.timeline and one.facts][:MOST_RECORDINGS]
    names = [str(name) for name in (shown[0].classes.tolist() if shown else ())]
    return render(
        "drive.html",
        title=title,
        heading=title,
        classes=[(name, _color(place)) for place, name in enumerate(names)],
        drives=[_drive(one, names) for one in shown],
        n_left=len(predictions) - len(shown),
        most_spans=MOST_SPANS,
    )


def _drive(one: RecordingPrediction, names: list[str]) -> dict[str, Any]:
    facts, timeline = one.facts, one.timeline
    assert facts is not None
    assert timeline is not None
    length_s = max(facts.duration_s, timeline.spans[-1].end_s)

    def place(start_s: float, end_s: float, label: Any) -> dict[str, Any]:
        start_s, end_s = max(start_s, 0.0), min(end_s, length_s)
        return {
            "left": 100 * start_s / length_s,
            "width": 100 * max(end_s - start_s, 0.0) / length_s,
            "label": str(label),
            "color": _color(names.index(str(label))) if str(label) in names else "var(--line)",
            "words": f"{label}, {start_s:.1f} to {end_s:.1f} s",
        }

    drawn = [c for c in facts.channels.values() if c.n_known]
    return {
        "name": one.recording_id,
        "told": [place(span.start_s, span.end_s, span.label) for span in timeline.spans],
        "true": [
            place(span.start_s - one.begins_s, span.end_s - one.begins_s, span.label)
            for span in one.truth
        ],
        "ticks": [(100 * at / length_s, f"{at:g} s" if at else "0") for at in ticks(0.0, length_s)],
        "signals": [
            (f"{c.name} ({c.unit})" if c.unit else c.name, _picture(facts, c, length_s))
            for c in drawn[:MOST_CHANNELS]
        ],
        "n_more": max(len(drawn) - MOST_CHANNELS, 0),
        "spans": timeline.spans,
        "notes": one.notes,
    }


def _picture(facts: RecordingFacts, channel: ChannelFacts, length_s: float) -> Markup:
    low, high = float(np.nanmin(channel.envelope)), float(np.nanmax(channel.envelope))
    limits = (low, high) if high > low else (low - 1, high + 1)
    gaps = (channel.gaps_s - facts.start_s) / (facts.duration_s or 1.0)
    return Markup(
        f'<span class="signal" style="width:{100 * facts.duration_s / length_s:.2f}%">'
        f"{over_time(channel.envelope, limits, gaps, ((), ()), channel.name)}</span>"
    )


def _color(place: int) -> str:
    """Return the colour of a class; after those of the style sheet, evenly around the circle."""
    return f"var(--c{place})" if place < _N_COLORS else f"hsl({place * 137.5 % 360:.0f} 60% 50%)"
