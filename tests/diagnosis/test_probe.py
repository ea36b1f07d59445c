"""A fluctuating fit is probed: its cause is proved, and the estimator is repaired."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.probe import probe_runner
from sensorseq.errors import ArgumentError, DivergedError

pytestmark = pytest.mark.usefixtures("few_features")
N_TIMESTEPS = 24


def make_data(seed, n_windows):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n_windows)
    time = np.arange(N_TIMESTEPS)
    phase = rng.uniform(0, 2 * np.pi, n_windows)
    X = np.sin((0.3 + 0.2 * y)[:, None] * time + phase[:, None])
    return X + 0.5 * rng.normal(size=X.shape), y


X, Y = make_data(0, 200)
HOT = {"learning_rate": 0.2, "lr_schedule": "constant", "hidden_size": 12, "max_epochs": 20}


classifier = partial(plain_classifier, hidden_size=12, early_stopping=False, random_state=1)


@pytest.fixture(scope="module")
def hot(few_features):
    return classifier(**HOT).fit(X, Y)


def probe(report):
    """Probe with a budget in epochs, not seconds, so that a busy machine makes no difference."""
    return probe_runner(report.origin.open(report.record, X, Y), report, 3.0)


@pytest.fixture(scope="module")
def proof(hot):
    return probe(hot.fluctuation_)


def test_apply_returns_an_unfitted_estimator_with_the_repair(hot, proof):
    found = replace(proof.probes, repair={"learning_rate": 0.02})
    better = replace(proof, probes=found).apply()
    assert better.get_params() == {**hot.get_params(), "learning_rate": 0.02}
    assert not hasattr(better, "module_")
    assert proof.probes.previous == {name: hot.get_params()[name] for name in proof.probes.repair}


def test_the_same_probe_finds_the_same(hot, proof):
    again = probe(hot.fluctuation_)
    assert [t.sentence for t in again.probes.trials] == [t.sentence for t in proof.probes.trials]
    assert again.probes.repair == proof.probes.repair


def test_a_calm_run_that_nothing_improves_is_left_alone(capsys):
    # The rate is higher than the default, with which 40 epochs would be too few. A single run
    # depends on rounding, so two of three runs must agree.
    options = {"learning_rate": 0.02, "max_epochs": 40, "refit": None}
    fits = [SensorLSTMClassifier(**options, random_state=seed).fit(X, Y) for seed in (1, 2, 3)]
    calm_ones = [fit for fit in fits if fit.fluctuation_.verdict == "normal"]
    proofs = [(fit, fit.fluctuation_.probe(X, Y)) for fit in calm_ones]
    assert "at most 1x the fit time" in capsys.readouterr().err
    left_alone = [(fit, proof) for fit, proof in proofs if not proof.probes.repair]
    assert len(left_alone) >= 2
    calm, proof = left_alone[0]
    with pytest.warns(UserWarning, match="unchanged"):
        same = proof.apply()
    assert same.get_params() == calm.get_params()


@pytest.mark.trains
def test_a_calm_run_that_features_improve_gets_features():
    calm = SensorLSTMClassifier(features=None, refit=None, random_state=1).fit(X, Y)
    proof = probe(calm.fluctuation_)
    assert proof.probes.repair == {"features": "auto"}
    fresh = make_data(9, 400)
    assert proof.apply().fit(X, Y).score(*fresh) > calm.score(*fresh) + 0.02


def test_different_data_are_rejected(hot):
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
    proof = probe_runner(runner, report, 3.0)
    assert "interrupted" in proof.probes.note
    assert proof.probes.trials
    assert not proof.probes.repair


def test_an_invalid_budget_is_an_error(hot):
    for budget in (0, -1, "1", None, float("nan")):
        with pytest.raises(ArgumentError, match="budget"):
            hot.fluctuation_.probe(X, Y, budget=budget)


def test_the_error_for_a_report_without_its_fit_names_the_remedy(hot, tmp_path):
    hot.save(tmp_path / "hot.safetensors")
    loaded = SensorLSTMClassifier.load(tmp_path / "hot.safetensors")
    with pytest.raises(ArgumentError, match="Fit in this process"):
        loaded.fluctuation_.probe(X, Y)
    with pytest.raises(ArgumentError, match="probe"):
        hot.fluctuation_.apply()


def test_an_applied_estimator_has_its_own_generators():
    generator = np.random.RandomState(3)
    fitted = classifier(**{**HOT, "max_epochs": 20}, random_state=generator).fit(X, Y)
    report = fitted.fluctuation_
    runner = report.origin.open(report.record, X, Y)
    assert runner.n_epochs == 20
    applied = report.origin.repaired({"batch_size": 16})
    assert applied.random_state is not generator
    assert applied.batch_size == 16


def test_a_fit_that_diverges_immediately_is_an_error_whose_report_can_be_probed():
    wild = classifier(
        optimizer="sgd",
        learning_rate=1e38,
        max_grad_norm=None,
        optimizer_params={"momentum": 0.0},
        max_epochs=20,
    )
    with pytest.raises(DivergedError) as raised:
        wild.fit(X, Y)
    better = probe(raised.value.fluctuation).apply().fit(X, Y)
    assert np.isfinite(better.predict_proba(X)).all()
