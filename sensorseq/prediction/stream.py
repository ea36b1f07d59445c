"""DecisionStream: classify samples as they arrive, in the same way as `sensorseq predict`."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.checks import check_positive
from sensorseq.errors import ArgumentError, InputError, check_choice
from sensorseq.prediction.decisions import Predictor, answered_windows
from sensorseq.prediction.frames import in_order
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.preparation import Preparation, refuse_normalized
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.live_clock import EvenSamples, LiveClock
from sensorseq.preprocessing.resample import StreamResampler
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.windows.cut import first_on_clock, start_on_clock, window_start
from sensorseq.recording import Channel
from sensorseq.sequence.smoothing import STREAM_SMOOTH, LagSmoother, Smoothing, window_weight

_CLOCK_DIGITS = 9  # decimal places of seconds; further digits are rounding errors
_SAME_RATE = 1e-3  # relative difference from the model's rate up to which nothing is resampled


@dataclass(frozen=True)
class StreamDecision:
    """The decision about one window of a stream.

    `start_s` and `end_s` refer to the clock of the samples. `probabilities` contains the
    probability of every class in the order of `classes_`, and `probability` is the highest one.
    `answered` is True if `probability` reaches the threshold of `fit_abstention`, otherwise False.
    Without a threshold, `answered` is None, or False for a window without any number. `lacks` is 0
    for a complete window, 1 if so much is missing that another sensor should decide, and 2 if the
    window has no number, or its values are too large. `delay_s` is the time from the window's end
    to the newest sample. `outside` is True if the window is unlike the training windows, and None
    if the model lacks the ranges of the training windows.
    """

    start_s: float
    end_s: float
    label: Any
    probability: float
    probabilities: tuple[float, ...]
    answered: bool | None
    delay_s: float
    outside: bool | None = None
    lacks: int = COMPLETE

    def to_dict(self, classes: list[Any]) -> dict[str, Any]:
        """Return plain values, with the probabilities by class."""
        named = zip(map(str, classes), self.probabilities)
        return {**vars(self), "probabilities": dict(named)}


def prediction_plan(preparation: Preparation | None, hop_s: float | None = None) -> RecordingPlan:
    """Return the plan that cuts recordings as in training.

    Raise an InputError if the model has no such plan.
    """
    if preparation is None or not preparation["configuration"]:
        raise InputError(
            "the model was trained on arrays, so it cannot cut recordings into windows; train it on"
            " a prepared file, or cut windows yourself and use model.predict."
        )
    if preparation.get("scaled") is not None:
        raise InputError(
            "the model was trained on windows that were already scaled, so it cannot scale"
            " recordings in the same way; train it on the unscaled prepared file."
        )
    return RecordingPlan.recorded(preparation, hop_s)


class DecisionStream:
    """Classify samples as they arrive; see `SensorLSTMClassifier.stream`.

    Attributes
    ----------
    channels : tuple of str
        Columns of the samples, in this order.
    sample_rate_hz : float
        Rate of the samples.
    hop_s : float
        Seconds between the starts of windows.
    latency_s : float
        Delay of a decision after the end of its window, due to filters that look ahead and to
        smoothing. If the training samples came in packets, the wait for the next packet is not
        included.
    classes : list
        Labels in the order of the probabilities.
    on_outside : callable or None
        Called with an OutsideWindows when windows differ from the training windows for the first
        time.
    """

    _drifts_s: NDArray[np.float64]  # drift of the clock from sample `_first_tick` on

    def __init__(
        self,
        model: Predictor,
        sample_rate_hz: float | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        smoothing: Smoothing,
    ) -> None:
        pipeline = prediction_plan(model.preparation)
        refuse_normalized(model.preparation, "a stream")
        use = pipeline.options
        if use.resample_engine == "soxr":
            raise InputError(
                'engine="soxr" needs complete recordings; prepare with engine="polyphase".'
            )
        self._model, self._use, self._plan = model, use, pipeline
        self._rate = float(use.sample_rate_hz or 0)
        rate = (
            self._rate
            if sample_rate_hz is None
            else check_positive("sample_rate_hz", sample_rate_hz)
        )
        self.sample_rate_hz = rate
        self.channels = tuple(use.channels or ())
        self.classes: list[Any] = model.classes.tolist()
        units = use.units or {}
        self._channels = tuple(Channel(name, units.get(name, "")) for name in self.channels)
        gap = use.max_gap_s if max_gap_s is None else max_gap_s
        in_packets = model.preparation is not None and model.preparation.get("in_packets", False)
        self._held = [c for c, name in enumerate(self.channels) if name in (use.held or ())]
        self._clock = LiveClock(
            rate, len(self.channels), gap, max_delay_s, in_packets=in_packets, held=self._held
        )
        self._window_rate = self._plan.window_rate_hz(self._rate)
        self._is_same_rate = abs(rate / self._rate - 1) < _SAME_RATE
        # the rate of the windows' samples on the clock of the arriving samples
        self._clock_rate = self._window_rate * (rate / self._rate if self._is_same_rate else 1.0)
        self._n_window = self._plan.window_samples(self._rate)
        hop_s = use.window_s if use.hop_s is None else use.hop_s
        self.hop_s = float(hop_s)
        self._hop = hop_s * self._window_rate
        if self._hop < 1 - 1e-9:
            raise ArgumentError(f"hop_s={hop_s:g} is less than the sample period of the windows.")
        check_choice("smooth", smoothing.smooth, STREAM_SMOOTH)
        self._smoother, self._waiting = None, deque[StreamDecision]()
        self._shares = model.class_shares
        self._threshold = None if model.abstention is None else model.abstention.threshold
        if smoothing.smooth != "none":
            window_s = self._n_window / self._window_rate
            dwell = smoothing.dwell(len(self.classes), window_s)
            weight = window_weight(hop_s, window_s)
            self._smoother = LagSmoother(dwell, smoothing.n_later, weight)
        self.n_decisions = self.n_outside = 0
        self.on_outside: Callable[[OutsideWindows], None] | None = None
        self._begin(0.0)
        self.latency_s: float = self._resampler.latency_s + self._steps.latency_s
        self.latency_s += smoothing.n_later * hop_s

    @property
    def slop_s(self) -> float | None:
        """The largest distance in seconds between a window's start and a multiple of the hop.

        The distance is None if windows may start at any time.
        """
        return self._use.slop_s

    @property
    def newest_s(self) -> float | None:
        """The time of the newest sample."""
        return self._clock.newest_s

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of late, duplicate and filled samples, gaps, decisions and unusual windows.

        `n_infinite` counts values that were treated as NaN, and `n_bad_stamps` samples that were
        ignored; see `push`.
        """
        clock = self._clock
        return {
            "n_late": clock.n_late,
            "n_duplicates": clock.n_duplicates,
            "n_infinite": clock.n_infinite,
            "n_bad_stamps": clock.n_bad_stamps,
            "n_filled": clock.n_filled,
            "n_gaps": clock.n_gaps,
            "n_decisions": self.n_decisions,
            "n_outside": self.n_outside,
        }

    def push(
        self, samples: ArrayLike, timestamps_s: ArrayLike | None = None
    ) -> list[StreamDecision]:
        """Process the next samples and return the decisions that are due.

        Parameters
        ----------
        samples : array-like or DataFrame of shape (n, n_channels)
            Any number of samples, with the columns of `channels`, in the units of training; a
            DataFrame may have them in any order. NaN is a missing value, and so is infinity or a
            value too large for float32.
        timestamps_s : array-like of shape (n,), optional
            Times in seconds. A sample is ignored if its time is not finite, or so large that floats
            do not resolve half a sample period. Without times, no sample may be missing, because
            sample i is assumed to be at time i / `sample_rate_hz`.

        Returns
        -------
        list of StreamDecision
            Decisions in order of time; often empty.

        Raises
        ------
        SignalError
            If the number of channels or times is wrong, or the first times do not match
            `sample_rate_hz`. All samples of this call are then ignored.
        InputError
            If a DataFrame lacks a channel, or has an unknown column.
        """
        samples = in_order(samples, self.channels, "samples", "the model")
        return self._decide(self._clock.push(samples, timestamps_s))

    def flush(self) -> list[StreamDecision]:
        """End the signal and return the remaining decisions; another signal may follow."""
        decisions = [*self._decide(self._clock.flush()), *self._end()]
        if self._smoother is not None:
            last = self._settled(self._smoother.flush())
            self.n_decisions += len(last)
            decisions += last
        self._begin(0.0)
        return decisions

    def _decide(self, parts: list[EvenSamples]) -> list[StreamDecision]:
        decisions: list[StreamDecision] = []
        for part in parts:
            if part.start_s is not None:
                decisions += self._end()
                self._begin(part.start_s)
            self._drifts_s = np.concatenate([self._drifts_s, part.drifts_s])
            self._keep(self._steps.push(self._resampler.push(part.values)))
            decisions += self._windows()
        return decisions

    def _begin(self, start_s: float) -> None:
        """Begin a segment with fresh filters and windows."""
        self._resampler = StreamResampler(
            self._rate if self._is_same_rate else self.sample_rate_hz,
            self._rate,
            len(self._channels),
            attenuation_db=self._use.attenuation_db,
            held=self._held,
        )
        self._steps = StepChain(self._plan.steps).stream(self._channels, self._rate)
        self._start_s = start_s + self._steps.delay_s
        self._drifts_s = np.empty(0)
        self._first_tick = 0
        self._kept: NDArray[np.float32] | None = None  # samples from index `_first` on
        self._first = self._n_cut = self._n_samples = 0

    def _end(self) -> list[StreamDecision]:
        """End the segment and return its remaining decisions."""
        if not self._n_samples and self._kept is None:
            return []
        left = self._resampler.flush()
        rows = [self._steps.push(left)] if len(left) else []
        self._keep(np.concatenate([*rows, self._steps.flush()]))
        decisions = self._windows()
        if not self._n_cut and self._use.short == "pad" and self._n_samples:
            assert self._kept is not None
            padded = np.zeros((1, self._n_window, self._kept.shape[1]), np.float32)
            padded[0, : self._n_samples] = self._kept
            decisions = self._predict(padded, [0], np.array([self._n_samples]))
        return decisions

    def _keep(self, values: NDArray[np.floating]) -> None:
        with np.errstate(over="ignore"):
            new = values.astype(np.float32)
        self._kept = new if self._kept is None else np.concatenate([self._kept, new])
        self._n_samples += len(new)

    def _start_of(self, n: int) -> int:
        """Return the index of the first sample of window `n`, as in `window_recordings`."""
        slop_s = self._use.slop_s
        if slop_s is None:
            return window_start(n, self._hop)
        first = first_on_clock(self._start_s, self.hop_s, slop_s)
        number = np.array(first + n)
        return int(start_on_clock(number, self._start_s, self.hop_s, self._window_rate))

    def _windows(self) -> list[StreamDecision]:
        """Cut the windows that are complete, and classify them together."""
        assert self._kept is not None
        starts = []
        while (start := self._start_of(self._n_cut)) + self._n_window <= self._n_samples:
            starts.append(start)
            self._n_cut += 1
        if not starts:
            return []
        windows = [self._kept[at - self._first :][: self._n_window] for at in starts]
        keep = min(self._start_of(self._n_cut), self._n_samples)
        decisions = self._predict(np.stack(windows), starts)
        self._kept, self._first = self._kept[keep - self._first :], keep
        tick = self._tick_of(keep)
        self._drifts_s, self._first_tick = self._drifts_s[tick - self._first_tick :], tick
        return decisions

    def _tick_of(self, start: int) -> int:
        """Return the index of the arrived sample at which sample `start` of the windows begins."""
        return int(start / self._clock_rate * self.sample_rate_hz + 1e-6)

    def _predict(
        self,
        windows: NDArray[np.float32],
        starts: list[int],
        lengths: NDArray[np.int64] | None = None,
    ) -> list[StreamDecision]:
        is_infinite = ~np.isfinite(windows).all(axis=(1, 2))  # steps may turn 1e38 into infinity
        windows[is_infinite] = 0.0
        rows, lacks = self._model.probabilities(windows, lengths)
        rows[is_infinite], lacks[is_infinite] = self._shares, EMPTY
        answered = answered_windows(rows, lacks, self._threshold)
        are_outside: list[bool | None] = [None] * len(rows)
        if self._model.has_ranges:
            outside = self._model.outside(windows, lengths)
            are_outside = outside.mask.tolist()
            if self.on_outside and outside.n_outside and not self.n_outside:
                self.on_outside(outside)
            self.n_outside += outside.n_outside
        newest_s = self._clock.newest_s
        decisions = []
        judged = zip(starts, rows, answered, are_outside, lacks.tolist())
        for start, row, is_answered, is_outside, lack in judged:
            drift_s = self._drifts_s[self._tick_of(start) - self._first_tick]
            start_s = float(self._start_s + drift_s + start / self._clock_rate)
            start_s = round(start_s, _CLOCK_DIGITS)
            end_s = round(start_s + self._n_window / self._clock_rate, _CLOCK_DIGITS)
            best = int(np.argmax(row))
            probability = float(row[best])
            decisions.append(
                StreamDecision(
                    start_s,
                    end_s,
                    self.classes[best],
                    probability,
                    tuple(row.tolist()),
                    is_answered,
                    0.0 if newest_s is None else round(newest_s - end_s, _CLOCK_DIGITS),
                    is_outside,
                    lack,
                )
            )
        if self._smoother is not None:
            self._waiting.extend(decisions)
            due = []
            for decision in decisions:
                middle_s = (decision.start_s + decision.end_s) / 2
                likelihood = np.array(decision.probabilities) / self._shares
                due += self._smoother.push(middle_s, likelihood)
            decisions = self._settled(due)
        self.n_decisions += len(decisions)
        return decisions

    def _settled(self, rows: list[NDArray[np.float64]]) -> list[StreamDecision]:
        """Return the oldest waiting decisions, updated with their smoothed probabilities."""
        decisions, newest_s = [], self._clock.newest_s
        for row in rows:
            decision, best = self._waiting.popleft(), int(np.argmax(row))
            delay_s = 0.0 if newest_s is None else round(newest_s - decision.end_s, _CLOCK_DIGITS)
            lacks = np.array([decision.lacks])
            decisions.append(
                replace(
                    decision,
                    label=self.classes[best],
                    probability=float(row[best]),
                    probabilities=tuple(row.tolist()),
                    answered=answered_windows(row[np.newaxis], lacks, self._threshold)[0],
                    delay_s=delay_s,
                )
            )
        return decisions
