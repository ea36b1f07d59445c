"""The fluctuation benchmark: plans, changes of data, the oracle, rates; one run there and back."""

import json
import math
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from sensorseq.fluctuation.causes.cause import CAUSE_NAMES, Cause
from sensorseq.fluctuation.report import FluctuationReport

ROOT = Path(__file__).resolve().parents[2]
import bench_fluctuation  # noqa: E402
from fluctuation import answers as answers  # noqa: E402
from fluctuation import confidence as confidence  # noqa: E402
from fluctuation import configuration as configuration  # noqa: E402
from fluctuation import data as data  # noqa: E402
from fluctuation import injections as injections  # noqa: E402
from fluctuation import oracle as oracle  # noqa: E402
from fluctuation import plan as plan  # noqa: E402
from fluctuation import rates as rates  # noqa: E402
from fluctuation import repair as repair  # noqa: E402
from fluctuation import rivals as rivals  # noqa: E402
from fluctuation import rows as table  # noqa: E402
from fluctuation import runs as runs  # noqa: E402
from fluctuation import seen as seen  # noqa: E402
from fluctuation import simple_repairs as simple  # noqa: E402
from fluctuation import table as words  # noqa: E402
from verdict.data import draw  # noqa: E402
from verdict.oracle import Truth  # noqa: E402

INJECTED = set(CAUSE_NAMES) - {"data_bug", "evaluation_not_deterministic", "unknown"}
PARTS = ("calibration", "test")


@pytest.mark.parametrize("part", PARTS)
def test_every_cause_is_planned_beside_its_healthy_run(part):
    plans = plan.make_plans(part)
    assert plans == plan.make_plans(part)
    by_name = {planned.name: planned for planned in plans}
    assert len(by_name) == len(plans)
    singles = Counter(p.cause for p in plans if p.cause and "+" not in p.cause)
    assert set(singles) == INJECTED
    assert min(singles.values()) >= {"calibration": 18, "test": 10}[part]
    assert {p.cause for p in plans if "+" in p.cause} == {m.cause for m in injections.MIXTURES}
    assert all(set(m.cause.split("+")) <= INJECTED for m in injections.MIXTURES)
    for planned in plans:
        assert bool(planned.cause) == (planned.role == "volatile") == bool(planned.strength)
        if planned.twin:
            twin = by_name[planned.twin]
            same = ("data", "seed", "n_train", "n_val")
            assert all(getattr(twin, name) == getattr(planned, name) for name in same)
            assert twin.role == "healthy"
            changed = (planned.arguments, planned.change) != (twin.arguments, twin.change)
            assert changed, planned.name
    assert len(plan.make_plans("test")) <= 400


def test_every_strength_of_every_cause_is_in_the_test():
    strengths = {(p.cause, p.strength) for p in plan.make_plans("test") if p.cause}
    assert strengths >= {(cause, s) for cause in INJECTED for s in (1, 2, 3, 4)}


def test_calibration_and_test_share_neither_data_nor_seeds_nor_strengths():
    calibration, test = (plan.make_plans(part) for part in PARTS)
    assert not {p.data for p in calibration} & {p.data for p in test}
    assert not {p.seed for p in calibration} & {p.seed for p in test}
    for injection in (*injections.INJECTIONS, *injections.MIXTURES, *injections.HOT):
        assert len(injection.calibration) == len(injection.test) == 4, injection.kind
        both = [{json.dumps(s) for s in lot} for lot in (injection.calibration, injection.test)]
        assert not both[0] & both[1], injection.kind


def test_the_words_of_a_plan_survive_json():
    for planned in (p for part in PARTS for p in plan.make_plans(part)):
        told = {f.name: getattr(planned, f.name) for f in fields(planned)}
        again = plan.FaultPlan(**json.loads(json.dumps(told)))
        assert runs.read_arguments(again.arguments, 4).keys() == planned.arguments.keys()


