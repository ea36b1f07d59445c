"""Predict with models trained by sensorseq, using numpy and one C library but not torch.

`load` reads a model file. The model classifies windows, recordings and streams of samples. On the
same processor, its results equal those of the trained estimator bit for bit.
"""

from importlib.metadata import PackageNotFoundError, version

from sensorseq_runtime import errors
from sensorseq_runtime.prediction.loading import load
from sensorseq_runtime.prediction.model import TrainedModel
from sensorseq_runtime.recording import Channel, Recording

try:
    __version__ = version("sensorseq-runtime")
except PackageNotFoundError:  # this copy is not installed
    __version__ = "0+unknown"

__all__ = [
    "Channel",
    "Recording",
    "TrainedModel",
    "errors",
    "load",
]
