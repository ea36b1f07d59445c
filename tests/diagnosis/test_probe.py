"""From a fit that jumps about to the proof of its cause, and to an estimator without it."""

import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fits import plain_classifier

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.probe import probe_fit, probe_runner
from sensorseq.errors import ArgumentError, DivergedError
from sensorseq.estimator.runner import FitRunner

N_TIMESTEPS = 24


def make_data(seed, n_windows):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n_windows)
    time = np.arange(N_TIMESTEPS)
    phase = rng.uniform(0, 2 * np.pi, n_windows)
    X = np.sin((0.3 + 0.2 * y)[:, None] * time + phase[:, None])
    return X + 0.5 * rng.normal(size=X.shape), y


X, Y = make_data(0, 200)
HOT = {"learning_rate": 0.2, "lr_schedule": "constant", "hidden_size": 16, "max_epochs": 60}
STUCK = {"learning_rate": 1e-9, "max_epochs": 20}  # bad whatever the rounding


classifier = partial(plain_classifier, hidden_size=12, early_stopping=False, random_state=1)


@pytest.fixture(scope="module")
def hot():
    return classifier(**HOT).fit(X, Y)


def probe(report):
    """Probe by the count of epochs alone: what a busy machine has time for differs."""
    return probe_fit(report, X, Y, {}, budget=3.0, verbose=0, is_clocked=False)


@pytest.fixture(scope="module")
def proof(hot):
    return probe(hot.fluctuation_)


def test_what_is_applied_is_the_fit_with_the_repair_and_not_fitted(hot, proof):
    found = replace(proof.probes, repair={"learning_rate": 0.02})
    better = replace(proof, probes=found).apply()
    assert better.get_params() == {**hot.get_params(), "learning_rate": 0.02}
    assert not hasattr(better, "module_")
    assert proof.probes.previous == {name: hot.get_params()[name] for name in proof.probes.repair}


def test_the_same_probe_finds_the_same(hot, proof):
    again = probe(hot.fluctuation_)
    assert [t.sentence for t in again.probes.trials] == [t.sentence for t in proof.probes.trials]
    assert again.probes.repair == proof.probes.repair


def test_a_calm_run_that_nothing_betters_is_left_alone(capsys):
    calm = SensorLSTMClassifier(refit=None, random_state=1).fit(X, Y)
    assert calm.fluctuation_.verdict == "normal"
    proof = calm.fluctuation_.probe(X, Y)
    assert not proof.probes.repair
    assert "at most 1x the fit" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="unchanged"):
        same = proof.apply()
    assert same.get_params() == calm.get_params()


@pytest.mark.trains
def test_a_calm_run_that_features_better_gets_them():
    calm = SensorLSTMClassifier(features=None, refit=None, random_state=1).fit(X, Y)
    proof = probe(calm.fluctuation_)
    assert proof.probes.repair == {"features": "auto"}
    fresh = make_data(9, 400)
    assert proof.apply().fit(X, Y).score(*fresh) > calm.score(*fresh) + 0.02


def test_other_data_are_refused(hot):
    with pytest.raises(ArgumentError, match="not the data of the fit"):
        hot.fluctuation_.probe(X[:, ::-1].copy(), Y, verbose=0)


def test_a_cause_is_either_tried_or_left_out_for_one_reason(proof):
    left = [part.cause for part in proof.probes.not_tested]
    assert len(set(left)) == len(left)
    assert not set(left) & {trial.cause for trial in proof.probes.trials}


def test_an_ensemble_is_probed_by_its_first_member():
    report = classifier(**{**HOT, "max_epochs": 20}, n_models=2).fit(X, Y).fluctuation_
    proof = report.probe(X, Y, verbose=0)
    assert any(trial.kind == "race" for trial in proof.probes.trials)


def test_an_interrupt_keeps_what_was_found(hot, monkeypatch):
    report = hot.fluctuation_
    runner = report.origin.open(report.record, X, Y)
    calls = []

    def run(reruns, is_over):
        calls.append(len(reruns))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return type(runner).run(runner, reruns, is_over)

    monkeypatch.setattr(runner, "run", run)
    proof = probe_runner(runner, report)
    assert "interrupted" in proof.probes.note
    assert proof.probes.trials
    assert not proof.probes.repair