def test_shards_are_a_partition_and_keep_twins_together():
    plans = plan.make_plans("test")
    lots = [plan.shard_of(plans, index, 3) for index in (1, 2, 3)]
    assert sorted(p.name for lot in lots for p in lot) == sorted(p.name for p in plans)
    for lot in lots:
        assert {p.twin for p in lot if p.twin} <= {p.name for p in lot}
    assert max(map(len, lots)) < 2 * min(map(len, lots))


@pytest.mark.parametrize("part", PARTS)
def test_the_quick_form_is_small_and_has_most_causes(part):
    quick = plan.make_plans(part, quick=True)
    whole = bench_fluctuation.with_repeats(quick, bench_fluctuation.QUICK_REPEATS)
    assert len(whole) <= 70
    assert len({p.cause for p in quick} & INJECTED) >= 12
    assert {p.twin for p in quick if p.twin} <= {p.name for p in quick}
    assert {p.role for p in quick} == {"healthy", "control", "volatile"}


def test_repeats_are_of_injected_runs_and_their_twins_in_the_test():
    plans = plan.make_plans("test")
    whole = bench_fluctuation.with_repeats(plans, 3)
    extra = [p for p in whole if p.repeat]
    twins = {p.twin for p in plans if p.twin}
    assert len(extra) == 2 * (sum(bool(p.twin) for p in plans) + len(twins))
    assert {p.twin for p in extra if p.twin} <= {p.name for p in extra}
    calibration = plan.make_plans("calibration")
    assert bench_fluctuation.with_repeats(calibration, 3) == calibration


@pytest.fixture(scope="module")
def parts():
    return draw("pulses", 5, 60, 20)


def rng():
    return np.random.default_rng(0)


def test_units_change_every_part_alike_and_are_undone_by_scaling(parts):
    units = {"factor": 30.0, "offset": 100.0, "one": 1000.0}
    changed = data.change_parts(parts, {"units": units}, rng())
    X = changed.train.X.astype(float)
    np.testing.assert_allclose(X.mean(axis=(0, 1)), 100.0, atol=30000 * 1e-5)
    np.testing.assert_allclose(X.std(axis=(0, 1)), [30000.0, 30.0], rtol=1e-4)
    mean, sd = parts.train.X.mean(axis=(0, 1)), parts.train.X.std(axis=(0, 1))
    expected = [30000.0, 30.0] * (parts.fresh.X - mean) / sd + 100.0
    np.testing.assert_allclose(changed.fresh.X, expected, rtol=1e-3, atol=0.5)


def test_lengths_change_as_asked_for(parts):
    n_steps = parts.train.X.shape[1]
    longer = data.change_parts(parts, {"oversampled": 4}, rng()).train.X
    assert longer.shape[1] == 4 * n_steps
    np.testing.assert_allclose(longer[:, [0, -1]], parts.train.X[:, [0, -1]], rtol=1e-6)
    tail = data.change_parts(parts, {"zero_tail": 3}, rng()).fresh.X
    assert tail.shape[1] == 3 * n_steps
    assert not tail[:, n_steps:].any()
    noise = data.change_parts(parts, {"noise_tail": 2}, rng()).validation.X[:, n_steps:]
    np.testing.assert_allclose(noise.std(axis=(0, 1)), parts.train.X.std(axis=(0, 1)), rtol=0.1)
    short = data.change_parts(parts, {"shortened": 0.25}, rng())
    assert {part.X.shape[1] for part in (short.train, short.validation, short.fresh)} == {15}


def test_windows_of_several_lengths_stay_so_until_their_padding_is_mistaken(parts):
    lengths = np.arange(len(parts.train)) % 50 + 10
    padded = np.where(np.arange(60)[:, None] < lengths[:, None, None], parts.train.X, 0.0)
    whole = replace(parts, train=replace(parts.train, X=padded, lengths=lengths))
    longer = data.change_parts(whole, {"oversampled": 2}, rng()).train
    np.testing.assert_array_equal(longer.lengths, 2 * lengths)
    short = data.change_parts(whole, {"shortened": 0.25}, rng()).train
    assert short.lengths.max() == short.X.shape[1] == 15
    assert data.change_parts(whole, {"zero_tail": 2}, rng()).train.lengths is None


