"""Classify robot sensor sequences with an LSTM that is fast, honest and explains itself.

Names are loaded when first used, so that `import sensorseq` stays light: nothing imports torch
before a feature that needs it is touched. What is not listed here is imported from its package:
`sensorseq.preprocessing`, `sensorseq.evaluation`, `sensorseq.model_selection`, `sensorseq.nn`.
"""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.diagnosis.report import FluctuationReport
    from sensorseq.estimator import (
        SensorLSTMClassifier,
        SensorLSTMRegressor,
    )
    from sensorseq.inspection.label_errors import find_label_errors
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.recording_transformers import Resampler, Windower
    from sensorseq.preprocessing.window_transformers import ChannelScaler, ClassBalancer
    from sensorseq.readers import read_recordings
    from sensorseq.recording import Recording
    from sensorseq.windows import WindowSet

__version__ = "0.1.0"

__all__ = [
    "ChannelScaler",
    "ClassBalancer",
    "FluctuationReport",
    "PreparePipeline",
    "Recording",
    "Resampler",
    "SensorLSTMClassifier",
    "SensorLSTMRegressor",
    "WindowSet",
    "Windower",
    "__version__",
    "find_label_errors",
    "read_recordings",
]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "ChannelScaler": "preprocessing.window_transformers",
        "ClassBalancer": "preprocessing.window_transformers",
        "FluctuationReport": "diagnosis.report",
        "PreparePipeline": "preprocessing.pipeline",
        "Recording": "recording",
        "Resampler": "preprocessing.recording_transformers",
        "SensorLSTMClassifier": "estimator",
        "SensorLSTMRegressor": "estimator",
        "WindowSet": "windows",
        "Windower": "preprocessing.recording_transformers",
        "find_label_errors": "inspection.label_errors",
        "read_recordings": "readers",
    },
)
