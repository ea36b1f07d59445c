"""The public ops (temporary: reference only)."""
import torch
from torch import Tensor
from sensorseq.ops import reference
POOLINGS = ("last", "mean", "max", "meanmax")
def pooled_size(pooling, hidden_size, n_directions):
    return hidden_size * n_directions * (2 if pooling == "meanmax" else 1)
def kernel_for(device_type, dtype):
    return "reference"
def lstm(x, weight_ih, weight_hh, bias, *, lengths=None, h_0=None, c_0=None, recurrent_mask=None):
    return reference.lstm(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
def lstm_linear(x, weight_ih, weight_hh, bias, weight_out, bias_out, *, pooling="last", lengths=None, h_0=None, c_0=None, recurrent_mask=None):
    return reference.lstm_linear(x, lengths, weight_ih, weight_hh, bias, weight_out, bias_out, h_0, c_0, recurrent_mask, pooling)
