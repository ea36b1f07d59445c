"""partial_fit learns from windows as they arrive, with one optimizer."""

import pickle

import numpy as np
import pytest
from fits import PLAIN, AfterEpoch, weights, without_time
from sklearn.base import clone

from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.errors import ArgumentError, InputError
from sensorseq.io.prepared import write_windows
from sensorseq.windows import WindowSet

CLASSES = ["gravel", "ice", "sand"]
OPTIONS = {
    "native": {"engine": "native"},
    "autograd": {"engine": "autograd"},
    "an average, natively": {"engine": "native", "ema_decay": 0.8},
    "an average by autograd": {"engine": "autograd", "ema_decay": 0.8},
    "dropout natively": {"engine": "native", "dropout": 0.3, "optimizer": "rmsprop"},
    "dropout by autograd": {"engine": "autograd", "dropout": 0.3, "optimizer": "rmsprop"},
    "random crops": {"max_timesteps": 5, "crop": "random"},
    "augmented": {"augment": {"scaling": 0.2}},
}


def make_lots(n_lots=3, n=30):
    rng = np.random.default_rng(0)
    lots = []
    for _ in range(n_lots):
        y = rng.integers(0, 3, n)
        X = 0.5 * rng.normal(size=(n, 8, 2)) + y[:, None, None]
        lots.append((X.astype(np.float32), np.array(CLASSES)[y]))
    return lots


def make(estimator=SensorLSTMClassifier, **arguments):
    settings = {"hidden_size": 5, "batch_size": 8, "learning_rate": 0.02, "random_state": 0}
    plain = PLAIN if estimator is SensorLSTMClassifier else {}
    return estimator(**{**plain, **settings, "device": "cpu", **arguments})


def outcome(model):
    return weights(model), without_time(model.history_.to_rows())


def learn(model, lots, **first):
    for i, (X, y) in enumerate(lots):
        model.partial_fit(X, y, **(first if i == 0 else {}))
    return model


@pytest.mark.parametrize("arguments", OPTIONS.values(), ids=OPTIONS)
def test_a_model_that_is_pickled_between_calls_ends_in_the_same_bits(arguments):
    lots = make_lots()
    whole = learn(make(**arguments), lots, classes=CLASSES)
    parts = make(**arguments).partial_fit(*lots[0], classes=CLASSES)
    for lot in lots[1:]:
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(*lot)
    assert outcome(parts) == outcome(whole)


@pytest.mark.parametrize("engine", ["native", "autograd"])
def test_passes_over_one_lot_are_the_epochs_of_a_fit_at_a_constant_rate(engine):
    # Full batches: order and crops, which are drawn otherwise, have no part.
    arguments = {"batch_size": None, "dtype": "float64", "engine": engine, "ema_decay": 0.9}
    (X, y) = make_lots(1)[0]
    of_fit = {"max_epochs": 6, "lr_schedule": "constant", "early_stopping": False}
    of_fit |= {"validation_fraction": 0.0, "restore_best": False}
    fitted = make(**arguments, **of_fit).fit(X, y)
    learned = learn(make(**arguments), [(X, y)] * 6, classes=CLASSES)
    for name in ("loss", "accuracy", "grad_norm", "learning_rate", "epoch"):
        np.testing.assert_allclose(learned.history_[name], fitted.history_[name], rtol=1e-9)
    np.testing.assert_allclose(learned.predict_proba(X), fitted.predict_proba(X), rtol=1e-8)


def test_it_learns_and_the_history_grows_by_a_row_a_call():
    lots = make_lots(26, 40)
    model = learn(make(), lots[:25], classes=CLASSES)
    assert model.history_["epoch"].tolist() == [*range(1, 26)]
    assert model.n_iter_ == model.best_epoch_ == 25
    assert model.score(*lots[25]) > 0.9
    assert model.history_["loss"][-1] < 0.5 * model.history_["loss"][0]
    assert model.fluctuation_.n_epochs == 25


def test_equal_seeds_give_equal_bits_and_a_clone_begins_anew():
    lots = make_lots()
    first = learn(make(), lots, classes=CLASSES)
    assert outcome(learn(clone(first), lots, classes=CLASSES)) == outcome(first)
    assert outcome(learn(make(random_state=1), lots, classes=CLASSES)) != outcome(first)


def test_a_lot_may_hold_one_class_and_the_scaling_of_the_first_stays():
    lots = make_lots()
    model = make().partial_fit(*lots[0], classes=CLASSES)
    center = model.scaler_.channel_center.copy()
    X, y = lots[1]
    model.partial_fit(X[y == "ice"] + 100, y[y == "ice"])
    np.testing.assert_array_equal(model.scaler_.channel_center, center)
    assert model.classes_.tolist() == CLASSES
    assert model.predict_proba(X).shape == (30, 3)


def test_after_fit_it_goes_on_from_the_weights_and_fit_begins_anew():
    lots = make_lots()
    fitted = make(max_epochs=3).fit(*lots[0])
    weights = fitted.module_.linear.weight.clone()
    n_rows = len(fitted.history_)
    fitted.partial_fit(*lots[1])
    change = (fitted.module_.linear.weight - weights).abs().max().item()
    assert 0 < change < 0.2
    assert len(fitted.history_) == n_rows + 1
    again = fitted.fit(*lots[0])
    assert outcome(again) == outcome(make(max_epochs=3).fit(*lots[0]))
    assert len(again.history_) == n_rows


