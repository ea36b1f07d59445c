"""Choose the labels of windows if a recording's label changes; reject classes without windows."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import WindowError
from sensorseq.recording import LabelSpan, Recording
from sensorseq.stamps.period import resolution_s

LABEL_RULES = ("whole", "majority", "centre", "last")
MIN_PURITY = 0.5  # default fraction for a majority
UNLABELED = ""  # label of a window that is kept without a label

# Whether a sample belongs to a span depends on its timestamp. Because timestamps are rounded, the
# start and the end of a span are moved earlier by this fraction of a period, or by twice the
# resolution of the timestamps if that is more.
_ROUNDING_PERIODS = 1e-6
_NO_LABEL = -1


@dataclass(frozen=True)
class Stretch:
    """The samples `first` to `stop - 1` of a piece, from which windows may be cut.

    `label` applies to all windows from these samples. It is None if there is no label, or if each
    window has its own label.
    """

    first: int
    stop: int
    label: Any = None

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self.stop - self.first


@dataclass(frozen=True)
class ChosenLabels:
    """The class index of each window under a label rule, or -1 and the reason if there is none.

    `best_share` (n_classes,) is the largest fraction that each class makes up in any window.
    """

    codes: NDArray[np.int64]
    reasons: NDArray[Any]
    best_share: NDArray[np.float64]


def stretches_of(piece: Recording, sample_rate_hz: float, label_rule: str) -> list[Stretch]:
    """Return the intervals of a piece from which windows may be cut, in order of time.

    Under ``"whole"``, each label span and each gap between spans is a separate interval, so that no
    window has two labels. Under the other rules, the piece is one interval.
    """
    if label_rule != "whole" or not piece.label_spans:
        return [Stretch(0, piece.n_samples, piece.label)]
    stretches = []
    at = 0
    for span, first, stop in _spans_in_samples(piece, sample_rate_hz):
        if first > at:
            stretches.append(Stretch(at, first))
        if stop > first:
            stretches.append(Stretch(first, stop, span.label))
        at = max(at, stop)
    if at < piece.n_samples or not stretches:
        stretches.append(Stretch(at, piece.n_samples))
    return stretches


def choose_labels(
    piece: Recording,
    sample_rate_hz: float,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    classes: list[Any],
    label_rule: str,
    min_purity: float,
) -> ChosenLabels:
    """Choose the label of each window by the rule ``"majority"``, ``"centre"`` or ``"last"``.

    `starts` and `lengths` (n_windows,) are each window's first sample and number of valid samples.
    """
    spans = _spans_in_samples(piece, sample_rate_hz)
    if piece.label is not None:
        spans = [(LabelSpan(0.0, 1.0, piece.label), 0, piece.n_samples)]
    span_codes = np.array([classes.index(span.label) for span, _, _ in spans], np.int64)
    firsts, stops = (np.array([ends[i] for ends in spans], np.int64) for i in (1, 2))
    chosen = np.full(len(starts), _NO_LABEL, np.int64)
    reasons = np.full(len(starts), None, object)
    best_share = np.zeros(len(classes))
    if not len(starts):
        return ChosenLabels(chosen, reasons, best_share)
    largest, second = np.zeros(len(starts), np.int64), np.zeros(len(starts), np.int64)
    majority = chosen.copy()
    # Process one class at a time, because counts for all samples and classes need a lot of memory.
    for code in range(len(classes)):
        of_class = span_codes == code
        counts = _n_within(starts + lengths, firsts[of_class], stops[of_class]) - _n_within(
            starts, firsts[of_class], stops[of_class]
        )
        best_share[code] = (counts / lengths).max()
        is_larger = counts > largest
        second = np.where(is_larger, largest, np.maximum(second, counts))
        majority[is_larger] = code
        largest = np.maximum(largest, counts)
    if label_rule == "majority":
        chosen = majority
        impure = largest < min_purity * lengths - 1e-9 * lengths
        tied = (largest == second) & ~impure
        reasons[tied] = "two labels are equally frequent"
        reasons[impure] = f"purity below {min_purity:g}"
        reasons[largest == 0] = "no label"
        chosen[impure | tied] = _NO_LABEL
    else:
        at = starts + (lengths // 2 if label_rule == "centre" else lengths - 1)
        span_at = np.searchsorted(stops, at, side="right")  # spans are sorted
        inside = np.append(firsts, piece.n_samples + 1)[span_at] <= at
        chosen = np.where(inside, np.append(span_codes, _NO_LABEL)[span_at], _NO_LABEL)
        where = "middle" if label_rule == "centre" else "last"
        reasons[chosen == _NO_LABEL] = f"no label at the {where} sample"
    return ChosenLabels(chosen, reasons, best_share)


def _n_within(
    rows: NDArray[np.int64], firsts: NDArray[np.int64], stops: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count, for each row, how many of the samples before it are in the sorted intervals."""
    before = np.concatenate([[0], np.cumsum(stops - firsts)])
    begun = np.searchsorted(firsts, rows)
    last = np.maximum(begun - 1, 0)
    inside = np.minimum(rows, stops[last]) - firsts[last] if len(firsts) else 0
    return np.where(begun > 0, before[last] + inside, 0)