@pytest.mark.parametrize("kind", ["flipped", "flipped_to_next"])
def test_labels_are_flipped_in_that_share_and_never_in_the_fresh_part(kind):
    whole = draw("pulses", 5, 2000, 400)
    changed = data.change_parts(whole, {kind: 0.3}, rng())
    differ = changed.train.y != whole.train.y
    assert differ.mean() == pytest.approx(0.3, abs=0.04)
    assert (changed.validation.y != whole.validation.y).mean() == pytest.approx(0.3, abs=0.08)
    np.testing.assert_array_equal(changed.fresh.y, whole.fresh.y)
    if kind == "flipped_to_next":
        assert set((changed.train.y - whole.train.y)[differ] % 6) == {1}


def test_bursts_strike_training_windows_alone(parts):
    changed = data.change_parts(parts, {"burst_share": 0.02}, rng())
    moved = np.abs(changed.train.X - parts.train.X).max(axis=(1, 2))
    assert 1 <= (moved > 0).sum() <= 6
    least = data.BURST_SIZE * parts.train.X.std(axis=(0, 1)).min()
    assert moved[moved > 0].min() >= 0.99 * least
    np.testing.assert_array_equal(changed.validation.X, parts.validation.X)


@pytest.mark.parametrize("change", [{"shifted": 2.0}, {"stretched": 3.0}, {"n_val": 13}])
def test_a_change_of_the_validation_part_leaves_the_others(parts, change):
    changed = data.change_parts(parts, change, rng())
    np.testing.assert_array_equal(changed.train.X, parts.train.X)
    np.testing.assert_array_equal(changed.fresh.X, parts.fresh.X)
    if "n_val" in change:
        assert len(changed.validation) == 13
    else:
        assert not np.allclose(changed.validation.X, parts.validation.X)


def outcome(movement=0.005, level=0.8, *, probability=None, n_fresh=400, **more):
    given = {"above_chance": level - 0.2, "beats_guessing": True, "diverged": False, **more}
    truth = Truth(
        movement=movement,
        probability_movement=movement if probability is None else probability,
        **given,
    )
    return oracle.Outcome(truth, level, n_fresh)


CALM = outcome()
STUCK = outcome(level=0.2, above_chance=0.0, beats_guessing=False)


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([(CALM, CALM)], ""),
        ([(outcome(0.02), CALM)], "volatile"),
        ([(outcome(0.02, probability=0.006), CALM)], ""),  # one of the two figures alone
        ([(outcome(0.008), outcome(0.001))], ""),  # eight times nearly nothing
        ([(outcome(0.02), CALM), (outcome(0.004), CALM), (outcome(0.004), CALM)], ""),
        ([(outcome(0.03), CALM), (outcome(0.03), CALM), (outcome(0.004), CALM)], "volatile"),
        ([(outcome(level=0.7), CALM)], "less accurate"),
        ([(outcome(level=0.775), CALM)], ""),  # within an error
        ([(outcome(level=0.765), CALM)] * 3, "less accurate"),
        ([(outcome(level=0.765, n_fresh=20), outcome(n_fresh=20))], ""),
        ([(outcome(level=0.6), CALM), (outcome(level=0.81), CALM)], ""),  # not in every pair
        ([(STUCK, CALM)], "not learning"),
        ([(STUCK, STUCK)], ""),
        ([(outcome(diverged=True), CALM)], "diverged"),
        ([(outcome(diverged=True), CALM), (CALM, CALM), (CALM, CALM)], ""),
    ],
)
def test_a_fault_comes_true_against_its_twin(pairs, fault):
    found = oracle.manifested(pairs)
    assert found.fault == fault
    assert found.n_pairs == len(pairs)


@pytest.mark.parametrize(
    ("after", "is_repaired"),
    [
        (CALM, True),
        (outcome(0.02), False),  # not calm
        (outcome(0.009), True),  # below what counts as movement
        (outcome(level=0.785), True),
        (outcome(level=0.7), False),  # calm and worse
        (outcome(level=0.95), True),
        (outcome(diverged=True), False),
    ],
)
def test_a_repair_is_calm_and_as_accurate(after, is_repaired):
    assert oracle.is_repaired([(after, CALM)] * 2) is is_repaired


