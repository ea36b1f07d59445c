"""What costs a run accuracy without a rough curve: named, tried, and not where nothing is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from fake_lab import Effect, FakeLab
from fits import plain_classifier

from sensorseq.fluctuation.cause_words import find_fix
from sensorseq.fluctuation.causes.cause import Cause, hidden_cause
from sensorseq.fluctuation.probes.first_weights import Repair
from sensorseq.fluctuation.probes.purse import Purse
from sensorseq.fluctuation.probes.race import race
from sensorseq.fluctuation.probes.regrade import regrade
from sensorseq.fluctuation.probes.session import probe_fit
from sensorseq.fluctuation.probes.verify import verify


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


def test_it_is_proved_by_re_runs_and_repaired():
    clf, (X, y, given) = fit(100.0)
    proof = probe_fit(clf.fluctuation_, X, y, given, verbose=0, is_clocked=False)
    cause = hidden_cause(proof.verdict, proof.causes)
    assert (cause.name, cause.grade) == ("preprocessing", "proved")
    assert cause.confidence > 0.9
    assert proof.probes.repair == {"scale": "standard"}
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


def test_a_fit_that_went_on_from_another_is_told_to_have_no_first_weights():
    clf, (X, y, given) = fit(100.0, max_epochs=3, warm_start=True)
    clf.set_params(max_epochs=40).fit(X, y, **given)
    assert hidden_cause("normal", clf.fluctuation_.causes) is not None
    proof = probe_fit(clf.fluctuation_, X, y, given, verbose=0, is_clocked=False)
    (left,) = [part for part in proof.probes.not_tested if part.cause == "preprocessing"]
    assert "no first weights" in left.reason


SCALED = "input scaled"


class ByHeart(FakeLab):
    """The loss of the training windows falls with the input scaled, that of the others does not."""

    def _run(self, arm):
        result = super()._run(arm)
        flat = 0.7 + 0 * result.val_accuracy
        return replace(result, val_loss=0.9 + flat, val_accuracy=flat)


@pytest.mark.parametrize(("lab", "outcome"), [(FakeLab, "confirmed"), (ByHeart, "rejected")])
def test_a_lower_training_loss_has_to_serve_the_validation_windows(lab, outcome):
    lab = lab({SCALED: Effect(1.0, -0.5, -0.5)}, noise=0.02)
    purse = Purse(lab, 300)
    findings = race(lab, purse, [Cause("preprocessing", "observed", 0.6, "")], "normal")
    (trial,) = findings.trials
    assert (trial.name, trial.outcome) == (SCALED, outcome)
    assert bool(findings.proofs) == (outcome == "confirmed")
    if outcome == "rejected":
        assert "the validation windows gain nothing" in trial.sentence


def test_a_change_that_calms_may_lower_the_training_loss_alone():
    usual = "usual first weights"
    for raw in (0.0, -0.5):
        lab = ByHeart({usual: Effect(0.1, raw, raw)})
        findings = race(lab, Purse(lab, 300), [Cause("weight_init", "observed", 0.6, "")])
        assert {trial.name: trial.outcome for trial in findings.trials}[usual] == "confirmed"


class LessAccurate(FakeLab):
    """All losses fall with the input scaled, but more windows are wrong."""

    def _run(self, arm):
        result = super()._run(arm)
        lost = 0.2 if arm.change else 0.0  # 0.15 is what the lab gains by the loss
        return replace(result, val_accuracy=result.val_accuracy - lost)


def test_a_lower_loss_that_costs_accuracy_is_told_so():
    lab = LessAccurate({SCALED: Effect(1.0, -0.5, -0.5)}, noise=0.02)
    causes = [Cause("preprocessing", "observed", 0.6, "")]
    (trial,) = race(lab, Purse(lab, 300), causes, "normal").trials
    assert trial.outcome == "rejected"
    assert trial.sentence.endswith("it costs validation accuracy.")


def test_a_calmer_run_that_costs_accuracy_is_no_repair():
    usual = "usual first weights"
    lab = LessAccurate({usual: Effect(0.1, -0.5, -0.5)})
    findings = race(lab, Purse(lab, 300), [Cause("weight_init", "observed", 0.6, "")])
    (trial,) = [trial for trial in findings.trials if trial.name == usual]
    assert trial.outcome == "rejected"
    assert trial.sentence.endswith("it costs validation accuracy.")


@pytest.mark.parametrize(
    ("arguments", "change", "name"),
    [
        ({"l1": 1e-3}, {"l1": 0.0}, "no penalty of the weights"),
        (
            {"dropout": 0.5, "recurrent_dropout": 0.5, "weight_decay": 0.1},
            {"dropout": 0.0, "recurrent_dropout": 0.0, "weight_decay": 0.0},
            "no dropout or weight decay",
        ),
    ],
)
def test_what_regularizes_is_left_out_and_named(arguments, change, name):
    lab = FakeLab(arguments={"dropout": 0.0, **arguments}, noise=0.02)
    causes = [Cause("regularization", "observed", 0.6, "")]
    (trial,) = race(lab, Purse(lab, 300), causes, "normal").trials
    assert (trial.name, trial.change) == (name, change)


class Costly(FakeLab):
    """The loss falls with the input scaled, and so does the accuracy."""

    def _run(self, arm):
        result = super()._run(arm)
        lost = 0.15 + 0.3 * 0.3 if arm.change else 0.0  # 0.3 is what the lab gains by the loss
        return replace(result, val_accuracy=result.val_accuracy - lost)


def test_a_repair_for_accuracy_may_not_cost_any():
    lab = Costly({"scale='standard'": Effect(1.0, -0.3, -0.3)}, noise=0.01)
    repair = verify(lab, Purse(lab, 500), [], Repair({"scale": "standard"}, "Found."))
    assert repair.change == {}
    assert "costs accuracy" in repair.note


def test_a_repair_for_accuracy_may_not_make_the_run_restless():
    lab = FakeLab({"scale='standard'": Effect(30.0, -0.3, -0.3)}, noise=0.01)
    repair = verify(lab, Purse(lab, 500), [], Repair({"scale": "standard"}, "Found."))
    assert repair.change == {}
    assert "makes a calm run move" in repair.note
    assert "nats per epoch" in repair.note


def test_a_smaller_batch_that_is_proved_is_not_called_a_rate_too_high():
    lab = FakeLab({"batch_size 600 -> 75": Effect(1.0, -0.4, -0.4)}, batch_size=600, noise=0.02)
    causes = [Cause("batch_size", "observed", 0.6, "")]
    (proof,) = race(lab, Purse(lab, 300), causes, "normal").proofs
    assert (proof.cause, proof.finding) == ("batch_size", "too large")
    assert proof.repair == {"batch_size": 75}


def test_a_batch_that_leaves_few_steps_is_tried_smaller():
    lab = FakeLab(batch_size=600, noise=0.02)
    causes = [Cause("batch_size", "observed", 0.6, "")]
    (trial,) = race(lab, Purse(lab, 300), causes, "normal").trials
    assert trial.change == {"batch_size": 75}
    lab = FakeLab(batch_size=8, noise=0.02)
    assert not race(lab, Purse(lab, 300), causes, "normal").trials
