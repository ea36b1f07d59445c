"""DecisionStream: classify samples as they arrive, in the same way as `sensorseq predict`."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, InputError, SignalError, check_choice, noting
from sensorseq.prediction.decisions import answered_windows
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.inputs import check_sensor
from sensorseq.prediction.outside import OutsideWindows, names_of_sensor
from sensorseq.prediction.probability_model import ProbabilityModel
from sensorseq.prediction.window_stream import CLOCK_DIGITS, CutWindow, WindowStream
from sensorseq.sensor_windows import UNNAMED
from sensorseq.sequence.smoothing import STREAM_SMOOTH, LagSmoother, Smoothing, window_weight

Row = dict[str, CutWindow]
"""The windows of the sensors that begin together, by the name of the sensor."""


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


class DecisionStream:
    """Classify samples of one sensor or of several sensors as they arrive.

    See the method `stream` of the classifiers. A decision is due when the windows of all sensors
    are complete. If sensors may be missing, a decision is also due when all missing sensors have a
    later window, or when any sensor has a sample more than `latency_s` plus `max_wait_s` after the
    end of the window. Push samples in chunks shorter than `max_wait_s`.

    Attributes
    ----------
    names_sensors : bool
        Whether samples are pushed with the name of their sensor.
    sensors : dict of str to WindowStream
        The `channels` and the `sample_rate_hz` of each sensor. A sensor without a name has the
        empty name, and its channels and rate are also those of the stream.
    hop_s : float
        Seconds between the starts of windows.
    latency_s : float
        Delay of a decision after the end of its window, due to filters that look ahead and to
        smoothing; the longest delay of all sensors. If the training samples came in packets, the
        wait for the next packet is not included.
    classes : list
        Labels in the order of the probabilities.
    n_dropped : int
        Number of windows that got no decision because a required sensor was missing.
    n_late : int
        Number of windows of single sensors that were completed too late for the decision.
    on_outside : callable or None
        Called with an OutsideWindows when the windows of a sensor differ from its training windows
        for the first time. If sensors have names, the channels are named ``sensor: channel``.
    """

    def __init__(
        self,
        model: ProbabilityModel,
        sample_rate_hz: Union[float, Mapping[str, float], None] = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
        smoothing: Smoothing,
    ) -> None:
        self._model, self.names_sensors = model, model.names_sensors
        rates = self._rates(sample_rate_hz)
        self.sensors = {
            name: WindowStream(
                of_sensor,
                model.sum.of_sensor(name),
                rates.get(name),
                partial(self._report_outside, name),
                max_gap_s=max_gap_s,
                max_delay_s=max_delay_s,
            )
            for name, of_sensor in model.inputs.items()
        }
        self.on_outside: Callable[[OutsideWindows], None] | None = None
        first = next(iter(self.sensors.values()))
        self.classes: list[Any] = model.classes.tolist()
        self.hop_s = first.hop_s
        if not self.names_sensors:
            self.channels, self.sample_rate_hz = first.channels, first.sample_rate_hz
        self.latency_s = max(sensor.latency_s for sensor in self.sensors.values())
        self.latency_s += smoothing.n_later * self.hop_s
        if max_wait_s is not None and not self.names_sensors:
            raise ArgumentError(
                f"max_wait_s={max_wait_s!r} is for a stream of several sensors; leave it out."
            )
        self._wait_s = self.hop_s if max_wait_s is None else float(max_wait_s)
        self._slop_s = self._common_slop_s() if self.names_sensors else 0.0
        self.n_decisions = self.n_dropped = self.n_late = 0
        self._done_s = -np.inf  # start of the last row that was decided or dropped
        self._rows: list[Row] = []  # in order of time
        check_choice("smooth", smoothing.smooth, STREAM_SMOOTH)
        self._smoother, self._waiting = None, deque[StreamDecision]()
        self._threshold = None if model.abstention is None else model.abstention.threshold
        if smoothing.smooth == "none":
            return
        if self.names_sensors:
            raise ArgumentError(
                f"smooth={smoothing.smooth!r} is for a stream of one sensor; smooth the decisions"
                " of several sensors with sensorseq.sequence.smoothing.LagSmoother."
            )
        dwell = smoothing.dwell(len(self.classes), first.window_s)
        weight = window_weight(self.hop_s, first.window_s)
        self._smoother = LagSmoother(dwell, smoothing.n_later, weight)

    def _rates(self, sample_rate_hz: Union[float, Mapping[str, float], None]) -> dict[str, float]:
        """Return the sample rates that are given, by sensor."""
        if not self.names_sensors:
            if isinstance(sample_rate_hz, Mapping):
                raise ArgumentError(
                    "sample_rate_hz must be a single number, because the model has one sensor."
                )
            return {} if sample_rate_hz is None else {UNNAMED: sample_rate_hz}
        if sample_rate_hz is not None and not isinstance(sample_rate_hz, Mapping):
            raise ArgumentError(
                f"sample_rate_hz={sample_rate_hz!r} names no sensor; give the rate of each sensor"
                f" by its name ({', '.join(self._model.inputs)})."
            )
        for name in sample_rate_hz or ():
            check_sensor(name, list(self._model.inputs))
        return dict(sample_rate_hz or {})

    def _common_slop_s(self) -> float:
        """Return the largest difference in seconds between the starts of windows of a row."""
        slops = [sensor.slop_s for sensor in self.sensors.values()]
        if None in slops:
            raise InputError(
                "the windows of the model's sensors were not prepared together, so it is unknown"
                " which windows belong together; prepare recordings with native_rates=True."
            )
        return max(float(slop) for slop in slops if slop is not None)

    @property
    def newest_s(self) -> float | None:
        """The time of the newest sample of any sensor."""
        times = [sensor.newest_s for sensor in self.sensors.values()]
        return max((newest_s for newest_s in times if newest_s is not None), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of late, duplicate and filled samples, gaps, decisions and unusual windows.

        `n_infinite` counts values that were treated as NaN, and `n_bad_stamps` samples that were
        ignored; see `push`. Several sensors also have numbers of dropped and late windows, and the
        counts of each sensor contain its name.
        """
        counts = {"n_decisions": self.n_decisions}
        if not self.names_sensors:
            (only,) = self.sensors.values()
            return {**only.counts, **counts, "n_outside": only.n_outside}
        counts |= {"n_dropped": self.n_dropped, "n_late windows": self.n_late}
        for name, sensor in self.sensors.items():
            of_sensor = {**sensor.counts, "n_outside": sensor.n_outside}
            counts |= {f"{key} of {name}": n for key, n in of_sensor.items()}
        return counts

    def push(self, *arguments: Any, **named: Any) -> list[StreamDecision]:
        """Process the next samples and return the decisions that are due.

        Call ``push(samples, timestamps_s)`` or, if sensors have names, ``push(sensor, samples,
        timestamps_s)``.

        Parameters
        ----------
        sensor : str
            Name of the sensor.
        samples : array-like or DataFrame of shape (n, n_channels)
            Any number of samples, with the columns of `channels`, in the units of training; a
            DataFrame may have them in any order. NaN is a missing value, and so is infinity or a
            value too large for float32.
        timestamps_s : array-like of shape (n,), optional
            Times in seconds. A sample is ignored if its time is not finite, or so large that floats
            do not resolve half a sample period. Without times, no sample may be missing, because
            sample i is assumed to be at time i / `sample_rate_hz`. Several sensors need times, on
            the same clock.

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
            If the model has no such sensor, or a DataFrame lacks a channel or has an unknown
            column.
        """
        if self.names_sensors:
            return self._push_sensor(*arguments, **named)
        return self._push(*arguments, **named)

    def _push(
        self, samples: ArrayLike, timestamps_s: ArrayLike | None = None
    ) -> list[StreamDecision]:
        windows = self.sensors[UNNAMED].push(samples, timestamps_s)
        rows = [{UNNAMED: window} for window in windows]
        return self._smoothed(self._decide(rows)) if rows else []

    def _push_sensor(
        self, sensor: str, samples: ArrayLike, timestamps_s: ArrayLike
    ) -> list[StreamDecision]:
        check_sensor(sensor, list(self.sensors))
        rate = f"{{{sensor!r}: HZ}} (--sample-rate-hz {sensor}=HZ)"
        with noting(f"of sensor {sensor!r}; set only this sensor's rate with {rate}", SignalError):
            windows = self.sensors[sensor].push(samples, timestamps_s)
        for window in windows:
            self._add(sensor, window)
        return self._smoothed(self._decide(self._due(whole=False)))

    def flush(self) -> list[StreamDecision]:
        """End the signals and return the remaining decisions; other signals may follow."""
        rows: list[Row] = []
        for name, sensor in self.sensors.items():
            for window in sensor.flush():
                if self.names_sensors:
                    self._add(name, window)
                else:
                    rows.append({name: window})
        decisions = self._smoothed(self._decide([*rows, *self._due(whole=True)]))
        self._done_s = -np.inf
        if self._smoother is not None:
            last = self._settled(self._smoother.flush())
            self.n_decisions += len(last)
            decisions += last
        return decisions

    # Rows of windows that begin together

    def _add(self, sensor: str, window: CutWindow) -> None:
        """Add a sensor's window to the row of windows that begin at the same time."""
        if window.start_s <= self._done_s + self._slop_s + 1e-9:
            self.n_late += 1
            return
        for at, row in enumerate(self._rows):
            start_s = min(other.start_s for other in row.values())
            if abs(window.start_s - start_s) <= self._slop_s + 1e-9 and sensor not in row:
                row[sensor] = window
                return
            if window.start_s < start_s:
                self._rows.insert(at, {sensor: window})
                return
        self._rows.append({sensor: window})

    def _due(self, *, whole: bool) -> list[Row]:
        """Return the rows that are to be decided; with `whole`, no more windows will follow."""
        due = []
        while self._rows:
            row = self._rows[0]
            is_complete = len(row) == len(self.sensors)
            if not (is_complete or whole or self._is_late(row)):
                break
            del self._rows[0]
            self._done_s = min(window.start_s for window in row.values())
            if is_complete or self._model.missing != "error":
                due.append(row)
            else:
                self.n_dropped += 1
        return due

    def _is_late(self, row: Row) -> bool:
        """Test whether all absent sensors have later windows, or the maximum wait has passed."""
        start_s = min(window.start_s for window in row.values())
        lacking = [name for name in self.sensors if name not in row]
        if all(any(name in later for later in self._rows[1:]) for name in lacking):
            return True
        if self._model.missing == "error":
            return False
        end_s = max(window.end_s for window in row.values())
        newest_s = start_s if self.newest_s is None else self.newest_s
        return newest_s - end_s > self._wait_s + self.latency_s

    # Decisions

    def _decide(self, rows: list[Row]) -> list[StreamDecision]:
        """Join the logits of the windows in each row, and decide about all rows together."""
        if not rows:
            return []
        logits = np.zeros((len(self.sensors), len(rows), len(self.classes)))
        of_sensors = np.full((len(rows), len(self.sensors)), EMPTY, np.int8)
        for at, name in enumerate(self.sensors):
            for number, row in enumerate(rows):
                if name in row:
                    logits[at, number], of_sensors[number, at] = row[name].logits, row[name].lacks
        joined = self._model.sum.join(logits, of_sensors)
        probabilities, lacks = self._model.decided(*joined)
        answered = answered_windows(probabilities, lacks, self._threshold)
        decisions, newest_s = [], self.newest_s
        for row, shares, is_answered, lack in zip(rows, probabilities, answered, lacks.tolist()):
            windows = row.values()
            end_s, best = max(window.end_s for window in windows), int(np.argmax(shares))
            known = [window.outside for window in windows if window.outside is not None]
            decisions.append(
                StreamDecision(
                    min(window.start_s for window in windows),
                    end_s,
                    self.classes[best],
                    float(shares[best]),
                    tuple(shares.tolist()),
                    is_answered,
                    _delay_s(newest_s, end_s),
                    any(known) if known else None,
                    lack,
                )
            )
        return decisions

    def _smoothed(self, decisions: list[StreamDecision]) -> list[StreamDecision]:
        """Return the decisions that are due after smoothing, and count them."""
        if self._smoother is not None:
            self._waiting.extend(decisions)
            due = []
            for decision in decisions:
                middle_s = (decision.start_s + decision.end_s) / 2
                likelihood = np.array(decision.probabilities) / self._model.class_shares
                due += self._smoother.push(middle_s, likelihood)
            decisions = self._settled(due)
        self.n_decisions += len(decisions)
        return decisions

    def _settled(self, rows: list[NDArray[np.float64]]) -> list[StreamDecision]:
        """Return the oldest waiting decisions, updated with their smoothed probabilities."""
        decisions, newest_s = [], self.newest_s
        for row in rows:
            decision, best = self._waiting.popleft(), int(np.argmax(row))
            lacks = np.array([decision.lacks])
            decisions.append(
                replace(
                    decision,
                    label=self.classes[best],
                    probability=float(row[best]),
                    probabilities=tuple(row.tolist()),
                    answered=answered_windows(row[np.newaxis], lacks, self._threshold)[0],
                    delay_s=_delay_s(newest_s, decision.end_s),
                )
            )
        return decisions

    def _report_outside(self, sensor: str, outside: OutsideWindows) -> None:
        if self.on_outside is not None:
            channels = names_of_sensor(sensor, outside.channels)
            self.on_outside(replace(outside, channels=channels))


def _delay_s(newest_s: float | None, end_s: float) -> float:
    """Return the time from the end of a window to the newest sample."""
    return 0.0 if newest_s is None else round(newest_s - end_s, CLOCK_DIGITS)
