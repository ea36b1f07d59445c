"""Predict with models that sensorseq trained: numpy and one C library, no torch.

`load` reads a model file; the model predicts windows, recordings and streams of samples with the
bits of the estimator that was trained, on the same processor.
"""

from importlib.metadata import PackageNotFoundError, version

from sensorseq_runtime import errors
from sensorseq_runtime.prediction.fused import FusedModel
from sensorseq_runtime.prediction.loading import load
from sensorseq_runtime.prediction.model import TrainedModel
from sensorseq_runtime.recording import Channel, Recording

try:
    __version__ = version("sensorseq-runtime")
except PackageNotFoundError:  # a copy that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Channel",
    "FusedModel",
    "Recording",
    "TrainedModel",
    "errors",
    "load",
]