def test_weights_of_zero_leave_windows_out_and_others_count_as_given():
    X, y = make_lots(1)[0]
    weight = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
    ours = make().partial_fit(X, y, CLASSES, weight)
    kept = make().partial_fit(X[weight > 0], y[weight > 0], CLASSES)
    assert outcome(ours) == outcome(kept)
    doubled = make(optimizer="sgd", max_grad_norm=None, batch_size=None)
    plain = clone(doubled).partial_fit(X, y, CLASSES)
    doubled.partial_fit(X, y, CLASSES, np.full(len(y), 2.0))
    assert doubled.history_["grad_norm"][0] == pytest.approx(2 * plain.history_["grad_norm"][0])


def test_class_weights_are_a_dictionary_and_not_scaled_to_the_lot():
    X, y = make_lots(1)[0]
    arguments = {"optimizer": "sgd", "batch_size": None, "max_grad_norm": None}
    weighted = make(class_weight={"ice": 2.0}, **arguments).partial_fit(X, y, CLASSES)
    given = make(**arguments).partial_fit(X, y, CLASSES, np.where(y == "ice", 2.0, 1.0))
    assert outcome(weighted) == outcome(given)


def test_a_failed_call_changes_nothing():
    lots = make_lots()
    model = make().partial_fit(*lots[0], classes=CLASSES)
    before = outcome(model)
    X, y = lots[1]
    for lot, message in (
        ((X, np.where(y == "ice", "mud", y)), "'mud', which is not among the classes"),
        ((np.zeros((30, 8, 3)), y), "3 channels"),
        ((X * np.nan, y), "NaN in window 0"),
    ):
        with pytest.raises(InputError, match=message):
            model.partial_fit(*lot)
    assert outcome(model) == before
    assert outcome(model.partial_fit(*lots[1])) == outcome(learn(make(), lots[:2], classes=CLASSES))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calibrate": True}, "calibrate=True works in fit but not in partial_fit"),
        ({"class_weight": "balanced"}, "counts of all windows"),
    ],
)
def test_arguments_of_fit_alone_are_refused_by_name(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        make(**arguments).partial_fit(*make_lots(1)[0], classes=CLASSES)


def test_classes_are_needed_first_and_stay():
    lots = make_lots()
    with pytest.raises(ArgumentError, match="needs classes="):
        make().partial_fit(*lots[0])
    model = make().partial_fit(*lots[0], classes=CLASSES[::-1])
    with pytest.raises(ArgumentError, match="differ from those of the first call"):
        model.partial_fit(*lots[1], classes=["gravel", "ice"])
    model.partial_fit(*lots[1], classes=CLASSES)


def test_another_optimizer_in_between_is_refused():
    lots = make_lots()
    model = make().partial_fit(*lots[0], classes=CLASSES)
    model.set_params(optimizer="sgd")
    with pytest.raises(ArgumentError, match="optimizer='adam'"):
        model.partial_fit(*lots[1])
    model.set_params(optimizer="adam", learning_rate=0.5)  # may change
    assert model.partial_fit(*lots[1]).history_["learning_rate"].tolist() == [0.02, 0.5]


def test_lists_lengths_and_prepared_files_are_taken(tmp_path):
    (X, y), (other, labels) = make_lots(2)
    lengths = np.random.default_rng(1).integers(2, 9, len(y))
    listed = make().partial_fit([x[:n] for x, n in zip(X, lengths, strict=True)], y, CLASSES)
    padded = make().partial_fit(X[:, : lengths.max()], y, CLASSES, lengths=lengths)
    assert outcome(listed) == outcome(padded)
    split = np.where(np.arange(len(y)) < 20, "train", "test")
    recording = np.array([f"r{i}" for i in range(len(y))])
    windows = WindowSet(other, y=labels, recording_id=recording, split=split)
    write_windows(tmp_path / "lot.h5", windows)
    by_path = make().partial_fit(tmp_path / "lot.h5", classes=CLASSES)
    assert outcome(by_path) == outcome(make().partial_fit(other[:20], labels[:20], CLASSES))


def test_a_regressor_learns_from_lots():
    rng = np.random.default_rng(0)
    model = make(SensorLSTMRegressor)
    for _ in range(15):
        X = rng.normal(size=(40, 8, 2)) + rng.normal(size=(40, 1, 1))
        model.partial_fit(X, 50 + 10 * X.mean(axis=(1, 2)))
    assert len(model.history_) == 15
    assert model.score(X, 50 + 10 * X.mean(axis=(1, 2))) > 0.8
    with pytest.raises(InputError, match="earlier calls had 1"):
        model.partial_fit(X, np.zeros((40, 2)))


def test_callbacks_are_told_after_each_call():
    seen = []
    watch = AfterEpoch(lambda module, history: seen.append(len(history)))
    learn(make(callbacks=[watch]), make_lots(), classes=CLASSES)
    assert seen == [1, 2, 3]
