"""Conclusive values are judged in few epochs; values that exclude each other are never normal."""

import numpy as np
import pytest

from sensorseq.diagnosis.report import FluctuationReport


def judged(history, **facts):
    return FluctuationReport.from_history(history, **facts)


def kinds(report):
    return [statement.kind for statement in report.statements]


# --- few epochs ---------------------------------------------------------------------------------


def collapse(n_calm, n_bad, descent=0.0):
    """Return a run in which training and validation break down at once."""
    rng = np.random.default_rng(0)
    calm = 0.33 + 0.01 * rng.normal(size=n_calm) + descent * np.exp(-np.arange(n_calm))
    bad = np.linspace(0.76, 1.04, n_bad)
    right = np.concatenate([0.92 + 0.003 * rng.normal(size=n_calm), np.linspace(0.74, 0.6, n_bad)])
    losses = {"loss": [*(calm + 0.04), *(bad - 0.04)], "val_loss": [*calm, *bad]}
    return {**losses, "val_accuracy": right}


@pytest.mark.parametrize("facts", [{}, {"n_val": 25000, "n_classes": 2}])
@pytest.mark.parametrize(("n_calm", "n_bad"), [(8, 3), (10, 3), (10, 5), (30, 3), (30, 9), (60, 4)])
@pytest.mark.parametrize("descent", [0.0, 2.0])
def test_a_run_that_breaks_down_in_all_columns_has_diverged(n_calm, n_bad, descent, facts):
    history = collapse(n_calm, n_bad, descent)
    for names in (history, ("loss", "val_loss"), ("loss", "val_accuracy")):
        report = judged({name: history[name] for name in names}, **facts)
        assert (report.verdict, report.generalization) == ("diverged", None)
        assert kinds(report)[0] == "broke_down"
        assert report.statements[0].values["epoch"] == n_calm + 1
        assert "Train for 18 epochs" not in str(report)


def test_a_rise_of_one_column_alone_is_no_breakdown():
    history = collapse(20, 4)
    calm = collapse(24, 1)
    for name in history:
        mixed = {**history, name: calm[name][:24]}
        assert "broke_down" not in kinds(judged(mixed, n_val=25000))
    # training goes on at a higher learning rate, where a rise is expected
    restart = {**history, "learning_rate": [1e-3] * 20 + [1e-2] * 4}
    assert "broke_down" not in kinds(judged(restart, n_val=25000))


def gap(n_epochs, train=0.996, validation=0.34):
    wave = 0.01 * np.cos(np.arange(n_epochs))
    accuracies = {"accuracy": train - np.abs(wave) / 9, "val_accuracy": validation + wave}
    return {"loss": 0.02 + np.abs(wave), "val_loss": 6 + 90 * wave, **accuracies}


@pytest.mark.parametrize("n_epochs", [5, 6, 11, 17, 40])
@pytest.mark.parametrize("facts", [{}, {"n_val": 700}, {"n_val": 700, "n_classes": 10}])
def test_a_large_gap_between_the_parts_is_named_whatever_the_number_of_epochs(n_epochs, facts):
    report = judged(gap(n_epochs), **facts)
    assert report.generalization == "not_generalizing"
    assert "Train for 18 epochs" not in str(report)
    assert judged(gap(n_epochs, validation=0.8), **facts).generalization is None
    # the losses must confirm the gap of the accuracies
    assert (
        judged({**gap(n_epochs), "val_loss": gap(n_epochs)["loss"]}, n_val=700).verdict != "normal"
    )


def worse(fall=0.034, rise=0.0825):
    shape = np.array([0.0, 0.0, 0.03, 0.2, 0.45, 0.65, 1.0])
    loss = [0.681, 0.669, 0.668, 0.648, 0.617, 0.586, 0.552]
    return {"loss": loss, "val_loss": 0.677 + rise * shape, "val_accuracy": 0.58 - fall * shape}


def test_a_small_decline_is_named_if_loss_accuracy_and_the_number_of_windows_confirm_it():
    assert judged(worse(), n_val=12000).generalization == "overfitting"
    assert judged(worse(), n_val=12000, n_classes=2).generalization == "overfitting"
    assert judged(worse(fall=0.15)).generalization == "overfitting"
    for few in (judged(worse()), judged(worse(), n_val=100), judged(worse(fall=0.0), n_val=12000)):
        assert (few.verdict, few.generalization) == ("too_short_to_tell", None)
        assert "Train for 18 epochs" in str(few)
    flat = {**worse(), "val_loss": np.full(7, 0.677)}
    assert judged(flat, n_val=12000).generalization is None


