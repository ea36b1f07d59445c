"""Operators: an LSTM layer, optionally fused with pooling, a linear head and the loss."""

from sensorseq.ops.lstm_linear import POOLINGS, lstm, lstm_linear, pooled_size
from sensorseq.ops.lstm_linear_loss import LOSSES, check_loss, lstm_linear_loss

__all__ = [
    "LOSSES",
    "POOLINGS",
    "check_loss",
    "lstm",
    "lstm_linear",
    "lstm_linear_loss",
    "pooled_size",
]
