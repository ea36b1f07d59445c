"""The five steps of a fit give alone what `fit` gives, and a model holds all of it."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from fits import learn_few_features, small_classifier
from sklearn.exceptions import NotFittedError

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import InputError
from sensorseq.estimator.fit import judge, show_progress, train_model
from sensorseq.estimator.fit_windows import check_arguments, hold_out, read_windows, scale_windows
from sensorseq.prediction import TrainedModel, load

RNG = np.random.default_rng(0)
Y = np.array(["calm", "rough"])[np.arange(60) % 2]
X = RNG.normal(size=(60, 20, 2)) + 2.0 * (Y == "rough")[:, None, None]
GROUPS = np.arange(60) // 4


def steps_of(clf, X, y, **given):
    """Take the five steps by hand."""
    arguments = check_arguments(clf.get_params(deep=False))
    data = hold_out(arguments, read_windows(arguments, X, y, **given))
    scaled = scale_windows(arguments, data)
    trained = train_model(arguments, scaled, show_progress(0))
    return data, scaled, trained, judge(arguments, scaled, trained)


@pytest.mark.trains
@pytest.mark.parametrize("more", [{}, {"features": "auto", "refit": "auto", "calibrate": True}])
def test_the_steps_taken_by_hand_give_the_fit(more, monkeypatch):
    learn_few_features(monkeypatch)
    clf = small_classifier(**more)
    data, scaled, trained, judged = steps_of(clf, X, Y, groups=GROUPS)
    assert not set(data.train.groups) & set(data.validation.groups)
    assert not scaled.model.networks
    np.testing.assert_array_equal(scaled.model.classes, ["calm", "rough"])
    fitted = small_classifier(**more).fit(X, Y, groups=GROUPS)
    np.testing.assert_array_equal(trained.model.predict_proba(X), fitted.predict_proba(X))
    assert judged.report.to_dict() == fitted._judged.report.to_dict()
    assert not hasattr(clf, "model_")  # the steps take its arguments alone


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
    for field in fields(TrainedModel):
        own, read = getattr(model, field.name), getattr(again, field.name)
        if isinstance(own, str | int | float | bool | dict | None):
            assert own == read, field.name
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(InputError, match="is a path"):
        again.predict(tmp_path / "w.h5")


def test_the_learned_attributes_are_those_of_the_model():
    fitted = small_classifier().fit(X, Y)
    for name in ("classes", "scaler", "patch", "preparation", "temperature"):
        assert getattr(fitted, f"{name}_") is getattr(fitted.model_, name)
    fitted.temperature_ = 2.0
    assert fitted.model_.temperature == 2.0
    unfitted = SensorLSTMClassifier()
    for name in ("classes_", "module_", "history_", "abstention_", "fluctuation_"):
        assert not hasattr(unfitted, name)
    with pytest.raises(NotFittedError):
        unfitted.predict(X)


def test_a_class_of_ours_inherits_from_scikit_learn_alone():
    ours = [base for base in SensorLSTMClassifier.__mro__ if base.__module__[:9] == "sensorseq"]
    assert ours == [SensorLSTMClassifier]
