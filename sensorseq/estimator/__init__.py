"""The estimators: predict classes from windows of sensor signals."""

import os
from collections.abc import Callable

from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.saving import load_file
from sensorseq.estimator.sensor_fusion import SensorFusionClassifier, classifiers_of
from sensorseq.prediction.decisions import Decisions, RecordingDecision
from sensorseq.prediction.stream import DecisionStream, StreamDecision

__all__ = [
    "AnyClassifier",
    "DecisionStream",
    "Decisions",
    "RecordingDecision",
    "SensorFusionClassifier",
    "SensorLSTMClassifier",
    "StreamDecision",
    "classifiers_of",
    "load_estimator",
]

AnyClassifier = SensorLSTMClassifier | SensorFusionClassifier


def load_estimator(path: str | os.PathLike[str], *, device: str | None = None) -> AnyClassifier:
    """Load a fitted estimator of one or several sensors from a file written by `save`.

    Parameters
    ----------
    path : str or path
        The file.
    device : str, optional
        Device to use instead of the saved device.
    """
    restored: dict[bool, Callable[..., AnyClassifier]] = {
        each._names_sensors: each._restored
        for each in (SensorLSTMClassifier, SensorFusionClassifier)
    }
    return load_file(path, device, restored)
