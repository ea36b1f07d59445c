"""The estimators: windows of sensor signals to classes or to numbers."""

from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.decisions import Decisions, RecordingDecision
from sensorseq.estimator.regressor import SensorLSTMRegressor

__all__ = [
    "Decisions",
    "RecordingDecision",
    "SensorLSTMClassifier",
    "SensorLSTMRegressor",
]