def test_harm_is_a_loss_beyond_an_error():
    assert oracle.is_harmed([(outcome(level=0.7), CALM)] * 2)
    assert not oracle.is_harmed([(outcome(level=0.79), CALM)] * 2)
    assert not oracle.is_harmed([(outcome(level=0.9), CALM)] * 2)
    error = math.sqrt(2 * 0.8 * 0.2 / 400)
    assert oracle.standard_error(CALM, CALM) == pytest.approx(error)


def test_an_outcome_comes_back_from_json():
    assert oracle.Outcome.from_dict(json.loads(json.dumps(STUCK.to_dict()))) == STUCK


def report(verdict, *named):
    causes = tuple(Cause(name, grade, sure, "") for name, grade, sure in named)
    return FluctuationReport(verdict, None, ("",), causes)


def test_answers_leave_out_what_is_rejected_and_say_normal_first():
    told = report(
        "fluctuating",
        ("optimizer", "rejected", 0.9),
        ("batch_size", "observed", 0.5),
        ("batch_size", "observed", 0.3),
        ("learning_rate", "proved", 0.4),
    )
    assert answers.answers_of(told) == [("batch_size", 0.5), ("learning_rate", 0.4)]
    assert answers.answers_of(report("fluctuating")) == [("unknown", 0.0)]
    calm = report("normal", ("small_validation_set", "observed", 0.7))
    assert answers.answers_of(calm)[0] == ("normal", 1.0)


@pytest.mark.parametrize(
    ("given", "cause", "fault", "n_first", "is_right"),
    [
        (["learning_rate"], "learning_rate", "volatile", 1, True),
        (["batch_size", "learning_rate"], "learning_rate", "volatile", 1, False),
        (["batch_size", "learning_rate"], "learning_rate", "volatile", 2, True),
        (["normal", "learning_rate"], "learning_rate", "volatile", 2, False),
        (["normal"], "learning_rate", "", 1, True),
        (["learning_rate"], "learning_rate", "", 1, False),  # benign: nothing is wrong
        (["normal"], "small_validation_set", "", 1, True),
        (["small_validation_set"], "small_validation_set", "", 1, True),
        (["learning_rate"], "small_validation_set", "", 1, False),
        (["normal"], "dropout_noise", "less accurate", 1, True),
        (["normal"], "dropout_noise", "volatile", 1, False),
        (["normal"], "weight_init", "less accurate", 1, False),
        (["normal"], "", "", 1, True),
    ],
)
def test_what_is_right_depends_on_what_came_true(given, cause, fault, n_first, is_right):
    right = answers.right_answers({"cause": cause}, fault)
    assert answers.is_right(given, right, n_first) is is_right


def test_equivalent_repairs_count_for_a_proof():
    assert answers.is_equivalent("batch_size", ("learning_rate",))
    assert answers.is_equivalent("learning_rate", ("learning_rate",))
    assert not answers.is_equivalent("weight_init", ("learning_rate",))


def one(name, cause, *, fault_level=0.6, answered=("normal", 1.0), repeat=0, **more):
    behind = f"@{repeat}" if repeat else ""
    role = "volatile" if cause else "healthy"
    planned = {
        "name": f"{name}{behind}",
        "role": role,
        "kind": f"makes {cause}" if cause else "plain",
        "data": "pulses",
        "seed": 1,
        "n_train": 100,
        "n_val": 40,
        "twin": f"twin{behind}" if cause else "",
        "cause": cause,
        "strength": 2 if cause else 0,
        "repeat": repeat,
        "arguments": {
            "learning_rate": 1e-3,
            "batch_size": 32,
            "hidden_size": 16,
            "max_epochs": 60,
        },
        "change": {},
        **more,
    }
    facts = {"n_train": 100, "n_val": 40, "n_classes": 4}
    level = fault_level if cause else 0.8
    verdict = "normal" if answered[0] == "normal" else "fluctuating"
    return seen.Seen(planned, facts, outcome(level=level), verdict, [answered])


