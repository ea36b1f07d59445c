"""The page of predictions over time, with a strip of classes above the signals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from sensorseq.evaluation.predict import RecordingPrediction
from sensorseq.html.svg import over_time
from sensorseq.inspection.facts import ChannelFacts, RecordingFacts
from sensorseq.sequence.page import MOST_RECORDINGS, draw, make_strips

MOST_CHANNELS = 8


def make_drive_page(predictions: Sequence[RecordingPrediction], *, title: str) -> str:
    """Return a self-contained HTML page in light and dark that is readable without scripts.

    The predictions come from `predict_recordings` with `with_facts`.
    """
    shown = [one for one in predictions if one.timeline and one.facts][:MOST_RECORDINGS]
    classes = shown[0].classes.tolist() if shown else []
    drives = [_draw(one, classes) for one in shown]
    n_left = len(predictions) - len(shown)
    return make_strips("drive.html", classes, drives, title=title, n_left=n_left)


def _draw(one: RecordingPrediction, classes: list[Any]) -> dict[str, Any]:
    facts, timeline = one.facts, one.timeline
    assert facts is not None
    assert timeline is not None
    length_s = max(facts.duration_s, timeline.spans[-1].end_s)
    drawn = [c for c in facts.channels.values() if c.n_known]
    return draw(
        one.recording_id,
        timeline.spans,
        one.truth,
        classes,
        true_begins_s=one.begins_s,
        until_s=length_s,
        signals=[
            (f"{c.name} ({c.unit})" if c.unit else c.name, _picture(facts, c, length_s))
            for c in drawn[:MOST_CHANNELS]
        ],
        n_more=max(len(drawn) - MOST_CHANNELS, 0),
        notes=one.notes,
    )


def _picture(facts: RecordingFacts, channel: ChannelFacts, length_s: float) -> Markup:
    low, high = float(np.nanmin(channel.envelope)), float(np.nanmax(channel.envelope))
    limits = (low, high) if high > low else (low - 1, high + 1)
    gaps = (channel.gaps_s - facts.start_s) / (facts.duration_s or 1.0)
    return Markup(
        f'<span class="signal" style="width:{100 * facts.duration_s / length_s:.2f}%">'
        f"{over_time(channel.envelope, limits, gaps, ((), ()), channel.name)}</span>"
    )
