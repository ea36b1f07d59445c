import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch
from fits import plain_classifier

from sensorseq import SensorLSTMClassifier, cli
from sensorseq.errors import InputError
from sensorseq.estimator.adapt import LEAST_GAIN, _doubt
from sensorseq.io.prepared import write_windows
from sensorseq.io.stored_windows import BUFFER_VARIABLE
from sensorseq.prediction import checked_windows
from sensorseq.windows import WindowSet

NAMES = np.array(["gravel", "ice", "sand"])
T = 30


def robot(n, seed, *, gain=1.0, offset=0.0):
    """Windows of three classes that differ in level and rate, as a robot's sensor measures them."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    rate = np.array([0.2, 0.5, 0.9])[kind]
    wave = np.sin(np.arange(T) * rate[:, None] + rng.uniform(0, 6, n)[:, None])
    X = np.stack([wave, 0.3 * kind[:, None] + 0.0 * wave], axis=2)
    return gain * (X + 0.2 * rng.normal(size=X.shape)) + offset, NAMES[kind]


@pytest.fixture(scope="module")
def with_features():
    X, y = robot(90, 0)
    settings = {"hidden_size": 6, "max_epochs": 5, "features": ["summary", "rocket"]}
    return SensorLSTMClassifier(**settings, calibrate=True, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def plain():
    X, y = robot(90, 0)
    settings = {"hidden_size": 8, "max_epochs": 20, "learning_rate": 0.01, "n_models": 2}
    settings["patch"] = None
    return plain_classifier(**settings, early_stopping=False, random_state=0).fit(X, y)


@pytest.fixture(params=["with_features", "plain"])
def model(request):
    return request.getfixturevalue(request.param)


def test_labels_that_the_model_expects_change_nothing(model):
    """Labels drawn from the model's probabilities carry no information."""
    X, _ = robot(60, 1)
    before = model.predict_proba(X)
    for seed in range(5):
        draw = np.random.default_rng(seed).uniform(size=(60, 1))
        y = NAMES[np.minimum((before.cumsum(axis=1) < draw).sum(axis=1), 2)]
        kept = model.adapt(X, y)
        assert kept.adaptation_.scaling_share == 0
        assert kept.adaptation_.log_loss_after == kept.adaptation_.log_loss_before
        np.testing.assert_array_equal(kept.predict_proba(X), before)


def test_windows_of_the_same_robot_change_nothing(model):
    X, _ = robot(60, 2)
    for n in (3, 15, 60):
        kept = model.adapt(*robot(n, 1))
        assert kept.adaptation_.scaling_share == 0
        assert "does not lower the log-loss by more than 0.3 nats" in kept.adaptation_.reason
        np.testing.assert_array_equal(kept.predict_proba(X), model.predict_proba(X))


def test_a_different_gain_and_offset_move_the_scaling(with_features):
    few, test = robot(15, 1, gain=4.0, offset=30.0), robot(150, 2, gain=4.0, offset=30.0)
    adapted = with_features.adapt(*few)
    assert adapted.adaptation_.scaling_share == 1.0
    assert adapted.score(*test) > max(0.8, with_features.score(*test) + 0.2)


def test_the_original_model_is_not_changed(model):
    X, y = robot(30, 1, gain=4.0, offset=30.0)
    before = model.predict_proba(X)
    adapted = model.adapt(X, y)
    assert not np.array_equal(adapted.predict_proba(X), before)
    for module in adapted.modules_:
        torch.nn.init.zeros_(module.linear.weight)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.adaptation_ is None


def test_one_window_of_each_class_suffices_for_the_scaling(with_features):
    few, test = robot(3, 1, gain=4.0, offset=30.0), robot(150, 2, gain=4.0, offset=30.0)
    adapted = with_features.adapt(*few)
    assert adapted.adaptation_.scaling_share > 0
    assert adapted.score(*test) > with_features.score(*test) + 0.2


@pytest.mark.parametrize("n_of_first", [1, 8])
@pytest.mark.parametrize(
    ("of_class", "doubt"),
    [
        ([1.1, 1.0, 1.2], ""),
        ([1.1], "windows of one class cannot show"),
        ([1.1, 1.0, -2.0], "does not lower the log-loss by more than 0.3 nats"),
        ([0.9, 0.9, 0.9], "does not lower the log-loss by more than 0.3 nats"),
        ([20.0, -3.0, -3.0], "by more than its standard error over classes"),
    ],
)
def test_the_mean_gain_of_the_classes_must_be_large_and_clear(of_class, doubt, n_of_first):
    """The gains are multiples of the smallest gain; each class counts once."""
    class_index = np.repeat(np.arange(len(of_class)), [n_of_first] + [2] * (len(of_class) - 1))
    gain = LEAST_GAIN * np.array(of_class)[class_index]
    said = _doubt(gain, class_index)
    assert doubt in said
    assert bool(said) == bool(doubt)


def test_windows_of_one_class_change_nothing(with_features):
    X, y = robot(15, 1, gain=4.0, offset=30.0)
    kept = with_features.adapt(X[y == "ice"], y[y == "ice"])
    assert kept.adaptation_.scaling_share == 0
    assert "windows of one class cannot show" in kept.adaptation_.reason


def test_a_scaling_that_was_not_learned_is_kept():
    settings = {"hidden_size": 4, "max_epochs": 3, "scale": None}
    model = plain_classifier(**settings, random_state=0).fit(*robot(60, 0))
    kept = model.adapt(*robot(30, 1, gain=4.0, offset=30.0))
    assert kept.adaptation_.scaling_share == 0
    assert "it was not learned from windows" in kept.adaptation_.reason