def test_a_budget_that_is_none(hot):
    for budget in (0, -1, "1", None, float("nan")):
        with pytest.raises(ArgumentError, match="budget"):
            hot.fluctuation_.probe(X, Y, budget=budget)


def test_a_report_without_its_fit_says_what_to_do(hot, tmp_path):
    hot.save(tmp_path / "hot.safetensors")
    loaded = SensorLSTMClassifier.load(tmp_path / "hot.safetensors")
    with pytest.raises(ArgumentError, match="Fit in this process"):
        loaded.fluctuation_.probe(X, Y)
    with pytest.raises(ArgumentError, match="probe"):
        hot.fluctuation_.apply()


# auto_repair


def test_a_fit_repairs_itself():
    repaired = classifier(**STUCK, auto_repair=True).fit(X, Y)
    assert repaired.get_params()["learning_rate"] == STUCK["learning_rate"]
    report = repaired.fluctuation_
    assert report.probes is not None
    if repaired.repair_:
        assert repaired.repair_ == report.probes.repair
    else:
        assert "the first fit is kept" in report.probes.note or not report.probes.repair
    assert repaired.predict(X).shape == Y.shape


def test_a_repair_that_cannot_be_looked_for_leaves_the_fit():
    def own_loss(logits, target):
        return torch.nn.functional.cross_entropy(logits, target, reduction="none")

    with pytest.warns(UserWarning, match="could not look for a cause"):
        fitted = classifier(**STUCK, loss=own_loss, auto_repair=True).fit(X, Y)
    assert fitted.repair_ == {}
    assert fitted.fluctuation_.verdict == "not_learning"
    fitted.set_params(auto_repair=False).fit(X, Y)
    assert not hasattr(fitted, "repair_")


def test_an_interrupted_repair_keeps_the_fit(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sensorseq.estimator.runner.FitOrigin.open", interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        fitted = classifier(**STUCK, auto_repair=True).fit(X, Y)
    assert fitted.repair_ == {}
    assert fitted.predict(X).shape == Y.shape


def test_the_repair_does_not_hang_on_the_clock(monkeypatch):
    def run(self, reruns, is_over):
        time.sleep(0.05)
        return plain(self, reruns, is_over)

    quick = classifier(**HOT, auto_repair=True).fit(X, Y)
    plain = FitRunner.run
    monkeypatch.setattr(FitRunner, "run", run)
    slow = classifier(**HOT, auto_repair=True).fit(X, Y)
    assert slow.repair_ == quick.repair_
    assert np.array_equal(slow.predict_proba(X), quick.predict_proba(X))


def test_what_is_applied_has_generators_of_its_own():
    generator = np.random.RandomState(3)
    fitted = classifier(**{**HOT, "max_epochs": 20}, random_state=generator).fit(X, Y)
    report = fitted.fluctuation_
    runner = report.origin.open(report.record, X, Y)
    assert runner.n_epochs == 20
    applied = report.origin.repaired({"batch_size": 16})
    assert applied.random_state is not generator
    assert applied.batch_size == 16


def test_a_calm_fit_repairs_nothing():
    options = {"learning_rate": 2e-3, "max_epochs": 30, "hidden_size": 8}
    plain = classifier(**options).fit(X, Y)
    repaired = classifier(**options, auto_repair=True).fit(X, Y)
    assert repaired.repair_ == {}
    assert repaired.fluctuation_.probes is None
    assert np.array_equal(plain.predict_proba(X), repaired.predict_proba(X))


def test_a_fit_that_diverges_at_once_is_an_error_unless_a_repair_helps():
    wild = classifier(
        optimizer="sgd", learning_rate=1e38, max_grad_norm=None, momentum=0.0, max_epochs=20
    )
    with pytest.raises(DivergedError):
        wild.fit(X, Y)
    wild.set_params(auto_repair=True)
    try:
        wild.fit(X, Y)
    except DivergedError:
        assert wild.repair_ == {}
    else:
        assert wild.repair_
        assert np.isfinite(wild.predict_proba(X)).all()


@pytest.mark.parametrize(
    "options", [{"checkpoint": "run.ckpt"}, {"warm_start": True}, {"n_models": 2}]
)
def test_what_a_repair_cannot_go_with(options, in_tmp_path):
    with pytest.raises(ArgumentError, match=f"auto_repair=True .*{next(iter(options))}"):
        classifier(auto_repair=True, **options).fit(X, Y)
