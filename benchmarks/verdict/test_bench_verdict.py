"""Tests of the verdict benchmark: rivals' rules, rates, the oracle, and a stored run."""

import json
import math
import sys
from dataclasses import fields, replace

import bench_verdict
import numpy as np
import pytest
from common.measured_code import MeasuredCode
from verdict import calibrate, data, oracle, plan, rates, rivals, runs

E = 30


def curve(*, loss=None, val_loss=None, accuracy=None, val_accuracy=None, rate=1e-3, **more):
    """Make a run of 30 epochs in which only the given values can raise an alarm."""
    calm = 0.5 + np.exp(-np.arange(E) / 5)
    rising = 0.9 - 0.6 * np.exp(-np.arange(E) / 5)
    columns = {
        "loss": calm if loss is None else loss,
        "val_loss": 1.1 * calm if val_loss is None else val_loss,
        "accuracy": rising if accuracy is None else accuracy,
        "val_accuracy": rising - 0.05 if val_accuracy is None else val_accuracy,
        "learning_rate": np.full(E, rate),
    }
    rows = [
        {"epoch": t + 1, **{name: float(values[t]) for name, values in columns.items()}}
        for t in range(E)
    ]
    base = {
        "plan": {
            "name": "a",
            "role": "healthy",
            "data": "d",
            "kind": "k",
            "twin": "",
            "arguments": {"max_epochs": E},
            "change": {},
        },
        "facts": {
            "n_val": 100,
            "n_train": 300,
            "n_classes": 2,
            "majority_fraction": 0.5,
            "best_epoch": None,
        },
        "record": None,
        "fresh": fresh(np.full(E, 0.9)),
        "gradients": {rivals.FIRST_LAYER: np.ones(10), rivals.LAST_LAYER: np.ones(10)},
        "input_range": (-1.0, 1.0),
    }
    return runs.Evidence(rows=rows, **{**base, **more})


def fresh(accuracy, counts=(200, 200)):
    return {
        "accuracy": accuracy,
        "balanced": accuracy,
        "probability": accuracy,
        "loss": -np.log(accuracy),
        "counts": np.array(counts),
    }


def zigzag(size, every=2):
    """Return an accuracy that alternates between 0.85 and 0.85 - `size`."""
    return 0.85 - size * (np.arange(E) % every == 0)


def test_a_calm_curve_alarms_nobody():
    assert {name: rule(curve()) for name, rule in rivals.RIVALS.items()} == dict.fromkeys(
        rivals.RIVALS, False
    )


@pytest.mark.parametrize(
    ("size", "every", "alarm"),
    [
        (0.031, 2, True),  # one maximum and one minimum every two epochs: 50 %, limit 20 %
        (0.029, 2, False),  # less than 0.03 apart
        (0.2, 15, False),  # far apart, but only twice in 30 epochs
    ],
)
def test_autotrainer_counts_maxima_far_from_minima(size, every, alarm):
    run = curve(accuracy=zigzag(size, every))
    assert rivals.autotrainer_oscillation(run) is alarm
    assert rivals.autotrainer(run) is alarm


def test_autotrainer_ignores_oscillation_below_its_target_accuracy():
    run = curve(accuracy=zigzag(0.1) - 0.3)
    assert rivals.autotrainer_oscillation(run)
    assert not rivals.autotrainer(run)


@pytest.mark.parametrize(
    ("first", "last", "alarm"),
    [(71.0, 1.0, True), (69.0, 1.0, False), (9e-5, 1.0, True), (2e-4, 1.0, False)],
)
def test_autotrainer_reads_gradients_of_a_run_that_does_not_converge(first, last, alarm):
    norms = {rivals.FIRST_LAYER: np.full(10, first), rivals.LAST_LAYER: np.full(10, last)}
    low = np.linspace(0.3, 0.69, E)
    assert rivals.autotrainer(curve(accuracy=low, val_accuracy=low, gradients=norms)) is alarm
    assert not rivals.autotrainer(curve(gradients=norms))  # the run converges, so nothing is wrong


def test_autotrainer_calls_a_flat_curve_slow_after_three_tenths():
    flat = np.full(E, 0.5)
    assert rivals.autotrainer(curve(accuracy=flat, val_accuracy=flat))
    cut = curve(accuracy=flat, val_accuracy=flat)
    cut.rows = cut.rows[:8]
    assert not rivals.autotrainer(cut)


