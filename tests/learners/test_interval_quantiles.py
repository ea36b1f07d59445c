"""The member on interval quantiles has the values of a plain reference and of scikit-learn."""

import itertools

import numpy as np
import pytest
from fits import plain_classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesClassifier

from sensorseq.errors import InputError, SensorseqError
from sensorseq.learners import interval_quantiles
from sensorseq.learners.learner import Folds, LearnerData
from sensorseq.prediction.members.interval_quantiles import (
    N_FEATURES,
    IntervalQuantilesMember,
    quantiles_of,
)

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
X = (RNG.normal(size=(60, 30, 2)) * (1 + Y[:, None, None])).astype(np.float32)
EVERY = np.arange(60)


def reference(window):
    """Return the features of one window (t, c), computed channel by channel."""
    found = []
    for channel in window.astype(np.float64).T:
        n = len(channel)
        lines = np.abs(np.fft.rfft(channel - channel.mean())[1:]) ** 2 / n
        difference, spectrum = np.diff(channel), np.log(lines + 1e-12)
        series = [channel, difference if n > 1 else [0.0], spectrum if n > 1 else [0.0]]
        for values in map(np.asarray, series):
            for parts in (1, 2, 4, 8):
                edges = [len(values) * k // parts for k in range(parts + 1)]
                for start, end in itertools.pairwise(edges):
                    start = min(start, len(values) - 1)
                    part = values[start : max(end, start + 1)]
                    quantiles = np.quantile(part, [0.1, 0.3, 0.5, 0.7, 0.9])
                    found += [part.mean(), part.std(), *(quantiles - part.mean())]
    return np.array(found)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_features_are_those_of_the_valid_steps(lengths, seed):
    windows = np.random.default_rng(seed).normal(size=(len(lengths), 40, 2))
    found = quantiles_of(windows, np.array(lengths))
    assert found.shape == (len(lengths), 2 * N_FEATURES)
    expected = [reference(window[:n]) for window, n in zip(windows, lengths, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_probabilities_are_those_of_the_forest_and_one_tree_that_knows_nothing():
    data = LearnerData(X, None, Y, np.ones(60), 3, EVERY)
    folds = Folds([(EVERY[:40], EVERY[40:]), (EVERY[20:], EVERY[:20])], EVERY)
    seed = np.random.SeedSequence(5)
    member, logits = interval_quantiles.IntervalQuantilesLearner().fit(data, folds, seed)
    settings = {"max_features": 0.1, "criterion": "entropy"}
    settings["random_state"] = int(seed.generate_state(1)[0])
    features = quantiles_of(X, None)
    for fitted, tested, found in (
        (EVERY, EVERY, member.logits(X, None)),
        (EVERY[:40], EVERY[40:], logits[40:]),
    ):
        forest = ExtraTreesClassifier(200, **settings).fit(features[fitted], Y[fitted])
        expected = (200 * forest.predict_proba(features[tested]) + 1 / 3) / 201
        np.testing.assert_allclose(np.exp(found), expected, atol=1e-6)
    assert np.isnan(logits[20:40]).all()


def test_a_model_with_this_member_is_saved_and_refuses_to_be_exported(tmp_path):
    clf = plain_classifier(features="interval_quantiles", max_epochs=1).fit(X, Y)
    assert clf.features_.names == ("interval_quantiles",)
    assert "interval_quantiles" not in plain_classifier(features="auto").features
    clf.save(tmp_path / "m")
    again = type(clf).load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    text = "features='interval_quantiles' cannot be exported to "
    with pytest.raises(InputError, match=text + "C"):
        clf.to_c(tmp_path / "c")
    pytest.importorskip("onnx")
    with pytest.raises(InputError, match=text + "ONNX"):
        clf.to_onnx(tmp_path / "m.onnx")


DAMAGES = {
    "a path without end": {"left": 0},
    "no such leaf": {"leaf": 10**6},
    "a share below 0": {"share": -1.0},
    "a threshold that is no number": {"threshold": np.nan},
    "no such feature": {"feature": 10**6},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_arrays_are_refused(damage):
    data = LearnerData(X, None, Y, np.ones(60), 3, EVERY)
    folds, seed = Folds([(EVERY, EVERY)], EVERY), np.random.SeedSequence(0)
    member, _ = interval_quantiles.IntervalQuantilesLearner().fit(data, folds, seed)
    settings, arrays = member.state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    for name, value in damage.items():
        rows = arrays["feature"] < 0 if name == "leaf" else slice(None)
        arrays[name][rows] = value
    with pytest.raises((ValueError, SensorseqError), match="inconsistent"):
        IntervalQuantilesMember.restore(settings, arrays)
