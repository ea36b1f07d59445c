"""A network is compared with simple rivals on the same data."""

import itertools
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from fits import learn_few_features
from held import held_windows
from scipy.stats import binomtest
from small_buffers import buffer_of

from sensorseq import FluctuationReport, SensorLSTMClassifier, WindowSet
from sensorseq.base.text import plural
from sensorseq.diagnosis import rival_models
from sensorseq.diagnosis.report_page import color_of, make_page
from sensorseq.diagnosis.report_text import list_steps
from sensorseq.diagnosis.rival_models import compare_level, is_below, sign_test
from sensorseq.errors import ArgumentError
from sensorseq.history import TrainingRecord
from sensorseq.io.prepared import write_windows
from sensorseq.prediction.members.choice import Candidate, FeatureChoice


def waves(seed, n, n_groups=10):
    """Draw windows whose frequency encodes their class; return the windows, classes and groups."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    phase = rng.uniform(0, 6, (n, 1))
    X = np.sin(0.2 * (1 + y[:, None]) * np.arange(50) + phase) + 0.2 * rng.normal(size=(n, 50))
    return np.float32(X[:, :, None]), y, rng.permutation(n) % n_groups


def calm(val_accuracy, n_epochs=40):
    loss = 0.5 + np.exp(-np.arange(n_epochs) / 5)
    accuracies = {"accuracy": np.full(n_epochs, 0.9), "val_accuracy": [val_accuracy] * n_epochs}
    return {"loss": loss, "val_loss": loss, **accuracies}


def report_of(val_accuracy, **more):
    (X, y, groups), (X_val, y_val, groups_val) = waves(0, 90), waves(1, 60)
    given = {"X": X, "y": y, "groups": groups}
    given |= {"X_val": X_val, "y_val": y_val, "groups_val": groups_val, **more}
    return FluctuationReport.from_history(calm(val_accuracy), 60, n_classes=3, **given)


# --- the test -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (9, 2), (40, 25), (3, 8)])
def test_signs_of_windows_are_the_test_of_mcnemar(better, worse):
    apart = np.r_[np.ones(better), -np.ones(worse), np.zeros(7)].astype(int)
    exact = binomtest(better, better + worse, alternative="greater").pvalue if better else 1.0
    assert sign_test(apart) == pytest.approx(exact if better + worse else 1.0)


def test_signs_of_groups_are_those_of_all_combinations():
    apart = np.array([5, -2, 0, 3, 4, -1, 7])
    sums = [np.dot(signs, apart) for signs in itertools.product((-1, 1), repeat=7)]
    assert sign_test(apart) == pytest.approx(np.mean(np.array(sums) >= apart.sum()))


@pytest.mark.parametrize(("n_groups", "spread"), [(1, 0.0), (4, 0.5), (20, 0.5)])
def test_a_network_as_good_as_its_rivals_is_rarely_accused(n_groups, spread):
    rng = np.random.default_rng(n_groups)
    groups, n_accused, n_draws = np.arange(60) % n_groups, 0, 1000
    for _ in range(n_draws):
        # each window is equally difficult for all three classifiers
        hard = np.clip(rng.beta(1.5, 1, 60), 0.02, 0.98)
        # but each classifier is better at some groups and worse at others
        mine = [hard + spread * rng.normal(0, 0.2, n_groups)[groups] for _ in range(3)]
        own, *rivals = (rng.random(60) < of for of in mine)
        n_accused += any(is_below(own, rival, groups) for rival in rivals)
    assert n_accused <= 0.05 * n_draws


def test_few_groups_need_a_wider_gap():
    own, rival = np.zeros(100, bool), np.arange(100) < 14
    assert is_below(own, rival, None)
    assert not is_below(own, rival, np.arange(100) % 3)
    assert is_below(own, np.arange(100) < 60, np.arange(100) % 3)


def test_one_group_that_a_rival_classifies_correctly_is_not_a_proof():
    groups = np.arange(100) // 10
    assert not is_below(groups != 3, np.ones(100, bool), groups)


# --- planted runs -------------------------------------------------------------------------------


def test_a_run_below_what_the_data_allow_is_reported_with_both_figures():
    report = report_of(0.6)
    assert (report.verdict, report.level) == ("normal", "below_data")
    sentence = (
        "Your network gets 60 % of the validation windows right; ridge on features gets 100 %."
    )
    assert report.explanation[0] == sentence
    assert sentence in " ".join(str(report).split())
    assert "NORMAL, BUT BELOW WHAT THE DATA ALLOW" in str(report)
    described = report.to_dict()
    assert described["level"] == FluctuationReport.from_dict(described).level == "below_data"
    assert sentence in make_page(report)
    assert color_of(report) == "wait"
    first = list_steps(report)[0]
    assert first.code.startswith("better = SensorLSTMClassifier()")
    assert first.gain.startswith("About 40 points of accuracy: the default settings include ridge")


@pytest.mark.parametrize("accuracy", [0.6, 1.0])
def test_a_calm_run_has_a_cause_if_the_data_allow_more(accuracy):
    settings = SensorLSTMClassifier(hidden_size=2).get_params()
    report = report_of(accuracy, arguments=settings)
    assert report.verdict == "normal"
    if report.level is None:
        assert not report.causes
    else:
        assert report.causes[0].title == "model_complexity: too small"
        assert "clf.set_params(hidden_size=64)" in str(report)


def test_nothing_is_reported_for_a_run_as_good_as_the_data_allow(monkeypatch):
    monkeypatch.setattr(
        rival_models, "rivals", None
    )  # there is nothing to gain, so no rival is trained
    report = report_of(0.97)
    assert report.level is None
    assert report.to_dict()["level"] is None
    assert "allow" not in str(report)


def test_nothing_is_reported_if_the_rival_is_no_better():
    y_val = np.random.default_rng(5).integers(0, 3, 60)
    assert report_of(0.35, y_val=y_val).level is None


def test_a_low_level_is_reported_without_groups_and_with_a_few_groups():
    assert report_of(0.4, groups=None, groups_val=None).level == "below_data"
    assert report_of(0.4, groups_val=np.arange(60) % 2).level == "below_data"


def test_the_accuracy_of_the_kept_epoch_counts():
    (X, y, _), (X_val, y_val, _) = waves(0, 90), waves(1, 60)
    parts = held_windows(X, None, y), held_windows(X_val, None, y_val)
    predicted = np.stack([y_val, (y_val + 1) % 3]).astype(np.uint16)
    of_val = {"val_rows": np.arange(60), "val_target": y_val, "val_predicted": predicted}
    record = TrainingRecord(epoch_steps=np.arange(3), **of_val)
    report = FluctuationReport("normal", None, n_epochs=2, record=record)
    assert compare_level(replace(report, best_epoch=1), *parts).level is None
    assert compare_level(replace(report, best_epoch=2), *parts).level == "below_data"


def test_an_even_sample_of_many_windows_is_compared(monkeypatch):
    monkeypatch.setattr(rival_models, "MOST_WINDOWS", 40)
    (X, y, _), (X_val, y_val, _) = waves(0, 90), waves(1, 60)
    record = TrainingRecord(
        epoch_steps=np.arange(2),
        val_rows=np.arange(0, 60, 2),  # every second window is recorded
        val_target=y_val[::2],
        val_predicted=((y_val[::2] + (np.arange(30) < 15)) % 3)[None].astype(np.uint16),
    )
    report = FluctuationReport("normal", None, n_epochs=1, record=record)
    rows = rival_models.spread(60)
    found = compare_level(
        report, held_windows(X, None, y), held_windows(X_val[rows], None, y_val[rows]), rows
    )
    n = len(shown := np.intersect1d(rows, record.val_rows))
    assert len(rows) == 40
    assert 15 < n < 30
    assert found.statements[0].values["network"] == np.mean(shown >= 30)
    assert (
        compare_level(report, held_windows(X, None, y), held_windows(X_val, None, y_val)).level
        == "below_data"
    )


@pytest.mark.parametrize("shape", [(24, 1, 1), (24, 2, 3), (24, 5)])
def test_windows_of_any_length_are_compared(shape):
    X, y = np.zeros(shape, np.float32), np.arange(24) % 2
    X[y == 1] = 1.0
    given = {"X": X, "y": y, "X_val": X, "y_val": y}
    assert FluctuationReport.from_history(calm(0.5), 24, **given).level == "below_data"


def test_windows_that_cannot_be_compared_are_rejected():
    X, y, _ = waves(0, 30)
    with pytest.raises(ArgumentError, match="X_val, y_val missing"):
        FluctuationReport.from_history(calm(0.4), 30, X=X, y=y)
    with pytest.raises(ArgumentError, match=r"X_val has shape .* 29 labels"):
        FluctuationReport.from_history(calm(0.4), 30, X=X, y=y, X_val=X, y_val=y[:-1])


# --- fits ---------------------------------------------------------------------------------------


def fitted(**settings):
    (X, y, groups), (X_val, y_val, groups_val) = waves(0, 90), waves(1, 60)
    clf = SensorLSTMClassifier(max_epochs=2, device="cpu", random_state=0, **settings)
    given = {"X_val": X_val, "y_val": y_val, "groups": groups, "groups_val": groups_val + 10}
    return clf.fit(X, y, **given)


def test_a_network_without_features_is_compared_when_its_report_is_read():
    # at this learning rate, the network practically keeps its initial weights
    clf = fitted(features=None, learning_rate=1e-9)
    again = pickle.loads(pickle.dumps(clf))
    assert clf.fluctuation_.level == again.fluctuation_.level == "below_data"
    assert clf.fluctuation_ is clf.fluctuation_
    assert clf._judged.to_compare is None  # windows are dropped after the comparison


def test_a_network_trained_on_windows_in_a_file_is_compared_too(tmp_path):
    (X, y, groups), (X_val, y_val, groups_val) = waves(0, 90), waves(1, 60)
    windows = WindowSet(
        np.concatenate([X, X_val]),
        y=np.concatenate([y, y_val]),
        groups=np.concatenate([groups, groups_val + 10]),
        split=np.repeat(["train", "validation"], [90, 60]),
    )
    write_windows(tmp_path / "w.h5", windows)
    settings = {"features": None, "learning_rate": 1e-9, "batch_size": 8, "max_epochs": 2}
    clf = SensorLSTMClassifier(device="cpu", random_state=0, **settings)
    with buffer_of(X.nbytes // 4):
        clf.fit(tmp_path / "w.h5")
    assert clf.fluctuation_.level == "below_data"


def test_a_fit_with_features_reports_the_accuracy_of_its_parts(monkeypatch):
    learn_few_features(monkeypatch)
    clf = fitted(learning_rate=1e-9)
    assert clf.fluctuation_.level is None
    report = clf.fluctuation_
    assert report.model is clf.features_
    *members, together = clf.features_.candidates
    text, n = " ".join(str(report).split()), plural(report.model.n_windows, "window")
    assert f"Model {100 * together.accuracy:.1f} % of {n}" in text
    low, high = report.model.interval
    assert low < together.accuracy <= high + 1e-9
    assert f"95 % interval {100 * low:.0f} to {100 * high:.0f} %" in text
    assert sum(member.share for member in members) == pytest.approx(1)
    for member in members:
        name = "LSTM" if member.name == "lstm" else member.name
        said = f"alone {100 * member.accuracy:.0f} % right"
        assert (f"{name} ({100 * member.share:.0f} % of the weight, {said})" in text) == bool(
            member.weight
        )
    again = FluctuationReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again.model == report.model
    assert str(again).splitlines()[:4] == str(report).splitlines()[:4]
    assert f"{100 * together.accuracy:.1f} % right on new windows" in report._as_page()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_the_curve_of_an_lstm_with_little_weight_is_not_the_headline(share):
    loss = [0.3 + 0.7 * 0.7**t for t in range(40)]
    rising = [0.5 + 0.05 * max(0, t - 5) for t in range(40)]
    alone = FluctuationReport.from_history({"loss": loss, "val_loss": rising}, 200, best_epoch=6)
    assert alone.generalization == "overfitting"
    members = (
        Candidate("lstm", 0.9, 0.6, 2 * share, share),
        Candidate("boosting", 0.5, 0.79, 1.0, 1 - share),
        Candidate("together", 0.5, 0.79, None),
    )
    choice = FeatureChoice(("boosting",), members, 200, 3, "", 20, (0.7, 0.86))
    report = replace(alone, model=choice)
    text = " ".join(str(report).split())
    assert "Model 79.0 % of 200 windows left out of training are right (20 groups; 95 %" in text
    assert text.index("Step ") < text.index("LSTM NORMAL, BUT OVERFITS.")
    assert ("no weight" in text) == (share == 0)
    assert ("loses little by it" in text) == (0 < share < 0.1)
    assert "79.0 % RIGHT ON NEW WINDOWS" in repr(report)
    assert "NORMAL, BUT OVERFITS" not in repr(report)
    assert max(map(len, str(report).splitlines())) <= 80
    page = report._as_page()
    assert page.index("79.0 % right on new windows") < page.index("normal, but overfits")
