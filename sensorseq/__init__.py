"""Classify robot sensor sequences with a fast, honest LSTM that explains its results.

Names are loaded on first use, so that `import sensorseq` stays light: torch is imported only when a
feature needs it. Import other names from their packages: `sensorseq.preprocessing`,
`sensorseq.evaluation`, `sensorseq.model_selection` and `sensorseq.nn`.
"""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.diagnosis.report import FluctuationReport
    from sensorseq.estimator import SensorFusionClassifier, SensorLSTMClassifier
    from sensorseq.first_model import run
    from sensorseq.inspection.label_errors import find_label_errors
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.transformers import (
        ChannelScaler,
        ClassBalancer,
        Resampler,
        Windower,
    )
    from sensorseq.readers import read_recordings, read_sensors
    from sensorseq.recording import Recording
    from sensorseq.sensor_windows import SensorWindows
    from sensorseq.windows import WindowSet

__version__ = "0.1.0"

__all__ = [
    "ChannelScaler",
    "ClassBalancer",
    "FluctuationReport",
    "PreparePipeline",
    "Recording",
    "Resampler",
    "SensorFusionClassifier",
    "SensorLSTMClassifier",
    "SensorWindows",
    "WindowSet",
    "Windower",
    "__version__",
    "find_label_errors",
    "read_recordings",
    "read_sensors",
    "run",
]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "ChannelScaler": "preprocessing.transformers",
        "ClassBalancer": "preprocessing.transformers",
        "FluctuationReport": "diagnosis.report",
        "PreparePipeline": "preprocessing.pipeline",
        "Recording": "recording",
        "Resampler": "preprocessing.transformers",
        "SensorFusionClassifier": "estimator",
        "SensorLSTMClassifier": "estimator",
        "SensorWindows": "sensor_windows",
        "WindowSet": "windows",
        "Windower": "preprocessing.transformers",
        "find_label_errors": "inspection.label_errors",
        "read_recordings": "readers",
        "read_sensors": "readers",
        "run": "first_model",
    },
)