def test_a_loss_that_is_not_a_number_alarms_both():
    loss = np.where(np.arange(E) < 20, 0.5, np.nan)
    assert rivals.autotrainer(curve(loss=loss))
    assert rivals.umlaut_not_finite(curve(loss=loss))


def test_umlaut_calls_one_rise_of_the_validation_loss_overfitting():
    val_loss = 1.1 * (0.5 + np.exp(-np.arange(E) / 5))
    val_loss[20] = val_loss[19] + 1e-6
    assert rivals.umlaut_overfitting(curve(val_loss=val_loss))
    both = np.where(np.arange(E) < 20, 0.5, 0.6)
    assert not rivals.umlaut_overfitting(curve(loss=both, val_loss=both))


@pytest.mark.parametrize(
    ("rate", "alarm"), [(0.011, True), (0.01, False), (1e-7, False), (9e-8, True)]
)
def test_umlaut_has_a_usual_range_of_rates(rate, alarm):
    assert rivals.umlaut_rate(curve(rate=rate)) is alarm


def test_umlaut_distrusts_a_good_validation_accuracy_but_not_in_the_first_epochs():
    high = np.full(E, 0.96)
    assert rivals.umlaut_accuracy(curve(accuracy=high, val_accuracy=high))
    assert rivals.umlaut_accuracy(curve(accuracy=np.full(E, 0.5), val_accuracy=np.full(E, 0.51)))
    early = np.where(np.arange(E) < 3, 0.96, 0.8)
    assert not rivals.umlaut_accuracy(curve(accuracy=np.full(E, 0.9), val_accuracy=early))


def test_umlaut_requires_input_within_one():
    assert rivals.umlaut(curve(input_range=(-1.01, 0.5)))
    assert not rivals.umlaut_curve(curve(input_range=(-1.01, 0.5)))


def test_movement_of_white_noise_is_its_standard_deviation():
    noise = np.random.default_rng(0).normal(0.7, 0.05, 4000)
    truth = oracle.find_truth(curve(fresh=fresh(np.clip(noise, 0.01, 0.99))))
    assert truth.movement == pytest.approx(0.05, rel=0.05)
    assert oracle.find_truth(curve(fresh=fresh(np.linspace(0.5, 0.8, 4000)))).movement < 1e-4


def test_a_fault_is_compared_with_its_twin():
    calm, hot = (
        oracle.find_truth(curve(fresh=fresh(0.8 + step * (-1.0) ** np.arange(E))))
        for step in (0.005, 0.05)
    )
    assert oracle.is_faulty(hot, calm) == "volatile"
    assert oracle.is_faulty(hot, hot) == ""
    nothing = replace(calm, movement=1e-5, probability_movement=1e-5)
    assert (
        oracle.is_faulty(replace(nothing, movement=1e-3, probability_movement=1e-3), nothing) == ""
    )
    stuck = oracle.find_truth(curve(fresh=fresh(np.full(E, 0.51))))
    assert oracle.is_faulty(stuck, calm) == "not learning"
    assert oracle.is_faulty(stuck, stuck) == ""
    assert oracle.is_faulty(replace(calm, diverged=True), calm) == "diverged"


def test_learning_gives_each_class_equal_weight():
    lazy = {**fresh(np.full(E, 0.9), counts=(360, 40)), "balanced": np.full(E, 0.5)}
    assert not oracle.find_truth(curve(fresh=lazy)).beats_guessing


def test_wilson_interval_is_the_published_one():
    # R. G. Newcombe, *Two-sided confidence intervals for the single proportion*, 1998, table I
    for (alarms, n), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert rates.wilson(alarms, n) == pytest.approx((low, high), abs=1e-4)


