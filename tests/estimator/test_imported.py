"""A network trained with a different library gives the same predictions here."""

import numpy as np
import pytest
import torch
from fits import reloaded
from scipy.special import expit, softmax

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 14, 3)).astype(np.float32)


# torch


def torch_logits(lstm, linear, pooling, windows=X):
    with torch.no_grad():
        hidden, (final, _) = lstm(torch.tensor(windows))
        n_directions = 2 if lstm.bidirectional else 1
        last = torch.cat(list(final[-n_directions:]), dim=1)
        pooled = {"last": last, "mean": hidden.mean(1), "max": hidden.amax(1)}[pooling]
        return linear(pooled).double().numpy()


def torch_pair(n_outputs=4, **options):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 5, batch_first=True, **options)
    return lstm, torch.nn.Linear(10 if lstm.bidirectional else 5, n_outputs)


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_a_classifier_from_torch_gives_the_same_probabilities(options, pooling, tmp_path):
    lstm, linear = torch_pair(**options)
    clf = SensorLSTMClassifier.from_torch(lstm, linear, pooling=pooling, device="cpu")
    expected = softmax(torch_logits(lstm, linear, pooling), axis=1)
    for fitted in (clf, *reloaded(clf, tmp_path)):
        np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)
        assert fitted.classes_.tolist() == [0, 1, 2, 3]
        assert fitted.fluctuation_.verdict == "too_short_to_tell"
        assert fitted.engine_.reason == "the weights were taken from torch.nn.LSTM"


def test_classes_name_the_outputs_in_their_order():
    lstm, linear = torch_pair(3)
    names = np.array(["snow", "ice", "sand"])
    clf = SensorLSTMClassifier.from_torch(lstm, linear, classes=names, device="cpu")
    assert clf.classes_.tolist() == ["ice", "sand", "snow"]
    logits = torch_logits(lstm, linear, "last")
    np.testing.assert_array_equal(clf.predict(X), names[logits.argmax(1)])
    np.testing.assert_allclose(clf.decision_function(X), logits[:, [1, 2, 0]], atol=1e-6)


def test_a_single_logit_is_that_of_the_second_class():
    lstm, linear = torch_pair(1)
    clf = SensorLSTMClassifier.from_torch(lstm, linear, device="cpu")
    logit = torch_logits(lstm, linear, "last")[:, 0]
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], expit(logit), atol=1e-6)
    np.testing.assert_allclose(clf.decision_function(X), logit, atol=1e-6)


def test_an_imported_network_can_be_trained_further():
    lstm, linear = torch_pair(2)
    y = np.arange(9) % 2
    settings = {"warm_start": True, "learning_rate": 1e-4, "max_epochs": 1, "device": "cpu"}
    clf = SensorLSTMClassifier.from_torch(lstm, linear, **settings)
    before = clf.predict_proba(X)
    clf.set_params(validation_fraction=0.0, early_stopping=False).fit(X, y)
    after = clf.predict_proba(X)
    assert 0 < np.abs(after - before).max() < 0.01
    assert clf.scaler_ is None
    with pytest.raises(InputError, match=r"classes \[0, 1, 2\], but warm_start=True"):
        clf.fit(X, np.arange(9) % 3)


def test_the_imported_weights_are_copies():
    lstm, linear = torch_pair()
    clf = SensorLSTMClassifier.from_torch(lstm, linear, device="cpu")
    before = clf.predict_proba(X)
    with torch.no_grad():
        lstm.weight_hh_l0.zero_()
        linear.weight.zero_()
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a", "b"]}, "but the network has 4 outputs"),
        ({"classes": ["a", "b", "b", "c"]}, "one distinct label per output"),
        ({"hidden_size": 9}, "hidden_size=9 cannot be set here: the network determines it"),
        ({"scale": "standard"}, "scale='standard' cannot be set here: there are no data"),
        ({"pooling": "meanmax"}, "linear expects 5 features, but pooling='meanmax'"),
        ({"pooling": "first"}, "pooling='first' is not known"),
    ],
)
def test_arguments_that_do_not_fit_the_network_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        SensorLSTMClassifier.from_torch(*torch_pair(), **arguments)


# Substitutes for Keras' layers, and the recurrence as in Keras' documentation.


