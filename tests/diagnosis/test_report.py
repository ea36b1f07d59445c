import doctest
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from altered_json import altered
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.diagnosis import logs
from sensorseq.diagnosis import report as report_module
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_text import answer_questions, describe_open_questions, list_steps
from sensorseq.diagnosis.statements import Statement
from sensorseq.diagnosis.thresholds import LOSS_NOISE_NATS
from sensorseq.errors import ArgumentError, InputError
from sensorseq.history import History
from sensorseq.messages import MESSAGES

N_CLASSES = 6
# kinds of messages whose names are composed in the code, so a search does not find them
BUILT = {"kept_loss", "kept_accuracy", "class_by_length", "class_by_rate"}
BUILT |= {"windows_share_samples", "groups_share_samples"}


def healthy_curve(seed, n_val, n_epochs=40, persistence=0.0, n_train=300):
    """Return a curve with a decaying loss (1.5 % noise) and the accuracy of windows that flip.

    With `persistence`, a misclassified window usually stays misclassified in the next epoch.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(n_epochs)
    final, tau = rng.uniform(0.05, 0.8), rng.uniform(2, 12)
    smooth = final + (math.log(N_CLASSES) - final) * np.exp(-t / tau)
    p = rng.uniform(0.6, 0.95)
    accuracy = p + (1 / N_CLASSES - p) * np.exp(-t / tau)

    def share_correct(n):
        z = np.zeros((n_epochs, n))
        z[0] = rng.normal(size=n)
        for epoch in range(1, n_epochs):
            fresh = rng.normal(size=n)
            z[epoch] = persistence * z[epoch - 1] + math.sqrt(1 - persistence**2) * fresh
        threshold = np.quantile(z, accuracy)
        return (z < threshold[:, None]).mean(axis=1)

    return {
        "loss": smooth * (1 + 0.015 * rng.normal(size=n_epochs)),
        "val_loss": 1.1 * smooth * (1 + 0.1 / math.sqrt(n_val) * rng.normal(size=n_epochs)),
        "accuracy": share_correct(n_train),
        "val_accuracy": share_correct(n_val),
    }


def oscillating_curve(seed, n_val, n_epochs=40):
    """Return a curve with random swings of 0.2 nats and 8 percentage points around a plateau."""
    rng = np.random.default_rng(seed)
    curve = healthy_curve(seed, n_val, n_epochs)
    t = np.arange(n_epochs)
    plateau = 0.8 + (math.log(N_CLASSES) - 0.8) * np.exp(-t / 4)
    swing = 0.2 * rng.normal(size=n_epochs)
    curve["loss"] = np.abs(plateau + swing)
    curve["val_loss"] = np.abs(plateau + 0.2 * rng.normal(size=n_epochs))
    curve["val_accuracy"] = np.clip(curve["val_accuracy"] - 0.4 * swing, 0, 1)
    return curve


def kinds(report):
    return [statement.kind for statement in report.statements]


def verdict_of(curve, n_val, **keywords):
    keywords = {"n_train": 300, "n_classes": N_CLASSES} | keywords
    return FluctuationReport.from_history(curve, n_val, **keywords)


# --- calibration --------------------------------------------------------------------------------


@pytest.mark.trains
@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_healthy_curves_raise_few_false_alarms_whatever_the_validation_size(persistence):
    alarms = []
    for seed in range(150):
        n_val = (20, 42, 100, 300, 1000)[seed % 5]
        n_epochs = (24, 40, 60)[seed % 3]
        curve = healthy_curve(seed, n_val, n_epochs, persistence)
        if verdict_of(curve, n_val).verdict != "normal":
            alarms.append((seed, n_val, n_epochs))
    assert len(alarms) <= 0.03 * 150, alarms


@pytest.mark.trains
def test_healthy_curves_without_a_training_loss_raise_few_false_alarms():
    alarms = 0
    for seed in range(150):
        n_val = (20, 42, 100, 300, 1000)[seed % 5]
        curve = healthy_curve(seed, n_val)
        del curve["loss"], curve["accuracy"]
        alarms += verdict_of(curve, n_val).verdict == "fluctuating"
    assert alarms <= 0.03 * 150


@pytest.mark.trains
@pytest.mark.parametrize("n_epochs", [24, 40, 60])
def test_oscillating_curves_are_flagged(n_epochs):
    verdicts = [
        verdict_of(oscillating_curve(seed, n_val := (20, 100, 300)[seed % 3], n_epochs), n_val)
        for seed in range(100)
    ]
    assert np.mean([report.verdict == "fluctuating" for report in verdicts]) >= 0.95
    assert np.mean([report.severity == "strong" for report in verdicts]) >= 0.9


def test_oscillation_is_flagged_from_the_training_loss_alone():
    for seed in range(6):
        report = FluctuationReport.from_history({"loss": oscillating_curve(seed, 100)["loss"]})
        assert report.verdict == "fluctuating"
        assert "no_validation" in kinds(report)


def test_guessing_is_not_learning_however_calm_the_curve():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        curve = {
            "loss": 1.79 + 0.001 * rng.normal(size=40),
            "val_loss": 1.79 + 0.001 * rng.normal(size=40),
            "accuracy": rng.binomial(300, 1 / 6, 40) / 300,
            "val_accuracy": rng.binomial(100, 1 / 6, 40) / 100,
        }
        assert verdict_of(curve, 100).verdict == "not_learning"


# --- verdicts -----------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_is_divergence_from_that_epoch_on():
    curve = healthy_curve(0, 100)
    curve["loss"][25:] = np.nan
    report = verdict_of(curve, 100)
    assert report.verdict == "diverged"
    assert "from epoch 26 on" in report.explanation[0]
    curve["loss"][25:] = np.inf
    assert "infinite" in verdict_of(curve, 100).explanation[0]


def test_a_loss_that_is_a_number_again_is_not_reported_as_missing_from_then_on():
    curve = healthy_curve(0, 100)
    curve["loss"][37] = np.nan
    report = verdict_of(curve, 100)
    assert report.verdict == "diverged"
    assert report.explanation[0] == "The training loss is not a number (NaN) in epoch 38."


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("make", [healthy_curve, oscillating_curve])
def test_a_run_that_recovers_from_a_non_finite_loss_is_judged_without_that_epoch(make, value, name):
    curve = make(0, 300)
    broken = {**curve, name: curve[name].copy()}
    broken[name][6] = value
    report = verdict_of(broken, 300)
    gaps = {column: list(values) for column, values in curve.items()}
    gaps["loss"][6] = gaps["val_loss"][6] = None
    without = verdict_of(gaps, 300)
    assert report.verdict == without.verdict == verdict_of(curve, 300).verdict
    assert report.statistics == without.statistics
    side = "training" if name == "loss" else "validation"
    said = f"The {side} loss was not finite in epoch 7; the run recovered."
    assert [part for part in report.explanation if part not in without.explanation] == [said]
    assert said in " ".join(str(report).split())


@pytest.mark.parametrize("epochs", [slice(20, 25), [37], [39]])
def test_a_loss_that_is_often_not_finite_or_at_the_end_has_not_recovered(epochs):
    curve = healthy_curve(0, 300)
    curve["loss"][epochs] = np.nan
    report = verdict_of(curve, 300)
    assert report.verdict == "diverged"
    assert "recovered" not in kinds(report)


@pytest.mark.parametrize("n_classes", [None, N_CLASSES])
def test_an_accuracy_over_one_class_is_not_judged(n_classes):
    curve = healthy_curve(0, 300)
    curve["val_accuracy"][:] = 1.0  # as if the model always predicted the only class
    report = verdict_of(curve, 300, majority_fraction=1.0, n_classes=n_classes)
    assert report.verdict == "normal"
    assert report.generalization is None
    said = " ".join(report.explanation)
    assert (
        "Validation accuracy cannot be judged: all validation windows belong to one class." in said
    )
    assert "Hold out recordings of every class." in said
    assert "guessing gives" not in said
    assert "give majority_fraction" not in said
    assert "one_class" not in kinds(verdict_of(curve, 300))


@pytest.mark.parametrize("is_learned", [False, True])
def test_learning_is_judged_on_the_training_windows_if_validation_has_one_class(is_learned):
    curve = healthy_curve(0, 300)
    if not is_learned:
        curve["accuracy"] = np.random.default_rng(0).binomial(300, 1 / N_CLASSES, 40) / 300
    verdict = verdict_of(curve, 300, majority_fraction=1.0).verdict
    assert verdict == ("normal" if is_learned else "not_learning")


def test_a_validation_loss_that_is_not_a_number_points_at_the_validation_windows():
    curve = healthy_curve(0, 100)
    curve["val_loss"][:] = np.nan
    report = verdict_of(curve, 100)
    assert report.verdict == "diverged"
    assert "validation windows" in " ".join(report.explanation)


def test_a_loss_ten_times_its_start_is_divergence():
    curve = healthy_curve(0, 100)
    curve["loss"][30:] = 40.0
    assert verdict_of(curve, 100).verdict == "diverged"


def test_a_model_that_falls_back_to_guessing_has_collapsed():
    curve = healthy_curve(0, 100)
    curve["accuracy"][34:] = 1 / 6
    report = verdict_of(curve, 100)
    assert report.verdict == "diverged"
    assert kinds(report)[0] == "collapsed"


def test_a_warm_start_at_a_tiny_loss_is_not_divergence():
    curve = healthy_curve(1, 300)
    curve["loss"] = np.full(40, 0.02)
    curve["loss"][0] = 0.001
    curve["accuracy"][:] = 0.99
    assert verdict_of(curve, 300).verdict == "normal"


@pytest.mark.parametrize("n_epochs", [1, 2, 5, 14])
def test_few_epochs_are_too_short_to_tell(n_epochs):
    report = verdict_of(healthy_curve(0, 100, n_epochs), 100)
    assert report.verdict == "too_short_to_tell"
    assert "12" in report.explanation[0]


def test_eighteen_epochs_are_enough_as_the_message_says():
    assert verdict_of(healthy_curve(0, 300, 18), 300).verdict == "normal"


def test_ripples_of_a_vanishing_loss_are_harmless():
    rng = np.random.default_rng(0)
    curve = healthy_curve(0, 300)
    curve["loss"] = 0.004 * np.exp(rng.normal(size=40))
    curve["accuracy"][:] = 0.999
    assert verdict_of(curve, 300).verdict == "normal"


def test_large_but_relatively_small_ripples_of_a_large_loss_are_harmless():
    curve = healthy_curve(0, 300)
    curve["loss"] = 8 + 0.1 * np.random.default_rng(0).normal(size=40)
    curve["accuracy"][:] = curve["accuracy"][-1]
    assert verdict_of(curve, 300).verdict == "normal"


def test_a_training_loss_noisy_by_dropout_alone_needs_no_repair():
    curve = healthy_curve(3, 300)
    plateau = 0.8 + np.exp(-np.arange(40) / 4)
    curve["loss"] = plateau + 0.12 * np.random.default_rng(0).normal(size=40)
    report = verdict_of(curve, 300)
    assert report.verdict == "normal"
    assert "loss_dropout" in kinds(report)


def test_noise_that_dies_away_under_a_decaying_rate_is_normal():
    rng = np.random.default_rng(0)
    t = np.arange(60)
    decay = 0.5 * (1 + np.cos(np.pi * t / 60))
    curve = healthy_curve(0, 100, 60)
    curve["loss"] = 0.7 + np.exp(-t / 5) + 0.06 * decay * rng.normal(size=60)
    curve["val_loss"] = curve["loss"] + 0.06 * decay * rng.normal(size=60)
    report = verdict_of(curve, 100)
    assert report.verdict == "normal"
    assert "loss_calmed" in kinds(report)


def test_leaps_of_single_epochs_are_found_and_named():
    curve = healthy_curve(0, 300, 60)
    curve["loss"][[30, 41, 52]] += 2.0
    report = verdict_of(curve, 300)
    assert (report.verdict, report.severity) == ("fluctuating", "mild")
    assert "leaps up in epochs 31, 42, 53" in " ".join(report.explanation[:2])


def test_a_validation_curve_beyond_sampling_is_flagged_although_training_is_calm():
    rng = np.random.default_rng(0)
    curve = healthy_curve(0, 1000)
    curve["val_accuracy"] = np.clip(curve["val_accuracy"] + 0.08 * rng.normal(size=40), 0, 1)
    curve["val_loss"] = curve["val_loss"] * (1 + 0.15 * rng.normal(size=40))
    report = verdict_of(curve, 1000)
    assert report.verdict == "fluctuating"
    assert "accuracy_real" in kinds(report)


def test_overfitting_is_reported_whatever_the_noise():
    curve = healthy_curve(0, 300)
    curve["val_loss"] = curve["val_loss"] + np.linspace(0, 2, 40)
    report = verdict_of(curve, 300, best_epoch=9)
    assert (report.verdict, report.generalization) == ("normal", "overfitting")
    lowest = int(curve["val_loss"].argmin()) + 1
    (statement,) = [part for part in report.statements if part.kind == "overfits"]
    assert statement.values["epoch"] == lowest
    assert (
        str(statement) == f"The network overfits: the validation loss rises from epoch {lowest} on."
    )
    assert "NORMAL, BUT OVERFITS" in str(report)
    assert "those of epoch 9 of 40" in " ".join(report.explanation)


def test_overfitting_from_the_first_epoch_is_reported_with_its_epoch():
    t = np.arange(21)
    noise = 0.05 * np.random.default_rng(0).standard_normal(21)
    curve = {"loss": 1.1 * np.exp(-t / 4) + 0.1, "val_loss": 1.2 + 0.03 * t + np.abs(noise)}
    curve["val_loss"][0] = 1.2
    report = verdict_of(curve, 500, best_epoch=1)
    assert "lowest in epoch 1 (1.20 nats)" in " ".join(report.explanation)
    assert report.generalization == "overfitting"


@pytest.mark.parametrize("seed", range(6))
def test_a_validation_loss_that_only_scatters_is_not_called_overfitting(seed):
    t = np.arange(60)
    noise = 0.15 * np.random.default_rng(seed).standard_normal(60)
    curve = {"loss": np.exp(-t / 10) + 0.2, "val_loss": np.exp(-t / 10) + 0.6 + noise}
    report = verdict_of(curve, 50, best_epoch=50)
    assert report.generalization is None
    assert "no_overfitting" in kinds(report)


@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_healthy_curves_are_rarely_called_overfitting(persistence):
    said = [
        verdict_of(healthy_curve(seed, n, persistence=persistence), n).generalization
        for seed in range(8)
        for n in (20, 300)
    ]
    assert sum(value is not None for value in said) <= 1


def test_learning_that_does_not_carry_over_is_not_learning():
    curve = healthy_curve(0, 100)
    curve["accuracy"] = np.linspace(0.2, 1, 40)
    curve["val_accuracy"] = np.random.default_rng(0).binomial(100, 1 / 6, 40) / 100
    report = verdict_of(curve, 100)
    assert report.verdict == "not_learning"
    assert kinds(report)[:3] == ["accuracy_luck", "loss_calm", "not_carried_over"]
    assert report.generalization == "not_generalizing"
    assert "NOT LEARNING, AND DOES NOT GENERALIZE" in str(report)


def test_a_small_validation_set_cannot_prove_that_nothing_carries_over():
    curve = healthy_curve(0, 20)
    curve["val_accuracy"] = np.full(40, 0.45)
    report = verdict_of(curve, 20, majority_fraction=0.3)
    assert report.verdict == "normal"
    assert report.generalization is None
    said = "is no better than what guessing can reach with 20"
    assert any(said in line for line in report.explanation)


def test_a_late_start_is_learning():
    t = np.arange(20)
    curve = {
        "loss": np.where(t < 10, 1.79 - 0.005 * t, 1.74 - 0.02 * (t - 10)),
        "accuracy": np.where(t < 10, 0.2, 0.2 + 0.012 * (t - 10)),
    }
    report = verdict_of(curve, None, majority_fraction=0.3)
    assert report.verdict == "normal"
    assert "training_rises" in kinds(report)


def test_a_loss_that_never_falls_is_not_learning_if_accuracy_is_unknown():
    report = FluctuationReport.from_history({"loss": [1.79] * 30})
    assert report.verdict == "not_learning"


# --- texts --------------------------------------------------------------------------------------


def test_a_normal_curve_says_why_it_looks_rough_with_the_binomial_figure():
    curve = healthy_curve(4, 25)
    report = verdict_of(curve, 25)
    assert report.verdict == "normal"
    text = " ".join(report.explanation)
    p = float(np.median(curve["val_accuracy"][int(report.statistics["initial_descent"].value) :]))
    luck = f"{100 * math.sqrt(p * (1 - p) / 25):.1f}"
    assert f"sampling 25 windows alone gives up to +-{luck}." in text
    first = "Chance explains the accuracy jumps (25 windows, 4 points each)."
    assert report.explanation[0] == first
    assert "Accuracy on the training windows moves +-" in text


@pytest.mark.parametrize(
    ("drop", "n_val", "kind"),
    [
        (("val_loss", "val_accuracy"), None, "no_validation"),
        ((), None, "no_size"),
        (("loss", "accuracy"), 100, "movement_unknown"),
    ],
)
def test_open_questions_of_a_history_are_listed(drop, n_val, kind):
    curve = {name: values for name, values in healthy_curve(0, 100).items() if name not in drop}
    said = kinds(FluctuationReport.from_history(curve, n_val))
    assert kind in said
    assert "kept_unknown" in said
    assert ("no_chance" in said) == ("val_accuracy" in curve or "accuracy" in curve)


def validated_every(curve, step, names=("val_loss", "val_accuracy")):
    """Return the curve with validation results only in every `step`-th epoch."""
    kept = {n: [v if t % step == 0 else None for t, v in enumerate(curve[n])] for n in names}
    return {**curve, **kept}


@pytest.mark.parametrize("step", [5, 10, 39])
def test_too_few_validation_results_give_no_verdict(step):
    report = verdict_of(validated_every(healthy_curve(0, 100), step), 100)
    assert report.verdict == "too_short_to_tell"
    assert kinds(report)[0] == "few_validations"
    assert kinds(report).count("few_validations") == 1
    text = str(report)
    assert "There are too few validation results to judge." in text
    assert "Validate in every epoch, and train for 18 epochs or more." in text


def test_an_accuracy_that_leaps_between_few_validations_is_not_normal():
    epochs = np.arange(1, 61)
    curve = {"loss": 1.1 * np.exp(-epochs / 10) + 0.1}
    accuracy = [0.62, 0.9, 0.58, 0.93, 0.66, 0.91, 0.57, 0.95, 0.6, 0.92, 0.61, 0.94]
    losses = [1.1, 0.4, 1.3, 0.35, 1.0, 0.42, 1.4, 0.3, 1.2, 0.33, 1.15, 0.31]
    every_fifth = {"val_accuracy": accuracy, "val_loss": losses}
    gaps = {
        name: [values[t // 5 - 1] if t % 5 == 0 else None for t in epochs]
        for name, values in every_fifth.items()
    }
    sparse = FluctuationReport.from_history({**curve, **gaps}, 400)
    only = FluctuationReport.from_history({"loss": curve["loss"][4::5], **every_fifth}, 400)
    assert sparse.verdict == only.verdict == "too_short_to_tell"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("step", "names"),
    [(2, ("val_loss", "val_accuracy")), (5, ("val_loss",)), (5, ("val_accuracy",))],
)
def test_enough_validation_results_give_the_same_verdict(seed, step, names):
    curve = healthy_curve(seed, 300, 60)
    assert verdict_of(curve, 300).verdict == "normal"
    assert verdict_of(validated_every(curve, step, names), 300).verdict == "normal"


def test_a_loss_that_moves_much_fluctuates_even_if_few_epochs_are_validated():
    curve = validated_every(oscillating_curve(0, 300), 8)
    curve["loss"] = curve["loss"] * np.where(np.arange(40) % 2, 1.4, 0.7)
    assert verdict_of(curve, 300).verdict == "fluctuating"


def test_epochs_of_training_alone_are_judged_by_the_training_loss():
    curve = healthy_curve(0, 100)
    assert FluctuationReport.from_history({"loss": curve["loss"]}).verdict == "normal"


@pytest.mark.parametrize(
    ("growth", "sd", "kind"),
    [(0.97, 0.6, "noise_falls"), (1.0, 0.3, "noise_constant"), (1.04, 0.3, "noise_rises")],
)
def test_the_report_states_whether_the_noise_falls_stays_or_rises(growth, sd, kind):
    t = np.arange(80)
    noise = sd * growth ** (t - 40) * np.random.default_rng(1).normal(size=80)
    report = FluctuationReport.from_history({"loss": np.abs(4 + np.exp(-t / 3) + noise)})
    assert report.verdict == "fluctuating"
    assert kind in kinds(report)


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_called_constant_only_where_no_trend_is_significant(seed):
    t = np.arange(120)
    noise = 0.4 * 0.996**t * np.random.default_rng(seed).normal(size=120)
    report = FluctuationReport.from_history({"loss": np.abs(4 + np.exp(-t / 3) + noise)})
    z = report.statistics["noise_trend"].value
    assert ("noise_constant" in kinds(report)) == (abs(z) <= 1.96)


def test_a_fall_from_the_best_epoch_is_a_decline_only_beyond_chance():
    assert "got_worse" not in kinds(verdict_of(healthy_curve(4, 25), 25))
    curve = healthy_curve(0, 1000)
    curve["val_accuracy"] = 0.9 - 0.2 * np.linspace(0, 1, 40)
    report = verdict_of(curve, 1000)
    assert "got_worse" in kinds(report)
    assert report.generalization == "overfitting"
    assert "Nothing about its noise has to be repaired" not in str(report)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rise", "said"), [(0.8, "overfitting"), (0.0, None)])
def test_a_rise_is_found_in_a_validation_loss_that_jumps(seed, rise, said):
    t, rng = np.arange(300) / 300, np.random.default_rng(seed)
    history = {
        "loss": 0.2 + 1.6 * np.exp(-8 * t) + 0.05 * rng.random(300),
        "val_loss": 1.2 + rise * t + 0.6 * np.exp(-30 * t) + 0.3 * rng.normal(size=300),
    }
    assert verdict_of(history, 20).generalization == said


@pytest.mark.parametrize("source", ["founding_case.csv", "simulated"])
def test_the_founding_case_is_answered_in_its_first_three_lines(source):
    # The file is the history of this fit: 98 windows of 100 samples of one motor current of
    # BorealTC, six terrains, unscaled, one-hot labels, 20 % held out, 223 units, RMSprop at a
    # constant 1e-3, 300 epochs.
    history = Path(__file__).parent / source
    epoch = 42
    if source == "simulated":
        t, rng = np.arange(80), np.random.default_rng(0)
        accuracy = 0.45 - 0.25 * np.exp(-t / 8)
        history = {
            "loss": np.abs(0.5 + 1.3 * np.exp(-t / 20) + 0.15 * rng.normal(size=80)),
            "val_loss": 1.6 + 0.02 * np.abs(t - 30) + 0.15 * rng.normal(size=80),
            "accuracy": 1 - 0.8 * np.exp(-t / 20),
            "val_accuracy": rng.binomial(20, accuracy) / 20,
            "learning_rate": np.full(80, 1e-3),
        }
        epoch = int(history["val_loss"].argmin()) + 1
    report = FluctuationReport.from_history(history, 20, n_train=78, n_classes=6)
    lines = [line.strip() for line in str(report).split("\n")]
    luck = "Chance explains the accuracy jumps (20 windows, 5 points each)."
    seen = lines.index(f"Seen      {luck}")
    assert lines[1] == "Verdict   FLUCTUATING (STRONG), AND OVERFITS"
    assert lines[2].startswith("Problem   The loss moves much more than in a healthy run.")
    assert lines[seen + 1 : seen + 3] == [
        "The loss jumps because the learning rate is constant, not by chance.",
        f"The network overfits: the validation loss rises from epoch {epoch} on.",
    ]
    assert report.generalization == "overfitting"
    assert not {"noise_falls", "still_falls"} & set(kinds(report))  # more epochs would not help


# --- shape of the report ------------------------------------------------------------------------

fraction = st.floats(0, 1)
losses = st.floats(0, 12) | st.just(math.nan) | st.just(math.inf) | st.none()
curves = st.integers(1, 45).flatmap(
    lambda n: st.fixed_dictionaries(
        {"loss": st.lists(losses, min_size=n, max_size=n)},
        optional={
            "val_loss": st.lists(losses, min_size=n, max_size=n),
            "accuracy": st.lists(fraction, min_size=n, max_size=n),
            "val_accuracy": st.lists(fraction | st.none(), min_size=n, max_size=n),
        },
    )
)


@given(curve=curves, n_val=st.none() | st.integers(1, 2000), n_classes=st.none() | st.just(4))
def test_every_report_fits_a_terminal_and_json_and_says_something(curve, n_val, n_classes):
    judged = [curve.get(name, ()) for name in ("loss", "val_loss", "val_accuracy")]
    if all(value is None for values in judged for value in values):
        with pytest.raises(ArgumentError, match="needs at least one of"):
            FluctuationReport.from_history(curve, n_val)
        return
    report = FluctuationReport.from_history(curve, n_val, n_classes=n_classes, best_epoch=1)
    lines = str(report).split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert report.explanation
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()
    assert (report.severity is None) == (report.verdict != "fluctuating")
    assert all(sentence[-1] == "." for sentence in report.explanation)
    first = [statement.topic for statement in report.statements]
    assert first[0] in ("accuracy", "loss", "generalization", "failure", "movement")


def test_a_report_too_long_for_a_screen_says_that_there_is_more():
    sentence = "A sentence of this kind goes on for quite a while, and then for a while more. "
    said = tuple(Statement("loss_not_judged", {"loss": f"{n} {sentence * 2}"}) for n in range(20))
    lines = str(FluctuationReport("normal", None, said)).split("\n")
    assert len(lines) <= 24
    (note,) = [line for line in lines if "more in report.explanation" in line]
    shown = " ".join(" ".join(lines).split())
    n_shown = sum(" ".join(str(part).split()) in shown for part in said)
    assert int(note.split()[1]) == 20 - n_shown
    assert "goes on ..." not in shown  # only complete sentences


def test_no_sentence_is_cut():
    for seed in range(2):
        curve = oscillating_curve(seed, 42)
        report = verdict_of(curve, 42, best_epoch=20)
        shown = " ".join(str(report).split())
        assert " ..." not in shown.replace("... ", "", 1)
        for sentence in report.explanation:
            most = " ".join(sentence.split()[:-2])
            assert (most in shown) == (sentence in shown)


def test_changing_a_sentence_changes_no_behavior(monkeypatch):
    def findings():
        found = []
        for seed in range(2):
            make = (healthy_curve, oscillating_curve)[seed % 2]
            report = verdict_of(make(seed, 42), 42, best_epoch=20)
            answers = [part.statement for part in answer_questions(report, list_steps(report))]
            found.append((report.verdict, report.generalization, answers, report.to_dict()))
        return found

    before = findings()
    other = {
        kind: entry._replace(text=f"Word {n}.") for n, (kind, entry) in enumerate(MESSAGES.items())
    }
    for kind, entry in other.items():
        monkeypatch.setitem(MESSAGES, kind, entry)
    assert findings() == before
    report = verdict_of(oscillating_curve(1, 42), 42)
    assert report.explanation == tuple(other[part.kind].text for part in report.statements)
    assert str(report).count("Word ") >= 4
    assert len(describe_open_questions(report)) >= 1


def test_every_kind_is_made_somewhere_and_every_made_kind_is_in_the_table():
    package = Path(report_module.__file__).parents[1]
    files = [*package.glob("diagnosis/*.py"), *package.glob("inspection/*.py")]
    files += [package / "estimator/report.py"]
    files += [package / "preprocessing" / name for name in ("measured.py", "odd.py")]
    source = "".join(path.read_text() for path in files)
    assert [kind for kind in MESSAGES if f'"{kind}"' not in source and kind not in BUILT] == []
    made = set(re.findall(r"\b(?:statement_of|text_of|advice_of)\(\s*\"(\w+)\"", source))
    assert len(made) > 70
    assert made <= set(MESSAGES)


def test_causes_are_empty_if_only_the_history_was_examined():
    report = verdict_of(healthy_curve(0, 100), 100)
    assert report.causes == ()
    assert report.to_dict()["causes"] == []


def test_statistics_carry_their_floor():
    report = verdict_of(healthy_curve(0, 100), 100)
    noise = report.statistics["val_accuracy_noise"]
    assert noise.unit == "fraction"
    assert 0 < noise.floor < 0.06
    assert report.statistics["train_loss_noise"].floor == LOSS_NOISE_NATS


def test_history_columns_and_rows_give_the_same_report():
    curve = {name: list(map(float, v)) for name, v in healthy_curve(0, 100).items()}
    rows = [dict(zip(curve, values, strict=True)) for values in zip(*curve.values(), strict=True)]
    reports = [
        verdict_of(shape, 100).to_dict() for shape in (curve, rows, History(rows), iter(rows))
    ]
    assert all(report == reports[0] for report in reports)


def test_irrelevant_columns_change_nothing():
    curve = healthy_curve(0, 100)
    more = curve | {"learning_rate": [1e-3] * 40, "epoch": range(1, 41)}
    with_more, without = (verdict_of(columns, 100).to_dict() for columns in (more, curve))
    # the extra columns are kept, but not judged
    assert with_more.pop("history")["learning_rate"] == [1e-3] * 40
    assert set(without.pop("history")) == set(curve)
    assert with_more == without


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def described(**changes):
    return verdict_of(healthy_curve(0, 100), 100).to_dict() | changes


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"format": "sensorseq.fluctuation", "version": 3},
        described(version=8),
        described(statements=[{"kind": "overfits", "values": {}}]),
        described(statements=[{"kind": "overfits"}]),
        described(version=np.array([4, 4])),
        described(format=nested(5000)),
        described(evidence={"other": nested(200)}),
        described(history={"loss": [0.5] * 100, "val_loss": [0.5] * 99}),
        described(history={"loss": [0.5] * 400_000}),
        described(statements=described()["statements"] * 2000),
    ],
)
def test_an_invalid_description_of_a_report_is_rejected(wrong):
    with pytest.raises(ArgumentError, match="fluctuation report"):
        FluctuationReport.from_dict(wrong)


def test_an_epoch_without_a_record_is_a_gap_not_a_divergence():
    curve = {name: list(values) for name, values in healthy_curve(0, 100).items()}
    curve["loss"][20] = curve["val_loss"][21] = curve["val_accuracy"][22] = None
    assert verdict_of(curve, 100).verdict == "normal"


def test_the_example_in_the_docstring_is_true():
    outcome = doctest.testmod(report_module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "keywords", "says"),
    [
        ([], {}, "no epochs"),
        ({"loss": []}, {}, "no epochs"),
        ({"accuracy": [0.5]}, {}, "history has .*; it needs at least one of"),
        ({"cost": [0.5]}, {}, "history has cost; it needs"),
        ({"loss": [1.0, 2.0], "val_loss": [1.0]}, {}, "loss 2, val_loss 1"),
        ({"loss": [1.0, "high"]}, {}, "loss of epoch 2 is 'high'"),
        ({"loss": [1.0], "val_accuracy": [87.0]}, {}, "epoch 1 is 87.*Divide percentages by 100"),
        ({"loss": [-9.0] * 30}, {}, "cross-entropy"),
        (3, {}, "is a int"),
        ([1.0, 2.0], {}, "a list of rows"),
        ({"loss": [1.0]}, {"n_val": 0}, "n_val=0"),
        ({"loss": [1.0]}, {"n_val": 2.5}, "n_val=2.5"),
        ({"loss": [1.0]}, {"n_train": True}, "n_train=True"),
        ({"loss": [1.0]}, {"n_classes": 1}, "n_classes=1"),
        ({"loss": [1.0]}, {"majority_fraction": 20}, "majority_fraction=20"),
        ({"loss": [1.0]}, {"best_epoch": 2}, "best_epoch=2, but history has epochs 1 to 1"),
    ],
)
def test_errors_for_bad_input_name_the_remedy(history, keywords, says):
    with pytest.raises(ArgumentError, match=says):
        FluctuationReport.from_history(history, **keywords)


def test_a_damaged_report_is_rejected_when_it_is_read_and_not_when_it_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"loss": rng.uniform(0.1, 0.6, 30), "val_accuracy": rng.choice([0.6, 0.9], 30)}
    described = FluctuationReport.from_history(rows, n_val=40, n_train=200, n_classes=3).to_dict()
    n_refused = 0
    for _ in range(40):
        try:
            report = FluctuationReport.from_dict(altered(rng, described))
        except ArgumentError:
            n_refused += 1
        else:
            report.to_html(tmp_path / "page.html")
            assert str(report)
            assert repr(report)
    assert 10 < n_refused < 40


def test_names_and_numbers_that_json_can_contain_can_be_shown(tmp_path):
    rows = [{"loss": 5e-324 * (1 + e), "val_loss": 0.5, "\ud800": e} for e in range(30)]
    (tmp_path / "h.json").write_text(json.dumps(rows))
    FluctuationReport.from_history(tmp_path / "h.json").to_html(tmp_path / "page.html")
    assert b"</html>" in (tmp_path / "page.html").read_bytes()


def test_a_log_with_more_epochs_than_can_be_judged_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_MOST_EPOCHS", 50)
    (tmp_path / "h.csv").write_text("loss,val_loss\n" + "0.5,0.5\n" * 51)
    with pytest.raises(InputError, match="51 epochs; at most 50"):
        FluctuationReport.from_history(tmp_path / "h.csv")
