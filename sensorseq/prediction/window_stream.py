"""WindowStream: cut the samples of one sensor into windows as they arrive, as in training."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_positive
from sensorseq.errors import ArgumentError
from sensorseq.prediction.frames import in_order
from sensorseq.prediction.gaps import EMPTY
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.preparation import refuse_normalized
from sensorseq.preprocessing.resample import StreamResampler
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.windowing.cut import first_on_clock, start_on_clock, window_start
from sensorseq.recording import Channel
from sensorseq.stamps.live import EvenSamples, LiveClock

CLOCK_DIGITS = 9  # decimal places of seconds; further digits are rounding errors
_SAME_RATE = 1e-3  # relative difference from the model's rate up to which nothing is resampled


class CutWindow(NamedTuple):
    """A window of one sensor, and its logits (K,).

    `start_s` and `end_s` refer to the clock of the samples; `gaps` describes `lacks`. `outside` is
    True if the window is unlike the training windows, and None if their ranges are unknown.
    """

    start_s: float
    end_s: float
    logits: NDArray[np.float64]
    lacks: int
    outside: bool | None


class WindowStream:
    """Cut the samples of one sensor into windows, and compute their logits.

    Attributes
    ----------
    channels : tuple of str
        Columns of the samples, in this order.
    sample_rate_hz : float
        Rate of the samples.
    window_s, hop_s : float
        Length of the windows, and time between their starts, in seconds.
    slop_s : float or None
        The largest distance in seconds between a window's start and a multiple of the hop; None if
        windows may start at any time.
    latency_s : float
        Delay of a window after its end, due to filters that look ahead.
    n_outside : int
        Number of windows unlike the training windows.
    """

    _drifts_s: NDArray[np.float64]  # drift of the clock from sample `_first_tick` on

    def __init__(
        self,
        of_sensor: Input,
        members: Sum,
        sample_rate_hz: float | None,
        report: Callable[[OutsideWindows], None],
        *,
        max_gap_s: float | None,
        max_delay_s: float,
    ) -> None:
        self._plan = of_sensor.plan()
        refuse_normalized(of_sensor.preparation, "a stream")
        self._input, self._members, self._report = of_sensor, members, report
        self._use = use = self._plan.options
        self._rate = float(use.sample_rate_hz or 0)
        rate = (
            self._rate
            if sample_rate_hz is None
            else check_positive("sample_rate_hz", sample_rate_hz)
        )
        self.sample_rate_hz = rate
        self.channels = tuple(use.channels or ())
        units = use.units or {}
        self._channels = tuple(Channel(name, units.get(name, "")) for name in self.channels)
        gap = use.max_gap_s if max_gap_s is None else max_gap_s
        preparation = of_sensor.preparation
        in_packets = preparation is not None and preparation.get("in_packets", False)
        self._held = [c for c, name in enumerate(self.channels) if name in (use.held or ())]
        self._clock = LiveClock(
            rate, len(self.channels), gap, max_delay_s, in_packets=in_packets, held=self._held
        )
        self._is_same_rate = abs(rate / self._rate - 1) < _SAME_RATE
        # the rate of the windows' samples on the clock of the arriving samples
        self._clock_rate = rate if self._is_same_rate else self._rate
        self._n_window = self._plan.window_samples(self._rate)
        self.window_s = self._n_window / self._rate
        self.slop_s = use.slop_s
        hop_s = use.window_s if use.hop_s is None else use.hop_s
        self.hop_s = float(hop_s)
        self._hop = hop_s * self._rate
        if self._hop < 1 - 1e-9:
            raise ArgumentError(f"hop_s={hop_s:g} is less than the sample period of the windows.")
        self.n_outside = 0
        self._begin(0.0)
        self.latency_s: float = self._resampler.latency_s + self._steps.latency_s

    @property
    def newest_s(self) -> float | None:
        """The time of the newest sample."""
        return self._clock.newest_s

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of late, duplicate, infinite, badly stamped and filled samples, and of gaps."""
        names = ("n_late", "n_duplicates", "n_infinite", "n_bad_stamps", "n_filled", "n_gaps")
        return {name: getattr(self._clock, name) for name in names}

    def push(self, samples: ArrayLike, timestamps_s: ArrayLike | None) -> list[CutWindow]:
        """Process the next samples and return the complete windows; see `DecisionStream.push`."""
        samples = in_order(samples, self.channels, "samples", "the model")
        return self._cut(self._clock.push(samples, timestamps_s))

    def flush(self) -> list[CutWindow]:
        """End the signal and return the remaining windows; another signal may follow."""
        windows = [*self._cut(self._clock.flush()), *self._end()]
        self._begin(0.0)
        return windows

    def _cut(self, parts: list[EvenSamples]) -> list[CutWindow]:
        windows: list[CutWindow] = []
        for part in parts:
            if part.start_s is not None:
                windows += self._end()
                self._begin(part.start_s)
            self._drifts_s = np.concatenate([self._drifts_s, part.drifts_s])
            self._keep(self._steps.push(self._resampler.push(part.values)))
            windows += self._windows()
        return windows

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
        self._start_s = start_s
        self._drifts_s = np.empty(0)
        self._first_tick = 0
        self._kept: NDArray[np.float32] | None = None  # samples from index `_first` on
        self._first = self._n_cut = self._n_samples = 0

    def _end(self) -> list[CutWindow]:
        """End the segment and return its remaining windows."""
        if not self._n_samples and self._kept is None:
            return []
        left = self._resampler.flush()
        rows = [self._steps.push(left)] if len(left) else []
        self._keep(np.concatenate([*rows, self._steps.flush()]))
        windows = self._windows()
        if not self._n_cut and self._use.short == "pad" and self._n_samples:
            assert self._kept is not None
            padded = np.zeros((1, self._n_window, self._kept.shape[1]), np.float32)
            padded[0, : self._n_samples] = self._kept
            windows = self._predict(padded, [0], np.array([self._n_samples]))
        return windows

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
        return int(start_on_clock(number, self._start_s, self.hop_s, self._rate))

    def _windows(self) -> list[CutWindow]:
        """Cut the windows that are complete, and compute their logits together."""
        assert self._kept is not None
        starts = []
        while (start := self._start_of(self._n_cut)) + self._n_window <= self._n_samples:
            starts.append(start)
            self._n_cut += 1
        if not starts:
            return []
        samples = [self._kept[at - self._first :][: self._n_window] for at in starts]
        keep = min(self._start_of(self._n_cut), self._n_samples)
        windows = self._predict(np.stack(samples), starts)
        self._kept, self._first = self._kept[keep - self._first :], keep
        tick = self._tick_of(keep)
        self._drifts_s, self._first_tick = self._drifts_s[tick - self._first_tick :], tick
        return windows

    def _tick_of(self, start: int) -> int:
        """Return the index of the arrived sample at which sample `start` of the windows begins."""
        return int(start / self._clock_rate * self.sample_rate_hz + 1e-6)

    def _predict(
        self,
        samples: NDArray[np.float32],
        starts: list[int],
        lengths: NDArray[np.int64] | None = None,
    ) -> list[CutWindow]:
        is_infinite = ~np.isfinite(samples).all(axis=(1, 2))  # steps may turn 1e38 into infinity
        samples[is_infinite] = 0.0
        windows = self._input.read(samples, lengths)
        logits, lacks = self._input.logits_and_lacks(windows, self._members)
        lacks[is_infinite] = EMPTY
        are_outside: list[bool | None] = [None] * len(starts)
        if self._input.ranges is not None:
            outside = self._input.outside(windows)
            are_outside = outside.mask.tolist()
            if outside.n_outside and not self.n_outside:
                self._report(outside)
            self.n_outside += outside.n_outside
        found = []
        for start, row, lack, is_outside in zip(starts, logits, lacks.tolist(), are_outside):
            drift_s = self._drifts_s[self._tick_of(start) - self._first_tick]
            start_s = float(self._start_s + drift_s + start / self._clock_rate)
            start_s = round(start_s, CLOCK_DIGITS)
            end_s = round(start_s + self._n_window / self._clock_rate, CLOCK_DIGITS)
            found.append(CutWindow(start_s, end_s, row, lack, is_outside))
        return found
