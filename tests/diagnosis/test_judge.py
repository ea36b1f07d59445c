"""Verdicts on the histories and records of runs that are simulated from known causes."""

import json
import math
import re

import numpy as np
import pytest

from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.thresholds import FIXED_LOSS_NOISE_NATS, MIN_GROUPS, SURE_SHARE
from sensorseq.diagnosis.thresholds import VALIDATION_LOSS_NOISE_NATS as VAL_LOSS_NOISE_NATS
from sensorseq.history import TrainingRecord

N_CLASSES = 4
STEPS_PER_EPOCH = 10


def run_of(
    seed,
    *,
    n_epochs=40,
    n_val=120,
    n_groups=None,
    fixed_noise=0.01,
    running_noise=0.01,
    own=0.5,
    block=0.0,
    common=0.0,
    restless=0.0,
    plateau=0.4,
    cost=0.0,
    val_noise=0.02,
):
    """Return the history and record of a run whose loss reaches a plateau while windows flip.

    A window is correct if its score is above 0. Each window's score is a constant plus random
    changes that are specific to the window (of size `own`), shared by its recording (`block`) or
    shared by all windows (`common`). A fraction `restless` of the windows is correct at random in
    every epoch.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(n_epochs)
    smooth = plateau + (math.log(N_CLASSES) - plateau) * np.exp(-t / 4)
    noise = rng.normal(size=(3, n_epochs))
    fixed = smooth * (1 + fixed_noise * noise[0])
    groups = None if n_groups is None else np.arange(n_val) % n_groups
    score = rng.normal(1.2, 1.2, n_val) - 2 * np.exp(-t / 4)[:, None]
    score = score + own * rng.normal(size=(n_epochs, n_val)) + common * noise[0][:, None]
    if groups is not None:
        score += block * rng.normal(size=(n_epochs, n_groups))[:, groups]
    n_restless = round(restless * n_val)
    score[:, :n_restless] = rng.normal(size=(n_epochs, n_restless))
    target = rng.integers(0, N_CLASSES, n_val)
    predicted = np.where(score > 0, target, (target + 1) % N_CLASSES)
    n_steps = STEPS_PER_EPOCH * n_epochs
    history = {
        "loss": smooth * (1 + running_noise * noise[1]),
        "val_loss": 1.1 * smooth * (1 + val_noise * noise[2]),
        "accuracy": np.clip(0.9 - 0.6 * np.exp(-t / 4) + 0.003 * noise[1], 0, 1),
        "val_accuracy": (predicted == target).mean(axis=1),
    }
    record = TrainingRecord(
        epoch_steps=STEPS_PER_EPOCH * np.arange(n_epochs + 1),
        steps={
            "loss": np.repeat(smooth, STEPS_PER_EPOCH) + 0.1 * rng.normal(size=n_steps),
            "loss_variance": np.full(n_steps, 0.31),
            "n_windows": np.full(n_steps, 32.0),
            "grad_norm": rng.lognormal(size=n_steps),
        },
        fixed_loss=fixed,
        fixed_accuracy=np.clip(0.9 - 0.6 * np.exp(-t / 4) + 0.004 * noise[0], 0, 1),
        averaged_loss=float(fixed[-10:].mean()) - cost,
        val_target=target,
        val_groups=groups,
        val_predicted=predicted.astype(np.uint16),
        val_margin=np.abs(score).astype(np.float16) * np.where(predicted == target, 1, -1),
    )
    return history, record


def judged(history, record, **keywords):
    n_val = len(record.val_target) if record is not None else None
    keywords = {"n_val": n_val, "n_train": 320, "n_classes": N_CLASSES} | keywords
    best = int(np.argmin(history["val_loss"])) + 1
    return FluctuationReport.from_history(history, best_epoch=best, record=record, **keywords)


def kinds(report):
    return [statement.kind for statement in report.statements]


def report_of(seed=0, **keywords):
    return judged(*run_of(seed, **keywords))


# --- calibration --------------------------------------------------------------------------------


@pytest.mark.trains
def test_healthy_runs_raise_few_false_alarms_however_rough_their_curves_look():
    alarms = []
    for seed in range(72):
        keywords = {
            "n_epochs": (24, 40, 60)[seed % 3],
            "n_val": (20, 60, 300)[seed // 3 % 3],
            "n_groups": (None, 5, 15)[seed // 9 % 3],
            "block": (0.0, 0.5)[seed % 2],
            # dropout alone can make the running loss far noisier than its limit
            "running_noise": (0.01, 0.15)[seed // 2 % 2],
            "restless": (0.0, 0.1)[seed // 4 % 2],
        }
        if report_of(seed, **keywords).verdict != "normal":
            alarms.append((seed, keywords))
    assert len(alarms) <= 2, alarms


def test_runs_at_half_the_edges_raise_few_false_alarms_whatever_follows():
    # the noise is about half of the limits for a healthy run
    size = FIXED_LOSS_NOISE_NATS / 0.4 / 2
    verdicts = [
        report_of(seed, fixed_noise=size, common=0.1, val_noise=0.06).verdict for seed in range(12)
    ]
    assert verdicts.count("normal") >= 11


def test_a_model_that_moves_as_a_whole_is_found():
    reports = [
        report_of(seed, n_epochs=30, fixed_noise=0.4, common=0.6, val_noise=0.2, n_groups=15)
        for seed in range(10)
    ]
    assert sum(report.verdict == "fluctuating" for report in reports) >= 9
    assert sum(report.severity == "strong" for report in reports) >= 7
    assert {"loss_moves", "shares_grouped"} <= set(kinds(reports[0]))


# --- conditions for an alarm --------------------------------------------------------------------


def test_noise_in_one_third_of_the_run_is_not_lasting_noise():
    history, record = run_of(0, n_epochs=63)
    rng = np.random.default_rng(0)
    record.fixed_loss[10:26] += 0.2 * rng.normal(size=16)
    history["val_loss"] += 0.1 * rng.normal(size=63)
    assert judged(history, record).verdict == "normal"


def test_both_noises_in_an_alarm_are_significantly_above_their_limits():
    report = report_of(0, fixed_noise=0.4, val_noise=0.2)
    assert report.verdict == "fluctuating"
    edges = {"fixed_loss_noise": FIXED_LOSS_NOISE_NATS, "val_loss_noise": VAL_LOSS_NOISE_NATS}
    for name, edge in edges.items():
        noise = report.statistics[name]
        assert noise.floor == edge < noise.value
        assert SURE_SHARE * edge < noise.low < noise.value < noise.high
        assert noise.p < 0.02


def test_a_single_leap_of_one_loss_is_reported_but_raises_no_alarm():
    history, record = run_of(0, n_epochs=66, plateau=0.02)
    record.fixed_loss[60] += 1.0
    report = judged(history, record)
    assert report.statistics["fixed_loss_noise"].value > FIXED_LOSS_NOISE_NATS
    assert report.verdict == "normal"
    assert {"loss_unsure", "movement_leap"} <= set(kinds(report))


def test_a_leap_that_both_losses_show_in_one_epoch_is_the_model():
    history, record = run_of(0, n_epochs=66)
    record.fixed_loss[60] += 0.5
    history["val_loss"][61] += 0.5
    assert judged(history, record).verdict == "normal"
    history["val_loss"][60] += 0.5
    report = judged(history, record)
    assert (report.verdict, report.severity) == ("fluctuating", "mild")
    assert "leap up together in epoch 61:" in " ".join(report.explanation)


def restarts(seed, period=12):
    """Warm restarts: the loss leaps at each restart and decays again within three epochs."""
    history, record = run_of(seed, n_epochs=61)
    since = np.arange(61) % period
    leap = np.where(np.arange(61) >= period, 0.9 * np.exp(-since / 0.6), 0)
    for values in (history["loss"], history["val_loss"], record.fixed_loss):
        values += leap
    return history, record, 1e-3 * 0.5 * (1 + np.cos(np.pi * since / period))


def test_leaps_right_after_a_scheduled_rise_of_the_rate_are_not_spikes():
    for seed in range(2):
        history, record, rate = restarts(seed)
        without = judged(history, record)
        assert without.verdict == "fluctuating"
        assert without.statistics["train_loss_spikes"].value >= 4
        aware = judged(history | {"learning_rate": rate}, record)
        assert (aware.verdict, aware.statistics["train_loss_spikes"].value) == ("normal", 0)


def test_a_rate_that_always_rises_leaves_nothing_to_judge():
    history, record = run_of(0, fixed_noise=0.4)
    history["learning_rate"] = 1e-3 * 1.1 ** np.arange(40)
    report = judged(history, record)
    assert report.verdict == "normal"
    assert "loss_unjudged" in kinds(report)


# --- calm and restless models, with smooth and rough curves ---------------------------------------


def test_dropout_in_the_running_loss_does_not_count_against_a_calm_model():
    history, record = run_of(0, running_noise=0.3)
    assert judged(history, record).verdict == "normal"
    assert {"loss_calm", "movement_calm"} <= set(kinds(judged(history, record)))


def test_harmless_movement_is_normal_and_movement_that_raises_the_loss_is_mild():
    harmless = report_of(0, fixed_noise=0.3, cost=0.0)
    costly = report_of(0, fixed_noise=0.3, cost=0.3)
    assert harmless.verdict == "normal"
    assert "loss_harmless" in kinds(harmless)
    assert (costly.verdict, costly.severity) == ("fluctuating", "mild")
    assert "Averaging the weights would save 0.3" in " ".join(costly.explanation)
    assert "noise" in {statement.topic for statement in costly.statements}
    assert costly.statistics["excess_plateau_loss"].low > 0.05


@pytest.mark.parametrize(
    ("keywords", "line", "why"),
    [
        ({"n_val": 25, "own": 1.0}, "accuracy_luck", "windows_independent"),
        ({"n_groups": 15, "block": 1.2}, "accuracy_recordings", "windows_recordings"),
        ({"restless": 0.1, "own": 0.02, "n_val": 60}, "accuracy_restless", "windows_restless"),
        ({"n_groups": 5, "block": 1.2}, "accuracy_together", "windows_few_groups"),
        ({"common": 0.4}, "accuracy_alone", "windows_ungrouped"),
        ({"common": 0.4, "n_groups": 15}, "accuracy_alone", "windows_model"),
    ],
)
def test_the_report_explains_the_rough_curve_of_a_calm_model(keywords, line, why):
    report = report_of(1, **keywords)
    assert report.verdict == "normal"
    assert kinds(report)[:2] == [line, "loss_calm"]
    assert why in kinds(report)
    if why == "windows_few_groups":
        values = next(part.values for part in report.statements if part.kind == why)
        assert (values["n_groups"], values["least"]) == (5, MIN_GROUPS)


def test_recordings_that_flip_as_blocks_explain_a_curve_rougher_than_sampling():
    history, record = run_of(3, n_val=300, n_groups=12, block=4.0, val_noise=0.15)
    report = judged(history, record)
    assert report.statistics["val_accuracy_noise_over_sampling"].value > 2
    assert report.verdict == "normal"
    record.val_groups = None
    assert judged(history, record).verdict == "fluctuating"


def test_a_model_with_one_answer_has_learned_nothing_however_calm_the_curve():
    history, record = run_of(0)
    record.val_predicted[:] = 2
    history["val_accuracy"][:] = (record.val_target == 2).mean()
    report = judged(history, record, n_classes=None)
    assert report.verdict == "not_learning"
    assert kinds(report)[0] == "one_answer"


# --- answers ------------------------------------------------------------------------------------


def test_the_score_of_the_kept_epoch_is_corrected_for_selection():
    history, record = run_of(0, own=1.5, n_val=80)
    report = judged(history, record)
    honest = report.statistics["best_epoch_accuracy"]
    assert honest.low < honest.value < honest.high
    assert honest.value < history["val_accuracy"].max()
    told = " ".join(report.explanation)
    assert f"The best epoch scores {100 * honest.value:.1f} % (standard error" in told


def test_there_is_no_corrected_score_if_nothing_was_picked_or_windows_are_few():
    history, record = run_of(0, own=1.5, n_val=80)
    last = FluctuationReport.from_history(history, 80, record=record, n_classes=4, best_epoch=40)
    few = report_of(0, own=1.5, n_val=40)
    grouped = report_of(0, own=1.5, n_val=120, n_groups=20)
    for report in (last, few, grouped):
        assert not {"picked", "picked_gains"} & set(kinds(report))
        assert "best_epoch_accuracy" not in report.statistics


def test_the_report_states_whether_more_epochs_help():
    assert "flat" in kinds(report_of(0, n_epochs=60))
    history, record = run_of(0)
    t = np.arange(40)
    record.fixed_loss[:] = 1.3 - 0.02 * t + 0.002 * np.random.default_rng(0).normal(size=40)
    text = " ".join(judged(history, record).explanation)
    told = re.search(r"still falls, by (\S+) nats in ten epochs", text)
    assert float(told.group(1)) == pytest.approx(0.2, rel=0.02)


def test_a_record_of_a_different_run_is_ignored_with_a_statement():
    history, _ = run_of(0)
    _, record = run_of(0, n_epochs=30)
    report = judged(history, record)
    assert "foreign_record" in kinds(report)
    assert "fixed_loss_noise" not in report.statistics


def test_the_questions_that_a_history_alone_leaves_open_are_listed():
    history, _ = run_of(0)
    assert "no_record" in kinds(judged(history, None))


# --- evidence -----------------------------------------------------------------------------------


def test_evidence_has_the_series_that_a_page_draws_and_survives_json():
    history, record = run_of(0, n_groups=15, n_epochs=60)
    report = judged(history, record)
    evidence = report.evidence
    assert set(evidence) == {"fixed_loss", "loss", "val_accuracy"}
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()
    assert evidence["fixed_loss"]["epoch"] == list(range(1, 61))
    assert evidence["fixed_loss"]["value"] == record.fixed_loss.tolist()
    assert len(evidence["fixed_loss"]["trend"]) == 60
    assert evidence["val_accuracy"]["band_independent"] < evidence["val_accuracy"]["band_sampling"]


def test_validation_windows_of_one_class_are_found_in_the_record():
    history, record = run_of(0)
    assert "one_class" not in kinds(judged(history, record))
    record.val_target[:] = 0
    report = judged(history, record)
    assert "one_class" in kinds(report)
    assert report.verdict == judged(history, None, n_val=120).verdict


def test_only_what_was_recorded_is_evidence():
    history, _ = run_of(0)
    assert set(judged(history, None).evidence) == {"loss", "val_accuracy"}
    empty = TrainingRecord(epoch_steps=np.arange(41))
    assert set(judged(history, empty, n_val=120).evidence) == {"loss", "val_accuracy"}
