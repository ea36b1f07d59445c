"""Planted label errors are listed first, groups stay whole, and arguments are not changed."""

import json
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from sensorseq import (
    SensorLSTMClassifier,
    WindowSet,
    find_label_errors,
)
from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.estimator import plan
from sensorseq.inspection import label_errors
from sensorseq.inspection.label_errors import judge_labels

CLASSES = np.array(["asphalt", "grass", "ice"])
N_GROUPS, N_EACH = 9, 4  # number of groups, and of windows of each class in a group


class Flat(ClassifierMixin, BaseEstimator):
    """Naive Bayes on the mean and spread of channels; the order of windows does not change it."""

    seen: ClassVar = []  # (groups of the fit, groups of the prediction), read from the last channel

    def __init__(self, var_smoothing=1e-3):
        self.var_smoothing = var_smoothing

    def _values(self, X):
        return np.hstack([X[..., 0].mean(axis=1, keepdims=True), X[..., 0].std(axis=1)[:, None]])

    def fit(self, X, y):
        self.groups_ = set(X[:, 0, -1].tolist())
        self.model_ = GaussianNB(var_smoothing=self.var_smoothing).fit(self._values(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        Flat.seen.append((self.groups_, set(X[:, 0, -1].tolist())))
        return self.model_.predict_proba(self._values(X))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def make_windows(seed=0, *, one_label=False):
    """Return windows whose level encodes their class; the second channel is the group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(N_GROUPS), 3 * N_EACH)
    k = group % 3 if one_label else np.tile(np.arange(3), len(group) // 3)
    X = rng.normal(size=(len(group), 12, 2)) + 2.5 * k[:, None, None]
    X[..., 1] = group[:, None]
    return X.astype(np.float32), CLASSES[k], np.array([f"run {g}" for g in group])


def flip(y, rows):
    wrong = y.copy()
    wrong[rows] = np.roll(CLASSES, 1)[np.searchsorted(CLASSES, y[rows])]
    return wrong


def small(**arguments):
    return SensorLSTMClassifier(hidden_size=4, max_epochs=3, scale=None, **arguments)


X, Y, GROUPS = make_windows()
ROWS = np.array([3, 20, 41, 55, 76, 90])


@pytest.mark.trains
def test_planted_errors_come_first():
    errors = find_label_errors(small(), X, flip(Y, ROWS), groups=GROUPS, n_seeds=1, random_state=0)
    assert set(errors.row[: len(ROWS)]) == set(ROWS)
    assert list(errors.likelier[: len(ROWS)]) == list(Y[errors.row[: len(ROWS)]])
    assert list(errors.given) == list(flip(Y, ROWS)[errors.row])
    assert list(errors.group) == list(GROUPS[errors.row])
    assert sorted(errors.row) == list(range(len(Y)))
    assert (np.diff(errors.probability) >= 0).all()
    assert abs(errors.n_estimated - len(ROWS)) <= 2
    assert errors.recordings == ()


@pytest.mark.parametrize("with_groups", [True, False])
def test_planted_errors_come_first_with_a_different_classifier(with_groups):
    X, y, groups = make_windows()
    groups = groups if with_groups else None
    errors = find_label_errors(Flat(), X, flip(y, ROWS), groups=groups, random_state=0)
    assert set(errors.row[: len(ROWS)]) == set(ROWS)
    assert abs(errors.n_estimated - len(ROWS)) <= 1


def test_correct_labels_are_not_estimated_as_wrong():
    errors = find_label_errors(Flat(), X, Y, groups=GROUPS, random_state=0)
    assert errors.n_estimated == 0
    assert errors.recordings == ()


def test_a_mislabeled_recording_is_named():
    X, y, groups = make_windows(one_label=True)
    wrong = np.where(groups == "run 4", "ice", y)
    errors = find_label_errors(Flat(), X, wrong, groups=groups, random_state=0)
    (run,) = errors.recordings
    assert (run.group, run.given, run.likelier, run.n_windows) == ("run 4", "ice", "grass", 12)
    assert run.share > 0.9
    assert run.probability < 0.1
    # each recording has one label, so only the models decide
    assert set(errors.group[:12]) == {"run 4"}
    assert "run 4               ice             100 % of 12 windows look like grass" in str(errors)


def test_the_order_of_windows_does_not_matter():
    X, y, groups = make_windows()
    y = flip(y, ROWS)
    order = np.random.default_rng(1).permutation(len(y))
    # keep the first row of each class, because folds depend on the order of classes
    order = np.concatenate([[0, 1, 2], order[order > 2]])
    first = find_label_errors(Flat(), X, y, groups=groups, random_state=0)
    second = find_label_errors(Flat(), X[order], y[order], groups=groups[order], random_state=0)
    assert list(order[second.row]) == list(first.row)
    np.testing.assert_allclose(second.probability, first.probability, rtol=1e-4, atol=1e-6)


def test_groups_are_never_divided():
    Flat.seen.clear()
    find_label_errors(Flat(), X, Y, groups=GROUPS, n_seeds=2, random_state=0)
    assert len(Flat.seen) == 2 * 5
    for fitted, judged in Flat.seen:
        assert not fitted & judged
        assert len(fitted | judged) == N_GROUPS
    for half in (Flat.seen[:5], Flat.seen[5:]):
        assert sorted(g for _, judged in half for g in judged) == list(range(N_GROUPS))


def test_the_folds_inside_a_fit_do_not_divide_groups_either(monkeypatch):
    seen = []
    make = plan.make_folds

    def spy(seen_data, of_part, *args, **options):
        seen.append((of_part.groups, make(seen_data, of_part, *args, **options)))
        return seen[-1][1]

    monkeypatch.setattr(plan, "make_folds", spy)
    errors = find_label_errors(small(), X, Y, groups=GROUPS, n_seeds=1, random_state=0)
    ((of_part, folds),) = seen
    for fit_rows, test_rows in folds:
        assert not set(of_part[fit_rows]) & set(of_part[test_rows])
    judged = np.concatenate([test_rows for _, test_rows in folds])
    assert sorted(judged) == list(range(len(errors)))


def test_rows_of_out_of_fold_predictions_are_those_of_x():
    clf = small(random_state=0).fit(X, Y, groups=GROUPS)
    rows, probability = clf.out_of_fold_predictions()
    assert sorted(rows) == list(range(len(Y)))
    right = clf.classes_[probability.argmax(axis=1)] == Y[rows]
    assert right.mean() > 0.9  # a third would be right if rows and labels did not match
    assert SensorLSTMClassifier.out_of_fold_predictions(small(features=None).fit(X, Y)) is None


def test_nothing_given_is_changed():
    for clf in (small(), Flat()):
        before = dict(clf.get_params())
        copies = X.copy(), Y.copy(), GROUPS.copy()
        find_label_errors(clf, X, Y, groups=GROUPS, n_seeds=1, random_state=0)
        assert clf.get_params() == before
        assert not hasattr(clf, "classes_")
        assert all((a == b).all() for a, b in zip(copies, (X, Y, GROUPS), strict=True))
    fitted = Flat().fit(X, Y)
    of_fit = fitted.model_
    find_label_errors(fitted, X, flip(Y, ROWS), groups=GROUPS, n_seeds=1, random_state=0)
    assert fitted.model_ is of_fit


@pytest.mark.trains
def test_windows_of_different_lengths_and_window_sets():
    lengths = np.where(np.arange(len(Y)) % 2, 12, 9)
    padded = np.where(np.arange(12)[:, None] < lengths[:, None, None], X, 99.0)
    clf = small()
    wrong = flip(Y, ROWS)
    how = {"n_seeds": 1, "random_state": 0}
    first = find_label_errors(clf, padded, wrong, groups=GROUPS, lengths=lengths, **how)
    windows = WindowSet(padded, lengths, wrong, recording_id=GROUPS)
    second = find_label_errors(clf, windows, **how)
    assert set(first.row[: len(ROWS)]) == set(ROWS)
    assert list(first.row) == list(second.row)
    assert list(first.probability) == list(second.probability)
    by_fold = find_label_errors(small(features=None), windows, n_seeds=1, random_state=0)
    assert sorted(by_fold.row) == list(range(len(Y)))


def test_the_same_seed_gives_the_same_results():
    arguments = {"groups": GROUPS, "n_seeds": 1}
    first, same, second = (
        find_label_errors(Flat(), X, flip(Y, ROWS), random_state=seed, **arguments)
        for seed in (1, 1, 2)
    )
    assert list(first.probability) == list(same.probability)
    assert list(first.probability) != list(second.probability)


def test_rows_are_ranked_by_the_probability_of_the_given_label():
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1] * 10)
    p_given = np.array([0.9, 0.8, 0.9, 0.1, 0.6, 0.7, 0.8, 0.6] * 10)
    p = np.empty((80, 2))
    p[np.arange(80), target], p[np.arange(80), 1 - target] = p_given, 1 - p_given
    errors = judge_labels(p, target, np.array(["a", "b"]), None)
    assert list(errors.row) == list(np.argsort(p_given, kind="stable"))
    assert list(errors.probability) == list(p_given[errors.row])
    assert list(errors.likelier) == ["ba"[k] for k in target[errors.row]]
    assert errors.n_estimated == 10


def test_labels_of_the_recording_count_if_recordings_have_one_label():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    target = (groups % 2).copy()
    target[::25] = 1 - target[::25]  # eight labels
    p = np.full((200, 2), 0.5) + rng.uniform(-0.1, 0.1, 200)[:, None] * [1, -1]
    errors = judge_labels(p, target, np.array(["a", "b"]), groups)
    assert set(errors.row[:8]) == set(range(0, 200, 25))
    # if every group has both classes equally often, groups give no information
    target = np.tile([0, 1], 100)
    p[np.arange(200), target] += 0.3
    p /= p.sum(axis=1, keepdims=True)
    with_groups = judge_labels(p, target, np.array(["a", "b"]), groups)
    without = judge_labels(p, target, np.array(["a", "b"]), None)
    assert list(with_groups.row) == list(without.row)


def test_the_table_fits_a_terminal_and_plain_data_convert_to_json():
    X, y, groups = make_windows(one_label=True)
    long = np.array([f"a recording with a very long name {g}" for g in groups])
    errors = find_label_errors(
        Flat(), X, np.where(groups == "run 4", "ice", y), groups=long, random_state=0
    )
    lines = str(errors).splitlines()
    assert len(lines) == 2 + 10 + 2
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"About {errors.n_estimated} of {len(y)} labels look wrong")
    plain = json.loads(json.dumps(errors.to_dict()))
    assert plain["windows"]["row"] == list(errors.row)
    assert plain["recordings"][0]["likelier"] == "grass"
    assert plain["n_estimated"] == errors.n_estimated
    alone = find_label_errors(Flat(), X, y, random_state=0)
    assert "group" not in str(alone)
    assert "group" not in alone.to_dict()["windows"]


ONE_GROUP = np.where(Y == "ice", "run 0", GROUPS)
ONE_WINDOW = np.where(np.arange(108) == 5, "mud", Y)


@pytest.mark.parametrize(
    ("clf", "y", "options", "error", "message"),
    [
        (Flat(), Y[:-1], {}, InputError, "y has 107 values, but X has 108 windows"),
        (Flat(), None, {}, InputError, "y is None; give labels"),
        (Flat(), np.full(108, "ice"), {}, InputError, "y has only one class ('ice')"),
        (Flat(), Y, {"groups": GROUPS[1:]}, InputError, "groups has 107 values, but X has 108"),
        (Flat(), Y, {"groups": ONE_GROUP}, SplitError, "class 'ice' is in one group only"),
        (Flat(), ONE_WINDOW, {}, SplitError, "class 'mud' is in one window only"),
        (Flat(), Y, {"n_seeds": 0}, ArgumentError, "n_seeds=0 must be an integer from 1 to 1000"),
        (Flat, Y, {}, ArgumentError, "another scikit-learn classifier with predict_proba"),
        (LinearRegression(), Y, {}, ArgumentError, "must be a SensorLSTMClassifier"),
        (Flat(), Y, {"lengths": np.full(108, 9)}, ArgumentError, "Flat accepts no lengths"),
        (Flat(), Y, {"random_state": "x"}, ArgumentError, "random_state='x' must be an integer"),
    ],
)
def test_bad_input(clf, y, options, error, message):
    with pytest.raises(error) as caught:
        find_label_errors(clf, X, y, **options)
    assert message in str(caught.value)


def test_a_class_that_is_always_left_out_whole_is_an_error(monkeypatch):
    groups = np.where(Y == "ice", np.where(np.arange(108) % 2, "run 0", "run 1"), GROUPS)
    together = np.isin(groups, ["run 0", "run 1"])

    def folds(*_):
        return [(np.flatnonzero(~together), np.flatnonzero(together))]

    monkeypatch.setattr(label_errors, "split_folds", folds)
    with pytest.raises(SplitError, match="is in too few groups"):
        find_label_errors(Flat(), X, Y, groups=groups, random_state=0)