class Layer:
    def __init__(self, name, weights=(), **config):
        self.name, self.weights, self.config = name, list(weights), config

    def get_weights(self):
        return [array.copy() for array in self.weights]

    def get_config(self):
        return {"name": self.name, **self.config}


NAMES = (
    "InputLayer LSTM Bidirectional GRU Dropout GlobalAveragePooling1D GlobalMaxPooling1D Dense"
    " Activation Masking"
)
KINDS = {kind: type(kind, (Layer,), {}) for kind in NAMES.split()}
LSTM_CONFIG = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}


class Model:
    def __init__(self, *layers):
        self.layers = list(layers)


def lstm_weights(n_inputs, n_units):
    shapes = (n_inputs, 4 * n_units), (n_units, 4 * n_units), (4 * n_units,)
    return [RNG.normal(size=shape) * 0.5 for shape in shapes]


def keras_lstm(name, n_inputs, n_units, *, returns, **config):
    weights = lstm_weights(n_inputs, n_units)
    config = {**LSTM_CONFIG, "return_sequences": returns, **config}
    return KINDS["LSTM"](name, weights, **config)


def keras_bidirectional(name, n_inputs, n_units, *, returns, merge_mode="concat"):
    inner = {"class_name": "LSTM", "config": {**LSTM_CONFIG, "return_sequences": returns}}
    weights = lstm_weights(n_inputs, n_units) + lstm_weights(n_inputs, n_units)
    return KINDS["Bidirectional"](name, weights, merge_mode=merge_mode, layer=inner)


def dense(n_inputs, n_outputs, activation="softmax", name="dense"):
    weights = [RNG.normal(size=(n_inputs, n_outputs)), RNG.normal(size=n_outputs)]
    return KINDS["Dense"](name, weights, activation=activation)


