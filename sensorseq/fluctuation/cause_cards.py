"""The causes on a page: a card each, the likeliest first, those that were excluded folded away."""

from collections.abc import Mapping
from html import escape
from typing import Any

from sensorseq.fluctuation.cause_words import GRADES, call, likely
from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.table import UNKNOWN
from sensorseq.fluctuation.marks import colour_of, mark
from sensorseq.fluctuation.run import plural


def make_cards(
    causes: tuple[Cause, ...],
    pictures: list[str] | None = None,
    fix: Mapping[str, Any] | None = None,
) -> str:
    """Return the causes; nothing where there are none.

    Parameters
    ----------
    causes : tuple of Cause
        The likeliest first.
    pictures : list of str, optional
        A figure for each, empty for those without.
    fix : dict, optional
        Arguments that the page recommends as a whole elsewhere: a cause that only asks for these
        does not repeat them.
    """
    pictures = pictures or [""] * len(causes)
    fix = fix or {}
    told: list[str] = []
    n_ranked = 0
    excluded: list[str] = []
    for cause, picture in zip(causes, pictures, strict=True):
        if cause.grade == "rejected":
            excluded.append(_card(cause, "", "", fix))
        else:
            n_ranked += cause.name != UNKNOWN  # it is no candidate, but what they leave
            rank = "" if cause.name == UNKNOWN else f"{n_ranked}. "
            told.append(_card(cause, rank, picture, fix))
    parts = []
    if told:
        parts.append(f'<ol class="causes">{"".join(told)}</ol>')
    if excluded:
        words = f"{plural(len(excluded), 'cause')} looked at and rejected"
        parts.append(
            f"<details><summary>{words}</summary>"
            f'<ul class="causes">{"".join(excluded)}</ul></details>'
        )
    return "".join(parts) + _grades(causes)


def _card(cause: Cause, rank: str, picture: str, fix: Mapping[str, Any]) -> str:
    sure = likely(cause.confidence)
    chance = ""
    if sure and cause.grade != "rejected":
        width = min(max(100 * cause.confidence, 0.0), 100.0)
        what = "likely to be none of those listed" if cause.name == UNKNOWN else "likely"
        chance = (
            f'<span class="chance">{escape(sure)} {what}</span>'
            f'<span class="bar" aria-hidden="true"><span style="width:{width:.0f}%"></span></span>'
        )
    words = [f"<p>{escape(cause.evidence.replace('+-', '±'))}</p>" if cause.evidence else ""]
    if cause.grade != "rejected":
        words += _repair(cause, fix)
    return (
        f'<li class="cause {colour_of(cause.grade)}"><h3>{rank}{escape(cause.title)}</h3>'
        f'<div class="grade">{mark(cause.grade)}{chance}</div>'
        f'<div class="told"><div>{"".join(words)}</div>{picture}</div></li>'
    )


def _repair(cause: Cause, fix: Mapping[str, Any]) -> list[str]:
    words = []
    is_elsewhere = bool(cause.recommendation) and all(name in fix for name in cause.recommendation)
    if is_elsewhere:
        words.append("<p>Repair: see “What to change”.</p>")
    elif cause.recommendation:
        words.append(f"<p>Would repair it: <code>{escape(call(cause.recommendation))}</code></p>")
    if not is_elsewhere:
        words.append(as_well(cause.alternatives))
    if cause.advice:
        words.append(f"<p>{escape(cause.advice)}</p>")
    return words


def as_well(alternatives: tuple[Mapping[str, Any], ...]) -> str:
    """Return other repairs as a sentence; nothing where there are none."""
    calls = " or ".join(f"<code>{escape(call(part))}</code>" for part in alternatives if part)
    return f"<p>Would repair it as well: {calls}</p>" if calls else ""


def _grades(causes: tuple[Cause, ...]) -> str:
    there = {cause.grade for cause in causes}
    words = " ".join(
        f"<span><strong>{grade}</strong>: {escape(meaning)}.</span>"
        for grade, meaning in GRADES.items()
        if grade in there
    )
    return f'<p class="small">{words}</p>' if words else ""
