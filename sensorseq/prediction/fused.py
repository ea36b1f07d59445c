"""FusedModel: the trained models of several sensors, which classify windows or streams together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, InputError, SignalError, WindowError, noting
from sensorseq.io.model_file import TakeField
from sensorseq.prediction.decisions import (
    Abstention,
    Predictor,
    answered_windows,
    read_classes,
    refuse_empty,
    softmax,
)
from sensorseq.prediction.fusion import Fusion, check_sensor, join_sensors_outside
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.stream import DecisionStream, StreamDecision, prediction_plan
from sensorseq.recording import Recording
from sensorseq.sensor_windows import SensorWindows, align_sensors
from sensorseq.sequence.smoothing import Smoothing

_SMALLEST = 1e-300  # lower bound of probabilities whose logarithm is taken


@dataclass(frozen=True, eq=False)
class FusedModel(Predictor):
    """A trained classifier of windows of several sensors.

    Attributes
    ----------
    classes : ndarray of shape (K,)
        Labels in the order of the probabilities.
    models : mapping of str to TrainedModel
        The model of each sensor.
    fusion : Fusion
        The weights with which the logits of the sensors are joined.
    temperature, shares, abstention
        As in a TrainedModel.
    """

    classes: NDArray[Any]
    models: Mapping[str, TrainedModel]
    fusion: Fusion
    temperature: float = 1.0
    shares: NDArray[np.float64] | None = None
    abstention: Abstention | None = None
    preparation: None = None  # each sensor has its own preparation

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: sensors {', '.join(self.models)}>"

    @property
    def missing(self) -> str:
        """The treatment of missing samples and sensors; see `SensorFusionClassifier`."""
        return self.fusion.missing

    @property
    def has_ranges(self) -> bool:
        """True if the model has the ranges of its training windows, which `outside` needs."""
        return all(model.has_ranges for model in self.models.values())

    def of_sensors(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return all sensors' logits (n_sensors, n, K) and `lacks` (n, n_sensors); see `gaps`."""
        windows, present = self.fusion.read(X, lengths)
        logits = np.zeros((len(self.models), len(windows), len(self.classes)))
        lacks = np.full(present.shape, EMPTY, np.int8)
        for name, of_sensor, rows in windows.by_sensor():
            at = self.fusion.sensors.index(name)
            with noting(f"in the windows of sensor {name!r}"):
                logits[at, rows], lacks[rows, at] = self.models[name].logits_and_lacks(of_sensor)
        return logits, lacks

    def logits_and_lacks(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits (zeros for an EMPTY window) and `lacks` (n,); see `gaps`."""
        logits, lacks = self.of_sensors(X, lengths)
        is_empty = lacks.min(axis=1) == EMPTY
        return self.fusion.join(logits, lacks), np.where(is_empty, EMPTY, COMPLETE)

    def check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        """Raise an InputError if a window is EMPTY and therefore cannot be classified."""
        refuse_empty(lacks, self.missing, "sensor", "sensor")

    def cut(self, X: Any) -> Any:
        """Cut recordings into windows as in training; return anything else unchanged."""
        return cut_sensors(self.models, X, self.missing) if are_recordings(X) else X

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike the training windows; see `SensorLSTMClassifier.outside`."""
        windows, _ = self.fusion.read(X, lengths)
        by_sensor = {
            name: (self.models[name].outside(of_sensor), rows)
            for name, of_sensor, rows in windows.by_sensor()
        }
        channels = {name: model.channel_names for name, model in self.models.items()}
        return join_sensors_outside(by_sensor, channels, len(windows))

    def stream(
        self,
        sample_rate_hz: Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
    ) -> "SensorStream":
        """Return a stream that classifies samples; see `SensorFusionClassifier.stream`."""
        return SensorStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            max_wait_s=max_wait_s,
        )


def read_fused(take: TakeField, models: Mapping[str, TrainedModel]) -> FusedModel:
    """Read a fused model from a file, given the models of its sensors; `take` reads a field."""
    fused = FusedModel(
        models=models, fusion=Fusion.restore(take("fusion", dict)), **read_classes(take)
    )
    for name, model in models.items():
        if model.classes.tolist() != fused.classes.tolist():
            raise ValueError(f"the classes of sensor {name!r} differ from the fused model's")
    return fused


def are_recordings(X: Any) -> bool:
    """Test whether X is a mapping from sensors to recordings."""
    return isinstance(X, Mapping) and any(
        isinstance(value, Recording)
        or (isinstance(value, (list, tuple)) and value and isinstance(value[0], Recording))
        for value in X.values()
    )


