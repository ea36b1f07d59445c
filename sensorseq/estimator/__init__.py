"""The estimators: predict classes or numbers from windows of sensor signals."""

from sensorseq.estimator.blend import SensorBlendClassifier
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.decisions import Decisions, RecordingDecision
from sensorseq.estimator.regressor import SensorLSTMRegressor

__all__ = [
    "Decisions",
    "RecordingDecision",
    "SensorBlendClassifier",
    "SensorLSTMClassifier",
    "SensorLSTMRegressor",
]
