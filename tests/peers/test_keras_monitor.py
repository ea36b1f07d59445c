"""KerasMonitor in Keras' own fit: the weights are those without it, its figures those of numpy."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation import KerasMonitor

pytestmark = pytest.mark.peers
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

RNG = np.random.default_rng(0)
Y = np.arange(70) % 3
X = (RNG.normal(size=(70, 4)) + Y[:, None]).astype(np.float32)
X_VAL, Y_VAL = X[:48:2] + 0.1, Y[:48:2]


def make_model(activation=None, n_outputs=3, loss=None, optimizer=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(n_outputs, activation=activation),
        ]
    )
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def fit(model, callbacks, y=Y, **arguments):
    arguments = {"epochs": 3, "batch_size": 16, "verbose": 0} | arguments
    return model.fit(X, y, callbacks=callbacks, **arguments)


def log_softmax(z):
    z = z.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def test_a_watched_fit_ends_in_the_same_bits():
    weights = []
    for is_watched in (False, True):
        model = make_model()
        monitor = KerasMonitor((X_VAL, Y_VAL), (X, Y), n_fixed=20)
        fit(model, [monitor] if is_watched else [], validation_data=(X_VAL, Y_VAL))
        weights.append(model.get_weights())
    for plain, watched in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, watched)


def test_the_history_is_that_of_keras():
    model = make_model()
    monitor = KerasMonitor((X_VAL, Y_VAL))
    kept = fit(model, [monitor], validation_data=(X_VAL, Y_VAL)).history
    assert monitor.history["epoch"].tolist() == [1, 2, 3]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(monitor.history[name], kept[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(monitor.history["learning_rate"], 0.01, rtol=1e-6)
    assert isinstance(monitor, keras.callbacks.Callback)
    assert isinstance(monitor, KerasMonitor)


def test_without_windows_of_its_own_the_monitor_takes_what_fit_says():
    monitor = KerasMonitor()
    kept = fit(make_model(), [monitor], validation_data=(X_VAL, Y_VAL)).history
    for name in ("val_loss", "val_accuracy"):
        np.testing.assert_allclose(monitor.history[name], kept[name], rtol=1e-6)
    assert "give n_val" in " ".join(monitor.report().explanation)
    assert monitor.report(n_val=24, n_classes=3, best_epoch=2).n_val == 24


class _Predictions(keras.callbacks.Callback):
    """What the model says of the validation windows after each epoch."""

    def __init__(self):
        super().__init__()
        self.predictions = []

    def on_epoch_end(self, epoch, logs=None):
        self.predictions.append(self.model.predict(X_VAL, verbose=0))


def test_the_loss_of_each_batch_follows_from_the_running_means():
    # a rate of zero and no dropout: the loss of a batch is that of the first weights
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    losses = -log_softmax(model.predict(X, verbose=0))[np.arange(70), Y]
    expected = [losses[i : i + 16].mean() for i in range(0, 70, 16)]
    told = KerasMonitor(train_data=(X, Y), batch_size=16)
    untold = KerasMonitor()
    fit(model, [told, untold], epochs=2, shuffle=False)
    np.testing.assert_allclose(told.record.steps["loss"], 2 * expected, rtol=1e-5)
    assert told.record.steps["n_windows"].tolist() == 2 * [16, 16, 16, 16, 6]
    assert told.record.epoch_steps.tolist() == [0, 5, 10]
    np.testing.assert_allclose(untold.record.steps["loss"], 2 * [*expected[:4], np.nan], rtol=1e-5)
    assert np.isnan(untold.record.steps["n_windows"]).all()


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("is_one_hot", [False, True])
def test_logits_and_probabilities_codes_and_columns_give_one_record(activation, is_one_hot):
    code = np.eye(3)[Y_VAL] if is_one_hot else Y_VAL[:, None]
    model = make_model(activation)
    seen = _Predictions()
    groups = np.array(list("abcdefgh") * 3)
    monitor = KerasMonitor((X_VAL, code), groups_val=groups)
    fit(model, [monitor, seen])
    outputs = np.stack(seen.predictions).astype(np.float64)
    logits = np.log(outputs) if activation else outputs
    own = logits[:, np.arange(24), Y_VAL]
    others = np.where(np.eye(3, dtype=bool)[Y_VAL], -np.inf, logits).max(axis=2)
    record = monitor.record
    np.testing.assert_array_equal(record.val_target, Y_VAL)
    np.testing.assert_array_equal(record.val_predicted, outputs.argmax(axis=2))
    np.testing.assert_allclose(record.val_margin, own - others, rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(record.val_groups, list(range(8)) * 3)
    losses = [-log_softmax(part)[np.arange(24), Y_VAL].mean() for part in logits]
    np.testing.assert_allclose(monitor.history["val_loss"], losses, rtol=1e-5)
    report = monitor.report()
    assert (report.n_val, report.n_classes) == (24, 3)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_single_output_is_the_second_class(activation):
    y = (Y > 0).astype(np.float32)
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    model = make_model(activation, 1, loss)
    monitor = KerasMonitor((X_VAL, Y_VAL > 0))
    kept = fit(model, [monitor], y=y, validation_data=(X_VAL, y[:48:2])).history
    np.testing.assert_allclose(monitor.history["val_loss"], kept["val_loss"], rtol=1e-5)
    if activation:  # Keras holds a logit, too, against 0.5
        np.testing.assert_allclose(monitor.history["val_accuracy"], kept["val_accuracy"], rtol=1e-6)
    assert monitor.record.val_predicted.shape == (3, 24)


def test_the_fixed_subset_is_evaluated_without_dropout():
    model = make_model()
    monitor = KerasMonitor(train_data=(X, Y), n_fixed=10)
    fit(model, [monitor], epochs=2)
    rows = np.linspace(0, 69, 10).round().astype(int)
    np.testing.assert_array_equal(monitor.record.fixed_rows, rows)
    scores = log_softmax(model.predict(X[rows], verbose=0))
    assert monitor.record.fixed_loss[-1] == pytest.approx(-scores[range(10), Y[rows]].mean(), 1e-5)
    assert monitor.record.fixed_accuracy[-1] == np.mean(scores.argmax(1) == Y[rows])
    assert monitor.record.fixed_loss.shape == (2,)
    assert monitor.report().n_train == 70


def test_several_steps_in_one_execution_are_noted_at_their_last():
    # by hand, since not every backend has them
    losses = RNG.uniform(0, 2, 70)
    monitor = KerasMonitor(train_data=(X, Y), n_fixed=0, batch_size=16)
    monitor.set_model(make_model())
    monitor.set_params({"steps": 5})
    monitor.on_train_begin()
    monitor.on_epoch_begin(0)
    for last, n_windows in ((1, 32), (3, 64), (4, 70)):
        monitor.on_train_batch_end(last, {"loss": losses[:n_windows].mean()})
    monitor.on_epoch_end(0, {"loss": losses.mean()})
    expected = [np.nan, losses[:32].mean(), np.nan, losses[32:64].mean(), losses[64:].mean()]
    np.testing.assert_allclose(monitor.record.steps["loss"], expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"validation_data": X}, "validation_data is a ndarray; expected a pair"),
        ({"validation_data": (X, Y[:5])}, "validation_data has .*70.* windows for 5"),
        ({"validation_data": (X, np.array(["a"] * 70))}, "code the classes 0 to K - 1"),
        ({"groups_val": Y}, "without validation_data"),
        ({"n_fixed": -1}, "n_fixed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_arguments_are_named(arguments, says):
    with pytest.raises(ArgumentError, match=says):
        KerasMonitor(**arguments)


def test_a_batch_size_that_is_not_that_of_fit_is_found_before_training():
    monitor = KerasMonitor(train_data=(X, Y), batch_size=32)
    with pytest.raises(ArgumentError, match=r"makes 3 steps of the 70 windows .* takes 5"):
        fit(make_model(), [monitor])


def test_a_class_that_the_model_has_no_output_for_is_named():
    monitor = KerasMonitor((X_VAL, Y_VAL + 1))
    with pytest.raises(ArgumentError, match=r"class 3, but .* 3 columns"):
        fit(make_model(), [monitor])


def test_what_the_page_tells_its_reader_to_type_works(capsys):
    page = Path(__file__).resolve().parents[2] / "docs" / "monitor.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    names = {"model": make_model(), "X": X, "y": Y, "X_val": X_VAL, "y_val": Y_VAL}
    exec(blocks[-1], names)
    assert "70 train / 24 validation windows, 3 classes, 20 epochs" in capsys.readouterr().out
