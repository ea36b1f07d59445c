"""The classifier's features= and refit=: which windows they use, and how features are stored."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import said
from fits import (
    InterruptAfter,
    lstm_weight,
    on_features,
    reloaded,
    weights,
    without_time,
)
from sklearn.linear_model import LogisticRegression

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import (
    ArgumentError,
    InputError,
    LeakWarning,
    PreparedFileError,
)
from sensorseq.estimator import fit, plan
from sensorseq.features.summary import FEATURES
from sensorseq.io.prepared import write_windows
from sensorseq.learners import all_windows, boosting, learner, linear, lstm, weigh
from sensorseq.learners.all_windows import N_FOLDS
from sensorseq.learners.kinds import all_learners
from sensorseq.learners.learner import FittedMember, Learner
from sensorseq.prediction.members.boosting import BoostingMember
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.training import train_network
from sensorseq.training.labels import draw_entropy
from sensorseq.training.torch_network import make_network

RNG = np.random.default_rng(0)
Y = np.arange(48) % 2
X = (RNG.normal(size=(48, 16, 2)) + 1.2 * Y[:, None, None]).astype(np.float32)
GROUPS = np.arange(48) // 4
NEW = RNG.normal(size=(9, 16, 2)).astype(np.float32) + 0.6


@pytest.fixture(autouse=True)
def set_limits(monkeypatch):
    """Use only a few convolutions; with the returned function, a test sets other limits."""

    def set_to(**limits):
        for name, value in limits.items():
            (home,) = [file for file in (linear, boosting, weigh) if hasattr(file, name)]
            monkeypatch.setattr(home, name, value)

    set_to(ROCKET_FEATURES=168)
    return set_to


@pytest.fixture
def refit_jobs(monkeypatch):
    """Record the training runs that follow the run on the training part."""
    jobs, train_all = [], lstm._train_all
    monkeypatch.setattr(lstm, "_train_all", lambda given: jobs.extend(given) or train_all(given))
    return jobs


@pytest.fixture
def rankings(monkeypatch):
    """Record the number of windows and the result of each ranking of statistics."""
    ranked, rank = [], learner.rank_statistics

    def noted(statistics, *rest):
        ranked.append((len(statistics), rank(statistics, *rest)))
        return ranked[-1][1]

    monkeypatch.setattr(learner, "rank_statistics", noted)
    return ranked


def small(**arguments):
    settings = {
        "hidden_size": 4,
        "max_epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.02,
        "bidirectional": False,
        "device": "cpu",
        "random_state": 0,
    }
    return SensorLSTMClassifier(**{**settings, **arguments})


def averages(windows, lengths):
    """A user-defined function of windows."""
    return windows.mean(axis=1)


# Stored features


@pytest.mark.trains
@pytest.mark.parametrize("refit", [None, "auto"])
def test_steps_of_the_most_important_statistics(refit, tmp_path, rankings, set_limits):
    """Each fit chooses from its own windows; the model stores only the chosen statistics."""
    set_limits(STEPPED_STATISTICS=36)
    small(features="summary", refit=refit).fit(X, Y, groups=GROUPS)
    assert not rankings  # there are so few statistics that all are used
    set_limits(STEPPED_STATISTICS=4)
    clf = small(features="summary", refit=refit).fit(X, Y, groups=GROUPS)
    (member,) = on_features(clf).values()
    n_tested = clf.features_.n_windows
    sizes = [n for n, _ in rankings]
    if refit is None:
        assert sizes == [48 - n_tested]  # the same windows are ranked once
    else:
        assert sizes[-1] == n_tested == 48
        assert sum(48 - n for n in sizes[:-1]) == 48
    assert member.weight.shape == (4 * 31, 2)
    columns = member.describe.state()["arrays"]["columns"]
    np.testing.assert_array_equal(columns, np.sort(rankings[-1][1][:4]))
    assert clf.score(X, Y) > 0.8
    again, _ = reloaded(clf, tmp_path)
    np.testing.assert_array_equal(again.decision_function(NEW), clf.decision_function(NEW))


@pytest.mark.trains
def test_boosting_on_the_most_important_of_many_statistics(tmp_path, rankings, set_limits):
    set_limits(BOOSTED_STATISTICS=3)
    clf = small(features="boosting", refit=None).fit(X, Y, groups=GROUPS)
    (member,) = on_features(clf).values()
    assert 1 <= len(member.trees.columns) <= 3
    assert member.trees.n_statistics == 2 * len(FEATURES)
    # the left-out windows are not used
    assert [n for n, _ in rankings] == [48 - clf.features_.n_windows]
    assert clf.score(X, Y) > 0.8
    again, _ = reloaded(clf, tmp_path)
    np.testing.assert_array_equal(again.decision_function(NEW), clf.decision_function(NEW))


def test_features_none_is_the_lstm_alone():
    clf = small(features=None, refit=None).fit(X, Y, groups=GROUPS)
    assert clf.model_.sum.weights == {"lstm": 1.0}
    assert str(clf.features_) == "the LSTM alone (features=None)"
    assert clf.features_.candidates == ()
    assert not clf.refitted_


# Chosen features


@pytest.mark.trains
@pytest.mark.parametrize("good", ["rocket", "summary"])
def test_the_kind_that_helps_is_chosen(good, monkeypatch):
    """The other kind of feature is replaced with noise, so it is useless."""
    useless = "summary" if good == "rocket" else "rocket"

    def noise(windows, lengths):
        return np.random.default_rng(len(windows)).normal(size=(len(windows), 20))

    monkeypatch.setitem(all_learners(), useless, linear.learner_of(noise))
    rng = np.random.default_rng(3)
    y = np.arange(200) % 2
    windows = rng.normal(size=(200, 40, 1)) * (1 + 1.5 * y[:, None, None])
    clf = small(features=["rocket", "summary"], refit=None, max_epochs=1, learning_rate=1e-6)
    clf.fit(windows[:100], y[:100], X_val=windows[100:], y_val=y[100:])
    weight = {tried.name: tried.weight for tried in clf.features_.candidates}
    assert good in clf.features_.names
    loss = {tried.name: tried.log_loss for tried in clf.features_.candidates}
    assert loss[good] < 0.4 < 0.6 < loss[useless]
    assert weight[useless] * 20 < weight[good] or useless not in clf.features_.names


def test_nothing_useful_keeps_the_order_of_the_lstm():
    """All models are wrong on left-out windows, so weights would be 0; predict must still work."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    windows = rng.normal(size=(60, 12, 1)) + 2 * y[:, None, None]
    clf = small(features="summary", refit=None, max_epochs=20)
    clf.fit(windows[:40], y[:40], X_val=windows[40:], y_val=(y[40:] + 1) % 3)
    assert clf.features_.names == ()
    assert clf.features_.reason == "no features lowered the log-loss of windows left out"
    assert lstm_weight(clf) == pytest.approx(1e-3)
    assert clf.score(windows[:40], y[:40]) > 0.8
    np.testing.assert_allclose(clf.predict_proba(windows), 1 / 3, atol=0.02)


