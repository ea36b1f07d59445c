"""Learn from labeled recordings how long classes last and how they follow each other."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.sequence.timeline import spans_by_recording, timeline_of


class LearnedDwell(TypedDict):
    """Mean duration of each class in seconds, and frequency of each transition (row to column)."""

    mean_s: list[float]
    follows: list[list[float]]


def learn_dwell(
    class_index: NDArray[np.int64],
    classes: Sequence[Any],
    start_s: ArrayLike,
    window_s: float,
    recording_id: NDArray[Any],
) -> LearnedDwell | None:
    """Learn dwell times and transitions; return None if no recording has several classes.

    Copies of a window, which have the same start, count only once.

    As a prior, each class gets one additional segment and one additional switch. The segment's
    duration is the total time divided by the number of switches; the switch is divided equally
    among the other classes. Therefore, even unobserved transitions have a probability above 0.
    """
    k = len(classes)
    names, recording = np.unique(recording_id, return_inverse=True)
    is_present = np.zeros((len(names), k), bool)
    is_present[recording, class_index] = True
    rows = np.flatnonzero(is_present.sum(axis=1)[recording] > 1)
    if not len(rows):
        return None
    start = np.asarray(start_s, np.float64)
    _, first = np.unique([recording[rows], start[rows]], axis=1, return_index=True)
    rows = rows[first]
    made = timeline_of(
        np.eye(k)[class_index[rows]],
        np.arange(k),
        start[rows],
        window_s,
        recording[rows],
        smooth="none",
    )
    seconds, follows = np.zeros(k), np.zeros((k, k))
    for spans in spans_by_recording(made.spans).values():
        for span in spans:
            seconds[span.label] += span.end_s - span.start_s
        for span, following in zip(spans, spans[1:]):
            if span.label != following.label:
                follows[span.label, following.label] += 1
    exits = follows.sum(axis=1)
    mean_s = (seconds + seconds.sum() / exits.sum()) / (exits + 1)
    follows += (1 - np.eye(k)) / (k - 1)
    return {
        "mean_s": np.maximum(mean_s, window_s).tolist(),
        "follows": follows.tolist(),
    }
