import numpy as np
import pytest

from sensorseq.evaluation.baselines import BASELINES, predict_baseline
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