def empty_spans(pieces: list[Recording], sample_rate_hz: float) -> list[tuple[str, Any, float]]:
    """Return the recording id, label and start of each label span without a sample in any piece."""
    spans = {piece.recording_id: piece.label_spans for piece in pieces}
    met: dict[str, set[LabelSpan]] = {name: set() for name in spans}
    for piece in pieces:
        met[piece.recording_id] |= {
            span for span, first, stop in _spans_in_samples(piece, sample_rate_hz) if stop > first
        }
    return [
        (name, span.label, span.start_s)
        for name, recording_spans in spans.items()
        for span in recording_spans
        if span not in met[name]
    ]


class _Times(Sequence[float]):
    """The starts or ends of spans, read only where a search needs them."""

    def __init__(self, spans: Sequence[LabelSpan], name: str) -> None:
        self._spans, self._name = spans, name

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, at: Any) -> Any:
        return getattr(self._spans[at], self._name)


def _spans_in_samples(piece: Recording, sample_rate_hz: float) -> list[tuple[LabelSpan, int, int]]:
    """Return each span that overlaps the piece, its first sample, and the first sample after it."""
    t, spans = piece.timestamps_s, piece.label_spans
    if not len(t) or not spans:
        return []
    early_s = max(_ROUNDING_PERIODS / sample_rate_hz, 2 * resolution_s(t))
    # A long recording has many pieces and spans, so consider only overlapping spans.
    begin = bisect_right(_Times(spans, "end_s"), t[0] + early_s)
    end = bisect_right(_Times(spans, "start_s"), t[-1] + early_s)
    near = spans[begin:end]
    edges_s = np.reshape([[span.start_s, span.end_s] for span in near], (-1, 2))
    at = np.searchsorted(t, edges_s - early_s)
    return [(span, int(first), int(stop)) for span, (first, stop) in zip(near, at)]


Fate = Mapping[str, Any]
"""Facts about the class ``label``, as plain values that can be stored in a file. ``n_windows`` is
the number of windows of the class. ``longest_s`` is the duration of the longest recording, piece or
label span of the class. ``best_share`` is the largest fraction that the class makes up in any
window (None for the rule whole). ``in_spans`` is True if windows were cut inside label spans of the
class. ``bridging_gap_s`` is a `max_gap_s` with which pieces of the class are long enough, or 0."""


def merge_fates(fates: Iterable[Fate]) -> list[Fate]:
    """Merge fates from recordings that were cut one by one, so that each class has one fate.

    The classes are in the order of their first appearance.
    """
    of_label: dict[Any, list[Fate]] = {}
    for fate in fates:
        of_label.setdefault(fate["label"], []).append(fate)
    return [
        {
            "label": label,
            "n_windows": sum(fate["n_windows"] for fate in class_fates),
            "longest_s": max(fate["longest_s"] for fate in class_fates),
            "best_share": max(
                (fate["best_share"] for fate in class_fates if fate["best_share"] is not None),
                default=None,
            ),
            "in_spans": any(fate["in_spans"] for fate in class_fates),
            "bridging_gap_s": max(fate["bridging_gap_s"] for fate in class_fates),
        }
        for label, class_fates in of_label.items()
    ]


def check_class_fates(
    fates: Iterable[Fate], *, window_s: float, label_rule: str, min_purity: float | None
) -> None:
    """Raise an error if a class has no windows; the message gives the reason and a remedy."""
    lost = [fate for fate in merge_fates(fates) if not fate["n_windows"]]
    if not lost:
        return
    fate = min(lost, key=lambda fate: str(fate["label"]))
    seconds, share = fate["longest_s"], fate["best_share"]
    way = "Use a shorter window_s"
    if share and label_rule == "majority":
        why = (
            f"it is not the majority label of any window with min_purity={min_purity:g}; it"
            f" makes up at most {share:.3g} of a window"
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
    elif (share is None or seconds < window_s) and (gap_s := fate["bridging_gap_s"]):
        why = (
            f"gaps cut its recordings into pieces shorter than window_s={window_s:g}; the longest"
            f" lasts {seconds:g} s"
        )
        way = f"Use max_gap_s={gap_s:g}, which bridges the gaps, or a shorter window_s"
    elif share is None or seconds < window_s:
        why = (
            f"all its recordings are shorter than window_s={window_s:g}; the longest lasts"
            f" {seconds:g} s"
        )
    else:
        why = "no window contains a sample with this label"
    raise WindowError(f"class {fate['label']!r} has no windows: {why}. {way}, or omit the class.")
