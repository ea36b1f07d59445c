import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import safetensors
from fits import on_features, outputs_of, plain_classifier, use_members
from scipy.special import log_softmax

import sensorseq.estimator.adapt as adapting
from sensorseq import SensorLSTMClassifier, cli
from sensorseq.errors import InputError
from sensorseq.io.prepared import write_windows
from sensorseq.prediction.checked_windows import Windows
from sensorseq.windows import WindowSet

NAMES = np.array(["gravel", "ice", "sand"])
T = 30


def robot(n, seed, *, gain=1.0, offset=0.0, shifted=False):
    """Windows of three classes that differ in level and rate; `shifted` raises all rates."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    rate = np.array([0.2, 0.5, 0.9])[kind] + (0.25 if shifted else 0.0)
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


def log_loss(model, X, y):
    probability = model.predict_proba(X)[np.arange(len(y)), np.searchsorted(NAMES, y)]
    return -np.log(probability).mean()


def test_labels_that_the_model_expects_change_nothing(model):
    """Labels drawn from the model's probabilities carry no information, so changes are rare."""
    X, _ = robot(60, 1)
    before = model.predict_proba(X)
    n_kept = 0
    for seed in range(5):
        draw = np.random.default_rng(seed).uniform(size=(60, 1))
        y = NAMES[np.minimum((before.cumsum(axis=1) < draw).sum(axis=1), 2)]
        kept = model.adapt(X, y)
        assert kept.adaptation_.scaling_share == 0
        if not kept.adaptation_.head:
            n_kept += 1
            assert kept.adaptation_.log_loss_after == kept.adaptation_.log_loss_before
            np.testing.assert_array_equal(kept.predict_proba(X), before)
    assert n_kept >= 3


def test_the_model_learns_from_windows_of_another_robot(model):
    few, test = robot(30, 1, shifted=True), robot(150, 2, shifted=True)
    adapted = model.adapt(*few)
    assert adapted.adaptation_.head
    assert log_loss(adapted, *test) < log_loss(model, *test) - 0.05
    assert adapted.score(*test) >= model.score(*test)


def test_a_different_gain_and_offset_move_the_scaling(with_features):
    few, test = robot(15, 1, gain=4.0, offset=30.0), robot(150, 2, gain=4.0, offset=30.0)
    adapted = with_features.adapt(*few)
    assert adapted.adaptation_.scaling_share == 1.0
    assert adapted.score(*test) > max(0.8, with_features.score(*test) + 0.2)


def test_the_original_model_is_not_changed(model):
    X, y = robot(30, 1, gain=4.0, shifted=True)
    before = model.predict_proba(X)
    adapted = model.adapt(X, y)
    assert not np.array_equal(adapted.predict_proba(X), before)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.adaptation_ is None


def test_the_layer_has_the_lowest_penalized_loss(with_features):
    """Any other small change of the weights gives a higher sum of log-loss and penalty."""
    few = adapting.read_few(with_features.model_, *robot(12, 1, shifted=True), None, None)
    part, *_ = adapting.linear_parts(with_features.model_, few)
    logits, products = part.logits, part.products
    dual = part.solve(few.target, np.arange(12))

    def penalized(dual):
        logs = log_softmax(logits + products @ dual, axis=1)
        penalty = adapting.STRENGTH / 2 * np.trace(dual.T @ products @ dual)
        return penalty - logs[np.arange(12), few.target].sum()

    rng = np.random.default_rng(0)
    for _ in range(20):
        other = dual + 0.05 * rng.normal(size=dual.shape)
        assert penalized(other) > penalized(dual) - 1e-6


