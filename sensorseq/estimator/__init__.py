"""The estimators: predict classes or numbers from windows of sensor signals."""

from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.regressor import SensorLSTMRegressor
from sensorseq.prediction.decisions import Decisions, RecordingDecision
from sensorseq.prediction.stream import DecisionStream, StreamDecision

__all__ = [
    "DecisionStream",
    "Decisions",
    "RecordingDecision",
    "SensorLSTMClassifier",
    "SensorLSTMRegressor",
    "StreamDecision",
]
