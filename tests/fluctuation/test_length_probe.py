"""Windows of other lengths, tried in re-runs of known noise and accuracy."""

import numpy as np
import pytest
from fake_lab import Effect, FakeLab

from sensorseq.fluctuation.causes.cause import Trial
from sensorseq.fluctuation.probes.arm import LabWindows
from sensorseq.fluctuation.probes.length import length_probe, reads_the_end
from sensorseq.fluctuation.probes.purse import Purse

CUT, MEAN, TWICE = (
    "sequences cut to 10 steps",
    "mean over all steps in the head",
    "windows twice as long",
)
CALMER = Effect(0.15, -0.1, -0.1)


def make_lab(effects=None, **more):
    lab = FakeLab(effects, n_epochs=45, arguments={"pooling": "last", "crop": "head"}, **more)
    if lab.validation is not None:
        lab.validation = lab.train._replace(target=lab.train.target[:400])
    return lab


def longer_of(raw):
    """Return what makes labs of longer windows, whose losses are higher by so many nats."""

    def make(factor):
        assert factor == 2.0
        lab = make_lab({TWICE: Effect(raw=raw)})
        X = np.concatenate([lab.train.X, lab.train.X], axis=1)
        lab.train = LabWindows(X, None, lab.train.target)
        made.append(lab)
        return lab

    made = []
    make.made = made
    return make


def probe(lab, budget=1000.0, **more):
    purse = Purse(lab, budget)
    findings = length_probe(lab, purse, **more)
    assert purse.spent <= budget
    return findings, {trial.name: trial for trial in findings.trials}, purse


@pytest.mark.parametrize("seed", range(4))
def test_shorter_windows_that_calm_the_run_are_confirmed(seed):
    _, trials, purse = probe(make_lab({CUT: CALMER}, seed=seed))
    assert trials[CUT].outcome == "confirmed"
    assert trials[CUT].change == {"max_timesteps": 10}
    assert trials[CUT].kind == "init"
    assert trials[MEAN].outcome == "rejected"
    assert sum(trial.cost_epochs for trial in trials.values()) == pytest.approx(purse.spent)


@pytest.mark.parametrize("seed", range(4))
def test_a_mean_over_the_steps_that_calms_the_run_is_confirmed(seed):
    _, trials, _ = probe(make_lab({MEAN: CALMER}, seed=seed))
    assert trials[MEAN].outcome == "confirmed"
    assert trials[MEAN].change == {"pooling": "mean"}
    assert trials[CUT].outcome == "rejected"


def test_changes_without_effect_are_seldom_confirmed():
    confirmed = 0
    for seed in range(30):
        _, trials, _ = probe(make_lab(seed=seed))
        confirmed += any(trial.outcome == "confirmed" for trial in trials.values())
    assert confirmed <= 4


def test_a_calm_that_costs_accuracy_is_rejected():
    class Blind(FakeLab):
        def _run(self, arm):
            result = super()._run(arm)
            if arm.name == CUT:
                result.val_accuracy[:] -= 0.2
            return result

    lab = Blind({CUT: CALMER}, n_epochs=45, arguments={"pooling": "last"})
    _, trials, _ = probe(lab)
    assert trials[CUT].outcome == "rejected"
    assert "points of validation accuracy" in trials[CUT].sentence


def test_the_end_is_kept_where_the_run_reads_the_end():
    lab = make_lab({CUT: CALMER})
    profile = np.full((5, 16), 0.01)
    profile[:, 15] = 0.85
    lab.record.time_profile = profile
    assert reads_the_end(lab)
    _, trials, _ = probe(lab)
    assert trials[CUT].change == {"max_timesteps": 10, "crop": "tail"}
    lab.record.time_profile = profile[:, ::-1]
    assert not reads_the_end(lab)
    lab.record.time_profile = np.full((5, 16), np.nan)
    assert not reads_the_end(lab)


def test_what_was_tried_before_is_not_tried_again():
    before = Trial("sequence_length", CUT, {}, "init", "rejected", "")
    _, trials, _ = probe(make_lab(), tried=[before])
    assert set(trials) == {MEAN}


@pytest.mark.parametrize("name", ["max_timesteps", "pooling"])
def test_what_cannot_be_changed_here_is_left_out(name):
    lab = make_lab()
    lab.changeable = lab.changeable - {name}
    _, trials, _ = probe(lab)
    assert set(trials) == {MEAN if name == "max_timesteps" else CUT}


def test_without_recordings_longer_windows_are_not_tested():
    findings, _, _ = probe(make_lab())
    (part,) = findings.not_tested
    assert (part.cause, part.reason) == ("sequence_length", "longer windows need recordings=")


@pytest.mark.parametrize(
    ("raw", "outcome"), [(-0.6, "confirmed"), (0.6, "rejected"), (-0.08, "undecided")]
)
def test_longer_windows_are_judged_by_their_accuracy(raw, outcome):
    make = longer_of(raw)
    lab = make_lab()
    findings, trials, purse = probe(lab, make_windows=make)
    assert trials[TWICE].outcome == outcome, trials[TWICE].sentence
    assert not findings.not_tested
    ran = [arm for call in make.made[0].calls for arm in call]
    assert [arm.seed for arm in ran] == [0, 1, 2]
    assert {arm.n_epochs for arm in ran} == {15}
    # twice as many steps of each window, so twice the price
    assert trials[TWICE].cost_epochs == pytest.approx(3 * 15 + 2 * 3 * 15)
    assert purse.spent == pytest.approx(sum(trial.cost_epochs for trial in trials.values()))


def test_longer_windows_of_which_there_are_fewer_take_as_many_steps():
    make = longer_of(0.0)

    def halved(factor):
        lab = make(factor)
        lab.train = LabWindows(lab.train.X[::2], None, lab.train.target[::2])
        return lab

    probe(make_lab(), make_windows=halved)
    assert {arm.n_epochs for call in make.made[0].calls for arm in call} == {30}


def test_without_money_nothing_is_run():
    lab, make = make_lab(), longer_of(-0.6)
    findings, trials, purse = probe(lab, 5.0, make_windows=make)
    assert not trials
    assert not lab.calls
    assert purse.spent == 0
    assert len(findings.not_tested) == 2
    assert {part.cause for part in findings.not_tested} == {"sequence_length"}


def test_longer_windows_need_validation_windows():
    lab = make_lab(with_validation=False)
    findings, trials, _ = probe(lab, make_windows=longer_of(-0.6))
    assert TWICE not in trials
    assert "validation" in findings.not_tested[0].reason
