import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from sensorseq.errors import ArgumentError
from sensorseq.evaluation.calibration import resampling_weights
from sensorseq.evaluation.metrics import METRICS, compare, score_predictions, scores_of


def one_hot(predicted, classes):
    return (np.asarray(predicted)[:, None] == np.asarray(classes)[None, :]).astype(float)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 5))
def test_scores_equal_those_of_scikit_learn(seed, n, k):
    rng = np.random.default_rng(seed)
    classes = np.array(list("abcdefg"[:k]))
    y, predicted = rng.choice(classes, n), rng.choice(classes, n)
    scored = score_predictions(y, one_hot(predicted, classes), classes, n_resamples=5)
    assert scored.scores["accuracy"] == pytest.approx(accuracy_score(y, predicted))
    assert scored.scores["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    present = np.isin(predicted, y)  # scikit-learn warns about predicted classes without windows
    recalls = [np.mean(predicted[y == label] == label) for label in np.unique(y)]
    assert scored.scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    if present.all() and len(np.unique(y)) > 1:
        expected = balanced_accuracy_score(y, predicted)
        assert scored.scores["balanced_accuracy"] == pytest.approx(expected)


@given(st.integers(0, 1000))
def test_the_order_of_windows_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    y, groups = rng.integers(0, 3, 40), rng.integers(0, 8, 40)
    probability = rng.dirichlet(np.ones(3), 40)
    order = rng.permutation(40)
    first, second = (
        score_predictions(y[i], probability[i], [0, 1, 2], recording_id=groups[i], n_resamples=50)
        for i in (np.arange(40), order)
    )
    np.testing.assert_equal(first.intervals, second.intervals)
    np.testing.assert_equal(first.scores, second.scores)
    assert first.to_dict()["recordings"][0]["label"] == second.to_dict()["recordings"][0]["label"]


def test_resampled_scores_equal_those_of_the_drawn_windows():
    rng = np.random.default_rng(0)
    y, groups = rng.integers(0, 3, 60), np.repeat(np.arange(6), 10)
    predicted = rng.integers(0, 3, 60)
    how = {"recording_id": groups, "n_resamples": 60, "seed": 4}
    scored = score_predictions(y, one_hot(predicted, range(3)), range(3), **how)
    accuracy, f1 = [], []
    for weights in resampling_weights(6, 60, 4):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in np.repeat(range(6), weights)])
        accuracy.append(accuracy_score(y[rows], predicted[rows]))
        f1.append(f1_score(y[rows], predicted[rows], average="macro"))
    np.testing.assert_allclose(scored.intervals["accuracy"], np.percentile(accuracy, [2.5, 97.5]))
    np.testing.assert_allclose(scored.intervals["macro_f1"], np.percentile(f1, [2.5, 97.5]))


@pytest.mark.trains
def test_intervals_by_recording_contain_the_truth_more_often_than_those_by_window():
    """30 recordings differ in difficulty; about 95 % of the 95 % intervals contain the truth."""
    rng = np.random.default_rng(0)
    covered = {"recordings": 0, "windows": 0}
    n_trials, n_recordings, n_windows = 120, 30, 20
    for trial in range(n_trials):
        rate = rng.beta(3, 1.5, n_recordings)  # with a mean of 2/3
        right = rng.random((n_recordings, n_windows)) < rate[:, None]
        y = np.zeros(right.size, int)
        probability = one_hot(np.where(right.ravel(), 0, 1), [0, 1])
        ids = np.repeat(np.arange(n_recordings), n_windows)
        for name, groups in {"recordings": ids, "windows": None}.items():
            how = {"groups": groups, "n_resamples": 200, "seed": trial}
            low, high = score_predictions(y, probability, [0, 1], **how).intervals["accuracy"]
            covered[name] += low <= 2 / 3 <= high
    assert 0.88 < covered["recordings"] / n_trials < 0.99
    assert covered["windows"] / n_trials < 0.8


def test_one_group_gives_no_interval_and_plain_json():
    probability = one_hot([0, 1, 0], [0, 1])
    scored = score_predictions([0, 1, 1], probability, [0, 1], recording_id=["a"] * 3)
    assert np.isnan(scored.intervals["accuracy"]).all()
    plain = scored.to_dict()
    assert plain["intervals"]["accuracy"] is None
    assert plain["recordings"][0]["label"] is None  # the recording has windows of several classes
    assert plain["recording_vote"] is None
    json.dumps(plain, allow_nan=False)