# Windows left out


@pytest.mark.trains
def test_classes_with_few_recordings_count_equally_unless_weights_are_given():
    groups = np.repeat([0, 1, 2, 3, 4, 5], [28, 4, 4, 4, 4, 4])
    y = groups % 2  # 36 windows of one class, 12 of the other
    windows = X + np.float32(1.2) * (y - Y)[:, None, None].astype(np.float32)

    def direction(**given):
        clf = small(features="summary", refit="all").fit(windows, y, groups=groups, **given)
        weight = on_features(clf)["summary"].weight
        return weight / np.linalg.norm(weight)

    same = direction(sample_weight=np.where(y == 0, 48 / 72, 48 / 24))
    np.testing.assert_allclose(direction(), same, rtol=1e-4, atol=1e-6)
    assert np.abs(direction(sample_weight=np.ones(48)) - same).max() > 1e-3


def copies(n_groups=24, n_each=3, seed=0):
    """Groups of identical windows; each group has a random label that only a leak can predict."""
    rng = np.random.default_rng(seed)
    of_group = rng.normal(size=(n_groups, 12, 1))
    label = rng.permutation(np.arange(n_groups) % 2)
    groups = np.repeat(np.arange(n_groups), n_each)
    return of_group[groups], label[groups], groups


@pytest.mark.trains
@pytest.mark.parametrize(
    "arguments",
    [
        {"refit": None, "validation_fraction": 0.5},
        {"refit": "all"},
        {"validation_fraction": 0.0},
        {"warm_start": True, "validation_fraction": 0.5},
        {"warm_start": True, "validation_fraction": 0.0},
        {"refit": "all", "features": ["summary", "boosting"]},
    ],
    ids=str,
)
@pytest.mark.usefixtures("lstm_is_used")
def test_windows_left_out_were_seen_by_no_model(arguments):
    accuracy = []
    for seed in range(3):
        windows, y, groups = copies(seed=seed)
        arguments = {"max_epochs": 40, "hidden_size": 12, "dropout": 0.0, **arguments}
        clf = small(**arguments, random_state=seed).fit(windows, y, groups=groups)
        accuracy.append([tried.accuracy for tried in clf.features_.candidates])
    mean = np.mean(accuracy, axis=0)  # accuracy of each model alone, then of their weighted sum
    assert (mean[:-1] < 0.72).all(), mean
    assert mean[-1] < 0.78, mean


