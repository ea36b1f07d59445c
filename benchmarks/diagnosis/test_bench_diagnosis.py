"""Tests of the diagnosis benchmark: faults, resets, true causes of a row, and resuming."""

import json
from dataclasses import replace

import bench_diagnosis
import numpy as np
import pytest
from common.json_lines import read_lines
from common.measured_code import MeasuredCode
from diagnosis import faults, fits, generate, resets, score, truth, windows
from diagnosis.configuration import ConfigurationGuess, deviations
from verdict.data import GENERATED, MEASURED, draw
from verdict.runs import load

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.causes import CAUSE_NAMES, SETTINGS, Cause, find_causes

pytestmark = pytest.mark.benchmarks
SIZES = (120, 50)


@pytest.fixture(scope="module")
def parts():
    return draw("sinusoids", 3, 40, 20)


@pytest.mark.parametrize(
    "fault", [*faults.FAULTS, *faults.DATA_FAULTS, *faults.BENIGN], ids=lambda of: of.kind
)
def test_a_fault_changes_only_arguments_of_its_cause(fault):
    for seed in range(5):
        made = faults.inject(fault, np.random.default_rng(seed), *SIZES)
        changed = {name for name in made.twin if made.settings[name] != made.twin[name]}
        of_data = {name for name in made.change if made.change[name] != made.twin_change.get(name)}
        assert set(made.settings) == set(made.twin)
        if fault.cause:
            assert changed | of_data
            assert changed <= set(resets.ARGUMENTS_OF.get(fault.cause, ()))
            assert of_data <= set(faults.DATA_CHANGES_OF.get(fault.cause, ()))
            assert fault.cause in CAUSE_NAMES
        json.dumps([made.settings, made.change])


def test_every_cause_of_a_family_is_injected():
    injected = [*faults.FAULTS, *faults.DATA_FAULTS]
    assert {of.cause for of in injected} == set(faults.FAMILY_OF)


def test_drawn_settings_are_arguments_of_the_classifier():
    rng = np.random.default_rng(0)
    arguments = {*fits.DEFAULTS}
    for _ in range(50):
        settings = faults.draw_settings(rng)
        assert set(settings) <= arguments
        json.dumps(settings)
    assert set(faults.draw_twin(rng)) <= arguments


def test_no_data_set_is_in_both_parts_and_every_one_is_in_one():
    calibration, test = (set(windows.SETS_OF[part]) for part in ("calibration", "test"))
    assert not calibration & test
    assert set(windows.SETS_OF["sick"]) == test
    assert calibration | test == {*MEASURED, *GENERATED}


def test_settings_become_arguments():
    settings = {"optimizer": "adam", "momentum": 0.9, "weight_init": "normal 2"}
    made = fits.as_arguments(settings | {"class_weight": "first x 5"}, 3)
    assert "momentum" not in made
    assert fits.as_arguments({"optimizer": "sgd", "momentum": 0.5}, 3)["optimizer_params"] == {
        "momentum": 0.5
    }
    assert made["weight_init"].sd == 2
    assert made["class_weight"] == {0: 5.0, 1: 1.0, 2: 1.0}
    assert made["refit"] is None


@pytest.mark.parametrize(
    "change",
    [
        *({"random_labels": 0.3}, {"confused_labels": 0.3}, {"dead": 0.3}, {"mixed_units": 50.0}),
        *({"clipped": 0.2}, {"duplicates": 0.7}, {"shift": 2.0}, {"gain": 2.0}, {"n_val": 9}),
    ],
    ids=str,
)
def test_faulty_data_leave_the_fresh_windows(parts, change):
    changed = windows.change_parts(parts, change, 0)
    for name in ("X", "y"):
        assert np.array_equal(getattr(changed.fresh, name), getattr(parts.fresh, name))
    touched = {
        name for name in ("train", "validation") for _ in (0,) if _differs(parts, changed, name)
    }
    (name,) = change
    alone = {"shift": "validation", "gain": "validation", "n_val": "validation"}
    alone["duplicates"] = "train"
    assert touched == ({alone[name]} if name in alone else {"train", "validation"})
    if "labels" in name:
        assert (changed.train.y != parts.train.y).mean() == pytest.approx(0.3, abs=0.2)


def _differs(parts, changed, name):
    original, altered = getattr(parts, name), getattr(changed, name)
    return len(original) != len(altered) or bool(
        (original.X != altered.X).any() or (original.y != altered.y).any()
    )