def test_fewer_than_five_groups_give_no_interval():
    probability = one_hot([0, 1, 0, 1, 1], [0, 1])
    for n_groups in (4, 5):
        ids = np.arange(5) % n_groups
        scored = score_predictions([0, 1, 1, 1, 0], probability, [0, 1], recording_id=ids)
        assert np.isfinite(scored.intervals["accuracy"]).all() == (n_groups == 5)


def test_paired_differences_are_narrower_than_those_of_unpaired_scores():
    rng = np.random.default_rng(1)
    rate = rng.beta(2, 1, 20)
    right = rng.random((20, 30)) < rate[:, None]
    better = right | (rng.random((20, 30)) < 0.1)
    ids, y = np.repeat(np.arange(20), 30), np.zeros(600, int)
    first, second = (
        score_predictions(y, one_hot(np.where(r.ravel(), 0, 1), [0, 1]), [0, 1], recording_id=ids)
        for r in (better, right)
    )
    difference = compare(first, second)["accuracy"]
    assert difference.value == pytest.approx(better.mean() - right.mean())
    low, high = difference.interval
    assert low > 0
    assert high - low < 0.4 * np.ptp(first.intervals["accuracy"])
    assert compare(first, first)["accuracy"].value == 0
    other = score_predictions(1 - y, one_hot(y, [0, 1]), [0, 1], recording_id=ids)
    with pytest.raises(ArgumentError, match="different windows"):
        compare(first, other)


def by_group(right):
    """Score predictions of class 0 in groups of equal size; `right` is (n_groups, n_windows)."""
    right = np.asarray(right)
    ids, y = np.repeat(np.arange(len(right)), right.shape[1]), np.zeros(right.size, int)
    predicted = one_hot(np.where(right.ravel(), 0, 1), [0, 1])
    return score_predictions(y, predicted, [0, 1], recording_id=ids, n_resamples=10)


@given(st.integers(0, 10_000), st.integers(2, 7))
def test_the_p_value_equals_that_of_scipy_for_paired_groups(seed, n_groups):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, n_groups, 5)) < rng.random((2, n_groups, 1))
    expected = permutation_test(
        (first.mean(axis=1), second.mean(axis=1)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    difference = compare(by_group(first), by_group(second))["accuracy"]
    assert difference.p_value == pytest.approx(expected)
    assert compare(by_group(second), by_group(first))["accuracy"].p_value == difference.p_value


def test_the_p_value_of_many_groups_is_that_of_the_sign_test():
    """The results differ by one window in each group, so the p-value is that of a sign test."""
    first, second = np.zeros((2, 40, 4), bool)
    first[:30, 0], second[30:, 0] = True, True
    difference = compare(by_group(first), by_group(second))["accuracy"]
    expected = binomtest(30, 40).pvalue
    assert difference.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / 10_000))


def test_p_values_of_equal_predictions_and_of_one_group_are_one():
    same = by_group(np.eye(3, dtype=bool))
    assert {d.p_value for d in compare(same, same).values()} == {1.0}
    assert compare(by_group([[True] * 9]), by_group([[False] * 9]))["accuracy"].p_value == 1.0


def test_a_recording_is_classified_by_vote_and_by_mean_probability():
    probability = np.array([[0.51, 0.49], [0.51, 0.49], [0.0, 1.0], [0.6, 0.4], [0.1, 0.9]])
    ids = ["one"] * 3 + ["two"] * 2
    scored = score_predictions(["b"] * 5, probability, ["a", "b"], recording_id=ids)
    first, second = scored.recordings
    assert (first.vote, first.predicted, first.n_windows) == ("a", "b", 3)
    assert second.vote == "b"  # a tie goes to the higher mean probability
    assert scored.scores["recording_vote"] == 0.5
    assert scored.scores["recording_mean"] == 1.0
    assert sum(first.probability) == pytest.approx(1)


def test_scores_of_a_stack_are_the_scores_of_each():
    stack = np.random.default_rng(0).integers(0, 9, (4, 3, 3))
    for name in METRICS:
        each = [scores_of(matrix)[name] for matrix in stack]
        np.testing.assert_allclose(scores_of(stack)[name], each)
