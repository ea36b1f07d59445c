"""Wrong labels are counted from the predictions of a fit, without further training."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from held import held_windows
from scipy.special import softmax

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.causes import NotTested, Trial
from sensorseq.diagnosis.probe import judge_own_labels

CLASSES = ["ice", "snow", "mud"]


def runner(n=400, n_wrong=0, sharpness=4.0, seed=0, **changes):
    """Return a runner with predictions for windows 1000, 1001, ...; every fifth is held out."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    logits = sharpness * np.eye(3)[truth] + rng.normal(size=(n, 3))
    rows, held = np.arange(1000, 1000 + n), np.arange(n) % 5 == 0
    wrong = rng.choice(np.flatnonzero(~held), n_wrong, replace=False)
    given = truth.copy()
    given[wrong] = (truth[wrong] + 1) % 3
    order = rng.permutation(n)
    train = held_windows(
        np.zeros((n, 20, 2))[~held], None, given[~held], rows[~held] // 10, rows[~held]
    )
    known = {"train": train, "out_of_fold": (rows[order], softmax(logits, axis=1)[order])}
    return SimpleNamespace(**{**known, **changes}, classes=CLASSES)


@pytest.mark.parametrize("seed", range(5))
def test_planted_wrong_labels_are_counted(seed):
    noisy = runner(n_wrong=30, sharpness=8.0, seed=seed)
    trial = judge_own_labels(noisy)
    assert isinstance(trial, Trial)
    assert (trial.cause, trial.outcome, trial.cost_epochs) == ("label_noise", "undecided", 0.0)
    counted = int(re.search(r"contradict (\d+) of 320 labels", trial.sentence)[1])
    assert 28 <= counted <= 33
    assert "find_label_errors(SensorLSTMClassifier(), X, y, groups=...)" in trial.sentence


@pytest.mark.parametrize("seed", range(20))
def test_right_labels_of_an_easy_problem_are_cleared(seed):
    assert judge_own_labels(runner(sharpness=12.0, seed=seed)).outcome == "rejected"


@pytest.mark.parametrize("nothing", [None, (np.arange(3), np.full((3, 3), 1 / 3))])
def test_without_predictions_the_public_function_is_named(nothing):
    found = judge_own_labels(runner(out_of_fold=nothing))
    assert isinstance(found, NotTested)
    assert found.would_settle.startswith("sensorseq.find_label_errors(SensorLSTMClassifier(), X, y")


@pytest.mark.trains
def test_a_fit_keeps_its_predictions_for_the_report_of_its_labels():
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    X = np.sin(np.arange(30) * np.where(y, 0.3, 0.9)[:, None]) + 0.1 * rng.normal(size=(80, 30))
    clf = SensorLSTMClassifier(hidden_size=4, max_epochs=4, random_state=0).fit(X, y)
    rows, probability = clf.fluctuation_.origin.out_of_fold
    np.testing.assert_array_equal(rows, clf.out_of_fold_predictions()[0])
    np.testing.assert_array_equal(probability, clf.out_of_fold_predictions()[1])
    assert (
        clf.set_params(features=None, refit=None).fit(X, y).fluctuation_.origin.out_of_fold is None
    )