def some_runs():
    named = [one("twin", "", repeat=r) for r in (0, 1, 2)]
    sick = ("learning_rate", 0.9)
    named += [one("a", "learning_rate", answered=sick, repeat=r) for r in (0, 1, 2)]
    named += [one("b", "optimizer", answered=sick, repeat=r) for r in (0, 1, 2)]
    named += [one("c", "weight_init", fault_level=0.8)]
    named += [one("d", "learning_rate+batch_size", answered=sick)]
    return {run.plan["name"]: run for run in named}


def row_of(rows, row, judge, kind="all"):
    found = [r for r in rows if (r["row"], r["judge"], r["kind"]) == (row, judge, kind)]
    assert len(found) == 1
    return found[0]


def test_rates_count_what_was_answered_and_repaired():
    good, bad = (outcome(level=level).to_dict() for level in (0.8, 0.5))
    probes = {
        "full": {
            "answers": [["learning_rate", 0.8]],
            "causes": [{"name": "learning_rate", "grade": "proved"}],
            "cost": 0.6,
            "trials": [["learning_rate", "learning_rate / 4", "snapshot", "confirmed", 20.0]],
        }
    }
    checked = {
        "full": {
            **probes["full"],
            "cost": 0.01,  # nothing was run again
            "trials": [["early_stopping", "keep the best", "inference", "rejected", 0.0]],
        }
    }
    repairs = {
        "a": {
            "probes": probes,
            "repairs": {
                "ours": {"change": {"learning_rate": 1e-4}, "outcomes": [good, good]},
                "cosine decay": {"change": {"lr_schedule": "cosine"}, "outcomes": [bad, bad]},
            },
        },
        "b": {"probes": checked, "repairs": {"ours": {"change": {}, "outcomes": None}}},
    }
    rows, facts = rates.judge(some_runs(), repairs, {})
    top = row_of(rows, table.TOP_1, table.STATISTICS)
    assert (top["hits"], top["runs"]) == (1, 2)
    assert row_of(rows, table.TOP_1, table.STATISTICS, "optimizer")["hits"] == 0
    nothing = row_of(rows, table.NOTHING, table.STATISTICS)
    assert (nothing["hits"], nothing["runs"]) == (2, 2)  # the twin, and what came to nothing
    mixed = row_of(rows, table.MIXED, table.STATISTICS)
    assert (mixed["hits"], mixed["runs"]) == (0, 1)
    repaired = row_of(rows, table.REPAIRED, repair.OURS)
    assert (repaired["hits"], repaired["runs"]) == (1, 2)
    harmed = row_of(rows, table.HARMED, simple.COSINE)
    assert (harmed["hits"], harmed["runs"]) == (1, 1)
    proved = row_of(rows, table.PROVED, table.PROBED)
    assert (proved["hits"], proved["runs"]) == (2, 2)  # rate and optimizer: one repair
    itself = row_of(rows, table.PROVED, table.PROBED, "the injected cause itself")
    assert (itself["hits"], itself["runs"]) == (1, 2)
    repeated = row_of(rows, table.REPEATED, table.STATISTICS)
    assert (repeated["hits"], repeated["runs"]) == (2, 2)
    cost = row_of(rows, table.COST, table.PROBED, "median")
    assert cost["value"] == pytest.approx(0.6)
    assert facts["confusion"][table.STATISTICS]["optimizer"] == {"learning_rate": 1}
    assert facts["came_true"]["weight_init: makes weight_init"] == {"benign": 1}
    said = words.format_rows(rows, facts)
    assert "1 of    2" in said
    json.dumps([rows, facts], allow_nan=False)


def test_nothing_is_counted_of_a_rate_that_does_not_fall():
    held = some_runs()
    constant = {**held["twin"].plan["arguments"], "lr_schedule": "constant"}
    held["c"].plan["arguments"] = constant
    rows, facts = rates.judge(held, {}, {})
    assert row_of(rows, table.NOTHING, table.STATISTICS)["runs"] == 1
    assert row_of(rows, table.NOTHING, table.STATISTICS, "at a constant rate")["runs"] == 1
    assert facts["confusion"][table.STATISTICS]["normal"] == {"normal": 1}


