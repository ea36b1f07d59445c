"""Classify robot sensor sequences with an LSTM that is fast, honest and explains itself.

Names are loaded when first used, so that `import sensorseq` stays light: nothing imports torch
before a feature that needs it is touched.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensorseq.estimator import SensorLSTMClassifier, SensorLSTMRegressor
    from sensorseq.evaluation.calibration import calibration_error
    from sensorseq.evaluation.metrics import score_predictions
    from sensorseq.fluctuation.report import FluctuationReport
    from sensorseq.history import History
    from sensorseq.preprocessing.augment import Augmentation
    from sensorseq.preprocessing.leakage import find_leakage
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.resample import StreamResampler
    from sensorseq.preprocessing.splitters import (
        BlockedTimeSplit,
        GroupBalancedKFold,
        GroupBalancedShuffleSplit,
    )
    from sensorseq.preprocessing.step_transformer import SignalSteps
    from sensorseq.preprocessing.transformers import (
        Augmenter,
        ChannelScaler,
        ClassBalancer,
        Resampler,
        Windower,
    )
    from sensorseq.readers import read_recordings
    from sensorseq.recording import Channel, LabelSpan, Recording
    from sensorseq.windows import WindowSet

__version__ = "0.1.0"

_HOME = {
    "Augmentation": "preprocessing.augment",
    "Augmenter": "preprocessing.transformers",
    "BlockedTimeSplit": "preprocessing.splitters",
    "Channel": "recording",
    "ChannelScaler": "preprocessing.transformers",
    "ClassBalancer": "preprocessing.transformers",
    "FluctuationReport": "fluctuation.report",
    "GroupBalancedKFold": "preprocessing.splitters",
    "GroupBalancedShuffleSplit": "preprocessing.splitters",
    "History": "history",
    "LabelSpan": "recording",
    "PreparePipeline": "preprocessing.pipeline",
    "Recording": "recording",
    "Resampler": "preprocessing.transformers",
    "SensorLSTMClassifier": "estimator",
    "SensorLSTMRegressor": "estimator",
    "SignalSteps": "preprocessing.step_transformer",
    "StreamResampler": "preprocessing.resample",
    "WindowSet": "windows",
    "Windower": "preprocessing.transformers",
    "calibration_error": "evaluation.calibration",
    "find_leakage": "preprocessing.leakage",
    "read_recordings": "readers",
    "score_predictions": "evaluation.metrics",
}
__all__ = [
    "Augmentation",
    "Augmenter",
    "BlockedTimeSplit",
    "Channel",
    "ChannelScaler",
    "ClassBalancer",
    "FluctuationReport",
    "GroupBalancedKFold",
    "GroupBalancedShuffleSplit",
    "History",
    "LabelSpan",
    "PreparePipeline",
    "Recording",
    "Resampler",
    "SensorLSTMClassifier",
    "SensorLSTMRegressor",
    "SignalSteps",
    "StreamResampler",
    "WindowSet",
    "Windower",
    "__version__",
    "calibration_error",
    "find_leakage",
    "read_recordings",
    "score_predictions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sensorseq' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sensorseq.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