def test_the_change_of_the_weights_is_the_change_of_the_logits(model):
    """The changed weights give the same logits as the dual solution."""
    few = adapting.read_few(model.model_, *robot(12, 1, shifted=True), None, None)
    changed = adapting.copy_model(model.model_)
    parts = list(adapting.linear_parts(changed, few))
    for part in parts:
        part.change(few.target)
    after = list(adapting.linear_parts(changed, few))
    assert len(after) == len(parts) == (1 if on_features(model) else 2)
    for part, now in zip(parts, after, strict=True):
        wanted = part.logits + part.products @ part.solve(few.target, np.arange(12))
        np.testing.assert_allclose(now.logits, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def with_trees():
    """A model of trees and one network, both with nonzero weight."""
    X, y = robot(90, 0)
    settings = {"hidden_size": 6, "max_epochs": 5, "features": "boosting", "refit": None}
    clf = SensorLSTMClassifier(**settings, random_state=0).fit(X, y)
    assert [*on_features(clf)] == ["boosting"]
    use_members(clf, 0.4)
    return clf


def test_alongside_trees_the_layer_on_lstm_states_is_changed(with_trees):
    few = adapting.read_few(with_trees.model_, *robot(12, 1, shifted=True), None, None)
    changed = adapting.copy_model(with_trees.model_)
    (part,) = adapting.linear_parts(changed, few)
    np.testing.assert_array_equal(part.logits, outputs_of(with_trees, few.X))
    part.change(few.target)
    wanted = part.logits + part.products @ part.solve(few.target, np.arange(12))
    np.testing.assert_allclose(changed.logits(few.X), wanted, atol=1e-4)


def test_trees_that_decide_alone_have_no_layer_to_change(with_trees):
    alone = copy.copy(with_trees)
    use_members(alone, 0.0)
    kept = alone.adapt(*robot(60, 1, shifted=True))
    assert not kept.adaptation_.head
    assert "was kept (only boosted trees are used" in kept.adaptation_.reason


def test_groups_are_never_on_both_sides_of_a_fold():
    rng = np.random.default_rng(0)
    class_index, groups = np.repeat(np.arange(3), 20), rng.integers(0, 6, 60)
    folds = adapting.split_few(Windows(None, None, target=class_index, groups=groups))
    assert 2 <= len(folds) <= 5
    for fit, test in folds:
        assert not set(groups[fit]) & set(groups[test])
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), range(60))


def test_what_cannot_be_checked_is_not_changed(model):
    X, y = robot(30, 1, shifted=True)
    for arguments in ((X[:3], y[:3]), (X, y, y)):  # one window or one group of each class
        adapted = model.adapt(*arguments)
        assert not adapted.adaptation_.head
        assert "needs two groups of each class" in adapted.adaptation_.reason


def test_one_window_of_each_class_suffices_for_the_scaling(with_features):
    few, test = robot(3, 1, gain=4.0, offset=30.0), robot(150, 2, gain=4.0, offset=30.0)
    adapted = with_features.adapt(*few)
    assert adapted.adaptation_.scaling_share > 0
    assert adapted.score(*test) > with_features.score(*test) + 0.2


def test_a_saved_or_pickled_model_equals_the_one_in_memory(model, tmp_path):
    adapted = model.adapt(*robot(30, 1, gain=4.0, shifted=True))
    adapted.save(tmp_path / "adapted.safetensors")
    X, _ = robot(20, 3)
    loaded = SensorLSTMClassifier.load(tmp_path / "adapted.safetensors")
    for same in (loaded, pickle.loads(pickle.dumps(adapted)), copy.deepcopy(adapted)):
        np.testing.assert_array_equal(same.predict_proba(X), adapted.predict_proba(X))
        assert same.adaptation_ == adapted.adaptation_


def test_a_new_fit_is_not_adapted(plain):
    adapted = plain.adapt(*robot(30, 1, shifted=True))
    adapted.set_params(max_epochs=2).fit(*robot(30, 0))
    assert adapted.adaptation_ is None


def test_functions_as_features_are_kept_in_the_adapted_model():
    def level(windows, lengths):
        return windows.mean(axis=1)

    settings = {"hidden_size": 4, "max_epochs": 3, "features": level, "refit": None}
    model = plain_classifier(**settings, random_state=0).fit(*robot(60, 0))
    X, y = robot(30, 1, shifted=True)
    before = model.predict_proba(X)
    adapted = model.adapt(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert adapted.adaptation_.source is None  # the old model cannot be saved


def test_padding_is_not_read(plain):
    X, y = robot(30, 1, gain=2.0, shifted=True)
    lengths = np.where(np.arange(30) % 2, T, T - 8)
    filled = X.copy()
    filled[np.arange(T) >= lengths[:, None]] = 1e6
    adapted = [plain.adapt(part, y, lengths=lengths) for part in (X, filled)]
    np.testing.assert_array_equal(*(clf.predict_proba(X) for clf in adapted))


def window_set(n, seed, split=None, **changes):
    X, y = robot(n, seed, shifted=seed > 0)
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


def test_too_many_windows_are_refused_in_favor_of_fit(of_recordings):
    X = np.zeros((2001, T, 2))
    with pytest.raises(InputError, match="at most 2000"):
        of_recordings.adapt(X, np.resize(NAMES, 2001))


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
