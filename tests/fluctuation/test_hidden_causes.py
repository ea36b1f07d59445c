"""What costs a run accuracy without a rough curve: named, tried, and not where nothing is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq.fluctuation.cause_words import find_fix
from sensorseq.fluctuation.causes.cause import Cause, hidden_cause
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.session import probe_fit


def waves(seed, n, units):
    """Return sines of three frequencies beside a channel of noise in other units."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    sine = np.sin(np.arange(30) * (0.3 + 0.3 * y[:, None]) + phase)
    X = np.stack([sine + 0.2 * rng.normal(size=(n, 30)), units * rng.normal(size=(n, 30))], axis=2)
    return X.astype(np.float32), y


def fit(units, seed=0, **options):
    X, y = waves(seed, 150, units)
    X_val, y_val = waves(seed + 10, 90, units)
    asked = {"hidden_size": 16, "learning_rate": 3e-3, "max_epochs": 40, "scale": None}
    clf = plain_classifier(**{**asked, "early_stopping": False, "random_state": 0, **options})
    return clf.fit(X, y, X_val=X_val, y_val=y_val), (X, y, {"X_val": X_val, "y_val": y_val})


@pytest.mark.parametrize("seed", [0, 1])
def test_units_that_cost_a_calm_run_accuracy_are_named(seed):
    report = fit(100.0, seed)[0].fluctuation_
    assert report.verdict == "normal"
    cause = hidden_cause(report.verdict, report.causes)
    assert cause is report.causes[0]
    assert cause.name == "preprocessing"
    assert cause.confidence >= 0.5
    assert cause.evidence.startswith("The curve is calm; what may cost accuracy all the same: ")
    fix = find_fix(report)
    assert fix.arguments["scale"] == "standard"
    assert not fix.is_proved


@pytest.mark.parametrize(("units", "scale"), [(1.0, None), (100.0, "standard")])
def test_nothing_is_named_where_nothing_is_wrong(units, scale):
    report = fit(units, scale=scale)[0].fluctuation_
    assert report.verdict == "normal"
    assert hidden_cause(report.verdict, report.causes) is None
    assert find_fix(report) is None


def test_it_is_repaired():
    clf, (X, y, given) = fit(100.0)
    proof = probe_fit(clf.fluctuation_, X, y, given, verbose=0, is_clocked=False)
    assert proof.probes.repair["scale"] == "standard"
    better = proof.apply().fit(X, y, **given)
    assert better.score(given["X_val"], given["y_val"]) > 0.05 + clf.score(
        given["X_val"], given["y_val"]
    )


def test_only_calm_runs_hide_a_cause_and_what_was_rejected_is_none():
    causes = (
        Cause("small_validation_set", "observed", 0.9, ""),
        Cause("loss", "observed", 0.9, ""),
    )
    assert hidden_cause("normal", causes) is None
    found = Cause("weight_init", "observed", 0.6, "")
    assert hidden_cause("normal", (*causes, found)) is found
    assert hidden_cause("fluctuating", (found,)) is None
    assert hidden_cause("normal", (replace(found, grade="rejected"),)) is None


def test_a_check_of_the_data_alone_says_not_that_it_costs_accuracy():
    fact = Cause("preprocessing", "observed", 0.25, "Channel 2 is 100 times as large.")
    assert hidden_cause("normal", (fact,)) is None
    told = Cause("preprocessing", "observed", 0.66, "The gates are saturated.", "scale")
    (joined,) = regrade((fact, told), [], [], calm=True)
    assert (joined.confidence, joined.finding) == (0.66, "scale")
    assert joined.evidence == "The gates are saturated. Channel 2 is 100 times as large."


def test_what_costs_accuracy_stands_before_what_makes_the_curve_rough():
    rough = Cause("small_validation_set", "observed", 1.0, "", advice="Hold out more.")
    found = Cause("weight_init", "observed", 0.6, "", recommendation={"forget_bias": 1.0})
    assert regrade((rough, found), [], [], calm=True)[0].name == found.name
    assert regrade((rough, found), [], [])[0].name == rough.name


def test_a_fit_that_continued_another_cannot_be_repeated():
    clf, (X, y, given) = fit(100.0, max_epochs=3, warm_start=True)
    clf.set_params(max_epochs=40).fit(X, y, **given)
    proof = probe_fit(clf.fluctuation_, X, y, given, verbose=0, is_clocked=False)
    assert proof.probes.note == "The fit continued another one, so it cannot be repeated."
    assert not proof.probes.repair
