"""Score predicted class segments over time against the true ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRIVE_SCORES = ("accuracy", "f1", "delay_s", "false_switches_per_h")
"""Share of the time that is right; F1 of stretches; delay of a switch; false switches an hour."""
SMALLEST_OVERLAP = 0.5  # intersection over union at which a segment matches a true one


class Stretch(Protocol):
    """A segment of one class, such as a `Span`."""

    @property
    def start_s(self) -> float:
        """Its start in seconds."""

    @property
    def end_s(self) -> float:
        """Its end in seconds."""

    @property
    def label(self) -> Any:
        """Its class."""


class DriveCounts(NamedTuple):
    """Counts from which a drive's scores are computed; those of several drives are added."""

    scored_s: float  # seconds with a true class and a prediction
    right_s: float
    n_told: float  # predicted segments
    n_true: float
    n_found: float
    n_switches: float  # true switches
    delay_s: float  # mean over the true switches
    n_false: float  # false predicted switches


def count_drive(
    told: Sequence[Stretch], true: Sequence[Stretch], tolerance_s: float
) -> DriveCounts:
    """Compare the predicted segments of a recording with the true ones, both in time order.

    A true segment is found if a predicted one of its class has an intersection over union of at
    least 0.5 (C. Lea et al., *Temporal Convolutional Networks for Action Segmentation and
    Detection*, CVPR 2017, section 4.1). A predicted switch to a class is correct if it is the first
    one from `tolerance_s` before a true segment of the class until its end; all others are false.
    The delay of a true switch is the time until the new class is predicted, or the whole segment if
    it never is.
    """
    scored_s = right_s = delay_s = 0.0
    n_found = n_switches = 0
    is_right = {0}  # the start of the first segment is not a switch
    free = set(range(len(told)))
    overlaps = [_overlaps(told, one) for one in true]
    for place, (one, shared) in enumerate(zip(true, overlaps, strict=True)):
        own = {at: s for at, s in shared.items() if told[at].label == one.label}
        scored_s += sum(shared.values())
        right_s += sum(own.values())
        hits = [at for at, s in own.items() if at in free and s >= _needed(told[at], one, s)]
        n_found += bool(hits)
        free -= set(hits[:1])
        entry = _entry(told, one, tolerance_s)
        if entry is not None:
            is_right.add(entry)
        if place and shared and true[place - 1].label != one.label:
            n_switches += 1
            first_s = min((told[at].start_s for at in own), default=one.end_s)
            delay_s += max(first_s - one.start_s, 0.0)
    n_false = sum(
        at not in is_right and told[at].label != told[at - 1].label for at in range(len(told))
    )
    counts = scored_s, right_s, len(told), len(true), n_found, n_switches, delay_s, n_false
    return DriveCounts(*map(float, counts))


def _overlaps(told: Sequence[Stretch], one: Stretch) -> dict[int, float]:
    """Return the seconds that each predicted segment shares with true ones, if any."""
    shared = (
        (at, min(other.end_s, one.end_s) - max(other.start_s, one.start_s))
        for at, other in enumerate(told)
    )
    return {at: seconds for at, seconds in shared if seconds > 0}


def _needed(one: Stretch, other: Stretch, shared_s: float) -> float:
    either_s = one.end_s - one.start_s + other.end_s - other.start_s - shared_s
    return SMALLEST_OVERLAP * either_s


def _entry(told: Sequence[Stretch], one: Stretch, tolerance_s: float) -> int | None:
    """Return the first predicted segment of a true one's class that starts in it or just before."""
    for at, other in enumerate(told):
        begins = one.start_s - tolerance_s <= other.start_s < one.end_s
        if begins and other.label == one.label:
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
