"""The operators: an LSTM layer, and one fused with pooling and a linear head."""

from sensorseq.ops.lstm_linear import (
    POOLINGS,
    PRECISIONS,
    kernel_for,
    lstm,
    lstm_linear,
    pooled_size,
)

__all__ = ["POOLINGS", "PRECISIONS", "kernel_for", "lstm", "lstm_linear", "pooled_size"]