@pytest.mark.trains
def test_a_class_that_is_only_in_the_held_out_part_leaks_nothing(refit_jobs):
    """The held-out part cannot be a fold, and no other fold may replace it."""
    windows, y, groups = copies()
    rare = np.append(y, [2, 2])
    windows = np.concatenate([windows, windows[:2] + 9])
    groups = np.append(groups, [99, 99])
    part = np.where(np.isin(groups, [99, 0, 1, 2]), "validation", "train")
    prepared = WindowSet(X=windows, y=rare, groups=groups, split=part)
    clf = small(max_epochs=60, hidden_size=16, dropout=0.0, refit="all").fit(prepared)
    assert clf.features_.n_folds == N_FOLDS - 1
    *of_folds, of_all = [len(job.train) for job in refit_jobs]
    assert len(of_folds) == N_FOLDS - 1
    assert max(of_folds) < len(windows) == of_all
    assert clf.features_.n_windows == (part == "train").sum()
    assert clf.features_.candidates[0].accuracy < 0.75
    assert clf.features_.candidates[0].weight < 1.0
    assert clf.held_out_predictions(10) is None


def test_labels_of_x_val_change_no_weight():
    one, other = (
        small(features=["summary", "boosting"]).fit(X[:36], Y[:36], X_val=X[36:], y_val=labels)
        for labels in (Y[36:], 1 - Y[36:])
    )
    assert not one.refitted_
    assert weights(one) == weights(other)
    assert one.features_ != other.features_
    assert other.features_.names == ()  # the labels contradict those of the training windows


def test_ridge_does_not_learn_from_x_val(monkeypatch):
    seen, fit_ridge = [], linear.fit_ridge

    def watched(Z, target, weight, folds, rows, loss, *rest):
        seen.append((rows.tolist(), [fit.tolist() for fit, _ in folds]))
        return fit_ridge(Z, target, weight, folds, rows, loss, *rest)

    monkeypatch.setattr(linear, "fit_ridge", watched)
    small(features="auto").fit(X[:36], Y[:36], X_val=X[36:], y_val=Y[36:])
    assert seen == [(list(range(36)), [list(range(36))])] * 3


# Refit


