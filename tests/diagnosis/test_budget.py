"""The budget of probes is a number of epochs and a duration."""

import pytest
from fake_runner import FakeRunner

from sensorseq.diagnosis import probe
from sensorseq.diagnosis.causes import Trial
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.trials import Budget, Rerun


class Clock:
    """A clock that only tests advance."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_charge_is_counted_but_does_not_affect_the_pace():
    clock = Clock()
    budget = Budget(FakeRunner(), 100.0, seconds=50.0, epoch_s=1.0, clock=clock)
    assert budget.left == 50
    budget.charge(3.0)
    assert budget.spent == 3
    assert budget.left == 50  # 97 epochs are left, but at the fit's speed there is only time for 50
    rerun = Rerun("unchanged", 10)
    run = budget.runner.run

    def slow(reruns, is_over):
        clock.now += 20.0 * budget.runner.cost_of(reruns[0]) / 10
        return run(reruns)

    budget.runner.run = slow
    budget.run([rerun])
    pace = 2.0
    assert budget.left == pytest.approx((50 - clock.now) / pace)


def test_without_a_clock_a_charge_reduces_the_remaining_epochs():
    budget = Budget(FakeRunner(), 10.0)
    budget.charge(4.0)
    assert budget.left == 6


def test_the_budget_pays_for_evaluating_twice(monkeypatch):
    paid = []

    def stop(runner, budget, *_, **__):
        paid.append(budget.spent)
        raise KeyboardInterrupt

    trial = Trial(
        "evaluation_not_deterministic", "", {}, "inference", "rejected", ".", cost_epochs=2.5
    )
    monkeypatch.setattr(probe, "zero_test", lambda runner: trial)
    monkeypatch.setattr(probe, "compare_settings", stop)
    probe.probe_runner(FakeRunner(), FluctuationReport("normal", None, (), n_epochs=30))
    assert paid == [2.5]
