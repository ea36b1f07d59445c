"""Windows whose labels look wrong, drawn small."""

from html import escape

import numpy as np

from sensorseq.fluctuation.cause_words import likely
from sensorseq.fluctuation.causes.cause import Suspect
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.curves import drawable
from sensorseq.fluctuation.figures import padded
from sensorseq.fluctuation.run import plural
from sensorseq.html.svg import extremes, sparkline

MOST = 24  # that are drawn
_CHANNELS = 6  # as many have a colour
_POINTS = 60  # stretches of a curve


def make_suspects(suspects: tuple[Suspect, ...]) -> str:
    """Return the section; nothing where there are none."""
    if not suspects:
        return ""
    shown = suspects[:MOST]
    spans = _spans(shown)
    pictures = "".join(_picture(suspect, spans) for suspect in shown)
    more = ""
    if len(suspects) > MOST:
        more = (
            f" The worst {MOST} of {len(suspects)} are drawn;"
            " <code>report.probes.suspects</code> has all."
        )
    return (
        "<section><h2>Windows whose labels look wrong</h2>"
        f"<p>{plural(len(suspects), 'training window')}, judged by networks that were not trained"
        f" on them, fit another class better. Whether the label is wrong, only a person can say:"
        f" nothing was deleted, and no label was changed.{more}</p>"
        f'<div class="examples">{pictures}</div>'
        f'<p class="small">Each channel has one scale in all pictures{_left_out(shown)}.</p>'
        "</section>"
    )


def _picture(suspect: Suspect, spans: list[tuple[float, float]]) -> str:
    channels = [
        _thinned((drawable(values) - low) / (high - low))
        for values, (low, high) in zip(suspect.values, spans, strict=False)
    ]
    drawn = [channel for channel in channels if np.isfinite(channel).any()]
    title = f"window {suspect.row}"
    picture = sparkline(drawn, (0.0, 1.0), title) if drawn else ""
    where = f"row {suspect.row} of those given to fit"
    if suspect.recording is not None:
        where += f", of {suspect.recording}"
    if suspect.start_s is not None and np.isfinite(suspect.start_s):
        where += f" from {suspect.start_s:.1f} s on"
    share = likely(suspect.probability)
    chance = f"; {share} for its own label" if share else ""
    return (
        f"<figure>{picture}<figcaption><strong>{escape(suspect.label)}</strong>, but looks like"
        f" <strong>{escape(suspect.rival)}</strong>{escape(chance)}<br>{escape(where)}</figcaption>"
        "</figure>"
    )


def _spans(suspects: tuple[Suspect, ...]) -> list[tuple[float, float]]:
    """Return what each channel spans over all windows that are drawn."""
    spans = []
    for channel in range(min(_CHANNELS, max(len(suspect.values) for suspect in suspects))):
        parts = [s.values[channel] for s in suspects if len(s.values) > channel]
        values = np.concatenate([drawable(part) for part in parts])
        values = values[np.isfinite(values)]
        spans.append(padded(values) if values.size else (0.0, 1.0))
    return spans


def _thinned(values: Floats) -> Floats:
    return np.asarray(values[extremes(values, _POINTS)])


def _left_out(suspects: tuple[Suspect, ...]) -> str:
    most = max(len(suspect.values) for suspect in suspects)
    return f"; the first {_CHANNELS} of {most} are drawn" if most > _CHANNELS else ""