def cut_sensors(
    models: Mapping[str, Predictor],
    recordings: Mapping[str, Any],
    missing: str,
    hop_s: float | None = None,
) -> SensorWindows:
    """Cut the recordings of each sensor into windows as in training, and align them."""
    sets, slops = {}, []
    problem: WindowError | None = None
    for name, of_sensor in recordings.items():
        check_sensor(name, list(models))
        plan = prediction_plan(models[name].preparation, hop_s)
        if isinstance(of_sensor, Recording):
            of_sensor = [of_sensor]
        slops.append(plan.options.slop_s)
        try:
            with noting(f"in the recordings of sensor {name!r}"):
                unlabeled = [replace(each, label=None, label_spans=()) for each in of_sensor]
                sets[name] = plan.prepare(unlabeled)
        except WindowError as error:  # the recordings are too short for a window, or there are none
            if missing == "error":
                raise
            problem = error
    if problem is not None and not sets:
        raise problem
    slop_s = None if None in slops else max(slop for slop in slops if slop is not None)
    missing = "error" if missing == "error" else "expected"  # align_sensors refuses "outside"
    return align_sensors(sets, slop_s=slop_s, missing=missing)


class SensorStream:
    """Classify samples of several sensors; see `SensorFusionClassifier.stream`.

    A decision is due when the windows of all sensors are complete. If sensors may be missing, a
    decision is also due when all missing sensors have a later window, or when any sensor has a
    sample more than `latency_s` plus `max_wait_s` after the end of the window. Push samples in
    chunks shorter than `max_wait_s`.

    Attributes
    ----------
    sensors : dict of str to DecisionStream
        The stream of each sensor, with its `channels` and `sample_rate_hz`.
    classes : list
        Labels in the order of the probabilities.
    hop_s, latency_s : float
        As in a DecisionStream; `latency_s` is the longest latency of all sensors.
    n_dropped : int
        Number of windows that got no decision because a required sensor was missing.
    n_late : int
        Number of windows of single sensors that were completed too late for the decision.
    on_outside : callable or None
        As in a DecisionStream, but called once per sensor; channel names have the form
        ``sensor: channel``.
    """

    def __init__(
        self,
        model: FusedModel,
        sample_rate_hz: Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
    ) -> None:
        if sample_rate_hz is not None and not isinstance(sample_rate_hz, Mapping):
            raise ArgumentError(
                f"sample_rate_hz={sample_rate_hz!r} names no sensor; give the rate of each sensor"
                f" by its name ({', '.join(model.models)})."
            )
        rates = dict(sample_rate_hz or {})
        self._model, self._fusion = model, model.fusion
        for name in rates:
            check_sensor(name, self._fusion.sensors)
        self.sensors = {
            name: DecisionStream(
                model_of_sensor,
                rates.get(name),
                max_gap_s=max_gap_s,
                max_delay_s=max_delay_s,
                smoothing=Smoothing("none"),
            )
            for name, model_of_sensor in model.models.items()
        }
        for name, stream in self.sensors.items():
            stream.on_outside = partial(self._report_outside, name)
        self.on_outside: Callable[[OutsideWindows], None] | None = None
        first = next(iter(self.sensors.values()))
        self.classes, self.hop_s = first.classes, first.hop_s
        slops = [stream.slop_s for stream in self.sensors.values()]
        if None in slops:
            raise InputError(
                "the windows of the model's sensors were not prepared together, so it is unknown"
                " which windows belong together; prepare recordings with native_rates=True."
            )
        self._slop_s = max(float(slop) for slop in slops if slop is not None)
        self.latency_s = max(stream.latency_s for stream in self.sensors.values())
        self._wait_s = self.hop_s if max_wait_s is None else float(max_wait_s)
        self.n_decisions = self.n_dropped = self.n_late = 0
        self._done_s = -np.inf  # start of the last row that was decided or dropped
        # in time order; each row has the sensors' decisions about windows that begin together
        self._rows: list[dict[str, StreamDecision]] = []

    def push(
        self, sensor: str, samples: ArrayLike, timestamps_s: ArrayLike
    ) -> list[StreamDecision]:
        """Process the next samples of a sensor and return the decisions that are due.

        Parameters
        ----------
        sensor : str
            Name of the sensor.
        samples, timestamps_s
            As in `DecisionStream.push`; the times of all sensors are on the same clock.

        Raises
        ------
        InputError
            If the model has no such sensor.
        """
        check_sensor(sensor, self._fusion.sensors)
        rate = f"{{{sensor!r}: HZ}} (--sample-rate-hz {sensor}=HZ)"
        with noting(f"of sensor {sensor!r}; set only this sensor's rate with {rate}", SignalError):
            decisions = self.sensors[sensor].push(samples, timestamps_s)
        for decision in decisions:
            self._add(sensor, decision)
        return self._due(whole=False)

    def flush(self) -> list[StreamDecision]:
        """End the signals and return the remaining decisions; other signals may follow."""
        for name, stream in self.sensors.items():
            for decision in stream.flush():
                self._add(name, decision)
        decisions = self._due(whole=True)
        self._done_s = -np.inf
        return decisions

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of decisions and of dropped and late windows, and the counts of each sensor."""
        counts = {
            "n_decisions": self.n_decisions,
            "n_dropped": self.n_dropped,
            "n_late windows": self.n_late,
        }
        for name, stream in self.sensors.items():
            of_sensor = stream.counts.items()
            counts |= {f"{key} of {name}": n for key, n in of_sensor if key != "n_decisions"}
        return counts

    def _add(self, sensor: str, decision: StreamDecision) -> None:
        """Add a sensor's decision to the row of windows that begin at the same time."""
        if decision.start_s <= self._done_s + self._slop_s + 1e-9:
            self.n_late += 1
            return
        for at, row in enumerate(self._rows):
            start_s = min(other.start_s for other in row.values())
            if abs(decision.start_s - start_s) <= self._slop_s + 1e-9 and sensor not in row:
                row[sensor] = decision
                return
            if decision.start_s < start_s:
                self._rows.insert(at, {sensor: decision})
                return
        self._rows.append({sensor: decision})

    def _due(self, *, whole: bool) -> list[StreamDecision]:
        decisions = []
        while self._rows:
            row = self._rows[0]
            is_complete = len(row) == len(self.sensors)
            if not (is_complete or whole or self._is_late(row)):
                break
            del self._rows[0]
            self._done_s = min(decision.start_s for decision in row.values())
            if is_complete or self._fusion.missing != "error":
                decisions.append(self._join(row))
                self.n_decisions += 1
            else:
                self.n_dropped += 1
        return decisions

    def _is_late(self, row: Mapping[str, StreamDecision]) -> bool:
        """Test whether all absent sensors have later decisions, or the maximum wait has passed."""
        start_s = min(decision.start_s for decision in row.values())
        lacking = [name for name in self.sensors if name not in row]
        if all(any(name in later for later in self._rows[1:]) for name in lacking):
            return True
        if self._fusion.missing == "error":
            return False
        end_s = max(decision.end_s for decision in row.values())
        newest_s = max(self._newest_times(), default=start_s)
        return newest_s - end_s > self._wait_s + self.latency_s

    def _newest_times(self) -> list[float]:
        """Return the time of the newest sample of each sensor that has sent samples."""
        times = [stream.newest_s for stream in self.sensors.values()]
        return [newest_s for newest_s in times if newest_s is not None]

    def _join(self, row: Mapping[str, StreamDecision]) -> StreamDecision:
        logits = np.zeros((len(self.sensors), 1, len(self.classes)))
        lacks = np.full((1, len(self.sensors)), EMPTY, np.int8)
        for name, decision in row.items():
            at = self._fusion.sensors.index(name)
            logs = np.log(np.maximum(decision.probabilities, _SMALLEST))
            logits[at, 0] = logs * self._model.models[name].temperature
            lacks[0, at] = decision.lacks
        probabilities = softmax(self._fusion.join(logits, lacks))
        lack = EMPTY if lacks.min() == EMPTY else COMPLETE
        if lack == EMPTY:
            probabilities[0] = self._model.class_shares
        best = int(probabilities[0].argmax())
        abstention = self._model.abstention
        threshold = None if abstention is None else abstention.threshold
        (answered,) = answered_windows(probabilities, np.array([lack]), threshold)
        outside = [decision.outside for decision in row.values()]
        are_outside = [is_outside for is_outside in outside if is_outside is not None]
        end_s = max(decision.end_s for decision in row.values())
        return StreamDecision(
            min(decision.start_s for decision in row.values()),
            end_s,
            self.classes[best],
            float(probabilities[0, best]),
            tuple(probabilities[0].tolist()),
            answered,
            round(max(self._newest_times(), default=end_s) - end_s, 9),
            any(are_outside) if are_outside else None,
            lack,
        )

    def _report_outside(self, sensor: str, outside: OutsideWindows) -> None:
        if self.on_outside is not None:
            channels = tuple(f"{sensor}: {name}" for name in outside.channels)
            self.on_outside(replace(outside, channels=channels))