def test_clusters_that_fail_together_widen_the_interval():
    alarms = [True] * 20 + [False] * 180
    low, high = rates.cluster_interval(alarms, np.arange(200))
    wide_low, wide_high = rates.cluster_interval(alarms, np.arange(200) // 20)
    assert low > 0.05
    assert high < 0.16
    assert wide_low == 0.0
    assert wide_high >= 0.3


def test_runs_are_counted_in_their_rows():
    hot = 0.8 + 0.05 * (-1.0) ** np.arange(E)

    def planned(name, role, **more):
        return {**curve().plan, "name": name, "role": role, **more}

    calm = curve(plan=planned("a", "healthy"), fresh=fresh(0.8 + 0.001 * (-1.0) ** np.arange(E)))
    loud = curve(
        plan=planned("b", "volatile", twin="a"),
        loss=0.5 + 0.2 * (-1.0) ** np.arange(E),
        val_loss=0.6 + 0.2 * (-1.0) ** np.arange(E),
        fresh=fresh(hot),
    )
    benign = curve(plan=planned("c", "volatile", twin="a", kind="harmless"), fresh=calm.fresh)
    stuck = curve(plan=planned("d", "control"), fresh=fresh(np.full(E, 0.5)))
    counted, facts = rates.judge([calm, loud, benign, stuck])
    overall = {
        (row["row"], row["judge"]): (row["alarms"], row["runs"])
        for row in counted
        if row["kind"] == "all"
    }
    assert overall[rates.PLAIN, rates.OURS] == (0, 1)
    assert overall[rates.FAULTY, rates.OURS] == (1, 1)
    assert overall[rates.FAULTY, "UMLAUT, overfitting only"] == (0, 1)
    assert facts["left_out"] == {"benign: harmless": 1, "noisy but normal: did not learn": 1}
    assert facts["wrong"] == []
    json.dumps([counted, facts])


def test_the_limit_of_a_quantile_is_above_it_and_falls_with_more_runs():
    values = np.random.default_rng(0).exponential(size=2000)
    exact = math.log(100)
    few, many = (calibrate.quantile_limit(values[:n]) for n in (400, 2000))
    assert exact < many < few < 2 * exact


@pytest.mark.parametrize("part", ["calibration", "test"])
def test_the_plan_has_what_it_needs(part):
    plans = plan.make_plans(part)
    names = [planned.name for planned in plans]
    assert len(set(names)) == len(names)
    roles = [planned.role for planned in plans]
    least = {"calibration": (100, 40, 40), "test": (200, 150, 150)}[part]
    for role, wanted in zip(("healthy", "control", "volatile"), least, strict=True):
        assert roles.count(role) >= wanted
    by_name = {planned.name: planned for planned in plans}
    for planned in plans:
        if planned.role == "volatile":
            twin = by_name[planned.twin]
            assert (twin.role, twin.data, twin.seed) == ("healthy", planned.data, planned.seed)
            assert (twin.n_train, twin.n_val) == (planned.n_train, planned.n_val)


def test_calibration_and_test_share_neither_data_nor_strengths():
    calibration, test = (plan.make_plans(part) for part in ("calibration", "test"))
    assert not {p.data for p in calibration} & {p.data for p in test}
    assert not {p.seed for p in calibration} & {p.seed for p in test}
    strengths = [
        {json.dumps([p.kind, p.change], sort_keys=True) for p in plans if "rate x" in p.kind}
        for plans in (calibration, test)
    ]
    assert not strengths[0] & strengths[1]


@pytest.mark.parametrize("name", [*data.GENERATED, "surfaces"])
def test_no_group_is_in_two_parts(name):
    parts = data.draw(name, 3, 100, 40)
    groups = [set(part.groups) for part in (parts.train, parts.validation, parts.fresh)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert (len(parts.train), len(parts.validation)) == (100, 40)
    again = data.draw(name, 3, 100, 40)
    np.testing.assert_array_equal(again.validation.X, parts.validation.X)


def test_classes_are_numbered_by_the_training_part():
    parts = [
        data.LabeledWindows(np.zeros((len(y), 2, 1)), np.array(y), np.arange(len(y)))
        for y in ([0, 3, 3, 5], [0, 1, 5], [4, 3])
    ]
    assert [part.y.tolist() for part in data._same_classes(parts)] == [[0, 1, 1, 2], [0, 2], [1]]


def test_imbalance_has_the_requested_factor():
    counts = np.bincount(data.draw("chirps", 1, 2000, 100, imbalance=10).train.y)
    assert counts[0] / counts[1:].mean() == pytest.approx(10, rel=0.25)


def test_a_loaded_run_equals_the_saved_one(tmp_path):
    planned = next(p for p in plan.make_plans("test") if p.kind == "warm_restarts")
    planned = replace(
        planned,
        data="pulses",
        n_train=40,
        n_val=20,
        arguments={**planned.arguments, "hidden_size": 4, "max_epochs": 7, "batch_size": 16},
    )
    evidence = runs.train(planned)
    assert [row["epoch"] for row in evidence.rows] == list(range(1, 22))
    assert evidence.fresh["accuracy"].shape == (21,)
    assert len(evidence.gradients[rivals.FIRST_LAYER]) == 3 * 2  # every third epoch of each fit
    path = tmp_path / "run.npz"
    runs.save(evidence, path)
    again = runs.load(path)
    assert (again.plan, again.rows, again.facts) == (evidence.plan, evidence.rows, evidence.facts)
    assert again.record.n_epochs == 21
    for field in fields(again.record):
        value = getattr(evidence.record, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again.record, field.name), value)
    verdicts = [rates.report_of(run).verdict for run in (evidence, again)]
    assert verdicts[0] == verdicts[1]


def test_the_runner_continues_after_an_interruption(tmp_path, monkeypatch, capsys):
    two = [
        replace(p, arguments={**p.arguments, "hidden_size": 4, "max_epochs": 13})
        for p in plan.make_plans("calibration", quick=True)[:2]
    ]
    code = MeasuredCode.of(bench_verdict.__file__)
    assert bench_verdict.run(two[:1], tmp_path, None, code) == 1
    assert bench_verdict.run(two, tmp_path, None, code) == 1
    assert bench_verdict.run(two, tmp_path, None, code) == 0
    read = bench_verdict.read(two, tmp_path)
    assert [run.plan["name"] for run in read] == [p.name for p in two]
    assert all(run.record is not None for run in read)
    assert [run.stamp for run in read] == 2 * [code.stamp()]

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_verdict, "train", stopped)
    (tmp_path / f"{two[0].name}.npz").unlink()
    assert bench_verdict.run(two, tmp_path, None, code) == 0
    assert "start again to continue" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.benchmarks