# --- a loss and an accuracy that exclude each other ----------------------------------------------


def regression(scale, tau=4, n_epochs=40, level=0.01):
    loss = scale * np.exp(-np.arange(n_epochs) / tau)
    accuracies = {"accuracy": np.full(n_epochs, 0.024), "val_accuracy": np.full(n_epochs, level)}
    return {"loss": loss + 0.008, "val_loss": loss / 2 + 0.009, **accuracies}


@pytest.mark.parametrize("facts", [{}, {"n_val": 100}, {"n_val": 100, "n_classes": 4}])
@pytest.mark.parametrize("level", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("scale", [0.05, 1.2, 12, 200, 5000])
def test_a_loss_below_what_the_wrong_windows_cost_is_said_and_never_normal(scale, level, facts):
    history = regression(scale, level=level)
    for part in (("loss", "accuracy"), ("val_loss", "val_accuracy"), tuple(history)):
        report = judged({name: history[name] for name in part}, **facts)
        assert report.verdict in ("too_short_to_tell", "not_learning")
        assert "loss_too_small" in kinds(report)
        text = " ".join(str(report).split())
        assert "costs at least" in text
        assert "columns={'accuracy': None, 'val_accuracy': None}" in text


def test_the_losses_or_the_accuracies_alone_are_judged_as_the_message_says():
    t = np.arange(40)
    accuracy = 0.9 - 0.65 * np.exp(-t / 8)
    focal = -np.log(accuracy) * (1 - accuracy) ** 2
    history = {"loss": focal, "accuracy": accuracy, "val_loss": focal, "val_accuracy": accuracy}
    report = judged(history, n_val=300, n_classes=4)
    assert repr(report) == "FluctuationReport('CANNOT BE JUDGED', 40 epochs)"
    for quantity in ("loss", "accuracy"):
        columns = {quantity: None, f"val_{quantity}": None}
        alone = judged(history, n_val=300, n_classes=4, columns=columns)
        assert alone.verdict == "normal"
        assert "loss_too_small" not in kinds(alone)


@pytest.mark.parametrize("n_epochs", [5, 11, 40])
def test_a_contradiction_needs_few_epochs(n_epochs):
    report = judged({"loss": 1.2 * 0.3 ** np.arange(n_epochs), "acc": [0.0] * n_epochs})
    assert kinds(report)[0] == "loss_too_small" or report.verdict == "not_learning"
    assert "Train for 18 epochs" not in str(report)


def test_an_error_rate_named_accuracy_is_not_normal():
    t = np.arange(40)
    losses = {"loss": 0.1 + 1.2 * np.exp(-t / 8), "val_loss": 0.1 + np.exp(-t / 9)}
    report = judged({**losses, "val_accuracy": 0.1 + 0.6 * np.exp(-t / 9)}, n_val=500)
    assert report.verdict == "too_short_to_tell"
    assert kinds(report)[0] == "loss_too_small"


def test_an_accuracy_that_is_zero_for_ever_is_not_normal_beside_the_training_loss_alone():
    history = regression(12, level=0.0)
    report = judged({"loss": history["loss"], "val_accuracy": history["val_accuracy"]}, n_val=100)
    assert report.verdict == "not_learning"
    assert "stays at exactly 0.0 %: the model" in " ".join(report.explanation)


@pytest.mark.parametrize("n_classes", [2, 4, 10])
def test_a_cross_entropy_never_contradicts_its_accuracy(n_classes):
    rng = np.random.default_rng(n_classes)
    for spread in (0.3, 2.0, 8.0):
        target = rng.integers(0, n_classes, 300)
        logits = spread * rng.normal(size=(40, 300, n_classes))
        logits[:, np.arange(300), target] += np.linspace(0, 2 * spread, 40)[:, None]
        top = logits.max(axis=2, keepdims=True)
        logs = logits - top - np.log(np.exp(logits - top).sum(axis=2, keepdims=True))
        loss = -logs[:, np.arange(300), target].mean(axis=1)
        accuracy = (logits.argmax(axis=2) == target).mean(axis=1)
        history = {"loss": loss, "accuracy": accuracy, "val_loss": loss, "val_accuracy": accuracy}
        assert "loss_too_small" not in kinds(judged(history, n_val=300))
