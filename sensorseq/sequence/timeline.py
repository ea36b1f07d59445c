"""Timelines: the class of every window over time, and segments of one class."""

import csv
import io
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, InputError
from sensorseq.io.atomic import write_whole
from sensorseq.sequence.smoothing import (
    Smooth,
    as_smoothing,
    smoothed,
    window_weight,
)
from sensorseq.windows import iter_recordings

if TYPE_CHECKING:
    from sensorseq.sequence.scores import Segment

_SAME_HOP = 1.5  # windows at most this many hops apart have no gap between them


class Span(NamedTuple):
    """A segment of one class in a recording.

    Attributes
    ----------
    recording_id : object
    start_s, end_s : float
        Start and end in seconds on the recording's clock.
    label : object
    probability : float
        The mean probability of this class in the windows of the segment.
    runner_up : object
        The class with the second highest mean probability; None if there is only one class.
    n_windows : int
    """

    recording_id: Hashable
    start_s: float
    end_s: float
    label: Any
    probability: float
    runner_up: Hashable
    n_windows: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """Classes of windows over time.

    Attributes
    ----------
    recording_id, start_s, end_s : ndarray of shape (n,)
        Recording, start and end of each window, sorted by recording and time.
    probabilities : ndarray of shape (n, k)
        Smoothed probabilities, with a column for each of `classes`.
    labels : ndarray of shape (n,)
        The class of each window.
    classes : ndarray of shape (k,)
    spans : tuple of Span
        Segments of one class. The border between two segments is halfway between the centers of the
        adjoining windows. If windows are missing in between, the first segment ends at the end of
        its last window.
    smooth : str
        The method of smoothing; see `Smoothing`.
    mean_dwell_s : float or ndarray of shape (k,)
        The dwell time that was assumed for each class.
    """

    recording_id: NDArray[Any]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[Any]
    classes: NDArray[Any]
    spans: tuple[Span, ...]
    smooth: str
    mean_dwell_s: float | NDArray[np.float64]

    def __repr__(self) -> str:
        n = len(np.unique(self.recording_id))
        return f"<Timeline: {len(self.labels)} windows, {len(self.spans)} spans, {n} recording(s)>"

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the spans as a CSV table.

        Parameters
        ----------
        path : path-like
            The file; its columns are recording, start_s, end_s, label, probability, runner_up.
        """
        write_whole(path, spans_as_csv(self.spans).encode())

    def to_html(
        self,
        path: str | os.PathLike[str],
        true: "Timeline | Sequence[Segment]" = (),
    ) -> None:
        """Write a page with a strip of classes over time for each recording.

        Parameters
        ----------
        path : path-like
            The HTML file, which needs neither a network connection nor other files.
        true : Timeline, or sequence of LabelSpan, optional
            The true classes, drawn above the predicted ones. LabelSpans can be given only for a
            timeline of one recording.
        """
        from sensorseq.sequence.strips import MOST_RECORDINGS, make_strips  # needs jinja2

        title = Path(path).stem
        page = make_strips("drive.html", *self._drawn(true, MOST_RECORDINGS), title=title)
        write_whole(path, page.encode())

    def _repr_html_(self) -> str:
        """Show a strip of classes for each recording in a notebook."""
        from sensorseq.sequence.strips import make_strips

        return make_strips("timeline.html", *self._drawn((), 20), title=repr(self)[1:-1])

    def _drawn(
        self, true: "Timeline | Sequence[Segment]", most: int
    ) -> tuple[list[Any], list[dict[str, Any]]]:
        from sensorseq.sequence.strips import strip_of

        names = list(dict.fromkeys(span.recording_id for span in self.spans))
        of_true: Mapping[Any, Sequence[Segment]]
        if isinstance(true, Timeline):
            of_true = spans_by_recording(true.spans)
        elif true and len(names) != 1:
            raise ArgumentError(
                f"`true` must be a Timeline, because this timeline has {len(names)} recordings."
            )
        else:
            of_true = {name: list(true) for name in names}
        classes, of_recording = self.classes.tolist(), spans_by_recording(self.spans)
        drives = [
            strip_of(name, of_recording[name], of_true.get(name, []), classes)
            for name in names[:most]
        ]
        return classes, drives


def spans_by_recording(spans: Iterable[Span]) -> dict[Any, list[Span]]:
    """Return the spans of each recording, in order."""
    of_recording: dict[Any, list[Span]] = {}
    for span in spans:
        of_recording.setdefault(span.recording_id, []).append(span)
    return of_recording


def spans_as_csv(spans: tuple[Span, ...]) -> str:
    """Format spans as a CSV table."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["recording", "start_s", "end_s", "label", "probability", "runner_up"])
    for s in spans:
        times = [f"{s.start_s:.3f}", f"{s.end_s:.3f}"]
        writer.writerow([s.recording_id, *times, s.label, f"{s.probability:.4f}", s.runner_up])
    return text.getvalue()


