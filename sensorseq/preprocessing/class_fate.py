"""What became of each class when recordings were cut, and the error when one is lost."""

from collections.abc import Iterable, Mapping
from typing import Any

from sensorseq.errors import WindowError

Fate = Mapping[str, Any]
"""In plain values, for a file: ``label``; ``n_windows`` it has; ``longest_s``, of the recordings,
pieces or label spans it has; ``best_share`` of a window's samples that it has, None under the rule
whole; ``in_spans``, whether windows were cut inside spans of it."""


def merge_fates(fates: Iterable[Fate]) -> list[Fate]:
    """Return one fate for each class, in the order they come, of recordings cut one by one."""
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
    """Raise when a class has no window left, and say what removed them.

    Parameters
    ----------
    fates : iterable of dict
        ``provenance["classes"]`` of `window_recordings`; of recordings that were cut one by one,
        those of all of them.
    window_s, label_rule, min_purity
        As in `window_recordings`.

    Raises
    ------
    WindowError
        Naming the class, why it is lost, and how near it came.
    """
    lost = [fate for fate in merge_fates(fates) if not fate["n_windows"]]
    if not lost:
        return
    fate = min(lost, key=lambda fate: str(fate["label"]))
    seconds, share = fate["longest_s"], fate["best_share"]
    way = "Use a shorter window_s"
    if share and label_rule == "majority":
        why = (
            f"no window has it as its majority label with min_purity={min_purity:g}; the purest has"
            f" it in {share:.3g} of its samples"
        )
        way = "Use a lower min_purity, a shorter window_s, label_rule='whole'"
    elif share:
        where = "middle" if label_rule == "centre" else "last"
        why = f"no window has it at its {where} sample"
        way = "Use a shorter hop_s, a shorter window_s, label_rule='whole'"
    elif fate["in_spans"]:
        why = (
            f"every label span of it is shorter than window_s={window_s:g}; the longest has"
            f" {seconds:g} s"
            if seconds
            else "no sample lies in a label span of it"
        )
    elif share is None or seconds < window_s:
        why = f"every recording is shorter than window_s={window_s:g}"
    else:
        why = "no window holds a sample of it"
    raise WindowError(f"class {fate['label']!r}: {why}. {way}, or leave the class out.")
