"""The case that prompted the report, from raw recordings: 98 windows of a motor current.

Six terrains of BorealTC, windows of 100 samples, unscaled, one-hot labels, 20 windows held out, an
LSTM of 223 units, RMSprop at a constant 1e-3, 300 epochs.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc

from sensorseq import SensorLSTMClassifier

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from fluctuating_lstm import ASKED  # noqa: E402

TERRAINS = ["ASPHALT", "FLOORING", "ICE", "MIXED", "SANDY_LOAM", "SNOW"]
N_WINDOWS, N_VALIDATION, N_FRESH, N_STEPS = 98, 20, 600, 100

pytestmark = [pytest.mark.slow, needs_borealtc]


def draw_windows():
    """Return windows (n, 100, 1) of the left motor's current, and one-hot labels."""
    X, y = [], []
    for label, terrain in enumerate(TERRAINS):
        for path in sorted((BOREALTC / terrain).glob("pro_*.csv")):
            current = np.loadtxt(path, delimiter=",", skiprows=1, usecols=1, dtype=np.float32)
            n = len(current) // N_STEPS
            X.append(current[: n * N_STEPS].reshape(n, N_STEPS, 1))
            y.extend([label] * n)
    X, y = np.concatenate(X), np.array(y)
    rng = np.random.default_rng(0)
    n_each = (N_WINDOWS + N_FRESH) // len(TERRAINS) + 1
    of_each = [rng.permutation(np.flatnonzero(y == k))[:n_each] for k in range(len(TERRAINS))]
    chosen = rng.permutation(np.concatenate(of_each))
    return X[chosen], np.eye(len(TERRAINS))[y[chosen]]


def test_the_founding_case_is_answered_and_repaired():
    X, y = draw_windows()
    train, validation = slice(N_VALIDATION, N_WINDOWS), slice(0, N_VALIDATION)
    data = {"X": X[train], "y": y[train], "X_val": X[validation], "y_val": y[validation]}
    fresh, truth = X[N_WINDOWS:], y[N_WINDOWS:].argmax(1)
    settings = {**ASKED, "scale": None, "hidden_size": 223, "max_epochs": 300}
    before = SensorLSTMClassifier(**settings).fit(**data)
    report = before.fluctuation_
    lines = [line.strip() for line in str(report).split("\n")]
    assert lines[1].startswith("Verdict   FLUCTUATING")
    assert lines[2].startswith("Problem   The loss moves ")
    seen = lines.index("Seen      Chance explains the accuracy jumps (20 windows, 5 points each).")
    assert lines[seen + 1] == "The loss jumps because the learning rate is constant, not by chance."
    assert lines[seen + 2].startswith("The network overfits: the validation loss rises from epoch ")
    assert report.generalization == "overfitting"

    after = SensorLSTMClassifier(random_state=0).fit(**data)

    def accuracy(classifier):
        return np.mean(classifier.predict(fresh) == truth)

    def movement(classifier):
        return np.abs(np.diff(classifier.history_["val_accuracy"][-50:])).mean()

    assert accuracy(after) > accuracy(before)
    assert movement(after) < movement(before) / 2
