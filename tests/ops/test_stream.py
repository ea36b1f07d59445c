"""The ops of a stream: schemas, fake kernels, and invalid packed weights."""

import pytest
import torch

from sensorseq import ops
from sensorseq.ops.stream import lstm_linear_stream, lstm_pack, lstm_stream

N, T, C, H, K = 3, 4, 2, 5, 3


def weights(n_models=1, n_directions=1, n_channels=C, hidden_size=H, dtype=torch.float32):
    shape = (n_models, n_directions, 4 * hidden_size)
    return [
        torch.randn(*shape, n_channels, dtype=dtype),
        torch.randn(*shape, hidden_size, dtype=dtype),
        torch.randn(*shape, dtype=dtype),
    ]


def arguments(dtype=torch.float32):
    x, h, c = (torch.randn(*shape, dtype=dtype) for shape in ((N, T, C), (N, H), (N, H)))
    return x, [torch.randn(K, H, dtype=dtype), torch.randn(K, dtype=dtype)], h, c


@pytest.mark.parametrize(
    ("sizes", "dtype"), [((2, 2, 0, 16), torch.float64), ((1, 2, 7, 33), torch.float32)]
)
def test_packing_passes_torchs_own_op_check(sizes, dtype):
    torch.library.opcheck(lstm_pack, weights(*sizes, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ops_of_a_stream_pass_torchs_own_op_check(dtype):
    x, head, h, c = arguments(dtype)
    packed = lstm_pack(*weights(dtype=dtype))
    piece = x if dtype == torch.float32 else x[:, 0]
    torch.library.opcheck(lstm_stream, (piece, packed, h, c))
    torch.library.opcheck(lstm_linear_stream, (piece, packed, *head, h, c))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packed_weights_give_the_bits_of_the_weights(isa, dtype):
    x, head, h, c = arguments(dtype)
    layer = weights(dtype=dtype)
    packed = lstm_pack(*layer)
    states = {"h_0": h[None, :, None].clone(), "c_0": c[None, :, None].clone()}
    expected = ops.lstm_linear(x[None], *layer, *(part[None] for part in head), **states)
    hidden, *_ = ops.lstm(x[None], *layer, **states)
    again = h.clone(), c.clone()
    assert torch.equal(lstm_linear_stream(x, packed, *head, h, c), expected[0][0])
    assert torch.equal(lstm_stream(x, packed, *again), hidden[0])
    for state in ((h, c), again):
        for ours, theirs in zip(state, expected[1:], strict=True):
            assert torch.equal(ours, theirs[0, :, 0])


def test_weights_that_are_not_packed_for_this_call_are_refused(isa):
    x, head, h, c = arguments()
    packed = lstm_pack(*weights())
    # as many bytes as `packed`, because units are padded to 16 and x gains the column that h loses
    turned = lstm_pack(*weights(n_channels=C + 1, hidden_size=H - 1))
    assert turned.shape == packed.shape
    for other, message in (
        (turned, "for other sizes"),
        (torch.zeros_like(packed), "packed holds no weights"),
        (packed[:-1], "packed must be what lstm_pack returns"),
        (packed.to(torch.int8), "packed must be what lstm_pack returns"),
        (torch.cat([packed[:1], packed])[1:], "aligned to 64"),
        (lstm_pack(*weights(hidden_size=17)), "packed must be what lstm_pack returns"),
        (lstm_pack(*weights(dtype=torch.float64)), "packed must be what lstm_pack returns"),
    ):
        for op, extra in ((lstm_stream, []), (lstm_linear_stream, head)):
            before = h.clone()
            with pytest.raises(RuntimeError, match=message):
                op(x, other, *extra, h, c)
            assert torch.equal(h, before)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(N, T, C, 1)}, "x needs the dimensions"),
        ({"x": torch.zeros(N + 1, T, C)}, rf"h has shape \({N}, {H}\); expected \({N + 1}, {H}\)"),
        ({"x": torch.zeros(N, 0, C)}, "x has no timestep"),
        ({"x": torch.zeros(N, T, C).bfloat16()}, "x must be float32 or float64"),
        ({"h": torch.zeros(N, H, 1)}, "h \\(windows, hidden_size\\)"),
        ({"h": torch.zeros(H, N).t()}, "h is not contiguous"),
        ({"c": torch.zeros(N, H).double()}, "c has another dtype; expected float32"),
        ({"weight_out": torch.zeros(K, H + 1)}, "weight_out has shape"),
        ({"bias_out": torch.zeros(K + 1)}, "weight_out has shape"),
        ({"bias_out": torch.zeros(K, 1)}, "bias_out has shape"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(changed, message):
    x, (weight_out, bias_out), h, c = arguments()
    call = {"x": x, "packed": lstm_pack(*weights()), "h": h, "c": c}
    call |= {"weight_out": weight_out, "bias_out": bias_out}
    with pytest.raises(RuntimeError, match=message):
        lstm_linear_stream(**(call | changed))
