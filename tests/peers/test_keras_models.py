"""Imported Keras models predict the same as in Keras."""

import os

import numpy as np
import pytest

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def layers():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    return keras.layers


def sequential(*stack):
    import keras

    return keras.Sequential([keras.Input((14, 3)), *stack])


def functional(*stack):
    import keras

    inputs = values = keras.Input((14, 3))
    for layer in stack:
        values = layer(values)
    return keras.Model(inputs, values)


MODELS = {
    "one layer": lambda k: [k.LSTM(7), k.Dense(4, "softmax")],
    "no forget bias": lambda k: [
        k.LSTM(7, use_bias=False, unit_forget_bias=False),
        k.Dense(4, "softmax"),
    ],
    "the classic stack": lambda k: [
        k.LSTM(8, return_sequences=True, dropout=0.2),
        k.Dropout(0.3),
        k.LSTM(5),
        k.Dense(3, activation="softmax"),
    ],
    "two directions": lambda k: [
        k.Bidirectional(k.LSTM(6, return_sequences=True)),
        k.Bidirectional(k.LSTM(4)),
        k.Dense(4, "softmax"),
    ],
    "pooled": lambda k: [
        k.Bidirectional(k.LSTM(6, return_sequences=True)),
        k.GlobalAveragePooling1D(),
        k.Dense(4),
        k.Activation("softmax"),
    ],
    "largest": lambda k: [
        k.LSTM(6, return_sequences=True),
        k.GlobalMaxPooling1D(),
        k.Dense(4),
        k.Softmax(),
    ],
}


@pytest.mark.parametrize("build", [sequential, functional])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_keras_model_predicts_alike(make, build, layers):
    from sensorseq import SensorLSTMClassifier

    model = build(*make(layers))
    rng = np.random.default_rng(0)
    for weight in model.weights:  # random values, so that biases are also nonzero
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    X = rng.normal(size=(9, 14, 3)).astype(np.float32)
    clf = SensorLSTMClassifier.from_keras(model, device="cpu")
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(clf.predict_proba(X), expected, atol=1e-5)


def test_binary_models_predict_alike(layers):
    from sensorseq import SensorLSTMClassifier

    X = np.random.default_rng(0).normal(size=(9, 14, 3)).astype(np.float32)
    binary = sequential(layers.LSTM(6), layers.Dense(1, "sigmoid"))
    clf = SensorLSTMClassifier.from_keras(binary, device="cpu")
    expected = binary.predict(X, verbose=0)[:, 0]
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], expected, atol=1e-5)


def test_models_that_keras_computes_differently_are_refused(layers):
    from sensorseq import SensorLSTMClassifier
    from sensorseq.errors import ArgumentError

    for stack, message in (
        ([layers.GRU(5), layers.Dense(2)], r"layer 'gru.*' \(GRU\)"),
        ([layers.LSTM(5, recurrent_activation="hard_sigmoid"), layers.Dense(2)], "hard_sigmoid"),
        ([layers.Masking(), layers.LSTM(5), layers.Dense(2)], r"pass lengths= to predict\(\)"),
        ([layers.LSTM(5, return_sequences=True), layers.Dense(2)], "output for each step"),
    ):
        with pytest.raises(ArgumentError, match=message):
            SensorLSTMClassifier.from_keras(sequential(*stack))
