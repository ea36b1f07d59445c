"""The estimator: predict classes from windows of sensor signals."""

from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.prediction.decisions import Decisions, RecordingDecision
from sensorseq.prediction.stream import DecisionStream, StreamDecision

__all__ = [
    "DecisionStream",
    "Decisions",
    "RecordingDecision",
    "SensorLSTMClassifier",
    "StreamDecision",
]
