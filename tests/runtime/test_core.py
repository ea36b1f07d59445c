"""The C library's layer computes an LSTM, with the same bits as the torch operator."""

import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isas import EACH_ISA, using_isa

from sensorseq import ops
from sensorseq.base import core

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def drawn_weights(rng, d, h, c, k, pooling, dtype):
    width = d * h * (2 if pooling == "meanmax" else 1)
    shapes = [(d, 4 * h, c), (d, 4 * h, h), (d, 4 * h), (k, width), (k,)]
    return [rng.uniform(-0.5, 0.5, shape).astype(dtype) for shape in shapes]


def by_torch(weights, x, lengths, pooling):
    """Return the hidden state and the logits of the operators."""
    tensors = [torch.from_numpy(w)[None] for w in weights]
    steps, valid = torch.from_numpy(x)[None], None
    if lengths is not None:
        valid = torch.from_numpy(lengths)
    with torch.inference_mode():
        hidden = ops.lstm(steps, *tensors[:3], lengths=valid)[0][0]
        logits = ops.lstm_linear(steps, *tensors, lengths=valid, pooling=pooling)[0][0]
    return hidden.numpy(), logits.numpy()


def check(seed, n, t, c, h, d, k, pooling, dtype, with_lengths, n_threads):
    rng = np.random.default_rng(seed)
    weights = drawn_weights(rng, d, h, c, k, pooling, dtype)
    x = rng.normal(size=(n, t, c)).astype(dtype)
    lengths = rng.integers(0, t + 1, n) if with_lengths else None
    hidden, logits = by_torch(weights, x, lengths, pooling)
    layer = core.LstmLayer(*weights, pooling=pooling)
    np.testing.assert_array_equal(layer.logits(x, lengths, n_threads), logits)
    np.testing.assert_array_equal(layer.hidden(x, lengths, n_threads), hidden)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 40),
    t=st.integers(1, 30),
    c=st.integers(1, 9),
    h=st.integers(1, 70),
    d=st.integers(1, 2),
    k=st.integers(1, 6),
    pooling=st.sampled_from(["last", "mean", "max", "meanmax"]),
    dtype=st.sampled_from(["float32", "float64"]),
    with_lengths=st.booleans(),
    n_threads=st.integers(1, 3),
)
def test_the_layer_has_the_bits_of_torchs_operators(**case):
    check(**case)


@pytest.mark.parametrize("isa", EACH_ISA)
def test_the_layer_has_these_bits_on_every_instruction_set(isa):
    with using_isa(isa):
        assert core.cpu_isa() == isa
        for h in (1, 15, 16, 17, 64):
            check(h, 13, 9, 3, h, 2, 4, "meanmax", "float32", True, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_layer_is_an_lstm(dtype):
    torch.manual_seed(0)
    peer = torch.nn.LSTM(3, 20, batch_first=True).double()
    x = np.random.default_rng(0).normal(size=(7, 40, 3))
    wanted = peer(torch.from_numpy(x))[0].detach().numpy()
    parts = [p.detach().numpy().astype(dtype)[None] for p in peer.parameters()]
    layer = core.LstmLayer(parts[0], parts[1], parts[2] + parts[3])
    found = layer.hidden(x.astype(dtype))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 if dtype == "float32" else 1e-12)
    h, c = np.zeros((7, 20), dtype), np.zeros((7, 20), dtype)
    pieces = [layer.step(part, h, c) for part in np.split(x.astype(dtype), [1, 9, 30], 1)]
    np.testing.assert_array_equal(np.concatenate(pieces, 1), found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros((2, 5, 4), np.float32)}, "x has shape"),
        ({"x": np.zeros((2, 5, 3))}, "float64"),
        ({"lengths": np.array([1, 6])}, "length"),
        ({"lengths": np.array([1, -1])}, "length"),
        ({"lengths": np.array([1])}, "lengths"),
        ({"lengths": np.array([1.0, 2.0])}, "lengths"),
    ],
)
def test_wrong_windows_are_refused(change, words):
    weights = drawn_weights(np.random.default_rng(0), 1, 4, 3, 2, "last", "float32")
    layer = core.LstmLayer(*weights, pooling="last")
    arguments = {"x": np.zeros((2, 5, 3), np.float32), "lengths": None, **change}
    with pytest.raises(ValueError, match=words):
        layer.logits(arguments["x"], arguments["lengths"])
    assert np.isfinite(layer.logits(np.zeros((2, 5, 3), np.float32))).all()


def test_threads_and_a_fork_may_use_one_layer():
    weights = drawn_weights(np.random.default_rng(0), 2, 40, 3, 2, "mean", "float32")
    layer = core.LstmLayer(*weights, pooling="mean")
    x = np.random.default_rng(1).normal(size=(30, 20, 3)).astype(np.float32)
    wanted, found = layer.logits(x), []

    def call():
        found.append(layer.logits(x, None, 2))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all((logits == wanted).all() for logits in found)
    child = os.fork()
    if child == 0:
        os._exit(int(not (layer.logits(x, None, 2) == wanted).all()))
    assert os.waitpid(child, 0)[1] == 0
