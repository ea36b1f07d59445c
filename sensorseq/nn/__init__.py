"""Torch modules that use the native kernels."""

from sensorseq.nn.lstm import LSTM
from sensorseq.nn.lstm_linear import DropoutSource, LSTMLinear, Stream
from sensorseq.ops.train_epoch import HEAD_NORMS

__all__ = [
    "HEAD_NORMS",
    "LSTM",
    "DropoutSource",
    "LSTMLinear",
    "Stream",
]
