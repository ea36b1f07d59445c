"""A checkpoint is a model file that is written during the fit, and fits can continue from it."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from fits import AfterEpoch, on_features, plain_classifier, weights, without_time

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError, OutputError
from sensorseq.evaluation.inspect import describe_file, format_file
from sensorseq.io.model_file import read_model
from sensorseq.prediction.loading import load

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
GROUPS = np.arange(60) // 6
X = RNG.normal(size=(60, 20, 2)) + 0.5 * Y[:, None, None]
SETTINGS = {"hidden_size": 4, "max_epochs": 5, "device": "cpu", "random_state": 0}
# a fit with features keeps the networks of three folds
WAVES = X + 0.5 * np.sin(0.6 * np.arange(20)[:, None] + Y[:, None, None])
FOLDS = {"features": "rocket", "refit": "auto", "max_epochs": 10, "early_stopping": False}


@pytest.fixture(autouse=True)
def _no_disk_is_waited_for(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lstm.safetensors"


def classifier(**arguments):
    return plain_classifier(**{**SETTINGS, "learning_rate": 0.03, **arguments})


def arrays_of(path):
    return {name: (a.dtype, a.tobytes()) for name, a in read_model(path)[0].items()}


KEPT = {
    "native": {"engine": "native"},
    "autograd": {"engine": "autograd", "scale": None, "class_weight": "balanced"},
    "average of the weights": {"engine": "native", "ema_decay": 0.9, "dropout": 0.3},
    "average by autograd": {"engine": "autograd", "ema_decay": 0.9, "dropout": 0.3},
    "batch norm": {"head_norm": "batch", "num_layers": 2, "bidirectional": True},
    "an ensemble": {"n_models": 2},
    "patches and random windows": {"patch": 2, "augment": "standard", "dtype": "float64"},
    "crops": {"max_timesteps": 9, "crop": "random"},
}


@pytest.mark.parametrize("arguments", KEPT.values(), ids=KEPT)
def test_the_last_checkpoint_is_the_model_of_the_best_epoch(path, tmp_path, arguments):
    arguments = {"restore_best": True, **arguments}
    fitted = classifier(checkpoint=path, **arguments).fit(X, Y, groups=GROUPS)
    plain = classifier(**arguments).fit(X, Y, groups=GROUPS)
    assert weights(fitted) == weights(plain)
    assert without_time(fitted.history_) == without_time(plain.history_)
    plain.save(tmp_path / "model")
    of_others = ("module_1.", "known.")
    of_network = {
        k: v for k, v in arrays_of(tmp_path / "model").items() if not k.startswith(of_others)
    }
    assert arrays_of(path) == of_network
    kept = SensorLSTMClassifier.load(path)
    assert (kept.best_epoch_, kept.best_score_) == (plain.best_epoch_, plain.best_score_)
    assert kept.engine_ == plain.engine_
    if "n_models" not in arguments:
        assert kept.predict_proba(X).tobytes() == plain.predict_proba(X).tobytes()


@pytest.mark.parametrize(
    ("arguments", "column", "sign"),
    [
        ({}, "val_loss", 1),
        ({"monitor": "val_accuracy"}, "val_accuracy", -1),
        ({"monitor": "loss"}, "loss", 1),
        ({"validation_fraction": 0, "early_stopping": False}, "epoch", -1),
        ({"validation_fraction": 0, "monitor": "loss"}, "loss", 1),
    ],
)
def test_a_checkpoint_is_written_after_each_epoch_that_is_the_best_so_far(
    path, arguments, column, sign
):
    seen = []

    def look(module, history):
        best = int(np.argmin(sign * history[column])) + 1
        kept = SensorLSTMClassifier.load(path)
        assert (kept.best_epoch_, kept.n_iter_) == (best, best)
        assert kept.history_.to_rows() == history.to_rows()[:best]
        seen.append(best)

    settings = {"learning_rate": 0.3, "max_epochs": 12, "callbacks": [AfterEpoch(look)]}
    classifier(checkpoint=path, **settings, **arguments).fit(X, Y, groups=GROUPS)
    assert len(seen) == 12
    assert len(set(seen)) > 1


# whether it warns depends on how this version of scikit-learn draws the folds
@pytest.mark.filterwarnings("ignore:calibrate=True had only")
def test_a_checkpoint_contains_the_lstm_alone_and_can_predict(path):
    arguments = {**FOLDS, "calibrate": True, "checkpoint": str(path)}
    fitted = classifier(**arguments).fit(WAVES, Y, groups=GROUPS)
    assert len(fitted.modules_) == 3
    kept = SensorLSTMClassifier.load(path)
    assert str(kept.features_) == "the LSTM alone (from a checkpoint)"
    assert "the LSTM alone (from a checkpoint)" in format_file(describe_file(path))
    assert (len(kept.modules_), on_features(kept), kept.temperature_) == (1, {}, 1.0)
    assert kept.get_params() == fitted.get_params()
    assert kept.fluctuation_.n_epochs == kept.best_epoch_
    probabilities = kept.predict_proba(WAVES)
    assert load(path).predict_proba(WAVES).tobytes() == probabilities.tobytes()
    kept.fit(WAVES, Y, groups=GROUPS)  # fit again with the same arguments
    assert kept.predict_proba(WAVES).tobytes() == fitted.predict_proba(WAVES).tobytes()


def test_an_earlier_fit_leaves_nothing_in_the_checkpoint(path):
    classifier(checkpoint=path).fit(X, Y, groups=GROUPS)
    first = read_model(path)[1]
    arguments = {"features": "summary", "refit": "all", "calibrate": True}
    used = classifier(**arguments).fit(X, Y, groups=GROUPS)
    used.fit_abstention(X, Y, error_rate=0.5)
    used.set_params(features=None, refit=None, calibrate=False, checkpoint=path)
    used.fit(X, Y, groups=GROUPS)
    again = read_model(path)[1]
    for clf in (first, again):
        clf["history"] = without_time(clf["history"])
    assert again == first


class TestAWarmStart:
    def test_continues_from_a_checkpoint_with_one_network_and_no_features(self, path):
        classifier(**FOLDS, checkpoint=path).fit(WAVES, Y, groups=GROUPS)
        kept = SensorLSTMClassifier.load(path)
        center, best = kept.scaler_.channel_center, kept.best_score_
        kept.set_params(warm_start=True, learning_rate=1e-6, checkpoint=None)
        kept.fit(WAVES, Y, groups=GROUPS)
        assert kept.history_[0]["val_loss"] == pytest.approx(best, rel=0.01)  # same windows
        np.testing.assert_array_equal(kept.scaler_.channel_center, center)
        assert (len(kept.modules_), on_features(kept), kept.refitted_) == (1, {}, False)
        assert str(kept.features_).startswith("the LSTM alone")

    def test_refuses_the_networks_of_folds(self, path):
        fitted = classifier(**FOLDS).fit(WAVES, Y, groups=GROUPS)
        assert len(fitted.modules_) == 3
        fitted.save(path)
        loaded = SensorLSTMClassifier.load(path).set_params(warm_start=True)
        with pytest.raises(
            ArgumentError, match=r"kept 3. Fit again .* with refit='all' or refit=None"
        ):
            loaded.fit(WAVES, Y, groups=GROUPS)

    def test_leaves_the_features_of_a_saved_model_as_they_are(self, path):
        settings = {**SETTINGS, "features": "summary", "refit": None}
        SensorLSTMClassifier(**settings).fit(X, Y, groups=GROUPS).save(path)
        loaded = SensorLSTMClassifier.load(path)
        before, network = on_features(loaded), weights(loaded)
        loaded.set_params(warm_start=True).fit(X, Y, groups=GROUPS)
        assert on_features(loaded) == before
        assert loaded.features_.names == ("summary",)
        assert weights(loaded) != network


@pytest.mark.parametrize("place", ["", "none/run", "file/run"])
def test_a_place_that_cannot_be_written_is_refused_before_the_training(tmp_path, place):
    (tmp_path / "file").touch()
    never = AfterEpoch(lambda module, history: pytest.fail("trained"))
    with pytest.raises(OutputError, match=r"is a folder|missing; create|is a file, not"):
        classifier(checkpoint=tmp_path / place, callbacks=[never]).fit(X, Y, groups=GROUPS)


def test_a_full_disk_gives_one_warning_and_the_training_continues(path, monkeypatch):
    def fill(module, history):
        if len(history) == 2:
            monkeypatch.setattr(Path, "replace", fail)

    def fail(*_):
        raise OSError(28, "No space left on device")

    arguments = {"checkpoint": path, "validation_fraction": 0, "early_stopping": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = classifier(**arguments, callbacks=[AfterEpoch(fill)]).fit(X, Y)
    (message,) = [str(warning.message) for warning in caught]
    assert f"{path}: cannot be written (no space left on device)" in message
    assert message.endswith("Training continues.")
    assert fitted.n_iter_ == 5
    assert SensorLSTMClassifier.load(path).best_epoch_ == 2
    assert list(path.parent.iterdir()) == [path]


def test_an_argument_that_cannot_be_saved_is_refused_before_the_training(path):
    with pytest.raises(InputError, match=r"random_state=.* cannot be saved"):
        classifier(checkpoint=path, random_state=np.random.RandomState(0)).fit(X, Y)
    assert not path.exists()


def test_a_model_stores_the_name_of_its_checkpoint_and_loads_without_that_file(tmp_path):
    (tmp_path / "other").mkdir()
    checkpoint = tmp_path / "other" / "run"
    classifier(checkpoint=checkpoint).fit(X, Y, groups=GROUPS).save(tmp_path / "model")
    checkpoint.unlink()
    checkpoint.parent.rmdir()
    assert SensorLSTMClassifier.load(tmp_path / "model").checkpoint == str(checkpoint)
