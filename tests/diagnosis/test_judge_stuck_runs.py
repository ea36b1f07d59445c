"""Runs that learn nothing are found even if the accuracy is missing or misleading."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.diagnosis.report import FluctuationReport

E = 60


def kinds(report):
    return [statement.kind for statement in report.statements]


def stuck(seed=0, level=0.6931, n_epochs=E):
    """Return the training and validation loss of a run that stays at chance level."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, n_epochs))
    return {"loss": level + 2e-4 * noise[0], "val_loss": level + 1e-4 * noise[1]}


def verdict(history, n_val=42, **facts):
    return FluctuationReport.from_history(history, n_val, **facts).verdict


@pytest.mark.parametrize("n_classes", [None, 2])
@pytest.mark.parametrize(
    "accuracies",
    [
        {},
        {"val_accuracy": np.full(E, 0.5)},
        {"accuracy": 0.5 + 0.002 * np.sin(np.arange(E)), "val_accuracy": np.full(E, 0.5)},
        {"accuracy": np.full(E, 0.4992)},
        {"val_accuracy": np.where(np.arange(E) % 3, 24 / 42, 18 / 42)},
    ],
)
def test_a_loss_that_never_falls_is_not_learning_whatever_the_accuracy(accuracies, n_classes):
    for losses in (stuck(), {"val_loss": stuck()["val_loss"]}):
        assert verdict({**losses, **accuracies}, n_classes=n_classes) == "not_learning"


@pytest.mark.parametrize("n_classes", [None, 4])
def test_a_constant_accuracy_is_one_answer_if_the_loss_is_flat(n_classes):
    # the first epochs fit the biases to a frequent class, so the loss falls by more than 2 %
    loss = stuck(level=1.1)["loss"] + 0.3 * np.exp(-np.arange(E))
    report = FluctuationReport.from_history(
        {"loss": loss, "val_accuracy": np.full(E, 0.7)}, 40, n_classes=n_classes
    )
    assert report.verdict == "not_learning"
    assert "one_accuracy" in kinds(report)
    assert "Validation accuracy stays at exactly 70.0 %" in " ".join(report.explanation)


def test_an_accuracy_that_rises_beside_a_flat_loss_shows_learning():
    rise = 0.9 - 0.6 * np.exp(-np.arange(E) / 5)
    rng = np.random.default_rng(0)
    for name, values in (
        ("accuracy", rise),
        ("val_accuracy", rng.binomial(42, rise) / 42),
    ):
        assert verdict({"loss": stuck(level=8.0)["loss"], name: values}) == "normal"


def test_a_resumed_run_with_a_loss_below_that_of_any_constant_answer_is_normal():
    rng = np.random.default_rng(0)
    accuracy = 0.97 + 0.002 * rng.normal(size=E)
    history = {"loss": 0.09 + 0.001 * rng.normal(size=E), "accuracy": accuracy}
    assert verdict(history, n_classes=6) == "normal"
    assert verdict(history, majority_fraction=0.3) == "normal"
    # without the number of classes, this low loss could also be the loss of guessing
    assert verdict(history) == "not_learning"


def test_a_converged_run_with_one_accuracy_is_normal():
    t = np.arange(100)
    rng = np.random.default_rng(0)
    history = {
        "loss": 0.02 + 1.3 * np.exp(-t / 4) + 1e-5 * rng.normal(size=100),
        "val_loss": 0.15 + 1.3 * np.exp(-t / 4) + 1e-4 * rng.normal(size=100),
        "val_accuracy": np.round(20 * (0.95 - 0.7 * np.exp(-t / 2))) / 20,
    }
    for n_classes in (None, 4):
        assert verdict(history, 20, n_classes=n_classes) == "normal"


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_epochs=st.sampled_from([18, 24, 40, 60, 120]),
    n_classes=st.integers(2, 7),
    share=st.floats(0, 0.9),
    unit=st.sampled_from([1.0, 1.44, 30.0]),
    has_validation=st.booleans(),
    kind=st.sampled_from(["constant", "luck", "flips", "drift"]),
    column=st.sampled_from(["accuracy", "val_accuracy"]),
)
def test_an_accuracy_of_guessing_never_makes_a_stuck_run_normal(
    seed, n_epochs, n_classes, share, unit, has_validation, kind, column
):
    rng = np.random.default_rng(seed)
    majority = max(share, 1 / n_classes)
    other = (1 - majority) / (n_classes - 1)
    guess = -majority * np.log(majority) - (1 - majority) * np.log(other)
    noise = 10 ** rng.uniform(-5, -2) * rng.normal(size=(2, n_epochs))
    losses = {"loss": unit * guess * (1 + noise[0])}
    if has_validation:
        losses["val_loss"] = unit * guess * (1 + noise[1])
    accuracy = {
        "constant": np.full(n_epochs, round(majority, 3)),
        "luck": rng.binomial(42, majority, n_epochs) / 42,
        "flips": np.where(rng.random(n_epochs) < 0.5, majority, other),
        "drift": majority + 0.02 * np.cumsum(rng.normal(size=n_epochs)) / np.sqrt(n_epochs),
    }[kind]
    if verdict(losses) == "not_learning":
        assert verdict({**losses, column: np.clip(accuracy, 0, 1)}) == "not_learning"


# --- losses that are not means in nats ----------------------------------------------------------


def healthy(n_epochs=40):
    rng, t = np.random.default_rng(0), np.arange(n_epochs)
    return {
        "loss": 0.07 + 1.316 * np.exp(-t / 8) + 0.01 * rng.normal(size=n_epochs),
        "val_loss": 0.35 + 1.036 * np.exp(-t / 9) + 0.02 * rng.normal(size=n_epochs),
        "val_accuracy": rng.binomial(60, np.clip(0.88 - 0.74 * np.exp(-t / 8), 0.25, 1)) / 60,
    }


