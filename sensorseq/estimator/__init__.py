"""The estimators: predict classes from windows of sensor signals."""

from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.load import AnyClassifier, load_estimator
from sensorseq.estimator.sensor_fusion import SensorFusionClassifier
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
    "load_estimator",
]