def test_a_saved_or_pickled_model_equals_the_one_in_memory(model, tmp_path):
    adapted = model.adapt(*robot(30, 1, gain=4.0, offset=30.0))
    adapted.save(tmp_path / "adapted.safetensors")
    X, _ = robot(20, 3)
    loaded = SensorLSTMClassifier.load(tmp_path / "adapted.safetensors")
    for same in (loaded, pickle.loads(pickle.dumps(adapted)), copy.deepcopy(adapted)):
        np.testing.assert_array_equal(same.predict_proba(X), adapted.predict_proba(X))
        assert same.adaptation_ == adapted.adaptation_


def test_a_new_fit_is_not_adapted(plain):
    adapted = plain.adapt(*robot(30, 1, gain=4.0))
    adapted.set_params(max_epochs=2).fit(*robot(30, 0))
    assert adapted.adaptation_ is None


def test_functions_as_features_are_kept_in_the_adapted_model():
    def level(windows, lengths):
        return windows.mean(axis=1)

    settings = {"hidden_size": 4, "max_epochs": 3, "features": level, "refit": None}
    model = plain_classifier(**settings, random_state=0).fit(*robot(60, 0))
    few, test = robot(30, 1, gain=4.0, offset=30.0), robot(60, 2, gain=4.0, offset=30.0)
    adapted = model.adapt(*few)
    assert adapted.score(*test) > model.score(*test)
    assert adapted.adaptation_.source is None  # the old model cannot be saved


def test_padding_is_not_read(plain):
    X, y = robot(30, 1, gain=4.0, offset=30.0)
    lengths = np.where(np.arange(30) % 2, T, T - 8)
    filled = X.copy()
    filled[np.arange(T) >= lengths[:, None]] = 1e6
    adapted = [plain.adapt(part, y, lengths=lengths) for part in (X, filled)]
    np.testing.assert_array_equal(*(clf.predict_proba(X) for clf in adapted))


def window_set(n, seed, split=None, **changes):
    X, y = robot(n, seed, gain=4.0 if seed else 1.0, offset=30.0 if seed else 0.0)
    windows = WindowSet(
        X.astype(np.float32),
        y=y,
        recording_id=np.array([f"{seed}/{label}/{i // 6 % 2}" for i, label in enumerate(y)]),
        split=split,
        sample_rate_hz=10.0,
        channels=("curL", "curR"),
    )
    return replace(windows, **changes)


@pytest.fixture(scope="module")
def of_recordings():
    settings = {"hidden_size": 4, "max_epochs": 3, "random_state": 0}
    return plain_classifier(**settings).fit(window_set(60, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ("curL", "speed")}, "has the channels curL, speed"),
        ({"sample_rate_hz": 20.0}, "sampled at 20 Hz"),
        ({"y": np.resize(["gravel", "mud"], 30)}, "'mud', which is not a class of the model"),
        ({"y": None}, "y is None; give labels"),
    ],
)
def test_windows_that_do_not_fit_the_model_give_one_clear_error(of_recordings, changes, message):
    with pytest.raises(InputError, match=message):
        of_recordings.adapt(window_set(30, 1, **changes))


def test_windows_that_stay_in_the_file_give_the_same_model(tmp_path, monkeypatch):
    settings = {"hidden_size": 8, "max_epochs": 20, "learning_rate": 0.01, "scale": "robust"}
    model = plain_classifier(**settings, random_state=0).fit(window_set(60, 0))
    few = window_set(36, 1)
    write_windows(tmp_path / "few.h5", few)
    held = model.adapt(few)
    assert held.adaptation_.scaling_share > 0
    monkeypatch.setenv(BUFFER_VARIABLE, "1000")
    monkeypatch.setattr(checked_windows, "PIECE_BYTES", 1000)  # few windows per piece
    streamed = model.adapt(tmp_path / "few.h5")
    np.testing.assert_array_equal(streamed.predict_proba(few), held.predict_proba(few))
    assert streamed.adaptation_ == held.adaptation_


def test_the_command_writes_what_adapt_returns(of_recordings, tmp_path, capsys):
    split = np.resize(["train", "train", "train", "test", "test", "test"], 36)
    few = window_set(36, 1, split)
    model, new = tmp_path / "m.safetensors", tmp_path / "new.safetensors"
    of_recordings.save(model)
    write_windows(tmp_path / "few.h5", few)
    arguments = [str(model), "--windows", str(tmp_path / "few.h5"), "-o", str(new)]
    assert cli.run(["adapt", *arguments]) == 0
    out = capsys.readouterr().out
    adapted, written = of_recordings.adapt(few), SensorLSTMClassifier.load(new)
    np.testing.assert_array_equal(written.predict_proba(few.X), adapted.predict_proba(few.X))
    assert written.adaptation_ == adapted.adaptation_
    assert written.adaptation_.n_windows == 18  # without the windows of the test part
    digest = written.adaptation_.source
    assert digest[:16] in out
    with safetensors.safe_open(model, "np") as file:
        assert digest == file.metadata()["sha256"]
    assert set(few.recording_id[split == "train"]) <= set(written.preparation_["recordings"])
    assert cli.run(["info", str(new)]) == 0
    assert f"adapted from {digest[:16]} on 18 windows" in capsys.readouterr().out


def test_the_command_names_the_file_with_unknown_labels(of_recordings, tmp_path, capsys):
    model, few = tmp_path / "m.safetensors", tmp_path / "few.h5"
    of_recordings.save(model)
    write_windows(few, window_set(30, 1, y=np.resize(["gravel", "mud"], 30)))
    arguments = [str(model), "--windows", str(few), "-o", str(tmp_path / "new.safetensors")]
    assert cli.run(["adapt", *arguments]) == 3
    err = capsys.readouterr().err
    assert "'mud'" in err
    assert str(few) in err
    assert not (tmp_path / "new.safetensors").exists()
