"""Keras orders the gates i, f, c, o and has one bias; equal weights give equal states."""

import os

import numpy as np
import pytest

pytestmark = pytest.mark.peers


def test_with_keras_weights_the_op_gives_keras_states():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    import torch

    from sensorseq import ops

    layer = keras.layers.LSTM(7, return_sequences=True)
    x = np.random.default_rng(0).standard_normal((3, 20, 2)).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(layer(x)))
    kernel, recurrent, bias = (torch.tensor(np.asarray(w)) for w in layer.get_weights())
    hidden, _, _ = ops.lstm(
        torch.tensor(x)[None], kernel.T[None, None], recurrent.T[None, None], bias[None, None]
    )
    np.testing.assert_allclose(hidden[0].numpy(), expected, rtol=1e-4, atol=1e-5)
