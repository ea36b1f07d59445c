"""Grades and outcomes as a word with an icon: neither is told by its colour alone."""

from html import escape

_RING = "M8 1.8a6.2 6.2 0 1 0 .01 0z"
_ICONS = {
    "observed": f"{_RING}M8 8v.1",
    "supported": f"{_RING}M5 8h6",
    "proved": f"{_RING}M5 8.2l2.2 2.3 3.9-5",
    "repaired": f"{_RING}M4 8.2l1.9 2.1 3.2-4.4M8 10.1l.5.4 3.4-4.6",
    "rejected": f"{_RING}M5.7 5.7l4.6 4.6m0-4.6l-4.6 4.6",
    "undecided": f"{_RING}M6 6.4a2 2 0 1 1 2.7 1.9c-.5.2-.7.5-.7 1m0 2.1v.1",
}
_ICONS |= {"confirmed": _ICONS["proved"], "not proved": _ICONS["undecided"]}
_COLOURS = {
    "proved": "good",
    "repaired": "good",
    "confirmed": "good",
    "supported": "wait",
    "undecided": "wait",
    "not proved": "wait",
}


def mark(word: str) -> str:
    """Return a grade or an outcome, the icon before the word."""
    return f'<span class="mark {colour_of(word)}">{_icon(word)}{escape(word)}</span>'


def colour_of(word: str) -> str:
    """Return the class that colours it: ``"good"``, ``"wait"`` or ``"neutral"``."""
    return _COLOURS.get(word, "neutral")


def _icon(word: str) -> str:
    path = _ICONS.get(word, _RING)
    return f'<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d="{path}"/></svg>'
