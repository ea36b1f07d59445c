"""The race of settings: how settings are chosen, what they cost, and which are adopted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from held import held_windows
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.diagnosis import probe
from sensorseq.diagnosis.causes import ARGUMENTS_OF, OWNER_OF, Cause, NotTested
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.trials import (
    FEATURES,
    LEAST_STEPS,
    OUT_OF_TIME,
    SEVERAL,
    Budget,
    RerunResult,
    compare_settings,
    list_candidates,
    paired,
)
from sensorseq.history import TrainingRecord
from sensorseq.messages import text_of

N_VAL, N_CLASSES = 60, 3
TARGET = np.arange(N_VAL) % N_CLASSES
DEFAULTS = SensorLSTMClassifier().get_params(deep=False)
OWN = {**DEFAULTS, "learning_rate": 0.1, "optimizer": "sgd", "lr_schedule": "constant"}


class KnownRunner:
    """A runner in which each setting classifies a given fraction of windows correctly."""

    def __init__(self, quality, *, own=0.5, arguments=OWN, n_epochs=40, n_train=320, calm=()):
        self.quality, self.own, self.calm = quality, own, calm
        self.arguments = arguments
        self.n_epochs, self.n_classes = n_epochs, N_CLASSES
        rng = np.random.default_rng(0)
        self.record = TrainingRecord(fixed_loss=1 + rng.normal(0, 0.2, n_epochs))
        self.train = held_windows(np.zeros((n_train, 4, 1)), None, np.zeros(n_train, np.int64))
        groups = np.arange(N_VAL) // 3
        self.validation = held_windows(np.zeros((N_VAL, 4, 1)), None, TARGET, groups)
        self.reruns = []

    def cost_of(self, rerun):
        return float(rerun.n_epochs)

    def outputs(self, right):
        outputs = np.zeros((N_VAL, N_CLASSES))
        outputs[np.arange(N_VAL), TARGET] = np.where(np.arange(N_VAL) < right * N_VAL, 3.0, -1.0)
        return outputs

    def val_outputs(self):
        return self.outputs(self.own)

    def run(self, reruns, is_over=None):
        self.reruns += reruns
        return [self.result(rerun) for rerun in reruns]

    def result(self, rerun):
        right = self.quality.get(rerun.name, self.own)
        noise = 0.01 if rerun.name in self.calm else 0.2
        loss = 1 + np.random.default_rng(0).normal(0, noise, rerun.n_epochs)
        failed = "the loss is not finite" if right is None else ""
        outputs = None if right is None else self.outputs(right)
        return RerunResult(rerun, loss, val_outputs=outputs, failed=failed)


def suspected(*names):
    return tuple(Cause(name, "suspected", "") for name in names)


@pytest.fixture
def no_zero_test(monkeypatch):
    monkeypatch.setattr(probe, "zero_test", lambda runner: NotTested("", ""))


def race(runner, budget=1000.0, causes=(), **options):
    paid = Budget(runner, budget)
    result = compare_settings(runner, paid, causes, **options)
    assert paid.spent <= budget
    return result


def test_settings_that_do_significantly_better_are_adopted():
    result = race(KnownRunner({"the defaults": 0.95}))
    assert result.adopted.candidate.name == "the defaults"
    assert result.note.startswith("With the defaults, after 40 epochs, the validation loss is ")
    assert "lower than in the run, the accuracy 45.0 +-" in result.note
    assert [trial.outcome for trial in result.trials()].count("confirmed") == 1
    assert result.trials()[0].change == dict(result.adopted.candidate.change)


def test_nothing_is_adopted_if_nothing_does_better():
    runner = KnownRunner({"the defaults": 0.5, "cosine decay": 0.52}, own=0.5)
    result = race(runner)
    assert result.adopted is None
    assert "more than chance explains" in result.note
    assert all(trial.outcome != "confirmed" for trial in result.trials())


def test_a_single_change_that_does_as_well_as_the_defaults_proves_its_cause():
    runner = KnownRunner({"the defaults": 0.95, "learning_rate / 10": 0.95, "clipping": 0.7})
    result = race(runner)
    assert [one.candidate.cause for one in result.proofs] == ["learning_rate"]
    runner = KnownRunner({"the defaults": 0.95, "learning_rate / 10": 0.7})
    result = race(runner)
    assert result.adopted.candidate.cause == SEVERAL
    assert not result.proofs
    result = race(KnownRunner({"learning_rate / 10": 0.95}))
    assert result.proofs == (result.adopted,)


def test_the_defaults_name_a_cause_if_they_change_one_argument():
    runner = KnownRunner({"the defaults": 0.95}, arguments={**DEFAULTS, "learning_rate": 1.0})
    result = race(runner)
    assert dict(result.adopted.candidate.change) == {"learning_rate": DEFAULTS["learning_rate"]}
    (proof,) = result.proofs
    assert (proof.candidate.cause, proof.candidate.finding) == ("learning_rate", "too high")


def test_the_defaults_are_adopted_more_easily_than_other_changes():
    better = 0.5 + 6 / N_VAL  # two of the twenty groups improve, which is 1.5 standard errors
    assert race(KnownRunner({"the defaults": better})).adopted.candidate.name == "the defaults"
    assert race(KnownRunner({"learning_rate / 10": better})).adopted is None


def test_a_calmer_run_counts_only_if_the_original_run_fluctuates():
    runner = KnownRunner({}, calm=("cosine decay",))
    assert race(runner).adopted.candidate.name == "cosine decay"
    assert race(runner, may_calm=False).adopted is None
    assert race(KnownRunner({"cosine decay": 0.45}, calm=("cosine decay",))).adopted is None


def test_a_failed_training_run_is_rejected():
    result = race(KnownRunner({"the defaults": None, "cosine decay": 0.9}))
    outcome = {trial.name: (trial.outcome, trial.sentence) for trial in result.trials()}
    assert outcome["the defaults"] == ("rejected", "the defaults: the loss is not finite.")
    assert result.adopted.candidate.name == "cosine decay"


def test_the_best_are_trained_longer_and_none_longer_than_the_run():
    runner = KnownRunner({"the defaults": 0.9})
    race(runner, budget=100.0)
    epochs = [rerun.n_epochs for rerun in runner.reruns if rerun.name == "the defaults"]
    assert epochs == sorted(set(epochs))
    assert max(rerun.n_epochs for rerun in runner.reruns) <= runner.n_epochs
    # 320 windows in batches of 32
    assert min(rerun.n_epochs for rerun in runner.reruns) * 10 >= LEAST_STEPS


def test_a_small_budget_tries_the_first_settings_and_reports_the_others():
    result = race(KnownRunner({}), budget=14.0, causes=suspected("loss"))
    assert [entry.candidate.name for entry in result.outcomes] == ["the defaults"]
    assert len(result.untried) > 5
    nothing = race(KnownRunner({}), budget=3.0)
    assert not nothing.outcomes
    assert "budget" in nothing.note


def test_without_validation_windows_there_is_nothing_to_compare_on():
    runner = KnownRunner({"the defaults": 1.0})
    runner.validation = None
    assert "no validation windows" in race(runner).note
    assert not runner.reruns


def test_a_training_run_on_a_slow_machine_is_stopped_and_the_report_says_so(no_zero_test):
    clock, runner, ends = [0.0], KnownRunner({"the defaults": 0.95}), []
    runner.classes = ["a", "b", "c"]

    def slow(reruns, is_over):
        return [train(rerun, is_over) for rerun in reruns]

    def train(rerun, is_over):
        if is_over():
            return RerunResult(rerun, np.zeros(0), failed=OUT_OF_TIME)
        result, n_epochs = runner.result(rerun), 0
        while n_epochs < rerun.n_epochs and not is_over():
            clock[0], n_epochs = clock[0] + 10.0, n_epochs + 1
        ends.append(clock[0])
        return replace(result, fixed_loss=result.fixed_loss[:n_epochs])

    runner.run = slow
    report = FluctuationReport("normal", None, (), n_epochs=runner.n_epochs)
    proof = probe.probe_runner(runner, report, 1.0, 200.0, clock=lambda: clock[0])
    assert ends == [290.0]  # the first end of an epoch after 1.5 * 0.95 * 200 s
    (trial,) = proof.probes.trials
    assert "the time was up after 29 of 40 epochs" in trial.sentence
    assert "after 29 epochs" in proof.probes.note
    assert text_of("probes_stopped") in proof.probes.note
    assert any("budget was used up" in one.reason for one in proof.probes.not_tested)


def test_a_far_too_high_rate_is_proved_and_the_proof_survives_json_and_print(no_zero_test):
    runner = KnownRunner({"the defaults": 0.95, "learning_rate / 10": 0.95})
    runner.classes = ["a", "b", "c"]
    causes = suspected("optimizer", "learning_rate")
    report = FluctuationReport("fluctuating", "strong", n_epochs=runner.n_epochs, causes=causes)
    proof = probe.probe_runner(runner, report)
    first = proof.causes[0]
    assert (first.name, first.grade) == ("learning_rate", "proved")
    assert not any(cause.grade == "proved" for cause in report.causes)
    assert report.probes is None
    confirmed = [trial for trial in proof.probes.trials if trial.outcome == "confirmed"]
    assert {trial.kind for trial in confirmed} == {"race"}
    assert confirmed[0].change == proof.probes.repair
    assert {"learning_rate": OWN["learning_rate"] / 10} in [trial.change for trial in confirmed]
    again = FluctuationReport.from_dict(proof.to_dict())
    assert again.probes.repair == proof.probes.repair
    assert again.causes == proof.causes
    text = str(proof)
    assert "PROVED" in text
    assert max(map(len, text.splitlines())) <= 80


def test_candidates_change_only_settings_that_differ_and_suspected_causes_come_first():
    runner = KnownRunner({})
    causes = suspected("optimizer")
    # distances from the defaults: 1.2 decades for hidden_size, 1 for scale
    runner.arguments = {**OWN, "scale": None, "hidden_size": 4}
    options = list_candidates(runner, causes)
    assert [one.cause for one in options[:3]] == [SEVERAL, SEVERAL, "optimizer"]
    assert [one.name for one in options[3:]] == [
        "a wider network", "standard scaling", "cosine decay", "learning_rate / 10",
        "learning_rate x 10", "learning_rate / 3", "learning_rate x 3", "no dropout, no decay",
    ]  # fmt: skip
    clf = SensorLSTMClassifier(**runner.arguments)
    for option in options:
        assert all(runner.arguments[name] != value for name, value in option.change.items())
        clf.set_params(**option.change)  # must not raise
        assert set(option.change) <= set(ARGUMENTS_OF.get(option.cause, OWNER_OF))
    assert "hidden_size" not in options[1].change


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 99))
def test_the_error_over_groups_of_equal_size_is_that_of_their_means(n_groups, size, seed):
    gain = np.random.default_rng(seed).normal(size=(n_groups, size))
    mean, error = paired(gain.ravel(), np.repeat(np.arange(n_groups), size))
    assert mean == pytest.approx(gain.mean())
    by_hand = gain.mean(axis=1).std(ddof=1) / math.sqrt(n_groups)
    assert error == pytest.approx(by_hand * stats.t.ppf(0.8413, n_groups - 1))


@pytest.mark.trains
def test_a_run_with_a_rate_far_too_high_is_repaired():
    rng = np.random.default_rng(0)

    def draw(n, first_group):
        y = np.arange(n) % 3
        t = np.arange(40)
        phase = rng.uniform(0, 6.3, (n, 1))
        X = np.sin((0.2 + 0.15 * y[:, None]) * t + phase) + rng.normal(0, 0.3, (n, 40))
        return X[:, :, None], y, first_group + np.arange(n) // 3

    X, y, groups = draw(180, 0)
    X_new, y_new, _ = draw(240, 1000)
    settings = {"hidden_size": 16, "features": None, "refit": None, "device": "cpu"}
    sick = SensorLSTMClassifier(
        **settings, learning_rate=1.0, optimizer="adam", lr_schedule="constant", max_epochs=40,
        max_grad_norm=None, patch=None, random_state=0,
    ).fit(X, y, groups=groups)  # fmt: skip
    report = sick.fluctuation_
    runner = report.origin.open(report.record, X, y, groups=groups)
    result = compare_settings(runner, Budget(runner, 2.0 * runner.n_epochs), report.causes)
    assert result.adopted is not None
    healed = report.origin.repaired(result.adopted.candidate.change).fit(X, y, groups=groups)
    assert healed.score(X_new, y_new) > sick.score(X_new, y_new) + 0.2


def test_features_are_tried_first_if_the_run_has_none_and_preferred_to_equally_good_defaults():
    quality, arguments = {"the defaults": 0.9, FEATURES: 0.9}, OWN | {"features": None}
    runner = KnownRunner(quality, arguments=arguments, n_epochs=100)
    result = race(runner, budget=400.0)
    assert runner.reruns[0].name == FEATURES
    assert runner.reruns[0].n_epochs <= 0.3 * 400
    assert result.adopted.candidate.name == FEATURES
    assert result.adopted.candidate.change["features"] == "auto"
    with_features = KnownRunner({}, arguments=OWN)
    race(with_features)
    assert FEATURES not in {rerun.name for rerun in with_features.reruns}


@pytest.mark.trains
@pytest.mark.parametrize("form", ["array", "list", "windows", "given apart"])
def test_features_are_judged_on_windows_that_they_were_not_fitted_on(form):
    """The validation labels are swapped, so all settings must seem bad."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = rng.normal(size=(120, 20, 1)).astype(np.float32) + np.where(y, 1.5, -1.5)[:, None, None]
    groups = np.arange(120) // 6
    own = {"features": None, "refit": None, "hidden_size": 4, "max_epochs": 30, "dropout": 0.0}
    own |= {"learning_rate": 1e-5, "random_state": 0}
    given = {"groups": groups}
    if form == "list":
        X = list(X)
    if form == "windows":
        X, y, given = WindowSet(X, y=y, groups=groups), None, {}
    if form == "given apart":
        X, y, X_val, y_val = X[:90], y[:90], X[90:], 1 - y[90:]
        given = {"X_val": X_val, "y_val": y_val, "groups": groups[:90]}
    classifier = SensorLSTMClassifier(**own).fit(X, y, **given)
    proof = classifier.fluctuation_.probe(X, y, **given, budget=30.0, verbose=0)
    (trial,) = [one for one in proof.probes.trials if one.name == FEATURES]
    assert abs(trial.accuracy_change) > 0.5
    assert (trial.accuracy_change > 0) == (form != "given apart")
