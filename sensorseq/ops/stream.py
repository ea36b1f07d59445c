"""The ops of a stream, which run one layer with packed weights and update its state in place.

``lstm_pack(weight_ih, weight_hh, bias)`` arranges the weights of one layer in the order in which
the current instruction set reads them. The shapes of the arguments are (1, 1, 4H, C), (1, 1, 4H, H)
and (1, 1, 4H). The op returns a uint8 tensor that is valid only for the current instruction set and
this version of sensorseq; the other ops reject any other tensor.

``lstm_linear_stream(x, packed, weight_out, bias_out, h, c)`` accepts x (N, T, C), or (N, C) or (C,)
for one step. It returns the logits (N, K) after the last step, from weight_out (K, H) and bias_out
(K,), and writes the final state into h and c (N, H). ``lstm_stream(x, packed, h, c)`` returns the
hidden sequence (N, T, H) instead.

These ops are for inference: the results have no autograd graph. The ops have no Python wrapper,
because a call of one step takes only a few microseconds.
"""

import torch
from torch import Tensor

from sensorseq.ops import _extension

_PADDING = 16  # kVectorPadding in csrc/lstm/gates.h
_ALIGNMENT = 64  # Aligned() in csrc/cpu/dispatch.h
_HEADER_BYTES = 64  # PackedHeader in csrc/cpu/dispatch.h

_extension.load()

lstm_pack = torch.ops.sensorseq.lstm_pack.default
lstm_stream = torch.ops.sensorseq.lstm_stream.default
lstm_linear_stream = torch.ops.sensorseq.lstm_linear_stream.default


@torch.library.register_fake("sensorseq::lstm_pack")
def _(weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    n_models, n_directions, _, hidden_size = weight_hh.shape
    padded = -(-hidden_size // _PADDING) * _PADDING
    n_values = 4 * padded * (hidden_size + weight_ih.shape[3] + 1)
    n_values = -(-n_values // _ALIGNMENT) * _ALIGNMENT
    n_bytes = _HEADER_BYTES + n_models * n_directions * n_values * weight_hh.element_size()
    return weight_hh.new_empty(n_bytes, dtype=torch.uint8)


@torch.library.register_fake("sensorseq::lstm_stream")
def _(x: Tensor, packed: Tensor, h: Tensor, c: Tensor) -> Tensor:
    _check_devices(x, packed)
    return x.new_empty((h.shape[0], x.shape[1] if x.dim() == 3 else 1, h.shape[1]))


@torch.library.register_fake("sensorseq::lstm_linear_stream")
def _(
    x: Tensor, packed: Tensor, weight_out: Tensor, bias_out: Tensor, h: Tensor, c: Tensor
) -> Tensor:
    _check_devices(x, packed)
    return x.new_empty((h.shape[0], weight_out.shape[0]))


def _check_devices(x: Tensor, packed: Tensor) -> None:
    torch._check(x.device == packed.device, lambda: "x and packed are on different devices")


# Build no graph, even if an input requires a gradient. Torch's fallback would build a graph whose
# backward pass only warns, and which grows with every call because the state is updated in place.
_library = torch.library.Library("sensorseq", "IMPL")
for _op in ("lstm_pack", "lstm_stream", "lstm_linear_stream"):
    _library.impl(_op, torch.library.fallthrough_kernel, "Autograd")
