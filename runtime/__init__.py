"""Predict with models trained by sensorseq, with numpy and one C library, without torch.

`load` reads a model file. The model classifies windows, recordings and streams of samples, with the
same bits as the trained estimator on the same processor.
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
