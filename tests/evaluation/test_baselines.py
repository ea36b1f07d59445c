import numpy as np
import pytest

from sensorseq.evaluation import baselines
from sensorseq.evaluation.baselines import (
    BASELINES,
    describe_by_convolutions,
    predict_baseline,
)
from sensorseq.windows import WindowSet


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_learn_what_they_can(name):
    rng = np.random.default_rng(0)
    y = np.repeat(["calm", "rough", "rough"], 40)
    X = rng.normal(size=(120, 20, 2)) * np.where(y == "rough", 3.0, 1.0)[:, None, None]
    windows = WindowSet(X, y=y)
    train, test = windows.take(np.arange(0, 120, 2)), windows.take(np.arange(1, 120, 2))
    classes = np.array(["calm", "rough", "unheard of"])
    scores = predict_baseline(name, train, test, classes)
    accuracy = (classes[scores.argmax(axis=1)] == test.y).mean()
    assert scores.shape == (60, 3)
    if name == "majority":
        assert accuracy == pytest.approx(2 / 3)
    else:
        assert accuracy > 0.95
    np.testing.assert_array_equal(scores, predict_baseline(name, train, test, classes))


def sines(n, n_steps, frequencies, rng):
    """Return sines of random phase, scale and offset; the classes differ only in frequency."""
    label = np.arange(n) % len(frequencies)
    phase = rng.uniform(0, 6, (n, 1))
    t = np.arange(n_steps)
    X = np.sin(np.asarray(frequencies)[label][:, None] * t + phase)[:, :, None]
    return WindowSet(1e4 + 50 * X + 5 * rng.normal(size=X.shape), y=label)


@pytest.mark.parametrize("many", [10, 4_000])
def test_random_convolutions_distinguish_frequencies_at_any_scale(many, monkeypatch):
    monkeypatch.setattr(baselines, "_MANY_WINDOWS", many)
    windows = sines(260, 30, [0.4, 0.5, 1.4], np.random.default_rng(0))
    train, test = windows.take(np.arange(60)), windows.take(np.arange(60, 260))
    scores = predict_baseline("rocket_ridge", train, test, np.arange(3))
    assert (scores.argmax(axis=1) == test.y).mean() > 0.9


def test_random_convolutions_ignore_padding():
    rng = np.random.default_rng(1)
    windows = sines(90, 30, [0.4, 1.4], rng)
    lengths = rng.integers(0, 31, 90)
    garbage = np.where(np.arange(30)[:, None] < lengths[:, None, None], windows.X, np.nan)
    zeros = np.nan_to_num(garbage)
    classes = np.arange(2)
    scores = [
        predict_baseline(
            "rocket_ridge",
            WindowSet(X[:60], y=windows.y[:60], lengths=lengths[:60]),
            WindowSet(X[60:], y=windows.y[60:], lengths=lengths[60:]),
            classes,
        )
        for X in (garbage, zeros)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(("n_train", "n_features"), [(4_000, 9_996), (4_001, 2_016)])
def test_many_training_windows_have_fewer_convolutions(n_train, n_features):
    windows = WindowSet(np.random.default_rng(0).normal(size=(n_train, 10, 1)))
    describe = describe_by_convolutions(windows)
    few = windows.take(np.arange(5))
    assert describe(few).shape == (5, n_features)
    np.testing.assert_array_equal(describe(windows.take(np.arange(2_050)))[:5], describe(few))
