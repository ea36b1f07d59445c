"""TrainedModel: a trained classifier of windows of one or several sensors, with all it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.io.model_file import TakeField, describe_labels, read_labels
from sensorseq.prediction.classifier_methods import ClassifierMethods
from sensorseq.prediction.decisions import (
    check_abstention,
    check_shares,
    check_temperature,
)
from sensorseq.prediction.inputs import Input, check_sensor
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.sensors import SensorSum, read_rows
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.probability_model import ProbabilityModel
from sensorseq.preprocessing.scale import Scaler
from sensorseq.sensor_windows import UNNAMED


@dataclass(frozen=True, eq=False)
class TrainedModel(ClassifierMethods, ProbabilityModel):
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

    # Hooks of `ClassifierMethods`

    def _fitted_model(self) -> "TrainedModel":
        return self

    def _open(self, X: Any, name: str = "X") -> Any:
        """Return X, because a model does not read files."""
        return X

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