def test_the_same_configuration_is_told_apart_or_not():
    # All have the same arguments; of a, b and the mixture the optimizer alone is not named.
    rows, _ = rates.judge(some_runs(), {}, {})
    told = row_of(rows, table.SAME_ARGUMENTS, table.STATISTICS)
    assert (told["hits"], told["runs"]) == (2, 3)


def test_a_run_whose_twin_did_not_learn_is_left_out():
    held = some_runs()
    held["twin"].outcome = STUCK
    settled, left_out = seen.settle(held)
    assert settled == []
    assert sum(left_out.values()) == 5


def test_reliability_of_answers_that_are_as_sure_as_they_are_right():
    lot = []
    for k in range(100):
        run = one(f"r{k}", "learning_rate", answered=("learning_rate", 0.75))
        run.right = frozenset({"learning_rate" if k % 4 else "optimizer"})
        run.by = {"ours": run.answers}
        lot.append(run)
    found = confidence.reliability(lot, "ours")
    assert found["expected_error"] == pytest.approx(0.0, abs=1e-9)
    assert [(b["runs"], b["right"]) for b in found["bins"]] == [(100, 0.75)]


def test_a_quantile_of_clusters_that_go_together_is_less_sure():
    values = np.concatenate([np.full(20, 0.2), np.full(20, 0.9)] * 2)
    alone = table.cluster_quantile(values, range(80), 0.5)
    together = table.cluster_quantile(values, np.arange(80) // 20, 0.5)
    assert alone[1] - alone[0] <= together[1] - together[0]
    assert together == (0.2, 0.9)


def test_the_configuration_alone_learns_what_arguments_tell():
    def asked(k, rate):
        run = one(f"q{k}", "learning_rate" if rate > 0.01 else "")
        run.plan["arguments"] = {**run.plan["arguments"], "learning_rate": rate}
        run.right = frozenset({"x"})
        run.manifestation = oracle.manifested([(outcome(level=0.5), CALM)]) if rate > 0.01 else None
        return run

    learned = [asked(k, 1e-3 if k % 2 else 0.1) for k in range(40)]
    low, high = asked(1, 2e-3), asked(2, 0.2)
    configuration.guess_from_configuration(learned, [low, high], "alone")
    assert low.by["alone"][0][0] == "normal"
    assert high.by["alone"][0][0] == "learning_rate"


def test_every_planned_configuration_is_numbers():
    facts = {"n_train": 100, "n_val": 40, "n_classes": 4}
    plans = [p for part in PARTS for p in plan.make_plans(part)]
    rows = [configuration.features_of({"arguments": p.arguments}, facts) for p in plans]
    assert np.isfinite(np.array(rows, float)).all()


def test_simple_repairs_change_what_they_say():
    planned = next(p for p in plan.make_plans("test") if p.cause == "learning_rate")
    rate = planned.arguments["learning_rate"]
    assert simple.slower_and_clipped(planned) == {"learning_rate": rate / 10, "max_grad_norm": 1.0}
    assert simple.random_repair(planned) == simple.random_repair(planned)
    drawn = {json.dumps(simple.random_repair(replace(planned, seed=seed))) for seed in range(200)}
    assert len(drawn) == len(simple.usual_repairs(planned.arguments))


def small(cause, part="test", **more):
    """A planned run made small: a few windows, a few epochs."""
    planned = next(
        p for p in plan.make_plans(part) if p.cause == cause and p.arguments["batch_size"]
    )
    arguments = {**planned.arguments, "hidden_size": 4, "max_epochs": 6, "batch_size": 16}
    change = {k: v for k, v in planned.change.items() if k != "hard"}
    return replace(
        planned, data="pulses", n_train=40, n_val=20, arguments=arguments, change=change, **more
    )


@pytest.mark.parametrize("cause", ["preprocessing", "loss", "weight_init", "sequence_length"])
def test_a_run_comes_back_as_it_was(tmp_path, cause):
    evidence = runs.train(small(cause))
    assert evidence.plan["cause"] == cause
    assert evidence.fresh["accuracy"].shape == (6,)
    path = tmp_path / "run.npz"
    runs.save(evidence, path)
    again = runs.load(path)
    assert (again.plan, again.rows, again.facts) == (evidence.plan, evidence.rows, evidence.facts)
    for field in fields(again.record):
        value = getattr(evidence.record, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again.record, field.name), value)
    assert oracle.find_outcome(again) == oracle.find_outcome(evidence)
    both = [answers.answers_of(answers.report_of(run)) for run in (evidence, again)]
    assert both[0] == both[1]