@pytest.mark.trains
def test_a_refit_uses_all_windows_for_as_many_steps(refit_jobs):
    clf = small(features=None, refit="all", max_epochs=10).fit(X, Y, groups=GROUPS)
    (job,) = refit_jobs
    n_train = len(X) - clf.fluctuation_.n_val
    assert n_train < len(job.train) == len(X)
    steps = clf.n_iter_ * -(-n_train // 8)
    assert job.config.max_epochs * -(-len(X) // 8) == pytest.approx(steps, rel=0.15)
    assert clf.refitted_
    assert len(clf.history_) == clf.n_iter_ == 10
    assert "val_loss" in clf.history_[0]
    # the same network, trained here by hand on the same windows from the same seed
    plan_seed = np.random.SeedSequence(draw_entropy(clf.random_state), spawn_key=(103, 0))
    first, training = plan_seed.spawn(2)
    module = make_network(clf.get_params(), 2, 2, first)
    train_network(module, job.train, None, job.config, seed=training, engine="auto")
    assert weights(module) == weights(clf)


@pytest.mark.usefixtures("lstm_is_used")
@pytest.mark.trains
def test_the_networks_of_the_folds_are_kept_together(refit_jobs):
    clf = small(features="auto").fit(X, Y, groups=GROUPS)
    assert clf.refitted_
    first, *further = clf.modules_
    assert weights(first) == weights(small(features=None, refit=None).fit(X, Y, groups=GROUPS))
    assert further == [job.module for job in refit_jobs]
    assert len(clf.histories_) == N_FOLDS
    left_out = [len(X) - len(job.train) for job in refit_jobs]
    assert sum(left_out) + clf.fluctuation_.n_val == len(X)  # each window is held out once
    whole, scaled = clf.model_.sum, clf.scaler_.transform(NEW)
    with torch.no_grad():
        alone = [module(torch.from_numpy(scaled)).double() for module in clf.modules_]
    shares = torch.stack(alone).softmax(dim=2).mean(dim=0).numpy()
    parts = whole.weights["lstm"] * np.log(shares)
    for name, member in on_features(clf).items():
        parts += whole.weights[name] * member.logits(scaled, None)
    np.testing.assert_allclose(clf.decision_function(NEW), parts[:, 1] - parts[:, 0], rtol=1e-5)


@pytest.mark.trains
@pytest.mark.parametrize("arguments", [{"refit": "all"}, {"n_models": 2}, {"features": None}])
def test_networks_of_folds_are_kept_by_default_only(arguments):
    clf = small(**{"features": "summary", **arguments}).fit(X, Y, groups=GROUPS)
    assert clf.refitted_
    assert len(clf.modules_) == clf.n_models


def test_few_groups_leave_too_few_folds_so_one_network_learns_from_all():
    clf = small(features="summary").fit(X, Y, groups=np.arange(48) % 4 // 2)
    assert clf.refitted_
    assert len(clf.modules_) == 1


@pytest.mark.usefixtures("lstm_is_used")
def test_without_a_refit_the_held_out_fit_is_kept():
    single = small(features=None, refit=None).fit(X, Y, groups=GROUPS)
    other = small(features="auto", refit=None).fit(X, Y, groups=GROUPS)
    again = small(features="auto", refit="all").fit(X, Y, groups=GROUPS)
    assert weights(single) == weights(other) != weights(again)
    first, *further = (without_time(clf.history_) for clf in (single, other, again))
    assert further == [first, first]
    assert [c.refitted_ for c in (single, other, again)] == [False, False, True]
    assert single.held_out_predictions(48) is None
    whole = other.model_.sum
    table = {tried.name: tried.weight for tried in other.features_.candidates}
    assert whole.weights == {name: table[name] for name in whole.members}
    assert other.features_.names == tuple(on_features(other))
    rows, probability = again.held_out_predictions(48)
    assert probability.shape == (len(rows), 2)


def test_many_windows_are_not_refitted(monkeypatch):
    monkeypatch.setattr(plan, "FEW_WINDOWS", 47)
    assert not small(features=None).fit(X, Y, groups=GROUPS).refitted_
    assert small(features=None, refit="all").fit(X, Y, groups=GROUPS).refitted_


# Data of any shape


@pytest.mark.trains
@pytest.mark.parametrize(
    ("arguments", "of_fit"),
    [
        ({"validation_fraction": 0.0}, {}),
        ({"class_weight": "balanced"}, {}),
        ({"class_weight": {0: 0.0}}, {}),
        ({"class_weight": {0: 0.0}, "features": ["summary", "boosting"]}, {}),
        ({}, {"sample_weight": np.linspace(0, 2, 48)}),
        ({"features": "boosting"}, {"sample_weight": np.linspace(0, 2, 48)}),
        ({}, {"groups": np.arange(48) % 4 // 2}),  # two groups
        ({"refit": None}, {"groups": np.arange(48) % 4 // 2}),
        ({}, {"lengths": np.arange(48) % 11 + 6}),
        ({"max_timesteps": 8, "crop": "random"}, {"lengths": np.arange(48) % 11 + 6}),
        ({"max_timesteps": 10, "crop": "tail", "augment": "standard"}, {}),
        ({"dtype": "float64", "augment": "standard"}, {}),
        ({"scale": None, "engine": "autograd"}, {}),
    ],
    ids=str,
)
def test_features_can_be_fitted_to_any_data_that_the_network_accepts(arguments, of_fit, tmp_path):
    clf = small(**arguments).fit(X, Y, **of_fit)
    probability = clf.predict_proba(NEW)
    assert np.isfinite(probability).all()
    again, _ = reloaded(clf, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(NEW), probability)


@pytest.mark.trains
def test_a_class_with_one_window_and_few_windows_of_every_class():
    y = Y.copy()
    y[7] = 5
    for seed in range(3):
        with pytest.warns(UserWarning, match="class 5 of y has only one window"):
            clf = small(random_state=seed).fit(X, y)
        assert clf.predict_proba(NEW).shape == (9, 3)
    # more groups than windows of any class
    few = small().fit(X[:9], np.arange(9) % 3, groups=np.arange(9))
    assert few.predict(X[:9]).shape == (9,)


def test_folds_are_whole_groups_and_leave_out_each_window_once():
    for n, n_groups, k in [(30, 10, 2), (9, 9, 3), (20, 2, 4), (50, 5, 7), (12, 3, 12)]:
        rng = np.random.default_rng(n)
        target, groups = np.arange(n) % k, rng.integers(0, n_groups, n)
        folds = all_windows.split_folds(target, groups, 4, seed=1)
        tested = [row for _, test in folds for row in test]
        assert len(set(tested)) == len(tested)
        for fitted, test in folds:
            assert min(len(fitted), len(test)) > 0
            assert not set(groups[fitted]) & set(groups[test])
            np.testing.assert_array_equal(np.sort(np.append(fitted, test)), np.arange(n))
    assert all_windows.split_folds(np.zeros(9, int), np.zeros(9), 5, seed=0) == []
    assert all_windows.split_folds(np.arange(9), None, 5, seed=0) == []
    assert len(all_windows.split_folds(np.arange(9) % 3, None, 5, seed=0)) == 3


def test_too_few_windows_for_folds_are_explained():
    arguments = X[:4], Y[:4]
    clf = small(validation_fraction=0.0).fit(*arguments, groups=np.zeros(4))
    assert clf.features_.reason == "there are too few windows or groups to leave some out"
    with pytest.raises(ArgumentError, match=r"features='rocket' .* too few"):
        small(validation_fraction=0.0, features="rocket").fit(*arguments, groups=np.zeros(4))


@pytest.mark.filterwarnings("ignore:calibrate=True had only")
def test_more_windows_than_the_linear_layer_takes(set_limits):
    set_limits(MOST_WINDOWS=24)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        y = np.concatenate([np.arange(58) % 2, [2, 2, 2]])  # a class that a draw may miss
        windows = rng.normal(size=(61, 12, 1)) + y[:, None, None]
        arguments = {"refit": "all", "calibrate": True, "max_epochs": 1, "random_state": seed}
        clf = small(features=["summary", "boosting"], **arguments)
        clf.fit(windows, y, groups=np.arange(61))
        assert clf.predict_proba(windows).shape == (61, 3)
        assert clf.features_.n_windows <= 24
        # the rows of the logits are known, whichever windows were drawn
        rows, probabilities = clf.out_of_fold_predictions()
        assert len(rows) == len(probabilities) == clf.features_.n_windows
        assert rows.max() > 24


def test_logits_left_out_belong_to_their_windows_when_some_are_drawn(set_limits, monkeypatch):
    """The logits and the labels of their windows give the reported accuracy."""
    found, weighed = [], fit.weigh
    monkeypatch.setattr(
        fit, "weigh", lambda *given, **how: found.append(weighed(*given, **how)) or found[-1]
    )
    y_val = np.where(np.arange(48) % 5, Y, 1 - Y)  # not in the order of the training part
    for most in (10**6, 20):
        set_limits(MOST_WINDOWS=most)
        clf = small(features="summary", refit=None).fit(X, Y, X_val=X + 0.3, y_val=y_val)
        weighted = found[-1]
        assert (weighted.rows >= 48).all()
        is_right = weighted.logits.argmax(axis=1) == y_val[weighted.rows - 48]
        assert is_right.mean() == pytest.approx(clf.features_.candidates[-1].accuracy)


def test_rows_of_a_file_are_not_mistaken_for_rows_of_what_was_read(tmp_path):
    """A fit reads training rows before validation rows, whatever their order in the file."""
    split = np.where(np.arange(48) % 4, "train", "validation")
    windows = WindowSet(X=X, y=Y, groups=np.arange(48), split=split)
    write_windows(tmp_path / "w.h5", windows)
    clf = small(features="summary", refit=None)
    rows, probabilities = clf.fit(windows).out_of_fold_predictions()
    is_right = probabilities.argmax(axis=1) == Y[rows]
    assert is_right.mean() == pytest.approx(clf.features_.candidates[-1].accuracy)
    assert clf.fit(tmp_path / "w.h5").out_of_fold_predictions() is None


# Functions, classifiers, wrong arguments


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda w, n: w.mean(axis=(1, 2)), r"\(2,\) of float32 for 2 windows"),
        (lambda w, n: w.mean(axis=1)[:1], r"\(1, 2\) of float32 for 2 windows"),
        (lambda w, n: w.mean(axis=1).astype(str), "expected numbers of shape"),
        (lambda w, n: w.mean(axis=1) * np.nan, "NaN or infinity in row 0"),
        (lambda w, n: w.mean(axis=1).astype(float) + 1e300, "NaN or infinity in row 0"),
        (lambda w, n: None, "expected numbers of shape"),
    ],
)
def test_a_wrong_function_is_an_error_before_training(function, message, refit_jobs):
    with pytest.raises(InputError, match=message):
        small(features=function).fit(X, Y, groups=GROUPS)
    assert not refit_jobs


def test_a_function_that_changes_its_width_is_refused_in_prediction():
    clf = small(features=lambda w, n: w.mean(axis=1)[:, : 2 if w.shape[1] == 16 else 1])
    clf.set_params(refit=None).fit(X, Y, groups=GROUPS)
    assert "function_0" in clf.features_.names
    with pytest.raises(InputError, match=r"features have 1 .* 2"):
        clf.predict(NEW[:, :9])


def test_a_function_sees_scaled_windows_and_their_lengths():
    calls = []

    def function(windows, lengths):
        calls.append((windows, lengths))
        return windows.mean(axis=1)

    lengths = np.arange(48) % 5 + 12
    clf = small(features=function, refit=None).fit(X, Y, groups=GROUPS, lengths=lengths)
    assert [tried.name for tried in clf.features_.candidates] == ["lstm", "function_0", "together"]
    assert sorted(calls[-1][1]) == sorted(lengths)
    clf.predict(X, lengths)
    windows, given_lengths = calls[-1]
    np.testing.assert_array_equal(given_lengths, lengths)
    scaled = clf.scaler_.transform(X)
    for row, n_steps in enumerate(lengths):
        np.testing.assert_allclose(windows[row, :n_steps], scaled[row, :n_steps], atol=1e-6)
    assert not windows[0, 12:].any()  # padding


@pytest.mark.parametrize("features", [averages, ["summary", averages]])
def test_functions_are_stored_in_a_pickle_but_not_in_a_model_file(features, tmp_path):
    clf = small(features=features, refit=None).fit(X, Y, groups=GROUPS)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.decision_function(NEW), clf.decision_function(NEW))
    with pytest.raises(InputError, match=r"model file cannot contain|features=.* cannot be saved"):
        clf.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    clf.set_params(features=None)  # this must not change the fitted blocks
    if not clf.model_.sum.is_plain:
        with pytest.raises(InputError, match="a model file cannot contain"):
            clf.save(tmp_path / "model")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("minirocket", "features='minirocket' is not known. Use 'auto'"),
        (["auto"], "is not known"),
        (["summary", LogisticRegression()], "is not known"),
        (3, "is not known"),
        ([], "features is an empty list; use features=None"),
        (["rocket", "rocket"], "names a kind twice"),
        ([["rocket"]], "is not known"),
    ],
)
def test_unknown_features_are_refused(features, message):
    with pytest.raises(ArgumentError, match=message.replace("[", r"\[")):
        small(features=features).fit(X, Y)


def test_unknown_refits_are_refused():
    with pytest.raises(ArgumentError, match="refit=True is not 'auto', 'all' or None"):
        small(refit=True).fit(X, Y)
    with pytest.raises(ArgumentError, match=r"refit='all' .* warm_start=True"):
        small(refit="all", warm_start=True).fit(X, Y)


# Continued training


@pytest.mark.trains
def test_warm_start_keeps_the_head_and_validates_on_what_was_held_out():
    clf = small(features="summary", warm_start=True).fit(X, Y, groups=GROUPS)
    assert not clf.refitted_  # the next fit validates on the same windows
    assert clf.features_.n_folds == 1
    cold = small(features="summary", refit=None).fit(X, Y, groups=GROUPS)
    assert weights(clf) == weights(cold)
    np.testing.assert_array_equal(clf.decision_function(NEW), cold.decision_function(NEW))
    members, before = on_features(clf), weights(clf)
    clf.fit(X, Y, groups=GROUPS)
    assert on_features(clf) == members
    assert weights(clf) != before


@pytest.mark.trains
@pytest.mark.parametrize("given", [False, True])
def test_the_temperature_of_weighted_logits_is_near_one(given):
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    windows = rng.normal(size=(240, 12, 1)) + 0.35 * y[:, None, None]
    clf = small(features="auto", calibrate=True, max_epochs=4)
    if given:
        clf.fit(windows[:160], y[:160], X_val=windows[160:], y_val=y[160:], groups_val=y[160:])
    else:
        clf.fit(windows, y, groups=np.arange(240) // 2)
    assert clf.temperature_ == pytest.approx(1, abs=0.05)


# Interrupts


@pytest.mark.usefixtures("lstm_is_used")
@pytest.mark.trains
@pytest.mark.parametrize("features", ["summary", None])
def test_an_interrupt_of_further_training_runs_keeps_the_first_network(features, monkeypatch):
    clf = small(features=features, refit="all", engine="autograd")
    wanted = small(features=features, refit=None, engine="autograd").fit(X, Y, groups=GROUPS)
    train_all = lstm._train_all

    def interrupted(jobs):
        for job in jobs:
            object.__setattr__(job, "callbacks", (InterruptAfter(1),))
        return train_all(jobs)

    monkeypatch.setattr(lstm, "_train_all", interrupted)
    with pytest.warns(UserWarning, match="further parts .* interrupted"):
        clf.fit(X, Y, groups=GROUPS)
    assert weights(clf) == weights(wanted)
    np.testing.assert_array_equal(clf.predict_proba(NEW), wanted.predict_proba(NEW))
    assert not clf.refitted_


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore:training was interrupted")
@pytest.mark.parametrize("callbacks", [[], [InterruptAfter(2)]])
def test_an_interrupt_while_features_are_fitted_keeps_the_lstm(callbacks, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "fit_members", interrupted)
    monkeypatch.setattr(fit, "is_second_interrupt", lambda: False)
    with pytest.warns(UserWarning, match="features was interrupted, so the LSTM is used alone"):
        clf = small(refit="all", callbacks=callbacks).fit(X, Y, groups=GROUPS)
    assert clf.features_.reason == "training was interrupted or diverged"
    assert clf.model_.sum.is_lstm_alone
    assert clf.predict_proba(NEW).shape == (9, 2)
    assert clf.refitted_ is not bool(callbacks)
    monkeypatch.setattr(fit, "is_second_interrupt", lambda: True)
    clf = small(refit="all", callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y, groups=GROUPS)
    assert not hasattr(clf, "module_")


class Acts(Learner):
    """A learner that calls a function with the windows before training or when it is fitted."""

    auto_place = 0

    def __init__(self, fit=None, check=None):
        self.act, self.act_first = fit, check

    def check(self, data):
        if self.act_first is not None:
            self.act_first(data)

    def fit(self, data, folds, seed):
        return self.act(data)


def test_a_learner_that_fails_is_named_and_leaves_the_estimator_as_it_was(monkeypatch):
    clf = small(features="boosting").fit(X, Y, groups=GROUPS)
    before = clf.predict_proba(NEW)
    (member,) = on_features(clf).values()

    def raises(_):
        raise np.linalg.LinAlgError("singular")

    for act, error, text in (
        (raises, np.linalg.LinAlgError, "singular"),
        (lambda data: (member, np.zeros((3, 2))), InputError, r"'boosting' .* shape \(3, 2\)"),
        (lambda data: (member, np.full((len(data.X), 2), np.nan)), InputError, "numbers for all"),
    ):
        monkeypatch.setitem(all_learners(), "boosting", Acts(act))
        with pytest.raises(error, match=text) as raised:
            clf.fit(X, Y, groups=GROUPS)
        if error is not InputError:
            assert raised.value.__notes__ == ["in the fit of the member 'boosting'"]
        np.testing.assert_array_equal(clf.predict_proba(NEW), before)


@pytest.mark.trains
@pytest.mark.parametrize("lengths", [None, np.full(60, 14)])
def test_features_also_learn_from_augmented_windows(lengths):
    """The class depends on the absolute level; only mirrored copies have negative levels."""
    y = np.arange(60) % 2
    windows = np.random.default_rng(0).normal(size=(60, 16, 1)) / 10 + (1 + y)[:, None, None]

    def level(windows, lengths):
        mean = windows[:, :14].mean(axis=(1, 2))
        return np.stack([mean, np.abs(mean)], axis=1)

    accuracy = {}
    for augment in (None, {"mirror": [0]}):
        clf = small(features=level, augment=augment, scale=None)
        clf.fit(windows, y, groups=np.arange(60) // 3, lengths=lengths)
        assert sorted(clf.out_of_fold_predictions()[0]) == list(
            range(60)
        )  # without augmented copies
        accuracy[augment is None] = clf.score(-windows, y, lengths=lengths)
    assert accuracy[False] == 1
    assert accuracy[True] < 0.8


@pytest.mark.usefixtures("lstm_adds_nothing")
@pytest.mark.parametrize("n_models", [1, 2])
@pytest.mark.trains
def test_an_lstm_that_adds_nothing_is_left_out(n_models):
    rng, y = np.random.default_rng(0), np.arange(60) % 2
    windows = rng.normal(size=(60, 16, 2))
    windows[:, :, 0] += 9 * y[:, None]  # this difference remains after scaling
    clf = small(features="summary", n_models=n_models).fit(windows, y, groups=np.arange(60) // 3)
    assert len(clf.modules_) == n_models  # the networks are kept for the curve and the report
    assert lstm_weight(clf) == 0
    assert clf.refitted_  # the features have learned from all windows
    assert clf.features_.n_folds == 3
    assert len(clf.out_of_fold_predictions()[0]) == 60
    assert clf.score(windows, y) == 1


@pytest.mark.parametrize("knows_more", [False, True])
def test_the_lstm_takes_part_if_it_lowers_the_log_loss(knows_more):
    rng, rows = np.random.default_rng(0), np.arange(300)
    target = rows % 3
    truth = 4.0 * np.eye(3)[target]
    scores = truth + 3 * rng.normal(size=(300, 3))
    outputs = truth + 3 * rng.normal(size=(300, 3)) if knows_more else -scores
    member = BoostingMember(None, None, 3)
    fitted = {"lstm": FittedMember(LstmMember(), outputs), "boosting": FittedMember(member, scores)}
    weighted = weigh.weigh(fitted, target, np.ones(300), rows, 3)
    assert weighted.sum.uses_lstm is knows_more
    assert weighted.choice.names == ("boosting",)
    _, boosting, whole = weighted.choice.candidates
    alone, together = boosting.log_loss, whole.log_loss
    assert together < 0.8 * alone if knows_more else together == pytest.approx(alone, 0.02)


@pytest.mark.trains
def test_with_one_recording_of_each_class_linear_layers_count_equally():
    """Parts of the same recordings do not show which model generalizes to another recording."""
    rng = np.random.default_rng(0)
    groups, y = np.arange(40) // 20, np.repeat(["a", "b"], 20)
    windows = rng.normal(size=(40, 16, 2)) + 0.5 * groups[:, None, None]
    clf = small(features="auto")
    with pytest.warns(LeakWarning):
        clf.fit(windows, y, groups=groups)
    weight = {tried.name: tried.weight for tried in clf.features_.candidates}
    linear = {weight[name] for name in ("rocket", "hydra", "summary")}
    assert len(linear) == 1
    assert min(linear) > 0 == weight["lstm"] == weight["boosting"]
    assert clf.features_.names == ("rocket", "hydra", "summary")
    assert clf.features_.reason.endswith("linear layers count equally")


# Samples of many windows, in memory or in a file


def many_windows():
    rng = np.random.default_rng(3)
    y, groups = np.arange(240) % 2, np.arange(240) // 8
    values = rng.normal(size=(240, 16, 2)) + 0.8 * y[:, None, None]
    part = np.where(groups % 4 == 1, "validation", "train")
    return WindowSet(X=values.astype(np.float32), y=y, groups=groups, split=part)


@pytest.fixture
def few_are_drawn(monkeypatch, set_limits):
    """Features are fitted to 40 windows, which take 5 kB; all windows take 30 kB."""
    monkeypatch.setattr(plan, "MOST_WINDOWS", 40)
    set_limits(MOST_WINDOWS=40)
    many = {"features": ["rocket", "summary", "boosting"], "refit": None}
    return lambda X, **more: small(**{**many, **more}).fit(X)


def test_a_sample_drawn_before_reading_gives_the_bits_of_one_drawn_after(
    few_are_drawn, monkeypatch
):
    windows = many_windows()
    train, validation = windows.part("train"), windows.part("validation")
    fits = [few_are_drawn(windows), small(features="rocket", refit=None)]
    fits[1].fit(train, X_val=validation, y_val=validation.y)
    monkeypatch.setattr(plan, "MOST_WINDOWS", 1000)  # the sample is drawn from windows in memory
    estimators = [few_are_drawn(windows), small(features="rocket", refit=None)]
    estimators[1].fit(train, X_val=validation, y_val=validation.y)
    for one, other in zip(fits, estimators, strict=True):
        assert one.features_ == other.features_
        np.testing.assert_array_equal(one.predict_proba(windows), other.predict_proba(windows))
        assert one.features_.n_windows < len(validation)


def test_windows_in_their_file_have_the_features_of_those_in_memory(
    few_are_drawn, tmp_path, monkeypatch
):
    windows = many_windows()
    write_windows(tmp_path / "windows.h5", windows)
    here = few_are_drawn(tmp_path / "windows.h5").features_
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", str(4 * 40 * 16 * 2 * 4))
    clf = few_are_drawn(tmp_path / "windows.h5")
    expected = {one.name: one.log_loss for one in here.candidates if one.weight is not None}
    actual = {one.name: one.log_loss for one in clf.features_.candidates if one.weight is not None}
    assert set(actual) == {"lstm", "rocket", "summary", "boosting"}
    for name in ("rocket", "summary", "boosting"):  # the LSTM saw its batches in a different order
        assert actual[name] == pytest.approx(expected[name], rel=1e-5)
    assert clf.features_.names
    assert clf.score(windows.part("validation")) > 0.8
    automatic = small().fit(tmp_path / "windows.h5")
    assert automatic.features_.candidates
    assert not automatic.refitted_


def test_the_limit_of_windows_in_files_does_not_thin_those_in_memory(monkeypatch):
    windows = many_windows()
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", str(4 * 40 * 16 * 2 * 4))
    clf = small(features="summary", refit=None).fit(windows)
    assert clf.features_.n_windows == len(windows.part("validation"))


def test_windows_in_their_file_are_neither_refitted_nor_weighed_without_a_held_out_part(
    few_are_drawn, tmp_path, monkeypatch
):
    windows, file = many_windows(), tmp_path / "windows.h5"
    write_windows(file, windows)
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", str(4 * 40 * 16 * 2 * 4))
    with pytest.raises(ArgumentError, match=r"refit='all' is not possible, because .* their file"):
        small(refit="all").fit(file)
    write_windows(file, replace(windows.part("train"), split=None))
    no_part = {"validation_fraction": 0.0, "early_stopping": False}
    with pytest.raises(
        ArgumentError, match=r"'rocket' cannot be weighted: .* none of them are held"
    ):
        small(features="rocket", **no_part).fit(file)
    alone = small(**no_part).fit(file)
    assert alone.features_.reason.endswith("none of them are held out")


def test_a_second_interrupt_while_features_of_a_file_are_computed_leaves_nothing_behind(
    tmp_path, monkeypatch
):
    windows, file = many_windows(), tmp_path / "windows.h5"
    write_windows(file, windows)
    content, seen = file.read_bytes(), []
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", str(4 * 40 * 16 * 2 * 4))

    def interrupt(data):
        seen.append((len(data.X), [t.name for t in threading.enumerate()]))
        raise KeyboardInterrupt

    monkeypatch.setitem(all_learners(), "rocket", Acts(interrupt))
    monkeypatch.setattr(fit, "is_second_interrupt", lambda: True)
    clf = small()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(file)
    assert not hasattr(clf, "classes_")
    code, _, _ = said("train", file, "-o", tmp_path / "model.safetensors", "--set", "max_epochs=1")
    assert code == 130
    assert len(seen) == 2
    assert all(0 < n < len(windows) for n, _ in seen)
    assert not any("reader" in name for _, names in seen for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["windows.h5"]
    assert file.read_bytes() == content


def test_damage_in_a_file_whose_features_are_computed_is_named(tmp_path, monkeypatch):
    windows, file = many_windows(), tmp_path / "windows.h5"
    windows.X[7, 3, 1] = np.nan
    write_windows(file, windows)
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", str(4 * 40 * 16 * 2 * 4))
    arguments = []
    monkeypatch.setitem(all_learners(), "rocket", Acts(arguments.append))
    with pytest.raises(InputError, match="NaN in window 7, step 3, channel 1") as error:
        small().fit(file)
    assert str(file) in error.value.__notes__[0]
    assert arguments == []
    windows.X[7, 3, 1] = 0.0
    write_windows(file, windows)

    replaced = Acts(check=lambda data: write_windows(file, windows))
    monkeypatch.setitem(all_learners(), "rocket", replaced)
    with pytest.raises(PreparedFileError, match="was replaced while"):
        small().fit(file)