def keras_states(weights, x):
    """Hidden states of all steps, from gates in Keras' order i, f, c, o."""
    kernel, recurrent, *bias = weights
    n_units = len(recurrent)
    h, c = np.zeros((len(x), n_units)), np.zeros((len(x), n_units))
    states = []
    for t in range(x.shape[1]):
        z = x[:, t] @ kernel + h @ recurrent + (bias[0] if bias else 0.0)
        i, f, candidate, o = (z[:, k * n_units : (k + 1) * n_units] for k in range(4))
        c = expit(f) * c + expit(i) * np.tanh(candidate)
        h = expit(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def keras_outputs(model, x):
    """The model's outputs, layer by layer."""
    values = x
    for layer in model.layers:
        kind, config, weights = type(layer).__name__, layer.get_config(), layer.get_weights()
        if kind == "LSTM":
            states = keras_states(weights, values)
            values = states if config["return_sequences"] else states[:, -1]
        elif kind == "Bidirectional":
            half = len(weights) // 2
            there = keras_states(weights[:half], values)
            back = keras_states(weights[half:], values[:, ::-1])[:, ::-1]
            returns = config["layer"]["config"]["return_sequences"]
            ends = (there, back) if returns else (there[:, -1], back[:, 0])
            values = np.concatenate(ends, axis=-1)
        elif kind == "GlobalAveragePooling1D":
            values = values.mean(axis=1)
        elif kind == "GlobalMaxPooling1D":
            values = values.max(axis=1)
        elif kind == "Dense":
            values = values @ weights[0] + weights[1]
    return values


def no_bias(layer):
    layer.weights = layer.weights[:2]
    return layer


MODELS = {
    "one layer": lambda: [keras_lstm("lstm", 3, 5, returns=False), dense(5, 4)],
    "no bias": lambda: [no_bias(keras_lstm("lstm", 3, 5, returns=False)), dense(5, 4)],
    "stacked, narrower above": lambda: [
        KINDS["InputLayer"]("input"),
        keras_lstm("low", 3, 6, returns=True),
        KINDS["Dropout"]("dropout"),
        keras_lstm("high", 6, 4, returns=False),
        dense(4, 3),
    ],
    "stacked, wider above, pooled": lambda: [
        keras_lstm("low", 3, 2, returns=True),
        keras_lstm("high", 2, 5, returns=True),
        KINDS["GlobalMaxPooling1D"]("pool", data_format="channels_last", keepdims=False),
        dense(5, 3),
    ],
    "two directions": lambda: [keras_bidirectional("both", 3, 5, returns=False), dense(10, 4)],
    "two directions, stacked, mean": lambda: [
        keras_bidirectional("low", 3, 5, returns=True),
        keras_bidirectional("high", 10, 3, returns=True),
        KINDS["GlobalAveragePooling1D"]("pool", data_format="channels_last"),
        dense(6, 4),
    ],
    "activation of its own": lambda: [
        keras_lstm("lstm", 3, 5, returns=False),
        dense(5, 4, "linear"),
        KINDS["Activation"]("softmax", activation="softmax"),
    ],
    "logits": lambda: [keras_lstm("lstm", 3, 5, returns=False), dense(5, 4, "linear")],
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_classifier_from_keras_gives_the_same_probabilities(make):
    model = Model(*make())
    clf = SensorLSTMClassifier.from_keras(model, device="cpu")
    assert clf.dtype == "float64"
    windows = X.astype(np.float64)
    expected = softmax(keras_outputs(model, windows), axis=1)
    np.testing.assert_allclose(clf.predict_proba(windows), expected, rtol=1e-9)


def test_one_sigmoid_unit_is_two_classes():
    model = Model(keras_lstm("lstm", 3, 5, returns=False), dense(5, 1, "sigmoid"))
    clf = SensorLSTMClassifier.from_keras(model, classes=["rest", "move"], device="cpu")
    expected = expit(keras_outputs(model, X.astype(np.float64))[:, 0])
    moving = clf.predict_proba(X)[:, clf.classes_.tolist().index("move")]
    np.testing.assert_allclose(moving, expected, rtol=1e-6)


def last(**config):
    return keras_lstm("lstm_7", 3, 5, returns=False, **config)


REFUSED = {
    "not a model": (object(), "model is a object, not a Keras model with layers"),
    "another layer": (Model(KINDS["GRU"]("gru_1"), dense(5, 2)), r"layer 'gru_1' .GRU. .* not sup"),
    "masking": (Model(KINDS["Masking"]("mask"), last(), dense(5, 2)), "pass lengths= to predict"),
    "no head": (Model(last()), "no Dense layer at its end"),
    "no LSTM": (Model(dense(5, 2)), "has no LSTM layer"),
    "hard sigmoid": (
        Model(last(recurrent_activation="hard_sigmoid"), dense(5, 2)),
        "layer 'lstm_7' .LSTM. .* recurrent_activation='hard_sigmoid'; only 'sigmoid'",
    ),
    "relu": (Model(last(activation="relu"), dense(5, 2)), "activation='relu'; only 'tanh'"),
    "stateful": (Model(last(stateful=True), dense(5, 2)), "has stateful=True"),
    "backwards": (Model(last(go_backwards=True), dense(5, 2)), "has go_backwards=True"),
    "summed directions": (
        Model(keras_bidirectional("both", 3, 5, returns=False, merge_mode="sum"), dense(5, 2)),
        "has merge_mode='sum'; only 'concat' is supported",
    ),
    "one direction above two": (
        Model(
            keras_bidirectional("low", 3, 5, returns=True), keras_lstm("high", 10, 5, returns=False)
        ),
        "layer 'high' .* differs in direction; all LSTM layers must be bidirectional, or none",
    ),
    "LSTM above a vector": (
        Model(last(), keras_lstm("high", 5, 5, returns=False), dense(5, 2)),
        "layer 'high' .* gets no sequence",
    ),
    "output for each step": (
        Model(keras_lstm("lstm", 3, 5, returns=True), dense(5, 2)),
        "returns an output for each step",
    ),
    "two dense layers": (
        Model(last(), dense(5, 4, "linear", "hidden"), dense(4, 2)),
        "layer 'dense' .* comes after the Dense layer",
    ),
    "relu head": (Model(last(), dense(5, 2, "relu")), "has activation='relu'"),
    "several sigmoids": (Model(last(), dense(5, 3, "sigmoid")), "3 sigmoid units"),
    "not built": (Model(KINDS["LSTM"]("new", **LSTM_CONFIG)), "no weights yet; build the model"),
}


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED)
def test_a_keras_model_that_computes_something_else_is_refused_by_layer(model, message):
    with pytest.raises(ArgumentError, match=message):
        SensorLSTMClassifier.from_keras(model)
