"""TrainingMonitor works in another framework's training loop and makes a report."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

import sensorseq.diagnosis
from sensorseq.diagnosis import TrainingMonitor
from sensorseq.diagnosis import report as monitor
from sensorseq.errors import ArgumentError

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3
LOGITS = RNG.normal(size=(30, 3))
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "outputs",
    [LOGITS, P, torch.tensor(LOGITS, requires_grad=True), torch.tensor(P).bfloat16().double()],
    ids=["logits", "probabilities", "tensor", "coarse"],
)
def test_loss_and_accuracy_are_those_of_scikit_learn(outputs):
    row = TrainingMonitor(Y).log_epoch(val_outputs=outputs)
    about = 2e-2 if isinstance(outputs, torch.Tensor) and not outputs.requires_grad else 1e-9
    assert row["val_loss"] == pytest.approx(log_loss(Y, P), rel=about)
    assert row["val_accuracy"] == np.mean(LOGITS.argmax(axis=1) == Y)


@pytest.mark.parametrize("shape", [(30,), (30, 1)])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_one_column_is_class_1_against_class_0(shape, kind):
    z = 3 * RNG.normal(size=30)
    p = 1 / (1 + np.exp(-z))
    outputs = (z if kind == "logits" else p).reshape(shape)
    row = TrainingMonitor(Y % 2).log_epoch(val_outputs=outputs)
    assert row["val_loss"] == pytest.approx(log_loss(Y % 2, p))
    assert row["val_accuracy"] == np.mean((z > 0) == Y % 2)


def test_the_record_follows_each_window_and_the_fixed_ones():
    followed = TrainingMonitor(Y, groups_val=Y // 2, y_fixed=Y[:10])
    for scale in (0.0, 1.0, 2.0):
        followed.log_epoch(val_outputs=scale * LOGITS, fixed_outputs=scale * LOGITS[:10])
    record = followed.record
    assert record.n_epochs == 3
    assert record.val_groups.tolist() == (Y // 2).tolist()
    np.testing.assert_array_equal(record.val_predicted[2], LOGITS.argmax(axis=1))
    best_other = np.where(np.eye(3)[Y] > 0, -np.inf, LOGITS).max(axis=1)
    margin = LOGITS[np.arange(30), Y] - best_other
    np.testing.assert_allclose(record.val_margin[1], margin, rtol=1e-3, atol=1e-3)
    assert record.fixed_loss[0] == pytest.approx(np.log(3))
    assert record.fixed_accuracy[1] == np.mean(LOGITS[:10].argmax(axis=1) == Y[:10])
    followed.log_epoch(loss=0.1)  # outputs are used only if every epoch has them
    assert followed.record.val_predicted.size == followed.record.fixed_loss.size == 0
    assert followed.report().n_epochs == 4


@given(st.lists(st.sampled_from(["loss", "val", "nan", "nothing"]), min_size=1, max_size=30))
def test_a_report_is_made_of_whatever_was_logged(epochs):
    followed = TrainingMonitor(Y, y_fixed=Y)
    for what in epochs:
        outputs = {"val": LOGITS, "nan": np.full_like(LOGITS, np.nan)}.get(what)
        loss = {"loss": 0.5, "nan": np.nan}.get(what)
        followed.log_epoch(loss=loss, val_outputs=outputs, fixed_outputs=outputs)
    if set(epochs) == {"nothing"}:
        with pytest.raises(ArgumentError, match="needs at least one of loss"):
            followed.report()
    else:
        assert str(followed.report())


def logged(jumps):
    """Return a monitor of a calm run; with `jumps`, outputs are small in every second epoch."""
    followed = TrainingMonitor(np.arange(60) % 2, y_fixed=np.arange(40) % 2)
    rng, own = np.random.default_rng(1), np.arange(60) % 2
    for epoch in range(40):
        size = 2.0 * (1 - np.exp(-epoch / 4)) * (0.1 if jumps and epoch % 2 else 1.0)
        outputs = size * (2 * np.eye(2)[own] - 1) + 0.1 * rng.normal(size=(60, 2))
        shown = {"val_outputs": outputs, "fixed_outputs": outputs[:40]}
        followed.log_epoch(loss=1.0 / (1 + size), **shown)
    return followed


def test_a_model_that_moves_is_told_from_one_that_does_not():
    assert logged(jumps=False).report().verdict == "normal"
    hot = logged(jumps=True).report()
    assert hot.verdict == "fluctuating"
    assert "fixed_loss_noise" in hot.statistics
    assert (hot.n_val, hot.n_classes) == (60, 2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TrainingMonitor([0.5, 1]), "y_val must be classes"),
        (lambda: TrainingMonitor([-1, 1]), "y_val must be classes"),
        (lambda: TrainingMonitor([]), "y_val must be classes"),
        (lambda: TrainingMonitor(Y, y_fixed=["a"]), "y_fixed must be classes"),
        (lambda: TrainingMonitor(Y, groups_val=[1]), "groups_val has 1 value"),
        (lambda: TrainingMonitor(groups_val=[1]), "but y_val has 0 windows"),
        (lambda: TrainingMonitor(Y).log_epoch(val_outputs=LOGITS[:5]), r"\(5, 3\) for 30 labels"),
        (lambda: TrainingMonitor(Y + 1).log_epoch(val_outputs=LOGITS), "has class 3, but .* 3 col"),
        (lambda: TrainingMonitor(Y).log_epoch(fixed_outputs=LOGITS), r"TrainingMonitor\(y_fixed="),
        (lambda: TrainingMonitor(Y).report(), "no epoch has ended"),
    ],
)
def test_what_does_not_fit_is_named(make, says):
    with pytest.raises(ArgumentError, match=says):
        make()


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Monitor"):
        _ = sensorseq.diagnosis.Monitor


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(monitor).failed == 0