def test_units_are_the_same_in_every_part(parts):
    changed = windows.change_parts(parts, {"units": (10.0, 2.0)}, 0)
    sd = parts.train.X.std()
    assert np.allclose(changed.fresh.X, 10 * (parts.fresh.X + 2 * sd), rtol=1e-4)


def settings_of(**changed):
    return {**faults.draw_twin(np.random.default_rng(0)), **changed}


def test_a_reset_changes_arguments_of_one_cause():
    settings = settings_of(
        learning_rate=0.1, scale=None, batch_size=2, dropout=0.8, max_timesteps=5
    )
    full = {**resets.DEFAULTS, **fits.FIXED, **settings}
    all_resets = resets.list_resets(settings, {}, *SIZES, twin=settings_of(), cause="learning_rate")
    singles = [reset for reset in all_resets if reset.cause]
    assert {"learning_rate", "preprocessing", "batch_size", "regularization"} <= {
        reset.cause for reset in singles
    }
    for reset in singles:
        changed = {name for name in full if reset.settings[name] != full[name]}
        assert changed
        assert changed <= set(resets.ARGUMENTS_OF[reset.cause])
    assert len({reset.name for reset in all_resets}) == len(all_resets)


def test_defaults_are_not_reset():
    names = {reset.name for reset in resets.list_resets(settings_of(), {}, *SIZES)}
    assert not names & {"preprocessing: default", "loss: default", "sequence_length: default"}
    assert resets.COSINE not in names  # the twin already has the cosine schedule


def test_the_reset_of_wrong_labels_is_clean_data():
    change = {"units": (1.0, 2.0), "random_labels": 0.2}
    all_resets = resets.list_resets(settings_of(), change, *SIZES)
    (clean,) = (reset for reset in all_resets if reset.cause == "label_noise")
    assert clean.change == {"units": (1.0, 2.0)}


@pytest.mark.parametrize(
    ("level", "movement", "before", "fluctuates", "repaired"),
    [
        (0.86, 0.5, 0.5, False, True),  # the run was calm, so only the level counts
        (0.84, 0.01, 0.5, False, False),
        (0.86, 0.25, 0.5, True, True),  # half
        (0.86, 0.26, 0.5, True, False),
        (0.86, 0.022, 0.03, True, True),  # as calm as a healthy run
        (0.86, None, 0.5, True, False),  # the loss is not finite
        (0.86, 0.1, None, True, False),  # no movement to halve: the loss was not finite before
        (0.86, 0.01, None, True, True),
    ],
)
def test_strict_repairs(level, movement, before, fluctuates, repaired):
    held = resets.repairs(level, movement, best=0.9, before=before, fluctuates=fluctuates)
    assert held is repaired


def row(name="a", level=0.5, movement=0.01, *, data="x", settings=None, fresh=None, **after):
    """Make a row; `after` gives the level after the reset of each cause."""
    outcomes = {resets.SAME: {"cause": "", "level": level, "movement": movement}}
    outcomes |= {
        f"{cause}: default": {"cause": cause, "level": to, "movement": movement}
        for cause, to in after.items()
    }
    return {
        "name": name,
        "data": data,
        "role": "natural",
        "cause": "",
        "level": level,
        "movement": movement,
        "known": {"tuned": 0.9, "twin 1": 0.9, "twin 3": 0.8},
        "resets": outcomes,
        "report": {"n_classes": 4},
        "fresh": fresh or [level] * 20,
        "settings": settings or settings_of(),
        "sizes": [100, 50, 50, 1],
        "verdict": "normal",
        "fault": "",
        "minor_fault": "",
        "answers": [["normal", ""]],
    }


def test_all_causes_whose_reset_repairs_are_right():
    causes = truth.right_causes(row(batch_size=0.88, loss=0.6, optimizer=0.8))
    assert causes == {"batch_size"}
    causes = truth.right_causes(row(batch_size=0.88, loss=0.6, optimizer=0.5), strictly=False)
    assert causes == {"batch_size", "loss"}
    assert truth.families_of(causes) == {"step", "start"}


def test_a_healthy_run_and_one_that_another_seed_repairs_have_no_cause():
    assert truth.right_causes(row(level=0.9, batch_size=0.95)) == set()
    lucky = row(batch_size=0.88)
    lucky["resets"][resets.SAME]["level"] = 0.9
    assert truth.right_causes(lucky) == set()


