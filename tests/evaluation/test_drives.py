"""Scores of recordings with several classes: their values, and where they appear."""

import dataclasses
import json

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq.evaluation.comparison_text import format_comparison
from sensorseq.evaluation.drives import evaluate_drives, majority_vote
from sensorseq.evaluation.evaluate import Comparison
from sensorseq.evaluation.fit_page import make_page
from sensorseq.evaluation.metrics import score_predictions
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.windows import WindowSet

CLASSES = np.array(["ice", "sand"])
WINDOW_S = 2.0


def drives(n_recordings=12, n_windows=60, right=0.8, seed=0):
    """Return recordings that change class twice, with rows in random order, and probabilities."""
    rng = np.random.default_rng(seed)
    half = n_windows // 2
    edges = rng.integers([5, half], [half - 8, n_windows - 5], (n_recordings, 2))
    index = (np.arange(n_windows) >= edges[:, :1]).astype(int)
    index -= np.arange(n_windows) >= edges[:, 1:]
    index = index.ravel()
    predicted = np.where(rng.random(index.size) < right, index, 1 - index)
    p = np.where(predicted[:, None] == np.arange(2), 0.8, 0.2)
    windows = WindowSet(
        np.zeros((index.size, 20, 1), np.float32),
        lengths=np.full(index.size, 20),
        channels=("cur",),
        y=CLASSES[index],
        groups=np.repeat([f"robot {i // 2}" for i in range(n_recordings)], n_windows),
        recording_id=np.repeat([f"drive {i}" for i in range(n_recordings)], n_windows),
        start_s=np.tile(WINDOW_S * np.arange(n_windows), n_recordings),
        sample_rate_hz=10.0,
    )
    order = rng.permutation(index.size)
    return windows.take(order), p[order]


def test_smoothing_is_better_than_a_vote_and_single_windows():
    windows, p = drives()
    evaluation = evaluate_drives(windows, p, CLASSES, Smoothing("lag", mean_dwell_s=40))
    single, vote, smoothed = evaluation.scores.values()
    right = (CLASSES[p.argmax(axis=1)] == windows.y).mean()
    assert single.scores["accuracy"] == pytest.approx(right)
    for name, sign in (("accuracy", 1), ("f1", 1), ("false_switches_per_h", -1)):
        values = [sign * each.scores[name] for each in (single, vote, smoothed)]
        assert values == sorted(values)
    for each in evaluation.scores.values():
        for name, value in each.scores.items():
            low, high = each.intervals[name]
            assert low <= value <= high
    assert (evaluation.n_votes, evaluation.n_recordings) == (7, 12)
    assert len(evaluation.true.spans) == 36


def test_correct_predictions_have_the_best_scores():
    windows, p = drives(right=1.0)
    for each in evaluate_drives(windows, p, CLASSES, Smoothing("none")).scores.values():
        accuracy, f1, delay_s, n_false = each.scores.values()
        assert (f1, n_false) == (1, 0)
        assert accuracy > 0.95
        assert delay_s < WINDOW_S


@pytest.mark.parametrize("without", ["recording_id", "start_s", "sample_rate_hz", "several", "y"])
def test_recordings_of_one_class_and_windows_without_times_have_no_drive_scores(without):
    windows, p = drives()
    if without == "several":
        windows, p = windows.take(windows.y == "ice"), p[windows.y == "ice"]
    else:
        windows = dataclasses.replace(windows, **{without: None})
    assert evaluate_drives(windows, p, CLASSES) is None


def test_a_tie_of_votes_goes_to_the_more_probable_class():
    p = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.9, 0.1]])
    votes = majority_vote(p, 1, 0)
    np.testing.assert_array_equal(votes.argmax(axis=1), [0, 1, 1, 0])
    np.testing.assert_allclose(votes.sum(axis=1), 1)
    np.testing.assert_array_equal(majority_vote(p, 0, 0).argmax(axis=1), p.argmax(axis=1))


def test_text_and_json_have_the_scores():
    windows, p = drives()
    evaluation = evaluate_drives(windows, p, CLASSES)
    scored = score_predictions(windows.y, p, CLASSES, recording_id=windows.recording_id)
    comparison = Comparison(scored, {}, "a test", drives=evaluation)
    text = format_comparison(comparison)
    assert "12 recordings with several classes" in text
    assert max(map(len, text.splitlines())) <= 80
    plain = json.loads(json.dumps(comparison.to_dict()))["drives"]
    assert plain["smooth"] == "marginals"
    value = plain["scores"]["smoothed"]["f1"]["value"]
    assert f"{100 * value:.1f} [" in text.split("smoothed  ")[1].splitlines()[0]


def test_the_page_has_the_scores_and_strips(tmp_path):
    windows, p = drives()
    clf = plain_classifier(hidden_size=2, max_epochs=1, random_state=0, device="cpu")
    X = np.random.default_rng(0).normal(size=windows.X.shape).astype(np.float32)
    clf.fit(dataclasses.replace(windows, X=X))
    scored = score_predictions(windows.y, p, CLASSES, recording_id=windows.recording_id)
    evaluation = evaluate_drives(windows, p, CLASSES)
    page, without = (
        make_page(clf, None, title="a page", comparison=Comparison(scored, {}, "a test", **drives))
        for drives in ({"drives": evaluation}, {})
    )
    assert page.count('class="strip"') == 2 * 12
    assert "false switches/h" in page
    assert "Over time" not in without