def test_the_fresh_part_is_seen_as_the_classifier_sees_it():
    planned = small("preprocessing")
    planned = replace(planned, arguments={**planned.arguments, "scale": "standard"})
    pieces = runs.draw_parts(planned)
    classifier = runs.make_classifier(
        replace(planned, arguments={**planned.arguments, "restore_best": False}), 6
    )
    _, watch = runs.fit(classifier, pieces)
    score = classifier.score(pieces.fresh.X, pieces.fresh.y)
    assert watch.figures["accuracy"][-1] == pytest.approx(score, abs=1e-6)


def test_a_repeat_has_the_data_and_other_first_weights():
    planned = small("label_noise")
    again = runs.repeated(planned, 1)
    np.testing.assert_array_equal(runs.draw_parts(planned).train.X, runs.draw_parts(again).train.X)
    losses = [runs.train(p).rows[0]["loss"] for p in (planned, again)]
    assert losses[0] != losses[1]


def test_every_repair_is_fitted_anew_or_changes_nothing():
    planned = small("preprocessing")
    planned = replace(planned, arguments={**planned.arguments, "max_epochs": 13})
    found = repair.repair(planned, 2)
    found["repairs"] |= rivals.repair_simply(planned, runs.train(planned), 2)
    json.dumps(found)
    assert set(found["probes"]) == {"full", "quick"}
    assert found["probes"]["full"]["answers"]
    assert set(found["repairs"]) == {repair.OURS, repair.OURS_UNPROVED, *simple.RIVAL_REPAIRS}
    for held in found["repairs"].values():
        assert (held["outcomes"] is None) == (not held["change"])
        for told in held["outcomes"] or []:
            assert oracle.Outcome.from_dict(told).n_fresh == 400


def test_a_run_that_cannot_be_probed_keeps_its_answers():
    planned = small("preprocessing")
    classifier = runs.make_classifier(planned, 6)
    classifier.fluctuation_ = report("diverged", ("learning_rate", "observed", 0.6))
    found, proof = repair.probe(runs.draw_parts(planned), classifier, 1.0)
    assert proof is None
    assert found["answers"] == [("learning_rate", 0.6)]
    assert found["cost"] is None
    assert found["error"]


def test_a_few_runs_are_trained_repaired_judged_and_not_written(tmp_path, monkeypatch, capsys):
    def tiny(part, *, quick):
        assert quick
        sick = small("preprocessing", part)
        arguments = {**sick.arguments, "scale": "standard", "max_epochs": 14}
        twin = replace(
            sick, name=sick.twin, twin="", role="healthy", cause="", strength=0, change={}
        )
        return [
            replace(twin, arguments=arguments),
            replace(sick, arguments={**arguments, "scale": None}),
        ]

    monkeypatch.setattr(bench_fluctuation, "make_plans", tiny)
    monkeypatch.setattr(bench_fluctuation.torch, "set_num_threads", lambda n: None)
    command = ["bench_fluctuation.py", "--quick", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    assert bench_fluctuation.main() == 0
    said = capsys.readouterr().out
    assert "results/fluctuation.json is left as it was" in said
    assert "results/fluctuation_calibration.json is left as it was" in said
    kept = tmp_path / "quick" / "test"
    assert len(list(kept.glob("*.npz"))) == 4  # two, each from two seeds
    assert not list(kept.glob("*.part"))
    before = sorted(path.stat().st_mtime_ns for path in kept.iterdir())
    assert bench_fluctuation.main() == 0
    assert sorted(path.stat().st_mtime_ns for path in kept.iterdir()) == before