def test_runs_that_move_and_runs_that_fail():
    assert truth.moves_or_fails(row(level=0.3))
    assert not truth.moves_or_fails(row(level=0.8))
    assert truth.moves_or_fails(row(level=0.8, fresh=[0.8, 0.9] * 10))
    assert truth.is_sick(row(level=0.9, movement=0.1))
    assert truth.is_sick(row(level=0.9, movement=None))


def test_healthy_runs_are_clearly_better_than_a_guess():
    assert truth.is_healthy(row(level=0.9))
    assert not truth.is_healthy(row(level=0.9) | {"guess": 0.8})
    assert not truth.is_healthy(row(level=0.84))
    assert not truth.is_healthy(row(level=0.9, movement=0.03))


def test_the_configuration_alone_finds_arguments_far_from_the_defaults():
    far = {
        "step": {"learning_rate": 1.0},
        "capacity": {"hidden_size": 1},
        "data": {"scale": None},
        "start": {"forget_bias": -8.0},
        "stopping": {"max_epochs": 2},
    }
    rows = [row(settings=settings_of(**changed)) for changed in far.values()]
    assert all(np.isfinite(list(deviations(of).values())).all() for of in rows)
    guess = ConfigurationGuess(rows * 8, [{family} for family in far] * 8)
    assert [guess.first(of) for of in rows] == list(far)


def test_mcnemar_counts_where_judges_differ():
    assert score.mcnemar([True] * 6 + [False], [False] * 6 + [False]) == pytest.approx(2 / 64)
    assert score.mcnemar([True, False], [True, False]) == 1.0


def test_the_score_of_made_up_rows():
    rows = [
        row("a", batch_size=0.88),
        row("b", batch_size=0.5, loss=0.88),
        row("c", level=0.9),
        row("d", level=0.3, data="y", model_complexity=0.9),
    ]
    answers = {
        "a": ("fluctuating", "step"),
        "b": ("normal", "step"),
        "c": ("fluctuating", "step"),
        "d": ("not_learning", "capacity"),
    }
    again = {**answers, "a": ("fluctuating", "start")}
    lines = score.score(rows, answers, again=again)
    count = {(of["table"], of["runs"], of["who"]): of["count"] for of in lines}
    ours = score.OURS
    assert count["family first", "a single reset repairs", ours] == [2, 3]
    assert count[
        "family first", "a single reset repairs, among runs that fluctuate or fail", ours
    ] == [1, 1]
    assert count["verdict", "healthy, called sick", ours] == [1, 1]
    assert count["verdict", "fails, called sick", ours] == [1, 1]
    assert count["seeds", "sick, a family named", ours] == [2, 3]
    assert count["repairs", "sick", score.BEST] == [3, 3]
    assert count["repairs", "sick", resets.SAME] == [0, 3]


SLOW = {"batch_size": None}  # cannot make a loss move
NARROW = {"hidden_size": 4}


@pytest.mark.parametrize(
    ("verdict", "told", "settings", "named"),
    [
        ("not_learning", {}, NARROW, "model_complexity"),
        ("not_learning", {"minor_fault": "data_bug"}, NARROW, "model_complexity"),
        ("not_learning", {"fault": "data_bug"}, NARROW, "data_bug"),
        ("not_learning", {"minor_fault": "data_bug"}, {}, "data_bug"),
        ("not_learning", {}, SLOW, "batch_size"),
        ("fluctuating", {}, SLOW, ""),
        ("normal", {}, NARROW, ""),
        ("normal", {"fault": "data_bug"}, NARROW, "data_bug"),
        ("normal", {"answers": [["normal", "label_noise"]]}, {}, "label_noise"),
        ("too_short_to_tell", {}, NARROW, ""),
    ],
)
def test_the_cause_of_a_row_is_the_first_one_of_its_report(verdict, told, settings, named):
    twin = settings_of(lr_schedule="cosine", learning_rate=3e-3, batch_size=100, optimizer="adam")
    of = row(settings={**twin, "batch_size": 16, **settings}) | {"answers": [[verdict, ""]]} | told
    of["sizes"] = [300, 50, 50, 1]
    arguments = score.arguments_of(of)
    kinds = {"fault": False, "minor_fault": True}
    facts = [Cause(of[kind], kind, is_minor=kinds[kind]) for kind in kinds if of[kind]]
    assert score.answer(of, 0) == (verdict, faults.FAMILY_OF.get(named, ""), named)
    if of["answers"][0][1]:
        return  # the curve is not in the row
    rough = metrics.Run({}, 0, n_val=None, n_train=300, n_classes=None, **NO_CURVE)
    reported = [cause.name for cause in find_causes(rough, verdict, arguments, facts)]
    assert next((name for name in reported if name != "unknown"), "") == named


