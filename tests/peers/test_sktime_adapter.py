"""The adapter passes sktime's checks and learns sktime's data."""

import numpy as np
import pandas as pd
import pytest
from fits import plain_classifier

from sensorseq.errors import InputError

pytestmark = pytest.mark.peers

checks = pytest.importorskip("sktime.utils.estimator_checks")

from sensorseq.adapters.sktime import SensorLSTMSktimeClassifier  # noqa: E402

EXCLUDED: dict[str, str] = {}  # a check of sktime, and the reason for its exclusion


def test_sktimes_checks():
    options = {"raise_exceptions": False, "verbose": False, "tests_to_exclude": list(EXCLUDED)}
    results = checks.check_estimator(SensorLSTMSktimeClassifier, **options)
    failed = {name: result for name, result in results.items() if result != "PASSED"}
    assert len(results) > 100
    assert not failed


def settings(**arguments):
    quick = {"learning_rate": 1e-2, "max_epochs": 60, "batch_size": 8}
    quick |= {"validation_fraction": 0.0, "early_stopping": False, "device": "cpu"}
    return {**quick, "random_state": 0, **arguments}


def test_basic_motions_is_learned():
    datasets = pytest.importorskip("sktime.datasets")
    X, y = datasets.load_basic_motions(split="train", return_type="numpy3D")
    X_test, y_test = datasets.load_basic_motions(split="test", return_type="numpy3D")
    clf = SensorLSTMSktimeClassifier(plain_classifier(**settings())).fit(X, y)
    assert clf.score(X_test, y_test) >= 0.9
    direct = plain_classifier(**settings()).fit(np.swapaxes(X, 1, 2), y)
    expected = direct.predict_proba(np.swapaxes(X_test, 1, 2))
    np.testing.assert_allclose(clf.predict_proba(X_test), expected, rtol=1e-9)


def test_series_of_unequal_length_keep_their_lengths():
    datasets = pytest.importorskip("sktime.datasets")
    X, y = datasets.load_japanese_vowels(split="train", return_type="df-list")
    assert len({len(series) for series in X}) > 5
    quick = settings(max_epochs=2)
    clf = SensorLSTMSktimeClassifier(plain_classifier(**quick)).fit(X, y)
    listed = [series.to_numpy() for series in X]
    direct = plain_classifier(**quick).fit(listed, y)
    np.testing.assert_array_equal(clf.predict_proba(X), direct.predict_proba(listed))


def test_columns_of_tables_are_read_by_name():
    rng, y = np.random.default_rng(0), np.arange(12) % 2
    X = rng.normal(size=(12, 3, 20)) * np.array([1, 9, 81])[:, None] + y[:, None, None]
    parts = [pd.DataFrame(window.T, columns=list("abc")) for window in X]
    table = pd.concat(parts, keys=range(12), names=["window", "step"])
    clf = SensorLSTMSktimeClassifier(plain_classifier(**settings(max_epochs=2))).fit(table, y)
    expected = clf.predict_proba(table)
    # the channels of an array have no names, so they are read in order
    for same in (table[["c", "a", "b"]], X):
        np.testing.assert_array_equal(clf.predict_proba(same), expected)
    with pytest.raises(InputError, match="lacks the column 'c'"):
        clf.predict(table.rename(columns={"c": "d"}))
    of_array = SensorLSTMSktimeClassifier(plain_classifier(**settings(max_epochs=2))).fit(X, y)
    np.testing.assert_array_equal(of_array.predict_proba(table), expected)


def test_arguments_of_the_estimator_are_set_through_the_adapter():
    adapter = SensorLSTMSktimeClassifier(plain_classifier())
    adapter.set_params(estimator__hidden_size=7)
    assert adapter.clone().estimator.hidden_size == 7
