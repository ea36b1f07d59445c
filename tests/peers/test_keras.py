"""Keras orders the gates i, f, c, o and has one bias; equal weights give equal states."""

import os

import numpy as np
import pytest
from checkout import code_in, page_of

from sensorseq import SensorLSTMClassifier

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


def test_a_keras_model_copied_as_on_the_page_predicts_alike():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = [keras.Input((40, 2)), keras.layers.LSTM(16), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    (block,) = (b for b in code_in(page_of("scikit_learn.md")) if "get_weights" in b)
    rng = np.random.default_rng(0)
    names = {"X": rng.normal(size=(9, 40, 2)), "lengths": np.full(9, 40), "model": model}
    names |= {"np": np, "SensorLSTMClassifier": SensorLSTMClassifier}
    exec(block.replace("weights = ", "weights = model.get_weights()  # "), names)
    clf = names["taken"]
    expected = np.asarray(keras.ops.convert_to_numpy(model(names["X"].astype(np.float32))))
    np.testing.assert_allclose(clf.predict_proba(names["X"])[:, [0, 1, 2]], expected, atol=1e-5)
