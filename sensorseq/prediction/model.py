"""TrainedModel: a trained classifier of windows of one or several sensors, with all it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.checks import check_groups, check_positive, check_real
from sensorseq.errors import InputError, check_choice
from sensorseq.io.model_file import TakeField, describe_labels, read_labels
from sensorseq.prediction.checked_windows import refuse_path
from sensorseq.prediction.decisions import (
    Decisions,
    RecordingDecision,
    answered_windows,
    check_abstention,
    check_shares,
    check_temperature,
    decide_recording,
    softmax,
)
from sensorseq.prediction.inputs import Input, check_sensor
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.sensors import SensorSum, read_rows
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.preparation import Preparation
from sensorseq.prediction.probability_model import ProbabilityModel
from sensorseq.prediction.stream import DecisionStream
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.preprocessing.scale import Scaler
from sensorseq.sensor_windows import UNNAMED, window_set_of
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.smoothing import Smooth, Smoothing, as_smoothing
from sensorseq.windows import iter_recordings


@dataclass(frozen=True, eq=False)
class TrainedModel(ProbabilityModel):
    """A trained classifier of windows of one sensor or of several sensors.

    The attributes are those of a `ProbabilityModel`: `classes`, `inputs`, `sum`, `temperature`,
    `shares` and `abstention`.
    """

    def __repr__(self) -> str:
        of = f"sensors {', '.join(self.inputs)}"
        if not self.names_sensors:
            of = f"{self.n_channels} channels"
        return f"<{type(self).__name__}: {of}, {len(self.classes)} classes>"

    # Sensors

    def of_sensor(self, name: str) -> "TrainedModel":
        """Return the model of one sensor alone, without class shares and threshold."""
        check_sensor(name, list(self.inputs))
        temperature = self.temperature
        if isinstance(self.sum, SensorSum):
            temperature = self.sum.temperatures[name]
        of_sensor = {UNNAMED: self.inputs[name]}
        return TrainedModel(self.classes, of_sensor, self.sum.of_sensor(name), temperature)

    def with_sensors(self, models: Mapping[str, "TrainedModel"]) -> "TrainedModel":
        """Return the model with other models of its sensors; the weights of the sensors stay."""
        assert isinstance(self.sum, SensorSum)
        sums: dict[str, Member] = {name: model.sum for name, model in models.items()}
        temperatures = {name: model.temperature for name, model in models.items()}
        joint = replace(self.sum, members=sums, temperatures=temperatures)
        inputs = {name: model.input for name, model in models.items()}
        return replace(self, inputs=inputs, sum=joint)

    def with_input(self, **changes: Any) -> "TrainedModel":
        """Return a model of one sensor with changed fields of its input."""
        changed = replace(self.input, **changes)
        return replace(self, inputs=dict.fromkeys(self.inputs, changed))

    @property
    def lstm(self) -> LstmMember:
        """The LSTM of a model of one sensor, which may have weight 0."""
        return self.sum.lstm

    def with_lstm(self, **changes: Any) -> "TrainedModel":
        """Return the model with changed fields of its LSTM, such as other networks."""
        return replace(self, sum=self.sum.with_member(LSTM, replace(self.lstm, **changes)))

    @property
    def n_channels(self) -> int:
        """The number of channels of the only sensor."""
        return self.input.n_channels

    @property
    def channels(self) -> list[str] | None:
        """The names of the channels of the only sensor, or None if they have no names."""
        return self.input.channels

    @property
    def scaler(self) -> Scaler | None:
        """The scaling of the only sensor's channels."""
        return self.input.scaler

    @property
    def preparation(self) -> Preparation | None:
        """How the windows were prepared; None if there are several sensors, each with its own."""
        return None if self.names_sensors else self.input.preparation

    # Predictions

    def stream(
        self,
        sample_rate_hz: Union[float, Mapping[str, float], None] = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
        smooth: Smooth = "none",
    ) -> DecisionStream:
        """Return a stream that classifies samples; see the method of the classifiers.

        `max_wait_s` is for several sensors, and `smooth` for one.
        """
        return DecisionStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            max_wait_s=max_wait_s,
            smoothing=self.smoothing(smooth),
        )

    def predict(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Return the most probable label of each window; see `SensorLSTMClassifier.predict`."""
        return np.asarray(self.classes[self.logits(X, lengths).argmax(axis=1)])

    def predict_proba(self, X: Any, lengths: ArrayLike | None = None) -> NDArray[np.float64]:
        """Return probabilities (n, K); see `SensorLSTMClassifier.predict_proba`."""
        return softmax(self.logits(X, lengths) / self.temperature)

    def predict_or_abstain(
        self, X: Any, lengths: ArrayLike | None = None, *, threshold: float | None = None
    ) -> Decisions:
        """Return labels, masked where uncertain; see `SensorLSTMClassifier.predict_or_abstain`."""
        if threshold is None and self.abstention is not None:
            threshold = self.abstention.threshold
        if threshold is None:
            raise InputError(
                "there is no threshold yet: call fit_abstention on held-out windows first, or"
                " give a probability as threshold=."
            )
        check_real("threshold", threshold, 0.0, 1.0, high_open=False)
        rows, lacks = self.probabilities(X, lengths)
        probability = rows.max(axis=1)
        answered = np.array(answered_windows(rows, lacks, threshold), bool)
        label = np.ma.MaskedArray(self.classes[rows.argmax(axis=1)], mask=~answered)
        return Decisions(label, probability, answered)

    def predict_recordings(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        how: str = "mean",
    ) -> list[RecordingDecision]:
        """Return a label for each recording; see `SensorLSTMClassifier.predict_recordings`."""
        check_choice("how", how, ("mean", "vote"))
        if recording_id is None and (windows := window_set_of(X)) is not None:
            recording_id = windows.recording_id
        if recording_id is None:
            raise InputError(
                "the recording of each window is unknown; give recording_id, or a WindowSet that"
                " has it."
            )
        probabilities = self.predict_proba(X, lengths)
        ids = check_groups("recording_id", recording_id, len(probabilities))
        assert ids is not None
        return [
            decide_recording(name, probabilities[rows], how, self.classes.tolist())
            for name, rows in iter_recordings(ids)
        ]

    def smoothing(self, smooth: Smooth) -> Smoothing:
        """Check a `Smoothing`, and replace fields that are None by values learned in training."""
        return self.with_learned_dwell(as_smoothing(smooth))

    def with_learned_dwell(self, smoothing: Smoothing) -> Smoothing:
        """Replace fields that are None by values learned in training, if there are any."""
        learned = None if self.preparation is None else self.preparation.get("dwell")
        if learned is not None and len(learned["mean_s"]) == len(self.classes):
            if smoothing.mean_dwell_s is None:
                smoothing = smoothing._replace(mean_dwell_s=learned["mean_s"])
            if smoothing.transitions is None:
                smoothing = smoothing._replace(transitions=learned["follows"])
        return smoothing

    def timeline(
        self,
        X: Any,
        recording_id: ArrayLike | None = None,
        start_s: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        *,
        window_s: float | None = None,
        smooth: Smooth = "marginals",
    ) -> Timeline:
        """Return the class over time; see `SensorLSTMClassifier.timeline`."""
        refuse_path(X)
        smoothing = self.smoothing(smooth)
        X, hop_s = self.cut(X), None
        if (windows := window_set_of(X)) is not None:
            hop_s = Provenance.of(windows.provenance).hop_s
            recording_id = windows.recording_id if recording_id is None else recording_id
            start_s = windows.start_s if start_s is None else start_s
            window_s = windows.window_s if window_s is None else window_s
        if start_s is None:
            raise InputError(
                "the start of each window is unknown; give start_s in seconds, a WindowSet that has"
                " it, or recordings."
            )
        starts = np.asarray(start_s, np.float64)
        rows, _ = self.probabilities(X, lengths)
        if window_s is None:
            hops = np.diff(np.unique(starts))
            window_s = float(np.median(hops)) if len(hops) else 1.0
        return timeline_of(
            rows,
            self.classes,
            starts,
            check_positive("window_s", window_s),
            recording_id,
            hop_s=hop_s,
            class_shares=self.class_shares,
            smooth=smoothing,
        )

    # Model files

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a model of one sensor, except the weights of the networks."""
        return self.sum.state()[1] | self.input.arrays()

    def description(self) -> dict[str, Any]:
        """Return everything about a model of one sensor except arrays and arguments of the fit."""
        members = self.sum.state()[0]
        return {**self.describe_classes(), **self.input.description(), "sum": members}

    def describe_sensors(self) -> dict[str, Any]:
        """Return the names and weights of several sensors for a model file."""
        assert isinstance(self.sum, SensorSum)
        weights = {pattern: row.tolist() for pattern, row in self.sum.weights.items()}
        return {"sensors": list(self.inputs), "weights": weights, "missing": self.missing}

    def describe_classes(self) -> dict[str, Any]:
        """Return classes, temperature, threshold and class shares for a model file."""
        return {
            "classes": describe_labels(self.classes),
            "temperature": self.temperature,
            "abstention": None if self.abstention is None else list(self.abstention),
            "class_shares": None if self.shares is None else self.shares.tolist(),
        }


def read_classes(take: TakeField) -> dict[str, Any]:
    """Read the fields of `TrainedModel.describe_classes`; `take` returns a field of a type."""
    classes = read_labels(take("classes", dict))
    abstention = take("abstention", (list, type(None)))
    shares = take("class_shares", (list, type(None)))
    return {
        "classes": classes,
        "temperature": check_temperature(take("temperature", float)),
        "abstention": None if abstention is None else check_abstention(abstention),
        "shares": None if shares is None else check_shares(shares, len(classes)),
    }


def read_trained(arrays: Mapping[str, NDArray[Any]], take: TakeField) -> TrainedModel:
    """Read a model of one sensor without its networks, or raise a ValueError or TypeError.

    `take` returns a field of the description, or raises an error if the field has another type.
    """
    of_sensor = {UNNAMED: Input.restore(arrays, take)}
    members = Sum.restore(take("sum", dict), arrays)
    model = TrainedModel(**read_classes(take), inputs=of_sensor, sum=members)
    model.sum.check(model.n_channels, len(model.classes))
    return model


def read_joint(take: TakeField, models: Mapping[str, TrainedModel]) -> TrainedModel:
    """Read a model of several sensors from a file, given the models of its sensors."""
    stored, classes = take("fusion", dict), read_classes(take)
    joint = SensorSum({}, read_rows(stored), np.zeros(len(classes["classes"])))
    for name, model in models.items():
        if model.classes.tolist() != classes["classes"].tolist():
            raise ValueError(f"the classes of sensor {name!r} differ from those of all sensors")
        if model.missing != stored["missing"]:
            raise ValueError(f"missing is {stored['missing']!r}, but {model.missing!r} of {name!r}")
    return TrainedModel(**classes, inputs={}, sum=joint).with_sensors(models)
