"""The reference equals torch.nn.LSTM and torch.nn.Linear, in float64."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sensorseq.nn import LSTMLinear
from sensorseq.ops import reference

EXACT = {"rtol": 1e-11, "atol": 1e-12}


def stacked(lstm):
    """Return weight_ih, weight_hh and bias of a one-layer nn.LSTM in the layout of the ops."""
    suffixes = ["", "_reverse"] if lstm.bidirectional else [""]
    parts = [
        torch.stack([getattr(lstm, f"{name}_l0{suffix}") for suffix in suffixes])[None]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    return parts[0], parts[1], parts[2] + parts[3]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_lengths_it_is_torch_lstm(bidirectional):
    lstm = nn.LSTM(3, 5, batch_first=True, bidirectional=bidirectional).double()
    x = torch.randn(4, 9, 3, dtype=torch.float64)
    directions = 2 if bidirectional else 1
    h_0, c_0 = torch.randn(2, directions, 4, 5, dtype=torch.float64).unbind()
    expected, (h_n, c_n) = lstm(x, (h_0, c_0))
    hidden, h, c = reference.lstm(
        x[None], None, *stacked(lstm), h_0.transpose(0, 1)[None], c_0.transpose(0, 1)[None]
    )
    torch.testing.assert_close(hidden[0], expected, **EXACT)
    torch.testing.assert_close(h[0].transpose(0, 1), h_n, **EXACT)
    torch.testing.assert_close(c[0].transpose(0, 1), c_n, **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_lengths_it_is_torch_lstm_on_packed_sequences(bidirectional):
    lstm = nn.LSTM(2, 6, batch_first=True, bidirectional=bidirectional).double()
    x = torch.randn(5, 8, 2, dtype=torch.float64)
    lengths = torch.tensor([3, 8, 1, 5, 8])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, (h_n, c_n) = lstm(packed)
    expected, _ = pad_packed_sequence(expected, batch_first=True, total_length=8)
    hidden, h, c = reference.lstm(x[None], lengths, *stacked(lstm))
    torch.testing.assert_close(hidden[0], expected, **EXACT)
    torch.testing.assert_close(h[0].transpose(0, 1), h_n, **EXACT)
    torch.testing.assert_close(c[0].transpose(0, 1), c_n, **EXACT)


def test_last_pooling_and_head_are_torch_linear_on_the_final_states():
    lstm = nn.LSTM(2, 6, batch_first=True, bidirectional=True).double()
    linear = nn.Linear(12, 4).double()
    x = torch.randn(3, 7, 2, dtype=torch.float64)
    _, (h_n, _) = lstm(x)
    expected = linear(torch.cat([h_n[0], h_n[1]], dim=-1))
    logits, _, _ = reference.lstm_linear(
        x[None], None, *stacked(lstm), linear.weight[None], linear.bias[None]
    )
    torch.testing.assert_close(logits[0], expected, **EXACT)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "meanmax"])
def test_pooling_counts_valid_steps_only(pooling):
    lengths = torch.tensor([6, 2, 1])
    valid = torch.arange(6) < lengths[:, None]
    hidden = torch.randn(1, 3, 6, 4, dtype=torch.float64) * valid[None, :, :, None]
    h_n = torch.randn(1, 3, 1, 4, dtype=torch.float64)
    pooled = reference.pool(hidden, h_n, lengths, pooling)[0]
    for row, length in enumerate(lengths.tolist()):
        steps = hidden[0, row, :length]
        expected = {
            "last": h_n[0, row, 0],
            "mean": steps.mean(0),
            "max": steps.amax(0),
            "meanmax": torch.cat([steps.mean(0), steps.amax(0)]),
        }[pooling]
        torch.testing.assert_close(pooled[row], expected, **EXACT)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "meanmax"])
def test_a_row_of_length_zero_pools_to_zeros(pooling):
    weights = (torch.randn(1, 1, 8, 3), torch.randn(1, 1, 8, 2), torch.randn(1, 1, 8))
    x = torch.full((1, 1, 4, 3), torch.nan)
    bias_out = torch.randn(1, 5)
    weight_out = torch.randn(1, 5, 4 if pooling == "meanmax" else 2)
    h_0 = torch.randn(1, 1, 1, 2)
    logits, h_n, _ = reference.lstm_linear(
        x, torch.tensor([0]), *weights, weight_out, bias_out, h_0, pooling=pooling
    )
    torch.testing.assert_close(logits[0, 0], bias_out[0])
    torch.testing.assert_close(h_n, h_0)


@pytest.mark.parametrize("shared_x", [True, False])
@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize("lengths", [None, [4, 0, 2]])
def test_projecting_the_input_first_changes_nothing(shared_x, n_directions, lengths):
    M, N, T, C, H, D = 2, 3, 4, 5, 6, n_directions
    shapes = [(1 if shared_x else M, N, T, C), (M, D, 4 * H, C), (M, D, 4 * H, H), (M, D, 4 * H)]
    x, weight_ih, weight_hh, bias = leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]
    states = [torch.randn(M, N, D, H, dtype=torch.float64) for _ in range(3)]
    lengths = None if lengths is None else torch.tensor(lengths)
    gates = reference.project(x, weight_ih, bias)
    assert gates.shape == (M, N, T, D * 4 * H)
    # gate g of unit u in direction d is column (d H + u) 4 + g
    model, window, step, direction, unit, gate = 1, 2, 3, D - 1, 4, 2
    row = weight_ih[model, direction, gate * H + unit]
    expected = x[-1, window, step] @ row + bias[model, direction, gate * H + unit]
    projected = gates[model, window, step, (direction * H + unit) * 4 + gate]
    torch.testing.assert_close(projected, expected, **EXACT)

    no_channels = weight_ih.new_empty(M, D, 4 * H, 0)
    assert reference.is_projected(gates, no_channels)
    assert not reference.is_projected(x, weight_ih)
    sides = []
    for inputs in ((gates, no_channels), (x, weight_ih)):
        outputs = reference.lstm(inputs[0], lengths, inputs[1], weight_hh, bias, *states)
        total = sum((out * out.detach().cos()).sum() for out in outputs)
        sides.append([*outputs, *torch.autograd.grad(total, leaves)])
    torch.testing.assert_close(*sides, **EXACT)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "meanmax"])
def test_lengths_may_be_on_a_different_device_than_the_input(pooling):
    module = LSTMLinear(2, 3, 4, pooling=pooling, head_norm="layer", device="meta")
    x, lengths = torch.zeros(5, 6, 2, device="meta"), torch.tensor([6, 0, 3, 1, 6])
    assert module(x, lengths).shape == (5, 4)
    module.norm, module.head_norm = None, "none"  # so that the fused op is used
    assert module(x, lengths).shape == (5, 4)