NO_CURVE = {"majority_fraction": None, "best_epoch": None}


def test_settings_are_named_in_the_order_of_how_often_their_reset_helped():
    rows = read_lines(bench_diagnosis.RESULTS / bench_diagnosis.ROWS)
    lines = score.score_ranges([row for row in rows if row["part"] == "calibration"])
    assert len(lines) == len({setting.title for setting in SETTINGS})
    # few runs are weighed with two more, at the mean share of a quarter
    shares = [(line["count"][0] + 0.5) / (line["count"][1] + 2) for line in lines]
    assert shares == sorted(shares, reverse=True)


@pytest.fixture
def tiny(monkeypatch):
    """Limit a draw to two runs of a few epochs, with few resets."""

    def plan_draw(part, number, n_train, n_steps):
        rng = np.random.default_rng(number)
        made = faults.inject(faults.FAULTS[number], rng, n_train, n_steps)
        made = replace(made, twin={**made.twin, "max_epochs": 4})
        short = {**made.settings, "max_epochs": 4, "hidden_size": 4}
        drawn = {**faults.draw_settings(rng), "max_epochs": 4, "hidden_size": 3, "num_layers": 1}
        return [
            generate.Planned(0, generate.NATURAL, drawn, {}),
            generate.Planned(1, generate.INJECTED, short, made.change, made),
        ]

    whole = resets.list_resets
    monkeypatch.setattr(generate, "plan_draw", plan_draw)
    monkeypatch.setattr(generate, "list_resets", lambda *a, **k: whole(*a, **k)[:4])
    monkeypatch.setitem(generate.TUNED, "max_epochs", 3)
    monkeypatch.setitem(windows.SETS_OF, "calibration", ("sinusoids", "pulses"))


def _without_times(rows):
    return {
        name: {key: value for key, value in of.items() if key not in ("fit_s", "row_s", "history")}
        for name, of in rows.items()
    }


@pytest.mark.trains
def test_a_run_that_was_stopped_gives_the_same_rows(tiny, tmp_path, capsys):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = ["--data", "calibration", "--draws", "2", "--work"]
    assert bench_diagnosis.main([*arguments, str(whole)]) == 0
    expected = generate.read_rows(whole / "calibration.jsonl")
    assert list(expected) == [f"calibration-{draw}-{slot}" for draw in (0, 1) for slot in (0, 1)]

    stopped.mkdir()
    first = json.dumps(expected["calibration-0-0"])
    second = json.dumps(expected["calibration-0-1"])
    (stopped / "calibration.jsonl").write_text(f"{first}\n{second[: len(second) // 2]}")
    assert bench_diagnosis.main([*arguments, str(stopped)]) == 0
    rows = generate.read_rows(stopped / "calibration.jsonl")
    assert _without_times(rows) == _without_times(expected)

    run = load(whole / "records" / "calibration-1-1.npz")
    assert len(run.rows) == run.record.n_epochs == 4
    assert (whole / "records" / "calibration-1-1-again.npz").exists()
    capsys.readouterr()
    assert bench_diagnosis.main(["--work", str(whole), "--show"]) == 0
    assert "healthy, called sick" in capsys.readouterr().out

    judged = bench_diagnosis.judge_records(whole, None)
    as_test = [row | {"part": "test"} for row in judged]
    code = MeasuredCode.of(bench_diagnosis.__file__)
    bench_diagnosis.write_table([*judged, *as_test], code, keep=True, folder=tmp_path)
    _check_table(tmp_path)
    said = json.loads((tmp_path / "diagnosis.json").read_text())["environment"]
    assert said["measurements"] == [code.stamp()]


def _check_table(folder):
    table = json.loads((folder / "diagnosis.json").read_text())
    text = (folder / bench_diagnosis.ROWS).read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    first, last = (table["environment"][of]["runs"] for of in ("learned", "judged"))
    learned, judged, sick = rows[:first], rows[first : first + last], rows[first + last :]
    lines = bench_diagnosis.lines_of(judged, learned)
    if sick:
        lines += bench_diagnosis.lines_of_sick(sick, learned)
    lines += score.score_ranges(learned)
    assert json.loads(json.dumps(lines)) == table["rows"]


def test_the_committed_table_agrees_with_the_committed_rows():
    if not (bench_diagnosis.RESULTS / "diagnosis.json").exists():
        pytest.skip("nothing was measured yet")
    _check_table(bench_diagnosis.RESULTS)
