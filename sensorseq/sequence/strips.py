"""Draw strips of classes over time for pages and notebooks."""

from collections.abc import Hashable, Sequence
from typing import Any

from markupsafe import Markup

from sensorseq.html.render import render
from sensorseq.html.svg import tick_words, ticks
from sensorseq.sequence.scores import Segment

MOST_RECORDINGS, MOST_SPANS = 60, 400
_N_COLORS = 6  # number of colors in the style sheet


def make_strips(
    template: str,
    classes: Sequence[Any],
    drives: Sequence[dict[str, Any]],
    *,
    title: str = "",
    n_left: int = 0,
) -> str:
    """Return a page ("drive.html") or a notebook fragment ("timeline.html") with strips."""
    return render(
        template,
        title=title,
        heading=title,
        strips={"classes": named_colors(classes), "drives": drives, "n_left": n_left},
        most_spans=MOST_SPANS,
    )


def named_colors(classes: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the name and the color of each class."""
    return [(str(name), _color(place)) for place, name in enumerate(classes)]


def strip_of(
    name: Hashable,
    predicted: Sequence[Segment],
    true: Sequence[Segment],
    classes: Sequence[Any],
    *,
    true_begins_s: float = 0.0,
    until_s: float = 0.0,
    signals: Sequence[tuple[str, Markup]] = (),
    n_more: int = 0,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the template values for one recording.

    The strip extends from 0 to `until_s`, or to the end of the last segment if that is later. The
    strip begins with the first segment instead if this segment begins before 0 or in the second
    half. `true_begins_s` is the time when the recording begins, on the clock of the true segments.
    """
    colors = dict(named_colors(classes))
    first_s = min((segment.start_s for segment in predicted), default=0.0)
    until_s = max(until_s, *(segment.end_s for segment in predicted), first_s + 1e-3)
    begins_s = 0.0 if 0 <= first_s < until_s / 2 else first_s
    length_s = until_s - begins_s

    def place(segment: Segment, shift_s: float = 0.0) -> dict[str, Any]:
        start_s, end_s = (
            min(max(at - shift_s, begins_s), until_s) for at in (segment.start_s, segment.end_s)
        )
        return {
            "left": 100 * (start_s - begins_s) / length_s,
            "width": 100 * max(end_s - start_s, 0.0) / length_s,
            "label": str(segment.label),
            "color": colors.get(str(segment.label), "var(--line)"),
            "words": f"{segment.label}, {start_s:.1f} to {end_s:.1f} s",
        }

    return {
        "name": name,
        "predicted": [place(segment) for segment in predicted],
        "true": [place(segment, true_begins_s) for segment in true],
        "limits": (begins_s, until_s),
        "ticks": [
            (100 * (at - begins_s) / length_s, f"{tick_words(at)} s" if at else "0")
            for at in ticks(begins_s, until_s)
        ],
        "signals": signals,
        "n_more": n_more,
        "spans": predicted,
        "notes": notes,
    }


def _color(place: int) -> str:
    """Return the color of a class; beyond the style sheet's colors, hues are computed."""
    return f"var(--c{place})" if place < _N_COLORS else f"hsl({place * 137.5 % 360:.0f} 60% 50%)"