def test_a_few_runs_are_trained_judged_and_not_written(tmp_path, monkeypatch, capsys):
    def tiny(part, *, quick):
        assert quick
        planned = plan.make_plans(part, quick=True)
        twin = next(p.twin for p in planned if p.twin)
        few = [p for p in planned if twin in (p.name, p.twin)][:2]
        arguments = {"hidden_size": 4, "max_epochs": 18}
        return [replace(p, arguments={**p.arguments, **arguments}) for p in few]

    monkeypatch.setattr(bench_verdict, "make_plans", tiny)
    monkeypatch.setattr(bench_verdict.torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(sys, "argv", ["bench_verdict.py", "--quick", "--folder", str(tmp_path)])
    assert bench_verdict.main() == 0
    printed = capsys.readouterr().out
    assert "Fraction of runs flagged, with 95 % intervals" in printed
    assert "results/verdict.json is unchanged" in printed
    assert "results/verdict_calibration.json is unchanged" in printed
    assert len(list((tmp_path / "quick").glob("*.npz"))) == 4


def test_both_estimates_of_noise_are_its_standard_deviation():
    noise = np.random.default_rng(0).normal(0.0, 0.1, 20_000)
    trend = np.linspace(0.0, 50.0, len(noise))
    for estimate in calibrate.ESTIMATORS.values():
        assert estimate(noise + trend) == pytest.approx(0.1, rel=0.03)


def test_calibration_shows_the_benefit_and_cost_of_an_edge():
    rng = np.random.default_rng(0)
    calm, hot = [], []
    for index in range(20):
        base = {**curve().plan, "name": f"a{index}"}
        noise = 0.01 * rng.standard_normal(E)
        loss = 0.5 + np.exp(-np.arange(E) / 3) + noise
        even = fresh(0.8 + 0.002 * rng.standard_normal(E))
        calm.append(curve(plan=base, loss=loss, val_loss=loss, fresh=even))
        wild = fresh(0.8 + 0.05 * rng.standard_normal(E))
        twin = {**base, "name": f"b{index}", "role": "volatile", "twin": f"a{index}"}
        loss = loss + 0.3 * rng.random(E)
        hot.append(curve(plan=twin, loss=loss, val_loss=loss, fresh=wild))
    rows, facts = calibrate.calibrate(calm + hot)
    assert (facts["healthy"], facts["volatile"], facts["left_out"]) == (20, 20, 0)
    row = next(r for r in rows if r["statistic"] == "running loss, settled, median: nats")
    assert 0.005 < row["healthy"]["0.5"] < 0.02
    assert row["healthy"]["0.99"] <= row["edge"] < 0.05
    assert row["faulty_above_edge"] == 1.0
    assert len(facts["joint"]) == 8  # two losses (no record), two choices of epochs, two estimators
    assert all(joint["faulty_above_both"] >= 0.9 for joint in facts["joint"])
    json.dumps([rows, facts])
    assert "running loss, second half, mean: nats" in {row["statistic"] for row in rows}
