"""The outcome of windowing for each class, and the error when a class loses all windows."""

from collections.abc import Iterable, Mapping
from typing import Any

from sensorseq.errors import WindowError

Fate = Mapping[str, Any]
"""Plain values, for a file: ``label``; ``n_windows``, its number of windows; ``longest_s``, its
longest recording, piece or label span; ``best_share``, its largest share of a window's samples,
None under the rule whole; ``in_spans``, whether windows were cut inside its label spans."""


def merge_fates(fates: Iterable[Fate]) -> list[Fate]:
    """Merge the fates of recordings cut one by one: one for each class, in order of appearance."""
    of_label: dict[Any, list[Fate]] = {}
    for fate in fates:
        of_label.setdefault(fate["label"], []).append(fate)
    return [
        {
            "label": label,
            "n_windows": sum(fate["n_windows"] for fate in own),
            "longest_s": max(fate["longest_s"] for fate in own),
            "best_share": max(
                (fate["best_share"] for fate in own if fate["best_share"] is not None),
                default=None,
            ),
            "in_spans": any(fate["in_spans"] for fate in own),
        }
        for label, own in of_label.items()
    ]


def check_class_fates(
    fates: Iterable[Fate], *, window_s: float, label_rule: str, min_purity: float | None
) -> None:
    """Raise if a class has no windows, with the reason.

    Parameters
    ----------
    fates : iterable of dict
        ``provenance["classes"]`` of `window_recordings`; for recordings cut one by one, those of
        all of them.
    window_s, label_rule, min_purity
        As in `window_recordings`.

    Raises
    ------
    WindowError
        Names the class, the reason, and how close it came.
    """
    lost = [fate for fate in merge_fates(fates) if not fate["n_windows"]]
    if not lost:
        return
    fate = min(lost, key=lambda fate: str(fate["label"]))
    seconds, share = fate["longest_s"], fate["best_share"]
    way = "Use a shorter window_s"
    if share and label_rule == "majority":
        why = (
            f"it is not the majority label of any window with min_purity={min_purity:g}; its"
            f" largest share of a window is {share:.3g}"
        )
        way = "Use a lower min_purity, a shorter window_s or label_rule='whole'"
    elif share:
        where = "middle" if label_rule == "centre" else "last"
        why = f"no window has this label at its {where} sample"
        way = "Use a shorter hop_s, a shorter window_s or label_rule='whole'"
    elif fate["in_spans"]:
        why = (
            f"all its label spans are shorter than window_s={window_s:g}; the longest lasts"
            f" {seconds:g} s"
            if seconds
            else "its label spans contain no samples"
        )
    elif share is None or seconds < window_s:
        why = f"all its recordings are shorter than window_s={window_s:g}"
    else:
        why = "no window contains a sample with this label"
    raise WindowError(f"class {fate['label']!r} has no windows: {why}. {way}, or leave it out.")