def timeline_of(
    probabilities: ArrayLike,
    classes: ArrayLike,
    start_s: ArrayLike,
    window_s: float,
    recording_id: ArrayLike | None = None,
    *,
    hop_s: float | None = None,
    smooth: Smooth = "marginals",
    class_shares: ArrayLike | None = None,
) -> Timeline:
    """Return the timeline of windows from the probabilities predicted by any classifier.

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
    classes : array-like of shape (k,)
        Labels in the order of the columns.
    start_s : array-like of shape (n,)
        Start of each window in seconds.
    window_s : float
        Length of the windows in seconds.
    recording_id : array-like of shape (n,), optional
        The recording of each window; by default, all windows belong to one recording.
    hop_s : float, optional
        Seconds between the starts of windows; by default, the median for each recording.
    smooth : {"none", "filter", "lag", "marginals"} or Smoothing, default="marginals"
        How the classes are smoothed. A window that overlaps the next window is weighted by its
        fraction without overlap, but by at least 0.25.
    class_shares : array-like of shape (k,) or (n, k), optional
        The fraction of each class in the classifier's training data; by default, all are equal.
        These fractions affect the probabilities of every window, but smoothing must count them only
        once. With ``smooth="none"`` the probabilities are unchanged.

    Raises
    ------
    InputError
        If probabilities are not finite, or two windows of a recording start at the same time.
    ArgumentError
        If `smooth` is not known, a dwell time is shorter than a window, or `transitions` has a
        different shape.
    """
    smoothing = as_smoothing(smooth)
    mean_dwell_s = smoothing.mean_dwell_s
    p, start = np.asarray(probabilities, np.float64), np.asarray(start_s, np.float64)
    names, k = np.asarray(classes), np.asarray(classes).shape[0]
    if p.shape != (len(start), k) or not np.isfinite(p).all():
        raise InputError(
            f"probabilities of shape {p.shape} must be finite numbers of shape ({len(start)}, {k}),"
            " with a row for each start and a column for each class."
        )
    if not np.isfinite(start).all():
        raise InputError("start_s has values that are not finite; give seconds.")
    evidence = p
    if class_shares is not None and smoothing.smooth != "none":
        shares = np.asarray(class_shares, np.float64)
        if shares.shape not in ((k,), p.shape) or not (shares > 0).all():
            raise ArgumentError(
                f"class_shares must be {k} numbers above 0, or a row of {k} such numbers for each"
                " window."
            )
        evidence = p / shares
    recording = np.zeros(len(p), np.int64) if recording_id is None else np.asarray(recording_id)
    dwell = smoothing.dwell(k, window_s)
    is_one = mean_dwell_s is None or np.ndim(mean_dwell_s) == 0
    order, parts, spans = [], [], []
    for name, members in iter_recordings(recording):
        rows = members[np.argsort(start[members], kind="stable")]
        hops = np.diff(start[rows])
        if (hops <= 0).any():
            twice = start[rows][np.flatnonzero(hops <= 0)[0]]
            raise InputError(
                f"recording {name!r} has two windows that start at {twice:g} s; give recording_id"
                " if they belong to several recordings."
            )
        usual_s = hop_s or (float(np.median(hops)) if len(hops) else window_s)
        weight = window_weight(usual_s, window_s)
        p_smoothed, index = smoothed(
            evidence[rows], start[rows] + window_s / 2, dwell, smooth=smoothing, weight=weight
        )
        order.append(rows)
        parts.append((p_smoothed, index))
        spans += list(_spans(name, start[rows], window_s, usual_s, p_smoothed, index, names))
    every = np.concatenate(order) if order else np.zeros(0, np.int64)
    index = np.concatenate([part for _, part in parts]) if parts else np.zeros(0, np.int64)
    return Timeline(
        recording[every],
        start[every],
        start[every] + window_s,
        np.concatenate([part for part, _ in parts]) if parts else p,
        names[index],
        names,
        tuple(spans),
        smoothing.smooth,
        float(dwell.mean_s[0]) if is_one else dwell.mean_s,
    )


def _spans(
    name: Any,
    start_s: NDArray[np.float64],
    window_s: float,
    hop_s: float,
    probabilities: NDArray[np.float64],
    index: NDArray[np.int64],
    classes: NDArray[Any],
) -> Iterator[Span]:
    """Yield the spans of one recording."""
    labels = classes.tolist()
    hops = np.diff(start_s)
    is_gap = hops > max(_SAME_HOP * hop_s, window_s + hop_s / 2)
    edges = np.flatnonzero((np.diff(index) != 0) | is_gap) + 1
    firsts = [0, *edges.tolist(), len(index)]
    begins_s = start_s[0] if len(start_s) else 0.0
    for first, stop in zip(firsts, firsts[1:]):
        ends_s, follows_s = start_s[stop - 1] + window_s, 0.0
        if stop < len(index):
            follows_s = start_s[stop]
            if not is_gap[stop - 1]:
                ends_s = follows_s = (start_s[stop - 1] + start_s[stop] + window_s) / 2
        mean = probabilities[first:stop].mean(axis=0)
        k = int(index[first])
        without_k = np.where(np.arange(len(labels)) == k, -1.0, mean)
        runner_up = labels[int(without_k.argmax())] if len(labels) > 1 else None
        yield Span(
            name,
            float(begins_s),
            float(ends_s),
            labels[k],
            float(mean[k]),
            runner_up,
            stop - first,
        )
        begins_s = follows_s