def wild(n_epochs=40):
    rng, run = np.random.default_rng(1), healthy(n_epochs)
    for name in ("loss", "val_loss"):
        run[name] = np.abs(run[name] + 0.3 * rng.normal(size=n_epochs))
    return run


def scaled(run, train, validation):
    return {**run, "loss": train * run["loss"], "val_loss": validation * run["val_loss"]}


@pytest.mark.parametrize("n_classes", [None, 4])
@pytest.mark.parametrize("batches", [(10, 6), (30, 8), (400, 100)])
def test_sums_over_batches_get_the_verdict_of_the_means_with_a_statement(batches, n_classes):
    calm = FluctuationReport.from_history(scaled(healthy(), *batches), 60, n_classes=n_classes)
    assert calm.verdict == "normal"
    said = next(one for one in calm.statements if one.kind == "loss_is_sum")
    assert said.values["scale"] == pytest.approx(batches[1], rel=0.3)
    assert "perhaps a sum over batches. This report divides it" in " ".join(str(calm).split())
    assert calm.history["loss"][0] == pytest.approx(batches[0] * healthy()["loss"][0])
    drawn = calm.evidence["loss"]
    assert drawn["value"] == pytest.approx(calm.history["loss"])
    hot = FluctuationReport.from_history(scaled(wild(), *batches), 60, n_classes=n_classes)
    assert (hot.verdict, hot.severity) == ("fluctuating", "strong")


def test_sums_are_found_by_the_number_of_classes_alone():
    losses = {name: healthy()[name] for name in ("loss", "val_loss")}
    report = FluctuationReport.from_history(scaled(losses, 30, 8), n_classes=4)
    assert report.verdict == "normal"
    assert kinds(report).count("loss_is_sum") == 2


@pytest.mark.parametrize("lag", [0, 0.5])
@pytest.mark.parametrize("start", [4, 30])
def test_losses_that_contain_a_penalty_are_not_divided_and_the_accuracy_decides(start, lag):
    t, rng = np.arange(60), np.random.default_rng(0)
    both, cross_entropy = rng.normal(size=60), 0.35 + 1.05 * np.exp(-t / 6)
    for noise, expected in ((0.005, "normal"), (0.25, "fluctuating")):
        accuracy = 0.88 - 0.6 * np.exp(-t / 6) - 0.3 * noise * np.abs(both)
        run = {
            "loss": cross_entropy + noise * both + start * (0.1 + np.exp((lag - t) / 12)),
            "val_loss": 0.05 + cross_entropy + noise * both + start * (0.1 + np.exp(-t / 12)),
        }
        report = FluctuationReport.from_history({**run, "val_accuracy": accuracy}, 400, n_classes=4)
        assert report.verdict == expected
        assert kinds(report).count("loss_has_penalty") == 1
        assert "loss_is_sum" not in kinds(report)
        # without an accuracy, nothing shows how far the cross-entropy moves
        assert start == 4 or verdict(run, n_classes=4) == "too_short_to_tell"


def test_a_gap_between_the_parts_is_named_beside_a_penalty():
    t = np.arange(60)
    loss = 0.05 + 1.35 * np.exp(-t / 6) + 3 + 30 * np.exp(-t / 12)
    history = {"loss": loss, "val_loss": loss + 0.4, "accuracy": 0.99 - 0.7 * np.exp(-t / 5)}
    history["val_accuracy"] = 0.45 - 0.2 * np.exp(-t / 5)
    report = FluctuationReport.from_history(history, 400, n_classes=4)
    assert {"loss_has_penalty", "parts_apart"} <= set(kinds(report))


def test_a_validation_loss_that_stays_at_guessing_is_never_plainly_normal():
    t, rng = np.arange(E), np.random.default_rng(0)
    run = {"loss": 0.3 + 1.1 * np.exp(-t / 8), "val_loss": np.log(4) + 0.01 * rng.normal(size=E)}
    report = FluctuationReport.from_history(run, 400, n_classes=4)
    assert report.generalization == "not_generalizing"
    assert "1.39 nats, is no better than that of guessing, 1.39 nats" in " ".join(
        report.explanation
    )
    learned = {**run, "val_loss": run["val_loss"] - 0.3 * np.exp(-((t - 30) ** 2) / 200)}
    for other in (healthy(), learned, {**run, "loss": 1.2 + 0.2 * np.exp(-t / 8)}):
        report = FluctuationReport.from_history({**other, "val_accuracy": None}, n_classes=4)
        assert "val_loss_guesses" not in kinds(report)


def test_means_are_not_taken_for_sums_even_if_they_overfit_or_begin_high():
    overfit = healthy(100)
    overfit["val_loss"] = overfit["val_loss"] + 0.05 * np.arange(100)
    begins_high = healthy(60)
    begins_high["loss"][:4] = 40, 12, 5, 2.5
    for run in (healthy(), wild(), overfit, begins_high):
        for n_classes in (None, 4):
            report = FluctuationReport.from_history(run, 60, n_classes=n_classes)
            assert not {"loss_is_sum", "loss_too_small"} & set(kinds(report))


def test_a_loss_too_small_for_its_accuracy_is_reported_and_its_noise_is_not_judged():
    # as if the mean loss over batches had been divided by the number of batches a second time
    report = FluctuationReport.from_history(scaled(wild(), 1 / 32, 1 / 32), 60)
    assert kinds(report).count("loss_too_small") == 2
    assert not {"train_loss_noise", "val_loss_noise"} & set(report.statistics)
    assert "as calm as can be expected" not in str(report)
    assert "The noise of this loss was not judged" in " ".join(str(report).split())
