"""The computations behind the steps, on float64 rows of shape (n, n_channels)."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sensorseq import _signal

Rows = NDArray[np.float64]
Edge = Literal["mirror", "hold", "odd"]


class _FromFirst:
    """Subtracts the first sample, so that a constant becomes 0 and an offset costs no precision."""

    def __init__(self) -> None:
        self.first: Rows | None = None

    def __call__(self, samples: Rows) -> Rows:
        if self.first is None:
            if not len(samples):
                return samples
            self.first = samples[0].copy()
        return samples - self.first

    def add_back(self, rows: Rows, gain: float) -> Rows:
        return rows if not gain or self.first is None else rows + gain * self.first


class Fir:
    """A filter with a finite impulse response.

    `taps` weight the samples from the newest to the oldest; their number is odd unless the filter
    is causal. `gain` is the response to a constant 1. The time of an output is the time of the
    newest sample if the filter is causal, otherwise the time of the middle sample.
    """

    def __init__(
        self, taps: Rows, n_channels: int, gain: float, edge: Edge, is_causal: bool
    ) -> None:
        delay = 0 if is_causal else None
        self._filter = _signal.PolyphaseFilter(
            np.ascontiguousarray(taps), 1, 1, n_channels, edge=edge, delay=delay
        )
        self._gain = gain
        self._from_first = _FromFirst()
        # The latency is a whole number of samples, because the rate is unchanged.
        self.latency_samples = int(self._filter.latency_samples)

    def push(self, samples: Rows) -> Rows:
        rows = self._filter.push(self._from_first(samples))
        return self._from_first.add_back(rows, self._gain)

    def flush(self) -> Rows:
        rows = self._filter.flush().astype(np.float64, copy=False)
        return self._from_first.add_back(rows, self._gain)


class Sos:
    """A recursive filter in second-order sections that starts in its steady state for sample 0.

    The filter starts with zero state and is applied to the differences from the first sample. This
    is equivalent to an initial state of `sosfilt_zi` times the first sample, and is exact for a
    constant signal.
    """

    latency_samples = 0

    def __init__(self, sections: Rows, n_channels: int, gain: float) -> None:
        self.sections, self.gain, self._n_channels = sections, gain, n_channels
        self._filter = _signal.SectionFilter(sections, n_channels)
        self._from_first = _FromFirst()

    def push(self, samples: Rows) -> Rows:
        if not len(samples):
            return samples
        rows = self._filter.push(self._from_first(samples))
        return self._from_first.add_back(rows, self.gain)

    def flush(self) -> Rows:
        return np.empty((0, self._n_channels))


class MovingStatistic:
    """Computes a statistic of a window that is centered on, or ends at, each sample."""

    def __init__(self, statistic: str, window: int, ahead: int, n_channels: int) -> None:
        self.statistic, self.window = statistic, window
        self._window = _signal.MovingWindow(statistic, window, n_channels, ahead)
        self.latency_samples = ahead

    def push(self, samples: Rows) -> Rows:
        return self._window.push(samples)

    def flush(self) -> Rows:
        return self._window.flush()


class LocalFit:
    """Computes a weighted sum of a window that is centered on, or ends at, each sample.

    The sum is, for example, the slope of a fitted line. `weights` is a function of the numbers of
    samples before and after the current sample. It returns the weights of all samples of the
    window, oldest first; they sum to 0. If a window extends beyond the first or the last sample,
    only the existing samples are fitted. `ahead` is 0 or `before`.
    """

    def __init__(
        self, weights: Callable[[int, int], Rows], before: int, ahead: int, n_channels: int
    ) -> None:
        self.latency_samples = ahead
        self.weights = weights
        self.before = before
        self._ahead = ahead
        taps = weights(before, ahead)[::-1]
        self._fir = Fir(taps, n_channels, 0.0, "hold", is_causal=not ahead)
        self._from_first = _FromFirst()
        self._n_held = before + ahead
        self._start = np.empty((0, n_channels))  # the first samples of the signal
        self._end = np.empty((0, n_channels))
        self._n_seen = self._n_out = 0

    def push(self, samples: Rows) -> Rows:
        rows = self._fir.push(samples)
        if not len(samples):
            return rows
        relative = self._from_first(samples)
        self._n_seen += len(samples)
        if len(self._start) < self._n_held:
            room = self._n_held - len(self._start)
            self._start = np.concatenate([self._start, relative[:room]])
        newest = np.concatenate([self._end, relative[-self._n_held :]])
        self._end = newest[max(0, len(newest) - self._n_held) :]
        for i in range(min(self.before - self._n_out, len(rows))):
            t = self._n_out + i
            rows[i] = self._fit(self._start[: t + self._ahead + 1], t)
        self._n_out += len(rows)
        return rows

    def flush(self) -> Rows:
        rows = self._fir.flush()
        n_forgotten = self._n_seen - len(self._end)
        for i in range(len(rows)):
            t = self._n_out + i
            first = max(0, t - self.before)
            rows[i] = self._fit(self._end[first - n_forgotten :], t - first)
        return rows

    def _fit(self, window: Rows, before: int) -> Rows:
        weights = self.weights(before, len(window) - 1 - before)
        fitted: Rows = (weights[:, np.newaxis] * window).sum(axis=0)
        return fitted


class Lagged:
    """Subtracts from each sample the sample `lag` steps earlier; the first `lag` results are 0."""

    latency_samples = 0

    def __init__(self, lag: int, n_channels: int, is_absolute: bool) -> None:
        self.lag = lag
        self.is_absolute = is_absolute
        self._before = np.empty((0, n_channels))

    def push(self, samples: Rows) -> Rows:
        samples_so_far = np.concatenate([self._before, samples])
        rows = np.zeros_like(samples)
        n_rows = max(0, len(samples_so_far) - self.lag)
        if n_rows:
            rows[len(rows) - n_rows :] = samples_so_far[self.lag :] - samples_so_far[:n_rows]
        self._before = samples_so_far[-self.lag :]
        return np.abs(rows) if self.is_absolute else rows

    def flush(self) -> Rows:
        return self._before[:0]


class Combination:
    """Computes one new column from several columns, sample by sample."""

    latency_samples = 0

    def __init__(self, combine: Callable[[Rows], Rows]) -> None:
        self._combine = combine

    def push(self, samples: Rows) -> Rows:
        return self._combine(samples)[:, np.newaxis]

    def flush(self) -> Rows:
        return np.empty((0, 1))
