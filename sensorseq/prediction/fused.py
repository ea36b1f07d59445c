"""FusedModel: a trained model of each of several sensors, and the weights of their sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import noting
from sensorseq.io.model_file import TakeField
from sensorseq.prediction.decisions import Predictor, read_classes, refuse_empty
from sensorseq.prediction.fusion import Fusion, join_sensors_outside
from sensorseq.prediction.gaps import COMPLETE, EMPTY
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.outside import OutsideWindows
from sensorseq.prediction.probabilities import Abstention
from sensorseq.prediction.sensor_stream import SensorStream, are_recordings, cut_sensors


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
        How their logits are joined.
    temperature, shares, abstention
        As of a TrainedModel.
    """

    classes: NDArray[Any]
    models: Mapping[str, TrainedModel]
    fusion: Fusion
    temperature: float = 1.0
    shares: NDArray[np.float64] | None = None
    abstention: Abstention | None = None
    preparation: None = None  # each sensor has its own

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: sensors {', '.join(self.models)}>"

    @property
    def missing(self) -> str:
        """The treatment of missing samples and sensors; see `SensorFusionClassifier`."""
        return self.fusion.missing

    @property
    def knows_ranges(self) -> bool:
        """Whether `outside` can compare windows with those of the fit."""
        return all(one.knows_ranges for one in self.models.values())

    def of_sensors(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return the logits of each sensor (n_sensors, n, K), and what it lacks (n, n_sensors)."""
        windows, present = self.fusion.read(X, lengths)
        logits = np.zeros((len(self.models), len(windows), len(self.classes)))
        lacks = np.full(present.shape, EMPTY, np.int8)
        for name, own, rows in windows.by_sensor():
            at = self.fusion.sensors.index(name)
            with noting(f"in the windows of sensor {name!r}"):
                logits[at, rows], lacks[rows, at] = self.models[name].found(own)
        return logits, lacks

    def found(
        self, X: Any, lengths: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        """Return logits, equal ones for EMPTY windows, and how much each lacks; see `gaps`."""
        logits, lacks = self.of_sensors(X, lengths)
        is_empty = lacks.min(axis=1) == EMPTY
        return self.fusion.join(logits, lacks), np.where(is_empty, EMPTY, COMPLETE)

    def check_not_empty(self, lacks: NDArray[np.int8]) -> None:
        """Raise an InputError if a window has nothing to be classified by."""
        refuse_empty(lacks, self.missing, "sensor", "sensor")

    def cut(self, X: Any) -> Any:
        """Return the windows of recordings, cut as in training; anything else as it is."""
        return cut_sensors(self.models, X, self.missing) if are_recordings(X) else X

    def outside(self, X: Any, lengths: ArrayLike | None = None) -> OutsideWindows:
        """Find windows unlike those of the fit; see `SensorLSTMClassifier.outside`."""
        windows, _ = self.fusion.read(X, lengths)
        found = {
            name: (self.models[name].outside(own), rows) for name, own, rows in windows.by_sensor()
        }
        channels = {name: one.channel_names for name, one in self.models.items()}
        return join_sensors_outside(found, channels, len(windows))

    def stream(
        self,
        sample_rate_hz: Mapping[str, float] | None = None,
        *,
        max_gap_s: float | None = None,
        max_delay_s: float = 0.0,
        max_wait_s: float | None = None,
    ) -> SensorStream:
        """Return a stream that classifies samples; see `SensorFusionClassifier.stream`."""
        return SensorStream(
            self,
            sample_rate_hz,
            max_gap_s=max_gap_s,
            max_delay_s=max_delay_s,
            max_wait_s=max_wait_s,
        )


def read_fused(take: TakeField, models: Mapping[str, TrainedModel]) -> FusedModel:
    """Return the model that a file holds, of the models of its sensors."""
    made = FusedModel(
        models=models, fusion=Fusion.restore(take("fusion", dict)), **read_classes(take)
    )
    for name, model in models.items():
        if model.classes.tolist() != made.classes.tolist():
            raise ValueError(f"the model of sensor {name!r} has other classes")
    return made
