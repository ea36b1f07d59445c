"""The adapter passes aeon's checks and learns aeon's data."""

import numpy as np
import pytest
from fits import plain_classifier

pytestmark = pytest.mark.peers

checking = pytest.importorskip("aeon.testing.estimator_checking")

from sensorseq.adapters.aeon import SensorLSTMAeonClassifier  # noqa: E402


@checking.parametrize_with_checks([SensorLSTMAeonClassifier])
def test_aeons_checks(check):
    check()


def settings(**arguments):
    quick = {"learning_rate": 1e-2, "max_epochs": 60, "batch_size": 8}
    quick |= {"validation_fraction": 0.0, "early_stopping": False, "device": "cpu"}
    return {**quick, "random_state": 0, **arguments}


def test_basic_motions_is_learned():
    datasets = pytest.importorskip("aeon.datasets")
    X, y = datasets.load_basic_motions(split="train")
    X_test, y_test = datasets.load_basic_motions(split="test")
    clf = SensorLSTMAeonClassifier(plain_classifier(**settings())).fit(X, y)
    assert clf.score(X_test, y_test) >= 0.9
    direct = plain_classifier(**settings()).fit(np.swapaxes(X, 1, 2), y)
    expected = direct.predict_proba(np.swapaxes(X_test, 1, 2))
    np.testing.assert_array_equal(clf.predict_proba(X_test), expected)


def test_series_of_unequal_length_keep_their_lengths():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(3, 8 + i % 7)) for i in range(30)]
    y = np.arange(30) % 2
    quick = settings(max_epochs=2)
    clf = SensorLSTMAeonClassifier(plain_classifier(**quick)).fit(X, y)
    direct = plain_classifier(**quick).fit([series.T for series in X], y)
    expected = direct.predict_proba([series.T for series in X])
    np.testing.assert_array_equal(clf.predict_proba(X), expected)


def test_few_steps_of_many_channels_are_not_mistaken_for_many_steps():
    X = np.random.default_rng(0).normal(size=(20, 40, 6))  # X has 40 channels and 6 steps
    clf = SensorLSTMAeonClassifier(plain_classifier(**settings(max_epochs=1)))
    assert clf.fit(X, np.arange(20) % 2).estimator_.n_features_in_ == 40


def test_arguments_of_the_estimator_are_set_through_the_adapter():
    adapter = SensorLSTMAeonClassifier(plain_classifier())
    adapter.set_params(estimator__hidden_size=7)
    assert adapter.clone().estimator.hidden_size == 7
