"""Score drives (recordings whose class changes) by single windows, majority vote and smoothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.evaluation.calibration import (
    N_RESAMPLES,
    Interval,
    index_of,
    percentile_interval,
    plain_interval,
    resampling_weights,
)
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.sensor_windows import AnyWindows
from sensorseq.sequence import Span, Timeline, timeline_of
from sensorseq.sequence.scores import DRIVE_SCORES, count_drive, drive_scores
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.sequence.timeline import spans_by_recording
from sensorseq.windows import iter_recordings

Floats = NDArray[np.float64]


USUAL_SMOOTHING = Smoothing()


@dataclass(frozen=True, eq=False)
class DriveScores:
    """Scores of one decision method, with 95 % intervals from resampling whole groups."""

    scores: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            name: {
                "value": value if np.isfinite(value) else None,
                "interval": plain_interval(self.intervals[name]),
            }
            for name, value in self.scores.items()
        }


@dataclass(frozen=True, eq=False)
class DriveEvaluation:
    """How well class segments are found in recordings that have several classes.

    `scores` contains the scores of single windows, of the majority of `n_votes` windows, and of the
    smoothed timeline `predicted`, in this order. `true` is the timeline of the true classes of the
    same windows.
    """

    scores: Mapping[str, DriveScores]
    predicted: Timeline
    true: Timeline
    n_votes: int
    n_recordings: int  # recordings with several classes

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as plain values."""
        return {
            "smooth": self.predicted.smooth,
            "n_votes": self.n_votes,
            "n_recordings": self.n_recordings,
            "scores": {name: method.to_dict() for name, method in self.scores.items()},
        }


def evaluate_drives(
    windows: AnyWindows,
    probability: Floats,
    classes: NDArray[Any],
    smoothing: Smoothing = USUAL_SMOOTHING,
    *,
    class_shares: ArrayLike | None = None,
    seed: int = 0,
) -> DriveEvaluation | None:
    """Score predictions over time; return None if no recording has several classes.

    Parameters
    ----------
    windows : WindowSet, or windows of several sensors
        Windows with labels, recordings and start times.
    probability : ndarray of shape (n, k)
    classes : ndarray of shape (k,)
    smoothing : Smoothing, optional
        The majority vote is over ``2 * lag + 1`` windows. With ``"filter"``, the current window is
        the last of these windows; with the other methods, it is the middle one.
    class_shares : array-like of shape (k,) or (n, k), optional
        As in `timeline_of`.
    seed : int, default=0
        Seed of the resampling.
    """
    window_s = windows.window_s
    if windows.recording_id is None or windows.start_s is None or windows.y is None or not window_s:
        return None
    ids = np.asarray(windows.recording_id)
    several = {name for name, rows in iter_recordings(ids) if len(np.unique(windows.y[rows])) > 1}
    if not several:
        return None
    timeline = partial(
        timeline_of,
        classes=classes,
        start_s=windows.start_s,
        window_s=window_s,
        recording_id=ids,
        hop_s=PreparationOptions.recorded(windows.provenance).hop_s,
    )
    lag = smoothing.n_waited
    if smoothing.smooth != "lag":  # only the majority vote uses the lag
        smoothing = smoothing._replace(lag=None)
    n_before, n_after = (2 * lag, 0) if smoothing.smooth == "filter" else (lag, lag)
    certain = np.eye(len(classes))
    votes = np.empty_like(probability)
    for rows in rows_in_time_order(ids, windows.start_s):
        votes[rows] = majority_vote(probability[rows], n_before, n_after)
    smoothed = timeline(probability, class_shares=class_shares, smooth=smoothing)
    true = timeline(certain[index_of(windows.y, classes)], smooth="none")
    methods = {
        "single windows": timeline(probability, smooth="none"),
        "majority vote": timeline(votes, smooth="none"),
        "smoothed": smoothed,
    }
    groups = ids if windows.groups is None else np.asarray(windows.groups)
    group_of = dict(zip(ids.tolist(), groups.tolist(), strict=True))
    scores = {
        name: score_spans(decided.spans, true.spans, window_s, group_of.__getitem__, seed=seed)
        for name, decided in methods.items()
    }
    return DriveEvaluation(scores, smoothed, true, n_before + n_after + 1, len(several))


def score_spans(
    predicted: tuple[Span, ...],
    true: tuple[Span, ...],
    tolerance_s: float,
    group_of: Callable[[Any], Any] = lambda recording_id: recording_id,
    *,
    seed: int = 0,
) -> DriveScores:
    """Score the segments of recordings, with intervals from resampling whole groups."""
    counts: dict[Any, Floats] = {}
    of_recording = spans_by_recording(predicted)
    for name, spans in spans_by_recording(true).items():
        counted = np.array(count_drive(of_recording.get(name, []), spans, tolerance_s))
        counts[group_of(name)] = counts.get(group_of(name), 0.0) + counted
    every = np.array(list(counts.values()))
    drawn = drive_scores(resampling_weights(len(every), N_RESAMPLES, seed) @ every)
    return DriveScores(
        {name: float(value) for name, value in drive_scores(every.sum(axis=0)).items()},
        {name: percentile_interval(drawn[name], len(every)) for name in DRIVE_SCORES},
    )


def rows_in_time_order(
    recording_id: NDArray[Any], start_s: ArrayLike
) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each recording's windows in time order."""
    start = np.asarray(start_s)
    for _, rows in iter_recordings(recording_id):
        yield rows[np.argsort(start[rows], kind="stable")]


def majority_vote(probability: Floats, n_before: int, n_after: int) -> Floats:
    """Return the fraction of votes for each class among a window and its neighbors.

    Ties are broken by the higher mean probability.
    """
    labels = np.eye(probability.shape[1])[probability.argmax(axis=1)]
    votes = moving_mean(labels + 1e-6 * probability, n_before, n_after)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


def moving_mean(rows: Floats, n_before: int, n_after: int) -> Floats:
    """Return the moving mean of the rows; the first and last rows are repeated at the ends."""
    padded = np.pad(rows, ((n_before, n_after), (0, 0)), mode="edge")
    shifted = [padded[at : at + len(rows)] for at in range(n_before + n_after + 1)]
    return np.asarray(np.mean(shifted, axis=0))
