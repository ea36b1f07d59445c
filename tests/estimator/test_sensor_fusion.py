"""A classifier of several sensors has a model per sensor, and weights for each set of sensors."""

import copy
import json
import pickle

import numpy as np
import pytest
import sklearn
from fits import fused_classifier, plain_classifier
from sklearn.model_selection import GridSearchCV, GroupKFold

from sensorseq import SensorFusionClassifier, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError, ModelFileError
from sensorseq.estimator import load_estimator
from sensorseq.io.model_file import pack, read_model, to_jsonable
from sensorseq.prediction.loading import load
from sensorseq.prediction.members.sensors import SensorSum
from sensorseq.sensor_windows import SensorWindows, as_sensor_windows

SETTINGS = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
LENGTHS = {"fast": (60, 2), "slow": (11, 1)}


def windows(n=96, seed=0):
    """Each sensor contains one of the two bits of the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    X = {}
    for bit, (name, shape) in enumerate(LENGTHS.items()):
        level = (y >> bit & 1)[:, None, None]
        X[name] = (level + 0.3 * rng.normal(size=(n, *shape))).astype(np.float32)
    return X, np.array(["a", "b", "c", "d"])[y], np.arange(n) // 4 % 12


@pytest.fixture(scope="module")
def fitted():
    X, y, groups = windows()
    X["slow"][::7] = np.nan  # the sensor is missing in these windows
    return fused_classifier(**SETTINGS, missing="expected").fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def complete():
    """A model that needs every sensor in every window."""
    X, y, groups = windows()
    return fused_classifier(**SETTINGS).fit(X, y, groups=groups)


def without(X, name, rows=slice(None)):
    """Return windows that lack a sensor in some rows."""
    other = X[name].copy()
    other[rows] = np.nan
    return {**X, name: other}


def test_sensors_with_one_bit_each_determine_the_class_together():
    X, y, groups = windows(240)
    X["slow"][::7] = np.nan
    model = fused_classifier(**SETTINGS, missing="expected").fit(X, y, groups=groups)
    X, y, _ = windows(400, seed=1)
    alone = [model.score(without(X, name), y) for name in LENGTHS]
    assert max(alone) < 0.7 < 0.9 < model.score(X, y)
    choice = model.features_
    assert [candidate.name for candidate in choice.candidates] == ["fast", "slow", "together"]
    assert choice.candidates[2].accuracy > max(
        candidate.accuracy for candidate in choice.candidates[:2]
    )


def test_windows_of_a_sensor_with_swapped_axes_are_named():
    X, y, groups = windows()
    waves = np.random.default_rng(0).normal(size=(len(y), 3, 100)).cumsum(axis=2)
    with pytest.raises(InputError, match=r"X\['imu'\] has shape .* X\['imu'\]\.transpose"):
        fused_classifier(**SETTINGS).fit({**X, "imu": waves}, y, groups=groups)


def test_a_sensor_alone_decides_as_its_model_does(fitted):
    X, _, _ = windows(seed=2)
    for name, other in (("fast", "slow"), ("slow", "fast")):
        expected = fitted.sensors_[name].predict(X[name])
        np.testing.assert_array_equal(fitted.predict({name: X[name]}), expected)
        np.testing.assert_array_equal(fitted.predict(without(X, other)), expected)


def test_windows_are_predicted_independently_of_what_others_lack(fitted):
    X, _, _ = windows(seed=3)
    mixed = without(without(X, "slow", slice(0, 40, 3)), "fast", slice(1, 40, 3))
    whole = fitted.predict_proba(mixed)
    for row in range(12):
        window = {name: own[row : row + 1] for name, own in mixed.items()}
        np.testing.assert_allclose(fitted.predict_proba(window), whole[row : row + 1], atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1)


def test_a_window_without_a_sensor_is_masked_and_never_a_class(fitted):
    X, _, _ = windows(seed=4)
    lost = without(without(X, "slow", [3]), "fast", [3])
    decisions = fitted.predict_or_abstain(lost, threshold=0.0)
    assert np.flatnonzero(~decisions.answered).tolist() == [3]
    for method in (fitted.predict, fitted.predict_proba):
        with pytest.raises(InputError, match="window 3 has no sensor"):
            method(lost)
    timeline = fitted.timeline(lost, start_s=np.arange(96.0), smooth="none")
    np.testing.assert_allclose(timeline.probabilities[3], fitted.model_.class_shares)


def test_files_pickles_and_the_numpy_predictor_keep_every_bit(fitted, tmp_path):
    X, _, _ = windows(seed=5)
    X = without(X, "fast", slice(0, 9))
    fitted.save(tmp_path / "model.safetensors")
    expected = fitted.predict_proba(X)
    again = SensorFusionClassifier.load(tmp_path / "model.safetensors")
    for model in (again, pickle.loads(pickle.dumps(fitted)), load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        np.testing.assert_array_equal(model.outside(X).reasons, fitted.outside(X).reasons)
    assert again.features_ == fitted.features_
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (
        tmp_path / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("place", "value"),
    [("sensors", ["fast"]), ("sensors", [1, 2]), ("weights", {"11": [1.0]}), ("missing", "x")],
)
def test_a_changed_description_is_refused(fitted, tmp_path, place, value):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    arrays, description = read_model(path)
    description["fusion"][place] = value
    path.write_bytes(pack(arrays, json.dumps(to_jsonable(description))))
    for read in (SensorFusionClassifier.load, load):
        with pytest.raises(ModelFileError, match=r"model\.safetensors"):
            read(path)


def test_outside_names_sensor_and_channel(fitted):
    X, _, _ = windows(seed=6)
    result = fitted.outside({**X, "slow": 1000 * X["slow"]})
    assert result.channels == ("fast: channel_0", "fast: channel_1", "slow: channel_0")
    assert result.mask.all()
    assert not fitted.outside(X).mask.any()


def test_an_explanation_shows_which_sensor_is_informative(fitted):
    X, _, _ = windows(24, seed=7)
    explanations = fitted.explain(without(X, "slow", [4]), label="d", n_regions=2)
    assert explanations["fast"].contributions.shape == (24, 2, 2)
    assert explanations["slow"].contributions.shape == (23, 2, 1)
    hidden = {**X, "fast": X["fast"].copy()}
    hidden["fast"][:, :30, 1] = fitted.sensors_["fast"].scaler_.channel_center[1]
    logs = [np.log(fitted.predict_proba(windows)[:, 3]) for windows in (X, hidden)]
    are_others = np.arange(24) != 4
    np.testing.assert_allclose(
        explanations["fast"].contributions[are_others, 0, 1],
        (logs[0] - logs[1])[are_others],
        atol=1e-4,
    )


def test_every_sensor_is_adapted_with_its_own_windows(fitted, tmp_path):
    X, y, _ = windows(seed=8)
    other = {"fast": 3 * X["fast"] + 1, "slow": X["slow"]}
    adapted = fitted.adapt(without(other, "slow", slice(0, 48)), y)
    assert fitted.score(other, y) < 0.8 < adapted.score(other, y)
    expected = fitted.sensors_["slow"].adapt(X["slow"][48:], y[48:])
    np.testing.assert_array_equal(
        adapted.sensors_["slow"].predict_proba(X["slow"]), expected.predict_proba(X["slow"])
    )
    assert fitted.sensors_["fast"].adaptation_ is None
    adapted.save(tmp_path / "adapted.safetensors")
    again = SensorFusionClassifier.load(tmp_path / "adapted.safetensors")
    assert again.sensors_["fast"].adaptation_ == adapted.sensors_["fast"].adaptation_
    np.testing.assert_array_equal(again.predict_proba(other), adapted.predict_proba(other))


def test_windows_in_which_a_channel_has_no_number_are_not_trained_on():
    X, y, groups = windows()
    lost = without(X, "slow", slice(0, 96, 5))
    whole = fused_classifier(**SETTINGS, missing="expected").fit(lost, y, groups=groups)
    both = {name: np.concatenate([own, own], axis=2) for name, own in lost.items()}
    partly = {name: np.concatenate([X[name], lost[name]], axis=2) for name in X}
    first, second = (
        fused_classifier(**SETTINGS, missing="expected").fit(windows, y, groups=groups)
        for windows in (both, partly)
    )
    np.testing.assert_array_equal(first.predict_proba(both), second.predict_proba(both))
    assert second.score(partly, y) >= whole.score(lost, y) - 0.05


def test_a_pattern_that_the_fit_never_saw_is_the_mean_of_its_sensors():
    rows = dict(zip(("100", "010", "001"), np.diag([2.0, 1.0, 4.0]), strict=True))
    joint = SensorSum({}, rows, np.zeros(2))
    np.testing.assert_array_equal(joint.weights_of(np.array([True, False, True])), [1, 0, 2])


def test_windows_with_a_split_are_trained_without_the_test_part():
    X, y, _ = windows()
    split = np.repeat(["train", "validation", "test"], 32)
    prepared = as_sensor_windows(X, y).with_split(split)
    changed = {name: own.X.copy() for name, own in prepared.sensors.items()}
    for of_sensor in changed.values():
        of_sensor[split == "test"] = 7.0
    other = as_sensor_windows(changed, y).with_split(split)
    first, second = (fused_classifier(**SETTINGS).fit(one) for one in (prepared, other))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert isinstance(prepared.part("test"), SensorWindows)


def test_a_search_of_scikit_learn_cuts_the_windows_of_every_sensor():
    X, y, groups = windows(144)
    grid = {"estimator__hidden_size": [2]}
    search = GridSearchCV(fused_classifier(**SETTINGS), grid, cv=GroupKFold(2))
    with sklearn.config_context(enable_metadata_routing=True):
        search.fit(as_sensor_windows(X), y, groups=groups)
    assert search.best_score_ > 0.9
    assert list(search.best_estimator_.sensors_) == ["fast", "slow"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: without(X, "slow", [5, 6]), "'slow' in 2 of 96 windows. Fit with missing="),
        (lambda X: {"fast": X["fast"], "slw": X["slow"]}, "Did you mean 'slow'"),
        (lambda X: {"fast": X["fast"]}, "'slow' in 96 of 96 windows"),
        (lambda X: X["fast"], "give X as {name: windows} with the names fast, slow"),
        (lambda X: {**X, "fast": X["fast"][:, :, :1]}, "fast"),
    ],
)
def test_windows_of_other_sensors_are_refused_by_name(complete, change, message):
    with pytest.raises(InputError) as raised:
        complete.predict(change(windows()[0]))
    assert message in "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])


def test_mistakes_in_a_fit_are_named():
    X, y, groups = windows()
    with pytest.raises(InputError, match="'slow' in 96 of 96 windows"):
        fused_classifier(**SETTINGS).fit(without(X, "slow"), y)
    lacking = without(X, "slow", y == "b")
    with pytest.raises(InputError, match="'slow' has no window of class 'b'"):
        fused_classifier(**SETTINGS, missing="expected").fit(lacking, y, groups=groups)
    with pytest.raises(ArgumentError, match="missing='maybe'"):
        fused_classifier(**SETTINGS, missing="maybe").fit(X, y)
    with pytest.raises(ArgumentError, match="warm_start=True works for one sensor at a time"):
        fused_classifier(**SETTINGS, warm_start=True).fit(X, y)
    with pytest.raises(InputError, match="X has one sensor"):
        fused_classifier(**SETTINGS).fit(X["fast"], y)


def test_a_threshold_is_chosen_on_the_labels_and_groups_of_the_windows(complete):
    X, y, groups = windows(400, seed=2)
    clf, apart = copy.copy(complete), copy.copy(complete)
    options = {"error_rate": 0.4, "confidence": 0.6}
    clf.fit_abstention(as_sensor_windows(X, y, groups), **options)
    apart.fit_abstention(X, y, groups=groups, **options)
    assert clf.abstention_ == apart.abstention_
    assert clf.abstention_.n_groups == 12
    assert clf.abstain_threshold_ == clf.abstention_.threshold
    assert not hasattr(complete, "abstention_")


def test_a_classifier_of_one_sensor_refers_to_that_of_several(complete, tmp_path):
    X, y, groups = windows()
    single = plain_classifier(**SETTINGS)
    with pytest.raises(InputError, match="SensorFusionClassifier"):
        single.fit(X, y)
    single.fit(X["fast"], y, groups=groups)
    for method in (single.predict, single.score, single.outside, single.explain):
        with pytest.raises(InputError, match="SensorFusionClassifier"):
            method(X)
    complete.save(tmp_path / "both")
    single.save(tmp_path / "one")
    with pytest.raises(ModelFileError, match=r"use SensorFusionClassifier\.load"):
        SensorLSTMClassifier.load(tmp_path / "both")
    with pytest.raises(ModelFileError, match=r"use SensorLSTMClassifier\.load"):
        SensorFusionClassifier.load(tmp_path / "one")
    kinds = {"both": SensorFusionClassifier, "one": SensorLSTMClassifier}
    for name, kind in kinds.items():
        assert type(load_estimator(tmp_path / name)) is kind
