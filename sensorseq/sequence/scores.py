"""Score predicted segments of classes over time against the true segments."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRIVE_SCORES = ("accuracy", "f1", "delay_s", "false_switches_per_h")
"""Fraction of time that is correct, F1 of segments, delay of switches, false switches per hour."""
SMALLEST_OVERLAP = 0.5  # minimum intersection over union of matching segments


class Segment(Protocol):
    """A segment of one class: a predicted `Span`, or a `LabelSpan` of a recording."""

    @property
    def start_s(self) -> float:
        """The start of the segment in seconds."""

    @property
    def end_s(self) -> float:
        """The end of the segment in seconds."""

    @property
    def label(self) -> Any:
        """The class of the segment."""


class DriveCounts(NamedTuple):
    """Counts from which scores are computed; the counts of several drives can be added."""

    scored_s: float  # seconds that have a true class and a prediction
    right_s: float
    n_told: float  # predicted segments
    n_true: float
    n_found: float
    n_switches: float  # true switches
    delay_s: float  # sum over the true switches
    n_false: float  # false predicted switches


def count_drive(
    predicted: Sequence[Segment], true: Sequence[Segment], tolerance_s: float
) -> DriveCounts:
    """Compare the predicted segments of a recording with the true segments, both in time order.

    A true segment is found if a predicted segment of its class has an intersection over union of at
    least 0.5 (C. Lea et al., *Temporal Convolutional Networks for Action Segmentation and
    Detection*, CVPR 2017, section 4.1). A predicted switch to a class is correct if it is the first
    switch to this class within a true segment of the class, or up to `tolerance_s` before the
    segment. All other switches are false. The delay of a true switch is the time until the new
    class is predicted, or the length of the segment if the class is not predicted within the
    segment.
    """
    scored_s = right_s = delay_s = 0.0
    n_found = n_switches = 0
    is_right = {0}  # the start of the first segment is not a switch
    unmatched = set(range(len(predicted)))
    overlaps = [_overlaps(predicted, segment) for segment in true]
    for place, (segment, shared) in enumerate(zip(true, overlaps, strict=True)):
        right = {at: s for at, s in shared.items() if predicted[at].label == segment.label}
        scored_s += sum(shared.values())
        right_s += sum(right.values())
        hits = [
            at
            for at, s in right.items()
            if at in unmatched and s >= _least_shared_s(predicted[at], segment, s)
        ]
        n_found += bool(hits)
        unmatched -= set(hits[:1])
        entry = _entry(predicted, segment, tolerance_s)
        if entry is not None:
            is_right.add(entry)
        if place and shared and true[place - 1].label != segment.label:
            n_switches += 1
            first_s = min((predicted[at].start_s for at in right), default=segment.end_s)
            delay_s += max(first_s - segment.start_s, 0.0)
    n_false = sum(
        at not in is_right and predicted[at].label != predicted[at - 1].label
        for at in range(len(predicted))
    )
    counts = scored_s, right_s, len(predicted), len(true), n_found, n_switches, delay_s, n_false
    return DriveCounts(*map(float, counts))


def _overlaps(predicted: Sequence[Segment], true: Segment) -> dict[int, float]:
    """Return how many seconds each overlapping predicted segment shares with a true segment."""
    shared = (
        (at, min(segment.end_s, true.end_s) - max(segment.start_s, true.start_s))
        for at, segment in enumerate(predicted)
    )
    return {at: seconds for at, seconds in shared if seconds > 0}


def _least_shared_s(predicted: Segment, true: Segment, shared_s: float) -> float:
    """Return how many seconds two segments must share to match."""
    union_s = predicted.end_s - predicted.start_s + true.end_s - true.start_s - shared_s
    return SMALLEST_OVERLAP * union_s


def _entry(predicted: Sequence[Segment], true: Segment, tolerance_s: float) -> int | None:
    """Return the index of the first predicted segment that detects the true segment, or None.

    The predicted segment has the true segment's class, and starts within the true segment or at
    most `tolerance_s` before its start.
    """
    for at, segment in enumerate(predicted):
        begins = true.start_s - tolerance_s <= segment.start_s < true.end_s
        if begins and segment.label == true.label:
            return at
    return None


def drive_scores(counts: Floats) -> dict[str, Floats]:
    """Compute `DRIVE_SCORES` from counts (..., 8); NaN if there is nothing to score."""
    at = dict(zip(DriveCounts._fields, np.moveaxis(np.asarray(counts), -1, 0), strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": at["right_s"] / at["scored_s"],
            "f1": 2 * at["n_found"] / (at["n_told"] + at["n_true"]),
            "delay_s": at["delay_s"] / at["n_switches"],
            "false_switches_per_h": 3600 * at["n_false"] / at["scored_s"],
        }
