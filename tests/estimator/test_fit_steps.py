"""The five steps of a fit, run one by one, give the same model and report as `fit`."""

from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
import torch
from fits import learn_few_features, small_classifier
from sklearn.exceptions import NotFittedError

from sensorseq import SensorFusionClassifier, SensorLSTMClassifier
from sensorseq.errors import InputError, SensorseqError
from sensorseq.estimator.fit import report_fit, show_progress, train_model
from sensorseq.estimator.fit_windows import check_arguments, hold_out, read_windows, scale_windows
from sensorseq.evaluation.predict import predict_recordings
from sensorseq.prediction import TrainedModel, load
from sensorseq.prediction.classifier_methods import ClassifierMethods

RNG = np.random.default_rng(0)
Y = np.array(["calm", "rough"])[np.arange(60) % 2]
X = RNG.normal(size=(60, 20, 2)) + 2.0 * (Y == "rough")[:, None, None]
GROUPS = np.arange(60) // 4


def steps_of(clf, X, y, **given):
    """Call the five steps one by one."""
    arguments = check_arguments(clf.get_params(deep=False))
    data = hold_out(arguments, read_windows(arguments, X, y, **given))
    scaled = scale_windows(arguments, data)
    trained = train_model(arguments, scaled, show_progress(0))
    return data, scaled, trained, report_fit(arguments, scaled, trained, trained.choice)


@pytest.mark.trains
@pytest.mark.parametrize("more", [{}, {"features": "auto", "refit": "auto", "calibrate": True}])
def test_the_steps_called_one_by_one_give_the_same_fit(more, monkeypatch):
    learn_few_features(monkeypatch)
    clf = small_classifier(**more)
    data, scaled, trained, judged = steps_of(clf, X, Y, groups=GROUPS)
    assert not set(data.train.groups) & set(data.validation.groups)
    assert not scaled.model.lstm.networks
    np.testing.assert_array_equal(scaled.model.classes, ["calm", "rough"])
    fitted = small_classifier(**more).fit(X, Y, groups=GROUPS)
    np.testing.assert_array_equal(trained.model.predict_proba(X), fitted.predict_proba(X))
    assert judged.report.to_dict() == fitted._judged.report.to_dict()
    assert not hasattr(clf, "model_")  # the steps need only the estimator's arguments


def test_a_model_is_frozen_and_predicts_without_its_estimator(tmp_path):
    fitted = small_classifier().fit(X, Y, groups=GROUPS)
    model = fitted.model_
    assert isinstance(model, TrainedModel)
    with pytest.raises(FrozenInstanceError):
        model.temperature = 2.0
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(model.outside(X).reasons, fitted.outside(X).reasons)
    fitted.save(tmp_path / "m")
    again = load(tmp_path / "m")
    read = vars(again) | vars(again.input)
    for name, value in (vars(model) | vars(model.input)).items():
        if isinstance(value, str | int | float | bool | None):
            assert value == read[name], name
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(InputError, match="is a path"):
        again.predict(tmp_path / "w.h5")


def test_the_learned_attributes_are_those_of_the_model():
    fitted = small_classifier().fit(X, Y)
    for name in ("classes", "scaler", "preparation", "temperature"):
        assert getattr(fitted, f"{name}_") is getattr(fitted.model_, name)
    fitted.temperature_ = 2.0
    assert fitted.model_.temperature == 2.0
    unfitted = SensorLSTMClassifier()
    for name in ("classes_", "module_", "history_", "abstention_", "fluctuation_"):
        assert not hasattr(unfitted, name)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


@pytest.mark.parametrize("kind", [SensorLSTMClassifier, SensorFusionClassifier, TrainedModel])
def test_a_public_method_has_one_definition_in_the_line_of_a_class(kind):
    ours = [base for base in kind.__mro__ if base.__module__[:9] == "sensorseq"]
    names = [name for base in ours for name in vars(base) if not name.startswith("_")]
    names = [name for name in names if not name.endswith("_request")]  # made by scikit-learn
    assert len(names) == len(set(names))
    assert ClassifierMethods in ours
    assert len(ours) == 3


def test_arguments_that_are_set_after_a_fit_change_no_prediction(tmp_path):
    clf = small_classifier(max_timesteps=15).fit(X, Y)
    expected = clf.predict_proba(X)
    clf.set_params(max_timesteps=5, dtype="float64", missing="expected", hidden_size=3)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    clf.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(X), expected)
    np.testing.assert_array_equal(
        SensorLSTMClassifier.load(tmp_path / "m").predict_proba(X), expected
    )


def test_a_fitted_estimator_moves_to_the_device_that_is_set():
    clf = small_classifier().fit(X, Y)
    expected = clf.predict_proba(X)
    np.testing.assert_array_equal(clf.set_params(device="cpu").predict_proba(X), expected)
    if not torch.cuda.is_available():
        with pytest.raises(SensorseqError, match="cuda"):
            clf.set_params(device="cuda").predict_proba(X)


@pytest.mark.trains
def test_a_continued_fit_uses_the_current_arguments(tmp_path):
    clf = small_classifier(warm_start=True, max_epochs=2).fit(X, Y)
    clf.set_params(max_timesteps=12, missing="expected").fit(X, Y)
    assert (clf.model_.input.max_timesteps, clf.model_.missing) == (12, "expected")
    beyond = X.copy()
    beyond[:, 12:] += 100.0  # the beginning of a window is kept
    np.testing.assert_array_equal(clf.predict_proba(beyond), clf.predict_proba(X))
    clf.save(tmp_path / "m")
    again = SensorLSTMClassifier.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


@pytest.mark.trains
def test_a_continued_fit_refuses_columns_in_a_different_order():
    table = pd.DataFrame(X[:, :, 0], columns=[f"t{i}" for i in range(20)])
    clf = small_classifier(warm_start=True, max_epochs=1).fit(table, Y)
    clf.fit(table, Y)
    with pytest.raises(ValueError, match="same order"):
        clf.fit(table[table.columns[::-1]], Y)


def test_a_sensor_that_is_fitted_again_is_the_one_that_decides_and_is_saved(tmp_path):
    of = {"imu": X, "motor": X[:, ::2, :1]}
    fused = SensorFusionClassifier(small_classifier(max_epochs=2)).fit(of, Y)
    before = fused.predict_proba(of)
    fused.sensors_["imu"].set_params(random_state=7).fit(X, Y[::-1])
    after = fused.predict_proba(of)
    assert not np.array_equal(after, before)
    fused.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(of), after)


def test_an_unknown_option_of_recordings_is_refused():
    with pytest.raises(TypeError, match="sample_rate"):
        predict_recordings(small_classifier(), ["a.csv"], sample_rate=3)
