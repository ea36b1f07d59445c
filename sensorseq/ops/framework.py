"""The LSTM computed by torch, which uses cuDNN on a GPU.

This code runs calls that no kernel supports. The arguments and results are the same as in
`sensorseq.ops.reference`. Features that torch lacks are added: several models run in a loop, and
windows of different lengths, including 0, run as packed sequences. Calls with a recurrent mask are
passed to the reference.
"""

import warnings

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from sensorseq.ops import reference

# Ignore torch's warning that cuDNN copies the weights because they are not in one block of memory.
# Only nn.LSTM could avoid the copy.
warnings.filterwarnings("ignore", message="RNN module weights are not part", module=__name__)


def lstm(
    x: Tensor,
    lengths: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer in each direction; see `sensorseq.ops.reference.lstm`.

    On a GPU, the call waits until `lengths` is on the CPU, and tracing breaks the graph at this
    point.
    """
    if recurrent_mask is not None or not x.numel():
        return reference.lstm(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
    n_models, n_directions, _, hidden_size = weight_hh.shape
    is_training = torch.is_grad_enabled() and any(
        part is not None and part.requires_grad
        for part in (x, weight_ih, weight_hh, bias, h_0, c_0)
    )
    zeros = x.new_zeros((n_directions, x.shape[1], hidden_size))
    on_host = None if lengths is None else _on_host(lengths, x.shape[2])
    none = [None] * n_models
    each = zip(
        x.expand(n_models, -1, -1, -1).unbind(),
        *(none if part is None else part.unbind() for part in (h_0, c_0)),
        *(part.unbind() for part in (weight_ih, weight_hh, bias)),
        strict=True,
    )
    of_models = []
    for own_x, own_h, own_c, *own_weights in each:
        states = [
            zeros if part is None else part.transpose(0, 1).contiguous() for part in (own_h, own_c)
        ]
        directions = zip(*(part.unbind() for part in own_weights), strict=True)
        weights = [
            part for w_ih, w_hh, b in directions for part in (w_ih, w_hh, b, b.new_zeros(b.shape))
        ]
        options = (True, 1, 0.0, is_training, n_directions == 2)
        if on_host is None:
            hidden, *last = torch._VF.lstm(own_x, states, weights, *options, True)
        else:
            hidden, *last = _of_lengths(own_x, on_host, states, weights, options)
        of_models.append((hidden, *(part.transpose(0, 1) for part in last)))
    if n_models == 1:
        hidden, h_n, c_n = of_models[0]
        return hidden.unsqueeze(0), h_n.unsqueeze(0), c_n.unsqueeze(0)
    hidden, h_n, c_n = (torch.stack(parts) for parts in zip(*of_models, strict=True))
    return hidden, h_n, c_n


def lstm_linear(
    x: Tensor,
    lengths: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    weight_out: Tensor,
    bias_out: Tensor,
    h_0: Tensor | None = None,
    c_0: Tensor | None = None,
    recurrent_mask: Tensor | None = None,
    pooling: str = "last",
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM layer, pool its states and apply a linear head, as `reference.lstm_linear` does.

    If `x` has half precision, the pooling and the head use single precision, because the sum over a
    long sequence may exceed the range of float16.
    """
    hidden, h_n, c_n = lstm(x, lengths, weight_ih, weight_hh, bias, h_0, c_0, recurrent_mask)
    wide = torch.promote_types(hidden.dtype, torch.float32)
    pooled = reference.pool(hidden.to(wide), h_n.to(wide), lengths, pooling)
    logits = pooled @ weight_out.to(wide).mT + bias_out.to(wide)[:, None]
    return logits.to(hidden.dtype), h_n, c_n


def _on_host(lengths: Tensor, n_timesteps: int) -> Tensor | None:
    """Return the lengths on the CPU, or None if all steps are valid and need no packing."""
    on_host = lengths.detach().cpu()
    fits = bool(((on_host >= 0) & (on_host <= n_timesteps)).all())
    torch._check(fits, lambda: f"sensorseq: lengths must be between 0 and {n_timesteps}.")
    return None if bool((on_host == n_timesteps).all()) else on_host


def _of_lengths(
    x: Tensor,
    lengths: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    options: tuple[bool, int, float, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one model on packed sequences, including those of length 0, which torch rejects."""
    some = (lengths > 0).to(x.device)
    zero = x.new_zeros(())
    # sequences of length 0 take one step on zeros, whose result is then discarded
    packed = pack_padded_sequence(
        torch.where(some[:, None, None], x, zero),
        lengths.clamp(min=1),
        batch_first=True,
        enforce_sorted=False,
    )
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None
    assert back is not None
    ordered = [state.index_select(1, order) for state in states]
    data, *last = torch._VF.lstm(packed.data, packed.batch_sizes, ordered, weights, *options)
    hidden, _ = pad_packed_sequence(
        PackedSequence(data, *packed[1:]), batch_first=True, total_length=x.shape[1]
    )
    h_n, c_n = (
        torch.where(some[:, None], part.index_select(1, back), state)
        for part, state in zip(last, states, strict=True)
    )
    return torch.where(some[:, None, None], hidden, zero), h_n, c_n
